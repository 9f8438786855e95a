"""The one form of a search result: the best k products of every query, and how to cut them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_lib.workbook import InputError, check_fits

NO_ROW = -1
_BLOCK = 16 << 20  # bytes of scores that are cut at a time


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best products of each query, best first.

    rows: (Q, k) int64, positions in the catalog, each at most once per query; where a list is
        shorter than k, -1 fills it up.
    scores: (Q, k) float32, not rising along a list; -inf where there is no product.
    Of equal scores the lower row comes first.
    """

    rows: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.rows.shape != self.scores.shape:
            raise InputError(
                f"ranking: rows and scores must have one shape (Q, k); got {self.rows.shape} and "
                f"{self.scores.shape}"
            )
        object.__setattr__(self, "rows", self.rows.astype(np.int64, copy=False))
        object.__setattr__(self, "scores", self.scores.astype(np.float32, copy=False))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def k(self) -> int:
        """The longest possible list."""
        return self.rows.shape[1]

    @property
    def lengths(self) -> np.ndarray:
        """How many products each query has, (Q,) int64."""
        return (self.rows >= 0).sum(axis=1)

    def head(self, k: int) -> Ranking:
        """The first k of every list."""
        check_k(k)
        return Ranking(self.rows[:, :k], self.scores[:, :k])

    def matrix(self, n_products: int) -> np.ndarray:
        """(Q, n_products) float32: each product's score, -inf for those not in the list.

        This is what `metrics.ndcg` takes; products outside the lists tie behind all others.
        Raises InputError if a row is not below n_products, or the matrix would take over half of
        the memory.
        """
        if self.rows.size and self.rows.max() >= n_products:
            raise InputError(
                f"ranking: row {self.rows.max()} is not in a catalog of {n_products} products"
            )
        check_fits(
            4 * len(self) * n_products,
            f"the scores of a ranking, {len(self):,} queries × {n_products:,} products,",
            "rank fewer queries at a time.",
        )
        dense = np.full((len(self), n_products), -np.inf, dtype=np.float32)
        query, at = np.nonzero(self.rows >= 0)
        dense[query, self.rows[query, at]] = self.scores[query, at]
        return dense

    def gains(self, grades: np.ndarray) -> np.ndarray:
        """(Q, k): the grades, from (Q, products), in the order of the lists; 0 where one ends.

        Raises InputError for grades of other queries, or of fewer products than are listed.
        """
        last = self.rows.max(initial=NO_ROW)
        if grades.ndim != 2 or len(grades) != len(self) or grades.shape[1] <= last:
            raise InputError(
                f"ranking: grades have the shape {grades.shape} for {len(self)} queries and "
                f"products up to row {last}"
            )
        taken = np.take_along_axis(grades, np.maximum(self.rows, 0), axis=1)
        return np.where(self.rows >= 0, taken, 0)


def check_k(k: int) -> None:
    """Raise InputError unless k is a whole number above 0."""
    if not isinstance(k, int | np.integer) or isinstance(k, bool) or k < 1:
        raise InputError(f"k = {k!r} must be a whole number above 0")


def top_k(scores: np.ndarray, k: int) -> Ranking:
    """The k highest scores of each row of (Q, N), best first, equal ones by their position.

    -inf means "not in the list". A k above N gives lists of N, filled up to k.
    Raises InputError for NaN, or something that is not (Q, N).
    """
    check_k(k)
    scores = np.asarray(scores, dtype=np.float32)
    if scores.ndim != 2:
        raise InputError(f"scores must have the shape (queries, products); got {scores.shape}")
    rows = np.full((len(scores), k), NO_ROW, dtype=np.int64)
    best = np.full((len(scores), k), -np.inf, dtype=np.float32)
    step = max(1, _BLOCK // max(1, 4 * scores.shape[1]))
    for start in range(0, len(scores), step):
        block = scores[start : start + step]
        if np.isnan(block).any():
            query = start + int(np.flatnonzero(np.isnan(block).any(axis=1))[0])
            raise InputError(f"scores: query {query} has NaN among its scores")
        kept = _best_columns(block, min(k, block.shape[1]))
        values = np.take_along_axis(block, kept, axis=1)
        part = slice(start, start + len(block)), slice(0, kept.shape[1])
        rows[part] = np.where(np.isneginf(values), NO_ROW, kept)
        best[part] = values
    return Ranking(rows, best)


def _best_columns(scores: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k highest of each row, in order; needs k ≤ N."""
    if k < scores.shape[1]:
        columns = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        last = np.take_along_axis(scores, columns, axis=1).min(axis=1, keepdims=True)
        # Where more than k are as good as the last one, which of them were taken is not defined
        # (and does not matter for -inf).
        tied = (np.count_nonzero(scores >= last, axis=1) > k) & ~np.isneginf(last[:, 0])
        for row in np.flatnonzero(tied):
            level = np.flatnonzero(scores[row] >= last[row])
            columns[row] = level[np.argsort(-scores[row, level], kind="stable")[:k]]
    else:
        columns = np.broadcast_to(np.arange(k), (len(scores), k))
    order = np.lexsort((columns, -np.take_along_axis(scores, columns, axis=1)), axis=1)
    return np.take_along_axis(columns, order, axis=1)


def rank_triples(
    query: np.ndarray, row: np.ndarray, score: np.ndarray, n_queries: int, k: int
) -> Ranking:
    """The ranking of scattered results: `score[i]` of product `row[i]` for query `query[i]`.

    All three are (n,); a pair of query and row stands there once. Scores are compared as float32.
    """
    score = score.astype(np.float32)
    order = np.lexsort((row, -score, query))
    query, row, score = query[order], row[order], score[order]
    at = np.arange(len(query)) - np.searchsorted(query, query)
    kept = at < k
    rows = np.full((n_queries, k), NO_ROW, dtype=np.int64)
    scores = np.full((n_queries, k), -np.inf, dtype=np.float32)
    rows[query[kept], at[kept]] = row[kept]
    scores[query[kept], at[kept]] = score[kept]
    return Ranking(rows, scores)
