"""Small executed notebooks and a small sweep, as `run` and a sweep leave them."""

import base64
import io
import json
from pathlib import Path

import pandas as pd
from PIL import Image

from recsys_lib.workbook.results import MIME_TYPE

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>&amp;'
NUMBERS = {
    "test/auc": {"value": 0.9, "low": 0.88, "high": 0.92, "level": 0.95, "n": 1000},
    "test/rows": {"value": 1000, "note": "after cleaning"},
    "train/time": {"value": 12.5, "unit": "s"},
}
TEXT = """# 98 · A sample

**The question.** Does $\\frac{a}{b}$ stand in a report?

**The answer.** In the committed run (clothing, quick, seed 0) it is 0.12345.
"""
SECTION = """## 1 · First things

An idea with a formula,

$$\\sum_{i=1}^n x_i \\in \\mathbb R,$$

In the committed run it was 0.54321.

| a | b |
|---|---|
| 1 | `x < 1` |

### Below

Text of a part.
"""
PARAMETERS = 'profile: str = "quick"  # as everywhere\ndataset: str = "auto"  # too\nseed: int = 0'


def picture(size: tuple[int, int] = (60, 40)) -> str:
    """A PNG in base64."""
    buffer = io.BytesIO()
    Image.new("RGB", size, "white").save(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def code(source: str, *outputs: dict, tags: tuple[str, ...] = (), number: int = 1) -> dict:
    return {
        "cell_type": "code",
        "source": source.splitlines(keepends=True),
        "metadata": {"tags": list(tags)},
        "execution_count": number,
        "outputs": list(outputs),
    }


def markdown(source: str) -> dict:
    return {"cell_type": "markdown", "source": source, "metadata": {}}


def shown(data: dict, metadata: dict | None = None) -> dict:
    return {"output_type": "display_data", "data": data, "metadata": metadata or {}}


def write_notebook(
    path: Path,
    *,
    numbers: dict | None = None,
    payload: dict | None = None,
    given: dict | None = None,
    alt: str | None = "A white picture of a report's test.",
    error: str | None = None,
    text: str = TEXT,
    section: str = SECTION,
    picture_of: str | None = None,
    executed: bool = True,
) -> Path:
    """Write an executed notebook.

    Args:
        path: of the file.
        numbers: recorded; none with an empty dict.
        payload: in place of parts of what `Book.payload` gives.
        given: papermill's parameters.
        alt: of its picture; None for a notebook without one.
        error: of a cell that failed.
        text, section: Markdown of its first cell and of its section.
        picture_of: its picture, PNG in base64.
        executed: with papermill's metadata.
    """
    cells = [markdown(text), code(PARAMETERS, tags=("parameters",)), markdown(section)]
    if alt is not None:
        about = {"image/png": {"alt": alt}} if alt else {}
        cells.append(code("draw()", shown({"image/png": picture_of or picture()}, about)))
    if error is not None:
        name, _, value = error.partition(": ")
        failure = {"output_type": "error", "ename": name, "evalue": value, "traceback": []}
        cells.append(code("fit(\n  rows < 3)", failure, number=7))
    if numbers != {}:
        whole = {
            "format": 1,
            "notebook": path.stem,
            "dataset": "market",
            "profile": "quick",
            "seed": 0,
            "model": "all-MiniLM-L6-v2",
            "device": "cpu",
            "precision": "bf16",
            "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
            "results": numbers or NUMBERS,
        }
        cells += [markdown("## Results"), code("x", shown({MIME_TYPE: whole | (payload or {})}))]
    metadata: dict = {"kernelspec": {"name": "python3"}}
    if executed:
        metadata["papermill"] = {
            "parameters": given or {},
            "duration": 75.0,
            "start_time": "2026-03-01T10:00:00",
        }
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path


def sweep_rows(*, failed: bool = True, shift: float = 0.0) -> list[dict]:
    """The rows of a sweep over two rates and three seeds; one run failed."""
    rows, run = [], 0
    for rate in (0.1, 0.2):
        for seed in range(3):
            about = {
                "run": run,
                "notebook": "98_sample",
                "executed": f"runs/{run}/98_sample.ipynb",
                "ok": True,
                "error": "",
                "seconds": 60.0 + run,
                "p_rate": rate,
                "p_seed": seed,
                "p_profile": "quick",
                "p_dataset": "market",
            }
            run += 1
            if failed and run == 2:
                told = f"cell 3: ValueError: {HOSTILE}"
                rows.append(about | {"ok": False, "error": told, "name": None})
                continue
            value = 0.5 + rate + seed / 100 + shift
            interval = {"low": value - 0.01, "high": value + 0.01, "level": 0.95, "n": 9}
            rows.append(about | {"name": "auc", "value": value, "unit": ""} | interval)
            rows.append(about | {"name": "time", "value": float(run), "unit": "s"})
            rows.append(about | {"name": "rows", "value": 1000.0, "unit": ""})
            for more in range(6):
                rows.append(about | {"name": f"more/{more}", "value": value + more})
    return rows


def write_sweep(folder: Path, **options) -> Path:
    """Write the table of a sweep and its first executed notebook."""
    folder.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(sweep_rows(**options)).astype({"unit": object, "name": object})
    frame.to_parquet(folder / "table.parquet")
    write_notebook(folder / "runs" / "0" / "98_sample.ipynb", given={"seed": 0})
    return folder
