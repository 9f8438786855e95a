"""Does a shop that ranks by its own clicks amplify them? Rounds of feedback on the market.

In each round shoppers ask, the shop ranks by popularity × fit, they look and click as the market's
truth says (position-based model), and the clicks become popularity:

    popularity ← (1 − pace) · popularity + pace · (this round's share of the clicks)

Ways to rank, which all start from the same popularity, queries and shoppers:

* "feedback": the ten heaviest, in order;
* "no feedback": the same, but popularity stays as it was (the control);
* "randomized": ten drawn one after another by weight (Plackett 1975, Luce 1959), which lets new
  products be seen;
* "constrained": the ten heaviest after the smallest bonus with which the less popular nine tenths
  get their share of the relevance (`reranking.bonus_for`).

Sources: Salganik, Dodds, Watts (2006), Science 311 (inequality and luck in cultural markets);
Chaney, Stewart, Engelhardt (2018), How algorithmic confounding in recommendation systems increases
homogeneity and decreases utility, RecSys; Yellott (1977) (drawing by the largest log weight plus
Gumbel noise).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from recsys_lib.datasets.market import Market
from recsys_lib.datasets.market_catalog import STYLES
from recsys_lib.datasets.market_clicks import LIST_LENGTH, attractiveness
from recsys_lib.datasets.market_tables import table
from recsys_lib.fairness.exposure import attention, gini
from recsys_lib.fairness.exposure_worlds import drawn_lists, rule_weights
from recsys_lib.fairness.reranking import bonus_for, rank_with_bonus
from recsys_lib.metrics import Estimate, dcg
from recsys_lib.workbook.errors import InputError

POLICIES = ("feedback", "no feedback", "randomized", "constrained")
MEASURES = ("top_decile", "gini", "ndcg")


def simulate(
    market: Market,
    *,
    policies: Sequence[str] = POLICIES,
    rounds: int = 10,
    lists: int = 1000,
    pace: float = 0.3,
    start: str = "even",
    seeds: Sequence[int] = tuple(range(8)),
) -> pd.DataFrame:
    """The rounds of each way to rank, once per seed; seeds draw who asks what, and who clicks.

    Args:
        market: the shop; its truth says who looks, who clicks and what is relevant.
        policies: some of `POLICIES`.
        rounds: after the first, which ranks by the starting popularity.
        lists: shown per round, to shoppers and for queries drawn at random.
        pace: how much of popularity a round replaces, above 0 and below 1.
        start: "even" (all products equal, but for noise of one percent that breaks ties) or
            "market" (the market's own popularity).
        seeds: of the runs.

    Returns one line per policy, seed and round (0 …): `top_decile`, the share of the round's
    attention that goes to the tenth of the catalog that got most of it; `gini` of the attention per
    product; `ndcg`, NDCG@10 by the true grades; `winners`, the rows of that tenth, as text, so that
    runs can be compared.

    Raises InputError for an unknown policy or start, or numbers out of range.
    """
    _check(policies, rounds, lists, pace, start, seeds)
    shop = _shop(market)
    lines = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 0])
        first = np.exp(rng.normal(0, 0.01, len(shop.styles)))
        if start == "market":
            first = market.products["popularity"].to_numpy(np.float64)
        for policy in policies:
            popularity = first / first.sum()
            asked, drawn, clicked = (np.random.default_rng([seed, part]) for part in (1, 2, 3))
            for turn in range(rounds + 1):
                query = asked.integers(len(shop.fit), size=lists)
                shopper = asked.integers(len(shop.tastes), size=lists)
                rows = _ranked(shop, policy, popularity, query, drawn)
                lines.append((policy, seed, turn, *_measured(shop, rows, query)))
                clicks = _clicks(shop, rows, query, shopper, clicked)
                if policy != "no feedback" and clicks.sum() > 0:
                    popularity = (1 - pace) * popularity + pace * clicks / clicks.sum()
    columns = ["policy", "seed", "round", *MEASURES, "winners"]
    return pd.DataFrame(lines, columns=columns)


def over_seeds(runs: pd.DataFrame, measure: str, *, level: float = 0.95) -> pd.DataFrame:
    """Columns policy, round, value, low, high: the mean over seeds with its t interval.

    Raises InputError for an unknown measure, or fewer than three seeds.
    """
    _check_measure(measure)
    lines = []
    for (policy, turn), part in runs.groupby(["policy", "round"], sort=False):
        found = _t_interval(part[measure].to_numpy(), level)
        lines.append((policy, turn, found.value, found.low, found.high))
    return pd.DataFrame(lines, columns=["policy", "round", "value", "low", "high"])


def amplification(
    runs: pd.DataFrame,
    measure: str = "top_decile",
    *,
    policy: str = "feedback",
    control: str = "no feedback",
    level: float = 0.95,
) -> Estimate:
    """How much higher `measure` is in the last round under `policy` than under the control, which
    met the same queries and shoppers: the mean over seeds with its t interval.

    Raises InputError for an unknown measure, a policy that was not run, or fewer than three seeds.
    """
    _check_measure(measure)
    last = runs[runs["round"] == runs["round"].max()]
    by_policy = last.pivot(index="seed", columns="policy", values=measure)
    for name in (policy, control):
        if name not in by_policy:
            raise InputError(f'amplification: "{name}" was not simulated.')
    return _t_interval((by_policy[policy] - by_policy[control]).to_numpy(), level)


def shared_winners(runs: pd.DataFrame, policy: str) -> Estimate:
    """How alike the winners of two runs are: the mean share of the last round's top tenth that two
    seeds have in common, with a jackknife interval over seeds. 1: worth decides; 0.1: luck alone.

    Raises InputError for a policy that was not run, or fewer than three seeds.
    """
    last = runs[(runs["policy"] == policy) & (runs["round"] == runs["round"].max())]
    sets = [set(winners.split()) for winners in last["winners"]]
    n = len(sets)
    if n < 3:
        raise InputError(f'shared_winners: "{policy}" needs runs of at least three seeds.')
    common = np.array([[len(a & b) / len(a) for b in sets] for a in sets])
    np.fill_diagonal(common, 0)
    value = common.sum() / (n * (n - 1))
    without = [(common.sum() - 2 * common[i].sum()) / ((n - 1) * (n - 2)) for i in range(n)]
    spread = np.sqrt((n - 1) / n * np.square(np.array(without) - np.mean(without)).sum())
    half = float(stats.t.ppf(0.975, n - 1) * spread)
    low, high = max(0.0, value - half), min(1.0, value + half)
    return Estimate(float(value), low, high, 0.95, n, n, f"jackknife t interval over {n} seeds")


# ----------------------------------------------------------------------------- the simulated shop


@dataclass(frozen=True, eq=False)
class _Shop:
    """What the simulation needs of the market. fit, gains, grades: (queries, products); styles:
    (products, S); tastes: (shoppers, S); weights: (10,), the chance of a look at each position.
    ideal: (queries,), the DCG@10 of the best list there is."""

    fit: np.ndarray
    gains: np.ndarray
    grades: np.ndarray
    styles: np.ndarray
    tastes: np.ndarray
    weights: np.ndarray
    ideal: np.ndarray


def _shop(market: Market) -> _Shop:
    candidates = table("clicks")["ranking"]["candidates"]
    if len(market.products) < candidates or not len(market.queries):
        raise InputError(f"market: needs at least {candidates} products, and queries.")
    truth = market.truth
    gains = 2.0**truth.grades - 1
    return _Shop(
        fit=rule_weights(market) / (1000 * market.products["popularity"].to_numpy(np.float64)),
        gains=gains,
        grades=truth.grades,
        styles=truth.products[[f"style_{s}" for s in STYLES]].to_numpy(np.int64),
        tastes=truth.shoppers[[f"taste_{s}" for s in STYLES]].to_numpy(np.int64),
        weights=attention(LIST_LENGTH, truth.examination),
        ideal=dcg(gains, gains, k=LIST_LENGTH, gain="linear"),
    )


def _ranked(
    shop: _Shop, policy: str, popularity: np.ndarray, query: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(lists, 10) rows for the queries asked, by popularity × fit and the policy."""
    scores = np.log(shop.fit) + np.log(popularity)
    nobody = np.zeros(len(popularity), dtype=bool)
    if policy == "randomized":
        return drawn_lists(scores, query, rng)
    if policy != "constrained":
        return rank_with_bonus(scores, nobody, LIST_LENGTH)[query]
    tail = ~nobody
    tail[np.argsort(-popularity, kind="stable")[: len(popularity) // 10]] = False
    wanted = shop.gains.sum(axis=1)
    due = (shop.gains[wanted > 0] @ tail / wanted[wanted > 0]).mean()
    bonus = bonus_for(scores, tail, due, k=LIST_LENGTH, weights=shop.weights)
    return rank_with_bonus(scores, tail, LIST_LENGTH, bonus)[query]


def _clicks(
    shop: _Shop,
    rows: np.ndarray,
    query: np.ndarray,
    shopper: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """(products,) clicks on these lists: looked at, by position, and found attractive."""
    shown, length = rows.ravel(), rows.shape[1]
    grades = shop.grades[np.repeat(query, length), shown]
    taste = np.repeat(shop.tastes[shopper], length, axis=0)
    chance = attractiveness(grades, taste, shop.styles[shown]) * np.tile(shop.weights, len(rows))
    return np.bincount(shown, rng.random(len(shown)) < chance, len(shop.styles))


def _measured(shop: _Shop, rows: np.ndarray, query: np.ndarray) -> tuple[float, float, float, str]:
    """`MEASURES` of these lists, and the winners."""
    seen = np.bincount(rows.ravel(), np.tile(shop.weights, len(rows)), len(shop.styles))
    top = np.argsort(-seen, kind="stable")[: len(seen) // 10]
    discounted = shop.gains[query[:, None], rows] @ attention(LIST_LENGTH)
    wanted = shop.ideal[query] > 0
    quality = (discounted[wanted] / shop.ideal[query][wanted]).mean()
    winners = " ".join(map(str, top.tolist()))
    return float(seen[top].sum() / seen.sum()), gini(seen), float(quality), winners


def _t_interval(values: np.ndarray, level: float) -> Estimate:
    n = len(values)
    if n < 3:
        raise InputError(f"{n} seeds are too few for an interval: give at least three.")
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * stats.sem(values))
    mean = float(np.mean(values))
    return Estimate(mean, mean - half, mean + half, level, n, n, f"t interval over {n} seeds")


def _check_measure(measure: str) -> None:
    if measure not in MEASURES:
        raise InputError(f"measure = {measure!r} is not one of {', '.join(MEASURES)}.")


def _check(policies, rounds, lists, pace, start, seeds) -> None:
    for policy in policies:
        if policy not in POLICIES:
            raise InputError(f"policy {policy!r} is not one of {', '.join(POLICIES)}.")
    if start not in ("even", "market"):
        raise InputError(f'start = {start!r} is not "even" or "market".')
    if rounds < 1 or lists < 1 or not len(seeds):
        raise InputError("rounds, lists and the number of seeds must be at least 1.")
    if len(set(seeds)) < len(seeds) or len(set(policies)) < len(policies):
        raise InputError("seeds and policies: one stands there twice; give each once.")
    if not 0 < pace < 1:
        raise InputError(f"pace = {pace} must be above 0 and below 1.")
