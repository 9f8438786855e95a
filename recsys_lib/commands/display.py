"""What ``run`` shows meanwhile: on a terminal a live line, elsewhere a line per notebook."""

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from recsys_lib.workbook.running import Outcome


def short(path: Path) -> str:
    """A path as one would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


@contextmanager
def kept_when_interrupted(folders: Sequence[Path]) -> Iterator[None]:
    """Let an interrupt say where that is which ran so far."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(err=True)  # ends the line of the terminal's ^C
        where = ", ".join(short(folder) for folder in folders)
        raise click.Abort(f"what ran so far is kept in {where}") from None


class Display:
    """Lines of finished notebooks; on a terminal below them the one that runs, with its section and
    the time left."""

    def __init__(self, names: Sequence[str], console: Console | None = None):
        self.width = max(map(len, names))
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[where]}", markup=False),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()

    def line(self, name: str, text: str) -> None:
        """A line that stays."""
        self.console.print(Text(f"{name:<{self.width}}  {text}"))

    def outcome(self, outcome: Outcome) -> None:
        """The line of a notebook that has ended."""
        verdict = "ok" if outcome.ok else "FAILED"
        self.line(
            outcome.notebook, f"{verdict:<6} {outcome.seconds:5.0f} s  {outcome.error}".rstrip()
        )

    @contextmanager
    def notebook(self, name: str, earlier: Path) -> Iterator[Callable]:
        """Show that a notebook runs; gives what is to be called before each of its cells.

        earlier: the executed copy of a run before, if there is one: how long its cells took.
        """
        seconds = cell_seconds(earlier)
        began = time.monotonic()
        task = self._bar.add_task(name, total=1.0, where="starting")

        def on_cell(notebook, index: int) -> None:
            done = share_done(notebook.cells, index, seconds)
            spent = time.monotonic() - began
            left = f"{spent / done - spent:.0f} s left · " if done > 0.02 else ""
            where = left + section(notebook.cells, index)
            self._bar.update(task, completed=done, where=where)

        try:
            yield on_cell
        finally:
            self._bar.remove_task(task)


def section(cells: Sequence, index: int) -> str:
    """The heading that the cell `index` stands under, without its marks."""
    for cell in reversed(cells[: index + 1]):
        if cell.cell_type == "markdown":
            headings = re.findall(r"^#{1,3} +(.+)$", cell.source, flags=re.MULTILINE)
            if headings:
                return headings[-1].strip()
    return "parameters"


def cell_seconds(executed: Path) -> list[float] | None:
    """Seconds of every cell of an executed notebook; None where there is none to read."""
    try:
        cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
        return [cell["metadata"].get("papermill", {}).get("duration") or 0.0 for cell in cells]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def share_done(cells: Sequence, index: int, seconds: Sequence[float] | None) -> float:
    """The share of the work before the cell `index`: by the seconds of an earlier run of the same
    cells, else by their number."""
    if seconds is not None and len(seconds) == len(cells) and sum(seconds) > 0:
        return sum(seconds[:index]) / sum(seconds)
    code = [cell.cell_type == "code" for cell in cells]
    return sum(code[:index]) / max(1, sum(code))
