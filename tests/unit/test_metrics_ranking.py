"""The ranking metrics against trec_eval and gdeval (by ir-measures) and scikit-learn."""

import itertools
import math
import shutil

import ir_measures
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import AP, ERR, RR, P, R, Success, nDCG
from sklearn.metrics import average_precision_score, ndcg_score

from recsys_lib import metrics
from recsys_lib.metrics import _formulas, _ranked

EXPONENTIAL = {1: 1, 2: 3, 3: 7}
TOP = 3


def reference_measures(k, relevant):
    """Name of ours: what computes it there. ERR apart: gdeval rounds it."""
    return {
        f"precision@{k}": P(rel=relevant) @ k,
        f"recall@{k}": R(rel=relevant) @ k,
        f"hit@{k}": Success(rel=relevant) @ k,
        f"rr@{k}": RR(rel=relevant) @ k,
        "rr": RR(rel=relevant),
        f"ap@{k}": AP(rel=relevant) @ k,
        "ap": AP(rel=relevant),
        f"ndcg@{k}": nDCG(gains=EXPONENTIAL) @ k,
        "ndcg": nDCG(gains=EXPONENTIAL),
        f"ndcg_linear@{k}": nDCG @ k,
        "ndcg_linear": nDCG,
    }


def reference_values(run, judgments, measures):
    """{measure: {query: value}} by ir-measures; of the tied, the greater name comes first."""
    values = {measure: {} for measure in measures}
    # In calls apart: in one call, ir-measures gives all NDCGs the gains of the first.
    for asked in (
        [measure for measure in values if "gains" in measure.params],
        [measure for measure in values if "gains" not in measure.params],
    ):
        if asked:
            for row in ir_measures.iter_calc(asked, judgments, run):
                values[row.measure][row.query_id] = row.value
    return values


def reference_err(grades, top, k):
    """Algorithm 2 of Chapelle et al. (2009), by hand: grades in order of rank."""
    value, goes_on = 0.0, 1.0
    for rank, grade in enumerate(grades[:k], start=1):
        satisfies = (2**grade - 1) / 2**top
        value += goes_on * satisfies / rank
        goes_on *= 1 - satisfies
    return value


graded = st.integers(0, TOP)
small_lists = st.lists(st.tuples(graded, st.integers(0, 2)), min_size=1, max_size=5)


# -------------------------------------------------------------------------- one list, with ties


@given(small_lists, st.integers(1, 7), st.integers(1, 2))
@settings(max_examples=60)
def test_a_tie_is_worth_the_mean_of_trec_eval_over_all_names(rows, k, relevant):
    """trec_eval breaks ties by name: over all ways to name the documents that is every order."""
    grades, scores = (np.array(column) for column in zip(*rows, strict=True))
    table = metrics.metrics_per_query(
        grades, scores, list(reference_measures(k, relevant)), relevant=relevant
    ).iloc[0]
    run, judgments = {}, {}
    for number, names in enumerate(itertools.permutations("abcdefg"[: len(rows)])):
        run[str(number)] = dict(zip(names, map(float, scores), strict=True))
        judgments[str(number)] = dict(zip(names, map(int, grades), strict=True))
    measures = reference_measures(k, relevant)
    expected = reference_values(run, judgments, measures.values())
    for name, measure in measures.items():
        lowest = 1 if name.startswith("ndcg") else relevant
        if grades.max() < lowest:
            assert np.isnan(table[name])
            assert set(expected[measure].values()) <= {0.0}
        else:
            assert table[name] == pytest.approx(
                np.mean(list(expected[measure].values())), abs=1e-9
            ), name


@given(small_lists, st.integers(1, 7))
@settings(max_examples=100)
def test_err_and_rbp_of_a_tie_are_means_over_all_orders(rows, k):
    grades, scores = (np.array(column) for column in zip(*rows, strict=True))
    err, rbp = [], []
    for order in map(list, itertools.permutations(range(len(rows)))):
        if (np.diff(scores[order]) <= 0).all():
            err.append(reference_err(grades[order].tolist(), TOP, k))
            found = np.flatnonzero(grades[order][:k] >= 1)
            rbp.append((0.3 * 0.7**found).sum())
    ours = (
        metrics.err(grades, scores, k, max_grade=TOP),
        metrics.rbp(grades, scores, 0.7, k),
    )
    if grades.any():
        assert ours == pytest.approx((np.mean(err), np.mean(rbp)), abs=1e-12)
    else:
        assert np.isnan(ours).all()


def test_ties_broken_as_trec_eval_does_have_its_value():
    rng = np.random.default_rng(0)
    for _ in range(30):
        names = [f"d{number:02d}" for number in rng.permutation(12)]
        scores, grades = rng.integers(0, 3, 12), rng.integers(0, 3, 12)
        order = sorted(range(12), key=lambda d: (scores[d], names[d]), reverse=True)
        ranks = np.empty(12)
        ranks[order] = np.arange(12)
        run = {"1": dict(zip(names, scores.astype(float), strict=True))}
        judgments = {"1": dict(zip(names, grades.tolist(), strict=True))}
        if not grades.any():
            continue
        for measure, ours in [
            (AP, metrics.average_precision_at_k(grades, -ranks)),
            (P @ 5, metrics.precision_at_k(grades, -ranks, 5)),
            (RR, metrics.reciprocal_rank(grades, -ranks)),
            (nDCG @ 5, metrics.ndcg(grades, -ranks, 5, gain="linear")),
        ]:
            (theirs,) = reference_values(run, judgments, [measure])[measure].values()
            assert ours == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("k", [1, 3, 10, 60, 100])
def test_one_big_tie_has_the_values_of_drawing_without_replacement(k):
    """Closed forms; the tie reaches far beyond k."""
    documents, good = 60, 4
    grades, scores = np.zeros(documents), np.zeros(documents)
    grades[[3, 20, 21, 59]] = 2
    drawn = min(k, documents)
    lacking = [math.comb(documents - good, j) / math.comb(documents, j) for j in range(drawn + 1)]
    expected = {
        "precision": good * drawn / documents / k,
        "recall": drawn / documents,
        "hit": 1 - lacking[drawn],
        "rr": sum((lacking[j - 1] - lacking[j]) / j for j in range(1, drawn + 1)),
        "ap": sum(
            (1 + (j - 1) * (good - 1) / (documents - 1)) / j / documents
            for j in range(1, drawn + 1)
        ),
    }
    table = metrics.metrics_per_query(grades, scores, [f"{name}@{k}" for name in expected])
    assert table.iloc[0].tolist() == pytest.approx(list(expected.values()), rel=1e-12)


def test_err_of_a_big_tie_of_several_grades_is_the_mean_over_random_orders():
    rng = np.random.default_rng(1)
    grades = rng.integers(0, TOP + 1, 40)
    drawn = [reference_err(rng.permutation(grades).tolist(), TOP, 8) for _ in range(20_000)]
    ours = metrics.err(grades, np.zeros(40), 8, max_grade=TOP)
    assert abs(ours - np.mean(drawn)) < 4 * np.std(drawn) / np.sqrt(len(drawn))


@given(small_lists, st.integers(1, 5))
@settings(max_examples=60)
def test_many_worse_documents_behind_change_nothing_before_them(rows, k):
    """They take the way that selects the best before it sorts."""
    grades, scores = (np.array(column) for column in zip(*rows, strict=True))
    k = min(k, len(rows))
    names = [f"{name}@{k}" for name in metrics_at_k()]
    short = metrics.metrics_per_query(grades, scores, names, max_grade=TOP)
    rng = np.random.default_rng(0)
    place = rng.permutation(len(rows) + 100)
    long = metrics.metrics_per_query(
        np.r_[grades, np.zeros(100)][place],
        np.r_[scores, rng.integers(-4, 0, 100)][place],
        names,
        max_grade=TOP,
    )
    np.testing.assert_allclose(long, short, atol=1e-12)


def metrics_at_k():
    return ["precision", "recall", "hit", "rr", "ap", "ndcg", "ndcg_linear", "dcg", "rbp", "err"]


def test_average_precision_without_ties_is_that_of_sklearn():
    rng = np.random.default_rng(0)
    labels, scores = (
        rng.integers(0, 2, (20, 50)),
        rng.permuted(np.tile(np.arange(50), (20, 1)), axis=1),
    )
    expected = [average_precision_score(y, s) for y, s in zip(labels, scores, strict=True)]
    assert metrics.average_precision_at_k(labels, scores) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("gain", ["exponential", "linear"])
def test_the_ideal_order_is_worth_1_exactly(gain):
    """Or the share of queries in perfect order depends on how sums are rounded."""
    rng = np.random.default_rng(0)
    for documents in (1, 7, 37, 300):
        grades = rng.choice([0.1, 0.7, 1.0, 3.0], (50, documents))
        scores = grades + rng.uniform(0, 0.01, grades.shape)
        for k in (1, 5, None):
            assert (metrics.ndcg(grades, scores, k, gain=gain) == 1).all()
            assert metrics.ndcg(grades, grades, k, gain=gain).max() <= 1  # tied
            assert metrics.ndcg(grades, grades, k, gain=gain).min() > 1 - 1e-12


def test_grades_just_below_where_gains_overflow_have_a_value():
    expected = (1 + 0 / np.log2(3) + 1 / 2) / (1 + 1 / np.log2(3))
    assert metrics.ndcg([1000, 0, 1000], [3, 2, 1]) == pytest.approx(expected)
    assert metrics.ndcg([1e300, 0, 1e300], [3, 2, 1], gain="linear") == pytest.approx(expected)
    assert metrics.err([1000, 0], [2, 1], max_grade=1000) == pytest.approx(1)


def test_whole_scores_that_float64_confuses_keep_their_order():
    """Such as times in nanoseconds, or a score and an id packed into one number."""
    big = 2**53
    for scores in (
        np.array([big + 1, big, big + 2]),
        np.array([-big - 1, -big - 2, -big]),
        np.array([2**64 - 2, 2**64 - 3, 2**64 - 1], dtype=np.uint64),
    ):
        assert float(scores[0]) in (float(scores[1]), float(scores[2]))
        assert metrics.reciprocal_rank([1, 0, 0], scores) == 0.5
        assert metrics.reciprocal_rank([[0, 1, 0]], scores[None]).tolist() == [pytest.approx(1 / 3)]
    assert metrics.reciprocal_rank([1, 0], np.array([-(2**63), 2**63 - 1])) == 0.5
    assert metrics.reciprocal_rank([1, 0], np.array([0, 200], dtype=np.uint8)) == 0.5


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_threshold_is_rounded_as_the_grades_are(dtype):
    """0.01 in float32 is a little less than 0.01."""
    grades = np.array([0.01, 0.1, 0.0, 1.0], dtype=dtype)
    scores = np.arange(4, dtype=dtype)
    for relevant, found in ((0.01, 3), (0.1, 2), (1, 1)):
        got = metrics.precision_at_k(grades, scores, 4, relevant=relevant)
        assert got == found / 4


@pytest.mark.parametrize("k", [np.uint8(200), np.int8(100), np.int64(150), 10**30])
def test_k_of_any_integer_type_means_the_same(k):
    rng = np.random.default_rng(0)
    grades, scores = rng.integers(0, TOP + 1, (3, 300)), rng.integers(0, 9, (3, 300))
    for function, more in [
        *((f, {}) for f in (metrics.precision_at_k, metrics.recall_at_k, metrics.hit_rate_at_k)),
        *((f, {}) for f in (metrics.reciprocal_rank, metrics.average_precision_at_k)),
        *((f, {}) for f in (metrics.dcg, metrics.ndcg)),
        (metrics.rbp, {"p": 0.8}),
        (metrics.err, {"max_grade": TOP}),
    ]:
        with np.errstate(all="raise", under="ignore"):
            ours = function(grades, scores, k=k, **more)
        plain = int(k) if k < 1000 or function is metrics.precision_at_k else 300
        np.testing.assert_array_equal(ours, function(grades, scores, k=plain, **more))


def test_arrays_in_any_order_of_memory_and_read_only_ones_have_the_same_values():
    rng = np.random.default_rng(0)
    grades, scores = rng.integers(0, TOP + 1, (9, 40)), rng.integers(0, 30, (9, 40)).astype(float)
    mask, got = rng.random((2, 9, 40)) < 0.8
    more = {"measures": ALL, "max_grade": TOP}
    expected = metrics.metrics_per_query(grades, scores, mask=mask, retrieved=got, **more)
    for form in (
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    ):
        arrays = [form(a) for a in (grades, scores, mask, got)]
        for array in arrays:
            array.flags.writeable = False
        table = metrics.metrics_per_query(*arrays[:2], mask=arrays[2], retrieved=arrays[3], **more)
        pd.testing.assert_frame_equal(table, expected)


def test_infinite_scores_rank_first_and_last():
    grades = [0, 1, 2, 0]
    assert metrics.reciprocal_rank(grades, [3, -np.inf, np.inf, 5], relevant=2) == 1
    assert metrics.reciprocal_rank([0, 1, 0, 0], [3, -np.inf, np.inf, 5]) == 0.25


# ------------------------------------------------------------------------------- many lists


def ragged(seed, count=40, longest=30, levels=6):
    """Lists of 1 to 30 documents with ties; grades 0 to 3, some lists without relevance."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, count)
    queries = np.repeat([f"q{number}" for number in rng.permutation(count)], lengths)
    grades = rng.choice([0, 1, 2, 3], len(queries), p=[0.8, 0.1, 0.05, 0.05])
    scores = rng.integers(0, levels, len(queries)).astype(float)
    return queries, grades, scores, rng


ALL = [f"{name}@{k}" for name in metrics_at_k() for k in (1, 4, 50)]
ALL += ["recall", "hit", "rr", "ap", "ndcg", "ndcg_linear", "dcg", "rbp", "err"]


def one_by_one(queries, grades, scores, retrieved):
    rows = [
        metrics.metrics_per_query(
            grades[queries == q], scores[queries == q], ALL, max_grade=TOP, retrieved=got
        )
        for q in pd.unique(queries)
        for got in [None if retrieved is None else retrieved[queries == q]]
    ]
    return pd.concat(rows)


@pytest.mark.parametrize("cells", [2**16, 50, 1])
@pytest.mark.parametrize("seed", [0, 1])
def test_padded_and_long_lists_have_the_values_of_single_ones(monkeypatch, cells, seed):
    queries, grades, scores, rng = ragged(seed)
    retrieved = rng.random(len(queries)) < 0.8
    expected = one_by_one(queries, grades, scores, retrieved).to_numpy()
    assert np.isnan(expected).any() and (expected == 0).any()
    monkeypatch.setattr(_ranked, "CELLS_PER_BLOCK", cells)
    monkeypatch.setattr(_formulas, "CELLS_PER_BATCH", cells)
    names = pd.unique(queries)

    mixed = rng.permutation(len(queries))  # rows of a list need not stand together
    long = metrics.metrics_per_query(
        grades[mixed],
        np.where(retrieved, scores, np.nan)[mixed],
        ALL,
        max_grade=TOP,
        retrieved=retrieved[mixed],
        queries=queries[mixed],
    )
    assert list(long.index) == list(pd.unique(queries[mixed]))
    np.testing.assert_allclose(long.loc[names], expected, atol=1e-12)

    width = max(np.sum(queries == q) for q in names) + 3
    padded = {name: np.full((len(names), width), np.nan) for name in ("grades", "scores")}
    mask, got = np.zeros((2, len(names), width), bool)
    for row, q in enumerate(names):
        place = rng.permutation(width)[: np.sum(queries == q)]  # padding anywhere
        mask[row, place] = True
        got[row, place] = retrieved[queries == q]
        padded["grades"][row, place] = grades[queries == q]
        padded["scores"][row, place] = scores[queries == q]
    table = metrics.metrics_per_query(
        padded["grades"], padded["scores"], ALL, max_grade=TOP, mask=mask, retrieved=got
    )
    np.testing.assert_allclose(table, expected, atol=1e-12)


def test_each_function_is_its_column_in_every_form():
    queries, grades, scores, _ = ragged(3)
    square = grades[:400].reshape(8, 50), scores[:400].reshape(8, 50)
    functions = {
        "precision@4": lambda *a, **kw: metrics.precision_at_k(*a, 4, **kw),
        "recall@4": lambda *a, **kw: metrics.recall_at_k(*a, 4, **kw),
        "hit@4": lambda *a, **kw: metrics.hit_rate_at_k(*a, 4, **kw),
        "rr@4": lambda *a, **kw: metrics.reciprocal_rank(*a, 4, **kw),
        "ap@4": lambda *a, **kw: metrics.average_precision_at_k(*a, 4, **kw),
        "ndcg@4": lambda *a, **kw: metrics.ndcg(*a, 4, **kw),
        "ndcg_linear@4": lambda *a, **kw: metrics.ndcg(*a, 4, gain="linear", **kw),
        "dcg@4": lambda *a, **kw: metrics.dcg(*a, 4, **kw),
        "rbp@4": lambda *a, **kw: metrics.rbp(*a, 0.8, 4, **kw),
        "err@4": lambda *a, **kw: metrics.err(*a, 4, max_grade=TOP, **kw),
    }
    long = metrics.metrics_per_query(
        grades, scores, list(functions), max_grade=TOP, queries=queries
    )
    padded = metrics.metrics_per_query(*square, list(functions), max_grade=TOP)
    assert padded.index.tolist() == list(range(8))
    for name, function in functions.items():
        np.testing.assert_array_equal(function(grades, scores, queries=queries), long[name])
        np.testing.assert_array_equal(function(*square), padded[name])
        single = function(square[0][0], square[1][0])
        assert isinstance(single, float)
        assert single == pytest.approx(padded[name][0], abs=1e-12, nan_ok=True)


def test_batched_ndcg_is_that_of_sklearn_with_wide_tied_lists():
    rng = np.random.default_rng(0)
    grades = rng.choice([0, 1, 2], (30, 400), p=[0.9, 0.07, 0.03])
    scores = rng.integers(0, 40, (30, 400))  # ten documents a score: every cut is within a tie
    for k in (1, 10, 399, None):
        expected = [ndcg_score([g], [s], k=k) for g, s in zip(grades, scores, strict=True)]
        ours = metrics.ndcg(grades, scores, k, gain="linear")
        assert ours == pytest.approx(expected, abs=1e-12)
        queries = np.repeat(np.arange(30), 400)
        long = metrics.ndcg(
            grades.ravel(), scores.ravel().astype(np.float32), k, gain="linear", queries=queries
        )
        np.testing.assert_array_equal(long, ours)


def test_how_deep_the_lists_are_sorted_changes_no_value():
    rng = np.random.default_rng(5)
    grades, scores = rng.integers(0, 4, (20, 200)), rng.integers(0, 30, (20, 200))
    at_two = [f"{name}@2" for name in metrics_at_k()]
    shallow = metrics.metrics_per_query(grades, scores, at_two, max_grade=TOP)
    for more in (["ap", "rr@30"], ["recall@9"]):
        deep = metrics.metrics_per_query(grades, scores, [*at_two, *more], max_grade=TOP)
        np.testing.assert_allclose(deep[at_two], shallow, atol=1e-12)
        for name in more:
            alone = metrics.metrics_per_query(grades, scores, [name])
            np.testing.assert_allclose(deep[name], alone[name], atol=1e-12)


@pytest.mark.parametrize(
    "queries", [[3, 3, 5, 8, 8], [8, 8, 3, 5, 5], ["c", "c", "a", "b", "b"], [2.5, 2.5, 1, 3, 3]]
)
def test_rows_of_the_table_bear_the_names_of_the_lists_in_order(queries):
    table = metrics.metrics_per_query([0, 1, 1, 1, 0], [2, 1, 1, 1, 2], ["rr"], queries=queries)
    assert list(table.index) == list(dict.fromkeys(queries))
    assert table["rr"].tolist() == [0.5, 1, 0.5]


# ------------------------------------------------------------------- edges of the convention


def test_a_list_without_relevance_has_no_value_and_one_without_results_is_worth_nothing():
    at_k = [f"{name}@3" for name in metrics_at_k()]
    lists = np.array([[0, 0, 0], [2, 0, 1], [2, 0, 1]])
    mask = np.array([[1, 1, 1], [1, 1, 1], [0, 0, 0]], bool)
    got = np.array([[1, 1, 1], [0, 0, 0], [1, 1, 1]], bool)
    table = metrics.metrics_per_query(
        lists, np.zeros((3, 3)), at_k, max_grade=2, mask=mask, retrieved=got
    )
    no_value = table.drop(columns="dcg@3")
    assert no_value.iloc[[0, 2]].isna().all(axis=None)  # nothing relevant; nothing there
    assert (table["dcg@3"] == 0).all()
    assert (table.iloc[1] == 0).all()  # relevant, and nothing was found


def test_grades_below_the_threshold_are_not_relevant_but_have_a_gain():
    grades, scores = [1, 0, 1], [3, 2, 1]
    assert np.isnan(metrics.recall_at_k(grades, scores, 3, relevant=2))
    assert metrics.ndcg(grades, scores) == pytest.approx(1.5 / (1 + 1 / np.log2(3)))


def test_short_lists_divide_as_trec_eval_does():
    run, judgments = {"1": {"a": 2.0, "b": 1.0}}, {"1": {"a": 1, "b": 0, "c": 1, "d": 2}}
    grades, scores, got = [1, 0, 1, 2], [2, 1, np.nan, np.nan], [True, True, False, False]
    for measure, ours, value in [
        (P @ 10, metrics.precision_at_k(grades, scores, 10, retrieved=got), 0.1),
        (R @ 10, metrics.recall_at_k(grades, scores, 10, retrieved=got), 1 / 3),
        (AP @ 1, metrics.average_precision_at_k(grades, scores, 1, retrieved=got), 1 / 3),
    ]:
        (theirs,) = reference_values(run, judgments, [measure])[measure].values()
        assert ours == pytest.approx(value) == theirs


@pytest.mark.skipif(shutil.which("perl") is None, reason="gdeval is a perl program")
def test_err_and_exponential_ndcg_are_those_of_gdeval():
    rng = np.random.default_rng(2)
    grades, scores = (
        rng.integers(0, 5, (50, 12)),
        rng.permuted(np.tile(np.arange(12), (50, 1)), axis=1),
    )
    run = {
        str(q): {f"d{d}": float(v) for d, v in enumerate(values)} for q, values in enumerate(scores)
    }
    judgments = {
        str(q): {f"d{d}": int(v) for d, v in enumerate(values)} for q, values in enumerate(grades)
    }
    for k in (1, 5, 20):
        exponential = nDCG(dcg="exp-log2") @ k
        theirs = reference_values(run, judgments, [ERR @ k, exponential])
        for measure, ours in [
            (ERR @ k, metrics.err(grades, scores, k, max_grade=4)),
            (exponential, metrics.ndcg(grades, scores, k)),
        ]:
            expected = [theirs[measure][str(q)] for q in range(50)]
            assert ours == pytest.approx(expected, abs=5.1e-6)  # gdeval prints five decimals


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.recall_at_k([0, 1], [0, np.nan], 1), "scores has 1 NaN; give -inf"),
        (lambda: metrics.recall_at_k([np.nan, 1], [0, 1], 1), "gains has 1 NaN; give 0 to an"),
        (lambda: metrics.err([0, -1], [0, 1], max_grade=2), r"not negative; got -1 to 0 \(to"),
        (lambda: metrics.rbp([0, np.inf], [0, 1]), "finite"),
        (lambda: metrics.rbp([0, 1], [0, 1], p=1), "p must be between 0 and 1"),
        (lambda: metrics.err([0, 3], [0, 1], max_grade=2), "max_grade .* got 2 for grades up to 3"),
        (lambda: metrics.precision_at_k([0, 1], [0, 1], None), "k of the precision"),
        (lambda: metrics.precision_at_k([0, 1], [0, 1], 2.5), "k must be at least 1"),
        (lambda: metrics.reciprocal_rank([0, 1], [0, 1], True), "k must be at least 1"),
        (lambda: metrics.reciprocal_rank([0, 1], [0, 1], relevant=0), "relevant must be"),
        (lambda: metrics.ndcg(["a", "b"], [0, 1]), "gains must be numbers"),
        (lambda: metrics.ndcg([0, 1], [0, 1], queries=[1]), "queries must have one value"),
        (lambda: metrics.ndcg([0, 1], [0, 1], queries=[1, None]), "missing value at position 1"),
        (lambda: metrics.ndcg([[0, 1]], [[0, 1]], queries=[1]), "where queries are given"),
        (lambda: metrics.ndcg([], []), r"empty; got shapes \(0,\), \(0,\)"),
        (lambda: metrics.ndcg(np.zeros((0, 5)), np.zeros((0, 5))), "empty"),
        (lambda: metrics.ndcg([[1, 2], [1]], [[1, 2], [1]]), "gains must have rows of one length"),
        (lambda: metrics.ndcg(np.array([1 + 2j, 0]), [0, 1]), "gains must be numbers"),
        (lambda: metrics.ndcg([1, 0], np.array(["NaT", 1], "M8[D]")), "scores must be numbers"),
        (lambda: metrics.ndcg([1, 2], [1, 2], mask=[1, np.nan]), "mask must be True or False"),
        (lambda: metrics.ndcg([1, 2], [1, 2], mask=["True", "False"]), "mask must be True"),
        (lambda: metrics.ndcg([1, 2], [1, 2], retrieved=[1, -1]), "retrieved must be True"),
        (
            lambda: metrics.ndcg([1, 2], [1, 2], mask=pd.array([True, None], dtype="boolean")),
            "mask must be True or False",
        ),
        (lambda: metrics.ndcg([2000, 1], [0, 1]), "at most 1000 for the exponential gain"),
        (lambda: metrics.dcg([1e308] * 3, [0, 1, 2], gain="linear"), r"at most 1e\+300"),
        (lambda: metrics.err([1, 0], [0, 1], max_grade=2000), "at most 1000; got 2000"),
        (lambda: metrics.err([1, 0], [0, 1], max_grade=None), "max_grade must be .* got None"),
        (lambda: metrics.rbp([0, 1], [0, 1], p=None), "p must be between 0 and 1; got None"),
        (lambda: metrics.recall_at_k([1], [1], relevant=None), "relevant must be .* got None"),
        (lambda: metrics.recall_at_k([1], [1], relevant=True), "relevant must be .* got True"),
        (lambda: metrics.ndcg([1], [1], retrieved=[True, False]), "one shape"),
        (lambda: metrics.metrics_per_query([1], [1], ["map@5"]), "'map@5' is no measure"),
        (lambda: metrics.metrics_per_query([1], [1], ["ndcg@"]), "no measure"),
        (lambda: metrics.metrics_per_query([1], [1], ["ndcg@0"]), "k must be at least 1"),
        (lambda: metrics.metrics_per_query([1], [1], ["precision"]), "needs a cut"),
        (lambda: metrics.metrics_per_query([1], [1], ["err@5"]), "needs max_grade"),
        (lambda: metrics.metrics_per_query([1], [1], ["judged@5"]), "evaluate_run"),
        (lambda: metrics.metrics_per_query([1], [1], "ndcg"), "must be a list"),
        (lambda: metrics.metrics_per_query([1], [1], ["ap", "ap"]), "different names"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_nan_is_not_looked_at_where_nothing_stands():
    grades, scores = [1, np.nan, 2], [1, np.nan, np.nan]
    value = metrics.ndcg(grades, scores, mask=[1, 0, 1], retrieved=[1, 1, 0])
    assert value == pytest.approx(1 / (3 + 1 / np.log2(3)))


def test_the_table_has_all_metrics_and_err_where_the_scale_is_known():
    without = metrics.metrics_per_query([1, 2], [1, 2])
    assert list(without) == [
        *("precision@10", "recall@10", "hit@10", "rr@10", "ap@10", "ndcg@10", "ndcg_linear@10"),
        "rbp",
    ]
    assert list(metrics.metrics_per_query([1, 2], [1, 2], max_grade=2))[-1] == "err@10"
