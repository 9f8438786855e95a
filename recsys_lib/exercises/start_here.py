"""Exercises of notebook 00. Each check runs the reader's answer and names the mistake it makes.

A check prints one line, "✓ …" or "✗ …" with a hint about *this* answer, and returns whether the
answer is right.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recsys_lib.exercises.answers import as_array, examine, say

# --- 1: a wish of your own ------------------------------------------------------------------------

_EXAMPLES = ("something warm and waterproof for a hike", "something for a long run")
_CLEARLY = 0.2  # of NDCG@10


def check_wishes(
    encoder_wins: object,
    keywords_win: object,
    compare: Callable[[str], tuple[float, float]],
) -> bool:
    """Exercise 1: two wishes, one where the encoder is clearly better and one where keywords are.

    compare: gives a wish's NDCG@10 for the keyword search and for the encoder; raises ValueError
    where the market does not understand the wish.
    """
    wishes = {"encoder_wins": encoder_wins, "keywords_win": keywords_win}
    if all(wish is None for wish in wishes.values()):
        return say(False, "not answered yet: put one wish in words into each variable")
    for name, wish in wishes.items():
        if not isinstance(wish, str) or not wish.strip():
            kind = "nothing" if wish is None else type(wish).__name__
            example = f"such as {_EXAMPLES[0]!r}"
            return say(False, f"{name} must be a wish in words, {example}; got {kind}")
        if " ".join(wish.lower().split()) in _EXAMPLES:
            return say(False, f"{name} is an example above; find a wish of your own")
    gaps = {}
    for name, wish in wishes.items():
        try:
            by_keywords, by_encoder = compare(wish)
        except ValueError as error:
            return say(False, f"{name}: {error}")
        if not np.isfinite([by_keywords, by_encoder]).all():
            return say(False, f"{name}: no product of the market meets this wish; ask for less")
        gaps[name] = by_encoder - by_keywords
    wins, loses = gaps["encoder_wins"], gaps["keywords_win"]
    if wins <= -_CLEARLY and loses >= _CLEARLY:
        return say(False, "the right two wishes, in each other's place")
    if wins < _CLEARLY:
        return say(
            False,
            f"encoder_wins: NDCG of encoder minus keywords is {wins:+.2f}; {_CLEARLY:+.2f} is "
            "asked. Say it in words that no catalog uses: a situation, a feeling, a synonym",
        )
    if loses > -_CLEARLY:
        return say(
            False,
            f"keywords_win: NDCG of encoder minus keywords is {loses:+.2f}; "
            f"{-_CLEARLY:+.2f} is asked. Use rare words that stand in the catalog as they are",
        )
    return say(
        True, f"one wish for each: the encoder by {wins:+.2f}, the keywords by {-loses:+.2f}"
    )


# --- 2: the cosine --------------------------------------------------------------------------------


def _norm(x: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x, axis=-1)


_COSINE_MISTAKES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "that is the dot product; a long vector would win just by being long: divide by both lengths": (
        lambda q, x: x @ q
    ),
    "you divided by the items' lengths only; the query has a length too": (
        lambda q, x: x @ q / _norm(x)
    ),
    "you divided by the query's length only; each item has a length too": (
        lambda q, x: x @ q / _norm(q)
    ),
    "that is a distance: small means alike. The cosine is large where vectors point the same way": (
        lambda q, x: _norm(x - q)
    ),
    "you divided by the squared lengths; take the root: np.linalg.norm": (
        lambda q, x: x @ q / (_norm(x) ** 2 * _norm(q) ** 2)
    ),
    "you divided by the length of all items together; each row has its own: axis=1": (
        lambda q, x: x @ q / (np.linalg.norm(x) * _norm(q))
    ),
    "one minus the cosine is a distance; the cosine itself is asked": (
        lambda q, x: 1 - x @ q / (_norm(x) * _norm(q))
    ),
}


def check_cosine(answer: object) -> bool:
    """Exercise 2: `cosine(query, items)`, the cosine of (d,) with each row of (n, d)."""
    rng = np.random.default_rng(0)
    query, items = 2.5 * rng.normal(size=6), rng.normal(size=(5, 6)) * np.arange(1, 6)[:, None]
    right = items @ query / (_norm(items) * _norm(query))

    def check() -> bool:
        got = as_array(answer(query.copy(), items.copy()), (5,), "one cosine per item")
        if np.allclose(got, right, atol=1e-6):
            return say(True, "the angle decides, however long the vectors are")
        for hint, mistake in _COSINE_MISTAKES.items():
            if np.allclose(got, mistake(query, items), atol=1e-6):
                return say(False, hint)
        return say(False, f"for the first item it should be {right[0]:.4f}, not {got[0]:.4f}")

    return examine(answer, "cosine(query, items)", check)


# --- 3: the first useful product ------------------------------------------------------------------

_LISTS = (
    (np.array([0, 0, 2, 0, 3]), np.array([0.9, 0.8, 0.7, 0.2, 0.1])),
    (np.array([1, 0, 0, 3]), np.array([0.1, 0.4, 0.9, 0.5])),
    (np.array([0, 3, 0]), np.array([0.2, 0.9, 0.4])),
)


def _first_rank(gains: np.ndarray, order: np.ndarray) -> int:
    return int(np.flatnonzero(gains[order] > 0)[0]) + 1


def _best_first(scores: np.ndarray) -> np.ndarray:
    return np.argsort(-scores, kind="stable")


_RANK_MISTAKES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "that is the rank; its reciprocal is asked, so that 1 is best": (
        lambda g, s: _first_rank(g, _best_first(s))
    ),
    "np.argsort begins with the lowest score; search begins with the highest": (
        lambda g, s: 1 / _first_rank(g, np.argsort(s, kind="stable"))
    ),
    "the gains are still in the catalog's order; order them by score first": (
        lambda g, s: 1 / _first_rank(g, np.arange(len(g)))
    ),
    "that is where the best grade stands; the first product of any grade above 0 is asked": (
        lambda g, s: 1 / (int(np.flatnonzero(_best_first(s) == g.argmax())[0]) + 1)
    ),
    "ranks begin with 1: you have 1 / (rank + 1)": (
        lambda g, s: 1 / (_first_rank(g, _best_first(s)) + 1)
    ),
}


def check_reciprocal_rank(answer: object) -> bool:
    """Exercise 3: `reciprocal_rank(gains, scores)`, 1 / rank of the first product with a gain."""
    right = [1 / _first_rank(g, _best_first(s)) for g, s in _LISTS]

    def value(gains: np.ndarray, scores: np.ndarray) -> float:
        return float(as_array(answer(gains.copy(), scores.copy()), (), "one number"))

    def check() -> bool:
        got = [value(*case) for case in _LISTS]
        if not np.allclose(got, right):
            for hint, mistake in _RANK_MISTAKES.items():
                if np.allclose(got, [mistake(*case) for case in _LISTS]):
                    return say(False, hint)
            if np.isinf(got).any():
                return say(False, "you divide by zero: ranks begin with 1, positions with 0")
            at = int(np.flatnonzero(~np.isclose(got, right))[0])
            gains, scores = (x.tolist() for x in _LISTS[at])
            return say(
                False,
                f"for gains {gains} and scores {scores} it should be {right[at]:.3f}, "
                f"not {got[at]:.3f}",
            )
        if value(np.zeros(3, dtype=np.int64), np.array([0.3, 0.2, 0.1])) != 0:
            return say(False, "where no product has a gain, nothing useful was found: return 0")
        return say(True, "1 for a hit on top, ½ for one below it, 0 where there is none")

    return examine(answer, "reciprocal_rank(gains, scores)", check)


# --- 4: both searches at once ---------------------------------------------------------------------

_A = np.array([9.0, 0.0, 3.5, 7.0, 1.0])
_B = np.array([0.31, 0.55, 0.12, 0.64, 0.40])


def _ranks(scores: np.ndarray) -> np.ndarray:
    """1 for the highest score."""
    return np.argsort(np.argsort(-scores, kind="stable"), kind="stable") + 1


def _fused(ranks: Callable[[np.ndarray], np.ndarray], k: int) -> np.ndarray:
    return 1 / (k + ranks(_A)) + 1 / (k + ranks(_B))


_FUSE_MISTAKES: dict[str, Callable[[int], np.ndarray]] = {
    "these are the sums of the scores: the one on the larger scale decides alone; use ranks": (
        lambda k: _A + _B
    ),
    "one np.argsort gives who stands at each rank, not each product's rank: apply it twice": (
        lambda k: _fused(lambda s: np.argsort(-s, kind="stable") + 1, k)
    ),
    "your rank 1 goes to the lowest score; the highest must have it": (
        lambda k: _fused(lambda s: _ranks(-s), k)
    ),
    "your ranks begin with 0; they begin with 1": lambda k: _fused(lambda s: _ranks(s) - 1, k),
    "k is missing: without it the first place counts twice as much as the second": (
        lambda k: _fused(_ranks, 0)
    ),
    "that is the mean of the two; the sum is asked": lambda k: _fused(_ranks, k) / 2,
    "these are the summed ranks, where low is good; sum 1 / (k + rank)": (
        lambda k: (_ranks(_A) + _ranks(_B)).astype(float)
    ),
}


def check_fuse(answer: object) -> bool:
    """Exercise 4: `fuse(a, b, k=60)`, reciprocal rank fusion of two score vectors
    (Cormack, Clarke and Buettcher, SIGIR 2009)."""

    def check() -> bool:
        got = [as_array(answer(_A.copy(), _B.copy(), k), (5,), "one score each") for k in (60, 5)]
        right = [_fused(_ranks, k) for k in (60, 5)]
        if np.allclose(got, right, rtol=1e-6, atol=0):
            return say(True, "ranks can be added where scores cannot")
        for hint, mistake in _FUSE_MISTAKES.items():
            if np.allclose(got, [mistake(k) for k in (60, 5)], rtol=1e-6, atol=0):
                return say(False, hint)
        if np.allclose(got[0], right[0], rtol=1e-6, atol=0):
            return say(False, "right for k = 60 only: use the argument k")
        return say(
            False,
            f"the first product is 1st and 4th; with k = 5 it gets 1/6 + 1/9 = {right[1][0]:.4f}, "
            f"not {got[1][0]:.4f}",
        )

    return examine(answer, "fuse(a, b, k=60)", check)
