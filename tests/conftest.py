"""What all tests share: their own runs folder, who runs beside whom, the table of notebooks."""

import os

import pytest
from xdist.scheduler import LoadScopeScheduling

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:  # before torch is imported: workers share the cores, and kernels inherit it
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))

ROW = "row of the table of notebooks"
HEAD = ("notebook", "dataset", "seconds", "CPU s", "MB", "checks", "exercises", "numbers in band")


def pytest_addoption(parser):
    parser.addoption(
        "--update-expected",
        action="store_true",
        help="write what the notebooks record into tests/expected/, for you to judge with git diff",
    )


def pytest_configure(config):
    config.pluginmanager.register(NotebookTable(), "notebook-table")


def pytest_collection_modifyitems(items):
    """The longest parts begin."""
    items.sort(key=lambda item: "notebooks" not in item.path.parts)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """What shares fixtures or artifacts runs in one worker: a file, or one data set's notebooks."""
    return Together(config, log)


class Together(LoadScopeScheduling):
    """Hands out whole files; of the runs of the notebooks those of the market and the others."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        if test.startswith("test_notebook["):
            return f"{file}::{'market' if '[market-' in test else 'real'}"
        return file


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    """No test writes into the project's runs/."""
    monkeypatch.setenv("RECSYS_RUNS", str(tmp_path / "runs"))


class NotebookTable:
    """Collects what the tests of notebooks report, also from other workers, and prints it last.

    A test adds ``(ROW, {"cells": one text per column of HEAD, "left": lines})`` to its
    `user_properties`; the lines name what left its band.
    """

    def __init__(self):
        self.rows = []

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            self.rows += [value for name, value in report.user_properties if name == ROW]

    def pytest_terminal_summary(self, terminalreporter):
        if not self.rows:
            return
        rows = sorted(self.rows, key=lambda row: (row["cells"][0], row["cells"][1] != "market"))
        terminalreporter.section("notebooks")
        table = [HEAD, *[tuple(row["cells"]) for row in rows]]
        widths = [max(len(row[column]) for row in table) for column in range(len(HEAD))]
        for row in table:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            terminalreporter.write_line("  ".join(cells).rstrip())
        for row in rows:
            for line in row["left"]:
                terminalreporter.write_line(f"{row['cells'][0]}, {row['cells'][1]}: {line}")
