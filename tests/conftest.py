"""What all tests share: their own runs folder, and the table of notebooks at the end."""

import os
import random

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:
    # Two tests at a time on two cores: one thread each, or every step waits for the other's.
    # Before torch is imported; the notebooks and programs that a test starts inherit it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from tests.browser import browser  # noqa: F401  (fixtures, for any test that asks for them)
from tests.checkpoints import checkpoints, tokenizer  # noqa: F401

ROW = "notebook row"

# The same examples in every run, and none too slow for a noisy machine.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


def pytest_addoption(parser):
    parser.addoption(
        "--update-expected",
        action="store_true",
        help="write what the notebooks record into tests/expected/, for you to judge with git diff",
    )


def pytest_collection_modifyitems(items):
    """The notebooks come last: each is timed, and what runs beside it then is another notebook."""
    items.sort(key=lambda item: item.path.name == "test_nbval.py")


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    """No test writes into the project's runs/."""
    monkeypatch.setenv("RECSYS_RUNS", str(tmp_path / "runs"))


@pytest.fixture(autouse=True)
def seeded():
    """What a test draws without a seed of its own does not depend on the tests before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the global state itself
    torch.manual_seed(0)


@pytest.fixture
def add_notebook_row(record_property):
    """Adds a row to the table that is printed when all tests are done, whoever ran them."""
    return lambda cells, left: record_property(ROW, {"cells": cells, "left": left})


def pytest_terminal_summary(terminalreporter):
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    reports = sorted((r for r in reports if r.when == "call"), key=lambda report: report.start)
    rows = [row for report in reports for name, row in report.user_properties if name == ROW]
    if not rows:
        return
    terminalreporter.section("notebooks")
    head = ("notebook", "dataset", "seconds", "MB", "checks", "exercises", "numbers in band")
    table = [head, *[tuple(row["cells"]) for row in rows]]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        terminalreporter.write_line("  ".join(cells).rstrip())
    for row in rows:
        for line in row["left"]:
            terminalreporter.write_line(f"{row['cells'][0]}, {row['cells'][1]}: {line}")
