"""Downloads against a real HTTP server on localhost that misbehaves in every way we know of."""

import hashlib
import os
import random
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from recsys_lib.commands.main import main
from recsys_lib.datasets import download, registry
from recsys_lib.datasets.download import DownloadError, download_dataset
from recsys_lib.workbook import InputError

CONTENT = random.Random(7).randbytes(300_000)
PATH = "some reviews.csv"


class Server(ThreadingHTTPServer):
    """Serves CONTENT; `script` holds one behavior per request, the last one for all later."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[str] = ["whole"]
        self.asked: list[tuple[str, str | None]] = []  # (path, Range header)
        self.release = threading.Event()  # lets stalled answers go at the end of a test


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        behavior = server.script.pop(0) if len(server.script) > 1 else server.script[0]
        wanted = self.headers.get("Range")
        server.asked.append((self.path, wanted))
        if behavior == "silent":
            server.release.wait(10)
            return
        if behavior.isdigit():
            self.send_error(int(behavior))
            return
        body, start = CONTENT, 0
        if wanted and behavior != "no range":
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if behavior == "wrong part":
                start += 10
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if behavior == "corrupt":
            body = body[:1000] + b"oops" + body[1004:]
        if behavior == "longer":
            body += b"more"
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if behavior in ("truncate", "stall"):
            self.wfile.write(body[start : start + 100_000])
            self.wfile.flush()
            if behavior == "stall":
                server.release.wait(10)
            return  # the connection ends early
        self.wfile.write(body[start:])


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def get(server, tmp_path, monkeypatch):
    """Fetch the one registered set from the server, quickly; returns the file's path."""
    address = f"http://127.0.0.1:{server.server_port}/{PATH.replace(' ', '%20')}"
    entry = registry.DataFile(PATH, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), address)
    model = registry.datasets()["clothing"]
    monkeypatch.setattr(
        registry, "datasets", lambda: {"tiny": replace(model, name="tiny", files=(entry,))}
    )
    monkeypatch.setenv("RECSYS_RUNS", str(tmp_path))
    monkeypatch.delenv("RECSYS_DATA", raising=False)

    def run(**options) -> Path:
        options = {"progress": False, "timeout": 2.0, "pause": 0.001} | options
        return download_dataset("tiny", **options) / PATH

    run.path = tmp_path / "data" / "tiny" / PATH
    run.part = run.path.with_name(PATH + ".part")
    return run


def left_behind(path: Path) -> set[str]:
    return {entry.name for entry in path.parent.iterdir()} - {path.name}


def test_a_good_server(server, get):
    path = get()
    assert path == get.path
    assert path.read_bytes() == CONTENT
    assert left_behind(path) == set()
    assert server.asked == [("/some%20reviews.csv", None)]


def test_a_sound_file_is_not_fetched_again(server, get):
    get()
    get()
    assert len(server.asked) == 1


def test_a_mirror_is_asked_by_local_layout(server, get):
    get(base_url=f"http://127.0.0.1:{server.server_port}/mirror/")
    assert server.asked == [("/mirror/tiny/some%20reviews.csv", None)]


def test_truncated_answer_is_resumed_by_range(server, get):
    server.script = ["truncate", "truncate", "whole"]
    assert get().read_bytes() == CONTENT
    ranges = [wanted for _, wanted in server.asked]
    assert ranges == [None, "bytes=100000-", "bytes=200000-"]


def test_resume_after_an_interruption_in_another_run(server, get):
    server.script = ["truncate"]
    with pytest.raises(DownloadError, match=r"100,000 of 300,000.*100,000 bytes are kept"):
        get(tries=1)
    assert get.part.read_bytes() == CONTENT[:100_000]
    server.script = ["whole"]
    assert get().read_bytes() == CONTENT
    assert server.asked[-1][1] == "bytes=100000-"
    assert left_behind(get.path) == set()


def test_a_server_without_range_starts_over(server, get):
    server.script = ["truncate", "no range"]
    assert get().read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=100000-"]


def test_a_part_from_another_file_starts_over(server, get):
    get.path.parent.mkdir(parents=True)
    get.part.write_bytes(b"x" * 1234)
    assert get().read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == ["bytes=1234-", None]


def test_a_part_longer_than_the_file_starts_over(server, get):
    get.path.parent.mkdir(parents=True)
    get.part.write_bytes(b"x" * 400_000)
    assert get().read_bytes() == CONTENT
    assert server.asked[0][1] is None


@pytest.mark.parametrize("behavior", ["wrong part", "416"])
def test_an_answer_that_does_not_fit_the_part_starts_over(server, get, behavior):
    server.script = ["truncate", behavior, "whole"]
    assert get().read_bytes() == CONTENT
    assert server.asked[-1][1] is None


def test_corrupt_once_is_fetched_again(server, get):
    server.script = ["corrupt", "whole"]
    assert get().read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("behavior", "reason"),
    [
        ("corrupt", "wrong SHA-256"),
        ("longer", "more than the 300,000 bytes"),
        ("stall", "sent nothing for 0.2 s"),
        ("503", "503 Service Unavailable"),
        ("429", "429 Too Many Requests"),
    ],
)
def test_a_server_that_never_mends_gives_one_line(server, get, behavior, reason):
    server.script = [behavior]
    with pytest.raises(DownloadError, match=reason) as caught:
        get(tries=2, timeout=0.2 if behavior == "stall" else 5)
    assert "\n" not in str(caught.value)
    assert "some reviews.csv" in str(caught.value)
    assert len(server.asked) == 2
    assert not get.path.exists()


def test_a_stall_is_resumed(server, get):
    server.script = ["stall", "whole"]
    assert get(timeout=1).read_bytes() == CONTENT
    assert server.asked[-1][1] == "bytes=100000-"


def test_a_busy_server_is_asked_again_after_growing_pauses(server, get, monkeypatch):
    pauses = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    server.script = ["503", "429", "500", "whole"]
    assert get(pause=1.0).read_bytes() == CONTENT
    assert pauses == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("status", ["404", "403", "410"])
def test_not_there_is_said_at_once(server, get, status):
    server.script = [status]
    with pytest.raises(DownloadError, match=rf"^{status} .*registry\.toml") as caught:
        get()
    assert "\n" not in str(caught.value)
    assert len(server.asked) == 1


def test_nobody_listens(get, server):
    with pytest.raises(DownloadError, match="no connection"):
        get(base_url="http://127.0.0.1:1", tries=2)


def test_an_address_that_is_none(get):
    with pytest.raises(DownloadError, match="not an address"):
        get(base_url="nonsense")


@pytest.mark.parametrize("behavior", ["corrupt", "404", "truncate", "longer"])
def test_a_file_that_was_there_is_never_lost(server, get, behavior):
    get.path.parent.mkdir(parents=True)
    get.path.write_bytes(b"an older version")
    server.script = [behavior]
    with pytest.raises(DownloadError):
        get(tries=2)
    assert get.path.read_bytes() == b"an older version"
    server.script = ["whole"]
    assert get().read_bytes() == CONTENT


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_gives_one_line(server, get):
    get.path.parent.mkdir(parents=True)
    get.path.write_bytes(b"an older version")
    get.part.symlink_to("/dev/full")  # the kernel itself answers ENOSPC to each write
    with pytest.raises(InputError, match="disk is full") as caught:
        get()
    assert "\n" not in str(caught.value)
    assert get.path.read_bytes() == b"an older version"


def test_a_target_that_cannot_be_a_folder(get, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(DownloadError, match="cannot be written to"):
        get(target=tmp_path / "taken")


def test_the_longest_wait_is_bounded(server, get):
    server.script = ["silent"]
    started = time.monotonic()
    with pytest.raises(DownloadError, match=r"0\.2 s"):
        get(tries=3, timeout=0.2)
    assert time.monotonic() - started < 5  # 3 waits of 0.2 s and the pauses, generously
    assert len(server.asked) == 3


def test_pooch_says_nothing_of_its_own(server, get, capsys):
    get()
    assert capsys.readouterr().err == ""


def test_by_hand_says_how(get, monkeypatch):
    model = registry.datasets()["tiny"]
    file = replace(model.files[0], url=None)
    by_hand = replace(model, files=(file,), how="Take it from the shop.")
    monkeypatch.setattr(registry, "datasets", lambda: {"tiny": by_hand})
    with pytest.raises(InputError, match="Take it from the shop"):
        get()


def test_what_has_no_hash_is_never_downloaded(server, get, monkeypatch):
    model = registry.datasets()["tiny"]
    file = replace(model.files[0], url=None, sha256=None, size=0)
    by_hand = replace(model, files=(file,), how="Take it from the shop.")
    monkeypatch.setattr(registry, "datasets", lambda: {"tiny": by_hand})
    with pytest.raises(InputError, match="Take it from the shop"):
        get(base_url="http://127.0.0.1:1")  # a mirror cannot be checked either
    assert not server.asked
    get.path.parent.mkdir(parents=True, exist_ok=True)
    get.path.write_bytes(b"from the shop")
    get()
    assert get.path.read_bytes() == b"from the shop"


def test_an_unknown_set_names_the_nearest():
    with pytest.raises(InputError, match='Did you mean "clothing"'):
        download_dataset("cloting")


def test_the_command_line(server, get, capsys):
    assert main(["data", "list"]) == 0
    assert "not here" in capsys.readouterr().out
    assert main(["data", "get", "tiny"]) == 0
    assert "complete and verified" in capsys.readouterr().out
    assert main(["data", "verify"]) == 0
    assert "1 of 1 files" in capsys.readouterr().out
    get.path.write_bytes(b"spoiled")
    assert main(["data", "verify", "tiny"]) == 1
    told = capsys.readouterr()
    assert "differs: some reviews.csv" in told.out
    assert told.err == "tiny: mend it with: python -m recsys_lib data get tiny\n"
    assert main(["data", "get"]) == 0
    assert get.path.read_bytes() == CONTENT
    capsys.readouterr()
    assert main(["data", "get", "tinny"]) == 2
    assert 'Did you mean "tiny"' in capsys.readouterr().err


def test_the_progress_bar_goes_to_a_terminal_only(server, get, capsys):
    get(progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert sys.stderr.isatty() or shown.err == ""
