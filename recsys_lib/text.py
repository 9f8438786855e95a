"""Text to tensors: encode once, batch texts of like length, pad only as far as the batch needs.

A transformer's work grows with the number of cells of its input tensor, padding included. So texts
are tokenized once, kept without padding, and put into batches with others of like length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from recsys_lib.workbook.errors import InputError

_CHUNK = 1_000  # texts handed to the tokenizer at a time: bounds the memory of its output
_POOL = 50  # batches' worth of shuffled rows that are sorted by length together


@dataclass(frozen=True)
class Encoded:
    """Tokenized texts, stored end to end without padding.

    ids: (total tokens,) int32, all texts one after the other.
    offsets: (n + 1,) int64; text i is `ids[offsets[i]:offsets[i + 1]]`.
    full_lengths: (n,) int32, tokens of each text before truncation, special tokens included.
    type_ids: (total tokens,) int8, 0 for a first and 1 for a second text; None for single texts.
    pad_id: the token that fills a batch up; max_length: the limit that was applied, in tokens.
    """

    ids: np.ndarray
    offsets: np.ndarray
    full_lengths: np.ndarray
    pad_id: int
    max_length: int
    type_ids: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text as stored, (n,) int64."""
        return np.diff(self.offsets)

    @property
    def truncated(self) -> np.ndarray:
        """Whether a text lost tokens to the limit, (n,) bool."""
        return self.full_lengths > self.lengths

    def take(self, rows: np.ndarray | Sequence[int]) -> Encoded:
        """The texts at positions `rows` (int or bool), in that order."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        cells = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        type_ids = None if self.type_ids is None else self.type_ids[cells]
        full = self.full_lengths[rows]
        return Encoded(self.ids[cells], offsets, full, self.pad_id, self.max_length, type_ids)


def _is_unicode(text: str) -> bool:
    """Whether all of it is characters; halves come of files decoded wrongly."""
    try:
        return text.isascii() or text.encode("utf-8") is not None
    except UnicodeEncodeError:
        return False


def encode(
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    *,
    max_length: int = 128,
    pairs: Iterable[str] | None = None,
) -> Encoded:
    """Tokenize `texts` (or pairs of texts) once, truncated to `max_length` tokens each.

    Raises InputError for something that is not a string, or not Unicode, or a limit the tokenizer
    cannot keep.
    A pair is shortened at its longer side first.
    """
    texts = list(texts)
    pairs = None if pairs is None else list(pairs)
    for side in (texts, pairs or []):
        for i, text in enumerate(side):
            if not isinstance(text, str):
                raise InputError(
                    f"text {i} is {type(text).__name__}, not a string: drop or fill missing texts"
                )
            if not _is_unicode(text):
                raise InputError(
                    f"text {i} has half a character (a lone surrogate): read its file as UTF-8"
                )
    if pairs is not None and len(pairs) != len(texts):
        raise InputError(
            f"{len(texts)} texts but {len(pairs)} pairs: give one second text for each"
        )
    special = tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    if max_length <= special:
        raise InputError(f"max_length={max_length}: needs more than the {special} special tokens")
    if tokenizer.pad_token_id is None:
        raise InputError("the tokenizer has no padding token: set tokenizer.pad_token")

    def call(rows: list[int], **options) -> dict:
        first = [texts[i] for i in rows]
        second = None if pairs is None else [pairs[i] for i in rows]
        return tokenizer(
            first, second, return_attention_mask=False, verbose=False, padding=False, **options
        )

    ids: list[list[int]] = []
    types: list[list[int]] = []
    full: list[int] = []
    for start in range(0, len(texts), _CHUNK):
        rows = list(range(start, min(start + _CHUNK, len(texts))))
        out = call(rows, truncation=False)
        chunk, chunk_types = out["input_ids"], out.get("token_type_ids")
        full += [len(x) for x in chunk]
        too_long = [i for i, x in enumerate(chunk) if len(x) > max_length]
        if too_long:  # only these are tokenized again, by the tokenizer's own rule for truncation
            cut = call([rows[i] for i in too_long], truncation=True, max_length=max_length)
            for j, i in enumerate(too_long):
                chunk[i] = cut["input_ids"][j]
                if chunk_types is not None:
                    chunk_types[i] = cut["token_type_ids"][j]
        ids += chunk
        if pairs is not None and chunk_types is not None:
            types += chunk_types
    lengths = np.array([len(x) for x in ids], dtype=np.int64)
    return Encoded(
        ids=np.fromiter((t for x in ids for t in x), dtype=np.int32, count=int(lengths.sum())),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        full_lengths=np.array(full, dtype=np.int32),
        pad_id=int(tokenizer.pad_token_id),
        max_length=max_length,
        type_ids=np.array([t for x in types for t in x], dtype=np.int8) if types else None,
    )


def make_batches(
    lengths: np.ndarray,
    *,
    batch_size: int | None = None,
    max_tokens: int | None = None,
    by_length: bool = True,
    shuffle: bool = True,
    seed: int = 0,
    epoch: int = 0,
) -> list[np.ndarray]:
    """Rows of each batch, as int64 arrays; every row exactly once.

    batch_size: rows per batch (32 if neither limit is given); max_tokens: the largest number of
    cells, rows × longest text, padding included (a single text above it gets a batch of its own).
    by_length: sort by length within pools of 50 batches, so that little is padded while the order
    stays random. shuffle=False keeps the order (sorted over all rows with `by_length`).

    The order follows from (seed, epoch) alone: a run can resume inside any epoch.
    """
    lengths = np.asarray(lengths)
    if batch_size is None and max_tokens is None:
        batch_size = 32
    for name, value in (("batch_size", batch_size), ("max_tokens", max_tokens)):
        if value is not None and value < 1:
            raise InputError(f"{name}={value}: must be at least 1")
    if len(lengths) == 0:
        return []
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths)) if shuffle else np.arange(len(lengths))
    if by_length:
        rows_per_batch = batch_size or max(1, int(max_tokens / max(1.0, lengths.mean())))
        pool = _POOL * rows_per_batch if shuffle else len(order)
        order = np.concatenate(
            [
                part[np.argsort(-lengths[part], kind="stable")]
                for part in (order[i : i + pool] for i in range(0, len(order), pool))
            ]
        )
    if max_tokens is None:
        batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    else:
        batches = _fill(order, lengths, max_tokens, batch_size or len(order))
    if shuffle and by_length:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches


def _fill(order: np.ndarray, lengths: np.ndarray, max_tokens: int, most: int) -> list[np.ndarray]:
    batches, start, longest = [], 0, 0
    for i, row in enumerate(order):
        longest = max(longest, int(lengths[row]))
        if i > start and ((i - start + 1) * longest > max_tokens or i - start >= most):
            batches.append(order[start:i])
            start, longest = i, int(lengths[row])
    batches.append(order[start:])
    return batches


def collate(
    encoded: Encoded,
    rows: np.ndarray | Sequence[int],
    *,
    pad_to: int | None = None,
    multiple_of: int = 1,
) -> dict[str, torch.Tensor]:
    """One batch: `input_ids` and `attention_mask`, (rows, T) int64; with `token_type_ids` of pairs.

    T is the longest text of the batch, rounded up to `multiple_of` but not above
    `encoded.max_length`, or `pad_to` tokens.
    Raises InputError if a text is longer than `pad_to`.
    """
    rows = np.asarray(rows, dtype=np.int64)
    lengths = encoded.lengths[rows]
    width = pad_to
    if width is None:
        width = min(int(-(-lengths.max() // multiple_of) * multiple_of), encoded.max_length)
    if lengths.max() > width:
        raise InputError(f"pad_to={pad_to}: a text of the batch has {lengths.max()} tokens")
    mask = np.arange(width) < lengths[:, None]
    starts = encoded.offsets[rows]
    cells = (starts[:, None] + np.arange(width))[mask]
    ids = np.full(mask.shape, encoded.pad_id, dtype=np.int64)
    ids[mask] = encoded.ids[cells]
    batch = {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask.astype(np.int64)),
    }
    if encoded.type_ids is not None:
        types = np.zeros(mask.shape, dtype=np.int64)
        types[mask] = encoded.type_ids[cells]
        batch["token_type_ids"] = torch.from_numpy(types)
    return batch


def padding_share(
    lengths: np.ndarray, batches: Sequence[np.ndarray], *, pad_to: int | None = None
) -> float:
    """Share of the batches' cells that are padding, in [0, 1].

    With `pad_to`, every text is padded (and longer ones are cut) to that many tokens.
    """
    lengths = np.asarray(lengths)
    if pad_to is not None:
        lengths = np.minimum(lengths, pad_to)
    cells = sum(len(rows) * (pad_to or int(lengths[rows].max())) for rows in batches)
    used = sum(int(lengths[rows].sum()) for rows in batches)
    return 1.0 - used / cells
