"""Downloading real data sets: resumed, checked by SHA-256, and never at the cost of a good file.

``pooch`` decides whether a file is needed, checks its hash and puts it in place in one rename; the
transfer itself is ours, because it must resume. Bytes that arrived are kept in ``<file>.part``, so
an interrupted download goes on where it stopped: with an HTTP Range request where the server allows
one (RFC 9110, section 14), from the start where it does not or where the result had a wrong hash.
"""

import http.client
import logging
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pooch
from tqdm import tqdm

from recsys_lib.datasets.registry import DataFile, find_dataset, get_dataset, is_sound
from recsys_lib.workbook import InputError, is_disk_full, runs_folder, saving

CHUNK = 1 << 16  # bytes per read
TRIES = 4  # of one file, with growing pauses between them
TIMEOUT = 20.0  # seconds without a byte before a server counts as stalled
PAUSE = 1.0  # seconds before the second try; doubled before each later one


class DownloadError(InputError):
    """A file could not be fetched; the message is one line: which, from where, why, what to do."""


class _PassingError(Exception):
    """Something that another try may mend: a stall, a cut connection, a busy server."""


def download_dataset(
    name: str,
    target: Path | str | None = None,
    *,
    base_url: str | None = None,
    progress: bool = True,
    tries: int = TRIES,
    timeout: float = TIMEOUT,
    pause: float = PAUSE,
) -> Path:
    """Fetch every file of the registered set `name` that is not here yet, and check them all.

    Args:
        name: of a registered set.
        target: the data folder to write to; the set gets its own folder in it. By default
            ``runs/data``, and nothing is fetched if a sound copy is found (see `find_dataset`).
        base_url: a mirror laid out like the data folder (``<base_url>/<name>/<path>``), asked
            instead of the registered addresses.
        progress: show a progress bar.
        tries: how often one file is tried.
        timeout: seconds without a byte before the server counts as stalled.
        pause: seconds before the second try, doubled before each later one.

    Returns:
        the set's folder.

    Raises:
        DownloadError: a file is not there, the server cannot be reached or stalls, or what it
            sends has a wrong SHA-256. Files that were there before are untouched.
        InputError: no such set, a set that must be fetched by hand, or a full disk.
    """
    dataset = get_dataset(name)
    if target is None:
        found = find_dataset(name)
        if found is not None and is_sound(name, found):
            return found
    folder = (Path(target) if target is not None else runs_folder() / "data") / name
    checkable = all(file.sha256 for file in dataset.files)
    if not dataset.fetchable and (base_url is None or not checkable):
        if is_sound(name, folder):
            return folder
        raise InputError(f'"{name}" cannot be fetched file by file. {dataset.how}')
    hidden = None if progress else True  # None: hidden where nobody watches (no terminal)
    with tqdm(
        total=dataset.size, desc=name, unit="B", unit_scale=True, leave=False, disable=hidden
    ) as bar:
        for file in dataset.files:
            url = file.url
            if base_url is not None:
                url = f"{base_url.rstrip('/')}/{quote(f'{name}/{file.path}')}"
            with saving(file.path, folder), _writable(folder):
                _fetch(file, url, folder / file.path, bar.update, tries, timeout, pause)
    return folder


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Say in one line that `folder` cannot be written to; a full disk is `saving`'s to explain."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise
        raise DownloadError(
            f"{folder} cannot be written to ({error.strerror}); name another folder (--to, "
            "or RECSYS_RUNS)."
        ) from error


def _fetch(
    file: DataFile,
    url: str,
    path: Path,
    advance: Callable[[int], object],
    tries: int,
    timeout: float,
    pause: float,
) -> None:
    """Bring `path` to the registered state of `file`, trying up to `tries` times."""
    pooch.get_logger().setLevel(logging.WARNING)  # its progress lines would repeat ours
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = 0  # bytes that the bar shows; a try that starts over does not count twice

    def report(done: int) -> None:
        nonlocal shown
        advance(max(0, done - shown))
        shown = max(shown, done)

    def transfer(url: str, temporary: str, _: object) -> None:
        _transfer(url, part, file.size, timeout, report)
        os.replace(part, temporary)  # pooch checks its hash, then renames it to `path`

    for attempt in range(1, tries + 1):
        try:
            pooch.retrieve(
                url, f"sha256:{file.sha256}", path.name, path.parent, downloader=transfer
            )
            report(file.size)
            return
        except _PassingError as error:
            reason = str(error)
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            reason = "what arrived has a wrong SHA-256"
        if attempt < tries:
            time.sleep(pause * 2 ** (attempt - 1))
    kept = f" {part.stat().st_size:,} bytes are kept for the next try." if part.exists() else ""
    raise DownloadError(
        f"{path.name} could not be fetched from {url} in {tries} tries: {reason}. "
        f"Try again later, or from a mirror (--base-url).{kept}"
    )


def _transfer(
    url: str, part: Path, size: int, timeout: float, report: Callable[[int], None]
) -> None:
    """Complete `part` to `size` bytes from `url`, going on behind what is there already."""
    have = part.stat().st_size if part.exists() else 0
    if have >= size:  # left over from another version of the file
        part.unlink()
        have = 0
    headers = {"User-Agent": "recsys-workbook", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=timeout) as response:
            start = _first_byte(response)
            if start not in (0, have):
                part.unlink()
                raise _PassingError("the server sent another part of the file than asked for")
            _receive(response, part, start, size, report)
    except urllib.error.HTTPError as error:
        _explain_status(error, url, part)
    except TimeoutError as error:
        raise _PassingError(f"the server sent nothing for {timeout:g} s") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise _PassingError(f"the server did not answer in {timeout:g} s") from error
        raise _PassingError(f"no connection ({error.reason})") from error
    except (http.client.HTTPException, ConnectionError, ssl.SSLError) as error:
        raise _PassingError(f"the connection broke ({type(error).__name__})") from error
    except ValueError as error:
        raise DownloadError(f"{url!r} is not an address that can be asked: {error}.") from error


def _first_byte(response: http.client.HTTPResponse) -> int:
    """Where in the file the answer begins: 206 says so, and any other answer is the whole file."""
    if response.status != 206:
        return 0
    unit_and_range = response.headers.get("Content-Range", "").partition("-")[0]
    first = unit_and_range.removeprefix("bytes").strip()
    return int(first) if first.isdigit() else -1


def _receive(
    response: http.client.HTTPResponse,
    part: Path,
    start: int,
    size: int,
    report: Callable[[int], None],
) -> None:
    """Append the answer's body to `part` from byte `start` on, until it has `size` bytes."""
    with part.open("ab" if start else "wb") as file:
        done = start
        while chunk := response.read1(CHUNK):
            done += len(chunk)
            if done > size:
                break
            file.write(chunk)
            report(done)
    if done > size:
        part.unlink()
        raise _PassingError(f"the server sent more than the {size:,} bytes that the file has")
    if done < size:
        raise _PassingError(f"the connection ended at byte {done:,} of {size:,}")


def _explain_status(error: urllib.error.HTTPError, url: str, part: Path) -> None:
    """Raise what the HTTP status means: another try may help, or nothing will."""
    if error.code == 416:  # what we have does not fit the server's file
        part.unlink(missing_ok=True)
        raise _PassingError("the file changed on the server") from error
    if error.code in (408, 425, 429) or error.code >= 500:
        raise _PassingError(f"the server answered {error.code} {error.reason}") from error
    raise DownloadError(
        f"{error.code} {error.reason}: {url} cannot be had. Check the address in "
        "data/registry.toml, or name a mirror (--base-url)."
    ) from error
