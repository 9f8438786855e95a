"""Curves: losses, training runs, ROC and precision–recall, calibration, learning, costs."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from recsys_lib.plots.style import COLORS, look, set_axes, set_legend, set_title

_PROBABILITIES = (1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)  # ticks by log-odds


def lines(
    x: np.ndarray,
    ys: Mapping[str, np.ndarray],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    ylim: tuple[float, float] | None = None,
    zero: bool = False,
    bands: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> Figure:
    """Curves over one axis: `ys` maps each curve's name to its values at `x`.

    bands: (low, high) of the intervals of some of the curves, shaded around them.
    """
    fig, ax = plt.subplots()
    for index, (name, y) in enumerate(ys.items()):
        ax.plot(x, y, label=name, **{**look(index), "marker": None})
        if bands and name in bands:
            ax.fill_between(x, *bands[name], color=look(index)["color"], alpha=0.2, lw=0)
    if zero:
        ax.axhline(0, color=COLORS["grey"], linewidth=1, linestyle="-")
    set_title(fig, title)
    set_axes(ax, xlabel, ylabel, ylim=ylim)
    set_legend(ax, len(ys))
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
    set_axes(left, xlabel, "loss", ylim=loss_limits)
    set_axes(right, xlabel, "slope of the loss", ylim=slope_limits)
    set_legend(left, len(losses), always=True)
    set_title(fig, title)
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
    if window > 1:
        thin = {"color": COLORS["sky"], "lw": 1, "ls": "-", "alpha": 0.6}
        left.plot(history["step"], history["loss"], label="training, each step", **thin)
    name = "training" if window == 1 else f"training, mean of {window} steps"
    left.plot(history["step"], smooth, label=name, color=COLORS["blue"], ls="-")
    if "valid_loss" in history and history["valid_loss"].notna().any():
        valid = history.dropna(subset="valid_loss")
        style = {"color": COLORS["vermilion"], "ls": "--", "marker": "s"}
        left.plot(valid["step"], valid["valid_loss"], label="validation", **style)
    set_axes(left, "step", "loss", ylim=(0, None))
    set_legend(left, 2)
    if measured:
        right = axes[1]
        valid = history.dropna(subset="valid_metric")
        style = {"color": COLORS["vermilion"], "ls": "--", "marker": "s"}
        right.plot(valid["step"], valid["valid_metric"], label=f"validation {metric}", **style)
        if best_step is not None:
            right.axvline(best_step, color=COLORS["black"], ls=":", label=f"kept: step {best_step}")
        set_axes(right, "step", metric)
        set_legend(right, 2)
    set_title(fig, title)
    return fig


def roc(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], *, title: str) -> Figure:
    """ROC curves: by name, the false positive rates and the true positive rates."""
    fig, ax = plt.subplots(figsize=(5.6, 4.8))
    for index, (name, (false_rate, true_rate)) in enumerate(curves.items()):
        ax.plot(false_rate, true_rate, label=name, **{**look(index), "marker": None})
    ax.plot([0, 1], [0, 1], color=COLORS["grey"], lw=1, ls=":", label="chance")
    set_title(fig, title)
    set_axes(ax, "false positive rate", "true positive rate", ylim=(0, 1.02))
    ax.set_xlim(-0.02, 1)
    set_legend(ax, len(curves), always=True, loc="lower right")
    return fig


def precision_recall(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], *, title: str, positive_share: float
) -> Figure:
    """Precision over recall: by name, recalls and precisions; the chance line is the base rate."""
    fig, ax = plt.subplots(figsize=(5.6, 4.8))
    for index, (name, (recall, precision)) in enumerate(curves.items()):
        ax.plot(recall, precision, label=name, **{**look(index), "marker": None})
    label = f"chance ({100 * positive_share:.0f} % are positive)"
    ax.axhline(positive_share, color=COLORS["grey"], lw=1, ls=":", label=label)
    set_title(fig, title)
    set_axes(ax, "recall", "precision", ylim=(0, 1.02))
    ax.set_xlim(0, 1.02)
    set_legend(ax, len(curves), always=True)  # where no line runs, that of chance least of all
    return fig


def calibration(
    tables: Mapping[str, pd.DataFrame],
    *,
    title: str,
    positive: str = "positive",
    logit: bool = False,
) -> Figure:
    """Reliability diagrams, and below them how many predictions each bin has.

    Args:
        tables: by name, one row per bin with the columns predicted (mean probability), observed
            (share of positives) and n; low and high of the observed share where known.
        title: the finding.
        positive: what a label of 1 means, such as "recommended".
        logit: spread the probabilities by their log-odds, for a model that is sure of most cases.
            Perfect calibration is then a curve, since the share stays on its own scale.

    Raises:
        ValueError: with logit, a mean probability that is not above 0 and below 1.
    """
    fig, (top, bottom) = plt.subplots(
        2, 1, figsize=(5.6, 5.9), sharex=True, height_ratios=[3, 1], layout="constrained"
    )
    tables = {name: table[table["n"] > 0] for name, table in tables.items()}
    perfect = np.array([0.0, 1.0])
    if logit:
        means = np.concatenate([table["predicted"] for table in tables.values()])
        if means.min() <= 0 or means.max() >= 1:
            raise ValueError("calibration: logit needs mean probabilities above 0 and below 1")
        ends = np.log(means / (1 - means))
        perfect = 1 / (1 + np.exp(-np.linspace(ends.min() - 0.5, ends.max() + 0.5, 200)))
    top.plot(perfect, perfect, color=COLORS["grey"], lw=1, ls=":", label="perfect")
    for index, (name, table) in enumerate(tables.items()):
        style = look(index)
        top.plot(table["predicted"], table["observed"], label=name, ms=5, **style)
        if {"low", "high"} <= set(table.columns):
            top.vlines(table["predicted"], table["low"], table["high"], color=style["color"], lw=1)
        bottom.plot(table["predicted"], table["n"], ms=4, **style)
    set_title(fig, title)
    set_axes(top, "", f"share that is {positive}", ylim=(0, 1))
    set_axes(bottom, "predicted probability", "reviews\nper bin (log)")
    bottom.set_yscale("log")
    low, high = bottom.get_ylim()
    bottom.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 20 * low else (1,)))
    bottom.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    bottom.yaxis.set_minor_formatter(NullFormatter())
    if logit:
        top.set_xscale("logit")
        inside = [p for p in _PROBABILITIES if perfect[0] <= p <= perfect[-1]]
        bottom.set_xticks(inside, [f"{p:g}" for p in inside])
        bottom.xaxis.set_minor_formatter(NullFormatter())
    top.set_xlim(perfect[0], perfect[-1])
    # below the axes: inside them a curve and its bars may run anywhere
    columns = 2 if max(map(len, tables)) <= 24 else 1
    fig.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=columns)
    return fig


def learning_curve(
    table: pd.DataFrame, *, title: str, ylabel: str, xlabel: str = "training texts"
) -> Figure:
    """A score over the number of training examples, with intervals as bars.

    A line joins neighboring numbers only: it breaks where a system lacks one that others have.

    Args:
        table: columns system, n, value, and low and high where there are intervals.
        title: the finding.
        ylabel: what the score is.
        xlabel: what `n` counts.
    """
    fig, ax = plt.subplots()
    systems, every = list(table.groupby("system", sort=False)), sorted(table["n"].unique())
    for index, (name, rows) in enumerate(systems):
        rows = rows.set_index("n").reindex(every).reset_index()
        # side by side, since bars on top of each other cannot be told apart
        n = rows["n"] * 1.05 ** (index - (len(systems) - 1) / 2)
        ax.plot(n, rows["value"], label=name, ms=6, **look(index))
        if {"low", "high"} <= set(rows.columns):
            ends = (rows["value"] - rows["low"], rows["high"] - rows["value"])
            ax.errorbar(n, rows["value"], ends, fmt="none", capsize=4, lw=1.5,
                        ecolor=look(index)["color"])  # fmt: skip
    ax.set_xscale("log", base=2)
    ax.set_xticks(every)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.tick_params(axis="x", rotation=35)
    set_title(fig, title)
    set_axes(ax, f"{xlabel} (logarithmic)", ylabel)
    set_legend(ax, table["system"].nunique(), always=True, loc="lower right")
    return fig


def threshold_cost(
    thresholds: np.ndarray, costs: Mapping[str, np.ndarray], *, title: str, chosen: float
) -> Figure:
    """Cost per case over the decision threshold, with the chosen one marked."""
    fig, ax = plt.subplots()
    for index, (name, cost) in enumerate(costs.items()):
        ax.plot(thresholds, cost, label=name, **{**look(index), "marker": None})
    ax.axvline(chosen, color=COLORS["black"], ls=":", label=f"chosen: {chosen:.2f}")
    set_title(fig, title)
    set_axes(ax, "decision threshold", "cost per case", ylim=(0, None))
    ax.set_xlim(0, 1)
    set_legend(ax, len(costs), always=True)
    return fig
