"""A whole report: put together, and written where nothing is lost."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recsys_lib.reports.changes import compare_runs
from recsys_lib.reports.markdown import inline_html
from recsys_lib.reports.markup import GENERATOR, escape, page
from recsys_lib.reports.notebooks import LEFT_OUT
from recsys_lib.reports.numbers import counted, listed
from recsys_lib.reports.origin import duration, origin_html
from recsys_lib.reports.parts import bands_told, failures_html, run_html
from recsys_lib.reports.parts_sweeps import changes_html, changes_line, sweep_html
from recsys_lib.reports.pictures import Album
from recsys_lib.reports.sources import Source, newest_folder, read_source
from recsys_lib.workbook.errors import InputError
from recsys_lib.workbook.files import atomic_write, runs_folder

_HEAD_BYTES = 4_000  # within which a report says that it is one
_FOOT = (
    "<p>Written by <code>python -m recsys_lib report</code>. Texts are the notebooks' own, without "
    f"the sections {', '.join(LEFT_OUT)} and without paragraphs that tell the numbers of the run "
    "which the workbook was published with. An interval is of 95 % unless it says otherwise.</p>\n"
)


@dataclass(frozen=True)
class Report:
    """A report that is not yet written."""

    name: str  # of its file, without the ending
    html: str
    summary: str  # one line


def make_report(
    paths: Sequence[Path], *, against: Path | None = None, title: str | None = None
) -> Report:
    """The report of executed notebooks, of folders of them, or of sweeps.

    Args:
        paths: what it is about; the newest folder of runs where it is empty.
        against: another run of the same kind, with which the numbers are compared.
        title: in place of the first path's name.

    Raises:
        InputError: a path that holds nothing that ran.
    """
    source = read_source(paths or [newest_folder()])
    other = read_source([against]) if against is not None else None
    album, parts, told = Album(), [], []
    line, bands = bands_told(source.runs)
    told += [line] if line else []
    short = bands
    failed = failures_html(source.runs, source.sweeps)
    if failed:
        line = _failed_line(source)
        told.append(line)
        short = (
            f'<p><strong>{escape(line)}</strong>: <a href="#failed">what failed</a>.</p>\n{short}'
        )
        parts.append(("failed", "What failed", failed))
    if other is not None:
        comparison = compare_runs(source.numbered, other.numbered)
        told.append(changes_line(comparison))
        short += (
            f'<p><a href="#changes">{escape(told[-1])}</a>, against {escape(other.name)}.</p>\n'
        )
        html = changes_html(comparison, source.name, other.name)
        parts.append(("changes", f"Against {escape(other.name)}", html))
    for place, sweep in enumerate(source.sweeps, 1):
        heading = f"Sweep: {escape(sweep.path.name)}"
        parts.append((f"sweep-{place}", heading, sweep_html(sweep, album)))
    for place, run in enumerate(source.runs, 1):
        heading = inline_html(run.title)
        if [other.title for other in source.runs].count(run.title) > 1:
            heading += escape(f" ({run.path.parent.name}/{run.path.stem})")
        parts.append((f"notebook-{place}", heading, run_html(run, album)))
    others = [run for sweep in source.sweeps for run in sweep.runs]
    parts.append(("origin", "How it was made", origin_html(source.runs, others)))
    parts.insert(0, ("short", "In short", short or _nothing_compared(source)))
    body = "".join(
        f'<section>\n<h2 id="{name}">{heading}</h2>\n{html}</section>\n'
        for name, heading, html in parts
    )
    contents = [(name, heading) for name, heading, _ in parts]
    title = title or f"Report on {source.name}"
    name = source.file_name + (f"-against-{other.file_name}" if other is not None else "")
    return Report(name, page(title, _lead(source), contents, body, _FOOT), "; ".join(told))


def write_report(report: Report, out: Path | None = None, *, again: bool = False) -> Path:
    """Write a report; an earlier one is replaced.

    Args:
        out: the file; by default runs/reports/<name>.html.
        again: replace a file, too, that is no report.

    Returns:
        The file.

    Raises:
        InputError: another file is there, or the place cannot be written.
    """
    name = re.sub(r"[^\w.-]+", "-", report.name)
    out = out or runs_folder() / "reports" / f"{name}.html"
    out = out.expanduser().resolve()
    if out.is_dir():
        raise InputError(f"{out} is a folder: name a file.")
    try:
        if out.exists() and not again and not _is_report(out):
            raise InputError(
                f"{out} is there and is not an earlier report: name another file, or replace it "
                "with --again."
            )
        atomic_write(out, report.html)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}.") from None
    return out


def _is_report(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES).decode("utf-8", errors="replace")
    return f'<meta name="generator" content="{GENERATOR}">' in head


def _failed_line(source: Source) -> str:
    notebooks = sum(bool(run.failures) for run in source.runs)
    runs = [run for sweep in source.sweeps for run in sweep.runs]
    told = []
    if notebooks:
        told.append(f"{notebooks} of {counted(len(source.runs), 'notebook')} failed")
    if failed := sum(not run.ok for run in runs):
        told.append(f"{failed} of {counted(len(runs), 'run')} of the sweep failed")
    return ", ".join(told)


def _nothing_compared(source: Source) -> str:
    return f"<p>{counted(len(source.numbered), 'run')}, none failed.</p>\n"


def _lead(source: Source) -> str:
    """One line of what was run."""
    runs = source.numbered
    told = [counted(len(source.runs), "notebook")] if source.runs else []
    told += [f"{counted(len(sweep.runs), 'run')} of a sweep" for sweep in source.sweeps]
    for name, label in (("dataset", "data"), ("profile", "profile"), ("seed", "seed")):
        values = [str(run.payload.get(name, run.parameters.get(name, ""))) for run in runs]
        told += _one_of(label, values)
    devices = [f"{r.payload.get('device', '')} {r.payload.get('precision', '')}" for r in runs]
    told += _one_of("device", [device.strip() for device in devices])
    if began := sorted(run.began[:10] for run in source.runs if run.began):
        told.append(f"run on {began[0]}" + (f" to {began[-1]}" if began[-1] != began[0] else ""))
    spent = [run.seconds for run in runs if run.seconds is not None]
    told += [f"took {duration(sum(spent))}"] if spent else []
    return escape(" · ".join(told))


def _one_of(label: str, values: Sequence[str]) -> list[str]:
    known = list(dict.fromkeys(value for value in values if value))
    return [f"{label} {listed(known)}"] if known else []
