"""What the tests of the exercises share: the reply to an answer, and an answer that forgets seeds.

pytest rewrites the asserts of test modules only, so what goes wrong here is said in words.
"""

from collections.abc import Callable

import numpy as np


def reply(capsys, check, answer) -> tuple[bool, str]:
    """The verdict and the one line printed."""
    right = check(answer)
    out = capsys.readouterr().out
    assert out.count("\n") == 1, f"a check prints exactly one line, not {out!r}"
    assert out.startswith("✓ " if right else "✗ "), f"the verdict is {right}, the line {out!r}"
    return right, out


def wrong_with(capsys, check, answer, hint: str) -> None:
    right, line = reply(capsys, check, answer)
    assert not right, f"taken for right: {line}"
    assert hint in line, f"{hint!r} is not in: {line}"


def unseeded(answer: Callable) -> Callable:
    """`answer` with its last argument, the seed, unused: each call draws on where the last ended.

    As a student's `default_rng()` does; the same in every run, which that is not.
    """
    stream = np.random.default_rng(0)
    return lambda *args: answer(*args[:-1], stream)
