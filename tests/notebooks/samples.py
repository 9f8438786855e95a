"""A small notebook that keeps every rule: what the tests of the harness run and plant faults in."""

import json
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from recsys_lib.workbook.results import MIME_TYPE

NAME = "90_sample"

_OPENING = """# Sample

How small can a notebook be that keeps every rule?

**The answer.** In the committed run (clothing, quick, seed 0) the score is 0.750 and 5× the other.

| you will learn | you need | minutes on two cores | minutes on one GPU |
|---|---|---|---|
| the rules | nothing | 0.1 | 0.1 |"""

_PARAMETERS = """profile: str = "quick"  # "quick" or "full", as everywhere
dataset: str = "auto"  # "auto", "market", "clothing" or a path
seed: int = 0  # every random choice follows from it"""

_SETUP = f"""from recsys_lib import workbook

book = workbook.start("{NAME}", profile=profile, dataset=dataset, seed=seed)"""

_PICTURE = """import matplotlib.pyplot as plt

from recsys_lib import plots

fig, ax = plt.subplots(figsize=(1, 1))
plots.show(fig, alt="An empty pair of axes, for want of data.")"""

_CHECK = """# NBVAL_CHECK_OUTPUT
print("two and two make four:", 2 + 2 == 4)"""

_EXERCISE = """def check_{n}(answer):
    print("✓ right" if answer == {n} else "✗ not answered yet")
    return answer == {n}


answer_{n} = None  # your answer
check_{n}(answer_{n});"""

_RESULTS = """book.record("score", 0.75)
book.record("ratio", 5.0, unit="×")
book.results()"""

_END = """## What you should remember

- Rules are cheap when a test keeps them.

Next: `91_other`."""


def results_payload() -> dict:
    """What the sample's results cell carries."""
    return {
        "format": 1,
        "notebook": NAME,
        "dataset": "clothing",
        "profile": "quick",
        "seed": 0,
        "results": {"score": {"value": 0.75}, "ratio": {"value": 5.0, "unit": "×"}},
    }


def sample_notebook() -> nbformat.NotebookNode:
    """The sample with the outputs of a run."""
    png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    alt = {"image/png": {"alt": "An empty pair of axes, for want of data."}}
    cells = [
        new_markdown_cell(_OPENING),
        _code(_PARAMETERS, tags=["parameters"]),
        _code(_SETUP, "dataset    clothing\n"),
        new_markdown_cell("## A picture"),
        _code(_PICTURE, new_output("display_data", {"image/png": png}, metadata=alt)),
        new_markdown_cell("## A check"),
        _code(_CHECK, "two and two make four: True\n"),
        new_markdown_cell("## Exercises"),
    ]
    for n in (1, 2, 3):
        cells.append(new_markdown_cell(f"### Exercise {n}: find {n}"))
        cells.append(_code(_EXERCISE.format(n=n), "✗ not answered yet\n"))
        solution = _code(f"answer_{n} = {n}\ncheck_{n}(answer_{n});", "✓ right\n")
        solution.metadata.update(tags=["solution"], jupyter={"source_hidden": True}, collapsed=True)
        cells.append(solution)
    table = {"text/plain": "score  0.750", MIME_TYPE: results_payload()}
    cells += [
        new_markdown_cell("## Results"),
        _code(_RESULTS, new_output("display_data", table)),
        new_markdown_cell(_END),
    ]
    codes = (cell for cell in cells if cell.cell_type == "code")
    for count, cell in enumerate(codes, start=1):
        cell.execution_count = count
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def _code(source: str, output: str | nbformat.NotebookNode | None = None, tags=()):
    if isinstance(output, str):
        output = new_output("stream", name="stdout", text=output)
    metadata = {"tags": list(tags)} if tags else {}
    return new_code_cell(source, outputs=[output] if output else [], metadata=metadata)


def sample_project(folder: Path) -> Path:
    """A project that holds the sample, its README and its expected results; the notebook's path."""
    path = folder / "notebooks" / f"{NAME}.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(sample_notebook(), path)
    (folder / "README.md").write_text(f"The map: {NAME}\n", encoding="utf-8")
    bands = {"score": {"value": 0.75, "tolerance": 0.01}, "ratio": {"at_least": 4.0}}
    expected = {"bands": {f"{name}-quick": bands for name in ("clothing", "market")}}
    file = folder / "tests" / "expected" / f"{NAME}.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(expected), encoding="utf-8")
    return path
