"""Who is treated how, and what it costs to change: spreads, quality against gap, rounds."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recsys_lib.plots.labels import name_points
from recsys_lib.plots.style import COLORS, look, need_columns, set_axes, set_title


def spreads(
    values: Mapping[str, np.ndarray],
    *,
    title: str,
    xlabel: str,
    hollow: Sequence[str] = (),
    reference: float = 0.0,
) -> Figure:
    """How numbers are distributed, one line per name: 5 to 95 % thin, 25 to 75 % thick, the mean.

    Args:
        values: by name, drawn from top to bottom; each (n,) with n ≥ 1.
        title: the finding.
        xlabel: what the values are.
        hollow: names drawn in grey with a hollow mean, such as controls.
        reference: where to draw a line.

    Raises:
        ValueError: nothing to draw, or a name without a finite value.
    """
    if not values:
        raise ValueError("spreads: there is nothing to draw")
    fig, ax = plt.subplots(figsize=(7.5, 1.3 + 0.42 * len(values)))
    ax.axvline(reference, color=COLORS["black"], lw=1, ls="--")
    for row, (name, numbers) in enumerate(values.items()):
        numbers = np.asarray(numbers, dtype=float)
        if not len(numbers) or not np.isfinite(numbers).all():
            raise ValueError(f"spreads: {name} needs at least one value, all of them finite")
        color = COLORS["grey"] if name in hollow else COLORS["blue"]
        face = "white" if name in hollow else COLORS["orange"]
        p5, p25, p75, p95 = np.quantile(numbers, [0.05, 0.25, 0.75, 0.95])
        ax.hlines(row, p5, p95, color=color, lw=1.5)
        ax.hlines(row, p25, p75, color=color, lw=7)
        ax.plot(numbers.mean(), row, "D", mfc=face, mec=COLORS["black"], ms=7)
        ax.annotate(f"n = {len(numbers):,}", (1.01, row), xycoords=("axes fraction", "data"),
                    va="center", size=9, color=COLORS["grey"])  # fmt: skip
    ax.set_yticks(range(len(values)), list(values))
    ax.set_ylim(len(values) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    set_title(fig, title)
    set_axes(ax, f"{xlabel}\nline: 5 to 95 %, bar: middle half, diamond: mean", "")
    return fig


def found_shares(
    table: pd.DataFrame, stated: Mapping[float, float], *, title: str, xlabel: str
) -> Figure:
    """How often an audit found what was planted, with intervals, beside the power that was stated.

    Args:
        table: columns size (of what was planted), value, low, high (the share that found it).
        stated: by size, the power that a formula states; drawn as a line.
        title: the finding.
        xlabel: what was planted.

    Raises:
        ValueError: columns are missing, or there are no rows.
    """
    need_columns(table, ["size", "value", "low", "high"], "found_shares")
    fig, ax = plt.subplots(figsize=(7, 3.8))
    ax.plot(
        list(stated), list(stated.values()), color=COLORS["blue"], label="stated by the formula"
    )
    off = np.abs(table[["low", "high"]].to_numpy().T - table["value"].to_numpy())
    ax.errorbar(table["size"], table["value"], yerr=off, fmt="s", color=COLORS["orange"],
                capsize=3, label="played out, with 95 % intervals")  # fmt: skip
    set_title(fig, title)
    set_axes(ax, xlabel, "share of worlds that find it", ylim=(-0.02, 1.03))
    ax.legend(loc="lower right")
    return fig


def quality_against_gap(
    table: pd.DataFrame,
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    chance: float | None = None,
) -> Figure:
    """Ways to mitigate a gap as points: how wide it is, how good the decisions or rankings are.

    Better is up and to the left. The first row, what there was before, is drawn as a square; a thin
    line leads from it to every other.

    Args:
        table: columns name, gap, gap_low, gap_high, quality, quality_low and quality_high.
        title: the finding.
        xlabel, ylabel: what gap and quality are.
        chance: the gap that random groups stay below; the part up to it is shaded.

    Raises:
        ValueError: a column is missing or there is no row.
    """
    columns = ("gap", "gap_low", "gap_high", "quality", "quality_low", "quality_high")
    need_columns(table, ("name", *columns), "quality_against_gap")
    gap, left, right, quality, low, high = table[list(columns)].to_numpy(dtype=float).T
    fig, ax = plt.subplots(figsize=(7.5, 4.6))
    boxes = []
    for row in range(len(table)):
        color = look(row)["color"]
        ax.plot(
            [gap[0], gap[row]], [quality[0], quality[row]], color=COLORS["grey"], lw=0.8, ls=":"
        )
        ax.hlines(quality[row], left[row], right[row], color=color, lw=1.5, alpha=0.8)
        ax.vlines(gap[row], low[row], high[row], color=color, lw=1.5, alpha=0.8)
        ax.plot(gap[row], quality[row], "s" if row == 0 else look(row)["marker"], color=color,
                mec="white", ms=10 if row == 0 else 9, ls="", zorder=3)  # fmt: skip
        boxes += [(left[row], quality[row], right[row], quality[row])]
        boxes += [(gap[row], low[row], gap[row], high[row])]
    ax.margins(0.08, 0.15)
    ax.set_xlim(left=min(0.0, ax.get_xlim()[0]) if left.min() < 0 else 0)
    if chance is not None:
        ax.axvspan(0, chance, color=COLORS["grey"], alpha=0.15, lw=0)
        ax.set_xlim(right=max(ax.get_xlim()[1], 1.15 * chance))
        xlabel += f"\nshaded: gaps that random groups stay below in 95 % (up to {chance:.3f})"
    set_title(fig, title)
    set_axes(ax, xlabel, ylabel)
    name_points(ax, np.column_stack([gap, quality]), list(table["name"]), avoid=boxes)
    return fig


def rounds(table: pd.DataFrame, *, title: str, ylabel: str, xlabel: str = "round") -> Figure:
    """Curves over rounds with their intervals as bands, one per policy, named at their ends.

    Args:
        table: columns policy, round, value, low and high.
        title: the finding.
        xlabel, ylabel: what the axes are.

    Raises:
        ValueError: a column is missing or there is no row.
    """
    need_columns(table, ("policy", "round", "value", "low", "high"), "rounds")
    fig, ax = plt.subplots(figsize=(7.5, 4.2))
    for index, (policy, part) in enumerate(table.groupby("policy", sort=False)):
        part = part.sort_values("round")
        style = look(index)
        ax.fill_between(part["round"], part["low"], part["high"], color=style["color"], alpha=0.2,
                        lw=0)  # fmt: skip
        ax.plot(part["round"], part["value"], label=policy, ms=4, **style)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    fig.legend(loc="outside right center")
    set_title(fig, title)
    set_axes(ax, xlabel, ylabel)
    return fig
