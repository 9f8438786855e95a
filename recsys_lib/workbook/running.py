"""Run notebooks in order with parameters: ``python -m recsys_lib.workbook.running``.

    python -m recsys_lib.workbook.running [NAME ...] [-p PARAMETER VALUE] ...

Each NAME is a notebook, "03" or "fine_tuning" for short; without one all run in their order. The
executed notebooks go to ``runs/executed/<dataset>-<profile>-seed<seed>/``. A notebook that fails
is saved with its error, the others still run, and the exit code is 1.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import papermill
import zmq
from jupyter_client import AsyncKernelManager
from papermill.exceptions import PapermillExecutionError
from traitlets import Unicode
from traitlets.config import Config

from recsys_lib.workbook.errors import InputError, nearest, saving
from recsys_lib.workbook.files import MAIN_FILES, project_folder, runs_folder
from recsys_lib.workbook.settings import TABLE_SUFFIXES, is_table_path

KERNEL = "python3"
TEXT_COLUMN = "text_column"  # a notebook with this parameter takes an own table
# What goes to a kernel and back passes through the loopback network; kernels warn if it is open.
_ENCRYPTED = {"transport_encryption": "auto"} if zmq.has("curve") else {}


class QuietKernel(AsyncKernelManager):
    """A kernel whose own messages go to the file `said` and not to the terminal.

    What cells print does not pass there. A kernel that is interrupted logs that it was, and one
    that dies may have said why.
    """

    said = Unicode().tag(config=True)

    async def start_kernel(self, **options) -> None:
        with open(self.said, "ab") as file:
            await super().start_kernel(stderr=file, **options)


@dataclass(frozen=True)
class Outcome:
    """How one notebook's run ended."""

    notebook: str
    seconds: float
    executed: Path  # the notebook with its outputs
    error: str  # one line; empty where it ran to its end

    @property
    def ok(self) -> bool:
        """Whether it ran to its end."""
        return not self.error


def notebook_files(names: Sequence[str] = (), folder: Path | None = None) -> list[Path]:
    """The notebooks called `names`, or all of them, in reading order.

    Raises:
        InputError: a name that no notebook has, or that several have.
    """
    folder = folder or project_folder() / "notebooks"
    known = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not names:
        return known
    chosen = set()
    for name in names:
        stem = Path(name).name.removesuffix(".ipynb")
        found = [file for file in known if stem in (file.stem, file.stem[:2], file.stem[3:])]
        if len(found) != 1:
            stems = [file.stem for file in known]
            raise InputError(
                f'notebook "{name}" is not in {folder.name}/; there are: {", ".join(stems)}.'
                f"{nearest(stem, stems)}"
            )
        chosen.add(found[0])
    return sorted(chosen)


def declared_parameters(path: Path) -> dict[str, dict[str, object]]:
    """What a notebook's parameters cell declares: by name, papermill's type, default and help."""
    return papermill.inspect_notebook(str(path))


def check_parameters(path: Path, parameters: Mapping[str, object]) -> None:
    """Refuse parameters that a notebook does not have (papermill itself only warns).

    Raises:
        InputError: names the parameter and those that there are.
    """
    declared = declared_parameters(path)
    for name in parameters:
        if name not in declared:
            raise InputError(
                f'{path.stem} has no parameter "{name}"; it has: {", ".join(declared)}.'
                f"{nearest(name, declared)}"
            )


def run_notebook(
    path: Path, *, parameters: Mapping[str, object] | None = None, out: Path | None = None
) -> Outcome:
    """Run one notebook with papermill and save it with its outputs, also where a cell fails.

    Args:
        path: of the notebook. It runs in its own folder, as it would in Jupyter.
        parameters: values in place of those in its parameters cell.
        out: where the executed notebook goes; by default below ``runs/executed/``.

    Raises:
        InputError: an unknown parameter, or a full disk.
    """
    parameters = dict(parameters or {})
    check_parameters(path, parameters)
    out = out or executed_folder(path, parameters) / path.name
    for name in ("papermill", "asyncio"):  # what they log as errors is in the outcome
        logging.getLogger(name).setLevel(logging.CRITICAL)
    began = time.perf_counter()
    error = ""
    with saving(f"the executed notebook {path.stem}", out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(f".{out.stem}.part.ipynb")
        said = out.resolve().with_name(f".{out.stem}.kernel.txt")
        try:
            papermill.execute_notebook(
                str(path),
                str(part),
                parameters=parameters,
                kernel_name=KERNEL,
                cwd=str(path.parent),
                progress_bar=False,
                kernel_manager_class=QuietKernel,
                config=Config(KernelManager=_ENCRYPTED, QuietKernel={"said": str(said)}),
            )
        except PapermillExecutionError as failure:
            lines = f"{failure.ename}: {failure.evalue}".strip().splitlines()
            error = f"cell {failure.exec_count}: {lines[0]}"
        except (RuntimeError, TimeoutError) as failure:  # the kernel died, or did not start
            error = f"{type(failure).__name__}: {str(failure).splitlines()[0]}{_last_words(said)}"
        finally:
            said.unlink(missing_ok=True)
            if part.exists():
                os.replace(part, out)
    return Outcome(path.stem, time.perf_counter() - began, out, error)


def _last_words(said: Path) -> str:
    """The last line that a kernel wrote before it died, for the message; empty without one."""
    text = said.read_text(encoding="utf-8", errors="replace") if said.exists() else ""
    lines = text.strip().splitlines()
    return f"; it said: {lines[-1].strip()}" if lines else ""


def executed_folder(path: Path, parameters: Mapping[str, object]) -> Path:
    """Where an executed notebook goes: one folder per data set, profile and seed."""
    declared = declared_parameters(path)
    parts = []
    for name in ("dataset", "profile", "seed"):
        default = str(declared.get(name, {}).get("default", "")).strip("\"'")
        parts.append(Path(str(parameters.get(name, default))).stem or name)
    return runs_folder() / "executed" / f"{parts[0]}-{parts[1]}-seed{parts[2]}"


def run_all(
    names: Sequence[str] = (),
    *,
    parameters: Mapping[str, object] | None = None,
    folder: Path | None = None,
) -> int:
    """Run notebooks in order, one line of progress each; go on after a failure.

    Each notebook gets those of the `parameters` that it has. Where ``dataset`` is the path of an
    own table of reviews, notebooks that take none are skipped; where it is the name of a real set,
    those whose ``dataset`` does not offer it.

    Returns:
        The exit code: 0 if all ran to their end, else 1.

    Raises:
        InputError: an unknown notebook, or a parameter that none has; nothing has run then.
    """
    parameters = dict(parameters or {})
    files = notebook_files(names, folder)
    if not files:
        raise InputError(f"there are no notebooks in {(folder or project_folder()).name}/.")
    declared = {file: declared_parameters(file) for file in files}
    everything = dict.fromkeys(name for known in declared.values() for name in known)
    for name in parameters:
        if name not in everything:
            raise InputError(
                f'none of these notebooks has a parameter "{name}"; there are: '
                f"{', '.join(everything)}.{nearest(name, everything)}"
            )
    dataset = str(parameters.get("dataset", ""))
    own_table = is_table_path(dataset)
    width = max(len(file.stem) for file in files)
    outcomes = []
    for file in files:
        print(f"{file.stem:<{width}}  ", end="", flush=True)
        if own_table and TEXT_COLUMN not in declared[file]:
            print("skipped: it takes no table of your own")
            continue
        offered = str(declared[file].get("dataset", {}).get("help", ""))
        if dataset in MAIN_FILES and f'"{dataset}"' not in offered:
            print(f"skipped: it does not use {dataset}")
            continue
        given = {name: value for name, value in parameters.items() if name in declared[file]}
        outcome = run_notebook(file, parameters=given)
        outcomes.append(outcome)
        print(f"{'ok' if outcome.ok else 'FAILED':<6} {outcome.seconds:5.0f} s  {outcome.error}")
    failed = [outcome.notebook for outcome in outcomes if not outcome.ok]
    total = sum(outcome.seconds for outcome in outcomes)
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} notebooks ran in {total:.0f} s")
    if outcomes:
        print(f"executed copies: {_short(outcomes[-1].executed.parent)}")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def parse_value(name: str, text: str) -> object:
    """A parameter's value from the command line: whole number, number, truth value or text.

    The path of a table becomes absolute, because a notebook runs in its own folder.
    """
    if name in ("dataset", "judgements"):
        path = Path(text).expanduser()
        return str(path.resolve()) if path.suffix.lower() in TABLE_SUFFIXES else text
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; one line for a wrong argument or an interrupt; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m recsys_lib.workbook.running",
        description="Run the notebooks in order; executed copies go to runs/executed/.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help='such as "03"; all without one')
    parser.add_argument(
        "-p",
        nargs=2,
        action="append",
        default=[],
        dest="parameters",
        metavar=("PARAMETER", "VALUE"),
        help="a value for the parameters cell, such as: -p profile full",
    )
    given = parser.parse_args(arguments)
    parameters = {name: parse_value(name, text) for name, text in given.parameters}
    try:
        return run_all(given.names, parameters=parameters)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        executed = _short(runs_folder() / "executed")
        print(f"\ninterrupted; what ran so far is kept in {executed}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
