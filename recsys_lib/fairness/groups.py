"""Every measure in every group, with an interval that respects who is independent of whom.

Groups that are too small, or lack a class that the measure is about, are unknown: they have no
value, and a reason. `gaps` compares what is known.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from fairlearn.metrics import (
    MetricFrame,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from numpy.typing import ArrayLike
from scipy.stats import binomtest, norm
from scipy.stats import t as student

from recsys_lib import metrics as scores
from recsys_lib.fairness.columns import sensitive_groups
from recsys_lib.fairness.measures import BINS, RATES, USUAL, MeanMeasure, Measures
from recsys_lib.metrics import Estimate
from recsys_lib.workbook import InputError

MIN_ROWS = 20  # of a class in a group, below which a measure of it is unknown
MIN_UNITS = 10  # independent units in a group, below which an interval means nothing
_CELLS = 2**21  # weights held at a time

_ABOUT = {
    "true_positive_rate": ("rows labeled 1",),
    "false_positive_rate": ("rows labeled 0",),
    "precision": ("rows decided 1",),
    "auc": ("rows labeled 0", "rows labeled 1"),
}


def group_table(
    labels: ArrayLike,
    probs: ArrayLike,
    sensitive: ArrayLike | pd.Series,
    *,
    metrics: Sequence[str] = USUAL,
    groups: Sequence[Hashable] | np.ndarray | None = None,
    threshold: float = 0.5,
    min_rows: int = MIN_ROWS,
    min_units: int = MIN_UNITS,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Measures of a classifier in every group of people: one row per measure and group.

    Args:
        labels: 0/1, ``(rows,)``.
        probs: probabilities of 1, ``(rows,)``; decided 1 where ``probs >= threshold``.
        sensitive: the group of each row: texts, or a result of `sensitive_groups`, `band` or
            `cross` (whose order is kept); rows that are NaN there are left out.
        metrics: of `measures.MEASURES`.
        groups: the unit of independence of each row, such as its product; None: the row.
        min_rows: so many rows must there be of each class that the measure is about.
        min_units: from so many independent units.
        n: resamples; whole units are drawn, for all groups and measures together.
        level: of the intervals.
        seed: of the resamples.

    Returns:
        Columns metric, group, rows (of the group), units, value, low, high, estimate (an
        `Estimate`), known (bool) and why (what an unknown one lacks). Values are fairlearn's
        `MetricFrame`; intervals are percentile bootstraps over units, widened for few of them
        (`expanded`), and Wilson's for a rate of exactly 0 or 1, whose resamples are all alike.

    Raises:
        InputError: labels, probabilities or groups that are not as they must be.
    """
    measured = Measures(labels, probs, metrics, threshold=threshold)
    draws = draw(measured, sensitive, groups, min_rows, min_units, n, seed)
    values = _by_fairlearn(measured, draws)
    return _table(draws, values, level)


def mean_table(
    values: ArrayLike,
    sensitive: ArrayLike | pd.Series,
    *,
    name: str = "NDCG@10",
    groups: Sequence[Hashable] | np.ndarray | None = None,
    min_rows: int = MIN_ROWS,
    min_units: int = MIN_UNITS,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """The mean of one number per row in every group, such as the NDCG of each query by shopper.

    Returns as `group_table`, with `name` as the only measure.
    """
    draws = draw(MeanMeasure(values, name), sensitive, groups, min_rows, min_units, n, seed)
    return _table(draws, draws.point, level)


def readable(table: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """A `group_table` to look at: a line per group, a column per measure, counts beside them."""
    shown = {}
    counts = table.drop_duplicates("group").set_index("group")[["rows", "units"]]
    for metric, part in table.groupby("metric", sort=False):
        shown[metric.replace("_", " ")] = pd.Series(
            [
                f"{row.estimate:.{digits}f}" if row.known else f"unknown ({row.why})"
                for row in part.itertuples()
            ],
            index=part["group"],
        )
    return pd.concat([counts, pd.DataFrame(shown)], axis=1)


# ------------------------------------------------------------------ shared with `gaps`


@dataclass(frozen=True, eq=False)
class Draws:
    """Groups and their measures, on the data and on n resamples of its units.

    Attributes:
        names: of the groups, k.
        measured: what was measured, m measures on the rows that have a group.
        code: the group of each row. unit: its unit. constant: units lie within one group each.
        rows, units: counts per group, ``(k,)``.
        point, rest: of the groups and of all other rows, ``(k, m)``.
        drawn, drawn_rest: the same in every resample, ``(k, m, n)``.
        why: what a measure of a group lacks, "" where it is known, ``(k, m)``; `why_rest` of all
            other rows.
        least_units: units behind each measure of a group, ``(k, m)``; `least_rest` of the others.
    """

    names: tuple[str, ...]
    measured: Measures | MeanMeasure
    code: np.ndarray
    unit: np.ndarray
    constant: bool
    rows: np.ndarray
    units: np.ndarray
    point: np.ndarray
    rest: np.ndarray
    drawn: np.ndarray
    drawn_rest: np.ndarray
    why: np.ndarray
    why_rest: np.ndarray
    least_units: np.ndarray
    least_rest: np.ndarray


def draw(
    measured: Measures | MeanMeasure,
    sensitive: ArrayLike | pd.Series,
    groups: Sequence[Hashable] | np.ndarray | None,
    min_rows: int,
    min_units: int,
    n: int,
    seed: int,
) -> Draws:
    """Measure every group, and all others, on the data and on resamples."""
    if n < 1 or min_rows < 1 or min_units < 1:
        raise InputError("n, min_rows and min_units must be at least 1.")
    names, code = coded_groups(sensitive, rows=next(iter(measured.needs.values())).shape[1])
    unit = _units(groups, len(code))
    kept = np.flatnonzero(code >= 0)  # rows without a group belong to nobody's rest
    unit = pd.factorize(unit[kept])[0]
    full, code = code, code[kept]
    k, n_units = len(names), int(unit.max()) + 1
    inside = [np.flatnonzero(code == g) for g in range(k)]
    outside = [np.flatnonzero(code != g) for g in range(k)]
    sides = [*inside, *outside]
    evaluate = [measured.on(kept[rows]) for rows in sides]
    point = np.stack([f(np.ones((len(r), 1)))[:, 0] for f, r in zip(evaluate, sides, strict=True)])
    drawn = np.empty((2 * k, len(measured.names), n))
    done = 0
    for counts in resamples(n_units, n, seed, len(code)):
        block = slice(done, done + counts.shape[1])
        for side, (function, rows) in enumerate(zip(evaluate, sides, strict=True)):
            drawn[side, :, block] = function(counts[unit[rows]])
        done += counts.shape[1]
    checked = [_lacks(measured, kept[r], unit[r], min_rows, min_units, drawn[side])
               for side, r in enumerate(sides)]  # fmt: skip
    why, least = (np.array([list(part[i]) for part in checked]) for i in (0, 1))
    first = pd.Series(code).groupby(unit).nunique()
    whole = measured if len(kept) == len(full) else _only(measured, kept)
    return Draws(
        names=names,
        measured=whole,
        code=code,
        unit=unit,
        constant=bool((first == 1).all()),
        rows=np.array([len(rows) for rows in inside]),
        units=np.array([len(np.unique(unit[rows])) for rows in inside]),
        point=point[:k],
        rest=point[k:],
        drawn=drawn[:k],
        drawn_rest=drawn[k:],
        why=why[:k],
        why_rest=why[k:],
        least_units=least[:k],
        least_rest=least[k:],
    )


def resamples(units: int, n: int, seed: int, rows: int) -> Iterator[np.ndarray]:
    """Counts of each unit in n resamples with replacement, in blocks ``(units, block)``."""
    rng = np.random.default_rng(seed)
    size = int(np.clip(_CELLS // rows, 8, 512))
    for start in range(0, n, size):
        block = min(size, n - start)
        flat = rng.integers(0, units, (block, units)) * block + np.arange(block)[:, None]
        yield np.bincount(flat.ravel(), minlength=units * block).reshape(units, block)


def interval(
    name: str, point: float, values: np.ndarray, units: int, level: float
) -> tuple[float, float, bool]:
    """Low and high of one value, and whether Wilson's interval had to stand in."""
    if not 0 < level < 1:
        raise InputError(f"level = {level} must lie between 0 and 1.")
    values = values[~np.isnan(values)]
    if name in RATES and point in (0.0, 1.0):
        ends = binomtest(round(point * units), units).proportion_ci(level, method="wilson")
        return float(ends.low), float(ends.high), True
    return *expanded(values, units, level), False


def expanded(values: np.ndarray, units: int, level: float) -> tuple[float, float]:
    """The expanded percentile interval of resampled values ``(n,)``, of which NaN are left out.

    A plain percentile interval of few units is too narrow: resamples vary less than samples do, by
    √((m − 1) / m), and their tails are not those of a t law. So it leaves out the share
    Φ(−√(m / (m − 1)) t_{m−1}) at each end, m the independent units (of the smaller of two groups).
    The ends are at the places (n + 1) times the shares, so that few resamples do not narrow it.

    Source: Hesterberg (2015), What teachers should know about the bootstrap, Am. Statist. 69.
    """
    m = max(units, 2)
    tail = float(norm.sf(np.sqrt(m / (m - 1)) * student.isf((1 - level) / 2, m - 1)))
    low, high = np.nanquantile(values, [tail, 1 - tail], method="weibull")
    return float(low), float(high)


# ----------------------------------------------------------------------------- helpers


def coded_groups(sensitive: ArrayLike | pd.Series, rows: int) -> tuple[tuple[str, ...], np.ndarray]:
    column = pd.Series(sensitive).reset_index(drop=True)
    if not isinstance(column.dtype, pd.CategoricalDtype):
        column = sensitive_groups(column, name=str(column.name or "sensitive"))
    column = column.cat.remove_unused_categories()
    if len(column) != rows:
        raise InputError(f"sensitive has {len(column):,} rows, the labels {rows:,}.")
    if len(column.cat.categories) < 2:
        raise InputError(
            f'the column "{column.name or "sensitive"}" has one group only in these rows: there '
            "is nobody to compare it with."
        )
    return tuple(map(str, column.cat.categories)), column.cat.codes.to_numpy(dtype=np.int64)


def _units(groups: Sequence[Hashable] | np.ndarray | None, rows: int) -> np.ndarray:
    if groups is None:
        return np.arange(rows)
    unit = pd.factorize(pd.Series(groups).reset_index(drop=True))[0]
    if len(unit) != rows:
        raise InputError(f"groups has {len(unit):,} rows, the labels {rows:,}.")
    if (unit < 0).any():
        raise InputError(f"groups has a missing value in row {int(np.argmax(unit < 0))}.")
    if len(np.unique(unit)) < 2:
        raise InputError("groups holds one unit only; at least two are needed to resample.")
    return unit


def _lacks(
    measured: Measures | MeanMeasure,
    rows: np.ndarray,
    unit: np.ndarray,
    min_rows: int,
    min_units: int,
    drawn: np.ndarray,
) -> tuple[list[str], list[int]]:
    """Per measure what these rows lack ("" for nothing), and the units behind it."""
    why, least = [], []
    for at, name in enumerate(measured.names):
        said, fewest = "", len(unit)
        for line, words in zip(
            measured.needs[name][:, rows], _ABOUT.get(name, ("rows",)), strict=True
        ):
            count, units = int(line.sum()), len(np.unique(unit[line]))
            fewest = min(fewest, units)
            if count < min_rows:
                words = words.replace("rows", "row", 1) if count == 1 else words
                said = said or f"{count} {words}, {min_rows} needed"
            elif units < min_units:
                alone = "unit" if units == 1 else "units"
                said = said or f"{words} from {units} independent {alone}, {min_units} needed"
        if not said and np.isnan(drawn[at]).mean() > 0.1:
            said = "no value in many resamples"
        why.append(said)
        least.append(fewest)
    return why, least


def _only(measured: Measures | MeanMeasure, rows: np.ndarray) -> Measures | MeanMeasure:
    if isinstance(measured, MeanMeasure):
        return MeanMeasure(measured.values[rows], measured.names[0])
    return Measures(
        measured.labels[rows],
        measured.probs[rows],
        measured.names,
        threshold=measured.threshold,
    )


def _by_fairlearn(measured: Measures, draws: Draws) -> np.ndarray:
    """The values of `MetricFrame`, ``(k, m)``; NaN where one class is missing."""
    cut = measured.threshold

    def decisions(function):
        return lambda y, p: float(function(y, (np.asarray(p) >= cut).astype(int)))

    def both(function):
        return lambda y, p: function(y, p) if len(np.unique(y)) == 2 else np.nan

    functions = {
        "accuracy": decisions(scores.accuracy),
        "base_rate": lambda y, p: float(np.mean(y)),
        "selection_rate": decisions(selection_rate),
        "true_positive_rate": decisions(true_positive_rate),
        "false_positive_rate": decisions(false_positive_rate),
        "precision": decisions(scores.precision),
        "auc": both(scores.auc),
        "log_loss": scores.log_loss,
        "brier": scores.brier,
        "mean_error": lambda y, p: float(np.mean(p) - np.mean(y)),
        "calibration_error": lambda y, p: scores.expected_calibration_error(y, p, BINS),
    }
    rows = draws.measured
    with warnings.catch_warnings():
        # a rate of a class that a group lacks; such a group is unknown here
        warnings.filterwarnings("ignore", message=".*ill-defined.*|.*No positive.*")
        frame = MetricFrame(
            metrics={name: functions[name] for name in measured.names},
            y_true=rows.labels,
            y_pred=rows.probs,
            sensitive_features=pd.Series(draws.code, name="group"),
        )
    return frame.by_group.sort_index().to_numpy(dtype=float)


def _table(draws: Draws, values: np.ndarray, level: float) -> pd.DataFrame:
    lines = []
    for at, metric in enumerate(draws.measured.names):
        for g, group in enumerate(draws.names):
            why = draws.why[g, at]
            estimate = None
            if not why:
                value = float(values[g, at])
                units = int(draws.least_units[g, at])
                drawn = draws.drawn[g, at]
                low, high, stand_in = interval(metric, value, drawn, units, level)
                method = f"expanded percentile bootstrap, {len(drawn)} resamples"
                method = "Wilson" if stand_in else method
                estimate = Estimate(
                    value, low, high, level, int(draws.rows[g]), int(draws.units[g]), method
                )
            lines.append(
                {
                    "metric": metric,
                    "group": group,
                    "rows": int(draws.rows[g]),
                    "units": int(draws.units[g]),
                    "value": estimate.value if estimate else np.nan,
                    "low": estimate.low if estimate else np.nan,
                    "high": estimate.high if estimate else np.nan,
                    "estimate": estimate,
                    "known": not why,
                    "why": str(why),
                }
            )
    return pd.DataFrame(lines)
