"""Run one notebook with parameters, so that nothing whole is lost and nothing whole is run twice.

``python -m recsys_lib run`` is the command on top of it, see `recsys_lib.commands.run`.
"""

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nbformat
import papermill
import psutil
import zmq
from filelock import FileLock, Timeout
from jupyter_client import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.execute import remove_error_markers
from traitlets import Int, Unicode
from traitlets.config import Config

from recsys_lib.workbook.errors import InputError, nearest, saving
from recsys_lib.workbook.files import (
    MAIN_FILES,
    atomic_write,
    find_data,
    project_folder,
    runs_folder,
)
from recsys_lib.workbook.parameters import check_names, declared
from recsys_lib.workbook.settings import is_table_path

KERNEL = "python3"
MADE_FROM = "recsys_workbook_made_from"  # in an executed notebook's metadata: `fingerprint`
_SECONDS_BETWEEN_SAVES = 5
_SECONDS_BETWEEN_LOOKS = 0.2  # at the memory of a kernel that has a bound
# What goes to a kernel and back passes through the loopback network; kernels warn if it is open.
_ENCRYPTED = {"transport_encryption": "auto"} if zmq.has("curve") else {}


class QuietKernel(AsyncKernelManager):
    """A kernel whose own messages go to the file `said` and not to the terminal.

    What cells print does not pass there. A kernel that is interrupted logs that it was, and one
    that dies may have said why. One that takes more than `memory` bytes, with its own processes,
    is ended.
    """

    said = Unicode().tag(config=True)
    memory = Int(0).tag(config=True)  # 0: no bound

    async def start_kernel(self, **options) -> None:
        with open(self.said, "ab") as file:
            await super().start_kernel(stderr=file, **options)
        if self.memory:
            watch = (self.provisioner.pid, self.memory, Path(self.said))
            threading.Thread(target=_bound_memory, args=watch, daemon=True).start()


def _bound_memory(pid: int, limit: int, said: Path) -> None:
    """End a process that takes more than `limit` bytes, with its children, and say so."""
    with suppress(psutil.NoSuchProcess):
        kernel = psutil.Process(pid)
        while kernel.is_running() and kernel.status() != psutil.STATUS_ZOMBIE:
            taken = kernel.memory_info().rss
            for child in kernel.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    taken += child.memory_info().rss
            if taken > limit:
                with said.open("a", encoding="utf-8") as file:
                    file.write(
                        f"\nended at {taken / 1e9:.1f} GB, its bound is {limit / 1e9:.1f} GB"
                    )
                kernel.kill()
                return
            time.sleep(_SECONDS_BETWEEN_LOOKS)


class ReportingEngine(NBClientEngine):
    """papermill's engine, which tells `on_cell` before each cell where it is.

    It saves the notebook every few seconds, where papermill does at the start and at the end of
    every cell: with its pictures that takes as long as many a cell.
    """

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, on_cell=None, **options):
        """As its parent; ``on_cell(notebook, index)`` is called in the thread that executes."""
        begin, save = nb_man.cell_start, nb_man.save
        saved = time.monotonic()

        def save_in_time() -> None:
            nonlocal saved
            if time.monotonic() - saved >= _SECONDS_BETWEEN_SAVES:
                save()
                saved = time.monotonic()

        def cell_start(cell, cell_index=None, **more):
            if on_cell is not None:
                on_cell(nb_man.nb, cell_index)
            return begin(cell, cell_index, **more)

        nb_man.cell_start, nb_man.save = cell_start, save_in_time
        try:
            return super().execute_managed_notebook(nb_man, kernel_name, **options)
        finally:
            nb_man.save = save  # papermill saves once more, also after an error or an interrupt


papermill_engines.register("reporting", ReportingEngine)


@dataclass(frozen=True)
class Outcome:
    """How one notebook's run ended."""

    notebook: str
    seconds: float
    executed: Path  # the notebook with its outputs
    error: str  # one line; empty where it ran to its end
    source: str = ""  # of the cell that failed

    @property
    def ok(self) -> bool:
        """Whether it ran to its end."""
        return not self.error


def notebook_files(names: Sequence[str] = (), folder: Path | None = None) -> list[Path]:
    """The notebooks called `names`, or all of them, in reading order.

    Raises:
        InputError: a name that no notebook has, or that several have; a path to another folder.
    """
    folder = folder or project_folder() / "notebooks"
    known = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not names:
        return known
    chosen = set()
    for name in names:
        places = [place.parent.resolve() for place in (Path(name), folder.parent / name)]
        if len(Path(name).parts) > 1 and folder.resolve() not in places:
            raise InputError(
                f'"{name}" is not in {folder}: only notebooks of the workbook run here; put it '
                "there under a name of its own, or run it with papermill."
            )
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


def run_notebook(
    path: Path,
    *,
    parameters: Mapping[str, object] | None = None,
    out: Path | None = None,
    on_cell: Callable[[nbformat.NotebookNode, int], None] | None = None,
    memory: int | None = None,
) -> Outcome:
    """Run one notebook with papermill and save it with its outputs, also where a cell fails.

    A cell marked ``raises-exception`` may fail, as in Jupyter: the run goes on and is no failure.
    Until it has ended, an earlier executed copy stays where it is. A run that fails or is
    interrupted does not replace a copy that ran to its end: it is saved beside it as
    ``<name>.unfinished.ipynb``. One that is killed leaves that copy and a hidden part file.

    Args:
        path: of the notebook. It runs in its own folder, as it would in Jupyter.
        parameters: values in place of those in its parameters cell.
        out: where the executed notebook goes; by default below ``runs/executed/``.
        on_cell: called before each cell with the notebook and the cell's index.
        memory: bytes that the kernel and its processes may take; a run that takes more fails.

    Raises:
        InputError: a parameter that the notebook does not have, or a full disk. Values are checked
            in the kernel; `parameters.check` does it before.
    """
    parameters = dict(parameters or {})
    check_names(path, parameters)
    out = out or executed_folder(path, parameters) / path.name
    for name in ("papermill", "asyncio"):  # what they log as errors is in the outcome
        logging.getLogger(name).setLevel(logging.CRITICAL)
    began = time.perf_counter()
    error = source = ""
    unfinished = out.with_name(f"{out.stem}.unfinished.ipynb")
    with saving(f"the executed notebook {path.stem}", out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(f".{out.stem}.part.ipynb")
        said = out.resolve().with_name(f".{out.stem}.kernel.txt")
        made_from = fingerprint(path, parameters)
        execute = partial(
            papermill.execute_notebook,
            str(path),
            str(part),
            parameters=parameters,
            engine_name="reporting",
            kernel_name=KERNEL,
            cwd=str(path.parent),
            progress_bar=False,
            kernel_manager_class=QuietKernel,
            config=Config(
                KernelManager=_ENCRYPTED, QuietKernel={"said": str(said), "memory": memory or 0}
            ),
            on_cell=on_cell,
        )
        try:
            _execute(execute, said)
            _mark(part, made_from)
        except PapermillExecutionError as failure:
            if _only_expected_errors(part):
                _mark(part, made_from)
            else:
                lines = f"{failure.ename}: {failure.evalue}".strip().splitlines()
                error = f"cell {failure.exec_count}: {lines[0]}"
                source = failure.source
        except (RuntimeError, TimeoutError) as failure:  # the kernel died, or did not start
            error = f"{type(failure).__name__}: {str(failure).splitlines()[0]}{_last_words(said)}"
        finally:
            said.unlink(missing_ok=True)
            ended = bool(_made_from(part))
            saved = unfinished if _made_from(out) and not ended else out
            if part.exists():
                os.replace(part, saved)
            if ended:
                unfinished.unlink(missing_ok=True)
    return Outcome(path.stem, time.perf_counter() - began, saved, error, source)


def _execute(execute: Callable[[], object], said: Path) -> None:
    """Call `execute`, and once more if another process took a port just found free for the kernel.

    That happens where many kernels start at once, as in sweeps; no cell has run by then.
    """
    try:
        execute()
    except DeadKernelError:
        raise
    except RuntimeError:
        if not said.is_file() or "Address already in use" not in said.read_text("utf-8", "replace"):
            raise
        said.unlink()
        execute()


def fingerprint(path: Path, parameters: Mapping[str, object]) -> str:
    """SHA-256 of what a run is made from: the notebook's cells, the parameters, an own table's
    bytes, the library's sources; of the real data sets that are here and of a model's folder the
    files' sizes and times of change."""
    cells = [(cell.cell_type, cell.source) for cell in nbformat.read(path, as_version=4).cells]
    given = {name: parameters[name] for name in sorted(parameters)}
    files = [file for name in MAIN_FILES if (file := find_data(name))]
    if given.get("model") and Path(str(given["model"])).is_dir():
        files += sorted(Path(str(given["model"])).iterdir())
    states = [(file, file.stat()) for file in files]
    seen = [(str(file), state.st_size, state.st_mtime_ns) for file, state in states]
    digest = hashlib.sha256(json.dumps([cells, given, seen], default=str).encode("utf-8"))
    library = Path(__file__).resolve().parents[1]
    tables = [Path(str(given[name])) for name in ("dataset", "judgements") if given.get(name)]
    for file in [*sorted(library.rglob("*.py")), *tables]:
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()


def executed_seconds(executed: Path) -> float:
    """How long the run of an executed notebook took."""
    metadata = json.loads(executed.read_text(encoding="utf-8"))["metadata"]
    return float(metadata["papermill"]["duration"])


def is_done(path: Path, parameters: Mapping[str, object], out: Path) -> bool:
    """Whether `out` is a whole run of this notebook with these parameters, made as it would be."""
    saved = _made_from(out)
    return saved is not None and saved == fingerprint(path, parameters)


def _made_from(executed: Path) -> str | None:
    """The `fingerprint` in an executed notebook; None where it did not run to its end."""
    try:
        return json.loads(executed.read_text(encoding="utf-8"))["metadata"].get(MADE_FROM)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def check_free(out: Path, parameters: Mapping[str, object] | None = None) -> None:
    """Refuse to replace a file that no run has made, or a run of something else.

    Args:
        out: where an executed notebook is to go.
        parameters: of the new run; None to replace whatever run is there.

    Raises:
        InputError: `out` is there and is not an executed notebook, or one with other parameters.
    """
    if not out.exists():
        return
    try:
        made = json.loads(out.read_text(encoding="utf-8"))["metadata"]["papermill"]
        earlier = dict(made.get("parameters") or {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"{out} is there and is not the copy of an earlier run: name another folder."
        ) from None
    if parameters is not None and earlier != json.loads(json.dumps(dict(parameters), default=str)):
        told = ", ".join(f"{name} = {value!r}" for name, value in earlier.items())
        raise InputError(
            f"{out} is a run with other parameters ({told or 'as the notebook has them'}): name "
            "another folder with --out, or replace it with --again."
        )


@contextmanager
def one_command_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder of executed notebooks; the system releases it with the process.

    Raises:
        InputError: another command is writing there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another command is running notebooks into {folder}: wait for it, or name another "
            "folder with --out."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _mark(part: Path, made_from: str) -> None:
    """Write into an executed notebook what it was made from: it ran to its end."""
    notebook = json.loads(part.read_text(encoding="utf-8"))
    notebook["metadata"][MADE_FROM] = made_from
    atomic_write(part, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def _only_expected_errors(part: Path) -> bool:
    """Whether only cells marked ``raises-exception`` failed, such as a student's open exercises:
    then the notebook ran to its end, and papermill's cells about an error are taken out of it."""
    notebook = remove_error_markers(nbformat.read(part, as_version=4))
    for cell in notebook.cells:
        failed = any(output.output_type == "error" for output in cell.get("outputs", []))
        if failed and "raises-exception" not in cell.metadata.get("tags", []):
            return False
    atomic_write(part, nbformat.writes(notebook) + "\n")
    return True


def _last_words(said: Path) -> str:
    """The last line that a kernel wrote before it died, for the message; empty without one."""
    text = said.read_text(encoding="utf-8", errors="replace") if said.exists() else ""
    lines = text.strip().splitlines()
    return f"; it said: {lines[-1].strip()}" if lines else ""


def executed_folder(path: Path, parameters: Mapping[str, object]) -> Path:
    """Where an executed notebook goes: one folder per data set, profile and seed.

    Other parameters and the path of an own table, which the name cannot hold, add a key of them.
    """
    known = declared(path)
    named = [name for name in ("dataset", "profile", "seed") if name in known]
    values = {name: str(parameters.get(name, known[name].default)) for name in named}
    parts = [f"{'seed' * (name == 'seed')}{Path(values[name]).stem or name}" for name in named]
    more = {name: str(value) for name, value in parameters.items() if name not in named}
    if is_table_path(values.get("dataset", "")):
        more["dataset"] = values["dataset"]
    if more:
        text = json.dumps(more, sort_keys=True)
        parts.append(hashlib.sha256(text.encode("utf-8")).hexdigest()[:8])
    return runs_folder() / "executed" / ("-".join(parts) or path.stem)


def why_skipped(path: Path, parameters: Mapping[str, object]) -> str:
    """Why a notebook has nothing to do with the ``dataset`` asked for; empty where it has."""
    known, dataset = declared(path), parameters.get("dataset")
    if "dataset" not in known or not isinstance(dataset, str):
        return ""
    if is_table_path(dataset):
        if not known["dataset"].takes_table:
            return "it takes no table of your own"
        if bool(parameters.get("judgements")) != ("judgements" in known):
            return "it needs judgements" if "judgements" in known else "it reads no catalog"
        return ""
    elsewhere = dataset in MAIN_FILES and dataset not in known["dataset"].names
    return f"it does not use {dataset}" if elsewhere else ""
