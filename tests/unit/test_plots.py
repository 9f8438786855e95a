"""Pictures carry their findings: titles, labels, alt texts, and looks told apart without color."""

import warnings
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb

from recsys_lib import plots
from recsys_lib.plots.style import decimals_of, number

Z = np.linspace(-4, 4, 50)
HALF = np.linspace(0, 1, 50)
HISTORY = pd.DataFrame(
    {
        "step": [1, 2, 3, 4],
        "loss": [0.7, 0.5, 0.4, 0.3],
        "valid_loss": [np.nan, 0.55, np.nan, 0.45],
        "valid_metric": [np.nan, 0.8, np.nan, 0.9],
    }
)
BINS = pd.DataFrame(
    {
        "predicted": [0.2, 0.5, 0.8],
        "observed": [0.1, 0.5, 0.9],
        "n": [10, 0, 30],
        "low": [0.05, 0.4, 0.8],
        "high": [0.2, 0.6, 0.95],
    }
)
LEARNING = pd.DataFrame(
    {
        "system": ["a", "a", "b", "b"],
        "n": [64, 256, 64, 256],
        "value": [0.7, 0.8, 0.6, 0.75],
        "low": [0.6, 0.75, 0.5, 0.7],
        "high": [0.8, 0.85, 0.7, 0.8],
    }
)
FOREST = pd.DataFrame({"name": ["a − b"], "value": [0.01], "low": [-0.01], "high": [0.03]})
WEIGHTS = pd.DataFrame({"rr": [1, 1 / 2, 1 / 3]}, index=[1, 2, 3])
CELLS = pd.DataFrame([[5, 1], [2, 9]], index=["no", "yes"], columns=["no", "yes"])
QUALITY = pd.DataFrame(
    {"name": ["a", "b"], "latency": [1.0, 30], "value": [0.4, 0.8], "low": 0.3, "high": 0.9}
)
GROUPED = FOREST.assign(group="typo", n=40)
DRAWS = pd.DataFrame({"method": "a", "n": [1, 1, 5, 5], "value": [0.3, 0.4, 0.6, 0.5]})
INDEXED = pd.DataFrame(
    {
        "vectors": 1_000,
        "index": ["exact", "ivf", "ivf"],
        "breadth": [0, 1, 4],
        "recall": [1.0, 0.5, 0.9],
        "ms_median": [0.5, 0.1, 0.2],
        "build_seconds": [0.0, 0.2, 0.2],
        "megabytes": [1.5, 1.6, 1.6],
    }
)
GROUPS = pd.DataFrame(
    {"metric": "auc", "group": ["old", "young"], "value": 0.8, "low": 0.7, "high": 0.9}
).assign(rows=40, known=True)
CURVES = pd.DataFrame(
    {"name": "a", "curve": ["deletion", "deletion", "insertion", "insertion"], "share": [0, 1] * 2}
).assign(value=[0.9, 0.2, 0.1, 0.9], low=0.1, high=0.9)
CRITERIA = pd.DataFrame(
    {"group": ["old", "young"], "base_rate": [0.8, 0.7], "precision": 0.9}
).assign(
    false_positive_rate=[0.4, 0.2],
    false_negative_rate=0.1,
    mean_of_negatives=[0.4, 0.3],
    mean_of_positives=0.9,
)
GAPS = pd.DataFrame(
    {"name": ["as it is", "mitigated"], "gap": [0.2, 0.1], "gap_low": 0.05, "gap_high": 0.3}
).assign(quality=[0.9, 0.88], quality_low=0.85, quality_high=0.92)
ROUNDS = pd.DataFrame(
    {"policy": "feedback", "round": [0, 1], "value": [0.1, 0.3], "low": 0.05, "high": 0.4}
)
PICTURE = np.full((8, 6, 3), 200, dtype=np.uint8)
TITLE = "One finding in a sentence"


def _figures() -> dict:
    """Every public function that draws, with small data."""
    curve = {"a": (HALF, HALF**0.5), "b": (HALF, HALF**0.8)}
    axes = {"xlabel": "x", "ylabel": "y"}
    cost = {"validation": (HALF - 0.4) ** 2}
    return {
        "lines": lambda: plots.lines(Z, {"a": Z, "b": Z**2}, title=TITLE, zero=True, **axes),
        "loss_and_slope": lambda: plots.loss_and_slope(Z, {"square": (Z**2, 2 * Z)}, title=TITLE),
        "training_curves": lambda: plots.training_curves(HISTORY, title=TITLE, best_step=4),
        "roc": lambda: plots.roc(curve, title=TITLE),
        "precision_recall": lambda: plots.precision_recall(curve, title=TITLE, positive_share=0.2),
        "calibration": lambda: plots.calibration({"a": BINS}, title=TITLE),
        "learning_curve": lambda: plots.learning_curve(LEARNING, title=TITLE, ylabel="AUC"),
        "intervals": lambda: plots.intervals(FOREST, title=TITLE, xlabel="x", reference=0),
        "bars": lambda: plots.bars({"a": 1.0, "b": 2.0}, title=TITLE, xlabel="x", highlight="b"),
        "lengths": lambda: plots.lengths(np.arange(200), title=TITLE, cuts=(64, 128)),
        "heatmap": lambda: plots.heatmap(CELLS, title=TITLE, xlabel="x", ylabel="y"),
        "threshold_cost": lambda: plots.threshold_cost(HALF, cost, title=TITLE, chosen=0.4),
        "product_grid": lambda: plots.product_grid([("q", [PICTURE], ["a coat"])], title=TITLE),
        "win_loss": lambda: plots.win_loss([0.5, 0, -0.2], title=TITLE, names="ab", metric="AP"),
        "discounts": lambda: plots.discounts(WEIGHTS, title=TITLE),
        "rankings_side_by_side": lambda: plots.rankings_side_by_side(
            [[PICTURE, PICTURE]], [[3, 0]], ["a"], title=TITLE
        ),
        "grouped_intervals": lambda: plots.grouped_intervals(GROUPED, title=TITLE, xlabel="x"),
        "few_shot": lambda: plots.few_shot(DRAWS, title=TITLE, levels={"all": 0.9}),
        "quality_against_latency": lambda: plots.quality_against_latency(QUALITY, title=TITLE),
        "index_tradeoff": lambda: plots.index_tradeoff(INDEXED, title=TITLE),
        "group_panels": lambda: plots.group_panels(GROUPS, title=TITLE, labels={"auc": "AUC"}),
        "worlds": lambda: plots.worlds({"a": Z}, {"a": 0.0}, title=TITLE, xlabel="x"),
        "incompatible": lambda: plots.incompatible(CRITERIA, title=TITLE, precision=0.9),
        "quality_against_gap": lambda: plots.quality_against_gap(GAPS, title=TITLE, **axes),
        "spreads": lambda: plots.spreads({"a": Z, "b": Z + 1}, title=TITLE, xlabel="x"),
        "found_shares": lambda: plots.found_shares(
            pd.DataFrame({"size": [0.1], "value": [0.5], "low": [0.4], "high": [0.7]}),
            {0.0: 0.05, 0.1: 0.6},
            title=TITLE,
            xlabel="x",
        ),
        "rounds": lambda: plots.rounds(ROUNDS, title=TITLE, ylabel="y"),
        "erasure_curves": lambda: plots.erasure_curves(CURVES, title=TITLE, ylabel="y"),
        "word_pairs": lambda: plots.word_pairs(CELLS / 10, title=TITLE, label="cosine", **axes),
        "token_heatmap": lambda: plots.token_heatmap([["a", "b"]], [[1.0, -2.0]], title=TITLE),
    }


@pytest.fixture(autouse=True)
def style():
    plots.use_style()
    yield
    plt.close("all")


@pytest.fixture
def notebook():
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def test_every_drawing_function_is_tested_here():
    others = {"COLORS", "LINES", "MARKERS", "look", "show", "use_style"}
    assert set(_figures()) == set(plots.__all__) - others


@pytest.mark.parametrize("name", _figures())
def test_a_picture_has_its_finding_and_named_axes(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fig = _figures()[name]()
        fig.canvas.draw()
    assert " ".join(fig.get_suptitle().split()) == TITLE
    for ax in fig.axes:
        if ax.get_xaxis().get_ticklocs().size and name != "product_grid":
            shared = [other for other in fig.axes if other is not ax]
            assert ax.get_xlabel() or any(other.get_xlabel() for other in shared)


@pytest.mark.parametrize("name", _figures())
def test_nothing_is_cut_off(name):
    fig = _figures()[name]()
    fig.canvas.draw()
    drawn = fig.get_tightbbox(fig.canvas.get_renderer())  # in inches
    width, height = fig.get_size_inches()
    assert drawn.x0 >= -0.01
    assert drawn.y0 >= -0.01
    assert drawn.x1 <= width + 0.01
    assert drawn.y1 <= height + 0.01


def test_a_long_title_is_wrapped():
    title = "Most mistakes are complaints that the encoder missed at a threshold of one half"
    fig = plots.heatmap(CELLS, title=title, xlabel="x", ylabel="y")
    first, second = fig.get_suptitle().splitlines()
    assert f"{first} {second}" == title
    assert abs(len(first) - len(second)) <= 10, "no word is left alone on the last line"


def test_series_differ_in_line_and_marker_and_not_in_color_only():
    looks = [plots.look(index) for index in range(7)]
    for part in ("color", "linestyle", "marker"):
        assert len({str(each[part]) for each in looks}) == 7


def _luminance(color: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_the_first_three_colors_differ_in_grey():
    light = sorted(_luminance(plots.look(index)["color"]) for index in range(3))
    contrasts = [(b + 0.05) / (a + 0.05) for a, b in pairwise(light)]
    assert min(contrasts) > 1.8


# Linear-light RGB as seen without the red or green receptor: Viénot, Brettel and Mollon (1999).
VIENOT = {
    "protan": np.array([[0.1124, 0.8876, 0], [0.1124, 0.8876, 0], [0.004, -0.004, 1]]),
    "deutan": np.array([[0.2928, 0.7072, 0], [0.2928, 0.7072, 0], [-0.0223, 0.0223, 1]]),
}


@pytest.mark.parametrize("vision", VIENOT)
def test_colors_differ_for_the_color_blind(vision):
    rgb = np.array([to_rgb(plots.look(index)["color"]) for index in range(7)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ VIENOT[vision].T, 0, 1) ** (1 / 2.4)
    distances = np.linalg.norm(seen[:, None] - seen[None], axis=2) + 9 * np.eye(7)
    assert distances.min() > 0.1  # red and green of equal lightness come to about 0.02


def test_show_carries_the_alt_text_and_closes(notebook):
    fig = plots.lines(Z, {"a": Z}, title=TITLE, xlabel="x", ylabel="y")
    with capture_output() as captured:
        plots.show(fig, "A straight line\n  that rises.")
    (output,) = captured.outputs
    alt = "A straight line that rises."
    assert output.metadata["image/png"] == {"alt": alt}
    assert output.data["text/plain"] == f"[picture] {alt}"
    assert output.data["image/png"][:4] in (b"\x89PNG", "iVBO")
    assert not plt.fignum_exists(fig.number)


def test_the_same_picture_has_the_same_bytes(notebook):
    images = []
    for _ in range(2):
        fig = plots.lines(Z, {"a": Z}, title=TITLE, xlabel="x", ylabel="y")
        with capture_output() as captured:
            plots.show(fig, "A straight line that rises.")
        images.append(captured.outputs[0].data["image/png"])
    assert images[0] == images[1]


@pytest.mark.parametrize("alt", ["", "   ", "a picture", None])
def test_show_refuses_a_picture_without_an_alt_text(alt):
    fig = plots.lines(Z, {"a": Z}, title=TITLE, xlabel="x", ylabel="y")
    with pytest.raises(ValueError, match="alt"):
        plots.show(fig, alt)


def test_texts_from_data_are_drawn_as_they_are():
    captions = ["coat $99 to $120", "<script>alert(1)</script>", "\\frac{", ""]
    fig = plots.product_grid([("$x_$", [PICTURE] * 4, captions)], title=TITLE)
    fig.canvas.draw()
    drawn = [ax.get_xlabel().replace("\n", " ") for ax in fig.axes]
    assert drawn[0] == captions[0]


def test_rows_of_a_grid_may_be_shorter():
    rows = [("a", [PICTURE] * 3, ["x"] * 3), ("b", [PICTURE], ["y"]), ("c", [], [])]
    fig = plots.product_grid(rows, title=TITLE)
    assert len(fig.axes) == 9
    assert sum(len(ax.images) for ax in fig.axes) == 4


def test_an_untuned_run_has_no_panel_for_validation():
    fig = plots.training_curves(HISTORY[["step", "loss"]], title=TITLE)
    assert len(fig.axes) == 1
    assert len(plots.training_curves(HISTORY, title=TITLE).axes) == 2


@pytest.mark.parametrize(("steps", "thin"), [(20, 0), (40, 1)])
def test_every_curve_of_a_training_run_is_in_its_legend(steps, thin):
    history = pd.DataFrame({"step": np.arange(steps), "loss": np.linspace(1, 0.1, steps)})
    ax = plots.training_curves(history, title=TITLE).axes[0]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == [line.get_label() for line in ax.lines]
    assert legend.count("training, each step") == thin


def test_empty_bins_are_not_drawn():
    fig = plots.calibration({"a": BINS}, title=TITLE)
    fig.canvas.draw()
    ticks = [tick.get_text() for tick in fig.axes[1].get_yticklabels(which="both")]
    assert any(ticks) and all("10^" not in text and "times" not in text for text in ticks)
    line = next(line for line in fig.axes[0].lines if line.get_label() == "a")
    assert line.get_xdata().tolist() == [0.2, 0.8]


@pytest.mark.parametrize("name", ["a", "a group whose name is long enough to fill the width"])
def test_the_legend_of_a_reliability_diagram_hides_nothing(name):
    fig = plots.calibration({name: BINS, f"{name}, again": BINS}, title=TITLE)
    fig.canvas.draw()
    (legend,) = fig.legends
    box = legend.get_window_extent()
    assert not any(ax.get_window_extent().overlaps(box) for ax in fig.axes)
    assert box.x0 >= 0
    assert box.x1 <= fig.bbox.x1


def test_a_sure_model_is_drawn_by_its_log_odds():
    table = pd.DataFrame({"predicted": [0.05, 0.98, 0.998], "observed": [0.1, 0.9, 1.0], "n": 9})
    top, bottom = plots.calibration({"a": table}, title=TITLE, logit=True).axes
    x = top.transData.transform(np.column_stack([table["predicted"], [0, 0, 0]]))[:, 0]
    log_odds = np.log(table["predicted"] / (1 - table["predicted"]))
    np.testing.assert_allclose((x - x[0]) / (x[2] - x[0]), (log_odds - log_odds[0])
                               / (log_odds[2] - log_odds[0]))  # fmt: skip
    perfect = top.lines[0]
    np.testing.assert_array_equal(perfect.get_xdata(), perfect.get_ydata())
    assert [tick.get_text() for tick in bottom.get_xticklabels()] == ["0.1", "0.5", "0.9", "0.99"]
    with pytest.raises(ValueError, match="above 0 and below 1"):
        plots.calibration({"a": table.assign(predicted=1.0)}, title=TITLE, logit=True)


def test_lengths_says_the_share_beyond_each_cut():
    fig = plots.lengths(np.arange(1, 101), title=TITLE, cuts=(90,))
    assert [text.get_text() for text in fig.axes[0].texts] == ["10.0% longer than 90"]


@pytest.mark.parametrize("values", [np.arange(200), np.arange(1_000)])
def test_no_line_strikes_a_label_of_a_cut(values):
    fig = plots.lengths(values, title=TITLE, cuts=(64, 128, 190))
    fig.canvas.draw()
    (ax,) = fig.axes
    for label in ax.texts:
        assert label.get_bbox_patch().get_facecolor() == (1, 1, 1, 1)
        assert label.get_zorder() > max(line.get_zorder() for line in ax.lines)
        assert label.get_window_extent().x1 <= ax.bbox.x1


def test_the_intervals_of_a_learning_curve_stand_side_by_side():
    (ax,) = plots.learning_curve(LEARNING, title=TITLE, ylabel="AUC").axes
    bars = [bar for bar in ax.collections if isinstance(bar, LineCollection)]
    places = [[segment[0, 0] for segment in bar.get_segments()] for bar in bars]
    heights = [[tuple(segment[:, 1]) for segment in bar.get_segments()] for bar in bars]
    assert np.allclose(heights, [[(0.6, 0.8), (0.75, 0.85)], [(0.5, 0.7), (0.7, 0.8)]])
    assert np.divide(*places) == pytest.approx(1 / 1.05)
    assert np.mean(np.log(places), axis=0) == pytest.approx(np.log([64, 256]))


def test_no_line_joins_two_sizes_across_one_that_others_have():
    rows = pd.concat([LEARNING, LEARNING[:1].assign(system="b", n=128)])
    (ax,) = plots.learning_curve(rows, title=TITLE, ylabel="AUC").axes
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    assert np.isnan(drawn["a"]).tolist() == [False, True, False]
    assert drawn["b"].tolist() == [0.6, 0.7, 0.75]


def test_the_line_of_chance_does_not_strike_the_legend():
    curve = dict.fromkeys("abc", (HALF, 1 - 0.2 * HALF))
    fig = plots.precision_recall(curve, title=TITLE, positive_share=0.18)
    fig.canvas.draw()
    (ax,) = fig.axes
    box = ax.get_legend().get_window_extent().transformed(ax.transData.inverted())
    assert not box.y0 < 0.18 < box.y1


def test_cells_carry_their_names():
    marks = [["TN", "FP"], ["FN", "TP"]]
    fig = plots.heatmap(CELLS, title=TITLE, xlabel="x", ylabel="y", marks=marks)
    assert [text.get_text() for text in fig.axes[0].texts] == ["TN 5", "FP 1", "FN 2", "TP 9"]


def test_equal_lengths_and_equal_estimates_are_drawn():
    plots.lengths(np.full(10, 7), title=TITLE).canvas.draw()
    same = FOREST.assign(value=0.5, low=0.5, high=0.5)
    plots.intervals(same, title=TITLE, xlabel="x").canvas.draw()
    plots.bars({"a": 0.0}, title=TITLE, xlabel="x").canvas.draw()
    plots.heatmap(CELLS * 0, title=TITLE, xlabel="x", ylabel="y").canvas.draw()


def test_a_named_line_of_reference_has_its_name_below_the_last_row():
    table = pd.concat([FOREST, FOREST.assign(name="c − b")], ignore_index=True)
    fig = plots.intervals(table, title=TITLE, xlabel="x", reference=0.02, reference_label="all")
    fig.canvas.draw()
    (ax,) = fig.axes
    (name,) = [text for text in ax.texts if text.get_text() == "all"]
    last_row = ax.transData.transform((0, len(table) - 1))[1]
    assert ax.bbox.y0 <= name.get_window_extent().y0
    assert name.get_window_extent().y1 < last_row
    assert name.xy[0] == 0.02


def test_a_band_lies_around_the_curve_it_is_given_for():
    band = {"b": (HALF - 0.1, HALF + 0.2)}
    fig = plots.lines(HALF, {"a": 0 * HALF, "b": HALF}, title=TITLE, xlabel="x", ylabel="y",
                      bands=band)  # fmt: skip
    (ax,) = fig.axes
    (drawn,) = ax.collections
    corners = drawn.get_paths()[0].vertices
    ends = [corners[corners[:, 0] == HALF[i], 1] for i in (0, 20)]
    assert [(end.min(), end.max()) for end in ends] == [
        pytest.approx((HALF[i] - 0.1, HALF[i] + 0.2)) for i in (0, 20)
    ]
    assert to_rgb(drawn.get_facecolor()[0][:3]) == to_rgb(plots.look(1)["color"])


def test_negative_bars_start_at_zero():
    fig = plots.bars({"a": -1.0, "b": 2.0}, title=TITLE, xlabel="x")
    low, high = fig.axes[0].get_xlim()
    assert low <= -1 < 2 <= high
    assert {bar.get_x() for bar in fig.axes[0].patches} == {0}


@pytest.mark.parametrize(
    ("value", "decimals", "signed", "printed"),
    [
        (-0.039, 2, False, "−0.04"),
        (-0.001, 2, True, "+0.00"),
        (-0.4, 0, False, "0"),
        (0.5, 1, True, "+0.5"),
    ],
)
def test_a_number_has_a_minus_and_none_before_a_zero(value, decimals, signed, printed):
    assert number(value, decimals, signed=signed) == printed


@pytest.mark.parametrize(
    ("span", "decimals"), [(120, 0), (4.5, 1), (1.2, 2), (0.2, 2), (0.05, 3), (1e-9, 4)]
)
def test_numbers_tell_fifteen_steps_of_their_range_apart(span, decimals):
    assert decimals_of(span) == decimals


def test_a_title_has_a_minus_where_a_number_begins_with_it():
    fig = plots.lines(Z, {"a": Z}, title="age 18-29: -0.04 [-.1, x-2]", xlabel="x", ylabel="y")
    assert fig.get_suptitle() == "age 18-29: −0.04 [−.1, x-2]"
