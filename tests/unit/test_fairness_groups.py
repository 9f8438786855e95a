"""Group tables and gaps against fairlearn, scikit-learn, scipy and data whose truth is planted."""

import numpy as np
import pandas as pd
import pytest
from fairlearn import metrics as fair
from scipy import stats
from sklearn import metrics as sk

from recsys_lib import metrics as ours
from recsys_lib.fairness import (
    MEASURES,
    band,
    calibration_by_group,
    correct,
    cross,
    gaps,
    group_table,
    mean_gaps,
    mean_table,
    readable,
    sensitive_groups,
)
from recsys_lib.metrics import holm
from recsys_lib.workbook import InputError

N = 1200


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(7)
    label = (rng.random(N) < 0.7).astype(int)
    prob = 1 / (1 + np.exp(-(2.2 * label - 0.8 + rng.normal(0, 1.5, N))))
    who = np.where(rng.random(N) < 0.25, "c", np.where(rng.random(N) < 0.5, "b", "a"))
    product = rng.integers(0, 200, N)
    return label, prob, who, product


# ---------------------------------------------------------------------- columns


def test_bands_have_names_and_edges_begin_a_band():
    ages = band([17, 29, 30, 44, 45, 99, None], (30, 45), name="age")
    assert ages.tolist()[:6] == ["under 30", "under 30", "30–44", "30–44", *["45 and over"] * 2]
    assert ages.isna().tolist() == [False] * 6 + [True]
    assert list(ages.cat.categories) == ["under 30", "30–44", "45 and over"]
    assert band([1.5, 2.5], (2, 4)).tolist() == ["under 2", "2 to <4"]
    assert band(["17", "18"], {"young": 0, "grown up": 18}).tolist() == ["young", "grown up"]
    cut = pd.cut([17, 29, 30, 44, 45, 99], [-np.inf, 30, 45, np.inf], right=False)
    assert (cut.codes == ages.cat.codes[:6]).all()
    large = band([1, 3_000_000], (1_234_567, 1_234_569), name="income").cat.categories
    assert list(large) == ["under 1234567", "1234569 and over"]


@pytest.mark.parametrize(
    ("values", "edges", "said"),
    [
        ([1, 2], (), "rising numbers"),
        ([1, 2], (3, 2), "rising numbers"),
        (["1", "many"], (2,), "'many'"),
        ([1, 5], {"five": 5}, "below the lowest band"),
        ([1, 2], 30, "rising numbers"),
        ([1, 2], ("a",), "rising numbers"),
    ],
)
def test_bad_bands_are_one_line(values, edges, said):
    with pytest.raises(InputError, match=said) as error:
        band(values, edges, name="age")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.linspace(0, 1, 40), "continuous .40 numbers .* give bands"),
        (
            [str(age) for age in range(18, 90)],
            "72 numbers from 18 to 89.: give bands, .* bands = .42, 65",
        ),
        ([f"customer {i}" for i in range(500)], "500 groups, at most 20"),
        (["x"] * 9, "one group only"),
        ([None, "", " ", "NaN"], "empty in all 4 rows"),
    ],
)
def test_unusable_columns_are_one_line_that_names_the_column(values, said):
    with pytest.raises(InputError, match=said) as error:
        sensitive_groups(values, name="region")
    assert '"region"' in str(error.value) and "\n" not in str(error.value)


def test_the_suggested_bands_work():
    ages = [str(age) for age in range(18, 90)]
    with pytest.raises(InputError) as error:
        sensitive_groups(ages, name="age")
    suggested = str(error.value).split("bands = ")[1].rstrip(".").strip("()").split(", ")
    assert sensitive_groups(ages, bands=[float(x) for x in suggested]).nunique() == 3


@pytest.mark.parametrize(
    "values", [[0] * 90 + list(range(1, 31)), np.linspace(1e-9, 1e-5, 40), [*range(40), np.inf]]
)
def test_suggested_bands_for_odd_columns_work_too(values):
    with pytest.raises(InputError, match="give bands") as error:
        sensitive_groups(values)
    suggested = str(error.value).split("bands = ")[1].rstrip(".").strip("(),").split(", ")
    assert sensitive_groups(values, bands=[float(x) for x in suggested]).nunique() >= 2


def test_missing_values_are_a_group_or_left_out(people):
    label, prob, who, _ = people
    holes = pd.Series(who).where(np.arange(N) % 10 > 0)
    group = sensitive_groups(holes, name="who")
    assert list(group.cat.categories) == ["a", "b", "c", "missing"]
    assert (group == "missing").sum() == N // 10
    left_out = sensitive_groups(holes, name="who", missing="drop")
    table = group_table(label, prob, left_out, metrics=["accuracy"], n=50)
    assert table["rows"].sum() == N - N // 10
    one = gaps(label, prob, left_out, metrics=["accuracy"], n=50, permutations=50).iloc[0]
    rest = holes.isin(["b", "c"]).to_numpy()
    assert one["second"] == pytest.approx(np.mean((prob >= 0.5)[rest] == label[rest]))


def test_numbers_sort_as_numbers_and_few_of_them_are_groups():
    assert list(sensitive_groups([10, 9, 10, 9.0]).cat.categories) == ["9", "10"]


def test_crossing_names_what_occurs():
    a = sensitive_groups(["x", "y", "y", "x"], name="age")
    b = sensitive_groups(["p", "q", "p", "p"], name="kind")
    both = cross(a, b)
    assert both.name == "age × kind"
    assert list(both.cat.categories) == ["x × p", "y × p", "y × q"]


# ------------------------------------------------------------------ group values


def test_values_are_those_of_fairlearn_and_scikit_learn(people):
    label, prob, who, product = people
    table = group_table(label, prob, who, metrics=list(MEASURES), groups=product, n=60)
    decided = (prob >= 0.5).astype(int)
    frame = fair.MetricFrame(
        metrics={
            "accuracy": sk.accuracy_score,
            "selection_rate": fair.selection_rate,
            "true_positive_rate": fair.true_positive_rate,
            "false_positive_rate": fair.false_positive_rate,
            "precision": sk.precision_score,
            "base_rate": lambda y, d: y.mean(),
        },
        y_true=label,
        y_pred=decided,
        sensitive_features=who,
    ).by_group
    for row in table.itertuples():
        mine = who == row.group
        y, p = label[mine], prob[mine]
        expected = {
            "auc": sk.roc_auc_score(y, p),
            "log_loss": sk.log_loss(y, p),
            "brier": sk.brier_score_loss(y, p),
            "mean_error": p.mean() - y.mean(),
            "calibration_error": ours.expected_calibration_error(y, p, 10),
        }
        if row.metric in frame:
            expected[row.metric] = frame.loc[row.group, row.metric]
        assert row.value == pytest.approx(expected[row.metric], abs=1e-12)
        assert row.low < row.value < row.high or row.metric == "calibration_error"
        assert row.rows == mine.sum() and row.units == len(set(product[mine]))


def test_the_interval_is_the_bootstrap_of_the_group(people):
    """Within one group the units drawn are as many as chance gives it, so the two bootstraps agree
    up to their Monte Carlo error: ends of 4,000 resamples within 6 % of the width."""
    label, prob, who, product = people
    table = group_table(label, prob, who, metrics=["auc", "accuracy"], groups=product, n=4000)
    for row in table[table["group"] == "a"].itertuples():
        mine = who == "a"
        alone = ours.bootstrap(
            label[mine], prob[mine], row.metric, groups=product[mine], n=4000, seed=3
        )
        width = alone.high - alone.low
        assert abs(row.low - alone.low) < 0.06 * width
        assert abs(row.high - alone.high) < 0.06 * width


def test_a_small_group_is_unknown_and_not_zero(people):
    label, prob, who, product = people
    who = who.astype(object)
    who[:3] = "lonely"
    table = group_table(label, prob, who, groups=product, n=60)
    lonely = table[table["group"] == "lonely"]
    assert not lonely["known"].any() and lonely["value"].isna().all()
    assert set(lonely["estimate"]) == {None}
    assert lonely["why"].iloc[0] == "3 rows, 20 needed"
    assert "unknown (3 rows, 20 needed)" in readable(table).loc["lonely", "accuracy"]
    found = gaps(label, prob, who, groups=product, n=60, permutations=99)
    mine = found[found["group"] == "lonely"]
    assert set(mine["verdict"]) == {"not testable"} and mine["p"].isna().all()
    assert found[found["kind"] == "range"]["comparison"].str.contains("lonely").sum() == 0


def test_one_member_and_one_class_are_unknown(people):
    label, prob, who, _ = people
    label, who = label.copy(), who.astype(object)
    who[0] = "alone"
    label[who == "c"] = 1
    table = group_table(label, prob, who, metrics=["accuracy", "auc", "false_positive_rate"], n=60)
    table = table.set_index(["metric", "group"])
    assert table.loc[("accuracy", "alone"), "why"] == "1 row, 20 needed"
    assert table.loc[("accuracy", "c"), "known"]
    assert table.loc[("auc", "c"), "why"] == "0 rows labeled 0, 20 needed"
    assert table.loc[("false_positive_rate", "c"), "why"] == "0 rows labeled 0, 20 needed"


def test_rows_of_too_few_units_are_unknown(people):
    label, prob, who, product = people
    product = np.where(who == "c", product % 4, product)
    table = group_table(label, prob, who, metrics=["accuracy"], groups=product, n=60)
    assert table.set_index("group").loc["c", "why"] == "rows from 4 independent units, 10 needed"


def test_a_rate_of_one_has_an_interval_of_some_width(people):
    label, prob, who, product = people
    sure = np.where((who == "c") & (label == 1), 0.99, prob)
    table = group_table(label, sure, who, metrics=["true_positive_rate"], groups=product, n=60)
    row = table[table["group"] == "c"].iloc[0]
    units = len(set(product[(who == "c") & (label == 1)]))
    expected = stats.binomtest(units, units).proportion_ci(method="wilson")
    assert (row["value"], row["high"]) == (1.0, 1.0)
    assert row["low"] == pytest.approx(expected.low, abs=1e-9)
    gap = gaps(label, sure, who, metrics=["true_positive_rate"], groups=product, n=60)
    gap = gap[gap["group"] == "c"].iloc[0]
    assert gap["low"] < gap["value"] < gap["high"] and "Newcombe" in gap["estimate"].method
    none = group_table(label, np.full(N, 0.1), who, metrics=["selection_rate"], n=20)
    assert (none["low"] == 0).all() and (none["high"] > 0).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metrics": ["acuracy"]}, 'Did you mean "accuracy"'),
        ({"metrics": []}, "metrics is empty"),
        ({"metrics": ["auc", "auc"]}, "names one twice"),
        ({"probs": ["high"] * N}, "probs must be numbers"),
        ({"level": 95}, "level = 95 must lie between"),
        ({"probs": np.full(N, 1.2)}, "probabilities from 0 to 1"),
        ({"labels": np.full(N, 2)}, "labels must be 0 or 1"),
        ({"sensitive": ["a", "b"]}, "2 rows"),
        ({"groups": ["p"] * N}, "one unit only"),
        ({"groups": [None, *range(N - 1)]}, "missing value in row 0"),
        ({"probs": np.zeros(N)}, "log loss is infinite"),
    ],
)
def test_bad_input_is_one_line(people, change, said):
    label, prob, who, product = people
    given = {"labels": label, "probs": prob, "sensitive": who, "groups": product} | change
    with pytest.raises(InputError, match=said) as error:
        group_table(**given, n=20)
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------- gaps


def test_ranges_are_the_differences_of_fairlearn(people):
    label, prob, who, product = people
    decided = (prob >= 0.5).astype(int)
    found = gaps(label, prob, who, groups=product, n=60, permutations=99)
    spans = found[found["kind"] == "range"].set_index("metric")
    data = {"y_true": label, "y_pred": decided, "sensitive_features": who}
    assert spans.loc["selection_rate", "value"] == pytest.approx(
        fair.demographic_parity_difference(**data), abs=1e-12
    )
    assert spans.loc["selection_rate", "ratio"] == pytest.approx(
        fair.demographic_parity_ratio(**data), abs=1e-12
    )
    rates = spans.loc[["true_positive_rate", "false_positive_rate"], "value"]
    assert rates.max() == pytest.approx(fair.equalized_odds_difference(**data), abs=1e-12)


def test_a_difference_is_the_group_less_all_others(people):
    label, prob, who, product = people
    found = gaps(label, prob, who, metrics=["auc"], groups=product, n=60, permutations=99)
    row = found[found["group"] == "b"].iloc[0]
    mine = who == "b"
    expected = sk.roc_auc_score(label[mine], prob[mine]) - sk.roc_auc_score(
        label[~mine], prob[~mine]
    )
    assert row["value"] == pytest.approx(expected, abs=1e-12)
    assert row["comparison"] == "b − rest"


def test_p_is_fishers_for_independent_rows(people):
    """With one row per unit the shuffle is Fisher's test of two shares, whose exact p scipy's
    hypergeometric law gives; 4,000 shuffles come within four standard errors of it."""
    label, prob, who, _ = people
    few = np.arange(N) % 6 == 0
    mine, right = (who == "b")[few], ((prob >= 0.5) == label)[few]
    names = np.where(mine, "b", "other")
    found = gaps(label[few], prob[few], names, metrics=["accuracy"], n=60, permutations=4000)
    assert len(found) == 1  # of two groups there is one comparison
    hits = np.arange(right.sum() + 1)
    law = stats.hypergeom(len(mine), mine.sum(), right.sum()).pmf(hits)
    gap = np.abs(hits / mine.sum() - (right.sum() - hits) / (~mine).sum())
    exact = law[gap >= abs(found["value"].iloc[0]) - 1e-12].sum()
    assert 0.01 < exact < 0.99
    assert abs(found["p"].iloc[0] - exact) < 4 * np.sqrt(exact * (1 - exact) / 4000)


def test_the_gap_interval_is_that_of_independent_shares(people):
    """Bootstrap of a difference of shares against the normal interval: the ends within 8 % of its
    width (4,000 resamples)."""
    label, prob, who, _ = people
    mine, right = who == "a", ((prob >= 0.5) == label).astype(float)
    row = gaps(label, prob, np.where(mine, "a", "other"), metrics=["accuracy"], n=4000,
               permutations=9).iloc[0]  # fmt: skip
    se = np.sqrt(right[mine].var() / mine.sum() + right[~mine].var() / (~mine).sum())
    sign = 1 if row["group"] == "a" else -1
    center = sign * (right[mine].mean() - right[~mine].mean())
    assert row["spread"] == pytest.approx(se, rel=0.06)
    assert row["low"] == pytest.approx(center - 1.96 * se, abs=0.08 * 4 * se)
    assert row["high"] == pytest.approx(center + 1.96 * se, abs=0.08 * 4 * se)


def test_a_range_is_tested_by_shuffles_and_not_by_its_interval():
    """Groups that mean nothing: the interval of the range never holds 0, its p value is right."""
    low, p = [], []
    for world in range(60):
        rng = np.random.default_rng([4, world])
        label = (rng.random(300) < 0.5).astype(int)
        prob = np.clip(0.5 + 0.2 * (label - 0.5) + rng.normal(0, 0.2, 300), 0.01, 0.99)
        who = rng.choice(list("abcd"), 300)
        found = gaps(label, prob, who, metrics=["accuracy"], n=100, permutations=199, seed=world)
        row = found[found["kind"] == "range"].iloc[0]
        low.append(row["low"])
        p.append(row["p"])
    assert min(low) > 0
    assert stats.kstest(p, "uniform").pvalue > 0.01


def _clustered(seed: int) -> tuple:
    """Labels that resemble each other within a product, and groups that prefer some products."""
    rng = np.random.default_rng([11, seed])
    product = np.repeat(np.arange(60), 10)
    liked, old = rng.normal(0, 3, 60)[product], rng.normal(0, 3, 60)[product]
    label = (rng.random(600) < 1 / (1 + np.exp(-liked))).astype(int)
    who = np.where(rng.random(600) < 1 / (1 + np.exp(-old)), "old", "young")
    return label, np.full(600, 0.6), who, product


def test_clustered_rows_raise_no_false_alarms():
    """Neither is age anything to the labels, but products differ in both. Counting rows as
    independent cries wolf far too often; by product the share is 5 % (binomial, 200 worlds)."""
    by_product, by_row = 0, 0
    for world in range(200):
        label, prob, who, product = _clustered(world)
        common = {"metrics": ["base_rate"], "n": 200, "permutations": 199, "seed": world}
        by_product += (gaps(label, prob, who, groups=product, **common)["p"] <= 0.05).sum()
        by_row += (gaps(label, prob, who, **common)["p"] <= 0.05).sum()
    low, high = stats.binom.interval(0.999, 200, 0.05)
    assert low <= by_product <= high
    assert by_row > 40


def test_units_of_one_group_swap_whole():
    """A shopper's reviews stay together: exact by enumeration of all 20 ways to pick 3 of 6."""
    from itertools import combinations

    shopper = np.repeat(np.arange(6), 12)
    rng = np.random.default_rng(2)
    label = (rng.random(72) < rng.random(6)[shopper]).astype(int)
    who = np.where(shopper < 3, "A", "B")
    row = gaps(label, np.full(72, 0.7), who, metrics=["base_rate"], groups=shopper, n=50,
               permutations=8000, min_units=3).iloc[0]  # fmt: skip
    rates = np.array([label[shopper == s].mean() for s in range(6)])
    ways = [np.isin(range(6), chosen) for chosen in combinations(range(6), 3)]
    every = np.array([rates[way].mean() - rates[~way].mean() for way in ways])
    exact = (np.abs(every) >= abs(row["value"]) - 1e-12).mean()
    assert abs(row["p"] - exact) < 4 * np.sqrt(exact * (1 - exact) / 8000) + 1 / 8000


def test_units_of_unequal_size_raise_no_false_alarms():
    """Few people with one row each among many with twenty: the spread of the few is their own.
    Without it one audit in five cries wolf (binomial, 200 worlds)."""
    alarms = 0
    for world in range(200):
        rng = np.random.default_rng([13, world])
        unit = np.r_[np.repeat(np.arange(100), 20), np.arange(100, 130)]
        who = np.where(unit < 100, "many", "few")
        value = (rng.random(len(unit)) < rng.beta(1.2, 1.2, 130)[unit]).astype(float)
        found = mean_gaps(value, who, groups=unit, n=200, permutations=199, seed=world)
        alarms += found["p"].iloc[0] <= 0.05
    assert stats.binom.cdf(alarms, 200, 0.05) < 0.999


def test_a_shuffle_without_a_class_counts_as_one_and_spoils_no_other():
    """Of 30 units 9 hold all labels 1; some shuffles leave a group without any."""
    unit = np.repeat(np.arange(30), 30)
    who = np.array(list("abc"))[unit // 10]
    label = (unit % 10 < 3).astype(int)
    rng = np.random.default_rng(5)
    chance = np.select([who == "a", who == "b"], [0.1, 0.5], 0.95)
    prob = np.where(rng.random(900) < chance, 0.9, 0.1)
    table = gaps(label, prob, who, groups=unit, metrics=["true_positive_rate"], min_units=3,
                 n=200, permutations=400)  # fmt: skip
    assert table[table["kind"] == "range"]["p"].item() < 0.2


@pytest.mark.filterwarnings("error")
def test_a_measure_that_nobody_has_is_not_testable_and_no_warning():
    who, rng = np.array(list("abc") * 60), np.random.default_rng(0)
    none = rng.uniform(0.1, 0.4, 180)  # nobody is decided 1
    found = gaps((none > 0.2).astype(int), none, who, metrics=["precision"], n=60)
    assert (found["verdict"] == "not testable").all()
    table = gaps(np.ones(180), rng.uniform(0.1, 0.9, 180), who, n=60, permutations=99)
    lacking = ["false_positive_rate", "auc"]
    assert set(table["metric"][~table["known"]]) == set(lacking)
    assert (table["verdict"][~table["known"]] == "not testable").all()


def test_holm_is_that_of_the_textbook_and_skips_the_untested():
    """scipy has no Holm; Benjamini-Hochberg bounds it from below, and the steps by hand."""
    p = np.array([0.01, 0.04, 0.03, np.nan, 0.005])
    np.testing.assert_allclose(holm(p), [0.03, 0.06, 0.06, np.nan, 0.02])
    rng = np.random.default_rng(0)
    many = rng.random(50) ** 3
    assert (holm(many) >= stats.false_discovery_control(many) - 1e-12).all()
    assert (holm(many) <= np.minimum(many * 50, 1) + 1e-12).all()


def test_put_together_tables_are_corrected_together(people):
    label, prob, who, product = people
    parts = [
        gaps(label, prob, column, metrics=["accuracy"], groups=product, n=60, permutations=99)
        for column in (who, np.where(product % 2, "x", "y"))
    ]
    whole = correct(pd.concat(parts, ignore_index=True))
    np.testing.assert_allclose(whole["p_holm"], holm(np.r_[parts[0]["p"], parts[1]["p"]]))
    assert (whole["detectable"].dropna() > pd.concat(parts)["detectable"].dropna().to_numpy()).all()


def test_a_gap_needs_a_small_p_and_an_interval_without_zero():
    table = pd.DataFrame(
        {"low": [0.1, -0.1, -0.3, 0.1], "high": [0.3, 0.3, -0.1, 0.3], "p": [0.001] * 3 + [0.4],
         "known": True, "null_spread": 0.1}
    )  # fmt: skip
    assert correct(table)["verdict"].tolist() == ["gap", "no gap shown", "gap", "no gap shown"]


def test_enough_shuffles_are_made_for_the_correction(people):
    label, prob, who, product = people
    planted = np.where((who == "c") & (label == 1), 0.1, prob)
    many = cross(sensitive_groups(who, name="who"), sensitive_groups(product % 4, name="floor"))
    found = gaps(label, planted, many, groups=product, n=100)
    assert found["p"].notna().sum() > 60
    assert (found["verdict"] == "gap").any()


def test_the_same_seed_gives_the_same_bits(people):
    label, prob, who, product = people
    one, two = (gaps(label, prob, who, groups=product, n=60, permutations=60) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)


# ------------------------------------------------- means per query, and calibration


def test_means_by_group_are_those_of_the_bootstrap_of_means():
    rng = np.random.default_rng(1)
    ndcg, band_ = rng.random(400), rng.choice(["18–29", "30–44"], 400)
    ndcg[band_ == "30–44"] *= 0.8
    table = mean_table(ndcg, band_, n=2000).set_index("group")
    alone = ours.bootstrap_mean(ndcg[band_ == "18–29"], n=2000)
    assert table.loc["18–29", "value"] == pytest.approx(alone.value)
    assert table.loc["18–29", "low"] == pytest.approx(alone.low, abs=0.006)
    found = mean_gaps(ndcg, band_, n=500).iloc[0]
    assert found["verdict"] == "gap" and found["high"] < 0
    welch = stats.ttest_ind(ndcg[band_ == "30–44"], ndcg[band_ == "18–29"], equal_var=False)
    assert found["spread"] == pytest.approx(welch._standard_error, rel=0.1)
    with pytest.raises(InputError, match="finite number per row"):
        mean_table([np.nan, 1.0], ["a", "b"])


def test_calibration_within_groups(people):
    label, prob, who, _ = people
    who = who.astype(object)
    who[:3] = "lonely"
    tables = calibration_by_group(label, prob, who)
    assert list(tables) == ["a", "b", "c"]
    mine = who == "a"
    assert tables["a"]["n"].sum() == mine.sum()
    total = (tables["a"]["observed"] * tables["a"]["n"]).sum()
    assert total == pytest.approx(label[mine].sum())
    with pytest.raises(InputError, match="no group has 5000 rows"):
        calibration_by_group(label, prob, who, min_rows=5000)
