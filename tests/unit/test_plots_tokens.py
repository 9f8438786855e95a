"""The figure of words with their values."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from recsys_lib import plots


@pytest.fixture(autouse=True)
def style():
    plots.use_style()
    yield
    plt.close("all")


def parts(fig):
    """Per word in order: its background and its bar (None where there is none)."""
    ax = fig.axes[0]
    boxes = [p for p in ax.patches if isinstance(p, Rectangle)]
    found = []
    for box in boxes:
        if to_hex(box.get_facecolor()) == "#000000":
            found[-1][1] = box
        else:
            found.append([box, None])
    return found


def words_of(fig) -> list[str]:
    return [text.get_text() for text in fig.axes[0].texts]


def test_sign_and_strength_can_be_read_without_colors():
    fig = plots.token_heatmap([["good", "bad", "so", "so-so"]], [[2, -4, 0, 1]], title="T")
    (good, up), (bad, down), (_, none), (_, small) = parts(fig)
    assert none is None
    # The vertical axis points down: what is above has the smaller y.
    assert up.get_y() + up.get_height() <= good.get_y() + 1e-6
    assert down.get_y() >= bad.get_y() + bad.get_height() - 1e-6
    heights = [bar.get_height() for bar in (up, down, small)]
    np.testing.assert_allclose(np.array(heights) / heights[1], [0.5, 1, 0.25])


def test_one_scale_for_all_texts_and_it_is_shown():
    fig = plots.token_heatmap([["bad"], ["bad", "good"]], [[-4], [-2, 2]], title="T")
    colors = [to_hex(box.get_facecolor()) for box, _ in parts(fig)]
    assert len(set(colors)) == 3, "a value has the same color in every text, others have others"
    ticks = [tick.get_text() for tick in fig.axes[1].get_xticklabels()]
    assert ticks == ["−4.00", "0", "+4.00"]
    assert fig.axes[1].get_xlabel() == "added to the log-odds"
    beyond = plots.token_heatmap([["a", "b"]], [[1, 5]], title="T", limit=1)
    (a, _), (b, _) = parts(beyond)
    assert a.get_facecolor() == b.get_facecolor()


def test_words_wrap_inside_the_figure_and_keep_their_order():
    words = ["fabulous"] * 60
    fig = plots.token_heatmap([words], [np.ones(60)], title="T", width=5)
    boxes = [box for box, _ in parts(fig)]
    assert words_of(fig) == words
    places = [(box.get_y(), box.get_x()) for box in boxes]
    assert places == sorted(places) and len({y for y, _ in places}) > 3
    fig.canvas.draw()
    renderer = fig.canvas.get_renderer()
    right = fig.axes[0].get_window_extent().x1
    assert all(text.get_window_extent(renderer).x1 <= right for text in fig.axes[0].texts)
    taller = plots.token_heatmap([words * 2], [np.ones(120)], title="T", width=5)
    assert taller.get_figheight() > fig.get_figheight()


def test_neighbors_do_not_overlap():
    fig = plots.token_heatmap([["wide", "i", "WWWW", "."]], [[1, -1, 1, -1]], title="T")
    fig.canvas.draw()
    renderer = fig.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in fig.axes[0].texts]
    gaps = [b.x0 - a.x1 for a, b in itertools.pairwise(boxes)]
    assert min(gaps) > 0


def test_text_is_drawn_as_it_is_and_names_stand_over_it():
    fig = plots.token_heatmap(
        [["$x_", "a\nb"], ["c"]], [[1, 2], [3]], title="T", names=["score $5$", "second"]
    )
    assert set(words_of(fig)) == {"$x_", "a b", "c", "score $5$", "second"}
    assert not any(text.get_parse_math() for text in fig.axes[0].texts)
    fig.canvas.draw()


def test_words_without_any_effect_can_be_drawn():
    fig = plots.token_heatmap([["so"]], [[0.0]], title="T")
    assert parts(fig)[0][1] is None


@pytest.mark.parametrize(
    ("texts", "values", "options", "message"),
    [
        ([], [], {}, "there is no word to show"),
        (["one string"], [[1]], {}, "must be a list of words"),
        ([["a", "b"]], [[1]], {}, "text 0 has 2 words and 1 values"),
        ([["a"]], [[1], [2]], {}, "must be equally many"),
        ([["a"]], [[1]], {"names": ["x", "y"]}, "must be equally many"),
        ([["a"]], [[np.nan]], {}, "text 0 has a value that is not a number"),
        ([["a"]], [[1]], {"limit": -1}, "limit=-1 must be a number above 0"),
    ],
)
def test_bad_input_is_one_clear_line(texts, values, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        plots.token_heatmap(texts, values, title="T", **options)
    assert "\n" not in str(caught.value)
