"""What every metric asks of its input, each failure in one line."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def vector(values: ArrayLike, name: str) -> np.ndarray:
    """A float64 vector without NaN."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be numbers") from None
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension; got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} is empty")
    if np.isnan(array).any():
        where = np.flatnonzero(np.isnan(array))
        raise ValueError(f"{name} has {len(where)} NaN, the first at position {where[0]}")
    return array


def binary(values: ArrayLike, name: str = "labels") -> np.ndarray:
    """A vector of 0 and 1, as int8."""
    array = vector(values, name)
    wrong = array[(array != 0) & (array != 1)]
    if wrong.size:
        raise ValueError(f"{name} must be 0 or 1; got {wrong[0]:g}")
    return array.astype(np.int8)


def labels_and_scores(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    both: bool = False,
    probabilities: bool = False,
    name: str = "scores",
) -> tuple[np.ndarray, np.ndarray]:
    """Checked labels and scores of one length; ``both`` asks for two classes."""
    y, s = binary(labels), vector(scores, name)
    same_length(y, s, name)
    if both and (y == y[0]).all():
        raise ValueError(f"labels hold one class only (all {y[0]}); this metric needs both")
    if probabilities and not ((s >= 0) & (s <= 1)).all():
        raise ValueError(f"{name} must be probabilities in [0, 1]; got {s.min():g} to {s.max():g}")
    return y, s


def same_length(labels: np.ndarray, other: np.ndarray, name: str) -> None:
    if len(labels) != len(other):
        raise ValueError(f"labels have {len(labels)} rows, {name} {len(other)}")


def weights_for(labels: np.ndarray, weights: ArrayLike | None) -> np.ndarray:
    """Weights of the rows, all one by default; not negative, and some above zero."""
    if weights is None:
        return np.ones(len(labels))
    w = vector(weights, "weights")
    same_length(labels, w, "weights")
    if (w < 0).any() or not np.isfinite(w).all() or w.sum() == 0:
        raise ValueError("weights must be finite, not negative, and not all zero")
    return w
