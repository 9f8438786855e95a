"""Exercises of notebook 07. Each check computes what typical mistakes would give.

A check prints one line, "✓ …" or "✗ …" with a hint about *this* answer, and returns whether the
answer is right. None of them needs a trained model.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recsys_lib.exercises.answers import as_array, examine, examine_number, recognize, say
from recsys_lib.exercises.seller_exposure import judge_exposure
from recsys_lib.exercises.shuffled_groups import judge_p_value

# --- 1: what could this test have shown? ----------------------------------------------------------

SMALL, LARGE, ACCURACY, DESIGN_EFFECT = 160, 800, 0.9, 1.5
_Z_TWO_SIDED, _Z_ONE_SIDED, _Z_POWER = 1.959964, 1.644854, 0.841621  # of 5 %, 5 % and 80 %


def _detectable(
    z: float = _Z_TWO_SIDED + _Z_POWER,
    variance: float = ACCURACY * (1 - ACCURACY),
    sizes: tuple[int, ...] = (SMALL, LARGE),
    effect: float = DESIGN_EFFECT,
) -> float:
    return float(z * np.sqrt(effect * variance * sum(1 / n for n in sizes)))


def _detectable_mistakes() -> dict[str, float]:
    total = SMALL + LARGE
    return {
        "1.96 standard errors are seen in half of all tests only; for 80 % power add 0.84": (
            _detectable(_Z_TWO_SIDED)
        ),
        "that is one standard error; a gap of that size is hardly ever significant": (
            _detectable(1.0)
        ),
        "0.84 standard errors are the power alone; the 1.96 of the test at 5 % are missing": (
            _detectable(_Z_POWER)
        ),
        "that test is one-sided; without knowing beforehand which group is worse it takes 1.96": (
            _detectable(_Z_ONE_SIDED + _Z_POWER)
        ),
        "reviews of one product are wrong together: the design effect multiplies the variance": (
            _detectable(effect=1.0)
        ),
        "the design effect multiplies the variance, so its square root multiplies the error": (
            _detectable(effect=DESIGN_EFFECT**2)
        ),
        "the design effect makes the gap larger, not smaller: there are fewer independent reviews "
        "than rows": _detectable(effect=1 / DESIGN_EFFECT),
        "the error of a gap has both groups in it: 1/n₁ + 1/n₂": _detectable(sizes=(SMALL,)),
        "1/n₁ + 1/n₂ is not 1/(n₁ + n₂): the smaller group decides, however large the other is": (
            _detectable(sizes=(total,))
        ),
        "that is for two groups of half the reviews each; here one is much smaller": (
            _detectable(sizes=(total // 2, total // 2))
        ),
        "that is for two groups as small as the smaller one": _detectable(sizes=(SMALL, SMALL)),
        "that is the variance p (1 − p) of a coin; the accuracy is 0.9": _detectable(variance=0.25),
        "the variance of one decision is p (1 − p), not p": _detectable(variance=ACCURACY),
        "the variance of one decision is p (1 − p), not 1 − p": _detectable(variance=1 - ACCURACY),
        "the square root is missing: that is a multiple of a variance": (
            _detectable() ** 2 / (_Z_TWO_SIDED + _Z_POWER)
        ),
        "as a share between 0 and 1, please": 100 * _detectable(),
    }


def check_detectable_gap(answer: object) -> bool:
    """Exercise 1: one number, the smallest gap in accuracy that a two-sided test at 5 % finds with
    80 % power between groups of `SMALL` and `LARGE` reviews."""
    right = _detectable()

    def judge(given: float) -> bool:
        if abs(given - right) < 0.0015:
            limit = _detectable(sizes=(SMALL,))
            return say(
                True,
                f"{right:.3f}: a gap of half that size may well be there, and the audit stays "
                f"silent. A larger large group does not help beyond {limit:.3f}",
            )
        return say(
            False,
            recognize(given, _detectable_mistakes(), rtol=0.002, atol=0.0005)
            or f"{given:g} is not it. The standard error of the gap is "
            "√(design effect · p (1 − p) · (1/n₁ + 1/n₂)); it takes 1.96 + 0.84 of them",
        )

    return examine_number(answer, judge, "not a finite number")


# --- 2: equalized odds ----------------------------------------------------------------------------

Decided = tuple[np.ndarray, np.ndarray, np.ndarray]  # labels, decisions, groups, (n,) each


def _decided(seed: int, rates: dict[str, tuple[int, float, float, float]]) -> Decided:
    """Rows of each group: how many, share of label 1, decided 1 where the label is 1, and 0."""
    rng = np.random.default_rng(seed)
    labels, decisions, groups = [], [], []
    for name, (n, base, hit, false_alarm) in rates.items():
        y = (rng.random(n) < base).astype(np.int64)
        labels.append(y)
        decisions.append((rng.random(n) < np.where(y == 1, hit, false_alarm)).astype(np.int64))
        groups.append(np.full(n, name))
    order = rng.permutation(sum(map(len, labels)))
    return tuple(np.concatenate(part)[order] for part in (labels, decisions, groups))


_AUDITED = (
    _decided(1, {"26–35": (90, 0.7, 0.9, 0.2), "36–50": (60, 0.6, 0.8, 0.55)}),
    _decided(2, {"b": (80, 0.5, 0.9, 0.3), "a": (50, 0.7, 0.5, 0.2), "c": (70, 0.4, 0.7, 0.35)}),
    _decided(3, {"x": (60, 0.3, 0.6, 0.1), "y": (60, 0.8, 0.7, 0.5), "z": (40, 0.5, 0.8, 0.3)}),
)
_LONE = (np.array([1, 1, 0, 0, 0, 0]), np.array([1, 1, 0, 1, 0, 1]), np.array(list("aaaabb")))


def _spread(value: Callable[..., float], case: Decided) -> float:
    """Largest minus smallest value of the groups that have one."""
    y, d, g = case
    found = [value(y[g == name], d[g == name]) for name in np.unique(g)]
    return float(np.nanmax(found) - np.nanmin(found))


def _rate(y: np.ndarray, d: np.ndarray, label: int) -> float:
    return float(np.mean(d[y == label])) if (y == label).any() else np.nan


def _true_positive_gap(case: Decided) -> float:
    return _spread(lambda y, d: _rate(y, d, 1), case)


def _false_positive_gap(case: Decided) -> float:
    return _spread(lambda y, d: _rate(y, d, 0), case)


def _odds(case: Decided) -> float:
    return max(_true_positive_gap(case), _false_positive_gap(case))


def _swapped(case: Decided) -> Decided:
    return case[1], case[0], case[2]


def _first_two(case: Decided) -> Decided:
    keep = np.isin(case[2], np.unique(case[2])[:2])
    return tuple(part[keep] for part in case)


_ODDS_MISTAKES: dict[str, Callable[[Decided], float]] = {
    "that is the gap of the true-positive rate alone (equal opportunity); take the larger of it "
    "and that of the false-positive rate": _true_positive_gap,
    "that is the gap of the false-positive rate alone; take the larger of it and that of the "
    "true-positive rate": _false_positive_gap,
    "that is the mean of the two gaps; the larger one is asked: a small gap must not hide it": (
        lambda case: (_true_positive_gap(case) + _false_positive_gap(case)) / 2
    ),
    "you add up the two gaps; the larger one is asked": (
        lambda case: _true_positive_gap(case) + _false_positive_gap(case)
    ),
    "that is the smaller of the two gaps; the larger one is asked": (
        lambda case: min(_true_positive_gap(case), _false_positive_gap(case))
    ),
    "that is the gap of the selection rate (demographic parity): equalized odds looks at rows of "
    "one label at a time": lambda case: _spread(lambda y, d: np.mean(d), case),
    "that is the gap of the accuracy: equalized odds looks at rows of one label at a time": (
        lambda case: _spread(lambda y, d: np.mean(y == d), case)
    ),
    "turned round: you ask for the labels among rows of one decision (that is precision); ask for "
    "the decisions among rows of one label": lambda case: _odds(_swapped(case)),
    "divided by the size of the group; a rate divides by its rows of that label": (
        lambda case: max(
            _spread(lambda y, d: np.mean((y == 1) & (d == 1)), case),
            _spread(lambda y, d: np.mean((y == 0) & (d == 1)), case),
        )
    ),
    "the sign: a largest minus a smallest rate is never negative": lambda case: -_odds(case),
    "only two of the groups are compared; the largest and the smallest rate of all are asked": (
        lambda case: _odds(_first_two(case))
    ),
    "that is the ratio, smallest over largest; here the difference is asked": (
        lambda case: min(_ratio(case, 0), _ratio(case, 1))
    ),
    "that is a distance from the rate of all rows; largest minus smallest group is asked": (
        lambda case: max(_from_all(case, 0), _from_all(case, 1))
    ),
}


def _rates(case: Decided, label: int) -> np.ndarray:
    y, d, g = case
    return np.array([_rate(y[g == name], d[g == name], label) for name in np.unique(g)])


def _ratio(case: Decided, label: int) -> float:
    rates = _rates(case, label)
    return float(rates.min() / rates.max())


def _from_all(case: Decided, label: int) -> float:
    return float(np.abs(_rates(case, label) - _rate(*case[:2], label)).max())


def check_equalized_odds(answer: object) -> bool:
    """Exercise 2: `equalized_odds_difference(labels, decisions, groups)`, the larger of the gaps
    (largest − smallest group) of true- and false-positive rate (Hardt et al., NeurIPS 2016)."""

    def ask(case: Decided) -> float:
        return float(as_array(answer(*(part.copy() for part in case)), (), "one number"))

    def check() -> bool:
        got = [ask(case) for case in _AUDITED]
        right = [_odds(case) for case in _AUDITED]
        if np.allclose(got, right, atol=1e-9):
            return _judge_lone_label(ask)
        mistakes = {
            hint: [mistake(case) for case in _AUDITED] for hint, mistake in _ODDS_MISTAKES.items()
        }
        hint = recognize(got, mistakes)
        at = int(np.flatnonzero(~np.isclose(got, right, atol=1e-9))[0])
        names = ", ".join(np.unique(_AUDITED[at][2]))
        tpr, fpr = (" ".join(f"{v:.3f}" for v in _rates(_AUDITED[at], label)) for label in (1, 0))
        return say(
            False,
            hint
            or f"case {at + 1}: in the groups {names} the true-positive rates are {tpr} and the "
            f"false-positive rates {fpr}, so {right[at]:.3f}, not {got[at]:.3f}",
        )

    return examine(answer, "equalized_odds_difference(labels, decisions, groups)", check)


def _judge_lone_label(ask: Callable[[Decided], float]) -> bool:
    """Group b has no row of label 1; both groups decide 1 for half of their rows of label 0."""
    try:
        got = ask(_LONE)
    except (ZeroDivisionError, ValueError, KeyError) as error:
        return say(
            False,
            "right, but a group without a row of label 1 has no true-positive rate, and there it "
            f"raised {type(error).__name__}: leave such a group out of that rate",
        )
    if np.isnan(got):
        return say(
            False,
            "right, but where one group has no row of label 1 you return NaN: leave it out of that "
            "rate; the false-positive rates still say something",
        )
    if not np.isclose(got, _odds(_LONE), atol=1e-9):
        return say(
            False,
            "right, but a group without a row of label 1 has no true-positive rate. As 0 (so "
            f"fairlearn has it) it makes a gap of {got:.2f} out of nothing: leave it out there",
        )
    return say(True, "the larger gap of the two rates, and a rate that nobody knows makes no gap")


# --- 3: can chance make such a gap? ---------------------------------------------------------------


def check_gap_p_value(answer: object) -> bool:
    """Exercise 3: `gap_p_value(right, groups, n, seed)`, the share of orders (n shuffled ones and
    the observed one) whose largest − smallest group mean is at least as large as observed
    (Phipson, Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9)."""
    return examine(answer, "gap_p_value(right, groups, n, seed)", lambda: judge_p_value(answer))


# --- 4: who gets seen -----------------------------------------------------------------------------


def check_exposure_ratio(answer: object) -> bool:
    """Exercise 4: `exposure_ratio(rankings, relevance, is_small)`, attention 1/log2(1 + rank) per
    relevance of the small sellers over the same of the others (Singh, Joachims, KDD 2018)."""
    return examine(
        answer, "exposure_ratio(rankings, relevance, is_small)", lambda: judge_exposure(answer)
    )


Check = Callable[[object], bool]
CHECKS: tuple[Check, ...] = (
    check_detectable_gap,
    check_equalized_odds,
    check_gap_p_value,
    check_exposure_ratio,
)
