"""Metrics of a binary classifier, each against scikit-learn in the tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from recsys_lib.metrics._checks import (
    binary,
    labels_and_scores,
    same_length,
    weights_for,
)


def auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative.

    A tie counts one half. Also called the Mann-Whitney statistic, ``U / (n₁ n₀)``, or concordance.

    Args:
        labels: 0/1, shape ``(n,)``; both classes must occur.
        scores: any real scores, ``(n,)``; only their order matters.
        weights: not negative, ``(n,)``.

    Raises:
        ValueError: on NaN, unequal lengths, labels other than 0/1, one class only.

    Source: Hanley, McNeil (1982), Radiology 143, eq. 1-2.
    """
    y, s = labels_and_scores(labels, scores, both=True)
    w = weights_for(y, weights)
    if w[y == 1].sum() == 0 or w[y == 0].sum() == 0:
        raise ValueError("all the weight is on one class; this metric needs both")
    return float(WeightedAUC(y, s)(w[:, None])[0])


def average_precision(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None
) -> float:
    """Area under the precision-recall steps: ``Σ (R_k - R_{k-1}) P_k`` over distinct scores.

    Args:
        labels: 0/1, ``(n,)``; at least one positive. A random score has the share of positives.
        scores: any real scores, ``(n,)``.
        weights: not negative, ``(n,)``.

    Raises:
        ValueError: as ``auc``, or without a positive.
    """
    y, s = labels_and_scores(labels, scores)
    w = weights_for(y, weights)
    if w[y == 1].sum() == 0:
        raise ValueError("average precision needs at least one positive label")
    return float(WeightedAP(y, s)(w[:, None])[0])


def log_loss(labels: ArrayLike, probs: ArrayLike, *, clip: float | None = None) -> float:
    """Mean of ``-y log p - (1 - y) log(1 - p)``, in nats.

    Args:
        labels: 0/1, ``(n,)``.
        probs: probabilities of class 1, ``(n,)``.
        clip: move probabilities into ``[clip, 1 - clip]`` first. By default nothing is clipped: one
            certain and wrong prediction makes the loss infinite, as it should.

    Raises:
        ValueError: on NaN, unequal lengths, values outside [0, 1].
    """
    y, p = labels_and_scores(labels, probs, probabilities=True, name="probs")
    if clip is not None:
        if not 0 < clip < 0.5:
            raise ValueError(f"clip must be between 0 and 0.5; got {clip}")
        p = np.clip(p, clip, 1 - clip)
    return float(row_log_loss(y, p).mean())


def brier(labels: ArrayLike, probs: ArrayLike) -> float:
    """Mean of ``(p - y)²``: the Brier score. Brier (1950), Monthly Weather Review 78.

    Raises:
        ValueError: on NaN, unequal lengths, values outside [0, 1].
    """
    y, p = labels_and_scores(labels, probs, probabilities=True, name="probs")
    return float(((p - y) ** 2).mean())


def confusion(labels: ArrayLike, predicted: ArrayLike) -> np.ndarray:
    """Counts, int64 ``(2, 2)``: row = true class, column = predicted: ``[[TN, FP], [FN, TP]]``.

    Args:
        labels, predicted: 0/1, each ``(n,)``.
    """
    y, decided = binary(labels), binary(predicted, "predicted")
    same_length(y, decided, "predicted")
    return np.bincount(2 * y + decided, minlength=4).reshape(2, 2)


def accuracy(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Share of right decisions."""
    return _from_confusion("accuracy", labels, predicted)


def precision(labels: ArrayLike, predicted: ArrayLike, positive: int = 1) -> float:
    """Of the rows decided ``positive``, the share that is; 0 when none was (as scikit-learn)."""
    return _from_confusion("precision", labels, predicted, positive)


def recall(labels: ArrayLike, predicted: ArrayLike, positive: int = 1) -> float:
    """Of the rows that are ``positive``, the share found; 0 when there is none."""
    return _from_confusion("recall", labels, predicted, positive)


def f1(labels: ArrayLike, predicted: ArrayLike, positive: int = 1) -> float:
    """Harmonic mean of precision and recall of one class, ``2 TP / (2 TP + FP + FN)``."""
    return _from_confusion("f1", labels, predicted, positive)


def macro_f1(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Mean of the F1 of the two classes: each counts the same, however rare."""
    return _from_confusion("macro_f1", labels, predicted)


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False-positive rate, true-positive rate and threshold, one point per distinct score.

    Decisions are ``score >= threshold``; the first point is (0, 0) at threshold infinity.

    Returns:
        Three arrays ``(number of distinct scores + 1,)``, thresholds falling.
    """
    y, s = labels_and_scores(labels, scores, both=True)
    true_positives, false_positives, thresholds = _cumulative(y, s)
    return (
        np.r_[0.0, false_positives / false_positives[-1]],
        np.r_[0.0, true_positives / true_positives[-1]],
        np.r_[np.inf, thresholds],
    )


def pr_curve(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and threshold, one point per distinct score, thresholds falling.

    Decisions are ``score >= threshold``. There is no made-up point at recall 0, where precision has
    no value.

    Returns:
        Three arrays ``(number of distinct scores,)``.
    """
    y, s = labels_and_scores(labels, scores)
    if not y.any():
        raise ValueError("a precision-recall curve needs at least one positive label")
    true_positives, false_positives, thresholds = _cumulative(y, s)
    return (
        true_positives / (true_positives + false_positives),
        true_positives / true_positives[-1],
        thresholds,
    )


# ------------------------------------------- the same for many weightings of the rows at a time


class WeightedAUC:
    """AUC under many weightings of the same rows: sorted once, then one pass per weighting.

    For a positive at score s the numerator takes the weight of the negatives below s and half of
    those at s (weighted mid-ranks).
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray) -> None:
        self.negatives = np.flatnonzero(labels == 0)
        self.negatives = self.negatives[np.argsort(scores[self.negatives], kind="stable")]
        self.positives = np.flatnonzero(labels == 1)
        self.positives = self.positives[np.argsort(scores[self.positives], kind="stable")]
        ladder = scores[self.negatives]
        self.below = np.searchsorted(ladder, scores[self.positives], side="left")
        self.up_to = np.searchsorted(ladder, scores[self.positives], side="right")
        self.ties = bool((self.below != self.up_to).any())

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """``weights`` ``(rows, n)`` → AUC ``(n,)``; NaN where a class has no weight."""
        negative = np.zeros((len(self.negatives) + 1, weights.shape[1]), weights.dtype)
        np.cumsum(weights[self.negatives], axis=0, out=negative[1:])
        positive = weights[self.positives]
        won = np.einsum("ij,ij->j", positive, negative[self.below])
        if self.ties:
            won = (won + np.einsum("ij,ij->j", positive, negative[self.up_to])) / 2
        pairs = positive.sum(axis=0) * negative[-1].astype(np.float64)
        return ratio(won, pairs, empty=np.nan)


class WeightedAP:
    """Average precision under many weightings of the same rows."""

    def __init__(self, labels: np.ndarray, scores: np.ndarray) -> None:
        self.order = np.argsort(-scores, kind="stable")
        self.is_positive = (labels[self.order] == 1)[:, None]
        self.ends = _last_of_each(scores[self.order])

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """``weights`` ``(rows, n)`` → average precision ``(n,)``; NaN without a positive."""
        weights = weights[self.order]
        hits = np.cumsum(weights * self.is_positive, axis=0)[self.ends]
        taken = np.cumsum(weights, axis=0)[self.ends]
        steps = np.diff(hits, axis=0, prepend=0)
        return ratio((steps * ratio(hits, taken)).sum(axis=0), hits[-1], empty=np.nan)


CONFUSION_METRICS = ("accuracy", "precision", "recall", "f1", "macro_f1")


def confusion_metric(name: str, cells: np.ndarray, positive: int = 1) -> np.ndarray:
    """A metric from confusion cells: ``cells`` ``(..., 4)`` = TN, FP, FN, TP → ``(...)``."""
    tn, fp, fn, tp = np.moveaxis(np.asarray(cells, dtype=np.float64), -1, 0)
    if name == "accuracy":
        return ratio(tn + tp, tn + fp + fn + tp)
    if name == "macro_f1":
        return (ratio(2 * tp, 2 * tp + fp + fn) + ratio(2 * tn, 2 * tn + fp + fn)) / 2
    if positive not in (0, 1):
        raise ValueError(f"positive must be 0 or 1; got {positive}")
    if positive == 0:
        tp, fp, fn = tn, fn, fp
    if name == "precision":
        return ratio(tp, tp + fp)
    if name == "recall":
        return ratio(tp, tp + fn)
    return ratio(2 * tp, 2 * tp + fp + fn)


def row_log_loss(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Log loss of each row; infinite where a certain prediction is wrong."""
    with np.errstate(divide="ignore"):
        return np.where(y == 1, -np.log(p), -np.log1p(-p))


def ratio(a: np.ndarray, b: np.ndarray, empty: float = 0.0) -> np.ndarray:
    """``a / b``, and ``empty`` where b is 0."""
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    return np.divide(a, b, out=np.full(a.shape, empty), where=b != 0)


def _from_confusion(name: str, labels: ArrayLike, predicted: ArrayLike, positive: int = 1) -> float:
    return float(confusion_metric(name, confusion(labels, predicted).ravel(), positive))


def _last_of_each(ordered: np.ndarray) -> np.ndarray:
    """Positions at which a run of equal values ends."""
    return np.r_[np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1]


def _cumulative(y: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order = np.argsort(-s, kind="stable")
    ends = _last_of_each(s[order])
    true_positives = np.cumsum(y[order], dtype=np.int64)[ends]
    return true_positives, ends + 1 - true_positives, s[order][ends]
