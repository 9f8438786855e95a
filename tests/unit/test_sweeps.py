"""`sweep`: many runs of one notebook, several at a time; none is lost, none is done twice."""

import json
import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pandas as pd
import psutil
import pytest
from distributed import LocalCluster

from recsys_lib.commands import sweep as sweep_command
from recsys_lib.commands.main import main
from recsys_lib.commands.sweep import run_sweep
from recsys_lib.reports import make_report
from recsys_lib.sweeps import points_of, run_points, sweep_table, varied
from recsys_lib.workbook import InputError, running
from recsys_lib.workbook.results import MIME_TYPE
from tests.unit.test_commands_run import start as start_command
from tests.unit.test_commands_run import write_notebooks

SECONDS = 120  # that anything here may take on a busy machine; it takes seconds on a quiet one
RECORDS = f"""
from IPython.display import display
if seed == 2:
    raise ValueError("no two")
number = {{"value": 10.0 * seed, "low": 10.0 * seed - 1, "high": 10.0 * seed + 1, "level": 0.95}}
results = {{"test/auc": number, "exact": {{"value": True, "unit": "", "note": "n"}}}}
display({{{MIME_TYPE!r}: {{"results": results}}, "text/plain": "table"}}, raw=True)
"""
# Says that it began, waits for the file "go", says that it ended.
WAITS = """
import os, time
def say(what):
    with open("said.txt", "a") as file:
        file.write(f"{what} {seed} {os.getpid()}\\n")
say("begun")
while seed > 0 and not os.path.exists("go"):
    time.sleep(0.05)
say("ended")
"""
EATS = "import time\nkept = [bytearray(200_000_000) for _ in range(20)]\ntime.sleep(5)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    bodies = {"00_records": RECORDS, "01_waits": WAITS, "02_eats": EATS}
    return write_notebooks(tmp_path_factory.mktemp("shop"), bodies)


start = partial(start_command, command="sweep")


@pytest.fixture
def same_environment():
    """For a test that starts a cluster itself: what that sets is taken back."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def wait_for(what, message: str):
    """What `what()` gives as soon as it is true."""
    until = time.monotonic() + SECONDS
    while not (found := what()):
        assert time.monotonic() < until, message
        time.sleep(0.05)
    return found


# The points.


def test_a_grid_is_combined_with_a_list_and_what_all_share(folder):
    points = points_of(
        folder / "00_records.ipynb",
        fixed={"profile": "quick", "seed": "7"},
        grid={"seed": ["0", 1]},
        listed=[{}, {"profile": "full"}],
    )
    assert points == [
        {"profile": "quick", "seed": 0},
        {"profile": "quick", "seed": 1},
        {"profile": "full", "seed": 0},
        {"profile": "full", "seed": 1},
    ]
    assert varied(points) == ["profile", "seed"]
    assert points_of(folder / "00_records.ipynb") == [{}]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"listed": []}, "the sweep has no runs"),
        ({"grid": {"seed": []}}, "seed has no values"),
        ({"grid": {"sed": ["1"]}}, r'no parameter "sed"; .*Did you mean "seed"\?'),
        ({"grid": {"seed": ["1", "x"]}}, 'seed = "x" must be'),
        ({"fixed": {"profile": "fast"}}, 'profile = "fast"'),
        ({"grid": {"seed": ["1", "01"]}}, "sets of parameters 1 and 2 of the sweep are the same"),
        ({"listed": [{"seed": -1}]}, "seed"),
    ],
)
def test_wrong_points_are_refused_before_anything_runs(folder, given, message):
    with pytest.raises(InputError, match=message):
        points_of(folder / "00_records.ipynb", **given)


def test_ten_thousand_points_are_checked_in_seconds(folder):
    began = time.monotonic()
    assert len(points_of(folder / "00_records.ipynb", grid={"seed": range(10_000)})) == 10_000
    assert time.monotonic() - began < 20  # checking each value by itself takes minutes


# A sweep to its end.


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """A sweep of four runs of which one fails, and its folder."""
    runs = tmp_path_factory.mktemp("runs")
    process = start(folder, runs, "00", "--seeds", "4", "-p", "profile", "full")
    out, err = process.communicate(timeout=SECONDS)
    (made,) = (runs / "sweeps").iterdir()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err), made


def test_each_run_has_its_line(finished):
    done, made = finished
    lines = sorted(done.stdout.splitlines()[:4])
    assert [line.split()[:2] for line in lines] == [
        ["0000", "ok"],
        ["0001", "ok"],
        ["0002", "FAILED"],
        ["0003", "ok"],
    ]
    assert lines[2].endswith("seed=2  cell 3: ValueError: no two")
    assert done.stdout.splitlines()[4:] == [
        "3 of 4 runs ran to their end",
        f"table: runs/sweeps/{made.name}/table.csv, and table.parquet beside it".replace(
            "runs/", f"{made.parents[1]}/"
        ),
        "failed: 0002; the same command tries again",
    ]
    assert (done.returncode, done.stderr) == (1, "")


def test_the_table_is_tidy(finished):
    _, made = finished
    table = pd.read_parquet(made / "table.parquet")
    assert list(table["run"]) == [0, 0, 1, 1, 2, 3, 3]
    assert list(table["ok"]) == [True] * 4 + [False] + [True] * 2
    auc = table[table["name"] == "test/auc"].set_index("p_seed")
    assert auc["value"].to_dict() == {0: 0.0, 1: 10.0, 3: 30.0}
    assert (auc["high"] - auc["low"] == 2).all()
    assert set(table["p_profile"]) == {"full"}
    assert set(table["p_dataset"]) == {"auto"}  # as the notebook has it
    assert set(table.loc[table["name"] == "exact", "value"]) == {1.0}
    failed = table[~table["ok"]].iloc[0]
    assert failed["error"] == "cell 3: ValueError: no two"
    assert pd.isna(failed["name"])
    assert pd.isna(failed["value"])
    for run, executed in zip(table["run"], table["executed"], strict=True):
        assert executed == f"runs/{run:04d}/00_records.ipynb"
        assert (made / executed).is_file()
    text = pd.read_csv(made / "table.csv")
    assert list(text.columns) == list(table.columns)
    assert text["value"].equals(table["value"])


def test_a_report_reads_what_a_sweep_writes(finished):
    _, made = finished
    report = make_report([made])
    assert report.summary == "1 of 4 runs of the sweep failed"
    assert "cell 3: ValueError: no two" in report.html
    assert "test/auc" in report.html


def test_a_second_command_runs_only_what_failed(finished, folder):
    _, made = finished
    process = start(folder, made.parents[1], "00", "--seeds", "4", "-p", "profile", "full")
    out, _ = process.communicate(timeout=SECONDS)
    verdicts = {line.split()[0]: line.split()[1] for line in out.splitlines()[:4]}
    assert verdicts == {"0000": "earlier", "0001": "earlier", "0002": "FAILED", "0003": "earlier"}


def test_a_run_on_a_worker_is_the_run_alone(finished, folder, tmp_path):
    _, made = finished
    alone = running.run_notebook(
        folder / "00_records.ipynb",
        parameters={"profile": "full", "seed": 3},
        out=tmp_path / "alone.ipynb",
    )
    saved = [json.loads(file.read_text(encoding="utf-8"))
             for file in (alone.executed, made / "runs" / "0003" / "00_records.ipynb")]  # fmt: skip
    outputs = [[cell.get("outputs") for cell in notebook["cells"]] for notebook in saved]
    assert outputs[0] == outputs[1]


# Killed.


def test_the_environment_is_left_as_it_was(folder, tmp_path):
    """A worker's start sets the number of threads in the process that starts it, too."""
    before = dict(os.environ)
    (done,) = run_points(folder / "00_records.ipynb", [{"seed": 0}], tmp_path, workers=1)
    assert done.ok
    assert dict(os.environ) == before


def said(folder: Path) -> list[tuple[str, int, int]]:
    """What the runs of 01_waits have said: "begun" or "ended", the seed, the kernel's process."""
    file = folder / "said.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [(what, int(seed), int(pid)) for what, seed, pid in map(str.split, lines)]


@pytest.fixture
def waiting(tmp_path):
    """A sweep on two workers whose first run has ended, and whose next two wait."""
    folder = write_notebooks(tmp_path, {"01_waits": WAITS})
    command = start(folder, tmp_path / "runs", "01", "--seeds", "4", "--workers", "2")
    waits = {("begun", 1), ("begun", 2), ("ended", 0)}

    def ready():
        assert command.poll() is None, command.stderr.read()
        saved = list((tmp_path / "runs").glob("sweeps/*/runs/0000/01_waits.ipynb"))
        return saved and waits <= {(what, seed) for what, seed, _ in said(folder)}

    wait_for(ready, "the sweep did not begin")
    yield folder, command
    if command.poll() is None:
        os.killpg(command.pid, signal.SIGKILL)


def test_the_run_of_a_killed_worker_is_done_by_another(waiting):
    folder, command = waiting
    kernel = next(pid for what, seed, pid in said(folder) if (what, seed) == ("begun", 1))
    lost = psutil.Process(kernel)
    lost.parent().kill()
    wait_for(lambda: not _alive(lost), "the lost worker's kernel goes on")
    (folder / "go").touch()
    out, err = command.communicate(timeout=SECONDS)
    assert out.splitlines()[4] == "4 of 4 runs ran to their end"
    assert (command.returncode, err) == (0, "")
    assert sorted(seed for what, seed, _ in said(folder) if what == "ended") == [0, 1, 2, 3]
    assert [seed for what, seed, _ in said(folder) if what == "begun"].count(1) == 2


def test_a_killed_command_leaves_nothing_running_and_is_taken_up(waiting, tmp_path):
    folder, command = waiting
    below = psutil.Process(command.pid).children(recursive=True)
    command.kill()
    command.communicate()
    wait_for(lambda: not any(map(_alive, below)), "processes of the killed sweep are still there")
    (folder / "go").touch()
    again = start(folder, tmp_path / "runs", "01", "--seeds", "4", "--workers", "2")
    out, _ = again.communicate(timeout=SECONDS)
    assert out.splitlines()[0].split()[:2] == ["0000", "earlier"]
    assert out.splitlines()[4] == "4 of 4 runs ran to their end"
    assert sorted(seed for what, seed, _ in said(folder) if what == "ended") == [0, 1, 2, 3]
    (made,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert sorted(pd.read_parquet(made / "table.parquet")["run"]) == [0, 1, 2, 3]
    assert not list(made.glob(".workers"))


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_second_command_is_refused_and_an_interrupt_keeps_what_has_ended(waiting, tmp_path):
    folder, command = waiting
    second = start(folder, tmp_path / "runs", "01", "--seeds", "4")
    _, err = second.communicate(timeout=SECONDS)
    assert err.startswith("error: another command is running notebooks into ")
    assert (second.returncode, err.count("\n")) == (2, 1)
    os.killpg(command.pid, signal.SIGINT)  # what Ctrl-C in a terminal does
    _, err = command.communicate(timeout=SECONDS)
    (made,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert err == f"\ninterrupted; what ran so far is kept in runs/sweeps/{made.name}\n"
    assert command.returncode == 130
    assert list(pd.read_parquet(made / "table.parquet")["run"]) == [0]


def test_a_run_that_takes_too_much_memory_is_ended(folder, tmp_path):
    points = points_of(folder / "02_eats.ipynb")
    (outcome,) = run_points(
        folder / "02_eats.ipynb", points, tmp_path, workers=1, memory=1_000_000_000
    )
    assert outcome.error.endswith("GB, its bound is 1.0 GB")
    table = sweep_table(folder / "02_eats.ipynb", points, [outcome], tmp_path)
    assert list(table["ok"]) == [False]


# A scheduler that is there already.


def test_the_workers_of_a_running_scheduler_are_used(folder, tmp_path, capsys, same_environment):
    points = points_of(folder / "00_records.ipynb", grid={"seed": [0, 1]})
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        code = run_sweep(
            folder / "00_records.ipynb",
            points,
            tmp_path / "sweep",
            scheduler=cluster.scheduler_address,
        )
    assert code == 0
    assert "2 of 2 runs ran to their end" in capsys.readouterr().out


def test_a_folder_is_the_one_that_is_named_here_and_all_workers_see_it(
    folder, tmp_path, capsys, same_environment, monkeypatch
):
    monkeypatch.setattr(running, "project_folder", lambda: folder.parent)
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        monkeypatch.chdir(tmp_path)  # the worker stays where it is
        address = ("--scheduler", cluster.scheduler_address)
        assert main(["sweep", "00", "--seeds", "1", *address, "--out", "mine"]) == 0
        assert (tmp_path / "mine" / "runs" / "0000" / "00_records.ipynb").is_file()
        assert "1 of 1 runs ran to their end" in capsys.readouterr().out
        elsewhere = tmp_path / "elsewhere"
        with (
            monkeypatch.context() as patched,
            pytest.raises(InputError, match=f"does not see {elsewhere}: all machines"),
        ):
            patched.setattr("pathlib.Path.mkdir", lambda *_, **__: None)
            list(run_points(folder / "00_records.ipynb", [{}], elsewhere, scheduler=address[1]))


def test_a_scheduler_without_workers_or_without_an_answer_is_one_line(
    folder, tmp_path, monkeypatch
):
    path = folder / "00_records.ipynb"
    monkeypatch.setattr("recsys_lib.sweeps.running._SECONDS_TO_ANSWER", 1)
    monkeypatch.setattr("recsys_lib.sweeps.running._SECONDS_FOR_WORKERS", 1)
    for address in ("tcp://127.0.0.1:9", "tls://127.0.0.1:9", "nonsense://x"):
        with pytest.raises(InputError, match="no scheduler answers at") as refused:
            list(run_points(path, [{}], tmp_path, scheduler=address))
        assert "\n" not in str(refused.value)
    monkeypatch.setattr("recsys_lib.sweeps.running._SECONDS_TO_ANSWER", 10)
    with (
        LocalCluster(n_workers=0, dashboard_address=":0") as cluster,
        pytest.raises(InputError, match="has no workers: start some"),
    ):
        list(run_points(path, [{}], tmp_path, scheduler=cluster.scheduler_address))


# The command's own arguments.


@pytest.fixture
def refused(folder, monkeypatch, capsys):
    """What the command says to arguments that it refuses."""
    monkeypatch.setattr(
        sweep_command, "notebook_files", lambda names: running.notebook_files(names, folder)
    )

    def run(*arguments: str) -> str:
        assert main(["sweep", *arguments]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("error: ")
        assert said.err.count("\n") == 1
        return said.err

    return run


def test_many_runs_need_a_yes(refused):
    assert "this sweep has 10,000 runs: say --yes" in refused("00", "--seeds", "10000")
    assert "has 1,000,000,000 runs" in refused("00", "--seeds", "1000000000")  # at once


def test_contradictions_and_half_lists_are_refused(refused):
    assert "contradict" in refused("00", "--seeds", "2", "-g", "seed", "1,2")
    assert "with commas between" in refused("00", "-g", "seed", "1,,2")
    assert "one --grid" in refused("00", "-g", "seed", "1", "-g", "seed", "2")
    assert "seed is given by -p and by the grid" in refused("00", "--seeds", "2", "-p", "seed", "7")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\nb: 2", "is not YAML"),
        ("profile: full", "must be a list of parameter sets"),
        ("- 1\n- 2", "must be a list of parameter sets"),
        ("[]", "the sweep has no runs"),
        ("- {sed: 1}", 'no parameter "sed"'),
    ],
)
def test_a_file_of_points_is_read_or_refused(refused, tmp_path, text, message):
    file = tmp_path / "points.yaml"
    file.write_text(text, encoding="utf-8")
    assert message in refused("00", "--points", str(file))


def test_a_folder_of_something_else_is_never_written_into(refused, folder, tmp_path):
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "draft.txt").write_text("mine", encoding="utf-8")
    assert "is no sweep: name another folder" in refused("00", "--seeds", "1", "--out", str(other))
    made = tmp_path / "made"
    sweep_command._claim(folder / "00_records.ipynb", [{"seed": 0}], made)
    sweep_command._claim(folder / "00_records.ipynb", [{"seed": 0}], made)  # the same goes on
    assert "holds another sweep" in refused("00", "--seeds", "3", "--out", str(made))
    assert [file.name for file in other.iterdir()] == ["draft.txt"]
