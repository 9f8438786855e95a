"""Pictures of groups show every group, say what is unknown, and refuse what they cannot draw."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from recsys_lib import plots


@pytest.fixture(autouse=True)
def closed():
    plots.use_style()
    yield
    plt.close("all")


@pytest.fixture
def table():
    rows = [
        ("accuracy", "under 30", 0.9, 0.85, 0.95, 200, True),
        ("accuracy", "costs $5 or $6", 0.8, 0.7, 0.9, 90, True),
        ("accuracy", "few", np.nan, np.nan, np.nan, 3, False),
        ("auc", "under 30", 0.95, 0.9, 0.99, 200, True),
        ("auc", "costs $5 or $6", np.nan, np.nan, np.nan, 90, False),
        ("auc", "few", np.nan, np.nan, np.nan, 3, False),
    ]
    return pd.DataFrame(
        rows, columns=["metric", "group", "value", "low", "high", "rows", "known"]
    ).astype({"value": float})


def _texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_every_group_has_a_line_and_unknown_ones_say_so(table):
    fig = plots.group_panels(table, title="t", labels={"accuracy": "right", "auc": "AUC"})
    fig.draw_without_rendering()
    left, right = (ax for ax in fig.axes if ax.get_visible())
    names = [tick.get_text() for tick in left.get_yticklabels()]
    assert names == ["under 30 (200)", "costs $5 or $6 (90)", "few (3)"]
    assert _texts(left) == ["unknown"] and _texts(right) == ["unknown"] * 2
    np.testing.assert_allclose(left.lines[0].get_xdata(), [0.9, 0.8])
    assert left.get_ylim()[0] > left.get_ylim()[1]


def test_marked_groups_are_filled_squares(table):
    marked = table.assign(marked=[True, False, False] * 2)
    ax = plots.group_panels(marked, title="t", labels={"accuracy": "right"}, reference=0).axes[0]
    drawn = {
        line.get_marker(): line.get_xdata().tolist()
        for line in ax.lines
        if line.get_marker() in "so"
    }
    assert drawn == {"s": [0.9], "o": [0.8]}
    assert ax.lines[0].get_xdata() == [0, 0]
    assert ax.get_xlim()[0] < 0


@pytest.mark.parametrize(
    ("change", "labels", "said"),
    [
        (lambda t: t.drop(columns="known"), {"auc": "AUC"}, "lacks the column known"),
        (lambda t: t, {"recall": "found"}, "no measure recall"),
        (lambda t: t.assign(known=False), {"auc": "AUC"}, "no group is known"),
    ],
)
def test_what_cannot_be_drawn_is_refused(table, change, labels, said):
    with pytest.raises(ValueError, match=said):
        plots.group_panels(change(table), title="t", labels=labels)


def test_worlds_show_estimates_and_truths():
    rng = np.random.default_rng(0)
    values = {"none": rng.normal(0, 1, 50), "planted": rng.normal(3, 1, 50)}
    ax = plots.worlds(values, {"none": 0.0, "planted": 3.0}, title="t", xlabel="gap").axes[0]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert {"none", "planted", "true: +0.000", "true: +3.000"} == set(labels)


def test_lines_of_two_groups_meet_where_they_must():
    table = pd.DataFrame(
        {
            "group": ["a", "middle", "b"],
            "base_rate": [0.4, 0.6, 0.8],
            "precision": [0.9] * 3,
            "false_positive_rate": [0.1, 0.2, 0.3],
            "false_negative_rate": [0.2] * 3,
            "mean_of_negatives": [0.2, 0.3, 0.5],
            "mean_of_positives": [0.7, 0.8, 0.9],
        }
    )
    fig = plots.incompatible(table, title="t", precision=0.9)
    left, right = fig.axes
    rays = [line for line in left.lines if len(line.get_xdata()) == 2]
    assert len(rays) == 2  # the lowest and the highest base rate
    for ray, rate in zip(rays, (0.4, 0.8), strict=True):
        x, y = ray.get_xdata(), ray.get_ydata()
        assert (x[0], y[0]) == (0, 0)
        assert x[1] == pytest.approx(rate / (1 - rate) / 9)
    lines = [line for line in right.lines if len(line.get_xdata()) == 2]
    assert all((line.get_xdata()[1], line.get_ydata()[1]) == (0, 1) for line in lines)
    with pytest.raises(ValueError, match="lacks the column"):
        plots.incompatible(table.drop(columns="base_rate"), title="t", precision=0.9)
