"""Does the model do what the explanation says? Measured by changing what it reads.

Nobody has marked the words of real reviews. But a model can be asked again without the words that
an explanation names: `erasure` gives deletion and insertion curves, and from them comprehensiveness
and sufficiency. `infidelity` compares the announced change with the one that follows;
`max_sensitivity` asks whether texts that the model cannot tell apart get the same explanation. One
value per text everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from captum.attr import InputXGradient, IntegratedGradients
from captum.metrics import sensitivity_max
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recsys_lib.interpret.attribution import Attribution
from recsys_lib.interpret.scores import explaining, log_odds, quick_products, word_embedding
from recsys_lib.interpret.words import Words, word_of_token
from recsys_lib.metrics import sigmoid
from recsys_lib.text import Encoded
from recsys_lib.training import predict
from recsys_lib.workbook import InputError

SHARES = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)  # those of ERASER, and both ends
REMOVALS = ("drop", "mask")


@dataclass(frozen=True)
class Erasure:
    """What the model says of texts whose most important words are taken out, or are all it gets.

    shares: (S,) of the words, ascending from 0 to 1; a share of W words is its ceiling.
    deletion: (n, S) without that share of the words, the most important first.
    insertion: (n, S) with that share of the words only.
    Both hold the probability of the class that the model chose for the whole text.
    """

    shares: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray

    @property
    def deletion_area(self) -> np.ndarray:
        """(n,) area under the deletion curve: small if the words named first carry the decision."""
        return np.trapezoid(self.deletion, self.shares, axis=1)

    @property
    def insertion_area(self) -> np.ndarray:
        """(n,) area under the insertion curve: large if the words named first are enough."""
        return np.trapezoid(self.insertion, self.shares, axis=1)

    @property
    def comprehensiveness(self) -> np.ndarray:
        """(n,) p(text) − p(text without its top words), mean over the inner shares. High is good.

        DeYoung et al. (2020), ERASER, ACL, arXiv 1911.03429, section 4 (AOPC, equation 1).
        """
        inner = (self.shares > 0) & (self.shares < 1)
        return (self.deletion[:, :1] - self.deletion[:, inner]).mean(axis=1)

    @property
    def sufficiency(self) -> np.ndarray:
        """(n,) p(text) − p(the top words alone), mean over the inner shares. Low is good.

        ERASER, equation 2.
        """
        inner = (self.shares > 0) & (self.shares < 1)
        return (self.deletion[:, :1] - self.insertion[:, inner]).mean(axis=1)


def erasure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    explained: Sequence[Words],
    *,
    shares: Sequence[float] = SHARES,
    removal: str = "drop",
    signed: bool = True,
    max_length: int = 128,
    precision: str = "fp32",
) -> Erasure:
    """Deletion and insertion curves (Petsiuk et al. 2018, arXiv 1806.07421) for words, in batches.

    The most important word is the one whose value pushes hardest toward the class that the model
    chose. Word pieces go and come together; what belongs to no word (special tokens) stays.

    Args:
        model: a classifier with one logit, or two.
        explained: (n,) texts with their words and values, see `words.by_word`.
        shares: of the words, from 0 to 1; both ends are added.
        removal: "drop" takes the words out and closes the gap; "mask" puts the mask token there.
        signed: False for values that know no class, such as attention: the largest comes first,
            whatever the model chose.
        max_length: the one that the explanation was made with.
        precision: see `models.autocast`; float32, since differences of scores are read.

    Raises InputError for shares outside 0 … 1, an unknown removal, a tokenizer without a mask
    token, a text without words, or a value that is not finite.
    """
    shares = np.unique(np.concatenate([[0.0, 1.0], np.asarray(shares, dtype=np.float64)]))
    if shares[0] < 0 or shares[-1] > 1 or len(shares) < 3:
        raise InputError("shares must lie between 0 and 1, with one at least inside.")
    if removal not in REMOVALS:
        raise InputError(f"removal = {removal!r} is not one of {', '.join(REMOVALS)}.")
    if removal == "mask" and tokenizer.mask_token_id is None:
        raise InputError('removal = "mask": this tokenizer has no mask token; use "drop".')
    ids, word_of = _tokens_of_words(tokenizer, explained, max_length)
    full = _scores(model, ids, tokenizer, max_length, precision)
    side = np.where(full >= 0, 1.0, -1.0)
    asked: dict[tuple[int, ...], int] = {}
    place = np.zeros((2, len(ids), len(shares)), dtype=np.int64)
    for row, text in enumerate(explained):
        toward = side[row] if signed else 1.0
        order = np.argsort(-toward * text.values, kind="stable")
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        # of each token; what belongs to no word is never taken
        rank = np.where(word_of[row] >= 0, rank[word_of[row]], -1)
        counts = np.ceil(shares * len(order) - 1e-9).astype(np.int64)
        for column, count in enumerate(counts):
            for curve, gone in enumerate((rank < count, rank >= count)):
                left = _without(ids[row], gone & (rank >= 0), removal, tokenizer)
                place[curve, row, column] = asked.setdefault(left, len(asked))
    scores = _scores(model, list(asked), tokenizer, max_length, precision)[place]
    deletion, insertion = sigmoid(side[:, None] * scores)
    return Erasure(shares, deletion, insertion)


def infidelity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    attributions: Mapping[str, Sequence[Attribution]],
    *,
    n_samples: int = 16,
    share: float = 0.2,
    normalize: bool = True,
    baseline: str = "pad",
    seed: int = 0,
    max_length: int = 128,
    precision: str = "fp32",
) -> pd.DataFrame:
    """How far the change that an attribution announces is from the one that follows. Low is good.

    Random sets I of tokens are replaced by the baseline's token; the attribution announces that the
    score falls by Σ_{i ∈ I} values_i. Infidelity is E[(β Σ values − (f(x) − f(x without I)))²], the
    mean over the sets. All methods are asked about the same sets, so that the model reads them
    once.

    Args:
        attributions: by method, of the same texts in the same order.
        n_samples: sets per text. share: the chance of a token to be in a set (at least one is).
        normalize: β is the factor that fits this text best, so that methods on another scale can
            be compared; False: β = 1.
        baseline: "pad" or "mask", the token that is put in; as the attribution was made.

    Returns (n, methods). `captum.metrics.infidelity` gives the same for the same sets.
    Source: Yeh et al. (2019), On the (in)fidelity and sensitivity of explanations, NeurIPS,
    arXiv 1901.09392, definition 2.1 and section 2.2 (square removal).
    """
    if baseline not in ("pad", "mask"):
        raise InputError(f"baseline = {baseline!r} must be 'pad' or 'mask'.")
    if n_samples < 2 or not 0 < share < 1:
        raise InputError("n_samples must be at least 2, and share above 0 and below 1.")
    if not attributions:
        raise InputError("attributions is empty: give at least one method.")
    token = tokenizer.pad_token_id if baseline == "pad" else tokenizer.mask_token_id
    first = next(iter(attributions.values()))
    for name, others in attributions.items():
        if [a.tokens for a in others] != [a.tokens for a in first]:
            raise InputError(f"the texts of {name!r} are not those of the other methods.")
    rng = np.random.default_rng(seed)
    ids, sets, changed = [], [], []
    for text in first:
        own = np.array(tokenizer.convert_tokens_to_ids(list(text.tokens)))
        taken = _random_sets(text.offsets[:, 0] < text.offsets[:, 1], n_samples, share, rng)
        ids.append(tuple(own.tolist()))
        sets.append(taken)
        changed += [tuple(row) for row in np.where(taken, token, own).tolist()]
    scores = _scores(model, ids + changed, tokenizer, max_length, precision)
    fell = scores[: len(ids), None] - scores[len(ids) :].reshape(len(ids), n_samples)
    table = {}
    for name, texts in attributions.items():
        said = np.stack([taken @ t.values for taken, t in zip(sets, texts, strict=True)])
        if normalize:
            square = (said**2).sum(axis=1)
            said = said * ((said * fell).sum(axis=1) / np.where(square, square, 1.0))[:, None]
        table[name] = ((said - fell) ** 2).mean(axis=1)
    return pd.DataFrame(table)


def max_sensitivity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    method: str = "integrated_gradients",
    radius: float = 0.1,
    n_samples: int = 5,
    steps: int = 8,
    max_length: int = 128,
    seed: int = 0,
) -> np.ndarray:
    """How much the explanation moves, at most, when the word vectors move by almost nothing: (n,).

    max over perturbations δ of |φ(x + δ) − φ(x)| / |φ(x)|, `captum.metrics.sensitivity_max`, where
    φ is the attribution per token and each coordinate of δ is uniform in ±radius standard
    deviations of the text's word vectors. Low is good.

    method: "integrated_gradients" (padding as baseline, `steps` points) or "gradient_x_input".
    Source: Yeh et al. (2019), arXiv 1901.09392, definition 3.1.
    """
    if method not in ("integrated_gradients", "gradient_x_input"):
        raise InputError(
            f"method = {method!r}: 'integrated_gradients' and 'gradient_x_input' are functions of "
            "the word vectors, which sensitivity needs."
        )
    if not radius > 0 or n_samples < 1:
        raise InputError("radius must be above 0 and n_samples at least 1.")
    device = next(model.parameters()).device
    embed = word_embedding(model)
    random = torch.Generator().manual_seed(seed)

    def score(vectors: torch.Tensor) -> torch.Tensor:
        mask = torch.ones(vectors.shape[:2], dtype=torch.int64, device=device)
        return log_odds(model(inputs_embeds=vectors, attention_mask=mask).logits)

    def move(x: torch.Tensor, size: float) -> torch.Tensor:
        noise = torch.rand(x.shape, generator=random).to(x.device)
        return x + size * (2 * noise - 1)

    values = []
    with explaining(model):
        for text in texts:
            encoded = tokenizer(
                text, truncation=True, max_length=max_length, return_special_tokens_mask=True
            )
            ids = torch.tensor([encoded["input_ids"]], device=device)
            keep = torch.tensor([encoded["special_tokens_mask"]], device=device, dtype=torch.bool)
            with torch.no_grad():
                vectors = embed(ids)
                start = embed(torch.where(keep, ids, tokenizer.pad_token_id))

            def explain(given, keep=keep, start=start) -> tuple[torch.Tensor]:
                x = given[0] if isinstance(given, tuple) else given  # Captum gives both
                x = x.detach().requires_grad_()
                if method == "gradient_x_input":
                    each = InputXGradient(score).attribute(x)
                else:
                    begin = torch.where(keep[..., None], x, start)
                    each = IntegratedGradients(score).attribute(
                        x, begin, n_steps=steps, internal_batch_size=64
                    )
                return (each.sum(-1).detach(),)

            found = sensitivity_max(
                explain,
                vectors,
                perturb_func=move,
                perturb_radius=radius * float(vectors.std()),
                n_perturb_samples=n_samples,
            )
            values.append(float(found))
    return np.array(values)


# ----------------------------------------------------------------------------- helpers


def _tokens_of_words(
    tokenizer: PreTrainedTokenizerBase, explained: Sequence[Words], max_length: int
) -> tuple[list[tuple[int, ...]], list[np.ndarray]]:
    """Per text its ids, and the number of the word that each token belongs to, or −1."""
    all_ids, all_words = [], []
    for row, text in enumerate(explained):
        if len(text.values) == 0:
            raise InputError(f"text {row} has no words: leave it out.")
        if not np.isfinite(text.values).all():
            raise InputError(f"text {row}: a value is not a finite number.")
        encoded = tokenizer(
            text.text, truncation=True, max_length=max_length, return_offsets_mapping=True
        )
        offsets = np.array(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)
        all_ids.append(tuple(encoded["input_ids"]))
        all_words.append(word_of_token(text.spans, offsets))
    return all_ids, all_words


def _without(
    ids: tuple[int, ...], gone: np.ndarray, removal: str, tokenizer: PreTrainedTokenizerBase
) -> tuple[int, ...]:
    if removal == "mask":
        return tuple(tokenizer.mask_token_id if g else i for i, g in zip(ids, gone, strict=True))
    return tuple(i for i, g in zip(ids, gone, strict=True) if not g)


def _scores(
    model: PreTrainedModel,
    ids: Sequence[tuple[int, ...]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    precision: str,
) -> np.ndarray:
    """(n,) log-odds of class 1 for texts given as token ids."""
    lengths = np.array([len(x) for x in ids], dtype=np.int64)
    flat = np.fromiter((i for x in ids for i in x), dtype=np.int32, count=int(lengths.sum()))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    full = lengths.astype(np.int32)
    encoded = Encoded(flat, offsets, full, int(tokenizer.pad_token_id), max_length)
    with quick_products(model):
        logits = predict(model, encoded, precision=precision)
    return log_odds(torch.from_numpy(logits.reshape(len(logits), -1))).numpy()


def _random_sets(word: np.ndarray, n: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """(n, T) bool, each token of a word with this chance, one of them for certain."""
    if not word.any():
        raise InputError("a text has no words: leave it out.")
    taken = (rng.random((n, len(word))) < share) & word
    some = rng.choice(np.flatnonzero(word), size=n)
    taken[np.arange(n), some] |= ~taken.any(axis=1)
    return taken
