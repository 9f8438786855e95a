"""Losses on embeddings: a query must be nearer to its own item than to others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lib.losses._common import lift, reduce


def info_nce(
    queries: Tensor,
    items: Tensor,
    *,
    temperature: float = 0.05,
    negatives: Tensor | None = None,
    false_negatives: Tensor | None = None,
    normalize: bool = True,
    symmetric: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """In-batch softmax: each query must find its own item among all items of the batch.

    Other names: InfoNCE, multiple negatives ranking loss, NT-Xent, in-batch sampled softmax, the
    CLIP loss (``symmetric=True``).

    With ``s_ij = cos(q_i, d_j) / temperature`` the loss of query i is ``-log softmax_j(s_ij)[i]``.
    Its mean bounds the mutual information of query and item from below by ``log N - loss``, so
    large batches tell more. The gradient by the similarities is ``(softmax_ij - [i = j]) / N``.

    Args:
        queries: embeddings, shape ``(N, d)``.
        items: embeddings, shape ``(N, d)``; row i is the right item of query i. The other rows
            serve as its negatives: they must be a fair sample, and a second right item among them
            has to be named in ``false_negatives``.
        temperature: positive; small values look at the hardest negatives only.
        negatives: more wrong items, shape ``(M, d)``, offered to every query ("hard negatives").
        false_negatives: boolean ``(N, N)`` or ``(N, N + M)``; True leaves the pair out of the
            denominator. The right item of a query is never left out. See ``same_item_mask``.
        normalize: use cosine similarity; otherwise the plain dot product.
        symmetric: average with the same loss from items to queries (not with ``negatives``).
        reduction: "mean", "sum" or "none" over the N queries.

    A batch of one pair without negatives has loss 0 and gradient 0. Use ``triplet`` when there is
    one chosen negative per query, ``listnet`` or ``lambdarank`` when relevance is graded.

    Source: van den Oord, Li, Vinyals (2018), arXiv 1807.03748, eq. 4; Henderson et al. (2017),
    arXiv 1705.00652, section 4.4; symmetric: Radford et al. (2021), arXiv 2103.00020, figure 3.
    """
    similarity, keep = _similarities(
        queries, items, temperature, negatives, false_negatives, normalize
    )
    if symmetric and negatives is not None:
        raise ValueError(
            "info_nce: symmetric=True has no place for extra negatives; drop one of them"
        )
    loss = _own_item_loss(similarity, keep)
    if symmetric:
        loss = (loss + _own_item_loss(similarity.T, keep.T)) / 2
    return reduce(loss, reduction)


def info_nce_gradient(similarity: Tensor, keep: Tensor | None = None) -> Tensor:
    """Derivative of the mean of ``info_nce`` by the scaled similarities: ``(p_ij - [i = j]) / N``.

    Args:
        similarity: ``(N, N + M)``, already divided by the temperature.
        keep: boolean, same shape, False where a false negative was left out.
    """
    if keep is not None:
        similarity = similarity.masked_fill(~keep, -torch.inf)
    p = torch.softmax(similarity, dim=1)
    own = torch.eye(*p.shape, dtype=p.dtype, device=p.device)
    return (p - own) / len(p)


def same_item_mask(item_ids: Tensor) -> Tensor:
    """False negatives of a batch in which one item occurs twice: ``(N, N)``, True off the diagonal
    where two rows carry the same id. ``item_ids`` has shape ``(N,)``."""
    if item_ids.ndim != 1:
        raise ValueError(f"item_ids must have shape (N,); got {tuple(item_ids.shape)}")
    same = item_ids[:, None] == item_ids[None, :]
    return same & ~torch.eye(len(item_ids), dtype=torch.bool, device=item_ids.device)


def triplet(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    margin: float = 1.0,
    distance: str = "euclidean",
    reduction: str = "mean",
) -> Tensor:
    """``max(0, margin + d(anchor, positive) - d(anchor, negative))``.

    Other names: triplet margin loss, large-margin nearest neighbor loss.

    Wants the right item nearer than the wrong one by ``margin``; a triplet that fulfils this has
    loss 0 and gradient 0, so the choice of negatives decides whether anything is learned.

    Args:
        anchor, positive, negative: embeddings, each ``(N, d)``.
        margin: non-negative, in units of the distance (cosine distances lie in [0, 2]).
        distance: "euclidean" or "cosine" (one minus the cosine).
        reduction: "mean", "sum" or "none".

    Two identical vectors have Euclidean distance 0; the subgradient there is taken as 0.
    Use ``info_nce`` where a batch offers many negatives for nothing.

    Source: Weinberger, Saul (2009), Distance metric learning for large margin nearest neighbor
    classification, JMLR 10; Schroff et al. (2015), arXiv 1503.03832, with squared distances.
    """
    _check_triplet(anchor, positive, negative, margin)
    far = _distance(anchor, negative, distance)
    near = _distance(anchor, positive, distance)
    return reduce(torch.relu(margin + near - far), reduction)


def triplet_gradient(
    anchor: Tensor, positive: Tensor, negative: Tensor, *, margin: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Derivatives of the mean Euclidean ``triplet`` by anchor, positive, negative, each ``(N, d)``.

    With the unit vectors ``u = (a - p) / |a - p|`` and ``v = (a - n) / |a - n|`` they are
    ``(u - v, -u, v) / N`` where the margin is violated, 0 elsewhere.
    """
    _check_triplet(anchor, positive, negative, margin)
    to_positive, to_negative = anchor - positive, anchor - negative
    near, far = to_positive.norm(dim=1), to_negative.norm(dim=1)
    active = ((margin + near - far) > 0).to(anchor.dtype)[:, None] / len(anchor)
    u = active * to_positive / torch.where(near > 0, near, 1.0)[:, None]
    v = active * to_negative / torch.where(far > 0, far, 1.0)[:, None]
    return u - v, -u, v


def _similarities(
    queries: Tensor,
    items: Tensor,
    temperature: float,
    negatives: Tensor | None,
    false_negatives: Tensor | None,
    normalize: bool,
) -> tuple[Tensor, Tensor]:
    """Scaled similarities ``(N, N + M)`` and the boolean matrix of the pairs that count."""
    if queries.ndim != 2 or queries.shape != items.shape:
        raise ValueError(
            "info_nce needs queries and items of one shape (N, d); "
            f"got {tuple(queries.shape)} and {tuple(items.shape)}"
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be positive; got {temperature}")
    candidates = items
    if negatives is not None:
        if negatives.ndim != 2 or negatives.shape[1] != items.shape[1]:
            raise ValueError(
                f"negatives must have shape (M, {items.shape[1]}); got {tuple(negatives.shape)}"
            )
        candidates = torch.cat([items, negatives])
    if normalize:
        queries, candidates = F.normalize(queries, dim=1), F.normalize(candidates, dim=1)
    similarity = lift(queries @ candidates.T) / temperature
    keep = torch.ones_like(similarity, dtype=torch.bool)
    n = len(queries)
    if false_negatives is not None:
        if false_negatives.shape not in ((n, n), similarity.shape):
            raise ValueError(
                f"false_negatives must have shape {(n, n)} or {tuple(similarity.shape)}; "
                f"got {tuple(false_negatives.shape)}"
            )
        keep[:, : false_negatives.shape[1]] = ~false_negatives.bool()
        keep.fill_diagonal_(True)
    return similarity, keep


def _own_item_loss(similarity: Tensor, keep: Tensor) -> Tensor:
    log_total = torch.logsumexp(similarity.masked_fill(~keep, -torch.inf), dim=1)
    return log_total - similarity.diagonal()


def _check_triplet(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> None:
    if anchor.ndim != 2 or anchor.shape != positive.shape or anchor.shape != negative.shape:
        raise ValueError(
            "triplet needs three tensors of one shape (N, d); "
            f"got {tuple(anchor.shape)}, {tuple(positive.shape)}, {tuple(negative.shape)}"
        )
    if not margin >= 0:
        raise ValueError(f"margin must not be negative; got {margin}")


def _distance(a: Tensor, b: Tensor, distance: str) -> Tensor:
    if distance == "euclidean":
        return torch.linalg.vector_norm(lift(a) - lift(b), dim=1)
    if distance == "cosine":
        return 1 - F.cosine_similarity(lift(a), lift(b), dim=1)
    raise ValueError(f"distance is {distance!r}; it must be 'euclidean' or 'cosine'")
