"""The table at the end of `make test`, also when the tests ran in several workers."""

import subprocess
import sys

import pytest

from recsys_lib.workbook.files import project_folder

SAMPLE = """
import pytest
from tests.conftest import ROW

RUNS = [("01_b", "shop"), ("00_a", "shop"), ("00_a", "market")]


@pytest.mark.parametrize(("name", "dataset"), RUNS)
def test_notebook(name, dataset, request):
    left = ["auc is 0.2, expected 0.900 ± 0.010"] if name == "01_b" else []
    cells = [name, dataset, "3", "4", "80", "2", "1/1", f"{2 - len(left)}/2"]
    request.node.user_properties.append((ROW, {"cells": cells, "left": left}))
    assert not left


def test_another_worker():
    pass
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_table_names_every_notebook_and_what_left_its_band(workers, tmp_path):
    file = tmp_path / "test_sample.py"
    file.write_text(SAMPLE, encoding="utf-8")
    options = ["-q", "-p", "tests.conftest", "-p", "no:cacheprovider", "-n", workers]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--color=no", str(file)],
        cwd=project_folder(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr  # of the notebook outside its band
    _, _, table = done.stdout.partition("notebooks ===")
    head, *rows = [line.split() for line in table.splitlines()[1:6]]
    assert head[:4] == ["notebook", "dataset", "seconds", "CPU"]
    assert [row[:2] for row in rows[:3]] == [
        ["00_a", "market"],
        ["00_a", "shop"],
        ["01_b", "shop"],
    ]
    assert [row[-1] for row in rows[:3]] == ["2/2", "2/2", "1/2"]
    assert " ".join(rows[3]) == "01_b, shop: auc is 0.2, expected 0.900 ± 0.010"
