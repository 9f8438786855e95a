"""What all tests share: their own runs folder, and the table of notebooks at the end."""

import pytest

from tests.browser import browser  # noqa: F401  (a fixture, for any test that asks for it)

NOTEBOOK_ROWS = pytest.StashKey[list]()


def pytest_addoption(parser):
    parser.addoption(
        "--update-expected",
        action="store_true",
        help="write what the notebooks record into tests/expected/, for you to judge with git diff",
    )


def pytest_configure(config):
    config.stash[NOTEBOOK_ROWS] = []


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    """No test writes into the project's runs/."""
    monkeypatch.setenv("RECSYS_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def notebook_rows(request) -> list:
    """Rows for the table that is printed when all tests are done."""
    return request.config.stash[NOTEBOOK_ROWS]


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash[NOTEBOOK_ROWS]
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
