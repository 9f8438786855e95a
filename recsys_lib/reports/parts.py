"""The parts of a report that are about notebooks."""

from collections.abc import Sequence

from recsys_lib.reports.markdown import code_html, inline_html, to_html
from recsys_lib.reports.markup import Cell, escape, table
from recsys_lib.reports.notebooks import Run
from recsys_lib.reports.numbers import (
    IN,
    NO_BAND,
    OUT,
    Number,
    changed,
    counted,
    interval_text,
    judged,
    listed,
    value_text,
)
from recsys_lib.reports.origin import parameter_text
from recsys_lib.reports.pictures import Album
from recsys_lib.reports.sweeps import Sweep

_MARKS = {OUT: "wrong", IN: "right"}


def bands_told(runs: Sequence[Run]) -> tuple[str, str]:
    """How many numbers left their band: one line of text, and the HTML that names them."""
    compared, left, unknown, without, departed = 0, [], [], [], []
    for run in runs:
        numbers = judged(run)
        if not any(number.verdict for number in numbers):
            without += [run.notebook] if numbers else []
            continue
        compared += sum(number.verdict in (IN, OUT) for number in numbers)
        left += [(run, number) for number in numbers if number.verdict == OUT]
        unknown += [number.name for number in numbers if number.verdict == NO_BAND]
        departed += [f"{run.notebook}: {name} = {v!r}" for name, v in changed(run).items()]
    html, line = "", ""
    if compared:
        line = f"{len(left)} of {counted(compared, 'number')} left their band"
        html = f"<p><strong>{line}</strong>{':' if left else '.'}</p>\n"
        named = "".join(f"<li>{_left(run, number)}</li>\n" for run, number in left)
        html += f'<ul class="alert">\n{named}</ul>\n' if left else ""
    if unknown:
        html += f"<p>Recorded without a band: {escape(listed(unknown))}.</p>\n"
    if departed:
        html += (
            "<p>Bands are made with the notebooks' own parameters. Others were given here: "
            f"{escape(listed(departed))}.</p>\n"
        )
    if without:
        html += (
            '<p class="note">Not compared, because bands are kept for seed 0 and some of the '
            f"workbook's own data sets: {escape(listed(without))}.</p>\n"
        )
    return line, html


def _left(run: Run, number: Number) -> str:
    told = f"{number.off} its band {number.band}"
    if number.off in ("not recorded", "undefined") or " in place of " in number.off:
        told = f"{number.off} (band: {number.band})"
    value = "" if number.off == "not recorded" else f" {value_text(number.entry)}"
    return f"{escape(run.notebook)}: <code>{escape(number.name)}</code>{escape(value)}, " + escape(
        told
    )


def numbers_html(run: Run) -> str:
    """The table of recorded numbers, those outside their band first."""
    numbers = judged(run)
    compared = any(number.verdict for number in numbers)
    noted = any(number.entry.get("note") for number in numbers)
    measured = any(number.entry.get("unit") for number in numbers)
    columns = ["number", "value", "95 % interval"]
    columns += ["unit"] if measured else []
    columns += ["expected band", "verdict"] if compared else []
    columns += ["note"] if noted else []
    rows = []
    for number in numbers:
        entry = number.entry
        row = [number.name, Cell(value_text(entry), "number")]
        row += [Cell(interval_text(entry), "number")]
        row += [str(entry.get("unit", ""))] if measured else []
        if compared:
            verdict = f"{number.verdict}: {number.off}" if number.off else number.verdict
            band = number.band.removeprefix("not compared: ")
            row += [
                Cell(band, "number" if number.verdict in (IN, OUT) else ""),
                Cell(verdict, "verdict"),
            ]
        rows.append(row + ([str(entry.get("note", ""))] if noted else []))
    marks = [_MARKS.get(number.verdict, "") for number in numbers]
    return table(f"recorded numbers of {run.notebook}", columns, rows, marks=marks)


def run_html(run: Run, album: Album) -> str:
    """A notebook: its question, its numbers, its sections with their pictures."""
    html = to_html(run.question)
    if run.failures:
        told = '<span class="verdict">It failed</span>: <a href="#failed">how</a>.'
        html += f'<p class="wrong">{told}</p>\n'
    if run.results:
        told = counted(len(run.results), "recorded number")
        html += f"<h3>{told}</h3>\n{numbers_html(run)}"
    for section in run.sections:
        html += f"<h3>{inline_html(section.heading)}</h3>\n{to_html(section.idea)}"
        html += "".join(f"{album.figure(figure.png, figure.alt)}\n" for figure in section.figures)
    return html


def failures_html(runs: Sequence[Run], sweeps: Sequence[Sweep]) -> str:
    """What failed, with its error and its parameters; empty where nothing did."""
    html = ""
    for run in runs:
        for failure in run.failures:
            where = f", cell {failure.cell}" if failure.cell is not None else ""
            html += f"<h3>{escape(run.notebook + where)}</h3>\n"
            html += _failed(failure.error, run.parameters)
            if failure.source:
                html += code_html(failure.source, f"the cell of {run.notebook} that failed")
    for sweep in sweeps:
        for run in sweep.runs:
            if not run.ok:
                html += f"<h3>{escape(f'{run.notebook}, run {run.run} of the sweep')}</h3>\n"
                html += _failed(run.error or "It failed and left no message.", run.parameters)
    return html


def _failed(error: str, parameters) -> str:
    told = ", ".join(f"{name} = {parameter_text(value)}" for name, value in parameters.items())
    return (
        f'<p class="wrong"><span class="verdict">{escape(error)}</span></p>\n'
        f"<p>Parameters: {escape(told or 'as the notebook has them')}</p>\n"
    )
