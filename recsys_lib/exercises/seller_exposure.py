"""Exercise 4 of notebook 07: who gets seen, and what typical mistakes give instead."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recsys_lib.exercises.answers import as_array, recognize, say

Shown = tuple[np.ndarray, np.ndarray, np.ndarray]  # rankings (Q, K), relevance (Q, N), is_small (N)


def _shown(seed: int, n_queries: int, n_products: int, k: int, push: float) -> Shown:
    """Rankings by relevance, noise and a push for one group; some lists end early, with −1."""
    rng = np.random.default_rng(seed)
    relevance = rng.integers(0, 4, (n_queries, n_products))
    is_small = rng.random(n_products) < 0.4
    is_small[-1] = True
    scores = relevance + rng.normal(0, 1, relevance.shape) + push * is_small
    rankings = np.argsort(-scores, axis=1)[:, :k]
    rankings[: n_queries // 3, k - 2 :] = -1
    return rankings, relevance, is_small


_MARKETS = (_shown(10, 6, 12, 5, -0.8), _shown(11, 9, 15, 6, 0.7), _shown(12, 7, 10, 4, -0.3))


def _logarithmic(rank: np.ndarray) -> np.ndarray:
    return 1 / np.log2(1 + rank)


def _seen(
    case: Shown, attention: Callable[[np.ndarray], np.ndarray] = _logarithmic, empty: bool = False
) -> np.ndarray:
    """Attention that the small sellers, then the others, get in each query, (Q, 2)."""
    rankings, _, is_small = case
    weight = attention(np.arange(1.0, rankings.shape[1] + 1))
    there = (rankings >= 0) | empty  # with `empty`, −1 is the last product, as in Python
    return np.stack(
        [((is_small[rankings] == who) & there) @ weight for who in (True, False)], axis=1
    )


def _worth(case: Shown) -> np.ndarray:
    """Relevance of the small sellers' products, then of the others', in each query, (Q, 2)."""
    _, relevance, is_small = case
    return np.stack([relevance @ is_small, relevance @ ~is_small], axis=1).astype(float)


def _two(pair: np.ndarray) -> float:
    return float(pair[0] / pair[1])


def _per_worth(case: Shown, seen: np.ndarray) -> float:
    return _two(seen.sum(0) / _worth(case).sum(0))


def _worth_shown(case: Shown) -> float:
    rankings, relevance, is_small = case
    shown = np.zeros(relevance.shape, dtype=bool)
    for row, ranking in enumerate(rankings):
        shown[row, ranking[ranking >= 0]] = True
    return _per_worth((rankings, relevance * shown, is_small), _seen(case))


def _per_product(case: Shown) -> float:
    return _two(_seen(case).sum(0) / [case[2].sum(), (~case[2]).sum()])


def _share_ratio(case: Shown) -> float:
    seen, worth = _seen(case).sum(0), _worth(case).sum(0)
    return float(seen[0] / seen.sum() / (worth[0] / worth.sum()))


def _difference(case: Shown) -> float:
    seen, worth = _seen(case).sum(0), _worth(case).sum(0)
    return float(seen[0] / worth[0] - seen[1] / worth[1])


def _query_mean(case: Shown) -> float:
    ratios = _seen(case) / _worth(case)
    return float(np.mean(ratios[:, 0] / ratios[:, 1]))


def _relevant_or_not(case: Shown) -> float:
    return _per_worth((case[0], (case[1] > 0).astype(float), case[2]), _seen(case))


_EXPOSURE_MISTAKES: dict[str, Callable[[Shown], float]] = {
    "−1 marks an empty place; as an index it is the last product, which is then seen where nobody "
    "is": lambda c: _per_worth(c, _seen(c, empty=True)),
    "that compares the attention alone; divide each group's by its relevance: who has more that "
    "is wanted may be seen more": lambda c: _two(_seen(c).sum(0)),
    "divided by the number of products of each group; divide by their relevance": _per_product,
    "turned round: attention per relevance, the small sellers over the others, so that less than 1 "
    "means that they are seen too little": lambda c: 1 / _per_worth(c, _seen(c)),
    "every place gets the same attention there: 1 / log2(1 + rank)": (
        lambda c: _per_worth(c, _seen(c, np.ones_like))
    ),
    "the attention is 1 / log2(1 + rank), not 1 / rank": (
        lambda c: _per_worth(c, _seen(c, lambda rank: 1 / rank))
    ),
    "rank 1 comes first, with attention 1 / log2(2) = 1; yours begins one rank too late": (
        lambda c: _per_worth(c, _seen(c, lambda rank: 1 / np.log2(2 + rank)))
    ),
    "that is the mean of the ratios of single queries; add up attention and relevance over all "
    "queries first, a query with little relevance would count as much as any": _query_mean,
    "only the relevance of what was shown is counted; what a ranking leaves out must hurt: take "
    "all products": _worth_shown,
    "that is the share of attention over the share of relevance of the small sellers; divide it "
    "by the same of the others": _share_ratio,
    "that is a difference; the ratio is asked": _difference,
    "relevance has grades: add up the grades, not how many are above 0": _relevant_or_not,
}


def judge_exposure(answer: Callable[..., object]) -> bool:
    """Print what is right or wrong about `answer(rankings, relevance, is_small)` → ratio.

    Raises Unfit for an answer of another kind.
    """

    def ask(case: Shown) -> float:
        return float(as_array(answer(*(part.copy() for part in case)), (), "one number"))

    got = [ask(case) for case in _MARKETS]
    right = [_per_worth(case, _seen(case)) for case in _MARKETS]
    if np.allclose(got, right, rtol=1e-9):
        said = ", ".join(f"{value:.2f}" for value in right)
        return say(
            True,
            f"{said} in the three shops: below 1 the small sellers are seen less than their share "
            "of what is relevant. Whether 1 is what is owed to them, no number says",
        )
    if not np.isfinite(got).all():
        return say(False, "not a finite number: rank 1 comes first, and log2(1 + 1) = 1")
    mistakes = {
        hint: [mistake(case) for case in _MARKETS] for hint, mistake in _EXPOSURE_MISTAKES.items()
    }
    at = int(np.flatnonzero(~np.isclose(got, right, rtol=1e-9))[0])
    seen, worth = _seen(_MARKETS[at]).sum(0), _worth(_MARKETS[at]).sum(0)
    return say(
        False,
        recognize(got, mistakes)
        or f"case {at + 1}: the small sellers get attention {seen[0]:.2f} for a relevance of "
        f"{worth[0]:g}, the others {seen[1]:.2f} for {worth[1]:g}: {right[at]:.3f}, not "
        f"{got[at]:.3f}",
    )
