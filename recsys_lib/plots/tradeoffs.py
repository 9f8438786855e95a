"""What a gain costs: quality against latency, recall of an index against time and memory."""

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from recsys_lib.plots.labels import name_column, name_points, wrap
from recsys_lib.plots.style import COLORS, look, need_columns, set_axes, set_title

ALIKE = 1.1  # latencies less than a tenth apart are called equal: they differ from run to run
ROOM = 0.35  # of the width of the axes, that a column of names needs
INDEXES = {
    "exact": "exact (matrix product)",
    "flat": "FAISS flat",
    "ivf": "FAISS IVF (numbers: clusters searched)",
    "hnsw": "FAISS HNSW (numbers: candidates kept)",
}
_SHORT = {"exact": "exact", "flat": "flat", "ivf": "IVF", "hnsw": "HNSW"}
LATENCIES = {
    "ms_median": "median ms of one query",
    "ms_p95": "95th percentile ms of one query",
    "ms_batch": "ms per query of a batch",
}


def quality_against_latency(
    table: pd.DataFrame,
    *,
    title: str,
    xlabel: str = "milliseconds per query",
    ylabel: str = "NDCG@10",
) -> Figure:
    """How good each system is over how long it takes, and the front of those worth their time.

    A system is on the front, drawn filled on the step line, unless another is better and no slower,
    or as good and faster; the others are hollow. One that takes at most a tenth longer is no
    slower: so little differs from run to run.

    Args:
        table: columns name, latency and value, and low and high where there are intervals. A row
            without a latency or a value is named below the axis.
        title: the finding.
        xlabel: what `latency` is; its axis is logarithmic.
        ylabel: what `value` is.

    Raises:
        ValueError: a column is missing, no row has both numbers, or a latency is not above 0.
    """
    need_columns(table, ("name", "latency", "value"), "quality_against_latency")
    measured = table[["latency", "value"]].notna().all(axis=1)
    known = table[measured].sort_values(
        ["latency", "value"], ascending=[True, False], kind="stable"
    )
    if known.empty:
        raise ValueError("quality_against_latency: no system has both a latency and a value")
    x, y = (known[column].to_numpy(dtype=float) for column in ("latency", "value"))
    if x.min() <= 0:
        raise ValueError(f"quality_against_latency: latencies must be above 0; got {x.min():g}")
    fig, ax = plt.subplots(figsize=(8.5, 5.2))
    front = _worth_their_time(x, y)
    end = x.max() * (x.max() / x.min()) ** 0.08
    steps_x, steps_y = [*x[front], end], [*y[front], y[front][-1]]
    ax.step(steps_x, steps_y, where="post", color=COLORS["grey"], lw=1, ls="-", zorder=1)
    steps = zip(pairwise(steps_x), y[front], strict=True)
    lines = [(start, level, stop, level) for (start, stop), level in steps]
    if {"low", "high"} <= set(known.columns):
        low, high = (known[side].to_numpy(dtype=float) for side in ("low", "high"))
        ax.vlines(x, low, high, color=COLORS["blue"], lw=2)
        lines += [box for box in zip(x, low, x, high, strict=True) if not np.isnan(box).any()]
    looks = [{"marker": "o", "ms": 8, "mfc": face, "mec": COLORS["blue"], "mew": 2, "ls": ""}
             for face in (COLORS["blue"], "white")]  # fmt: skip
    for chosen, style in zip((front, ~front), looks, strict=True):
        ax.plot(x[chosen], y[chosen], **style)
    ax.margins(0.14, 0.14)
    _log_axis(ax)
    set_title(fig, title)
    unknown = ", ".join(str(name) for name in table.loc[~measured, "name"])
    more = f"\nnot measured: {wrap(unknown, 70, 2)}" if unknown else ""
    set_axes(ax, f"{xlabel} (logarithmic){more}", ylabel)
    ax.xaxis.label.set_parse_math(False)
    meanings = ("filled, on the grey line: no other is as good in as little time",
                f"hollow: another is (up to {ALIKE - 1:.0%} longer counts as equal)")  # fmt: skip
    handles = [Line2D([], [], label=text, **style)
               for text, style in zip(meanings, looks, strict=True)]  # fmt: skip
    fig.legend(handles=handles, loc="outside lower left", ncols=1)
    _name_systems(ax, x, y, list(known["name"]), lines)
    return fig


def _worth_their_time(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which systems none beats, (n,) bool: x are latencies that rise, y how good each is."""
    no_slower = x <= ALIKE * x[:, None]
    better = no_slower & (y > y[:, None])
    as_good = np.tri(len(x), k=-1, dtype=bool) & (y == y[:, None])  # and before it, so faster
    return ~(better | as_good).any(axis=1)


def _name_systems(
    ax: Axes, x: np.ndarray, y: np.ndarray, names: list[str], lines: list[tuple[float, ...]]
) -> None:
    """Names beside their dots: in a column for three and more that take nearly the same time."""
    ax.figure.draw_without_rendering()
    points = np.column_stack([x, y])
    across = ax.transAxes.inverted().transform(ax.transData.transform(points))[:, 0]  # 0 … 1
    alone = np.full(len(x), True)
    for crowd in np.split(np.arange(len(x)), np.flatnonzero(x[1:] > ALIKE * x[:-1]) + 1):
        left = across[crowd[0]] - max([0, *across[: crowd[0]]])
        right = min([1, *across[crowd[-1] + 1 :]]) - across[crowd[-1]]
        if len(crowd) >= 3 and max(left, right) > ROOM:
            alone[crowd] = False
            named = [names[i] for i in crowd]
            lines = lines + name_column(ax, points[crowd], named, left=left >= right)
    if alone.any():
        rest = [names[i] for i in np.flatnonzero(alone)]
        name_points(ax, points[alone], rest, avoid=lines)


def index_tradeoff(
    table: pd.DataFrame, *, title: str, latency: str = "ms_median", ylabel: str = "recall@10"
) -> Figure:
    """Recall of vector indexes over their latency, and below it their memory, per catalog size.

    Args:
        table: as `search.compare_indexes` returns it: columns vectors, index ("exact", "flat",
            "ivf", "hnsw"), breadth (0 where there is none), recall, megabytes, build_seconds and
            the latency.
        title: the finding.
        latency: "ms_median", "ms_p95" or "ms_batch".
        ylabel: what the recall is.

    Raises:
        ValueError: a column is missing, an unknown latency or index, no row, or a latency that
            is not above 0.
    """
    if latency not in LATENCIES:
        raise ValueError(f"index_tradeoff: latency must be one of {', '.join(LATENCIES)}")
    columns = ("vectors", "index", "breadth", "recall", "megabytes", "build_seconds", latency)
    need_columns(table, columns, "index_tradeoff")
    if table[latency].min() <= 0:
        raise ValueError(f"index_tradeoff: {latency} must be above 0")
    if unknown := set(table["index"]) - set(INDEXES):
        raise ValueError(f"index_tradeoff: {min(unknown)!r} is none of {', '.join(INDEXES)}")
    sizes = sorted(table["vectors"].unique())
    kinds = [kind for kind in INDEXES if kind in set(table["index"])]
    size = (2.9 * len(sizes) + 1.3, 3.9 + 0.3 * len(kinds))
    fig, axes = plt.subplots(2, len(sizes), figsize=size, squeeze=False,
                             height_ratios=[2.6, 0.3 * len(kinds) + 0.1])  # fmt: skip
    for at, vectors in enumerate(sizes):
        top, bottom = axes[:, at]
        here = table[table["vectors"] == vectors]
        top.sharex(axes[0, 0])
        top.sharey(axes[0, 0])
        for row, kind in enumerate(kinds):
            part = here[here["index"] == kind].sort_values("breadth")
            if len(part):
                top.plot(part[latency], part["recall"], **_index_look(kind))
                _index_memory(bottom, row, part.iloc[0], kind)
        top.set_title(f"{vectors:,} vectors", size=11)
        set_axes(top, f"{LATENCIES[latency]} (log)", "" if at else ylabel)
        top.tick_params(labelleft=not at)
        bottom.set(yticks=range(len(kinds)), ylim=(len(kinds) - 0.4, -0.6), xticks=[])
        bottom.set_yticklabels(["" if at else _SHORT[kind] for kind in kinds])
        bottom.grid(visible=False)
        bottom.set_xlim(0, here["megabytes"].max() * 2.4)
        scale = "\n(each panel has its own scale)" if len(sizes) > 1 else ""
        set_axes(bottom, f"memory, time to build{scale}", "")
    axes[0, 0].set_ylim(min(0.95, table["recall"].min()) - 0.07, 1.07)
    axes[0, 0].margins(x=0.15)
    _log_axis(axes[0, 0])
    handles = [axes[0, 0].plot([], [], label=INDEXES[kind], **_index_look(kind))[0]
               for kind in kinds]  # fmt: skip
    fig.legend(handles=handles, loc="outside lower center", ncols=min(2, len(sizes)))
    set_title(fig, title)
    for ax, vectors in zip(axes[0], sizes, strict=True):
        _name_breadths(ax, table[table["vectors"] == vectors], latency)
    return fig


def _log_axis(ax: Axes) -> None:
    """A logarithmic horizontal axis whose numbers have no exponents: 0.01, 1, 1,000."""
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
    ax.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:.6f}".rstrip("0"))
    )
    ax.xaxis.set_minor_formatter(NullFormatter())


def _index_look(kind: str) -> dict[str, object]:
    return {"lw": 1.5, "ms": 8 if kind == "exact" else 6, **look(list(INDEXES).index(kind))}


def _name_breadths(ax: Axes, here: pd.DataFrame, latency: str) -> None:
    """The breadth of each point as a number beside it, off the curves."""
    lines = []
    for _, part in here.groupby("index"):
        x, y = part.sort_values("breadth")[[latency, "recall"]].to_numpy(dtype=float).T
        fine = np.linspace(0, len(x) - 1, 8 * len(x))
        along = np.exp(np.interp(fine, np.arange(len(x)), np.log(x)))  # straight on its log axis
        up = np.interp(fine, np.arange(len(x)), y)
        lines += list(zip(along, up, along, up, strict=True))
    broad = here[here["breadth"] > 0]
    if len(broad):
        numbers = [f"{breadth:.0f}" for breadth in broad["breadth"]]
        name_points(ax, broad[[latency, "recall"]].to_numpy(float), numbers, avoid=lines, size=8)


def _index_memory(ax: Axes, row: int, index: pd.Series, kind: str) -> None:
    """The memory of one index as a bar that says its size and how long it took to build."""
    hatch = ("", "///", "", "...")[list(INDEXES).index(kind)]
    color = look(list(INDEXES).index(kind))["color"]
    ax.barh(row, index["megabytes"], height=0.7, color=color, hatch=hatch, edgecolor="white")
    text = f"{_digits(index['megabytes'])} MB"
    if (seconds := index["build_seconds"]) > 0:
        text += f", {_digits(seconds) if seconds >= 0.001 else '<0.001'} s"
    ax.annotate(text, (index["megabytes"], row), (4, 0), textcoords="offset points", va="center",
                size=9)  # fmt: skip


def _digits(value: float) -> str:
    """Two digits, and all those before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
