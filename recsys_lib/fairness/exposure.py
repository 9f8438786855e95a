"""Who gets seen: the attention that rankings give to classes of products, against their relevance.

A ranking is a matrix of product rows per query, best first (-1 where a list ends, as in
`search.Ranking.rows`). A position is worth the attention that it gets; what a class of products (a
seller, a price band, the popular ones) gets of it is its *exposure*, and its share of what shoppers
were looking for is its *merit*. Each query counts the same.

Sources: Singh, Joachims (2018), Fairness of exposure in rankings, KDD (exposure over merit);
Biega, Gummadi, Weikum (2018), Equity of attention, SIGIR (amortized over queries); Gini (1912);
Colwell, Mao, Chang (2004), Ecology 85 and Chao (1987), Biometrics 43 (how much was not yet seen).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from recsys_lib.fairness.chance import Chance, blocks, least_holm, subset_chance
from recsys_lib.fairness.gaps import GAP, NOT_SHOWN, NOT_TESTABLE
from recsys_lib.fairness.power import smallest_gap
from recsys_lib.metrics import Estimate, holm
from recsys_lib.workbook.errors import InputError

_BLOCK = 64  # resamples at a time


def attention(k: int, examination: Sequence[float] | None = None) -> np.ndarray:
    """How much attention positions 1 … k get, float64 (k,).

    By default 1 / log2(1 + position), the discount of DCG; with `examination` the known chance that
    a shopper looks at each position, of which the first k are taken.

    Raises InputError for k below 1, or chances that are fewer than k or not between 0 and 1.
    """
    if k < 1:
        raise InputError(f"k = {k}: a list has at least one position.")
    if examination is None:
        return 1 / np.log2(np.arange(2, k + 2))
    chances = np.asarray(examination, dtype=np.float64)
    if chances.ndim != 1 or len(chances) < k:
        raise InputError(
            f"examination: {chances.size} chances for {k} positions: cut the rankings to those "
            "whose attention is known."
        )
    if not ((chances >= 0) & (chances <= 1)).all():
        raise InputError("examination: chances must lie between 0 and 1.")
    return chances[:k].copy()


def exposure_per_query(rows: ArrayLike, weights: ArrayLike, n_products: int) -> np.ndarray:
    """(Q, n_products) float64: the share of each query's attention that goes to each product.

    rows: (Q, k), -1 where a list ends. weights: (k,) as `attention` gives. Every row adds up to 1;
    that of an empty list is all NaN.

    Raises InputError for a product twice in a list, a row beyond the catalog, or other shapes.
    """
    rows = _checked_rows(rows, n_products)
    weights = checked_weights(weights, rows.shape[1])
    exposure = np.zeros((len(rows), n_products))
    query, at = np.nonzero(rows >= 0)
    exposure[query, rows[query, at]] = weights[at]
    return _shares(exposure)


def checked_weights(weights: ArrayLike, k: int) -> np.ndarray:
    """Attention as float64 (k,); InputError for another shape, or for what is no attention."""
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (k,):
        raise InputError(f"weights: shape {weights.shape} for lists of {k} positions.")
    if not np.isfinite(weights).all() or weights.min(initial=1) < 0 or weights.sum() <= 0:
        raise InputError("weights: attention must be finite, not negative, and not all 0.")
    return weights


def query_units(groups: Sequence[Hashable] | None, kept: np.ndarray) -> np.ndarray:
    """Which unit each ranking that is kept belongs to, int64 (kept,), numbered from 0.

    groups: (Q,) as in `class_exposure`, None: each ranking stands alone. kept: bool (Q,).

    Raises InputError for another length, a ranking without a group, or one group only.
    """
    if groups is None:
        return np.arange(kept.sum())
    if len(groups) != len(kept):
        raise InputError(f"groups: {len(groups)} for {len(kept)} rankings.")
    unit = _numbered(groups)
    if (unit < 0).any():
        raise InputError("groups: a ranking has none: leave it out, or give it one of its own.")
    unit = np.unique(unit[kept], return_inverse=True)[1]
    if unit.max() < 1:
        raise InputError("groups: only one; at least two are needed to resample.")
    return unit


@dataclass(frozen=True)
class ClassExposure:
    """What one class of products gets, and what it would get by its merit.

    name, products: of the class. exposure, merit: its mean share over the queries. gap: exposure
    less merit; ratio: exposure over merit; 0 and 1 are proportional. Intervals resample queries:
    other questions to the same catalog. p: permutation of the classes among the products (or
    brands): could a label that means nothing have a gap as wide? p_low, p_high: its Monte Carlo
    interval (see `chance`). p_least: the least p that any labels could have had. p_holm: corrected
    for the comparisons (one of two classes, else one per class), or for all that
    `correct_exposures` was given. p_holm_low, p_holm_high, p_holm_least: the same of p_low, p_high
    and p_least (see `least_holm`). spread: standard error of the gap if labels mean nothing, as in
    a t test of the class's products (or brands) against the others, and freedom its degrees of
    freedom. detectable: the smallest gap that such a test shows with a power of 80 % at the level
    alpha / comparisons; where few products have nearly all of the gaps, take it as rough.
    verdict: "gap", "no gap shown", or "not testable" where p_holm_least is above alpha.
    """

    name: str
    products: int
    exposure: Estimate
    merit: Estimate
    gap: Estimate
    ratio: Estimate
    p: float
    p_low: float
    p_high: float
    p_least: float
    spread: float
    freedom: int
    p_holm: float = np.nan
    p_holm_low: float = np.nan
    p_holm_high: float = np.nan
    p_holm_least: float = np.nan
    detectable: float = np.nan
    verdict: str = NOT_SHOWN


def class_exposure(
    rows: ArrayLike,
    merit: ArrayLike,
    classes: Sequence[Hashable],
    *,
    weights: ArrayLike | None = None,
    units: Sequence[Hashable] | None = None,
    groups: Sequence[Hashable] | None = None,
    n: int = 2000,
    permutations: int = 50_000,
    level: float = 0.95,
    seed: int = 0,
) -> list[ClassExposure]:
    """Exposure of each class against its merit, in the order of their names.

    The ratio is (Σ_q exposure of the class) / (Σ_q merit of the class), both shares of their query:
    for one query, Singh and Joachims' exposure over utility of the group, relative to what all
    products together have. Queries without a list or without any merit are left out. Two classes
    make one comparison: what one has too much, the other lacks.

    Args:
        rows: (Q, k), the rankings.
        merit: (Q, N), not negative: how relevant every product is to every query.
        classes: (N,) of the products.
        weights: (k,) attention per position, by default `attention(k)`.
        units: (N,) what a class belongs to, such as the brand that has one seller: labels are
            permuted among these. By default the product.
        groups: (Q,) which rankings belong together, such as all that were shown for one query, or
            for queries that say the same: these are resampled as a whole. By default each stands
            alone.
        n: resamples.
        permutations: at most (see `chance.subset_chance`).
        level, seed: of the intervals; of the randomness.

    Raises:
        InputError: shapes that do not fit, negative or infinite merit, a missing class, unit or
            group, one class or group only, a unit of two classes, or a class without any merit.
    """
    merit = np.asarray(merit, dtype=np.float64)
    rows = np.asarray(rows)
    if merit.ndim != 2 or len(merit) != len(rows):
        raise InputError(f"merit: shape {merit.shape} for {len(rows)} rankings.")
    if not np.isfinite(merit).all() or merit.min(initial=0) < 0:
        raise InputError("merit: must be finite and not negative.")
    names, of = _classes(classes, merit.shape[1])
    rows = _checked_rows(rows, merit.shape[1])
    weights = attention(rows.shape[1]) if weights is None else weights
    exposure = exposure_per_query(rows, weights, merit.shape[1])
    deserved = _shares(merit)
    kept = ~np.isnan(exposure[:, 0]) & ~np.isnan(deserved[:, 0])
    if kept.sum() < 2:
        raise InputError("fewer than two queries have both a ranking and a relevant product.")
    if not kept.all():
        exposure, deserved = exposure[kept], deserved[kept]
    member = (of[:, None] == np.arange(len(names))).astype(np.float64)
    got, due = exposure @ member, deserved @ member  # (queries, classes)
    if (due.sum(axis=0) == 0).any():
        nobody = names[int(np.argmin(due.sum(axis=0)))]
        raise InputError(f'class "{nobody}" has no relevant product: its ratio is not defined.')
    per_group = _group_sums(np.column_stack([got, due, np.ones(len(got))]), groups, kept)
    drawn = _resampled(per_group, n, seed)
    drawn_got, drawn_due = np.split(drawn[:, :-1] / drawn[:, -1:], 2, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn_ratio = drawn_got / drawn_due
    gap = exposure.mean(axis=0) - deserved.mean(axis=0)
    chance, spread, freedom = _permuted(gap, of, len(names), units, permutations, seed)
    found = []
    for c, name in enumerate(names):
        mean_got, mean_due = float(got[:, c].mean()), float(due[:, c].mean())
        estimates = [
            _percentile(value, values, level, len(got), len(per_group))
            for value, values in (
                (mean_got, drawn_got[:, c]),
                (mean_due, drawn_due[:, c]),
                (mean_got - mean_due, drawn_got[:, c] - drawn_due[:, c]),
                (mean_got / mean_due, drawn_ratio[:, c]),
            )
        ]
        ends = (float(p[c]) for p in (chance.p, chance.low, chance.high, chance.least, spread))
        found.append(ClassExposure(str(name), int(member[:, c].sum()), *estimates, *ends, freedom))
    return correct_exposures({"": found})[""]


def correct_exposures(
    calls: Mapping[Hashable, Sequence[ClassExposure]], *, alpha: float = 0.05
) -> dict[Hashable, list[ClassExposure]]:
    """Holm's correction over the comparisons of several calls of `class_exposure` together.

    Of two classes only one counts as a comparison, since their gaps are each other's negatives.
    What the calls have in common is one family, with the chance alpha of even one false claim; a
    question that was planned apart gets a call of its own.
    """
    tests = [(call, at) for call, found in calls.items() for at in range(len(found))
             if at == 0 or len(found) > 2]  # fmt: skip
    number = {test: row for row, test in enumerate(tests)}
    values = {
        end: np.array([getattr(calls[call][at], f"p{end}") for call, at in tests])
        for end in ("", "_low", "_high", "_least")
    }
    corrected = {end: holm(values[end]) for end in ("", "_low", "_high")}
    corrected["_least"] = least_holm(values[""], values["_least"])

    def judged(found_class: ClassExposure, test: int) -> ClassExposure:
        ends = {f"p_holm{end}": float(of[test]) for end, of in corrected.items()}
        verdict = GAP if ends["p_holm"] <= alpha + 1e-12 else NOT_SHOWN
        if ends["p_holm_least"] > alpha + 1e-12:
            verdict = NOT_TESTABLE
        level = alpha / len(tests)
        least = smallest_gap(found_class.spread, alpha=level, freedom=found_class.freedom)
        return replace(found_class, **ends, detectable=least, verdict=verdict)

    return {
        call: [
            judged(found_class, number[call, at if len(found) > 2 else 0])
            for at, found_class in enumerate(found)
        ]
        for call, found in calls.items()
    }


def popularity_classes(popularity: ArrayLike) -> np.ndarray:
    """(N,) str: "head" (the most popular tenth), "middle" (the next four tenths), "tail".

    Ties go to the lower row. Raises InputError for fewer than 10 products, or NaN.
    """
    values = np.asarray(popularity, dtype=np.float64)
    if values.ndim != 1 or len(values) < 10 or np.isnan(values).any():
        raise InputError("popularity: needs one number for each of at least 10 products.")
    place = np.empty(len(values))
    place[np.argsort(-values, kind="stable")] = np.arange(len(values)) / len(values)
    return np.select([place < 0.1, place < 0.5], ["head", "middle"], "tail")


def gini(values: ArrayLike) -> float:
    """Inequality of amounts, 0 (all alike) … (N − 1) / N (one has all).

    Σᵢ Σⱼ |xᵢ − xⱼ| / (2 N² x̄), from the sorted amounts. Raises InputError for negative amounts, or
    none above 0.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not np.isfinite(x).all() or x.min(initial=0) < 0 or x.sum() <= 0:
        raise InputError("gini: needs finite amounts that are not negative, and one above 0.")
    return _gini(x)


def gini_of_exposure(
    rows: ArrayLike,
    n_products: int,
    *,
    weights: ArrayLike | None = None,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Estimate:
    """Gini of the attention per product, of the whole catalog, over as many queries as there are.

    Bootstrap resamples repeat queries and so concentrate attention: their Gini lies too high and
    varies too little. The interval is the observed value ± the normal quantile times the standard
    error of the jackknife, which leaves out one query at a time (Efron, Tibshirani 1993, section
    11.5), or one of the `groups` (Q,), such as queries that say the same.
    """
    rows = _checked_rows(rows, n_products)
    weights = attention(rows.shape[1]) if weights is None else weights
    exposure = exposure_per_query(rows, weights, n_products)
    kept = ~np.isnan(exposure[:, 0])
    exposure = exposure[kept]
    if len(exposure) < 2:
        raise InputError("fewer than two queries have a ranking.")
    total, parts = exposure.sum(axis=0), _group_sums(exposure, groups, kept)
    without = np.array([_gini((total - own).clip(0)) for own in parts])
    spread = np.sqrt((len(parts) - 1) * np.var(without))
    what = "queries" if groups is None else "groups of queries"
    method = f"normal interval, jackknife over {len(parts)} {what}"
    return _normal(gini(total), spread, level, len(exposure), len(parts), method)


@dataclass(frozen=True)
class Coverage:
    """share: of the catalog that was shown at least once. expected_in_the_end: the least share that
    ever more queries of the same kind would show (Chao's lower bound, at most 1)."""

    share: Estimate
    expected_in_the_end: float


def coverage(
    rows: ArrayLike,
    n_products: int,
    *,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Coverage:
    """The share of the catalog that stands in any of the lists.

    A resample of queries shows fewer products than the queries themselves, so a bootstrap interval
    would lie below the value. This one has the closed variance of the number of kinds seen in Q
    samples, S (1 − S / S_all), where S_all is what Q → ∞ would show, estimated from the kinds seen
    once (f₁) and twice (f₂): S + (Q − 1) / Q · f₁ (f₁ − 1) / (2 (f₂ + 1)), at most N. A sample is a
    query, or all lists of one of the `groups` (Q,), such as queries that say the same.
    Sources: Colwell, Mao, Chang (2004), equation 6; Chao (1987), bias-corrected.
    """
    rows = _checked_rows(rows, n_products)
    kept = (rows >= 0).any(axis=1)
    rows = rows[kept]
    if len(rows) < 2:
        raise InputError("fewer than two queries have a ranking.")
    unit = query_units(groups, kept)
    samples = int(unit.max()) + 1
    query, at = np.nonzero(rows >= 0)
    seen = np.unique(unit[query] * n_products + rows[query, at])  # each sample's products once
    times = np.bincount(seen % n_products, minlength=n_products)
    shown, once, twice = (times > 0).sum(), (times == 1).sum(), (times == 2).sum()
    unseen = (samples - 1) / samples * once * (once - 1) / (2 * (twice + 1))
    in_the_end = min(float(shown + unseen), float(n_products))
    spread = np.sqrt(shown * (1 - shown / in_the_end)) / n_products
    method = "normal interval, closed variance of the number of products seen"
    share = _normal(shown / n_products, spread, level, len(rows), samples, method)
    return Coverage(share, in_the_end / n_products)


# ----------------------------------------------------------------------------- helpers


def _checked_rows(rows: ArrayLike, n_products: int) -> np.ndarray:
    rows = np.asarray(rows)
    if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.integer):
        raise InputError("rows: rankings must be whole numbers of the shape (queries, positions).")
    if rows.size and not -1 <= rows.min() <= rows.max() < n_products:
        raise InputError(f"rows: products must be −1 or 0 … {n_products - 1}.")
    ordered = np.sort(rows, axis=1)
    twice = ((np.diff(ordered, axis=1) == 0) & (ordered[:, 1:] >= 0)).any(axis=1)
    if twice.any():
        raise InputError(f"rows: ranking {int(np.argmax(twice))} lists a product twice.")
    return rows


def _shares(amounts: np.ndarray) -> np.ndarray:
    """Each row over its sum; NaN where that is 0."""
    total = amounts.sum(axis=1, keepdims=True)
    return np.divide(amounts, total, out=np.full_like(amounts, np.nan), where=total > 0)


def _numbered(values: Sequence[Hashable]) -> np.ndarray:
    """A number for each value in the order of their words, -1 for a missing one. 1 is not "1"."""
    column = np.fromiter(values, dtype=object, count=len(values))  # tuples stay values
    code, names = pd.factorize(column)
    place = np.empty(len(names) + 1, dtype=np.int64)
    place[sorted(range(len(names)), key=lambda at: str(names[at]))] = np.arange(len(names))
    place[-1] = -1
    return place[code]


def _classes(classes: Sequence[Hashable], n_products: int) -> tuple[list, np.ndarray]:
    values = list(classes)
    if len(values) != n_products:
        raise InputError(f"classes: {len(values)} for {n_products} products.")
    if pd.isna(pd.Series(values, dtype=object)).any():
        raise InputError("classes: a product has none: give it one, such as “unknown”.")
    names = sorted(set(values), key=str)
    if len(names) < 2:
        raise InputError("classes: only one; there is nothing to compare.")
    number = {name: c for c, name in enumerate(names)}
    return names, np.array([number[value] for value in values])


def _group_sums(
    per_query: np.ndarray, groups: Sequence[Hashable] | None, kept: np.ndarray
) -> np.ndarray:
    """Sums per group, (groups, columns), of the rankings that were kept."""
    if groups is None:
        return per_query
    unit = query_units(groups, kept)
    return np.stack([np.bincount(unit, column) for column in per_query.T], axis=1)


def _resampled(per_unit: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Sums over n resamples of the rows, (n, columns)."""
    rng = np.random.default_rng(seed)
    even = np.full(len(per_unit), 1 / len(per_unit))
    return np.concatenate(
        [rng.multinomial(len(per_unit), even, size=size) @ per_unit for size in blocks(n, _BLOCK)]
    )


def _permuted(
    gap: np.ndarray,
    of: np.ndarray,
    n_classes: int,
    units: Sequence[Hashable] | None,
    n: int,
    seed: int,
) -> tuple[Chance, np.ndarray, int]:
    """How often do permuted labels of the units give each class a gap as far from 0? And the
    standard error of each class's gap, ``(classes,)``, with its degrees of freedom."""
    unit = np.arange(len(of))
    if units is not None:
        if len(units) != len(of):
            raise InputError(f"units: {len(units)} for {len(of)} products.")
        unit = _numbered(units)
        if (unit < 0).any():
            raise InputError("units: a product has none: give it one of its own.")
    label = np.zeros(unit.max() + 1, dtype=np.int64)
    label[unit] = of
    if (label[unit] != of).any():
        raise InputError("units: one of them has products of two classes.")
    per_unit = np.bincount(unit, gap)
    sizes = np.bincount(label, minlength=n_classes)
    observed = np.bincount(label, per_unit, n_classes)
    chance = subset_chance(per_unit, sizes, observed, n=n, seed=seed)
    freedom = len(per_unit) - 2
    return chance, _pooled_spread(per_unit, sizes, observed), max(freedom, 1)


def _pooled_spread(values: np.ndarray, sizes: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Standard error of the sum of each class if labels mean nothing, ``(classes,)``.

    values: ``(units,)``, the gap of each unit, whose sum is 0. sizes, observed: ``(classes,)``,
    units in each class and their sum. The sum of k among n is k (n − k) / n times the difference
    of the two means, whose standard error is s √(1/k + 1/(n − k)), pooled within the two.
    """
    n, rest = len(values), len(values) - sizes
    total = values.sum()
    between = observed**2 / sizes + (total - observed) ** 2 / rest
    squares = np.maximum(np.square(values).sum() - between, 0)
    return np.sqrt(squares / max(n - 2, 1) * sizes * rest / n)


def _gini(x: np.ndarray) -> float:
    n = len(x)
    return float(np.sort(x) @ (2 * np.arange(1, n + 1) - n - 1) / (n * x.sum()))


def _percentile(value: float, drawn: np.ndarray, level: float, rows: int, units: int) -> Estimate:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], method="lower")
    what = "queries" if units == rows else "groups of queries"
    method = f"percentile bootstrap, {len(drawn)} resamples of {units} {what}"
    return Estimate(float(value), float(low), float(high), level, rows, units, method)


def _normal(
    value: float, spread: float, level: float, queries: int, units: int, method: str
) -> Estimate:
    half = NormalDist().inv_cdf((1 + level) / 2) * float(spread)
    low, high = max(0.0, value - half), min(1.0, value + half)
    return Estimate(float(value), float(low), float(high), level, queries, units, method)
