"""Slips of the keyboard."""

from __future__ import annotations

from recsys_lib.datasets.market_random import Draw

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBORS = {
    letter: row[max(at - 1, 0) : at] + row[at + 1 : at + 2]
    for row in _ROWS
    for at, letter in enumerate(row)
}


def slip(word: str, draw: Draw) -> str:
    """The word with one slip: two letters swapped, one left out, doubled, or its neighbor hit.
    The first letter stays; words under three letters stay as they are."""
    if len(word) < 3:
        return word
    kind = draw.below(4)
    at = draw.between(1, len(word) - 1)
    if kind == 0:
        at = min(at, len(word) - 2)
        swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        if swapped != word:
            return swapped
        kind = 1
    if kind == 1:
        return word[:at] + word[at + 1 :]
    letter = word[at].lower()
    if kind == 2 or letter not in _NEIGHBORS:
        return word[:at] + word[at] + word[at:]
    return word[:at] + draw.pick(_NEIGHBORS[letter]) + word[at + 1 :]


def misspell(text: str, draw: Draw, *, min_length: int) -> str:
    """The text with a slip in one of its words of at least `min_length` letters, if it has one."""
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) >= min_length and word.isalpha()]
    if long:
        at = draw.pick(long)
        words[at] = slip(words[at], draw)
    return " ".join(words)
