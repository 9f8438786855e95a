"""Splits keep groups and times together, give the shares asked for, and repeat by seed."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from recsys_lib.datasets.splits import Split, split_at_random, split_by_group, split_by_time
from recsys_lib.workbook import InputError


@st.composite
def many_groups(draw) -> np.ndarray:
    """The groups of 400 to 800 rows: 60 to 200 of them, evenly filled or with a heavy tail."""
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    n, k = draw(st.integers(400, 800)), draw(st.integers(60, 200))
    tail = draw(st.floats(0, 0.8))
    weights = 1 / np.arange(1, k + 1) ** tail
    return random.choice(k, n, p=weights / weights.sum())


def shares(split: Split) -> np.ndarray:
    sizes = np.array([len(rows) for rows in split.parts().values()])
    return sizes / sizes.sum()


def assert_a_partition(split: Split, n: int) -> None:
    for rows in split.parts().values():
        assert rows.dtype == np.int64
        assert np.all(np.diff(rows) > 0)
    together = np.concatenate(list(split.parts().values()))
    assert np.array_equal(np.sort(together), np.arange(n))


@given(many_groups(), st.integers(0, 99))
@settings(max_examples=60)
def test_groups_stay_whole_and_shares_are_met(groups, seed):
    split = split_by_group(groups, seed=seed)
    assert_a_partition(split, len(groups))
    parts = [set(groups[rows]) for rows in split.parts().values()]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    # A border misses by half the group that it falls on, at most; a part has two borders.
    largest = np.bincount(groups).max()
    assert np.abs(shares(split) - [0.7, 0.1, 0.2]).max() <= largest / len(groups)


def test_shares_are_close_with_a_heavy_tail_of_sizes():
    # 1,200 products as in `clothing`: a few have a thousand reviews, most one or two.
    sizes = (1_000 / np.arange(1, 1_201)).astype(int) + 1
    groups = np.repeat(np.arange(1_200), sizes)
    for seed in range(10):
        assert np.abs(shares(split_by_group(groups, seed=seed)) - [0.7, 0.1, 0.2]).max() < 0.002


@given(many_groups(), st.integers(0, 99))
@settings(max_examples=30)
def test_a_group_keeps_its_part_whatever_the_order_of_rows(groups, seed):
    order = np.random.default_rng(seed + 1).permutation(len(groups))
    part = split_by_group(groups, seed=seed).part_of(len(groups))
    shuffled = split_by_group(groups[order], seed=seed).part_of(len(groups))
    assert np.array_equal(part[order], shuffled)


def test_the_seed_decides_and_repeats():
    groups = np.arange(1_000) % 300
    one, again = split_by_group(groups, seed=1), split_by_group(groups, seed=1)
    other = split_by_group(groups, seed=2)
    assert np.array_equal(one.test, again.test)
    assert not np.array_equal(one.test, other.test)


def test_every_group_has_the_same_chance_to_be_tested():
    """Size must not decide: large and small products reach the test part equally often."""
    sizes = np.repeat([1, 10], [100, 20])
    groups = np.repeat(np.arange(120), sizes)
    rounds = 400
    tested = np.zeros(120)
    for seed in range(rounds):
        tested[np.unique(groups[split_by_group(groups, seed=seed).test])] += 1
    small, large = tested[:100].mean() / rounds, tested[100:].mean() / rounds
    # 400 rounds of 100 small and 20 large groups: standard errors of about 0.004 and 0.005.
    assert abs(small - 0.2) < 0.02
    assert abs(large - 0.2) < 0.02


def test_types_of_groups():
    names = [f"P{i % 50}" for i in range(500)]
    split = split_by_group(names)
    assert np.array_equal(split.test, split_by_group(pd.Series(names, index=range(7, 507))).test)
    assert np.array_equal(split.test, split_by_group(np.array(names, dtype=object)).test)
    assert_a_partition(split_by_group([1, "a", 2.5, None][:3] * 40, valid=0.3, test=0.3), 120)


@pytest.mark.parametrize(("valid", "test"), [(0.0, 0.2), (0.2, 0.0), (0.0, 0.0)])
def test_a_part_may_be_left_out(valid, test):
    split = split_by_group(np.arange(300) % 60, valid=valid, test=test)
    assert len(split.valid) == pytest.approx(300 * valid)
    assert len(split.test) == pytest.approx(300 * test)


@pytest.mark.parametrize(
    "groups",
    [[], ["a"] * 100, ["a", "b"] * 50, ["a", "b", "c"] * 50, ["big"] * 990 + list("0123456789")],
)
def test_groups_too_few_or_too_unequal_are_refused(groups):
    with pytest.raises(InputError, match=r"too few or too unequal") as caught:
        split_by_group(groups)
    assert "\n" not in str(caught.value)


def test_a_row_without_a_group_is_named():
    with pytest.raises(InputError, match="row 2 has no group"):
        split_by_group(["a", "b", None, "c"])


@pytest.mark.parametrize(
    "split",
    [
        lambda **k: split_by_group(range(99), **k),
        lambda **k: split_at_random(99, **k),
        lambda **k: split_by_time(range(99), **k),
    ],
)
@pytest.mark.parametrize(
    ("valid", "test"), [(-0.1, 0.2), (0.1, 1.0), (0.5, 0.5), (float("nan"), 0.2)]
)
def test_shares_that_do_not_fit(split, valid, test):
    with pytest.raises(InputError, match=r"must be a share|nothing to train on"):
        split(valid=valid, test=test)


# By time


@given(st.integers(0, 10_000), st.integers(20, 400), st.integers(3, 60))
@settings(max_examples=60)
def test_time_never_runs_backwards_and_ties_stay_together(seed, n, latest):
    times = np.random.default_rng(seed).integers(0, latest, n)
    assume(len(np.unique(times)) >= 3)
    split = split_by_time(times, valid=0.2, test=0.2)
    assert_a_partition(split, len(times))
    assert times[split.train].max() < times[split.valid].min()
    assert times[split.valid].max() < times[split.test].min()
    most = np.unique(times, return_counts=True)[1].max()
    if latest > 20:  # else a single time may be longer than a part
        assert np.abs(shares(split) - [0.6, 0.2, 0.2]).max() <= 2 * most / len(times)


def test_distinct_times_give_exact_shares():
    split = split_by_time(np.random.default_rng(0).permutation(1_000))
    assert [len(rows) for rows in split.parts().values()] == [700, 100, 200]


def test_dates_as_dates_and_as_text_agree():
    days = pd.date_range("2024-01-01", periods=300, freq="D")
    order = np.random.default_rng(1).permutation(300)
    as_dates = split_by_time(days[order])
    as_text = split_by_time([day.isoformat() for day in days[order]])
    assert np.array_equal(as_dates.test, as_text.test)
    assert set(order[as_dates.test]) == set(range(240, 300))


def test_one_long_day_moves_the_border_and_is_not_cut():
    times = [1] * 70 + [2] * 25 + [3] * 5
    split = split_by_time(times, valid=0.1, test=0.2)
    assert [len(rows) for rows in split.parts().values()] == [70, 25, 5]


@pytest.mark.parametrize("times", [[], [5] * 100, [1] * 99 + [2], [1, 2] * 50])
def test_too_few_times_are_refused(times):
    with pytest.raises(InputError, match="distinct times") as caught:
        split_by_time(times)
    assert "\n" not in str(caught.value)


def test_times_that_are_missing_or_none():
    with pytest.raises(InputError, match="row 1 has no time"):
        split_by_time([1.0, np.nan, 2.0])
    with pytest.raises(InputError, match="row 1 has no time"):
        split_by_time(["2024-01-01", None])
    with pytest.raises(InputError, match="row 1: 'soon' does not read as a time"):
        split_by_time(["2024-01-01", "soon"])


# At random


@given(st.integers(20, 2_000), st.integers(0, 9))
@settings(max_examples=50)
def test_at_random(n, seed):
    split = split_at_random(n, seed=seed)
    assert_a_partition(split, n)
    assert len(split.test) == round(0.2 * n) and len(split.valid) == round(0.1 * n)


def test_at_random_with_too_few_rows():
    with pytest.raises(InputError, match="3 rows are too few"):
        split_at_random(3)


# The split itself


def test_a_row_in_two_parts_is_refused():
    with pytest.raises(ValueError, match="two parts"):
        Split(np.array([0, 1]), np.array([1]), np.array([2]))


def test_part_of_marks_rows_in_no_part():
    split = Split(np.array([0, 3]), np.array([1]), np.array([4]))
    assert split.part_of(6).tolist() == [0, 1, -1, 0, 2, -1]
