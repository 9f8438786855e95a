"""The order of words against the marked words: scikit-learn, enumeration, and the market."""

from itertools import permutations

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from recsys_lib.datasets.market import make_market
from recsys_lib.interpret.truth import (
    found_words,
    marked_spans,
    random_order,
    relevant_words,
    tfidf_order,
)
from recsys_lib.workbook import InputError


@pytest.fixture(scope="module")
def market():
    return make_market(1, n_products=60, n_shoppers=80, n_queries=0, n_reviews=200, n_impressions=0)


def test_areas_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    values = [np.round(rng.normal(size=rng.integers(3, 40)), 1) for _ in range(30)]
    relevant = [rng.random(len(v)) < 0.4 for v in values]
    for mark in relevant:
        mark[:2] = True, False
    table = found_words(values, relevant)
    for row, value, mark in zip(table.itertuples(), values, relevant, strict=True):
        assert row.average_precision == pytest.approx(average_precision_score(mark, value))
        assert row.auc == pytest.approx(roc_auc_score(mark, value))


def test_precision_and_recall_by_hand():
    table = found_words([np.array([5.0, 4, 3, 2, 1])], [np.array([1, 0, 1, 0, 1], bool)], k=3)
    assert table.loc[0, "precision"] == pytest.approx(2 / 3)
    assert table.loc[0, "recall"] == pytest.approx(2 / 3)
    assert (table.loc[0, "words"], table.loc[0, "marked"]) == (5, 3)


@pytest.mark.parametrize("mark", ([1, 0, 0, 1, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1]))
@pytest.mark.parametrize("k", (2, 4))
def test_random_order_is_the_mean_over_all_orders(mark, k):
    mark = np.array(mark, dtype=bool)
    orders = [np.array(order, dtype=float) for order in permutations(range(len(mark)))]
    mean = found_words(orders, [mark] * len(orders), k=k).mean()
    expected = random_order([mark], k=k).iloc[0]
    for name in ("precision", "recall", "average_precision", "auc"):
        assert expected[name] == pytest.approx(mean[name], nan_ok=True), name


def test_a_text_without_a_marked_word_has_no_value():
    for table in (found_words([np.ones(3)], [np.zeros(3, bool)]), random_order([np.zeros(3)])):
        assert table[["precision", "recall", "average_precision", "auc"]].isna().all(axis=None)


def test_relevant_words_share_a_character_with_a_mark():
    spans = np.array([[0, 3], [4, 7], [8, 12], [13, 15]])
    assert relevant_words(spans, np.array([[6, 9]])).tolist() == [False, True, True, False]
    assert relevant_words(spans, np.array([[3, 4]])).tolist() == [False] * 4  # the space between
    assert relevant_words(spans, np.zeros((0, 2))).tolist() == [False] * 4


def test_marked_spans_are_the_words_the_market_marked(market):
    spans, reviews = market.truth.spans, market.reviews
    ids = reviews["review_id"].to_numpy()[::-1]
    text = dict(zip(reviews["review_id"], reviews["text"], strict=True))
    for name, marked in zip(ids, marked_spans(spans, ids), strict=True):
        own = spans[(spans["review_id"] == name) & (spans["weight"] > 0)]
        assert [text[name][a:b] for a, b in marked] == own["words"].tolist()
    side = np.where(market.truth.reviews["verdict"].to_numpy()[::-1] == 1, 1, -1)
    toward = marked_spans(spans, ids, polarity=side)
    against = marked_spans(spans, ids, polarity=-side)
    assert sum(map(len, toward)) + sum(map(len, against)) == sum(map(len, marked_spans(spans, ids)))
    assert sum(map(len, toward)) > 5 * sum(map(len, against))
    turns = sum(map(len, marked_spans(spans, ids, roles=["turn"])))
    assert turns == ((spans["role"] == "turn") & (spans["weight"] > 0)).sum()
    assert sum(map(len, marked_spans(spans, ids, roles=["turn"], negated=False))) == 0


def test_the_true_words_are_found_and_a_random_order_is_not(market):
    """An order that knows the marks scores 1; one drawn at random its expectation (4 errors)."""
    words = [_words(text) for text in market.reviews["text"]]
    marked = marked_spans(market.truth.spans, market.reviews["review_id"])
    relevant = [relevant_words(spans, m) for spans, m in zip(words, marked, strict=True)]
    assert found_words(relevant, relevant)[["average_precision", "auc"]].min().min() == 1.0
    rng = np.random.default_rng(0)
    drawn = found_words([rng.random(len(spans)) for spans in words], relevant)
    gap = (drawn - random_order(relevant))[["precision", "recall", "average_precision", "auc"]]
    error = gap.std() / np.sqrt(len(gap))
    assert (gap.mean().abs() < 4 * error).all()


def test_tfidf_values_add_up_to_the_log_odds(market):
    texts, labels = market.reviews["text"].tolist(), market.reviews["label"].to_numpy()
    words = [[text[a:b] for a, b in _words(text)] for text in texts]
    values = tfidf_order(texts[:150], labels[:150], words[150:], strength=3.0)
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    regression = LogisticRegression(C=3.0, max_iter=1_000)
    regression.fit(vectorizer.fit_transform(texts[:150]), labels[:150])
    log_odds = regression.decision_function(vectorizer.transform(texts[150:]))
    sums = [value.sum() for value in values]
    assert sums == pytest.approx(log_odds - regression.intercept_[0], abs=1e-9)
    assert [len(value) for value in values] == [len(w) for w in words[150:]]


def test_bad_input_gets_one_line(market):
    mark = np.array([True, False])
    cases = [
        (lambda: found_words([np.ones(3)], [mark]), "text 0: 3 values for 2 words"),
        (lambda: found_words([np.ones(2)], []), "1 texts but relevant words of 0"),
        (lambda: found_words([np.array([np.nan, 1])], [mark]), "not a finite number"),
        (lambda: found_words([np.ones(2)], [mark], k=0), "at least 1"),
        (lambda: random_order([mark], k=0), "at least 1"),
        (lambda: marked_spans(market.truth.spans, [0], roles=["cue"]), "'cue' is not one of"),
        (lambda: marked_spans(market.reviews, [0]), "lacks the column 'start'"),
        (lambda: marked_spans(market.truth.spans, [0], polarity=[1, 1]), "1 review_ids but 2"),
        (lambda: tfidf_order(["a b", "c d"], [1, 1], [["a"]]), "one class only"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()


def _words(text):
    """(W, 2) the words, at the spaces."""
    ends = np.cumsum([len(word) + 1 for word in text.split(" ")])
    starts = np.r_[0, ends[:-1]]
    return np.stack([starts, ends - 1], axis=1)[(ends - 1) > starts]
