"""Gaps between groups: how large, how sure, and could chance alone have made them.

A largest less a smallest value is never below 0, so its interval cannot cover 0 and says nothing
about chance. It is held against shuffled groups instead, as every other gap is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import hypergeom, norm

from recsys_lib.fairness.chance import least_holm, monte_carlo_interval
from recsys_lib.fairness.groups import (
    MIN_ROWS,
    MIN_UNITS,
    Draws,
    draw,
    expanded,
    interval,
)
from recsys_lib.fairness.measures import RATES, USUAL, MeanMeasure, Measures
from recsys_lib.metrics import Estimate, holm
from recsys_lib.metrics.classification import WeightedAUC, ratio
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
        and ratio_high (group over rest, smallest over largest); p, with p_low and p_high, where it
        would lie with all shuffles there are (its 95 % Monte Carlo interval), and p_least, that of
        the most extreme shuffle; p_holm, with p_holm_low, p_holm_high and p_holm_least
        (`least_holm`); spread (standard error by the bootstrap); null_spread
        (standard error if groups are alike, which the test uses); detectable (from null_spread, the
        smallest gap that would have been shown with a power of 80 % at the level ``alpha /
        comparisons``; NaN for ranges); rows, known, why; and verdict ("gap": p_holm is at most
        alpha and the interval leaves 0 out, since test and interval must agree; "no gap shown";
        "not testable", if a group is unknown or p_holm_least above alpha, as `why` says). With two
        groups there is one comparison, the second less the first.

    Where every unit lies within one group (a shopper and her age), whole units swap groups. Where a
    unit holds several groups (a product and its reviewers' ages), rows swap, within the class that
    the measure is about. Everywhere the shuffled gaps are stretched, but never shrunk, to the
    standard error over units (of a score test, from residuals of the common value): otherwise rows
    that resemble each other would count as independent evidence, and a gap in a rate would be held
    against groups that have other numbers of positives. The test is valid (p <= 0.05 in about 5 %
    of data sets without a gap, or in fewer), but not exact. What is tested for the AUC is that
    groups are alike within each label, since its residuals are the places of rows among all rows,
    and not that areas are equal. calibration_error is no mean of rows: its standard error is the
    bootstrap's of the groups' own values.
    The interval of a range runs too high (each resample has its own largest and smallest): its p
    tells what chance could do.
    ``p = (1 + as extreme) / (permutations + 1)``, never 0. Only where rows swap is the p value of a
    difference of two shares that of all shuffles, by the hypergeometric law.

    Source: Holm (1979), Scand. J. Statist. 6; Liang, Zeger (1986), Biometrika 73 and Boos (1992),
    Am. Statist. 46 (the standard error); Phipson, Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9
    (the added one).
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
    needs both: ``p_holm <= alpha``, and an interval that leaves 0 out. Where even the least p that
    a test could have had stays above alpha after the correction, the verdict is "not testable".
    """
    table = table.copy()
    for end in [end for end in ("", "_low", "_high") if f"p{end}" in table]:
        table[f"p_holm{end}"] = holm(table[f"p{end}"])
    least = table["p_least"] if "p_least" in table else np.zeros(len(table))
    table["p_holm_least"] = least_holm(table["p"], least)
    agree = (table["low"] > 0) | (table["high"] < 0)
    found = (table["p_holm"] <= alpha + 1e-12) & agree
    too_few = table["p_holm_least"] > alpha + 1e-12
    said = [f"least corrected p {least:.2g}" for least in table["p_holm_least"]]
    unknown = table.get("why", "")
    table["why"] = np.where(~table["known"], unknown, np.where(too_few, said, ""))
    blind = ~table["known"] | too_few
    table["verdict"] = np.where(blind, NOT_TESTABLE, np.where(found, GAP, NOT_SHOWN))
    factor = _factor(table["p"].notna().sum(), alpha)
    return table.assign(detectable=table["null_spread"] * factor)


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
    p, p_range, error = _p_values(draws, known, permutations, seed)
    lines = []
    for at in range(len(draws.measured.names)):
        lines += [_difference(draws, g, at, p[:, g, at], two, level)
                  | {"null_spread": error[g, at]} for g in compared]  # fmt: skip
        if not two:
            lines.append(_range(draws, at, p_range[:, at], level))
    return correct(pd.DataFrame(lines), alpha=alpha)


def _difference(draws: Draws, g: int, at: int, p: np.ndarray, two: bool, level: float) -> dict:
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
    method = f"expanded percentile bootstrap, {len(drawn)} resamples"
    if odd_a or odd_b:  # Newcombe (1998), Statist. Med. 17, method 10
        ends = (a - b - np.hypot(a - low, high_b - b), a - b + np.hypot(high - a, b - low_b))
        spread = float((ends[1] - ends[0]) / 2 / norm.ppf((1 + level) / 2))
        method = "Newcombe's hybrid of two intervals"
    else:
        ends = expanded(difference, min(units), level)
    ratio = _ratio(a, b, drawn, drawn_rest, metric, level, min(units))
    return line | _known((a, b), ends, ratio, p, spread, draws, level, method)


def _range(draws: Draws, at: int, p: np.ndarray, level: float) -> dict:
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
    units = int(draws.least_units[usable, at].min())
    ends_of_ratio = drawn.min(axis=0), drawn.max(axis=0)
    ratio = _ratio(point[low], point[top], *ends_of_ratio, metric, level, units)
    spread = np.nan  # no normal law tells what a range could show
    method = "percentile bootstrap; never below 0, see p"
    pair = point[top], point[low]
    return line | _known(pair, ends, ratio, p, spread, draws, level, method)


def _unknown(why: str) -> dict:
    nothing = ("first", "second", "value", "low", "high", "ratio", "ratio_low", "ratio_high", "p",
               "p_low", "p_high", "p_least", "spread")  # fmt: skip
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
        **dict(zip(("p", "p_low", "p_high", "p_least"), p.tolist(), strict=True)),
        "spread": spread,
        "estimate": Estimate(value, low, high, level, rows, units, method),
        "known": True,
        "why": "",
    }


def _ratio(
    a, b, drawn, drawn_rest, metric: str, level: float, units: int
) -> tuple[float, float, float]:
    """a / b with its interval; NaN where b is 0 or the measure has no natural zero."""
    if metric == "mean_error" or b == 0 or (drawn_rest == 0).any():
        return np.nan, np.nan, np.nan
    low, high = expanded(drawn / drawn_rest, units, level)
    return float(a / b), low, high


def _p_values(
    draws: Draws, known: np.ndarray, n: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """p of every difference ``(4, k, m)`` and of every range ``(4, m)``, with the ends of their
    Monte Carlo intervals and the least p that there could be; and the standard errors of the
    differences, ``(k, m)``."""
    k, m = known.shape
    observed = draws.point - draws.rest
    shuffled, values = np.full((2, k, m, n), np.nan)
    used = [1] if k == 2 else np.flatnonzero((draws.why == "").any(axis=1))
    for names, strata in _sets(draws):
        at = [draws.measured.names.index(name) for name in names]
        both_sides = _both_sides(draws, names)
        done = 0
        for codes in _shuffles(draws, strata, n, seed):
            block = slice(done, done + codes.shape[1])
            for g in used:
                values[g, at, block], rest = both_sides(codes == g)
                shuffled[g, at, block] = values[g, at, block] - rest
            done += codes.shape[1]
    p, stretch, error = np.full((4, k, m), np.nan), np.ones((3, k, m)), np.full((k, m), np.nan)
    laws = {(g, at): _law(draws, g, at) for g, at in np.argwhere(known) if g in used}
    by_unit = _spreads(draws, known)
    for (g, at), law in laws.items():
        by_shuffle = np.nanstd(shuffled[g, at]) if law is None else law[2]
        error[g, at] = np.fmax(by_unit[g, at], by_shuffle)
        if by_shuffle > 0:
            unsure = 0 if law is not None else norm.ppf(0.975) / np.sqrt(2 * n)
            ends = 1 + unsure * np.array([0, -1, 1])
            stretch[:, g, at] = np.maximum(1, by_unit[g, at] / by_shuffle * ends)
    for (g, at), law in laws.items():
        least = np.abs(observed[g, at]) - 1e-12
        factors = stretch[:, g, at, None]
        if law is not None:
            gap, chance, _ = law
            far = np.abs(gap)
            p[:3, g, at] = np.minimum((~(far * factors < least) * chance).sum(axis=1), 1)
            most = far[chance > 0].max() - 1e-12
            p[3, g, at] = min(p[0, g, at], chance[far * factors[0] >= most].sum())
            continue
        # a shuffle that leaves a group without a class (NaN) counts as extreme
        p[:, g, at] = _shares(np.abs(shuffled[g, at]) * factors, least)
    p_range = np.full((4, m), np.nan)
    for at in range(m):
        usable = np.flatnonzero(draws.why[:, at] == "")
        if k == 2 or len(usable) < 3:
            continue
        center = np.nanmean(values[usable, at], axis=1, keepdims=True)
        around = values[usable, at] - center
        spans = np.ptp(around * stretch[:, usable, at, None], axis=1)
        p_range[:, at] = _shares(spans, np.ptp(draws.point[usable, at]) - 1e-12)
    return p, p_range, error


def _shares(sizes: np.ndarray, least: float) -> np.ndarray:
    """p, its interval, and the p of the most extreme shuffle, from the sizes of the shuffled gaps
    ``(3, n)``, with the spread as it is, at its lower and at its upper end. NaN counts as extreme.
    A largest shuffle that came up once may be topped by another; one that came up often is the
    largest of few, as where few units swap."""
    x, n = (~(sizes < least)).sum(axis=1), sizes.shape[1]
    low, high = monte_carlo_interval(x, n)
    most = np.fmax.reduce(sizes[0], initial=0.0)
    rarest = max(1, (~(sizes[0] < most - 1e-12)).sum()) / (n + 1)
    p = (1 + x[0]) / (n + 1)
    return np.array([p, low[1], high[2], min(p, rarest)])


def _both_sides(draws: Draws, names: Sequence[str]) -> Callable:
    """A function from who is in a group, boolean ``(carriers, n)``, to the measures of it and of
    all others, ``(2, names, n)``. Groups are carried by units where these swap whole, else by
    rows."""
    carrier = draws.unit if draws.constant else np.arange(len(draws.code))
    parts = {name: draws.measured.parts(name) for name in names}
    at = [i for i, name in enumerate(names) if parts[name] is not None]
    columns = np.empty((2 * len(at), int(carrier.max()) + 1))
    for line, part in enumerate(part for i in at for part in parts[names[i]]):
        columns[line] = np.bincount(carrier, part)
    total = columns.sum(axis=1, keepdims=True)
    areas = _areas(draws.measured, carrier) if "auc" in names else None
    others = [i for i, name in enumerate(names) if parts[name] is None and name != "auc"]
    evaluate = draws.measured.on(names=[names[i] for i in others]) if others else None

    def values(member: np.ndarray) -> np.ndarray:
        found = np.empty((2, len(names), member.shape[1]))
        as_floats = member.astype(np.float64)
        sums = columns @ as_floats
        for side, part in enumerate((sums, total - sums)):
            found[side, at] = ratio(part[::2], part[1::2], empty=np.nan)
        if areas is not None:
            found[:, names.index("auc")] = areas(member, as_floats)
        if evaluate is not None:
            weights = member[carrier].astype(np.int64)
            found[0, others], found[1, others] = evaluate(weights), evaluate(1 - weights)
        return found

    return values


def _areas(measured: Measures, carrier: np.ndarray) -> Callable:
    """The AUC of a group and of all others. Pairs that the others win are all pairs, less those
    that hold a row of the group: two sums over rows, and the pairs within the group."""
    of_group = WeightedAUC(measured.labels, measured.probs)
    positive, negative = of_group.positives, of_group.negatives
    wins = _wins(of_group, measured)
    columns = np.stack([np.bincount(carrier, column) for column in (
        wins, measured.labels == 1, measured.labels == 0)])  # fmt: skip
    everything = wins[positive].sum()
    whole_units = columns.shape[1] < len(carrier)
    whole = np.int32 if len(carrier) < 60_000 else np.int64  # pairs are counted in it

    def values(member: np.ndarray, as_floats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        here = of_group((member[carrier] if whole_units else member).astype(whole))
        won, ones, zeros = columns @ as_floats
        within = np.where(ones * zeros > 0, here * ones * zeros, 0.0)
        pairs = (len(positive) - ones) * (len(negative) - zeros)
        return here, ratio(everything - won + within, pairs, empty=np.nan)

    return values


def _wins(areas: WeightedAUC, measured: Measures) -> np.ndarray:
    """Of each row of label 1, the rows of label 0 below it, and of each row of label 0, the rows of
    label 1 above it; ties count one half."""
    up, down = np.sort(measured.probs[areas.positives]), measured.probs[areas.negatives]
    wins = np.zeros(len(measured.labels))
    wins[areas.positives] = (areas.below + areas.up_to) / 2
    ties = np.searchsorted(up, down) + np.searchsorted(up, down, "right")
    wins[areas.negatives] = len(up) - ties / 2
    return wins


def _law(draws: Draws, g: int, at: int) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Where rows swap and a measure is a share, every shuffle at once: the gaps that there are,
    their chances and their spread. The hits in the group follow the hypergeometric law (Fisher
    1935, The design of experiments, section 12). None for other measures, and where units swap."""
    name = draws.measured.names[at]
    if draws.constant or name not in RATES:
        return None
    hits, about = draws.measured.parts(name)
    mine = draws.code == g
    rows, all_hits, own = (int(x) for x in (about.sum(), hits.sum(), about[mine].sum()))
    law = hypergeom(rows, all_hits, own)
    count = np.arange(max(0, own + all_hits - rows), min(own, all_hits) + 1)
    gap = count / own - (all_hits - count) / (rows - own)
    with np.errstate(divide="ignore", invalid="ignore"):  # of a kurtosis that nobody asked for
        spread = float(law.std() * (1 / own + 1 / (rows - own)))
    return gap, law.pmf(count), spread


def _spreads(draws: Draws, known: np.ndarray) -> np.ndarray:
    """Standard error over units of every known difference, ``(k, m)``, if groups are alike: from
    the residuals of the common value, summed by unit. Residuals of a group's own value would be
    too small in small groups, and 0 in one whose rate is 0 or 1. A group of few units may still
    have residuals that happen to be small. So the standard error is at least that of residuals
    whose variance, and covariance within units, are those of all units."""
    k, units = len(known), int(draws.unit.max()) + 1
    spread, cell = np.zeros(known.shape), draws.unit * k + draws.code
    for at, name in enumerate(draws.measured.names):
        if not known[:, at].any():  # such as the rate of a class that nobody has
            continue
        classes = _residuals(draws.measured, name)
        for g in [] if classes else np.flatnonzero(known[:, at]):
            spread[g, at] = np.nanstd(draws.drawn[g, at] - draws.drawn_rest[g, at])
        if not classes:
            continue
        deviation, common = np.zeros((units, k)), np.zeros(k)
        for residual, about in classes:
            inside, members = (
                np.bincount(cell, part, units * k).reshape(units, k) for part in (residual, about)
            )
            rows, squares = members.sum(axis=0), np.square(residual).sum()
            total, size = inside.sum(axis=1, keepdims=True), members.sum(axis=1, keepdims=True)
            pairs = (size * (size - 1)).sum()
            together = max(0.0, (np.square(total).sum() - squares) / pairs) if pairs else 0.0
            with np.errstate(divide="ignore", invalid="ignore"):  # a group that is unknown
                weight, outside = 1 / rows, 1 / (rows.sum() - rows)
                deviation += inside * weight - (total - inside) * outside
                by_unit = members * weight - (size - members) * outside
                alone = weight + outside  # sum of the squared weights of the rows
                common += squares / rows.sum() * alone
                common += together * (np.square(by_unit).sum(axis=0) - alone)
        spread[:, at] = np.sqrt(np.maximum(np.square(deviation).sum(axis=0), common))
    return spread


def _residuals(measured: Measures | MeanMeasure, name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """What each row adds to a measure beyond the common value, and the rows it is about, per class
    of rows; empty for a measure that is no mean (calibration_error)."""
    parts = measured.parts(name)
    if parts is not None:
        hits, about = parts
        return [(hits - about * (hits.sum() / about.sum()), about)]
    if name != "auc":
        return []
    won, ones = _wins(WeightedAUC(measured.labels, measured.probs), measured), measured.labels == 1
    common = won[ones].sum() / (ones.sum() * (~ones).sum())
    others = np.where(ones, (~ones).sum(), ones.sum())
    return [((won / others - common) * label, 1.0 * label) for label in (ones, ~ones)]


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
    """Groups of the units ``(units, block)`` shuffled, or of the rows where these swap."""
    rng = np.random.default_rng([seed, 1])
    size = int(np.clip(_CELLS // len(draws.code), 8, 512))
    code = draws.code.astype(np.int16)
    first = np.unique(draws.unit, return_index=True)[1]
    for start in range(0, n, size):
        block = min(size, n - start)
        if draws.constant:
            of_unit = np.broadcast_to(code[first], (block, len(first)))
            yield rng.permuted(of_unit, axis=1).T
            continue
        out = np.empty((len(code), block), dtype=np.int16)
        for stratum in np.unique(strata):
            rows = np.flatnonzero(strata == stratum)
            owners = np.broadcast_to(code[rows], (block, len(rows)))
            out[rows] = rng.permuted(owners, axis=1).T
        yield out
