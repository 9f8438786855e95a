"""Exercise 3 of notebook 07: a permutation p value of a gap, and what typical mistakes give."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from recsys_lib.exercises.answers import Unfit, as_array, say

Groups = tuple[np.ndarray, np.ndarray]  # right or wrong (n,), group names (n,)
DRAWS, REFERENCE = 2_000, 20_000


def _products(seed: int, accuracy: dict[str, tuple[int, float]]) -> Groups:
    """One row per product, 1.0 where the model was right; so many of each group."""
    rng = np.random.default_rng(seed)
    right = [(rng.random(n) < p).astype(float) for n, p in accuracy.values()]
    names = np.repeat(list(accuracy), [n for n, _ in accuracy.values()])
    order = rng.permutation(len(names))
    return np.concatenate(right)[order], names[order]


_CASES = (
    _products(3, {"tops": (60, 0.9), "knits": (40, 0.85), "jackets": (12, 0.8), "lace": (9, 0.9)}),
    _products(5, {"young": (70, 0.75), "middle": (50, 0.8), "old": (40, 0.65)}),
)
_PLANTED = (np.repeat([1.0, 0.0], 15), np.repeat(["seen", "unseen"], 15))
_EQUAL = (np.ones(12), np.repeat(["a", "b"], 6))


def _means(right: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Mean of each group under each order of the groups: (n,), (orders, n) → (orders, G)."""
    is_group = code[..., None] == np.arange(code.max() + 1)
    return np.einsum("n,ong->og", right, is_group) / is_group[0].sum(axis=0)


@cache
def _shuffled(case: int) -> tuple[np.ndarray, np.ndarray]:
    """Group means as observed, (G,), and under `REFERENCE` random orders, (REFERENCE, G)."""
    right, names = _CASES[case]
    code = np.unique(names, return_inverse=True)[1]
    rng = np.random.default_rng(case)
    orders = [rng.permuted(np.tile(code, (1_000, 1)), axis=1) for _ in range(REFERENCE // 1_000)]
    return _means(right, code[None])[0], np.concatenate([_means(right, some) for some in orders])


def _share(by_chance: np.ndarray, observed: float) -> float:
    return float(np.mean(by_chance >= observed - 1e-12))


def _largest_gap(case: int) -> float:
    observed, means = _shuffled(case)
    return _share(np.ptp(means, axis=1), float(np.ptp(observed)))


def _the_two_found(case: int) -> float:
    observed, means = _shuffled(case)
    gap = means[:, observed.argmax()] - means[:, observed.argmin()]
    return _share(gap, float(np.ptp(observed)))


def _the_two_found_both_ways(case: int) -> float:
    observed, means = _shuffled(case)
    gap = np.abs(means[:, observed.argmax()] - means[:, observed.argmin()])
    return _share(gap, float(np.ptp(observed)))


_MISTAKES: dict[str, Callable[[int], float]] = {
    "the two groups were chosen because their gap is the largest; shuffled, chance may choose "
    "again: take largest − smallest anew in every order, or p is too small": _the_two_found,
    "you follow the two groups that are extreme in the data, in both directions; chance may choose "
    "among all groups: take largest − smallest anew in every order": _the_two_found_both_ways,
    "that is 1 − p: count the orders whose gap is at least as large as observed": (
        lambda case: 1 - _largest_gap(case)
    ),
    "the gap has one direction only, it is never negative: do not double p": (
        lambda case: min(1.0, 2 * _largest_gap(case))
    ),
    "the gap is never negative, so there is nothing to halve": (
        lambda case: _largest_gap(case) / 2
    ),
}


def judge_p_value(answer: Callable[..., object]) -> bool:
    """Print what is right or wrong about `answer(right, groups, n, seed)` → p.

    Raises Unfit for an answer of another kind.
    """

    def ask(case: Groups, n: int, seed: int) -> float:
        right, groups = case
        value = float(as_array(answer(right.copy(), groups.copy(), n, seed), (), "one p value"))
        if not 0 <= value <= 1:
            raise Unfit(f"a p value lies between 0 and 1; yours is {value:g}")
        return value

    got = np.array([ask(case, DRAWS, 0) for case in _CASES])
    wanted = np.array([_largest_gap(case) for case in range(len(_CASES))])
    if not _near(got, wanted):
        return say(False, _p_hint(got, wanted))
    hint = _edge_hint(ask)
    if hint:
        return say(False, hint)
    # Counts from 200 orders agree by chance about once in twenty times; all six hardly ever do.
    first, again = ([ask(_CASES[0], 200, seed) for seed in range(6)] for _ in range(2))
    if first != again:
        return say(False, "the same seed gave two p values: use np.random.default_rng(seed)")
    if len(set(first)) == 1:
        return say(False, "six seeds, one p value: nothing depends on the seed")
    gap, naive = np.ptp(_shuffled(0)[0]), _the_two_found_both_ways(0)
    return say(
        True,
        f"a gap of {gap:.2f} among four groups has p = {got[0]:.2f}: chance alone makes such gaps "
        f"where groups are small. Were those two groups chosen beforehand, p would be {naive:.2f}",
    )


def _near(got: np.ndarray, wanted: np.ndarray) -> bool:
    """Within four standard errors of `DRAWS` orders and of the reference."""
    error = np.sqrt(wanted * (1 - wanted) * (1 / DRAWS + 1 / REFERENCE))
    return bool((np.abs(got - wanted) < 4 * error + 1 / DRAWS).all())


def _p_hint(got: np.ndarray, wanted: np.ndarray) -> str:
    if (got == 1).all():
        return (
            "p = 1 every time: were `right` and `groups` shuffled together, or with the same "
            "order? Shuffle only one of them"
        )
    if (got < 2 / DRAWS).all():
        return (
            "almost no order reaches the observed gap: do you compare single products, or "
            "groups that were never shuffled?"
        )
    wrong = {
        hint: np.array([value(case) for case in range(len(_CASES))])
        for hint, value in _MISTAKES.items()
    }
    nearest = min(wrong, key=lambda hint: np.abs(got - wrong[hint]).max())
    if _near(got, wrong[nearest]):
        return nearest
    at = int(np.abs(got - wanted).argmax())
    return (
        f"case {at + 1}: about {wanted[at]:.3f} of the shuffled orders have a gap of "
        f"{np.ptp(_shuffled(at)[0]):.3f} or more; your p is {got[at]:.3f}"
    )


def _edge_hint(ask: Callable[[Groups, int, int], float]) -> str:
    """What is wrong where p is known exactly, or "": 19 orders, and no order reaches the gap."""
    planted = ask(_PLANTED, 19, 0)
    if planted == 0:
        return (
            "p = 0 from 19 orders would say that chance can never do it. The observed order is one "
            "of the possible ones too: (1 + count) / (1 + n)"
        )
    if np.isclose(planted, 1 / 19, atol=1e-9):
        return "the observed order is added above only: (1 + count) / (1 + n)"
    if not np.isclose(planted, 1 / 20, atol=1e-9):
        return (
            "where none of 19 shuffled orders reaches the gap, p is 1/20, as the observed order "
            f"counts; yours is {planted:.4f}"
        )
    equal = ask(_EQUAL, 19, 0)
    if not np.isclose(equal, 1, atol=1e-9):
        return (
            f"where all groups are equal, no gap is surprising: p = 1, not {equal:.2f}. Orders "
            "with the *same* gap count: >=, not >"
        )
    return ""
