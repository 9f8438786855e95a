"""What is explained: a classifier's log-odds as a function of the vectors of its words.

The word-embedding layer looks every token up in a table. Its output is the first thing about a text
that can be changed a little, so it is where the methods attach: behind it come positions, layer
norm and all the layers, once, as in any forward pass.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recsys_lib.models import evaluating
from recsys_lib.text import Encoded, collate, encode, make_batches
from recsys_lib.workbook import InputError

BASELINES = ("pad", "mask", "zero", "average")

Score = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class ReadTexts:
    """Texts as the model reads them.

    Per text: tokens (T strings), offsets (T, 2) int64, the characters of each token, (0, 0) for a
    special one; special (T,) bool.
    """

    texts: tuple[str, ...]
    encoded: Encoded
    tokens: tuple[tuple[str, ...], ...]
    offsets: tuple[np.ndarray, ...]
    special: tuple[np.ndarray, ...]


def read_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_length: int,
) -> ReadTexts:
    """Tokenize, and say in a line what cannot be explained.

    Raises InputError for one string instead of a list, an empty text, a tokenizer that does not
    know where its tokens stand, or a limit above the model's positions.
    """
    if isinstance(texts, str):
        raise InputError("texts is one string: give a list of texts, [text]")
    if not getattr(tokenizer, "is_fast", False):
        raise InputError("the tokenizer does not say where its tokens stand: load a fast one")
    most = getattr(model.config, "max_position_embeddings", None)
    if most is not None and max_length > most:
        raise InputError(f"max_length={max_length}: the model has {most} positions")
    texts = tuple(texts)
    encoded = encode(tokenizer, texts, max_length=max_length)
    tokens, offsets, special = [], [], []
    for i, text in enumerate(texts):
        out = tokenizer(
            text,
            truncation=True,
            max_length=max_length,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            verbose=False,
        )
        marks = np.array(out["special_tokens_mask"], dtype=bool)
        if not text.strip() or marks.all():
            raise InputError(f"text {i} is empty: there is no word to attribute anything to")
        tokens.append(tuple(tokenizer.convert_ids_to_tokens(out["input_ids"])))
        offsets.append(np.array(out["offset_mapping"], dtype=np.int64).reshape(-1, 2))
        special.append(marks)
    return ReadTexts(texts, encoded, tuple(tokens), tuple(offsets), tuple(special))


def word_embedding(model: PreTrainedModel) -> torch.nn.Embedding:
    """The layer that turns token numbers into vectors.

    Raises InputError for a model that has none.
    """
    try:
        layer = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        layer = None
    if not isinstance(layer, torch.nn.Embedding):
        raise InputError(
            f"{type(model).__name__} has no word-embedding layer: looked for a torch.nn.Embedding "
            "in model.get_input_embeddings(); these methods explain models of text"
        )
    return layer


def log_odds(logits: torch.Tensor) -> torch.Tensor:
    """The log-odds of class 1, (n,), from (n, 1) or (n, 2) logits.

    One logit is a log-odds already; of two it is z₁ − z₀, which does not change its meaning along a
    path as the larger of two probabilities does.
    Raises InputError for a head with more classes.
    """
    if logits.shape[-1] == 1:
        return logits[:, 0]
    if logits.shape[-1] == 2:
        return logits[:, 1] - logits[:, 0]
    raise InputError(
        f"the classifier has {logits.shape[-1]} logits: explained is the log-odds of one class "
        "against one other; give a head with one or two logits"
    )


def score_of_vectors(model: PreTrainedModel) -> Score:
    """f(vectors, ids, mask) → log-odds (n,): the model with its word vectors replaced.

    vectors: (n, T, width), what the word-embedding layer is made to return. ids, mask: (n, T) int64
    as from the tokenizer; some models find a text's last token in them.
    """
    layer = word_embedding(model)

    def score(vectors: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hook = layer.register_forward_hook(lambda *_: vectors)
        try:
            return log_odds(model(input_ids=ids, attention_mask=mask).logits)
        finally:
            hook.remove()

    return score


def baseline_vector(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, baseline: str
) -> torch.Tensor:
    """The vector, (width,), that stands for "no word here".

    "pad" and "mask": that token's; "zero": the origin; "average": the mean over the vocabulary.
    Raises InputError for another name, and for a tokenizer without that token.
    """
    table = word_embedding(model).weight.detach()
    if baseline == "zero":
        return torch.zeros_like(table[0])
    if baseline == "average":
        return table.mean(dim=0)
    if baseline not in BASELINES:
        raise InputError(f"baseline={baseline!r}: allowed are {', '.join(map(repr, BASELINES))}")
    token = tokenizer.pad_token_id if baseline == "pad" else tokenizer.mask_token_id
    if token is None:
        raise InputError(f"baseline={baseline!r}: the tokenizer has no such token: take 'average'")
    return table[token]


@contextlib.contextmanager
def explaining(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode, and no gradients of parameters: only those of the words are wanted."""
    wanted = [p for p in model.parameters() if p.requires_grad]
    try:
        for parameter in wanted:
            parameter.requires_grad_(False)
        with evaluating(model), quick_products(model):
            yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def quick_products(model: torch.nn.Module, *, wanted: bool | None = None) -> Iterator[None]:
    """Inside, float32 linear layers on a processor multiply by oneDNN; same numbers to rounding.

    PyTorch multiplies float32 matrices by MKL, which leaves AVX-512 unused on processors that are
    not Intel's: half the speed that oneDNN reaches (215 against 424 billion operations a second on
    two cores of an AMD EPYC). A convolution of width 1 is the same product, goes through oneDNN and
    has a gradient. wanted: None, where it is quicker; True and False for tests.
    """
    if wanted is None:
        wanted = _leaves_vectors_unused()
    layers = [
        layer
        for layer in model.modules()
        if type(layer) is torch.nn.Linear
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype == torch.float32
        and "forward" not in vars(layer)  # not twice, and nobody else's is lost
    ]
    try:
        for layer in layers if wanted else ():
            layer.forward = functools.partial(_as_convolution, layer)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


@functools.cache
def _leaves_vectors_unused() -> bool:
    """An AMD processor with AVX-512, by what Linux says of it."""
    listed = Path("/proc/cpuinfo")
    known = listed.read_text(encoding="utf-8", errors="replace") if listed.is_file() else ""
    return "AuthenticAMD" in known and torch.backends.cpu.get_cpu_capability() == "AVX512"


def _as_convolution(layer: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """layer(x) for x (..., in): its rows are the pixels of one picture, channels last."""
    if torch.is_autocast_enabled("cpu"):  # in bf16 both ways lead through oneDNN
        return torch.nn.functional.linear(x, layer.weight, layer.bias)
    picture = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # (1, in, rows, 1)
    found = torch.nn.functional.conv2d(picture, layer.weight[:, :, None, None], layer.bias)
    return found.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


@dataclass(frozen=True)
class Batch:
    """Texts of like length: rows of `ReadTexts`; ids, mask: (n, T) int64; x and base:
    (n, T, width), the word vectors of the texts and of their baselines. Special tokens and
    padding are the same in both."""

    rows: np.ndarray
    ids: torch.Tensor
    mask: torch.Tensor
    x: torch.Tensor
    base: torch.Tensor


def batch_of(
    model: PreTrainedModel, read: ReadTexts, rows: np.ndarray, vector: torch.Tensor
) -> Batch:
    """The word vectors of some texts, and of baselines that keep their special tokens.

    vector: (width,), see `baseline_vector`.
    """
    device = vector.device
    batch = {key: value.to(device) for key, value in collate(read.encoded, rows).items()}
    keep = torch.ones(batch["input_ids"].shape, dtype=torch.bool)
    for i, row in enumerate(rows):
        keep[i, : len(read.special[row])] = torch.from_numpy(read.special[row])
    with torch.no_grad():
        x = word_embedding(model)(batch["input_ids"])
    base = torch.where(keep.to(device)[:, :, None], x, vector)
    return Batch(np.asarray(rows), batch["input_ids"], batch["attention_mask"], x, base)


def scores_and_baselines(
    model: PreTrainedModel, read: ReadTexts, vector: torch.Tensor, cells: int
) -> tuple[np.ndarray, np.ndarray]:
    """f(x) and f(baseline) of every text, (n,) float64 each.

    Raises InputError where the model gives something that is no number.
    """
    score, found = score_of_vectors(model), np.zeros((2, len(read.texts)))
    for rows in make_batches(read.encoded.lengths, max_tokens=cells, shuffle=False):
        batch = batch_of(model, read, rows, vector)
        with torch.no_grad():
            for side, vectors in enumerate((batch.x, batch.base)):
                found[side, rows] = score(vectors, batch.ids, batch.mask).cpu().double().numpy()
    bad = np.flatnonzero(~np.isfinite(found).all(axis=0))
    if len(bad):
        raise InputError(
            f"the model's score of text {bad[0]} is not a number: its weights are damaged or its "
            "training diverged"
        )
    return found[0], found[1]
