"""Exercises of notebook 00. Each check computes what typical mistakes would give.

A check prints one line, "✓ …" or "✗ …" with a hint about *this* answer, and returns whether the
answer is right.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recsys_lib.exercises.answers import as_array, examine, say

# --- 1: how alike are two directions? -------------------------------------------------------------

_A = np.array([[3.0, 4.0], [1.0, 0.0], [0.5, -2.0]])
_B = np.array([[0.0, 2.0], [6.0, 8.0]])


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    return a @ b.T / lengths


_COSINE_MISTAKES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "these are dot products: a long vector wins because it is long; divide by both lengths": (
        lambda a, b: a @ b.T
    ),
    "only the first vectors' lengths are divided out": (
        lambda a, b: a @ b.T / np.linalg.norm(a, axis=1)[:, None]
    ),
    "only the second vectors' lengths are divided out": (
        lambda a, b: a @ b.T / np.linalg.norm(b, axis=1)
    ),
    "you divided by the squared lengths: take their square roots": (
        lambda a, b: a @ b.T / ((a**2).sum(1)[:, None] * (b**2).sum(1))
    ),
    "you divided by the length of the whole matrix: each row has a length of its own (axis=1)": (
        lambda a, b: a @ b.T / (np.linalg.norm(a) * np.linalg.norm(b))
    ),
    "these are distances: 0 means the same there, 1 means the same here": (
        lambda a, b: 1 - _cosines(a, b)
    ),
}


def check_cosines(answer: object) -> bool:
    """Exercise 1: `cosines(a, b)`, the cosine of every row of `a` with every row of `b`."""

    def check() -> bool:
        given = as_array(answer(_A.copy(), _B.copy()), (3, 2), "the cosines")
        if np.allclose(given, _cosines(_A, _B)):
            return say(True, "every row with every row, whatever their lengths")
        for hint, mistake in _COSINE_MISTAKES.items():
            if np.allclose(given, mistake(_A, _B)):
                return say(False, hint)
        return say(
            False,
            f"(3, 4) and (6, 8) point the same way: their cosine is 1; yours is {given[0, 1]:.3g}",
        )

    return examine(answer, "cosines(a, b)", check)


# --- 2: the best k --------------------------------------------------------------------------------

_SCORES = np.array([0.1, 0.7, 0.3, 0.7, -0.2, 0.9, 0.0])
_BEST = [5, 1, 3, 2]


def check_best(answer: object) -> bool:
    """Exercise 2: `best(scores, k)`, the places of the k highest scores, best first."""

    def check() -> bool:
        given = as_array(answer(_SCORES.copy(), 4), (4,), "the places")
        if given.tolist() == _BEST:
            few = np.asarray(answer(_SCORES[:2].copy(), 4), dtype=float)
            if few.tolist() != [1, 0]:
                return say(False, "of two products there are only two best, even for k = 4")
            return say(True, "best first, equal scores in the catalog's order")
        if np.allclose(given, np.sort(_SCORES)[::-1][:4]):
            return say(False, "these are the scores themselves; the places are asked (np.argsort)")
        if given.tolist() == np.argsort(_SCORES, kind="stable")[:4].tolist():
            return say(False, "these are the worst: argsort goes upwards; sort minus the scores")
        if given.tolist() == [5, 3, 1, 2]:
            return say(
                False,
                "products 1 and 3 are equally good and come out in reverse: turning an ascending "
                "order round turns ties too; sort minus the scores, with kind='stable'",
            )
        if sorted(given.tolist()) == sorted(_BEST):
            return say(False, "the right four, in another order: the best comes first")
        return say(False, f"of {_SCORES.tolist()} the best place is 5; yours is {given[0]:.0f}")

    return examine(answer, "best(scores, k)", check)


# --- 3: two rankings into one ---------------------------------------------------------------------

_KEYWORDS = np.array([0.0, 5.0, 2.0, 9.0])
_MEANING = np.array([0.8, 0.1, 0.9, 0.2])


def _places(scores: np.ndarray) -> np.ndarray:
    """1 for the highest score, 2 for the next, …; equal ones in the order of the catalog."""
    places = np.empty(len(scores))
    places[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return places


def _fused(a: np.ndarray, b: np.ndarray, constant: float = 60.0) -> np.ndarray:
    return 1 / (constant + _places(a)) + 1 / (constant + _places(b))


_FUSION_MISTAKES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "you added the scores; BM25's have another unit than cosines, so it decides alone. "
    "Add 1 / (60 + place)": lambda a, b: a + b,
    "places start at 1, yours at 0": lambda a, b: 1 / (59 + _places(a)) + 1 / (59 + _places(b)),
    "the constant 60 is missing: without it the first place of either list outweighs the rest": (
        lambda a, b: _fused(a, b, 0.0)
    ),
    "place 1 is the highest score; you numbered from the lowest": lambda a, b: _fused(-a, -b),
    "argsort gives the product at each place; the place of each product is its inverse": (
        lambda a, b: 1 / (61 + np.argsort(-a)) + 1 / (61 + np.argsort(-b))
    ),
    "you multiplied the two parts; fusion adds them": (
        lambda a, b: 1 / (60 + _places(a)) / (60 + _places(b))
    ),
}


def check_fusion(answer: object) -> bool:
    """Exercise 3: `fuse(a, b)`, reciprocal rank fusion of two lists of scores, constant 60.

    Cormack, Clarke & Büttcher (2009), "Reciprocal rank fusion outperforms Condorcet and individual
    rank learning methods", SIGIR.
    """

    def check() -> bool:
        given = as_array(answer(_KEYWORDS.copy(), _MEANING.copy()), (4,), "the fused scores")
        if np.allclose(given, _fused(_KEYWORDS, _MEANING), rtol=1e-9, atol=0):
            return say(True, "places, not scores: two rankings that share no unit become one")
        for hint, mistake in _FUSION_MISTAKES.items():
            if np.allclose(given, mistake(_KEYWORDS, _MEANING), rtol=1e-9, atol=0):
                return say(False, hint)
        return say(
            False,
            "product 3 is 1st by keywords and 3rd by meaning: 1/61 + 1/63 = "
            f"{1 / 61 + 1 / 63:.5f}; yours is {given[3]:.5f}",
        )

    return examine(answer, "fuse(a, b)", check)
