"""How far a number may be trusted: bootstrap intervals, paired differences, permutation tests.

The unit that is resampled is the unit that is independent: a row, or a whole group (a product, a
query) where rows of one group resemble each other. A resample is a count per unit, so one sorted
pass serves them all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from recsys_lib.metrics._checks import labels_and_scores, same_length, vector
from recsys_lib.metrics.classification import (
    CONFUSION_METRICS,
    WeightedAP,
    WeightedAUC,
    confusion_metric,
    row_log_loss,
)

RANK_METRICS = ("auc", "average_precision")
PROBABILITY_METRICS = ("brier", "log_loss")
METRICS = (*RANK_METRICS, *PROBABILITY_METRICS, *CONFUSION_METRICS)
CELLS_PER_BLOCK = 2**16  # of counts held at a time: small enough to stay in the processor's cache

Metric = str | Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    ``n``: rows. ``units``: independent units that were resampled. ``method``: in words.
    Prints as ``0.971 [0.965, 0.977]``; a format such as ``f"{estimate:.2f}"`` sets the digits. A
    number below zero has a minus ("−"), and what rounds to zero has none.
    """

    value: float
    low: float
    high: float
    level: float = 0.95
    n: int = 0
    units: int = 0
    method: str = ""

    def __format__(self, spec: str) -> str:
        value, low, high = (
            _printed(number, spec or ".3f") for number in (self.value, self.low, self.high)
        )
        return f"{value} [{low}, {high}]"

    def __str__(self) -> str:
        return format(self)


def _printed(number: float, spec: str) -> str:
    text = f"{number:{spec}}"
    if text.startswith("-") and not any(digit in text for digit in "123456789na"):
        text = f"{0.0:{spec}}"
    return text.replace("-", "−")


def bootstrap(
    labels: ArrayLike,
    scores: ArrayLike,
    metric: Metric,
    *,
    groups: Sequence[Hashable] | np.ndarray | None = None,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    threshold: float = 0.5,
    positive: int = 1,
) -> Estimate:
    """A metric with its percentile bootstrap interval.

    Resample b is row b of ``default_rng(seed).integers(0, units, (n, units))``: rows drawn with
    replacement or, with ``groups``, whole groups (numbered in order of first appearance).

    Args:
        labels: 0/1, ``(rows,)``.
        scores: ``(rows,)``; probabilities for "brier" and "log_loss".
        metric: one of "auc", "average_precision", "brier", "log_loss", "accuracy", "precision",
            "recall", "f1", "macro_f1" (all vectorized), or a function ``(labels, scores) → float``
            (called once per resample; a ValueError of its counts as undefined).
        groups: the group of each row, ``(rows,)``.
        n: resamples.
        level: of the interval.
        seed: of the resamples.
        threshold: decides 1 where ``scores >= threshold``, for the metrics of decisions.
        positive: the class of "precision", "recall", "f1".

    A resample in which the metric has no value (one class only) is left out; if more than one in
    ten is, the sample is too small and a ValueError says so. With fewer than about 30 units
    percentile intervals are too narrow.

    Source: Efron, Tibshirani (1993), An introduction to the bootstrap, sections 13.3 and 8.
    """
    y, s = _checked(labels, scores, metric)
    _check_numbers(n, level)
    unit, units = _units(groups, len(y))
    evaluate = _evaluator(y, s, metric, unit, threshold, positive)
    point = _point(evaluate, units, metric)
    values = np.concatenate([evaluate(counts) for counts in _resamples(units, n, seed, len(y))])
    return _percentile(point, values, level, len(y), units, groups, "percentile bootstrap")


def bootstrap_mean(
    values: ArrayLike,
    *,
    groups: Sequence[Hashable] | np.ndarray | None = None,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """The mean of one number per unit, such as the NDCG of each query, with its interval.

    For "A beats B" give the differences per query. With ``groups`` whole groups are resampled and
    every row counts the same. Resamples as in ``bootstrap``.

    Raises:
        ValueError: on NaN (leave out queries without a value first), other than one dimension.
    """
    v = vector(values, "values")
    if not np.isfinite(v).all():
        raise ValueError("values must be finite")
    _check_numbers(n, level)
    unit, units = _units(groups, len(v))
    sums = np.stack([np.bincount(unit, v, units), np.bincount(unit, minlength=units)], axis=1)

    def mean(counts: np.ndarray) -> np.ndarray:
        total = counts.T @ sums
        return total[:, 0] / total[:, 1]

    drawn = np.concatenate([mean(counts) for counts in _resamples(units, n, seed, len(v))])
    return _percentile(v.mean(), drawn, level, len(v), units, groups, "percentile bootstrap")


def bootstrap_difference(
    values: ArrayLike,
    chosen: ArrayLike,
    *,
    groups: Sequence[Hashable] | np.ndarray | None = None,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """The mean of the chosen units minus the mean of the others, with its percentile interval.

    For two kinds of units, such as queries with and without a typo; what was measured on the same
    units belongs into ``bootstrap_mean`` of the differences. ``values``: ``(N,)`` finite.
    ``chosen``: ``(N,)`` booleans. ``groups``: as in ``bootstrap_mean``; a group may have units of
    both kinds. Resamples that hold one kind only are left out.

    Raises:
        ValueError: on NaN, other than one dimension, if one kind has no unit, or so few that more
            than one resample in ten lacks it.
    """
    v = vector(values, "values")
    if not np.isfinite(v).all():
        raise ValueError("values must be finite")
    side = np.asarray(chosen)
    same_length(v, side, "chosen")
    if side.dtype != bool or not side.any() or side.all():
        raise ValueError("chosen must be booleans, some of them True and some False")
    _check_numbers(n, level)
    unit, units = _units(groups, len(v))
    sums = [(np.bincount(unit[s], v[s], units), np.bincount(unit[s], minlength=units))
            for s in (side, ~side)]  # fmt: skip

    def difference(counts: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            first, second = (counts.T @ total / (counts.T @ size) for total, size in sums)
        return first - second

    drawn = np.concatenate([difference(counts) for counts in _resamples(units, n, seed, len(v))])
    point = v[side].mean() - v[~side].mean()
    return _percentile(point, drawn, level, len(v), units, groups, "percentile bootstrap of A - B")


def paired_bootstrap(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    metric: Metric,
    *,
    groups: Sequence[Hashable] | np.ndarray | None = None,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    threshold: float | tuple[float, float] = 0.5,
    positive: int = 1,
) -> Estimate:
    """The difference metric(A) - metric(B) on the same rows, with its percentile interval.

    Both are evaluated on the same resamples, so what is common to the two cancels. ``threshold``
    may be a pair, one for each. Otherwise as ``bootstrap``.
    """
    y, a = _checked(labels, scores_a, metric)
    _, b = _checked(labels, scores_b, metric)
    _check_numbers(n, level)
    unit, units = _units(groups, len(y))
    cut_a, cut_b = threshold if isinstance(threshold, tuple) else (threshold, threshold)
    evaluate_a = _evaluator(y, a, metric, unit, cut_a, positive)
    evaluate_b = _evaluator(y, b, metric, unit, cut_b, positive)
    point = _point(evaluate_a, units, metric) - _point(evaluate_b, units, metric)
    values = np.concatenate(
        [evaluate_a(counts) - evaluate_b(counts) for counts in _resamples(units, n, seed, len(y))]
    )
    method = "paired percentile bootstrap of A - B"
    return _percentile(point, values, level, len(y), units, groups, method)


def permutation_test(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    metric: Metric,
    *,
    groups: Sequence[Hashable] | np.ndarray | None = None,
    n: int = 2000,
    seed: int = 0,
    threshold: float | tuple[float, float] = 0.5,
    positive: int = 1,
) -> float:
    """Two-sided p value of "A and B are interchangeable", by swapping their scores at random.

    Each unit (row or group) swaps the scores of A and B with probability one half; p is
    ``(1 + number of |difference| as large as observed) / (n + 1)``, never 0. For "auc" and
    "average_precision" each model's scores are replaced by their mid-ranks first, for decisions by
    0/1, so that the two scales may differ; the other metrics and functions take the scores as they
    are. Arguments as ``paired_bootstrap``.

    Source: Venkatraman, Begg (1996), Biometrika 83 (ranks); Phipson, Smyth (2010), Stat. Appl.
    Genet. Mol. Biol. 9 (the added one).
    """
    y, a = _checked(labels, scores_a, metric)
    _, b = _checked(labels, scores_b, metric)
    _check_numbers(n, 0.95)
    unit, units = _units(groups, len(y))
    cut_a, cut_b = threshold if isinstance(threshold, tuple) else (threshold, threshold)
    if metric in RANK_METRICS:
        a, b = _mid_ranks(a), _mid_ranks(b)
    elif metric in CONFUSION_METRICS:
        a, b = (a >= cut_a).astype(float), (b >= cut_b).astype(float)
    # One list of 2·rows candidates; "A" is whichever half of each unit has the weight.
    stacked = np.r_[unit, unit + units]
    evaluate = _evaluator(np.r_[y, y], np.r_[a, b], metric, stacked, 0.5, positive)

    def difference(swap: np.ndarray) -> np.ndarray:
        return evaluate(np.concatenate([1 - swap, swap])) - evaluate(
            np.concatenate([swap, 1 - swap])
        )

    observed = difference(np.zeros((units, 1), dtype=np.int64))[0]
    if not np.isfinite(observed):
        raise ValueError(f"{_name(metric)} has no value on these rows")
    rng = np.random.default_rng(seed)
    extreme = 0
    for size in _blocks(n, 2 * len(y)):
        swap = rng.integers(0, 2, (size, units)).T
        extreme += int((np.abs(difference(swap)) >= abs(observed) - 1e-12).sum())
    return (1 + extreme) / (n + 1)


def sign_flip_test(
    differences: ArrayLike,
    *,
    groups: Sequence[Hashable] | np.ndarray | None = None,
    n: int = 10_000,
    seed: int = 0,
) -> float:
    """Two-sided p value of "A and B are interchangeable" from paired differences A - B.

    Under it each difference is as likely with the other sign; the statistic is the mean. All
    sign patterns are tried where there are at most ``n``, and p is the share whose mean is as far
    from 0 as observed. Otherwise n patterns are drawn, and p is
    ``(1 + number as far as observed) / (n + 1)``, never 0. Other names: paired randomization test,
    Fisher's permutation test.

    Args:
        differences: one per unit, such as the NDCG of A less that of B for each query.
        groups: ``(rows,)``, whose differences flip together.
        n: sign patterns.
        seed: of the patterns.

    Raises:
        ValueError: on NaN (leave out queries without a value first), other than one dimension.

    Source: Fisher (1935), The design of experiments, section 21; Phipson, Smyth (2010), Stat. Appl.
    Genet. Mol. Biol. 9 (the added one).
    """
    d = vector(differences, "differences")
    if not np.isfinite(d).all():
        raise ValueError("differences must be finite")
    _check_numbers(n, 0.95)
    unit, units = _units(groups, len(d))
    sums = np.bincount(unit, d, units)
    least = abs(sums.sum()) - 1e-12 * np.abs(sums).sum()  # equal but for rounding counts
    exact = units <= np.log2(n)
    total = 2**units if exact else n
    rng = np.random.default_rng(seed)
    extreme = done = 0
    for size in _blocks(total, units):
        if exact:
            flip = (np.arange(done, done + size)[:, None] >> np.arange(units)) & 1
        else:
            flip = rng.integers(0, 2, (size, units), dtype=np.int8)
        extreme += int((np.abs((1.0 - 2.0 * flip) @ sums) >= least).sum())
        done += size
    return extreme / total if exact else (1 + extreme) / (n + 1)


def holm(p: ArrayLike) -> np.ndarray:
    """Holm's adjusted p values, ``(n,)``: the chance of even one false claim stays below the level.

    NaN (not tested) stays and does not count.

    Source: Holm (1979), Scand. J. Stat. 6.
    """
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def format_p(p: float) -> str:
    """A p value as a sentence says it: "p < 0.001", "p = 0.012", "p = 0.48"; never a p of 0."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


# ----------------------------------------------------------------------------- helpers


def _checked(labels: ArrayLike, scores: ArrayLike, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    if not callable(metric) and metric not in METRICS:
        raise ValueError(f"metric is {metric!r}; it must be a function or one of {METRICS}")
    return labels_and_scores(
        labels, scores, both=metric in RANK_METRICS, probabilities=metric in PROBABILITY_METRICS
    )


def _check_numbers(n: int, level: float) -> None:
    if n < 1:
        raise ValueError(f"n must be at least 1; got {n}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1; got {level}")


def _name(metric: Metric) -> str:
    return metric if isinstance(metric, str) else getattr(metric, "__name__", "the metric")


def _units(groups: Sequence[Hashable] | np.ndarray | None, rows: int) -> tuple[np.ndarray, int]:
    """The number of each row's unit and how many units there are."""
    if groups is None:
        return np.arange(rows), rows
    groups = np.asarray(groups)
    if groups.ndim != 1:
        raise ValueError(f"groups must have one dimension; got shape {groups.shape}")
    same_length(np.empty(rows), groups, "groups")
    numbers: dict[Hashable, int] = {}
    unit = np.empty(rows, dtype=np.int64)
    for row, group in enumerate(groups.tolist()):
        if group is None or group != group:
            raise ValueError(f"groups has a missing value at position {row}")
        unit[row] = numbers.setdefault(group, len(numbers))
    if len(numbers) < 2:
        raise ValueError("groups has one group only; at least two are needed to resample")
    return unit, len(numbers)


def _mid_ranks(scores: np.ndarray) -> np.ndarray:
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def _evaluator(
    y: np.ndarray,
    s: np.ndarray,
    metric: Metric,
    unit: np.ndarray,
    threshold: float,
    positive: int,
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from counts of the units, ``(units, n)``, to values of the metric, ``(n,)``."""
    units = int(unit.max()) + 1
    own_unit = len(unit) == units and (unit == np.arange(units)).all()
    if metric in RANK_METRICS:
        weighted = (WeightedAUC if metric == "auc" else WeightedAP)(y, s)
        return weighted if own_unit else lambda counts: weighted(counts[unit])
    if isinstance(metric, str):
        rows, finish = _sums(y, s, metric, threshold, positive)
        per_unit = np.stack([np.bincount(unit, column, units) for column in rows.T], axis=1)
        return lambda counts: finish(_weighted_sum(counts, per_unit))

    def one_by_one(counts: np.ndarray) -> np.ndarray:
        values = np.full(counts.shape[1], np.nan)
        for b, count in enumerate(counts.T):
            taken = np.repeat(np.arange(len(y)), count[unit])
            try:
                values[b] = metric(y[taken], s[taken])
            except ValueError:
                continue
        return values

    return one_by_one


def _sums(
    y: np.ndarray, s: np.ndarray, metric: str, threshold: float, positive: int
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Columns whose sums over rows determine the metric, and the metric from those sums."""
    if metric in CONFUSION_METRICS:
        cell = 2 * y + (s >= threshold)
        rows = (cell[:, None] == np.arange(4)).astype(np.float64)
        return rows, lambda sums: confusion_metric(metric, sums, positive)
    loss = (s - y) ** 2 if metric == "brier" else row_log_loss(y, s)
    return np.stack([loss, np.ones(len(y))], axis=1), lambda sums: sums[:, 0] / sums[:, 1]


def _weighted_sum(counts: np.ndarray, per_unit: np.ndarray) -> np.ndarray:
    """``countsᵀ @ per_unit`` where an infinite row that was not drawn adds nothing."""
    finite = np.where(np.isfinite(per_unit), per_unit, 0.0)
    total = counts.T.astype(np.float64) @ finite
    for column in np.flatnonzero(np.isinf(per_unit).any(axis=0)):
        drawn = counts[np.isinf(per_unit[:, column])].any(axis=0)
        total[drawn, column] = np.inf
    return total


def _blocks(n: int, rows: int) -> Iterator[int]:
    size = int(np.clip(CELLS_PER_BLOCK // rows, 8, 512))
    for start in range(0, n, size):
        yield min(size, n - start)


def _resamples(units: int, n: int, seed: int, rows: int) -> Iterator[np.ndarray]:
    """Counts of each unit in n resamples, in blocks ``(units, block)`` of bounded size."""
    rng = np.random.default_rng(seed)
    for size in _blocks(n, rows):
        drawn = rng.integers(0, units, (size, units))
        flat = drawn * size + np.arange(size)[:, None]
        yield np.bincount(flat.ravel(), minlength=units * size).reshape(units, size)


def _point(evaluate: Callable, units: int, metric: Metric) -> float:
    value = float(evaluate(np.ones((units, 1), dtype=np.int64))[0])
    if np.isnan(value):
        raise ValueError(f"{_name(metric)} has no value on these rows")
    return value


def _percentile(
    point: float,
    values: np.ndarray,
    level: float,
    rows: int,
    units: int,
    groups: object,
    method: str,
) -> Estimate:
    defined = values[~np.isnan(values)]
    if len(defined) < 0.9 * len(values):
        raise ValueError(
            f"the metric has no value in {len(values) - len(defined)} of {len(values)} resamples;"
            f" {units} units are too few for an interval"
        )
    method_at_infinity = "linear" if np.isfinite(defined).all() else "lower"
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2], method=method_at_infinity)
    kind = "rows" if groups is None else "groups"
    return Estimate(
        value=float(point),
        low=float(low),
        high=float(high),
        level=level,
        n=rows,
        units=units,
        method=f"{method}, {len(defined)} resamples of {units} {kind}",
    )
