"""``student``: a copy of the workbook for a course, without solutions and without outputs.

The notebooks carry the cell metadata of nbgrader (schema 3; https://nbgrader.readthedocs.io): an
exercise becomes a cell for the answer and a locked cell whose check earns a point. Its check raises
as long as the answer is not right; the cell is marked ``raises-exception``, so that a notebook runs
from top to bottom all the same.
"""

import ast
import os
import secrets
import shutil
import sys
from pathlib import Path

import click
import nbformat
from nbformat.v4 import new_code_cell

from recsys_lib.workbook.errors import InputError, saving
from recsys_lib.workbook.files import project_folder
from recsys_lib.workbook.running import notebook_files

FOLDED = "Solutions are folded in."  # stands in each notebook above its exercises
COPIED = ("recsys_lib", "data", "pyproject.toml", "constraints.txt", "environment.yml", "LICENSE")
_README = """# Language models for e-commerce search and recommendation: the exercises

```bash
python3 -m venv .venv
.venv/bin/python -m pip install -c constraints.txt -e .
.venv/bin/jupyter lab notebooks/00_start_here.ipynb
```

Read the notebooks in their order. {what}
A check says at once whether an answer is right, and what is wrong with a wrong one; an exercise
that waits for its answer says so, and the cells after it run.

The checks stand in `recsys_lib/exercises`, and they know what is right. Who grades runs the
notebooks with a copy of `recsys_lib` of their own.
"""
_STUDENT = "Each exercise has a cell for your answer and a locked one with its check."
_TEACHER = """This is the teacher's copy: each answer cell holds the solution between nbgrader's
markers. Put the notebooks under `source/` of a course, and `nbgrader generate_assignment` clears
them."""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--solutions", is_flag=True, help="The teacher's copy, solutions between nbgrader's markers."
)
def student(folder: Path, solutions: bool) -> None:
    """Write a copy of the workbook for students into FOLDER, which is new or empty.

    It has no solutions and no outputs; its checks work. The notebooks can go into a course of
    nbgrader as they are.
    """
    count = write_copy(folder, solutions=solutions)
    print(f"{count} notebooks are in {folder}; its README.md says how to begin")
    sys.exit(0)


def write_copy(folder: Path, *, solutions: bool = False) -> int:
    """Write the copy; all of it or nothing.

    Args:
        folder: new or empty.
        solutions: keep them, as nbgrader's source has them.

    Returns:
        The number of notebooks.

    Raises:
        InputError: a folder with something in it, one inside the workbook, or no place to write.
    """
    folder, project = folder.expanduser().resolve(), project_folder()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there and not empty: name a new folder.")
    inside = [project / name for name in ("notebooks", "recsys_lib", "tests", "data")]
    if any(folder.is_relative_to(part) for part in inside):
        raise InputError(f"{folder} is inside the workbook: name a folder elsewhere.")
    part = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.part"
    paths = notebook_files()
    try:
        with saving("the students' copy", folder.parent):
            (part / "notebooks").mkdir(parents=True)
            _copy_files(project, part)
            for path in paths:
                notebook = nbformat.read(path, as_version=4)
                nbformat.write(
                    for_course(notebook, path.stem, solutions=solutions),
                    part / "notebooks" / path.name,
                )
            what = _TEACHER if solutions else _STUDENT
            (part / "README.md").write_text(_README.format(what=what), encoding="utf-8")
            if folder.exists():
                folder.rmdir()
            os.replace(part, folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return len(paths)


def _copy_files(project: Path, part: Path) -> None:
    for name in COPIED:
        if (project / name).is_dir():
            shutil.copytree(
                project / name, part / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy2(project / name, part / name)
    for picture in (project / "notebooks").glob("*.png"):
        shutil.copy2(picture, part / "notebooks" / picture.name)


def for_course(
    notebook: nbformat.NotebookNode, stem: str, *, solutions: bool = False
) -> nbformat.NotebookNode:
    """A notebook with nbgrader's metadata, without outputs and, but for `solutions`, without these.

    Args:
        notebook: with cells tagged "solution", each behind the cell of its exercise. It is changed.
        stem: of its file's name, for the ids of its cells.
        solutions: put them into the answer cells, between nbgrader's markers.
    """
    cells, number = [], 0
    for cell, following in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        if "solution" in cell.metadata.get("tags", []):
            continue
        if following is not None and "solution" in following.metadata.get("tags", []):
            number += 1
            solution = following.source if solutions else None
            cells += exercise_cells(cell.source, solution, f"{stem[:2]}-{number}")
            continue
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        elif not solutions:
            cell.source = cell.source.replace(f" {FOLDED}", "")
        cells.append(cell)
    notebook.cells = cells
    return notebook


def exercise_cells(exercise: str, solution: str | None, name: str) -> list[nbformat.NotebookNode]:
    """An exercise's cell as two: for the answer, and for the check of it.

    Args:
        exercise: its source, which ends in the call of its check.
        solution: the source of its solution, which calls the same check; None leaves it out.
        name: part of the cells' ids in nbgrader.
    """
    check = ast.parse(exercise).body[-1]
    answer = "\n".join(exercise.splitlines()[: check.lineno - 1]).rstrip()
    if solution is not None:
        answer += f"\n\n### BEGIN SOLUTION\n{solved(check.value, solution)}\n### END SOLUTION"
    call = ast.unparse(check.value)
    passes = f'assert {call}, "waits for an answer that is right: see the line above"'
    cells = [new_code_cell(answer), new_code_cell(passes)]
    for cell, kind in zip(cells, ("answer", "check"), strict=True):
        cell.id = f"{kind}-{name}"
        cell.metadata["nbgrader"] = {
            "cell_type": "code",
            "grade": kind == "check",
            "grade_id": f"{kind}-{name}",
            "locked": kind == "check",
            "schema_version": 3,
            "solution": kind == "answer",
            "task": False,
        }
    cells[1].metadata["nbgrader"]["points"] = 1
    cells[1].metadata["tags"] = ["raises-exception"]
    return cells


def solved(check: ast.Call, solution: str) -> str:
    """The source of a solution without its check, which gives what `check` is called with."""
    lines = solution.splitlines()
    asked = ast.unparse(check.func)
    (found,) = (
        node
        for node in ast.parse(solution).body
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) == asked
    )
    given = [
        f"{ast.unparse(name)} = {ast.unparse(value)}"
        for name, value in zip(check.args, found.value.args, strict=True)
        if ast.unparse(name) != ast.unparse(value)
    ]
    return "\n".join([*lines[: found.lineno - 1], *given, *lines[found.end_lineno :]]).strip()
