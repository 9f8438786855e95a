"""The points of a sweep: which sets of parameters a notebook is to be run with."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from recsys_lib.workbook.errors import InputError
from recsys_lib.workbook.parameters import check_names, check_value, declared, from_text


def points_of(
    path: Path,
    *,
    fixed: Mapping[str, object] | None = None,
    grid: Mapping[str, Sequence[object]] | None = None,
    listed: Sequence[Mapping[str, object]] = ({},),
) -> list[dict[str, object]]:
    """Every listed set of parameters with every combination of the grid, checked.

    Args:
        path: of the notebook.
        fixed: parameters that all points share; a listed set goes before it, the grid before both.
        grid: values by name; the last name varies fastest.
        listed: sets of parameters.

    Returns:
        One mapping per point, in the order in which they will run. Texts are read as the
        notebook's own types.

    Raises:
        InputError: no point; the same point twice; a name that the notebook does not have, or a
            value that it does not take.
    """
    grid = dict(grid or {})
    for name, values in grid.items():
        if not values:
            raise InputError(f"{name} has no values: the sweep has no runs.")
    known = declared(path)
    given = [dict(fixed or {}), *map(dict, listed), dict.fromkeys(grid)]
    check_names(path, {name: None for names in given for name in names})
    points = []
    for chosen in listed:
        for values in itertools.product(*grid.values()):
            point = {**(fixed or {}), **chosen, **dict(zip(grid, values, strict=True))}
            points.append(
                {
                    name: from_text(known[name], value) if isinstance(value, str) else value
                    for name, value in point.items()
                }
            )
    if not points:
        raise InputError("the list of parameter sets is empty: the sweep has no runs.")
    seen: dict[str, int] = {}
    checked = set()
    for number, point in enumerate(points):
        for name, value in point.items():
            if (key := (name, type(value), repr(value))) not in checked:
                check_value(known[name], value)
                checked.add(key)
        same = seen.setdefault(repr(sorted(point.items())), number)
        if same != number:
            raise InputError(
                f"the sets of parameters {same + 1} and {number + 1} of the sweep are the same: "
                f"{describe(point) or 'all as the notebook has them'}."
            )
    return points


def varied(points: Sequence[Mapping[str, object]]) -> list[str]:
    """The names of the parameters in which the points differ, in their order."""
    names = dict.fromkeys(name for point in points for name in point)
    return [
        name
        for name in names
        if len({repr(point[name]) if name in point else None for point in points}) > 1
    ]


def describe(point: Mapping[str, object], names: Sequence[str] | None = None) -> str:
    """A point in words: ``profile=quick, seed=3``; with `names` only these."""
    shown = point if names is None else [name for name in names if name in point]
    return ", ".join(f"{name}={point[name]}" for name in shown)
