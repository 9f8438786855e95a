"""Notebook 00's exercises: the right answer passes, and each typical mistake gets its own hint."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from recsys_lib.exercises.start_here import check_best, check_cosines, check_fusion

CHECKS = {check_cosines: "cosines(a, b)", check_best: "best(scores, k)", check_fusion: "fuse(a, b)"}


def rank(scores):
    return np.argsort(np.argsort(-scores, kind="stable"), kind="stable") + 1


def best(scores, k):
    return np.argsort(-scores, kind="stable")[:k]


def fuse(a, b):
    return 1 / (60 + rank(a)) + 1 / (60 + rank(b))


@pytest.mark.parametrize(
    ("check", "answer"),
    [(check_cosines, cosine_similarity), (check_best, best), (check_fusion, fuse)],
)
def test_right_answers_pass(check, answer, capsys):
    assert check(answer) is True
    assert capsys.readouterr().out.startswith("✓ ")


@pytest.mark.parametrize(
    ("check", "answer", "hint"),
    [
        (check_cosines, lambda a, b: a @ b.T, "dot products"),
        (check_cosines, lambda a, b: 1 - cosine_similarity(a, b), "distances"),
        (
            check_cosines,
            lambda a, b: a @ b.T / np.linalg.norm(a, axis=1)[:, None],
            "only the first vectors",
        ),
        (check_cosines, lambda a, b: cosine_similarity(b, a), "shape"),
        (check_best, lambda s, k: np.sort(s)[::-1][:k], "the scores themselves"),
        (check_best, lambda s, k: np.argsort(s, kind="stable")[:k], "worst"),
        (check_best, lambda s, k: np.argsort(s, kind="stable")[::-1][:k], "in reverse"),
        (check_best, lambda s, k: np.sort(best(s, k)), "another order"),
        (check_fusion, lambda a, b: a + b, "added the scores"),
        (check_fusion, lambda a, b: 1 / (59 + rank(a)) + 1 / (59 + rank(b)), "start at 1"),
        (check_fusion, lambda a, b: 1 / rank(a) + 1 / rank(b), "60 is missing"),
        (check_fusion, lambda a, b: fuse(-a, -b), "from the lowest"),
        (
            check_fusion,
            lambda a, b: 1 / (61 + np.argsort(-a)) + 1 / (61 + np.argsort(-b)),
            "its inverse",
        ),
    ],
)
def test_typical_mistakes_get_their_own_hint(check, answer, hint, capsys):
    assert check(answer) is False
    out = capsys.readouterr().out
    assert out.startswith("✗ ") and hint in out and out.count("\n") == 1


@pytest.mark.parametrize("check", CHECKS)
def test_any_kind_of_answer_gets_one_line(check, capsys):
    def fails(*args):
        raise KeyError("no\nsuch thing")

    for answer in (None, 3, "text", fails, lambda *a: None, lambda *a: "words", lambda *a: [1]):
        assert check(answer) is False
        out = capsys.readouterr().out
        assert out.startswith("✗ ") and out.count("\n") == 1
    check(None)
    assert CHECKS[check] in capsys.readouterr().out
