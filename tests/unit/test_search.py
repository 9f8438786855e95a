"""Results, keyword search and fusion, held against sorting, the printed formula and plain loops."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from recsys_lib.search import (
    NO_ROW,
    Ranking,
    choose_first_weight,
    keyword_index,
    keyword_scores,
    keyword_search,
    rank_triples,
    reciprocal_rank_fusion,
    top_k,
    weighted_fusion,
    words,
)
from recsys_lib.workbook import InputError, memory

FEW = settings(max_examples=60)
# A handful of values, so that most of them tie.
LEVELS = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 0.5000001, 2.0])
SCORES = st.tuples(st.integers(1, 4), st.integers(0, 12)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=LEVELS.map(np.float32))
)


def sorted_lists(scores, k):
    """What a stable sort makes of each row: (row, score) pairs, -inf left out."""
    lists = []
    for line in scores:
        order = np.argsort(-line, kind="stable")
        lists.append([(int(i), float(line[i])) for i in order if line[i] > -np.inf][:k])
    return lists


def as_lists(ranking):
    return [
        [(int(r), float(s)) for r, s in zip(rows, scores, strict=True) if r >= 0]
        for rows, scores in zip(ranking.rows, ranking.scores, strict=True)
    ]


def check_form(ranking):
    listed = ranking.rows >= 0
    assert ranking.rows.dtype == np.int64
    assert ranking.scores.dtype == np.float32
    assert (ranking.rows[~listed] == NO_ROW).all()
    assert np.isneginf(ranking.scores[~listed]).all()
    assert (listed[:, 1:] <= listed[:, :-1]).all(), "padding stands before a product"


@FEW
@given(SCORES, st.integers(1, 15))
def test_top_k_is_the_head_of_a_stable_sort(scores, k):
    ranking = top_k(scores, k)
    check_form(ranking)
    assert ranking.rows.shape == (len(scores), k)
    assert as_lists(ranking) == sorted_lists(scores, k)


@FEW
@given(SCORES, st.integers(1, 15), st.randoms(use_true_random=False))
def test_scattered_results_are_put_in_the_same_order(scores, k, random):
    query, row = np.nonzero(scores > -np.inf)
    order = list(range(len(query)))
    random.shuffle(order)
    query, row = query[order], row[order]
    ranking = rank_triples(query, row, scores[query, row], len(scores), k)
    check_form(ranking)
    assert as_lists(ranking) == sorted_lists(scores, k)


def test_top_k_over_several_blocks(monkeypatch):
    from recsys_lib.search import results

    scores = np.random.default_rng(0).integers(0, 5, (7, 11)).astype(np.float32)
    whole = top_k(scores, 4)
    monkeypatch.setattr(results, "_BLOCK", 100)
    assert np.array_equal(top_k(scores, 4).rows, whole.rows)


@pytest.mark.parametrize("k", [0, -1, 2.0, True])
def test_a_bad_k_is_refused(k):
    with pytest.raises(InputError, match=r"k = .* must be a whole number above 0"):
        top_k(np.zeros((1, 3)), k)


def test_nan_is_refused_and_named():
    scores = np.zeros((3, 4))
    scores[1, 2] = np.nan
    with pytest.raises(InputError, match="query 1 has NaN"):
        top_k(scores, 2)


def test_a_ranking_becomes_a_matrix_and_back():
    scores = np.array([[0.5, -np.inf, 2.0, 2.0], [-np.inf] * 4], dtype=np.float32)
    ranking = top_k(scores, 4)
    assert np.array_equal(ranking.matrix(4), scores)
    assert ranking.lengths.tolist() == [3, 0]
    grades = np.array([[1, 2, 3, 0], [3, 3, 3, 3]])
    assert ranking.gains(grades).tolist() == [[3, 0, 1, 0], [0, 0, 0, 0]]
    assert ranking.head(1).rows.tolist() == [[2], [-1]]
    with pytest.raises(InputError, match="row 3 is not in a catalog of 3"):
        ranking.matrix(3)
    for wrong in (grades[:, :3], grades[:1], grades[0]):
        with pytest.raises(InputError, match="grades have the shape"):
            ranking.gains(wrong)
    with pytest.raises(InputError, match="one shape"):
        Ranking(np.zeros((1, 2)), np.zeros((1, 3)))


# --- words and BM25 -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Women's Dresses", ["women", "dress"]),
        ("T-shirt, t‐shirts & V-neck", ["tshirt", "tshirt", "vneck"]),
        ("quick-drying", ["quick", "drying"]),
        ("Café crème", ["cafe", "creme"]),
        ("3.5 inch heels, size 42", ["3.5", "inch", "heel", "size", "42"]),
        ("berries boxes watches glass shoes", ["berry", "box", "watch", "glass", "shoe"]),
        ("canvas bonus gas", ["canva", "bonus", "gas"]),
        ("ＦＵＬＬ width", ["full", "width"]),
        ("for the and with", []),
        ("🙂 … !!", []),
        ("", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


CATALOG = [
    "navy running shoes",
    "running shorts, navy, running fit",
    "red dress",
    "",
    "navy dress shoes for weddings",
]


def bm25_by_hand(texts, query, k1, b):
    """The formula of the module's docstring, word by word."""
    documents = [words(text) for text in texts]
    mean = sum(map(len, documents)) / len(documents)
    out = np.zeros(len(documents))
    for term in words(query):
        n = sum(term in document for document in documents)
        idf = math.log(1 + (len(documents) - n + 0.5) / (n + 0.5))
        for i, document in enumerate(documents):
            f = Counter(document)[term]
            if f:
                out[i] += idf * f / (f + k1 * (1 - b + b * len(document) / mean))
    return out


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.9, 0.4), (2.0, 0.0), (1.5, 1.0), (0.0, 0.5)])
@pytest.mark.parametrize("query", ["navy shoes", "running running dress", "navy unheard-of", "red"])
def test_bm25_is_the_formula(query, k1, b):
    index = keyword_index(CATALOG, k1=k1, b=b)
    expected = bm25_by_hand(CATALOG, query, k1, b)
    found = keyword_search(index, [query], 10)
    check_form(found)
    # float32 sums of a few terms of size 1
    dense = np.where(found.matrix(5) > -np.inf, found.matrix(5), 0)[0]
    assert dense == pytest.approx(expected, abs=1e-5)
    assert found.lengths[0] == (expected > 0).sum()
    rows = np.array([[4, 3, 0, -1]])
    scores = keyword_scores(index, [query], rows)
    assert scores[0] == pytest.approx([*expected[[4, 3, 0]], 0], abs=1e-5)


@FEW
@given(
    st.lists(
        st.lists(st.sampled_from(["red", "navy", "shoe", "dress", "belt"])), min_size=1, max_size=8
    ),
    st.lists(st.sampled_from(["red", "navy", "shoe", "dress", "belt", "hat"]), max_size=4),
)
def test_bm25_of_any_catalog(texts, query):
    texts, query = [" ".join(text) for text in texts], " ".join(query)
    if not any(texts):
        with pytest.raises(InputError, match="no text of the catalog holds a word"):
            keyword_index(texts)
        return
    found = keyword_search(keyword_index(texts), [query], len(texts) + 2)
    expected = bm25_by_hand(texts, query, 1.2, 0.75)
    assert found.lengths[0] == (expected > 0).sum()
    rows = found.rows[0][: found.lengths[0]]
    assert found.scores[0][: len(rows)] == pytest.approx(expected[rows], abs=1e-5)
    assert sorted(rows) == np.flatnonzero(expected > 0).tolist()


def test_a_query_without_words_has_an_empty_list():
    found = keyword_search(keyword_index(CATALOG), ["", "the", "🙂", "zzz", "navy"], 3)
    assert found.lengths.tolist() == [0, 0, 0, 0, 3]
    assert keyword_search(keyword_index(CATALOG), [], 3).rows.shape == (0, 3)


def test_equal_names_are_listed_in_the_order_of_the_catalog():
    index = keyword_index(["blue hat", "red hat"] * 20)
    assert keyword_search(index, ["red hat"], 5).rows.tolist() == [[1, 3, 5, 7, 9]]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "the catalog is empty"),
        (["", "the 🙂"], "no text of the catalog holds a word"),
        (["hat", None], "text 1 is NoneType, not a string"),
        ("hat", "one string was given where a list is needed"),
    ],
)
def test_a_bad_catalog_is_refused(texts, message):
    with pytest.raises(InputError, match=message):
        keyword_index(texts)


def test_bad_queries_and_settings_are_refused():
    index = keyword_index(CATALOG)
    with pytest.raises(InputError, match="query 0 is float"):
        keyword_search(index, [math.nan], 3)
    with pytest.raises(InputError, match="row 5 is not among the 5"):
        keyword_scores(index, ["hat"], np.array([[5]]))
    with pytest.raises(InputError, match="1 queries but rows for 2"):
        keyword_scores(index, ["hat"], np.zeros((2, 1), int))
    for k1 in (-1, math.inf, math.nan):
        with pytest.raises(InputError, match=f"k1 = {k1}"):
            keyword_index(CATALOG, k1=k1)


# --- fusion ---------------------------------------------------------------------------------------

RANKINGS = SCORES.flatmap(
    lambda first: st.tuples(
        st.just(first),
        arrays(np.float32, first.shape, elements=LEVELS.map(np.float32)),
        arrays(np.float32, first.shape, elements=LEVELS.map(np.float32)),
    )
)


def fused_by_hand(lists, values):
    """Adds up {row: value} per query and sorts as float32, the lower row first."""
    total = {}
    for ranked, addends in zip(lists, values, strict=True):
        for (row, _), value in zip(ranked, addends, strict=True):
            total[row] = total.get(row, 0.0) + value
    return total


def check_fused(ranking, q, total, k):
    rows = [row for row, _ in as_lists(ranking)[q]]
    assert len(rows) == len(set(rows)) == min(k, len(total))
    values = np.array([total[row] for row in rows])
    scores = ranking.scores[q][: len(rows)]
    assert scores == pytest.approx(values, rel=1e-6, abs=1e-6)  # float32
    left = [value for row, value in total.items() if row not in rows]
    assert not left or not rows or max(left) <= values.min() + 1e-6
    for i in range(1, len(rows)):
        assert scores[i] < scores[i - 1] or rows[i] > rows[i - 1], "a tie in the wrong order"


@FEW
@given(RANKINGS, st.integers(1, 8), st.sampled_from([0.5, 60.0]))
def test_reciprocal_rank_fusion_is_the_sum_of_reciprocals(matrices, k, c):
    rankings = [top_k(scores, 5) for scores in matrices]
    weights = [1.0, 0.5, 2.0]
    fused = reciprocal_rank_fusion(rankings, k, c=c, weights=weights)
    check_form(fused)
    for q in range(len(matrices[0])):
        lists = [as_lists(ranking)[q] for ranking in rankings]
        values = [
            [w / (c + rank) for rank, _ in enumerate(ranked, 1)]
            for w, ranked in zip(weights, lists, strict=True)
        ]
        check_fused(fused, q, fused_by_hand(lists, values), k)


@FEW
@given(RANKINGS, st.integers(1, 8))
def test_weighted_fusion_with_minmax(matrices, k):
    rankings = [top_k(scores, 5) for scores in matrices]
    weights = [1.0, 0.5, 2.0]
    fused = weighted_fusion(rankings, weights, k)
    check_form(fused)
    for q in range(len(matrices[0])):
        lists = [as_lists(ranking)[q] for ranking in rankings]
        values = []
        for w, ranked in zip(weights, lists, strict=True):
            scores = [score for _, score in ranked]
            low, high = min(scores, default=0), max(scores, default=0)
            values.append([w * ((s - low) / (high - low) if high > low else 1.0) for s in scores])
        check_fused(fused, q, fused_by_hand(lists, values), k)


def test_weighted_fusion_with_z_scores():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 4, 9)).astype(np.float32)
    b = 100 * b + 7  # another scale: must not matter
    fused = weighted_fusion([top_k(a, 9), top_k(b, 9)], [0.3, 0.7], 9, normalize="z")
    total = 0.3 * stats.zscore(a, axis=1) + 0.7 * stats.zscore(b, axis=1)
    assert np.array_equal(fused.rows, np.argsort(-total, axis=1))
    # Equal but for a constant per query, which changes no order.
    shift = fused.scores - np.take_along_axis(total, fused.rows, axis=1)
    assert np.ptp(shift, axis=1) == pytest.approx(0, abs=1e-5)


def test_weighted_fusion_of_scores_as_they_come():
    rng = np.random.default_rng(4)
    logits, cosines = rng.normal(size=(2, 4, 9)).astype(np.float32)
    fused = weighted_fusion([top_k(logits, 9), top_k(cosines, 9)], [1, 30], 9, normalize="none")
    total = logits + 30 * cosines
    assert np.array_equal(fused.rows, np.argsort(-total, axis=1))
    shift = fused.scores - np.take_along_axis(total, fused.rows, axis=1)
    assert np.ptp(shift, axis=1) == pytest.approx(0, abs=1e-4)
    listed = top_k(np.array([[3.0, 2.0, -np.inf]]), 3)  # the third would be third in both
    other = top_k(np.array([[1.0, -np.inf, 5.0]]), 3)
    fused = weighted_fusion([listed, other], [1, 1], 3, normalize="none")
    assert fused.rows.tolist() == [[2, 0, 1]]  # 2 + 5, 3 + 1, 2 + 1


def test_scores_of_too_many_pairs_are_refused(monkeypatch):
    monkeypatch.setattr(memory, "usable_memory", lambda: 2 * 4 * 2 * 7)
    ranking = top_k(np.zeros((2, 7)), 3)
    assert ranking.matrix(7).shape == (2, 7)
    with pytest.raises(InputError, match=r"2 queries × 8 products, would take .* fewer queries"):
        ranking.matrix(8)


def test_with_z_scores_a_product_that_a_list_lacks_ranks_behind_those_it_has():
    listed = top_k(np.array([[3.0, 2.0, 1.0, -np.inf]]), 4)
    other = top_k(np.array([[-np.inf, -np.inf, 5.0, 5.0]]), 4)
    fused = weighted_fusion([listed, other], [1.0, 1e-3], 4, normalize="z")
    assert fused.rows.tolist() == [[0, 1, 2, 3]]


def test_fusion_ignores_the_scale_of_scores_by_rank_and_keeps_empty_lists_empty():
    scores = np.array([[3.0, 1.0, 2.0], [-np.inf] * 3])
    for fused in (
        reciprocal_rank_fusion([top_k(scores, 3), top_k(1e6 * scores, 2)], 3),
        weighted_fusion([top_k(scores, 3)], [1.0], 3),
        weighted_fusion([top_k(scores, 3)], [1.0], 3, normalize="z"),
    ):
        assert fused.rows.tolist() == [[0, 2, 1], [-1, -1, -1]]


def test_bad_fusions_are_refused():
    one, two = top_k(np.zeros((1, 2)), 2), top_k(np.zeros((2, 2)), 2)
    infinite = top_k(np.array([[np.inf, 0.0]]), 2)
    for call, message in [
        (lambda: reciprocal_rank_fusion([], 2), "at least one ranking"),
        (lambda: reciprocal_rank_fusion([one, two], 2), "different numbers of queries: 1, 2"),
        (lambda: reciprocal_rank_fusion([one], 2, c=-1), "c = -1 must not be negative"),
        (lambda: weighted_fusion([one], [1, 2], 2), "1 rankings but 2 weights"),
        (lambda: weighted_fusion([one], [-1], 2), "finite and not negative"),
        (lambda: weighted_fusion([one], [1], 2, normalize="max"), "must be one of minmax, z, none"),
        (lambda: weighted_fusion([infinite], [1], 2), "finite scores"),
    ]:
        with pytest.raises(InputError, match=message):
            call()


def judged_lists(seed, queries, first, second):
    """Grades of 20 candidates per query, and two judges that add noise of these sizes to them."""
    dice = np.random.default_rng(seed)
    grades = dice.integers(0, 4, (queries, 20))
    return grades, *(grades + dice.normal(size=grades.shape) * noise for noise in (second, first))


def test_the_first_ranker_keeps_its_order_where_the_second_knows_nothing():
    for seed in range(20):
        grades, logits, first = judged_lists(seed, 50, first=0.5, second=100)
        assert choose_first_weight(grades, 0.01 * logits, first, weights=(0, 1, 10, 1e6)) >= 10


def test_the_second_ranker_decides_where_it_is_right():
    grades, logits, first = judged_lists(0, 50, first=3, second=0.1)
    assert choose_first_weight(grades, logits, first, weights=(0, 100)) == 0


def test_two_judges_are_weighed_as_their_errors_ask():
    """Of independent errors the best weight is the ratio of their variances, here 4."""
    grades, logits, first = judged_lists(1, 4_000, first=1, second=2)
    # errors of variance 1 and 4: the first counts four times; neighbors are within the error
    assert choose_first_weight(grades, logits, first, weights=(0, 1, 4, 16, 100)) in (4, 16)


def test_of_weights_that_validation_does_not_tell_apart_the_largest_is_taken():
    grades = np.array([[1, 0], [1, 0], [1, 0]])
    logits, first = np.array([[1.0, 0]] * 3), np.array([[1.0, 0]] * 3)
    assert choose_first_weight(grades, logits, first, weights=(0, 3, 7)) == 7
    one = grades[:1], logits[:1], -first[:1]  # a single query has no standard error
    assert choose_first_weight(*one, weights=(0, 0.5, 7)) == 0.5


def test_a_weight_needs_a_relevant_candidate_and_one_shape():
    nothing = np.zeros((2, 3))
    with pytest.raises(InputError, match="no query has a relevant candidate"):
        choose_first_weight(nothing, nothing, nothing)
    with pytest.raises(InputError, match=r"must have one shape \(Q, K\)"):
        choose_first_weight(nothing, nothing[:1], nothing)
