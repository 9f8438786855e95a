"""Artifacts: what is expensive to make is made once, under a key of everything that determines it.

An artifact is a folder ``runs/artifacts/<name>-<hash of its key>/``. Its ``key.json`` holds the
key and the size and SHA-256 of each file, and is written last: a folder whose files do not match
it (a kill, a full disk, a bad copy) does not count and is built anew.
"""

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout

from recsys_lib.workbook.errors import saving
from recsys_lib.workbook.files import atomic_write, runs_folder
from recsys_lib.workbook.memory import release_memory

KEY_FILE = "key.json"
# Other versions of these may compute other bits, so they are part of every key.
_ENGINES = ("numpy", "torch", "transformers")


def artifact(
    name: str,
    key: Mapping[str, object],
    build: Callable[[Path], None],
    *,
    runs: Path | None = None,
) -> Path:
    """The folder of the artifact `name` with `key`, built by `build` where it is not there yet.

    Args:
        name: what it is, in lower-case words joined by "-", "_" or ".".
        key: everything that determines the content, as plain JSON values: data fingerprint, seed,
            settings. The versions of numpy, torch and transformers are added.
        build: writes the files into the empty folder it is given. It may fail or be killed at any
            point: the artifact then does not exist, and an older one is as it was.
        runs: where runs go; by default `runs_folder()`.

    Returns:
        The complete folder; treat it as read-only. Of two processes that want the same artifact
        one builds and the other waits and uses it.

    Raises:
        InputError: the disk is full.
        ValueError: a bad `name`, or a `key` with values that JSON cannot hold.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise ValueError(f'artifact name "{name}" must be lower-case words joined by "-", "_", "."')
    whole_key = {"key": dict(key), "versions": {engine: version(engine) for engine in _ENGINES}}
    try:
        text = json.dumps(whole_key, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f'the key of artifact "{name}" must be plain JSON: {error}') from error
    whole_key = json.loads(text)  # as it will be read back: tuples are lists
    label = f"{name}-{hashlib.sha256(text.encode('utf-8')).hexdigest()[:16]}"
    parent = (runs or runs_folder()) / "artifacts"
    folder = parent / label
    if _is_whole(folder, whole_key):
        return folder
    with saving(f"artifact {name}", parent):
        parent.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(parent / ".locks" / f"{label}.lock", name):
            if not _is_whole(folder, whole_key):  # another process may have built it meanwhile
                _build_into(folder, whole_key, build)
                release_memory()
    return folder


def _build_into(folder: Path, whole_key: dict, build: Callable[[Path], None]) -> None:
    scratch = folder.parent / f".building-{folder.name}"
    for leftover in folder.parent.glob(f"{scratch.name}-*"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = Path(f"{scratch}-{secrets.token_hex(4)}")
    temporary.mkdir()
    try:
        build(temporary)
        whole_key = {**whole_key, "files": _fingerprints(temporary)}
        text = json.dumps(whole_key, indent=1, sort_keys=True, ensure_ascii=False)
        atomic_write(temporary / KEY_FILE, text + "\n")
        if folder.exists():  # a broken one; its replacement is ready
            broken = Path(f"{temporary}-broken")
            folder.rename(broken)
            shutil.rmtree(broken, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fingerprints(folder: Path) -> dict[str, dict[str, object]]:
    """Size and SHA-256 of every file below `folder`, except for the key itself."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name != KEY_FILE:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            name = file.relative_to(folder).as_posix()
            found[name] = {"bytes": file.stat().st_size, "sha256": digest}
    return found


def _is_whole(folder: Path, whole_key: dict) -> bool:
    try:
        saved = json.loads((folder / KEY_FILE).read_text(encoding="utf-8"))
        files = saved.pop("files")
        sizes = {name: (folder / name).stat().st_size for name in files}
        return (
            saved == whole_key
            and sizes == {name: file["bytes"] for name, file in files.items()}
            and _fingerprints(folder) == files
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@contextmanager
def _one_at_a_time(file: Path, name: str) -> Iterator[None]:
    """Hold the lock of one artifact, released by the system if this process is killed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another process is building {name}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
