"""The checks of notebook 07's exercises: right answers pass, typical wrong ones get their hint."""

import itertools

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    equal_opportunity_difference,
    equalized_odds_difference,
    equalized_odds_ratio,
)
from scipy.stats import norm, permutation_test
from sklearn.metrics import accuracy_score, dcg_score

from recsys_lib.exercises import fairness as exercises
from recsys_lib.exercises import seller_exposure, shuffled_groups
from tests.unit.answers import reply, unseeded, wrong_with

OF_FUNCTIONS = exercises.CHECKS[1:]  # the first one takes a number


@pytest.mark.parametrize("check", exercises.CHECKS)
@pytest.mark.parametrize(
    "nonsense",
    [
        *(None, 3, "text", [], {}, dict, np.nan, [[1], [2, 3]]),
        *(lambda: None, lambda *a: None, lambda *a: "x", lambda *a: np.nan, lambda *a: a),
        *(lambda *a: [[1], [2, 3]], lambda *a: [None] * 4, lambda *a: (({}, 1),)),
        *(lambda *a: np.zeros((3, 2)), lambda *a: 1j, lambda *a: -np.inf, lambda *a: True),
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
        exercises.check_equalized_odds: odds_right,
        exercises.check_gap_p_value: p_right,
        exercises.check_exposure_ratio: exposure_right,
    }[check]

    def answer(*args):
        value = right(*args)
        for arg in args:
            if isinstance(arg, np.ndarray):
                arg[...] = arg.flat[0]
        return value

    assert reply(capsys, check, answer)[0]
    assert reply(capsys, check, answer)[0]


# --- 1 -------------------------------------------------------------------------------------------

P, EFFECT = exercises.ACCURACY, exercises.DESIGN_EFFECT
SIZES = (exercises.SMALL, exercises.LARGE)
TOTAL = sum(SIZES)


TEST, POWER = norm.ppf(0.975), norm.ppf(0.8)


def detectable(z=TEST + POWER, variance=P * (1 - P), sizes=SIZES, effect=EFFECT):
    return z * np.sqrt(effect * variance * np.sum(1 / np.array(sizes)))


def test_detectable_gap_right(capsys):
    for answer in (detectable(), round(detectable(), 3), np.float32(detectable())):
        assert reply(capsys, exercises.check_detectable_gap, answer)[0]


def test_the_gap_is_found_in_four_of_five_simulated_tests():
    """Half of the reviews come in pairs, of one product each, that are right or wrong together:
    the design effect is Σ size² / Σ size = 1/2 + 1 = 1.5, with half of the rows in pairs."""
    rng = np.random.default_rng(0)
    gap, worlds = detectable(), 20_000
    rates = []
    for n, p in zip(SIZES, (P - gap / 2, P + gap / 2), strict=True):
        pairs = n // 4
        singles = n - 2 * pairs
        assert (singles + 4 * pairs) / n == EFFECT
        rates.append((rng.binomial(singles, p, worlds) + 2 * rng.binomial(pairs, p, worlds)) / n)
    error = np.sqrt(EFFECT * P * (1 - P) * sum(1 / n for n in SIZES))
    found = np.abs(rates[1] - rates[0]) > TEST * error
    # the accuracies lie beside P, where the variance is another one: the power moves a little
    assert found.mean() == pytest.approx(0.8, abs=0.04)
    assert np.mean(np.abs(rates[1] - rates[0]) > gap) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (detectable(TEST), "half of all tests"),
        (detectable(1.0), "one standard error"),
        (detectable(POWER), "the power alone"),
        (detectable(norm.ppf(0.95) + POWER), "one-sided"),
        (detectable(effect=1), "wrong together"),
        (detectable(effect=EFFECT**2), "its square root"),
        (detectable(effect=1 / EFFECT), "larger, not smaller"),
        (detectable(sizes=SIZES[:1]), "both groups in it"),
        (detectable(sizes=[TOTAL]), "the smaller group decides"),
        (detectable(sizes=[TOTAL / 2] * 2), "half the reviews each"),
        (detectable(sizes=SIZES[:1] * 2), "as small as the smaller"),
        (detectable(variance=0.25), "of a coin"),
        (detectable(variance=P), "p (1 − p), not p"),
        (detectable(variance=1 - P), "not 1 − p"),
        (detectable() ** 2 / (TEST + POWER), "square root is missing"),
        (100 * detectable(), "between 0 and 1"),
        (0.4, "0.4 is not it"),
        (np.inf, "not a finite number"),
        ("a lot", "must be numbers"),
        ([0.3, 0.4], "shape ()"),
    ],
)
def test_detectable_gap_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_detectable_gap, answer, hint)


def test_each_mistake_of_the_detectable_gap_has_a_value_of_its_own():
    values = sorted([detectable(), *exercises._detectable_mistakes().values()])
    for one, other in itertools.pairwise(values):
        assert not np.isclose(one, other, rtol=0.004, atol=0.001)


# --- 2 -------------------------------------------------------------------------------------------


def rate_of(label):
    return lambda y, d: d[y == label].mean() if (y == label).any() else np.nan


def rates(y, d, g, label):
    return np.array([rate_of(label)(y[g == name], d[g == name]) for name in np.unique(g)])


def gap_of(label):
    return lambda y, d, g: np.nanmax(rates(y, d, g, label)) - np.nanmin(rates(y, d, g, label))


def odds_right(y, d, g):
    return max(gap_of(0)(y, d, g), gap_of(1)(y, d, g))


def by_frame(y, d, g):
    """fairlearn's groups, with rates that know when they have no value."""
    frame = MetricFrame(
        metrics={"tpr": rate_of(1), "fpr": rate_of(0)},
        y_true=y,
        y_pred=d,
        sensitive_features=g,
    )
    return frame.difference().max()


def of_fairlearn(function, **options):
    return lambda y, d, g: function(y, d, sensitive_features=g, **options)


def divided_by_group(y, d, g):
    table = pd.DataFrame({"a": d * y, "b": d * (1 - y)}).groupby(g).mean()
    return (table.max() - table.min()).max()


def accuracy_gap(y, d, g):
    return MetricFrame(
        metrics=accuracy_score, y_true=y, y_pred=d, sensitive_features=g
    ).difference()


def two_groups(y, d, g):
    keep = np.isin(g, np.unique(g)[:2])
    return odds_right(y[keep], d[keep], g[keep])


def nan_where_unknown(y, d, g):
    both = [np.ptp(rates(y, d, g, label)) for label in (0, 1)]
    return np.nan if np.isnan(both).any() else max(both)


def raising(y, d, g):
    assert_all = [len(d[(g == name) & (y == label)]) for name in set(g) for label in (0, 1)]
    return odds_right(y, d, g) + 0 * sum(1 / n for n in assert_all)


@pytest.mark.parametrize("answer", [odds_right, by_frame])
def test_equalized_odds_right(capsys, answer):
    right, line = reply(capsys, exercises.check_equalized_odds, answer)
    assert right, line


def test_the_solution_is_that_of_fairlearn_but_for_rates_without_rows():
    for case in exercises._AUDITED:
        theirs = of_fairlearn(equalized_odds_difference)(*case)
        assert odds_right(*case) == pytest.approx(theirs, abs=1e-12)
    assert odds_right(*exercises._LONE) == 0
    assert of_fairlearn(equalized_odds_difference)(*exercises._LONE) == 1


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (of_fairlearn(equal_opportunity_difference), "equal opportunity"),
        (gap_of(0), "false-positive rate alone"),
        (of_fairlearn(equalized_odds_difference, agg="mean"), "mean of the two gaps"),
        (lambda *a: gap_of(0)(*a) + gap_of(1)(*a), "add up the two gaps"),
        (lambda *a: min(gap_of(0)(*a), gap_of(1)(*a)), "smaller of the two gaps"),
        (of_fairlearn(demographic_parity_difference), "demographic parity"),
        (accuracy_gap, "gap of the accuracy"),
        (lambda y, d, g: odds_right(d, y, g), "that is precision"),
        (divided_by_group, "size of the group"),
        (lambda *a: -odds_right(*a), "never negative"),
        (two_groups, "only two of the groups"),
        (of_fairlearn(equalized_odds_ratio), "that is the ratio"),
        (
            of_fairlearn(equalized_odds_difference, method="to_overall"),
            "distance from the rate of all rows",
        ),
        (lambda *a: 0.1234, "case 1: in the groups 26–35, 36–50"),
        (of_fairlearn(equalized_odds_difference), "so fairlearn has it"),
        (nan_where_unknown, "you return NaN"),
        (raising, "it raised ZeroDivisionError"),
        (lambda y, d, g: rates(y, d, g, 1), "shape ()"),
    ],
)
def test_equalized_odds_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_equalized_odds, answer, hint)


def test_each_mistake_of_the_odds_has_values_of_its_own():
    cases = exercises._AUDITED
    formulas = [exercises._odds, *exercises._ODDS_MISTAKES.values()]
    rows = np.array([[formula(case) for case in cases] for formula in formulas])
    assert len(np.unique(rows.round(6), axis=0)) == len(rows)


# --- 3 -------------------------------------------------------------------------------------------


def gap(right, groups):
    means = [right[groups == name].mean() for name in np.unique(groups)]
    return max(means) - min(means)


def shuffled_gaps(right, groups, n, seed, statistic=gap):
    rng = np.random.default_rng(seed)
    return np.array([statistic(right, rng.permutation(groups)) for _ in range(n)])


def p_right(right, groups, n, seed):
    return (1 + np.sum(shuffled_gaps(right, groups, n, seed) >= gap(right, groups))) / (1 + n)


def by_scipy(right, groups, n, seed):
    result = permutation_test(
        [right[groups == name] for name in np.unique(groups)],
        lambda *parts: np.ptp([part.mean() for part in parts]),
        n_resamples=n,
        alternative="greater",
        vectorized=False,
        rng=seed,
    )
    return result.pvalue


def p_by(count):
    return lambda right, groups, n, seed: count(
        shuffled_gaps(right, groups, n, seed), gap(right, groups), n
    )


def following(right, groups, n, seed, fold=lambda x: x):
    """The two groups that are extreme in the data, in every order."""
    means = pd.Series(right).groupby(groups).mean()
    high, low = means.idxmax(), means.idxmin()

    def pair(right, groups):
        return fold(right[groups == high].mean() - right[groups == low].mean())

    gaps = shuffled_gaps(right, groups, n, seed, pair)
    return (1 + np.sum(gaps >= pair(right, groups))) / (1 + n)


def both_shuffled(right, groups, n, seed):
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(right)) for _ in range(n)]
    return np.mean([gap(right[order], groups[order]) >= gap(right, groups) for order in orders])


@pytest.mark.parametrize("answer", [p_right, by_scipy])
def test_gap_p_value_right(capsys, answer):
    right, line = reply(capsys, exercises.check_gap_p_value, answer)
    assert right, line


@pytest.mark.parametrize("shift", range(1, 9))
def test_gap_p_value_is_right_whatever_the_orders(capsys, shift):
    def answer(right, groups, n, seed):
        return p_right(right, groups, n, seed + 100 * shift)

    assert reply(capsys, exercises.check_gap_p_value, answer)[0]


def test_the_reference_is_that_of_scipy():
    for at, case in enumerate(shuffled_groups._CASES):
        theirs = by_scipy(*case, 5_000, 0)
        error = np.sqrt(theirs * (1 - theirs) * (1 / 5_000 + 1 / shuffled_groups.REFERENCE))
        assert shuffled_groups._largest_gap(at) == pytest.approx(theirs, abs=4 * error)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (following, "chosen because their gap"),
        (lambda *a: following(*a, fold=abs), "in both directions"),
        (lambda *a: 1 - p_right(*a), "that is 1 − p"),
        (lambda *a: min(1, 2 * p_right(*a)), "do not double"),
        (lambda *a: p_right(*a) / 2, "nothing to halve"),
        (both_shuffled, "shuffled together"),
        (lambda *a: 0.0, "almost no order"),
        (lambda *a: 0.9, "of the shuffled orders have a gap of"),
        (p_by(lambda g, o, n: np.mean(g >= o)), "from 19 orders"),
        (p_by(lambda g, o, n: (1 + np.sum(g >= o)) / n), "is added above only"),
        (p_by(lambda g, o, n: max(0.01, np.mean(g >= o))), "p is 1/20"),
        (p_by(lambda g, o, n: (1 + np.sum(g > o + 1e-9)) / (1 + n)), "*same* gap count"),
        (unseeded(p_right), "the same seed gave two"),
        (lambda *a: p_right(*a[:3], 0), "nothing depends on the seed"),
        (lambda *a: 100 * p_right(*a), "between 0 and 1"),
        (lambda *a: np.nan, "between 0 and 1"),
        (shuffled_gaps, "shape ()"),
    ],
)
def test_gap_p_value_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_gap_p_value, answer, hint)


def test_the_mistakes_of_the_p_value_are_further_apart_than_chance():
    ways = [shuffled_groups._largest_gap, *shuffled_groups._MISTAKES.values()]
    rows = [np.array([way(case) for case in range(2)]) for way in ways]
    for one, other in itertools.combinations(rows, 2):
        assert not shuffled_groups._near(one, other)


# --- 4 -------------------------------------------------------------------------------------------


def attention(rankings, mask, weight=lambda rank: 1 / np.log2(1 + rank)):
    weights = weight(np.arange(1.0, rankings.shape[1] + 1))
    return (((rankings >= 0) & mask[rankings]) * weights).sum()


def per_relevance(rankings, relevance, mask, **options):
    return attention(rankings, mask, **options) / relevance[:, mask].sum()


def exposure_right(rankings, relevance, is_small, **options):
    return per_relevance(rankings, relevance, is_small, **options) / per_relevance(
        rankings, relevance, ~is_small, **options
    )


def by_loop(rankings, relevance, is_small):
    seen = {True: 0.0, False: 0.0}
    for ranking in rankings:
        for rank, product in enumerate(ranking, start=1):
            if product >= 0:
                seen[bool(is_small[product])] += 1 / np.log2(1 + rank)
    worth = {who: relevance[:, is_small == who].sum() for who in seen}
    return seen[True] / worth[True] / (seen[False] / worth[False])


def by_dcg(rankings, relevance, is_small):
    """Attention to a group is the DCG of the grade "belongs to it"; an empty place has grade 0."""
    falling = -np.arange(rankings.shape[1])[None]

    def seen(mask):
        rows = [np.where(row >= 0, mask[row], False) for row in rankings]
        return sum(dcg_score([row.astype(float)], falling) for row in rows)

    worth = relevance.sum(axis=0)
    small, others = (seen(mask) / worth[mask].sum() for mask in (is_small, ~is_small))
    return small / others


def last_product_seen(rankings, relevance, is_small):
    filled = np.where(rankings < 0, len(is_small) - 1, rankings)
    return exposure_right(filled, relevance, is_small)


def query_by_query(rankings, relevance, is_small):
    rows = zip(rankings[:, None], relevance[:, None], strict=True)
    return np.mean([exposure_right(*row, is_small) for row in rows])


def only_shown(rankings, relevance, is_small):
    kept = np.zeros_like(relevance)
    for row, ranking in enumerate(rankings):
        for product in ranking[ranking >= 0]:
            kept[row, product] = relevance[row, product]
    return exposure_right(rankings, kept, is_small)


def shares(rankings, relevance, is_small):
    seen = [attention(rankings, mask) for mask in (is_small, ~is_small)]
    return seen[0] / sum(seen) / (relevance[:, is_small].sum() / relevance.sum())


@pytest.mark.parametrize("answer", [exposure_right, by_loop, by_dcg])
def test_exposure_ratio_right(capsys, answer):
    right, line = reply(capsys, exercises.check_exposure_ratio, answer)
    assert right, line


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (last_product_seen, "−1 marks an empty place"),
        (lambda r, v, s: attention(r, s) / attention(r, ~s), "the attention alone"),
        (lambda r, v, s: exposure_right(r, np.ones_like(v), s), "number of products"),
        (lambda r, v, s: exposure_right(r, v, ~s), "turned round"),
        (lambda *a: exposure_right(*a, weight=np.ones_like), "every place gets the same"),
        (lambda *a: exposure_right(*a, weight=lambda rank: 1 / rank), "not 1 / rank"),
        (lambda *a: exposure_right(*a, weight=lambda rank: 1 / np.log2(2 + rank)), "too late"),
        (lambda *a: exposure_right(*a, weight=lambda rank: 1 / np.log2(rank)), "not a finite"),
        (query_by_query, "mean of the ratios"),
        (only_shown, "only the relevance of what was shown"),
        (shares, "share of attention over"),
        (lambda r, v, s: per_relevance(r, v, s) - per_relevance(r, v, ~s), "a difference"),
        (lambda r, v, s: exposure_right(r, (v > 0) * 1, s), "has grades"),
        (lambda *a: 0.777, "case 1: the small sellers get attention"),
        (lambda r, v, s: v, "shape ()"),
    ],
)
def test_exposure_ratio_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_exposure_ratio, answer, hint)


def test_each_mistake_of_the_exposure_has_values_of_its_own():
    cases = seller_exposure._MARKETS
    rows = [[exposure_right(*case) for case in cases]]
    rows += [[m(case) for case in cases] for m in seller_exposure._EXPOSURE_MISTAKES.values()]
    assert np.isfinite(rows).all()
    assert len(np.unique(np.round(rows, 6), axis=0)) == len(rows)
    assert any((rankings < 0).any() for rankings, _, _ in cases)
