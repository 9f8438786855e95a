"""The audit of exposure, itself audited: false alarms, power, size, sign, and the market's law."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recsys_lib.datasets.market import make_market
from recsys_lib.datasets.market_catalog import Products
from recsys_lib.datasets.market_clicks import ranking_weights
from recsys_lib.fairness import drawn_lists, exposure_worlds, power_of_gap, rule_weights
from recsys_lib.workbook import InputError

SMALL = {"n_products": 300, "n_shoppers": 30, "n_queries": 80, "n_reviews": 0}


@pytest.fixture(scope="module")
def market():
    return make_market(3, n_impressions=0, **SMALL)


@pytest.fixture(scope="module")
def worlds(market):
    return {b: exposure_worlds(market, worlds=200, exposure_bias=b, n=40) for b in (0.0, 0.45)}


def test_lists_are_drawn_as_the_market_draws_them():
    """Exposure of independent sellers in the log of 3,000 lists of a market with a bias, against
    as many lists for the same queries: equal up to four standard errors, and so is the top place
    of single products (chi-squared over the twenty most frequent)."""
    bias = 0.4
    log = make_market(5, n_impressions=30_000, exposure_bias=bias, **SMALL)
    independent = (log.products["seller"] == "independent").to_numpy()
    theirs = log.impressions["product_id"].to_numpy().reshape(-1, 10)
    asked = log.impressions["query_id"].to_numpy()[::10]
    scores = np.log(rule_weights(log)) + np.where(independent, np.log1p(-bias), 0)
    mine = drawn_lists(scores, asked, np.random.default_rng(0))
    assert mine.shape == theirs.shape
    shares = [independent[lists].mean(axis=1) for lists in (mine, theirs)]
    error = np.hypot(*(s.std() / np.sqrt(len(s)) for s in shares))
    assert abs(shares[0].mean() - shares[1].mean()) < 4 * error
    tops = np.array([np.bincount(lists[:, 0], minlength=300) for lists in (mine, theirs)])
    often = np.argsort(-tops.sum(axis=0))[:20]
    table = np.column_stack([tops[:, often], tops.sum(axis=1) - tops[:, often].sum(axis=1)])
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_the_weights_are_those_of_the_markets_rule(market):
    products = Products(market.truth.shelf, market.truth.products)
    independent = (market.products["seller"] == "independent").to_numpy()
    biased = ranking_weights(market.truth.intents[7], products, 0.25)
    assert biased == pytest.approx(rule_weights(market)[7] * np.where(independent, 0.75, 1))


def test_without_a_bias_the_alarms_are_five_percent(worlds):
    """200 worlds: within the central 99 % of the binomial law of 5 %; no side is accused more."""
    plain = worlds[0.0]
    low, high = stats.binom.interval(0.99, 200, 0.05)
    assert low <= plain["found"].sum() <= high
    assert stats.kstest(plain["p"], "uniform").pvalue > 0.001
    assert abs(plain["value"].mean()) < 4 * plain["value"].std() / np.sqrt(200)


def test_a_planted_bias_has_its_size_and_sign_and_is_found_at_the_stated_power(worlds):
    """Up to the binomial error of 99 %, and 0.06 for a t law where brands are permuted."""
    plain, biased = worlds[0.0], worlds[0.45]
    size = (biased["truth"] - plain["truth"]).mean()
    measured = biased["value"] - plain["value"]
    assert size < -0.05
    assert measured.mean() == pytest.approx(size, abs=4 * measured.std() / np.sqrt(200))
    stated = power_of_gap(size, biased["spread"].mean(), freedom=10)
    assert 0.2 < stated < 0.95  # neither sure nor hopeless: the comparison means something
    error = 2.58 * np.sqrt(stated * (1 - stated) / 200) + 0.06
    assert abs(biased["found"].mean() - stated) < error
    assert (biased.loc[biased["found"], "value"] < 0).all()


def test_the_interval_holds_what_the_rule_makes_of_the_queries(worlds):
    """The truth has an error of its own, that of as many lists, so 95 % is not quite reached."""
    for table in worlds.values():
        assert ((table["low"] <= table["truth"]) & (table["truth"] <= table["high"])).mean() > 0.8


def test_worlds_follow_from_the_seed_and_are_the_same_under_every_bias(market):
    one, two = (exposure_worlds(market, worlds=3, n=20, seed=4) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    other = exposure_worlds(market, worlds=3, n=20, seed=5)
    assert not one["value"].equals(other["value"])
    weak = exposure_worlds(market, worlds=3, n=20, exposure_bias=0.01, seed=4)
    # A weak bias moves a world far less than worlds differ: they are the same worlds.
    assert (weak["value"] - one["value"]).abs().max() < 0.3 * np.ptp(one["value"])


def test_bad_input_is_one_clear_line(market):
    with pytest.raises(InputError, match="worlds must be"):
        exposure_worlds(market, worlds=0)
    with pytest.raises(InputError, match="exposure_bias"):
        exposure_worlds(market, exposure_bias=1.0)
    bare = make_market(3, n_impressions=0, **SMALL | {"n_queries": 0})
    with pytest.raises(InputError, match="needs queries"):
        exposure_worlds(bare)
