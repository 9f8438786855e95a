"""The workbook's one style, and how a picture gets into a notebook."""

import io
import re
import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe & Ito (2008), ordered so that the first three differ most in lightness.
COLORS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "black": "#000000",
    "green": "#009E73",
    "purple": "#CC79A7",
    "vermilion": "#D55E00",
    "sky": "#56B4E9",
    "grey": "#767676",
}
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)), (0, (8, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_CYCLE = [COLORS[name] for name in COLORS if name != "grey"]


def use_style() -> None:
    """Set the workbook's style for every figure that follows."""
    sns.set_theme(context="notebook", style="whitegrid")
    plt.rcParams.update(
        {
            "axes.prop_cycle": plt.cycler(color=_CYCLE, linestyle=LINES),
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.labelsize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.dpi": 100,
            "figure.figsize": (7.0, 4.0),
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "grid.alpha": 0.5,
            "legend.fontsize": 10,
            "legend.frameon": False,
            "lines.linewidth": 2,
            "savefig.dpi": 100,
        }
    )


def show(fig: Figure, alt: str) -> None:
    """Display `fig` as a PNG that carries `alt` for readers who cannot see it, and close it.

    The alt text stands in the output's metadata (``{"image/png": {"alt": alt}}``, as nbconvert
    reads it; JupyterLab 4.6 does not put it on its page) and is the output's plain text.

    Args:
        fig: the figure; it is closed, so that a notebook does not keep all of them in memory.
        alt: what the picture shows, in a sentence or two.

    Raises:
        ValueError: the alt text is missing, or shorter than a sentence.
    """
    if not isinstance(alt, str) or len(alt.split()) < 4:
        raise ValueError("show: alt must say in a sentence what the picture shows")
    alt = " ".join(alt.split())
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(fig)
    data = {"image/png": buffer.getvalue(), "text/plain": f"[picture] {alt}"}
    display.display(data, metadata={"image/png": {"alt": alt}}, raw=True)


def look(index: int) -> dict[str, object]:
    """Color, line style and marker of the `index`-th series: alike in every picture."""
    return {
        "color": _CYCLE[index % len(_CYCLE)],
        "linestyle": LINES[index % len(LINES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def set_title(fig: Figure, title: str) -> None:
    """The finding, over the whole figure: as few lines as its width allows, of like length."""
    most = int(fig.get_figwidth() * 9)  # letters of bold 12 points, with some room
    printed = re.sub(r"(?<![\w)])-(?=[\d.])", "−", title)  # a minus, where a number begins with it
    lines = textwrap.wrap(printed, most)
    narrower = (
        textwrap.wrap(printed, width, break_long_words=False)
        for width in range(most, most // 2, -1)
    )
    lines = min((some for some in narrower if len(some) == len(lines)), key=_longest, default=lines)
    fig.suptitle("\n".join(lines), x=0.01, ha="left", weight="bold", size=12)


def _longest(lines: list[str]) -> int:
    return max(map(len, lines), default=0)


def number(value: float, decimals: int, *, signed: bool = False) -> str:
    """The value as it stands in a picture: with a minus, not a hyphen, and none before a zero."""
    return f"{value:{'+' if signed else ''}z.{decimals}f}".replace("-", "−")


def decimals_of(span: float) -> int:
    """Decimals that divide a range of `span` into at least fifteen steps; four at most."""
    return int(np.clip(np.ceil(np.log10(15 / span)), 0, 4))


def set_axes(ax: Axes, xlabel: str, ylabel: str, *, ylim: tuple | None = None) -> None:
    """Label both axes; `ylim` sets the limits of the vertical one."""
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    if ylim is not None:
        ax.set_ylim(*ylim)


def set_legend(ax: Axes, series: int, *, always: bool = False, loc: str = "best") -> None:
    """A legend, where there is more than one of `series` to tell apart."""
    if series > 1 or always:
        ax.legend(loc=loc)


def need_columns(table: pd.DataFrame, columns: Sequence[str], function: str) -> None:
    """Raise ValueError unless the table has rows and these columns."""
    if missing := [column for column in columns if column not in table.columns]:
        raise ValueError(f"{function}: the table lacks the column {', '.join(missing)}")
    if table.empty:
        raise ValueError(f"{function}: the table has no rows")
