"""Several rankings of the same queries made into one: by ranks, or by normalized scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys_lib.metrics import ndcg
from recsys_lib.search.results import Ranking, check_k, rank_triples
from recsys_lib.workbook.errors import InputError

NORMALIZATIONS = ("minmax", "z", "none")
FIRST_WEIGHTS = (0.0, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 50.0, 80.0, 150.0, 300.0)


def reciprocal_rank_fusion(
    rankings: Sequence[Ranking],
    k: int,
    *,
    c: float = 60.0,
    weights: Sequence[float] | None = None,
) -> Ranking:
    """Each list gives its product at rank r (from 1) the score weight / (c + r); they add up.

    Needs no comparable scores, so it is hard to get wrong. A list gives nothing to what it lacks.
    weights: one per ranking, not negative; by default 1 each.
    Raises InputError for rankings of different numbers of queries, or bad k, c or weights.
    Source: Cormack, Clarke, Büttcher (2009), SIGIR, with their c = 60.
    """
    weights = _checked(rankings, k, weights)
    if not c >= 0:
        raise InputError(f"c = {c!r} must not be negative")
    values = [
        np.broadcast_to(weight / (c + np.arange(1, ranking.k + 1)), ranking.rows.shape)
        for ranking, weight in zip(rankings, weights, strict=True)
    ]
    return _add(rankings, values, k)


def weighted_fusion(
    rankings: Sequence[Ranking],
    weights: Sequence[float],
    k: int,
    *,
    normalize: str = "minmax",
) -> Ranking:
    """The weighted sum of each query's normalized scores.

    normalize: per query and list, "minmax" maps its scores onto 0 … 1 (all to 1 where they are
        equal), "z" takes their mean off and divides by their standard deviation (all to 0 where
        they are equal), "none" adds them up as they come. A product that a list lacks gets what
        its last product gets (where a list is empty, or its scores are equal, 0), as it would rank
        behind it.
    Raises InputError as `reciprocal_rank_fusion`, and for an infinite score of a product.
    Source: Fox, Shaw (1994), TREC-2 (CombSUM), with weights.
    """
    weights = _checked(rankings, k, weights)
    if normalize not in NORMALIZATIONS:
        raise InputError(f"normalize = {normalize!r} must be one of {', '.join(NORMALIZATIONS)}")
    values = []
    for ranking, weight in zip(rankings, weights, strict=True):
        scaled, last = _normalized(ranking, normalize)
        # What is missing gets `last`: take it off everywhere, as a constant changes no order.
        values.append(weight * (scaled - last))
    return _add(rankings, values, k)


def choose_first_weight(
    grades: np.ndarray,
    logits: np.ndarray,
    first_scores: np.ndarray,
    *,
    weights: Sequence[float] = FIRST_WEIGHTS,
    k: int = 10,
) -> float:
    """How much the first ranker's score counts beside a re-ranker's logit: chosen on validation.

    Candidates are ordered by ``logit + weight * first score``. Of all weights whose NDCG@k is
    within one standard error (of the paired difference, over queries) of the best, the largest is
    taken: the first ranker's order stays unless validation says clearly that it should not. A few
    hundred queries tell neighboring weights apart badly, and the best of many is best by luck.

    Args:
        grades, logits, first_scores: (Q, K), of K candidates per query. Of cosines and logits, a
            weight of 300 leaves in effect the first order.
        weights: to try. k: ranks that count.

    Raises:
        InputError: shapes that differ, or no query with a relevant candidate.
    Source: the one-standard-error rule of Breiman, Friedman, Olshen, Stone (1984), section 3.4.3.
    """
    if not grades.shape == logits.shape == first_scores.shape:
        raise InputError(
            f"grades {grades.shape}, logits {logits.shape} and first_scores {first_scores.shape} "
            "must have one shape (Q, K)."
        )
    told = (grades > 0).any(axis=1)
    if not told.any():
        raise InputError("no query has a relevant candidate: the weight cannot be chosen.")
    grades, logits, first_scores = grades[told], logits[told], first_scores[told]
    values = np.array([ndcg(grades, logits + w * first_scores, k) for w in weights])
    behind = values[values.mean(axis=1).argmax()] - values
    error = behind.std(axis=1, ddof=1) / np.sqrt(told.sum()) if told.sum() > 1 else 0
    return float(max(np.asarray(weights)[behind.mean(axis=1) <= error]))


def _normalized(ranking: Ranking, how: str) -> tuple[np.ndarray, np.ndarray]:
    """Normalized scores (Q, k), and (Q, 1) that of a product which the list lacks."""
    listed = ranking.rows >= 0
    scores = np.where(listed, ranking.scores.astype(np.float64), np.nan)
    if not np.isfinite(scores[listed]).all():
        raise InputError("weighted fusion needs finite scores of every product in a list")
    empty = ~listed.any(axis=1)
    scores[empty] = 0.0
    low = np.nanmin(scores, axis=1, keepdims=True)
    if how == "none":
        return scores, low
    if how == "minmax":
        spread = np.nanmax(scores, axis=1, keepdims=True) - low
        scaled = np.where(spread > 0, (scores - low) / np.where(spread > 0, spread, 1), 1.0)
        return scaled, np.zeros((len(scores), 1))
    mean = np.nanmean(scores, axis=1, keepdims=True)
    deviation = np.nanstd(scores, axis=1, keepdims=True)
    flat = deviation <= 1e-12 * np.maximum(1, np.abs(mean))
    scaled = np.where(flat, 0.0, (scores - mean) / np.where(flat, 1, deviation))
    return scaled, np.nanmin(scaled, axis=1, keepdims=True)


def _checked(
    rankings: Sequence[Ranking], k: int, weights: Sequence[float] | None
) -> Sequence[float]:
    check_k(k)
    if not rankings:
        raise InputError("fusion needs at least one ranking")
    if len({len(ranking) for ranking in rankings}) > 1:
        sizes = ", ".join(str(len(ranking)) for ranking in rankings)
        raise InputError(f"the rankings have different numbers of queries: {sizes}")
    weights = [1.0] * len(rankings) if weights is None else list(weights)
    if len(weights) != len(rankings):
        raise InputError(f"{len(rankings)} rankings but {len(weights)} weights")
    if not all(np.isfinite(weight) and weight >= 0 for weight in weights):
        raise InputError(f"weights = {weights} must be finite and not negative")
    return weights


def _add(rankings: Sequence[Ranking], values: Sequence[np.ndarray], k: int) -> Ranking:
    """Sum what every list gives to a pair of query and product."""
    n_queries = len(rankings[0])
    query, row, value = [], [], []
    for ranking, given in zip(rankings, values, strict=True):
        at = np.nonzero(ranking.rows >= 0)
        query.append(at[0])
        row.append(ranking.rows[at])
        value.append(given[at])
    row = np.concatenate(row)
    width = int(row.max(initial=0)) + 1
    pairs, inverse = np.unique(np.concatenate(query) * width + row, return_inverse=True)
    total = np.bincount(inverse, np.concatenate(value), minlength=len(pairs))
    return rank_triples(pairs // width, pairs % width, total, n_queries, k)
