"""Not updating what need not be updated: frozen layers, and their outputs computed once.

A frozen layer saves its gradient. If everything below it is frozen too, its output for a text never
changes and can be computed before training: each step then starts in the middle of the model.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from transformers import PreTrainedModel

from recsys_lib.models import autocast, evaluating
from recsys_lib.text import Encoded, collate, make_batches
from recsys_lib.workbook.errors import InputError


def freeze(model: PreTrainedModel, *, embeddings: bool = True, layers: int = 0) -> PreTrainedModel:
    """Stop updating the embeddings and the lowest `layers` layers, in place; returns `model`.

    Raises InputError if the model has fewer layers.
    """
    body = model.base_model
    stack = _layers(body, layers)
    frozen = list(stack[:layers])
    if embeddings:
        frozen += [m for m in body.modules() if isinstance(m, torch.nn.Embedding)]
        frozen += [body.embeddings] if hasattr(body, "embeddings") else []
    for module in frozen:
        module.requires_grad_(False)
    return model


def cache_lower_layers(
    model: PreTrainedModel,
    parts: Sequence[Encoded],
    *,
    layers: int,
    batch_tokens: int = 8_192,
    precision: str = "auto",
) -> tuple[PreTrainedModel, list[Encoded]]:
    """The model above its lowest `layers` layers, and texts that stand for those layers' outputs.

    Args:
        model: a BERT classifier. Its embeddings and lowest `layers` layers are frozen.
        parts: the texts to train on and to validate on.

    Returns:
        A model that shares the remaining layers and the head with `model`, so that training the one
        trains the other, and for each part an Encoded whose "tokens" are places in the table of
        outputs: give both to `training.fit`. Score other texts with `model` itself.

    The table takes 2 × width bytes per token (bf16): 0.8 KB for the built-in model. The frozen
    layers run without dropout. Raises InputError for a model that is not a BERT.
    """
    if model.config.model_type != "bert":
        raise InputError(f"outputs are cached for BERT models only, not {model.config.model_type}")
    body = freeze(model, layers=layers).base_model
    table = torch.cat([_outputs(model, part, layers, batch_tokens, precision) for part in parts])
    config = copy.deepcopy(model.config)
    config.num_hidden_layers -= layers
    upper = type(model)(config)
    upper.base_model.embeddings = _Table(table)
    upper.base_model.encoder.layer = body.encoder.layer[layers:]
    upper.base_model.pooler = body.pooler
    upper.classifier, upper.dropout = model.classifier, model.dropout
    places, start = [], 0
    for part in parts:
        ids = np.arange(start, start + len(part.ids), dtype=np.int32)
        places.append(
            Encoded(ids, part.offsets, part.full_lengths, pad_id=start, max_length=part.max_length)
        )
        start += len(part.ids)
    return upper, places


class _Table(torch.nn.Module):
    """Stands in the place of the embeddings and looks the cached outputs up."""

    def __init__(self, table: torch.Tensor):
        super().__init__()
        self.register_buffer("table", table, persistent=False)  # not among the weights

    def forward(self, input_ids: torch.Tensor, **unused: object) -> torch.Tensor:
        return self.table[input_ids].float()


@contextmanager
def _lower_layers(body: PreTrainedModel, layers: int) -> Iterator[None]:
    """The body of a BERT without its upper layers, inside the block."""
    every = body.encoder.layer
    body.encoder.layer = every[:layers]
    try:
        yield
    finally:
        body.encoder.layer = every


def _outputs(
    model: PreTrainedModel, encoded: Encoded, layers: int, batch_tokens: int, precision: str
) -> torch.Tensor:
    """(total tokens, width) bf16: the output of layer `layers` for every token."""
    device = next(model.parameters()).device
    table = torch.zeros(len(encoded.ids), model.config.hidden_size, dtype=torch.bfloat16)
    body = model.base_model
    with (
        evaluating(model),
        torch.inference_mode(),
        autocast(device, precision),
        _lower_layers(body, layers),
    ):
        for rows in make_batches(encoded.lengths, max_tokens=batch_tokens, shuffle=False):
            batch = {key: value.to(device) for key, value in collate(encoded, rows).items()}
            states = body(**batch).last_hidden_state
            inside = batch["attention_mask"].bool().cpu()
            cells = [np.arange(*encoded.offsets[row : row + 2]) for row in rows]
            table[torch.from_numpy(np.concatenate(cells))] = states.cpu()[inside].bfloat16()
    return table


def _layers(body: torch.nn.Module, wanted: int) -> torch.nn.ModuleList:
    stacks = [m for m in body.modules() if isinstance(m, torch.nn.ModuleList) and len(m) > 0]
    if not stacks or not 0 <= wanted <= len(stacks[0]):
        raise InputError(
            f"layers = {wanted}: the model has {len(stacks[0]) if stacks else 0} layers"
        )
    return stacks[0]
