"""Every exercise has its check in the library, every check its exercise and its unit tests."""

import ast
import re

import nbformat
import pytest

from recsys_lib.workbook.files import project_folder
from recsys_lib.workbook.running import notebook_files
from tests.notebooks.rules import code_cells, output_text, tagged

PROJECT = project_folder()
NOTEBOOKS = notebook_files()


def checks_of_library(name: str) -> set[str]:
    """The check_ functions of recsys_lib/exercises/<name>.py."""
    file = PROJECT / "recsys_lib" / "exercises" / f"{name}.py"
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return {
        node.name
        for node in body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_checks_and_exercises_belong_together(path):
    notebook = nbformat.read(path, as_version=4)
    library = checks_of_library(path.stem[3:])
    solved = set()
    for _, cell in tagged(notebook, "solution"):
        solved |= set(re.findall(r"\b(check_\w+)\(", cell.source))
    asked = set()
    for _, cell in code_cells(notebook):
        if "solution" not in cell.metadata.get("tags", []):
            asked |= set(re.findall(r"\b(check_\w+)\(", cell.source))
    assert solved == library, "each check of the library is passed by one solution"
    assert asked == library, "each check is called on the reader's answer too"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_an_unanswered_exercise_is_answered_kindly(path):
    notebook = nbformat.read(path, as_version=4)
    for number, cell in code_cells(notebook):
        asks = re.search(r"\bcheck_\w+\(", cell.source)
        if asks and "solution" not in cell.metadata.get("tags", []):
            assert "not answered" in output_text(cell), f"cell {number}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_check_has_unit_tests_of_right_and_wrong_answers(path):
    name = path.stem[3:]
    tests = PROJECT / "tests" / "unit" / f"test_exercises_{name}.py"
    text = tests.read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(text)))  # an import alone tests nothing: it is no Name
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    assert "reply" in used, f"{tests.name} does not look at the one line that a check prints"
    used |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert checks_of_library(name) <= used, f"{tests.name} does not test all checks"
