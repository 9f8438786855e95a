"""Ranking metrics for graded relevance, of one list or of thousands at once.

One convention, written down once, for all of them:

* Lists come as one array ``(D,)``, padded with a mask, ``(Q, D)``, or long: one row per document,
  with ``queries`` naming the list of each row, as in a data frame. The value is a float, or one
  per list: ``(Q,)``, for long rows in the order in which ``queries`` names the lists first.
* A document is *relevant* if its grade is at least ``relevant`` (default 1), rounded as the grades
  are. Grades are finite and not negative; to count negative grades as not relevant, as
  ``trec_eval`` does, raise them to 0.
* Gain ``2^g - 1`` ("exponential", default) or ``g`` ("linear"); discount ``1 / log2(1 + rank)``,
  rank 1 first, zero beyond ``k``.
* A list shorter than ``k`` is followed by nothing: no gain there, and precision still divides by
  ``k``. Recall and average precision divide by all relevant documents, even where ``k`` are fewer.
* Tied scores: the value is the expectation over all orders of the tied, exactly. (``trec_eval``
  breaks ties by document name. To break them in a way of your own, give ranks as scores.)
* A list without a relevant document has no value: NaN in every metric but ``dcg``, never 0 or 1.
  Leave it out of a mean, and say how many were. For NDCG and ERR any grade above 0 is relevant.
* An unjudged document: grade 0 counts it as not relevant; mask False condenses the list.
* A relevant document that the search did not find: ``retrieved`` False. It has no rank and its
  score is not looked at, but recall, average precision and the ideal order count it. A list of
  which nothing was retrieved is worth 0.
* A missing score is an error: give such a document ``-inf`` to rank it last.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from recsys_lib.metrics import _formulas as formulas
from recsys_lib.metrics._ranked import Metric, evaluate

Value = float | np.ndarray


def precision_at_k(
    gains: ArrayLike,
    scores: ArrayLike,
    k: int,
    *,
    relevant: float = 1.0,
    mask: ArrayLike | None = None,
    retrieved: ArrayLike | None = None,
    queries: ArrayLike | None = None,
) -> Value:
    """The share of relevant documents among the first ``k`` ranks.

    Args:
        gains: grades, ``(D,)``, ``(Q, D)`` or, with ``queries``, ``(N,)``.
        scores: same shape.
        k: ranks that count; None for all, where the metric allows it.
        relevant: the lowest grade that is relevant.
        mask: same shape, True where a document stands (for padded lists); default all.
        retrieved: same shape, False for a judged document that has no rank; default all.
        queries: ``(N,)``, the list that each row belongs to.

    Returns:
        A float for one list, else one value per list; NaN for a list without a relevant document.

    Raises:
        ValueError: on NaN, negative grades, unequal shapes, a bad ``k``, a mask that holds more
            than True and False (or 1 and 0).
    """
    lists = {"mask": mask, "retrieved": retrieved, "queries": queries}
    return _one(partial(formulas.precision, k=k), gains, scores, k, relevant, lists)


def recall_at_k(
    gains: ArrayLike,
    scores: ArrayLike,
    k: int | None = None,
    *,
    relevant: float = 1.0,
    mask: ArrayLike | None = None,
    retrieved: ArrayLike | None = None,
    queries: ArrayLike | None = None,
) -> Value:
    """The share of the relevant documents that stand in the first ``k`` ranks.

    Arguments, value and errors as ``precision_at_k``.
    """
    lists = {"mask": mask, "retrieved": retrieved, "queries": queries}
    return _one(partial(formulas.recall, k=k), gains, scores, k, relevant, lists)


def hit_rate_at_k(
    gains: ArrayLike,
    scores: ArrayLike,
    k: int | None = None,
    *,
    relevant: float = 1.0,
    mask: ArrayLike | None = None,
    retrieved: ArrayLike | None = None,
    queries: ArrayLike | None = None,
) -> Value:
    """1 if any of the first ``k`` ranks holds a relevant document, else 0; its mean is the rate.

    Between 0 and 1 where a tie decides. Arguments, value and errors as ``precision_at_k``. Other
    name: success.
    """
    lists = {"mask": mask, "retrieved": retrieved, "queries": queries}
    return _one(partial(formulas.hit_rate, k=k), gains, scores, k, relevant, lists)


def reciprocal_rank(
    gains: ArrayLike,
    scores: ArrayLike,
    k: int | None = None,
    *,
    relevant: float = 1.0,
    mask: ArrayLike | None = None,
    retrieved: ArrayLike | None = None,
    queries: ArrayLike | None = None,
) -> Value:
    """One over the rank of the first relevant document, 0 if it is beyond ``k``; its mean is MRR.

    Arguments, value and errors as ``precision_at_k``.
    """
    lists = {"mask": mask, "retrieved": retrieved, "queries": queries}
    return _one(partial(formulas.reciprocal_rank, k=k), gains, scores, k, relevant, lists)


def average_precision_at_k(
    gains: ArrayLike,
    scores: ArrayLike,
    k: int | None = None,
    *,
    relevant: float = 1.0,
    mask: ArrayLike | None = None,
    retrieved: ArrayLike | None = None,
    queries: ArrayLike | None = None,
) -> Value:
    """The sum of the precisions at the ranks ≤ ``k`` of the relevant documents, over all of them.

    Its mean is MAP. ``average_precision`` of the classification metrics takes tied scores as one
    threshold instead, and has another value there. Arguments, value and errors as
    ``precision_at_k``.

    Source: Buckley, Voorhees (2005), in TREC, MIT Press; ties: McSherry, Najork (2008), ECIR.
    """
    lists = {"mask": mask, "retrieved": retrieved, "queries": queries}
    return _one(partial(formulas.average_precision, k=k), gains, scores, k, relevant, lists)


def dcg(
    gains: ArrayLike,
    scores: ArrayLike,
    k: int | None = None,
    *,
    gain: str = "exponential",
    mask: ArrayLike | None = None,
    retrieved: ArrayLike | None = None,
    queries: ArrayLike | None = None,
) -> Value:
    """Discounted cumulative gain of the list sorted by falling score; 0 without relevance.

    Args:
        gain: "exponential" or "linear". The others as in ``precision_at_k``.

    Raises:
        ValueError: as ``precision_at_k``, on another ``gain``, and on grades so large that gains
            overflow (above 1000, exponential).

    Source: Järvelin, Kekäläinen (2002), ACM TOIS 20; exponential gain: Burges et al. (2005), ICML.
    """
    lists = {"mask": mask, "retrieved": retrieved, "queries": queries}
    return _one(partial(formulas.dcg, k=k, gain=gain), gains, scores, k, 1.0, lists)


def ndcg(
    gains: ArrayLike,
    scores: ArrayLike,
    k: int | None = None,
    *,
    gain: str = "exponential",
    mask: ArrayLike | None = None,
    retrieved: ArrayLike | None = None,
    queries: ArrayLike | None = None,
) -> Value:
    """DCG divided by that of the ideal order, at most 1 (exactly); NaN without relevance.

    Arguments, errors and source as ``dcg``. For the mean over queries: ``np.nanmean``.
    """
    lists = {"mask": mask, "retrieved": retrieved, "queries": queries}
    return _one(partial(formulas.ndcg, k=k, gain=gain), gains, scores, k, 1.0, lists)


def rbp(
    gains: ArrayLike,
    scores: ArrayLike,
    p: float = 0.8,
    k: int | None = None,
    *,
    relevant: float = 1.0,
    mask: ArrayLike | None = None,
    retrieved: ArrayLike | None = None,
    queries: ArrayLike | None = None,
) -> Value:
    """Rank-biased precision: the sum of ``(1 - p) p^(rank - 1)`` over the relevant documents.

    Args:
        p: the probability that the reader goes on to the next rank, between 0 and 1. The others,
            value and errors as in ``precision_at_k``.

    Source: Moffat, Zobel (2008), ACM TOIS 27, equation 4.
    """
    lists = {"mask": mask, "retrieved": retrieved, "queries": queries}
    return _one(partial(formulas.rbp, p=p, k=k), gains, scores, k, relevant, lists)


def err(
    gains: ArrayLike,
    scores: ArrayLike,
    k: int | None = None,
    *,
    max_grade: float,
    mask: ArrayLike | None = None,
    retrieved: ArrayLike | None = None,
    queries: ArrayLike | None = None,
) -> Value:
    """Expected reciprocal rank of the document that satisfies the reader.

    A document of grade g satisfies with probability ``(2^g - 1) / 2^max_grade``; the reader goes
    down the list until one does. Ties of several grades take time in proportion to their length
    times ``k``.

    Args:
        max_grade: the top of the grading scale, whether or not a document here reaches it. The
            others and the value as in ``precision_at_k``.

    Raises:
        ValueError: as ``precision_at_k``, and on a grade above ``max_grade``.

    Source: Chapelle, Metzler, Zhang, Grinspan (2009), CIKM, algorithm 2.
    """
    lists = {"mask": mask, "retrieved": retrieved, "queries": queries}
    return _one(partial(formulas.err, k=k, max_grade=max_grade), gains, scores, k, 1.0, lists)


def _one(
    metric: Metric,
    gains: ArrayLike,
    scores: ArrayLike,
    k: int | None,
    relevant: float,
    lists: dict[str, ArrayLike | None],
) -> Value:
    (value,) = evaluate([metric], gains, scores, depth=k, threshold=relevant, **lists)
    return float(value) if np.ndim(value) == 0 else value
