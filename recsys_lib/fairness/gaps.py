"""Gaps between groups: how large, how sure, and could chance alone have made them.

A largest less a smallest value is never below 0, so its interval cannot cover 0 and says nothing
about chance. It is held against shuffled groups instead, as every other gap is.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import norm

from recsys_lib.fairness.groups import (
    MIN_ROWS,
    MIN_UNITS,
    Draws,
    draw,
    interval,
)
from recsys_lib.fairness.measures import USUAL, MeanMeasure, Measures
from recsys_lib.metrics import Estimate, holm
from recsys_lib.workbook import InputError

GAP, NOT_SHOWN, NOT_TESTABLE = "gap", "no gap shown", "not testable"
POWER = 0.8  # with which the smallest gap that could have been shown is stated
_CELLS = 2**21


def gaps(
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
    permutations: int | None = None,
    level: float = 0.95,
    alpha: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """Every gap in every measure, one row each. Arguments as `group_table`, and:

    Args:
        permutations: shuffles of the groups; None: enough that Holm's correction over all
            comparisons can still find something.
        alpha: the chance of even one false claim among all comparisons.

    Returns:
        Columns metric; comparison, in words; group ("" for the range); kind ("difference": the
        group less all other rows; "range": the largest less the smallest known group); first and
        second, the two values compared; value, low, high and estimate of the gap; ratio, ratio_low
        and ratio_high (group over rest, smallest over largest); p, p_holm; spread (standard error
        by the bootstrap); detectable (from it, the smallest gap that would have been shown with a
        power of 80 % at the level ``alpha / comparisons``; NaN for ranges); rows, known, why; and
        verdict ("gap": p_holm is at most alpha and the interval leaves 0 out, since test and
        interval must agree; "no gap shown"; "not testable"). With two groups there is one
        comparison, the second less the first.

    Where every unit lies within one group (a shopper and her age), whole units swap groups, and the
    p value of a difference is exact if units have equally many rows and are alike but for their
    group. Where a unit holds several groups (a product and its reviewers' ages), rows swap, within
    the class that the measure is about. There, and where units differ in how many rows they have,
    the shuffled gaps are stretched to the spread that the bootstrap over units gives: otherwise
    rows that resemble each other would count as independent evidence.
    The interval of a range runs too high (each resample has its own largest and smallest): its p
    tells what chance could do.
    ``p = (1 + as extreme) / (permutations + 1)``, never 0.

    Source: Holm (1979), Scand. J. Statist. 6; Chung, Romano (2013), Ann. Statist. 41 (the spread).
    """
    measured = Measures(labels, probs, metrics, threshold=threshold)
    draws = draw(measured, sensitive, groups, min_rows, min_units, n, seed)
    return _gaps(draws, permutations, level, alpha, seed)


def mean_gaps(
    values: ArrayLike,
    sensitive: ArrayLike | pd.Series,
    *,
    name: str = "NDCG@10",
    groups: Sequence[Hashable] | np.ndarray | None = None,
    min_rows: int = MIN_ROWS,
    min_units: int = MIN_UNITS,
    n: int = 2000,
    permutations: int | None = None,
    level: float = 0.95,
    alpha: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """Gaps in the mean of one number per row, such as the NDCG of each query. As `gaps`."""
    draws = draw(MeanMeasure(values, name), sensitive, groups, min_rows, min_units, n, seed)
    return _gaps(draws, permutations, level, alpha, seed)


def correct(table: pd.DataFrame, *, alpha: float = 0.05) -> pd.DataFrame:
    """Holm's correction over all rows of a table of gaps, and with it the verdicts.

    For several tables put together (``pd.concat``), so that no comparison goes uncounted. A gap
    needs both: ``p_holm <= alpha``, and an interval that leaves 0 out.
    """
    table = table.copy()
    table["p_holm"] = holm(table["p"])
    agree = (table["low"] > 0) | (table["high"] < 0)
    found = (table["p_holm"] <= alpha + 1e-12) & agree
    table["verdict"] = np.where(~table["known"], NOT_TESTABLE, np.where(found, GAP, NOT_SHOWN))
    return table.assign(detectable=table["spread"] * _factor(table["p"].notna().sum(), alpha))


def enough_permutations(comparisons: int, alpha: float) -> int:
    """So many shuffles that the smallest p there is passes Holm's hardest step with room."""
    return max(1000, int(np.ceil(4 * comparisons / alpha)))


# ----------------------------------------------------------------------------- helpers


def _factor(comparisons: int, alpha: float) -> float:
    """Smallest gap over its standard error that a two-sided test shows with `POWER`."""
    return float(norm.isf(alpha / 2 / max(comparisons, 1)) + norm.ppf(POWER))


def _gaps(
    draws: Draws, permutations: int | None, level: float, alpha: float, seed: int
) -> pd.DataFrame:
    if not (0 < level < 1 and 0 < alpha < 1):
        raise InputError("level and alpha must lie between 0 and 1.")
    if permutations is not None and permutations < 1:
        raise InputError("permutations must be at least 1.")
    known = (draws.why == "") & (draws.why_rest == "")  # (k, m)
    two = len(draws.names) == 2
    compared = [1] if two else list(range(len(draws.names)))
    several = (draws.why == "").sum(axis=0) > 2
    comparisons = int(known[compared].sum() + (0 if two else several.sum()))
    if permutations is None:
        permutations = enough_permutations(comparisons, alpha)
    p, p_range = _p_values(draws, known, permutations, seed)
    lines = []
    for at in range(len(draws.measured.names)):
        lines += [_difference(draws, g, at, p[g, at], two, level) for g in compared]
        if not two:
            lines.append(_range(draws, at, p_range[at], level))
    return correct(pd.DataFrame(lines), alpha=alpha)


def _difference(draws: Draws, g: int, at: int, p: float, two: bool, level: float) -> dict:
    name, metric = draws.names[g], draws.measured.names[at]
    why = draws.why[g, at] or (draws.why_rest[g, at] and f"the rest: {draws.why_rest[g, at]}")
    line = {
        "metric": metric,
        "comparison": f"{name} − {draws.names[1 - g] if two else 'rest'}",
        "group": name,
        "kind": "difference",
        "rows": int(draws.rows[g]),
    }
    if why:
        return line | _unknown(str(why))
    a, b = draws.point[g, at], draws.rest[g, at]
    drawn, drawn_rest = draws.drawn[g, at], draws.drawn_rest[g, at]
    units = int(draws.least_units[g, at]), int(draws.least_rest[g, at])
    low, high, odd_a = interval(metric, a, drawn, units[0], level)
    low_b, high_b, odd_b = interval(metric, b, drawn_rest, units[1], level)
    difference = drawn - drawn_rest
    spread = float(np.nanstd(difference))
    method = f"percentile bootstrap, {len(drawn)} resamples"
    if odd_a or odd_b:  # Newcombe (1998), Statist. Med. 17, method 10
        ends = (a - b - np.hypot(a - low, high_b - b), a - b + np.hypot(high - a, b - low_b))
        spread = float((ends[1] - ends[0]) / 2 / norm.ppf((1 + level) / 2))
        method = "Newcombe's hybrid of two intervals"
    else:
        ends = np.nanquantile(difference, [(1 - level) / 2, (1 + level) / 2])
    ratio = _ratio(a, b, drawn, drawn_rest, metric, level)
    return line | _known((a, b), ends, ratio, p, spread, draws, level, method)


def _range(draws: Draws, at: int, p: float, level: float) -> dict:
    metric = draws.measured.names[at]
    usable = np.flatnonzero(draws.why[:, at] == "")
    line = {
        "metric": metric,
        "comparison": "largest − smallest",
        "group": "",
        "kind": "range",
        "rows": int(draws.rows[usable].sum()),
    }
    if len(usable) < 3:
        return line | _unknown(f"{len(usable)} groups are known, 3 needed")
    point, drawn = draws.point[usable, at], draws.drawn[usable, at]
    spans = drawn.max(axis=0) - drawn.min(axis=0)
    ends = np.nanquantile(spans, [(1 - level) / 2, (1 + level) / 2])
    top, low = point.argmax(), point.argmin()
    line["comparison"] = f"largest ({draws.names[usable[top]]}) − smallest " + (
        f"({draws.names[usable[low]]})"
    )
    ratio = _ratio(point[low], point[top], drawn.min(axis=0), drawn.max(axis=0), metric, level)
    spread = np.nan  # no normal law tells what a range could show
    method = "percentile bootstrap; never below 0, see p"
    pair = point[top], point[low]
    return line | _known(pair, ends, ratio, p, spread, draws, level, method)


def _unknown(why: str) -> dict:
    nothing = ("first", "second", "value", "low", "high", "ratio", "ratio_low", "ratio_high", "p",
               "spread")  # fmt: skip
    return dict.fromkeys(nothing, np.nan) | {"estimate": None, "known": False, "why": why}


def _known(pair, ends, ratio, p, spread, draws: Draws, level, method) -> dict:
    first, second = map(float, pair)
    value, rows = first - second, len(draws.code)
    units = int(draws.unit.max()) + 1
    low, high = (float(end) for end in ends)
    return {
        "first": first,
        "second": second,
        "value": value,
        "low": low,
        "high": high,
        "ratio": ratio[0],
        "ratio_low": ratio[1],
        "ratio_high": ratio[2],
        "p": float(p),
        "spread": spread,
        "estimate": Estimate(value, low, high, level, rows, units, method),
        "known": True,
        "why": "",
    }


def _ratio(a, b, drawn, drawn_rest, metric: str, level: float) -> tuple[float, float, float]:
    """a / b with its interval; NaN where b is 0 or the measure has no natural zero."""
    if metric == "mean_error" or b == 0 or (drawn_rest == 0).any():
        return np.nan, np.nan, np.nan
    ends = np.nanquantile(drawn / drawn_rest, [(1 - level) / 2, (1 + level) / 2])
    return float(a / b), float(ends[0]), float(ends[1])


def _p_values(draws: Draws, known: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """p of every difference ``(k, m)`` and of every range ``(m,)``."""
    k, m = known.shape
    observed = draws.point - draws.rest
    shuffled, values = np.full((2, k, m, n), np.nan)
    needed = np.flatnonzero((draws.why == "").any(axis=1))
    for names, strata in _sets(draws):
        at = [draws.measured.names.index(name) for name in names]
        evaluate = draws.measured.on(names=names)
        done = 0
        for codes in _shuffles(draws, strata, n, seed):
            block = slice(done, done + codes.shape[1])
            for g in needed:
                member = (codes == g).astype(np.int64)
                here = evaluate(member)
                values[g, at, block] = here
                shuffled[g, at, block] = here - evaluate(1 - member)
            done += codes.shape[1]
    stretch = np.ones((k, m))
    alike = draws.constant and len(np.unique(np.bincount(draws.unit))) == 1
    for g, at in [] if alike else np.argwhere(known):
        by_unit = np.nanstd(draws.drawn[g, at] - draws.drawn_rest[g, at])
        by_row = np.nanstd(shuffled[g, at])
        stretch[g, at] = by_unit / by_row if by_unit > 0 and by_row > 0 else 1.0
    # a shuffle that leaves a group without a class (NaN) counts as extreme
    extreme = ~(np.abs(shuffled) * stretch[:, :, None] < np.abs(observed)[:, :, None] - 1e-12)
    p = np.where(known, (1 + extreme.sum(axis=2)) / (n + 1), np.nan)
    p_range = np.full(m, np.nan)
    for at in range(m):
        usable = np.flatnonzero(draws.why[:, at] == "")
        if k == 2 or len(usable) < 3:
            continue
        center = np.nanmean(values[usable, at], axis=1, keepdims=True)
        around = (values[usable, at] - center) * stretch[usable, at, None]
        spans = around.max(axis=0) - around.min(axis=0)
        beyond = ~(spans < np.ptp(draws.point[usable, at]) - 1e-12)
        p_range[at] = (1 + beyond.sum()) / (n + 1)
    return p, p_range


def _sets(draws: Draws) -> Iterator[tuple[list[str], np.ndarray]]:
    """Measures that can share their shuffles, with the classes that rows keep to."""
    names = draws.measured.names
    if draws.constant:
        yield list(names), np.zeros(len(draws.code), dtype=np.int8)
        return
    kinds: dict[int, list[str]] = {}
    for name in names:
        kinds.setdefault(id(draws.measured.strata[name]), []).append(name)
    for shared in kinds.values():
        yield shared, draws.measured.strata[shared[0]]


def _shuffles(draws: Draws, strata: np.ndarray, n: int, seed: int) -> Iterator[np.ndarray]:
    """Groups of the rows with their owners shuffled, in blocks ``(rows, block)``."""
    rng = np.random.default_rng([seed, 1])
    size = int(np.clip(_CELLS // len(draws.code), 8, 512))
    code = draws.code.astype(np.int16)
    first = np.unique(draws.unit, return_index=True)[1]
    for start in range(0, n, size):
        block = min(size, n - start)
        if draws.constant:
            of_unit = np.broadcast_to(code[first], (block, len(first)))
            yield rng.permuted(of_unit, axis=1).T[draws.unit]
            continue
        out = np.empty((len(code), block), dtype=np.int16)
        for stratum in np.unique(strata):
            rows = np.flatnonzero(strata == stratum)
            owners = np.broadcast_to(code[rows], (block, len(rows)))
            out[rows] = rng.permuted(owners, axis=1).T
        yield out
