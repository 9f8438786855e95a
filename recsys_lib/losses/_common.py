"""What all losses share: half precision lifted, labels checked, the reduction."""

from __future__ import annotations

import torch
from torch import Tensor

REDUCTIONS = ("mean", "sum", "none")


def lift(z: Tensor) -> Tensor:
    """Half precision to float32: an exponential needs the digits."""
    if not z.is_floating_point():
        raise ValueError(f"a loss needs a float tensor, not {z.dtype}")
    return z.float() if z.dtype in (torch.float16, torch.bfloat16) else z


def checked_labels(y: Tensor, dtype: torch.dtype) -> Tensor:
    if y.device.type == "cpu" and y.numel() and not bool(((y >= 0) & (y <= 1)).all()):
        raise ValueError(
            "labels must be between 0 and 1 and not NaN; "
            f"got values from {y.min().item()} to {y.max().item()}"
        )
    return y.to(dtype)


def reduce(loss: Tensor, reduction: str) -> Tensor:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}; it must be one of {', '.join(REDUCTIONS)}")
    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" else loss.sum()
