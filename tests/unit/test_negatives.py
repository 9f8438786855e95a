"""Mining against a full sort, its options by hand, sampling by its counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lib import negatives
from recsys_lib.negatives import mine_negatives, sample_lists, sample_pairs
from recsys_lib.workbook import InputError

NONE = np.zeros((0, 2), dtype=np.int64)
# one query, whose scores are those written
ITEMS = np.array([[0.9], [0.8], [0.7], [0.6], [0.5], [0.4]])
QUERY = np.ones((1, 1))


def pairs(*items: int) -> np.ndarray:
    return np.array([[0, item] for item in items], dtype=np.int64).reshape(-1, 2)


@given(st.integers(0, 10_000))
@settings(max_examples=60)
def test_equals_a_full_sort(seed):
    rng = np.random.default_rng(seed)
    n_queries, n_items, n = rng.integers(1, 9), rng.integers(1, 30), int(rng.integers(1, 12))
    queries = rng.integers(-2, 3, (n_queries, 2)).astype(float)  # many ties
    items = rng.integers(-2, 3, (n_items, 2)).astype(float)
    right = rng.random((n_queries, n_items)) < 0.3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(negatives, "_BLOCK", int(rng.integers(1, 60)))
        mined = mine_negatives(queries, items, np.argwhere(right), n=n)
    assert mined.shape == (n_queries, n) and mined.dtype == np.int64
    for row, scores in enumerate(queries @ items.T):
        order = [item for item in np.argsort(-scores, kind="stable") if not right[row, item]][:n]
        assert mined[row].tolist() == order + [-1] * (n - len(order))


@pytest.mark.parametrize(
    ("options", "want"),
    [
        ({}, [0, 2, 3, 4]),
        ({"n": 2}, [0, 2]),
        ({"skip": 2}, [3, 4, 5, -1]),
        ({"skip": 9}, [-1, -1, -1, -1]),
        ({"margin": 0.15}, [3, 4, 5, -1]),  # 0.8 - 0.15 = 0.65 is the most
        ({"margin": 0.15, "skip": 1}, [4, 5, -1, -1]),  # skipped below the bound
        # judged pairs are sure: neither skipped nor bounded
        ({"irrelevant": pairs(0, 5), "skip": 1}, [0, 3, 4, 5]),
        ({"irrelevant": pairs(0), "margin": 0.15}, [0, 3, 4, 5]),
        ({"irrelevant": pairs(4, 0), "unjudged": False}, [0, 4, -1, -1]),
        ({"irrelevant": pairs(1, 2), "unjudged": False}, [2, -1, -1, -1]),  # 1 is relevant
    ],
)
def test_options_by_hand(options, want):
    assert mine_negatives(QUERY, ITEMS, pairs(1), **{"n": 4} | options)[0].tolist() == want


def test_a_query_without_a_relevant_product_has_no_bound():
    assert mine_negatives(QUERY, ITEMS, NONE, n=2, margin=0.3)[0].tolist() == [0, 1]


def test_draws_within_the_depth_and_repeats_by_seed():
    rng = np.random.default_rng(0)
    queries, items = rng.normal(size=(50, 4)), rng.normal(size=(40, 4))
    top = mine_negatives(queries, items, NONE, n=10)
    drawn = mine_negatives(queries, items, NONE, n=3, depth=10, seed=1)
    place = [[list(t).index(item) for item in row] for t, row in zip(top, drawn, strict=True)]
    assert (np.diff(place, axis=1) > 0).all()  # best first
    assert len(np.unique(place)) == 10
    assert np.array_equal(drawn, mine_negatives(queries, items, NONE, n=3, depth=10, seed=1))
    assert not np.array_equal(drawn, mine_negatives(queries, items, NONE, n=3, depth=10, seed=2))


JUDGEMENTS = np.array([[0, 5, 3], [0, 6, 3], [0, 7, 1], [0, 8, 0], [2, 5, 2], [2, 6, 0], [2, 9, 0]])


def test_pairs_are_what_is_graded_high_enough():
    assert sample_pairs(JUDGEMENTS).tolist() == [[0, 5], [0, 6], [0, 7], [2, 5]]
    assert sample_pairs(JUDGEMENTS, least=3).tolist() == [[0, 5], [0, 6]]
    seen = {tuple(map(tuple, sample_pairs(JUDGEMENTS, per_query=1, seed=s))) for s in range(40)}
    assert seen == {((0, item), (2, 5)) for item in (5, 6, 7)}


def test_lists_hold_some_of_each_grade_and_the_mined():
    mined = np.array([[8, 1, 5], [4, 4, -1], [3, -1, -1]])
    rows = sample_lists(JUDGEMENTS, per_grade=1, negatives=mined, seed=3)
    assert (np.diff(rows[:, 0]) >= 0).all()
    first = {tuple(row) for row in rows[rows[:, 0] == 0, 1:]}
    # 8 and 5 were judged and are not added again with grade 0
    assert {(7, 1), (8, 0), (1, 0)} < first and len(first & {(5, 3), (6, 3)}) == 1
    assert len(first) == 4
    assert rows[rows[:, 0] == 1].tolist() == [[1, 4, 0]]
    assert len(rows[rows[:, 0] == 2]) == 3
    everything = sample_lists(JUDGEMENTS, per_grade=9)
    assert {tuple(row) for row in everything} == {tuple(row) for row in JUDGEMENTS}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "n = 0 must be at least 1"),
        ({"skip": -1}, "skip = -1 must not be negative"),
        ({"margin": -0.1}, "margin = -0.1 must not be negative"),
        ({"margin": float("nan")}, "margin = nan"),
        ({"n": 4, "depth": 3}, "depth = 3 must be at least n = 4"),
        ({"unjudged": False}, "unjudged = False leaves no negatives"),
        ({"relevant": np.zeros((2, 3), int)}, "relevant must be whole numbers"),
        ({"relevant": pairs(0, 6)}, r"relevant row 1 is \[0, 6\]"),
        ({"irrelevant": np.array([[1, 0]])}, r"irrelevant row 0 is \[1, 0\]"),
        ({"items": np.ones((3, 2))}, "must be vectors of one width"),
        ({"items": np.array([[np.nan]])}, "not all finite"),
    ],
)
def test_bad_input_to_mining_is_one_clear_line(change, message):
    arguments = {"queries": QUERY, "items": ITEMS, "relevant": NONE} | change
    with pytest.raises(InputError, match=message) as caught:
        mine_negatives(arguments.pop("queries"), arguments.pop("items"), **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample_pairs(JUDGEMENTS[:0]), "there are no judgements"),
        (lambda: sample_pairs(JUDGEMENTS[:, :2]), "judgements must be whole numbers"),
        (lambda: sample_pairs(JUDGEMENTS - 1), "leave out what was not judged"),
        (lambda: sample_pairs(JUDGEMENTS, least=4), "least = 4: no pair has such a grade"),
        (lambda: sample_pairs(JUDGEMENTS, per_query=0), "per_query = 0"),
        (lambda: sample_lists(JUDGEMENTS, per_grade=0), "per_grade = 0"),
    ],
)
def test_bad_input_to_sampling_is_one_clear_line(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
