"""Run one notebook under `pytest --nbval-lax`, measure it, and keep its expected results."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from recsys_lib.workbook.files import project_folder
from recsys_lib.workbook.results import in_band, proposed_band

CELL_TIMEOUT = 300  # seconds


@dataclass(frozen=True)
class Validation:
    """What came of one notebook under nbval."""

    returncode: int
    stopped: bool  # it hung, or its kernel died, and was ended after `timeout`
    log: str  # what pytest printed
    seconds: float
    megabytes: float  # the largest memory of one of its processes
    cells: list[dict]  # as nbval_record writes them
    payload: dict | None  # the recorded numbers

    @property
    def compared(self) -> int:
        """Cells whose output was compared and agreed."""
        return sum(cell["compared"] and cell["outcome"] == "passed" for cell in self.cells)

    @property
    def exercises(self) -> tuple[int, int]:
        """Solutions that passed their own check, and all of them."""
        solutions = [cell["stdout"] for cell in self.cells if "solution" in cell["tags"]]
        return sum("✓" in text and "✗" not in text for text in solutions), len(solutions)

    def faults(self) -> list[str]:
        """What went wrong, one line each; what failed inside stands in the log."""
        lines = [] if self.returncode == 0 else ["pytest --nbval-lax failed"]
        failed = [cell["cell"] for cell in self.cells if cell["outcome"] != "passed"]
        lines += [f"code cell {cell} failed" for cell in failed[:1]]
        if self.stopped:
            cell = len(self.cells)
            lines.append(f"code cell {cell} hangs, or its kernel died: ended it")
        for cell in self.cells:
            if cell["stderr"].strip():
                lines.append(f"code cell {cell['cell']} wrote to stderr: {cell['stderr'][:200]!r}")
        if self.compared == 0:
            lines.append("nothing was compared")
        passed, total = self.exercises
        if passed != total:
            lines.append(f"{total - passed} of {total} solutions do not pass their own check")
        if self.payload is None:
            lines.append("no results were recorded")
        return lines


def validate(path: Path, *, dataset: str, runs: Path, data: Path | None, timeout: float):
    """Run a notebook under nbval in its own process and return its `Validation`.

    Args:
        path: of the notebook; it runs with the parameters that it declares.
        dataset: what `dataset="auto"` must come to: "market", or the notebook's real data set.
        runs: the runs folder to use, with the artifacts of earlier notebooks.
        data: the folder with real data, or None for a machine that has none.
        timeout: seconds after which the notebook is ended.
    """
    record = Path(tempfile.mkdtemp(prefix="nbval-", dir=runs)) / "cells.json"
    environment = os.environ | {
        "RECSYS_RUNS": str(runs),
        "RECSYS_DATA": str(data) if data else "",
        "NBVAL_RECORD": str(record),
    }
    command = [
        *(sys.executable, "-m", "pytest", "--nbval-lax", str(path)),
        *("-p", "tests.notebooks.nbval_record", "-p", "no:cacheprovider", "-p", "no:timeout"),
        *(f"--nbval-cell-timeout={CELL_TIMEOUT}", "--nbval-kernel-name=python3"),
        *("-q", "--color=no", "--tb=short", f"--rootdir={path.parent}", "-c", os.devnull),
    ]
    began = time.perf_counter()
    with record.with_suffix(".log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, cwd=project_folder(), env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        returncode, stopped, peak = _wait(process, timeout)
        log.seek(0)
        text = log.read()
    seconds = time.perf_counter() - began
    cells = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else []
    file = runs / "results" / path.stem / f"{dataset}-quick-seed0.json"
    payload = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    return Validation(returncode, stopped, text, seconds, peak / 1e6, cells, payload)


def _wait(process: subprocess.Popen, timeout: float) -> tuple[int, bool, int]:
    """The exit code, whether it had to be ended, and the most memory of one process, in bytes."""
    # An interrupt lets pytest end the kernel; what does not heed it is killed.
    signals = [(timeout, signal.SIGINT), (timeout + 20, signal.SIGKILL)]
    stopped, most = False, 0
    began = time.monotonic()
    while process.poll() is None:
        most = max(most, _most_memory(process.pid))
        if signals and time.monotonic() - began > signals[0][0]:
            process.send_signal(signals.pop(0)[1])
            stopped = True
        time.sleep(0.5)
    return process.returncode, stopped, most


def _most_memory(pid: int) -> int:
    """Bytes that this process, or the largest one below it, has taken at most so far.

    ``ru_maxrss`` would not do: a process begins with its parent's, here that of all tests before.
    """
    peaks = [0]
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                peaks.append(_peak(one))
    return max(peaks)


def _peak(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status")  # of Linux; elsewhere what it takes just now
    with suppress(OSError):
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(encoding="utf-8"), re.M)
        if found:
            return 1024 * int(found[1])
    return process.memory_info().rss


def update_expected(file: Path, key: str, results: dict[str, dict]) -> None:
    """Keep the bands that hold, move those that do not, propose bands for new numbers."""
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"bands": {}}
    old = content["bands"].get(key, {})
    new = {}
    for name, entry in results.items():
        band = old.get(name)
        if band is None:
            band = proposed_band(entry)
        elif not in_band(entry["value"], band) and "value" in band:
            band = band | {"value": entry["value"]}
        new[name] = band
    content["bands"][key] = new
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
