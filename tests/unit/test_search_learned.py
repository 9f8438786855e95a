"""Learning to rank: features by hand, and a model that must find what was planted."""

import numpy as np
import pandas as pd
import pytest

from recsys_lib.metrics import ndcg
from recsys_lib.search import (
    RankFeatures,
    Ranking,
    fit_lambdamart,
    keyword_index,
    keyword_scores,
    rank_by_model,
    rank_features,
    top_k,
)
from recsys_lib.workbook import InputError

PRODUCTS = pd.DataFrame(
    {
        "name": ["Red linen dress", "Navy dress shoes", "Blue hats", "Plain belt"],
        "price": [40.0, 80.0, np.nan, 40.0],
        "color": ["red", "navy blue", None, "brown"],
    }
)
QUERIES = ["red dresses", "navy hat for a walk", "🙂"]
CANDIDATES = Ranking(
    np.array([[1, 0, 3], [2, 1, -1], [-1, -1, -1]]),
    np.array([[3, 2, 1], [2, 1, -np.inf], [-np.inf] * 3]),
)


def made(**options):
    return rank_features(QUERIES, CANDIDATES, PRODUCTS, **options)


def column(features, name):
    return features.values[:, features.names.index(name)]


def test_features_are_what_the_docstring_says():
    index = keyword_index(PRODUCTS["name"])
    asked = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    known = np.array([[0.6, 0.8], [0.8, 0.6], [0.0, 1.0], [1.0, 0.0]])
    features = made(
        keywords={"names": index},
        vectors=(asked, known),
        numbers=["price"],
        attributes=["color"],
        rankings={"other": top_k(np.array([[0, 5, 9, 1], [1, 2, 3, 4.0], [1, 1, 1, 1]]), 2)},
    )
    assert features.query.tolist() == [0, 0, 0, 1, 1]
    assert features.row.tolist() == [1, 0, 3, 2, 1]
    assert features.n_queries == 3
    scores = keyword_scores(index, QUERIES, CANDIDATES.rows)
    bm25 = np.array([*scores[0], *scores[1, :2]])
    expected = {
        "query_words": [2, 2, 2, 3, 3],
        "name_words": [3, 3, 2, 2, 3],
        "query_covered": [1 / 2, 1, 0, 1 / 3, 1 / 3],
        "name_covered": [1 / 3, 2 / 3, 0, 1 / 2, 1 / 3],
        "first_word": [0, 1, 0, 0, 1],
        "bm25_names": bm25,
        "bm25_names_of_best": [*(bm25[:3] / bm25[:3].max()), *(bm25[3:] / bm25[3:].max())],
        "cosine": [0.8, 0.6, 1.0, 1.0, 0.6],
        "cosine_below_best": [0.2, 0.4, 0.0, 0.0, 0.4],
        "price": [80, 40, 40, np.nan, 80],
        "price_rank": [1, 0.25, 0.25, np.nan, 0],
        "color_asked": [0, 1, 0, 0, 1 / 2],
        "rank_other": [1 / 2, 0, 0, 1 / 2, 0],
    }
    assert features.names == tuple(expected)
    for name, values in expected.items():
        assert column(features, name) == pytest.approx(values, abs=1e-6, nan_ok=True), name
    grades = np.arange(12).reshape(3, 4)
    assert features.grades(grades).tolist() == [1, 0, 3, 6, 5]


def test_features_of_a_query_alone_are_those_among_others():
    """Words are read of the listed products only: what else is in the catalog does not matter."""
    options = {"numbers": ["price"], "attributes": ["color"]}
    together = made(**options)
    for q in range(2):
        only = Ranking(CANDIDATES.rows[q : q + 1], CANDIDATES.scores[q : q + 1])
        alone = rank_features(QUERIES[q : q + 1], only, PRODUCTS, **options)
        np.testing.assert_array_equal(alone.values, together.values[together.query == q])


def test_features_without_any_candidate():
    nothing = top_k(np.full((3, 4), -np.inf), 2)
    features = rank_features(
        QUERIES,
        nothing,
        PRODUCTS,
        keywords={"names": keyword_index(PRODUCTS["name"])},
        vectors=(np.ones((3, 2)), np.ones((4, 2))),
        numbers=["price"],
        attributes=["color"],
        rankings={"other": nothing},
    )
    assert features.values.shape == (0, 13)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"numbers": ["cost"]}, 'products have no column "cost"'),
        ({"vectors": (np.ones((2, 2)), np.ones((4, 2)))}, "for 3 queries and 4"),
        ({"vectors": (np.full((3, 2), np.nan), np.ones((4, 2)))}, "NaN"),
        ({"rankings": {"a": top_k(np.ones((1, 4)), 1)}}, "ranking a: 1 queries, not 3"),
        ({"rankings": {"a": top_k(np.ones((3, 5)), 5)}}, "ranking a: row 4 is beyond the 4"),
        ({"keywords": {"a": keyword_index(["hat"])}}, "keywords a: 1 products, the catalog 4"),
        ({"numbers": ["price", "price"]}, 'two features have the name "price"'),
    ],
)
def test_bad_features_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        made(**options)
    with pytest.raises(InputError, match="2 queries but candidates of 3"):
        rank_features(QUERIES[:2], CANDIDATES, PRODUCTS)
    with pytest.raises(InputError, match="row 3 is not among the 3 products"):
        rank_features(QUERIES, CANDIDATES, PRODUCTS[:3])
    with pytest.raises(InputError, match=r"name 2 is (NoneType|float), not a string"):
        rank_features(QUERIES, CANDIDATES, PRODUCTS.assign(name=["a", "b", None, "d"]))
    with pytest.raises(InputError, match="query 1 is float, not a string"):
        rank_features(["a", np.nan, "c"], CANDIDATES, PRODUCTS)
    with pytest.raises(InputError, match='two features have the name "query_words"'):
        rank_features(QUERIES, CANDIDATES, PRODUCTS.assign(query_words=1), numbers=["query_words"])


def planted(n_queries, seed):
    """Grades follow two of four features, which no single one of them tells, with some noise."""
    rng = np.random.default_rng(seed)
    n, each = n_queries * 12, 12
    values = rng.normal(size=(n, 4)).astype(np.float32)
    hidden = values[:, 0] + np.where(values[:, 1] > 0, 1.5, -1.5) + 0.2 * rng.normal(size=n)
    grades = np.digitize(hidden, [0, 1.5, 2.5])
    query = np.repeat(np.arange(n_queries), each)
    row = np.tile(np.arange(each), n_queries)
    return RankFeatures(values, ("a", "b", "noise", "more"), query, row, n_queries), grades


@pytest.fixture(scope="module")
def parts():
    return {"train": planted(120, 0), "valid": planted(40, 1), "test": planted(60, 2)}


@pytest.fixture(scope="module")
def model(parts):
    return fit_lambdamart(*parts["train"], *parts["valid"], rounds=150, patience=15, seed=4)


def mean_ndcg(ranking, grades):
    return np.nanmean(ndcg(grades.reshape(-1, 12), ranking.matrix(12), 5))


def test_lambdamart_finds_the_planted_order(parts, model):
    features, grades = parts["test"]
    learned = mean_ndcg(rank_by_model(model, features, 12), grades)
    single = mean_ndcg(top_k(features.values[:, 0].reshape(-1, 12), 12), grades)
    chance = mean_ndcg(top_k(features.values[:, 2].reshape(-1, 12), 12), grades)
    assert learned > 0.93 > single + 0.05
    assert single > chance + 0.1
    assert set(model.gains.index[:2]) == {"a", "b"}


def test_shuffled_grades_teach_nothing(parts):
    (features, grades), (valid, valid_grades) = parts["train"], parts["valid"]
    rng = np.random.default_rng(0)
    fooled = fit_lambdamart(
        features, rng.permutation(grades), valid, rng.permutation(valid_grades), rounds=60
    )
    test, test_grades = parts["test"]
    chance = mean_ndcg(top_k(test.values[:, 2].reshape(-1, 12), 12), test_grades)
    # Standard error of a mean over 60 queries: about 0.03.
    assert mean_ndcg(rank_by_model(fooled, test, 12), test_grades) < chance + 0.12


def test_the_same_seed_gives_the_same_trees(parts, model):
    again = fit_lambdamart(*parts["train"], *parts["valid"], rounds=150, patience=15, seed=4)
    assert again.text == model.text


def test_training_stops_where_validation_is_best(model):
    assert model.rounds == int(np.argmax(model.history)) + 1
    assert len(model.history) == model.rounds + 15 or len(model.history) == 150
    assert model.text.count("\nTree=") == model.rounds


def test_a_group_is_a_query(parts):
    """The same pairs under one query, shifted per query: only groups tell right from wrong."""
    features, grades = parts["train"]
    shift = np.random.default_rng(3).normal(size=120)[features.query]
    moved = RankFeatures(
        np.column_stack([grades + 10 * shift]).astype(np.float32),
        ("shifted",),
        features.query,
        features.row,
        features.n_queries,
    )
    model = fit_lambdamart(moved, grades, moved, grades, rounds=80, leaves=63, min_leaf=2)
    assert mean_ndcg(rank_by_model(model, moved, 12), grades) > 0.9


def test_pairs_that_nobody_judged_teach_nothing(parts, model):
    features, grades = parts["train"]
    extra = RankFeatures(
        np.vstack([features.values, np.full((7, 4), 9, np.float32)]),
        features.names,
        np.append(features.query, np.full(7, 120)),
        np.append(features.row, np.arange(7)),
        121,
    )
    judged = np.append(grades, np.full(7, -1))
    again = fit_lambdamart(extra, judged, *parts["valid"], rounds=150, patience=15, seed=4)
    assert again.text == model.text


def test_queries_without_candidates_have_an_empty_list(model):
    features = RankFeatures(
        np.zeros((2, 4), np.float32), model.names, np.array([1, 1]), np.array([7, 3]), 3
    )
    assert rank_by_model(model, features, 2).rows.tolist() == [[-1, -1], [3, 7], [-1, -1]]
    empty = features.take(np.zeros(2, bool))
    assert rank_by_model(model, empty, 2).rows.tolist() == [[-1, -1]] * 3


def test_any_name_of_a_feature_will_do(parts):
    """LightGBM's own names allow no brackets, quotes or commas; a shop's columns have them."""
    features, grades = parts["valid"]
    odd = RankFeatures(
        features.values,
        ("price [€]", 'the "best", so far', "{}", "Größe"),
        features.query,
        features.row,
        features.n_queries,
    )
    plain, named = (fit_lambdamart(f, grades, f, grades, rounds=5) for f in (features, odd))
    assert named.text == plain.text
    assert named.names == odd.names
    renamed = dict(zip(features.names, odd.names, strict=True))
    assert [renamed[name] for name in plain.gains.index] == named.gains.index.tolist()
    assert np.array_equal(rank_by_model(named, odd, 3).rows, rank_by_model(plain, features, 3).rows)


def test_bad_training_data_is_refused(parts, model):
    features, grades = parts["valid"]
    other = RankFeatures(features.values, ("a", "b", "c", "d"), features.query, features.row, 40)
    for call, message in [
        (lambda: fit_lambdamart(features, grades, other, grades), "different features"),
        (lambda: fit_lambdamart(features, grades[1:], features, grades), "train: 480 pairs"),
        (lambda: fit_lambdamart(features, grades + 0.5, features, grades), "whole numbers"),
        (lambda: fit_lambdamart(features, grades, features, 0 * grades), "valid: no query has"),
        (lambda: fit_lambdamart(features, 0 * grades - 1, features, grades), "train: no query"),
        (lambda: rank_by_model(model, other, 3), "other features: c, d, more, noise"),
        (lambda: fit_lambdamart(features, grades + 31, features, grades), "a grade is 3., above"),
        (lambda: fit_lambdamart(features, grades + np.inf, features, grades), "a grade is inf"),
        (lambda: fit_lambdamart(features, grades.astype(str), features, grades), "whole numbers"),
        *(
            (
                lambda o=o: fit_lambdamart(features, grades, features, grades, **o),
                f"{next(iter(o))}",
            )
            for o in (
                *({"k": 0}, {"rounds": 0}, {"patience": 0}, {"leaves": 1}, {"min_leaf": 0}),
                *({"threads": 0}, {"learning_rate": 0}, {"learning_rate": np.nan}),
            )
        ),
    ]:
        with pytest.raises(InputError, match=message):
            call()
