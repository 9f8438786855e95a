"""Memory: what would not fit is refused, what is no longer used goes back to the system."""

import ctypes
import gc
import sys
from contextlib import suppress

from recsys_lib.workbook.errors import InputError
from recsys_lib.workbook.settings import usable_memory


def release_memory() -> None:
    """Give back what was freed since the start of a heavy step.

    glibc keeps freed memory for later allocations, in pieces that are often too small for them: a
    notebook that trains five models would hold the memory of five, a catalog embedded in many parts
    that of several.
    """
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def check_fits(size: int, what: str, remedy: str) -> None:
    """Refuse an array of `size` bytes that takes over half of the memory: it is not the only one.

    Raises InputError with `what` it holds, both sizes, and the `remedy`.
    """
    memory = usable_memory()
    if size > memory / 2:
        raise InputError(
            f"{what} would take {size / 2**30:,.1f} GB, over half of the {memory / 2**30:,.1f} GB "
            f"of memory here; {remedy}"
        )
