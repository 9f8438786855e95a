"""An artifact is whole or not there: after kills, full disks, damage, and two builders at once."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors

from recsys_lib.workbook import InputError, artifact, artifacts, atomic_write, is_disk_full, saving
from recsys_lib.workbook import files as workbook_files

KEY = {"seed": 0, "sizes": (1, 2), "text": "größer"}
NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def builder():
    class Builder:
        calls = 0

        def __call__(self, folder: Path) -> None:
            self.calls += 1
            assert list(folder.iterdir()) == []
            (folder / "sub").mkdir()
            (folder / "weights.bin").write_bytes(bytes(range(256)) * 40)
            (folder / "sub" / "notes.txt").write_text("notes", encoding="utf-8")

    return Builder()


def _names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()} - {".locks"}


def test_it_is_built_once(builder, tmp_path):
    first = artifact("model", KEY, builder)
    second = artifact("model", KEY, builder)
    assert first == second
    assert builder.calls == 1
    assert first.parent == tmp_path / "runs" / "artifacts"
    saved = json.loads((first / "key.json").read_text(encoding="utf-8"))
    assert saved["key"] == {"seed": 0, "sizes": [1, 2], "text": "größer"}
    assert set(saved["files"]) == {"weights.bin", "sub/notes.txt"}
    assert _names(first.parent) == {first.name}


def test_another_key_is_another_artifact(builder):
    paths = {artifact("model", KEY | {"seed": seed}, builder) for seed in (0, 1)}
    paths.add(artifact("catalog", KEY, builder))
    assert len(paths) == 3
    assert builder.calls == 3


def test_the_order_of_a_key_does_not_matter(builder):
    backwards = dict(reversed(KEY.items()))
    assert artifact("model", KEY, builder) == artifact("model", backwards, builder)


def test_another_version_of_the_engine_is_another_artifact(builder, monkeypatch):
    first = artifact("model", KEY, builder)
    monkeypatch.setattr(artifacts, "version", lambda name: "999")
    assert artifact("model", KEY, builder) != first


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "weights.bin").write_bytes(b"cut"),
        lambda folder: (folder / "weights.bin").write_bytes(bytes(256 * 40)),  # same size
        lambda folder: (folder / "weights.bin").unlink(),
        lambda folder: (folder / "key.json").unlink(),
        lambda folder: (folder / "key.json").write_text("{"),
        lambda folder: (folder / "key.json").write_text("[]"),
        lambda folder: (folder / "key.json").write_text('{"files": 3}'),
    ],
    ids=["cut", "changed", "missing", "no key", "half a key", "a list", "odd key"],
)
def test_a_broken_one_is_built_anew(builder, damage):
    folder = artifact("model", KEY, builder)
    damage(folder)
    assert artifact("model", KEY, builder) == folder
    assert builder.calls == 2
    assert (folder / "weights.bin").read_bytes() == bytes(range(256)) * 40
    assert _names(folder.parent) == {folder.name}


def test_a_failed_build_leaves_nothing_and_tells_its_error(builder, tmp_path):
    def fails(folder):
        (folder / "half").write_text("half", encoding="utf-8")
        raise RuntimeError("no data")

    with pytest.raises(RuntimeError, match="no data"):
        artifact("model", KEY, fails)
    assert _names(tmp_path / "runs" / "artifacts") == set()
    artifact("model", KEY, builder)
    assert builder.calls == 1


def test_a_failed_rebuild_leaves_the_old_one_as_it_was(builder):
    folder = artifact("model", KEY, builder)
    (folder / "weights.bin").write_bytes(b"cut")

    def fails(_):
        raise NO_SPACE

    with pytest.raises(InputError, match="disk is full"):
        artifact("model", KEY, fails)
    assert (folder / "weights.bin").read_bytes() == b"cut"
    assert (folder / "sub" / "notes.txt").read_text(encoding="utf-8") == "notes"


def _no_space_in_build(folder):
    raise NO_SPACE


def _no_space_in_safetensors(folder):
    raise safetensors.SafetensorError(
        'Error while serializing: IoError(Os { code: 28, message: "No space left on device" })'
    )


def _no_space_further_down(folder):
    try:
        raise NO_SPACE
    except OSError as error:
        raise RuntimeError("could not save") from error


@pytest.mark.parametrize(
    "build", [_no_space_in_build, _no_space_in_safetensors, _no_space_further_down]
)
def test_a_full_disk_is_one_clear_line(build, tmp_path):
    with pytest.raises(InputError) as caught:
        artifact("model", KEY, build)
    message = str(caught.value)
    assert "\n" not in message
    for words in ("the disk is full", "artifact model", "MB free", "RECSYS_RUNS"):
        assert words in message
    assert _names(tmp_path / "runs" / "artifacts") == set()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_while_writing_a_file_keeps_the_old_one(tmp_path, monkeypatch, call):
    path = tmp_path / "results.json"
    atomic_write(path, "old")

    def full(*_):
        raise NO_SPACE

    monkeypatch.setattr(workbook_files.os, call, full)
    with pytest.raises(InputError, match=r"the disk is full: results\.json"):
        atomic_write(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_really_full_device_is_recognized():
    with pytest.raises(OSError) as caught, open("/dev/full", "wb") as device:
        device.write(bytes(100_000))
    assert is_disk_full(caught.value)


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no"), ValueError("full"), KeyError("x")])
def test_other_errors_are_not_a_full_disk(error):
    assert not is_disk_full(error)
    with pytest.raises(type(error)), saving("a file", Path()):
        raise error


@pytest.mark.parametrize("name", ["", "Model", "a b", "../up", "a/b", ".hidden"])
def test_a_bad_name_is_refused(name, builder):
    with pytest.raises(ValueError, match="artifact name"):
        artifact(name, KEY, builder)


@pytest.mark.parametrize("value", [Path("x"), float("nan"), {1, 2}, np.zeros(2), np.int64(3)])
def test_a_key_that_is_not_plain_json_is_refused(value, builder):
    with pytest.raises(ValueError, match="plain JSON"):
        artifact("model", {"value": value}, builder)


_PROGRAM = """
import os, sys, time
from pathlib import Path
from recsys_lib.workbook import artifact

def build(folder):
    with open(sys.argv[1], "a") as log:
        log.write("built\\n")
    (folder / "half").write_text("half")
    time.sleep(float(sys.argv[2]))
    (folder / "half").rename(folder / "whole")

print(artifact("model", {"seed": 0}, build), flush=True)
"""


def _process(log: Path, seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-c", _PROGRAM, str(log), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _wait_for(log: Path) -> None:
    end = time.monotonic() + 60
    while not log.is_file():
        assert time.monotonic() < end, "the other process never began to build"
        time.sleep(0.05)


def test_two_processes_build_it_once(tmp_path):
    log = tmp_path / "log"
    processes = [_process(log, 1.0) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert log.read_text(encoding="utf-8") == "built\n"
    folders = {output.splitlines()[-1] for output in outputs}
    assert len(folders) == 1
    assert _names(Path(folders.pop())) == {"whole", "key.json"}


def test_a_killed_build_does_not_count_and_is_cleared_away(tmp_path):
    log = tmp_path / "log"
    killed = _process(log, 600)
    _wait_for(log)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    (leftover,) = _names(tmp_path / "runs" / "artifacts")
    assert leftover.startswith(".building-model-")
    done = _process(log, 0)
    folder = Path(done.communicate(timeout=120)[0].splitlines()[-1])
    assert _names(folder) == {"whole", "key.json"}
    assert _names(folder.parent) == {folder.name}


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_what_a_build_freed_goes_back_to_the_system(tmp_path):
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def build(folder):
        pieces = [bytes(2_000) for _ in range(100_000)]
        kept.append(pieces[-1])  # on top of the heap: what lies below is free but held
        (folder / "file").write_text("x", encoding="utf-8")

    kept: list = []
    before = resident()
    artifact("a", {}, build, runs=tmp_path)
    assert resident() - before < 100_000_000  # the build held 200 MB
