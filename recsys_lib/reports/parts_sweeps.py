"""The parts of a report that are about a sweep, and about what changed between two runs."""

from collections import Counter
from collections.abc import Sequence

from recsys_lib.reports.changes import MEANING, MOVED, Change, Comparison, point_text
from recsys_lib.reports.markup import Cell, details, escape, facts, table
from recsys_lib.reports.numbers import counted, interval_text, listed, value_text
from recsys_lib.reports.origin import duration, parameter_text
from recsys_lib.reports.pictures import Album, dots
from recsys_lib.reports.sweeps import Sweep, SweepRun, point_of, spread_over_seeds
from recsys_lib.workbook.results import format_number

_DRAWN = 6  # numbers with a picture; the others are folded in


def sweep_html(sweep: Sweep, album: Album) -> str:
    """A sweep: its runs, and each number over them."""
    varying = sweep.varying
    columns = ["run", "notebook", *varying, "ended", "took", "executed copy"]
    rows = [
        [
            str(run.run),
            run.notebook,
            *(parameter_text(run.parameters[n]) if n in run.parameters else "—" for n in varying),
            Cell("ok" if run.ok else "failed", "verdict"),
            Cell(duration(run.seconds), "number"),
            run.executed,
        ]
        for run in sweep.runs
    ]
    marks = ["right" if run.ok else "wrong" for run in sweep.runs]
    html = "<h3>Runs</h3>\n" + table("the runs of the sweep", columns, rows, marks=marks)
    if same := _same(sweep):
        html += "<p>The same in all runs:</p>\n" + facts(same)
    numbers = list(sweep.numbers())
    several = len({run.notebook for run in sweep.runs}) > 1
    for place, (notebook, name, runs) in enumerate(numbers):
        title = f"{notebook}: {name}" if several else name
        if place == _DRAWN:
            more = counted(len(numbers) - _DRAWN, "more number")
            html += f"<h3>{escape(more)}</h3>\n"
        inner = _number_html(title, name, runs, varying)
        if place < _DRAWN:
            points = [(_label(run, varying), dict(run.results[name])) for run in runs]
            drawn = any(entry.get("value") is not None for _, entry in points)
            picture = album.figure(*dots(title, points)) if drawn else ""
            html += f"<h3>{escape(title)}</h3>\n{picture}\n{inner}"
        else:
            html += details(title, inner)
    if constants := sweep.constants():
        rows = [
            [f"{notebook}: {name}" if several else name, value_text(runs[0].results[name])]
            for notebook, name, runs in constants
        ]
        told = f"{counted(len(rows), 'number')} without an interval that no run changed"
        html += details(told, table("numbers that no run changed", ["number", "value"], rows))
    return html


def _same(sweep: Sweep) -> list[tuple[str, object]]:
    """The parameters that do not vary, of all notebooks that have them."""
    found: dict[str, object] = {}
    for run in sweep.runs:
        found |= {k: v for k, v in run.parameters.items() if k not in sweep.varying}
    return [(name, parameter_text(value)) for name, value in found.items()]


def _label(run: SweepRun, varying: Sequence[str]) -> str:
    return point_text(point_of(run, varying)) or f"run {run.run}"


def _number_html(title: str, name: str, runs: Sequence[SweepRun], varying: Sequence[str]) -> str:
    named = [parameter for parameter in varying if any(parameter in r.parameters for r in runs)]
    unit = next((run.results[name]["unit"] for run in runs if run.results[name].get("unit")), "")
    value = f"value in {unit}" if unit else "value"
    rows = []
    for run in runs:
        entry = run.results[name]
        cells = [Cell(value_text(entry), "number"), Cell(interval_text(entry), "number")]
        rows.append([_label(run, named), *cells])
    html = table(f"{title} by run", ["point", value, "95 % interval"], rows)
    if spreads := spread_over_seeds(runs, name):
        rows = [
            [
                point_text(s.point) or "all runs",
                Cell(_spread(s.mean, s.deviation), "number"),
                str(s.seeds),
            ]
            for s in spreads
        ]
        columns = ["point", f"{value}: mean ± standard deviation", "seeds"]
        html += table(f"{title} over seeds", columns, rows)
    return html


def _spread(mean: float, deviation: float | None) -> str:
    if deviation is None:
        return format_number(mean)
    return f"{format_number(mean)} ± {format_number(deviation)}"


def changes_html(comparison: Comparison, name: str, other: str) -> str:
    """What changed against another run.

    Args:
        comparison: of the two.
        name, other: of the runs, as columns of the table.
    """
    moved, total = comparison.moved, len(comparison.changes)
    html = f"<p><strong>{changes_line(comparison)}</strong>"
    html += f": {escape(listed([_named(c) for c in moved]))}.</p>\n" if moved else ".</p>\n"
    html += f'<p class="note">{escape(MEANING)}</p>\n'
    if comparison.differing:
        told = "".join(f"<li>{escape(text)}</li>\n" for text in comparison.differing)
        html += f"<p>The runs themselves differ:</p>\n<ul>\n{told}</ul>\n"
    if moved:
        html += _changes_table("what moved", moved, name, other)
    others = [change for change in comparison.changes if change.verdict != MOVED]
    if others:
        inner = _changes_table("what did not move", others, name, other)
        html += details(f"{len(others)} of {counted(total, 'number')} that did not move", inner)
    for which, keys in ((name, comparison.only_one), (other, comparison.only_other)):
        if keys:
            told = "".join(f"<li>{escape(text)}</li>\n" for text in _alone(keys, comparison))
            html += details(f"{counted(len(keys), 'number')} only in {which}", f"<ul>{told}</ul>\n")
    return html


def _alone(keys: Sequence[tuple[str, str, str]], comparison: Comparison) -> list[str]:
    """Numbers of one run alone; of a notebook that the other lacks, only how many."""
    shared = {change.notebook for change in comparison.changes}
    lacking = Counter(key[0] for key in keys if key[0] not in shared)
    whole = [f"{notebook}: all {count}" for notebook, count in lacking.items()]
    return whole + [" · ".join(filter(None, key)) for key in keys if key[0] in shared]


def changes_line(comparison: Comparison) -> str:
    """How many numbers moved, in one line."""
    if not comparison.changes:
        return "no recorded number is in both"
    both = f"{counted(len(comparison.changes), 'number')} in both"
    return f"{len(comparison.moved)} of {both} moved beyond their intervals"


def _named(change: Change) -> str:
    return " · ".join(filter(None, (change.notebook, change.point, change.name)))


def _changes_table(what: str, changes: Sequence[Change], name: str, other: str) -> str:
    columns = ["number", "notebook", name, "interval", other, "interval", "difference", "verdict"]
    pointed = any(change.point for change in changes)
    columns[2:2] = ["point"] if pointed else []
    rows, marks = [], []
    for change in changes:
        row: list[str | Cell] = [change.name, change.notebook]
        row += [change.point] if pointed else []
        for entry in (change.one, change.other):
            row += [Cell(value_text(entry), "number"), Cell(interval_text(entry), "number")]
        gap = change.difference
        row.append(Cell("" if gap is None else signed(gap), "number"))
        row.append(Cell(change.verdict, "verdict"))
        rows.append(row)
        marks.append("wrong" if change.verdict == MOVED else "")
    return table(what, columns, rows, marks=marks)


def signed(value: float) -> str:
    """A difference with its sign."""
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{format_number(abs(value))}"
