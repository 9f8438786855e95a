"""The table of the notebooks at the end of `make test`."""

import subprocess
import sys

import pytest

from recsys_lib.workbook.files import project_folder

SAMPLE = """
import pytest


@pytest.mark.parametrize(("name", "dataset"), [("00_a", "market"), ("01_b", "shop")])
def test_notebook(name, dataset, add_notebook_row):
    left = ["auc is 0.2, expected 0.900 ± 0.010"] if name == "01_b" else []
    cells = [name, dataset, "3", "80", "2", "1/1", f"{2 - len(left)}/2"]
    add_notebook_row(cells, left)
    assert not left
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_the_table_names_every_notebook_and_what_left_its_band(tmp_path, workers):
    file = tmp_path / "test_sample.py"
    file.write_text(SAMPLE, encoding="utf-8")
    options = [
        "-q",
        "-p",
        "tests.conftest",
        "-p",
        "no:cacheprovider",
        "--color=no",
        f"-n{workers}",
        "--dist=loadscope",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(file)],
        cwd=project_folder(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr  # of the notebook outside its band
    _, _, table = done.stdout.partition("notebooks ===")
    head, *rows = [line.split() for line in table.splitlines()[1:5]]
    assert head[:4] == ["notebook", "dataset", "seconds", "MB"]
    assert [row[:2] for row in rows[:2]] == [["00_a", "market"], ["01_b", "shop"]]
    assert [row[-1] for row in rows[:2]] == ["2/2", "1/2"]
    assert " ".join(rows[2]) == "01_b, shop: auc is 0.2, expected 0.900 ± 0.010"
