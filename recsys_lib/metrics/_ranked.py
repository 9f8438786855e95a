"""Many lists of scored documents, sorted: what every ranking metric is computed from.

Lists come padded, ``(Q, D)``, or long, one row per document with the list it belongs to. Both are
cut into blocks of lists that fit the processor's cache; each block is sorted once, down to the
depth asked for, and every metric is computed from that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

CELLS_PER_BLOCK = 2**16  # documents sorted at a time


@dataclass(frozen=True)
class RankedLists:
    """A block of lists, their documents in the order of rank, one list after the other.

    Documents of equal score form a tie. Ties that reach into the depth asked for are whole, so a
    list may hold more documents than that depth; documents behind are left out.
    """

    count: int  # of lists
    query: np.ndarray  # (N,) the list of each document, 0 … count − 1, not falling
    rank: np.ndarray  # (N,) from 1 in each list
    grade: np.ndarray  # (N,)
    tie: np.ndarray  # (N,) the number of its tie in the block, not falling
    tie_first: np.ndarray  # (T,) the rank at which a tie begins
    tie_size: np.ndarray  # (T,)
    relevant: np.ndarray  # (count,) documents of grade ≥ threshold, ranked or not
    threshold: float
    ideal: np.ndarray  # (count, ≤ depth) the highest grades, falling; 0 where there are no more

    def mean_in_tie(self, values: np.ndarray) -> np.ndarray:
        """Replaces each document's value by the mean over its tie, the expectation at its rank."""
        if len(self.tie_size) == len(values):
            return values
        return (np.bincount(self.tie, values) / self.tie_size)[self.tie]

    def sum_by_list(self, values: np.ndarray) -> np.ndarray:
        """``(N,)`` to ``(count,)``."""
        return np.bincount(self.query, values, self.count)

    def offsets(self) -> np.ndarray:
        """Where each list begins, and the end: ``(count + 1,)``."""
        return np.searchsorted(self.query, np.arange(self.count + 1))


Metric = Callable[[RankedLists], np.ndarray]


def evaluate(
    metrics: Sequence[Metric],
    gains: ArrayLike,
    scores: ArrayLike,
    *,
    depth: int | None = None,
    threshold: float = 1.0,
    mask: ArrayLike | None = None,
    retrieved: ArrayLike | None = None,
    queries: ArrayLike | None = None,
) -> np.ndarray:
    """Each metric of each list: ``(metrics, Q)``, or ``(metrics,)`` for one list ``(D,)``.

    Args:
        metrics: functions of ``RankedLists`` that look no deeper than ``depth``.
        gains: grades, ``(D,)``, ``(Q, D)`` or, with ``queries``, ``(N,)``.
        scores: same shape.
        depth: of the ranks that are needed; None for all.
        threshold: the lowest grade that is relevant.
        mask: same shape, False for what is not there at all.
        retrieved: same shape, False for a judged document that has no rank.
        queries: ``(N,)``, the list of each row; lists are numbered in order of first appearance.

    Raises:
        ValueError: on NaN, negative or infinite grades, unequal shapes, a bad threshold.
    """
    check_depth(depth)
    check_threshold(threshold)
    g, s, standing, ranked = _checked(gains, scores, mask, retrieved, queries is not None)
    threshold = as_precise_as(threshold, g.dtype)
    if queries is not None:
        codes, ids = query_codes(queries, len(g))
        if standing is not None:
            codes, g, s = codes[standing], g[standing], s[standing]
            ranked = ranked[standing]
        return evaluate_long(
            metrics, codes, len(ids), g, s, ranked, depth=depth, threshold=threshold
        )
    padded = tuple(None if a is None else np.atleast_2d(a) for a in (g, s, standing, ranked))
    values = _evaluate_padded(metrics, *padded, depth, threshold)
    return values[:, 0] if g.ndim == 1 else values


def evaluate_long(
    metrics: Sequence[Metric],
    codes: np.ndarray,
    count: int,
    g: np.ndarray,
    s: np.ndarray,
    ranked: np.ndarray | None,
    *,
    depth: int | None,
    threshold: float,
) -> np.ndarray:
    """As ``evaluate`` for checked rows whose lists are numbered 0 … count − 1.

    Returns ``(metrics, count)``. Lists of like length share a block, so little of it is padding.
    """
    lengths = np.bincount(codes, minlength=count)
    if (codes[1:] < codes[:-1]).any():
        order = np.argsort(codes, kind="stable")
        g, s = g[order], s[order]
        ranked = None if ranked is None else ranked[order]
    if len(g) and (lengths == lengths[0]).all():
        shape = (count, lengths[0])
        ranked = None if ranked is None else ranked.reshape(shape)
        return _evaluate_padded(
            metrics, g.reshape(shape), s.reshape(shape), None, ranked, depth, threshold
        )
    values = np.empty((len(metrics), count))
    starts = np.cumsum(lengths) - lengths
    by_length = np.argsort(-lengths, kind="stable")
    first = 0
    while first < count:
        longest = int(lengths[by_length[first]])
        size = max(1, CELLS_PER_BLOCK // longest) if longest else count  # the rest is empty
        rows = by_length[first : first + size]
        if not longest:
            lists = rank_lists(*np.zeros((2, len(rows), 0)), None, None, depth, threshold)
            values[:, rows] = [metric(lists) for metric in metrics]
            break
        place = np.arange(longest)
        standing = place < lengths[rows][:, None]
        cell = np.minimum(starts[rows][:, None] + place, len(g) - 1)
        got = standing if ranked is None else standing & ranked.take(cell)
        lists = rank_lists(g.take(cell), s.take(cell), standing, got, depth, threshold)
        values[:, rows] = [metric(lists) for metric in metrics]
        first += len(rows)
    return values


def rank_lists(
    g: np.ndarray,
    s: np.ndarray,
    standing: np.ndarray | None,
    ranked: np.ndarray | None,
    depth: int | None,
    threshold: float,
) -> RankedLists:
    """Sorts one block ``(Q, D)``; ``standing`` and ``ranked`` None for all."""
    count, width = g.shape
    grades = g.astype(np.float64, copy=standing is not None)
    falling = np.negative(s, dtype=np.float64)
    if standing is not None:
        grades[~standing] = 0
    if ranked is not None:
        falling[~ranked] = np.nan  # sorts behind all numbers and equals none
    cut = width if depth is None else min(int(depth), width)
    if 4 * cut >= width:
        order = np.argsort(falling, axis=1)
        place = (order + width * np.arange(count)[:, None]).ravel()
        key = falling.ravel()[place]
        if ranked is not None:
            place, key = place[~np.isnan(key)], key[~np.isnan(key)]
        query = place // max(width, 1)
    else:
        # Only what is not behind the document at the depth, whole ties: few, so sorted as rows.
        last = np.partition(falling, cut - 1, axis=1)[:, cut - 1 : cut]
        place = np.flatnonzero(falling <= np.where(np.isnan(last), np.inf, last))
        query, key = place // width, falling.ravel()[place]
        order = np.lexsort((key, query))
        place, query, key = place[order], query[order], key[order]
    begins = np.ones(len(query), bool)
    begins[1:] = query[1:] != query[:-1]
    start = np.flatnonzero(begins)
    rank = np.arange(1, len(query) + 1) - np.repeat(start, np.diff(np.r_[start, len(query)]))
    begins[1:] |= key[1:] != key[:-1]
    tie = np.cumsum(begins) - 1
    best = -np.sort(np.partition(-grades, cut - 1, axis=1)[:, :cut] if cut < width else -grades)
    return RankedLists(
        count=count,
        query=query,
        rank=rank,
        grade=grades.ravel()[place],
        tie=tie,
        tie_first=rank[begins],
        tie_size=np.bincount(tie),
        relevant=np.count_nonzero(grades >= threshold, axis=1),
        threshold=threshold,
        ideal=best,
    )


def query_codes(queries: ArrayLike, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The number of each row's list, in order of first appearance, and the lists' names."""
    series = pd.Series(queries)
    if len(series) != rows or np.ndim(queries) != 1:
        raise ValueError(
            f"queries must have one value for each of {rows} rows; got shape {np.shape(queries)}"
        )
    values = series.to_numpy() if series.dtype.kind in "iu" else None
    if values is not None and rows and (values[1:] >= values[:-1]).all():
        new = values[1:] != values[:-1]  # in order already: quicker than a table of hashes
        return np.r_[0, np.cumsum(new)], values[np.r_[True, new]]
    codes, ids = pd.factorize(series)
    if (codes < 0).any():
        raise ValueError(f"queries has a missing value at position {int(np.argmin(codes))}")
    return codes, np.asarray(ids)


def check_depth(k: int | None) -> None:
    """Refuses a k that is not a count of ranks."""
    if k is not None and (not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 1):
        raise ValueError(f"k must be at least 1 or None; got {k}")


def check_threshold(relevant: float) -> None:
    """Refuses a lowest relevant grade that would make every document relevant, or none."""
    if not (is_number(relevant) and np.isfinite(relevant) and relevant > 0):
        raise ValueError(f"relevant must be a grade above 0; got {relevant}")


def as_precise_as(relevant: float, dtype: np.dtype) -> float:
    """The lowest relevant grade as rounded in grades of this type: 0.01 is another in float32."""
    return float(dtype.type(relevant)) if dtype.kind == "f" else float(relevant)


def is_number(value: object) -> bool:
    """Whether a setting is a number; True and False are not."""
    kinds = (int, float, np.integer, np.floating)
    return isinstance(value, kinds) and not isinstance(value, bool)


def _evaluate_padded(
    metrics: Sequence[Metric],
    g: np.ndarray,
    s: np.ndarray,
    standing: np.ndarray | None,
    ranked: np.ndarray | None,
    depth: int | None,
    threshold: float,
) -> np.ndarray:
    values = np.empty((len(metrics), len(g)))
    for rows in _blocks(*g.shape):
        lists = rank_lists(
            g[rows],
            s[rows],
            None if standing is None else standing[rows],
            None if ranked is None else ranked[rows],
            depth,
            threshold,
        )
        values[:, rows] = [metric(lists) for metric in metrics]
    return values


def _blocks(count: int, width: int) -> Iterator[slice]:
    size = max(1, CELLS_PER_BLOCK // max(width, 1))
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _checked(
    gains: ArrayLike,
    scores: ArrayLike,
    mask: ArrayLike | None,
    retrieved: ArrayLike | None,
    long: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Numbers as they came, with the masks of what stands and what is ranked (None for all)."""
    g, s = _numbers(gains, "gains"), _in_float_range(_numbers(scores, "scores"))
    standing = None if mask is None else _truth_values(mask, "mask")
    ranked = None if retrieved is None else _truth_values(retrieved, "retrieved")
    given = [a for a in (g, s, standing, ranked) if a is not None]
    shapes = ", ".join(str(a.shape) for a in given)
    if not (g.size or s.size):
        raise ValueError(f"gains and scores are empty; got shapes {shapes}")
    if g.ndim not in ((1,) if long else (1, 2)) or len({a.shape for a in given}) > 1:
        wanted = "(N,) where queries are given" if long else "(D,) or (Q, D)"
        raise ValueError(
            f"gains, scores, mask and retrieved must have one shape, {wanted}; got {shapes}"
        )
    if standing is not None:
        ranked = standing if ranked is None else ranked & standing
    _refuse_nan(g, standing, "gains")
    _refuse_nan(s, ranked, "scores")
    counted = g if standing is None else g[standing]
    if counted.size and not (counted.min() >= 0 and np.isfinite(counted.max())):
        raise ValueError(
            f"gains must be finite and not negative; got {counted.min():g} to {counted.max():g}"
            " (to count negative grades as not relevant, raise them to 0)"
        )
    return g, s, standing, ranked


def _numbers(values: ArrayLike, name: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} must have rows of one length; pad them, with a mask") from None
    if array.dtype.kind in "fiub":
        return array
    try:
        if array.dtype.kind in "cmM":
            raise TypeError
        return array.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be numbers") from None


def _in_float_range(scores: np.ndarray) -> np.ndarray:
    """Whole numbers that float64 would confuse, replaced by smaller ones in the same order."""
    largest = 2**53
    if scores.dtype.kind not in "iu" or not scores.size:
        return scores
    if int(scores.max()) <= largest and int(scores.min()) >= -largest:
        return scores
    return np.unique(scores, return_inverse=True)[1].reshape(scores.shape)


def _truth_values(values: ArrayLike, name: str) -> np.ndarray:
    try:
        array = np.asarray(values)
        if array.dtype.kind == "b":
            return array
        numbers = array.astype(np.float64)
        if array.dtype.kind not in "iufO" or not ((numbers == 0) | (numbers == 1)).all():
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be True or False, one for each document") from None
    return numbers == 1


def _refuse_nan(values: np.ndarray, looked_at: np.ndarray | None, name: str) -> None:
    if values.dtype.kind != "f" or not np.isnan(values.min()):
        return
    missing = np.isnan(values) if looked_at is None else np.isnan(values) & looked_at
    if missing.any():
        remedy = (
            "give 0 to an unjudged document, or leave it out by the mask"
            if name == "gains"
            else "give -inf to rank a document last"
        )
        raise ValueError(f"{name} has {int(missing.sum())} NaN; {remedy}")
