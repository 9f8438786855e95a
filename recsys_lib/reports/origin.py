"""Where a report's numbers come from: parameters, versions, device, data, duration."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from recsys_lib.datasets.registry import datasets, sha256_of
from recsys_lib.reports.markup import Cell, details, facts, table
from recsys_lib.reports.notebooks import Run
from recsys_lib.workbook.files import find_data
from recsys_lib.workbook.settings import is_table_path


def duration(seconds: float | None) -> str:
    """``42 s``, ``6 min 10 s``, ``2 h 5 min``; empty where it is not known."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def origin_html(runs: Sequence[Run], others: Sequence) -> str:
    """Everything that one needs to make the numbers again.

    Args:
        runs: of notebooks, each with a line of its own.
        others: runs of sweeps, whose parameters stand elsewhere.
    """
    html = ""
    if runs:
        columns = ["notebook", "data", "profile", "seed", "model", "device", "precision"]
        rows = [[run.notebook, *(_told(run, name) for name in columns[1:])] for run in runs]
        if any(run.seconds is not None for run in runs):
            columns.append("took")
            rows = [
                [*row, Cell(duration(run.seconds), "number")]
                for row, run in zip(rows, runs, strict=True)
            ]
        html += table("how the notebooks were run", columns, rows)
        html += "".join(details(f"Parameters of {run.notebook}", _parameters(run)) for run in runs)
    both = [*runs, *others]
    html += "<h3>Data</h3>\n" + _data(both) + "<h3>Versions</h3>\n" + _versions(both)
    return html


def _told(run: Run, name: str) -> str:
    key = "dataset" if name == "data" else name
    return str(run.payload.get(key, run.parameters.get(key, "")))


def _parameters(run: Run) -> str:
    if not run.parameters:
        return "<p>It has none.</p>\n"
    rows = []
    for name, value in run.parameters.items():
        default = run.defaults.get(name)
        same = name not in run.given or default == value
        rows.append([name, parameter_text(value), "" if same else parameter_text(default)])
    return table(f"parameters of {run.notebook}", ["parameter", "value", "in place of"], rows)


def parameter_text(value: object) -> str:
    """A parameter's value; a text in quotes, so that an empty one can be seen."""
    return f'"{value}"' if isinstance(value, str) else str(value)


def _data(runs: Sequence) -> str:
    rows = []
    for name in dict.fromkeys(str(_data_of(run)) for run in runs):
        rows += _files(name)
    for table_of in dict.fromkeys(run.parameters.get("judgements") for run in runs):
        if table_of:
            rows += _files(str(table_of))
    return table(
        "the data", ["data", "file", "SHA-256 of the file that is here now", "state"], rows
    )


def _data_of(run) -> object:
    """The path of an own table, or the name of a data set."""
    given = run.parameters.get("dataset")
    own = isinstance(given, str) and is_table_path(given)
    return given if own else run.payload.get("dataset", given)


def _files(name: str) -> Iterator[list[str | Cell]]:
    if is_table_path(name):
        file = Path(name)
        here = file.is_file()
        yield [
            file.name,
            name,
            Cell(sha256_of(file) if here else "", "hash"),
            "" if here else "not here now",
        ]
        return
    file = find_data(name)
    if file is None:
        made = name == "market"
        told = "simulated: made from the seed, no file" if made else "not on this machine now"
        yield [name, "", "", told]
        return
    found = sha256_of(file)
    known = {
        entry.sha256
        for dataset in datasets().values()
        for entry in dataset.files
        if dataset.name == name and Path(entry.path).name == file.name and entry.sha256
    }
    told = "as registered" if found in known else "differs from the registry"
    yield [
        name,
        file.name,
        Cell(found, "hash"),
        told if known else "the registry has no hash of it",
    ]


def _versions(runs: Sequence) -> str:
    """The versions of the packages; more than one list where runs differ."""
    lists: dict[str, tuple[Mapping, list[str]]] = {}
    for run in runs:
        versions = run.payload.get("versions")
        if versions:
            lists.setdefault(repr(versions), (versions, []))[1].append(run.notebook)
    if not lists:
        return "<p>No run tells them.</p>\n"
    if len(lists) == 1:
        ((versions, _),) = lists.values()
        return facts(list(versions.items()))
    return "".join(
        details(f"Of {', '.join(dict.fromkeys(names))}", facts(list(versions.items())))
        for versions, names in lists.values()
    )
