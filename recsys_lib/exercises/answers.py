"""What the exercises' checks share: one line of verdict, and patience with any kind of answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np


class Unfit(Exception):
    """What an answer returned is not of the kind that was asked for; the message is the hint."""


def say(right: bool, text: str) -> bool:
    """Print "✓ text" or "✗ text" on one line and return ``right``."""
    print(("✓ " if right else "✗ ") + " ".join(text.split()))
    return right


def examine(answer: object, signature: str, check: Callable[[], bool]) -> bool:
    """Run a check of a function; a missing one, another thing, or one that raises gets a line."""
    if answer is None:
        return say(False, f"not answered yet: write {signature} and hand it to the check")
    if not callable(answer):
        return say(False, f"expected a function {signature}, got {type(answer).__name__}")
    try:
        with np.errstate(all="ignore"):
            return check()
    except Unfit as hint:
        return say(False, str(hint))
    except Exception as error:  # the reader's code may raise anything
        words = " ".join(str(error).split())[:160]
        return say(False, f"your function raised {type(error).__name__}: {words}")


def as_array(value: object, shape: tuple[int, ...], name: str) -> np.ndarray:
    """What an answer returned, as float64 of this shape; Unfit says what it is instead."""
    if value is None:
        raise Unfit(f"it returned nothing: return {name}")
    try:
        plain = value.detach() if hasattr(value, "detach") else value  # a tensor with a gradient
        array = np.asarray(plain, dtype=np.float64)
    except Exception:  # whatever the conversion of a strange object raises
        raise Unfit(f"{name} must be numbers, not {type(value).__name__}") from None
    if array.shape != shape:
        raise Unfit(f"{name} must have shape {shape}; yours has {array.shape}")
    return array


def examine_number(answer: object, judge: Callable[[float], bool], not_finite: str) -> bool:
    """Run a check of one number; a missing one, another thing, or one not finite gets a line."""
    if answer is None:
        return say(False, "not answered yet: put a number into the variable")
    try:
        given = float(as_array(answer, (), "one number"))
    except Unfit as hint:
        return say(False, str(hint))
    return judge(given) if np.isfinite(given) else say(False, not_finite)


def recognize(
    given: object, mistakes: Mapping[str, object], rtol: float = 1e-6, atol: float = 1e-9
) -> str:
    """The hint whose mistake gives the same numbers, or ""."""
    for hint, wrong in mistakes.items():
        if np.allclose(given, wrong, rtol=rtol, atol=atol, equal_nan=True):
            return hint
    return ""
