"""The impression log: what was shown where, who looked, who clicked, who bought.

Click models after Craswell, Zoeter, Taylor and Ramsey, "An experimental comparison of click
position-bias models" (WSDM 2008) and Chuklin, Markov and de Rijke, "Click Models for Web Search"
(Morgan & Claypool 2015). Lists are drawn as Plackett (1975) and Luce (1959) describe: each position
takes one of the products left, with probability proportional to its weight.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import pandas as pd

from recsys_lib.datasets.market_catalog import STYLES, Products, Shoppers, affinity
from recsys_lib.datasets.market_queries import Intent, Queries, wishes_met
from recsys_lib.datasets.market_random import Draw
from recsys_lib.datasets.market_tables import as_frame, table

CLICK_MODELS = ("pbm", "cascade")
LIST_LENGTH = 10
FIRST_DAY = np.datetime64("2024-01-01", "D")
DAYS = 365


@dataclass(frozen=True)
class Log:
    """`shown`: impression_id, list_id, date, shopper_id, query_id, position (1 …), product_id,
    propensity, click, purchase. `truth`, same order: impression_id, examination, attractiveness,
    purchase_rate (given a click); examination is the probability, before anything is seen, that the
    shopper looks at the position. `propensity` is the probability with which the shop's ranking put
    this product at this position, given what stood above it."""

    shown: pd.DataFrame
    truth: pd.DataFrame


def attractiveness(grades: np.ndarray, taste: np.ndarray, styles: np.ndarray) -> np.ndarray:
    """The probability of a click on a product that is looked at, float64 of shape (products,).

    grades: int (products,), for the query; taste: int (S,); styles: int (products, S).
    """
    rules = table("clicks")
    base = np.array(rules["click_percent"], dtype=np.int64)[grades]
    percent = rules["taste_low"] + rules["taste_step"] * affinity(taste, styles)
    return np.minimum(base * percent, 9500) / 10_000


def make_log(
    seed: int,
    n: int,
    products: Products,
    shoppers: Shoppers,
    queries: Queries,
    *,
    click_model: str,
    exposure_bias: float,
) -> Log:
    """`n` impressions in lists of ten (the last may be shorter), in the order of their dates."""
    draw, looking = Draw(seed, "lists"), Draw(seed, "clicks")
    rules = table("clicks")
    styles = products.truth[[f"style_{s}" for s in STYLES]].to_numpy(np.int64)
    tastes = shoppers.truth[[f"taste_{s}" for s in STYLES]].to_numpy(np.int64)
    length = min(LIST_LENGTH, len(products.shown))
    n_lists = -(-n // length)
    days = sorted(draw.below(DAYS) for _ in range(n_lists))
    candidates: dict[int, tuple[list[int], list[int]]] = {}
    shown, truth = [], []
    for list_id, day in enumerate(days):
        query = draw.below(len(queries.shown))
        shopper = draw.below(len(tastes))
        if query not in candidates:
            weights = ranking_weights(queries.intents[query], products, exposure_bias)
            candidates[query] = _candidates(weights, rules["ranking"]["candidates"])
        grades = queries.grades[query]
        chosen = _draw_list(draw, *candidates[query], length)
        items = np.array([product for product, _ in chosen])
        attract = attractiveness(grades[items], tastes[shopper], styles[items]).tolist()
        reached, clicked_above = 1.0, False  # cascade: the shopper reads on until the first click
        date = FIRST_DAY + np.timedelta64(day, "D")
        for at, ((product, propensity), a) in enumerate(zip(chosen, attract, strict=True)):
            if len(shown) == n:
                break
            if click_model == "pbm":
                examined = rules["examination"][at]
                click = looking.chance(examined * a)
            else:
                examined = round(reached, 6)
                click = not clicked_above and looking.chance(a)
                reached, clicked_above = reached * (1 - a), clicked_above or click
            rate = rules["purchase"][grades[product]]
            bought = click and looking.chance(rate)
            row = (len(shown), list_id, date, shopper, query, at + 1, product, propensity)
            shown.append((*row, int(click), int(bought)))
            truth.append((len(truth), examined, a, rate))
    return Log(*_tables(shown, truth))


def ranking_weights(intent: Intent, products: Products, exposure_bias: float) -> np.ndarray:
    """The weight of every product in the shop's own ranking, int64 of shape (products,)."""
    rules = table("clicks")["ranking"]
    known = replace(intent, pattern="", sleeves="", collar="", trim="")
    fit = 1 + rules["wish"] * wishes_met(known, products)
    if intent.type:
        fit = fit + rules["kind"] * (products.shown["type"] == intent.type).to_numpy(np.int64)
    weights = products.shown["popularity"].to_numpy(np.int64) * fit * 1000
    independent = (products.shown["seller"] == "independent").to_numpy()
    kept = 1000 - round(1000 * exposure_bias)
    return np.where(independent, weights * kept // 1000, weights)


def _candidates(weights: np.ndarray, n: int) -> tuple[list[int], list[int]]:
    best = np.argsort(-weights, kind="stable")[:n]
    return best.tolist(), weights[best].tolist()


def _draw_list(
    draw: Draw, products: list[int], weights: list[int], length: int
) -> list[tuple[int, float]]:
    products, weights = list(products), list(weights)
    chosen = []
    for _ in range(length):
        running = list(accumulate(weights))
        if running[-1] == 0:  # only products left that the bias hides completely
            weights = [1] * len(weights)
            running = list(range(1, len(weights) + 1))
        at = draw.pick_cumulative(range(len(products)), running)
        chosen.append((products.pop(at), round(weights.pop(at) / running[-1], 8)))
    return chosen


def _tables(shown: list[tuple], truth: list[tuple]) -> tuple[pd.DataFrame, pd.DataFrame]:
    names = {"impression_id": "int64", "list_id": "int64", "date": "datetime64[s]"}
    names |= {"shopper_id": "int64", "query_id": "int64", "position": "int64"}
    names |= {"product_id": "int64", "propensity": "float64", "click": "int8", "purchase": "int8"}
    facts = {"impression_id": "int64", "examination": "float64"}
    facts |= {"attractiveness": "float64", "purchase_rate": "float64"}
    return as_frame(shown, names), as_frame(truth, facts)
