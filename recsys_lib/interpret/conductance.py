"""Layer conductance: through which layers a word's share of the score flows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from captum.attr import IntegratedGradients, LayerConductance
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recsys_lib.interpret.scores import (
    baseline_vector,
    batch_of,
    explaining,
    read_texts,
    score_of_vectors,
)
from recsys_lib.interpret.words import word_of_token, word_spans
from recsys_lib.models import cells_per_batch
from recsys_lib.workbook import InputError

SPECIAL = "(special)"


def encoder_layers(model: PreTrainedModel) -> list[torch.nn.Module]:
    """The layers of an encoder or decoder, from the first to the last.

    Raises InputError for a model without a list of as many layers as its configuration says.
    """
    count = getattr(model.config, "num_hidden_layers", None)
    for module in model.base_model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return list(module)
    raise InputError(
        f"{type(model).__name__} has no layers to look into: looked for a torch.nn.ModuleList of "
        f"config.num_hidden_layers = {count} modules"
    )


def layer_conductance(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    baseline: str = "pad",
    steps: int = 50,
    max_length: int = 128,
) -> pd.DataFrame:
    """A row per layer ("words" is the word-embedding layer), a column per word and "(special)".

    A cell is the part of f(x) − f(baseline) that flows through a layer's state at the tokens of
    that word (Dhamdhere et al. 2018, arXiv 1805.12233): each row adds up to the same difference, up
    to an error that falls with 1 / steps. Deeper down a state holds more and more of the other
    words. `attrs` has score, baseline_score and truncated.

    Raises InputError as `attribute` does, and for a model whose layers are not found.
    """
    if steps < 1:
        raise InputError(f"steps={steps}: must be at least 1")
    layers = encoder_layers(model)
    vector = baseline_vector(model, tokenizer, baseline)
    read = read_texts(model, tokenizer, [text], max_length)
    spans = word_spans(text)
    index = word_of_token(spans, read.offsets[0])
    present = np.unique(index[index >= 0])
    column = np.where(index >= 0, np.searchsorted(present, index), len(present))
    score, rows = score_of_vectors(model), []
    with explaining(model):
        batch = batch_of(model, read, np.array([0]), vector)
        given = (batch.ids, batch.mask)
        with torch.no_grad():
            ends = [float(score(vectors, *given)) for vectors in (batch.x, batch.base)]
        if not np.isfinite(ends).all():
            raise InputError("the model's score of the text is not a number")
        at_once = max(2, cells_per_batch(vector.device) // batch.ids.shape[1])
        explainers = [IntegratedGradients(score), *(LayerConductance(score, x) for x in layers)]
        for explainer in explainers:  # at the word vectors themselves the two are the same
            found = explainer.attribute(
                batch.x,
                batch.base,
                additional_forward_args=given,
                n_steps=steps,
                internal_batch_size=at_once,
            )
            found = found[0] if isinstance(found, tuple) else found
            tokens = found.detach()[0].cpu().double().sum(-1).numpy()
            rows.append(np.bincount(column, tokens, minlength=len(present) + 1))
    names = [text[start:end] for start, end in spans[present]]
    frame = pd.DataFrame(np.array(rows), columns=[*names, SPECIAL])
    frame.index = pd.Index(["words", *(f"layer {i + 1}" for i in range(len(layers)))])
    frame.attrs = {
        "score": ends[0],
        "baseline_score": ends[1],
        "truncated": bool(read.encoded.truncated[0]),
    }
    return frame
