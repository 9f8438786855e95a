"""Exercises of notebook 04. Each check runs the reader's function and names the mistake it makes.

A check prints one line, "✓ …" or "✗ …" with a hint, and returns whether the answer is right. Where
a mistake is typical, the check computes what that mistake would give, so that the hint is about
*this* answer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recsys_lib import metrics
from recsys_lib.exercises.answers import Unfit, as_array, examine, say

# --- 1: F1 of the minority class -----------------------------------------------------------------


def _decisions(share: float, seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Labels with this share of ones, and decisions that err more often on the rarer class."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < share).astype(np.int64)
    rare = labels == (share < 0.5)
    wrong = rng.random(n) < np.where(rare, 0.35, 0.05)
    return labels, np.where(wrong, 1 - labels, labels)


def _f1_of(name: str, labels: np.ndarray, predicted: np.ndarray) -> float:
    rarer = int(labels.mean() < 0.5)
    if name == "the larger class":
        return metrics.f1(labels, predicted, 1 - rarer)
    if name == "macro":
        return metrics.macro_f1(labels, predicted)
    if name == "accuracy":
        return metrics.accuracy(labels, predicted)
    p = metrics.precision(labels, predicted, rarer)
    r = metrics.recall(labels, predicted, rarer)
    return {"precision": p, "recall": r, "mean": (p + r) / 2}.get(
        name, metrics.f1(labels, predicted, rarer)
    )


_F1_HINTS = {
    "the larger class": "that is the F1 of the larger class; the rarer one is asked",
    "macro": "that is macro-F1, the mean over both classes; only the rarer one is asked",
    "accuracy": "that is accuracy, which the larger class dominates",
    "precision": "that is precision only; F1 also needs recall",
    "recall": "that is recall only; F1 also needs precision",
    "mean": "that is the arithmetic mean of precision and recall; F1 is the harmonic one",
}


def check_f1_minority(answer: object) -> bool:
    """Exercise 1: `f1_minority(labels, predicted)`, the F1 of the class that is rarer in labels."""
    mostly_ones, mostly_zeros = _decisions(0.85, 1), _decisions(0.15, 2)

    def value(case: tuple[np.ndarray, np.ndarray]) -> float:
        return float(as_array(answer(case[0].copy(), case[1].copy()), (), "one number"))

    def check() -> bool:
        got = [value(case) for case in (mostly_ones, mostly_zeros)]
        for name, hint in _F1_HINTS.items():
            if np.allclose(got, [_f1_of(name, *c) for c in (mostly_ones, mostly_zeros)], atol=1e-9):
                return say(False, hint)
        right = [_f1_of("right", *case) for case in (mostly_ones, mostly_zeros)]
        if not np.isclose(got[0], right[0], atol=1e-9):
            return say(False, f"with 15 % zeros it should give {right[0]:.4f}, not {got[0]:.4f}")
        if not np.isclose(got[1], right[1], atol=1e-9):
            return say(False, "right where 0 is the rarer class; here 1 is rarer: ask the labels")
        labels = np.array([1, 1, 1, 1, 0])
        if value((labels, np.ones(5, dtype=np.int64))) != 0:
            return say(False, "where nothing of the rarer class is found, F1 is 0, not undefined")
        return say(True, "the F1 of the rarer class, whichever it is, and 0 where none is found")

    return examine(answer, "f1_minority(labels, predicted)", check)


# --- 2: the threshold for another cost -----------------------------------------------------------


def _probabilities(seed: int, n: int = 1_000) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities that are too sure of themselves."""
    rng = np.random.default_rng(seed)
    z = rng.normal(1.0, 2.0, n)
    labels = (rng.random(n) < metrics.sigmoid(z)).astype(np.int64)
    return labels, np.round(metrics.sigmoid(1.7 * z + 0.8), 3)


def _cost(labels, probs, cut, cost_fp, cost_fn, strict: bool = False) -> float:
    called = probs > cut if strict else probs >= cut
    return float(np.mean(cost_fp * (called & (labels == 0)) + cost_fn * (~called & (labels == 1))))


def check_cheapest_threshold(answer: object) -> bool:
    """Exercise 2: `cheapest_threshold(labels, probs, cost_fp, cost_fn)`, the least mean cost."""
    labels, probs = _probabilities(3)
    cases = ((8.0, 1.0), (1.0, 4.0))

    def check() -> bool:
        got = [
            float(as_array(answer(labels.copy(), probs.copy(), *case), (), "one threshold"))
            for case in cases
        ]
        if not np.isfinite(got).all():
            raise Unfit("a threshold must be a finite number; above 1 it means: never decide 1")
        least = [metrics.best_threshold(labels, probs, cost_fp=a, cost_fn=b)[1] for a, b in cases]
        paid = [_cost(labels, probs, t, *c) for t, c in zip(got, cases, strict=True)]
        if np.allclose(paid, least, atol=1e-12):
            return say(True, f"the least cost, {least[0]:.3f} and {least[1]:.3f} for two prices")
        return say(False, _threshold_hint(labels, probs, got, paid, least, cases))

    return examine(answer, "cheapest_threshold(labels, probs, cost_fp, cost_fn)", check)


def _threshold_hint(labels, probs, got, paid, least, cases) -> str:
    swapped = [metrics.best_threshold(labels, probs, cost_fp=b, cost_fn=a)[1] for a, b in cases]
    as_swapped = [_cost(labels, probs, t, b, a) for t, (a, b) in zip(got, cases, strict=True)]
    strict = [_cost(labels, probs, t, *c, True) for t, c in zip(got, cases, strict=True)]
    formula = [a / (a + b) for a, b in cases]
    missed = f"it pays {paid[0]:.3f} per review where {least[0]:.3f} is possible"
    if np.allclose(got, formula, atol=1e-9):
        return (
            "c_FP / (c_FP + c_FN) is best for calibrated probabilities; these are too sure: look "
            f"for the least cost on the labels ({missed})"
        )
    if np.allclose(got, [1 - t for t in formula], atol=1e-9) or np.allclose(
        as_swapped, swapped, atol=1e-12
    ):
        return "the costs are swapped: cost_fp is the price of deciding 1 where the label is 0"
    if np.allclose(strict, least, atol=1e-12):
        return "you decide 1 where probs > t; the exercise decides 1 where probs >= t"
    if np.isclose(*got):
        return f"the same threshold for both prices: the costs must decide ({missed})"
    return missed


# --- 3: an interval that draws products ----------------------------------------------------------


def _clustered(seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """0/1 values that are alike within products, of 1 to 60 rows each, and the products."""
    rng = np.random.default_rng(seed)
    sizes = np.concatenate([rng.integers(1, 8, 60), rng.integers(30, 61, 12)])
    rates = np.where(sizes >= 30, rng.beta(2, 2, len(sizes)), 0.9)
    values = np.concatenate([rng.random(n) < p for n, p in zip(sizes, rates, strict=True)])
    products = np.repeat([f"P{i}" for i in range(len(sizes))], sizes)
    order = rng.permutation(len(values))
    return values[order].astype(float), products[order]


def _interval(values: np.ndarray, products: np.ndarray, kind: str, n: int, seed: int) -> np.ndarray:
    if kind == "rows":
        done = metrics.bootstrap_mean(values, n=n, seed=seed)
    elif kind == "product means":
        means = [values[products == name].mean() for name in np.unique(products)]
        done = metrics.bootstrap_mean(means, n=n, seed=seed)
    else:
        level = 0.9 if kind == "level" else 0.95
        done = metrics.bootstrap_mean(values, groups=products, n=n, level=level, seed=seed)
    return np.array([done.low, done.high])


_INTERVAL_HINTS = {
    "rows": "too narrow: you draw rows. Draw products, and take all rows of each drawn one",
    "product means": "each product counts once there; the accuracy counts rows: put the drawn "
    "products' rows together, then average",
    "level": "that is a 90 % interval: the middle 95 % lies between 2.5 % and 97.5 %",
}


def check_product_interval(answer: object) -> bool:
    """Exercise 3: `product_interval(right, products, n, seed)`, 95 % for the share of ones."""
    values, products = _clustered()
    reference = _interval(values, products, "right", 4_000, 0)

    def ask(seed: int) -> np.ndarray:
        # 1,000 resamples: each end has a standard error of about 3 % of the width.
        return as_array(answer(values.copy(), products.copy(), 1_000, seed), (2,), "(low, high)")

    def near(got: np.ndarray, wanted: np.ndarray, width: float) -> bool:
        return bool(np.abs(got - wanted).max() < 0.12 * width)

    def check() -> bool:
        first, other, again = ask(0), ask(1), ask(0)
        width = reference[1] - reference[0]
        if not first[0] < first[1]:
            return say(False, _degenerate(first))
        if not np.array_equal(first, again):
            return say(False, "the same seed gave two intervals: use np.random.default_rng(seed)")
        if np.array_equal(first, other):
            return say(False, "seeds 0 and 1 give the same interval: nothing depends on the seed")
        middle = (first + other) / 2
        level = _interval(values, products, "level", 4_000, 0)
        if np.abs(middle - reference).max() < np.abs(middle - level).max() and near(
            middle, reference, width
        ):
            naive = np.ptp(_interval(values, products, "rows", 1_000, 0))
            return say(True, f"products are drawn: width {np.ptp(first):.3f}, not {naive:.3f}")
        for kind, hint in _INTERVAL_HINTS.items():
            wanted = _interval(values, products, kind, 4_000, 0)
            if near(middle, wanted, wanted[1] - wanted[0]):
                return say(False, hint)
        wanted, found = (f"[{low:.2f}, {high:.2f}]" for low, high in (reference, middle))
        return say(False, f"expected about {wanted}, not {found}")

    return examine(answer, "product_interval(right, products, n, seed)", check)


def _degenerate(interval: np.ndarray) -> str:
    if np.isnan(interval).any():
        return "the interval has NaN: was a product drawn that has no rows?"
    if interval[0] == interval[1]:
        return "the interval has no width: draw with replacement, or every draw is the same"
    return "return (low, high), the lower end first"


# --- 4: NDCG when scores tie ---------------------------------------------------------------------


def _ndcg(grades: np.ndarray, scores: np.ndarray, k: int, bug: str = "") -> float:
    g = np.asarray(grades, dtype=float)
    gains = g if bug == "linear" else np.exp2(g) - (0 if bug == "2^g" else 1)
    order = np.argsort(-scores, kind="stable")
    order = order[::-1] if bug == "ascending" else order
    ranked, ideal = gains[order], np.sort(gains)[::-1]
    cut = len(g) if bug == "no k" else k
    ideal = np.sort(ranked[:cut])[::-1] if bug == "ideal of the top" else ideal
    if bug == "ideal not cut":
        top = ranked[:cut] @ _discount(cut, len(g), bug)
        return float(top / (ideal @ _discount(len(g), len(g), bug)))
    ranked, ideal = ranked[:cut], ideal[:cut]
    dcg = ranked @ _discount(cut, len(g), bug)
    return float(dcg if bug == "not normalized" else dcg / (ideal @ _discount(cut, len(g), bug)))


def _discount(cut: int, depth: int, bug: str) -> np.ndarray:
    ranks = np.arange(1, min(cut, depth) + 1)
    if bug == "1/rank":
        return 1 / ranks
    return np.ones(len(ranks)) if bug == "no discount" else 1 / np.log2(ranks + 1)


_NDCG_HINTS = {
    "linear": "the gain is 2^g − 1, not g itself",
    "2^g": "the gain is 2^g − 1: an item of grade 0 gains nothing",
    "ascending": "the highest score comes first: sort falling",
    "no k": "only the first k ranks count, in the list and in the ideal",
    "ideal of the top": "the ideal order may use all items of the list, not only the k you ranked "
    "first: what you left out must hurt",
    "ideal not cut": "the ideal is cut at k as well, or a perfect order cannot reach 1",
    "not normalized": "that is DCG: divide by the DCG of the best order",
    "1/rank": "the discount is 1/log2(1 + rank), not 1/rank",
    "no discount": "every rank counts the same there: divide by log2(1 + rank)",
}


def check_ndcg(answer: object) -> bool:
    """Exercise 4: `ndcg(grades, scores, k)`, the mean over all orders of items that tie."""
    rng = np.random.default_rng(11)
    cases = [(rng.integers(0, 4, 12), rng.normal(size=12), k) for k in (3, 5, 8)]
    ties = [(rng.integers(0, 4, 12), rng.integers(0, 3, 12).astype(float), k) for k in (3, 5, 8)]

    def value(grades, scores, k) -> float:
        return float(as_array(answer(grades.copy(), scores.copy(), k), (), "one number"))

    def check() -> bool:
        got = [value(*case) for case in cases]
        if np.allclose(got, [metrics.ndcg(*case) for case in cases], atol=1e-9):
            beyond = value(np.array([1, 3]), np.array([2.0, 1.0]), 5)
            if not np.isclose(beyond, metrics.ndcg([1, 3], [2.0, 1.0], 5), atol=1e-9):
                return say(False, "a k beyond the end of the list is the whole list")
            tied = [value(*case) for case in ties]
            if not np.allclose(tied, [metrics.ndcg(*case) for case in ties], atol=1e-9):
                return say(False, _tie_hint(tied, ties))
            return say(True, "it agrees with the library, with ties and for a k beyond the list")
        for bug, hint in _NDCG_HINTS.items():
            if np.allclose(got, [_ndcg(*case, bug) for case in cases], atol=1e-9):
                return say(False, hint)
        if not np.isfinite(got).all():
            return say(False, "not a finite number: the first rank is 1, and log2(1 + 1) = 1")
        wanted = metrics.ndcg(*cases[0])
        return say(False, f"NDCG@3 of the first case is {wanted:.4f}, not {got[0]:.4f}")

    return examine(answer, "ndcg(grades, scores, k)", check)


def _tie_hint(got: list[float], ties: list[tuple]) -> str:
    stored = [_ndcg(*case) for case in ties]
    turned = [_ndcg(grades[::-1], scores[::-1], k) for grades, scores, k in ties]
    if any(np.allclose(got, one, atol=1e-9) for one in (stored, turned)):
        return "right without ties; items of equal score stand as they came: take the mean instead"
    return (
        "right without ties; where scores tie, each of their ranks gains the mean gain of the tie"
    )


# --- 5: find the flaw ----------------------------------------------------------------------------


def flawed_report(valid_labels, valid_probs, test_labels, test_probs) -> float:
    """The evaluation that exercise 5 asks about: the accuracy it reports."""
    cuts = np.unique(test_probs)
    return max(metrics.accuracy(test_labels, test_probs >= cut) for cut in cuts)


def _accuracies(labels: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cuts = np.unique(probs)
    return cuts, np.array([np.mean((probs >= cut) == labels) for cut in cuts])


def _tuned(labels: np.ndarray, probs: np.ndarray) -> tuple[float, float]:
    """The range of thresholds between which the best accuracy is reached: (above, up to)."""
    cuts, values = _accuracies(labels, probs)
    return float(cuts[values == values.max()].min()), float(values.max())


def _small_parts(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Few rows, so that tuning on the test part shows."""
    rng = np.random.default_rng(seed)
    parts = []
    for n in (150, 60):
        labels = (rng.random(n) < 0.6).astype(np.int64)
        parts += [labels, metrics.sigmoid(1.2 * labels + rng.normal(0, 1, n))]
    return tuple(parts)


def _honest_range(parts) -> tuple[float, float]:
    """Lowest and highest test accuracy over all thresholds that are best on validation."""
    valid_labels, valid_probs, test_labels, test_probs = parts
    cuts, values = _accuracies(valid_labels, valid_probs)
    best = cuts[np.isclose(values, values.max())]
    tried = []
    for cut in best:
        below = valid_probs[valid_probs < cut]
        low = below.max() if len(below) else 0.0
        inside = test_probs[(test_probs > low) & (test_probs <= cut)]
        tried += [np.mean((test_probs >= t) == test_labels) for t in (*inside, cut, low + 1e-12)]
    return float(min(tried)), float(max(tried))


def check_honest_report(answer: object) -> bool:
    """Exercise 5: `honest_report(valid_labels, valid_probs, test_labels, test_probs)`, mended."""
    cases = [_small_parts(seed) for seed in range(20, 32)]
    names = ("valid_labels", "valid_probs", "test_labels", "test_probs")

    def check() -> bool:
        got = np.array(
            [
                float(as_array(answer(*[part.copy() for part in case]), (), "one accuracy"))
                for case in cases
            ]
        )
        honest = np.array([_honest_range(case) for case in cases])
        wrong = {
            "the threshold is still chosen on the test part: choose it on validation, then count "
            "once on test": [flawed_report(*case) for case in cases],
            "the threshold is right, but that accuracy is validation's: report the test part": [
                _tuned(*case[:2])[1] for case in cases
            ],
            "one half is honest but not chosen: take the best threshold of validation": [
                np.mean((case[3] >= 0.5) == case[2]) for case in cases
            ],
            "the threshold has seen the test part together with validation: it may see "
            "validation only": [_both(case) for case in cases],
        }
        for hint, values in wrong.items():
            if np.allclose(got, values, atol=1e-9):
                return say(False, hint)
        inside = (got >= honest[:, 0] - 1e-9) & (got <= honest[:, 1] + 1e-9)
        if inside.all():
            gap = np.mean([flawed_report(*case) for case in cases]) - got.mean()
            said = f"validation chooses, test counts once; the flaw was worth {gap:.3f} of accuracy"
            return say(True, said)
        low, high = honest[~inside][0]
        return say(
            False,
            f"with the threshold of validation the test accuracy of one case is between {low:.3f} "
            f"and {high:.3f}; yours is {got[~inside][0]:.3f}",
        )

    return examine(answer, f"honest_report({', '.join(names)})", check)


def _both(case) -> float:
    cut, _ = _tuned(np.concatenate(case[::2]), np.concatenate(case[1::2]))
    return float(np.mean((case[3] >= cut) == case[2]))


Check = Callable[[object], bool]
CHECKS: tuple[Check, ...] = (
    check_f1_minority,
    check_cheapest_threshold,
    check_product_interval,
    check_ndcg,
    check_honest_report,
)
