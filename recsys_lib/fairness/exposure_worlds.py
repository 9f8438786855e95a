"""The audit of exposure in many worlds whose truth is known.

What `placebo_worlds` is to labels: an alarm means something only if it is rare where there is
nothing to find, and common where there is. The products, queries and relevance of one market stay.
In every world its popularity is dealt out among the products anew (the market deals it at random,
too), and half of the brands are called independent; then the market's rule, with or without a bias
against these, draws the lists of a log, and the audit sees the log alone.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from recsys_lib.datasets.market import Market
from recsys_lib.datasets.market_catalog import Products
from recsys_lib.datasets.market_clicks import LIST_LENGTH, ranking_weights
from recsys_lib.datasets.market_tables import table
from recsys_lib.fairness.exposure import attention, class_exposure
from recsys_lib.fairness.reranking import rank_with_bonus
from recsys_lib.workbook.errors import InputError


def exposure_worlds(
    market: Market,
    *,
    worlds: int = 200,
    exposure_bias: float = 0.0,
    lists: int = 300,
    n: int = 100,
    alpha: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """Is a bias of this size against independent sellers found, world by world?

    Args:
        market: whose products, queries, relevance and rule are used; it needs queries.
        worlds: how many.
        exposure_bias: as in `make_market`; 0: labels that mean nothing.
        lists: in each log, for queries drawn at random.
        n: resamples of the intervals.
        alpha: of the test, which permutes the sellers among the brands (`class_exposure`).
        seed: world w uses the stream ``default_rng([seed, w])``. A world has the same popularity,
            sellers and queries under every bias.

    Returns:
        One row per world: found (p ≤ alpha), p, and of the independent sellers' exposure less
        merit: value, low, high; truth, the same gap in as many fresh lists for the same queries,
        drawn by the same rule, so with a sampling error of its own; spread,
        the standard error that brands tell, as in a t test of two groups.

    Raises InputError for a market without queries, fewer than four brands, or numbers out of range.
    """
    if worlds < 1 or lists < 2 or not 0 <= exposure_bias < 1 or not 0 < alpha < 1:
        raise InputError(
            "worlds must be at least 1, lists 2, exposure_bias from 0 to below 1, and "
            "alpha between 0 and 1."
        )
    brands, brand = np.unique(market.products["brand"], return_inverse=True)
    if not len(market.queries) or len(brands) < 4:
        raise InputError("market: needs queries, and products of at least four brands.")
    popularity = market.products["popularity"].to_numpy(np.float64)
    fit = np.log(rule_weights(market) / popularity)
    merit = 2.0**market.truth.grades - 1
    merit /= merit.sum(axis=1, keepdims=True).clip(min=1e-300)
    look = attention(LIST_LENGTH, market.truth.examination)
    k = len(brands) // 2
    lines = []
    for world in range(worlds):
        rng = np.random.default_rng([seed, world])
        own = rng.permutation(len(brands))[:k]
        independent = np.isin(brand, own)
        scores = fit + np.log(rng.permutation(popularity))
        scores += np.where(independent, np.log1p(-exposure_bias), 0.0)
        asked = rng.integers(len(fit), size=lists)
        rows, again = np.split(drawn_lists(scores, np.tile(asked, 2), rng), 2)
        due = merit[asked]
        found = class_exposure(
            rows, due, np.where(independent, "independent", "chain"), weights=look,
            units=brand, groups=asked, n=n, seed=seed,
        )[1]  # fmt: skip
        truth = (independent[again] @ look).mean() / look.sum() - found.merit.value
        lines.append(
            {
                "found": found.p <= alpha + 1e-12,
                "p": found.p,
                **{end: getattr(found.gap, end) for end in ("value", "low", "high")},
                "truth": truth,
                "spread": found.spread,
            }
        )
    return pd.DataFrame(lines)


def rule_weights(market: Market) -> np.ndarray:
    """The weight of every product in the market's own ranking without a bias, (queries, products)
    float64; see `market_clicks.ranking_weights`."""
    products = Products(market.truth.shelf, market.truth.products)
    weights = [ranking_weights(intent, products, 0.0) for intent in market.truth.intents]
    return np.array(weights, dtype=np.float64)


def drawn_lists(scores: np.ndarray, asked: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lists as the market draws them, (lists, 10): of the heaviest candidates of each query asked,
    one after another with probability proportional to its weight.

    scores: (queries, products), log weights. asked: (lists,), rows of it. Drawn by the largest log
    weights plus Gumbel noise (Yellott 1977), which is the same law.
    """
    queries, at = np.unique(asked, return_inverse=True)
    nobody = np.zeros(scores.shape[1], dtype=bool)
    best = rank_with_bonus(scores[queries], nobody, table("clicks")["ranking"]["candidates"])
    weight = np.take_along_axis(scores[queries], best, axis=1)[at]
    order = np.argsort(-(weight + rng.gumbel(size=weight.shape)), axis=1)[:, :LIST_LENGTH]
    return np.take_along_axis(best[at], order, axis=1)
