"""Groups of people: their values, the gaps between them, worlds, criteria that exclude each other.

A group about which nothing is known is drawn as that, never as zero.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recsys_lib.plots.labels import wrap
from recsys_lib.plots.style import (
    COLORS,
    LINES,
    MARKERS,
    look,
    need_columns,
    number,
    set_axes,
    set_title,
)


def group_panels(
    table: pd.DataFrame,
    *,
    title: str,
    labels: Mapping[str, str],
    reference: float | Mapping[str, float] | None = None,
    wide: int = 3,
) -> Figure:
    """Values or gaps of groups with their intervals: a line per group, a panel per measure.

    Args:
        table: columns metric, group, value, low, high, rows, known (bool); a group that is not
            known has the word "unknown" in its place. With a column marked (bool) the marked ones
            are filled squares, the others hollow circles.
        title: the finding.
        labels: the measures to draw, in order, with the words for their axes.
        reference: where to draw a line, such as 0 for gaps; or one for each measure.
        wide: panels side by side.

    Raises:
        ValueError: a column or a measure is missing, or no row is known.
    """
    need_columns(
        table, ("metric", "group", "value", "low", "high", "rows", "known"), "group_panels"
    )
    table = table[table["metric"].isin(list(labels))]
    if missing := [metric for metric in labels if metric not in set(table["metric"])]:
        raise ValueError(f"group_panels: the table has no measure {missing[0]}")
    if not table["known"].any():
        raise ValueError("group_panels: no group is known")
    counts = table.groupby("group", sort=False)["rows"].max()
    groups = list(counts.index)
    wide = min(wide, len(labels))
    high = -(-len(labels) // wide)
    size = (max(6.4, 2.2 + 2.5 * wide), 0.9 + high * (0.9 + 0.33 * len(groups)))
    fig, axes = plt.subplots(high, wide, figsize=size, sharey=True, squeeze=False)
    for ax in axes.flat[len(labels) :]:
        ax.set_visible(False)
    for ax, (metric, words) in zip(axes.flat, labels.items(), strict=False):
        part = table[table["metric"] == metric].set_index("group").reindex(groups)
        line = reference.get(metric) if isinstance(reference, Mapping) else reference
        _panel(ax, part, line)
        set_axes(ax, wrap(words, 30, 2), "")
    names = [f"{wrap(name, 26, 2)} ({count:,})" for name, count in counts.items()]
    axes[0, 0].set_ylim(len(groups) - 0.4, -0.6)
    for row in axes:
        row[0].set_yticks(range(len(groups)), names, size=9, parse_math=False)
    set_title(fig, title)
    return fig


def _panel(ax, part: pd.DataFrame, line: float | None) -> None:
    known = part["known"].eq(True).to_numpy()  # a group that the measure lacks is no True either
    rows = np.arange(len(part))
    if line is not None:
        ax.axvline(line, color=COLORS["black"], lw=1, ls="--")
    value, low, high = (part[name].to_numpy(dtype=float) for name in ("value", "low", "high"))
    marked = part["marked"].eq(True).to_numpy() if "marked" in part else np.ones(len(part), bool)
    ax.hlines(rows[known], low[known], high[known], color=COLORS["blue"], lw=2)
    strong = "s" if "marked" in part else "o"
    for chosen, shape, face in ((marked, strong, COLORS["blue"]), (~marked, "o", "white")):
        at = known & chosen
        ax.plot(value[at], rows[at], shape, color=COLORS["blue"], mfc=face, ms=6)
    ends = [*low[known], *high[known], *([] if line is None else [line])]
    if ends:
        left, right = min(ends), max(ends)
        room = (right - left) or abs(right) or 1
        ax.set_xlim(left - 0.08 * room, right + 0.08 * room)
    middle = np.mean(ax.get_xlim())
    for row in rows[~known]:
        ax.text(middle, row, "unknown", ha="center", va="center", size=9, style="italic",
                color=COLORS["grey"], bbox={"fc": "white", "ec": "none", "pad": 1})  # fmt: skip
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.grid(axis="y", visible=False)


def worlds(
    estimates: Mapping[str, np.ndarray],
    truths: Mapping[str, float],
    *,
    title: str,
    xlabel: str,
    bins: int = 24,
) -> Figure:
    """What was estimated in many worlds, a histogram for each kind, and what was true in it.

    Args:
        estimates: by the name of the kind, ``(worlds,)``.
        truths: by the same names, where to draw a line.
        title: the finding.
        xlabel: what was estimated.
        bins: of all histograms together.
    """
    fig, ax = plt.subplots(figsize=(7, 3.6))
    edges = np.histogram_bin_edges(np.concatenate(list(estimates.values())), bins=bins)
    for index, (name, values) in enumerate(estimates.items()):
        style = look(index)
        ax.hist(values, bins=edges, histtype="stepfilled", alpha=0.25, color=style["color"])
        ax.hist(values, bins=edges, histtype="step", lw=2, color=style["color"],
                linestyle=style["linestyle"], label=name)  # fmt: skip
        ax.axvline(truths[name], color=style["color"], linestyle=style["linestyle"], lw=1.5)
        ax.plot(truths[name], ax.get_ylim()[1] * 0.02, style["marker"], color=style["color"], ms=8,
                label=f"true: {number(truths[name], 3, signed=True)}")  # fmt: skip
    ax.xaxis.set_major_locator(MaxNLocator(6))
    set_axes(ax, xlabel, "worlds")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    set_title(fig, title)
    return fig


def incompatible(
    table: pd.DataFrame, *, title: str, groups: Sequence[str] = (), precision: float
) -> Figure:
    """Why criteria exclude one another: each group is held to a line of its own.

    Left: with this precision, false- and true-positive rate lie on a ray whose slope the base rate
    sets; rays of two groups meet only at nothing decided 1. Right: with scores that are right on
    average, the mean score of the rows labeled 0 and of those labeled 1 lie on a line through
    (0, 1), perfect prediction, where alone two groups meet.

    Args:
        table: columns group, base_rate, precision, false_positive_rate, false_negative_rate,
            mean_of_negatives and mean_of_positives.
        title: the finding.
        groups: the ones to draw, in order; the lowest and the highest base rate if none are named.
        precision: that the rays have in common.

    Raises:
        ValueError: a column is missing.
    """
    need_columns(
        table,
        ("group", "base_rate", "precision", "false_positive_rate", "false_negative_rate",
         "mean_of_negatives", "mean_of_positives"),
        "incompatible",
    )  # fmt: skip
    if not groups:
        order = table.sort_values("base_rate")["group"].tolist()
        groups = [order[0], order[-1]]
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2))
    reach = np.linspace(0, 1, 2)
    for index, group in enumerate(groups):
        row = table[table["group"] == group].iloc[0]
        odds = row["base_rate"] / (1 - row["base_rate"])
        style = {"color": look(index)["color"], "linestyle": LINES[index % len(LINES)]}
        name = f"{group}: {row['base_rate']:.1%} labeled 1"
        left.plot(odds * (1 - precision) / precision * reach, reach, **style, label=name)
        right.plot(odds * (1 - reach), reach, **style, label=name)
        dot = {"color": style["color"], "marker": MARKERS[index % len(MARKERS)], "ms": 9, "ls": ""}
        left.plot(row["false_positive_rate"], 1 - row["false_negative_rate"], **dot)
        right.plot(row["mean_of_negatives"], row["mean_of_positives"], **dot)
    left.set(xlim=(0, 1), ylim=(0, 1.03))
    right.set(xlim=(0, 1), ylim=(0, 1.03))
    left.set_title(f"rays: precision {precision:.2f} in both", size=10, weight="normal")
    right.set_title("lines: right on average in both", size=10, weight="normal")
    set_axes(left, "false-positive rate", "true-positive rate")
    set_axes(right, "mean score of rows labeled 0", "mean score of rows labeled 1")
    legend = fig.legend(
        *left.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        title="symbols: as measured",
        title_fontsize=10,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    set_title(fig, title)
    return fig
