"""``report``: what ran, as one HTML file to read, to print and to pass on."""

import sys
from pathlib import Path

import click

from recsys_lib.commands.display import short

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("sources", nargs=-1, metavar="[SOURCE]...", type=_PATH)
@click.option("--against", type=_PATH, metavar="OTHER", help="Compare with this run, or sweep.")
@click.option(
    "--out", type=_PATH, metavar="FILE", help="What to write (default: runs/reports/SOURCE.html)."
)
@click.option("--title", metavar="TEXT", help="In place of the source's name.")
@click.option("--again", is_flag=True, help="Replace the file even if it is no earlier report.")
def report(
    sources: tuple[Path, ...],
    against: Path | None,
    out: Path | None,
    title: str | None,
    again: bool,
) -> None:
    """Write one HTML file about what ran: numbers against their bands, pictures, what failed.

    SOURCE is an executed notebook, a folder of them or a sweep's folder; without one it is the
    newest folder in runs/executed. The file needs no network and nothing beside it. With --against
    it says which numbers moved beyond their intervals.
    """
    from recsys_lib.reports import make_report, write_report  # other commands do without

    made = make_report(sources, against=against, title=title)
    file = write_report(made, out, again=again)
    told = f": {made.summary}" if made.summary else ""
    print(f"{short(file)} ({file.stat().st_size / 1e6:.1f} MB){told}")
    sys.exit(0)
