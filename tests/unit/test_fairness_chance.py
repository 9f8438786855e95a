"""p values by shuffling: laws that are known, scipy's enumeration, and intervals that hold."""

import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from recsys_lib.fairness import audit, correct, gaps, mean_gaps
from recsys_lib.fairness.chance import (
    ENOUGH,
    least_holm,
    monte_carlo_interval,
    subset_chance,
    undecided,
)
from recsys_lib.fairness.gaps import _both_sides, _spreads
from recsys_lib.fairness.groups import draw, expanded
from recsys_lib.fairness.measures import USUAL, Measures
from recsys_lib.metrics import holm

AUDIT = sys.modules["recsys_lib.fairness.audit"]  # the function of that name stands before it


def test_the_interval_is_that_of_clopper_and_pearson():
    counts = np.array([0, 1, 7, 50, 99, 100])
    low, high = monte_carlo_interval(counts, 100)
    for x, a, b in zip(counts.tolist(), low, high, strict=True):
        ends = stats.binomtest(x, 100).proportion_ci(method="exact")
        assert (a, b) == pytest.approx((ends.low, ends.high), abs=1e-12)


def test_few_subsets_are_all_tried_as_scipy_does():
    values = np.random.default_rng(0).normal(size=10)
    values -= values.mean()
    mine, rest = values[:4], values[4:]
    expected = stats.permutation_test(
        (mine, rest), lambda a, b: abs(a.sum()), alternative="greater", n_resamples=np.inf,
        permutation_type="independent", vectorized=False,
    ).pvalue  # fmt: skip
    found = subset_chance(values, [4, 6], [mine.sum(), rest.sum()], n=10)
    assert found.p == pytest.approx([expected, expected])
    assert (found.low == found.p).all() and (found.high == found.p).all()


def test_a_class_that_is_nearly_all_units_is_counted_by_what_it_leaves_out():
    """One of 15,000 left out: every way is tried, without a table of all that stay."""
    values = np.arange(15_000) - 7_499.5
    found = subset_chance(values, [14_999, 1], [-values[0], values[0]])
    assert found.p == pytest.approx([2 / 15_000] * 2)


@pytest.mark.parametrize("units", [10, 40])
@pytest.mark.parametrize("scale", [1e-13, 1e9])
def test_the_scale_of_the_values_moves_no_p_value(units, scale):
    values = np.round(np.random.default_rng(1).normal(size=units), 2)
    sizes = [4, units - 4]
    sums = np.add.reduceat(values, [0, 4])
    plain = subset_chance(values, sizes, sums, n=2000)
    scaled = subset_chance(values * scale, sizes, sums * scale, n=2000)
    assert (scaled.p == plain.p).all()
    assert 0 < plain.p.min() < 1


@pytest.mark.parametrize("units", [6, 60])
def test_classes_that_are_not_all_units_are_refused(units):
    with pytest.raises(ValueError, match=f"sizes add up to 5 for {units} values"):
        subset_chance(np.ones(units), [2, 3], [2, 3])


@pytest.mark.parametrize("hits", [20, 24, 27, 30])
def test_many_subsets_give_the_hypergeometric_law(hits):
    """Of 200 units 80 are ones; 50 are drawn. Stopping at 400 leaves an error of 5 %."""
    values = np.r_[np.ones(80), np.zeros(120)] - 0.4
    law, count = stats.hypergeom(200, 80, 50), np.arange(51)
    exact = law.pmf(count)[np.abs(count - 20) >= abs(hits - 20)].sum()
    found = subset_chance(values, [50, 150], [hits - 20, 20 - hits], n=50_000)
    assert found.p == pytest.approx([exact] * 2, abs=4 * exact / np.sqrt(min(400, 5e4 * exact)))
    wide = 0.5 * (found.high - found.low) / found.p
    assert (wide < 2.2 / np.sqrt(min(ENOUGH, 5e4 * exact))).all()


def test_the_interval_of_many_subsets_holds_the_hypergeometric_law():
    """Also where drawing stops at 400: in 95 of 100 cases, up to the 0.1 % point of the binomial
    law of 40 seeds."""
    values = np.r_[np.ones(80), np.zeros(120)] - 0.4
    count = np.arange(51)
    exact = stats.hypergeom(200, 80, 50).pmf(count)[np.abs(count - 20) >= 6].sum()
    found = [subset_chance(values, [50, 150], [6, -6], n=50_000, seed=s) for s in range(40)]
    held = sum(f.low[0] <= exact <= f.high[0] for f in found)
    assert held >= stats.binom.ppf(0.001, 40, 0.95)


def test_random_labels_have_small_p_values_as_rarely_as_they_should():
    """400 worlds; the share of p ≤ 0.05 within the central 99.9 % of the binomial law."""
    small = 0
    for world in range(400):
        values = np.random.default_rng([3, world]).exponential(size=30)
        values -= values.mean()
        sizes = [10, 8, 12]
        sums = np.add.reduceat(values, [0, 10, 18])
        small += subset_chance(values, sizes, sums, n=399, seed=world).p[0] <= 0.05
    low, high = stats.binom.interval(0.999, 400, 0.05)
    assert low <= small <= high


def test_undecided_is_what_lies_across_the_level_after_the_correction():
    low, high = [0.001, 0.02, 0.03, 0.2], [0.002, 0.024, 0.05, 0.3]
    # Holm: 0.004, 0.06, 0.06, … below; 0.008, 0.072, … above. Alone, 0.03 to 0.05 is below 0.05.
    assert undecided(low, high).tolist() == [False] * 4
    assert undecided([0.04], [0.06]).tolist() == [True]
    assert undecided([0.03], [0.05]).tolist() == [False]
    assert undecided([0.01, np.nan, 0.2], [0.03, np.nan, 0.4]).tolist() == [True, False, False]


def _mixed(rng):
    """Products whose reviewers are of both groups."""
    product = np.repeat(np.arange(40), 10)
    right = (rng.random(400) < rng.beta(4, 2, 40)[product]).astype(int)
    who = np.where(rng.random(400) < 0.3, "few", "many")
    return right, who, product


def test_a_share_among_swapped_rows_has_the_p_value_of_all_shuffles():
    """The same numbers as a mean are shuffled; their Monte Carlo interval (four standard errors,
    20,000 shuffles) holds the p value by the hypergeometric law."""
    for world in range(6):
        right, who, product = _mixed(np.random.default_rng([5, world]))
        common = {"groups": product, "n": 400, "seed": world}
        share = gaps(right, np.full(400, 0.9), who, metrics=["accuracy"], permutations=19,
                     **common).iloc[0]  # fmt: skip
        mean = mean_gaps(right, who, permutations=20_000, **common).iloc[0]
        error = np.sqrt(mean["p"] * (1 - mean["p"]) / 20_000) + 0.01 * mean["p"]  # and its spread's
        assert abs(share["p"] - mean["p"]) < 4 * error
        assert mean["p_low"] < mean["p"] < mean["p_high"]
        assert share["p_low"] <= share["p"] <= share["p_high"]


@pytest.mark.parametrize("spread", [0.0, 0.6])
def test_small_groups_that_are_nearly_always_right_raise_no_false_alarms(spread):
    """Some 70 of 1,000 rows, right in nine of ten cases as all are: by the group's own spread,
    which is too small where it happens to be right more often, p ≤ 0.01 came in 3 % of worlds."""
    small = 0
    for world in range(400):
        rng = np.random.default_rng([17, world])
        product = rng.integers(0, 100, 1000)
        right = rng.random(1000) < 1 / (1 + np.exp(-rng.normal(2.2, spread, 100)))[product]
        who = np.where(rng.random(1000) < 0.07, "few", "many")
        found = gaps(right.astype(int), np.full(1000, 0.9), who, metrics=["accuracy"],
                     groups=product, n=10, permutations=1)  # fmt: skip
        small += found["p"].iloc[0] <= 0.01
    assert small <= stats.binom.ppf(0.999, 400, 0.01)
    right &= (who == "many") | (rng.random(1000) < 0.6)  # a gap of 36 points in the last world
    found = gaps(right.astype(int), np.full(1000, 0.9), who, metrics=["accuracy"], groups=product,
                 n=10, permutations=1)  # fmt: skip
    assert found["p"].iloc[0] <= 0.01


@pytest.mark.parametrize("rows", [1, 2])
def test_a_rate_is_not_held_against_groups_with_other_base_rates(rows):
    """Nine of ten rows of A are positive and one of ten of B; the rates are alike. Shuffled groups
    hold half the positives each, and vary less: without stretching, p ≤ 0.05 came in a fifth of
    these worlds. Units of equally many rows are no exception."""
    small = 0
    for world in range(120):
        rng = np.random.default_rng([21, world])
        label = (rng.random(800) < np.repeat([0.9, 0.1], 400)).astype(int)
        prob = np.where(rng.random(800) < 0.7, 0.9, 0.1)
        found = gaps(label, prob, np.repeat(["A", "B"], 400), metrics=["true_positive_rate"],
                     groups=np.arange(800) // rows, n=10, permutations=199, seed=world)  # fmt: skip
        small += found["p"].iloc[0] <= 0.05
    assert small <= stats.binom.ppf(0.999, 120, 0.05)


def test_a_group_in_few_products_raises_no_false_alarms():
    """Six rows in each of twelve products of sixty, most of which are always right: where all
    twelve are, their own residuals are too small, and p ≤ 0.01 came in 4 % of these worlds."""
    product = np.repeat(np.arange(60), 10)
    who = np.where((product < 12) & (np.arange(600) % 10 < 6), "few", "many")
    small = 0
    for world in range(400):
        rng = np.random.default_rng([22, world])
        right = (rng.random(600) < rng.beta(1.8, 0.2, 60)[product]).astype(int)
        found = gaps(right, np.full(600, 0.9), who, metrics=["accuracy"], groups=product, n=10,
                     permutations=1)  # fmt: skip
        small += found["p"].iloc[0] <= 0.01
    assert small <= stats.binom.ppf(0.999, 400, 0.01)


def test_the_spread_of_a_difference_is_that_of_scipys_tests():
    """One row per unit: the z test of two shares with their common share, and for the AUC the
    spread that DeLong's components give with those of all rows (here by enumeration of pairs), the
    larger of that with their squares in each group and that with those of both."""
    rng = np.random.default_rng(3)
    label, prob = rng.integers(0, 2, 200), np.round(rng.random(200), 1)
    who = rng.choice(["a", "b"], 200)
    draws = draw(Measures(label, prob, ["accuracy", "auc"]), who, None, 5, 5, 20, 0)
    right, mine = (prob >= 0.5) == label, who == "a"
    share = right.mean()
    z = np.sqrt(share * (1 - share) * (1 / mine.sum() + 1 / (~mine).sum()))
    wins = np.sign(prob[label == 1][:, None] - prob[label == 0]) / 2 + 0.5
    parts = [(wins.mean(axis=1), mine[label == 1]), (wins.mean(axis=0), mine[label == 0])]
    squares = [((w - wins.mean()) ** 2, np.where(m, m.sum(), (~m).sum()) ** -2.0) for w, m in parts]
    delong = np.sqrt(max(sum(s @ of for s, of in squares),
                         sum(s.mean() * of.sum() for s, of in squares)))  # fmt: skip
    found = _spreads(draws, np.ones((2, 2), dtype=bool))
    assert found[0] == pytest.approx([z, delong], rel=1e-3)  # shares vary within groups, too


def test_the_interval_of_p_holds_the_p_value_of_many_more_shuffles():
    right, who, product = _mixed(np.random.default_rng(11))
    common = {"groups": product, "n": 300}
    truth = mean_gaps(right, who, permutations=20_000, **common)["p"].iloc[0]
    hits = 0
    for seed in range(40):
        row = mean_gaps(right, who, permutations=300, seed=seed, **common).iloc[0]
        hits += row["p_low"] <= truth <= row["p_high"]
    assert hits >= stats.binom.ppf(0.001, 40, 0.95)


@pytest.mark.parametrize("whole", [True, False])
def test_shuffled_groups_and_their_others_are_measured_as_scikit_learn_does(whole):
    rng = np.random.default_rng(2)
    label, unit = rng.integers(0, 2, 300), rng.integers(0, 40, 300)
    prob = 0.01 + 0.98 * np.round(rng.random(300), 1)  # with ties
    who = np.array(["a", "b", "c"])[unit % 3 if whole else rng.integers(0, 3, 300)]
    draws = draw(Measures(label, prob, USUAL), who, unit, 5, 5, 20, 0)
    carrier = draws.unit if whole else np.arange(300)
    member = rng.random((carrier.max() + 1, 8)) < 0.4
    found = _both_sides(draws, list(USUAL))(member)
    for column in range(8):
        inside = member[carrier, column]
        for side, rows in enumerate((inside, ~inside)):
            area, right = found[side, [USUAL.index("auc"), USUAL.index("accuracy")], column]
            assert area == pytest.approx(roc_auc_score(label[rows], prob[rows]), abs=1e-12)
            assert right == pytest.approx(((prob >= 0.5) == label)[rows].mean(), abs=1e-12)


def _hanging():
    """A gap with p = 0.05 by Welch's test, and that p."""
    rng = np.random.default_rng(8)
    p = 1.0
    while not 0.047 < p < 0.053:
        label, prob = rng.integers(0, 2, 300), rng.uniform(0.1, 0.9, 300)
        who = rng.choice(["A", "B"], 300)
        loss = -np.log(np.where(label == 1, prob, 1 - prob))
        p = stats.ttest_ind(loss[who == "A"], loss[who == "B"], equal_var=False).pvalue
    return pd.DataFrame({"label": label, "prob": prob, "who": who}), p


def test_an_audit_shuffles_more_where_the_verdict_hangs_on_it(monkeypatch):
    """The interval from 99 shuffles is wide, from 200,000 not; the time that they may take is
    bounded."""
    frame, p = _hanging()
    options = {"metrics": ["log_loss"], "n": 50, "permutations": 99}
    first = gaps(frame["label"], frame["prob"], frame["who"], **options).iloc[0]
    assert first["low"] > 0 or first["high"] < 0
    row = audit(frame, sensitive="who", **options).findings.iloc[0]
    assert first["p_high"] - first["p_low"] > 0.05
    assert row["p_high"] - row["p_low"] < 0.005
    assert row["p_holm"] == row["p"] == pytest.approx(p, abs=0.01)
    for shuffles in (50, 1999):
        monkeypatch.setattr(AUDIT, "_CELLS", 300 * shuffles)
        row = audit(frame, sensitive="who", **options).findings.iloc[0]
        as_extreme = row["p"] * (max(shuffles, 99) + 1)
        assert as_extreme == pytest.approx(round(as_extreme))
        assert (row["p"] == first["p"]) == (shuffles < 99)


def test_shuffles_are_drawn_anew_only_where_the_verdict_can_change():
    table = pd.DataFrame({"p_low": 0.03, "p_high": 0.07, "low": [-0.1], "high": [0.3]})
    assert not len(AUDIT._hanging(table, 0.05))
    assert len(AUDIT._hanging(table.assign(low=0.1), 0.05)) == 1
    assert not len(AUDIT._hanging(table.assign(low=0.1, p_high=0.05), 0.05))


def test_the_least_p_of_few_subsets():
    """Six of twelve: a subset and its complement are as extreme, so 2 of 924. Four of twelve: 1 of
    495. One that is the most extreme has this p."""
    values = np.sort(np.random.default_rng(4).normal(size=12))
    values -= values.mean()
    even = subset_chance(values, [6, 6], [values[:6].sum(), values[6:].sum()])
    assert even.p == pytest.approx([2 / 924] * 2) and even.least == pytest.approx([2 / 924] * 2)
    mixed = np.random.default_rng(5).permutation(values)
    uneven = subset_chance(mixed, [4, 8], [mixed[:4].sum(), mixed[4:].sum()])
    assert uneven.least == pytest.approx([1 / 495] * 2)
    assert (uneven.p > uneven.least).all()


def test_the_least_p_of_many_subsets_is_that_of_the_permutations_drawn():
    values = np.random.default_rng(6).normal(size=100)
    values -= values.mean()
    found = subset_chance(values, [50, 50], [values[:50].sum(), values[50:].sum()], n=999)
    assert found.least == pytest.approx([1 / 1000] * 2)
    alone = subset_chance(values, [1, 99], [values[0], -values[0]], n=50_000)
    assert alone.least == pytest.approx([1 / 100] * 2)  # one of 100 units: 100 subsets


def test_the_least_corrected_p_lets_one_test_be_as_clear_as_it_can():
    p, least = np.array([0.2, np.nan, 0.001, 0.6]), np.array([0.002, np.nan, 0.001, 0.05])
    expected = [holm([0.002, np.nan, 0.001, 0.6])[0], np.nan, holm(p)[2],
                holm([0.2, np.nan, 0.001, 0.05])[3]]  # fmt: skip
    assert least_holm(p, least) == pytest.approx(expected, nan_ok=True)
    assert least_holm([0.5] * 57, [2 / 924] * 57) == pytest.approx([57 * 2 / 924] * 57)


@pytest.mark.parametrize(("units", "said"), [(3, True), (8, False)])
def test_few_units_that_swap_whole_make_a_gap_not_testable(units, said):
    """Of three units on each side there are 20 ways to swap, the largest gap comes from 2: even
    with a gap of 1, p is 0.1. Of eight there are 12,870, and the gap is shown."""
    groups = np.repeat(np.arange(2 * units), 10)
    side = np.where(groups < units, "A", "B")
    right = (side == "A").astype(int)
    row = gaps(right, np.full(len(right), 0.9), side, metrics=["accuracy"], groups=groups,
               min_units=3, permutations=4000, n=50).iloc[0]  # fmt: skip
    assert abs(row["value"]) == 1
    if said:
        assert row["verdict"] == "not testable" and row["why"] == "least corrected p 0.1"
        assert row["p_least"] == pytest.approx(0.1, abs=0.02)
        assert row["p"] == pytest.approx(row["p_least"], abs=1 / 4000)
    else:
        assert row["verdict"] == "gap" and row["why"] == ""


def test_a_family_that_is_too_large_makes_its_tests_not_testable():
    """One shuffled test of 99 shuffles can show something; among sixty it cannot."""
    rng = np.random.default_rng(0)
    side = rng.permutation(["A", "B"] * 100)
    noise = rng.random(200)
    one = mean_gaps(np.where(side == "A", 2, 0) + noise, side, permutations=99, n=50)
    assert one["verdict"].tolist() == ["gap"]
    assert one["p_least"].iloc[0] == pytest.approx(0.01)
    others = [mean_gaps(rng.random(200), side, permutations=99, n=50) for _ in range(59)]
    family = correct(pd.concat([one, *others], ignore_index=True))
    assert set(family["verdict"]) == {"not testable"}
    assert family["p_holm_least"].iloc[0] == pytest.approx(0.6)
    assert family["why"].iloc[0] == "least corrected p 0.6"
    again = correct(family.iloc[:1])  # asked apart, it is testable again
    assert again["verdict"].tolist() == ["gap"] and again["why"].tolist() == [""]


@pytest.mark.parametrize("law", ["normal", "exponential"])
def test_an_expanded_interval_of_few_units_holds_the_mean(law):
    """2,000 samples of 12: within 1.5 points of 95 %, where a plain percentile interval holds the
    mean two points less often or worse. Exponential: 4 points, for no interval cures the skew."""
    rng = np.random.default_rng(8)
    samples = getattr(rng, "standard_" + law)((2000, 12))
    truth, held = float(law == "exponential"), np.zeros((2, 2000), dtype=bool)
    for world, sample in enumerate(samples):
        means = sample[rng.integers(0, 12, (399, 12))].mean(axis=1)
        for row, (low, high) in enumerate((expanded(means, 12, 0.95),
                                           np.quantile(means, [0.025, 0.975]))):  # fmt: skip
            held[row, world] = low <= truth <= high
    mine, plain = held.mean(axis=1)
    assert mine == pytest.approx(0.95, abs=0.015 if law == "normal" else 0.05)
    assert mine - plain > 0.02


def test_an_expanded_interval_of_many_units_is_the_percentile_interval():
    values = np.random.default_rng(1).normal(size=9999)
    plain = np.quantile(values, [0.025, 0.975])
    assert expanded(values, 10**6, 0.95) == pytest.approx(plain, abs=0.02)
    m = 10  # Hesterberg (2015), by scipy's laws
    tail = stats.norm.cdf(-np.sqrt(m / (m - 1)) * stats.t.ppf(0.975, m - 1))
    ends = np.quantile(values, [tail, 1 - tail], method="weibull")
    assert expanded(np.r_[values, np.nan], m, 0.95) == pytest.approx(tuple(ends))
