"""The pictures of explanations hold every number they were given, and say what is missing."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from recsys_lib import plots


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def curves(names=("integrated gradients", "random")):
    rows = [
        (name, curve, share, 0.9 - 0.1 * i, 0.85 - 0.1 * i, 0.95 - 0.1 * i)
        for i, name in enumerate(names)
        for curve in ("deletion", "insertion")
        for share in (0, 0.2, 1)
    ]
    return pd.DataFrame(rows, columns=["name", "curve", "share", "value", "low", "high"])


def test_erasure_curves_draw_each_method_in_both_panels():
    fig = plots.erasure_curves(curves(), title="Words matter", ylabel="probability")
    for ax in fig.axes:
        assert [line.get_label() for line in ax.lines] == ["integrated gradients", "random"]
        assert ax.lines[1].get_ydata().tolist() == pytest.approx([0.8] * 3)
        assert ax.lines[0].get_xdata()[[0, 2]].tolist() == [0, 2]  # the ends are not moved
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0%", "20%", "100%"]
    assert fig.axes[1].get_legend() is not None


def test_shares_that_lie_close_do_not_change_places():
    """5 % and 10 % of six methods: each stays nearer to its own tick than to the next one."""
    names = [f"method {i}" for i in range(6)]
    table = curves(names)
    closer = table[table["share"] == 0.2].assign(share=0.05)
    fig = plots.erasure_curves(pd.concat([table, closer]), title="T", ylabel="p")
    for line in fig.axes[0].lines:
        assert [round(x) for x in line.get_xdata()] == [0, 1, 2, 3]


def test_erasure_curves_name_a_missing_column():
    with pytest.raises(ValueError, match="lacks the column low"):
        plots.erasure_curves(curves().drop(columns="low"), title="t", ylabel="p")


def test_word_pairs_write_the_numbers_and_take_words_as_they_are():
    table = pd.DataFrame([[0.5, -0.25], [0.0, 0.001]], index=["$x^2$", "a"], columns=["b", "b"])
    fig = plots.word_pairs(table, title="Who met whom", label="added to the cosine")
    ax = fig.axes[0]
    assert sorted(text.get_text() for text in ax.texts) == ["0.50", "−0.25"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["$x^2$", "a"]
    assert not any(label.get_parse_math() for label in ax.get_yticklabels())
    image = ax.images[0]
    assert image.norm.vmin == -image.norm.vmax == -0.5
    fig.canvas.draw()


def test_word_pairs_refuse_what_is_no_number():
    for values in ([[np.nan]], np.zeros((0, 2))):
        with pytest.raises(ValueError, match="must hold numbers"):
            plots.word_pairs(pd.DataFrame(values), title="t", label="l")
