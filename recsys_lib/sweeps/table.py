"""The result of a sweep as one tidy table: parameters × recorded numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from recsys_lib.sweeps.running import PointOutcome
from recsys_lib.workbook.files import atomic_file, atomic_write
from recsys_lib.workbook.parameters import declared
from recsys_lib.workbook.results import executed_results

NUMBERS = ("value", "low", "high", "level", "n")
TEXTS = ("name", "unit")


def sweep_table(
    path: Path,
    points: Sequence[Mapping[str, object]],
    outcomes: Sequence[PointOutcome],
    folder: Path,
) -> pd.DataFrame:
    """One row per run and recorded number; a run that failed has one row without a number.

    Args:
        path: of the notebook.
        points: the sets of parameters.
        outcomes: of the runs that ended, in any order.
        folder: of the sweep; the notebooks' paths are relative to it.

    Returns:
        Columns run, notebook, executed, ok, error, seconds; ``p_<name>`` for every parameter, also
        those that were left as they are; name, value, low, high, level, n, unit, of which what a
        number does not have is missing.
    """
    defaults = {name: parameter.default for name, parameter in declared(path).items()}
    rows = []
    for outcome in sorted(outcomes, key=lambda outcome: outcome.run):
        given = {**defaults, **points[outcome.run]}
        head = {
            "run": outcome.run,
            "notebook": path.stem,
            "executed": outcome.executed.relative_to(folder).as_posix(),
            "ok": outcome.ok,
            "error": outcome.error,
            "seconds": round(outcome.seconds, 2),
            **{f"p_{name}": value for name, value in given.items()},
        }
        payload = executed_results(outcome.executed) if outcome.ok else None
        results = payload["results"] if payload else {}
        rows += [{**head, "name": name, **entry} for name, entry in results.items()] or [head]
    columns = ["run", "notebook", "executed", "ok", "error", "seconds"]
    columns += [f"p_{name}" for name in defaults]
    table = pd.DataFrame(rows, columns=[*columns, "name", *NUMBERS, "unit"])
    for name in NUMBERS:
        table[name] = pd.to_numeric(table[name].map(_number)).astype("float64")
    for name in TEXTS:
        table[name] = table[name].astype("string")
    return table


def write_table(table: pd.DataFrame, folder: Path) -> None:
    """Write ``table.parquet`` and ``table.csv``, each in the place of an older one at once."""
    with atomic_file(folder / "table.parquet") as file:
        table.to_parquet(file, index=False)
    atomic_write(folder / "table.csv", table.to_csv(index=False))


def _number(value: object) -> object:
    """A truth value as 0 or 1."""
    return float(value) if isinstance(value, bool) else value
