"""Word pieces to words, words to phrases: attributions are added up where people read.

A sum of attributions is the attribution of the group, because every method here shares one total
out. A value per word piece answers a question nobody asked: no reader knows "##tacular".
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recsys_lib.workbook import InputError

if TYPE_CHECKING:
    from recsys_lib.interpret.attribution import Attribution

# Letters and digits with their apostrophes and hyphens ("didn't", "well-made"), or one sign.
_WORD = re.compile(r"\w+(?:['’\-]\w+)*|[^\w\s]")


@dataclass(frozen=True)
class Words:
    """What each word of a text adds to the score.

    text: all of it. spans: (W, 2) int64, the first character of each word and the one behind its
    last. values: (W,) float64, in units of the score (log-odds). rest: what the special tokens
    took. truncated: the model did not read the text to its end, and the words behind are not here.
    """

    text: str
    spans: np.ndarray
    values: np.ndarray
    rest: float = 0.0
    truncated: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """(W,) the words as they stand in the text."""
        return tuple(self.text[start:end] for start, end in self.spans)

    def __len__(self) -> int:
        return len(self.values)


def word_spans(text: str) -> np.ndarray:
    """The words of a text, (W, 2) int64: runs of letters and digits, and single other signs."""
    spans = [match.span() for match in _WORD.finditer(text)]
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def word_of_token(spans: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The word in which each token begins, (T,) int64; −1 for a token in none (special ones).

    spans: (W, 2) as `word_spans` gives them. offsets: (T, 2), (0, 0) for special tokens.
    """
    starts, ends = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
    if not len(spans):
        return np.full(len(starts), -1, dtype=np.int64)
    index = np.searchsorted(spans[:, 0], starts, side="right") - 1
    # A token may begin with the space before its word, as byte-level tokenizers have it.
    after = np.minimum(index + 1, len(spans) - 1)
    outside = (index < 0) | (starts >= spans[index, 1])
    index = np.where(outside & (spans[after, 0] < ends), after, index)
    inside = (index >= 0) & (ends > starts) & (spans[index, 0] < ends) & (spans[index, 1] > starts)
    return np.where(inside, index, -1)


def by_word(attribution: Attribution) -> Words:
    """The word pieces of each word summed; the special tokens' share is kept in `rest`.

    Only words that the model has read are in the result: of a truncated text the first ones.
    The values and `rest` add up to the sum of the attribution.
    """
    spans = word_spans(attribution.text)
    index = word_of_token(spans, attribution.offsets)
    read = np.unique(index[index >= 0])
    sums = np.bincount(index[index >= 0], attribution.values[index >= 0], minlength=len(spans))
    rest = float(attribution.values[index < 0].sum())
    return Words(attribution.text, spans[read], sums[read], rest, attribution.truncated)


def by_phrase(words: Words, spans: np.ndarray) -> Words:
    """The words of each phrase summed, in the order of the text; all other words go to `rest`.

    spans: (P, 2), the characters of the phrases; a word belongs to the phrase that covers its
    first character.

    Raises InputError for phrases that overlap, are empty, lie outside the text or hold no word.
    """
    spans = np.asarray(spans, dtype=np.int64).reshape(-1, 2)
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    for start, end in spans:
        if not 0 <= start < end <= len(words.text):
            raise InputError(
                f"phrase ({start}, {end}) is not inside the text of {len(words.text)} characters"
            )
    for (_, end), (start, _) in itertools.pairwise(spans):
        if start < end:
            raise InputError(f"two phrases overlap at character {start}: give separate ones")
    begins = words.spans[:, 0]
    index = np.searchsorted(spans[:, 0], begins, side="right") - 1
    inside = (index >= 0) & (begins < spans[index, 1]) if len(spans) else index >= 0
    held = np.bincount(index[inside], minlength=len(spans))
    if (held == 0).any():
        start, end = spans[np.argmin(held)]
        raise InputError(f"phrase ({start}, {end}) holds no word that the model has read")
    sums = np.bincount(index[inside], words.values[inside], minlength=len(spans))
    rest = words.rest + float(words.values[~inside].sum())
    return Words(words.text, spans, sums, rest, words.truncated)
