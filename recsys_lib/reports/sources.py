"""What a report is about: notebooks that ran, folders of them, and sweeps."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recsys_lib.reports.notebooks import Run, read_run
from recsys_lib.reports.sweeps import TABLE, Sweep, read_sweep
from recsys_lib.workbook.errors import InputError
from recsys_lib.workbook.files import runs_folder


@dataclass(frozen=True)
class Source:
    """All that a report is about."""

    paths: tuple[Path, ...]
    runs: tuple[Run, ...]
    sweeps: tuple[Sweep, ...]

    @property
    def name(self) -> str:
        """For the file and the title: of the first path, and how many more there are."""
        first, *more = self.paths
        stem = first.stem if first.suffix == ".ipynb" else first.name
        return f"{stem} and {len(more)} more" if more else stem

    @property
    def file_name(self) -> str:
        """Of a report's file, without the ending; other sources have other names."""
        first, *more = self.paths
        name = f"{first.parent.name}-{first.stem}" if first.suffix == ".ipynb" else first.name
        if not more and first.is_relative_to(runs_folder()):
            return name
        key = hashlib.sha256("\n".join(map(str, self.paths)).encode("utf-8")).hexdigest()
        return f"{name}-{key[:8]}"

    @property
    def numbered(self) -> list:
        """Every run with its numbers, of notebooks and of sweeps."""
        return [*self.runs, *(run for sweep in self.sweeps for run in sweep.runs)]


def read_source(paths: Sequence[Path]) -> Source:
    """Read executed notebooks, folders of them and sweeps' folders.

    Raises:
        InputError: a path that is none of these, or that holds nothing that ran.
    """
    paths = tuple(dict.fromkeys(path.expanduser().resolve() for path in paths))
    runs, sweeps = {}, []
    for path in paths:
        if path.is_dir() and (path / TABLE).is_file():
            sweeps.append(read_sweep(path))
            continue
        runs |= {run.path: run for run in _read_runs(path)}
    return Source(paths, tuple(runs.values()), tuple(sweeps))


def _read_runs(path: Path) -> list[Run]:
    if path.is_dir():
        files = _notebooks(path)
        if not files:
            below = sorted(child.name for child in path.iterdir() if child.is_dir())
            named = f"; name one of its folders: {', '.join(below)}" if below else ""
            raise InputError(f"{path} holds no notebooks and no {TABLE}{named}.")
    elif path.is_file():
        files = [path]
    else:
        raise InputError(f"{path} is not there: name an executed notebook or a folder of them.")
    runs = [run for run in map(read_run, files) if run.results or run.failures]
    if not runs:
        what = "No notebook in it has" if path.is_dir() else "It has"
        no = "any" if path.is_dir() else "no"
        raise InputError(
            f"{path} has not run. {what} {no} recorded numbers: python -m recsys_lib run makes "
            "executed copies."
        )
    return runs


def _notebooks(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.ipynb") if not path.name.startswith("."))


def newest_folder() -> Path:
    """The folder below runs/executed into which a notebook was written last.

    Raises:
        InputError: nothing has run yet.
    """
    folder = runs_folder() / "executed"
    written = [path for path in folder.glob("*/*.ipynb") if not path.name.startswith(".")]
    if not written:
        raise InputError(
            f"nothing has run into {folder} yet: python -m recsys_lib run, or name a notebook."
        )
    return max(written, key=lambda path: path.stat().st_mtime).parent
