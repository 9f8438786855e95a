"""`run`: notebooks in order, with parameters, going on after a failure and after an end."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from jupyter_client.connect import LocalPortCache
from nbformat.v4 import new_code_cell, new_notebook
from papermill import engines
from rich.console import Console

from recsys_lib.commands import run as run_command
from recsys_lib.commands.display import Display, section, share_done
from recsys_lib.commands.main import main
from recsys_lib.commands.run import run_all
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


def start(folder: Path, runs: Path, *arguments: str, command: str = "run") -> subprocess.Popen:
    """The command line on these notebooks, in a process group of its own."""
    program = (
        "import sys; from pathlib import Path; from recsys_lib.workbook import running\n"
        f"running.project_folder = lambda: Path({str(folder.parent)!r})\n"
        "from recsys_lib.commands.main import main\n"
        "if __name__ == '__main__': sys.exit(main(sys.argv[1:]))"  # a worker imports this, too
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, command, *arguments],
        cwd=folder.parent,
        env=os.environ | {"RECSYS_RUNS": str(runs), "PYTHONPATH": str(project_folder())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # tests started in the background of a shell ignore interrupts, and so would this
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
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
    assert lines[6:] == [
        "",
        "01_fails: cell 3: InputError: seed = 0: no",
        "    from recsys_lib.workbook import InputError",
        "    raise InputError('seed = 0: no')",
        "  parameters: profile = 'full', seed = 5",
    ]
    assert done.returncode == 1
    assert done.stderr == ""


def test_executed_notebooks_are_saved_with_parameters_and_errors(finished):
    _, runs = finished
    saved = runs / "executed" / "auto-full-seed5"
    assert {file.name for file in saved.iterdir()} == {
        ".lock",
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


# A second, so that what was printed has been read before the interrupt.
SLOW = "import time\nprint('begun')\ntime.sleep(1)\nopen('begun', 'w').close()\ntime.sleep(99)"


def has_begun(folder: Path, process: subprocess.Popen) -> None:
    """Wait until the slow cell runs."""
    until = time.monotonic() + 120
    while not (folder / "begun").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until, "the slow cell did not begin"
        time.sleep(0.1)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=lambda sent: sent.name)
def test_an_interrupt_is_one_line_and_keeps_what_ran(sent, tmp_path):
    folder = write_notebooks(tmp_path, {"00_slow": SLOW})
    process = start(folder, tmp_path / "runs")
    has_begun(folder, process)
    if sent == signal.SIGINT:
        os.killpg(process.pid, sent)  # what Ctrl-C in a terminal does
    else:
        process.send_signal(sent)  # what CI does
    _, err = process.communicate(timeout=120)
    saved = tmp_path / "runs" / "executed" / "auto-quick-seed0"
    told = saved.relative_to(folder.parent)
    assert err == f"\ninterrupted; what ran so far is kept in {told}\n"
    assert process.returncode == 130
    assert sorted(file.name for file in saved.iterdir()) == [".lock", "00_slow.ipynb"]
    assert not running.is_done(folder / "00_slow.ipynb", {}, saved / "00_slow.ipynb")
    cells = nbformat.read(saved / "00_slow.ipynb", as_version=4).cells
    assert "begun\n" in [output.get("text") for output in cells[-1].outputs]


# Always at its beginning and its end; in between where there is time for it.
@pytest.mark.parametrize(("pause", "fewest", "most"), [(5, 2, 4), (0, 24, 99)])
def test_a_running_notebook_is_saved_now_and_then(pause, fewest, most, tmp_path, monkeypatch):
    folder = write_notebooks(tmp_path, {"00_short": "print(1)"})
    path = folder / "00_short.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells += [new_code_cell(f"print({i})") for i in range(10)]
    nbformat.write(notebook, path)
    saved, write = [], engines.write_ipynb
    monkeypatch.setattr(engines, "write_ipynb", lambda *given: saved.append(write(*given)))
    monkeypatch.setattr(running, "_SECONDS_BETWEEN_SAVES", pause)
    assert running.run_notebook(path).ok
    assert fewest <= len(saved) <= most


def test_a_kernel_that_dies_is_one_line_with_its_last_words(tmp_path):
    dies = "import os, time\nos.write(2, b'out of luck')\ntime.sleep(1)\nos._exit(3)"
    folder = write_notebooks(tmp_path, {"00_dies": dies})
    outcome = running.run_notebook(folder / "00_dies.ipynb")
    assert outcome.error == "DeadKernelError: Kernel died; it said: out of luck"
    assert [file.name for file in outcome.executed.parent.iterdir()] == ["00_dies.ipynb"]


@pytest.mark.parametrize("times", [1, 2])
def test_a_port_that_another_process_took_is_tried_again_once(times, tmp_path, monkeypatch):
    folder = write_notebooks(tmp_path, {"00_short": "print(1)"})
    find, asked = LocalPortCache.find_available_port, []

    def taken_at_first(self, ip):  # five ports per kernel
        asked.append(ip)
        return taken.getsockname()[1] if len(asked) in (1, 6)[:times] else find(self, ip)

    monkeypatch.setattr(LocalPortCache, "find_available_port", taken_at_first)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        outcome = running.run_notebook(folder / "00_short.ipynb")
    assert len(asked) == 10
    assert outcome.ok == (times == 1)
    assert ("Address already in use" in outcome.error) == (times == 2)
    assert [file.name for file in outcome.executed.parent.iterdir()] == ["00_short.ipynb"]


@pytest.mark.parametrize(("after", "fails"), [("print('on')", False), ("1 / 0", True)])
def test_a_cell_that_may_fail_is_no_failure(after, fails, tmp_path):
    folder = write_notebooks(tmp_path, {"00_open": "assert False, 'waits for an answer'"})
    path = folder / "00_open.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].metadata["tags"] = ["raises-exception"]
    notebook.cells.append(new_code_cell(after))
    nbformat.write(notebook, path)
    outcome = running.run_notebook(path)
    executed = nbformat.read(outcome.executed, as_version=4)
    if fails:
        assert outcome.error == "cell 3: ZeroDivisionError: division by zero"
        assert not running.is_done(path, {}, outcome.executed)
    else:
        assert outcome.error == ""
        assert running.is_done(path, {}, outcome.executed)
        # as it was, but for papermill's cell of parameters: no cells about an error
        assert len([c for c in executed.cells if c.cell_type == "markdown"]) == 0
        assert executed.cells[-1].outputs[0].text == "on\n"


@pytest.mark.parametrize("name", ["00", "first", "00_first", "notebooks/00_first.ipynb"])
def test_a_notebook_has_short_names(folder, name):
    assert running.notebook_files([name], folder) == [folder / "00_first.ipynb"]


def test_a_notebook_elsewhere_is_not_taken_for_the_workbooks(folder, tmp_path):
    mine = tmp_path / "00_first.ipynb"
    mine.write_bytes((folder / "00_first.ipynb").read_bytes())
    with pytest.raises(InputError, match=r"00_first\.ipynb\" is not in .*notebooks"):
        running.notebook_files([str(mine)], folder)


def test_the_order_is_the_reading_order(folder):
    chosen = running.notebook_files(["02", "00"], folder)
    assert [file.stem for file in chosen] == ["00_first", "02_last"]


def test_an_unknown_notebook_is_one_line(folder):
    with pytest.raises(InputError, match=r'"firts".*Did you mean "00_first"\?'):
        running.notebook_files(["firts"], folder)


def test_an_unknown_parameter_is_refused_before_anything_runs(folder):
    with pytest.raises(InputError, match=r'a parameter "sed"; there are: .*Did you mean "seed"\?'):
        run_all([folder / "00_first.ipynb"], {"sed": "1"})
    with pytest.raises(InputError, match=r'00_first has no parameter "sed"; it has: profile'):
        running.run_notebook(folder / "00_first.ipynb", parameters={"sed": 1})
    assert not runs_folder().exists()


@pytest.fixture
def pretended(monkeypatch):
    """Runs are only noted: the parameters of each notebook by name."""
    given = {}

    def note(path, *, parameters, out, on_cell):
        given[path.stem] = parameters
        return running.Outcome(path.stem, 0, out, "")

    monkeypatch.setattr(run_command, "run_notebook", note)
    return given


def test_each_notebook_gets_the_parameters_that_it_has(
    folder, tmp_path, pretended, capsys, monkeypatch
):
    copy = tmp_path / "notebooks"
    copy.mkdir()
    for name, sets, extra in (
        ("00_first", '"auto", "market"', ""),
        ("02_last", '"market", "fashion", or a path to your own .csv', 'text_column: str = "text"'),
    ):
        notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
        source = notebook.cells[0].source
        source = source.replace('"auto"  # as everywhere', f'"auto"  # {sets}')
        notebook.cells[0].source = f"{source}\n{extra}"
        nbformat.write(notebook, copy / f"{name}.ipynb")
    files = running.notebook_files(folder=copy)
    run_all(files, {"seed": "1", "text_column": "7"})
    assert pretended == {"00_first": {"seed": 1}, "02_last": {"seed": 1, "text_column": "7"}}
    pretended.clear()
    table = tmp_path / "own.csv"
    table.write_text("text,label\n", encoding="utf-8")
    run_all(files, {"dataset": str(table)})
    assert pretended == {"02_last": {"dataset": str(table)}}
    assert "00_first  skipped: it takes no table of your own" in capsys.readouterr().out
    pretended.clear()
    monkeypatch.delenv("RECSYS_DATA", raising=False)
    with pytest.raises(InputError, match='"fashion" is not on this machine'):
        run_all(files, {"dataset": "fashion"})
    assert pretended == {}


def test_a_table_that_is_not_there_or_that_nothing_takes_is_refused(folder, tmp_path, pretended):
    files = running.notebook_files(folder=folder)
    with pytest.raises(InputError, match=r'"nowhere/my\.csv" is not a file'):
        run_all(files, {"dataset": "nowhere/my.csv"})
    table = tmp_path / "own.csv"
    table.write_text("text,label\n", encoding="utf-8")
    with pytest.raises(InputError, match="no notebook could use dataset"):
        run_all(files, {"dataset": str(table)})
    assert pretended == {}


def test_a_set_that_a_notebook_does_not_use_skips_it(folder):
    path = folder / "00_first.ipynb"
    assert running.why_skipped(path, {"dataset": "fashion"}) == "it does not use fashion"
    assert running.why_skipped(path, {"dataset": "no such set"}) == ""  # left to the check


def test_no_notebooks_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no notebooks"):
        run_all(running.notebook_files(folder=tmp_path), {})


def test_the_command_line_answers_a_wrong_name_in_one_line(capsys):
    assert main(["run", "99_nothing"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith('error: notebook "99_nothing" is not in notebooks/')
    assert len(printed.err.splitlines()) == 1


def test_a_rerun_goes_on_with_what_is_missing(folder, tmp_path, capsys):
    files, out = [folder / "00_first.ipynb", folder / "02_last.ipynb"], tmp_path / "out"
    assert run_all(files[:1], {"seed": "3"}, out=out) == 0
    first = (out / "00_first.ipynb").stat().st_mtime_ns
    capsys.readouterr()
    assert run_all(files, {"seed": "3"}, out=out) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "00_first  there already: --again runs it once more"
    assert lines[1].startswith("02_last   ok")
    assert (out / "00_first.ipynb").stat().st_mtime_ns == first
    assert running.is_done(files[0], {"seed": 3}, out / "00_first.ipynb")
    assert not running.is_done(files[0], {"seed": 4}, out / "00_first.ipynb")
    assert run_all(files[:1], {"seed": "3"}, out=out, again=True) == 0
    assert (out / "00_first.ipynb").stat().st_mtime_ns > first


def test_a_changed_notebook_or_table_runs_again(folder, tmp_path):
    path, table = tmp_path / "00_first.ipynb", tmp_path / "own.csv"
    path.write_bytes((folder / "00_first.ipynb").read_bytes())
    table.write_text("text\nfine\n", encoding="utf-8")
    before = running.fingerprint(path, {"dataset": str(table)})
    assert before == running.fingerprint(path, {"dataset": str(table)})
    table.write_text("text\nbad\n", encoding="utf-8")
    changed = running.fingerprint(path, {"dataset": str(table)})
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].source += "\nprint(1)"
    nbformat.write(notebook, path)
    assert len({before, changed, running.fingerprint(path, {"dataset": str(table)})}) == 3


def test_a_run_is_made_anew_when_real_data_have_come(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RECSYS_DATA", "")
    before = running.fingerprint(folder / "00_first.ipynb", {})
    reviews = runs_folder() / "data" / "clothing" / "reviews.csv"
    reviews.parent.mkdir(parents=True)
    reviews.write_text("text\n", encoding="utf-8")
    assert running.fingerprint(folder / "00_first.ipynb", {}) != before


def test_a_failed_copy_is_run_again_and_a_strange_file_is_left_alone(folder, tmp_path):
    out = tmp_path / "out"
    assert run_all([folder / "01_fails.ipynb"], {}, out=out) == 1
    assert not running.is_done(folder / "01_fails.ipynb", {}, out / "01_fails.ipynb")
    running.check_free(out / "01_fails.ipynb")  # the copy of a run may be replaced
    mine = out / "00_first.ipynb"
    mine.write_text("my own notes", encoding="utf-8")
    with pytest.raises(InputError, match=r"00_first\.ipynb is there and is not the copy"):
        run_all([folder / "00_first.ipynb"], {}, out=out)
    assert mine.read_text(encoding="utf-8") == "my own notes"


def test_a_run_with_other_parameters_is_not_replaced(folder, tmp_path, capsys):
    files, out = [folder / "00_first.ipynb"], tmp_path / "mine"
    assert run_all(files, {"seed": "1"}, out=out) == 0
    before = (out / "00_first.ipynb").read_bytes()
    said = (
        r"is a run with other parameters \(seed = 1\): name another folder with --out, or .*--again"
    )
    with pytest.raises(InputError, match=said):
        run_all(files, {"seed": "2"}, out=out)
    assert (out / "00_first.ipynb").read_bytes() == before
    assert run_all(files, {"seed": "2"}, out=out, again=True) == 0
    assert running.is_done(files[0], {"seed": 2}, out / "00_first.ipynb")


def test_a_run_that_does_not_end_leaves_the_one_that_did(tmp_path, capsys):
    folder = write_notebooks(tmp_path, {"00_turns": "import os\nassert not os.path.exists('bad')"})
    path, out = folder / "00_turns.ipynb", tmp_path / "out"
    assert run_all([path], {}, out=out) == 0
    whole = (out / path.name).read_bytes()
    (folder / "bad").touch()
    capsys.readouterr()
    assert run_all([path], {}, out=out, again=True) == 1
    assert (out / path.name).read_bytes() == whole
    failed = out / "00_turns.unfinished.ipynb"
    assert f"saved as {failed}, beside the run before it" in capsys.readouterr().out
    assert "AssertionError" in failed.read_text(encoding="utf-8")
    (folder / "bad").unlink()
    assert run_all([path], {}, out=out, again=True) == 0
    assert not failed.exists()


def test_two_commands_on_one_folder(folder, tmp_path):
    with (
        running.one_command_at_a_time(tmp_path / "out"),
        pytest.raises(InputError, match="another command is running notebooks into"),
    ):
        run_all([folder / "00_first.ipynb"], {}, out=tmp_path / "out")
    assert run_all([folder / "00_first.ipynb"], {}, out=tmp_path / "out") == 0


def test_a_command_that_is_killed_loses_nothing(tmp_path):
    folder = write_notebooks(tmp_path, {"00_slow": SLOW.replace("99", "0 if seed == 1 else 99")})
    out = tmp_path / "out"
    assert run_all([folder / "00_slow.ipynb"], {"seed": "1"}, out=out) == 0
    whole = (out / "00_slow.ipynb").read_bytes()
    (folder / "begun").unlink()
    process = start(folder, tmp_path / "runs", "-p", "seed", "2", "--out", str(out), "--again")
    has_begun(folder, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert (out / "00_slow.ipynb").read_bytes() == whole
    with running.one_command_at_a_time(out):
        pass  # the system has released the lock


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("profile: full\n  seed: [", r"line 2 is not YAML"),
        ("- profile", r'lines like "profile: full"; it holds: list'),
        ("seed: one", r'seed = "one" must be a whole number'),
        ("seed: 1.5", r"seed = 1.5 must be a whole number"),
        ("seed: 1\nprofile: full\nseed: 2", r'line 3 is not YAML: "seed" stands twice'),
        ("dataset: 2024-13-45", r"a value that cannot be read: month must be in 1..12"),
        ("1: 2", r"it holds: a name that is no text"),
    ],
)
def test_a_broken_file_of_parameters_is_one_line(text, says, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(running, "project_folder", lambda: folder.parent)
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    assert main(["run", "00", "--params", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(says, line), line


def test_a_file_of_parameters_stands_behind_the_command_line(
    folder, tmp_path, pretended, monkeypatch
):
    monkeypatch.setattr(running, "project_folder", lambda: folder.parent)
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 4\nprofile: full\n", encoding="utf-8")
    assert main(["run", "00", "--params", str(file), "-p", "seed", "5"]) == 0
    assert pretended == {"00_first": {"seed": 5, "profile": "full"}}
    assert main(["run", "00", "--params", str(tmp_path / "none.yaml")]) == 2


def test_a_wrong_option_is_explained_without_a_traceback(capsys):
    assert main(["run", "--nope"]) == 2
    err = capsys.readouterr().err
    assert "No such option" in err
    assert "Traceback" not in err


def test_the_live_line_names_section_and_time_left(folder):
    notebook = nbformat.read(folder / "00_first.ipynb", as_version=4)
    heading = nbformat.v4.new_markdown_cell("## 1 · Batches\n\nWhy they are ragged.")
    cells = [notebook.cells[0], heading, *notebook.cells[1:], nbformat.v4.new_code_cell("1")]
    assert [section(cells, i) for i in range(4)] == ["parameters", *["1 · Batches"] * 3]
    assert [share_done(cells, i, None) for i in range(4)] == [0, 1 / 3, 1 / 3, 2 / 3]
    assert share_done(cells, 3, [1.0, 0, 2.0, 5.0]) == 3 / 8
    assert share_done(cells, 3, [1.0]) == 2 / 3  # of another version of the notebook
    shown = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Display(["00_first"], shown) as display:
        with display.notebook("00_first", Path("nothing")) as on_cell:
            on_cell(nbformat.v4.new_notebook(cells=cells), 2)
            display._bar.refresh()
        display.outcome(running.Outcome("00_first", 3, Path("x"), "cell 2: [red]no[/red]"))
    text = shown.file.getvalue()
    assert "1 · Batches" in text
    assert "s left" in text
    assert "00_first  FAILED     3 s  cell 2: [red]no[/red]" in text


def test_an_own_table_and_a_wrong_dataset_name_their_folder(folder):
    path = folder / "00_first.ipynb"
    own = running.executed_folder(path, {"dataset": "/a/b/my shop.csv"})
    assert own.parent == runs_folder() / "executed"
    assert re.fullmatch(r"my shop-quick-seed0-[0-9a-f]{8}", own.name)
    other = [{"dataset": "/a/c/my shop.csv"}, {"dataset": "/a/b/my shop.csv", "wish": "a coat"}]
    assert len({own, *(running.executed_folder(path, given) for given in other)}) == 3
    named = running.executed_folder(path, {"dataset": "market", "profile": "full", "seed": 3})
    assert named.name == "market-full-seed3"
    wrong = running.executed_folder(path, {"dataset": "../../x", "seed": "a/b"})
    assert wrong.parent == runs_folder() / "executed"


def test_a_place_that_cannot_be_used_is_one_line(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(running, "project_folder", lambda: folder.parent)
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    for out in (file, file / "below"):
        assert main(["run", "00", "--out", str(out)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {file}"), line
    monkeypatch.setenv("RECSYS_RUNS", str(file))
    assert main(["run", "00"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert file.read_text(encoding="utf-8") == "mine"


def test_a_file_that_is_no_notebook_is_one_line(tmp_path, capsys, monkeypatch):
    folder = write_notebooks(tmp_path, {"00_first": "1"})
    monkeypatch.setattr(running, "project_folder", lambda: tmp_path)
    (folder / "01_broken.ipynb").write_text("{", encoding="utf-8")
    assert main(["run", "01"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"01_broken\.ipynb is not a notebook", line), line
    notebook = nbformat.read(folder / "00_first.ipynb", as_version=4)
    notebook.cells[0].source = "seed: int = 1 + 1  # computed"
    nbformat.write(notebook, folder / "00_first.ipynb")
    assert main(["run", "00"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'the default of "seed" must be a plain value; it is 1 + 1' in line


def test_a_command_starts_without_the_grammar_of_addresses():
    """It takes as long as all the rest."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "recsys_lib", "--help"],
        cwd=project_folder(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "nbformat" in done.stderr
    assert "rfc3987_syntax.syntax_helpers" not in done.stderr
