"""Explanations under test: curves of erased words, and which word met which."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from recsys_lib.plots.labels import wrap
from recsys_lib.plots.style import (
    COLORS,
    look,
    need_columns,
    number,
    set_axes,
    set_legend,
    set_title,
)

_SIGNED = LinearSegmentedColormap.from_list(
    "down and up", [COLORS["vermilion"], "#FFFFFF", COLORS["sky"]]
)


def erasure_curves(table: pd.DataFrame, *, title: str, ylabel: str) -> Figure:
    """What is left of a decision as words go (left), and as they come (right).

    Args:
        table: columns name (the method), curve ("deletion" or "insertion"), share (of the words,
            0 … 1; each has a place of its own, whatever lies between), value, and low and high of
            its interval.
        title: the finding.
        ylabel: what the values are.
    """
    need_columns(table, ("name", "curve", "share", "value", "low", "high"), "erasure_curves")
    fig, axes = plt.subplots(1, 2, figsize=(9.5, 4.2), sharey=True)
    labels = {
        "deletion": "share of the words taken out, top first (not to scale)",
        "insertion": "share of the words given, top first (not to scale)",
    }
    names, shares = list(table["name"].unique()), np.unique(table["share"])
    for ax, (curve, label) in zip(axes, labels.items(), strict=True):
        for index, name in enumerate(names):
            rows = table[(table["curve"] == curve) & (table["name"] == name)].sort_values("share")
            # one place per share: near 0 they lie too close on a scale; and side by side, since
            # bars on top of each other cannot be told apart
            x = np.searchsorted(shares, rows["share"])
            inner = rows["share"].between(0, 1, inclusive="neither")
            x = x + np.where(inner, 0.14 * (index - (len(names) - 1) / 2), 0)
            ax.plot(x, rows["value"], label=name, ms=5, **look(index))
            ax.vlines(x, rows["low"], rows["high"], color=look(index)["color"], lw=1)
        ax.set_xticks(range(len(shares)), [f"{100 * share:g}%" for share in shares])
        set_axes(ax, label, ylabel if curve == "deletion" else "", ylim=(0, 1.02))
    set_legend(axes[1], len(names), always=True, loc="lower right")
    set_title(fig, title)
    return fig


def word_pairs(
    table: pd.DataFrame,
    *,
    title: str,
    label: str,
    xlabel: str = "",
    ylabel: str = "",
    decimals: int = 2,
) -> Figure:
    """A signed number for every pair of words, as shaded cells with their numbers.

    Blue is above 0 and orange below, on one scale around 0; the numbers carry the sign in print.

    Args:
        table: (words of the one text, words of the other); names may repeat and are drawn as they
            are.
        title: the finding.
        label: what the numbers are.
        xlabel, ylabel: whose words the columns and the rows are.
        decimals: of the numbers in the cells.
    """
    values = table.to_numpy(dtype=float)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError("word_pairs: the table must hold numbers, at least one")
    limit = float(np.abs(values).max()) or 1.0
    size = (2.2 + 0.62 * values.shape[1], 1.9 + 0.42 * values.shape[0])
    fig, ax = plt.subplots(figsize=size)
    image = ax.imshow(values, cmap=_SIGNED, aspect="auto", vmin=-limit, vmax=limit)
    for (row, column), value in np.ndenumerate(values):
        if round(value, decimals):
            ax.text(column, row, number(value, decimals), ha="center", va="center", size=9)
    for axis, names in ((ax.xaxis, table.columns), (ax.yaxis, table.index)):
        axis.set_ticks(range(len(names)), [wrap(name, 18, 2) for name in names], parse_math=False)
    ax.tick_params(axis="x", rotation=40)
    plt.setp(ax.get_xticklabels(), ha="right", rotation_mode="anchor")
    ax.grid(visible=False)
    fig.colorbar(image, ax=ax, label=label)
    set_title(fig, title)
    set_axes(ax, xlabel, ylabel)
    return fig
