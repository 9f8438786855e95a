"""Exposure against merit: formulas by hand and against references, and a bias of known size."""

import tracemalloc
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recsys_lib.datasets.market import make_market
from recsys_lib.datasets.market_catalog import Products
from recsys_lib.datasets.market_clicks import ranking_weights
from recsys_lib.fairness import power_of_gap
from recsys_lib.fairness.exposure import (
    attention,
    class_exposure,
    correct_exposures,
    coverage,
    exposure_per_query,
    gini,
    gini_of_exposure,
    popularity_classes,
)
from recsys_lib.metrics import dcg, holm
from recsys_lib.workbook import InputError

SMALL = {"n_products": 300, "n_shoppers": 60, "n_queries": 80, "n_reviews": 0}


def test_attention_is_the_discount_of_dcg_or_what_is_known():
    for k in (1, 4, 10):
        ones = np.ones(k)
        assert attention(k).sum() == pytest.approx(dcg(ones, ones, k=k), abs=1e-12)
    assert attention(2, [1.0, 0.5, 0.2]).tolist() == [1.0, 0.5]


def test_exposure_by_hand():
    # Two lists over four products, attention 1, ½, ¼; the second list ends after one product.
    shares = exposure_per_query([[2, 0, 3], [1, -1, -1], [-1, -1, -1]], [1, 0.5, 0.25], 4)
    assert shares[0] == pytest.approx(np.array([0.5, 0, 1, 0.25]) / 1.75)
    assert shares[1].tolist() == [0, 1, 0, 0]
    assert np.isnan(shares[2]).all()


def test_ratio_by_hand_and_as_singh_and_joachims():
    """Their disparate treatment ratio, (exposure / utility) of one group over that of the other,
    each a mean over the group's members (equation 5), for one query seen twice."""
    weights = attention(3)
    rows, merit = np.array([[0, 1, 2]] * 2), np.array([[0.8, 0.1, 0.7]] * 2)
    a, b = class_exposure(rows, merit, ["A", "B", "A"], weights=weights, n=50)
    exposure_a, exposure_b = (weights[0] + weights[2]) / 2, weights[1]
    expected = (exposure_a / 0.75) / (exposure_b / 0.1)
    assert a.ratio.value / b.ratio.value == pytest.approx(expected, rel=1e-12)
    assert a.exposure.value == pytest.approx((weights[0] + weights[2]) / weights.sum())
    assert a.merit.value == pytest.approx(1.5 / 1.6)
    assert a.gap.value == pytest.approx(a.exposure.value - a.merit.value)
    assert b.gap.value == pytest.approx(-a.gap.value)
    assert (a.products, b.products) == (2, 1)


def test_queries_without_a_list_or_without_merit_are_left_out():
    rows = np.array([[0, 1], [1, 0], [-1, -1], [0, 1]])
    merit = np.array([[1, 1], [1, 0], [1, 1], [0, 0]])
    (a, _) = class_exposure(rows, merit, ["a", "b"], weights=[1, 1], n=20)
    assert a.exposure.n == 2
    assert a.merit.value == pytest.approx(0.75)


def expected_shares(market, queries, bias, draws=3000):
    """The seller's expected attention per query by Gumbel top-k draws from the shop's weights: a
    Plackett-Luce sample that shares no code with the log's own (Yellott 1977)."""
    rng = np.random.default_rng(9)
    seen = np.array(market.truth.examination)
    products = Products(market.truth.shelf, market.truth.products)
    independent = (market.products["seller"] == "independent").to_numpy()
    shares = {}
    for query in np.unique(queries):
        weight = ranking_weights(market.truth.intents[query], products, bias)
        best = np.argsort(-weight, kind="stable")[:40]
        noisy = np.log(weight[best]) + rng.gumbel(size=(draws, 40))
        shown = best[np.argsort(-noisy, axis=1)[:, :10]]
        shares[query] = (independent[shown] @ seen).mean() / seen.sum()
    return np.mean([shares[query] for query in queries])


def shown_lists(market):
    log = market.impressions
    return log["product_id"].to_numpy().reshape(-1, 10), log["query_id"].to_numpy()[::10]


@pytest.mark.parametrize("bias", [0.0, 0.4, 0.7])
def test_the_planted_exposure_has_the_right_size_and_sign(bias):
    market = make_market(3, n_impressions=20_000, exposure_bias=bias, **SMALL)
    rows, queries = shown_lists(market)
    merit = 2.0 ** market.truth.grades[queries] - 1
    _, independent = class_exposure(
        rows, merit, market.products["seller"], weights=attention(10, market.truth.examination),
        n=1000,
    )  # fmt: skip
    assert independent.name == "independent"
    expected = expected_shares(market, queries, bias)
    assert independent.exposure.low < expected < independent.exposure.high
    if bias == 0:
        assert independent.p > 0.05
    else:
        assert independent.ratio.high < 1
        assert independent.p < 0.05


def test_without_a_bias_brands_are_seldom_accused():
    """40 worlds without bias; at 5 % each the 99.9 % point of the alarms is 8."""
    alarms = 0
    for seed in range(40):
        market = make_market(seed, n_impressions=1_000, **SMALL)
        rows, queries = shown_lists(market)
        merit = 2.0 ** market.truth.grades[queries] - 1
        sellers, brands = market.products["seller"], market.products["brand"]
        alarms += class_exposure(rows, merit, sellers, units=brands, n=400)[0].p < 0.05
    assert alarms <= stats.binom.ppf(0.999, 40, 0.05)


def test_lists_of_one_query_are_resampled_together():
    """Every list ten times over: alone they look like ten times as much evidence."""
    rng = np.random.default_rng(0)
    rows = np.array([rng.permutation(20)[:5] for _ in range(60)])
    merit = rng.uniform(size=(60, 20))
    classes = ["x", "y"] * 10
    once = class_exposure(rows, merit, classes, n=2000)[0].ratio
    repeated, merits = np.repeat(rows, 10, axis=0), np.repeat(merit, 10, axis=0)
    groups = np.repeat(np.arange(60), 10)
    together = class_exposure(repeated, merits, classes, groups=groups, n=2000)[0].ratio
    alone = class_exposure(repeated, merits, classes, n=2000)[0].ratio
    assert together.value == pytest.approx(once.value) == alone.value
    # Monte Carlo error of a width from 2,000 resamples is about 3 %.
    assert together.high - together.low == pytest.approx(once.high - once.low, rel=0.12)
    assert alone.high - alone.low < 0.5 * (together.high - together.low)


def test_concentration_counts_queries_that_say_the_same_as_one():
    """Every list ten times over, in groups: the intervals are those of the lists themselves."""
    lists = pool_of_lists(n=60)
    repeated, groups = np.repeat(lists, 10, axis=0), np.repeat(np.arange(60), 10)
    once, again = (gini_of_exposure(lists, 200), gini_of_exposure(repeated, 200, groups=groups))
    assert (again.value, again.low, again.high) == pytest.approx((once.value, once.low, once.high))
    assert (again.n, again.units) == (600, 60)
    once, again = coverage(lists, 200), coverage(repeated, 200, groups=groups)
    assert again.expected_in_the_end == pytest.approx(once.expected_in_the_end)
    assert (again.share.low, again.share.high) == pytest.approx((once.share.low, once.share.high))
    assert coverage(repeated, 200).share.low > again.share.low  # every product seen ten times


def test_groups_may_be_any_values_that_differ():
    lists = np.array([[0, 1], [0, 1], [1, 2], [3, 2]])
    tuples = coverage(lists, 9, groups=[("a", 1), ("a", 1), ("a", 2), ("b", 1)])
    assert tuples == coverage(lists, 9, groups=[5, 5, 6, 7])
    mixed = coverage(lists, 9, groups=[1, "1", 2, "2"])
    assert mixed.share.units == 4 and mixed == coverage(lists, 9, groups=range(4))


def test_few_brands_are_permuted_in_every_way():
    """Six brands of one product each, three of them chains: 20 ways, by hand."""
    rng = np.random.default_rng(4)
    rows = np.array([rng.permutation(6)[:3] for _ in range(30)])
    merit = rng.uniform(size=(30, 6))
    chain, other = class_exposure(rows, merit, list("cccooo"), n=20)
    gap = exposure_per_query(rows, attention(3), 6) - merit / merit.sum(axis=1, keepdims=True)
    sums = [gap.mean(axis=0)[list(some)].sum() for some in combinations(range(6), 3)]
    assert chain.p == np.mean(np.abs(sums) >= abs(chain.gap.value) - 1e-12)
    assert chain.p == chain.p_low == chain.p_high == chain.p_holm == other.p_holm


def test_all_comparisons_are_corrected_together_and_two_classes_are_one():
    rng = np.random.default_rng(6)
    rows = np.array([rng.permutation(30)[:5] for _ in range(40)])
    merit = rng.uniform(size=(40, 30)) + 3 * (np.arange(30) < 4)
    calls = {
        "two": class_exposure(rows, merit, ["x"] * 4 + ["y"] * 26, n=50),
        "three": class_exposure(rows, merit, list("abc") * 10, n=50),
    }
    together = correct_exposures(calls)
    expected = holm([calls["two"][0].p, *(c.p for c in calls["three"])])
    assert [together["two"][0].p_holm, *(c.p_holm for c in together["three"])] == list(expected)
    assert together["two"][0].p_holm == together["two"][1].p_holm
    assert [c.p_holm for c in calls["three"]] == list(holm([c.p for c in calls["three"]]))
    assert all(c.p_holm_low <= c.p_holm <= c.p_holm_high for c in together["three"])


def test_gini_against_its_definition_and_known_values():
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 60):
        x = rng.gamma(0.5, size=size)
        pairs = np.abs(x[:, None] - x[None, :]).mean()
        assert gini(x) == pytest.approx(pairs / (2 * x.mean()), abs=1e-12)
    assert gini([3, 3, 3]) == pytest.approx(0)
    assert gini([0, 0, 0, 5]) == pytest.approx(3 / 4)
    # Pareto with exponent 3 has 1 / (2·3 − 1); its quantiles on a fine grid come within 1e-3.
    quantiles = stats.pareto(3).ppf((np.arange(20_000) + 0.5) / 20_000)
    assert gini(quantiles) == pytest.approx(0.2, abs=1e-3)


def pool_of_lists(seed=0, n=2000, products=200, k=5):
    """Many queries' lists, in which some products stand far more often than others."""
    rng = np.random.default_rng(seed)
    worth = rng.normal(0, 1.5, products)
    return np.argsort(-(worth + rng.gumbel(size=(n, products))), axis=1)[:, :k]


def test_intervals_of_gini_and_coverage_hold_what_they_promise():
    """120 samples of 80 queries from a pool; the truth is the mean over 400 further samples. A 95 %
    interval that is right covers at least 106 of 120 (0.1 % point of the binomial)."""
    pool = pool_of_lists()
    rng = np.random.default_rng(1)
    truth = np.mean(
        [
            (gini(exposure_per_query(s, attention(5), 200).sum(axis=0)), len(np.unique(s)) / 200)
            for s in (pool[rng.choice(2000, 80)] for _ in range(400))
        ],
        axis=0,
    )
    hits = np.zeros(2)
    for _ in range(120):
        sample = pool[rng.choice(2000, 80)]
        found = gini_of_exposure(sample, 200), coverage(sample, 200).share
        hits += [e.low <= t <= e.high for e, t in zip(found, truth, strict=True)]
    assert (hits >= stats.binom.ppf(0.001, 120, 0.95)).all(), hits


def test_coverage_counts_products_and_what_is_still_unseen():
    found = coverage(np.array([[0, 1], [0, 2], [0, -1]]), 10)
    assert found.share.value == pytest.approx(0.3)
    # f1 = 2 (products 1 and 2), f2 = 0: 3 + 2/3 · 2 · 1 / 2 = 3.667 of 10.
    assert found.expected_in_the_end == pytest.approx((3 + 2 / 3) / 10)
    everything = coverage(np.array([[0, 1], [1, 0]]), 2)
    assert everything.share.value == everything.expected_in_the_end == 1.0
    pool = pool_of_lists()
    assert coverage(pool[:60], 200).expected_in_the_end > coverage(pool[:60], 200).share.value


def test_coverage_of_many_lists_takes_the_memory_of_the_lists():
    """100,000 lists over 20,000 products: a number for every pair would take 16 GB."""
    starts = np.random.default_rng(0).integers(0, 19_990, 100_000)
    lists = starts[:, None] + np.arange(10)
    tracemalloc.start()
    found = coverage(lists, 20_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.share.value == len(np.unique(lists)) / 20_000
    assert peak < 20 * lists.nbytes


def test_popularity_classes_take_a_tenth_and_four_tenths():
    found = popularity_classes(np.arange(50))
    assert [(found == name).sum() for name in ("head", "middle", "tail")] == [5, 20, 25]
    assert set(found[-5:]) == {"head"}


GOOD = (np.array([[0, 1], [1, 0]]), np.ones((2, 2)), ["a", "b"])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"rows": np.array([[0, 0], [1, 0]])}, "ranking 0 lists a product twice"),
        ({"rows": np.array([[0, 2], [1, 0]])}, "products must be"),
        ({"merit": -np.ones((2, 2))}, "not negative"),
        ({"merit": np.ones((3, 2))}, "merit: shape"),
        ({"merit": np.array([[1, 0], [1, 0]])}, 'class "b" has no relevant product'),
        ({"merit": np.zeros((2, 2))}, "fewer than two queries"),
        ({"classes": ["a", "a"]}, "only one"),
        ({"classes": ["a", None]}, "a product has none"),
        ({"classes": ["a"]}, "1 for 2 products"),
        ({"units": ["u", "u"]}, "products of two classes"),
        ({"groups": [1]}, "groups: 1 for 2 rankings"),
        ({"groups": [1, 1]}, "groups: only one"),
        ({"groups": [1, None]}, "groups: a ranking has none"),
        ({"groups": [(1, 2), pd.NA]}, "groups: a ranking has none"),
        ({"units": ["u", None]}, "units: a product has none"),
        ({"classes": ["a", pd.NA]}, "a product has none"),
        ({"rows": np.array([0, 1])}, "rows: rankings must be"),
        ({"weights": [1.0]}, "weights: shape"),
    ],
)
def test_bad_input_is_one_clear_line(change, message):
    rows, merit, classes = GOOD
    given = {"rows": rows, "merit": merit, "classes": classes} | change
    with pytest.raises(InputError, match=message):
        class_exposure(given.pop("rows"), given.pop("merit"), given.pop("classes"), **given)


def test_other_bad_input():
    with pytest.raises(InputError, match="3 chances for 5 positions"):
        attention(5, [1, 0.5, 0.2])
    with pytest.raises(InputError, match="between 0 and 1"):
        attention(2, [1, 1.5])
    with pytest.raises(InputError, match="gini"):
        gini([0.0, 0.0])
    with pytest.raises(InputError, match="at least 10"):
        popularity_classes([1, 2, 3])
    with pytest.raises(InputError, match="fewer than two"):
        coverage(np.array([[0, 1], [-1, -1]]), 3)
    with pytest.raises(InputError, match="rows: rankings must be"):
        gini_of_exposure(np.array([0, 1]), 3)


def twelve_brands(extreme: bool):
    """One list per query over 24 products of twelve brands, two each, six brands per seller; if
    extreme, the lists hold the brands of one seller only."""
    rng = np.random.default_rng(0)
    brand = np.repeat(np.arange(12), 2)
    seller = np.where(brand < 6, "chain", "independent")
    pool = np.flatnonzero(seller == "chain") if extreme else np.arange(24)
    rows = np.array([rng.permutation(pool)[:8] for _ in range(80)])
    return rows, np.ones((80, 24)), seller, brand


def test_a_test_of_few_units_is_not_testable_in_a_large_family():
    """The most extreme split of twelve brands has p = 2 / 924: shown alone, out of reach of Holm's
    correction among 57, and testable again in a family of its own."""
    rows, merit, seller, brand = twelve_brands(extreme=True)
    found = class_exposure(rows, merit, seller, units=brand, n=50)
    assert found[0].p == pytest.approx(2 / 924) == found[0].p_least
    assert found[0].verdict == "gap"
    many = {"seller": found} | {
        number: class_exposure(*twelve_brands(extreme=False)[:3], units=brand, n=50, seed=number)
        for number in range(56)
    }
    together = correct_exposures(many)["seller"]
    assert [c.verdict for c in together] == ["not testable"] * 2
    assert together[0].p_holm_least == pytest.approx(57 * 2 / 924)
    apart = correct_exposures({"seller": found, "other": many[0]})
    assert [c.verdict for c in apart["seller"]] == ["gap"] * 2
    assert [c.verdict for c in apart["other"]] == ["no gap shown"] * 2


def test_the_standard_error_is_that_of_a_t_test_and_the_smallest_gap_has_its_power():
    rows, merit, seller, brand = twelve_brands(extreme=False)
    found = class_exposure(rows, merit, seller, units=brand, n=50)
    gap = exposure_per_query(rows, attention(8), 24).mean(axis=0) - merit.mean(axis=0) / 24
    per_brand = np.bincount(brand, gap)
    t = stats.ttest_ind(per_brand[:6], per_brand[6:])
    assert found[0].gap.value / found[0].spread == pytest.approx(t.statistic)
    assert found[0].freedom == t.df == 10
    power = power_of_gap(found[0].detectable, found[0].spread, freedom=10)
    assert power == pytest.approx(0.8, abs=1e-6)
    alike = correct_exposures({0: found, 1: found})[0][0]
    assert alike.detectable > found[0].detectable
