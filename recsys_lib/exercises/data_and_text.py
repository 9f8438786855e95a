"""Exercises of notebook 02. Each check computes what typical mistakes would give.

A check prints one line, "✓ …" or "✗ …" with a hint about *this* answer, and returns whether the
answer is right.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable

import numpy as np

from recsys_lib.exercises.answers import as_array, examine, say


def _number(value: object, name: str) -> float:
    """One finite number, or a ValueError that says what it is instead."""
    number = float(as_array(value, (), name))
    if not np.isfinite(number):
        raise ValueError(f"{name} is {number}")
    return number


# --- 1: how long must a text be allowed to be? ----------------------------------------------------

_LENGTHS = np.array([12, 5, 40, 31, 8, 22, 22, 64, 17, 9, 128, 33, 22, 51, 7, 90, 28, 14, 36, 45])
_SHARES = (0.0, 0.05, 0.12, 0.25, 0.5)


def _smallest_limit(lengths: np.ndarray, share: float) -> int:
    return next(n for n in np.sort(lengths) if np.mean(lengths > n) <= share)


def _limit_with_ties_cut(lengths: np.ndarray, share: float) -> int:
    return next(n for n in range(1, lengths.max() + 2) if np.mean(lengths >= n) <= share)


_LIMIT_MISTAKES: dict[str, Callable[[np.ndarray, float], float]] = {
    "a text of exactly `limit` tokens loses nothing: count lengths > limit, not >=": (
        _limit_with_ties_cut
    ),
    "`share` is what may be cut; you let that share stay whole": (
        lambda n, s: _smallest_limit(n, 1 - s)
    ),
    "np.quantile takes a value between two lengths; a limit in whole tokens needs the rule "
    "“at most `share` of the lengths are above it”": lambda n, s: np.quantile(n, 1 - s),
    "rounding the quantile down cuts more texts than allowed, rounding it up may keep too long a "
    "limit: go through the lengths": lambda n, s: int(np.quantile(n, 1 - s)),
    "rounding the quantile up gives a limit that is longer than needed: the smallest one is always "
    "the length of some text": lambda n, s: np.ceil(np.quantile(n, 1 - s)),
    "this limit cuts nothing for any share: it is the longest text": lambda n, s: n.max(),
}


def check_smallest_limit(answer: object) -> bool:
    """Exercise 1: `smallest_limit(lengths, share)`, the limit that cuts at most `share`."""

    def check() -> bool:
        given = [_number(answer(_LENGTHS.copy(), share), "the limit") for share in _SHARES]
        right = [_smallest_limit(_LENGTHS, share) for share in _SHARES]
        if np.allclose(given, right):
            return say(True, "the shortest limit that keeps the promise, for every share")
        for hint, mistake in _LIMIT_MISTAKES.items():
            if np.allclose(given, [mistake(_LENGTHS, share) for share in _SHARES]):
                return say(False, hint)
        i = int(np.flatnonzero(~np.isclose(given, right))[0])
        share, limit = _SHARES[i], given[i]
        cut = np.mean(limit < _LENGTHS)
        if cut > share:
            return say(
                False, f"your limit {limit:g} cuts {cut:.0%} of the texts; {share:.0%} may be"
            )
        return say(False, f"for a share of {share:.0%} a limit below your {limit:g} is enough")

    return examine(answer, "smallest_limit(lengths, share)", check)


# --- 2: what padding costs ------------------------------------------------------------------------


def _batches(lengths: np.ndarray, size: int) -> list[np.ndarray]:
    return [lengths[i : i + size] for i in range(0, len(lengths), size)]


def _padding(
    batches: list[np.ndarray], widths: list[float], rows: list[int] | None = None
) -> float:
    rows = [len(batch) for batch in batches] if rows is None else rows
    cells = sum(width * n for width, n in zip(widths, rows, strict=True))
    return 1 - sum(int(batch.sum()) for batch in batches) / cells


def _right_padding(lengths: np.ndarray, size: int) -> float:
    batches = _batches(lengths, size)
    return _padding(batches, [batch.max() for batch in batches])


def _mean_of_shares(lengths: np.ndarray, size: int) -> float:
    return float(np.mean([1 - b.mean() / b.max() for b in _batches(lengths, size)]))


def _last_dropped(lengths: np.ndarray, size: int) -> float:
    return _right_padding(lengths[: len(lengths) // size * size], size)


def _last_filled(lengths: np.ndarray, size: int) -> float:
    batches = _batches(lengths, size)
    return _padding(batches, [batch.max() for batch in batches], [size] * len(batches))


def _sorted_first(lengths: np.ndarray, size: int) -> float:
    return _right_padding(np.sort(lengths), size)


_PADDING_MISTAKES: dict[str, Callable[[np.ndarray, int], float]] = {
    "this is the share of cells that hold a token; padding is the rest": (
        lambda n, b: 1 - _right_padding(n, b)
    ),
    "you pad every batch to the longest text of all; each batch has its own longest": (
        lambda n, b: 1 - n.mean() / n.max()
    ),
    "a mean of the batches' shares counts a small batch like a large one: add up the cells first": (
        _mean_of_shares
    ),
    "the last, smaller batch is missing: its texts are work too": _last_dropped,
    "the last batch holds fewer texts: it is not filled up with empty rows": _last_filled,
    "that is the share for texts sorted by length; keep their order": _sorted_first,
    "this is the number of cells or tokens, not a share of all cells": (
        lambda n, b: sum(batch.max() * len(batch) - batch.sum() for batch in _batches(n, b))
    ),
}


def check_padding(answer: object) -> bool:
    """Exercise 2: `share_of_padding(lengths, batch_size)`, each batch padded to its longest."""
    cases = [(_LENGTHS, 3), (_LENGTHS, 7), (_LENGTHS[:9], 4)]

    def check() -> bool:
        given = [_number(answer(n.copy(), b), "the share") for n, b in cases]
        right = [_right_padding(n, b) for n, b in cases]
        if np.allclose(given, right, atol=1e-9):
            return say(True, f"{right[0]:.0%} of the cells of the first example are padding")
        for hint, mistake in _PADDING_MISTAKES.items():
            if np.allclose(given, [mistake(n, b) for n, b in cases], atol=1e-9):
                return say(False, hint)
        lengths, size = cases[0]
        return say(
            False,
            f"the lengths {lengths[:size].tolist()} fill a batch of {size} × "
            f"{lengths[:size].max()} cells; over all {len(lengths)} texts the share is "
            f"{right[0]:.3f}, yours {given[0]:.3f}",
        )

    return examine(answer, "share_of_padding(lengths, batch_size)", check)


# --- 3: when are two texts the same? --------------------------------------------------------------

_PAIRS = [
    ("Love this dress, so soft!", "love THIS dress so soft"),
    ("the fit is great and the color is great", "the color is great and the fit is great"),
    ("a b a b a c", "a b a d"),
    ("returned it the next day", "kept it for a year"),
    ("it runs small, order a size up", "it runs small so order one size up"),
]


def _words(text: str, *, lower: bool = True, strip: bool = True) -> list[str]:
    text = text.lower() if lower else text
    return re.findall(r"\w+", text) if strip else text.split()


def _pairs_of(words: list[str]) -> list[tuple[str, ...]]:
    return list(itertools.pairwise(words))


def _jaccard(a: list, b: list) -> float:
    return len(set(a) & set(b)) / len(set(a) | set(b))


def _by_pairs(a: str, b: str, **options: bool) -> float:
    return _jaccard(_pairs_of(_words(a, **options)), _pairs_of(_words(b, **options)))


def _overlap(a: str, b: str) -> float:
    one, two = (set(_pairs_of(_words(text))) for text in (a, b))
    return len(one & two) / min(len(one), len(two))


def _dice(a: str, b: str) -> float:
    one, two = (set(_pairs_of(_words(text))) for text in (a, b))
    return 2 * len(one & two) / (len(one) + len(two))


def _multiset(a: str, b: str) -> float:
    one, two = (Counter(_pairs_of(_words(text))) for text in (a, b))
    return sum((one & two).values()) / sum((one | two).values())


_SIMILARITY_MISTAKES: dict[str, Callable[[str, str], float]] = {
    "single words do not see their order: take pairs of neighboring words": (
        lambda a, b: _jaccard(_words(a), _words(b))
    ),
    "runs of three words are stricter than asked for: take two": (
        lambda a, b: _jaccard(
            *(list(zip(w, w[1:], w[2:], strict=False)) for w in map(_words, (a, b)))
        )
    ),
    "“Love” and “love” are the same word here: lower the case first": (
        lambda a, b: _by_pairs(a, b, lower=False)
    ),
    "“dress,” and “dress” are the same word here: leave the punctuation out": (
        lambda a, b: _by_pairs(a, b, strip=False)
    ),
    "lower the case and leave the punctuation out before you compare": (
        lambda a, b: _by_pairs(a, b, lower=False, strip=False)
    ),
    "divided by the smaller set, a short text inside a long one counts as equal: divide by the "
    "union": _overlap,
    "twice the common pairs over the sum of both is Dice's coefficient: divide by the union": _dice,
    "a pair that occurs twice counts once: compare sets": _multiset,
    "this is the distance; the similarity is one minus it": lambda a, b: 1 - _by_pairs(a, b),
}


def check_similarity(answer: object) -> bool:
    """Exercise 3: `similarity(a, b)`, the Jaccard similarity of the texts' word pairs."""

    def check() -> bool:
        given = [_number(answer(a, b), "the similarity") for a, b in _PAIRS]
        right = [_by_pairs(a, b) for a, b in _PAIRS]
        if np.allclose(given, right, atol=1e-9):
            return say(True, "equal texts get 1, different ones 0, and order counts")
        for hint, mistake in _SIMILARITY_MISTAKES.items():
            if np.allclose(given, [mistake(a, b) for a, b in _PAIRS], atol=1e-9):
                return say(False, hint)
        i = int(np.flatnonzero(~np.isclose(given, right, atol=1e-9))[0])
        return say(
            False,
            f"“{_PAIRS[i][0]}” and “{_PAIRS[i][1]}” share {right[i]:.3f} of their word pairs; you "
            f"say {given[i]:.3f}",
        )

    return examine(answer, "similarity(a, b)", check)


# --- 4: build the split ---------------------------------------------------------------------------


def _shop(n_products: int, rows: int, seed: int) -> np.ndarray:
    """Products of `rows` reviews with a heavy tail: a few have hundreds of reviews, most one."""
    weights = 1 / np.arange(1, n_products + 1)
    chosen = np.random.default_rng(seed).choice(n_products, rows, p=weights / weights.sum())
    return np.array([f"P{i}" for i in chosen], dtype=object)


def _as_mask(value: object, products: np.ndarray) -> np.ndarray:
    if value is None:
        raise ValueError("it returned nothing: is there a return?")
    mask = np.asarray(value)
    if mask.dtype.kind in "iuf" and mask.shape == products.shape and set(np.unique(mask)) <= {0, 1}:
        mask = mask.astype(bool)
    if mask.dtype != bool or mask.shape != products.shape:
        raise ValueError(
            f"return one truth value per row, shape {products.shape}; this has the shape "
            f"{mask.shape} and the type {mask.dtype}"
        )
    return mask


def check_test_rows(answer: object) -> bool:
    """Exercise 4: `test_rows(products, share, seed)`, true for the rows of the test part."""
    products = _shop(400, 3_000, seed=1)

    def check() -> bool:
        masks = [_as_mask(answer(products.copy(), 0.2, seed), products) for seed in (0, 1, 0)]
        first, other, again = masks
        if not first.any() or first.all():
            return say(False, "the test part is empty, or everything is in it")
        both = set(products[first]) & set(products[~first])
        if both:
            return say(
                False,
                f"{len(both)} products stand on both sides, {sorted(both)[0]} for one: choose "
                "products, then take all their rows",
            )
        if not np.array_equal(first, again):
            return say(False, "the same seed gave two splits: use np.random.default_rng(seed)")
        if np.array_equal(first, other):
            return say(False, "seeds 0 and 1 give the same split: nothing depends on the seed")
        return _judge_shares(answer, products)

    return examine(answer, "test_rows(products, share, seed)", check)


def _judge_shares(answer: Callable[..., object], products: np.ndarray) -> bool:
    seeds = range(10)
    rows = np.array([_as_mask(answer(products.copy(), 0.2, s), products).mean() for s in seeds])
    half = _as_mask(answer(products.copy(), 0.5, 0), products).mean()
    if np.abs(rows - 0.2).max() <= 0.05:
        if abs(half - 0.5) > 0.1:
            return say(False, f"a share of 0.5 gives {half:.2f} of the rows: use `share`")
        return say(True, "whole products, the share of rows asked for, and the seed decides")
    chosen = np.mean(
        [len(set(products[_as_mask(answer(products.copy(), 0.2, s), products)])) for s in seeds]
    ) / len(set(products))
    if abs(chosen - 0.2) < 0.02:
        return say(
            False,
            "a fifth of the products is not a fifth of the rows: over ten seeds your test part "
            f"holds {rows.min():.0%} to {rows.max():.0%} of them. Count rows while adding products",
        )
    return say(
        False,
        f"asked for 20 % of the rows, your test part holds {rows.min():.0%} to {rows.max():.0%} "
        "over ten seeds",
    )
