"""The checks of notebook 05's exercises: right answers pass, typical wrong ones get their hint."""

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from recsys_lib import metrics
from recsys_lib.biencoder import make_batch, relevance_table
from recsys_lib.exercises import rank_fusion, system_comparison
from recsys_lib.exercises import search_and_ranking as exercises
from recsys_lib.search.fusion import reciprocal_rank_fusion
from recsys_lib.search.results import Ranking
from tests.unit.answers import reply, unseeded, wrong_with

OF_FUNCTIONS = [check for check in exercises.CHECKS if check is not exercises.check_ndcg_at_5]


@pytest.mark.parametrize("check", exercises.CHECKS)
@pytest.mark.parametrize(
    "nonsense",
    [
        *(None, 3, "text", [], {}, dict, np.nan, [[1], [2, 3]]),
        *(lambda: None, lambda *a: None, lambda *a: "x", lambda *a: np.nan, lambda *a: a),
        *(lambda *a: [[1], [2, 3]], lambda *a: [None] * 4, lambda *a: (({}, 1),)),
        lambda *a: np.zeros((3, 2)),
    ],
)
def test_nonsense_gets_a_line_and_no_exception(capsys, check, nonsense):
    assert not reply(capsys, check, nonsense)[0]


@pytest.mark.parametrize("check", OF_FUNCTIONS)
def test_an_exception_of_the_answer_is_reported(capsys, check):
    def answer(*_args):
        raise KeyError("my_column")

    right, line = reply(capsys, check, answer)
    assert not right
    assert "KeyError" in line
    assert "my_column" in line


@pytest.mark.parametrize("check", exercises.CHECKS)
def test_no_answer_yet(capsys, check):
    assert "not answered yet" in reply(capsys, check, None)[1]


@pytest.mark.parametrize("check", OF_FUNCTIONS)
def test_an_answer_that_changes_its_input_spoils_nothing(capsys, check):
    right = {
        exercises.check_recall_at_k: recall_right,
        exercises.check_fuse: fuse_right,
        exercises.check_may_be_negative: negatives_right,
        exercises.check_is_b_better: paired,
    }[check]

    def answer(*args):
        value = right(*args)
        for arg in args:
            if isinstance(arg, np.ndarray):
                arg[:] = 1
            elif isinstance(arg, (list, set)):
                arg.clear()
        return value

    assert reply(capsys, check, answer)[0]
    assert reply(capsys, check, answer)[0]


# --- 1 -------------------------------------------------------------------------------------------

SHOWN, LEFT_OUT = np.array(exercises.SHOWN), np.array(exercises.LEFT_OUT)
JUDGED = np.r_[SHOWN, LEFT_OUT]


def dcg(gains, weights=None, k=5):
    weights = 1 / np.log2(np.arange(2, 20)) if weights is None else weights
    return gains[:k] @ weights[: len(gains[:k])]


def by_hand(gain=lambda g: 2.0**g - 1, weights=None, k=5, ideal_k=5, judged=JUDGED):
    ideal = np.sort(gain(judged))[::-1]
    return dcg(gain(SHOWN), weights, k) / dcg(ideal, weights, ideal_k)


def test_ndcg_at_5_right(capsys):
    scores = -np.arange(10.0)
    retrieved = np.arange(10) < 8
    value = metrics.ndcg(JUDGED, scores, 5, retrieved=retrieved)
    last = np.where(retrieved, scores, -100)
    assert value == pytest.approx(ndcg_score([2.0**JUDGED - 1], [last], k=5))
    assert value == pytest.approx(by_hand())
    for answer in (value, round(value, 3), [value][0], np.float32(value)):
        assert reply(capsys, exercises.check_ndcg_at_5, answer)[0]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (by_hand(lambda g: 1.0 * g), "2^g − 1, not g itself"),
        (by_hand(lambda g: 2.0**g), "grade 0 gains nothing"),
        (ndcg_score([SHOWN], [-np.arange(8)], k=5), "scikit-learn"),
        (
            by_hand(weights=np.r_[1, 1 / np.log2(np.arange(2, 20))]),
            "you divide by log2(rank)",
        ),
        (by_hand(weights=1 / np.log2(np.arange(3, 20))), "one rank too late"),
        (by_hand(weights=1 / np.arange(1, 20)), "not 1/rank"),
        (by_hand(weights=np.ones(20)), "counts the same"),
        (by_hand(judged=SHOWN), "left out must hurt"),
        (by_hand(judged=SHOWN[:5]), "only reorders the five"),
        (by_hand(k=None, ideal_k=None), "in the list and in the ideal"),
        (by_hand(ideal_k=None), "cannot reach 1"),
        (by_hand(k=None), "all eight shown"),
        (dcg(2.0**SHOWN - 1), "that is DCG: divide"),
        (dcg(2.0**SHOWN - 1, 1 / np.log(np.arange(2, 20))), "natural logarithm"),
        (dcg(np.sort(2.0**JUDGED - 1)[::-1]), "DCG of the ideal order: the list"),
        (1 / by_hand(), "turn the fraction round"),
        (100 * by_hand(), "between 0 and 1"),
        (0.9, "0.9 is not it"),
        (np.inf, "log2(1) = 0"),
        ("a lot", "must be numbers"),
        ([0.3, 0.4], "shape ()"),
    ],
)
def test_ndcg_at_5_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_ndcg_at_5, answer, hint)


def test_each_mistake_of_ndcg_at_5_has_a_number_of_its_own():
    """So that an answer rounded to two digits still gets its own hint."""
    values = np.sort([by_hand(), *exercises._ndcg_mistakes().values()])
    assert np.diff(values).min() > 0.01


# --- 2 -------------------------------------------------------------------------------------------


def recall_right(grades, scores, k):
    relevant = np.sum(grades > 0)
    found = np.sum(grades[np.argsort(-scores)][:k] > 0)
    return found / relevant if relevant else np.nan


def top(grades, scores, k):
    return grades[np.argsort(-scores)][:k]


def one_by_one(grades, scores, k):
    order = np.argsort(-scores)
    found = sum(grades[order[rank]] > 0 for rank in range(k))
    return found / np.sum(grades > 0)


def padded(grades, scores, k):
    return recall_right(grades, scores, k) * min(k, len(grades)) / k


def python_numbers(grades, scores, k):
    return int(np.sum(top(grades, scores, k) > 0)) / int(np.sum(grades > 0))


@pytest.mark.parametrize(
    "answer", [recall_right, metrics.recall_at_k, lambda g, s, k: metrics.recall_at_k(g, s, k)]
)
def test_recall_at_k_right(capsys, answer):
    assert reply(capsys, exercises.check_recall_at_k, answer)[0]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda g, s, k: np.sum(top(g, s, k) > 0) / k, "precision"),
        (lambda g, s, k: np.sum(top(g, s, k) > 0) / min(k, np.sum(g > 0)), "the smaller of k"),
        (lambda g, s, k: np.sum(top(g, s, k) >= 0) / np.sum(g >= 0), "grade 0 means"),
        (lambda g, s, k: recall_right(g, -s, k), "begins with the lowest"),
        (lambda g, s, k: np.sum(g[:k] > 0) / np.sum(g > 0), "catalog's order"),
        (lambda g, s, k: np.sum(top(g, s, k) == 3) / np.sum(g == 3), "only the top grade"),
        (lambda g, s, k: np.sum(top(g, s, k) > 1) / np.sum(g > 1), "grade 1 is relevant"),
        (lambda g, s, k: np.sum(top(g, s, k)) / np.sum(g), "add up grades"),
        (lambda g, s, k: 1.0, "hit rate"),
        (lambda g, s, k: np.sum(top(g, s, k) > 0) / len(g), "number of products"),
        (lambda g, s, k: np.sum(top(g, s, k) > 0), "divide by how many there are"),
        (lambda g, s, k: 0.123, "case 1: the 5 highest scores hold"),
        (one_by_one, "fewer than k products"),
        (padded, "recall 1, yours is 0.600"),
        (python_numbers, "divides by 0: return NaN"),
        (lambda g, s, k: np.nan_to_num(recall_right(g, s, k)), "does not exist"),
        (lambda g, s, k: top(g, s, k) > 0, "shape ()"),
    ],
)
def test_recall_at_k_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_recall_at_k, answer, hint)


def test_each_mistake_of_recall_has_values_of_its_own():
    cases = exercises._RECALL_CASES
    rows = [[recall_right(*case) for case in cases]]
    rows += [[m(*case) for case in cases] for m in exercises._RECALL_MISTAKES.values()]
    assert len(np.unique(np.round(rows, 6), axis=0)) == len(rows)


# --- 3 -------------------------------------------------------------------------------------------


def totals(rankings, give=lambda rank, score: 1 / (60 + rank)):
    total = {}
    for ranking in rankings:
        for rank, (product, score) in enumerate(ranking, start=1):
            total[product] = total.get(product, 0) + give(rank, score)
    return total


def best(total, k):
    return sorted(total.items(), key=lambda pair: -pair[1])[:k]


def fuse_right(rankings, k):
    return best(totals(rankings), k)


def dropping(rankings, k):
    names = [{product for product, _ in ranking} for ranking in rankings]
    both = set.intersection(*names)
    return best({name: v for name, v in totals(rankings).items() if name in both}, k)


def filling(rankings, k):
    names = {product for ranking in rankings for product, _ in ranking}
    ranks = [{p: rank for rank, (p, _) in enumerate(r, start=1)} for r in rankings]
    return best({n: sum(1 / (60 + r.get(n, len(r) + 1)) for r in ranks) for n in names}, k)


def overwriting(rankings, k):
    total = {}
    for ranking in rankings:
        for rank, (product, _) in enumerate(ranking, start=1):
            total[product] = 1 / (60 + rank)
    return best(total, k)


def listing_twice(rankings, k):
    given = [(p, 1 / (60 + rank)) for r in rankings for rank, (p, _) in enumerate(r, start=1)]
    return sorted(given, key=lambda pair: -pair[1])[:k]


def two_only(rankings, k):
    return fuse_right(rankings[:2], k)


def two_by_name(rankings, k):
    one, two = rankings
    return fuse_right([one, two], k)


def needs_a_first(rankings, k):
    assert all(ranking[0] for ranking in rankings)
    return fuse_right(rankings, k)


def empty_gives_nothing(rankings, k):
    return fuse_right(rankings, k) if all(rankings) else []


@pytest.mark.parametrize("form", [list, tuple, lambda pairs: [list(pair) for pair in pairs]])
def test_fuse_right(capsys, form):
    assert reply(capsys, exercises.check_fuse, lambda r, k: form(fuse_right(r, k)))[0]


@pytest.mark.parametrize("case", range(3))
def test_fuse_is_that_of_the_library(case):
    """`search.fusion` counts rows of the catalog instead of names."""
    rankings, k = rank_fusion._CASES[case]
    names = sorted({name for ranking in rankings for name, _ in ranking})
    listed = [
        Ranking(
            np.array([[names.index(name) for name, _ in ranking]]),
            np.array([[score for _, score in ranking]]),
        )
        for ranking in rankings
    ]
    theirs = reciprocal_rank_fusion(listed, min(k, len(names)))
    ours = fuse_right(rankings, k)
    assert [names[row] for row in theirs.rows[0]] == [name for name, _ in ours]
    assert theirs.scores[0] == pytest.approx([value for _, value in ours], rel=1e-6)
    assert len({value for _, value in ours}) == len(ours), "a tie would have no right order"


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda r, k: best(totals(r, lambda rank, s: 1 / (59 + rank)), k), "begin with 0"),
        (dropping, "dropped"),
        (lambda r, k: best(totals(r, lambda rank, s: s), k), "larger scale"),
        (lambda r, k: best(totals(r, lambda rank, s: 1 / (60 + s)), k), "1 / (60 + score)"),
        (lambda r, k: best(totals(r, lambda rank, s: 1 / rank), k), "constant is missing"),
        (lambda r, k: best(totals(r, lambda rank, s: 1 / (k + rank)), k), "k says how many"),
        (filling, "behind the last"),
        (lambda r, k: best(totals(r), None), "only the k best"),
        (lambda r, k: best(totals(r), None)[::-1][:k], "comes first: sort"),
        (lambda r, k: fuse_right([ranking[:k] for ranking in r], k), "cut at k after"),
        (lambda r, k: [(p, v / 2) for p, v in fuse_right(r, k)], "the mean"),
        (overwriting, "overwrites"),
        (listing_twice, "twice"),
        (lambda r, k: fuse_right(r, k)[::-1], "their order is not"),
        (lambda r, k: fuse_right(r, k)[1:], "the 4 best of case 1 are"),
        (lambda r, k: [], "yours are none"),
        (
            lambda r, k: best(totals(r, lambda rank, s: 1 / (60 + rank**2)), 99)[:k],
            "P4 of case 1 gets 1/61 + 1/63",
        ),
        (lambda r, k: [p for p, _ in fuse_right(r, k)], "pairs (product, fused score)"),
        (lambda r, k: dict(fuse_right(r, k)), "not dict"),
        (lambda r, k: [(v, p) for p, v in fuse_right(r, k)], "yours holds"),
        (lambda r, k: [(p, "high") for p, _ in fuse_right(r, k)], "must be numbers"),
        (needs_a_first, "an empty list, and there it raised IndexError"),
        (empty_gives_nothing, "the other decides alone"),
        (two_only, "may hold three"),
        (two_by_name, "may hold three"),
    ],
)
def test_fuse_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_fuse, answer, hint)


# --- 4 -------------------------------------------------------------------------------------------


def negatives_right(queries, items, relevant):
    known = relevant | set(zip(queries, items, strict=True))
    right = np.array([[(query, item) in known for item in items] for query in queries])
    first = np.isin(np.arange(len(items)), np.unique(items, return_index=True)[1])
    return ~right & first


def of_the_library(queries, items, relevant):
    """What `fit_biencoder` hides from the loss, without hard negatives."""
    pairs = np.column_stack([queries, items])
    known = np.array(sorted(relevant)).reshape(-1, 2).astype(int)
    table = relevance_table(np.concatenate([pairs, known]), 200, 200)
    return ~make_batch(pairs, table).hidden


@pytest.mark.parametrize("seed", range(20))
def test_the_solution_is_the_mask_of_the_library(seed):
    rng = np.random.default_rng(seed)
    batch = rng.integers(0, 6, 12), rng.integers(0, 8, 12)
    relevant = set(map(tuple, rng.integers(0, 8, (10, 2)).tolist()))
    np.testing.assert_array_equal(
        negatives_right(*batch, relevant), of_the_library(*batch, relevant)
    )


@pytest.mark.parametrize(
    "answer", [negatives_right, of_the_library, lambda *a: negatives_right(*a).astype(int).tolist()]
)
def test_may_be_negative_right(capsys, answer):
    assert reply(capsys, exercises.check_may_be_negative, answer)[0]


def outer(a, b):
    return np.equal.outer(a, b)


def is_first(items):
    return np.isin(np.arange(len(items)), np.unique(items, return_index=True)[1])


def is_known(queries, items, relevant):
    return np.array([[(query, item) in relevant for item in items] for query in queries])


def lone(items):
    return np.array([np.sum(items == item) == 1 for item in items])


def last_column(queries, items, relevant):
    right = is_known(queries, items, relevant | set(zip(queries, items, strict=True)))
    return ~right & is_first(items[::-1])[::-1]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda q, i, r: ~is_known(q, i, r) & is_first(i), "the diagonal must be False"),
        (
            lambda q, i, r: ~is_known(q, i, r) & ~np.eye(len(q), dtype=bool) & is_first(i),
            "compare items[j] with items[i]",
        ),
        (lambda q, i, r: ~is_known(q, i, r) & ~outer(i, i) & is_first(i), "occurs twice"),
        (lambda q, i, r: negatives_right(q, i, set()), "`relevant` is not used"),
        (lambda q, i, r: negatives_right(q, i, {p[::-1] for p in r}), "(item, query)"),
        (lambda q, i, r: ~is_known(q, i, r | set(zip(q, i, strict=True))), "twice as hard"),
        (lambda q, i, r: negatives_right(q, i, r) & lone(i), "leave out both"),
        (last_column, "you keep the last"),
        (lambda q, i, r: ~np.eye(len(q), dtype=bool), "3 things are missing. The first: a query's"),
        (lambda q, i, r: ~outer(i, i), "3 things are missing. The first: a query that occurs"),
        (lambda q, i, r: ~outer(i, i) & ~is_known(q, i, r), "2 things are missing"),
        (lambda *a: ~negatives_right(*a), "turned round"),
        (lambda q, i, r: np.eye(len(q)), "turned round"),
        (lambda *a: negatives_right(*a).T, "item 2 for query 3, an earlier column"),
        (lambda *a: negatives_right(*a)[0], "(9, 9)"),
        (lambda *a: negatives_right(*a) - 1.5, "True and False only"),
        (lambda *a: negatives_right(*a).astype(str), "True and False only"),
        (lambda *a: [[True], [True, False]], "different lengths"),
    ],
)
def test_may_be_negative_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_may_be_negative, answer, hint)


def test_each_mixture_of_mistakes_has_a_mask_of_its_own():
    """Or a reader would get the hint of another mistake."""
    seen = {}
    for own in ("all pairs", *exercises._OWN_HINTS):
        for known in ("used", *exercises._RELEVANT_HINTS):
            for repeats in ("first", *exercises._REPEAT_HINTS):
                if (own, repeats) == ("the product", "none"):
                    continue  # the same as the diagonal: such columns are out anyway
                masks = [
                    exercises._negatives(*batch, own, known, repeats)
                    for batch in exercises._BATCHES
                ]
                key = b"".join(mask.tobytes() for mask in masks)
                assert key not in seen, f"{(own, known, repeats)} looks like {seen.get(key)}"
                seen[key] = (own, known, repeats)


# --- 5 -------------------------------------------------------------------------------------------


def verdict(low, high):
    return "better" if low > 0 else "worse" if high < 0 else "open"


def paired(a, b, seed, n=2_000, ends=(2.5, 97.5), decide=verdict):
    d = (b - a)[~np.isnan(b - a)]
    draws = np.random.default_rng(seed).integers(0, len(d), (n, len(d)))
    low, high = np.percentile(d[draws].mean(axis=1), ends)
    return d.mean(), low, high, decide(low, high)


def few_resamples(a, b, seed):
    return paired(a, b, seed, n=1_000)


def student(a, b, seed, factor=1.96):
    d = (b - a)[~np.isnan(b - a)]
    error = factor * d.std(ddof=1) / np.sqrt(len(d))
    return d.mean(), d.mean() - error, d.mean() + error, verdict(d.mean() - error, d.mean() + error)


def by_library(a, b, seed):
    e = metrics.compare_queries(b, a, seed=seed).difference
    return e.value, e.low, e.high, verdict(e.low, e.high)


def unpaired(a, b, seed):
    rng = np.random.default_rng(seed)
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    means = [x[rng.integers(0, len(x), (2_000, len(x)))].mean(axis=1) for x in (a, b)]
    low, high = np.percentile(means[1] - means[0], [2.5, 97.5])
    return b.mean() - a.mean(), low, high, verdict(low, high)


def single_queries(a, b, seed):
    low, high = np.nanpercentile(b - a, [2.5, 97.5])
    return np.nanmean(b - a), low, high, verdict(low, high)


def by_sign(a, b, seed):
    value, low, high, _ = paired(a, b, seed)
    return value, low, high, "better" if value > 0 else "worse"


@pytest.mark.parametrize("answer", [paired, few_resamples, student, by_library])
def test_is_b_better_right(capsys, answer):
    right, line = reply(capsys, exercises.check_is_b_better, answer)
    assert right, line


@pytest.mark.parametrize("seed", range(1, 9))
def test_is_b_better_is_right_whatever_the_resamples(capsys, seed):
    def answer(a, b, _):
        return few_resamples(a, b, seed)

    assert reply(capsys, exercises.check_is_b_better, answer)[0]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (unpaired, "A and of B apart"),
        (lambda *a: paired(*a, ends=(5, 95)), "90 % interval"),
        (lambda *a: paired(*a, ends=(0.5, 99.5)), "99 % interval"),
        (lambda *a: student(*a, factor=1), "one standard error"),
        (single_queries, "where single queries lie"),
        (lambda *a: (paired(*a)[0],) * 3 + ("better",), "no interval"),
        (lambda *a: paired(*a)[::3], "without an interval decides nothing"),
        (lambda *a: paired(*a)[:3], "not 3 values"),
        (lambda *a: paired(*a)[0] > 0, "not bool"),
        (lambda a, b, s: paired(b, a, s), "turned round"),
        (lambda a, b, s: paired(np.nan_to_num(a), np.nan_to_num(b), s), "count as 0"),
        (lambda a, b, s: (np.mean(b - a), -1.0, 1.0, "open"), "NaN"),
        (lambda a, b, s: (0.5, 0.4, 0.6, "better"), "mean of B − A in case"),
        (lambda *a: paired(*a, ends=(97.5, 2.5)), "lower end first"),
        (lambda *a: student(*a, factor=4), "the interval of case"),
        (by_sign, "covers 0, so the verdict is 'open'"),
        (lambda *a: paired(*a, decide=lambda low, high: "open"), "does not cover 0: B is better"),
        (
            lambda *a: paired(
                *a, decide=lambda low, high: {"better": "worse"}.get(verdict(low, high), "better")
            ),
            "says that B is better, not worse",
        ),
        (lambda *a: paired(*a, decide=lambda low, high: low > 0), "verdict must be one of"),
        (unseeded(paired), "same seed gave two intervals"),
    ],
)
def test_is_b_better_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_is_b_better, answer, hint)


def test_the_four_comparisons_say_what_the_exercise_needs():
    """Two leads and a lag that only pairs show, and a positive mean that shows nothing."""
    verdicts = [paired(*case, 0)[3] for case in system_comparison._SYSTEMS]
    assert verdicts == ["better", "worse", "open", "better"]
    assert {unpaired(*case, 0)[3] for case in system_comparison._SYSTEMS} == {"open"}
    assert paired(*system_comparison._SYSTEMS[2], 0)[0] > 0.004
    for case in system_comparison._SYSTEMS:
        _, low, high = system_comparison._reference(*case)
        # far enough from 0 that no honest interval says otherwise
        assert min(abs(low), abs(high)) > 0.1 * (high - low)
