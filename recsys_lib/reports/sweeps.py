"""A sweep: its table of runs and numbers, what varies in it, and the spread over seeds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from recsys_lib.reports.notebooks import read_run
from recsys_lib.workbook.errors import InputError

TABLE = "table.parquet"
_COLUMNS = (
    *("run", "notebook", "executed", "ok", "error", "seconds"),
    *("name", "value", "low", "high", "level", "n", "unit"),
)
_NUMERIC = ("run", "seconds", "value", "low", "high", "level")


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep."""

    run: int
    notebook: str
    executed: str  # relative to the sweep's folder
    ok: bool
    error: str
    seconds: float | None
    parameters: Mapping[str, object]
    results: Mapping[str, Mapping[str, object]]
    payload: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Sweep:
    """All runs of a sweep, in its order."""

    path: Path
    runs: tuple[SweepRun, ...]

    @property
    def varying(self) -> tuple[str, ...]:
        """The parameters that take more than one value within a notebook."""
        return varying(self.runs)

    def numbers(self) -> Iterator[tuple[str, str, list[SweepRun]]]:
        """(notebook, name, its runs) of each number with an interval or more than one value."""
        for notebook, name, runs in self._all_numbers():
            entries = [run.results[name] for run in runs]
            values = {entry.get("value") for entry in entries}
            if len(values) > 1 or any(entry.get("low") is not None for entry in entries):
                yield notebook, name, runs

    def constants(self) -> list[tuple[str, str, list[SweepRun]]]:
        """(notebook, name, its runs) of each number that is the same in all of them."""
        told = {(notebook, name) for notebook, name, _ in self.numbers()}
        return [row for row in self._all_numbers() if row[:2] not in told]

    def _all_numbers(self) -> Iterator[tuple[str, str, list[SweepRun]]]:
        names = dict.fromkeys((run.notebook, name) for run in self.runs for name in run.results)
        for notebook, name in names:
            runs = [r for r in self.runs if r.notebook == notebook and name in r.results]
            yield notebook, name, runs


@dataclass(frozen=True)
class Spread:
    """A number at one point, over the seeds."""

    point: Mapping[str, object]  # the parameters that vary, without the seed
    seeds: int
    mean: float
    deviation: float | None  # None for a single seed


def varying(runs: Sequence) -> tuple[str, ...]:
    """The parameters that take more than one value among the runs of one notebook."""
    seen: dict[tuple[str, str], set[str]] = {}
    for run in runs:
        for name, value in run.parameters.items():
            seen.setdefault((run.notebook, name), set()).add(repr(value))
    return tuple(dict.fromkeys(name for (_, name), values in seen.items() if len(values) > 1))


def point_of(run, names: Sequence[str]) -> dict[str, object]:
    """The values of these parameters in a run that has them."""
    return {name: run.parameters[name] for name in names if name in run.parameters}


def spread_over_seeds(runs: Sequence[SweepRun], name: str) -> list[Spread]:
    """Mean and standard deviation of a number at each point; empty where no point has two seeds."""
    points = [parameter for parameter in varying(runs) if parameter != "seed"]
    groups: dict[str, list[SweepRun]] = {}
    for run in runs:
        value = run.results[name].get("value")
        if value is not None and not isinstance(value, bool) and "seed" in run.parameters:
            groups.setdefault(repr(point_of(run, points)), []).append(run)
    found = []
    for group in groups.values():
        values = pd.Series([float(run.results[name]["value"]) for run in group])
        several = len(values) > 1
        deviation = float(values.std()) if several else None
        found.append(Spread(point_of(group[0], points), len(group), values.mean(), deviation))
    return found if any(spread.deviation is not None for spread in found) else []


def read_sweep(folder: Path) -> Sweep:
    """Read the table of a sweep and, where they are there, its executed notebooks.

    Raises:
        InputError: a table that cannot be read, that is not a sweep's, or that has no runs.
    """
    file = folder / TABLE
    try:
        table = pd.read_parquet(file)
    except (OSError, ValueError) as error:  # pyarrow's errors are of both kinds
        raise InputError(f"{file} cannot be read: {str(error).splitlines()[0]}.") from None
    if missing := [column for column in _COLUMNS if column not in table.columns]:
        raise InputError(f"{file} is not the table of a sweep: it lacks {', '.join(missing)}.")
    if wrong := [name for name in _NUMERIC if not _holds_numbers(table[name])]:
        raise InputError(f"{file} is not the table of a sweep: {wrong[0]} holds no numbers.")
    if table.empty:
        raise InputError(f"{file} has no rows: the sweep has run nothing yet.")
    runs = [_sweep_run(folder, rows) for _, rows in table.groupby("run", sort=True)]
    return Sweep(folder, tuple(runs))


def _holds_numbers(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) or bool(column.isna().all())


def _sweep_run(folder: Path, rows: pd.DataFrame) -> SweepRun:
    first = {name: _plain(value) for name, value in rows.iloc[0].items()}
    results = {}
    for record in rows.to_dict("records"):
        entry = {name: _plain(record[name]) for name in _COLUMNS[7:]}
        if _plain(record["name"]) is not None:
            results[str(record["name"])] = {k: v for k, v in entry.items() if v not in (None, "")}
    parameters = {
        name.removeprefix("p_"): _whole(value)
        for name, value in first.items()
        if name.startswith("p_") and value is not None
    }
    executed = str(first["executed"] or "")
    return SweepRun(
        run=int(first["run"]),
        notebook=str(first["notebook"]),
        executed=executed,
        ok=bool(first["ok"]),
        error=str(first["error"] or ""),
        seconds=first["seconds"],
        parameters=parameters,
        results=results,
        payload=_payload(folder, executed),
    )


def _payload(folder: Path, executed: str) -> Mapping[str, object]:
    """What the executed notebook says about its run; nothing where it is not in the folder."""
    path = (folder / executed).resolve()
    if not executed or not path.is_relative_to(folder.resolve()) or not path.is_file():
        return {}
    try:
        return read_run(path).payload
    except InputError:
        return {}


def _plain(value: object) -> object:
    """A plain Python value; None for what is missing."""
    value = value.item() if hasattr(value, "item") else value
    return None if value is None or pd.isna(value) else value


def _whole(value: object) -> object:
    """A whole number as such: a column with gaps keeps the seed 1 as 1.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
