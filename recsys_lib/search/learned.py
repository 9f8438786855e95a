"""Learning to rank: LightGBM's LambdaMART over what each ranker and the catalog say of a pair.

LambdaMART (Burges 2010, MSR-TR-2010-82) boosts trees on gradients of a pairwise loss, each pair
weighted by how much its swap would change NDCG. Here it re-ranks candidates: the products that
cheap rankers found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import lightgbm
import numpy as np
import pandas as pd

from recsys_lib.search.lexical import KeywordIndex, keyword_scores, words
from recsys_lib.search.results import Ranking, check_k, rank_triples
from recsys_lib.workbook.errors import InputError

_HIGHEST_GRADE = 30  # LightGBM's own, with gain 2^grade − 1


@dataclass(frozen=True, eq=False)
class RankFeatures:
    """What is known about the pairs of queries and candidate products, queries one after the other.

    values: (P, F) float32, NaN where unknown. names: of the F features. query, row: (P,) int64,
    the position of the query and of the product. n_queries: queries without a candidate included.
    """

    values: np.ndarray
    names: tuple[str, ...]
    query: np.ndarray
    row: np.ndarray
    n_queries: int

    def __len__(self) -> int:
        return len(self.query)

    def take(self, kept: np.ndarray) -> RankFeatures:
        """The pairs where `kept`, (P,) bool, is true."""
        return replace(self, values=self.values[kept], query=self.query[kept], row=self.row[kept])

    def grades(self, matrix: np.ndarray) -> np.ndarray:
        """The pairs' grades, (P,), from (Q, products) as `Relevance.grades` gives them."""
        return matrix[self.query, self.row]


def rank_features(
    queries: Sequence[str],
    candidates: Ranking,
    products: pd.DataFrame,
    *,
    keywords: Mapping[str, KeywordIndex] | None = None,
    vectors: tuple[np.ndarray, np.ndarray] | None = None,
    numbers: Sequence[str] = (),
    attributes: Sequence[str] = (),
    rankings: Mapping[str, Ranking] | None = None,
) -> RankFeatures:
    """Features of every candidate of every query.

    queries: texts, (Q,). candidates: the products to describe, for example the first hundred of
    `fusion.reciprocal_rank_fusion`; their scores are not used. products: the catalog, with `name`.

    Always there, from the words of query and name as keyword search sees them:
        query_words, name_words     how many
        query_covered               share of the query's words that the name has
        name_covered                share of the name's words that the query has
        first_word                  1 where the name begins with a word of the query
    keywords, per index by name:
        bm25_<name>                 its score
        bm25_<name>_of_best         the score over that of the query's best candidate
    vectors, (Q, d) of the queries and (N, d) of the products, of length 1:
        cosine                      of query and product
        cosine_below_best           how far below the query's best candidate
    numbers, columns of products such as price and popularity, known before anybody searched:
        <column>                    its value, NaN where missing
        <column>_rank               its share of lower values among the query's candidates, 0 … 1
    attributes, columns of words such as type and color:
        <column>_asked              share of the attribute's words that the query has
    rankings, other rankers by name, such as a fine-tuned model:
        rank_<name>                 1 / rank, 0 where it does not list the product

    Raises InputError for an unknown column, a missing query or name of a candidate, two features of
    one name, sizes that do not fit, or rows beyond the catalog.
    """
    queries = list(queries)
    if len(queries) != len(candidates):
        raise InputError(f"{len(queries)} queries but candidates of {len(candidates)}")
    for column in ("name", *numbers, *attributes):
        if column not in products:
            raise InputError(f'products have no column "{column}"')
    if candidates.rows.size and candidates.rows.max() >= len(products):
        raise InputError(
            f"candidates: row {candidates.rows.max()} is not among the {len(products)} products"
        )
    query, at = np.nonzero(candidates.rows >= 0)
    row = candidates.rows[query, at]
    listed, place = np.unique(row, return_inverse=True)  # words are read of candidates only
    names = products["name"].iloc[listed]
    for what, texts in (("query", enumerate(queries)), ("name", zip(listed, names, strict=True))):
        for i, text in texts:
            if not isinstance(text, str):
                raise InputError(f"{what} {i} is {type(text).__name__}, not a string")
    features = list(_word_features(queries, names, query, place).items())
    for name, index in (keywords or {}).items():
        if index.n_products != len(products):
            raise InputError(
                f"keywords {name}: {index.n_products} products, the catalog {len(products)}"
            )
        score = keyword_scores(index, queries, candidates.rows)[query, at]
        best = _per_query(np.maximum.reduceat, score, query)
        share = np.divide(score, best, out=np.zeros_like(score), where=best > 0)
        features += [(f"bm25_{name}", score), (f"bm25_{name}_of_best", share)]
    if vectors is not None:
        cosine = _cosines(*vectors, query, row, len(queries), len(products))
        best = _per_query(np.maximum.reduceat, cosine, query)
        features += [("cosine", cosine), ("cosine_below_best", best - cosine)]
    for column in numbers:
        values = pd.to_numeric(products[column], errors="coerce").to_numpy(np.float64)[row]
        features += [(column, values), (f"{column}_rank", _share_below(values, query))]
    asked = [set(words(text)) for text in queries]
    for column in attributes:
        known = [set(words(str(v))) for v in products[column].iloc[listed].fillna("")]
        features.append((f"{column}_asked", _shares(known, asked, place, query)))
    for name, ranking in (rankings or {}).items():
        if len(ranking) != len(queries):
            raise InputError(f"ranking {name}: {len(ranking)} queries, not {len(queries)}")
        if ranking.rows.max(initial=-1) >= len(products):
            raise InputError(
                f"ranking {name}: row {ranking.rows.max()} is beyond the {len(products)} products"
            )
        features.append((f"rank_{name}", _reciprocal_ranks(ranking, query, row, len(products))))
    names = tuple(name for name, _ in features)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f'two features have the name "{twice}": rename the column or the ranker')
    values = np.column_stack([np.asarray(v, dtype=np.float32) for _, v in features])
    return RankFeatures(values, names, query, row, len(queries))


@dataclass(frozen=True, eq=False)
class RankModel:
    """A trained LambdaMART.

    text: the trees as LightGBM writes them. names: the features, in order. rounds: trees kept by
    early stopping. history: NDCG of the validation queries after each round, among their judged
    candidates only. gains: what each
    feature's splits gained in training, a Series by feature, the largest first.
    """

    text: str
    names: tuple[str, ...]
    rounds: int
    history: tuple[float, ...]
    gains: pd.Series


def fit_lambdamart(
    train: RankFeatures,
    train_grades: np.ndarray,
    valid: RankFeatures,
    valid_grades: np.ndarray,
    *,
    k: int = 10,
    rounds: int = 400,
    patience: int = 40,
    leaves: int = 7,
    learning_rate: float = 0.05,
    min_leaf: int = 50,
    seed: int = 0,
    threads: int = 1,
) -> RankModel:
    """Boost trees on the training queries, as many as serve the validation queries' NDCG@k best.

    train_grades, valid_grades: (P,) whole numbers, one per pair, with gain 2^grade − 1; negative
        where nobody judged the pair: such pairs, and then queries whose candidates are all of one
        grade (they teach no order), are left out.
    rounds: at most so many trees; patience: rounds without a better NDCG until it stops.
    leaves, min_leaf: of each tree, and training pairs per leaf; small, as graded queries are few.
    threads: more than one pay off from some hundred thousand pairs on, and only where the cores are
        idle: LightGBM's threads wait for one another many times per tree.

    The same data, seed and number of threads give the same trees.
    Raises InputError where the two parts have other features, nothing is left to learn from, a
    grade is above 30, or an option is out of range.
    """
    check_k(k)
    for name, value, least in (
        ("rounds", rounds, 1),
        ("patience", patience, 1),
        ("leaves", leaves, 2),
        ("min_leaf", min_leaf, 1),
        ("threads", threads, 1),
    ):
        if value < least:
            raise InputError(f"{name} = {value} must be at least {least}")
    if not learning_rate > 0:
        raise InputError(f"learning_rate = {learning_rate} must be above 0")
    if train.names != valid.names:
        raise InputError("train and valid have different features")
    parts = {
        "train": _usable(train, train_grades, "train"),
        "valid": _usable(valid, valid_grades, "valid"),
    }
    data = {
        name: lightgbm.Dataset(
            features.values,
            grades,
            group=np.unique(features.query, return_counts=True)[1],
            free_raw_data=False,
        )
        for name, (features, grades) in parts.items()
    }
    data["valid"].set_reference(data["train"])
    history: dict = {}
    booster = lightgbm.train(
        {
            "objective": "lambdarank",
            "metric": "ndcg",
            "eval_at": [k],
            "lambdarank_truncation_level": max(30, k + 5),
            "num_leaves": leaves,
            "learning_rate": learning_rate,
            "min_data_in_leaf": min_leaf,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": threads,
            "verbosity": -1,
        },
        data["train"],
        num_boost_round=rounds,
        valid_sets=[data["valid"]],
        valid_names=["valid"],
        callbacks=[
            lightgbm.early_stopping(patience, verbose=False),
            lightgbm.record_evaluation(history),
        ],
    )
    best = booster.best_iteration
    gains = pd.Series(
        booster.feature_importance("gain", iteration=best), index=list(train.names), name="gain"
    )
    return RankModel(
        text=booster.model_to_string(num_iteration=best),
        names=train.names,
        rounds=best,
        history=tuple(history["valid"][f"ndcg@{k}"]),
        gains=gains.sort_values(ascending=False, kind="stable"),
    )


def rank_by_model(model: RankModel, features: RankFeatures, k: int) -> Ranking:
    """The candidates of each query in the model's order, the best k.

    Raises InputError where the features are not those that the model was trained on.
    """
    if features.names != model.names:
        wrong = sorted(set(features.names) ^ set(model.names)) or ["their order"]
        raise InputError(f"the model was trained on other features: {', '.join(wrong)}")
    scores = np.empty(0)
    if len(features):
        booster = lightgbm.Booster(model_str=model.text)
        scores = booster.predict(features.values, raw_score=True)
    return rank_triples(features.query, features.row, scores, features.n_queries, k)


def _usable(
    features: RankFeatures, grades: np.ndarray, part: str
) -> tuple[RankFeatures, np.ndarray]:
    grades = np.asarray(grades)
    if grades.shape != (len(features),):
        raise InputError(f"{part}: {len(features)} pairs but grades of shape {grades.shape}")
    if grades.dtype.kind not in "biuf" or not np.array_equal(grades, np.floor(grades)):
        raise InputError(f"{part}: grades must be whole numbers")
    if grades.max(initial=0) > _HIGHEST_GRADE:
        raise InputError(f"{part}: a grade is {grades.max()}, above {_HIGHEST_GRADE}")
    judged = grades >= 0
    features, grades = features.take(judged), grades[judged].astype(np.int64)
    if len(features):
        low = _per_query(np.minimum.reduceat, grades, features.query)
        differ = low < _per_query(np.maximum.reduceat, grades, features.query)
        features, grades = features.take(differ), grades[differ]
    if not len(features):
        raise InputError(f"{part}: no query has candidates of different grades to learn from")
    return features, grades


def _per_query(reduceat, values: np.ndarray, query: np.ndarray) -> np.ndarray:
    """A reduction over each query's pairs, given back to each pair: (P,)."""
    if not len(query):
        return values
    starts = np.flatnonzero(np.diff(query, prepend=-1))
    return np.repeat(reduceat(values, starts), np.diff(starts, append=len(query)))


def _share_below(values: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Of a query's other candidates, the share with a lower value (half of the equal), (P,)."""
    frame = pd.DataFrame({"value": values, "query": query})
    rank = frame.groupby("query")["value"].rank(method="average")
    known = frame.groupby("query")["value"].transform("count")
    return ((rank - 1) / (known - 1).clip(lower=1)).to_numpy()


def _word_features(
    queries: list[str], names: pd.Series, query: np.ndarray, row: np.ndarray
) -> dict[str, np.ndarray]:
    asked = [set(words(text)) for text in queries]
    named = [words(name) for name in names]
    sets = [set(name) for name in named]
    return {
        "query_words": np.array([len(a) for a in asked], dtype=np.float32)[query],
        "name_words": np.array([len(s) for s in sets], dtype=np.float32)[row],
        "query_covered": _shares(asked, sets, query, row),
        "name_covered": _shares(sets, asked, row, query),
        "first_word": np.array(
            [
                named[r][:1] != [] and named[r][0] in asked[q]
                for q, r in zip(query, row, strict=True)
            ],
            dtype=np.float32,
        ),
    }


def _shares(
    these: list[set[str]], others: list[set[str]], this: np.ndarray, other: np.ndarray
) -> np.ndarray:
    """For each pair, the share of the words these[this] that others[other] has; 0 of none."""
    pairs = zip(this.tolist(), other.tolist(), strict=True)
    return np.array(
        [len(these[a] & others[b]) / max(1, len(these[a])) for a, b in pairs], dtype=np.float32
    )


def _cosines(
    asked: np.ndarray, known: np.ndarray, query: np.ndarray, row: np.ndarray, n: int, m: int
) -> np.ndarray:
    if len(asked) != n or len(known) != m or asked.shape[1] != known.shape[1]:
        raise InputError(
            f"vectors have the shapes {asked.shape} and {known.shape} for {n} queries and {m} "
            "products"
        )
    out = np.empty(len(query), dtype=np.float32)
    for low in range(0, len(query), 16_384):
        part = slice(low, low + 16_384)
        out[part] = np.einsum("nd,nd->n", asked[query[part]], known[row[part]])
    if not np.isfinite(out).all():
        raise InputError("vectors: NaN or infinite values")
    return out


def _reciprocal_ranks(
    ranking: Ranking, query: np.ndarray, row: np.ndarray, n_products: int
) -> np.ndarray:
    listed = np.nonzero(ranking.rows >= 0)
    pairs = listed[0] * n_products + ranking.rows[listed]
    known = pd.Series(1 / (listed[1] + 1.0), index=pairs)
    return known.reindex(query * n_products + row, fill_value=0.0).to_numpy()
