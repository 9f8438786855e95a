"""Run the points of a sweep on a `dask.distributed` cluster, each in a process of its own.

A run is done where its executed notebook says so (`recsys_lib.workbook.running.is_done`), and
nowhere else: a worker that dies, or the whole command, loses no run that had ended, and none that
had ended is run again.
"""

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dask
from distributed import Client, LocalCluster, as_completed
from distributed.scheduler import KilledWorker
from filelock import FileLock

from recsys_lib.workbook.errors import InputError
from recsys_lib.workbook.running import executed_seconds, is_done, run_notebook

_SECONDS_TO_ANSWER = 10  # that a scheduler has
_SECONDS_FOR_WORKERS = 30  # that its first worker has
_LOST_WORKERS = 3  # that a run may cost before it counts as failed


@dataclass(frozen=True)
class PointOutcome:
    """How the run of one point ended."""

    run: int  # the point's place in the sweep, from 0
    executed: Path  # the notebook with its outputs
    seconds: float
    error: str  # one line; empty where it ran to its end
    earlier: bool = False  # it had ended before, and was not run again

    @property
    def ok(self) -> bool:
        """Whether it ran to its end."""
        return not self.error


def run_points(
    path: Path,
    points: Sequence[Mapping[str, object]],
    folder: Path,
    *,
    workers: int = 2,
    memory: int | None = None,
    scheduler: str | None = None,
) -> Iterator[PointOutcome]:
    """Run a notebook once per point, several at a time; gives the outcomes as they come.

    Args:
        path: of the notebook.
        points: checked sets of parameters, see `points_of`.
        folder: an absolute path; run ``i`` is saved as ``<folder>/runs/<i>/<notebook>.ipynb``, with
            four digits.
        workers: runs at a time on this machine; each gets its share of the cores.
        memory: bytes that a run's kernel, and a worker, may use; None for no bound.
        scheduler: the address of a running scheduler ("tcp://host:8786") in place of workers on
            this machine. Its workers must see `path`, `folder` and the library at the same places.

    Yields:
        One outcome per point; those that had ended before come first.

    Raises:
        InputError: the scheduler does not answer, has no workers, or these do not see the notebook.
    """
    targets = [executed_path(path, folder, run) for run in range(len(points))]
    missing = []
    for run, (point, target) in enumerate(zip(points, targets, strict=True)):
        if is_done(path, point, target):
            yield PointOutcome(run, target, executed_seconds(target), "", earlier=True)
        else:
            missing.append(run)
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)  # which the workers must see
    workers = min(workers, len(missing))
    with _cluster(path, folder, workers, memory, scheduler) as client:
        futures = {
            client.submit(
                _run_point,
                str(path),
                dict(points[run]),
                str(targets[run]),
                memory,
                key=f"run-{run:04d}-{os.getpid()}",
                pure=False,
            ): run
            for run in missing
        }
        for future in as_completed(futures):
            run = futures[future]
            try:
                executed, seconds, error = future.result()
            except KilledWorker:
                executed, seconds = targets[run], 0.0
                error = f"KilledWorker: it lost {_LOST_WORKERS + 1} workers, one after another"
            yield PointOutcome(run, Path(executed), seconds, error)


def executed_path(path: Path, folder: Path, run: int) -> Path:
    """Where the executed notebook of one run of a sweep goes."""
    return folder / "runs" / f"{run:04d}" / path.name


def _run_point(
    path: str, parameters: dict[str, object], target: str, memory: int | None
) -> tuple[str, float, str]:
    """One run, in a worker; its executed notebook, its seconds and its error."""
    out = Path(target)
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(out.parent / ".lock"):  # a worker that was given up may still be at it
        if is_done(Path(path), parameters, out):
            return target, executed_seconds(out), ""
        outcome = run_notebook(Path(path), parameters=parameters, out=out, memory=memory)
    return str(outcome.executed), outcome.seconds, outcome.error


@contextmanager
def _cluster(
    path: Path, folder: Path, workers: int, memory: int | None, scheduler: str | None
) -> Iterator[Client]:
    """A client of workers on this machine, or of a scheduler that is there already."""
    for name in ("distributed", "tornado.application"):  # what matters stands in the outcomes
        logging.getLogger(name).setLevel(logging.CRITICAL)
    dask.config.set(
        {
            "distributed.scheduler.allowed-failures": _LOST_WORKERS,
            # Known to be long, so that a worker without a run takes over one that waits elsewhere.
            "distributed.scheduler.default-task-durations": {"run": "1 hour"},
            # Workers only wait for their kernels: to look at them fifty or a hundred times a second
            # takes from what the kernels have.
            "distributed.worker.profile.enabled": False,
            "distributed.admin.tick.interval": "500ms",
        }
    )
    if scheduler is not None:
        with _connected(scheduler, path, folder) as client:
            yield client
        return
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    scratch = folder / ".workers"
    shutil.rmtree(scratch, ignore_errors=True)  # of a command that was killed
    before = dict(os.environ)
    try:
        with (
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=memory or 0,
                dashboard_address=":0",  # any free port
                silence_logs=logging.CRITICAL,
                local_directory=str(scratch),
                env={"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        # A worker's start leaves one thread for OpenMP and a seed of hashes to this process, too.
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _connected(scheduler: str, path: Path, folder: Path) -> Iterator[Client]:
    try:
        client = Client(scheduler, timeout=_SECONDS_TO_ANSWER)
    except Exception as error:  # each protocol has its own
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f'no scheduler answers at "{scheduler}" ({first}): start one with '
            '"dask scheduler", or leave --scheduler out.'
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=_SECONDS_FOR_WORKERS)
        except TimeoutError:
            raise InputError(
                f'the scheduler at "{scheduler}" has no workers: start some with '
                f'"dask worker {scheduler} --nthreads 1".'
            ) from None
        for place in (path, folder):
            blind = [worker for worker, sees in client.run(place.exists).items() if not sees]
            if blind:
                raise InputError(
                    f"the worker {blind[0]} does not see {place}: all machines of a sweep need the "
                    "workbook and its runs folder at the same place."
                )
        yield client
