"""Rounds of feedback on the market: clicks as its truth has them, and what they amplify."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recsys_lib.datasets.market import make_market
from recsys_lib.datasets.market_clicks import LIST_LENGTH
from recsys_lib.fairness import feedback
from recsys_lib.fairness.feedback import (
    MEASURES,
    POLICIES,
    amplification,
    over_seeds,
    shared_winners,
    simulate,
)
from recsys_lib.metrics import ndcg
from recsys_lib.workbook import InputError

SIZE = {"n_products": 300, "n_shoppers": 80, "n_queries": 80, "n_reviews": 0}


@pytest.fixture(scope="module")
def market():
    return make_market(1, n_impressions=2_000, **SIZE)


@pytest.fixture(scope="module")
def runs(market):
    return simulate(market, rounds=6, lists=400, seeds=range(6))


def test_clicks_are_those_of_the_position_based_model(market):
    """The log's own lists: 60 rounds of clicks against the log's probability of each one."""
    log, truth = market.impressions, market.truth.impressions
    rows = log["product_id"].to_numpy().reshape(-1, 10)
    query, shopper = (log[c].to_numpy()[::10] for c in ("query_id", "shopper_id"))
    shop, rng = feedback._shop(market), np.random.default_rng(0)
    rounds = 60
    clicks = sum(feedback._clicks(shop, rows, query, shopper, rng) for _ in range(rounds))
    chance = truth["examination"].to_numpy() * truth["attractiveness"].to_numpy()
    expected = rounds * np.bincount(rows.ravel(), chance, len(clicks))
    variance = rounds * np.bincount(rows.ravel(), chance * (1 - chance), len(clicks))
    seen = variance > 20
    squares = ((clicks - expected)[seen] ** 2 / variance[seen]).sum()
    assert seen.sum() > 50
    assert stats.chi2.sf(squares, seen.sum()) > 1e-3


def test_ranking_weights_draw_lists_as_the_shop_does(market):
    """ "randomized" at the market's popularity is the log's own ranking: the share of attention of
    each decile of popularity agrees, within the spread of 200 lists."""
    shop = feedback._shop(market)
    log = market.impressions
    query = log["query_id"].to_numpy()[::10]
    popularity = market.products["popularity"].to_numpy(float)
    logged = log["product_id"].to_numpy().reshape(-1, 10)
    head = popularity >= np.quantile(popularity, 0.9)
    rng = np.random.default_rng(0)
    drawn = [
        (head[feedback._ranked(shop, "randomized", popularity, query, rng)] @ shop.weights).mean()
        for _ in range(50)
    ]
    observed = (head[logged] @ shop.weights).mean()
    assert abs(observed - np.mean(drawn)) < 3.5 * np.std(drawn)


def test_quality_is_the_ndcg_of_the_metrics(market):
    shop = feedback._shop(market)
    rng = np.random.default_rng(4)
    query = rng.integers(len(shop.gains), size=80)
    rows = np.array([rng.permutation(shop.gains.shape[1])[:LIST_LENGTH] for _ in query])
    scores = np.full((80, shop.gains.shape[1]), -np.inf)
    np.put_along_axis(scores, rows, -np.arange(float(LIST_LENGTH))[None], axis=1)
    wanted = shop.gains[query].sum(axis=1) > 0
    expected = ndcg(shop.gains[query][wanted], scores[wanted], k=LIST_LENGTH, gain="linear")
    assert feedback._measured(shop, rows, query)[2] == pytest.approx(expected.mean(), abs=1e-12)


def test_the_control_stays_where_it_is_and_feedback_concentrates(runs):
    start, end = (
        runs[runs["round"] == turn].groupby("policy")["top_decile"].mean() for turn in (0, 6)
    )
    assert start["feedback"] == start["no feedback"]  # the same popularity, queries, shoppers
    assert end["no feedback"] == pytest.approx(start["no feedback"], abs=0.02)  # other queries
    for measure in ("top_decile", "gini"):
        assert amplification(runs, measure).low > 0.05
        assert amplification(runs, measure, policy="constrained").value < (
            amplification(runs, measure).low
        )
    assert amplification(runs, "ndcg").high < 0  # what was clicked first crowds out what fits
    assert amplification(runs, policy="no feedback").value == 0


def test_runs_follow_from_their_seeds(market, runs):
    again = simulate(market, policies=["randomized"], rounds=6, lists=400, seeds=[3])
    part = runs[(runs["policy"] == "randomized") & (runs["seed"] == 3)].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, part)
    assert set(runs["policy"]) == set(POLICIES)
    assert len(runs) == 4 * 6 * 7
    assert part["top_decile"].nunique() > 1


def test_a_faster_pace_amplifies_sooner(market):
    slow, fast = (
        simulate(market, policies=["feedback"], rounds=3, lists=300, pace=pace, seeds=range(3))
        for pace in (0.02, 0.8)
    )
    assert slow["top_decile"].iloc[-1] < fast["top_decile"].iloc[-1]


def test_intervals_are_students(runs):
    table = over_seeds(runs, "gini")
    row = table[(table["policy"] == "feedback") & (table["round"] == 6)].iloc[0]
    values = runs[(runs["policy"] == "feedback") & (runs["round"] == 6)]["gini"]
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    assert (row["value"], row["low"], row["high"]) == pytest.approx((values.mean(), low, high))
    ends = runs[runs["round"] == 6].pivot(index="seed", columns="policy", values="gini")
    paired = stats.ttest_rel(ends["feedback"], ends["no feedback"]).confidence_interval()
    found = amplification(runs, "gini")
    assert (found.low, found.high) == pytest.approx((paired.low, paired.high))
    assert set(MEASURES) <= set(runs.columns)


def winners(sets):
    return pd.DataFrame(
        {"policy": "feedback", "seed": range(len(sets)), "round": 1,
         "winners": [" ".join(map(str, sorted(s))) for s in sets]}
    )  # fmt: skip


def test_shared_winners_of_fate_and_of_luck():
    same = shared_winners(winners([range(30)] * 5), "feedback")
    assert same.value == same.low == same.high == 1.0
    by_hand = shared_winners(winners([[1, 2], [2, 3], [3, 4]]), "feedback")
    assert by_hand.value == pytest.approx((0.5 + 0.0 + 0.5) / 3)
    rng = np.random.default_rng(0)
    luck = [rng.choice(300, 30, replace=False) for _ in range(12)]
    found = shared_winners(winners(luck), "feedback")
    assert found.low < 0.1 < found.high


def test_bad_input_is_one_clear_line(market, runs):
    with pytest.raises(InputError, match="policy 'fate'"):
        simulate(market, policies=["fate"])
    with pytest.raises(InputError, match="start = 'late'"):
        simulate(market, start="late")
    with pytest.raises(InputError, match="pace = 1"):
        simulate(market, pace=1)
    with pytest.raises(InputError, match="at least 1"):
        simulate(market, rounds=0)
    with pytest.raises(InputError, match="stands there twice"):
        simulate(market, seeds=(0, 0, 1))
    tiny = make_market(0, n_products=20, n_queries=5, n_reviews=0, n_impressions=0, n_shoppers=5)
    with pytest.raises(InputError, match="at least 40 products"):
        simulate(tiny)
    with pytest.raises(InputError, match="measure = 'luck'"):
        over_seeds(runs, "luck")
    with pytest.raises(InputError, match="was not simulated"):
        amplification(runs[runs["policy"] != "feedback"])
    with pytest.raises(InputError, match="at least three"):
        amplification(runs[runs["seed"] < 2])
    with pytest.raises(InputError, match="at least three"):
        shared_winners(runs[runs["seed"] < 2], "feedback")
