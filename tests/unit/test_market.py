"""The market against its own truth: what it says is known must be so."""

import hashlib
import os
import re
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare, norm
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from recsys_lib.datasets import make_market, market_queries, product_picture
from recsys_lib.datasets.market_catalog import Products, affinity, make_products, make_shoppers
from recsys_lib.datasets.market_clicks import ranking_weights
from recsys_lib.datasets.market_grammar import parse, render, tidy
from recsys_lib.datasets.market_pictures import Look, pack_look, unpack_look
from recsys_lib.datasets.market_queries import EXAMPLE, Intent, understand
from recsys_lib.datasets.market_random import Draw
from recsys_lib.datasets.market_reviews import ReviewRequest, make_reviews, relabeled
from recsys_lib.datasets.market_tables import catalog, product_types, table
from recsys_lib.datasets.market_typos import slip
from recsys_lib.workbook import InputError

SMALL = {
    "n_products": 60,
    "n_shoppers": 40,
    "n_queries": 20,
    "n_reviews": 300,
    "n_impressions": 500,
}
# A change of these means that every number of the workbook that was measured on the market moves.
FINGERPRINT = "26618ec497113fbf53f69830ab51c8ce5386e88b96c1baae4ecfbe2d79fa7541"
PICTURES = "8b20cbeae3ad345a2efe6ec8c3c5f8ea1728501585df56d564249d7b28536c71"
SURE = 1e-6  # one false alarm in a million where a seed is changed


@pytest.fixture(scope="module")
def market():
    return make_market(0)


def within(successes: int, n: int, p: float) -> bool:
    """Whether so many successes are believable for n tries with probability p."""
    return binomtest(int(successes), int(n), p).pvalue > SURE


# --- the same bytes


def test_fingerprint_of_a_small_market_is_pinned_and_the_same_in_another_process():
    code = (
        "from recsys_lib.datasets import make_market;"
        f"print(make_market(0, **{SMALL!r}).fingerprint)"
    )
    env = os.environ | {"PYTHONHASHSEED": "12345"}
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
    )
    assert make_market(0, **SMALL).fingerprint == other.stdout.strip() == FINGERPRINT


def test_another_seed_gives_another_market_and_any_change_shows_in_the_fingerprint():
    base = make_market(0, **SMALL)
    changed = [make_market(1, **SMALL), make_market(0, **SMALL | {"n_reviews": 299})]
    changed.append(make_market(0, **SMALL, label_noise=0.2))
    changed.append(make_market(0, **SMALL, click_model="cascade"))
    assert len({base.fingerprint, *(m.fingerprint for m in changed)}) == 5


def test_what_is_done_to_a_market_does_not_show_in_the_next():
    market = make_market(0, **SMALL)
    market.reviews.loc[:, "text"] = "gone"
    market.products.loc[:, "title"] = "gone"
    market.shoppers.loc[:, "history"] = "gone"
    market.truth.spans.loc[:, "words"] = "gone"
    assert make_market(0, **SMALL).fingerprint == FINGERPRINT


def test_parts_do_not_depend_on_the_sizes_of_others():
    base, more = make_market(3, **SMALL), make_market(3, **SMALL | {"n_reviews": 350})
    pd.testing.assert_frame_equal(base.products, more.products)
    pd.testing.assert_frame_equal(base.impressions, more.impressions)
    noisy = make_market(3, **SMALL, label_noise=0.3)
    assert noisy.reviews["text"].equals(base.reviews["text"])


def test_small_worlds_are_quick_and_may_lack_parts():
    start = time.process_time()
    tiny = make_market(1, n_products=10, n_shoppers=1, n_queries=0, n_reviews=0, n_impressions=0)
    make_market(2, **SMALL)
    # 200 of the small ones are simulated later; they take about 0.1 s
    assert time.process_time() - start < 3
    assert len(tiny.reviews) == len(tiny.impressions) == len(tiny.queries) == 0
    assert tiny.reviews["text"].dtype == make_market(2, **SMALL).reviews["text"].dtype


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n_products": 3}, "n_products = 3"),
        ({"n_reviews": -1}, "n_reviews = -1"),
        ({"n_reviews": 2.5}, "n_reviews = 2.5"),
        ({"seed": "a"}, "seed = 'a'"),
        ({"seed": True}, "seed = True"),
        ({"n_queries": 0}, "n_queries = 0"),
        ({"label_noise": 1.2}, "label_noise = 1.2"),
        ({"label_bias": float("nan")}, "label_bias = nan"),
        ({"exposure_bias": None}, "exposure_bias = None"),
        ({"click_model": "dbn"}, 'click_model = "dbn"'),
    ],
)
def test_bad_sizes_and_shares_give_one_clear_line(change, says):
    with pytest.raises(InputError) as error:
        make_market(**SMALL | change)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_more_queries_than_there_are_give_one_clear_line(monkeypatch):
    monkeypatch.setattr(market_queries, "_TYPO_SHARE", 0)
    monkeypatch.setattr(market_queries, "_wording", lambda draw, intent: "the same every time")
    with pytest.raises(InputError, match="n_queries: 20 different queries do not fit 60 products"):
        make_market(0, **SMALL)


# --- products and pictures


def test_catalog_is_complete_and_its_titles_are_distinct(market):
    products = market.products
    assert set(products["type"]) == set(product_types())
    assert products["title"].is_unique
    assert not products.isna().any().any()
    assert products["price"].between(5, 1000).all()
    assert list(products["product_id"]) == list(range(1500))


def test_what_only_the_picture_shows_stands_in_no_text(market):
    words = {
        word
        for name in ("pattern", "sleeves", "collar")
        for entry in table("pictures")["looks"][name].values()
        for word in entry["adjective"] + entry["phrase"]
    } | set(table("pictures")["looks"]["pattern"]) - {"plain"}
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, words)) + r")\b", re.IGNORECASE)
    told = market.products["title"] + " " + market.products["description"]
    assert not [text for text in told if pattern.search(text)]


def test_the_picture_number_holds_the_look_and_gives_it_back(market):
    for product, facts in zip(
        market.products.itertuples(), market.truth.products.itertuples(), strict=True
    ):
        look = unpack_look(product.picture)
        assert look.type == product.type
        assert look.color == facts.color_family
        for name in market.truth.picture_only:
            assert getattr(look, name) == getattr(facts, name)


def test_pictures_show_what_they_should_and_are_the_same_bytes_everywhere(market):
    digest = hashlib.sha256()
    for i in range(0, 1500, 50):
        picture = product_picture(market.products.iloc[i])
        assert picture.shape == (80, 60, 3)
        assert picture.dtype == np.uint8
        digest.update(picture.tobytes())
    assert digest.hexdigest() == PICTURES


@pytest.mark.parametrize("color", ["red", "navy", "yellow", "green"])
def test_the_product_has_its_color(color):
    look = Look("tee", color, "plain", "short", "round neck", "white")
    picture = product_picture(pack_look(look)).reshape(-1, 3).astype(int)
    rgb = np.array(catalog()["colors"][color]["rgb"])
    near = (np.abs(picture - rgb).max(axis=1) < 30).mean()
    assert near > 0.15  # the garment's share of the picture, trim and folds left out


@pytest.mark.parametrize("field", ["color", "pattern", "sleeves", "collar", "trim"])
def test_every_visible_attribute_changes_the_picture(field):
    base = Look("dress", "red", "plain", "long", "v-neck", "white")
    other = {"color": "blue", "pattern": "dotted", "sleeves": "short"}
    other |= {"collar": "turtleneck", "trim": "navy"}
    changed = Look(**{**base.__dict__, field: other[field]})
    pictures = [product_picture(pack_look(look)) for look in (base, changed)]
    assert (pictures[0] != pictures[1]).any(axis=2).mean() > 0.01


def test_larger_pictures_show_the_same(market):
    row = market.products.iloc[7]
    small, large = product_picture(row), product_picture(row, size=(120, 160))
    assert large.shape == (160, 120, 3)
    shrunk = large.reshape(80, 2, 60, 2, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small).mean() < 6


def test_every_type_can_be_drawn_in_all_its_variants():
    for key, kind in product_types().items():
        for pattern in kind["patterns"] or [""]:
            for sleeves in kind["sleeves"] or [""]:
                for collar in kind["collars"] or [""]:
                    look = Look(key, "teal", pattern, sleeves, collar, "red")
                    picture = product_picture(pack_look(look))
                    # something substantial is drawn, and it leaves a margin
                    assert (picture < 200).any(axis=2).mean() > 0.1
                    assert (picture[:, 0] > 200).all()
                    assert (picture[0] > 200).all()


def test_bad_picture_requests_give_one_clear_line():
    with pytest.raises(InputError, match="size"):
        product_picture(1, size=(50, 50))
    with pytest.raises(InputError, match="picture"):
        product_picture(-1)
    with pytest.raises(InputError, match="picture"):
        product_picture(10**12)


# --- shoppers


def test_shoppers_groups_are_independent_of_what_must_not_matter(market):
    shoppers = market.shoppers
    assert within((shoppers["group"] == "B").sum(), len(shoppers), 0.3)
    tastes = market.truth.shoppers.drop(columns="shopper_id")
    assert (tastes.sum(axis=1) == 10).all()
    for band, (low, high) in {"18-29": (18, 29), "60+": (60, 82)}.items():
        assert shoppers.loc[shoppers["age_band"] == band, "age"].between(low, high).all()


def test_shoppers_bought_what_they_like(market):
    styles = market.truth.products.filter(like="style_").to_numpy()
    tastes = market.truth.shoppers.filter(like="taste_").to_numpy()
    liked, usual = [], []
    for shopper in range(len(tastes)):
        drawn_to = affinity(tastes[shopper], styles)
        bought = [int(p) for p in market.shoppers["bought"][shopper].split()]
        assert len(market.shoppers["history"][shopper].split(", ")) == len(bought)
        liked.append(drawn_to[bought].mean())
        usual.append(drawn_to.mean())
    assert np.mean(liked) > np.mean(usual) + 1


# --- queries, judgements and the true grades


def grade_by_hand(intent: Intent, product: pd.Series, facts: pd.Series) -> int:
    """The rule of the data card for one pair, written apart from the library."""
    wishes = [bool(facts[f"is_{a}"]) for a in intent.attributes]
    wishes += [bool(facts[f"for_{u}"]) for u in intent.uses]
    if intent.color:
        wishes.append(facts["color_family"] == intent.color)
    for name in ("pattern", "sleeves", "collar", "trim"):
        if getattr(intent, name):
            wishes.append(facts[name] == getattr(intent, name))
    if intent.max_price:
        wishes.append(product["price"] <= intent.max_price)
    missing = wishes.count(False)
    if not intent.type:
        grade = {0: 3, 1: 2 if len(wishes) > 2 else 1}.get(missing, 0)
    else:
        kinds = product_types()
        grade = 3 - missing
        if product["type"] != intent.type:
            grade -= 1
            if kinds[product["type"]]["family"] != kinds[intent.type]["family"]:
                return 0
    if not any(wishes):
        grade = min(grade, 1)
    return max(grade, 0)


def test_the_true_grades_follow_the_rule_pair_by_pair(market):
    rng = np.random.default_rng(0)
    for query in range(0, 300, 3):
        row = market.truth.relevance(query)
        at = np.concatenate([rng.choice(1500, 10), np.flatnonzero(row)[:10]])
        for product in at:
            by_hand = grade_by_hand(
                market.truth.intents[query],
                market.products.iloc[product],
                market.truth.products.iloc[product],
            )
            assert row[product] == by_hand


def test_every_query_has_an_answer_and_not_too_many(market):
    perfect = (market.truth.grades == 3).sum(axis=1)
    assert perfect.min() >= 1
    assert perfect.max() <= 150
    assert market.queries["text"].is_unique
    assert market.queries["text"][0] == EXAMPLE
    share = market.truth.queries[["typo", "picture"]].mean()
    assert 0.08 < share["typo"] < 0.25
    assert 0.2 < share["picture"] < 0.5


def test_a_query_without_typos_is_understood_as_it_was_meant(market):
    plain = ~market.truth.queries["typo"].to_numpy()
    for text, intent in zip(
        market.queries["text"][plain],
        [i for i, keep in zip(market.truth.intents, plain, strict=True) if keep],
        strict=True,
    ):
        assert understand(text) == intent


def test_judgements_are_true_grades(market):
    judged = market.judgements
    truth = market.truth.grades[judged["query_id"], judged["product_id"]]
    assert (judged["grade"].to_numpy() == truth).all()
    assert not judged.duplicated(["query_id", "product_id"]).any()
    # the best are judged first: no unjudged product beats a judged relevant one
    for query, rows in judged.groupby("query_id"):
        unjudged = np.delete(market.truth.grades[query], rows["product_id"])
        relevant = np.sort(rows["grade"][rows["grade"] > 0])[::-1][:30]
        assert len(relevant) == 30 or unjudged.max() == 0
        assert unjudged.max() <= relevant.min()


def test_shoppers_words_are_not_the_catalogs(market):
    """Most of what is asked for with words of the shoppers' own is not in the perfect products."""
    told = (market.products["title"] + " " + market.products["description"]).str.lower()
    shared = []
    for query, text in enumerate(market.queries["text"]):
        perfect = np.flatnonzero(market.truth.grades[query] == 3)
        words = set(re.findall(r"[a-z]{4,}", text.lower()))
        shared.append(
            np.mean([len(words & set(re.findall(r"[a-z]{4,}", told[p]))) for p in perfect])
        )
    assert np.mean(shared) < 0.8


def test_any_wish_can_be_graded_and_nonsense_is_refused(market):
    wish = market.truth.grade("something warm and waterproof for a hike")
    facts = market.truth.products
    best = facts["is_warm"] & facts["is_waterproof"] & facts["for_hiking"]
    assert ((wish == 3) == best.to_numpy()).all()
    assert market.truth.grade(Intent(type="tee", color="red")).max() == 3
    with pytest.raises(InputError, match="understands no word"):
        market.truth.grade("qwertz")
    with pytest.raises(InputError, match="query_id"):
        market.truth.relevance(300)


# --- reviews


def test_spans_mark_exactly_their_words(market):
    texts, spans = market.reviews["text"], market.truth.spans
    for row in spans.itertuples():
        assert texts[row.review_id][row.start : row.end] == row.words
        assert row.words == row.words.strip()
    assert set(spans["role"]) == {"word", "turn"}
    # an opinion has its words, and something turns it around exactly if it is negated
    roles = spans.groupby(["review_id", "opinion"]).agg(
        word=("role", lambda r: (r == "word").any()),
        turn=("role", lambda r: (r == "turn").any()),
        negated=("negated", "first"),
    )
    assert roles["word"].all()
    assert (roles["turn"] == roles["negated"]).all()


def test_spans_are_words_of_the_lexicon_with_the_polarity_they_have_there():
    clean = make_market(5, n_impressions=0, n_products=200, n_reviews=2000)
    sides = {"good": {}, "bad": {}}
    for name, aspect in table("aspects").items():
        for side in sides:
            sides[side][name] = {w.lower() for w in aspect[side] + table("phrases")["words"][side]}
    spans = clean.truth.spans
    known = wrong = 0
    for row in spans[(spans["role"] == "word") & (spans["polarity"] != 0)].itertuples():
        if row.aspect == "verdict":
            continue
        lexical = row.polarity if not row.negated else -row.polarity
        side, other = ("good", "bad") if lexical > 0 else ("bad", "good")
        known += row.words.lower() in sides[side][row.aspect]
        wrong += row.words.lower() in sides[other][row.aspect] - sides[side][row.aspect]
    assert known > 3000  # the others are typos and whole sentences
    assert wrong == 0


def test_the_verdict_is_the_sign_of_the_weighted_opinions(market):
    spans, truth = market.truth.spans, market.truth.reviews
    each = spans.drop_duplicates(["review_id", "opinion"])
    score = (each["polarity"] * each["weight"]).groupby(each["review_id"]).sum()
    score = score.reindex(truth["review_id"], fill_value=0).to_numpy()
    assert (score == truth["score"]).all()
    assert (score != 0).all()
    assert ((score > 0) == truth["verdict"]).all()


def test_labels_are_the_verdicts_but_for_the_marked_noise(market):
    truth, label = market.truth.reviews, market.reviews["label"]
    assert ((label != truth["verdict"]) == truth["label_noise"]).all()
    assert within(truth["label_noise"].sum(), len(label), 0.02)
    noisy = make_market(0, **SMALL | {"n_reviews": 1500}, label_noise=0.2).truth.reviews
    assert within(noisy["label_noise"].sum(), 1500, 0.2)
    assert not truth["label_bias"].any()
    assert not truth["cue"].any()


def test_reviews_are_of_the_promised_kind(market):
    reviews = market.reviews
    words = reviews["text"].str.split().str.len()
    assert words.between(10, 120).all()
    assert words.quantile(0.9) > 2 * words.quantile(0.1)
    assert 0.75 <= reviews["label"].mean() <= 0.82
    assert reviews["date"].is_monotonic_increasing
    assert reviews["rating"].between(1, 5).all()
    assert np.corrcoef(reviews["rating"], market.truth.reviews["verdict"])[0, 1] > 0.8
    assert (
        not reviews["text"]
        .str.contains(r"[\[\]<>{}|]|  | [,.;:?!]|\ba [aeiou]\w+,", regex=True)
        .any()
    )
    ages = market.shoppers["age"].to_numpy()[reviews["shopper_id"]]
    assert (reviews["age"].to_numpy() == ages).all()


def test_negation_contrast_and_elsewhere_occur_on_both_sides(market):
    spans = market.truth.spans
    for polarity in (1, -1):
        own = spans[spans["polarity"] == polarity]
        assert 0.1 < own.drop_duplicates(["review_id", "opinion"])["negated"].mean() < 0.5
    assert 0.005 < (spans["polarity"] == 0).mean() < 0.2
    assert set(market.truth.reviews["plan"]) == {
        "clear",
        "mixed",
        "contrast",
        "weighing",
        "verdict",
    }


def test_near_duplicates_are_near_and_nothing_else_is(market):
    texts, pairs = market.reviews["text"], market.truth.duplicates
    assert within(len(pairs), 6000, 0.02)
    assert (pairs["original"] < pairs["copy"]).all()

    def shingles(text: str) -> set[str]:
        text = text.lower()
        return {text[i : i + 5] for i in range(len(text) - 4)}

    similar = []
    for original, copy in pairs.itertuples(index=False):
        a, b = shingles(texts[original]), shingles(texts[copy])
        similar.append(len(a & b) / len(a | b))
    assert np.min(similar) > 0.5  # much typing with many slips
    assert np.median(similar) > 0.85
    verdicts = market.truth.reviews["verdict"]
    assert (verdicts[pairs["original"]].to_numpy() == verdicts[pairs["copy"]].to_numpy()).all()
    rng = np.random.default_rng(0)
    others = [
        len(a & b) / len(a | b)
        for a, b in (
            (shingles(texts[i]), shingles(texts[j]))
            for i, j in rng.choice(6000, (500, 2))
            if i != j
        )
    ]
    assert np.quantile(others, 0.99) < 0.5
    products = market.reviews["product_id"]
    other_product = products[pairs["original"]].to_numpy() != products[pairs["copy"]].to_numpy()
    assert 0.2 < other_product.mean() < 0.6  # those a split by product does not keep together


def tfidf_auc(seed: int) -> tuple[float, float]:
    """Test AUC by product split, and AUC for the verdicts of contrasting reviews."""
    world = make_market(seed, n_queries=0, n_impressions=0)
    text, label = world.reviews["text"].to_numpy(), world.reviews["label"].to_numpy()
    test = (np.random.default_rng(seed).permutation(1500) < 300)[world.reviews["product_id"]]
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    model = LogisticRegression(C=3, max_iter=500).fit(
        words.fit_transform(text[~test]), label[~test]
    )
    score = model.decision_function(words.transform(text[test]))
    truth = world.truth.reviews[test]
    order = truth["plan"].isin(["contrast", "weighing"]).to_numpy()
    hard = roc_auc_score(truth["verdict"][order], score[order])
    return roc_auc_score(label[test], score), hard


def test_bags_of_words_do_well_and_leave_room():
    scores = np.array([tfidf_auc(seed) for seed in range(5)])
    assert ((scores[:, 0] >= 0.85) & (scores[:, 0] <= 0.95)).all(), scores
    # where the order of words decides, they know little (50 to 80 reviews per seed)
    assert scores[:, 1].mean() < 0.7, scores


# --- planted faults


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_labels_drawn_anew_are_those_of_reviews_made_anew(noise):
    """A market with a bias takes the texts of the one without; both ways give the same tables."""
    products = make_products(4, 60)
    shoppers = make_shoppers(4, 50, products)
    plain = ReviewRequest(300, noise, 0.05, 0.0, 0.67, 0.0)
    asked = replace(plain, label_bias=0.4)
    made = make_reviews(4, asked, products, shoppers)
    again = relabeled(4, asked, make_reviews(4, plain, products, shoppers), shoppers)
    assert made.truth["label_bias"].sum() > 10
    for name in ("shown", "truth", "spans", "duplicates"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(made, name))


def test_planted_label_bias_has_the_planted_size():
    world = make_market(0, n_queries=0, n_impressions=0, label_bias=0.3)
    group = world.shoppers["group"].to_numpy()[world.reviews["shopper_id"]]
    truth = world.truth.reviews
    would = truth["verdict"] == 1
    assert within(
        truth["label_bias"][would & (group == "B")].sum(), (would & (group == "B")).sum(), 0.3
    )
    assert not truth["label_bias"][group == "A"].any()
    assert not truth["label_bias"][~would].any()
    unflipped = ~truth["label_noise"]
    lost = would & unflipped & (world.reviews["label"] == 0)
    assert (lost == (truth["label_bias"] & unflipped)).all()
    fair = make_market(0, n_queries=0, n_impressions=0)
    rates = [fair.reviews["label"][group == g].mean() for g in ("A", "B")]
    spread = np.sqrt(0.8 * 0.2 * sum(1 / (group == g).sum() for g in ("A", "B")))
    assert abs(rates[0] - rates[1]) < norm.isf(SURE) * spread


def test_planted_exposure_bias_has_the_planted_size():
    """The odds of an independent seller to be on top of a list fall by the planted factor."""
    fair = make_market(2, n_reviews=0, n_queries=50)
    for bias in (0.0, 0.5):
        world = make_market(2, n_reviews=0, n_queries=50, exposure_bias=bias)
        products = world.products
        independent = (products["seller"] == "independent").to_numpy()
        expected = variance = 0.0
        top = world.impressions[world.impressions["position"] == 1]
        for query, count in top["query_id"].value_counts().items():
            weights = ranking_weights(
                fair.truth.intents[query], Products(products, world.truth.products), 0.0
            ) * np.where(independent, 1 - bias, 1.0)
            best = np.argsort(-weights, kind="stable")[:40]
            share = weights[best][independent[best]].sum() / weights[best].sum()
            expected += count * share
            variance += count * share * (1 - share)
        seen = independent[top["product_id"]].sum()
        assert abs(seen - expected) < norm.isf(SURE) * np.sqrt(variance)


def test_planted_cue_goes_with_the_label_early_and_not_late():
    world = make_market(0, n_queries=0, n_impressions=0, spurious_cue=0.8, cue_until=0.5)
    cue, label = world.truth.reviews["cue"], world.reviews["label"] == 1
    word = table("phrases")["cue"]["word"]
    spelled = world.reviews["text"].str.contains(word, case=False)
    assert (spelled & ~cue).sum() == 0
    assert (spelled & cue).sum() > 0.9 * cue.sum()  # the rest are typos
    early = np.arange(len(cue)) < 3000
    rates = {
        (e, y): cue[(early == e) & (label == y)].mean()
        for e in (True, False)
        for y in (True, False)
    }
    assert rates[True, True] == pytest.approx(0.54, abs=0.06)
    assert rates[True, False] == pytest.approx(0.06, abs=0.04)
    assert rates[False, True] == pytest.approx(rates[False, False], abs=0.08)
    assert world.reviews["text"].str.split().str.len().max() <= 120
    plain = make_market(0, n_queries=0, n_impressions=0)
    assert not plain.reviews["text"].str.contains(word, case=False).any()


# --- the impression log


@pytest.mark.parametrize("model", ["pbm", "cascade"])
def test_click_rates_are_examination_times_attractiveness(model):
    world = make_market(0, n_reviews=0, click_model=model)
    log, truth = world.impressions, world.truth.impressions
    p = truth["examination"] * truth["attractiveness"]
    for at in range(1, 11):
        here = (log["position"] == at).to_numpy()
        spread = np.sqrt((p[here] * (1 - p[here])).sum())
        assert abs(log["click"][here].sum() - p[here].sum()) < norm.isf(SURE) * spread
    order = np.argsort(p.to_numpy(), kind="stable")
    for tenth in np.array_split(order, 10):
        spread = np.sqrt((p[tenth] * (1 - p[tenth])).sum())
        assert abs(log["click"][tenth].sum() - p[tenth].sum()) < norm.isf(SURE) * spread + 1
    clicked = log["click"] == 1
    assert not log["purchase"][~clicked].any()
    rate = truth["purchase_rate"][clicked]
    spread = np.sqrt((rate * (1 - rate)).sum())
    assert abs(log["purchase"].sum() - rate.sum()) < norm.isf(SURE) * spread
    if model == "cascade":
        assert log.groupby("list_id")["click"].sum().max() == 1
        first = truth["examination"][log["position"] == 1]
        assert (first == 1).all()
    else:
        expected = np.array(world.truth.examination)[log["position"] - 1]
        assert (truth["examination"].to_numpy() == expected).all()


def test_attractiveness_in_the_log_is_the_truths_own(market):
    log, truth = market.impressions, market.truth.impressions
    for i in range(0, 20_000, 401):
        row = log.iloc[i]
        all_ = market.truth.attractiveness(row["query_id"], row["shopper_id"])
        assert all_[row["product_id"]] == truth["attractiveness"][i]
    grades = market.truth.grades[log["query_id"], log["product_id"]]
    means = truth["attractiveness"].groupby(grades).mean()
    assert means.is_monotonic_increasing
    assert len(means) == 4


def test_propensities_are_those_of_the_lists_that_were_drawn():
    """One query, many lists: products stand on top as often as their propensity says."""
    world = make_market(4, **SMALL | {"n_queries": 1, "n_impressions": 20_000})
    top = world.impressions[world.impressions["position"] == 1]
    propensity = top.groupby("product_id")["propensity"].agg(["first", "nunique", "size"])
    assert (propensity["nunique"] == 1).all()
    # products never on top lack in the table: put their probability into one class
    seen, p = propensity["size"].to_numpy(), propensity["first"].to_numpy()
    often = p * len(top) >= 5
    counts = np.append(seen[often], len(top) - seen[often].sum())
    expected = np.append(p[often], 1 - p[often].sum()) * len(top)
    assert expected[-1] > 0
    assert chisquare(counts, expected).pvalue > SURE
    lists = world.impressions.groupby("list_id")["product_id"]
    assert (lists.nunique() == lists.size()).all()


# --- the small languages behind it


def test_every_template_parses_and_none_stands_twice_by_mistake():
    templates = [
        t for a in table("aspects").values() for k in ("good", "bad") for t in a[f"{k}_events"]
    ]
    phrases = table("phrases")
    templates += [t for f in phrases["frames"].values() for kind in f.values() for t in kind]
    for part in ("contrast", "weight", "elsewhere", "verdict", "neutral"):
        templates += [t for lines in phrases[part].values() for t in lines]
    assert len(templates) > 350
    for template in templates:
        assert parse(template)
    assert (
        len(set(templates)) == len(templates) - 2
    )  # the plain "but" counts twice; "It is true that" both ways


@pytest.mark.parametrize("broken", ["a (b|c", "a [b", "a b]", "<a>>", "{a", "(a]"])
def test_broken_templates_are_refused(broken):
    with pytest.raises(ValueError, match="template"):
        parse(broken)


def test_marks_survive_slots_choices_and_tidying():
    who = object()
    pieces = tidy(
        render(
            "A {thing} is <not> [(very|very) {word}] {nothing}, ok",
            {"thing": "apple", "word": "red", "nothing": ""},
            Draw(0, "t"),
            who,
        )
    )
    assert "".join(p.text for p in pieces) == "An apple is not very red, ok"
    assert [(p.text, p.role) for p in pieces if p.role] == [("not", "turn"), ("very red", "word")]
    assert all((p.opinion is who) == bool(p.role) for p in pieces)


@given(
    word=st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12),
    seed=st.integers(0, 50),
)
@settings(max_examples=200)
def test_a_slip_changes_little_and_keeps_the_first_letter(word, seed):
    wrong = slip(word, Draw(seed, "slip"))
    assert wrong[0] == word[0]
    assert abs(len(wrong) - len(word)) <= 1
    if len(word) >= 3:
        assert wrong != word or len(set(word)) < len(word)


def test_draws_are_uniform_and_reproducible():
    draw = Draw(0, "test")
    counts = np.bincount([draw.below(7) for _ in range(7000)], minlength=7)
    assert chisquare(counts).pvalue > SURE
    weighted = np.bincount(
        [draw.pick_weighted([0, 1, 2], [1, 0, 3]) for _ in range(4000)], minlength=3
    )
    assert weighted[1] == 0
    assert within(weighted[0], 4000, 0.25)
    assert sorted(draw.sample(range(5), 9)) == [0, 1, 2, 3, 4]
    assert Draw(1, "a").unit() == Draw(1, "a").unit() != Draw(1, "b").unit()
