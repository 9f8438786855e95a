"""Rankings: who wins on which query, what a metric rewards, which products come first."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator, NullFormatter

from recsys_lib.plots.labels import name_ends, wrap
from recsys_lib.plots.style import (
    COLORS,
    decimals_of,
    look,
    need_columns,
    number,
    set_axes,
    set_title,
)

SCALE = ("not relevant", "partly", "mostly", "just right")


def win_loss(
    differences: np.ndarray,
    *,
    title: str,
    names: tuple[str, str],
    metric: str,
    mean: tuple[float, float, float] | None = None,
) -> Figure:
    """The differences of a metric between two systems, query by query, from best to worst.

    Wins of the second system are the area above zero, losses the hatched one below; a thick line
    at zero spans the ties. The numbers of each stand beside them, that of the ties at their line.

    Args:
        differences: shape (queries,), B − A in units of the metric; NaN for a query without a
            value, which is left out and counted below the axis. A tie is a difference of exactly 0.
        title: the finding.
        names: of A and of B.
        metric: its name, such as "NDCG@10".
        mean: the mean difference with the low and high end of its interval.

    Raises:
        ValueError: differences of another shape, or without a number.
    """
    values = np.asarray(differences, dtype=float)
    if values.ndim != 1:
        raise ValueError(f"win_loss: differences must have shape (queries,); got {values.shape}")
    falling = np.sort(values[~np.isnan(values)])[::-1]
    if not falling.size:
        raise ValueError("win_loss: no query has a difference; has any a relevant product?")
    wins, losses = int((falling > 0).sum()), int((falling < 0).sum())
    ties, left_out = falling.size - wins - losses, values.size - falling.size
    fig, ax = plt.subplots()
    edges = np.arange(falling.size + 1)
    ax.stairs(np.maximum(falling, 0), edges, fill=True, color=COLORS["blue"], lw=0)
    ax.stairs(np.minimum(falling, 0), edges, fill=True, facecolor=COLORS["orange"],
              edgecolor="white", hatch="////", lw=0)  # fmt: skip
    ax.axhline(0, color=COLORS["black"], lw=1, ls="-")
    ax.hlines(0, wins, wins + ties, color=COLORS["black"], lw=4)
    low, high = min(falling[-1], 0), max(falling[0], 0)
    if low == high:
        low, high = -1.0, 1.0
    band = 0.2 * (high - low)  # for the counts, beyond all areas
    ax.set_ylim(low - band, high + band)
    ax.set_xlim(0, falling.size * (1.06 if mean else 1))
    a, b = (wrap(name, 40, 1) for name in names)
    for text, place, side in [
        (f"{b} better in {wins:,}", (0.01, 0.98), ("left", "top")),
        (f"{a} better in {losses:,}", (0.99, 0.02), ("right", "bottom")),
    ]:
        ax.text(*place, text, transform=ax.transAxes, ha=side[0], va=side[1], size=10,
                parse_math=False, bbox={"fc": "white", "ec": "none", "pad": 1})  # fmt: skip
    early = wins < 0.75 * falling.size  # then there is room above the ties, behind the wins
    ax.annotate(f"same in {ties:,}", (wins if early else wins + ties, 0), (0, 6 if early else -6),
                textcoords="offset points", ha="left" if early else "right",
                va="bottom" if early else "top", size=10)  # fmt: skip
    if mean is not None:
        value, below, above = mean
        at = falling.size * 1.03
        ax.vlines(at, below, above, color=COLORS["black"], lw=1.8)
        ax.plot([at, at], [below, above], "_", color=COLORS["black"], ms=8, mew=1.8)
        ax.plot(at, value, "D", color=COLORS["black"], ms=4)
        printed = [number(end, 3, signed=True) for end in mean]
        text = "mean\n{}\n[{}, {}]".format(*printed)
        ax.annotate(text, (at, value), (1.01, value), textcoords=ax.get_yaxis_transform(),
                    va="center", size=10)  # fmt: skip
    set_title(fig, title)
    without = f" ({left_out:,} without a value left out)" if left_out else ""
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    count = f"{falling.size:,} " + ("query" if falling.size == 1 else "queries")
    set_axes(ax, f"{count}, from the greatest win to the greatest loss{without}",
             f"difference in {metric}")  # fmt: skip
    return fig


def discounts(
    weights: pd.DataFrame, *, title: str, ylabel: str = "worth of one relevant product"
) -> Figure:
    """What each metric gives for a relevant product at a rank, one named curve per metric.

    Args:
        weights: a row per rank (the index, from 1 up), a column per metric; NaN where a metric
            looks no deeper.
        title: the finding.
        ylabel: what the weights are.

    Raises:
        ValueError: no weights, or ranks that do not rise from 1 or above.
    """
    ranks = weights.index.to_numpy(dtype=float)
    if not weights.size or weights.isna().all(axis=None):
        raise ValueError("discounts: the frame has no weights")
    if ranks[0] < 1 or (np.diff(ranks) <= 0).any():
        raise ValueError("discounts: the index must be ranks that rise from 1 or above")
    fig, ax = plt.subplots()
    ends = []
    for index, (name, column) in enumerate(weights.items()):
        style = look(index)
        y = column.to_numpy(dtype=float)
        if np.isnan(y).all():
            continue
        ax.plot(ranks, y, ms=5, lw=1.5, markevery=max(1, len(ranks) // 20), **style)
        last = np.flatnonzero(~np.isnan(y))[-1]
        ends.append((name, ranks[last], y[last], style))
    ax.set_ylim(min(0, np.nanmin(weights)), None)
    ax.set_xlim(ranks[0] - 0.5, ranks[-1] + 0.3)
    ax.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    set_title(fig, title)
    set_axes(ax, "rank", ylabel)
    name_ends(ax, ends)
    return fig


def rankings_side_by_side(
    pictures: Sequence[Sequence[np.ndarray | None]],
    grades: Sequence[Sequence[float]],
    names: Sequence[str],
    *,
    title: str,
    texts: Sequence[Sequence[str]] | None = None,
    scale: Sequence[str] = SCALE,
) -> Figure:
    """What several rankers put first for one query: a row per ranker, a column per rank.

    Each product's frame is the darker and thicker, the better its grade, which stands in its
    corner as a number ("?" and a dotted frame where nobody judged it). A product without a picture
    is a card with its text, drawn as it is: a "$" starts no formula.

    Args:
        pictures: per ranker its products from rank 1 on, each uint8 of shape (height, width, 3),
            or None. Rankers may return unequally many.
        grades: per ranker the grade of each of these products, 0 … len(scale) − 1; NaN for one
            that nobody judged.
        names: of the rankers.
        title: the finding.
        texts: per ranker the name of each product, for those without a picture.
        scale: what the grades 0, 1, … mean.

    Raises:
        ValueError: the lists are of unequal lengths, there is no product, a grade is not on the
            scale, a picture has another shape, or a product has neither picture nor text.
    """
    texts = [[""] * len(row) for row in pictures] if texts is None else texts
    _check_rankings(pictures, grades, names, texts, len(scale))
    columns = max(len(row) for row in pictures)
    colors = [to_hex(plt.colormaps["Blues"](share)) for share in np.linspace(0.3, 1, len(scale))]
    fig, ax = plt.subplots(figsize=(2.0 + 0.87 * columns, 1.3 + 1.14 * len(names)))
    for row, cells in enumerate(zip(pictures, grades, texts, strict=True)):
        for column, (picture, grade, text) in enumerate(zip(*cells, strict=True)):
            _product(ax, 3 * column, 4 * row, picture, text)
            _grade(ax, 3 * column, 4 * row, grade, colors)
    ax.set(xlim=(-0.1, 3 * columns + 0.1), ylim=(4 * len(names) + 0.1, -0.1), aspect="equal")
    ax.set_xticks(3 * np.arange(columns) + 1.5, range(1, columns + 1))
    ax.set_yticks(4 * np.arange(len(names)) + 2, [wrap(name, 18, 4) for name in names], size=10,
                  parse_math=False)  # fmt: skip
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    set_axes(ax, "rank", "")
    handles = [
        Patch(fc="white", ec=colors[grade], lw=1 + grade, label=f"{grade}: {meaning}")
        for grade, meaning in enumerate(scale)
    ]
    widest = 0.7 + 0.09 * max(len(str(meaning)) for meaning in scale)  # inches, with its frame
    fit = int(np.clip(fig.get_figwidth() // widest, 1, len(scale)))
    legend = fig.legend(handles=handles, loc="outside lower center", ncols=fit)
    for text in legend.get_texts():
        text.set_parse_math(False)
    set_title(fig, title)
    return fig


def grouped_intervals(
    table: pd.DataFrame,
    *,
    title: str,
    xlabel: str,
    reference: float | None = None,
    wide: int = 3,
    decimals: int | None = None,
) -> Figure:
    """Estimates with intervals of several systems, one panel per group of queries.

    Args:
        table: columns group, name, value, low, high and n (queries behind the value). Groups and
            names are drawn in the order of their first row; a system that lacks a group, or whose
            value is NaN, has an empty line there.
        title: the finding.
        xlabel: what the values are.
        reference: where to draw a line, such as 0 for differences.
        wide: panels side by side.
        decimals: of the printed values; None: as many as the range of the axis needs.

    Raises:
        ValueError: a column is missing, no value, or a system that stands in a group twice.
    """
    need_columns(table, ("group", "name", "value", "low", "high", "n"), "grouped_intervals")
    if table["value"].isna().all():
        raise ValueError("grouped_intervals: no row has a value")
    twice = table[table.duplicated(["group", "name"])]
    if len(twice):
        group, name = twice.iloc[0][["group", "name"]]
        raise ValueError(f"grouped_intervals: {name} stands in {group} more than once")
    groups, names = list(table["group"].unique()), list(table["name"].unique())
    wide = min(wide, len(groups))
    high = -(-len(groups) // wide)
    size = (2.0 + 2.5 * wide, 0.7 + high * (0.75 + 0.33 * len(names)))
    fig, axes = plt.subplots(high, wide, figsize=size, sharex=True, sharey=True, squeeze=False,
                             layout="constrained")  # fmt: skip
    fig.get_layout_engine().set(wspace=0.06)  # a panel's numbers stand nearer to it than to others
    ends = table[["value", "low", "high"]].to_numpy(dtype=float)
    low, top = np.nanmin(ends), np.nanmax(ends)
    if reference is not None:
        low, top = min(low, reference), max(top, reference)
    room = (top - low) or abs(top) or 1
    for ax in axes.flat[len(groups) :]:
        ax.set_visible(False)
    for ax, group in zip(axes.flat, groups, strict=False):
        rows = table[table["group"] == group].set_index("name").reindex(names)
        _forest(ax, rows, reference, decimals_of(room) if decimals is None else decimals)
        ax.set_title(_group_title(group, rows["n"].dropna()), size=10, parse_math=False)
    axes[0, 0].set_xlim(low - 0.06 * room, top + 0.06 * room)
    axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
    axes[0, 0].xaxis.set_major_locator(MaxNLocator(4))
    for line in axes:
        line[0].set_yticks(range(len(names)), [wrap(name, 28, 2) for name in names], size=9,
                           parse_math=False)  # fmt: skip
    for at, ax in enumerate(axes.flat):
        if at + wide >= len(groups) and at < len(groups):
            ax.tick_params(labelbottom=True)
            ax.set_xlabel(xlabel)
    set_title(fig, title)
    return fig


def few_shot(
    draws: pd.DataFrame,
    *,
    title: str,
    ylabel: str = "accuracy",
    xlabel: str = "examples per class",
    levels: Mapping[str, float] | None = None,
) -> Figure:
    """A score over the number of examples per class: every draw a dot, their means a named line.

    `learning_curve` shows intervals that somebody computed; here the few draws of the examples are
    shown themselves. Methods stand a little apart along the axis, so that none covers another.

    Args:
        draws: a row per draw of examples: columns method, n (examples per class) and value. NaN
            for a run that has none.
        title: the finding.
        ylabel: what the value is.
        xlabel: what `n` counts; its axis is logarithmic.
        levels: by name, scores to compare with, such as that with all examples or with none.

    Raises:
        ValueError: a column is missing, no value, or an n that is not above 0.
    """
    need_columns(draws, ("method", "n", "value"), "few_shot")
    draws = draws.dropna(subset="value")
    if draws.empty:
        raise ValueError("few_shot: no draw has a value")
    if draws["n"].min() <= 0:
        raise ValueError(f"few_shot: n must be above 0; got {draws['n'].min():g}")
    fig, ax = plt.subplots(figsize=(7.5, 4.4))
    methods = list(draws["method"].unique())
    ends = []
    for index, method in enumerate(methods):
        rows = draws[draws["method"] == method]
        shift = 1.035 ** (index - (len(methods) - 1) / 2)
        style = look(index)
        means = rows.groupby("n")["value"].mean()
        ax.plot(rows["n"] * shift, rows["value"], ls="", marker=style["marker"], ms=5, mfc="none",
                mec=style["color"], mew=1.2)  # fmt: skip
        ax.plot(means.index * shift, means, **{**style, "marker": None})
        ends.append((method, means.index[-1] * shift, means.iloc[-1], style))
    ax.set_xscale("log")
    ticks = sorted(draws["n"].unique())
    ax.set_xticks(ticks, [f"{n:,.0f}" for n in ticks])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.minorticks_off()
    ax.margins(x=0.08)
    right = ax.get_xlim()[1]
    ax.set_xlim(None, right)
    for name, level in (levels or {}).items():
        ax.axhline(level, color=COLORS["grey"], lw=1.2, ls=(0, (4, 3)), zorder=1)
        ends.append((name, right, level, {}))
    set_title(fig, title)
    per = draws.groupby(["method", "n"]).size()
    count = f"{per.min()}" if per.min() == per.max() else f"{per.min()}–{per.max()}"
    each = "1 draw each" if count == "1" else f"{count} draws each; lines: means"
    set_axes(ax, f"{xlabel} (logarithmic), {each}", ylabel)
    name_ends(ax, ends)
    return fig


def _check_rankings(
    pictures: Sequence[Sequence[np.ndarray | None]],
    grades: Sequence[Sequence[float]],
    names: Sequence[str],
    texts: Sequence[Sequence[str]],
    n_grades: int,
) -> None:
    """Raise ValueError unless every product has a grade, and a picture or a text to draw."""
    where = "rankings_side_by_side"
    if not len(pictures) == len(grades) == len(names) == len(texts):
        raise ValueError(
            f"{where}: {len(names)} names, {len(pictures)} rows of pictures, {len(grades)} of "
            f"grades and {len(texts)} of texts must be equally many"
        )
    if not any(len(row) for row in pictures):
        raise ValueError(f"{where}: there is no product to show")
    for name, *cells in zip(names, pictures, grades, texts, strict=True):
        if len({len(part) for part in cells}) > 1:
            counts = "{} pictures, {} grades and {} texts".format(*map(len, cells))
            raise ValueError(f"{where}: {name} has {counts}; each product needs one of each")
        for rank, (picture, grade, text) in enumerate(zip(*cells, strict=True), start=1):
            product = f"the product of {name} at rank {rank}"
            if not (np.isnan(grade) or grade in range(n_grades)):
                raise ValueError(
                    f"{where}: {product} has the grade {grade:g}, not one of 0 … {n_grades - 1}"
                )
            if picture is None and not str(text).strip():
                raise ValueError(f"{where}: {product} has neither a picture nor a text")
            if picture is not None and np.ndim(picture) != 3:
                raise ValueError(
                    f"{where}: {product} has a picture of shape {np.shape(picture)}; it must be "
                    "(height, width, 3)"
                )


def _product(ax: Axes, x: float, y: float, picture: np.ndarray | None, text: str) -> None:
    """A picture, or a card with a text, in the cell of 3 × 4 units whose corner is (x, y)."""
    if picture is None:
        ax.add_patch(Rectangle((x + 0.2, y + 0.2), 2.6, 3.6, fc="#F2F2F2", ec="none"))
        ax.text(x + 1.5, y + 1.75, wrap(text, 11, 6), ha="center", va="center", size=7,
                parse_math=False)  # fmt: skip
        return
    height, width = np.shape(picture)[:2]
    unit = min(2.6 / width, 3.6 / height)
    left, upper = x + 1.5 - unit * width / 2, y + 2 - unit * height / 2
    ax.imshow(picture, extent=(left, left + unit * width, upper + unit * height, upper))


def _grade(ax: Axes, x: float, y: float, grade: float, colors: Sequence[str]) -> None:
    """The frame of a cell and the grade in its corner."""
    known = not np.isnan(grade)
    color = colors[int(grade)] if known else COLORS["grey"]
    ax.add_patch(Rectangle((x + 0.2, y + 0.2), 2.6, 3.6, fc="none", ec=color,
                           lw=1 + grade if known else 1, ls="-" if known else ":"))  # fmt: skip
    dark = known and grade > (len(colors) - 1) / 2
    ax.text(x + 0.25, y + 3.7, f"{grade:.0f}" if known else "?", size=9, weight="bold",
            color="white" if dark else "black",
            bbox={"fc": color if known else "white", "ec": color, "pad": 1.5})  # fmt: skip


def _forest(ax: Axes, rows: pd.DataFrame, reference: float | None, decimals: int) -> None:
    """The estimates of one panel, from top to bottom, with their numbers on the right."""
    if reference is not None:
        ax.axvline(reference, color=COLORS["black"], lw=1, ls="--")
    at = np.arange(len(rows))
    value = rows["value"].to_numpy(dtype=float)
    low, high = (rows[side].to_numpy(dtype=float) for side in ("low", "high"))
    ax.hlines(at, low, high, color=COLORS["blue"], lw=1.8)
    ax.plot([low, high], [at, at], "|", color=COLORS["blue"], ms=6, mew=1.8)
    ax.plot(value, at, "o", color=COLORS["blue"], ms=4)
    for row, estimate in zip(at, value, strict=True):
        signed = reference == 0  # differences carry their sign
        text = "–" if np.isnan(estimate) else number(estimate, decimals, signed=signed)
        ax.annotate(text, (1.02, row), xycoords=ax.get_yaxis_transform(), va="center", size=9)
    ax.grid(axis="y", visible=False)


def _group_title(group: object, n: pd.Series) -> str:
    """The group's name with how many queries are behind its values."""
    if n.empty:
        return wrap(group, 30, 2)
    few, many = int(n.min()), int(n.max())
    return f"{wrap(group, 30, 2)}\nn = {few:,}" + ("" if few == many else f"–{many:,}")
