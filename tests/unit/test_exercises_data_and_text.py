"""The checks of notebook 02's exercises: right answers pass, typical wrong ones get their hint."""

import itertools
import re
from collections import Counter

import numpy as np
import pytest

from recsys_lib.datasets.leaks import jaccard, shingles
from recsys_lib.datasets.splits import split_by_group
from recsys_lib.exercises import data_and_text as exercises
from recsys_lib.text import padding_share
from tests.unit.answers import reply, wrong_with

CHECKS = [
    exercises.check_smallest_limit,
    exercises.check_padding,
    exercises.check_similarity,
    exercises.check_test_rows,
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "nonsense",
    [None, 3, "text", [], dict, lambda: None, lambda *a: None, lambda *a: "x", lambda *a: np.nan],
)
def test_nonsense_gets_a_line_and_no_exception(capsys, check, nonsense):
    right, _ = reply(capsys, check, nonsense)
    assert not right


@pytest.mark.parametrize("check", CHECKS)
def test_an_exception_of_the_answer_is_reported(capsys, check):
    def answer(*_args):
        raise KeyError("my_column")

    right, line = reply(capsys, check, answer)
    assert not right and "KeyError" in line and "my_column" in line


@pytest.mark.parametrize("check", CHECKS)
def test_no_answer_yet(capsys, check):
    assert "not answered yet" in reply(capsys, check, None)[1]


# --- 1 -------------------------------------------------------------------------------------------


def limit_right(lengths, share):
    ordered = np.sort(lengths)
    return ordered[max(0, int(np.ceil((1 - share) * len(lengths) - 1e-9)) - 1)]


def test_smallest_limit_right(capsys):
    assert reply(capsys, exercises.check_smallest_limit, limit_right)[0]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda n, s: limit_right(n, s) + 1, "loses nothing"),
        (lambda n, s: limit_right(n, 1 - s), "stay whole"),
        (lambda n, s: np.quantile(n, 1 - s), "np.quantile takes a value between"),
        (lambda n, s: int(np.quantile(n, 1 - s)), "rounding the quantile down"),
        (lambda n, s: int(np.ceil(np.quantile(n, 1 - s))), "rounding the quantile up"),
        (lambda n, s: n.max(), "cuts nothing"),
        (lambda n, s: 30, "your limit 30 cuts 45% of the texts; 0% may be"),
        (lambda n, s: 1_000, "a limit below your 1000 is enough"),
    ],
)
def test_smallest_limit_wrong(capsys, answer, hint):
    right, line = reply(capsys, exercises.check_smallest_limit, answer)
    assert not right
    assert re.search(hint, line)


# --- 2 -------------------------------------------------------------------------------------------


def padding_right(lengths, batch_size):
    batches = [
        np.arange(len(lengths))[i : i + batch_size] for i in range(0, len(lengths), batch_size)
    ]
    return padding_share(lengths, batches)


def cut(lengths, size):
    return [lengths[i : i + size] for i in range(0, len(lengths), size)]


def padding_global(lengths, size):
    return 1 - lengths.sum() / (len(lengths) * lengths.max())


def padding_mean_of_shares(lengths, size):
    return np.mean([1 - b.sum() / (len(b) * b.max()) for b in cut(lengths, size)])


def padding_full_batches_only(lengths, size):
    return padding_right(lengths[: len(lengths) - len(lengths) % size], size)


def padding_filled(lengths, size):
    return 1 - lengths.sum() / sum(b.max() * size for b in cut(lengths, size))


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda n, b: 1 - padding_right(n, b), "padding is the rest"),
        (padding_global, "each batch has its own longest"),
        (padding_mean_of_shares, "add up the cells first"),
        (padding_full_batches_only, "last, smaller batch is missing"),
        (padding_filled, "not filled up with empty rows"),
        (lambda n, b: padding_right(np.sort(n), b), "sorted by length"),
        (lambda n, b: sum(x.max() * len(x) - x.sum() for x in cut(n, b)), "not a share"),
        (lambda n, b: 0.1, "yours 0.100"),
    ],
)
def test_padding_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_padding, answer, hint)


def test_padding_right(capsys):
    assert reply(capsys, exercises.check_padding, padding_right)[0]


# --- 3 -------------------------------------------------------------------------------------------


def words(text):
    return re.findall(r"\w+", text.lower())


def pairs(text):
    found = words(text)
    return [*itertools.pairwise(found)]


def overlap(a, b):
    return len({*pairs(a)} & {*pairs(b)}) / min(len({*pairs(a)}), len({*pairs(b)}))


def dice(a, b):
    return 2 * len({*pairs(a)} & {*pairs(b)}) / (len({*pairs(a)}) + len({*pairs(b)}))


def multiset(a, b):
    one, two = Counter(pairs(a)), Counter(pairs(b))
    return sum((one & two).values()) / sum((one | two).values())


def by_pairs(split):
    def answer(a, b):
        one, two = ({*zip(split(t), split(t)[1:], strict=False)} for t in (a, b))
        return len(one & two) / len(one | two)

    return answer


def test_similarity_right(capsys):
    def right(a, b):
        return jaccard(shingles(a, 2), shingles(b, 2))

    assert reply(capsys, exercises.check_similarity, right)[0]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda a, b: jaccard(shingles(a, 1), shingles(b, 1)), "pairs of neighboring words"),
        (lambda a, b: jaccard(shingles(a, 3), shingles(b, 3)), "stricter than asked"),
        (by_pairs(lambda t: re.findall(r"\w+", t)), "lower the case first"),
        (by_pairs(lambda t: t.lower().split()), "leave the punctuation out"),
        (by_pairs(str.split), "lower the case and leave the punctuation out"),
        (overlap, "divided by the smaller set"),
        (dice, "Dice"),
        (multiset, "counts once"),
        (lambda a, b: 1 - by_pairs(words)(a, b), "one minus it"),
        (lambda a, b: float(a == b), "you say 0.000"),
    ],
)
def test_similarity_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_similarity, answer, hint)


# --- 4 -------------------------------------------------------------------------------------------


def rows_right(products, share, seed):
    random = np.random.default_rng(seed)
    names, counts = np.unique(products, return_counts=True)
    order = random.permutation(len(names))
    total = np.cumsum(counts[order])
    return np.isin(products, names[order[: np.abs(total - share * len(products)).argmin() + 1]])


def rows_by_library(products, share, seed):
    split = split_by_group(products, valid=0, test=share, seed=seed)
    return split.part_of(len(products)) == 2


def rows_at_random(products, share, seed):
    return np.random.default_rng(seed).random(len(products)) < share


def share_of_products(products, share, seed):
    names = np.unique(products)
    chosen = np.random.default_rng(seed).choice(names, int(share * len(names)), replace=False)
    return np.isin(products, chosen)


@pytest.mark.parametrize("answer", [rows_by_library, lambda *a: rows_by_library(*a).astype(int)])
def test_test_rows_right(capsys, answer):
    assert reply(capsys, exercises.check_test_rows, answer)[0]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (rows_at_random, "stand on both sides"),
        (share_of_products, "a fifth of the products is not a fifth of the rows"),
        (lambda p, s, seed: rows_right(p, s, 0), "nothing depends on the seed"),
        (lambda p, s, seed: rows_right(p, s, np.random.SeedSequence().entropy), "two splits"),
        (lambda p, s, seed: np.zeros(len(p), bool), "empty"),
        (lambda p, s, seed: np.unique(p), "one truth value per row"),
        (lambda p, s, seed: np.flatnonzero(rows_by_library(p, s, seed)), "one truth value per row"),
        (lambda p, s, seed: rows_by_library(p, 0.2, seed), "use `share`"),
        (lambda p, s, seed: rows_by_library(p, 0.7, seed), "asked for 20 % of the rows"),
    ],
)
def test_test_rows_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_test_rows, answer, hint)
