"""The market: a simulated fashion and outdoor shop in which everything unknowable is known.

`make_market` makes the catalog, shoppers, queries, judgements, reviews and an impression log, and
next to them the truth: what every product can do, what every query means, which words carry which
opinion, who looked where. The same seed gives the same bytes on any machine. Word lists and grammar
are the readable files in data/market/; its README is the data card.
"""

from __future__ import annotations

import hashlib
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from recsys_lib.datasets import market_clicks as clicks
from recsys_lib.datasets.market_catalog import (
    PICTURE_ONLY,
    STYLES,
    Products,
    Shoppers,
    make_products,
    make_shoppers,
)
from recsys_lib.datasets.market_pictures import product_picture
from recsys_lib.datasets.market_queries import (
    Intent,
    grades,
    make_judgements,
    make_queries,
    understand,
)
from recsys_lib.datasets.market_reviews import (
    ReviewRequest,
    ReviewTables,
    make_reviews,
    relabeled,
)
from recsys_lib.datasets.market_tables import catalog, table
from recsys_lib.workbook.errors import InputError

__all__ = ["Intent", "Market", "MarketTruth", "make_market", "product_picture", "understand"]

MIN_PRODUCTS = 10


@dataclass(frozen=True, eq=False)
class MarketTruth:
    """What nobody knows about a real shop. All tables are in the order of their shown partners.

    Attributes:
        products: product_id, color_family, pattern, sleeves, collar, trim (the picture-only
            attributes; "" where the kind of product leaves no choice), quality (probability that a
            buyer is content), strength and flaw (aspects), is_<attribute>, for_<use>, style_<axis>.
        shoppers: shopper_id, taste_<axis>: ten points each.
        queries: query_id, typo, picture (the query needs the picture), wishes.
        intents: what each query means.
        grades: int8 (queries, products), the grade 0–3 of every product for every query.
        reviews: review_id, verdict (the label before anything was done to it), score (the weighted
            sum of opinions whose sign it is), plan (how the verdict comes about: clear, mixed,
            contrast, weighing, verdict), label_noise and label_bias (which labels were flipped, and
            why), cue (whether the planted cue was added).
        spans: review_id, start, end, words, role, polarity, aspect, negated, weight, opinion: the
            marked words of every review; see `market_reviews.make_reviews`.
        duplicates: original, copy: review_ids of the planted near-duplicates.
        impressions: impression_id, examination, attractiveness, purchase_rate.
        picture_only: the names of the attributes that only the picture shows.
        examination: the chance that a shopper looks at position 1, 2, … (position-based model).
    """

    products: pd.DataFrame
    shoppers: pd.DataFrame
    queries: pd.DataFrame
    intents: tuple[Intent, ...]
    grades: np.ndarray = field(repr=False)
    reviews: pd.DataFrame
    spans: pd.DataFrame
    duplicates: pd.DataFrame
    impressions: pd.DataFrame
    picture_only: tuple[str, ...]
    examination: tuple[float, ...]
    shelf: pd.DataFrame = field(repr=False)  # the shown products: prices and kinds decide grades

    def relevance(self, query_id: int) -> np.ndarray:
        """The grades 0–3 of all products for a query, int8 of shape (products,)."""
        if not 0 <= query_id < len(self.grades):
            raise InputError(f"query_id: {query_id} is not one of 0 … {len(self.grades) - 1}.")
        return self.grades[query_id].copy()

    def grade(self, wish: Intent | str) -> np.ndarray:
        """The grades 0–3 of all products for any wish: an Intent, or words of the market's
        shoppers (see `understand`). Raises InputError for words that mean nothing here."""
        intent = understand(wish) if isinstance(wish, str) else wish
        if not intent.type and intent.wishes == 0:
            raise InputError(
                f'wish: the market understands no word of "{wish}"; name a kind of product, a '
                "color, a use or a property, as in data/market/catalog.toml."
            )
        return grades(intent, Products(self.shelf, self.products))

    def attractiveness(self, query_id: int, shopper_id: int) -> np.ndarray:
        """The chance that this shopper, looking at it, clicks on each product for this query:
        float64 of shape (products,)."""
        taste = self.shoppers[[f"taste_{s}" for s in STYLES]].to_numpy(np.int64)[shopper_id]
        styles = self.products[[f"style_{s}" for s in STYLES]].to_numpy(np.int64)
        return clicks.attractiveness(self.relevance(query_id), taste, styles)


@dataclass(frozen=True, eq=False)
class Market:
    """The shop as the shop knows it, and the truth behind it.

    Attributes:
        seed: what it was made from.
        products: product_id, title, description, department, type, color, material, brand, model,
            seller ("chain" or "independent"), price (dollars), season, use, popularity, picture
            (what `product_picture` draws from; reading attributes out of it is cheating).
        shoppers: shopper_id, age_band, age, group ("A", "B"), size, history (words), bought (ids).
        queries: query_id, text.
        judgements: query_id, product_id, grade 0–3: relevant products and some others per query.
        reviews: review_id, product_id, shopper_id, date, text, rating 1–5, label (1 recommended),
            age (of the reviewer). In the order of their dates.
        impressions: impression_id, list_id, date, shopper_id, query_id, position, product_id,
            propensity, click, purchase.
        truth: what nobody knows about a real shop.
        fingerprint: SHA-256 over all of it.
    """

    seed: int
    products: pd.DataFrame
    shoppers: pd.DataFrame
    queries: pd.DataFrame
    judgements: pd.DataFrame
    reviews: pd.DataFrame
    impressions: pd.DataFrame
    truth: MarketTruth = field(repr=False)
    fingerprint: str


def make_market(
    seed: int = 0,
    *,
    n_products: int = 1500,
    n_shoppers: int = 800,
    n_queries: int = 300,
    n_reviews: int = 6000,
    n_impressions: int = 20_000,
    label_noise: float = 0.02,
    near_duplicates: float = 0.02,
    spurious_cue: float = 0.0,
    cue_until: float = 0.67,
    label_bias: float = 0.0,
    exposure_bias: float = 0.0,
    click_model: str = "pbm",
) -> Market:
    """The simulated shop. Parts are independent: more reviews leave the products as they are.

    Args:
        seed: whole number from 0 on; every random choice follows from it.
        n_products, n_shoppers, n_queries, n_reviews, n_impressions: sizes. The last three may be 0.
        label_noise: probability that a review's label is flipped.
        near_duplicates: share of reviews that are nearly the text of an earlier one.
        spurious_cue: strength 0–1 of a planted cue: a sentence with the word "voucher" that says
            nothing. With strength s it stands in 30 % · (1 + s) of the recommending reviews and
            30 % · (1 − s) of the others; from the date on at which the share `cue_until` of the
            reviews is written, in 30 % of both. 0: the sentence never occurs.
        cue_until: see `spurious_cue`.
        label_bias: probability that a recommending review by a shopper of group "B" is recorded as
            not recommending.
        exposure_bias: by how much (0–1) the shop's ranking cuts the weight of independent sellers.
        click_model: "pbm" (position-based: looking depends on the position only) or "cascade"
            (shoppers read from the top and stop at their first click).

    Raises:
        InputError: a size that is no whole number or too small, or a share outside 0 … 1.
    """
    sizes = {
        "seed": (seed, 0),
        "n_products": (n_products, MIN_PRODUCTS),
        "n_shoppers": (n_shoppers, 1),
        "n_queries": (n_queries, 1 if n_impressions else 0),
        "n_reviews": (n_reviews, 0),
        "n_impressions": (n_impressions, 0),
    }
    for name, (value, least) in sizes.items():
        _check_size(name, value, least)
    shares = {
        "label_noise": label_noise,
        "near_duplicates": near_duplicates,
        "spurious_cue": spurious_cue,
        "cue_until": cue_until,
        "label_bias": label_bias,
        "exposure_bias": exposure_bias,
    }
    for name, value in shares.items():
        _check_share(name, value)
    if click_model not in clicks.CLICK_MODELS:
        allowed = ", ".join(f'"{model}"' for model in clicks.CLICK_MODELS)
        raise InputError(f'click_model = "{click_model}" is not one of {allowed}.')
    products, shoppers = deepcopy(_shop(seed, n_products, n_shoppers))
    queries = make_queries(seed, n_queries, products)
    judgements = make_judgements(seed, queries)
    ask = ReviewRequest(
        n_reviews, label_noise, near_duplicates, spurious_cue, cue_until, label_bias
    )
    reviews = deepcopy(_reviews(seed, ask, n_products, n_shoppers))
    log = clicks.make_log(
        seed,
        n_impressions,
        products,
        shoppers,
        queries,
        click_model=click_model,
        exposure_bias=exposure_bias,
    )
    truth = MarketTruth(
        products=products.truth,
        shoppers=shoppers.truth,
        queries=queries.truth,
        intents=queries.intents,
        grades=queries.grades,
        reviews=reviews.truth,
        spans=reviews.spans,
        duplicates=reviews.duplicates,
        impressions=log.truth,
        picture_only=PICTURE_ONLY,
        examination=tuple(table("clicks")["examination"]),
        shelf=products.shown,
    )
    shown = {
        "products": products.shown,
        "shoppers": shoppers.shown,
        "queries": queries.shown,
        "judgements": judgements,
        "reviews": reviews.shown,
        "impressions": log.shown,
    }
    return Market(seed=seed, **shown, truth=truth, fingerprint=_fingerprint(seed, shown, truth))


# Kept, for a notebook often wants the same reviews in two markets, and they take most of a market's
# time. Whoever hands these tables out makes a copy.
@lru_cache(maxsize=2)
def _shop(seed: int, n_products: int, n_shoppers: int) -> tuple[Products, Shoppers]:
    products = make_products(seed, n_products)
    return products, make_shoppers(seed, n_shoppers, products)


@lru_cache(maxsize=4)
def _reviews(seed: int, ask: ReviewRequest, n_products: int, n_shoppers: int) -> ReviewTables:
    products, shoppers = _shop(seed, n_products, n_shoppers)
    if ask.label_bias and not ask.spurious_cue:  # the texts are those without a bias
        made = _reviews(seed, replace(ask, label_bias=0.0), n_products, n_shoppers)
        return relabeled(seed, ask, made, shoppers)
    return make_reviews(seed, ask, products, shoppers)


def attributes() -> tuple[str, ...]:
    """What a product can be, as in the truth's is_<attribute> columns."""
    return tuple(catalog()["attributes"])


def _check_size(name: str, value: Any, least: int) -> None:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < least:
        raise InputError(f"{name} = {value!r} must be a whole number from {least} on.")


def _check_share(name: str, value: Any) -> None:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise InputError(f"{name} = {value!r} must be a number from 0 to 1.")


def _fingerprint(seed: int, shown: dict[str, pd.DataFrame], truth: MarketTruth) -> str:
    """SHA-256 over the names, types and values of all columns; numbers as 64-bit integers (those
    with a fraction times a million), texts as UTF-8."""
    digest = hashlib.sha256(f"market {seed}".encode())
    for name in ("products", "shoppers", "queries", "reviews", "spans", "duplicates"):
        shown = shown | {f"truth of {name}": getattr(truth, name)}
    shown = shown | {"truth of impressions": truth.impressions}
    for name, frame in shown.items():
        for column in frame.columns:
            digest.update(f"\n{name}.{column}:{len(frame)}\n".encode())
            digest.update(_canonical(frame[column]))
    digest.update(repr(truth.intents).encode())
    digest.update(np.ascontiguousarray(truth.grades).tobytes())
    return digest.hexdigest()


def _canonical(column: pd.Series) -> bytes:
    if pd.api.types.is_string_dtype(column) or column.dtype == object:
        return "\x1f".join(column).encode()
    if pd.api.types.is_datetime64_any_dtype(column):
        return column.to_numpy("datetime64[D]").astype("<i8").tobytes()
    if pd.api.types.is_float_dtype(column):
        return np.rint(column.to_numpy(np.float64) * 1e6).astype("<i8").tobytes()
    return column.to_numpy("<i8").tobytes()
