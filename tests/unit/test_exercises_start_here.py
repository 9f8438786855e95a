"""Notebook 00's checks: right answers pass, typical mistakes get the hint that is about them."""

import numpy as np
import pytest

from recsys_lib.exercises import start_here as exercises


def reply(capsys, check, *answer) -> str:
    """The one line that a check prints; its verdict must be what it returns."""
    verdict = check(*answer)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0][0] == ("✓" if verdict else "✗")
    assert isinstance(verdict, bool)
    return lines[0]


def norm(x):
    return np.linalg.norm(x, axis=-1)


def compare(wish: str) -> tuple[float, float]:
    """Stands in for the two searches: (keywords, encoder)."""
    if wish == "gibberish":
        raise ValueError("the market understands no word of it")
    known = {"cozy": (0.1, 0.6), "merino": (0.7, 0.2), "both": (0.5, 0.55)}
    return known.get(wish, (np.nan, np.nan))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (("cozy", "merino"), "✓ one wish for each: the encoder by +0.50, the keywords by +0.50"),
        ((None, None), "not answered yet"),
        (("cozy", None), "keywords_win must be a wish in words"),
        (("", "merino"), "encoder_wins must be a wish in words"),
        ((7, "merino"), "got int"),
        (("Something for a  long run", "merino"), "encoder_wins is an example above"),
        (("cozy", "something warm and waterproof for a hike"), "keywords_win is an example above"),
        (("gibberish", "merino"), "encoder_wins: the market understands no word"),
        (("impossible", "merino"), "no product of the market meets this wish"),
        (("merino", "cozy"), "in each other's place"),
        (("both", "merino"), "encoder_wins: NDCG of encoder minus keywords is +0.05"),
        (("cozy", "both"), "keywords_win: NDCG of encoder minus keywords is +0.05"),
    ],
)
def test_wishes(capsys, answer, says):
    assert says in reply(capsys, exercises.check_wishes, *answer, compare)


COSINES = {
    "✓ the angle": lambda q, x: x @ q / (norm(x) * norm(q)),
    "that is the dot product": lambda q, x: x @ q,
    "the query has a length too": lambda q, x: x @ q / norm(x),
    "each item has a length too": lambda q, x: x @ q / norm(q),
    "that is a distance": lambda q, x: norm(x - q),
    "squared lengths": lambda q, x: x @ q / (norm(x) ** 2 * norm(q) ** 2),
    "of all items together": lambda q, x: x @ q / (np.linalg.norm(x) * norm(q)),
    "one minus the cosine": lambda q, x: 1 - x @ q / (norm(x) * norm(q)),
    "it should be": lambda q, x: np.zeros(len(x)),
    "must have shape (5,)": lambda q, x: np.zeros(3),
    "returned nothing": lambda q, x: None,
    "raised ZeroDivisionError": lambda q, x: 1 / 0,
}


@pytest.mark.parametrize("says", COSINES)
def test_cosine(capsys, says):
    assert says in reply(capsys, exercises.check_cosine, COSINES[says])


def first(gains, order):
    hits = [rank for rank, i in enumerate(order, start=1) if gains[i] > 0]
    return hits[0] if hits else None


def right_reciprocal_rank(gains, scores):
    rank = first(gains, np.argsort(-scores))
    return 1 / rank if rank else 0.0


def best_grade(gains, scores):
    return 1 / (list(np.argsort(-scores)).index(int(np.argmax(gains))) + 1)


def by_argmax(gains, scores):
    return 1 / (np.argmax(gains[np.argsort(-scores)] > 0) + 1)


RANKS = {
    "✓ 1 for a hit": right_reciprocal_rank,
    "that is the rank": lambda g, s: first(g, np.argsort(-s)),
    "begins with the lowest": lambda g, s: 1 / first(g, np.argsort(s)),
    "still in the catalog's order": lambda g, s: 1 / first(g, range(len(g))),
    "where the best grade stands": best_grade,
    "1 / (rank + 1)": lambda g, s: 1 / (first(g, np.argsort(-s)) + 1),
    "where no product has a gain": by_argmax,
    "divide by zero": lambda g, s: np.divide(1, np.argmax(g[np.argsort(-s)] > 0)),
    "it should be 0.333, not 0.250": lambda g, s: 0.25,
    "must have shape ()": lambda g, s: s,
}


@pytest.mark.parametrize("says", RANKS)
def test_reciprocal_rank(capsys, says):
    assert says in reply(capsys, exercises.check_reciprocal_rank, RANKS[says])


def ranks(scores):
    return np.array([1 + int((scores > s).sum()) for s in scores])


def fused(rank, a, b, k):
    return 1 / (k + rank(a)) + 1 / (k + rank(b))


FUSIONS = {
    "✓ ranks can be added": lambda a, b, k=60: fused(ranks, a, b, k),
    "sums of the scores": lambda a, b, k=60: a + b,
    "apply it twice": lambda a, b, k=60: fused(lambda s: np.argsort(-s) + 1, a, b, k),
    "goes to the lowest score": lambda a, b, k=60: fused(lambda s: ranks(-s), a, b, k),
    "they begin with 1": lambda a, b, k=60: fused(lambda s: ranks(s) - 1, a, b, k),
    "k is missing": lambda a, b, k=60: fused(ranks, a, b, 0),
    "that is the mean": lambda a, b, k=60: fused(ranks, a, b, k) / 2,
    "summed ranks": lambda a, b, k=60: ranks(a) + ranks(b),
    "right for k = 60 only": lambda a, b, k=60: fused(ranks, a, b, 60),
    "1/6 + 1/9": lambda a, b, k=60: np.ones(5),
}


@pytest.mark.parametrize("says", FUSIONS)
def test_fuse(capsys, says):
    assert says in reply(capsys, exercises.check_fuse, FUSIONS[says])


@pytest.mark.parametrize(
    "check", [exercises.check_cosine, exercises.check_reciprocal_rank, exercises.check_fuse]
)
def test_nonsense_is_answered(capsys, check):
    assert "not answered yet" in reply(capsys, check, None)
    assert "expected a function" in reply(capsys, check, 3)
    assert "raised TypeError" in reply(capsys, check, lambda: 1)
