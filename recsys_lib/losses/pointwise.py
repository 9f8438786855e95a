"""One logit, or one probability, per example."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lib.losses._common import checked_labels, lift, reduce


def bce_with_logits(
    z: Tensor, y: Tensor, *, pos_weight: float | Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """Binary cross-entropy of logits: the mean of ``-y log σ(z) - (1 - y) log(1 - σ(z))``.

    Other names: log loss, negative Bernoulli log-likelihood, logistic loss, sigmoid cross-entropy.

    Optimizes the probability of the observed labels. It is a strictly proper scoring rule, so the
    best report is the true probability. The logarithm of σ is taken as
    ``min(z, 0) - log(1 + exp(-|z|))``, in which nothing overflows: finite for every finite logit.

    Args:
        z: logits, shape ``(N,)``. A trailing dimension of one must be squeezed away first;
            broadcasting ``(N, 1)`` against ``(N,)`` would silently average ``N × N`` losses.
        y: labels in [0, 1], same shape; integers and booleans are converted. The range is checked
            on the CPU only, where looking costs nothing.
        pos_weight: positive weight of the positive term. It shifts the optimal logit by
            ``log(pos_weight)``, so the output is no longer a calibrated probability.
        reduction: "mean", "sum" or "none".

    Use ``cross_entropy_two_logits`` for a model with two outputs, a ranking loss when only the
    order within a query matters.

    Source: Good (1952), Rational decisions, J. R. Stat. Soc. B 14; gradient: ``bce_gradient``.
    """
    z, y = _logits_and_labels(z, y)
    weight = _weight(pos_weight)
    loss = -(weight * y * F.logsigmoid(z) + (1 - y) * F.logsigmoid(-z))
    return reduce(loss, reduction)


def bce_gradient(z: Tensor, y: Tensor, *, pos_weight: float | Tensor | None = None) -> Tensor:
    """Derivative of the mean of ``bce_with_logits`` by each logit, shape ``(N,)``.

    ``(σ(z) - y) / N``; with a weight w on the positives ``((1 - y) σ(z) - w y (1 - σ(z))) / N``.
    """
    z, y = _logits_and_labels(z, y)
    weight = _weight(pos_weight)
    return ((1 - y) * torch.sigmoid(z) - weight * y * torch.sigmoid(-z)) / z.numel()


def naive_bce(h: Tensor, y: Tensor, *, reduction: str = "mean") -> Tensor:
    """Binary cross-entropy of *probabilities*, as the textbook prints it. For teaching only.

    ``-y log h - (1 - y) log(1 - h)``. Right in exact arithmetic. In floating point ``h = σ(z)``
    rounds to 1 from z ≈ 17 in float32 (z ≈ 37 in float64, z ≈ 6 in bfloat16): the loss is then
    infinite, or NaN where ``0 · log 0`` occurs, and the gradient with it. Nothing is clipped here,
    so that the failure can be seen. Train with ``bce_with_logits``.

    Args:
        h: probabilities, shape ``(N,)``.
        y: labels in [0, 1], same shape.
        reduction: "mean", "sum" or "none".
    """
    if h.shape != y.shape:
        raise ValueError(f"h and y must have one shape; got {tuple(h.shape)} and {tuple(y.shape)}")
    y = y.to(h.dtype)
    return reduce(-(y * torch.log(h) + (1 - y) * torch.log(1 - h)), reduction)


def cross_entropy_two_logits(z2: Tensor, y: Tensor, *, reduction: str = "mean") -> Tensor:
    """Softmax cross-entropy of two logits per example.

    Other names: softmax loss, ``CrossEntropyLoss`` with two classes, maximum entropy.

    Identical to ``bce_with_logits(z2[:, 1] - z2[:, 0], y)``: only the difference of the logits
    enters. The two gradients are ``±(σ(z) - y) / N``. With a linear head of two rows the effective
    logit moves by twice the step, because both rows learn.

    Args:
        z2: logits, shape ``(N, 2)``, column 1 for the positive class.
        y: labels, shape ``(N,)``: 0/1 in any type, or probabilities of class 1.
        reduction: "mean", "sum" or "none".
    """
    if z2.ndim != 2 or z2.shape[1] != 2 or y.shape != z2.shape[:1]:
        raise ValueError(
            "cross_entropy_two_logits needs logits (N, 2) and labels (N,); "
            f"got {tuple(z2.shape)} and {tuple(y.shape)}"
        )
    z2 = lift(z2)
    y = checked_labels(y, z2.dtype)
    log_p = torch.log_softmax(z2, dim=1)
    return reduce(-(y * log_p[:, 1] + (1 - y) * log_p[:, 0]), reduction)


def _logits_and_labels(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if z.shape != y.shape:
        raise ValueError(
            f"logits and labels must have one shape; got {tuple(z.shape)} and {tuple(y.shape)}"
            " (squeeze a head of one output: z.squeeze(-1))"
        )
    if z.numel() == 0:
        raise ValueError("a loss needs at least one example; got none")
    z = lift(z)
    return z, checked_labels(y, z.dtype)


def _weight(pos_weight: float | Tensor | None) -> float | Tensor:
    if isinstance(pos_weight, int | float) and not pos_weight > 0:
        raise ValueError(f"pos_weight must be positive; got {pos_weight}")
    return 1.0 if pos_weight is None else pos_weight
