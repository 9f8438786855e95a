"""Which word of the query met which word of the product? The similarity of a bi-encoder, by pairs.

The score is the cosine of two means of token states, and that is a sum over pairs of tokens:
cos(mean h, mean g) = Σ_ij h_i · g_j / (T_q T_p |mean h| |mean g|). `match_pairs` gives its terms;
they add up to the score exactly. But a state of the last layer has read the whole text: the state
at "red" is about the sentence, as seen from "red".

`integrated_pairs` goes through all layers back to the words put in. Where `match_pairs` splits the
states, it splits the vectors e of the texts: A_i = ∫ J_i(r + α(x − r)) (x_i − r_i) dα, so that
Σ_i A_i = e(x) − e(r), and the pair (i, j) gets A_i · B_j. The pairs add up to
e(q)·e(p) − e(q)·e(r_p) − e(r_q)·e(p) + e(r_q)·e(r_p): the similarity beyond that of empty texts.
Source: Moeller, Nikolaev, Padó (2023), An attribution method for Siamese encoders, EMNLP,
arXiv 2310.05703, where the Jacobians are computed row by row of the vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recsys_lib.interpret.words import word_of_token, word_spans
from recsys_lib.models import check_pooling, evaluating, pool
from recsys_lib.workbook import InputError

_ROWS = 256  # texts, or copies of one, that the model reads at once


@dataclass(frozen=True)
class Match:
    """The similarity of a query and a product, split over pairs of their words.

    query, product: the words in order; special tokens stand among them as they are, like "[CLS]".
    values: (len(query), len(product)) float64.
    score: what the values add up to, but for rounding (and, along a path, for its steps).
    cosine: of the two vectors; the score itself where the method splits all of it.
    special: (len(query),) and (len(product),) bool, True for special tokens.
    method: in words.
    """

    query: tuple[str, ...]
    product: tuple[str, ...]
    values: np.ndarray
    score: float
    cosine: float
    special: tuple[np.ndarray, np.ndarray]
    method: str

    @property
    def error(self) -> float:
        """How far the values are from adding up."""
        return abs(float(self.values.sum()) - self.score)

    @property
    def special_share(self) -> float:
        """What the pairs with a special token add to the score (the sum, not its share of it)."""
        words = self.values[~self.special[0]][:, ~self.special[1]]
        return float(self.values.sum() - words.sum())


@dataclass(frozen=True)
class _Text:
    """One text as the model reads it: ids (T,), the word number of each token, and the words."""

    ids: list[int]
    word: np.ndarray
    words: tuple[str, ...]
    special: np.ndarray


def match_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    products: Sequence[str],
    *,
    max_length: int = 128,
    pooling: str = "mean",
) -> list[Match]:
    """The cosine of each query with its product, split exactly over pairs of last-layer states.

    Args:
        model: an encoder, see `models.load_encoder`. The states are those of float32.
        queries, products: (n,) texts, row by row.
        max_length: tokens of a text that are read, special ones included.
        pooling: "mean"; "first" puts everything into one pair, and is refused.

    Raises InputError for lists of different length, an empty text, a text that is cut off, or a
    pooling other than "mean".
    """
    check_pooling(pooling)
    if pooling != "mean":
        raise InputError('pooling = "first": the score has one pair, ([CLS], [CLS]); use "mean".')
    left, right = _pairs(tokenizer, queries, products, max_length)
    distinct = {tuple(text.ids): text for text in [*left, *right]}
    states = {key: _states(model, text) for key, text in distinct.items()}
    matches = []
    for query, product in zip(left, right, strict=True):
        h, g = states[tuple(query.ids)], states[tuple(product.ids)]
        scale = len(h) * len(g) * np.linalg.norm(h.mean(0)) * np.linalg.norm(g.mean(0))
        cosine = float(h.mean(0) @ g.mean(0) * len(h) * len(g) / scale)
        values = _sum_words(h @ g.T / scale, query, product)
        matches.append(_match(query, product, values, cosine, cosine, "last-layer states"))
    return matches


def integrated_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    products: Sequence[str],
    *,
    steps: int = 16,
    max_length: int = 128,
) -> list[Match]:
    """The similarity beyond that of empty texts, split over pairs of words by integrated Jacobians.

    The reference r of a text has padding in the place of every word and keeps the special tokens,
    so that these get 0. Vectors are means of the last states, scaled to length 1. A derivative in
    the direction of each token costs one forward pass of the text (forward mode), so a pair costs
    steps × (T_q + T_p) of them: for a handful of pairs.

    steps: points of the path (Gauss–Legendre). Otherwise as `match_pairs`.
    """
    if steps < 1:
        raise InputError(f"steps = {steps!r} must be at least 1.")
    left, right = _pairs(tokenizer, queries, products, max_length)
    pad = tokenizer.pad_token_id
    distinct = {tuple(text.ids): text for text in [*left, *right]}
    shares = {key: _token_shares(model, text, pad, steps) for key, text in distinct.items()}
    matches = []
    for query, product in zip(left, right, strict=True):
        (a, end_a, start_a), (b, end_b, start_b) = (shares[tuple(t.ids)] for t in (query, product))
        score = float((end_a - start_a) @ (end_b - start_b))
        values = _sum_words(a @ b.T, query, product)
        name = f"integrated Jacobians, {steps} steps"
        matches.append(_match(query, product, values, score, float(end_a @ end_b), name))
    return matches


def _match(query, product, values, score, cosine, method) -> Match:
    special = (query.special, product.special)
    return Match(query.words, product.words, values, score, cosine, special, method)


def _pairs(
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    products: Sequence[str],
    max_length: int,
) -> tuple[list[_Text], list[_Text]]:
    if len(queries) != len(products):
        raise InputError(f"{len(queries)} queries but {len(products)} products: give one for each.")
    return tuple(
        [_read(tokenizer, text, f"{side} {row}", max_length) for row, text in enumerate(texts)]
        for side, texts in (("query", queries), ("product", products))
    )


def _read(tokenizer: PreTrainedTokenizerBase, text: str, name: str, max_length: int) -> _Text:
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{name} is empty: there is no word to explain.")
    encoded = tokenizer(text, return_offsets_mapping=True, verbose=False)
    ids = encoded["input_ids"]
    if len(ids) > max_length:
        raise InputError(
            f"{name} has {len(ids)} tokens, of which max_length = {max_length} would be read: "
            "shorten it, or raise max_length if the model has the positions."
        )
    spans = word_spans(text)
    words: list[str] = []
    special: list[bool] = []
    word, last = [], -1
    for token, number in enumerate(word_of_token(spans, np.array(encoded["offset_mapping"]))):
        if number < 0 or number != last:
            whole = text[slice(*spans[number])]
            words.append(tokenizer.convert_ids_to_tokens(ids[token]) if number < 0 else whole)
            special.append(number < 0)
        word.append(len(words) - 1)
        last = number
    return _Text(ids, np.array(word), tuple(words), np.array(special))


def _sum_words(values: np.ndarray, query: _Text, product: _Text) -> np.ndarray:
    """Token pairs (T_q, T_p) added up into word pairs."""
    rows = np.zeros((len(query.words), values.shape[1]))
    np.add.at(rows, query.word, values)
    out = np.zeros((len(product.words), len(query.words)))
    np.add.at(out, product.word, rows.T)
    return out.T


def _states(model: PreTrainedModel, text: _Text) -> np.ndarray:
    device = next(model.parameters()).device
    ids = torch.tensor([text.ids], device=device)
    with evaluating(model), torch.inference_mode():
        states = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    return states[0].double().cpu().numpy()


def _token_shares(
    model: PreTrainedModel, text: _Text, pad: int, steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A_i for each token, (T, width), and the vectors of the text and of its reference."""
    device = next(model.parameters()).device
    ids = torch.tensor(text.ids, device=device)
    special = torch.from_numpy(text.special[text.word]).to(device)
    embed = model.get_input_embeddings()
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    alphas, weights = (nodes + 1) / 2, weights / 2

    def vectors(inputs: torch.Tensor) -> torch.Tensor:
        mask = torch.ones(inputs.shape[:2], dtype=torch.int64, device=device)
        states = model(inputs_embeds=inputs, attention_mask=mask).last_hidden_state
        return torch.nn.functional.normalize(pool(states, mask), dim=-1)

    # forward-mode derivatives exist for the plain kernel of attention only
    with evaluating(model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        end = embed(ids)
        start = embed(torch.where(special, ids, torch.full_like(ids, pad)))
        change = end - start
        tokens = len(ids)
        total = torch.zeros(tokens, model.config.hidden_size, dtype=torch.float64, device=device)
        each = torch.arange(tokens, device=device)
        for alpha, weight in zip(alphas, weights, strict=True):
            point = start + float(alpha) * change
            for rows in each.split(_ROWS):
                tangent = torch.zeros(len(rows), *change.shape, device=device)
                tangent[torch.arange(len(rows)), rows] = change[rows]
                with forward_ad.dual_level():
                    inputs = forward_ad.make_dual(point.expand_as(tangent).clone(), tangent)
                    slope = forward_ad.unpack_dual(vectors(inputs)).tangent
                    total[rows] += float(weight) * slope.double()
        ends = vectors(torch.stack([end, start])).double().cpu().numpy()
    return total.cpu().numpy(), ends[0], ends[1]
