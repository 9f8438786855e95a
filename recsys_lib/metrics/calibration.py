"""Does a probability mean what it says, and where is the threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from recsys_lib.metrics._checks import labels_and_scores


def sigmoid(z: ArrayLike) -> np.ndarray:
    """``1 / (1 + exp(-z))`` in float64 without overflow, any shape."""
    z = np.asarray(z, dtype=np.float64)
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, small) / (1.0 + small)


@dataclass(frozen=True)
class CalibrationTable:
    """One entry per bin that holds a row; all arrays ``(bins,)``.

    ``left``, ``right``: edges of the bin. ``n``: rows in it. ``predicted``: mean probability.
    ``observed``: share of positives; ``low``, ``high``: its 95 % Wilson interval for independent
    rows (Wilson 1927, JASA 22). ``pandas.DataFrame(dataclasses.asdict(table))`` is a table that
    ``plots.calibration`` draws.
    """

    left: np.ndarray
    right: np.ndarray
    n: np.ndarray
    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray


def calibration_table(
    labels: ArrayLike, probs: ArrayLike, bins: int = 10, *, by: str = "width"
) -> CalibrationTable:
    """Predicted against observed shares in bins of the predicted probability.

    Args:
        labels: 0/1, ``(n,)``.
        probs: probabilities of class 1, ``(n,)``.
        bins: number of bins.
        by: "width" for bins of equal width in [0, 1] (closed on the right, the first on both
            sides), "count" for bins of about equal numbers of rows; equal probabilities are never
            parted.

    Raises:
        ValueError: on NaN, unequal lengths, values outside [0, 1], a bad ``bins`` or ``by``.
    """
    y, p = labels_and_scores(labels, probs, probabilities=True, name="probs")
    if bins < 1:
        raise ValueError(f"bins must be at least 1; got {bins}")
    if by == "width":
        edges = np.linspace(0, 1, bins + 1)
    elif by == "count":
        edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)))
        edges = edges if len(edges) > 1 else np.repeat(edges, 2)
    else:
        raise ValueError(f"by is {by!r}; it must be 'width' or 'count'")
    place = np.searchsorted(edges[1:-1], p, side="left")
    count = np.bincount(place, minlength=len(edges) - 1)
    filled = count > 0
    count = count[filled]
    positives = np.bincount(place, weights=y, minlength=len(edges) - 1)[filled]
    counts = zip(positives.astype(int), count, strict=True)
    ends = [binomtest(k, n).proportion_ci(method="wilson") for k, n in counts]
    low, high = np.array(ends).T
    return CalibrationTable(
        left=edges[:-1][filled],
        right=edges[1:][filled],
        n=count,
        predicted=np.bincount(place, weights=p, minlength=len(edges) - 1)[filled] / count,
        observed=positives / count,
        low=low,
        high=high,
    )


def expected_calibration_error(
    labels: ArrayLike, probs: ArrayLike, bins: int = 15, *, by: str = "width"
) -> float:
    """``Σ (n_b / n) |observed_b - predicted_b|`` over the bins of ``calibration_table``.

    Biased upwards in small samples: even a perfect model shows the noise of each bin.

    Source: Naeini, Cooper, Hauskrecht (2015), AAAI; Guo et al. (2017), arXiv 1706.04599, eq. 3.
    """
    table = calibration_table(labels, probs, bins, by=by)
    return float(np.average(np.abs(table.observed - table.predicted), weights=table.n))


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The temperature T > 0 that minimizes the log loss of ``σ(logits / T)``.

    T > 1: the model was too sure. The order of the scores, hence AUC, does not change. The loss is
    convex in 1/T, whose derivative is brought to zero by bisection. Fit it on validation data.

    Args:
        logits: ``(n,)``.
        labels: 0/1, ``(n,)``.

    Raises:
        ValueError: if the logits are no better than chance (T would be infinite) or part the
            classes without a mistake (T would be 0).

    Source: Guo et al. (2017), arXiv 1706.04599, section 4.2.
    """
    y, z = labels_and_scores(labels, logits, both=True, name="logits")
    if not np.isfinite(z).all():
        raise ValueError("logits must be finite")

    def slope(a: float) -> float:
        return float(((sigmoid(a * z) - y) * z).mean())

    if slope(0.0) >= 0:
        raise ValueError("logits are no better than chance on these labels; no temperature helps")
    if (z[y == 1] >= 0).all() and (z[y == 0] <= 0).all():
        raise ValueError(
            "logits decide every label rightly at 0; the best temperature would be 0."
            " Use more data to fit it"
        )
    low, high = 0.0, 1.0 / np.abs(z).max()
    while slope(high) < 0:
        low, high = high, 2 * high
    while high - low > 1e-15 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1.0 / high


def fit_platt(logits: ArrayLike, labels: ArrayLike) -> tuple[float, float]:
    """Slope a and shift b of Platt scaling: ``σ(a·logits + b)`` with the least log loss.

    The shift moves all probabilities up or down, which no temperature can (T is a = 1/T, b = 0).
    In place of the labels stand Platt's targets, ``(n₁ + 1) / (n₁ + 2)`` for 1 and
    ``1 / (n₀ + 2)`` for 0, so that the fit is finite although the logits part the classes. The loss
    is convex; Newton's method, its step halved while it does not help. Fit it on validation data.

    Args:
        logits: ``(n,)``.
        labels: 0/1, ``(n,)``.

    Raises:
        ValueError: if there is one class only, or all logits are equal.

    Source: Platt (1999), Probabilistic outputs for support vector machines, section 2.2; Lin, Lin,
    Weng (2007), Machine Learning 68.
    """
    y, z = labels_and_scores(labels, logits, both=True, name="logits")
    if not np.isfinite(z).all() or np.ptp(z) == 0:
        raise ValueError("logits must be finite and not all equal")
    ones = y.sum()
    target = np.where(y == 1, (ones + 1) / (ones + 2), 1 / (len(y) - ones + 2))
    x = np.stack([(z - z.mean()) / z.std(), np.ones(len(z))], axis=1)

    def loss(fit: np.ndarray) -> float:
        return float(np.logaddexp(0, x @ fit).sum() - target @ (x @ fit))

    fit = np.zeros(2)
    for _ in range(100):
        p = sigmoid(x @ fit)
        slope, curvature = x.T @ (p - target), (x.T * (p * (1 - p))) @ x
        step = np.linalg.solve(curvature, slope)
        while loss(fit - step) > loss(fit) and np.abs(step).max() > 1e-12:
            step /= 2
        fit = fit - step
        if np.abs(step).max() <= 1e-12:
            break
    a, b = fit[0] / z.std(), fit[1] - fit[0] * z.mean() / z.std()
    return float(a), float(b)


def best_threshold(
    labels: ArrayLike, probs: ArrayLike, *, cost_fp: float, cost_fn: float
) -> tuple[float, float]:
    """The threshold with the least mean cost per row, deciding 1 where ``probs >= threshold``.

    Among thresholds of equal cost, the one nearest to ``cost_fp / (cost_fp + cost_fn)`` is taken,
    which is the best threshold for calibrated probabilities. Choose it on validation data.

    Args:
        labels: 0/1, ``(n,)``.
        probs: probabilities of class 1, ``(n,)``.
        cost_fp: cost of a false positive (deciding 1 on a 0); not negative.
        cost_fn: cost of a false negative.

    Returns:
        ``(threshold, mean cost)``. The threshold lies midway between two observed probabilities
        unless the ideal one does as well; above all of them it means: decide 0 always.

    Source: Elkan (2001), The foundations of cost-sensitive learning, IJCAI, eq. 2.
    """
    y, p = labels_and_scores(labels, probs, probabilities=True, name="probs")
    if not (cost_fp >= 0 and cost_fn >= 0 and 0 < cost_fp + cost_fn < np.inf):
        raise ValueError(
            f"costs must be finite, not negative, not both 0; got {cost_fp} and {cost_fn}"
        )
    distinct, place = np.unique(p, return_inverse=True)
    ones = np.bincount(place, weights=y)
    zeros = np.bincount(place, weights=1 - y)
    # Cutting below the i-th distinct value decides 1 for it and all above.
    missed = np.r_[0.0, np.cumsum(ones)]
    false_alarms = zeros.sum() - np.r_[0.0, np.cumsum(zeros)]
    cost = (cost_fp * false_alarms + cost_fn * missed) / len(y)
    lowest = np.r_[0.0, np.nextafter(distinct, 2)]  # of the thresholds that give this cut
    highest = np.r_[distinct, np.nextafter(1, 2)]
    ideal = cost_fp / (cost_fp + cost_fn)
    nearest = np.clip(ideal, lowest, highest)
    best = np.isclose(cost, cost.min(), rtol=1e-12, atol=0)
    choice = np.flatnonzero(best)[np.abs(nearest[best] - ideal).argmin()]
    if lowest[choice] <= ideal <= highest[choice]:
        return float(ideal), float(cost[choice])
    middle = (lowest[choice] + highest[choice]) / 2
    return float(middle), float(cost[choice])
