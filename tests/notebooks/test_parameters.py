"""What an analyst does: rerun a notebook by papermill with other parameters.

Right values run to the end; a wrong one fails in one clear line, and the outputs are saved.
"""

from pathlib import Path

import nbformat
import pytest

from recsys_lib.workbook.parameters import declared
from recsys_lib.workbook.results import executed_results
from recsys_lib.workbook.running import notebook_files
from tests.notebooks.reruns import by_name, check_refused, run
from tests.notebooks.rules import code_cells, output_text, real_dataset

pytestmark = pytest.mark.usefixtures("without_real_data")
NOTEBOOKS = notebook_files()
LIGHT = [path for path in NOTEBOOKS if path.stem[:2] in ("00", "01", "02", "04")]
ABOUT_THE_ENCODER = "the lead over TF-IDF"  # a verdict on the built-in one, not on a tiny one


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_a_wrong_dataset(path, tmp_path):
    real = real_dataset(path)
    wrong = real[:-2] + real[:-3:-1]  # the last two letters swapped
    outcome = run(path, tmp_path, dataset=wrong)
    check_refused(outcome, f'dataset = "{wrong}"', f'Did you mean "{real}"?')


@pytest.mark.parametrize("path", NOTEBOOKS[:1] + NOTEBOOKS[-1:], ids=by_name)
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("profile", "fast", ['profile = "fast"', '"quick" or "full"']),
        ("seed", "one", ["seed = 'one'", "whole number"]),
    ],
)
def test_a_wrong_value(path, name, value, words, tmp_path):
    check_refused(run(path, tmp_path, **{name: value}), *words)


def verdicts(path: Path) -> list[str]:
    """What the notebook found to be True or False, line by line."""
    cells = code_cells(nbformat.read(path, as_version=4))
    lines = [line for _, cell in cells for line in output_text(cell).splitlines()]
    found = [line for line in lines if line.rstrip(" ]").endswith(("True", "False"))]
    return [line for line in found if not line.startswith(ABOUT_THE_ENCODER)]


@pytest.mark.parametrize("path", LIGHT, ids=by_name)
def test_another_seed(path, checkpoints, tmp_path):
    encoder = {"model": str(checkpoints["bert"])} if "model" in declared(path) else {}
    outcome = run(path, tmp_path, seed=7, dataset="market", **encoder)
    assert outcome.ok, outcome.error
    payload = executed_results(outcome.executed)
    assert (payload["seed"], payload["dataset"]) == (7, "market")
    assert payload["results"]
    assert verdicts(outcome.executed) == verdicts(path)
