"""Words with what each adds to a score: several texts on one scale, wrapped into lines."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle

from recsys_lib.plots.labels import wrap
from recsys_lib.plots.style import COLORS, set_title

_MAP = LinearSegmentedColormap.from_list(
    "down and up", [COLORS["vermilion"], "#FFFFFF", COLORS["sky"]]
)
_SIZE = 10.5  # points of the font
_LINE = 24.0  # points from line to line, with room for the bars
_BAR = 4.5  # points, the height of the strongest word's bar
_HAIR = 0.3  # points; a lower bar is not drawn
_SPACE = 5.0  # points between words
_MARGIN = 6.0


def token_heatmap(
    texts_as_words: Sequence[Sequence[str]],
    values: Sequence[Sequence[float]],
    *,
    title: str,
    names: Sequence[str] | None = None,
    label: str = "added to the log-odds",
    limit: float | None = None,
    width: float = 8.0,
) -> Figure:
    """Words shaded by their values, one scale for all texts, drawn below them.

    A word that pushes the score up is blue and has a bar **above** it, one that pushes it down is
    orange and has a bar **below** it; the bar's height is the strength, so that a greyscale print
    says the same as the colors.

    Args:
        texts_as_words: per text its words, in order.
        values: per text one value per word.
        title: the finding.
        names: a line over each text, such as the method or the score.
        label: what the values are.
        limit: the value that gets the full color; by default the largest of all. Stronger ones
            look like it.
        width: of the figure, in inches.

    Raises:
        ValueError: no words, unequally many words and values, a value that is no number, or a limit
            that is not above 0.
    """
    _check(texts_as_words, values, names, limit)
    if limit is None:
        limit = max(float(np.abs(row).max()) for row in values if len(row)) or 1.0
    fig = plt.figure(figsize=(width, 1.0), layout="none")
    right = 72 * width - _MARGIN
    boxes, headings, y = [], [], 0.0
    for i, (words, row) in enumerate(zip(texts_as_words, values, strict=True)):
        if names is not None:
            headings.append((y, wrap(names[i], int(width * 13), 1)))
            y += 19
        x = _MARGIN
        for word, value in zip(words, row, strict=True):
            word = " ".join(str(word).split())
            wide = min(_text_width(fig, word), right - _MARGIN)
            if x + wide > right and x > _MARGIN:
                x, y = _MARGIN, y + _LINE
            boxes.append((x, y, wide, word, float(value)))
            x += wide + _SPACE
        y += _LINE + 8
    lines = len(title) * 8.0 // (72 * width) + 1
    above, below = 12 + 17 * lines, 46.0
    height = above + y + below
    fig.set_size_inches(width, height / 72)
    ax = fig.add_axes((0, below / height, 1, y / height))
    ax.set(xlim=(0, 72 * width), ylim=(y, 0))
    ax.axis("off")
    for at, text in headings:
        ax.text(_MARGIN, at + 11, text, size=10, weight="bold", va="center", parse_math=False)
    for box in boxes:
        _word(ax, *box, limit)
    _scale(fig, limit, label, height, width)
    set_title(fig, title)
    return fig


def _word(ax: Axes, x: float, y: float, wide: float, word: str, value: float, limit: float) -> None:
    share = float(np.clip(value / limit, -1, 1))
    top, bottom = y + _BAR + 0.5, y + _LINE - _BAR - 3
    ax.add_patch(Rectangle((x - 1.5, top), wide + 3, bottom - top, fc=_MAP(0.5 + share / 2),
                           ec="none"))  # fmt: skip
    tall = _BAR * abs(share)
    if tall > _HAIR:
        start = top - tall if share > 0 else bottom
        ax.add_patch(Rectangle((x - 1.5, start), wide + 3, tall, fc=COLORS["black"], ec="none"))
    text = ax.text(x, (top + bottom) / 2, word, size=_SIZE, va="center_baseline", color="black",
                   parse_math=False)  # fmt: skip
    text.set_clip_on(True)


def _scale(fig: Figure, limit: float, label: str, height: float, width: float) -> None:
    """The color bar, with the bars of a word at its ends."""
    ax = fig.add_axes((0.3, 30 / height, 0.4, 9 / height))
    bar = fig.colorbar(plt.cm.ScalarMappable(Normalize(-limit, limit), _MAP), cax=ax,
                       orientation="horizontal")  # fmt: skip
    ends = f"{limit:.2f}" if 0.1 <= limit < 100 else f"{limit:.2g}"
    bar.set_ticks([-limit, 0, limit], labels=[f"−{ends}", "0", f"+{ends}"], size=9)
    bar.outline.set_visible(False)
    ax.grid(visible=False)
    ax.set_xlabel(label, size=9, labelpad=1)
    inch = 1 / (72 * width)
    for side, dx, text in (("right", -8 * inch, "bar below: pushes down"),
                           ("left", 8 * inch, "bar above: pushes up")):  # fmt: skip
        x = 0.3 if side == "right" else 0.7
        fig.text(x + dx, 34 / height, text, size=9, ha=side, va="center")


def _text_width(fig: Figure, text: str) -> float:
    """Points that a word takes."""
    renderer = fig.canvas.get_renderer()
    font = FontProperties(size=_SIZE)
    pixels, _, _ = renderer.get_text_width_height_descent(text or " ", font, ismath=False)
    return pixels * 72 / fig.dpi


def _check(
    texts: Sequence[Sequence[str]],
    values: Sequence[Sequence[float]],
    names: Sequence[str] | None,
    limit: float | None,
) -> None:
    where = "token_heatmap"
    if isinstance(texts, str) or any(isinstance(words, str) for words in texts):
        raise ValueError(f"{where}: a text must be a list of words, not one string")
    if not any(len(words) for words in texts):
        raise ValueError(f"{where}: there is no word to show")
    counts = {len(texts), len(values), len(texts if names is None else names)}
    if len(counts) > 1:
        raise ValueError(f"{where}: texts, values and names must be equally many")
    for i, (words, row) in enumerate(zip(texts, values, strict=True)):
        if len(words) != len(row):
            raise ValueError(f"{where}: text {i} has {len(words)} words and {len(row)} values")
        if not np.isfinite(np.asarray(row, dtype=float)).all():
            raise ValueError(f"{where}: text {i} has a value that is not a number")
    if limit is not None and not 0 < limit < np.inf:
        raise ValueError(f"{where}: limit={limit} must be a number above 0")
