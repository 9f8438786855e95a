"""What the command line costs: a run's start, a sweep, a report.

* A run's seconds before its first cell: median of eight, against the bound of 3 s.
* A sweep of these eight quick runs on two workers, against the command ``run`` once per seed. Both
  sides start from nothing, on the market. Notebook 01 computes on one core; a notebook that trains
  uses all cores already when it runs alone, so that a sweep of it gains less.
* The report on all notebooks as they are committed, against the bound of 10 s.

The machine must be idle.
"""

from __future__ import annotations

import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from recsys_lib.workbook import project_folder

NOTEBOOK, RUNS, WORKERS, ROUNDS = "01", 8, 2, 3
SWEEP_TARGET = 1.67  # at most 0.6 times as long
START_BOUND, REPORT_BOUND = 3.0, 10.0  # seconds


def run() -> dict:
    """Times all three, one after another."""
    loop, starts = _one_after_another()
    with tempfile.TemporaryDirectory() as folder:
        command = ["sweep", NOTEBOOK, "--seeds", str(RUNS), "--workers", str(WORKERS)]
        sweep = _seconds(command, folder)
        report = ["report", str(project_folder() / "notebooks"), "--out", f"{folder}/all.html"]
        reports = [_seconds(report, folder) for _ in range(ROUNDS)]
    rows = [
        {
            "what": f"{RUNS} quick runs of {NOTEBOOK}: a sweep on {WORKERS} workers, against one "
            "after another",
            "unit": "runs/min",
            "ours": 60 * RUNS / sweep,
            "reference": 60 * RUNS / loop,
            "reference_name": "the command run, once per seed",
            "ratio": loop / sweep,
            "target": SWEEP_TARGET,
        },
        _bounded("from the command to a run's first cell", starts, START_BOUND),
        _bounded("the report on all committed notebooks", reports, REPORT_BOUND),
    ]
    return {"results": rows, "starts": starts, "reports": reports}


def _bounded(what: str, seconds: Sequence[float], bound: float) -> dict:
    middle = statistics.median(seconds)
    return {
        "what": what,
        "unit": "s",
        "ours": middle,
        "reference": bound,
        "reference_name": "its bound",
        "ratio": bound / middle,
        "target": 1.0,
    }


def _one_after_another() -> tuple[float, list[float]]:
    """Seconds of all runs together, and of each before its first cell."""
    total, starts = 0.0, []
    with tempfile.TemporaryDirectory() as runs:
        for seed in range(RUNS):
            began = datetime.datetime.now(datetime.UTC)
            total += _seconds(["run", NOTEBOOK, "-p", "seed", str(seed)], runs)
            (executed,) = Path(runs).glob(f"executed/*-seed{seed}/*.ipynb")
            cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
            first = next(cell for cell in cells if cell["cell_type"] == "code")
            noted = datetime.datetime.fromisoformat(first["metadata"]["papermill"]["start_time"])
            starts.append((noted.replace(tzinfo=datetime.UTC) - began).total_seconds())
    return total, starts


def _seconds(arguments: Sequence[str], runs: str) -> float:
    """What a command takes, with this runs folder and without real data."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "recsys_lib", *arguments],
        env={**os.environ, "RECSYS_RUNS": runs, "RECSYS_DATA": ""},
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - start
