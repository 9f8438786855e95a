"""Runs benchmarks side by side with their references: ``python -m tests.bench [name …]``.

Every ``bench_<name>.py`` here has ``run() -> dict`` whose "results" are rows with ``what``,
``ours``, ``reference``, ``unit``, ``ratio`` (how many times better ours is) and ``target`` (or
None). Prints one table and writes ``runs/bench/<name>.json`` (under ``RECSYS_RUNS`` where that is
set). A missed target is reported, not raised: a timing is not a test.
"""

from __future__ import annotations

import datetime
import importlib
import json
import os
import platform
import sys
from pathlib import Path

import numpy as np
import torch

from recsys_lib import workbook

HERE = Path(__file__).parent
COLUMNS = ("what", "ours", "reference", "ratio", "target", "")


def main(names: list[str]) -> int:
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no benchmark named {', '.join(unknown)}; there are: {', '.join(known)}")
        return 2
    rows = []
    for name in names or known:
        print(f"running {name} …", flush=True)
        report = importlib.import_module(f"tests.bench.bench_{name}").run()
        write(name, report)
        rows += report["results"]
    print()
    print(table(rows))
    return 0


def table(rows: list[dict]) -> str:
    """The results as aligned text."""
    cells = [COLUMNS] + [
        (
            row["what"],
            _quantity(row["ours"], row.get("unit", "")),
            _quantity(row["reference"], row.get("unit", "")),
            f"{row['ratio']:.1f}×",
            "–" if row["target"] is None else f"≥ {row['target']:g}×",
            ""
            if row["target"] is None
            else "reached"
            if row["ratio"] >= row["target"]
            else "MISSED",
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    lines = [
        "  ".join(
            cell.ljust(width) if i in (0, 5) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def write(name: str, report: dict) -> Path:
    """Writes the report with the machine and the date, all of it or nothing."""
    full = {
        "name": name,
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "system": platform.platform(),
            "processors": os.cpu_count(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
        },
        **report,
    }
    path = workbook.runs_folder() / "bench" / f"{name}.json"
    workbook.atomic_write(path, json.dumps(full, indent=2, allow_nan=False) + "\n")
    return path


def _quantity(value: float, unit: str) -> str:
    digits = 3 if abs(value) < 10 else 1
    return f"{value:,.{digits}f} {unit}".strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
