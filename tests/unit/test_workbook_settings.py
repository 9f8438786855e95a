"""Parameters are checked in one clear line; data and hardware are found as documented."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from recsys_lib import workbook
from recsys_lib.workbook import InputError, settings
from recsys_lib.workbook.files import atomic_write, data_folders, find_data, runs_folder

CSV = "clothing/Womens Clothing E-Commerce Reviews.csv"
RIGHT = {"profile": "quick", "dataset": "market", "seed": 0}


@pytest.fixture(autouse=True)
def no_real_data(monkeypatch):
    monkeypatch.delenv("RECSYS_DATA", raising=False)


@pytest.fixture(autouse=True)
def torch_as_before():
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture
def real_data(tmp_path, monkeypatch):
    file = tmp_path / "data" / CSV
    file.parent.mkdir(parents=True)
    file.write_text("text,label\nnice,1\n", encoding="utf-8")
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "data"))
    return file


def _start(**changes):
    return workbook.start("90_sample", **(RIGHT | changes))


def test_start_says_what_it_runs_with(capsys):
    book = _start(seed=7)
    printed = capsys.readouterr().out
    for words in ("90_sample", "market", "quick", "7", "all-MiniLM-L6-v2", "threads", "GB"):
        assert words in printed
    assert book.settings.seed == 7
    assert book.settings.dataset == "market"
    assert book.settings.runs == runs_folder()
    assert str(runs_folder()) not in printed


def test_quiet_prints_nothing(capsys):
    _start(quiet=True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"profile": "fast"}, ['profile = "fast"', '"quick" or "full"']),
        ({"profile": "Quick"}, ["profile", 'Did you mean "quick"?']),
        ({"profile": None}, ["profile"]),
        ({"dataset": "clothnig"}, ['dataset = "clothnig"', 'Did you mean "clothing"?', '"market"']),
        ({"dataset": "clothing"}, ['dataset = "clothing"', "make data", "RECSYS_DATA"]),
        ({"dataset": "no/such.csv"}, ['dataset = "no/such.csv"', "not a file"]),
        ({"dataset": "reviews.xlsx"}, ['dataset = "reviews.xlsx"', ".csv"]),
        ({"dataset": "my/reviews.xlsx"}, ["must end in .csv, .tsv or .parquet"]),
        ({"dataset": 3}, ["dataset = 3"]),
        ({"dataset": ""}, ['dataset = ""']),
        ({"seed": "0"}, ["seed = '0'", "whole number"]),
        ({"seed": 1.0}, ["seed = 1.0"]),
        ({"seed": True}, ["seed = True"]),
        ({"seed": -1}, ["seed = -1"]),
        ({"seed": 2**32}, [f"seed = {2**32}", str(2**32 - 1)]),
        ({"model": ""}, ["model = ''"]),
    ],
)
def test_a_wrong_value_is_one_line_that_names_it(changes, words):
    with pytest.raises(InputError) as caught:
        _start(**changes)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_in_a_notebook_a_wrong_value_shows_one_line_and_no_stack():
    assert InputError("seed = x")._render_traceback_() == ["InputError: seed = x"]


def test_auto_is_the_market_without_real_data(capsys):
    assert _start(dataset="auto").settings.dataset == "market"
    printed = capsys.readouterr().out
    assert "simulated" in printed
    assert "make data" in printed


def test_auto_is_clothing_where_it_is_found(real_data, capsys):
    assert _start(dataset="auto").settings.dataset == "clothing"
    printed = capsys.readouterr().out
    assert "clothing" in printed
    assert str(real_data.parent) not in printed


def test_auto_is_the_first_known_set_of_a_notebook_without_clothing(real_data):
    assert _start(dataset="auto", datasets=("market",)).settings.dataset == "market"


def test_auto_is_the_first_real_set_that_is_found(real_data, capsys):
    sets = ("market", "fashion", "banking77")
    assert _start(dataset="auto", datasets=sets).settings.dataset == "market"
    assert "fashion is not on this machine" in capsys.readouterr().out
    for name, file in (("banking77", "train.csv"), ("fashion", "fashion.parquet")):
        (real_data.parents[1] / name).mkdir()
        (real_data.parents[1] / name / file).write_bytes(b"something")
        assert _start(dataset="auto", datasets=sets).settings.dataset == name
        assert "found on this machine" in capsys.readouterr().out
    with pytest.raises(InputError, match='"wands" is not on this machine'):
        _start(dataset="wands", datasets=(*sets, "wands"))
    assert find_data("market") is None


def test_an_empty_file_is_not_found(real_data):
    real_data.write_bytes(b"")
    assert find_data("clothing") is None
    assert _start(dataset="auto").settings.dataset == "market"


def test_downloads_are_found_after_recsys_data(real_data):
    downloaded = runs_folder() / "data" / CSV
    downloaded.parent.mkdir(parents=True)
    downloaded.write_text("text,label\n", encoding="utf-8")
    assert find_data("clothing") == real_data
    real_data.unlink()
    assert find_data("clothing") == downloaded


def test_a_wrong_recsys_data_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r'RECSYS_DATA = ".*nowhere" is not a folder'):
        _start(dataset="auto")


def test_an_empty_recsys_data_counts_as_unset(monkeypatch):
    monkeypatch.setenv("RECSYS_DATA", "")
    assert data_folders() == [runs_folder() / "data"]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".CSV"])
def test_an_own_table_is_found_and_shown_by_its_name_only(tmp_path, monkeypatch, capsys, ending):
    file = tmp_path / f"own{ending}"
    file.write_text("text,label\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for given in (str(file), file.name):
        own = _start(dataset=given).settings
        assert own.dataset == str(file)
        assert own.own_table
        assert own.dataset_label == file.name
    assert str(tmp_path) not in capsys.readouterr().out


def test_a_notebook_may_refuse_own_tables(tmp_path):
    file = tmp_path / "own.csv"
    file.write_text("text,label\n", encoding="utf-8")
    with pytest.raises(InputError, match="must be one of") as caught:
        _start(dataset=str(file), own_table=False)
    assert "path" not in str(caught.value)


def test_the_notebooks_name_is_checked():
    with pytest.raises(ValueError, match="03_fine_tuning"):
        workbook.start("fine tuning", **RIGHT)


def test_the_same_seed_gives_the_same_draws():
    def draws(seed):
        _start(seed=seed, quiet=True)
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    assert draws(3) == draws(3)
    assert draws(3) != draws(4)


def test_torch_refuses_what_it_cannot_repeat():
    _start(quiet=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()


def test_hardware_is_what_torch_says():
    found = settings.detect_hardware()
    assert found.device == (
        "cuda"
        if torch.cuda.is_available()
        else "mps"
        if torch.backends.mps.is_available()
        else "cpu"
    )
    assert 1 <= found.threads <= (os.cpu_count() or 1)
    assert 0.5 < found.memory_gb < 1e5


@pytest.mark.parametrize(
    ("flags", "bf16"),
    [("avx512f avx512_bf16", True), ("avx512f amx_bf16 amx_tile", True), ("avx2 avx512f", False)],
)
def test_bf16_where_the_processor_computes_in_it(flags, bf16, monkeypatch, tmp_path):
    names = {name: name in flags.split() for name in ("avx512_bf16", "amx_bf16", "avx2")}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: names, raising=False)
    assert settings._cpu_computes_bf16() is bf16

    class OlderTorch:  # has no get_capabilities: the processor's own list is read
        pass

    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nflags\t\t: fpu {flags}\n", encoding="utf-8")
    monkeypatch.setattr(torch, "cpu", OlderTorch)
    monkeypatch.setattr(settings, "Path", lambda _: cpuinfo)
    assert settings._cpu_computes_bf16() is bf16


def test_a_container_counts_with_what_it_may_use(monkeypatch):
    limits = {"/sys/fs/cgroup/cpu.max": ["150000", "100000"], "/sys/fs/cgroup/memory.max": ["512"]}
    monkeypatch.setattr(settings, "_read_words", limits.get)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert settings._usable_cores() == 2
    assert settings.usable_memory() == 512
    monkeypatch.setattr(settings, "_read_words", lambda _: ["max", "100000"])
    assert settings._usable_cores() == 8
    assert settings.usable_memory() > 1e8


def test_libraries_are_quiet_whether_loaded_before_or_after():
    check = "import transformers.utils.logging as l; assert not l.is_progress_bar_enabled()"
    start = (
        "from recsys_lib import workbook; "
        "workbook.start('90_x', profile='quick', dataset='market', seed=0, quiet=True)"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_HUB")}
    for program in (f"import transformers; {start}; {check}", f"{start}; {check}"):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=environment
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_pick_follows_the_profile():
    assert _start(quiet=True).pick(quick=2_000, full=None) == 2_000
    assert _start(quiet=True, profile="full").pick(quick=2_000, full=None) is None


def test_atomic_write_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "file.txt"
    atomic_write(path, "größer")
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]
