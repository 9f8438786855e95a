"""The workbook's pictures: one style, one small function per recurring picture.

Every function takes arrays or frames and returns a `Figure`; `show` puts it into the notebook with
its alt text. The colors are Okabe and Ito's, told apart by readers with any color vision; line
styles, markers and hatches vary along with them, so that a greyscale print reads as well. A title
states the finding, so each function asks for it.
"""

import io
import struct
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from cycler import cycler
from IPython import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

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
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "++")
_CYCLE = [COLORS[name] for name in COLORS if name != "grey"]


def use_style() -> None:
    """Set the workbook's style for every figure that follows."""
    sns.set_theme(context="notebook", style="whitegrid")
    plt.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=_CYCLE, linestyle=LINES),
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

    The alt text stands in the output's metadata (``{"image/png": {"alt": alt}}``, as JupyterLab
    and nbconvert read it) and is the output's plain text.

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
    png = buffer.getvalue()
    width, height = struct.unpack(">II", png[16:24])
    display.display(
        {"image/png": png, "text/plain": f"[picture] {alt}"},
        metadata={"image/png": {"alt": alt, "width": width, "height": height}},
        raw=True,
    )


def look(index: int) -> dict[str, object]:
    """Color, line style and marker of the `index`-th series: alike in every picture."""
    return {
        "color": _CYCLE[index % len(_CYCLE)],
        "linestyle": LINES[index % len(LINES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def lines(
    x: np.ndarray,
    ys: Mapping[str, np.ndarray],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    ylim: tuple[float, float] | None = None,
    zero: bool = False,
) -> Figure:
    """Curves over one axis: `ys` maps each curve's name to its values at `x`."""
    fig, ax = plt.subplots()
    for index, (name, y) in enumerate(ys.items()):
        ax.plot(x, y, label=name, **{**look(index), "marker": None})
    if zero:
        ax.axhline(0, color=COLORS["grey"], linewidth=1, linestyle="-")
    _title(fig, title)
    _finish(ax, xlabel, ylabel, ylim=ylim)
    _legend(ax, len(ys))
    return fig


def loss_and_slope(
    z: np.ndarray,
    losses: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    title: str,
    xlabel: str = "score z",
    loss_limits: tuple[float, float] | None = None,
    slope_limits: tuple[float, float] | None = None,
) -> Figure:
    """Losses on the left and their slopes on the right, over the same score.

    Args:
        z: shape (n,), the score.
        losses: by name, the loss and its derivative at `z`, both of shape (n,).
        title: the finding.
        xlabel: what `z` is.
        loss_limits: of the left axis, where a loss runs to infinity.
        slope_limits: of the right axis.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8), sharex=True)
    for index, (name, (loss, slope)) in enumerate(losses.items()):
        style = {**look(index), "marker": None}
        left.plot(z, loss, label=name, **style)
        right.plot(z, slope, label=name, **style)
    right.axhline(0, color=COLORS["grey"], linewidth=1, linestyle="-")
    _finish(left, xlabel, "loss", ylim=loss_limits)
    _finish(right, xlabel, "slope of the loss", ylim=slope_limits)
    _legend(left, len(losses), always=True)
    _title(fig, title)
    return fig


def training_curves(
    history: pd.DataFrame,
    *,
    title: str,
    metric: str = "metric",
    best_step: int | None = None,
) -> Figure:
    """A training run: its loss on the left, the validation metric on the right.

    Args:
        history: columns step, loss, and valid_loss and valid_metric where they were measured
            (empty or NaN in between), as `training.fit` returns it.
        title: the finding.
        metric: name of the validation metric.
        best_step: the step whose weights were kept.
    """
    measured = history["valid_metric"].notna().any() if "valid_metric" in history else False
    fig, axes = plt.subplots(1, 2 if measured else 1, figsize=(9.5 if measured else 7, 3.8))
    left = np.atleast_1d(axes)[0]
    window = max(1, len(history) // 20)
    smooth = history["loss"].rolling(window, min_periods=1).mean()
    left.plot(history["step"], history["loss"], color=COLORS["sky"], lw=1, ls="-", alpha=0.6)
    name = "training" if window == 1 else f"training, mean of {window} steps"
    left.plot(history["step"], smooth, label=name, color=COLORS["blue"], ls="-")
    if "valid_loss" in history and history["valid_loss"].notna().any():
        valid = history.dropna(subset="valid_loss")
        style = {"color": COLORS["vermilion"], "ls": "--", "marker": "s"}
        left.plot(valid["step"], valid["valid_loss"], label="validation", **style)
    _finish(left, "step", "loss", ylim=(0, None))
    _legend(left, 2)
    if measured:
        right = axes[1]
        valid = history.dropna(subset="valid_metric")
        style = {"color": COLORS["vermilion"], "ls": "--", "marker": "s"}
        right.plot(valid["step"], valid["valid_metric"], label=f"validation {metric}", **style)
        if best_step is not None:
            right.axvline(best_step, color=COLORS["black"], ls=":", label=f"kept: step {best_step}")
        _finish(right, "step", metric)
        _legend(right, 2)
    _title(fig, title)
    return fig


def roc(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], *, title: str) -> Figure:
    """ROC curves: by name, the false positive rates and the true positive rates."""
    fig, ax = plt.subplots(figsize=(5.6, 4.8))
    for index, (name, (false_rate, true_rate)) in enumerate(curves.items()):
        ax.plot(false_rate, true_rate, label=name, **{**look(index), "marker": None})
    ax.plot([0, 1], [0, 1], color=COLORS["grey"], lw=1, ls=":", label="chance")
    _title(fig, title)
    _finish(ax, "false positive rate", "true positive rate", ylim=(0, 1.02))
    ax.set_xlim(-0.02, 1)
    _legend(ax, len(curves), always=True, loc="lower right")
    return fig


def precision_recall(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], *, title: str, positive_share: float
) -> Figure:
    """Precision over recall: by name, recalls and precisions; the chance line is the base rate."""
    fig, ax = plt.subplots(figsize=(5.6, 4.8))
    for index, (name, (recall, precision)) in enumerate(curves.items()):
        ax.plot(recall, precision, label=name, **{**look(index), "marker": None})
    label = f"chance ({positive_share:.0%} are positive)"
    ax.axhline(positive_share, color=COLORS["grey"], lw=1, ls=":", label=label)
    _title(fig, title)
    _finish(ax, "recall", "precision", ylim=(0, 1.02))
    ax.set_xlim(0, 1.02)
    _legend(ax, len(curves), always=True, loc="lower left")
    return fig


def calibration(tables: Mapping[str, pd.DataFrame], *, title: str) -> Figure:
    """Reliability diagrams over a histogram of the predictions.

    Args:
        tables: by name, one row per bin with the columns predicted (mean probability), observed
            (share of positives) and n; low and high of the observed share where known.
        title: the finding.
    """
    fig, (top, bottom) = plt.subplots(
        2, 1, figsize=(5.6, 5.4), sharex=True, height_ratios=[3, 1], layout="constrained"
    )
    top.plot([0, 1], [0, 1], color=COLORS["grey"], lw=1, ls=":", label="perfect")
    for index, (name, table) in enumerate(tables.items()):
        table = table[table["n"] > 0]
        style = look(index)
        top.plot(table["predicted"], table["observed"], label=name, ms=5, **style)
        if {"low", "high"} <= set(table.columns):
            top.vlines(table["predicted"], table["low"], table["high"], color=style["color"], lw=1)
        bottom.plot(table["predicted"], table["n"], ms=4, **style)
    _title(fig, title)
    _finish(top, "", "share that is positive", ylim=(0, 1))
    _finish(bottom, "predicted probability", "predictions")
    bottom.set_yscale("log")
    top.set_xlim(0, 1)
    _legend(top, len(tables), always=True, loc="upper left")
    return fig


def learning_curve(
    table: pd.DataFrame, *, title: str, ylabel: str, xlabel: str = "training texts"
) -> Figure:
    """A score over the number of training examples, with intervals.

    Args:
        table: columns system, n, value, and low and high where there are intervals.
        title: the finding.
        ylabel: what the score is.
        xlabel: what `n` counts.
    """
    fig, ax = plt.subplots()
    for index, (name, rows) in enumerate(table.groupby("system", sort=False)):
        rows = rows.sort_values("n")
        style = look(index)
        ax.plot(rows["n"], rows["value"], label=name, ms=6, **style)
        if {"low", "high"} <= set(rows.columns):
            ax.fill_between(rows["n"], rows["low"], rows["high"], color=style["color"], alpha=0.15)
    ax.set_xscale("log", base=2)
    ax.set_xticks(sorted(table["n"].unique()))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.tick_params(axis="x", rotation=35)
    _title(fig, title)
    _finish(ax, f"{xlabel} (logarithmic)", ylabel)
    _legend(ax, table["system"].nunique(), always=True, loc="lower right")
    return fig


def intervals(
    table: pd.DataFrame, *, title: str, xlabel: str, reference: float | None = None
) -> Figure:
    """Estimates with their intervals, one line per row (a forest plot).

    Args:
        table: columns name, value, low and high; drawn from top to bottom.
        title: the finding.
        xlabel: what the values are.
        reference: where to draw a line, such as 0 for differences.
    """
    fig, ax = plt.subplots(figsize=(7, 1.3 + 0.42 * len(table)))
    if reference is not None:
        ax.axvline(reference, color=COLORS["black"], lw=1, ls="--")
    rows = np.arange(len(table))
    low, high = (table[side].astype(float).to_numpy() for side in ("low", "high"))
    value = table["value"].astype(float).to_numpy()
    ax.hlines(rows, low, high, color=COLORS["blue"], lw=2.5)
    ax.plot(value, rows, "o", color=COLORS["blue"], ms=7)
    span = np.nanmax([*high, *value]) - np.nanmin([*low, *value])
    digits = int(np.clip(1 - np.floor(np.log10(span)), 0, 4)) if span > 0 else 3
    sign = "+" if reference == 0 else ""  # differences carry their sign
    for row, number in zip(rows, value, strict=True):
        text = f"{number:{sign}.{digits}f}".replace("-", "−")
        ax.annotate(text, (number, row), (0, 7), textcoords="offset points",
                    ha="center", size=9)  # fmt: skip
    ax.set_yticks(rows, table["name"])
    ax.set_ylim(len(table) - 0.5, -0.75)
    ax.grid(axis="y", visible=False)
    _title(fig, title)
    _finish(ax, xlabel, "")
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
    _title(fig, title)
    _finish(ax, xlabel, "")
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
        ax.annotate(beyond, (cut, 0.95 - 0.09 * row), (4, 0), xycoords=("data", "axes fraction"),
                    textcoords="offset points", size=9, color=COLORS["vermilion"])  # fmt: skip
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _title(fig, title)
    _finish(ax, xlabel, "share of texts")
    _legend(ax, len(series))
    return fig


def heatmap(
    table: pd.DataFrame,
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    format: str = "{:,.0f}",
    label: str = "",
) -> Figure:
    """A table as shaded cells with their numbers, such as a confusion matrix."""
    values = table.to_numpy(dtype=float)
    size = (2.6 + 1.15 * values.shape[1], 1.6 + 0.62 * values.shape[0])
    fig, ax = plt.subplots(figsize=size)
    image = ax.imshow(values, cmap="Blues", aspect="auto", vmin=min(0, np.nanmin(values)))
    middle = (image.norm.vmin + image.norm.vmax) / 2
    for (row, column), value in np.ndenumerate(values):
        color = "white" if value > middle else "black"
        text = "" if np.isnan(value) else format.format(value)
        ax.text(column, row, text, ha="center", va="center", color=color)
    ax.set_xticks(range(values.shape[1]), table.columns)
    ax.set_yticks(range(values.shape[0]), table.index)
    ax.grid(visible=False)
    if label:
        fig.colorbar(image, ax=ax, label=label)
    _title(fig, title)
    _finish(ax, xlabel, ylabel)
    return fig


def threshold_cost(
    thresholds: np.ndarray, costs: Mapping[str, np.ndarray], *, title: str, chosen: float
) -> Figure:
    """Cost per case over the decision threshold, with the chosen one marked."""
    fig, ax = plt.subplots()
    for index, (name, cost) in enumerate(costs.items()):
        ax.plot(thresholds, cost, label=name, **{**look(index), "marker": None})
    ax.axvline(chosen, color=COLORS["black"], ls=":", label=f"chosen: {chosen:.2f}")
    _title(fig, title)
    _finish(ax, "decision threshold", "cost per case", ylim=(0, None))
    ax.set_xlim(0, 1)
    _legend(ax, len(costs), always=True)
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
            ax.set_xlabel(_wrap(caption), size=8, parse_math=False)
        line[0].set_ylabel(name, size=11, weight="bold", parse_math=False)
    _title(fig, title)
    return fig


def _wrap(caption: str) -> str:
    return "\n".join(textwrap.wrap(str(caption), 18, max_lines=3, placeholder=" …"))


def _title(fig: Figure, title: str) -> None:
    """The finding, over the whole figure, in as many lines as its width asks for."""
    width = int(fig.get_figwidth() * 9)  # letters of bold 12 points, with some room
    wrapped = "\n".join(textwrap.wrap(title, width))
    fig.suptitle(wrapped, x=0.01, ha="left", weight="bold", size=12)


def _finish(ax: Axes, xlabel: str, ylabel: str, *, ylim: tuple | None = None) -> None:
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    if ylim is not None:
        ax.set_ylim(*ylim)


def _legend(ax: Axes, series: int, *, always: bool = False, loc: str = "best") -> None:
    if series > 1 or always:
        ax.legend(loc=loc)
