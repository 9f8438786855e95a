"""Exercise 5 of notebook 05: what a reader says of B against A, held against what may be said."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recsys_lib import metrics
from recsys_lib.exercises.answers import Unfit, as_array, say

VERDICTS = ("better", "worse", "open")


def _two_systems(gap: float, seed: int, n: int = 240) -> tuple[np.ndarray, np.ndarray]:
    """NDCG per query: hard queries are hard for both. One query in seven has no value."""
    rng = np.random.default_rng(seed)
    easy = rng.beta(2, 1.5, n)
    a, b = (np.clip(easy + shift + rng.normal(0, 0.05, n), 0, 1) for shift in (0, gap))
    nothing = rng.permutation(n) < n // 7
    return np.where(nothing, np.nan, a), np.where(nothing, np.nan, b)


_SYSTEMS = tuple(
    _two_systems(gap, seed) for gap, seed in ((0.03, 1), (-0.025, 2), (0.004, 11), (0.02, 4))
)
_WIDTHS = {  # of the normal distribution, relative to 95 %
    "90 %": 1.645 / 1.96,
    "99 %": 2.576 / 1.96,
    "one error": 1 / 1.96,
}
_WIDTH_HINTS = {
    "90 %": "too narrow: that is a 90 % interval. The middle 95 % lies between 2.5 % and 97.5 %",
    "99 %": "too wide: that is a 99 % interval. The middle 95 % lies between 2.5 % and 97.5 %",
    "one error": "too narrow: one standard error to each side holds two thirds; 95 % need 1.96",
    "unpaired": "too wide: you draw the queries of A and of B apart. Both answered the same "
    "queries: take the difference of each query first, then draw queries",
    "queries": "that is where single queries lie; the interval of their mean is asked, which "
    "narrows with the number of queries",
}


def judge_decisions(answer: Callable[..., object]) -> bool:
    """Print what is right or wrong about `answer(a, b, seed)` → (difference, low, high, verdict).

    Raises Unfit for an answer of another kind.
    """

    def ask(case: int) -> tuple[np.ndarray, str]:
        a, b = _SYSTEMS[case]
        return _as_decision(answer(a.copy(), b.copy(), 0))

    decisions = [ask(case) for case in range(len(_SYSTEMS))]
    numbers = np.array([given for given, _ in decisions])
    right = np.array([_reference(*case) for case in _SYSTEMS])
    hint = _difference_hint(numbers, right) or _interval_hint(numbers, right)
    if hint:
        return say(False, hint)
    for (_, low, high), (_, verdict) in zip(numbers, decisions, strict=True):
        allowed = "better" if low > 0 else "worse" if high < 0 else "open"
        if verdict != allowed:
            return say(False, _verdict_hint(low, high, verdict, allowed))
    if not np.array_equal(ask(0)[0], numbers[0]):
        return say(False, "the same seed gave two intervals: use np.random.default_rng(seed)")
    difference, low, high = numbers[0]
    return say(
        True,
        f"paired, the first difference is {difference:+.3f} [{low:+.3f}, {high:+.3f}]; with the "
        f"queries of A and B drawn apart it is ± {_unpaired_width(*_SYSTEMS[0]) / 2:.3f}, as how "
        "hard the queries are does not cancel",
    )


def _reference(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    e = metrics.compare_queries(b, a, n=4_000).difference
    return e.value, e.low, e.high


def _unpaired_width(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * 1.96 * float(np.sqrt((np.nanvar(a) + np.nanvar(b)) / np.sum(~np.isnan(a))))


def _as_decision(value: object) -> tuple[np.ndarray, str]:
    form = "return (difference, low, high, verdict)"
    if value is None:
        raise Unfit(f"it returned nothing: {form}")
    if not isinstance(value, tuple | list):
        raise Unfit(f"{form}, not {type(value).__name__}")
    if len(value) != 4:
        lacks = "; a difference without an interval decides nothing" * (len(value) == 2)
        raise Unfit(f"{form}, not {len(value)} values{lacks}")
    numbers = np.array([as_array(number, (), "difference, low and high") for number in value[:3]])
    if not isinstance(value[3], str) or value[3] not in VERDICTS:
        raise Unfit(f"the verdict must be one of {', '.join(map(repr, VERDICTS))}")
    return numbers, value[3]


def _difference_hint(numbers: np.ndarray, right: np.ndarray) -> str:
    """What is wrong with the mean differences, or ""."""
    if np.isnan(numbers).any():
        return "NaN: a query without a relevant product has no value; leave it out of A and B"
    given, wanted = numbers[:, 0], right[:, 0]
    slack = 0.05 * (right[:, 2] - right[:, 1])  # a mean of resamples is as good
    if (np.abs(given - wanted) < slack).all():
        return ""
    if (np.abs(given + wanted) < slack).all():
        return "turned round: the difference is B − A, above 0 where B is better"
    zeros = [np.mean(np.nan_to_num(b) - np.nan_to_num(a)) for a, b in _SYSTEMS]
    if (np.abs(given - zeros) < slack).all():
        return (
            "queries without a value count as 0 there, which draws the difference towards 0: leave "
            "them out"
        )
    at = int(np.argmax(np.abs(given - wanted) / slack))
    return f"the mean of B − A in case {at + 1} is {wanted[at]:.4f}, not {given[at]:.4f}"


def _interval_hint(numbers: np.ndarray, right: np.ndarray) -> str:
    """What is wrong with the intervals, or ""; 1,000 resamples move a width by about 4 %."""
    low, high = numbers[:, 1], numbers[:, 2]
    width, wanted = high - low, right[:, 2] - right[:, 1]
    if (width < 0).any():
        return "return the lower end first: (difference, low, high, verdict)"
    if (width == 0).any():
        return (
            "no interval: low and high are the same. A difference without its uncertainty decides "
            "nothing; draw queries with replacement"
        )
    ratios = {"right": np.ones(len(wanted))}
    ratios |= {kind: np.full(len(wanted), width) for kind, width in _WIDTHS.items()}
    ratios["unpaired"] = [_unpaired_width(*case) for case in _SYSTEMS] / wanted
    single = [2 * 1.96 * np.nanstd(b - a) for a, b in _SYSTEMS]
    ratios["queries"] = single / wanted
    gaps = {kind: float(np.mean(np.log(width / wanted / r))) for kind, r in ratios.items()}
    kind = min(gaps, key=lambda name: abs(gaps[name]))
    if abs(gaps[kind]) < 0.15 and kind != "right":
        return _WIDTH_HINTS[kind]
    off = np.abs((low + high) / 2 - right[:, 1:].mean(axis=1)) / wanted
    if abs(gaps[kind]) < 0.15 and off.max() < 0.15:
        return ""
    at = int(np.argmax(off + np.abs(np.log(width / wanted))))
    expected, found = (f"[{a:.3f}, {b:.3f}]" for a, b in (right[at, 1:], (low[at], high[at])))
    return f"the interval of case {at + 1} should be about {expected}, not {found}"


def _verdict_hint(low: float, high: float, verdict: str, allowed: str) -> str:
    interval = f"[{low:.3f}, {high:.3f}]"
    if allowed == "open":
        return (
            f"your interval {interval} covers 0, so the verdict is 'open', whatever the sign of "
            "the mean"
        )
    if verdict == "open":
        return f"your interval {interval} does not cover 0: B is {allowed}"
    return f"your interval {interval} of B − A says that B is {allowed}, not {verdict}"
