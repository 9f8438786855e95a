"""Splitting rows into train, validation and test: by group, by time, or at random.

A split by group answers "how well does it do on products it has never seen?", a split by time "how
well will it do tomorrow?". A split at random answers neither where rows of one product resemble
each other; notebook 02 measures what it leaks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from recsys_lib.workbook import InputError

PARTS = ("train", "valid", "test")
ORDERS = 20  # random orders of the groups that `split_by_group` chooses from


@dataclass(frozen=True)
class Split:
    """Positions of the rows of each part in the frame, ascending (int64), without overlap."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray

    def __post_init__(self) -> None:
        together = np.concatenate([self.train, self.valid, self.test])
        if len(np.unique(together)) != len(together):
            raise ValueError("a row stands in two parts of the split")

    def parts(self) -> dict[str, np.ndarray]:
        """The three parts by name, in the order train, valid, test."""
        return {name: getattr(self, name) for name in PARTS}

    def part_of(self, n: int) -> np.ndarray:
        """For each of `n` rows (int8): 0 train, 1 valid, 2 test, −1 in no part."""
        part = np.full(n, -1, dtype=np.int8)
        for code, rows in enumerate(self.parts().values()):
            part[rows] = code
        return part


def split_by_group(
    groups: Sequence[object] | np.ndarray | pd.Series,
    *,
    valid: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
) -> Split:
    """Put whole groups (products, queries) into train, valid or test.

    The groups are put in a random order; the first become test and the next valid, up to the group
    that brings the number of *rows* nearest to the share asked for. Of `ORDERS` random orders the
    one that comes nearest is taken, so that a product with a thousand reviews does not spoil the
    shares, and large groups have the same chance to be tested as small ones. The parts depend on
    the groups and the seed only, not on the order of the rows.

    Args:
        groups: (n,) the group of each row.
        valid: share of the rows for validation, 0 for none.
        test: share of the rows for the test, 0 for none.
        seed: of the random order.

    Raises:
        InputError: shares that do not fit, a missing group, or groups too few or too unequal to
            come near the shares (a part empty, or off by more than half of what was asked).
    """
    valid_share, test_share = _checked_shares(valid, test)
    names = pd.Series(groups).reset_index(drop=True)
    if names.isna().any():
        row = int(np.flatnonzero(names.isna())[0])
        raise InputError(f"row {row} has no group; every row needs one to split by group.")
    code, known = pd.factorize(names.astype(str), sort=True)
    part_of_group = _best_order(
        np.bincount(code, minlength=len(known)), valid_share, test_share, seed
    )
    part = part_of_group[code]
    _refuse_poor_shares(part, len(known), {1: valid_share, 2: test_share})
    return _split_from_codes(part)


def _best_order(sizes: np.ndarray, valid: float, test: float, seed: int) -> np.ndarray:
    """The part of each group (0, 1, 2), from the random order whose shares come nearest."""
    random = np.random.default_rng(seed)
    wanted = sizes.sum() * np.array([test, test + valid])
    best, least = np.zeros(len(sizes), dtype=np.int8), np.inf
    for _ in range(ORDERS):
        order = random.permutation(len(sizes))
        total = np.concatenate([[0], np.cumsum(sizes[order])])
        borders = np.abs(total[:, None] - wanted).argmin(axis=0)
        off = np.abs(np.diff(total[borders], prepend=0) - np.diff(wanted, prepend=0)).max()
        if off < least:
            least = off
            best[:] = 0
            best[order[: borders[1]]] = 1
            best[order[: borders[0]]] = 2
    return best


def _refuse_poor_shares(part: np.ndarray, n_groups: int, shares: dict[int, float]) -> None:
    shares = {0: 1 - sum(shares.values()), **shares}
    for code, share in shares.items():
        got = float(np.mean(part == code)) if len(part) else 0.0
        if share > 0 and (got == 0 or abs(got - share) > share / 2):
            raise InputError(
                f"{len(part)} rows in {n_groups} groups are too few or too unequal to split: "
                f"{PARTS[code]} would get {got:.0%} of the rows where {share:.0%} were asked; "
                "give more groups, other shares, or no group column."
            )


def split_by_time(
    times: Sequence[object] | np.ndarray | pd.Series, *, valid: float = 0.1, test: float = 0.2
) -> Split:
    """Train on the past, validate on what follows, test on the latest rows.

    Rows of the same time always stay together: a border that would part them moves to the nearer
    side. Nothing is random.

    Args:
        times: (n,) numbers, dates, or texts that read as dates.
        valid: share of the rows for validation, 0 for none.
        test: share of the rows for the test, 0 for none.

    Raises:
        InputError: shares that do not fit, a missing or unreadable time, or too few distinct times.
    """
    valid_share, test_share = _checked_shares(valid, test)
    stamps = _as_times(times)
    order = np.argsort(stamps, kind="stable")
    ordered = stamps[order]
    n = len(ordered)
    starts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1  # where a new time begins
    wanted = [share for share in (valid_share, test_share) if share > 0]
    if len(starts) < len(wanted):
        distinct = len(starts) + 1 if n else 0
        raise InputError(
            f"{n} rows at {distinct} distinct times cannot be split by time into "
            f"{len(wanted) + 1} parts; give finer times or other shares."
        )
    part = np.zeros(n, dtype=np.int8)
    if valid_share:
        room = starts[: len(starts) - (test_share > 0)]  # leave a border for the test part
        border = room[np.abs(room - n * (1 - valid_share - test_share)).argmin()]
        part[order[border:]] = 1
        starts = starts[starts > border]
    if test_share:
        border = starts[np.abs(starts - n * (1 - test_share)).argmin()]
        part[order[border:]] = 2
    return _split_from_codes(part)


def _as_times(times: Sequence[object] | np.ndarray | pd.Series) -> np.ndarray:
    series = pd.Series(times).reset_index(drop=True)
    if not (pd.api.types.is_numeric_dtype(series) or pd.api.types.is_datetime64_any_dtype(series)):
        parsed = pd.to_datetime(series, errors="coerce", format="mixed", utc=True)
        unread = np.flatnonzero(parsed.isna() & series.notna())
        if len(unread):
            value = series.iloc[unread[0]]
            raise InputError(f"row {unread[0]}: {value!r} does not read as a time.")
        series = parsed
    if series.isna().any():
        row = int(np.flatnonzero(series.isna())[0])
        raise InputError(f"row {row} has no time; every row needs one to split by time.")
    return series.to_numpy()


def split_at_random(n: int, *, valid: float = 0.1, test: float = 0.2, seed: int = 0) -> Split:
    """Put each of `n` rows into a part at random, whatever its product: leaky on purpose.

    Raises:
        InputError: shares that do not fit, or so few rows that a part would be empty.
    """
    valid_share, test_share = _checked_shares(valid, test)
    n_test, n_valid = round(n * test_share), round(n * valid_share)
    if (test_share and not n_test) or (valid_share and not n_valid) or n_test + n_valid >= n:
        raise InputError(f"{n} rows are too few to split; give more rows or other shares.")
    order = np.random.default_rng(seed).permutation(n)
    part = np.zeros(n, dtype=np.int8)
    part[order[:n_test]] = 2
    part[order[n_test : n_test + n_valid]] = 1
    return _split_from_codes(part)


def _checked_shares(valid: float, test: float) -> tuple[float, float]:
    for name, share in (("valid", valid), ("test", test)):
        if not 0 <= share < 1:
            raise InputError(f"{name} = {share} must be a share from 0 to below 1.")
    if valid + test >= 1:
        raise InputError(f"valid + test = {valid + test:g} leaves nothing to train on.")
    return float(valid), float(test)


def _split_from_codes(part: np.ndarray) -> Split:
    return Split(*(np.flatnonzero(part == code).astype(np.int64) for code in range(3)))
