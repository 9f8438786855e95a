"""The pictures of rankings draw the numbers they were given, name all, and cover nothing."""

from itertools import combinations, pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from recsys_lib import plots
from recsys_lib.plots import labels
from recsys_lib.search.index import compare_indexes

TITLE = "One finding in a sentence"
SYSTEMS = [
    "BM25, names",
    "BM25, names and attributes",
    "MiniLM as it comes",
    "bi-encoder, fine-tuned",
    "bi-encoder, mined hard negatives",
    "cross-encoder re-ranking the top 20",
    "cross-encoder re-ranking the top 100",
    "reciprocal rank fusion (BM25 + bi-encoder)",
    "LambdaMART over lexical, dense and catalog features",
    "a shop's own order, from $5 to $9",
]
QUALITY = pd.DataFrame(
    {
        "name": SYSTEMS,
        "latency": [0.9, 1.1, 6.2, 6.3, 6.25, 140, 690, 7.9, 18, 0.5],
        "value": [0.346, 0.407, 0.529, 0.838, 0.845, 0.871, 0.874, 0.80, 0.86, 0.346],
    }
).assign(low=lambda t: t["value"] - 0.018, high=lambda t: t["value"] + 0.018)
PICTURE = np.full((80, 60, 3), 200, dtype=np.uint8)
nan = np.nan


@pytest.fixture(autouse=True)
def style():
    plots.use_style()
    yield
    plt.close("all")


def texts(ax) -> list[str]:
    return [text.get_text().replace("\n", " ") for text in ax.texts if text.get_text()]


def boxes(fig, ax) -> list:
    """Of the letters alone: an annotation's own box has its line in it."""
    fig.canvas.draw()
    renderer = fig.canvas.get_renderer()
    return [Text.get_window_extent(text, renderer) for text in ax.texts if text.get_text()]


def overlap(a, b) -> bool:
    """Whether two boxes share more than a pixel in both directions."""
    wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return wide > 1 and high > 1


# --- win_loss -------------------------------------------------------------------------------------


def test_wins_and_losses_are_sorted_and_counted():
    differences = np.array([0.2, -0.5, 0, nan, 0.7, 0, 0])
    fig = plots.win_loss(differences, title=TITLE, names=("old", "new"), metric="NDCG@10")
    (ax,) = fig.axes
    wins, losses = (patch.get_data().values for patch in ax.patches)
    assert wins.tolist() == [0.7, 0.2, 0, 0, 0, 0]
    assert losses.tolist() == [0, 0, 0, 0, 0, -0.5]
    assert texts(ax) == ["new better in 2", "old better in 1", "same in 3"]
    (ties,) = ax.collections
    assert ties.get_segments()[0].tolist() == [[2, 0], [5, 0]]
    assert ax.get_xlabel().startswith("6 queries")
    assert "1 without a value" in ax.get_xlabel()
    assert ax.get_ylabel() == "difference in NDCG@10"


def test_losses_differ_from_wins_without_color():
    fig = plots.win_loss([1, -1], title=TITLE, names=("a", "b"), metric="AP")
    wins, losses = fig.axes[0].patches
    assert not wins.get_hatch()
    assert losses.get_hatch()


def test_the_mean_stands_with_its_interval():
    mean = (0.031, 0.0305, -0.0315)
    fig = plots.win_loss([0.1, -0.1], title=TITLE, names=("a", "b"), metric="AP", mean=mean)
    assert texts(fig.axes[0])[-1] == "mean +0.031 [+0.030, −0.032]"
    assert [line.get_ydata().tolist() for line in fig.axes[0].lines[-2:]] == [
        [0.0305, -0.0315],
        [0.031],
    ]


@pytest.mark.parametrize("differences", [np.zeros(5), [1.0], [-1.0], np.linspace(-1, 1, 5_000)])
def test_the_counts_stand_clear_of_the_areas_and_of_each_other(differences):
    names = ("a bi-encoder with a long name", "a cross-encoder with a long name")
    fig = plots.win_loss(differences, title=TITLE, names=names, metric="AP")
    (ax,) = fig.axes
    found = boxes(fig, ax)
    assert not any(overlap(a, b) for a, b in combinations(found, 2))
    reach = ax.transData.transform([(0, min(*differences, 0)), (0, max(*differences, 0))])[:, 1]
    better, worse, same = found
    assert better.y0 > reach[1] - 1
    assert worse.y1 < reach[0] + 1
    wins, losses = (np.sum(np.sign(differences) == sign) for sign in (1, -1))
    ties = ax.transData.transform([(wins, 0), (len(differences) - losses, 0)])
    above = same.y0 > ties[0, 1] and same.x0 > ties[0, 0] - 1  # behind the wins: nothing is there
    below = same.y1 < ties[0, 1] and same.x1 < ties[1, 0] + 1
    assert above or below
    assert min(abs(same.y0 - ties[0, 1]), abs(same.y1 - ties[0, 1])) < 15
    frame = ax.get_window_extent()
    assert frame.x0 - 1 < same.x0 < same.x1 < frame.x1 + 1


@pytest.mark.parametrize(("bad", "words"), [([[1.0]], "shape"), ([nan], "no query"), ([], "no qu")])
def test_differences_that_cannot_be_drawn(bad, words):
    with pytest.raises(ValueError, match=words) as error:
        plots.win_loss(bad, title=TITLE, names=("a", "b"), metric="AP")
    assert "\n" not in str(error.value)


# --- discounts ------------------------------------------------------------------------------------


def test_discounts_are_drawn_and_named_at_their_ends():
    ranks = np.arange(1, 21)
    weights = pd.DataFrame(
        {
            "NDCG": 1 / np.log2(ranks + 1),
            "reciprocal rank": 1 / ranks,
            "precision@10": np.where(ranks <= 10, 0.1, nan),
            "RBP, p = $0.8$": 0.2 * 0.8 ** (ranks - 1),
            "ERR": 0.875 / ranks,
        },
        index=ranks,
    )
    fig = plots.discounts(weights, title=TITLE)
    (ax,) = fig.axes
    for name, line in zip(weights, ax.lines, strict=False):
        np.testing.assert_array_equal(line.get_ydata(), weights[name])
    assert texts(ax) == list(weights)
    ends = {text.get_text(): text.xy for text in ax.texts}
    assert ends["precision@10"] == (10, 0.1)
    found = boxes(fig, ax)
    assert not any(overlap(a, b) for a, b in combinations(found, 2))
    assert all(box.x0 > ax.get_window_extent().x1 for box in found)


def test_a_name_keeps_the_order_of_its_curve():
    weights = pd.DataFrame({name: [1, level] for name, level in zip("abc", (0, 2, 1), strict=True)})
    fig = plots.discounts(weights.set_axis([1, 2]), title=TITLE)
    height = {text.get_text(): text.xyann[1] for text in fig.axes[0].texts}
    assert height["a"] < height["c"] < height["b"]


@pytest.mark.parametrize("index", [[0, 1], [2, 1], [1, 1]])
def test_ranks_must_rise_from_one(index):
    with pytest.raises(ValueError, match="ranks that rise"):
        plots.discounts(pd.DataFrame({"a": [1, 2]}, index=index), title=TITLE)
    with pytest.raises(ValueError, match="no weights"):
        plots.discounts(pd.DataFrame({"a": [nan, nan]}, index=[1, 2]), title=TITLE)


# --- quality_against_latency ----------------------------------------------------------------------


def test_the_front_holds_who_is_not_beaten():
    fig = plots.quality_against_latency(QUALITY, title=TITLE)
    step, front, others = fig.axes[0].lines
    best = {
        b["name"]
        for _, b in QUALITY.iterrows()
        if not any(
            (a["value"] > b["value"] and a["latency"] <= 1.1 * b["latency"])
            or (a["value"] == b["value"] and a["latency"] < b["latency"])
            for _, a in QUALITY.iterrows()
        )
    }
    assert "MiniLM as it comes" not in best  # the fastest of three that take nearly the same time
    at = QUALITY.set_index("name").sort_values("latency")
    filled = at[at.index.isin(best)]
    assert front.get_xdata().tolist() == filled["latency"].tolist()
    assert others.get_xdata().tolist() == at[~at.index.isin(best)]["latency"].tolist()
    assert step.get_ydata().tolist() == [*filled["value"], filled["value"].iloc[-1]]
    assert others.get_markerfacecolor() == "white" != front.get_markerfacecolor()
    (bars,) = fig.axes[0].collections
    np.testing.assert_allclose([s[:, 1] for s in bars.get_segments()], at[["low", "high"]])


def test_the_picture_says_what_is_filled():
    fig = plots.quality_against_latency(QUALITY, title=TITLE)
    (legend,) = fig.legends
    handles, words = legend.legend_handles, [text.get_text() for text in legend.get_texts()]
    assert [word.split(",")[0].split(":")[0] for word in words] == ["filled", "hollow"]
    assert [handle.get_markerfacecolor() == "white" for handle in handles] == [False, True]


def test_names_of_like_latencies_stand_in_a_column_at_their_heights():
    values = [0.525, 0.554, 0.569, 0.61, 0.635]
    names = [f"ranker of {value}" for value in values]
    crowd = pd.DataFrame({"name": names, "latency": [14.5, 14.8, 14.5, 14.7, 14.7]})
    fast = pd.DataFrame({"name": ["keywords"], "latency": [0.2], "value": [0.38]})
    table = pd.concat([fast, crowd.assign(value=values)], ignore_index=True)
    fig = plots.quality_against_latency(table, title=TITLE)
    (ax,) = fig.axes
    found = dict(zip(texts(ax), boxes(fig, ax), strict=True))
    column = [found[name] for name in names]
    assert np.ptp([box.x1 for box in column]) < 1  # pixels
    assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(column))
    for box, (x, y) in zip(column, ax.transData.transform(crowd.assign(value=values).iloc[:, 1:]),
                           strict=True):  # fmt: skip
        assert box.x1 < x
        assert abs((box.y0 + box.y1) / 2 - y) < 30


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_ten_names_cover_neither_one_another_nor_a_dot(seed):
    rng = np.random.default_rng(seed)
    table = QUALITY if seed is None else QUALITY.assign(latency=10 ** rng.uniform(-1, 3, 10))
    fig = plots.quality_against_latency(table, title=TITLE)
    (ax,) = fig.axes
    assert sorted(texts(ax)) == sorted(SYSTEMS)
    found = boxes(fig, ax)
    assert not any(overlap(a, b) for a, b in combinations(found, 2))
    for x, y in ax.transData.transform(table[["latency", "value"]]):
        assert not any(b.x0 < x < b.x1 and b.y0 < y < b.y1 for b in found)
    frame = ax.get_window_extent()
    assert all(b.x0 > frame.x0 - 1 and b.x1 < frame.x1 + 1 for b in found)
    assert all(b.y0 > frame.y0 - 1 and b.y1 < frame.y1 + 1 for b in found)


def test_the_same_names_stand_in_the_same_places():
    places = []
    for _ in range(2):
        fig = plots.quality_against_latency(QUALITY, title=TITLE)
        places.append([text.xyann for text in fig.axes[0].texts])
    assert np.array_equal(*places)


def test_what_was_not_measured_is_named_below():
    table = QUALITY.assign(value=[nan, *QUALITY["value"][1:]]).drop(columns=["low", "high"])
    table.index = [0] * len(table)
    fig = plots.quality_against_latency(table, title=TITLE)
    assert fig.axes[0].get_xlabel().endswith("not measured: BM25, names")
    assert len(texts(fig.axes[0])) == 9
    assert not fig.axes[0].collections


def test_latencies_that_no_logarithm_has():
    with pytest.raises(ValueError, match="above 0; got -1"):
        plots.quality_against_latency(QUALITY.assign(latency=-1.0), title=TITLE)
    with pytest.raises(ValueError, match="no system has both"):
        plots.quality_against_latency(QUALITY.assign(latency=nan), title=TITLE)
    with pytest.raises(ValueError, match="lacks the column latency, value"):
        plots.quality_against_latency(QUALITY[["name"]], title=TITLE)
    with pytest.raises(ValueError, match="no rows"):
        plots.quality_against_latency(QUALITY[:0], title=TITLE)


# --- index_tradeoff -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((600, 16)).astype(np.float32)
    return compare_indexes(vectors, vectors[:20], sizes=(300, 600), rounds=3)


@pytest.mark.parametrize("latency", ["ms_median", "ms_p95", "ms_batch"])
def test_an_index_is_drawn_as_it_was_measured(compared, latency):
    fig = plots.index_tradeoff(compared, title=TITLE, latency=latency)
    fig.canvas.draw()
    for ax, bottom, size in zip(fig.axes[:2], fig.axes[2:], (300, 600), strict=True):
        here = compared[compared["vectors"] == size]
        assert ax.get_title(loc="left") == f"{size} vectors"
        for line, kind in zip(ax.lines, ("exact", "flat", "ivf", "hnsw"), strict=False):
            rows = here[here["index"] == kind].sort_values("breadth")
            assert line.get_xdata().tolist() == rows[latency].tolist()
            assert line.get_ydata().tolist() == rows["recall"].tolist()
        numbers = [f"{breadth}" for breadth in here["breadth"] if breadth]
        assert sorted(texts(ax)) == sorted(numbers)
        widths = [bar.get_width() for bar in bottom.patches]
        assert widths == here.groupby("index", sort=False)["megabytes"].first().tolist()
        assert len(texts(bottom)) == 4
        assert "s" not in texts(bottom)[0].split("MB")[1]  # nothing to build


def test_memory_and_time_are_written_with_their_units(compared):
    for seconds, text in [(0.25, "0.25 s"), (0.0001, "<0.001 s"), (71.4, "71 s")]:
        table = compared.assign(megabytes=1536.4, build_seconds=seconds)
        fig = plots.index_tradeoff(table, title=TITLE)
        assert set(texts(fig.axes[2])) == {f"1,536 MB, {text}"}


def test_indexes_that_cannot_be_drawn(compared):
    with pytest.raises(ValueError, match="ms_median, ms_p95, ms_batch"):
        plots.index_tradeoff(compared, title=TITLE, latency="seconds")
    with pytest.raises(ValueError, match="'lsh' is none of exact, flat, ivf, hnsw"):
        plots.index_tradeoff(compared.assign(index="lsh"), title=TITLE)
    with pytest.raises(ValueError, match="must be above 0"):
        plots.index_tradeoff(compared.assign(ms_median=0.0), title=TITLE)
    with pytest.raises(ValueError, match="lacks the column megabytes"):
        plots.index_tradeoff(compared.drop(columns="megabytes"), title=TITLE)


# --- rankings_side_by_side ------------------------------------------------------------------------


def luminance(color) -> float:
    return float(np.array(to_rgb(color)) @ [0.2126, 0.7152, 0.0722])


def test_products_stand_in_their_row_and_rank_with_their_grades():
    rows = [[PICTURE, None, PICTURE], [PICTURE], []]
    grades = [[3, nan, 1], [0], []]
    cards = [["", "coat from $99 to $120", ""], [""], []]
    fig = plots.rankings_side_by_side(rows, grades, ["a", "$b$", "c"], title=TITLE, texts=cards)
    fig.canvas.draw()
    (ax,) = fig.axes
    centers = [(np.mean(i.get_extent()[:2]), np.mean(i.get_extent()[2:])) for i in ax.images]
    np.testing.assert_allclose(centers, [(1.5, 2), (7.5, 2), (1.5, 6)])
    assert texts(ax) == ["3", "coat from $99 to $120", "?", "1", "0"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "$b$", "c"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "2", "3"]


def test_a_picture_keeps_its_shape():
    wide = np.zeros((10, 40, 3), dtype=np.uint8)
    fig = plots.rankings_side_by_side([[wide]], [[0]], ["a"], title=TITLE)
    left, right, bottom, top = fig.axes[0].images[0].get_extent()
    assert (right - left) / abs(top - bottom) == pytest.approx(4)
    assert fig.axes[0].get_aspect() == 1


def test_a_better_grade_has_a_darker_and_thicker_frame():
    fig = plots.rankings_side_by_side([[PICTURE] * 4], [[0, 1, 2, 3]], ["a"], title=TITLE)
    frames = fig.axes[0].patches
    light = [luminance(frame.get_edgecolor()) for frame in frames]
    assert all(before - after > 0.12 for before, after in pairwise(light))
    assert [frame.get_linewidth() for frame in frames] == [1, 2, 3, 4]


@pytest.mark.parametrize("columns", [1, 10])
def test_the_legend_says_what_a_grade_means_and_fits(columns):
    scale = ["Irrelevant", "Partial, or much like $5", "Exact"]
    fig = plots.rankings_side_by_side(
        [[PICTURE] * columns], [[2] * columns], ["a"], title=TITLE, scale=scale
    )
    fig.canvas.draw()
    (legend,) = fig.legends
    assert [t.get_text() for t in legend.get_texts()] == [f"{g}: {m}" for g, m in enumerate(scale)]
    box = legend.get_window_extent(fig.canvas.get_renderer())
    assert box.x0 >= 0
    assert box.x1 <= fig.bbox.width


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"grades": [[4]]}, "a at rank 1 has the grade 4, not one of 0 … 3"),
        ({"grades": [[0.5]]}, "has the grade 0.5"),
        ({"grades": [[1, 2]]}, "a has 1 pictures, 2 grades"),
        ({"grades": []}, "equally many"),
        ({"pictures": [[None]]}, "neither a picture nor a text"),
        ({"pictures": [[PICTURE[0]]]}, "must be \\(height, width, 3\\)"),
        ({"pictures": [[]], "grades": [[]]}, "no product"),
    ],
)
def test_rankings_that_cannot_be_drawn(change, words):
    arguments = {"pictures": [[PICTURE]], "grades": [[1]], "names": ["a"]} | change
    with pytest.raises(ValueError, match=words) as error:
        plots.rankings_side_by_side(**arguments, title=TITLE)
    assert "\n" not in str(error.value)
    assert not plt.get_fignums()


# --- grouped_intervals ----------------------------------------------------------------------------


def grouped(groups: list[str], names: list[str]) -> pd.DataFrame:
    rows = [
        (group, name, 0.1 * i + 0.05 * j, 40 + j)
        for j, group in enumerate(groups)
        for i, name in enumerate(names)
    ]
    table = pd.DataFrame(rows, columns=["group", "name", "value", "n"])
    return table.assign(low=table["value"] - 0.01, high=table["value"] + 0.02)


def test_each_group_has_its_panel_with_its_n():
    groups = ["synonym", "typo under $5", "from $1 to $2", "picture"]
    table = grouped(groups, SYSTEMS)
    table.loc[table.index[-1], ["value", "low", "high"]] = nan
    table.loc[table.index[0], "n"] = 38
    fig = plots.grouped_intervals(table, title=TITLE, xlabel="NDCG@10")
    fig.canvas.draw()
    shown = [ax for ax in fig.axes if ax.get_visible()]
    titles = [ax.get_title(loc="left").splitlines() for ax in shown]
    assert titles == [[groups[0], "n = 38–40"]] + [
        [g, f"n = {40 + j}"] for j, g in enumerate(groups) if j
    ]
    for ax, (_, rows) in zip(shown, table.groupby("group", sort=False), strict=True):
        *_, dots = ax.lines
        np.testing.assert_array_equal(dots.get_xdata(), rows["value"])
        ends = [s[:, 0] for s in ax.collections[0].get_segments() if len(s)]
        np.testing.assert_array_equal(ends, rows[["low", "high"]].dropna())
        assert len(texts(ax)) == len(SYSTEMS)
    assert texts(shown[-1])[-1] == "–"
    names = [tick.get_text().replace("\n", " ") for tick in shown[0].get_yticklabels()]
    assert names[0] == SYSTEMS[0]
    assert names[-1] == SYSTEMS[-1]
    assert [bool(ax.get_xlabel()) for ax in shown] == [False, True, True, True]


def test_names_of_two_lines_do_not_touch():
    fig = plots.grouped_intervals(grouped(["a"], SYSTEMS), title=TITLE, xlabel="x")
    fig.canvas.draw()
    labels = [tick.get_window_extent() for tick in fig.axes[0].get_yticklabels()]
    assert not any(overlap(a, b) for a, b in combinations(labels, 2))


def test_a_system_without_a_group_leaves_its_line_empty():
    table = grouped(["typo", "synonym"], ["a", "b"]).iloc[:3]
    fig = plots.grouped_intervals(table, title=TITLE, xlabel="x", reference=0)
    assert texts(fig.axes[0]) == ["+0.000", "+0.100"]
    assert texts(fig.axes[1]) == ["+0.050", "–"]


def test_the_decimals_of_the_values_may_be_given():
    table = grouped(["typo"], ["a", "b"])
    fig = plots.grouped_intervals(table, title=TITLE, xlabel="x", reference=0, decimals=1)
    assert texts(fig.axes[0]) == ["+0.0", "+0.1"]


def test_groups_that_cannot_be_drawn():
    table = grouped(["typo"], ["a", "b"])
    with pytest.raises(ValueError, match="a stands in typo more than once"):
        plots.grouped_intervals(pd.concat([table, table]), title=TITLE, xlabel="x")
    with pytest.raises(ValueError, match="lacks the column n"):
        plots.grouped_intervals(table.drop(columns="n"), title=TITLE, xlabel="x")
    with pytest.raises(ValueError, match="no row has a value"):
        plots.grouped_intervals(table.assign(value=nan), title=TITLE, xlabel="x")


# --- few_shot -------------------------------------------------------------------------------------


def test_every_draw_and_the_means_are_drawn():
    draws = pd.DataFrame(
        {
            "method": ["probe"] * 4 + ["tuned"] * 4,
            "n": [1, 1, 20, 20] * 2,
            "value": [0.3, 0.5, 0.8, nan, 0.1, 0.2, 0.9, 0.7],
        }
    )
    fig = plots.few_shot(draws, title=TITLE, levels={"all $1 to $9": 0.93})
    (ax,) = fig.axes
    probe, probe_mean, tuned, tuned_mean, level = ax.lines[:5]
    assert probe.get_ydata().tolist() == [0.3, 0.5, 0.8]
    np.testing.assert_allclose(probe_mean.get_ydata(), [0.4, 0.8])
    np.testing.assert_allclose(tuned_mean.get_ydata(), [0.15, 0.8])
    assert probe.get_marker() != tuned.get_marker()
    assert probe_mean.get_linestyle() != tuned_mean.get_linestyle()
    assert probe.get_xdata()[0] < 1 < tuned.get_xdata()[0]  # apart, around their n
    assert set(level.get_ydata()) == {0.93}
    assert texts(ax) == ["probe", "tuned", "all $1 to $9"]
    assert not any(overlap(a, b) for a, b in combinations(boxes(fig, ax), 2))
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "20"]
    assert "1–2 draws each" in ax.get_xlabel()


def test_draws_that_cannot_be_drawn():
    draws = pd.DataFrame({"method": ["a"], "n": [0], "value": [0.5]})
    with pytest.raises(ValueError, match="n must be above 0; got 0"):
        plots.few_shot(draws, title=TITLE)
    with pytest.raises(ValueError, match="no draw has a value"):
        plots.few_shot(draws.assign(value=nan), title=TITLE)


# --- names ----------------------------------------------------------------------------------------


def test_spread_moves_texts_apart_as_little_as_possible():
    free = labels.spread(np.array([50, 10]), np.array([8, 8]), 0, 100)
    assert free.tolist() == [50, 10]
    together = labels.spread(np.array([50, 50, 50]), np.array([10, 10, 10]), 0, 100)
    np.testing.assert_allclose(together, [40, 50, 60])
    uneven = labels.spread(np.array([50, 50]), np.array([10, 20]), 0, 100)
    np.testing.assert_allclose(uneven, [42.5, 57.5])
    pressed = labels.spread(np.array([99, 100]), np.array([10, 10]), 0, 100)
    np.testing.assert_allclose(pressed, [90, 100])


def test_wrap_keeps_line_breaks_and_marks_what_is_cut():
    assert labels.wrap("BM25\nNDCG 0.35", 18) == "BM25\nNDCG 0.35"
    assert labels.wrap("one two three four", 7, 2) == "one two\nthree …"
    assert labels.wrap("", 5) == ""
    assert labels.wrap(7, 5) == "7"


PRICES = "from $1 to $2"


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.win_loss([1.0], title=TITLE, names=(PRICES, PRICES), metric="AP"),
        lambda: plots.discounts(pd.DataFrame({PRICES: [1.0]}, index=[1]), title=TITLE),
        lambda: plots.quality_against_latency(
            QUALITY.assign(name=PRICES, value=[nan, *QUALITY["value"][1:]]), title=TITLE
        ),
        lambda: plots.rankings_side_by_side(
            [[None]], [[1]], [PRICES], title=TITLE, texts=[[PRICES]], scale=[PRICES] * 2
        ),
        lambda: plots.grouped_intervals(grouped([PRICES], [PRICES]), title=TITLE, xlabel="x"),
        lambda: plots.few_shot(
            pd.DataFrame({"method": [PRICES], "n": 1, "value": 0.5}),
            title=TITLE,
            levels={PRICES: 0.9},
        ),
    ],
    ids=["win_loss", "discounts", "quality", "rankings", "grouped", "few_shot"],
)
def test_a_name_with_dollars_is_no_formula(draw):
    fig = draw()
    fig.canvas.draw()
    drawn = [text for text in fig.findobj(Text) if text.get_text().count("$") > 1]
    assert drawn
    assert not [text for text in drawn if text.get_parse_math()]
