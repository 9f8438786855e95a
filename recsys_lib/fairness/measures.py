"""What is measured in a group, under many weightings of its rows at once.

A resample is a count per row and a shuffle of the groups is a 0/1 per row, so one matrix product
serves thousands of them. The same numbers for one weighting come from fairlearn in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from recsys_lib.metrics.classification import WeightedAUC, ratio, row_log_loss
from recsys_lib.workbook import InputError, nearest

MEASURES = {
    "accuracy": "share of right decisions",
    "base_rate": "share of rows labeled 1",
    "selection_rate": "share of rows decided 1",
    "true_positive_rate": "of the rows labeled 1, the share decided 1",
    "false_positive_rate": "of the rows labeled 0, the share decided 1",
    "precision": "of the rows decided 1, the share labeled 1",
    "auc": "chance that a row labeled 1 scores above one labeled 0",
    "log_loss": "mean log loss of the probabilities, in nats",
    "brier": "mean squared error of the probabilities",
    "mean_error": "mean probability less the share labeled 1: above 0, promises too much",
    "calibration_error": "mean distance between promised and observed share, in ten bins",
}
USUAL = (
    "accuracy",
    "selection_rate",
    "true_positive_rate",
    "false_positive_rate",
    "auc",
    "log_loss",
    "mean_error",
)
RATES = (
    "accuracy",
    "base_rate",
    "selection_rate",
    "true_positive_rate",
    "false_positive_rate",
    "precision",
)
BINS = 10  # of equal width, of the calibration error

Values = Callable[[np.ndarray], np.ndarray]


class Measures:
    """Labels, probabilities and decisions of all rows, and what can be computed from them.

    Attributes:
        names: of the measures, in the order of all results.
        needs: per measure, the rows it is about: boolean ``(classes, rows)``; each of its lines
            must hold enough rows of a group (AUC needs both classes, others have one line).
        strata: per measure, the class of rows within which groups may be shuffled, ``(rows,)``.
    """

    def __init__(
        self,
        labels: ArrayLike,
        probs: ArrayLike,
        names: Sequence[str] = USUAL,
        *,
        threshold: float = 0.5,
    ) -> None:
        self.names = tuple(names)
        if not self.names:
            raise InputError("metrics is empty: name at least one.")
        if len(set(self.names)) < len(self.names):
            raise InputError("metrics names one twice: name each once.")
        for name in self.names:
            if name not in MEASURES:
                known = ", ".join(f'"{known}"' for known in MEASURES)
                raise InputError(
                    f'metrics: "{name}" is not one of {known}.{nearest(name, MEASURES)}'
                )
        self.labels, self.probs = checked(labels, probs)
        self.threshold = threshold
        self.decided = (self.probs >= threshold).astype(np.int8)
        y, p, d = self.labels.astype(float), self.probs, self.decided.astype(float)
        one = np.ones(len(y))
        self._ratios = {
            "accuracy": ((y == d).astype(float), one),
            "base_rate": (y, one),
            "selection_rate": (d, one),
            "true_positive_rate": (y * d, y),
            "false_positive_rate": ((1 - y) * d, 1 - y),
            "precision": (y * d, d),
            "brier": ((p - y) ** 2, one),
            "mean_error": (p - y, one),
        }
        if "log_loss" in self.names:
            loss = row_log_loss(self.labels, p)
            if not np.isfinite(loss).all():
                raise InputError(
                    f"row {np.flatnonzero(~np.isfinite(loss))[0]} has a probability of exactly 0 "
                    "or 1 and the other label, so its log loss is infinite: leave out log_loss."
                )
            self._ratios["log_loss"] = (loss, one)
        place = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], p)
        self._bins = (place[:, None] == np.arange(BINS)) * (p - y)[:, None]
        every = np.ones((1, len(y)), dtype=bool)
        classes = np.stack([y == 0, y == 1])
        self.needs = dict.fromkeys(self.names, every)
        self.needs |= {"true_positive_rate": classes[1:], "false_positive_rate": classes[:1]}
        self.needs |= {"precision": d[None] == 1, "auc": classes}
        nothing = np.zeros(len(y), dtype=np.int8)
        self.strata = dict.fromkeys(self.names, nothing)
        self.strata |= dict.fromkeys(
            ("true_positive_rate", "false_positive_rate", "auc"), self.labels
        )
        self.strata["precision"] = self.decided

    def on(self, rows: np.ndarray | None = None, names: Sequence[str] | None = None) -> Values:
        """A function from weights of these rows, ``(len(rows), n)``, to values ``(names, n)``.

        NaN where a measure has no value (a class without weight).
        """
        names = self.names if names is None else tuple(names)
        rows = np.arange(len(self.labels)) if rows is None else rows
        ratios = [name for name in names if name in self._ratios]
        pairs = [part[rows] for name in ratios for part in self._ratios[name]]
        columns = np.stack(pairs, axis=1) if pairs else np.empty((len(rows), 0))
        areas = WeightedAUC(self.labels[rows], self.probs[rows]) if "auc" in names else None
        bins = self._bins[rows]

        def values(weights: np.ndarray) -> np.ndarray:
            as_floats = weights.astype(np.float64)
            sums = columns.T @ as_floats
            found = {
                name: ratio(sums[2 * i], sums[2 * i + 1], empty=np.nan)
                for i, name in enumerate(ratios)
            }
            if areas is not None:
                found["auc"] = areas(weights)
            if "calibration_error" in names:
                distance = np.abs(bins.T @ as_floats).sum(axis=0)
                found["calibration_error"] = ratio(distance, as_floats.sum(axis=0), empty=np.nan)
            return np.stack([found[name] for name in names])

        return values

    def parts(self, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Numerator and denominator of each row, ``(rows,)``; None if it is no ratio of sums."""
        return self._ratios.get(name)


class MeanMeasure:
    """One number per row, such as the NDCG of each query; its mean is the measure."""

    def __init__(self, values: ArrayLike, name: str) -> None:
        v = _numbers(values, name)
        if v.ndim != 1 or not np.isfinite(v).all():
            raise InputError(f"{name} must be one finite number per row: leave out rows without.")
        self.values, self.names = v, (name,)
        self.needs = {name: np.ones((1, len(v)), dtype=bool)}
        self.strata = {name: np.zeros(len(v), dtype=np.int8)}

    def on(self, rows: np.ndarray | None = None, names: Sequence[str] | None = None) -> Values:
        """As `Measures.on`."""
        column = self.values if rows is None else self.values[rows]

        def values(weights: np.ndarray) -> np.ndarray:
            weights = weights.astype(np.float64)
            return ratio(column @ weights, weights.sum(axis=0), empty=np.nan)[None]

        return values

    def parts(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """As `Measures.parts`."""
        return self.values, np.ones(len(self.values))


def checked(labels: ArrayLike, probs: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Labels (int8) and probabilities (float64), ``(rows,)``; InputError for anything else."""
    y, p = np.asarray(labels), _numbers(probs, "probs")
    if y.ndim != 1 or y.shape != p.shape or not len(y):
        raise InputError(f"labels {y.shape} and probs {p.shape} must be one per row each.")
    if not np.isin(y, (0, 1)).all():
        raise InputError("labels must be 0 or 1 in every row.")
    if not ((p >= 0) & (p <= 1)).all():
        raise InputError("probs must be probabilities from 0 to 1, none missing: see sigmoid.")
    return y.astype(np.int8), p


def _numbers(values: ArrayLike, name: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be numbers in every row.") from error
