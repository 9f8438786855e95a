"""The students' copy: no answers, checks that work, and cells that nbgrader takes as they are."""

import nbformat
import pytest
from nbclient import NotebookClient
from nbgrader.preprocessors import CheckCellMetadata, ClearSolutions, ComputeChecksums, LockCells
from nbgrader.utils import determine_grade

from recsys_lib.commands import student
from recsys_lib.commands.main import main
from recsys_lib.workbook import InputError
from recsys_lib.workbook.files import project_folder
from recsys_lib.workbook.running import notebook_files

QUICK = "01_loss_derivation"


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """The students' copy and the teacher's."""
    folder = tmp_path_factory.mktemp("course")
    made = {"student": folder / "student", "teacher": folder / "teacher"}
    student.write_copy(made["student"])
    student.write_copy(made["teacher"], solutions=True)
    return made


def read(folder, stem):
    return nbformat.read(folder / "notebooks" / f"{stem}.ipynb", as_version=4)


def graded(notebook):
    return [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade")]


def answers(notebook):
    return [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("solution")]


@pytest.mark.parametrize("path", notebook_files(), ids=lambda path: path.stem)
def test_the_copy_has_every_exercise_and_no_solution(path, copies):
    ours, theirs = nbformat.read(path, as_version=4), read(copies["student"], path.stem)
    solutions = [c.source for c in ours.cells if "solution" in c.metadata.get("tags", [])]
    assert len(graded(theirs)) == len(answers(theirs)) == len(solutions) >= 3
    text = "\n".join(cell.source for cell in theirs.cells)
    assert "solution_" not in text
    assert not any(solution in text for solution in solutions)
    assert student.FOLDED not in text
    code = [cell for cell in theirs.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert len(theirs.cells) == len(ours.cells)  # each exercise is two cells, its solution none
    assert any(student.FOLDED in cell.source for cell in ours.cells)
    nbformat.validate(theirs)


@pytest.mark.parametrize("path", notebook_files(), ids=lambda path: path.stem)
@pytest.mark.parametrize("who", ["student", "teacher"])
def test_nbgrader_takes_the_cells(path, who, copies):
    notebook = read(copies[who], path.stem)
    for step in (CheckCellMetadata(), LockCells(), ComputeChecksums()):
        notebook, _ = step.preprocess(notebook, {})
    locked = [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("locked")]
    assert all(cell.metadata["editable"] is False for cell in locked)
    assert len(locked) == len(graded(notebook))


def test_nbgrader_clears_the_teachers_solutions(copies):
    notebook = read(copies["teacher"], QUICK)
    assert all("### BEGIN SOLUTION" in cell.source for cell in answers(notebook))
    cleared, _ = ClearSolutions().preprocess(notebook, {})
    assert all("SOLUTION" not in cell.source for cell in answers(cleared))
    assert all("NotImplementedError" in cell.source for cell in answers(cleared))


@pytest.mark.parametrize(("who", "points"), [("student", 0), ("teacher", 1)])
def test_a_copy_runs_to_its_end_and_is_graded(who, points, copies, monkeypatch):
    monkeypatch.setenv("RECSYS_DATA", "")
    monkeypatch.setenv("PYTHONPATH", str(copies[who]))  # with the copy's own library
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # the copies are looked at by other tests
    notebook = read(copies[who], QUICK)
    NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(copies[who] / "notebooks")}}
    ).execute()
    assert [determine_grade(cell)[:2] for cell in graded(notebook)] == [
        (points, 1) for _ in graded(notebook)
    ]
    said = ["".join(o.get("text", "") for o in cell.outputs) for cell in graded(notebook)]
    assert all(("not answered yet" in text) == (who == "student") for text in said), said


def test_a_copy_is_written_whole_or_not_at_all(copies, tmp_path, monkeypatch, capsys):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("keep", encoding="utf-8")
    assert main(["student", str(mine)]) == 2
    assert "is there and not empty" in capsys.readouterr().err
    assert [file.name for file in mine.iterdir()] == ["notes.txt"]
    with pytest.raises(InputError, match="inside the workbook"):
        student.write_copy(project_folder() / "notebooks" / "copy")
    monkeypatch.setattr(student, "for_course", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        student.write_copy(tmp_path / "new")
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_the_copy_can_be_installed_and_says_how(copies):
    folder = copies["student"]
    for name in ("README.md", "pyproject.toml", "constraints.txt", "recsys_lib/__init__.py"):
        assert (folder / name).is_file(), name
    assert (folder / "notebooks" / "start_here.png").is_file()
    assert not list(folder.rglob("__pycache__"))
    assert "locked one with its check" in (folder / "README.md").read_text(encoding="utf-8")
    assert "generate_assignment" in (copies["teacher"] / "README.md").read_text(encoding="utf-8")
