"""Losses on a padded list of scores per query: which document goes first."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lib.losses._common import lift, reduce


def ranknet(
    scores: Tensor, gains: Tensor, mask: Tensor | None = None, *, reduction: str = "mean"
) -> Tensor:
    """Pairwise logistic loss: for every pair with ``gain_i > gain_j``, ``log(1 + exp(s_j - s_i))``.

    Other names: pairwise cross-entropy, Bradley-Terry likelihood, BPR (one positive, one
    negative).

    Optimizes the number of pairs in the wrong order, wherever in the list they stand. A query
    counts with the mean over its pairs, so a long list has no more weight than a short one; queries
    without an ordered pair are left out of the mean.

    Args:
        scores: ``(Q, D)``.
        gains: graded relevance, ``(Q, D)``; only the order matters.
        mask: boolean ``(Q, D)``, True where a document stands; default all.
        reduction: "mean" (over queries with a pair), "sum" or "none" (``(Q,)``, 0 without a pair).

    Use ``lambdarank`` where the top of the list matters most.

    Source: Burges et al. (2005), Learning to rank using gradient descent, ICML, section 3.
    """
    scores, gains, mask = _lists(scores, gains, mask)
    better = _ordered_pairs(gains, mask)
    n_pairs = better.sum(dim=(1, 2))
    loss = -F.logsigmoid(_differences(scores)) * better
    per_query = loss.sum(dim=(1, 2)) / n_pairs.clamp_min(1)
    return _reduce_queries(per_query, n_pairs > 0, reduction)


def ranknet_gradient(scores: Tensor, gains: Tensor, mask: Tensor | None = None) -> Tensor:
    """Derivative of the mean of ``ranknet`` by the scores, ``(Q, D)``.

    Document i receives ``-σ(s_j - s_i)`` from each j that it should beat and ``+σ(s_i - s_j)`` from
    each j that should beat it, divided by the pairs of its query and by the queries with a pair.
    """
    scores, gains, mask = _lists(scores, gains, mask)
    better = _ordered_pairs(gains, mask)
    n_pairs = better.sum(dim=(1, 2))
    weights = better.to(scores.dtype) / n_pairs.clamp_min(1)[:, None, None]
    return _pair_forces(scores, weights) / (n_pairs > 0).sum().clamp_min(1)


def lambdarank(
    scores: Tensor,
    gains: Tensor,
    mask: Tensor | None = None,
    *,
    k: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """RankNet with every pair weighted by how much NDCG@k changes when the two documents swap.

    Other names: LambdaMART's objective (with trees), LambdaLoss with the NDCG weights of 2006.

    The loss of a query is ``Σ |ΔNDCG_ij| log(1 + exp(s_j - s_i))`` over pairs with
    ``gain_i > gain_j``, the weights held constant while differentiating. Gains are ``2^g - 1``,
    discounts ``1 / log2(1 + rank)``, zero beyond rank k. Ranks come from the present scores;
    equal scores are ranked in the order in which they stand.

    Args:
        scores: ``(Q, D)``.
        gains: graded relevance ≥ 0, ``(Q, D)``.
        mask: boolean ``(Q, D)``, True where a document stands; default all.
        k: cut-off of the NDCG; None for the whole list. A pair in which both stand beyond k has no
            weight: for a model at its start a larger k (or None) learns faster.
        reduction: "mean" (over queries with an ordered pair), "sum" or "none".

    Use ``listnet`` for a loss whose value can be compared between steps: here the weights change
    with the ranking, so the value of the loss is not a quantity that descends.

    Source: Burges, Ragno, Le (2006), Learning to rank with nonsmooth cost functions, NeurIPS;
    Burges (2010), MSR-TR-2010-82, section 4.
    """
    scores, gains, mask = _lists(scores, gains, mask)
    better = _ordered_pairs(gains, mask)
    weights = _delta_ndcg(scores.detach(), gains, mask, k) * better
    per_query = (-F.logsigmoid(_differences(scores)) * weights).sum(dim=(1, 2))
    return _reduce_queries(per_query, better.any(dim=2).any(dim=1), reduction)


def lambdarank_gradient(
    scores: Tensor, gains: Tensor, mask: Tensor | None = None, *, k: int | None = None
) -> Tensor:
    """The lambdas, ``(Q, D)``: the pair forces of RankNet, each weighted by ``|ΔNDCG_ij|``."""
    scores, gains, mask = _lists(scores, gains, mask)
    better = _ordered_pairs(gains, mask)
    weights = _delta_ndcg(scores, gains, mask, k) * better
    return _pair_forces(scores, weights) / better.any(dim=2).any(dim=1).sum().clamp_min(1)


def listnet(
    scores: Tensor, gains: Tensor, mask: Tensor | None = None, *, reduction: str = "mean"
) -> Tensor:
    """Cross-entropy between the top-one distributions of gains and scores.

    Other names: ListNet (top-one), softmax cross-entropy over a list.

    With ``P_y = softmax(gains)`` and ``P_s = softmax(scores)`` over the documents of a query, the
    loss is ``-Σ P_y log P_s`` and its gradient ``P_s - P_y``. Its least value is the entropy of
    P_y, not 0. A query whose gains are all equal pulls the scores together.

    Args:
        scores: ``(Q, D)``.
        gains: graded relevance in logits, ``(Q, D)``: a grade more means e times the probability.
        mask: boolean ``(Q, D)``, True where a document stands; default all.
        reduction: "mean" (over queries with a document), "sum" or "none".

    Use ``info_nce`` for one right item, ``lambdarank`` for NDCG at a small k.

    Source: Cao et al. (2007), Learning to rank: from pairwise approach to listwise approach, ICML,
    with k = 1.
    """
    scores, gains, mask = _lists(scores, gains, mask)
    target, log_p = _top_one(gains, mask).exp(), _top_one(scores, mask)
    per_query = -(target * log_p.masked_fill(~mask, 0.0)).sum(dim=1)
    return _reduce_queries(per_query, mask.any(dim=1), reduction)


def listnet_gradient(scores: Tensor, gains: Tensor, mask: Tensor | None = None) -> Tensor:
    """Derivative of the mean of ``listnet`` by the scores, ``(P_s - P_y) / Q``, 0 where padded."""
    scores, gains, mask = _lists(scores, gains, mask)
    difference = _top_one(scores, mask).exp() - _top_one(gains, mask).exp()
    return difference / mask.any(dim=1).sum().clamp_min(1)


def _lists(scores: Tensor, gains: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Checks shapes and puts 0 under the padding, so that nothing there can reach a gradient."""
    if mask is None:
        mask = torch.ones_like(scores, dtype=torch.bool)
    if scores.ndim != 2 or scores.shape != gains.shape or scores.shape != mask.shape:
        raise ValueError(
            "scores, gains and mask must have one shape (Q, D); "
            f"got {tuple(scores.shape)}, {tuple(gains.shape)} and {tuple(mask.shape)}"
        )
    mask = mask.bool()
    scores = lift(scores)
    zero = torch.zeros((), dtype=scores.dtype, device=scores.device)
    return torch.where(mask, scores, zero), torch.where(mask, gains.to(scores.dtype), zero), mask


def _differences(scores: Tensor) -> Tensor:
    """``s_i - s_j`` for all pairs, ``(Q, D, D)``."""
    return scores[:, :, None] - scores[:, None, :]


def _ordered_pairs(gains: Tensor, mask: Tensor) -> Tensor:
    """True at (q, i, j) where both stand in the list and i is the better one."""
    return (_differences(gains) > 0) & mask[:, :, None] & mask[:, None, :]


def _pair_forces(scores: Tensor, weights: Tensor) -> Tensor:
    """Sum over pairs (i better than j) of ``weight · σ(s_j - s_i)``, down for i and up for j."""
    force = weights * torch.sigmoid(-_differences(scores))
    return force.sum(dim=1) - force.sum(dim=2)


def _delta_ndcg(scores: Tensor, gains: Tensor, mask: Tensor, k: int | None) -> Tensor:
    """|change of NDCG@k| when documents i and j swap their ranks, ``(Q, D, D)``."""
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1 or None; got {k}")
    depth = scores.shape[1]
    order = scores.masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(depth, device=scores.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, places)
    discount = 1.0 / torch.log2(torch.arange(2, depth + 2, device=scores.device).to(scores.dtype))
    if k is not None:
        discount[k:] = 0.0
    gain = (torch.exp2(gains) - 1).masked_fill(~mask, 0.0)
    ideal = (gain.sort(dim=1, descending=True).values * discount).sum(dim=1)
    change = (_differences(gain) * _differences(discount[rank])).abs()
    return change / torch.where(ideal > 0, ideal, 1.0)[:, None, None]


def _top_one(values: Tensor, mask: Tensor) -> Tensor:
    """log softmax over the documents of each query, -inf under the padding."""
    rows = mask.any(dim=1, keepdim=True)
    return torch.log_softmax(torch.where(mask | ~rows, values, -torch.inf), dim=1).masked_fill(
        ~mask, -torch.inf
    )


def _reduce_queries(per_query: Tensor, counts: Tensor, reduction: str) -> Tensor:
    """Like ``_reduce``, the mean being over the queries that count (0 when none does)."""
    if reduction == "mean":
        return per_query.sum() / counts.sum().clamp_min(1)
    return reduce(per_query, reduction)
