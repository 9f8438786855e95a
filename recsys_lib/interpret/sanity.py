"""Do two methods tell the same story, and does a story come from the model at all?

`agreement` compares explanations of the same texts; `randomized_layers` takes away, layer by layer,
what the model has learned, so that an explanation which still looks the same is found out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from transformers import PreTrainedModel

from recsys_lib.workbook import InputError


def agreement(
    values: Sequence[np.ndarray], others: Sequence[np.ndarray], *, k: int = 5
) -> pd.DataFrame:
    """How alike two explanations of the same texts are, a row per text.

    spearman: rank correlation over the words, sign included (NaN where one of them is constant).
    overlap: share of the k strongest words (by |value|) that both name; a text of fewer words
    counts all of them.
    """
    if len(values) != len(others):
        raise InputError(f"{len(values)} explanations but {len(others)} to compare them with.")
    rows = []
    for text, (a, b) in enumerate(zip(values, others, strict=True)):
        a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
        if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
            raise InputError(f"text {text}: {a.size} values against {b.size}.")
        varied = len(a) > 1 and np.ptp(a) > 0 and np.ptp(b) > 0
        most = min(k, len(a))
        top = [set(np.argsort(-np.abs(x), kind="stable")[:most]) for x in (a, b)]
        rows.append(
            {
                "spearman": float(spearmanr(a, b).statistic) if varied else np.nan,
                "overlap": len(top[0] & top[1]) / most,
            }
        )
    return pd.DataFrame(rows)


def randomized_layers(
    model: PreTrainedModel, *, seed: int = 0
) -> Iterator[tuple[str, PreTrainedModel]]:
    """The model with its weights drawn anew, from the head down: (what was drawn last, model).

    The head first, then the layers from the last to the first, each on top of those before, then
    the embeddings. An explanation of the trained model must get lost on the way; one that does not
    explains the text, not the model. The same copy is handed out each time, changed further; the
    model given is left as it is.

    Matrices are drawn from a normal distribution with the configuration's standard deviation
    (0.02 if it names none), biases are 0, layer norms the identity.
    Source: Adebayo et al. (2018), Sanity checks for saliency maps, NeurIPS, arXiv 1810.03292,
    section 3 (cascading randomization).

    Raises InputError for a model without a list of layers.
    """
    model = copy.deepcopy(model)
    body = getattr(model, getattr(model, "base_model_prefix", ""), None)
    layers = None
    if isinstance(body, torch.nn.Module):
        lists = [m for m in body.modules() if isinstance(m, torch.nn.ModuleList) and len(m) > 0]
        layers = lists[0] if lists else None
    if layers is None:
        raise InputError(
            f"{type(model).__name__} has no list of layers to draw anew: give a transformer."
        )
    inside = {id(m) for m in body.modules()}
    within = {id(m) for layer in layers for m in layer.modules()}
    head = [m for m in model.modules() if id(m) not in inside]
    rest = [m for m in body.modules() if id(m) not in within]
    words = [m for m in rest if isinstance(m, torch.nn.Embedding)]
    norms = [m for m in rest if not isinstance(m, torch.nn.Embedding | torch.nn.Linear)]
    poolers = [m for m in rest if isinstance(m, torch.nn.Linear)]
    # a stream of its own: a head that was drawn from the same seed must not come back
    own = np.random.default_rng([seed, len(layers)]).integers(2**31)
    generator = torch.Generator().manual_seed(int(own))
    spread = float(getattr(model.config, "initializer_range", 0.02))
    stages = [("head", head + poolers)]
    stages += [(f"layer {n + 1}", list(layers[n].modules())) for n in range(len(layers))[::-1]]
    stages += [("embeddings", words + norms)]
    for name, modules in stages:
        for module in modules:
            _draw(module, spread, generator)
        yield name, model


@torch.no_grad()
def _draw(module: torch.nn.Module, spread: float, generator: torch.Generator) -> None:
    """New weights for the module's own parameters."""
    for name, weight in module.named_parameters(recurse=False):
        if weight.ndim >= 2:
            drawn = torch.randn(weight.shape, generator=generator) * spread
        else:
            drawn = torch.full(weight.shape, float(name == "weight"))
        weight.copy_(drawn.to(weight))
