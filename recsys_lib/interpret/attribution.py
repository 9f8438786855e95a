"""Which words decided: what each token adds to a classifier's log-odds, by methods of Captum.

All methods explain one number, the log-odds of class 1, at the output of the word-embedding layer
(`scores`). Where a method promises that its values add up to f(x) − f(baseline), the promise is
kept as a number: `Attribution.error`.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import (
    FeatureAblation,
    GradientShap,
    InputXGradient,
    IntegratedGradients,
    Saliency,
    ShapleyValueSampling,
)
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recsys_lib.interpret.attention import attention_received
from recsys_lib.interpret.scores import (
    BASELINES,
    Batch,
    ReadTexts,
    baseline_vector,
    batch_of,
    explaining,
    read_texts,
    score_of_vectors,
    scores_and_baselines,
)
from recsys_lib.interpret.words import word_of_token, word_spans
from recsys_lib.models import cells_per_batch
from recsys_lib.text import make_batches
from recsys_lib.workbook import InputError

METHODS = (
    "integrated_gradients",
    "gradient_x_input",
    "gradient_shap",
    "occlusion",
    "shapley",
    "attention",
    "attention_rollout",
)
FIRST_STEPS, MOST_STEPS = 11, 383  # n, 2n + 1, … points: each set holds the one before
_EVENNESS = 0.97  # 0: points crowded at the ends of the way as Fejér has them; 1: evenly spread
SAMPLES, PERMUTATIONS = 50, 25
MOST_WORDS = 60  # that Shapley values are sampled for: the work grows with their square


@dataclass(frozen=True)
class Attribution:
    """What each token of a text adds to the score.

    text: all of it. tokens: (T,) as the model reads them, special ones included. offsets: (T, 2)
    int64, the characters of each; (0, 0) for special tokens. values: (T,) float64, in log-odds.
    score: f(x), the log-odds of class 1. baseline_score: f(baseline); nan for a method whose
    values are no shares of a difference. truncated: the text is longer than what the model read.
    method: its name. steps: gradients, samples or permutations that were spent; 0 where none are.
    """

    text: str
    tokens: tuple[str, ...]
    offsets: np.ndarray
    values: np.ndarray
    score: float
    baseline_score: float
    truncated: bool
    method: str
    steps: int = 0

    @property
    def error(self) -> float:
        """Completeness error |Σ values − (f(x) − f(baseline))|; nan where nothing is promised."""
        return abs(float(self.values.sum()) - (self.score - self.baseline_score))


def attribute(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    method: str = "integrated_gradients",
    baseline: str = "pad",
    steps: int | None = None,
    tolerance: float = 0.01,
    max_length: int = 128,
    cells: int | None = None,
    seed: int = 0,
) -> list[Attribution]:
    """Attribute the log-odds of class 1 to the tokens of each text, in the order of the texts.

    method:
        "integrated_gradients" (Sundararajan et al. 2017, arXiv 1703.01365): the gradient along the
        straight way from the baseline to the text, times the way; adds up to f(x) − f(baseline).
        "gradient_x_input" (Shrikumar et al. 2016, arXiv 1605.01713): one gradient; adds up to
        nothing.
        "gradient_shap" (Lundberg, Lee 2017, arXiv 1705.07874): the same integral by random points
        of the ways from all four baselines; adds up to f(x) − mean f(baseline) on average.
        DeepLift is left out: Captum's rules know activation modules, and not the attention product
        and layer norm of a BERT, so that its shares do not add up.
        "occlusion": f(x) − f(x without the word), each word of several pieces shared evenly.
        "shapley": Shapley values of the words (Castro et al. 2009) by sampled orders in which words
        arrive; add up exactly. For short texts, up to 60 words.
        "attention": attention weights of the last layer, mean over heads, as the pooled vector
        receives them; "attention_rollout" (Abnar, Zuidema 2020, arXiv 2005.00928): the same
        multiplied through all layers. Both are shares that sum to 1, know no sign and no class:
        they say where the model looked, **not** what it made of it. They are no attributions.
    baseline: what stands where a word is missing, "pad", "mask", "zero" or "average" (of the
        vocabulary); special tokens stay. "gradient_shap" uses all four, "gradient_x_input" and
        attention none.
    steps: gradients per text (integrated gradients), samples (gradient SHAP, 50 where None), orders
        (Shapley, 25 where None). Integrated gradients with a number take so many Gauss-Legendre
        points, and with None choose: 11 points (`nested_points`), then 23, 47 … 383 for the texts
        whose error is above `tolerance` × (largest − smallest score of the texts and their
        baselines). Each set holds the one before, so no gradient is computed twice. A text still
        above is warned about.
    max_length: tokens that are read; a longer text has `truncated` set.
    cells: of one batch, padding and steps included; None: `models.cells_per_batch`.
    seed: of gradient SHAP and Shapley values. A text's values do not depend on the others, but for
        the number of steps, which is chosen by the range of all scores.

    Raises InputError for an unknown method or baseline, steps below 1, an empty text, a model
    without a word-embedding layer or with more than two logits, scores that are not numbers.
    """
    if method not in METHODS:
        raise InputError(f"method={method!r}: allowed are {', '.join(map(repr, METHODS))}")
    for name, value in (("steps", steps), ("cells", cells)):
        if value is not None and value < 1:
            raise InputError(f"{name}={value}: must be at least 1")
    if not tolerance > 0:
        raise InputError(f"tolerance={tolerance}: must be a number above 0")
    vector = baseline_vector(model, tokenizer, baseline)
    read = read_texts(model, tokenizer, texts, max_length)
    cells = cells or cells_per_batch(vector.device)
    with explaining(model):
        scores, floors = scores_and_baselines(model, read, vector, cells)
        used = np.zeros(len(read.texts), dtype=np.int64)
        if method == "integrated_gradients":
            if steps is None:
                allowed = tolerance * float(np.ptp([scores, floors])) if len(scores) else 0.0
                values, used = _integrated_to_tolerance(
                    model, read, vector, scores - floors, allowed, cells
                )
            else:
                used += steps
                values = _integrated(model, read, vector, steps, cells)
        elif method == "gradient_shap":
            every = [baseline_vector(model, tokenizer, name) for name in _known(tokenizer)]
            used += steps or SAMPLES
            values = _gradient_shap(model, read, every, int(steps or SAMPLES), cells, seed)
            all_floors = [scores_and_baselines(model, read, v, cells)[1] for v in every]
            floors = np.mean(all_floors, axis=0)
        elif method == "shapley":
            used += steps or PERMUTATIONS
            values = _by_words(model, read, vector, cells, orders=steps or PERMUTATIONS, seed=seed)
        else:
            floors = np.full(len(scores), np.nan)
            if method == "occlusion":
                values = _by_words(model, read, vector, cells)
            elif method == "gradient_x_input":
                values = _gradient_x_input(model, read, vector, cells)
            else:
                rollout = method == "attention_rollout"
                values = attention_received(model, read, rollout=rollout, cells=cells)
    return [
        Attribution(*row, method=method, steps=int(count))
        for *row, count in zip(
            read.texts, read.tokens, read.offsets, values, scores.tolist(), floors.tolist(),
            read.encoded.truncated.tolist(), used, strict=True,
        )
    ]  # fmt: skip


def _known(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The baselines that there are for this tokenizer."""
    return [name for name in BASELINES if name != "mask" or tokenizer.mask_token_id is not None]


def _per_token(read: ReadTexts, batch: Batch, found: torch.Tensor) -> list[np.ndarray]:
    """(n, T, width) summed over the width, without padding."""
    sums = found.detach().cpu().double().sum(-1).numpy()
    return [row[: len(read.special[i])] for i, row in zip(batch.rows, sums, strict=True)]


def _integrated(
    model: PreTrainedModel, read: ReadTexts, vector: torch.Tensor, steps: int, cells: int
) -> list[np.ndarray]:
    """So many Gauss-Legendre points for every text."""
    explainer = IntegratedGradients(score_of_vectors(model))
    values: list[np.ndarray] = [np.empty(0)] * len(read.texts)
    lengths, room = read.encoded.lengths, max(1, cells // steps)
    for rows in make_batches(lengths, max_tokens=room, shuffle=False):
        batch = batch_of(model, read, rows, vector)
        at_once = max(1, cells // batch.ids.shape[1])  # a long text alone is cut into steps
        found = explainer.attribute(
            batch.x,
            batch.base,
            additional_forward_args=(batch.ids, batch.mask),
            n_steps=steps,
            internal_batch_size=at_once if len(rows) == 1 else None,
        )
        for row, value in zip(rows, _per_token(read, batch, found), strict=True):
            values[row] = value
    return values


def _integrated_to_tolerance(
    model: PreTrainedModel,
    read: ReadTexts,
    vector: torch.Tensor,
    differences: np.ndarray,
    allowed: float,
    cells: int,
) -> tuple[list[np.ndarray], np.ndarray]:
    """Values per text and the number of points each took.

    differences: (n,) f(x) − f(baseline), which the values of each text must reach to within
    `allowed`. The error falls exponentially in the number of points where f is smooth, so most
    texts are done with few, and only the others get more, between those that they have.
    """
    count, todo, lengths = FIRST_STEPS, np.arange(len(differences)), read.encoded.lengths
    values: list[np.ndarray] = [np.empty(0)] * len(differences)
    slopes: dict[int, np.ndarray] = {}  # (points, T): a text's slopes along the way, times the way
    used = np.zeros(len(differences), dtype=np.int64)
    while len(todo):
        points, weights = nested_points(count)
        new = points if count == FIRST_STEPS else points[::2]
        room = max(1, cells // len(new))
        for some in make_batches(lengths[todo], max_tokens=room, shuffle=False):
            batch = batch_of(model, read, todo[some], vector)
            found = _slopes_along(model, batch, new, cells)
            for i, row in enumerate(batch.rows):
                along = found[:, i, : lengths[row]]
                if row in slopes:  # the new points lie around those of before
                    along = np.insert(along, np.arange(1, len(new)), slopes[row], axis=0)
                slopes[row], values[row], used[row] = along, weights @ along, count
        sums = np.array([values[row].sum() for row in todo])
        todo = todo[np.abs(sums - differences[todo]) > allowed]
        if count >= MOST_STEPS and len(todo):
            warnings.warn(
                f"integrated gradients: {len(todo)} of {len(values)} texts still miss completeness "
                f"by more than {allowed:.2g} with {count} steps; see Attribution.error",
                stacklevel=3,
            )
            break
        slopes = {row: slopes[row] for row in todo.tolist()}
        count = 2 * count + 1
    return values, used


def _slopes_along(
    model: PreTrainedModel, batch: Batch, points: np.ndarray, cells: int
) -> np.ndarray:
    """(points, n, T) float64: each token's gradient at these shares of the way, times the way."""
    explainer, way = Saliency(score_of_vectors(model)), batch.x - batch.base
    rows, width = batch.ids.shape
    found = []
    for some in np.array_split(points, -(-len(points) * rows * width // max(cells, rows * width))):
        shares = torch.tensor(some, dtype=way.dtype, device=way.device)[:, None, None, None]
        at = (batch.base + shares * way).flatten(0, 1).requires_grad_()
        given = (batch.ids.repeat(len(some), 1), batch.mask.repeat(len(some), 1))
        gradient = explainer.attribute(at, abs=False, additional_forward_args=given)
        shared = gradient.unflatten(0, (len(some), rows)) * way
        found.append(shared.detach().cpu().double().sum(-1).numpy())
    return np.concatenate(found)


def nested_points(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points in (0, 1), falling, and weights, (count,) each, of a quadrature on [0, 1].

    Fejér's second rule (Waldvogel 2006, BIT 46) keeps all points when `count` becomes 2 count + 1,
    but crowds them at the ends, and a score bends in the middle of the way: the arcsine map of
    Kosloff and Tal-Ezer spreads them evenly (Hale, Trefethen 2008, SIAM J. Numer. Anal. 46).
    """
    angles = np.arange(1, count + 1) * np.pi / (count + 1)
    odd = 2 * np.arange(1, (count + 1) // 2 + 1) - 1
    sums = (np.sin(np.outer(angles, odd)) / odd).sum(axis=1)
    weights = 2 * np.sin(angles) * sums / (count + 1)
    at, most = _EVENNESS * np.cos(angles), np.arcsin(_EVENNESS)
    return 0.5 + np.arcsin(at) / (2 * most), weights * _EVENNESS / (most * np.sqrt(1 - at**2))


def _gradient_x_input(
    model: PreTrainedModel, read: ReadTexts, vector: torch.Tensor, cells: int
) -> list[np.ndarray]:
    explainer = InputXGradient(score_of_vectors(model))
    values: list[np.ndarray] = [np.empty(0)] * len(read.texts)
    for rows in make_batches(read.encoded.lengths, max_tokens=cells, shuffle=False):
        batch = batch_of(model, read, rows, vector)
        found = explainer.attribute(
            batch.x.requires_grad_(), additional_forward_args=(batch.ids, batch.mask)
        )
        for row, value in zip(rows, _per_token(read, batch, found), strict=True):
            values[row] = value
    return values


def _gradient_shap(
    model: PreTrainedModel,
    read: ReadTexts,
    vectors: list[torch.Tensor],
    samples: int,
    cells: int,
    seed: int,
) -> list[np.ndarray]:
    """One text at a time, as many samples at once as there is room for."""
    explainer = GradientShap(score_of_vectors(model))
    values = []
    for row in range(len(read.texts)):
        batches = [batch_of(model, read, np.array([row]), vector) for vector in vectors]
        batch, bases = batches[0], torch.cat([batch.base for batch in batches])
        at_once = max(1, cells // batch.ids.shape[1])
        total = torch.zeros_like(batch.x)
        with _captum_seeded(seed):
            for start in range(0, samples, at_once):
                count = min(at_once, samples - start)
                found = explainer.attribute(
                    batch.x.clone().requires_grad_(),
                    bases,
                    n_samples=count,
                    additional_forward_args=(batch.ids, batch.mask),
                )
                total += found.detach() * (count / samples)
        values += _per_token(read, batch, total)
    return values


def _by_words(
    model: PreTrainedModel,
    read: ReadTexts,
    vector: torch.Tensor,
    cells: int,
    *,
    orders: int | None = None,
    seed: int = 0,
) -> list[np.ndarray]:
    """Occlusion, or with `orders` Shapley values: f as a function of which words are there."""
    score, values = score_of_vectors(model), []
    for row, text in enumerate(read.texts):
        index = word_of_token(word_spans(text), read.offsets[row])
        present, column = np.unique(index[index >= 0], return_inverse=True)
        if orders is not None and len(present) > MOST_WORDS:
            raise InputError(
                f"shapley: text {row} has {len(present)} words, at most {MOST_WORDS} are sampled "
                "in reasonable time: shorten it, or take integrated_gradients"
            )
        batch = batch_of(model, read, np.array([row]), vector)
        words = torch.full((len(index),), len(present), device=vector.device)  # the last is always
        words[torch.from_numpy(index >= 0)] = torch.from_numpy(column).to(vector.device)

        def score_of_words(keep: torch.Tensor, batch=batch, words=words) -> torch.Tensor:
            """keep: (n, W), 1 for each word that is there and 0 for one that is not."""
            always = keep.new_ones(len(keep), 1)
            kept = torch.cat([keep, always], dim=1)[:, words, None]
            some = (len(keep), -1)
            vectors = torch.where(kept > 0, batch.x, batch.base)
            return score(vectors, batch.ids.expand(some), batch.mask.expand(some))

        there = torch.ones(1, len(present), device=vector.device)
        options = {"perturbations_per_eval": max(1, cells // len(index))}
        if orders is None:
            found = FeatureAblation(score_of_words).attribute(there, 0, **options)
        else:
            with _captum_seeded(seed):
                explainer = ShapleyValueSampling(score_of_words)
                found = explainer.attribute(there, 0, n_samples=orders, **options)
        share = found[0].cpu().double().numpy() / np.bincount(column)
        value = np.zeros(len(index))
        value[index >= 0] = share[column]
        values.append(value)
    return values


@contextlib.contextmanager
def _captum_seeded(seed: int) -> Iterator[None]:
    """Captum draws from the global generators: they are set inside and as before afterwards."""
    before = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002
