"""A shopper's own words: planted tastes are found, and nothing is personal without purchases."""

import numpy as np
import pandas as pd
import pytest

from recsys_lib.datasets import make_market
from recsys_lib.models import embed, load_encoder
from recsys_lib.search import (
    ShownLists,
    choose_weight,
    exact_search,
    keyword_index,
    keyword_search,
    lists_from_log,
    personal_vectors,
    reciprocal_rank_fusion,
    search_for,
    taste_vectors,
)
from recsys_lib.text import encode
from recsys_lib.workbook import InputError

NAMES = [
    f"{color} {thing}" for color in ("red", "navy", "oat") for thing in ("hat", "dress", "bag")
]
PRODUCTS = pd.DataFrame({"product_id": 100 + np.arange(9), "name": NAMES, "price": 9.0})


@pytest.fixture(scope="module")
def shop(checkpoints, tokenizer):
    encoder = load_encoder(checkpoints["bert"])
    vectors = embed(encoder, encode(tokenizer, NAMES))
    return {"vectors": vectors, "encoder": encoder, "tokenizer": tokenizer}


def ask(shop, wish, **options):
    return search_for(wish, PRODUCTS, **(shop | options))


def test_the_blend_by_hand():
    wishes, tastes = np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 3.0], [0.0, 0.0]])
    moved = personal_vectors(wishes, tastes, 0.2)
    assert moved[0] == pytest.approx(np.array([0.8, 0.2]) / np.hypot(0.8, 0.2))
    assert moved[1].tolist() == [0, 1]  # nothing known
    assert personal_vectors(wishes, tastes, 0).tolist() == [[1, 0], [0, 1]]
    assert personal_vectors(wishes, tastes, 1).tolist() == [[0, 1], [0, 1]]
    with pytest.raises(InputError, match=r"weight = 1\.5"):
        personal_vectors(wishes, tastes, 1.5)
    with pytest.raises(InputError, match="differ in shape"):
        personal_vectors(wishes, tastes[:1], 0.5)


def test_a_taste_is_the_mean_direction_of_purchases():
    products = np.array([[5.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    tastes = taste_vectors([[0, 1], [], [1, 1], [2]], [products[:1], products[1:]])
    assert tastes == pytest.approx(np.array([[0.5**0.5, 0.5**0.5], [0, 0], [0, 1], [0, 0]]))
    assert taste_vectors([[], []], products).tolist() == [[0, 0], [0, 0]]


def test_without_purchases_it_is_plain_search(shop):
    found = ask(shop, "navy dress", k=4, weight=0.9)
    query = embed(shop["encoder"], encode(shop["tokenizer"], ["navy dress"]))
    plain = exact_search(query, shop["vectors"], 4)
    assert found.table["row"].tolist() == plain.rows[0].tolist()
    assert found.table["score"].to_numpy() == pytest.approx(plain.scores[0], abs=1e-5)
    assert found.table["rank"].tolist() == [1, 2, 3, 4]
    assert list(found.table) == ["rank", "row", "score", "product_id", "name", "price"]
    assert found.table["name"].tolist() == [NAMES[row] for row in found.table["row"]]
    assert found.table["name"][0] == "navy dress"  # its own text is the nearest
    assert found.notes == ()


def test_a_purchase_draws_the_ranking_towards_it_and_is_not_shown_again(shop):
    bought = [107]
    shown = ask(shop, "red hat", purchases=bought, weight=1.0, keep_bought=True, k=9)
    assert shown.table["product_id"][0] == 107
    scores = [
        ask(shop, "red hat", purchases=bought, weight=w, keep_bought=True, k=9).table.set_index(
            "product_id"
        )["rank"][107]
        for w in (0.0, 0.3, 0.6, 1.0)
    ]
    assert scores == sorted(scores, reverse=True)
    hidden = ask(shop, "red hat", purchases=bought, weight=1.0, k=9)
    assert hidden.table["product_id"].tolist() == shown.table["product_id"].tolist()[1:]
    assert hidden.table["rank"].tolist() == list(range(1, 9))


def test_a_profile_in_words_counts_as_a_purchase(shop):
    by_words = ask(shop, "red hat", profile="oat bag", weight=0.5, k=9)
    by_purchase = ask(shop, "red hat", purchases=[108], weight=0.5, k=9, keep_bought=True)
    assert by_words.table["row"].tolist() == by_purchase.table["row"].tolist()
    assert ask(shop, "red hat", profile="  ").table.equals(ask(shop, "red hat").table)


def test_keywords_are_fused_by_rank(shop):
    index = keyword_index(NAMES)
    found = ask(shop, "navy dress", keywords=index, k=9)
    query = embed(shop["encoder"], encode(shop["tokenizer"], ["navy dress"]))
    lists = [exact_search(query, shop["vectors"], 9), keyword_search(index, ["navy dress"], 9)]
    expected = reciprocal_rank_fusion(lists, 9)
    assert found.table["row"].tolist() == expected.rows[0].tolist()
    assert found.table["score"].to_numpy() == pytest.approx(expected.scores[0])


def test_odd_wishes_are_answered_with_a_note(shop):
    for wish in ("🙂 for the", "…!", "to be"):
        for keywords in (None, keyword_index(NAMES)):
            found = ask(shop, wish, keywords=keywords, k=3)
            assert len(found.table) == 3
            (note,) = found.notes
            assert note == "the wish has no word to look up; it is ranked by its meaning alone"
    found = ask(shop, "navy " * 100, max_length=16)
    assert found.notes == ("the wish has 102 tokens; the first 16 were read",)


def test_a_k_above_the_catalog_gives_all_of_it(shop):
    """Also one for which lists as long as k would not fit in memory."""
    for k in (9, 50, 10**12):
        for keywords in (None, keyword_index(NAMES)):
            table = ask(shop, "hat", k=k, keywords=keywords).table
            assert sorted(table["row"]) == list(range(9))
    assert len(ask(shop, "hat", k=10**12, purchases=[101, 101]).table) == 8
    assert ask(shop, "hat", purchases=list(PRODUCTS["product_id"])).table.empty


def test_bad_wishes_are_one_line(shop):
    for call, message in [
        (lambda: ask(shop, " \n"), "the wish is empty"),
        (lambda: ask(shop, None), "the wish is empty"),
        (lambda: ask(shop, "\u200b\u00a0\ufeff"), "the wish is empty"),  # nothing to be seen
        (lambda: ask(shop, "half \ud83d"), "half a character"),
        (lambda: ask(shop, "hat", profile=None), "profile = None must be a text"),
        (lambda: ask(shop, "hat", purchases="107"), "purchases = '107' must be a list"),
        (lambda: ask(shop, "hat", purchases=107), "purchases = 107 must be a list"),
        (lambda: ask(shop, "hat", purchases=[None]), "has no product None"),
        (lambda: ask(shop, "hat", weight="0.1"), "weight = '0.1'"),
        (lambda: ask(shop, "hat", weight=float("nan")), "weight = nan"),
        (lambda: ask(shop, "navy " * 1_000, max_length=600), "the model reads 512"),
        (lambda: ask(shop, "hat", k=0), "k = 0"),
        (lambda: ask(shop, "hat", purchases=[100, 7]), "the catalog has no product 7"),
        (lambda: ask(shop, "hat", vectors=shop["vectors"][1:]), "9 products but 8 vectors"),
        (lambda: ask(shop, "hat", vectors=shop["vectors"][:, 1:]), "the same model"),
        (lambda: ask(shop, "hat", keywords=keyword_index(NAMES[1:])), "but 8 in keywords"),
        (lambda: ask(shop, "hat", purchases=[100], weight=-1), "weight = -1"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_bad_catalogs_are_one_line(shop):
    def search(products, vectors, **options):
        rest = {name: shop[name] for name in ("encoder", "tokenizer")}
        return search_for("hat", products, vectors, **rest, **options)

    vectors = shop["vectors"]
    spoiled = vectors.copy()
    spoiled[3] = np.nan
    twice = PRODUCTS.assign(product_id=[1, 2, 3, 4, 5, 6, 7, 8, 3])
    for call, message in [
        (lambda: search(PRODUCTS[:0], vectors[:0]), "the catalog is empty"),
        (lambda: search(PRODUCTS[:0], []), "the catalog is empty"),
        (lambda: search(twice, vectors), "the catalog has the product 3 twice"),
        (lambda: search(twice, vectors, purchases=[3]), "the catalog has the product 3 twice"),
        (lambda: search(PRODUCTS.drop(columns="product_id"), vectors), 'no column "product_id"'),
        (lambda: search(PRODUCTS, spoiled), "products: vector 3 has NaN"),
        (lambda: search(PRODUCTS, [vectors[:4], vectors[5:]]), "9 products but 8 vectors"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


# --- the weight, chosen on what shoppers clicked --------------------------------------------------


def clicks(personal, seed=0, n=400):
    """Lists of ten; the clicked one is nearest to (1 − personal) · wish + personal · taste."""
    rng = np.random.default_rng(seed)
    products = rng.normal(size=(300, 12)).astype(np.float32)
    products /= np.linalg.norm(products, axis=1, keepdims=True)
    wishes, tastes = rng.normal(size=(2, n, 12)).astype(np.float32)
    rows = np.array([rng.choice(300, 10, replace=False) for _ in range(n)])
    asked = personal_vectors(wishes, tastes, personal)
    scores = np.einsum("lcd,ld->lc", products[rows], asked) + 0.05 * rng.normal(size=(n, 10))
    gains = (scores == scores.max(axis=1, keepdims=True)).astype(int)
    return wishes, tastes, ShownLists(np.arange(n), np.arange(n), rows, gains), products


@pytest.mark.parametrize("personal", [0.0, 0.2, 0.4])
def test_the_planted_weight_is_found(personal):
    weight, table = choose_weight(*clicks(personal))
    # A step of 0.1 to either side changes the order of few lists.
    assert abs(weight - personal) < 0.11
    assert table["weight"].tolist() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert (table["lists"] == 400).all()
    assert table["ndcg"].max() > 0.9


def test_tastes_of_other_shoppers_do_not_help():
    wishes, tastes, shown, products = clicks(0.4)
    _, table = choose_weight(wishes, tastes[::-1], shown, products)
    better = (table["change"] > 0) & (table["p_holm"] < 0.05)
    assert not better.any()
    assert table["ndcg"].iloc[1:].max() <= table["ndcg"][0] + 0.01


def test_the_change_from_the_first_weight_has_an_interval_over_shoppers():
    wishes, tastes, shown, products = clicks(0.4)
    _, table = choose_weight(wishes, tastes, shown, products)
    assert np.isnan(table["p_holm"][0])
    assert table["p_holm"][4] == pytest.approx(5 / 10_001)  # the least that five tests can have
    assert table["change"].to_numpy() == pytest.approx(table["ndcg"] - table["ndcg"][0])
    assert (table[["change", "low", "high"]].iloc[0] == 0).all()
    at = table.iloc[4]  # the planted weight: better for sure
    assert 0 < at["low"] < at["change"] < at["high"]
    # Every list eight times, as of one shopper, is not more evidence: the interval stays.
    again = ShownLists(*(np.repeat(x, 8, axis=0) for x in vars(shown).values()))
    _, repeated = choose_weight(np.repeat(wishes, 8, 0), np.repeat(tastes, 8, 0), again, products)
    assert repeated["low"].to_numpy() == pytest.approx(table["low"], abs=1e-9)
    assert repeated["p_holm"].to_numpy() == pytest.approx(table["p_holm"], nan_ok=True)
    one = ShownLists(shown.query_id, 0 * shown.shopper_id, shown.rows, shown.gains)
    unsure = ["low", "high", "p_holm"]
    assert choose_weight(wishes, tastes, one, products)[1][unsure].isna().all(axis=None)
    first = np.arange(len(wishes)) == 0  # the only list with a click
    alone = ShownLists(shown.query_id, shown.shopper_id, shown.rows, shown.gains * first[:, None])
    assert choose_weight(wishes, tastes, alone, products)[1][unsure].isna().all(axis=None)


def test_nothing_known_of_the_shoppers_gives_the_lowest_weight():
    wishes, tastes, shown, products = clicks(0.4, n=20)
    weight, table = choose_weight(wishes, 0 * tastes, shown, products)
    assert weight == 0
    assert table["ndcg"].nunique() == 1


def test_padding_behind_a_short_list_counts_for_nothing():
    wishes, tastes, shown, products = clicks(0.2, n=50)
    wider = ShownLists(
        shown.query_id,
        shown.shopper_id,
        np.pad(shown.rows, ((0, 0), (0, 3)), constant_values=-1),
        np.pad(shown.gains, ((0, 0), (0, 3))),
    )
    _, table = choose_weight(wishes, tastes, wider, products)
    pd.testing.assert_frame_equal(table, choose_weight(wishes, tastes, shown, products)[1])


def test_lists_of_the_markets_log():
    market = make_market(
        0, n_products=60, n_shoppers=20, n_queries=10, n_reviews=0, n_impressions=405
    )
    log = market.impressions
    shown = lists_from_log(log.sample(frac=1, random_state=0), market.products["product_id"])
    clicked = log.groupby("list_id")["click"].max()
    assert len(shown.rows) == (clicked > 0).sum() > 10
    assert shown.gains.sum() == log["click"].sum() + log["purchase"].sum()
    for i, list_id in enumerate(clicked.index[clicked > 0]):
        lines = log[log["list_id"] == list_id].sort_values("position")
        n = len(lines)
        assert shown.rows[i, :n].tolist() == lines["product_id"].tolist()
        assert shown.gains[i, :n].tolist() == (lines["click"] + lines["purchase"]).tolist()
        assert (shown.rows[i, n:] == -1).all()
        assert shown.query_id[i] == lines["query_id"].iloc[0]
        assert shown.shopper_id[i] == lines["shopper_id"].iloc[0]
    ids = market.products["product_id"]
    for call, message in [
        (lambda: lists_from_log(log, ids[:5]), "which the catalog lacks"),
        (lambda: lists_from_log(log, [*ids, 7]), "the catalog has the product 7 twice"),
        (lambda: lists_from_log(log.drop(columns="click"), ids), 'needs a column "click"'),
        (lambda: lists_from_log(log.assign(purchase=np.nan), ids), 'a column "purchase" without'),
    ]:
        with pytest.raises(InputError, match=message):
            call()
    nothing = lists_from_log(log.assign(click=0), ids)
    with pytest.raises(InputError, match="no list with a click"):
        choose_weight(np.empty((0, 2)), np.empty((0, 2)), nothing, np.ones((60, 2)))


def test_bad_lists_are_one_line():
    wishes, tastes, shown, products = clicks(0.2, n=20)
    rows, gains = shown.rows.copy(), shown.gains
    rows[3, 4] = 300
    beyond = ShownLists(shown.query_id, shown.shopper_id, rows, gains)
    unclicked = ShownLists(shown.query_id, shown.shopper_id, shown.rows, 0 * gains)
    for call, message in [
        (lambda: choose_weight(wishes, tastes, beyond, products), "row 300 is not in a catalog"),
        (lambda: choose_weight(wishes, tastes, unclicked, products), "no list with a click"),
        (lambda: choose_weight(wishes[1:], tastes, shown, products), "19 wishes for 20 lists"),
        (lambda: choose_weight(wishes, tastes, shown, products, weights=()), "weights is empty"),
        (lambda: choose_weight(wishes[:, 1:], tastes, shown, products), "width 11, the products"),
        (lambda: choose_weight(wishes, tastes[:, 1:], shown, products), "differ in shape"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="row -1 is not in a catalog of 300"):
        taste_vectors([[0, -1]], products)
