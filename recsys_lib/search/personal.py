"""The shopper's own words: a free-text wish, ranked with what the shopper bought before in mind.

The wish's vector is moved some way towards the mean of the vectors of earlier purchases (and of a
profile in words):

    q' = normalize((1 − w) · wish + w · taste),   taste = normalize(mean of the bought)

With w = 0 nobody is personal, with w = 1 nobody is asked. `choose_weight` finds w on lists that
shoppers saw, by what they clicked; it needs nothing that a shop does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recsys_lib.metrics import bootstrap_queries, holm, ndcg, sign_flip_test
from recsys_lib.models import embed
from recsys_lib.search.fusion import reciprocal_rank_fusion
from recsys_lib.search.index import exact_search, take_vectors
from recsys_lib.search.lexical import KeywordIndex, keyword_search, words
from recsys_lib.search.results import NO_ROW, Ranking, check_k
from recsys_lib.text import encode
from recsys_lib.workbook.errors import InputError

_DEPTH = 100  # products of each ranker that are fused


def personal_vectors(wishes: np.ndarray, tastes: np.ndarray, weight: float) -> np.ndarray:
    """Vectors of wishes moved towards the shoppers' tastes, of length 1, (Q, d) float32.

    wishes, tastes: (Q, d) float; a taste of zeros (nothing is known) leaves its wish as it is.
    weight: how far, 0 … 1.
    """
    if not isinstance(weight, Real) or not 0 <= weight <= 1:
        raise InputError(f"weight = {weight!r} must be a number from 0 to 1")
    wishes, tastes = _unit(wishes), _unit(tastes)
    if wishes.shape != tastes.shape:
        raise InputError(f"wishes and tastes differ in shape: {wishes.shape} and {tastes.shape}")
    known = tastes.any(axis=1, keepdims=True)
    return _unit(np.where(known, (1 - weight) * wishes + weight * tastes, wishes))


def taste_vectors(
    purchases: Sequence[Sequence[int]], products: np.ndarray | Sequence[np.ndarray]
) -> np.ndarray:
    """The mean direction of what each shopper bought, (S, d) float32; zeros for nothing bought.

    purchases: catalog rows per shopper. products: vectors, as in `index.exact_search`.
    """
    lengths = [len(rows) for rows in purchases]
    rows = np.array([row for bought in purchases for row in bought], dtype=np.int64)
    vectors = _unit(take_vectors(products, rows))
    out = np.zeros((len(lengths), vectors.shape[1]), dtype=np.float32)
    np.add.at(out, np.repeat(np.arange(len(lengths)), lengths), vectors)
    return _unit(out)


@dataclass(frozen=True, eq=False)
class ShownLists:
    """Lists that shoppers saw, from a log.

    query_id, shopper_id: (L,) int64. rows: (L, C) int64, catalog rows in the order shown, -1 behind
    the end. gains: (L, C) int64: 0 nothing, 1 a click, 2 a purchase.
    """

    query_id: np.ndarray
    shopper_id: np.ndarray
    rows: np.ndarray
    gains: np.ndarray


def lists_from_log(impressions: pd.DataFrame, product_ids: Sequence[int] | pd.Series) -> ShownLists:
    """The lists of a log with the columns list_id, query_id, shopper_id, position, product_id,
    click and purchase; only those with a click, as the others say nothing about order.

    product_ids: of the catalog, in order.
    Raises InputError for a product that the catalog lacks or has twice, or a missing column.
    """
    for column in ("list_id", "query_id", "shopper_id", "position", "click", "purchase"):
        if column not in impressions or impressions[column].isna().any():
            raise InputError(f'the log needs a column "{column}" without missing values')
    log = impressions.sort_values(["list_id", "position"], kind="stable")
    log = log[log.groupby("list_id")["click"].transform("max") > 0]
    row = _catalog_rows(product_ids, log["product_id"])
    if (row < 0).any():
        lost = log["product_id"].iloc[int(np.flatnonzero(row < 0)[0])]
        raise InputError(f"the log shows the product {lost}, which the catalog lacks")
    first = ~log.duplicated("list_id").to_numpy()
    line = np.cumsum(first) - 1
    at = log.groupby("list_id").cumcount().to_numpy()
    shape = (int(first.sum()), int(at.max(initial=-1)) + 1)
    rows, gains = np.full(shape, NO_ROW, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    rows[line, at] = row
    gains[line, at] = log["click"].to_numpy() + log["purchase"].to_numpy()
    query_id, shopper_id = (log[c].to_numpy(np.int64)[first] for c in ("query_id", "shopper_id"))
    return ShownLists(query_id, shopper_id, rows, gains)


def choose_weight(
    wishes: np.ndarray,
    tastes: np.ndarray,
    shown: ShownLists,
    products: np.ndarray | Sequence[np.ndarray],
    *,
    weights: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
    k: int = 10,
) -> tuple[float, pd.DataFrame]:
    """The weight with which the shown lists, put into the order of the personal vectors, have the
    highest mean NDCG@k (the lower one of equals), and a table: weight, ndcg, change (from the first
    weight, over the same lists), low and high (its 95 % interval, shoppers resampled), p_holm (of
    "no change", `metrics.sign_flip_test` by shopper, corrected for all weights but the first as by
    `metrics.holm`; NaN for the first), lists.

    wishes, tastes: (L, d), one per shown list. Where the lists with a click are of one shopper,
    low, high and p_holm are NaN; the intervals do not allow for several weights. Clicks favor what
    stood on top, and lists are shown by fit to the wish: that favors a low weight. Products that
    were never shown cannot win. So this chooses between weights, cautiously; it does not say how
    good the search is. Use lists that no later evaluation sees.
    """
    check_k(k)
    if not (shown.gains > 0).any():
        raise InputError("no list with a click to choose the weight on")
    if len(wishes) != len(shown.rows):
        raise InputError(f"{len(wishes)} wishes for {len(shown.rows)} lists")
    if not len(weights):
        raise InputError("weights is empty: give at least one to choose from")
    listed = shown.rows >= 0
    items = take_vectors(products, np.maximum(shown.rows, 0).ravel())
    if items.shape[1] != wishes.shape[1]:
        raise InputError(
            f"wishes have the width {wishes.shape[1]}, the products {items.shape[1]}: embed both "
            "with the same model"
        )
    items = items.reshape(*shown.rows.shape, -1)
    values = []
    for weight in weights:
        asked = personal_vectors(wishes, tastes, weight)
        scores = np.einsum("lcd,ld->lc", items, asked)
        values.append(ndcg(shown.gains, scores, k, mask=listed))
    clicked = ~np.isnan(values[0])
    several = len(np.unique(shown.shopper_id[clicked])) > 1
    rows = []
    for at, (weight, value) in enumerate(zip(weights, values, strict=True)):
        change = value - values[0]
        low = high = p = np.nan
        if several:
            e = bootstrap_queries(change, groups=shown.shopper_id)
            low, high = e.low, e.high
            if at:
                p = sign_flip_test(change[clicked], groups=shown.shopper_id[clicked])
        rows.append((weight, np.nanmean(value), np.nanmean(change), low, high, p, len(value)))
    columns = ["weight", "ndcg", "change", "low", "high", "p_holm", "lists"]
    table = pd.DataFrame(rows, columns=columns)
    table["p_holm"] = holm(table["p_holm"])
    return float(table["weight"].iloc[int(np.argmax(table["ndcg"]))]), table


@dataclass(frozen=True, eq=False)
class Found:
    """What a wish found.

    table: rank (from 1), row (in the catalog), score, then all columns of the products. notes: what
    the reader should know about this search, a sentence each.
    """

    table: pd.DataFrame
    notes: tuple[str, ...]


def search_for(
    wish: str,
    products: pd.DataFrame,
    vectors: np.ndarray | Sequence[np.ndarray],
    *,
    encoder: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    k: int = 10,
    purchases: Sequence[object] = (),
    profile: str = "",
    weight: float = 0.1,
    keywords: KeywordIndex | None = None,
    keep_bought: bool = False,
    max_length: int = 64,
) -> Found:
    """The k products that answer a wish in the shopper's own words, best first.

    products: the catalog, with `product_id`, each once.
    vectors: of its texts, by the same encoder: (N, d), or the parts of a `catalog.Catalog`.
    purchases: product ids that the shopper bought; profile: the shopper in words ("runs marathons,
        likes muted colors"), which counts as one more purchase.
    weight: see `personal_vectors`; `choose_weight` finds the one that serves a shop's own log.
    keywords: where given, its BM25 ranking of the wish is fused with that of the vectors
        (`fusion.reciprocal_rank_fusion`); the scores are then those of the fusion.
    keep_bought: whether to show again what the shopper has.
    max_length: tokens of the wish and the profile that are read; the rest is cut off, with a note.

    A wish of stop words, signs or emoji only is answered by its vector alone, with a note, whether
    or not there are `keywords`; a k above the catalog's size gives all of it.
    Raises InputError for an empty wish, an unknown or duplicate product id, vectors that do not
    fit, or an empty catalog.
    """
    check_k(k)
    if not isinstance(wish, str) or not any(c.isprintable() and not c.isspace() for c in wish):
        raise InputError("the wish is empty: say in a few words what you are looking for")
    if not isinstance(profile, str):
        raise InputError(f'profile = {profile!r} must be a text; "" where there is none')
    if isinstance(purchases, str) or not isinstance(purchases, Iterable):
        raise InputError(f"purchases = {purchases!r} must be a list of product ids")
    if "product_id" not in products:
        raise InputError('products have no column "product_id"')
    parts = [vectors] if isinstance(vectors, np.ndarray) else list(vectors)
    if sum(len(part) for part in parts) != len(products):
        raise InputError(
            f"{len(products)} products but {sum(len(part) for part in parts)} vectors: embed the "
            "catalog again"
        )
    if keywords is not None and keywords.n_products != len(products):
        raise InputError(f"{len(products)} products but {keywords.n_products} in keywords")
    purchases = list(purchases)
    bought = _catalog_rows(products["product_id"], purchases)
    if (bought < 0).any():
        unknown = purchases[int(np.flatnonzero(bought < 0)[0])]
        raise InputError(f"purchases: the catalog has no product {unknown!r}")
    notes = []
    encoded = encode(tokenizer, [wish, profile], max_length=max_length)
    asked = embed(encoder, encoded)
    for name, length in zip(("wish", "profile"), encoded.full_lengths, strict=True):
        if length > max_length:
            notes.append(f"the {name} has {length} tokens; the first {max_length} were read")
    taste = np.zeros_like(asked[:1])
    if len(bought):
        taste = taste_vectors([bought], parts) * len(bought)
    if profile.strip():
        taste = taste + asked[1:]
    hidden = np.array([], dtype=np.int64) if keep_bought else bought
    depth = min(max(_DEPTH, k) + len(hidden), max(1, len(products)))
    found = exact_search(personal_vectors(asked[:1], taste, weight), parts, depth)
    if not words(wish):
        notes.append("the wish has no word to look up; it is ranked by its meaning alone")
    if keywords is not None:
        lists = [found, keyword_search(keywords, [wish], depth)]
        found = reciprocal_rank_fusion(lists, depth)
    return Found(_table(found, products, hidden, k), tuple(notes))


def _catalog_rows(product_ids: Sequence[object] | pd.Series, wanted: Sequence) -> np.ndarray:
    """The catalog's row of each wanted product, (n,) int64, -1 for one that it lacks."""
    index = pd.Index(product_ids)
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise InputError(f"the catalog has the product {twice} twice: every one needs its own id")
    return index.get_indexer(pd.Index(wanted))


def _table(found: Ranking, products: pd.DataFrame, hidden: np.ndarray, k: int) -> pd.DataFrame:
    """The first k that are not hidden, with the columns of the products."""
    kept = (found.rows[0] >= 0) & ~np.isin(found.rows[0], hidden)
    rows, scores = found.rows[0][kept][:k], found.scores[0][kept][:k]
    table = products.iloc[rows].reset_index(drop=True)
    table = table.drop(columns=[c for c in ("rank", "row", "score") if c in table])
    table.insert(0, "rank", np.arange(1, len(rows) + 1))
    table.insert(1, "row", rows)
    table.insert(2, "score", scores)
    return table


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1, float32; those of zeros stay."""
    vectors = np.asarray(vectors, dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise InputError("vectors: NaN or infinite values")
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
