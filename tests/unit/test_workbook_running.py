"""Running notebooks: in order, with parameters, going on after a failure."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from recsys_lib.workbook import InputError, running, runs_folder
from recsys_lib.workbook.files import project_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three notebooks; the second fails."""
    bodies = {
        "00_first": "print(profile, dataset, repr(seed))",
        "01_fails": "from recsys_lib.workbook import InputError\nraise InputError('seed = 0: no')",
        "02_last": "import os\nprint(os.path.basename(os.getcwd()))",
    }
    return write_notebooks(tmp_path_factory.mktemp("shop"), bodies)


def write_notebooks(shop: Path, bodies: dict[str, str]) -> Path:
    folder = shop / "notebooks"
    folder.mkdir()
    parameters = (
        'profile: str = "quick"  # as everywhere\n'
        'dataset: str = "auto"  # as everywhere\n'
        "seed: int = 0  # as everywhere"
    )
    for name, body in bodies.items():
        first = new_code_cell(parameters, metadata={"tags": ["parameters"]})
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = new_notebook(cells=[first, new_code_cell(body)], metadata={"kernelspec": kernel})
        nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder


def start(folder: Path, runs: Path, *arguments: str) -> subprocess.Popen:
    """The command line on these notebooks, in a process group of its own."""
    program = (
        "import sys; from pathlib import Path; from recsys_lib.workbook import running, files;"
        f"running.project_folder = lambda: Path({str(folder.parent)!r});"
        "sys.exit(running.main(sys.argv[1:]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=folder.parent,
        env=os.environ | {"RECSYS_RUNS": str(runs), "PYTHONPATH": str(project_folder())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """One run of all three by the command line, and the runs folder."""
    runs = tmp_path_factory.mktemp("runs")
    process = start(folder, runs, "-p", "seed", "5", "-p", "profile", "full")
    out, err = process.communicate(timeout=240)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err), runs


def test_all_run_in_order_and_a_failure_ends_none(finished):
    done, _ = finished
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["00_first", "01_fails", "02_last"]
    assert [line.split()[1] for line in lines[:3]] == ["ok", "FAILED", "ok"]
    assert "InputError: seed = 0: no" in lines[1]
    assert lines[3].startswith("2 of 3 notebooks ran in")
    assert lines[4].startswith("executed copies: ")
    assert lines[5] == "failed: 01_fails"
    assert done.returncode == 1
    assert done.stderr == ""


def test_executed_notebooks_are_saved_with_parameters_and_errors(finished):
    _, runs = finished
    saved = runs / "executed" / "auto-full-seed5"
    assert {file.name for file in saved.iterdir()} == {
        "00_first.ipynb",
        "01_fails.ipynb",
        "02_last.ipynb",
    }
    first = json.dumps(nbformat.read(saved / "00_first.ipynb", as_version=4))
    assert "full auto 5" in first
    failed = nbformat.read(saved / "01_fails.ipynb", as_version=4)
    (error,) = [
        output
        for cell in failed.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]
    assert error.evalue == "seed = 0: no"
    assert error.traceback == ["InputError: seed = 0: no"]  # one line, no stack


def test_a_notebook_runs_in_its_own_folder(finished):
    _, runs = finished
    last = (runs / "executed" / "auto-full-seed5" / "02_last.ipynb").read_text(encoding="utf-8")
    assert '"notebooks\\n"' in last


def test_an_interrupt_is_one_line_and_keeps_what_ran(tmp_path):
    slow = "import time\nprint('begun')\nopen('begun', 'w').close()\ntime.sleep(99)"
    folder = write_notebooks(tmp_path, {"00_slow": slow})
    process = start(folder, tmp_path / "runs")
    until = time.monotonic() + 120
    while not (folder / "begun").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until, "the slow cell did not begin"
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C in a terminal does
    _, err = process.communicate(timeout=120)
    assert err == "\ninterrupted; what ran so far is kept in runs/executed\n"
    assert process.returncode == 130
    (kept,) = (tmp_path / "runs" / "executed" / "auto-quick-seed0").iterdir()
    assert kept.name == "00_slow.ipynb"
    cells = nbformat.read(kept, as_version=4).cells
    assert "begun\n" in [output.get("text") for output in cells[-1].outputs]


def test_a_kernel_that_dies_is_one_line_with_its_last_words(tmp_path):
    dies = "import os, time\nos.write(2, b'out of luck')\ntime.sleep(1)\nos._exit(3)"
    folder = write_notebooks(tmp_path, {"00_dies": dies})
    outcome = running.run_notebook(folder / "00_dies.ipynb")
    assert outcome.error == "DeadKernelError: Kernel died; it said: out of luck"
    assert [file.name for file in outcome.executed.parent.iterdir()] == ["00_dies.ipynb"]


@pytest.mark.parametrize("name", ["00", "first", "00_first", "notebooks/00_first.ipynb"])
def test_a_notebook_has_short_names(folder, name):
    assert running.notebook_files([name], folder) == [folder / "00_first.ipynb"]


def test_the_order_is_the_reading_order(folder):
    chosen = running.notebook_files(["02", "00"], folder)
    assert [file.stem for file in chosen] == ["00_first", "02_last"]


def test_an_unknown_notebook_is_one_line(folder):
    with pytest.raises(InputError, match=r'"firts".*Did you mean "00_first"\?'):
        running.notebook_files(["firts"], folder)


def test_an_unknown_parameter_is_refused_before_anything_runs(folder):
    with pytest.raises(InputError, match=r'a parameter "sed"; there are: .*Did you mean "seed"\?'):
        running.run_all(["00"], parameters={"sed": 1}, folder=folder)
    with pytest.raises(InputError, match=r'00_first has no parameter "sed"; it has: profile'):
        running.run_notebook(folder / "00_first.ipynb", parameters={"sed": 1})
    assert not runs_folder().exists()


def test_each_notebook_gets_the_parameters_that_it_has(folder, tmp_path, monkeypatch, capsys):
    copy = tmp_path / "notebooks"
    copy.mkdir()
    for name, extra in (("00_first", ""), ("02_last", '\ntext_column: str = "text"  # of a table')):
        notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
        notebook.cells[0].source += extra
        nbformat.write(notebook, copy / f"{name}.ipynb")
    given = {}
    monkeypatch.setattr(
        running,
        "run_notebook",
        lambda path, parameters: (
            given.update({path.stem: parameters}) or running.Outcome(path.stem, 0, path, "")
        ),
    )
    running.run_all(parameters={"seed": 1, "text_column": "review"}, folder=copy)
    assert given == {"00_first": {"seed": 1}, "02_last": {"seed": 1, "text_column": "review"}}
    given.clear()
    running.run_all(parameters={"dataset": "/a/own.csv"}, folder=copy)
    assert given == {"02_last": {"dataset": "/a/own.csv"}}
    assert "00_first  skipped: it takes no table of your own" in capsys.readouterr().out
    offers = (copy / "02_last.ipynb").read_text(encoding="utf-8")
    assert "# as everywhere" in offers
    offers = offers.replace("# as everywhere", '# \\"market\\", \\"fashion\\"')
    (copy / "02_last.ipynb").write_text(offers, encoding="utf-8")
    given.clear()
    running.run_all(parameters={"dataset": "fashion"}, folder=copy)
    assert given == {"02_last": {"dataset": "fashion"}}
    assert "00_first  skipped: it does not use fashion" in capsys.readouterr().out


def test_no_notebooks_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no notebooks"):
        running.run_all(folder=tmp_path)


def test_the_command_line_answers_a_wrong_name_in_one_line(capsys):
    assert running.main(["99_nothing"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith('error: notebook "99_nothing" is not in notebooks/')
    assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("seed", "3", 3),
        ("rate", "1e-4", 1e-4),
        ("flag", "True", True),
        ("flag", "False", False),
        ("model", "gpt2", "gpt2"),
        ("dataset", "market", "market"),
    ],
)
def test_values_from_the_command_line(name, text, value):
    parsed = running.parse_value(name, text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_a_tables_path_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert running.parse_value("dataset", "my.csv") == str(tmp_path / "my.csv")


def test_an_own_table_and_a_wrong_dataset_name_their_folder(folder):
    path = folder / "00_first.ipynb"
    own = running.executed_folder(path, {"dataset": "/a/b/my shop.csv"})
    assert own == runs_folder() / "executed" / "my shop-quick-seed0"
    wrong = running.executed_folder(path, {"dataset": "../../x", "seed": "a/b"})
    assert wrong.parent == runs_folder() / "executed"
