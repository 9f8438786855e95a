"""Exercise 3 of notebook 05: reciprocal rank fusion, and what typical mistakes give instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from recsys_lib.exercises.answers import Unfit, as_array, say

Pairs = Sequence[tuple[str, float]]  # product, score; best first

_BY_WORDS = (("P4", 14.2), ("P9", 11.0), ("P1", 7.5), ("P7", 3.3), ("P8", 2.1))
_BY_MEANING = (
    *(("P7", 0.83), ("P2", 0.79), ("P4", 0.74), ("P5", 0.52), ("P9", 0.50), ("P6", 0.48)),
    *(("P3", 0.31),),
)
_CASES = (
    ((_BY_WORDS, _BY_MEANING), 4),
    ((_BY_MEANING, _BY_WORDS[:3]), 6),
    ((_BY_WORDS, _BY_MEANING), 50),
)


def _best(total: dict[str, float], k: int | None) -> Pairs:
    return sorted(total.items(), key=lambda pair: -pair[1])[:k]


def _fused(rankings: Sequence[Pairs], k: int | None, give: Callable[[int, float], float]) -> Pairs:
    """The k best by the sum of what each list gives to a rank (from 1) and a score."""
    total: dict[str, float] = {}
    for ranking in rankings:
        for rank, (product, score) in enumerate(ranking, start=1):
            total[product] = total.get(product, 0.0) + give(rank, score)
    return _best(total, k)


def _rrf(rankings: Sequence[Pairs], k: int | None, constant: int = 60) -> Pairs:
    return _fused(rankings, k, lambda rank, score: 1 / (constant + rank))


def _in_all(rankings: Sequence[Pairs], k: int) -> Pairs:
    common = set.intersection(*({product for product, _ in ranking} for ranking in rankings))
    return [pair for pair in _rrf(rankings, None) if pair[0] in common][:k]


def _missing_last(rankings: Sequence[Pairs], k: int) -> Pairs:
    names = [product for product, _ in _rrf(rankings, None)]
    filled = []
    for ranking in rankings:
        rank = {product: place for place, (product, _) in enumerate(ranking, start=1)}
        filled.append({name: 1 / (60 + rank.get(name, len(ranking) + 1)) for name in names})
    return _best({name: sum(gives[name] for gives in filled) for name in names}, k)


def _last_wins(rankings: Sequence[Pairs], k: int) -> Pairs:
    total: dict[str, float] = {}
    for ranking in rankings:
        total |= {product: 1 / (60 + rank) for rank, (product, _) in enumerate(ranking, start=1)}
    return _best(total, k)


_MISTAKES: dict[str, Callable[[Sequence[Pairs], int], Pairs]] = {
    "your ranks begin with 0; the first product has rank 1": lambda r, k: _rrf(r, k, 59),
    "a product that one list lacks is dropped; it keeps what the other list gives it": _in_all,
    "you add up the scores: the list on the larger scale decides alone. Only ranks count": (
        lambda r, k: _fused(r, k, lambda rank, score: score)
    ),
    "you add up 1 / (60 + score); a list gives 1 / (60 + rank)": (
        lambda r, k: _fused(r, k, lambda rank, score: 1 / (60 + score))
    ),
    "the constant is missing: with 1 / rank the first place counts twice as much as the second": (
        lambda r, k: _rrf(r, k, 0)
    ),
    "k says how many products to return; the constant is 60": lambda r, k: _rrf(r, k, k),
    "a list gives nothing to a product it lacks; you give it a place behind the last": (
        _missing_last
    ),
    "you return all products; only the k best are asked": lambda r, k: _rrf(r, None),
    "the best product comes first: sort by falling fused score": (
        lambda r, k: _rrf(r, None)[::-1][:k]
    ),
    "cut at k after the fusion: a product beyond rank k of one list may be among the k best": (
        lambda r, k: _rrf([ranking[:k] for ranking in r], k)
    ),
    "that is the mean of what the lists give; the sum is asked": (
        lambda r, k: [(product, value / len(r)) for product, value in _rrf(r, k)]
    ),
    "a later list overwrites what an earlier one gave to the same product: add it": _last_wins,
}


def _as_pairs(value: object) -> Pairs:
    form = "return a list of pairs (product, fused score), best first"
    if value is None:
        raise Unfit(f"it returned nothing: {form}")
    if not isinstance(value, list | tuple):
        raise Unfit(f"{form}, not {type(value).__name__}")
    for pair in value:
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)):
            raise Unfit(f"{form}; yours holds {repr(pair)[:40]}")
    return [(product, float(as_array(score, (), "a fused score"))) for product, score in value]


def _same_pairs(given: Pairs, wanted: Pairs) -> bool:
    """The order of products with equal scores is free."""
    if len(given) != len(wanted) or {p for p, _ in given} != {p for p, _ in wanted}:
        return False
    by_name = [value for _, value in sorted(given)], [value for _, value in sorted(wanted)]
    by_rank = [value for _, value in given], [value for _, value in wanted]
    return all(np.allclose(*values, rtol=1e-9, atol=0) for values in (by_name, by_rank))


def judge_fusion(answer: Callable[..., object]) -> bool:
    """Print what is right or wrong about `answer(rankings, k)` → pairs (product, fused score).

    Raises Unfit for an answer of another kind.
    """

    def ask(rankings: Sequence[Pairs], k: int) -> Pairs:
        return _as_pairs(answer([list(ranking) for ranking in rankings], k))

    got = [ask(*case) for case in _CASES]
    right = [_rrf(*case) for case in _CASES]
    if all(map(_same_pairs, got, right)):
        return _judge_edges(ask)
    for hint, mistake in _MISTAKES.items():
        if all(map(_same_pairs, got, [mistake(*case) for case in _CASES])):
            return say(False, hint)
    return say(False, _difference(got, right))


def _difference(got: list[Pairs], right: list[Pairs]) -> str:
    if any(len(dict(pairs)) < len(pairs) for pairs in got):
        return "a product stands in your list twice: add up what the lists give to it"
    at = [_same_pairs(*both) for both in zip(got, right, strict=True)].index(False)
    names = [product for product, _ in got[at]]
    if set(names) != {product for product, _ in right[at]}:
        return (
            f"the {_CASES[at][1]} best of case {at + 1} are "
            f"{', '.join(product for product, _ in right[at])}; yours are "
            f"{', '.join(map(str, names)) or 'none'}"
        )
    given = dict(got[at])
    product, value = next(
        (p for p in right[at] if not np.isclose(given[p[0]], p[1], rtol=1e-9)), right[at][0]
    )
    if np.isclose(given[product], value, rtol=1e-9):
        return "the fused scores are right, their order is not: the highest comes first"
    ranks = [
        rank
        for ranking in _CASES[at][0]
        for rank, (name, _) in enumerate(ranking, start=1)
        if name == product
    ]
    terms = " + ".join(f"1/{60 + rank}" for rank in ranks)
    return f"{product} of case {at + 1} gets {terms} = {value:.5f}, not {given[product]:.5f}"


def _judge_edges(ask: Callable[[Sequence[Pairs], int], Pairs]) -> bool:
    try:
        empty = ask((_BY_MEANING, ()), 3)
    except Exception as error:  # the reader's code may raise anything
        return say(
            False,
            "right, but keywords that match nothing give an empty list, and there it raised "
            f"{type(error).__name__}",
        )
    if not _same_pairs(empty, _rrf((_BY_MEANING,), 3)):
        return say(False, "right, but where one list is empty, the other decides alone")
    three = (_BY_WORDS, _BY_MEANING, _BY_WORDS[1:3])
    try:
        given = ask(three, 3)
    except Exception:  # such as two names for three values
        given = []
    if not _same_pairs(given, _rrf(three, 3)):
        return say(
            False, "right for two rankings; `rankings` may hold three, and all of them count"
        )
    return say(True, "ranks can be added where scores cannot, and each list adds what it knows")
