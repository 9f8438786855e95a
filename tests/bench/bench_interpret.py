"""Integrated gradients over a test set, side by side with the loop of the published tutorials.

The reference takes one text at a time and 50 steps for each (Captum's ``LayerIntegratedGradients``
at the word-embedding layer, with its convergence delta); ours batches texts of like length and
takes the steps that the completeness error asks for. Same classifier, same baseline, fp32, and the
same matrix products (`quick_products`), so that the ratio is that of batches and steps alone.

The ratio means nothing unless ours keeps its completeness error below 1 % of the scores' range and
agrees with 500 steps: the rank correlation over a text's tokens must be 0.99 or more in the median
text, and in no text below 0.95 (tokens whose values are almost the same may change places). The row
says how many texts were compared: 500 steps for each of them take minutes.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import numpy as np
import torch
from captum.attr import LayerIntegratedGradients
from scipy.stats import spearmanr

from recsys_lib.classification import fine_tuned, prepare
from recsys_lib.datasets import load_reviews
from recsys_lib.interpret import attribute
from recsys_lib.interpret.scores import quick_products
from recsys_lib.models import load_tokenizer
from recsys_lib.training import TrainConfig
from recsys_lib.workbook import quiet_libraries

TEXTS, COMPARED, ROUNDS, STEPS, EXACT_STEPS = 64, 24, 2, 50, 500
MOST_WORDS = 45  # of a review: the references would take many minutes for the longest
TARGET, LARGEST_ERROR, AGREEMENT, LEAST = 2.5, 0.01, 0.99, 0.95
CONFIG = TrainConfig(epochs=2, lr=2e-4, batch_size=16, seed=0)
MAX_LENGTH = 128


def run() -> dict:
    """Times both in turn on reviews of the market, then compares with 500 steps."""
    quiet_libraries()
    reviews = load_reviews("market", seed=0)
    frame = reviews.frame[reviews.frame["text"].str.split().str.len() <= MOST_WORDS]
    reviews = replace(reviews, frame=frame)
    task = prepare(reviews, seed=0, n_train=1_024, n_valid=250, n_test=TEXTS)
    model, tokenizer = fine_tuned(task, CONFIG).load(), load_tokenizer()
    texts = task.test.texts
    tutorial = _Tutorial(model, tokenizer)
    seconds: dict[str, list[float]] = {"ours": [], "reference": []}
    for turn in range(ROUNDS + 1):
        some = texts[:4] if turn == 0 else texts  # the first turn warms up
        for side, call in (
            ("ours", lambda few: attribute(model, tokenizer, few)),
            ("reference", lambda few: [tutorial(text) for text in few]),
        ):
            start = time.perf_counter()
            with quick_products(model):
                found = call(some)
            if turn > 0:
                seconds[side].append(time.perf_counter() - start)
            if side == "ours":
                ours = found
    span = float(np.ptp([a.score for a in ours]))
    errors = np.array([a.error for a in ours]) / span
    exact = attribute(model, tokenizer, texts[:COMPARED], steps=EXACT_STEPS)
    agreement = [
        spearmanr(a.values[1:-1], b.values[1:-1]).statistic
        for a, b in zip(ours[:COMPARED], exact, strict=True)
    ]
    middle, worst = float(np.median(agreement)), float(min(agreement))
    steps = [a.steps for a in ours]
    assert errors.max() <= LARGEST_ERROR, f"an error is {errors.max():.2%} of the scores' range"
    assert middle >= AGREEMENT, f"the rank correlation with {EXACT_STEPS} steps is {middle:.4f}"
    assert worst >= LEAST, f"a text's rank correlation with {EXACT_STEPS} steps is {worst:.4f}"
    enough = sum(value >= AGREEMENT for value in agreement)
    pairs = zip(seconds["reference"], seconds["ours"], strict=True)
    row = {
        "what": f"integrated gradients of {len(texts)} reviews: error ≤ {errors.max():.2%} of the "
        f"range; Spearman with {EXACT_STEPS} steps, {COMPARED} of them: median {middle:.4f}, least "
        f"{worst:.4f}, {enough} at {AGREEMENT} or more",
        "unit": "texts/s",
        **{side: len(texts) / statistics.median(times) for side, times in seconds.items()},
        "reference_name": f"one text at a time, {STEPS} steps",
        "ratio": statistics.median(a / b for a, b in pairs),
        "target": TARGET,
    }
    return {
        "results": [row],
        "seconds": seconds,
        "mean_steps": float(np.mean(steps)),
        "most_steps": max(steps),
        "largest_error": float(errors.max()),
        "spearman": {"median": middle, "least": worst, "share_above": enough / COMPARED},
    }


class _Tutorial:
    """The published loop, at the right layer and of the logit."""

    def __init__(self, model: torch.nn.Module, tokenizer):
        self.model, self.tokenizer = model, tokenizer
        self.explainer = LayerIntegratedGradients(self._score, model.get_input_embeddings())

    def _score(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.model(ids, attention_mask=mask).logits[:, 0]

    def __call__(self, text: str) -> np.ndarray:
        tokens = self.tokenizer(text, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
        ids, mask = tokens["input_ids"], tokens["attention_mask"]
        blank = torch.full_like(ids, self.tokenizer.pad_token_id)
        blank[0, 0], blank[0, -1] = ids[0, 0], ids[0, -1]
        values, _ = self.explainer.attribute(
            ids, blank, additional_forward_args=mask, n_steps=STEPS, return_convergence_delta=True
        )
        return values.sum(-1)[0].detach().numpy()
