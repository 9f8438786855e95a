"""Pictures of a report: those of notebooks as they are, and a sweep's numbers drawn."""

import base64
import binascii
import html
import io
import struct
from collections.abc import Sequence

from recsys_lib.reports.numbers import interval_text, value_text

MOST_BYTES = 14_000_000  # of all pictures of a report, as text; the rest is small
_PNG = b"\x89PNG\r\n\x1a\n"
_MOST_POINTS = 40  # in one picture


class Album:
    """Makes pictures part of a page, as long as the page stays small enough to be passed on."""

    def __init__(self, most_bytes: int = MOST_BYTES):
        self.left = most_bytes

    def figure(self, png: str, alt: str) -> str:
        """A picture with its text below; the text alone where the picture cannot be shown.

        Args:
            png: in base64.
            alt: what it shows.
        """
        caption = f"<figcaption>{html.escape(alt)}</figcaption>"
        size = _size(png)
        if size is None:
            return f'<figure><p class="note">A picture that cannot be read.</p>{caption}</figure>'
        if len(png) > self.left:
            told = "Left out, or this page would be too large: see the executed notebook."
            return f'<figure><p class="note">{told}</p>{caption}</figure>'
        self.left -= len(png)
        return (
            f'<figure><img src="data:image/png;base64,{png}" alt="{html.escape(alt, quote=True)}" '
            f'width="{size[0]}" height="{size[1]}">{caption}</figure>'
        )


def _size(png: str) -> tuple[int, int] | None:
    """Width and height of a PNG in base64; None where it is none."""
    try:
        content = base64.b64decode(png, validate=True)
        return struct.unpack(">II", content[16:24]) if content.startswith(_PNG) else None
    except (binascii.Error, ValueError, struct.error):
        return None


def dots(title: str, points: Sequence[tuple[str, dict]]) -> tuple[str, str]:
    """A dot and an interval per point, as a PNG in base64 and its alt text.

    Args:
        title: of the number.
        points: label and entry (value, low, high) of each, from top to bottom.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [(label, e) for label, e in points if e.get("value") is not None][:_MOST_POINTS]
    figure = Figure(figsize=(6.4, 1.2 + 0.28 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    for place, (_, entry) in enumerate(shown):
        value = float(entry["value"])
        if interval_text(entry):
            ax.plot([entry["low"], entry["high"]], [place, place], color="#0072B2", linewidth=2)
        ax.plot([value], [place], "o", color="#000000", markersize=5)
    labels = [label if len(label) <= 48 else f"{label[:47]}…" for label, _ in shown]
    ax.set_yticks(range(len(shown)), labels, fontsize=9, parse_math=False)
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.set_title(title, loc="left", fontsize=10, weight="bold", parse_math=False)
    ax.grid(axis="x", alpha=0.4)
    ax.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return base64.b64encode(buffer.getvalue()).decode("ascii"), _alt(title, shown, len(points))


def _alt(title: str, shown: Sequence[tuple[str, dict]], total: int) -> str:
    ordered = sorted(shown, key=lambda point: point[1]["value"])
    told = [
        f"{kind} {value_text(entry)} {interval_text(entry)}".strip() + f" ({label})"
        for kind, (label, entry) in (("lowest", ordered[0]), ("highest", ordered[-1]))
    ]
    many = f"the first {len(shown)} of {total} runs" if len(shown) < total else f"{total} runs"
    return f"{title} in {many}, with intervals where there are any: {', '.join(told)}."
