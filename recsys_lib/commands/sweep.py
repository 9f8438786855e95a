"""``sweep``: one notebook with many sets of parameters, several at a time."""

import hashlib
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from recsys_lib.commands.display import kept_when_interrupted, short
from recsys_lib.commands.run import read_yaml
from recsys_lib.workbook.errors import InputError
from recsys_lib.workbook.files import atomic_write, runs_folder
from recsys_lib.workbook.running import notebook_files, one_command_at_a_time
from recsys_lib.workbook.settings import usable_memory

MANY = 100  # runs; more are asked about
PLAN = "sweep.json"


@click.command()
@click.argument("notebook")
@click.option(
    "-g",
    "--grid",
    nargs=2,
    multiple=True,
    metavar="NAME VALUES",
    help="Values of a parameter, with commas between: -g seed 0,1,2. Several -g are combined.",
)
@click.option(
    "--points",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A YAML file with a list of sets of parameters, in place of a grid or combined with it.",
)
@click.option("--seeds", type=click.IntRange(1), metavar="N", help="Short for: -g seed 0,…,N-1.")
@click.option(
    "-p", "pairs", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter of all runs."
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Runs at a time on this machine; they share its cores.",
)
@click.option(
    "--memory",
    type=click.FloatRange(0, min_open=True),
    metavar="GB",
    help="What one run may take (default: its share of this machine's memory).",
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="Run on this dask scheduler's workers: tcp://host:8786."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where all of it goes (default: runs/sweeps/NOTEBOOK-KEY, a key of the sweep's points).",
)
@click.option("--yes", is_flag=True, help=f"Do not ask before more than {MANY} runs.")
def sweep(
    notebook: str,
    grid: tuple[tuple[str, str], ...],
    file: Path | None,
    seeds: int | None,
    pairs: tuple[tuple[str, str], ...],
    workers: int,
    memory: float | None,
    scheduler: str | None,
    out: Path | None,
    yes: bool,
) -> None:
    """Run one notebook with many sets of parameters, several at a time.

    The result is one table, as Parquet and CSV: a row per run and recorded number. The same command
    again goes on with what is missing; a run that ended is never run twice.

    \b
    python -m recsys_lib sweep 04 -g model all-MiniLM-L6-v2,bert-base-uncased --seeds 5
    """
    from recsys_lib.sweeps import points_of  # brings the scheduler along, which takes a second

    (path,) = notebook_files([notebook])
    given = {name: _values(name, values) for name, values in grid}
    if len(given) < len(grid):
        raise InputError("each parameter takes one --grid, with all its values.")
    if seeds is not None:
        if "seed" in given:
            raise InputError("--seeds and --grid seed contradict each other: give one of them.")
        given["seed"] = range(seeds)
    for name, _ in pairs:
        if name in given:
            raise InputError(f"{name} is given by -p and by the grid: give it once.")
    listed = _listed(file)
    count = len(listed) * math.prod(len(values) for values in given.values())
    if count > MANY and not yes:
        if not sys.stdin.isatty():
            raise InputError(f"this sweep has {count:,} runs: say --yes if you mean it.")
        if not click.confirm(f"This sweep has {count:,} runs. Go on?"):
            print("nothing was run")
            sys.exit(1)
    points = points_of(path, fixed=dict(pairs), grid=given, listed=listed)
    folder = (out or _default_folder(path, points)).expanduser().resolve()
    limit = int(memory * 1e9) if memory else _share_of_memory(workers, scheduler)
    sys.exit(run_sweep(path, points, folder, workers=workers, memory=limit, scheduler=scheduler))


def run_sweep(
    path: Path,
    points: Sequence[dict[str, object]],
    folder: Path,
    *,
    workers: int = 2,
    memory: int | None = None,
    scheduler: str | None = None,
) -> int:
    """Run a sweep into `folder`, a line per run, and write its table; see `sweeps.run_points`.

    Returns:
        The exit code: 0 if all ran to their end, else 1.

    Raises:
        InputError: `folder` holds something else, or another command is at work there; the
            scheduler cannot be used.
    """
    from recsys_lib.sweeps import run_points, sweep_table, varied, write_table
    from recsys_lib.sweeps.points import describe

    _claim(path, points, folder)
    names = varied(points)
    outcomes = []
    console = Console(highlight=False, soft_wrap=True)
    with kept_when_interrupted([folder]), one_command_at_a_time(folder), _bar(console) as bar:
        task = bar.add_task(path.stem, total=len(points))
        try:
            for outcome in run_points(
                path, points, folder, workers=workers, memory=memory, scheduler=scheduler
            ):
                outcomes.append(outcome)
                verdict = "earlier" if outcome.earlier else "ok" if outcome.ok else "FAILED"
                what = describe(points[outcome.run], names)
                line = f"{outcome.run:04d}  {verdict:<7} {outcome.seconds:5.0f} s  {what}"
                console.print(Text(f"{line}  {outcome.error}".rstrip()))
                bar.update(task, advance=1)
        finally:
            if outcomes:  # also of a sweep that is interrupted
                write_table(sweep_table(path, points, outcomes, folder), folder)
    failed = [outcome.run for outcome in outcomes if not outcome.ok]
    print(f"{len(outcomes) - len(failed)} of {len(points)} runs ran to their end")
    print(f"table: {short(folder / 'table.csv')}, and table.parquet beside it")
    if failed:
        print(f"failed: {', '.join(f'{run:04d}' for run in failed)}; the same command tries again")
    return 1 if failed else 0


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left", markup=False),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _claim(path: Path, points: Sequence[dict[str, object]], folder: Path) -> None:
    """Write the plan into a new folder; refuse one that holds something else.

    Raises:
        InputError: as said.
    """
    plan = {"notebook": path.stem, "points": list(points)}
    file = folder / PLAN
    if file.is_file():
        try:
            same = json.loads(file.read_text(encoding="utf-8")) == json.loads(json.dumps(plan))
        except ValueError:
            same = False
        if not same:
            raise InputError(f"{folder} holds another sweep: name another folder with --out.")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there and is no sweep: name another folder with --out.")
    atomic_write(file, json.dumps(plan, indent=1, ensure_ascii=False) + "\n")


def _default_folder(path: Path, points: Sequence[dict[str, object]]) -> Path:
    key = hashlib.sha256(json.dumps(list(points), sort_keys=True).encode("utf-8")).hexdigest()
    return runs_folder() / "sweeps" / f"{path.stem}-{key[:8]}"


def _share_of_memory(workers: int, scheduler: str | None) -> int | None:
    """What a run may take of this machine's memory; other machines know their own bounds."""
    return None if scheduler else int(0.9 * usable_memory() / workers)


def _values(name: str, text: str) -> list[str]:
    values = [value.strip() for value in text.split(",")]
    if not all(values):
        raise InputError(
            f'--grid {name} "{text}" must be values with commas between, as in 1,2,3; values that '
            "hold a comma go into a file, see --points."
        )
    return values


def _listed(file: Path | None) -> list[dict[str, object]]:
    """The sets of parameters of a YAML file; without one a single empty set."""
    if file is None:
        return [{}]
    content = read_yaml(file)
    right = isinstance(content, list) and all(
        isinstance(point, dict) and all(isinstance(name, str) for name in point)
        for point in content
    )
    if not right:
        raise InputError(
            f'{file} must be a list of parameter sets, each like "- {{profile: full, seed: 1}}".'
        )
    return content
