"""Exercises of notebook 05. Each check computes what typical mistakes would give.

A check prints one line, "✓ …" or "✗ …" with a hint about *this* answer, and returns whether the
answer is right.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from recsys_lib import metrics
from recsys_lib.exercises.answers import Unfit, as_array, examine, say
from recsys_lib.exercises.rank_fusion import judge_fusion
from recsys_lib.exercises.system_comparison import judge_decisions

# --- 1: NDCG with pencil and paper ----------------------------------------------------------------

SHOWN = (1, 0, 2, 2, 3, 1, 1, 3)  # grades in the order of the search
LEFT_OUT = (2, 3)  # grades of judged products that the search did not show

_GAINS = {"linear": lambda g: g, "2^g": np.exp2}
_DISCOUNTS = {
    "log2(rank)": lambda rank: 1 / np.maximum(1, np.log2(rank)),
    "log2(2 + rank)": lambda rank: 1 / np.log2(2 + rank),
    "1/rank": lambda rank: 1 / rank,
    "none": np.ones_like,
}


def _ndcg_at_5(
    gain: str = "", discount: str = "", ideal_of: str = "all", depths: tuple[int, int] = (5, 5)
) -> tuple[float, float]:
    """DCG of the list shown and of the ideal order, cut at `depths`."""
    to_gain = _GAINS.get(gain, lambda g: np.exp2(g) - 1)
    to_weight = _DISCOUNTS.get(discount, lambda rank: 1 / np.log2(1 + rank))
    shown = to_gain(np.array(SHOWN, dtype=float))
    pool = {"shown": shown, "five": shown[:5]}.get(
        ideal_of, to_gain(np.array(SHOWN + LEFT_OUT, dtype=float))
    )

    def dcg(gains: np.ndarray) -> float:
        return float(gains @ to_weight(np.arange(1.0, len(gains) + 1)))

    return dcg(shown[: depths[0]]), dcg(np.sort(pool)[::-1][: depths[1]])


def _ndcg_mistakes() -> dict[str, float]:
    dcg, ideal = _ndcg_at_5()

    def ratio(*args, **options) -> float:
        return float(np.divide(*_ndcg_at_5(*args, **options)))

    return {
        "the gain is 2^g − 1, not g itself": ratio("linear"),
        "the gain is 2^g − 1: a product of grade 0 gains nothing": ratio("2^g"),
        "that is ndcg_score of scikit-learn over the list shown: its gain is the grade itself, and "
        "its ideal knows only that list": ratio("linear", ideal_of="shown"),
        "the discount is 1/log2(1 + rank) with rank 1 first: you divide by log2(rank)": (
            ratio(discount="log2(rank)")
        ),
        "the discount is 1/log2(1 + rank) with rank 1 first, where log2(2) = 1: yours begins one "
        "rank too late": ratio(discount="log2(2 + rank)"),
        "the discount is 1/log2(1 + rank), not 1/rank": ratio(discount="1/rank"),
        "every rank counts the same there: divide by log2(1 + rank)": ratio(discount="none"),
        "your ideal knows only the list shown; what the search left out must hurt: take the best "
        "five of all ten judged products": ratio(ideal_of="shown"),
        "your ideal only reorders the five on top; take the best five of all ten judged products": (
            ratio(ideal_of="five")
        ),
        "only the first five ranks count, in the list and in the ideal": ratio(depths=(8, 10)),
        "the ideal is cut at 5 as well, or a perfect order cannot reach 1": ratio(depths=(5, 10)),
        "you count all eight shown; only the first five ranks count": ratio(depths=(8, 5)),
        "that is DCG: divide by the DCG of the ideal order": dcg,
        "that is DCG, and with the natural logarithm: take log2, and divide by the DCG of the "
        "ideal order (in the ratio the base of the logarithm cancels)": dcg / np.log(2),
        "that is the DCG of the ideal order: the list's own is divided by it": ideal,
        "that is the ideal DCG over the list's: turn the fraction round": ideal / dcg,
        "as a share, please: NDCG lies between 0 and 1": 100 * dcg / ideal,
    }


def check_ndcg_at_5(answer: object) -> bool:
    """Exercise 1: one number, NDCG@5 of the grades `SHOWN` where `LEFT_OUT` were judged too."""
    if answer is None:
        return say(False, "not answered yet: put a number into the variable")
    try:
        given = float(as_array(answer, (), "one number"))
    except Unfit as hint:
        return say(False, str(hint))
    if not np.isfinite(given):
        return say(False, "not a finite number: log2(1) = 0, so rank 1 is divided by log2(1 + 1)")
    dcg, ideal = _ndcg_at_5()
    if abs(given - dcg / ideal) < 0.002:
        return say(True, f"{dcg:.2f} of an ideal {ideal:.2f}: NDCG@5 = {dcg / ideal:.3f}")
    for hint, value in _ndcg_mistakes().items():
        if np.isclose(given, value, rtol=0.003, atol=0.002):
            return say(False, hint)
    gains = [2**g - 1 for g in SHOWN[:5]]
    return say(
        False,
        f"{given:g} is not it. The first five gains are {gains}; divide them by log2(2), …, "
        "log2(6) and add; then the same for the five best of all ten products",
    )


# --- 2: recall ------------------------------------------------------------------------------------


def _judged_list(n: int, relevant: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Grades of n products, so many of them above 0, and scores without ties that half know."""
    rng = np.random.default_rng(seed)
    grades = np.zeros(n, dtype=np.int64)
    grades[:relevant] = 1 + np.arange(relevant) % 3
    grades = rng.permutation(grades)
    return grades, grades + rng.normal(scale=2.0, size=n)


_RECALL_CASES = (
    (*_judged_list(12, 4, 1), 5),
    (*_judged_list(9, 7, 4), 3),
    (*_judged_list(20, 6, 6), 8),
)


def _top(grades: np.ndarray, scores: np.ndarray, k: int) -> np.ndarray:
    return grades[np.argsort(-scores)][:k]


_RECALL_MISTAKES: dict[str, Callable[[np.ndarray, np.ndarray, int], float]] = {
    "divided by k it is precision; recall divides by the number of relevant products": (
        lambda g, s, k: np.mean(_top(g, s, k) > 0)
    ),
    "divided by the smaller of k and the number of relevant products: here recall divides by all "
    "relevant ones, even where k are too few to hold them": (
        lambda g, s, k: np.sum(_top(g, s, k) > 0) / min(k, np.sum(g > 0))
    ),
    "grade 0 means not relevant: only grades of 1 and more count": lambda g, s, k: k / len(g),
    "np.argsort begins with the lowest score; search begins with the highest": (
        lambda g, s, k: np.sum(_top(g, -s, k) > 0) / np.sum(g > 0)
    ),
    "the grades are still in the catalog's order: sort by score first": (
        lambda g, s, k: np.sum(g[:k] > 0) / np.sum(g > 0)
    ),
    "only the top grade counts there; every grade of 1 and more is relevant": (
        lambda g, s, k: np.sum(_top(g, s, k) == g.max()) / np.sum(g == g.max())
    ),
    "grade 1 is relevant too: grades >= 1": (
        lambda g, s, k: np.sum(_top(g, s, k) > 1) / np.sum(g > 1)
    ),
    "you add up grades; recall counts products, whatever their grade above 0": (
        lambda g, s, k: np.sum(_top(g, s, k)) / np.sum(g)
    ),
    "1 where anything was found is the hit rate; recall asks how much of it": (
        lambda g, s, k: float(np.any(_top(g, s, k) > 0))
    ),
    "divided by the number of products; recall divides by the number of relevant ones": (
        lambda g, s, k: np.sum(_top(g, s, k) > 0) / len(g)
    ),
    "that is how many relevant products were found; divide by how many there are": (
        lambda g, s, k: float(np.sum(_top(g, s, k) > 0))
    ),
}


def check_recall_at_k(answer: object) -> bool:
    """Exercise 2: `recall_at_k(grades, scores, k)` of one query, as in `metrics.recall_at_k`."""

    def value(grades: np.ndarray, scores: np.ndarray, k: int) -> float:
        return float(as_array(answer(grades.copy(), scores.copy(), k), (), "one number"))

    def check() -> bool:
        got = [value(*case) for case in _RECALL_CASES]
        right = [metrics.recall_at_k(*case) for case in _RECALL_CASES]
        if not np.allclose(got, right, atol=1e-9):
            return say(False, _recall_hint(got, right))
        return _judge_recall_edges(value)

    return examine(answer, "recall_at_k(grades, scores, k)", check)


def _recall_hint(got: list[float], right: list[float]) -> str:
    for hint, mistake in _RECALL_MISTAKES.items():
        if np.allclose(got, [mistake(*case) for case in _RECALL_CASES], atol=1e-9):
            return hint
    at = int(np.flatnonzero(~np.isclose(got, right, atol=1e-9))[0])
    grades, scores, k = _RECALL_CASES[at]
    found, all_of_them = np.sum(_top(grades, scores, k) > 0), np.sum(grades > 0)
    return (
        f"case {at + 1}: the {k} highest scores hold {found} of {all_of_them} relevant products, "
        f"so {right[at]:.3f}, not {got[at]:.3f}"
    )


def _judge_recall_edges(value: Callable[[np.ndarray, np.ndarray, int], float]) -> bool:
    scores = np.array([0.3, 0.1, 0.2])
    try:
        beyond = value(np.array([0, 2, 1]), scores, 5)
    except IndexError:
        return say(False, "a list may hold fewer than k products: it is then taken whole")
    if not np.isclose(beyond, 1):
        return say(
            False,
            f"a list of 3 products with k = 5 is taken whole: recall 1, yours is {beyond:.3f}",
        )
    try:
        without = value(np.zeros(3, dtype=np.int64), scores, 2)
    except ZeroDivisionError:
        return say(False, "a query without a relevant product divides by 0: return NaN for it")
    if not np.isnan(without):
        return say(
            False,
            f"right but for a query without a relevant product: {without:g} would say how well "
            "something was found that does not exist. It has no value: NaN, to be left out of the "
            "mean and counted",
        )
    return say(True, "found over findable, NaN where there is nothing to find")


# --- 3: reciprocal rank fusion --------------------------------------------------------------------


def check_fuse(answer: object) -> bool:
    """Exercise 3: `fuse(rankings, k)`, reciprocal rank fusion with the constant 60 of lists of
    (product, score), best first; the k best as such a list (Cormack et al., SIGIR 2009)."""
    return examine(answer, "fuse(rankings, k)", lambda: judge_fusion(answer))


# --- 4: what may be a negative? -------------------------------------------------------------------

_BATCHES = (
    (
        np.array([3, 1, 3, 0, 5, 2, 4, 6, 5]),
        np.array([8, 2, 6, 2, 9, 7, 6, 8, 3]),
        frozenset({(5, 2), (2, 8), (4, 7), (3, 8), (0, 9), (6, 6), (9, 3), (99, 2)}),
    ),
    (np.array([0, 1, 2]), np.array([5, 5, 4]), frozenset({(2, 5)})),
    (np.array([0, 1]), np.array([7, 7]), frozenset()),
)

_OWN_HINTS = {
    "nothing": "a query's own product is right for it: the diagonal must be False",
    "the diagonal": "a query's own product may stand in another column once more: compare "
    "items[j] with items[i], not j with i",
    "the product": "a query that occurs twice in the batch has two right products there: all pairs "
    "of the batch are known to be relevant",
}
_RELEVANT_HINTS = {
    "unused": "`relevant` is not used: a product that is known to be right for a query would be "
    "pushed away from it",
    "turned round": "a pair of `relevant` is (query, item): you look for (item, query)",
}
_REPEAT_HINTS = {
    "all": "a product in two columns would be pushed away twice as hard: only its first column may "
    "serve",
    "none": "of a product in two columns you leave out both: the first column may serve",
    "last": "of a product in two columns the first one may serve; you keep the last",
}


def _negatives(
    queries: np.ndarray,
    items: np.ndarray,
    relevant: frozenset[tuple[int, int]],
    own: str = "all pairs",
    known: str = "used",
    repeats: str = "first",
) -> np.ndarray:
    """The mask with these mistakes, by default none."""
    pairs = list(zip(queries.tolist(), items.tolist(), strict=True))
    size = range(len(pairs))
    rights = {
        "nothing": lambda i, j: False,
        "the diagonal": lambda i, j: i == j,
        "the product": lambda i, j: items[i] == items[j],
        "all pairs": lambda i, j: (queries[i], items[j]) in pairs,
    }
    knows = {
        "unused": lambda i, j: False,
        "turned round": lambda i, j: (items[j], queries[i]) in relevant,
        "used": lambda i, j: (queries[i], items[j]) in relevant,
    }
    column = {
        "first": lambda j: items[j] not in items[:j],
        "last": lambda j: items[j] not in items[j + 1 :],
        "none": lambda j: np.sum(items == items[j]) == 1,
        "all": lambda j: True,
    }
    return np.array(
        [
            [column[repeats](j) and not rights[own](i, j) and not knows[known](i, j) for j in size]
            for i in size
        ]
    )


def _as_mask(value: object, size: int) -> np.ndarray:
    if value is None:
        raise Unfit("it returned nothing: return the mask, (B, B)")
    try:
        mask = np.asarray(value)
    except ValueError:
        raise Unfit("the rows of the mask have different lengths") from None
    if mask.shape != (size, size):
        raise Unfit(
            f"the mask has a row per query and a column per item, ({size}, {size}); yours has "
            f"shape {mask.shape}"
        )
    if mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
        raise Unfit("the mask must hold True and False only")
    return mask.astype(bool)


def check_may_be_negative(answer: object) -> bool:
    """Exercise 4: `may_be_negative(queries, items, relevant)`, (B, B), True where the product of
    column j may serve as a wrong answer for the query of row i (as `biencoder.make_batch` has it).
    """

    def check() -> bool:
        got = [_as_mask(answer(q.copy(), i.copy(), set(r)), len(q)) for q, i, r in _BATCHES]
        if all(map(np.array_equal, got, [_negatives(*batch) for batch in _BATCHES])):
            left = int(got[0].sum())
            size = len(got[0])
            return say(
                True,
                f"{left} of the {size * (size - 1)} in-batch negatives of the first batch are left",
            )
        return say(False, _negatives_hint(got))

    return examine(answer, "may_be_negative(queries, items, relevant)", check)


def _negatives_hint(got: list[np.ndarray]) -> str:
    tables = (_OWN_HINTS, _RELEVANT_HINTS, _REPEAT_HINTS)
    rights = ("all pairs", "used", "first")
    choices = [(right, *hints) for right, hints in zip(rights, tables, strict=True)]
    mixes = sorted(
        itertools.product(*choices),
        key=lambda mix: sum(map(str.__ne__, mix, rights)),
    )
    for mix in mixes:
        masks = [_negatives(*batch, *mix) for batch in _BATCHES]
        hints = [table[one] for table, one in zip(tables, mix, strict=True) if one in table]
        if all(map(np.array_equal, got, masks)):
            more = "" if len(hints) == 1 else f"{len(hints)} things are missing. The first: "
            return more + hints[0]
        if all(np.array_equal(mask, ~wanted) for mask, wanted in zip(got, masks, strict=True)):
            return "turned round: True must mean that the product may serve as a negative"
    wanted = [_negatives(*batch) for batch in _BATCHES]
    at = next(n for n, mask in enumerate(got) if not np.array_equal(mask, wanted[n]))
    i, j = np.argwhere(got[at] != wanted[at])[0]
    queries, items, relevant = _BATCHES[at]
    pair = (int(queries[i]), int(items[j]))
    if wanted[at][i, j]:
        why = "nothing is known to make it right"
    elif pair[1] in items[:j]:
        why = "an earlier column has the same product"
    else:
        why = "it is known to be right"
    return (
        f"with queries {queries.tolist()}, items {items.tolist()} and relevant {sorted(relevant)} "
        f"row {i}, column {j} must be {wanted[at][i, j]}: item {pair[1]} for query {pair[0]}, {why}"
    )


# --- 5: is B better? ------------------------------------------------------------------------------


def check_is_b_better(answer: object) -> bool:
    """Exercise 5: `is_b_better(a, b, seed)` of NDCG per query, (Q,) with NaN: mean of B − A, the
    ends of its paired 95 % interval over queries, and the verdict it allows: "better", "worse" or
    "open"."""
    return examine(answer, "is_b_better(a, b, seed)", lambda: judge_decisions(answer))


Check = Callable[[object], bool]
CHECKS: tuple[Check, ...] = (
    check_ndcg_at_5,
    check_recall_at_k,
    check_fuse,
    check_may_be_negative,
    check_is_b_better,
)
