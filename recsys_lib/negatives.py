"""What a ranker is trained on: pairs and lists from judgements, and mined hard negatives.

A hard negative is a wrong product that a ranker takes for right. Where judgements are incomplete,
the most similar "wrong" products are often right ones that nobody judged (about 70 % of them in Qu
et al. 2021, arXiv 2010.08191, section 3.2): hence `skip` and `margin`.
"""

from __future__ import annotations

import numpy as np

from recsys_lib.workbook.errors import InputError

_BLOCK = 4_000_000  # scores held at a time


def mine_negatives(
    queries: np.ndarray,
    items: np.ndarray,
    relevant: np.ndarray,
    *,
    n: int = 8,
    irrelevant: np.ndarray | None = None,
    unjudged: bool = True,
    skip: int = 0,
    margin: float | None = None,
    depth: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """The wrong products that score highest for each query, (Q, n) rows of `items`, best first.

    A query with fewer is filled up with -1. Equal scores are ranked in the order of `items`.

    Args:
        queries, items: vectors, (Q, width) and (m, width); their dot product is the score.
        relevant: (J, 2) ints, row of a query and row of a product: never a negative.
        n: negatives per query.
        irrelevant: (K, 2) ints like `relevant`, pairs that were judged wrong. They are sure, so
            `skip` and `margin` do not apply to them. A pair in both lists is relevant.
        unjudged: whether pairs in neither list may be negatives. They are the only ones where
            `irrelevant` is not given; with complete judgements that is safe without `skip` and
            `margin`.
        skip: so many of the highest unjudged products of each query are left out.
        margin: an unjudged product must score so much below the query's best relevant product
            (de Souza Moreira et al. 2024, arXiv 2407.15831, "TopK-MarginPos"). A query without a
            relevant product has no such bound.
        depth: draw the n at random among so many highest instead of taking the highest n.
        seed: of that draw.

    Raises:
        InputError: shapes, rows or settings that do not fit; scores that are not finite.
    """
    queries, items = np.asarray(queries), np.asarray(items)
    if queries.ndim != 2 or items.ndim != 2 or queries.shape[1] != items.shape[1]:
        raise InputError(
            f"queries {queries.shape} and items {items.shape} must be vectors of one width."
        )
    _check_mining(n, skip, margin, depth)
    if irrelevant is None and not unjudged:
        raise InputError("unjudged = False leaves no negatives where irrelevant is not given.")
    right = _by_query("relevant", relevant, len(queries), len(items))
    empty = np.zeros((0, 2), dtype=np.int64)
    wrong = _by_query(
        "irrelevant", empty if irrelevant is None else irrelevant, len(queries), len(items)
    )
    mined = np.full((len(queries), n), -1, dtype=np.int64)
    block = max(1, _BLOCK // max(1, len(items)))
    for start in range(0, len(queries), block):
        scores = queries[start : start + block] @ items.T
        if not np.isfinite(scores).all():
            raise InputError("the scores of queries and items are not all finite numbers.")
        for row, values in enumerate(scores, start):
            allowed = _allowed(values, right[row], wrong[row], unjudged, skip, margin)
            found = _highest(values, allowed, n if depth is None else depth)
            if depth is not None and len(found) > n:
                chosen = np.random.default_rng([seed, row]).choice(len(found), n, replace=False)
                found = found[np.sort(chosen)]
            mined[row, : len(found)] = found
    return mined


def sample_pairs(
    judgements: np.ndarray, *, least: int = 1, per_query: int | None = None, seed: int = 0
) -> np.ndarray:
    """Right products for each query, (P, 2) rows of query and product, to train a bi-encoder on.

    Args:
        judgements: (J, 3) ints, row of the query, row of the product, grade; see
            `Relevance.judged`.
        least: the lowest grade that is right.
        per_query: at most so many per query, drawn at random; None takes all.
        seed: of the draw.
    """
    judgements = _checked_judgements(judgements)
    right = judgements[judgements[:, 2] >= least]
    if not len(right):
        raise InputError(
            f"least = {least}: no pair has such a grade; the highest is {judgements[:, 2].max()}."
        )
    return _draw(right, right[:, 0], per_query, seed)[:, :2]


def sample_lists(
    judgements: np.ndarray,
    *,
    per_grade: int = 4,
    negatives: np.ndarray | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Graded lists to train a cross-encoder on, (m, 3) rows of query and product, and grade.

    Args:
        judgements: see `sample_pairs`.
        per_grade: at most so many products of each grade for each query, drawn at random.
        negatives: (Q, H) products to add with grade 0, -1 for none (see `mine_negatives`). Those
            that were judged are not added.
        seed: of the draw.

    The rows of a query stand together, queries in order.
    """
    judgements = _checked_judgements(judgements)
    if per_grade < 1:
        raise InputError(f"per_grade = {per_grade} must be at least 1.")
    unit = judgements[:, 0] * (judgements[:, 2].max() + 1) + judgements[:, 2]
    rows = _draw(judgements, unit, per_grade, seed)
    if negatives is not None:
        negatives = np.asarray(negatives)
        query = np.repeat(np.arange(len(negatives)), negatives.shape[1])
        mined = np.column_stack([query, negatives.ravel(), np.zeros_like(query)])
        mined = np.unique(mined[mined[:, 1] >= 0], axis=0)
        rows = np.concatenate([rows, mined[~_among(mined, judgements)]])
    return rows[np.argsort(rows[:, 0], kind="stable")]


def _check_mining(n: int, skip: int, margin: float | None, depth: int | None) -> None:
    if n < 1:
        raise InputError(f"n = {n} must be at least 1.")
    if skip < 0:
        raise InputError(f"skip = {skip} must not be negative.")
    if margin is not None and not margin >= 0:
        raise InputError(f"margin = {margin} must not be negative.")
    if depth is not None and depth < n:
        raise InputError(f"depth = {depth} must be at least n = {n}.")


def _allowed(
    scores: np.ndarray,
    right: np.ndarray,
    wrong: np.ndarray,
    unjudged: bool,
    skip: int,
    margin: float | None,
) -> np.ndarray:
    """Which products may be negatives of one query, (m,) bool."""
    allowed = np.full(len(scores), unjudged)
    allowed[right] = False
    allowed[wrong] = False
    if margin is not None and len(right):
        allowed &= scores <= scores[right].max() - margin
    if skip:
        allowed[_highest(scores, allowed, skip)] = False
    allowed[np.setdiff1d(wrong, right)] = True
    return allowed


def _highest(scores: np.ndarray, allowed: np.ndarray, n: int) -> np.ndarray:
    """Rows of the n highest allowed scores, highest first, equal ones in their order."""
    rows = np.flatnonzero(allowed)
    if len(rows) > n:
        least = np.partition(scores[rows], len(rows) - n)[len(rows) - n]
        rows = rows[scores[rows] >= least]
    return rows[np.argsort(-scores[rows], kind="stable")][:n]


def _by_query(name: str, pairs: np.ndarray, n_queries: int, n_items: int) -> list[np.ndarray]:
    """The products of each query."""
    pairs = np.asarray(pairs)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or (pairs.dtype.kind not in "iu" and len(pairs)):
        raise InputError(
            f"{name} must be whole numbers (J, 2), row of the query and row of the product; "
            f"it is {pairs.dtype} {pairs.shape}."
        )
    outside = np.flatnonzero(((pairs < 0) | (pairs >= (n_queries, n_items))).any(axis=1))
    if len(outside):
        raise InputError(
            f"{name} row {outside[0]} is {pairs[outside[0]].tolist()}, but there are {n_queries:,} "
            f"queries and {n_items:,} products, counted from 0."
        )
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")].astype(np.int64)
    ends = np.searchsorted(pairs[:, 0], np.arange(1, n_queries))
    return np.split(pairs[:, 1], ends)


def _draw(rows: np.ndarray, unit: np.ndarray, most: int | None, seed: int) -> np.ndarray:
    """At most `most` rows of each unit, at random, in their order."""
    if most is None:
        return rows
    if most < 1:
        raise InputError(f"per_query = {most} must be at least 1.")
    chance = np.random.default_rng(seed).random(len(rows))
    order = np.lexsort((chance, unit))
    starts = np.flatnonzero(np.diff(unit[order], prepend=-1))
    place = np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))
    return rows[np.sort(order[place < most])]


def _among(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which rows name a pair that `others` name."""
    width = 1 + max(rows[:, 1].max(initial=0), others[:, 1].max(initial=0))
    return np.isin(rows[:, 0] * width + rows[:, 1], others[:, 0] * width + others[:, 1])


def _checked_judgements(judgements: np.ndarray) -> np.ndarray:
    judgements = np.asarray(judgements)
    if judgements.ndim != 2 or judgements.shape[1] != 3 or judgements.dtype.kind not in "iu":
        raise InputError(
            "judgements must be whole numbers (J, 3), row of the query, row of the product and "
            f"grade; they are {judgements.dtype} {judgements.shape}."
        )
    if not len(judgements):
        raise InputError("there are no judgements.")
    if judgements.min() < 0:
        raise InputError("judgements must not be negative; leave out what was not judged.")
    return judgements.astype(np.int64)
