"""Exercise 4 of notebook 06: the deletion curve, and what typical mistakes give instead."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recsys_lib.exercises.answers import Unfit, as_array, say

Score = Callable[[np.ndarray], float]
Curve = tuple[np.ndarray, float]


def _scorer(seed: int, n: int) -> tuple[Score, np.ndarray]:
    """A score of the words that are kept, in which pairs of words count too; attributions of it."""
    rng = np.random.default_rng(seed)
    alone = rng.normal(0.5, 1.0, n)
    together = np.triu(rng.normal(0, 0.6, (n, n)), 1)

    def score(kept: object) -> float:
        mask = np.asarray(kept)
        if mask.shape != (n,) or not np.isin(mask, (0, 1)).all():
            raise Unfit(
                f"score takes a mask of all {n} words, True where a word stays; you gave it "
                f"{' '.join(repr(kept).split())[:60]}"
            )
        mask = mask.astype(float)
        return float(np.tanh(0.4 * (alone @ mask + mask @ together @ mask)))

    return score, (alone + 0.3 * rng.normal(size=n)).round(3)


_CASES = tuple(_scorer(seed, n) for seed, n in ((1, 6), (2, 8), (3, 5)))


def _masks(order: np.ndarray) -> np.ndarray:
    """Row k keeps all words but the first k of the order, (W + 1, W)."""
    return np.argsort(order)[None, :] >= np.arange(len(order) + 1)[:, None]


def _curve(score: Score, order: np.ndarray) -> np.ndarray:
    return np.array([score(kept) for kept in _masks(order)])


def _area(curve: np.ndarray) -> float:
    return float((curve[1:] + curve[:-1]).mean() / 2)


def _falling(values: np.ndarray) -> np.ndarray:
    return np.argsort(-values, kind="stable")


def _one_at_a_time(score: Score, values: np.ndarray) -> np.ndarray:
    n, order = len(values), _falling(values)
    whole = score(np.ones(n))
    return np.array([whole, *(score(np.arange(n) != word) for word in order)])


_CURVE_MISTAKES: dict[str, Callable[[Score, np.ndarray], np.ndarray]] = {
    "np.argsort begins with the lowest attribution; the word that raised the score most goes "
    "first": lambda s, v: _curve(s, _falling(-v)),
    "the order is that of |attribution|: a word that pulls the score down then goes early, and the "
    "score rises; sort by the attribution itself": lambda s, v: _curve(s, _falling(np.abs(v))),
    "the words go in the order of the text; the attribution must decide": (
        lambda s, v: _curve(s, np.arange(len(v)))
    ),
    "that is insertion: you begin with no word and add the strongest first. Deletion begins with "
    "the whole text (does your mask say what is kept?)": (
        lambda s, v: np.array([s(~kept) for kept in _masks(_falling(v))])
    ),
    "each word is put back before the next one goes: words that left stay away": _one_at_a_time,
    "those are drops, score(all) − score(kept); the curve holds the scores themselves": (
        lambda s, v: s(np.ones(len(v))) - _curve(s, _falling(v))
    ),
    "the curve runs backwards: the whole text comes first": (
        lambda s, v: _curve(s, _falling(v))[::-1]
    ),
    "divided by the score of the whole text; leave the scores as they are": (
        lambda s, v: _curve(s, _falling(v)) / s(np.ones(len(v)))
    ),
}
_AREA_MISTAKES: dict[str, Callable[[np.ndarray], float]] = {
    "the curve is right, but its area is taken over the number of words: over the share of the "
    "words, 0 to 1, a step is 1/W wide, so that long and short texts compare": (
        lambda c: _area(c) * (len(c) - 1)
    ),
    "the curve is right; the mean of its points counts both ends in full. Trapezoids count them "
    "half": lambda c: float(c.mean()),
    "the curve is right; that is its sum": lambda c: float(c.sum()),
    "the curve is right; each step counts its left point only. Trapezoids take the mean of both": (
        lambda c: float(c[:-1].mean())
    ),
    "the curve is right; each step counts its right point only. Trapezoids take the mean of both": (
        lambda c: float(c[1:].mean())
    ),
    "the curve is right, but the area has the wrong sign": lambda c: -_area(c),
    "the curve is right; that is comprehensiveness, the mean drop from the whole text. The area "
    "under the curve is asked": lambda c: float(c[0] - c[1:].mean()),
    "the curve is right; that is the area above it, from the score of the whole text": (
        lambda c: float(c[0] - _area(c))
    ),
    "the curve is right; the steps are W = len(curve) − 1, not as many as there are points": (
        lambda c: _area(c) * (len(c) - 1) / len(c)
    ),
}


def _as_curve(value: object, n: int) -> Curve:
    form = "return two things, (curve, area)"
    if value is None:
        raise Unfit(f"it returned nothing: {form}")
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise Unfit(form)
    curve, area = value
    try:
        points = len(curve)
    except TypeError:
        points = None
    if points == n:
        raise Unfit(
            f"{n} words give {n + 1} points, from the whole text to no word at all; yours are {n}"
        )
    curve = as_array(curve, (n + 1,), "the curve")
    return curve, float(as_array(area, (), "the area, one number,"))


def judge_deletion(answer: Callable[..., object]) -> bool:
    """Print what is right or wrong about `answer(score, values)` → (curve, area).

    Raises Unfit for an answer of another kind.
    """

    def ask(score: Score, values: np.ndarray) -> Curve:
        return _as_curve(answer(score, values.copy()), len(values))

    got = [ask(*case) for case in _CASES]
    right = [_curve(score, _falling(values)) for score, values in _CASES]
    if not all(map(_close, (curve for curve, _ in got), right)):
        return say(False, _curve_hint([curve for curve, _ in got], right))
    areas = [area for _, area in got]
    if not np.allclose(areas, [_area(curve) for curve in right], atol=1e-9):
        for hint, mistake in _AREA_MISTAKES.items():
            if np.allclose(areas, [mistake(curve) for curve in right], atol=1e-9):
                return say(False, hint)
        return say(
            False,
            f"the curve is right; the area of case 1 is {_area(right[0]):.4f}, not {areas[0]:.4f}",
        )
    score, values = _scorer(4, 1)
    curve, area = ask(score, values)
    if not (_close(curve, _curve(score, _falling(values))) and np.isclose(area, _area(curve))):
        return say(False, "right, but a text of one word has a curve too: with it, and without")
    return say(
        True,
        f"area {np.mean(areas):.2f} on average; {_random_area():.2f} where the order is random. "
        "The lower, the better the attribution knew what held the score up",
    )


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.allclose(one, other, atol=1e-9))


def _random_area(orders: int = 50) -> float:
    rng = np.random.default_rng(0)
    return float(
        np.mean(
            [
                _area(_curve(score, rng.permutation(len(values))))
                for score, values in _CASES
                for _ in range(orders)
            ]
        )
    )


def _curve_hint(got: list[np.ndarray], right: list[np.ndarray]) -> str:
    for hint, mistake in _CURVE_MISTAKES.items():
        if all(map(_close, got, [mistake(*case) for case in _CASES])):
            return hint
    at = [_close(*both) for both in zip(got, right, strict=True)].index(False)
    k = int(np.flatnonzero(~np.isclose(got[at], right[at], atol=1e-9))[0])
    gone = [int(word) for word in _falling(_CASES[at][1])[:k]]
    return (
        f"case {at + 1}: without {f'words {gone}' if gone else 'a deletion'} the score is "
        f"{right[at][k]:.4f}, point {k} of your curve is {got[at][k]:.4f}"
    )
