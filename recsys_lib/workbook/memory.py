"""Memory that is no longer used goes back to the system."""

import ctypes
import gc
import sys
from contextlib import suppress


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
