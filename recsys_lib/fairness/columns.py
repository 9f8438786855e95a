"""The column that says who somebody is: checked, cut into bands, crossed with another."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from recsys_lib.datasets.tables import as_text, is_missing
from recsys_lib.workbook import InputError

MISSING = "missing"
MOST_GROUPS = 20  # more groups than that are no groups, and leave nothing to compare

Edges = Sequence[float] | Mapping[str, float]


def sensitive_groups(
    values: ArrayLike | pd.Series,
    *,
    name: str = "sensitive",
    bands: Edges | None = None,
    missing: str = "group",
    most: int = MOST_GROUPS,
) -> pd.Series:
    """The group of each row, as an ordered categorical of texts, ``(rows,)``.

    Args:
        values: one per row, texts or numbers. Numbers written as text count as numbers.
        name: of the column, for messages.
        bands: the edges that cut a column of numbers (see `band`).
        missing: what becomes of rows without a value (nothing, white space, "NaN", "None" …):
            "group" makes them a group named "missing", last in order; "drop" leaves them out of
            every group (they stay in the result, as NaN).
        most: so many groups at the most.

    Raises:
        InputError: one group only, more than `most`, numbers that need bands, no value at all.
    """
    if missing not in ("group", "drop"):
        raise InputError(f'missing = "{missing}" is not one of "group", "drop".')
    column = pd.Series(values).reset_index(drop=True)
    if not isinstance(column.dtype, pd.CategoricalDtype):
        cut = band(column, bands, name=name) if bands is not None else _named(column, name, most)
    elif bands is not None:
        raise InputError(f'the column "{name}" holds names, not numbers: leave out bands.')
    else:
        cut = column.cat.remove_unused_categories()
        cut = cut.cat.rename_categories([str(c) for c in cut.cat.categories])
    if cut.isna().all():
        raise InputError(f'the column "{name}" is empty in all {len(cut):,} rows: name another.')
    if missing == "group" and cut.isna().any():
        if MISSING not in cut.cat.categories:
            cut = cut.cat.add_categories([MISSING])
        cut = cut.fillna(MISSING)
    groups = cut.cat.categories
    if len(groups) < 2:
        raise InputError(
            f'the column "{name}" has one group only ("{groups[0]}"): there is nobody to compare '
            "it with; name another column."
        )
    if len(groups) > most:
        raise InputError(
            f'the column "{name}" has {len(groups):,} groups, at most {most} can be compared: put '
            "rare values together first, or name another column."
        )
    return cut.rename(name)


def band(values: ArrayLike | pd.Series, edges: Edges, *, name: str = "values") -> pd.Series:
    """Numbers in bands, an ordered categorical of texts; NaN where there is no number.

    Args:
        values: numbers (texts that are numbers count), ``(rows,)``.
        edges: rising limits; each begins a band, and what lies below the first is a band too. Whole
            edges and whole values give "under 30", "30–44", "45 and over"; others "30 to <44.5".
            Or a mapping from names to the lower limit of each: ``{"young": 0, "older": 40}``;
            values below the lowest are refused.
        name: of the column, for messages.

    Raises:
        InputError: no edges, not rising, values that are no numbers, or below the first name.
    """
    try:
        limits = np.array([*(edges.values() if isinstance(edges, Mapping) else edges)], float)
    except (TypeError, ValueError):
        limits = np.array([])
    if len(limits) < 1 or not np.isfinite(limits).all() or (np.diff(limits) <= 0).any():
        raise InputError(f"bands = {edges!r} must be rising numbers, such as (30, 45, 60).")
    text = as_text(pd.Series(values).reset_index(drop=True))
    numbers = pd.to_numeric(text, errors="coerce")
    wrong = numbers.isna() & ~is_missing(text)
    if wrong.any():
        raise InputError(
            f'the column "{name}" holds {text[wrong].iloc[0]!r} (row {wrong.idxmax()}), which is '
            "no number: bands need numbers."
        )
    whole = (limits % 1 == 0).all() and (numbers.dropna() % 1 == 0).all()
    if isinstance(edges, Mapping):
        names = list(map(str, edges))
        if (numbers < limits[0]).any():
            raise InputError(
                f'the column "{name}" holds {numbers.min():g}, below the lowest band '
                f'"{names[0]}" ({limits[0]:g}): add a band that begins lower.'
            )
    else:
        names = [f"under {limits[0]:.12g}"]
        for low, high in itertools.pairwise(limits):
            last = high - 1 if whole else high
            alone = whole and last == low
            join = "–" if whole else " to <"
            names.append(f"{low:.12g}" if alone else f"{low:.12g}{join}{last:.12g}")
        names.append(f"{limits[-1]:.12g} and over")
        limits = np.r_[-np.inf, limits]
    if len(set(names)) < len(names):
        raise InputError(f"bands = {edges!r} give two bands the same name.")
    code = np.searchsorted(limits, numbers.to_numpy(float), side="right") - 1
    code = np.where(numbers.isna(), -1, code)
    cut = pd.Series(pd.Categorical.from_codes(code, names, ordered=True), name=name)
    return cut.cat.remove_unused_categories()


def cross(first: pd.Series, second: pd.Series) -> pd.Series:
    """Every pair of groups that occurs, such as "under 30 × Dresses"; NaN where either is NaN.

    Args:
        first, second: results of `sensitive_groups` of the same rows; the order of the pairs
            follows theirs.
    """
    if len(first) != len(second):
        raise InputError(f"two columns to cross have {len(first)} and {len(second)} rows.")
    a, b = first.reset_index(drop=True), second.reset_index(drop=True)
    width = len(b.cat.categories)
    code = a.cat.codes.to_numpy(int) * width + b.cat.codes.to_numpy(int)
    code = np.where((a.isna() | b.isna()).to_numpy(), -1, code)
    names = [f"{x} × {y}" for x in a.cat.categories for y in b.cat.categories]
    cut = pd.Series(pd.Categorical.from_codes(code, names, ordered=True))
    return cut.cat.remove_unused_categories().rename(f"{first.name} × {second.name}")


def _named(column: pd.Series, name: str, most: int) -> pd.Series:
    """Texts or few whole numbers as they are, in order; many numbers are refused."""
    text = as_text(column)
    text = text.where(~is_missing(text)).str.strip()
    numbers = pd.to_numeric(text, errors="coerce")
    distinct = text.dropna().unique()
    if len(distinct) and numbers.notna().sum() == text.notna().sum():
        if len(distinct) > most or (numbers.dropna() % 1 != 0).any():
            raise InputError(
                f'the column "{name}" is continuous ({len(distinct):,} numbers from '
                f"{numbers.min():g} to {numbers.max():g}): give bands, such as "
                f"bands = {_suggested(numbers)}."
            )
        order = [value for _, value in sorted((float(value), value) for value in distinct)]
    else:
        order = sorted(distinct)
    return pd.Series(pd.Categorical(text, order, ordered=True))


def _suggested(numbers: pd.Series) -> tuple[float, ...]:
    finite = numbers[np.isfinite(numbers)]
    digits = 0 if (finite % 1 == 0).all() and np.ptp(finite) > 5 else 3
    low, high = finite.min(), finite.max()
    thirds = sorted({round(float(q), digits) for q in finite.quantile([1 / 3, 2 / 3])})
    thirds = [q for q in thirds if low < q <= high] or [float(finite[finite > low].min())]
    return tuple(int(q) if q == int(q) else q for q in thirds)
