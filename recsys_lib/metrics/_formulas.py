"""The formulas of the ranking metrics: from sorted lists to one value per list.

Ties are taken in expectation over all orders of the tied. Where a metric is a sum over documents of
weight(rank) × value(grade), that is the mean value of the tie at each of its ranks. Average
precision needs the number of relevant documents expected ahead, and the metrics of a reader who
stops at the first good document need the probability that he gets so far, which for a tie is
the mean over its subsets. ``ranking`` says what each metric is.

Source: McSherry, Najork (2008), Computing information retrieval performance measures efficiently
in the presence of tied scores, ECIR.
"""

from __future__ import annotations

import itertools

import numpy as np

from recsys_lib.metrics._ranked import RankedLists, is_number

GAINS = ("exponential", "linear")
TOP_GRADE = {"exponential": 1000.0, "linear": 1e300}  # beyond, sums of gains overflow
CELLS_PER_BATCH = 2**20  # of the table of survival in mixed ties


def precision(lists: RankedLists, k: int) -> np.ndarray:
    if k is None:
        raise ValueError("k of the precision must be at least 1; got None")
    return _where_relevant(lists, _relevant_found(lists, k) / k)


def recall(lists: RankedLists, k: int | None) -> np.ndarray:
    return _ratio(_relevant_found(lists, k), lists.relevant)


def hit_rate(lists: RankedLists, k: int | None) -> np.ndarray:
    stops = _stops(lists, _survival_of_relevant(lists))
    return _where_relevant(lists, lists.sum_by_list(stops * _within(lists, k)))


def reciprocal_rank(lists: RankedLists, k: int | None) -> np.ndarray:
    stops = _stops(lists, _survival_of_relevant(lists))
    return _where_relevant(lists, lists.sum_by_list(stops * _within(lists, k) / lists.rank))


def average_precision(lists: RankedLists, k: int | None) -> np.ndarray:
    relevant = _relevant(lists)
    own = _sum_in_tie(lists, relevant)
    at = np.flatnonzero(own)  # the ranks that can hold a relevant document
    own, rank, tie, query = own[at], lists.rank[at], lists.tie[at], lists.query[at]
    size, place = lists.tie_size[tie], rank - lists.tie_first[tie]
    total = np.concatenate([[0.0], np.cumsum(relevant)])
    before_tie = total[at - place] - total[lists.offsets()[:-1]][query]
    # Of the documents ahead in the tie, expected relevant if the one at this rank is.
    ahead = place * (own - 1) / np.maximum(size - 1, 1)
    value = own / size * (before_tie + 1 + ahead) / rank
    if k is not None:
        value *= rank <= k
    return _ratio(np.bincount(query, value, lists.count), lists.relevant)


def dcg(lists: RankedLists, k: int | None, gain: str) -> np.ndarray:
    value = lists.mean_in_tie(_gain(lists.grade, gain)) / np.log2(1 + lists.rank)
    return lists.sum_by_list(value * _within(lists, k))


def ndcg(lists: RankedLists, k: int | None, gain: str) -> np.ndarray:
    best = _gain(lists.ideal[:, :k], gain)
    value = best / np.log2(np.arange(2, best.shape[1] + 2))
    # added up in the order of rank, as in dcg, so that the ideal order is worth 1 exactly
    query = np.repeat(np.arange(lists.count), best.shape[1])
    ideal = np.bincount(query, value.ravel(), lists.count)
    return np.minimum(_ratio(dcg(lists, k, gain), ideal), 1)


def rbp(lists: RankedLists, p: float, k: int | None) -> np.ndarray:
    if not (is_number(p) and 0 < p < 1):
        raise ValueError(f"p must be between 0 and 1; got {p}")
    weight = (1 - p) * p ** (lists.rank - 1.0) * _within(lists, k)
    return _where_relevant(lists, lists.sum_by_list(lists.mean_in_tie(_relevant(lists)) * weight))


def err(lists: RankedLists, k: int | None, max_grade: float) -> np.ndarray:
    highest = lists.ideal.max(initial=0)
    top = TOP_GRADE["exponential"]
    if not (is_number(max_grade) and 0 < max_grade <= top) or highest > max_grade:
        raise ValueError(
            f"max_grade must be the top of the grading scale, at most {top:g}; got {max_grade} for "
            f"grades up to {highest:g}"
        )
    refuses = 1 - np.expm1(lists.grade * np.log(2)) / 2.0**max_grade
    stops = _stops(lists, _survival_of_graded(lists, refuses, k))
    value = lists.sum_by_list(stops * _within(lists, k) / lists.rank)
    return np.where(lists.ideal.max(axis=1, initial=0) > 0, value, np.nan)


def judged(lists: RankedLists, k: int | None) -> np.ndarray:
    """For grades that say 1 for judged, 0 for not: the share of judged among the first k ranks."""
    within = _within(lists, k)
    found = lists.sum_by_list(lists.mean_in_tie(lists.grade) * within)
    return _ratio(found, lists.sum_by_list(within))


# ----------------------------------------------------------------------------- helpers


def _within(lists: RankedLists, k: int | None) -> np.ndarray:
    """1 for the ranks that count, else 0: ``(N,)``."""
    return np.ones(len(lists.rank)) if k is None else (lists.rank <= k).astype(np.float64)


def _relevant(lists: RankedLists) -> np.ndarray:
    return (lists.grade >= lists.threshold).astype(np.float64)


def _relevant_found(lists: RankedLists, k: int | None) -> np.ndarray:
    return lists.sum_by_list(lists.mean_in_tie(_relevant(lists)) * _within(lists, k))


def _sum_in_tie(lists: RankedLists, values: np.ndarray) -> np.ndarray:
    if len(lists.tie_size) == len(values):
        return values
    return np.bincount(lists.tie, values)[lists.tie]


def _gain(grade: np.ndarray, gain: str) -> np.ndarray:
    if gain not in GAINS:
        raise ValueError(f"gain is {gain!r}; it must be one of {GAINS}")
    if grade.max(initial=0) > TOP_GRADE[gain]:
        raise ValueError(
            f"grades must be at most {TOP_GRADE[gain]:g} for the {gain} gain; got "
            f"{grade.max():g}: give them on a smaller scale"
        )
    return np.exp2(grade) - 1 if gain == "exponential" else grade


def _ratio(value: np.ndarray, base: np.ndarray) -> np.ndarray:
    ratio = np.full(len(value), np.nan)
    return np.divide(value, base, out=ratio, where=base > 0)


def _where_relevant(lists: RankedLists, value: np.ndarray) -> np.ndarray:
    return np.where(lists.relevant > 0, value, np.nan)


def _stops(lists: RankedLists, factor: np.ndarray) -> np.ndarray:
    """The probability that the reader stops at each rank.

    ``factor``: the probability that he goes on behind a rank if he has come to it.
    """
    offsets = lists.offsets()
    lengths = np.diff(offsets)
    on = np.ones(len(factor))  # he comes to this rank
    if lists.count <= lengths.max(initial=0):
        for a, b in itertools.pairwise(offsets):
            if b > a:
                on[a + 1 : b] = np.cumprod(factor[a : b - 1])
    else:
        for rank in range(1, int(lengths.max(initial=0))):
            at = offsets[:-1][lengths > rank] + rank
            on[at] = on[at - 1] * factor[at - 1]
    return on * (1 - factor)


def _survival_of_relevant(lists: RankedLists) -> np.ndarray:
    """Factors for a reader who stops at the first relevant document.

    Of the ``left`` documents of the tie from this rank on, none taken before was relevant, so all
    relevant ones are among them.
    """
    own = _sum_in_tie(lists, _relevant(lists))
    left = lists.tie_size[lists.tie] - (lists.rank - lists.tie_first[lists.tie])
    return np.maximum(left - own, 0) / left


def _survival_of_graded(lists: RankedLists, refuses: np.ndarray, k: int | None) -> np.ndarray:
    """Factors for a reader who goes on behind a document with probability ``refuses``."""
    factor = refuses.copy()
    if len(lists.tie_size) == len(refuses):
        return factor
    start = np.cumsum(lists.tie_size) - lists.tie_size
    mixed = np.maximum.reduceat(refuses, start) > np.minimum.reduceat(refuses, start)
    if k is not None:
        mixed &= lists.tie_first <= k
    ties = np.flatnonzero(mixed)
    ties = ties[np.argsort(-lists.tie_size[ties], kind="stable")]
    while len(ties):
        longest = int(lists.tie_size[ties[0]])
        now, ties = np.split(ties, [max(1, CELLS_PER_BATCH // longest)])
        size = lists.tie_size[now]
        needed = longest
        if k is not None:
            needed = min(max(int(k) + 1 - int(lists.tie_first[now].min()), 1), longest)
        place = np.arange(longest)
        standing = place < size[:, None]
        cell = np.where(standing, start[now][:, None] + place, 0)
        survival = _mean_of_products(np.where(standing, refuses[cell], 1.0), size, needed)
        before, after = survival[:, :-1], survival[:, 1:]
        ratio = np.divide(after, before, out=np.zeros_like(after), where=before > 0)
        inside = standing[:, :needed]
        factor[cell[:, :needed][inside]] = ratio[inside]
    return factor


def _mean_of_products(values: np.ndarray, size: np.ndarray, needed: int) -> np.ndarray:
    """The mean over all subsets of 0 … needed members of a tie of the product of their values.

    Args:
        values: ``(T, M)``; only the first ``size`` of a row stand. Sizes do not rise.

    Returns:
        ``(T, needed + 1)``. Members are taken in one by one: of n members' subsets of j, a share
        of j/n holds the last one.
    """
    mean = np.zeros((len(values), needed + 1))
    mean[:, 0] = 1
    for n in range(1, values.shape[1] + 1):
        rows = int(np.searchsorted(-size, -n, side="right"))
        most = min(n, needed)
        share = np.arange(1, most + 1) / n
        without, ahead = mean[:rows, 1 : most + 1], mean[:rows, :most]
        mean[:rows, 1 : most + 1] = (1 - share) * without + share * values[:rows, n - 1 : n] * ahead
    return mean
