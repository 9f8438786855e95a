"""p values by shuffling, and how far another draw of the shuffles could move them.

A p value of n shuffles estimates that of all of them. As a test it is valid for any n; but where it
lies near the level, another seed may decide otherwise. So it comes with the interval in which the p
value of all shuffles lies.

Sources: Phipson, Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9 (the added one); Clopper, Pearson
(1934), Biometrika 26 (the interval); Besag, Clifford (1991), Biometrika 78 (when to stop).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import beta

from recsys_lib.metrics import holm

ENOUGH = 400  # shuffles as extreme as the observed, after which no more are drawn
MOST = 200_000  # shuffles
_EXACT = 20_000  # subsets, up to which all are tried
_BLOCK = 256


@dataclass(frozen=True)
class Chance:
    """p values of several tests, ``(tests,)``, with the ends of their Monte Carlo intervals, and
    the least p that the most extreme shuffle could have."""

    p: np.ndarray
    low: np.ndarray
    high: np.ndarray
    least: np.ndarray


def monte_carlo_interval(
    extreme: ArrayLike, n: ArrayLike, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Where the p value of all shuffles lies, if `extreme` of n drawn ones were as extreme.

    Clopper and Pearson's interval of a share; arrays of any one shape.
    """
    x, n = np.asarray(extreme, dtype=np.float64), np.asarray(n, dtype=np.float64)
    tail = (1 - level) / 2
    low = np.where(x > 0, beta.ppf(tail, np.maximum(x, 1), n - x + 1), 0.0)
    high = np.where(x < n, beta.ppf(1 - tail, x + 1, np.maximum(n - x, 1)), 1.0)
    return low, high


def undecided(low: ArrayLike, high: ArrayLike, alpha: float = 0.05) -> np.ndarray:
    """Which tests of a family another seed could decide otherwise, boolean ``(tests,)``.

    low, high: Monte Carlo intervals of the uncorrected p values. Holm's correction only grows with
    its p values, so the corrected p of all shuffles lies between those of the ends.
    """
    return (holm(low) <= alpha + 1e-12) & (holm(high) > alpha + 1e-12)


def least_holm(p: ArrayLike, least: ArrayLike) -> np.ndarray:
    """The least corrected p that each test of a family could have had, ``(tests,)``.

    p: of the tests, NaN where there is none. least: the least that each could have had, had its
    data been the most extreme, while the others keep theirs. Above the level of the family a test
    can show nothing, whatever the data say: it is not testable.
    """
    p, least = np.asarray(p, dtype=np.float64), np.asarray(least, dtype=np.float64)
    corrected = np.full(p.shape, np.nan)
    for test in np.flatnonzero(~np.isnan(p)):
        tried = p.copy()
        tried[test] = min(least[test], p[test])
        corrected[test] = holm(tried)[test]
    return corrected


def subset_chance(
    values: ArrayLike, sizes: ArrayLike, observed: ArrayLike, *, n: int = MOST, seed: int = 0
) -> Chance:
    """How often the sum over a random subset lies as far from 0 as the observed one.

    Args:
        values: ``(units,)``, such as each brand's exposure less its merit.
        sizes: ``(tests,)``, units in each class: all classes there are, so that they add up to the
            units. observed: ``(tests,)``, the sum of each class, to compare with.
        n: subsets at most.
        seed: of the subsets.

    Where every test has at most 20,000 subsets all are tried and p is exact. Otherwise each test
    draws until `ENOUGH` subsets were as extreme (p = their share) or n were drawn
    (p = (1 + as extreme) / (1 + n)). Sums that differ by less than rounding count as equal.

    Raises ValueError for sizes that do not add up to the units.
    """
    values, sizes = np.asarray(values, dtype=np.float64), np.asarray(sizes, dtype=np.int64)
    if sizes.sum() != len(values):
        raise ValueError(f"sizes add up to {sizes.sum()} for {len(values)} values")
    least = np.abs(np.asarray(observed, dtype=np.float64)) - 1e-12 * np.abs(values).sum()
    if all(comb(len(values), int(size)) <= _EXACT for size in sizes):
        tried = [_all_subsets(values, k, a) for k, a in zip(sizes, least, strict=True)]
        p, p_least = np.array(tried).T
        return Chance(p, p, p, p_least)
    starts = np.cumsum(sizes) - sizes
    rng = np.random.default_rng(seed)
    seen, drawn = (np.zeros(len(sizes), dtype=np.int64) for _ in range(2))
    for size in blocks(n, _BLOCK):
        open_ = np.flatnonzero(seen < ENOUGH)
        if not len(open_):
            break
        mixed = rng.permuted(np.broadcast_to(values, (size, len(values))), axis=1)
        sums = np.add.reduceat(mixed, starts, axis=1)[:, open_]
        running = seen[open_] + np.cumsum(np.abs(sums) >= least[open_], axis=0)
        reached = running >= ENOUGH
        last = np.where(reached.any(axis=0), reached.argmax(axis=0), size - 1)
        seen[open_] = running[last, np.arange(len(open_))]
        drawn[open_] += last + 1
    low, high = monte_carlo_interval(seen, drawn)
    p = np.where(seen == ENOUGH, seen / drawn, (1 + seen) / (1 + drawn))
    rarest = [max(1 / (1 + n), 1 / comb(len(values), int(size))) for size in sizes]
    return Chance(p, low, high, np.minimum(p, rarest))


def blocks(n: int, size: int) -> Iterator[int]:
    """Sizes of the blocks in which n are done, `size` at a time."""
    for start in range(0, n, size):
        yield min(size, n - start)


def _all_subsets(values: np.ndarray, size: int, least: float) -> tuple[float, float]:
    fewer = min(size, len(values) - size)  # what is left out adds up to the rest
    sums = values[_subsets(len(values), fewer)].sum(axis=1)
    sums = sums if fewer == size else values.sum() - sums
    far = np.abs(sums)
    most = far.max() - 1e-12 * np.abs(values).sum()
    return float((far >= least).mean()), float((far >= most).mean())


@lru_cache(maxsize=4)
def _subsets(n: int, size: int) -> np.ndarray:
    """(subsets, size) int64: every way to take `size` of n."""
    return np.array(list(combinations(range(n), size)), dtype=np.int64)
