"""Every metric of every query in one table; means with intervals; A against B.

The convention is that of ``ranking``. A query without a relevant document has no value (NaN): it
stays in the table, is left out of means and comparisons, and is counted there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from recsys_lib.metrics import _formulas as formulas
from recsys_lib.metrics._ranked import Metric, check_depth, evaluate, query_codes
from recsys_lib.metrics.intervals import Estimate, bootstrap_mean, sign_flip_test

EQUAL = 1e-12  # values of two rankings that differ by less differ by rounding

MEASURES = {
    "precision": formulas.precision,
    "recall": formulas.recall,
    "hit": formulas.hit_rate,
    "rr": formulas.reciprocal_rank,
    "ap": formulas.average_precision,
    "ndcg": partial(formulas.ndcg, gain="exponential"),
    "ndcg_linear": partial(formulas.ndcg, gain="linear"),
    "dcg": partial(formulas.dcg, gain="exponential"),
    "rbp": formulas.rbp,
    "err": formulas.err,
    "judged": formulas.judged,
}


def metrics_per_query(
    gains: ArrayLike,
    scores: ArrayLike,
    measures: Sequence[str] | None = None,
    *,
    relevant: float = 1.0,
    max_grade: float | None = None,
    p: float = 0.8,
    mask: ArrayLike | None = None,
    retrieved: ArrayLike | None = None,
    queries: ArrayLike | None = None,
) -> pd.DataFrame:
    """Many metrics of each list.

    Args:
        gains: grades, ``(D,)``, ``(Q, D)`` or, with ``queries``, ``(N,)``.
        scores: same shape.
        measures: names, each with ``@k`` for a cut: "precision@5", "recall", "hit@1", "rr", "ap",
            "ndcg@10", "ndcg_linear@10", "dcg@10", "rbp", "err@10". None: all of them but "dcg" at
            10, "rbp" uncut, "err" only if ``max_grade`` is given.
        relevant: the lowest grade that is relevant.
        max_grade: top of the grading scale, for "err".
        p: persistence, for "rbp".
        mask, retrieved, queries: as in ``ranking.precision_at_k``.

    Returns:
        One row per query (index "query": its name, or its row in a padded array), one column per
        measure.

    Raises:
        ValueError: on an unknown measure or as the functions of ``ranking``.
    """
    names, functions, depths = parse_measures(measures, p, max_grade)
    if "judged" in {name.partition("@")[0] for name in names}:
        raise ValueError("judged is a measure of runs: evaluate_run knows what is judged")
    lists = {"mask": mask, "retrieved": retrieved, "queries": queries}
    values = at_each_depth(
        functions,
        depths,
        lambda some, depth: evaluate(
            some, gains, scores, depth=depth, threshold=relevant, **lists
        ).reshape(len(some), -1),
    )
    ids = np.arange(values.shape[1]) if queries is None else query_codes(queries, len(queries))[1]
    return query_table(values, names, ids)


def bootstrap_queries(
    values: ArrayLike,
    *,
    groups: Sequence[Hashable] | np.ndarray | None = None,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """The mean of a metric over the queries that have a value, with its bootstrap interval.

    Args:
        values: ``(Q,)``; NaN for queries without a value, which are left out and counted in the
            ``method`` of the estimate.
        groups: as in ``bootstrap_mean``, such as the wish that several queries put into words.

    Raises:
        ValueError: if no query has a value.
    """
    v = np.asarray(values, dtype=np.float64)
    if v.ndim != 1:
        raise ValueError(f"values must have one dimension, one per query; got shape {v.shape}")
    _check_groups(groups, len(v))
    has_value = ~np.isnan(v)
    if not has_value.any():
        raise ValueError(f"none of the {v.size} queries has a value; is any document relevant?")
    kept = None if groups is None else np.asarray(groups)[has_value]
    estimate = bootstrap_mean(v[has_value], groups=kept, n=n, level=level, seed=seed)
    without = int(v.size - has_value.sum())
    return replace(
        estimate, method=f"{estimate.method}, {without} queries without a value left out"
    )


def summarize_queries(
    table: pd.DataFrame, *, n: int = 2000, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """The mean of each column of a table per query, with its bootstrap interval over queries.

    Returns:
        One row per measure; columns mean, low, high, queries (with a value, in the mean) and
        without_value (left out). A measure that no query has a value of is NaN.
    """
    rows = {}
    for name, values in table.items():
        queries = int(values.notna().sum())
        mean, low, high = np.nan, np.nan, np.nan
        if queries:
            e = bootstrap_queries(values, n=n, level=level, seed=seed)
            mean, low, high = e.value, e.low, e.high
        rows[name] = (mean, low, high, queries, len(values) - queries)
    columns = ["mean", "low", "high", "queries", "without_value"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("measure")


@dataclass(frozen=True)
class QueryComparison:
    """A against B, query by query.

    ``difference``: the mean of A - B with its bootstrap interval. ``p_value``: two-sided, of the
    paired randomization test. ``wins``, ``ties`` (equal but for rounding), ``losses`` of A over
    ``queries``; ``left_out``: queries where A or B has no value.
    """

    difference: Estimate
    p_value: float
    wins: int
    ties: int
    losses: int
    queries: int
    left_out: int

    def __str__(self) -> str:
        return (
            f"A - B = {self.difference:+.3f}, p = {self.p_value:.4f}; A wins {self.wins}, "
            f"ties {self.ties}, loses {self.losses} of {self.queries} queries"
            f" ({self.left_out} without a value left out)"
        )


def compare_queries(
    a: ArrayLike,
    b: ArrayLike,
    *,
    groups: Sequence[Hashable] | np.ndarray | None = None,
    n: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> QueryComparison:
    """Does A beat B on the same queries?

    Args:
        a, b: a metric per query, ``(Q,)``. Two series are matched by their index.
        groups: of queries that are not independent, resampled and flipped together.
        n: resamples, and random flips of sign.

    Raises:
        ValueError: if the queries are not the same, or none has a value in both.

    Source: Smucker, Allan, Carterette (2007), A comparison of statistical significance tests for
    information retrieval evaluation, CIKM.
    """
    if isinstance(a, pd.Series) and isinstance(b, pd.Series):
        if not (a.index.is_unique and b.index.is_unique and set(a.index) == set(b.index)):
            raise ValueError(
                f"a and b must have the same queries, once each; got {len(a)} and {len(b)}, "
                f"{len(a.index.intersection(b.index))} in common"
            )
        b = b.reindex(a.index)
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.shape != right.shape or left.ndim != 1:
        raise ValueError(f"a and b must have one shape, (Q,); got {left.shape} and {right.shape}")
    if np.isinf(left).any() or np.isinf(right).any():
        raise ValueError("a and b must be finite, or NaN for a query without a value")
    _check_groups(groups, len(left))
    difference = left - right
    kept = ~np.isnan(difference)
    estimate = bootstrap_queries(difference, groups=groups, n=n, level=level, seed=seed)
    same = None if groups is None else np.asarray(groups)[kept]
    d = difference[kept]
    return QueryComparison(
        difference=estimate,
        p_value=sign_flip_test(d, groups=same, n=n, seed=seed),
        wins=int((d > EQUAL).sum()),
        ties=int((np.abs(d) <= EQUAL).sum()),
        losses=int((d < -EQUAL).sum()),
        queries=len(d),
        left_out=int((~kept).sum()),
    )


def parse_measures(
    measures: Sequence[str] | None, p: float, max_grade: float | None
) -> tuple[list[str], list[Metric], list[int | None]]:
    """Names, their functions of sorted lists, and how deep each looks.

    Raises:
        ValueError: on an unknown measure, or one without what it needs.
    """
    if measures is None:
        cut = ["precision", "recall", "hit", "rr", "ap", "ndcg", "ndcg_linear"]
        measures = [f"{name}@10" for name in cut] + ["rbp"] + ["err@10"] * (max_grade is not None)
    names = [measures] if isinstance(measures, str) else list(measures)
    if isinstance(measures, str) or not names or len(set(names)) < len(names):
        raise ValueError(f"measures must be a list of different names; got {measures!r}")
    functions, depths = [], []
    for name in names:
        base, _, cut = str(name).partition("@")
        if base not in MEASURES or ("@" in name and not cut.isdecimal()):
            raise ValueError(
                f"{name!r} is no measure; it must be one of {', '.join(MEASURES)}, as it is or "
                'with a cut, such as "ndcg@10"'
            )
        k = int(cut) if cut else None
        check_depth(k)
        if base == "precision" and k is None:
            raise ValueError('precision needs a cut, such as "precision@10"')
        if base == "err" and max_grade is None:
            raise ValueError(f"{name} needs max_grade, the top of the grading scale")
        more = {"rbp": {"p": p}, "err": {"max_grade": max_grade}}.get(base, {})
        functions.append(partial(MEASURES[base], k=k, **more))
        depths.append(k)
    return names, functions, depths


def at_each_depth(
    functions: Sequence[Metric],
    depths: Sequence[int | None],
    values_of: Callable[[list[Metric], int | None], np.ndarray],
) -> np.ndarray:
    """``(measures, Q)``: lists are sorted once for each depth, for metrics that look so deep.

    To sort down to 10 and again in full is quicker than to compute all metrics on full lists.
    """
    rows: dict[int, np.ndarray] = {}
    for depth in dict.fromkeys(depths):
        some = [at for at, own in enumerate(depths) if own == depth]
        values = values_of([functions[at] for at in some], depth)
        rows |= dict(zip(some, values, strict=True))
    return np.stack([rows[at] for at in range(len(functions))])


def _check_groups(groups: Sequence[Hashable] | np.ndarray | None, queries: int) -> None:
    if groups is not None and len(groups) != queries:
        raise ValueError(
            f"groups must have one value for each of {queries} queries; got {len(groups)}"
        )


def query_table(values: np.ndarray, names: list[str], ids: ArrayLike) -> pd.DataFrame:
    """Values ``(measures, Q)`` as one row per query."""
    index = pd.Index(ids, name="query").infer_objects()
    return pd.DataFrame(values.T, columns=names, index=index)
