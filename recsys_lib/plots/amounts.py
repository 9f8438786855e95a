"""Amounts: estimates with intervals, bars, lengths, tables as shaded cells, product pictures."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from recsys_lib.plots.labels import wrap
from recsys_lib.plots.style import (
    COLORS,
    decimals_of,
    look,
    number,
    set_axes,
    set_legend,
    set_title,
)


def intervals(
    table: pd.DataFrame,
    *,
    title: str,
    xlabel: str,
    reference: float | None = None,
    reference_label: str = "",
) -> Figure:
    """Estimates with their intervals, one line per row (a forest plot).

    Args:
        table: columns name, value, low and high; drawn from top to bottom.
        title: the finding.
        xlabel: what the values are.
        reference: where to draw a line, such as 0 for differences.
        reference_label: what the line is, written at its foot, below the last row.
    """
    fig, ax = plt.subplots(figsize=(7, 1.3 + 0.42 * len(table)))
    below = 0.5  # rows of room below the last one
    if reference is not None:
        ax.axvline(reference, color=COLORS["black"], lw=1, ls="--")
    if reference is not None and reference_label:
        below = 0.8
        ax.annotate(reference_label, (reference, len(table) - 1 + below), (5, 3),
                    textcoords="offset points", size=9)  # fmt: skip
    rows = np.arange(len(table))
    low, high = (table[side].astype(float).to_numpy() for side in ("low", "high"))
    value = table["value"].astype(float).to_numpy()
    ax.hlines(rows, low, high, color=COLORS["blue"], lw=2.5)
    ax.plot(value, rows, "o", color=COLORS["blue"], ms=7)
    span = np.nanmax([*high, *value]) - np.nanmin([*low, *value])
    decimals = decimals_of(span) if span > 0 else 3
    for row, estimate in zip(rows, value, strict=True):
        text = number(estimate, decimals, signed=reference == 0)  # differences carry their sign
        ax.annotate(text, (estimate, row), (0, 7), textcoords="offset points",
                    ha="center", size=9,
                    bbox={"fc": "white", "ec": "none", "pad": 1})  # fmt: skip
    ax.set_yticks(rows, table["name"])
    ax.set_ylim(len(table) - 1 + below, -0.75)
    ax.grid(axis="y", visible=False)
    set_title(fig, title)
    set_axes(ax, xlabel, "")
    return fig


def bars(
    values: Mapping[str, float],
    *,
    title: str,
    xlabel: str,
    errors: Mapping[str, tuple[float, float]] | None = None,
    highlight: Sequence[str] = (),
    format: str = "{:,.3g}",
) -> Figure:
    """Horizontal bars from zero, each with its number; `errors` are low and high of an interval."""
    fig, ax = plt.subplots(figsize=(7, 1.2 + 0.42 * len(values)))
    ends = []
    for row, (name, value) in enumerate(values.items()):
        strong = not highlight or name in highlight
        color, hatch = (COLORS["blue"], "") if strong else (COLORS["sky"], "///")
        ax.barh(row, value, color=color, hatch=hatch, edgecolor="white", height=0.7)
        end = value
        if errors and name in errors:
            low, high = errors[name]
            ax.hlines(row, low, high, color=COLORS["black"], lw=1.5)
            end = max(end, high)
        ends.append(end)
        ax.annotate(format.format(value), (end, row), (5, 0), textcoords="offset points",
                    va="center", size=10)  # fmt: skip
    ax.set_yticks(range(len(values)), list(values))
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set_xlim(min(0, *ends) if min(ends) < 0 else 0, max(0, *ends) * 1.15 or 1)
    set_title(fig, title)
    set_axes(ax, xlabel, "")
    return fig


def lengths(
    counts: np.ndarray | Mapping[str, np.ndarray],
    *,
    title: str,
    xlabel: str = "tokens per text",
    cuts: Sequence[int] = (),
    bins: int = 40,
) -> Figure:
    """Histogram of lengths; each of `cuts` is a limit, marked with the share of texts beyond it."""
    series = counts if isinstance(counts, Mapping) else {"": np.asarray(counts)}
    together = np.concatenate([np.asarray(values) for values in series.values()])
    edges = np.histogram_bin_edges(together, bins=min(bins, max(1, int(np.ptp(together)))))
    fig, ax = plt.subplots()
    for index, (name, values) in enumerate(series.items()):
        style = look(index)
        weights = np.full(len(values), 1 / len(values))
        ax.hist(values, bins=edges, weights=weights, histtype="step", lw=2, label=name or None,
                color=style["color"], linestyle=style["linestyle"])  # fmt: skip
        if len(series) == 1:
            ax.hist(values, bins=edges, weights=weights, color=style["color"], alpha=0.25)
    if cuts:
        ax.set_ylim(0, ax.get_ylim()[1] * (1.05 + 0.1 * len(cuts)))  # room for their labels
    for row, cut in enumerate(cuts):
        ax.axvline(cut, color=COLORS["vermilion"], ls="--", lw=1.5)
        beyond = f"{np.mean(together > cut):.1%} longer than {cut}"
        left = 2 * cut > edges[0] + max(edges[-1], *cuts)  # no room to the right of its line
        ax.annotate(beyond, (cut, 0.95 - 0.09 * row), (-6 if left else 6, 0),
                    xycoords=("data", "axes fraction"), textcoords="offset points", size=9,
                    ha="right" if left else "left", color=COLORS["vermilion"],
                    bbox={"fc": "white", "ec": "none", "pad": 1})  # fmt: skip
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    set_title(fig, title)
    set_axes(ax, xlabel, "share of texts")
    set_legend(ax, len(series))
    return fig


def heatmap(
    table: pd.DataFrame,
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    format: str = "{:,.0f}",
    label: str = "",
    marks: Sequence[Sequence[str]] | None = None,
) -> Figure:
    """A table as shaded cells with their numbers, such as a confusion matrix.

    Args:
        table: rows and columns as they are drawn.
        title: the finding.
        xlabel: what the columns are.
        ylabel: what the rows are.
        format: of each number.
        label: of the color bar; none without it.
        marks: a name for each cell, rows of columns, which stands before its number.
    """
    values = table.to_numpy(dtype=float)
    size = (2.6 + 1.15 * values.shape[1], 1.6 + 0.62 * values.shape[0])
    fig, ax = plt.subplots(figsize=size)
    image = ax.imshow(values, cmap="Blues", aspect="auto", vmin=min(0, np.nanmin(values)))
    middle = (image.norm.vmin + image.norm.vmax) / 2
    for (row, column), value in np.ndenumerate(values):
        color = "white" if value > middle else "black"
        text = "" if np.isnan(value) else format.format(value)
        text = text if marks is None else f"{marks[row][column]} {text}"
        ax.text(column, row, text, ha="center", va="center", color=color)
    ax.set_xticks(range(values.shape[1]), table.columns)
    ax.set_yticks(range(values.shape[0]), table.index)
    ax.grid(visible=False)
    if label:
        fig.colorbar(image, ax=ax, label=label)
    set_title(fig, title)
    set_axes(ax, xlabel, ylabel)
    return fig


def product_grid(
    rows: Sequence[tuple[str, Sequence[np.ndarray], Sequence[str]]], *, title: str
) -> Figure:
    """Rows of product pictures, such as what two searches found for one query.

    Args:
        rows: per row its name, its pictures (each uint8 of shape (height, width, 3)) and one
            short caption per picture. Captions are drawn as they are: a "$" starts no formula.
        title: the finding.
    """
    columns = max(len(pictures) for _, pictures, _ in rows)
    size = (1.5 * columns + 0.9, 2.35 * len(rows) + 0.5)
    fig, axes = plt.subplots(len(rows), columns, figsize=size, squeeze=False)
    for line, (name, pictures, captions) in zip(axes, rows, strict=True):
        for ax in line:
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
            for spine in ax.spines.values():
                spine.set_visible(False)
        for ax, picture, caption in zip(line, pictures, captions, strict=False):
            ax.imshow(picture, interpolation="nearest")
            ax.set_xlabel(wrap(caption, 18), size=8, parse_math=False)
        line[0].set_ylabel(name, size=11, weight="bold", parse_math=False)
    set_title(fig, title)
    return fig
