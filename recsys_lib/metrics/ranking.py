"""Ranking metrics for graded relevance.

One convention, written down once:

* gain ``2^g - 1`` ("exponential", default) or ``g`` ("linear"); grades are not negative;
* discount ``1 / log2(1 + rank)``, rank 1 first, zero beyond ``k``; a ``k`` beyond the list is the
  whole list;
* tied scores share the mean gain of the ranks that they cover, which is the expectation over all
  orders of the tied;
* a list without a relevant document has no NDCG: NaN, to be left out of a mean, never 0 or 1;
* a missing score is an error: give such a document ``-inf`` to rank it last.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

GAINS = ("exponential", "linear")


def dcg(
    gains: ArrayLike,
    scores: ArrayLike,
    k: int | None = None,
    *,
    gain: str = "exponential",
    mask: ArrayLike | None = None,
) -> float | np.ndarray:
    """Discounted cumulative gain of the list sorted by falling score.

    Args:
        gains: grades, ``(D,)`` or ``(Q, D)``.
        scores: same shape.
        k: ranks that count; None for all.
        gain: "exponential" or "linear".
        mask: same shape, True where a document stands (for padded lists); default all.

    Returns:
        A float for one list, ``(Q,)`` for many.

    Raises:
        ValueError: on NaN, negative grades, unequal shapes, a bad ``k`` or ``gain``.

    Source: Järvelin, Kekäläinen (2002), ACM TOIS 20; exponential gain: Burges et al. (2005), ICML.
    """
    g, s, kept, single = _checked(gains, scores, k, gain, mask)
    value = _expected_dcg(g, s, kept, k)
    return float(value[0]) if single else value


def ndcg(
    gains: ArrayLike,
    scores: ArrayLike,
    k: int | None = None,
    *,
    gain: str = "exponential",
    mask: ArrayLike | None = None,
) -> float | np.ndarray:
    """DCG divided by the DCG of the ideal order, in [0, 1]; NaN for a list without relevance.

    Arguments, errors and source as ``dcg``. For the mean over queries: ``np.nanmean``.
    """
    g, s, kept, single = _checked(gains, scores, k, gain, mask)
    ideal = _expected_dcg(g, g, kept, k)
    value = np.full(len(g), np.nan)
    np.divide(_expected_dcg(g, s, kept, k), ideal, out=value, where=ideal > 0)
    return float(value[0]) if single else value


def _checked(
    gains: ArrayLike, scores: ArrayLike, k: int | None, gain: str, mask: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    g, s = np.asarray(gains, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    kept = np.ones(g.shape, bool) if mask is None else np.asarray(mask).astype(bool)
    if g.ndim not in (1, 2) or g.shape != s.shape or g.shape != kept.shape or not g.size:
        raise ValueError(
            "gains, scores and mask must have one shape, (D,) or (Q, D); "
            f"got {g.shape}, {s.shape} and {kept.shape}"
        )
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1 or None; got {k}")
    if gain not in GAINS:
        raise ValueError(f"gain is {gain!r}; it must be one of {GAINS}")
    for name, values in (("gains", g), ("scores", s)):
        if np.isnan(values[kept]).any():
            raise ValueError(f"{name} has {int(np.isnan(values[kept]).sum())} NaN")
    if not ((g[kept] >= 0) & np.isfinite(g[kept])).all():
        raise ValueError("gains must be finite and not negative")
    g = np.where(kept, g, 0.0)
    g = np.exp2(g) - 1 if gain == "exponential" else g
    return np.atleast_2d(g), np.atleast_2d(s), np.atleast_2d(kept), g.ndim == 1


def _expected_dcg(g: np.ndarray, s: np.ndarray, kept: np.ndarray, k: int | None) -> np.ndarray:
    """DCG of each row, tied scores sharing the discounts of the ranks that they cover."""
    depth = g.shape[1]
    discount = 1 / np.log2(np.arange(2, depth + 2))
    discount[depth if k is None else k :] = 0
    # Padding sorts behind every document, those with score -inf included.
    order = np.lexsort((np.where(kept, -s, 0.0), ~kept), axis=1)
    ranked, standing = np.take_along_axis(s, order, 1), np.take_along_axis(kept, order, 1)
    new = np.ones(g.shape, bool)
    new[:, 1:] = (ranked[:, 1:] != ranked[:, :-1]) | (standing[:, 1:] != standing[:, :-1])
    tie = np.cumsum(new.ravel()) - 1  # number of the run of equal scores, across all rows
    shared = np.bincount(tie, np.tile(discount, len(g))) / np.bincount(tie)
    return (np.take_along_axis(g, order, 1) * shared[tie].reshape(g.shape)).sum(axis=1)
