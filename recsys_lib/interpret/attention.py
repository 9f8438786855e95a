"""Attention weights, shown beside attributions: where the model looked, not what it concluded.

A weight is never negative, knows no class, and says nothing about what the attended vector did to
the score; other weights can give the same score (Jain, Wallace 2019, arXiv 1902.10186).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from transformers import PreTrainedModel

from recsys_lib.interpret.scores import ReadTexts
from recsys_lib.text import collate, make_batches
from recsys_lib.workbook import InputError


def attention_received(
    model: PreTrainedModel, read: ReadTexts, *, rollout: bool, cells: int
) -> list[np.ndarray]:
    """Per text (T,) float64: the attention each token receives from what the head reads; sums to 1.

    The head of a model that pools by mean reads all tokens, that of another its first one (the last
    one, where tokens do not see later ones). rollout: half of each layer's attention, mean over
    heads, and half the identity (the residual connection), multiplied from the first layer to the
    last (Abnar, Zuidema 2020, equation 1); else the last layer's mean over heads.

    Raises InputError for a model that gives no attention weights.
    """
    device = next(model.parameters()).device
    values: list[np.ndarray] = [np.empty(0)] * len(read.texts)
    with _eager(model), torch.no_grad():
        for rows in make_batches(read.encoded.lengths, max_tokens=cells, shuffle=False):
            batch = {key: value.to(device) for key, value in collate(read.encoded, rows).items()}
            layers = model(**batch, output_attentions=True).attentions
            if not layers or layers[-1] is None:
                raise InputError(f"{type(model).__name__} gives no attention weights")
            means = [layer.mean(dim=1).cpu().double().numpy() for layer in layers]  # (n, T, T)
            for i, row in enumerate(rows):
                size = len(read.special[row])
                weights = [layer[i, :size, :size] for layer in means]
                matrix = _rolled_out(weights) if rollout else weights[-1]
                values[row] = _read_by_head(model, matrix, weights[-1])
    return values


def _rolled_out(weights: list[np.ndarray]) -> np.ndarray:
    flow = np.eye(len(weights[0]))
    for layer in weights:
        flow = (0.5 * layer + 0.5 * np.eye(len(layer))) @ flow
    return flow


def _read_by_head(model: PreTrainedModel, matrix: np.ndarray, last: np.ndarray) -> np.ndarray:
    if getattr(model.config, "pooling", None) == "mean":
        return matrix.mean(axis=0)
    sees_no_later = len(last) > 1 and not np.triu(last, k=1).any()
    return matrix[-1 if sees_no_later else 0]


@contextlib.contextmanager
def _eager(model: PreTrainedModel) -> Iterator[None]:
    """The attention that keeps its weights; the fast ones never hold them."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
