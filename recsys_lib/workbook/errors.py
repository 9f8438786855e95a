"""Errors that a user can mend: one clear line that says what is wrong, where, and what to do."""

import difflib
import errno
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
# safetensors and some others report the system's error as text only.
_FULL_TEXTS = ("no space left on device", "disk quota exceeded", "os error 28")


class InputError(ValueError):
    """A mistake in what the user gave; the message is one line: what, where, what to do."""

    def __init__(self, message: str):
        # What it quotes, such as the name of a column, may hold line breaks.
        super().__init__(" ".join(str(message).splitlines()))

    def _render_traceback_(self) -> list[str]:
        """In a notebook, show the one line; the stack inside the library mends nothing."""
        return [f"InputError: {self}"]


def nearest(word: object, known: Iterable[str]) -> str:
    """`" Did you mean \"x\"?"` for the known word closest to `word`, or an empty string."""
    close = difflib.get_close_matches(str(word).lower(), list(known), n=1, cutoff=0.5)
    return f' Did you mean "{close[0]}"?' if close else ""


def is_disk_full(error: BaseException | None) -> bool:
    """Whether `error`, or any error that it was raised from, says that the disk is full."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if any(text in str(error).lower() for text in _FULL_TEXTS):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def saving(what: str, folder: Path) -> Iterator[None]:
    """Turn a full disk while saving `what` under `folder` into one clear `InputError`.

    The code inside must write to temporary names first, so that nothing old is lost.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise InputError(
            f"the disk is full: {what} could not be saved in {folder} ({_free(folder)}). "
            "Free some space or point RECSYS_RUNS at another disk; what was there is untouched."
        ) from error


def _free(folder: Path) -> str:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return f"{shutil.disk_usage(folder).free / 1e6:.0f} MB free"
    except OSError:
        return "free space unknown"
