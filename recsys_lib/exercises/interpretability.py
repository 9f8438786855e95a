"""Exercises of notebook 06. Each check computes what typical mistakes would give.

A check prints one line, "✓ …" or "✗ …" with a hint about *this* answer, and returns whether the
answer is right. None of them needs a trained model.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch

from recsys_lib.exercises.answers import (
    Unfit,
    as_array,
    examine,
    examine_number,
    recognize,
    say,
)
from recsys_lib.exercises.word_deletion import judge_deletion

# --- 1: how much is missing? ----------------------------------------------------------------------

X, BASELINE, STEPS = 4.0, 1.0, 30  # of f(x) = x²


def _sum_of_steps(at: np.ndarray, baseline: float = BASELINE, factor: float = 2.0) -> float:
    """(x − baseline) times the mean slope of x² at these shares of the path."""
    return float((X - baseline) * np.mean(factor * (baseline + at * (X - baseline))))


def _gap_mistakes() -> dict[str, float]:
    ends = np.arange(1, STEPS + 1) / STEPS
    moved, total = X**2 - BASELINE**2, _sum_of_steps(ends)
    return {
        "that would be so in the middle of each step, or with infinitely many steps; at the far "
        "ends of the steps the slope of x² is always a little too large": 0.0,
        "the sign: the slope grows along the path, so its values at the far ends of the steps add "
        "up to too much (or did you take the near ends, k = 0, 1, …?)": moved - total,
        "the path starts at the baseline, not at 0: the points are baseline + k/n (x − baseline)": (
            _sum_of_steps(ends, baseline=0.0) - X**2
        ),
        "that is the sum of the attributions; subtract what it should be, f(x) − f(baseline)": (
            total
        ),
        "that is f(x) − f(baseline), what the sum should be; the gap is sum − that": moved,
        "that is the gap as a share of f(x) − f(baseline); here the gap itself is asked": (
            (total - moved) / moved
        ),
        "in percent of f(x) − f(baseline); here the gap itself is asked": (
            100 * (total - moved) / moved
        ),
        "that is gradient × (x − baseline), one step only; there are more, and each makes the gap "
        "smaller": _sum_of_steps(np.ones(1)) - moved,
        "f(baseline) is not 0: the sum should be f(x) − f(baseline), not f(x)": total - X**2,
        "the slope of x² is 2x, not x": _sum_of_steps(ends, factor=1.0) - moved,
        "the factor x − baseline is missing: a mean slope is not yet a difference of f": (
            total / (X - BASELINE) - moved
        ),
        "the slopes are averaged over the steps, not added up: divide by n": STEPS * total - moved,
        "the gap of this rule falls like 1/n, not like 1/n²": (X - BASELINE) ** 2 / STEPS**2,
    }


def check_completeness_gap(answer: object) -> bool:
    """Exercise 1: one number, the sum of integrated gradients of x² from `BASELINE` to `X` with
    `STEPS` slopes at the far end of each step, minus f(x) − f(baseline)."""
    right = _sum_of_steps(np.arange(1, STEPS + 1) / STEPS) - (X**2 - BASELINE**2)

    def judge(given: float) -> bool:
        if abs(given - right) < 0.002:
            return say(
                True,
                f"(x − baseline)² / n = {right:.2f}, or {right / (X**2 - BASELINE**2):.1%} of what "
                "is explained: twice the steps, half the gap. In the middle of each step it is 0",
            )
        hint = recognize(given, _gap_mistakes(), rtol=0.003, atol=0.002)
        return say(
            False,
            hint
            or f"{given:g} is not it. The slopes are 2 (baseline + k/n (x − baseline)) for "
            "k = 1, …, n; their mean times x − baseline is the sum of the attributions",
        )

    return examine_number(answer, judge, "not a finite number: n slopes of x² have a finite mean")


# --- 2: integrated gradients ----------------------------------------------------------------------

Function = Callable[[torch.Tensor], torch.Tensor]


def _smooth(seed: int, d: int) -> Function:
    """A smooth function of the last axis, (…, d) → (…), with products of its inputs."""
    a, b = torch.tensor(np.random.default_rng(seed).normal(size=(2, d)), dtype=torch.float64)

    def f(x: torch.Tensor) -> torch.Tensor:
        if x.ndim == 0 or x.shape[-1] != d:
            raise Unfit(f"f takes (…, {d}), the inputs last; you gave it {tuple(x.shape)}")
        return torch.tanh((a * x).sum(-1)) + x[..., 0] * x[..., 1] ** 2 + (b * x).sum(-1).exp() / 9

    return f


def _path_case(seed: int, d: int, steps: int) -> tuple[Function, torch.Tensor, torch.Tensor, int]:
    x, baseline = torch.tensor(np.random.default_rng([seed, d]).normal(size=(2, d)))
    return _smooth(seed, d), x, baseline, steps


_PATHS = (_path_case(1, 4, 6), _path_case(2, 3, 9), _path_case(3, 5, 4))


def _slopes(f: Function, points: torch.Tensor) -> torch.Tensor:
    points = points.detach().clone().requires_grad_(True)
    return torch.autograd.grad(f(points).sum(), points)[0]


def _mean_slope(
    f: Function, x: torch.Tensor, start: torch.Tensor, at: torch.Tensor
) -> torch.Tensor:
    """Mean of the slopes at these shares, (n,), of the path from `start` to `x`."""
    return _slopes(f, start + at[:, None] * (x - start)).mean(0)


def _middles(n: int) -> torch.Tensor:
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def _far_ends(n: int) -> torch.Tensor:
    return torch.arange(1, n + 1, dtype=torch.float64) / n


def _right_path(f: Function, x: torch.Tensor, b: torch.Tensor, n: int) -> torch.Tensor:
    return (x - b) * _mean_slope(f, x, b, _middles(n))


_PATH_MISTAKES: dict[str, Callable[..., torch.Tensor]] = {
    "that is gradient × (x − baseline), the slope at x only; average it along the path": (
        lambda f, x, b, n: (x - b) * _slopes(f, x)
    ),
    "that is gradient × input; average the slope along the path from the baseline": (
        lambda f, x, b, n: x * _slopes(f, x)
    ),
    "those are mean slopes; multiply each by x − baseline": (
        lambda f, x, b, n: _mean_slope(f, x, b, _middles(n))
    ),
    "multiply by x − baseline, the length of the path, not by x": (
        lambda f, x, b, n: x * _mean_slope(f, x, b, _middles(n))
    ),
    "the sign is turned round: x − baseline, not baseline − x": (
        lambda f, x, b, n: -_right_path(f, x, b, n)
    ),
    "you take the slope at the far end of each step; the middle is (k + 1/2) / steps": (
        lambda f, x, b, n: (x - b) * _mean_slope(f, x, b, _far_ends(n))
    ),
    "you take the slope at the near end of each step; the middle is (k + 1/2) / steps": (
        lambda f, x, b, n: (x - b) * _mean_slope(f, x, b, _far_ends(n) - 1 / n)
    ),
    "linspace(0, 1, steps) takes both ends of the path and counts them in full; take the middle of "
    "each step, (k + 1/2) / steps": (
        lambda f, x, b, n: (x - b) * _mean_slope(f, x, b, torch.linspace(0, 1, n).double())
    ),
    "one step only, in the middle of the path: `steps` is not used": (
        lambda f, x, b, n: (x - b) * _mean_slope(f, x, b, _middles(1))
    ),
    "the slopes are added up; take their mean over the steps": (
        lambda f, x, b, n: n * _right_path(f, x, b, n)
    ),
    "divided by the number of steps twice: .mean() of f over the batch already divides its slope "
    "by it, so take .sum() there": lambda f, x, b, n: _right_path(f, x, b, n) / n,
    "the path starts at 0 there; it starts at the baseline": (
        lambda f, x, b, n: x * _mean_slope(f, x, torch.zeros_like(x), _middles(n))
    ),
    "the points are (k + 1/2)/steps · (x − baseline); add the baseline, where the path starts": (
        lambda f, x, b, n: (x - b) * _mean_slope(f, x - b, torch.zeros_like(x), _middles(n))
    ),
    "the absolute value hides which inputs pull down, and then nothing adds up to "
    "f(x) − f(baseline)": lambda f, x, b, n: _right_path(f, x, b, n).abs(),
}


def check_integrated_gradients(answer: object) -> bool:
    """Exercise 2: `integrated_gradients(f, x, baseline, steps)`, (d,), with the slope in the middle
    of each step; f takes (…, d) and returns (…) (Sundararajan et al., ICML 2017, equation 3)."""

    def ask(f: Function, x: torch.Tensor, baseline: torch.Tensor, steps: int) -> np.ndarray:
        value = answer(f, x.clone(), baseline.clone(), steps)
        return as_array(value, tuple(x.shape), "an attribution to each input")

    def joined(formula: Callable[..., torch.Tensor]) -> np.ndarray:
        return np.concatenate([formula(*case).detach().numpy() for case in _PATHS])

    def check() -> bool:
        got = np.concatenate([ask(*case) for case in _PATHS])
        right = joined(_right_path)
        if np.allclose(got, right, rtol=1e-5, atol=1e-6):
            f, x, b, n = _PATHS[0]
            moved = float(f(x) - f(b))
            gap = abs(float(_right_path(f, x, b, n).sum()) - moved) / abs(moved)
            return say(True, f"with {n} steps {gap:.1%} of f(x) − f(baseline) is missing")
        if not np.isfinite(got).all():
            return say(False, "not finite numbers: is an attribution divided by 0?")
        mistakes = {hint: joined(mistake) for hint, mistake in _PATH_MISTAKES.items()}
        hint = recognize(got, mistakes, rtol=1e-5, atol=1e-5)
        if hint:
            return say(False, hint)
        integral = joined(lambda f, x, b, n: _right_path(f, x, b, 400))
        if np.allclose(got, integral, rtol=1e-3, atol=1e-3):
            return say(False, "close to the integral, but with other steps than asked: use `steps`")
        f, x, b, n = _PATHS[0]
        total, moved = got[: len(x)].sum(), float(f(x) - f(b))
        at = int(np.abs(got - right)[: len(x)].argmax())
        return say(
            False,
            f"case 1, {n} steps: input {at} gets {right[at]:.4f}, not {got[at]:.4f}. Yours sum to "
            f"{total:.3f}; f(x) − f(baseline) is {moved:.3f}",
        )

    return examine(answer, "integrated_gradients(f, x, baseline, steps)", check)


# --- 3: from word pieces to words -----------------------------------------------------------------

Pieces = tuple[np.ndarray, np.ndarray, np.ndarray]  # offsets (T, 2), values (T,), spans (W, 2)


def _pieces_case(lengths: tuple[int, ...], seed: int) -> Pieces:
    """Words cut into pieces of one or two characters, a comma after the second, as BERT sees them:
    a special token of span (0, 0) at each end."""
    rng = np.random.default_rng(seed)
    offsets, spans, at = [(0, 0)], [], 0
    for word, length in enumerate(lengths):
        spans.append((at, at + length))
        cuts = [*range(at, at + length, 2), at + length]
        offsets += itertools.pairwise(cuts)
        at += length
        if word == 1:
            offsets.append((at, at + 1))
            at += 1
        at += 1
    offsets.append((0, 0))
    values = rng.normal(size=len(offsets)).round(2)
    return np.array(offsets), values, np.array(spans)


_TEXTS = (_pieces_case((4, 5, 1, 6), 1), _pieces_case((2, 7, 3), 2), _pieces_case((6, 3), 3))


def _in_words(
    offsets: np.ndarray, values: np.ndarray, spans: np.ndarray, inside: str = "", add: str = "sum"
) -> np.ndarray:
    """Words and the rest, (W + 1,), with these mistakes, by default none."""
    starts, ends = offsets.T
    special = ends == starts
    words, taken = [], np.zeros(len(values), dtype=bool)
    for low, high in spans:
        tests = {
            "special too": (starts >= low) & (ends <= high),
            "end excluded": (starts >= low) & (ends < high) & ~special,
            "same start": (starts == low) & ~special,
            "comma too": (starts >= low) & (starts <= high) & ~special,
        }
        mine = tests.get(inside, (starts >= low) & (ends <= high) & ~special)
        taken |= mine
        found = values[mine] if mine.any() else np.zeros(1)
        ways = {
            "mean": found.mean(),
            "largest": found[np.abs(found).argmax()],
            "last": found[-1],
            "absolute": np.abs(found).sum(),
        }
        words.append(ways.get(add, found.sum()))
    rests = {
        "no rest": 0.0,
        "special only": values[special].sum(),
        "everything": values.sum(),
    }
    return np.array([*words, rests.get(add, values[~taken].sum())])


_PIECES_HINTS = {
    ("special too", "sum"): "special tokens have the span (0, 0), which looks as if it lay in a "
    "word that starts at 0: keep tokens of length 0 out of the words",
    ("end excluded", "sum"): "the end of a span is excluded already, so a piece may end where its "
    "word ends: end <= word end",
    ("same start", "sum"): "only the first piece of a word is there; all pieces inside it count",
    ("comma too", "sum"): "a comma starts where the word before it ends, and the end is excluded: "
    "it is no part of the word",
    ("", "mean"): "that is the mean of a word's pieces; only the sum keeps the total",
    ("", "largest"): "that is the strongest piece of each word; only the sum keeps the total",
    ("", "last"): "a later piece overwrites the earlier ones of its word: add them up",
    ("", "absolute"): "absolute values hide which words pull down, and the total is lost",
    ("", "no rest"): "the words are right; the rest, special tokens and commas, belongs to the "
    "explanation too: without it the total is no longer f(x) − f(baseline)",
    ("", "special only"): "the words are right; whatever lies in no word is the rest, the comma "
    "with the special tokens",
    ("", "everything"): "the words are right, but your rest is the total of all tokens",
}


def check_by_word(answer: object) -> bool:
    """Exercise 3: `by_word(offsets, values, spans)` → (words, rest): the sum of the pieces inside
    each word's span, (W,), NaN for a word without a piece, and the sum of all other tokens."""

    def ask(offsets: np.ndarray, values: np.ndarray, spans: np.ndarray) -> np.ndarray:
        value = answer(offsets.copy(), values.copy(), spans.copy())
        if value is None:
            raise Unfit("it returned nothing: return (words, rest)")
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise Unfit("return two things, (words, rest)")
        words = as_array(value[0], (len(spans),), "a value of each word")
        return np.r_[words, as_array(value[1], (), "the rest, one number,")]

    def check() -> bool:
        got = np.concatenate([ask(*case) for case in _TEXTS])
        right = np.concatenate([_in_words(*case) for case in _TEXTS])
        if np.allclose(got, right, atol=1e-9):
            return _judge_cut_text(ask)
        mistakes = {
            hint: np.concatenate([_in_words(*case, *how) for case in _TEXTS])
            for how, hint in _PIECES_HINTS.items()
        }
        return say(False, recognize(got, mistakes) or _pieces_difference(got, right))

    return examine(answer, "by_word(offsets, values, spans)", check)


def _pieces_difference(got: np.ndarray, right: np.ndarray) -> str:
    at = int(np.flatnonzero(~np.isclose(got, right, atol=1e-9))[0])
    firsts = np.cumsum([0, *(len(spans) + 1 for _, _, spans in _TEXTS)])
    text = int(np.searchsorted(firsts, at, side="right")) - 1
    offsets, values, spans = _TEXTS[text]
    word, said = at - firsts[text], f"{right[at]:g}, not {got[at]:g}"
    if word == len(spans):
        return f"text {text + 1}: the rest, all tokens in no word, is {said}"
    low, high = spans[word]
    inside = (offsets[:, 0] >= low) & (offsets[:, 1] <= high) & (offsets[:, 1] > offsets[:, 0])
    terms = " + ".join(f"({value:g})" for value in values[inside])
    return f"text {text + 1}: the word at {low}–{high} has the pieces {terms} = {said}"


def _judge_cut_text(ask: Callable[..., np.ndarray]) -> bool:
    """The model read a text up to its third word only."""
    offsets, values, spans = _TEXTS[0]
    read = offsets[:, 1] <= spans[2, 1]
    got = ask(offsets[read], values[read], spans)
    if np.isnan(got[:3]).any() or not np.isnan(got[3]):
        return say(
            False,
            "right, but where the text was cut before a word, the model never saw it: its value is "
            f"NaN, while {got[3]:g} says something about its influence",
        )
    return say(True, "words + rest = all tokens: completeness survives, and what was cut is NaN")


# --- 4: the deletion curve ------------------------------------------------------------------------


def check_deletion_curve(answer: object) -> bool:
    """Exercise 4: `deletion_curve(score, values)` → (curve, area): scores while the words leave the
    text, the highest attribution first, (W + 1,), and the area over the share deleted, 0 to 1."""
    return examine(answer, "deletion_curve(score, values)", lambda: judge_deletion(answer))


Check = Callable[[object], bool]
CHECKS: tuple[Check, ...] = (
    check_completeness_gap,
    check_integrated_gradients,
    check_by_word,
    check_deletion_curve,
)
