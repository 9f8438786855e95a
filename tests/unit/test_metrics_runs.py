"""Runs against judgments as trec_eval has them; means, intervals and tests over queries."""

import ir_measures
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import AP, RBP, RR, Judged, P, R, Success, nDCG
from scipy import stats

from recsys_lib import metrics

EXPONENTIAL = {1: 1, 2: 3, 3: 7}


def reference_measures(k, relevant):
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
        "rbp": RBP(p=0.8, rel=relevant),
    }


documents = st.sampled_from("abcdefghij")
runs = st.dictionaries(
    st.sampled_from("12345"), st.lists(documents, unique=True, max_size=10), min_size=1
)
judgment_sets = st.dictionaries(
    st.sampled_from("12345"),
    st.dictionaries(documents, st.integers(0, 3), min_size=1),
    min_size=1,
)


def as_trec(run):
    return {q: {doc: float(-place) for place, doc in enumerate(docs)} for q, docs in run.items()}


def reference_table(run, judgments, measures):
    """By ir-measures: 0 where it has no value, as trec_eval with -c."""
    table = pd.DataFrame(0.0, index=list(judgments), columns=list(measures))
    names = {measure: name for name, measure in measures.items()}
    # In calls apart: in one call, ir-measures gives all NDCGs the gains of the first.
    for asked in (
        [measure for measure in names if "gains" in measure.params],
        [measure for measure in names if "gains" not in measure.params],
    ):
        if not asked:
            continue
        for row in ir_measures.iter_calc(asked, judgments, as_trec(run)):
            table.loc[row.query_id, names[row.measure]] = row.value
    return table


@given(runs, judgment_sets, st.integers(1, 12), st.integers(1, 2))
@settings(max_examples=100)
def test_runs_have_the_values_of_trec_eval(run, judgments, k, relevant):
    """Unjudged documents retrieved, relevant ones missed, queries unanswered or empty."""
    if not set(run) & set(judgments):
        with pytest.raises(ValueError, match="no query of the run has judgments"):
            metrics.evaluate_run(run, judgments)
        return
    measures = reference_measures(k, relevant)
    ours = metrics.evaluate_run(run, judgments, list(measures), relevant=relevant)
    assert list(ours.index) == [*judgments, *(q for q in run if q not in judgments)]
    assert ours.drop(index=list(judgments)).isna().all(axis=None)
    theirs = reference_table(run, judgments, measures)
    for query, grades in judgments.items():
        for name in measures:
            if max(grades.values()) < (1 if name.startswith("ndcg") else relevant):
                assert np.isnan(ours.loc[query, name]) and theirs.loc[query, name] == 0
            else:
                assert ours.loc[query, name] == pytest.approx(theirs.loc[query, name], abs=1e-9)


@given(runs, judgment_sets, st.integers(1, 6))
@settings(max_examples=60)
def test_condensed_lists_are_those_of_trec_eval_with_judged_only(run, judgments, k):
    measures = {
        f"precision@{k}": P(judged_only=True) @ k,
        f"recall@{k}": R(judged_only=True) @ k,
        "ap": AP(judged_only=True),
        "rr": RR(judged_only=True),
        f"ndcg_linear@{k}": nDCG(judged_only=True) @ k,
    }
    if not set(run) & set(judgments):
        return
    ours = metrics.evaluate_run(run, judgments, list(measures), unjudged="condensed")
    theirs = reference_table(run, judgments, measures)
    relevant = [q for q, grades in judgments.items() if max(grades.values()) > 0]
    np.testing.assert_allclose(ours.loc[relevant], theirs.loc[relevant], atol=1e-9)


@given(runs, judgment_sets, st.integers(1, 12))
@settings(max_examples=60)
def test_the_share_of_judged_documents_is_that_of_ir_measures(run, judgments, k):
    answered = [q for q in judgments if run.get(q)]
    if not answered:
        return
    measures = {f"judged@{k}": Judged @ k}
    run = {q: run[q] for q in run if run[q]}  # ir-measures divides by the length
    for unjudged in ("not relevant", "condensed"):
        ours = metrics.evaluate_run(run, judgments, list(measures), unjudged=unjudged)
        theirs = reference_table(run, judgments, measures)
        assert list(ours.loc[answered, f"judged@{k}"]) == pytest.approx(
            list(theirs.loc[answered, f"judged@{k}"])
        )
        unanswered = [q for q in judgments if q not in run]
        assert ours.loc[unanswered].isna().all(axis=None)


def test_negative_grades_raised_to_zero_are_as_trec_eval_counts_them():
    run = {"1": ["a", "b", "c"]}
    judgments = {"1": {"a": -2, "b": 1, "c": 2, "d": 1}}
    with pytest.raises(ValueError, match="grades must be finite and not negative; got -2"):
        metrics.evaluate_run(run, judgments)
    raised = {"1": {doc: max(grade, 0) for doc, grade in judgments["1"].items()}}
    measures = reference_measures(2, 1)
    ours = metrics.evaluate_run(run, raised, list(measures))
    theirs = reference_table(run, judgments, measures)
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


# ------------------------------------------------------------------------------ forms of input


def frames(seed=0, queries=30):
    rng = np.random.default_rng(seed)
    rows = [
        (f"q{q}", f"d{d}", rank)
        for q in range(queries)
        for rank, d in enumerate(rng.permutation(40)[: rng.integers(1, 15)], start=1)
    ]
    run = pd.DataFrame(rows, columns=["query", "doc", "rank"])
    rows = [
        (f"q{q}", f"d{d}", int(rng.integers(0, 4)))
        for q in range(queries)
        for d in rng.permutation(40)[:20]
    ]
    return run, pd.DataFrame(rows, columns=["query", "doc", "grade"])


def test_every_form_of_a_run_and_of_judgments_has_the_same_table():
    run, judgments = frames()
    expected = metrics.evaluate_run(run, judgments, max_grade=3)
    mixed = run.sample(frac=1, random_state=0)
    ranked = {q: list(part["doc"]) for q, part in run.groupby("query", sort=False)}
    by_score = {q: {doc: -i / 9 for i, doc in enumerate(docs)} for q, docs in ranked.items()}
    some_by_score = {q: (by_score if i % 2 else ranked)[q] for i, q in enumerate(ranked)}
    grades = {
        q: dict(zip(part["doc"], part["grade"], strict=True))
        for q, part in judgments.groupby("query", sort=False)
    }
    forms = [
        (mixed, judgments),
        (run.assign(score=-run["rank"] / 3, rank=0), judgments),  # a score goes before a rank
        (run.astype({"query": "category", "doc": "category"}), judgments),
        (ranked, judgments),
        (by_score, grades),
        (some_by_score, grades),
    ]
    for listed, known in forms:
        pd.testing.assert_frame_equal(
            metrics.evaluate_run(listed, known, max_grade=3), expected, check_index_type=False
        )
    numbers = {"query": lambda f: f["query"].str[1:].astype(int)}
    whole = metrics.evaluate_run(run.assign(**numbers), judgments.assign(**numbers), max_grade=3)
    np.testing.assert_array_equal(whole, expected)


def test_a_frame_of_grades_and_scores_is_a_run_whose_documents_are_all_judged():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "query": rng.integers(0, 9, 200),
            "doc": np.arange(200),
            "score": rng.integers(0, 5, 200),
            "grade": rng.integers(0, 3, 200),
        }
    )
    long = metrics.metrics_per_query(frame["grade"], frame["score"], queries=frame["query"])
    pd.testing.assert_frame_equal(metrics.evaluate_run(frame, frame), long)


def test_a_judged_query_that_is_not_answered_is_worth_nothing_and_an_unjudged_one_has_no_value():
    table = metrics.evaluate_run(
        {"a": ["x"], "c": ["x"], "d": []},
        {"a": {"x": 1}, "b": {"x": 1}, "e": {"x": 0}},
        ["ap", "precision@1", "dcg", "judged"],
    )
    measures = ["ap", "precision@1", "dcg"]
    assert table.loc["a"].tolist() == [1, 1, 1, 1]
    assert table.loc["b", measures].tolist() == [0, 0, 0]
    assert table.loc[["c", "d"], measures].isna().all(axis=None)
    assert table.loc["c", "judged"] == 0
    assert table.loc["e", "dcg"] == 0  # judged, and nothing is relevant
    assert metrics.evaluate_run({"a": []}, {"a": {"x": 1}}, ["ap"]).loc["a", "ap"] == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64, "Float64"])
def test_the_threshold_is_rounded_as_the_grades_of_the_judgments_are(dtype):
    grades = pd.Series([0.01, 0.1, 0.0, 1.0], dtype=dtype)
    judgments = pd.DataFrame({"query": 1, "doc": range(4), "grade": grades})
    for relevant, found in ((0.01, 3), (0.1, 2), (1, 1)):
        table = metrics.evaluate_run(
            {1: [3, 2, 1, 0]}, judgments, ["precision@4"], relevant=relevant
        )
        assert table.loc[1, "precision@4"] == found / 4


RUN, JUDGMENTS = {"1": ["a", "b"]}, {"1": {"a": 1}}


@pytest.mark.parametrize(
    ("run", "judgments", "more", "message"),
    [
        (
            {"1": ["a", "b", "a"]},
            JUDGMENTS,
            {},
            "run has document 'a' .* more than once",
        ),
        ({1: ["a"]}, JUDGMENTS, {}, r"the run names 1 \(int\), the judgments '1' \(str\)"),
        ({"1": [7]}, JUDGMENTS, {}, r"no document of the run .* names 7 \(int\)"),
        ({"1": {"a": np.nan}}, JUDGMENTS, {}, "run has 1 missing values in score, .* row 0"),
        ({"1": {"a": "best"}}, JUDGMENTS, {}, "score of the run must be numbers"),
        ({"1": [None]}, JUDGMENTS, {}, "run has 1 missing values in doc"),
        (RUN, {"1": {"a": np.nan}}, {}, "judgments has 1 missing values in grade"),
        (RUN, {"1": {"a": np.inf}}, {}, "grades must be finite"),
        (RUN, {}, {}, "judgments is empty"),
        ({"1": "ab"}, JUDGMENTS, {}, "list of documents, best first, .* query '1' .* got 'ab'"),
        ({"1": {"a", "b"}}, JUDGMENTS, {}, "list of documents, best first, .*set"),
        ({"1": None}, JUDGMENTS, {}, "list of documents, best first, .*None"),
        (RUN, {"1": ["a"]}, {}, r"must have {doc: grade} for query '1' .* got \['a'\]"),
        (
            pd.DataFrame([["1", "a", 1, 2]], columns=["query", "doc", "score", "score"]),
            *(JUDGMENTS, {}, "run has a column twice"),
        ),
        (["a"], JUDGMENTS, {}, "run must be a data frame or a dictionary"),
        (RUN, ["a"], {}, "judgments must be a data frame or a dictionary"),
        (pd.DataFrame({"query": ["1"]}), JUDGMENTS, {}, "run has no column doc; it needs"),
        (RUN, JUDGMENTS, {"unjudged": "drop"}, "unjudged is 'drop'"),
        (RUN, JUDGMENTS, {"relevant": 0}, "relevant must be a grade above 0"),
        (RUN, JUDGMENTS, {"measures": ["map"]}, "'map' is no measure"),
        (RUN, {"1": {"a": 3}}, {"max_grade": 2}, "max_grade must be"),
    ],
)
def test_bad_input_is_one_clear_line(run, judgments, more, message):
    with pytest.raises(ValueError, match=message) as error:
        metrics.evaluate_run(run, judgments, **more)
    assert "\n" not in str(error.value)


def test_a_document_judged_twice_is_refused():
    twice = pd.DataFrame({"query": [1, 1], "doc": [5, 5], "grade": [1, 2]})
    with pytest.raises(ValueError, match=r"judgments has document 5 \(int\) of query 1 "):
        metrics.evaluate_run({1: [5]}, twice)


# ---------------------------------------------------------------- means, intervals, A against B


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=9))
@settings(max_examples=60)
def test_the_exact_sign_flip_test_is_that_of_scipy(differences):
    d = np.array(differences) / 8  # exact in binary: scipy takes sums as they are rounded
    theirs = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert metrics.sign_flip_test(d) == pytest.approx(theirs, abs=1e-12)


def test_the_random_sign_flip_test_is_near_the_exact_one_and_near_that_of_scipy():
    d = np.random.default_rng(4).normal(0.3, 1, 15)
    exact = metrics.sign_flip_test(d, n=2**15)
    theirs = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert exact == pytest.approx(theirs, abs=1e-12)
    draws = [metrics.sign_flip_test(d, n=4000, seed=seed) for seed in range(10)]
    spread = np.sqrt(exact * (1 - exact) / 4000)
    assert 0.05 < exact < 0.95
    assert len(set(draws)) > 1
    assert abs(np.mean(draws) - exact) < 4 * spread / np.sqrt(10)
    assert metrics.sign_flip_test(d, n=4000, seed=3) == draws[3]


def test_the_sign_flip_test_is_never_zero_and_has_uniform_p_values_without_a_difference():
    assert metrics.sign_flip_test(np.ones(50), n=999) == 0.001
    rng = np.random.default_rng(0)
    p = [metrics.sign_flip_test(rng.normal(size=30), n=199, seed=i) for i in range(400)]
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert abs(np.mean(np.array(p) <= 0.05) - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 400)


def test_differences_of_a_group_flip_together():
    """A wish in four paraphrases is one piece of evidence, not four."""
    d = np.array([0.1, 0.3, 0.2, 0.4, -0.1, 0.2])
    groups = np.arange(6)
    copies = metrics.sign_flip_test(np.repeat(d, 4), groups=np.repeat(groups, 4))
    assert copies == metrics.sign_flip_test(d) == 6 / 64
    assert metrics.sign_flip_test(np.repeat(d, 4)) < copies / 4


@pytest.mark.parametrize("bad", [[0.1, np.nan], [np.inf, 1], [], [[0.1, 0.2]]])
def test_the_sign_flip_test_refuses_what_is_no_difference(bad):
    with pytest.raises(ValueError):
        metrics.sign_flip_test(bad)


def test_queries_without_a_value_are_left_out_and_counted():
    values = np.array([0.2, np.nan, 0.4, 0.9, np.nan])
    e = metrics.bootstrap_queries(values, n=500, seed=1)
    plain = metrics.bootstrap_mean([0.2, 0.4, 0.9], n=500, seed=1)
    assert (e.value, e.low, e.high, e.n) == (plain.value, plain.low, plain.high, 3)
    assert e.method.endswith("2 queries without a value left out")
    groups = ["a", "a", "b", "c", "c"]
    grouped = metrics.bootstrap_queries(values, groups=groups, n=500)
    assert grouped.low == metrics.bootstrap_mean([0.2, 0.4, 0.9], groups=["a", "b", "c"], n=500).low
    with pytest.raises(ValueError, match="none of the 2 queries has a value"):
        metrics.bootstrap_queries([np.nan, np.nan])


def test_the_summary_counts_and_is_the_bootstrap_of_each_column():
    run, judgments = frames()
    judgments.loc[judgments["query"].isin(["q0", "q1"]), "grade"] = 0
    table = metrics.evaluate_run(run, judgments, ["ndcg@10", "recall@5"])
    table["never"] = np.nan
    summary = metrics.summarize_queries(table, n=300)
    assert summary.index.name == "measure"
    assert summary["queries"].tolist() == [28, 28, 0]
    assert summary["without_value"].tolist() == [2, 2, 30]
    e = metrics.bootstrap_mean(table["ndcg@10"].dropna(), n=300)
    assert summary.loc["ndcg@10", ["mean", "low", "high"]].tolist() == [e.value, e.low, e.high]
    assert summary.loc["never", ["mean", "low", "high"]].isna().all()


def test_a_better_run_wins_and_a_run_against_itself_does_not():
    run, judgments = frames(queries=60)
    known = judgments.set_index(["query", "doc"])["grade"]
    grade = known.reindex(pd.MultiIndex.from_frame(run[["query", "doc"]])).fillna(0).to_numpy()
    noise = np.random.default_rng(0).normal(size=len(run))
    better = run.assign(score=grade + noise)
    tables = [metrics.evaluate_run(r, judgments, ["ndcg@10"])["ndcg@10"] for r in (better, run)]
    tables[0].iloc[3] = np.nan
    shuffled = tables[1].sample(frac=1, random_state=0)  # matched by name, not by place
    c = metrics.compare_queries(tables[0], shuffled)
    d = (tables[0] - tables[1]).dropna().to_numpy()
    assert (c.wins, c.ties, c.losses) == ((d > 0).sum(), (d == 0).sum(), (d < 0).sum())
    assert (c.queries, c.left_out) == (59, 1)
    assert c.difference.value == pytest.approx(d.mean())
    assert c.difference.low > 0 and c.p_value < 0.01
    assert "1 without a value left out" in str(c)
    none = metrics.compare_queries(tables[1], tables[1])
    assert (none.p_value, none.wins, none.ties, none.difference.high) == (1, 0, 60, 0)


def test_a_difference_of_rounding_is_a_tie():
    c = metrics.compare_queries([0.1 + 0.2, 0.5, 0.7, 0.1], [0.3, 0.5, 0.6, 0.2])
    assert 0.1 + 0.2 != 0.3
    assert (c.wins, c.ties, c.losses) == (1, 2, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.bootstrap_queries(np.ones((4, 3))), r"one per query; got shape \(4, 3\)"),
        (lambda: metrics.bootstrap_queries([0.1, 0.2], groups=["a"]), "each of 2 queries; got 1"),
        (lambda: metrics.compare_queries([1, 2], [1, 3], groups=[1] * 3), "of 2 queries; got 3"),
        (lambda: metrics.compare_queries([np.inf, 1], [np.inf, 2]), "a and b must be finite"),
    ],
)
def test_values_that_are_not_one_per_query_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0, 2.0], [1.0], "one shape"),
        (pd.Series([1.0], ["a"]), pd.Series([1.0], ["b"]), "the same queries"),
        ([np.nan, 1.0], [1.0, np.nan], "none of the 2 queries"),
    ],
)
def test_comparisons_of_other_queries_are_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        metrics.compare_queries(a, b)
