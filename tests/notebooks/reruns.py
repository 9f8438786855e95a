"""Rerun a notebook by papermill, as an analyst does, and look at what it said."""

from pathlib import Path

import nbformat

from recsys_lib.workbook.running import Outcome, run_notebook
from tests.notebooks.rules import code_cells


def by_name(path: Path) -> str:
    """The name of a test with a notebook."""
    return path.stem


def run(path: Path, tmp_path: Path, **parameters) -> Outcome:
    return run_notebook(path, parameters=parameters, out=tmp_path / "out" / path.name)


def outputs(outcome: Outcome) -> list:
    notebook = nbformat.read(outcome.executed, as_version=4)
    return [output for _, cell in code_cells(notebook) for output in cell.outputs]


def check_refused(outcome: Outcome, *words: str) -> None:
    """The run ended with one clear line, and the notebook with it was saved."""
    (error,) = [output for output in outputs(outcome) if output.output_type == "error"]
    assert error.ename == "InputError", error.evalue
    assert error.traceback == [f"InputError: {error.evalue}"]
    assert "\n" not in error.evalue
    for word in words:
        assert word in error.evalue
    assert error.evalue in outcome.error
