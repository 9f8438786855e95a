"""Re-ranking so that a class of products gets at least a given share of the attention.

Of all ways to give the favored products a share of attention, the best orders every list by
score + bonus, with one bonus for all queries: by the rearrangement inequality this order maximizes
Σ attention · (score + bonus · favored), the Lagrangian of "most attention-weighted score subject to
the share". The smallest bonus that reaches the share is found by bisection; 0 is no constraint.

Source: Singh, Joachims (2018), Fairness of exposure in rankings, KDD, whose linear program this
solves for one constraint over all queries together (so a list may go without, if others make up).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from recsys_lib.fairness.exposure import attention, checked_weights, exposure_per_query, query_units
from recsys_lib.metrics import Estimate, bootstrap_mean, ndcg
from recsys_lib.workbook.errors import InputError


def rank_with_bonus(
    scores: ArrayLike, favored: ArrayLike, k: int, bonus: float = 0.0
) -> np.ndarray:
    """(Q, k) int64: the rows of the k highest score + bonus · favored of each query, best first.

    scores: (Q, N), -inf for a product that may not be listed. favored: bool (N,). Of equal ones the
    lower row comes first; -1 where a list ends.
    """
    scores, favored = _checked(scores, favored)
    lifted = scores + bonus * favored
    if k < 1:
        raise InputError(f"k = {k}: a list has at least one position.")
    k = min(k, scores.shape[1])
    best = np.argpartition(-lifted, k - 1, axis=1)[:, :k]
    level = np.take_along_axis(lifted, best, axis=1).min(axis=1, keepdims=True)
    tied = np.flatnonzero(((lifted >= level).sum(axis=1) > k) & np.isfinite(level[:, 0]))
    best[tied] = np.argsort(-lifted[tied], axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(lifted, best, axis=1)
    order = np.lexsort((best, -values), axis=1)
    best, values = (np.take_along_axis(a, order, axis=1) for a in (best, values))
    return np.where(np.isneginf(values), -1, best)


def favored_share(rows: np.ndarray, favored: ArrayLike, weights: ArrayLike) -> np.ndarray:
    """(Q,) the share of each list's attention that favored products get; NaN for an empty list."""
    favored = np.asarray(favored, dtype=bool)
    return exposure_per_query(rows, weights, len(favored)) @ favored


def bonus_for(
    scores: ArrayLike,
    favored: ArrayLike,
    least: float,
    *,
    k: int = 10,
    weights: ArrayLike | None = None,
) -> float:
    """The smallest bonus (to 1e-6 of the scores' range) whose mean `favored_share` is ≥ `least`.

    Raises InputError where no bonus reaches it (too few favored products may be listed), or for
    weights as in `exposure_per_query`.
    """
    scores, favored = _checked(scores, favored)
    length = min(k, scores.shape[1])
    weights = attention(length) if weights is None else checked_weights(weights, length)
    # with any bonus, the best k of all are among the best k of either kind
    kinds = [rank_with_bonus(np.where(kind, scores, -np.inf), favored, k)
             for kind in (favored, ~favored)]  # fmt: skip
    rows = np.sort(np.concatenate(kinds, axis=1), axis=1)
    best = np.where(rows >= 0, np.take_along_axis(scores, rows, axis=1), -np.inf)
    lifts = favored[rows] & (rows >= 0)

    def share(bonus: float) -> float:
        lifted = best + bonus * lifts
        order = np.argsort(-lifted, axis=1, kind="stable")[:, : len(weights)]
        listed = np.isfinite(np.take_along_axis(lifted, order, axis=1)) * weights
        given = (np.take_along_axis(lifts, order, axis=1) * listed).sum(axis=1)
        total = listed.sum(axis=1)
        return float((given[total > 0] / total[total > 0]).mean())

    finite = scores[np.isfinite(scores)]
    if not len(finite):
        raise InputError("scores: no product may be listed for any query.")
    low, high = 0.0, float(np.ptp(finite)) * (1 + 1e-6) + 1e-9
    if share(low) >= least:
        return low
    if (most := share(high)) < least:
        raise InputError(
            f"least = {least}: favored products can have at most {most:.3f} of the attention here; "
            "ask for less, or let more of them into the lists."
        )
    tolerance = high * 1e-6
    while high - low > tolerance:
        middle = (low + high) / 2
        low, high = (low, middle) if share(middle) >= least else (middle, high)
    return high


@dataclass(frozen=True)
class Reranked:
    """One point of the tradeoff.

    least: the share of attention asked for on the tuning queries (NaN: no constraint). bonus: what
    it took. share: what the favored products got on the test queries. gap: |share − their merit|;
    quality: NDCG@k. share_change and quality_change: against no constraint, paired by query.
    rows: (Q, k) the rankings of the test queries.
    """

    least: float
    bonus: float
    share: Estimate
    gap: Estimate
    quality: Estimate
    share_change: Estimate
    quality_change: Estimate
    rows: np.ndarray


def exposure_tradeoff(
    tune_scores: ArrayLike,
    test_scores: ArrayLike,
    gains: ArrayLike,
    favored: ArrayLike,
    leasts: Sequence[float],
    *,
    k: int = 10,
    weights: ArrayLike | None = None,
    groups: Sequence[Hashable] | None = None,
    n: int = 2000,
    seed: int = 0,
) -> list[Reranked]:
    """What a share of attention costs: first no constraint, then each of `leasts`.

    The bonus is found on the tuning queries and applied to the test queries as it is.

    Args:
        tune_scores, test_scores: (Q, N) of other queries and of the test queries, on one scale.
        gains: (Q, N) how relevant each product is to each test query, such as 2^grade − 1.
        favored: bool (N,). Their merit is their mean share of the gains.
        leasts: shares of attention.
        k, weights: positions, and their attention.
        groups: (Q,) of the test queries: those that say the same are resampled as a whole. By
            default each query stands alone.
        n, seed: of the bootstrap over test queries.

    Raises InputError as `bonus_for`, for shapes that do not fit, a missing group, or one only.
    """
    test_scores, favored = _checked(test_scores, favored)
    gains = np.asarray(gains, dtype=np.float64)
    if gains.shape != test_scores.shape:
        raise InputError(f"gains: shape {gains.shape} for scores of shape {test_scores.shape}.")
    weights = attention(min(k, test_scores.shape[1])) if weights is None else weights
    if not np.isfinite(gains).all() or gains.min() < 0:
        raise InputError("gains: must be finite and not negative.")
    total = gains.sum(axis=1)
    kept = (total > 0) & np.isfinite(test_scores).any(axis=1)
    if not kept.any():
        raise InputError("gains: no test query has both a relevant product and a list.")
    test_scores, gains, total = test_scores[kept], gains[kept], total[kept]
    units = None if groups is None else query_units(groups, kept)
    due = gains @ favored / total
    found: list[Reranked] = []
    first: tuple[np.ndarray, np.ndarray] | None = None
    for least in (np.nan, *leasts):
        bonus = 0.0
        if not np.isnan(least):
            bonus = bonus_for(tune_scores, favored, least, k=k, weights=weights)
        rows = rank_with_bonus(test_scores, favored, k, bonus)
        share = favored_share(rows, favored, weights)
        quality = _ndcg(rows, gains, k)
        first = first or (share, quality)
        estimates = [
            bootstrap_mean(values, groups=units, n=n, seed=seed)
            for values in (share, quality, share - first[0], quality - first[1])
        ]
        gap = _absolute(bootstrap_mean(share - due, groups=units, n=n, seed=seed))
        found.append(
            Reranked(
                least, bonus, estimates[0], gap, estimates[1], estimates[2], estimates[3], rows
            )
        )
    return found


def _ndcg(rows: np.ndarray, gains: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k of each list, of gains as they are."""
    scores = np.full(gains.shape, -np.inf)
    query, at = np.nonzero(rows >= 0)
    scores[query, rows[query, at]] = -at
    return ndcg(gains, scores, k=k, gain="linear")


def _absolute(gap: Estimate) -> Estimate:
    """The interval of |x| that follows from that of x."""
    ends = sorted((abs(gap.low), abs(gap.high)))
    low = 0.0 if gap.low <= 0 <= gap.high else ends[0]
    return Estimate(abs(gap.value), low, ends[1], gap.level, gap.n, gap.units, gap.method)


def _checked(scores: ArrayLike, favored: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    scores, favored = np.asarray(scores, dtype=np.float64), np.asarray(favored)
    if scores.ndim != 2 or not scores.size or favored.shape != scores.shape[1:]:
        raise InputError(
            f"scores: shape {scores.shape} and favored {favored.shape}; needed are (queries, "
            "products) and (products,)."
        )
    if favored.dtype != bool:
        raise InputError("favored: must be true or false for each product.")
    if np.isnan(scores).any() or np.isposinf(scores).any():
        raise InputError("scores: must be finite, or −inf for a product that may not be listed.")
    return scores, favored
