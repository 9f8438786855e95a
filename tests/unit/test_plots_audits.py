"""Spreads, quality against gap and rounds draw the numbers they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from recsys_lib import plots

POINTS = pd.DataFrame(
    {
        "name": ["as it is", "mitigated"],
        "gap": [0.2, 0.05],
        "gap_low": [0.1, 0.0],
        "gap_high": [0.3, 0.1],
        "quality": [0.9, 0.88],
        "quality_low": [0.88, 0.86],
        "quality_high": [0.92, 0.9],
    }
)
TURNS = pd.DataFrame(
    {"policy": ["a", "a", "b", "b"], "round": [1, 0, 0, 1], "value": [0.8, 0.5, 0.5, 0.5],
     "low": [0.7, 0.4, 0.4, 0.4], "high": [0.9, 0.6, 0.6, 0.6]}
)  # fmt: skip


@pytest.fixture(autouse=True)
def style():
    plots.use_style()
    yield
    plt.close("all")


def test_found_shares_draw_points_with_their_intervals_and_the_stated_curve():
    found = pd.DataFrame({"size": [0.1, 0.3], "value": [0.2, 0.8], "low": [0.1, 0.65],
                          "high": [0.35, 0.9]})  # fmt: skip
    fig = plots.found_shares(found, {0.0: 0.05, 0.3: 0.75}, title="T", xlabel="bias")
    (ax,) = fig.axes
    assert ax.lines[0].get_xydata().tolist() == [[0.0, 0.05], [0.3, 0.75]]
    (bars,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    assert np.allclose(ends, [[0.1, 0.35], [0.65, 0.9]])
    with pytest.raises(ValueError, match="found_shares"):
        plots.found_shares(found.drop(columns="low"), {}, title="T", xlabel="x")


def test_spreads_draw_quantiles_and_the_mean():
    numbers = np.arange(101.0)
    fig = plots.spreads({"a": numbers, "b": numbers * 2}, title="T", xlabel="x", hollow=["b"])
    (ax,) = fig.axes
    bars = [c.get_segments()[0][:, 0].tolist() for c in ax.collections
            if isinstance(c, LineCollection)]  # fmt: skip
    assert bars == [[5, 95], [25, 75], [10, 190], [50, 150]]
    means = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "D"]
    assert means == [50, 100]
    faces = [line.get_markerfacecolor() for line in ax.lines if line.get_marker() == "D"]
    assert faces[0] != faces[1] == "white"


def test_quality_against_gap_shades_what_chance_makes():
    fig = plots.quality_against_gap(POINTS, title="T", xlabel="gap", ylabel="q", chance=0.12)
    (ax,) = fig.axes
    assert ax.patches[0].get_width() == pytest.approx(0.12)
    assert "0.120" in ax.get_xlabel()
    assert ax.get_xlim()[0] == 0 and ax.get_xlim()[1] > 0.3
    assert {text.get_text() for text in ax.texts} >= {"as it is", "mitigated"}
    plain = plots.quality_against_gap(POINTS, title="T", xlabel="gap", ylabel="q")
    assert not plain.axes[0].patches and plain.axes[0].get_xlabel() == "gap"


def test_rounds_draw_one_curve_per_policy_in_order():
    (ax,) = plots.rounds(TURNS, title="T", ylabel="share").axes
    assert [line.get_label() for line in ax.lines] == ["a", "b"]
    assert ax.lines[0].get_xdata().tolist() == [0, 1]
    assert ax.lines[0].get_ydata().tolist() == [0.5, 0.8]


def test_bad_input():
    words = {"title": "T", "xlabel": "x"}
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.spreads({}, **words)
    with pytest.raises(ValueError, match="a needs at least one value"):
        plots.spreads({"a": []}, **words)
    with pytest.raises(ValueError, match="lacks the column gap_low"):
        plots.quality_against_gap(POINTS.drop(columns="gap_low"), ylabel="q", **words)
    with pytest.raises(ValueError, match="no rows"):
        plots.rounds(TURNS.head(0), title="T", ylabel="share")
