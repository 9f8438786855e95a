"""A progress bar that leaves nothing behind, in a terminal and in a notebook."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

from tqdm import tqdm

_EVERY = 0.5  # seconds between two updates


def _in_notebook() -> bool:
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class Progress:
    """Counts work done; `update(n, note)` after each piece. Made by `progress`."""

    def __init__(self, total: int, label: str, shown: bool):
        self.total, self.label, self.done = total, label, 0
        self._started = self._last = time.monotonic()
        self._handle = self._bar = None
        if not shown:
            return
        if _in_notebook():
            from IPython.display import display

            self._handle = display({"text/plain": ""}, raw=True, display_id=True)
        elif sys.stderr.isatty():
            self._bar = tqdm(total=total, desc=label, leave=False)

    def update(self, n: int = 1, note: str = "") -> None:
        """`n` more pieces are done; `note` is shown behind the bar."""
        self.done += n
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(n)
        now = time.monotonic()
        if self._handle is None or now - self._last < _EVERY:
            return
        self._last = now
        left = (now - self._started) / max(1, self.done) * max(0, self.total - self.done)
        text = f"{self.label}: {self.done:,} of {self.total:,}, {left:.0f} s left {note}"
        html = (
            f'<progress value="{self.done}" max="{self.total}" aria-label="{escape(self.label)}">'
            f"</progress> {escape(text)}"
        )
        self._handle.update({"text/html": html, "text/plain": text}, raw=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
        if self._handle is not None:
            self._handle.update({"text/plain": ""}, raw=True)


@contextmanager
def progress(total: int, label: str, *, shown: bool = True) -> Iterator[Progress]:
    """`with progress(100, "training") as bar: … bar.update()`; the bar is gone afterwards."""
    bar = Progress(total, label, shown)
    try:
        yield bar
    finally:
        bar.close()
