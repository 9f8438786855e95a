"""The checks of notebook 04's exercises: right answers pass, typical wrong ones get their hint."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from recsys_lib.exercises import evaluation as exercises
from tests.unit.answers import reply, unseeded, wrong_with


@pytest.mark.parametrize("check", exercises.CHECKS)
@pytest.mark.parametrize(
    "nonsense",
    [None, 3, "text", [], dict, lambda: None, lambda *a: None, lambda *a: "x", lambda *a: np.nan],
)
def test_nonsense_gets_a_line_and_no_exception(capsys, check, nonsense):
    right, _ = reply(capsys, check, nonsense)
    assert not right


@pytest.mark.parametrize("check", exercises.CHECKS)
def test_an_exception_of_the_answer_is_reported(capsys, check):
    def answer(*_args):
        raise KeyError("my_column")

    right, line = reply(capsys, check, answer)
    assert not right and "KeyError" in line and "my_column" in line


@pytest.mark.parametrize("check", exercises.CHECKS)
def test_no_answer_yet(capsys, check):
    assert "not answered yet" in reply(capsys, check, None)[1]


# --- 1 -------------------------------------------------------------------------------------------


def rarer(labels):
    return int(np.mean(labels) < 0.5)


def f1_right(labels, predicted):
    return sk.f1_score(labels, predicted, pos_label=rarer(labels), zero_division=0)


def f1_undefined(labels, predicted):
    if not np.any(predicted == rarer(labels)):
        return np.nan
    return f1_right(labels, predicted)


def test_f1_minority_right(capsys):
    assert reply(capsys, exercises.check_f1_minority, f1_right)[0]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda y, p: sk.f1_score(y, p, pos_label=1 - rarer(y)), "F1 of the larger class"),
        (lambda y, p: sk.f1_score(y, p, pos_label=0), "here 1 is rarer"),
        (lambda y, p: sk.f1_score(y, p), "with 15 % zeros"),
        (lambda y, p: sk.f1_score(y, p, average="macro"), "macro-F1"),
        (lambda y, p: np.mean(y == p), "accuracy"),
        (lambda y, p: sk.precision_score(y, p, pos_label=rarer(y)), "precision only"),
        (lambda y, p: sk.recall_score(y, p, pos_label=rarer(y)), "recall only"),
        (
            lambda y, p: (
                (
                    sk.precision_score(y, p, pos_label=rarer(y))
                    + sk.recall_score(y, p, pos_label=rarer(y))
                )
                / 2
            ),
            "harmonic",
        ),
        (f1_undefined, "0, not undefined"),
        (lambda y, p: y == p, "shape ()"),
    ],
)
def test_f1_minority_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_f1_minority, answer, hint)


# --- 2 -------------------------------------------------------------------------------------------


def cheapest(labels, probs, cost_fp, cost_fn):
    cuts = np.append(np.unique(probs), 1.1)
    costs = [
        cost_fp * np.sum((probs >= t) & (labels == 0))
        + cost_fn * np.sum((probs < t) & (labels == 1))
        for t in cuts
    ]
    return cuts[np.argmin(costs)]


def next_below(labels, probs, cost_fp, cost_fn):
    return np.unique(probs)[np.unique(probs) < cheapest(labels, probs, cost_fp, cost_fn)].max()


def most_accurate(labels, probs, cost_fp, cost_fn):
    return cheapest(labels, probs, 1, 1)


@pytest.mark.parametrize("answer", [cheapest, lambda *a: [cheapest(*a)][0] - 1e-6])
def test_cheapest_threshold_right(capsys, answer):
    assert reply(capsys, exercises.check_cheapest_threshold, answer)[0]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda y, p, a, b: a / (a + b), "these are too sure"),
        (lambda y, p, a, b: b / (a + b), "costs are swapped"),
        (lambda y, p, a, b: cheapest(y, p, b, a), "costs are swapped"),
        (next_below, "probs > t"),
        (lambda y, p, a, b: 0.5, "same threshold for both prices"),
        (most_accurate, "same threshold for both prices"),
        (lambda y, p, a, b: cheapest(y, p, a, b) + 0.05, "is possible"),
        (lambda y, p, a, b: np.inf, "finite number"),
    ],
)
def test_cheapest_threshold_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_cheapest_threshold, answer, hint)


# --- 3 -------------------------------------------------------------------------------------------


def drawing_products(right, products, n, seed, *, ends=(2.5, 97.5), replace=True):
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(products == name) for name in np.unique(products)]
    drawn = [rng.choice(len(members), len(members), replace=replace) for _ in range(n)]
    means = [right[np.concatenate([members[i] for i in d])].mean() for d in drawn]
    return tuple(np.percentile(means, ends))


def drawing_rows(right, products, n, seed):
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(right), (n, len(right)))
    return np.percentile(right[draws].mean(axis=1), [2.5, 97.5])


def product_means(right, products, n, seed):
    means = pd.Series(right).groupby(products).mean().to_numpy()
    draws = np.random.default_rng(seed).integers(0, len(means), (n, len(means)))
    return np.percentile(means[draws].mean(axis=1), [2.5, 97.5])


def test_product_interval_right(capsys):
    assert reply(capsys, exercises.check_product_interval, drawing_products)[0]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (drawing_rows, "you draw rows"),
        (product_means, "each product counts once"),
        (lambda *a: drawing_products(*a, ends=(5, 95)), "90 % interval"),
        (lambda *a: drawing_products(*a, replace=False), "no width"),
        (lambda *a: drawing_products(*a)[::-1], "lower end first"),
        (lambda r, p, n, s: drawing_products(r, p, n, 0), "nothing depends on the seed"),
        (unseeded(drawing_products), "two intervals"),
        (lambda r, p, n, s: (np.nan, 1.0), "NaN"),
        (lambda r, p, n, s: (0.1, 0.2 + s / 100), "expected about"),
    ],
)
def test_product_interval_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_product_interval, answer, hint)


# --- 4 -------------------------------------------------------------------------------------------


def dcg(gains, k):
    gains = np.asarray(gains, dtype=float)[:k]
    return np.sum(gains / np.log2(np.arange(2, len(gains) + 2)))


def ndcg_as_it_came(grades, scores, k):
    gains = 2.0**grades - 1
    return dcg(gains[np.argsort(-scores, kind="stable")], k) / dcg(np.sort(gains)[::-1], k)


def ndcg_right(grades, scores, k):
    _, tie = np.unique(-scores, return_inverse=True)
    gains = 2.0**grades - 1
    means = (np.bincount(tie, gains) / np.bincount(tie))[np.sort(tie)]
    return dcg(means, k) / dcg(np.sort(gains)[::-1], k)


def best_order_of_ties(grades, scores, k):
    order = np.lexsort((-grades, -scores))
    gains = 2.0**grades - 1
    return dcg(gains[order], k) / dcg(np.sort(gains)[::-1], k)


def ndcg_short_lists_fail(grades, scores, k):
    if k > len(grades):
        return 0.0
    return ndcg_right(grades, scores, k)


def ideal_of_the_top(grades, scores, k):
    gains = (2.0**grades - 1)[np.argsort(-scores)]
    return dcg(gains, k) / dcg(np.sort(gains[:k])[::-1], k)


def ideal_not_cut(grades, scores, k):
    gains = (2.0**grades - 1)[np.argsort(-scores)]
    return dcg(gains, k) / dcg(np.sort(gains)[::-1], None)


def one_over_rank(grades, scores, k):
    gains = 2.0**grades - 1
    weights = 1 / np.arange(1, k + 1)
    return gains[np.argsort(-scores)][:k] @ weights / (np.sort(gains)[::-1][:k] @ weights)


def precision_like(grades, scores, k):
    gains = 2.0**grades - 1
    return gains[np.argsort(-scores)][:k].sum() / np.sort(gains)[::-1][:k].sum()


def test_ndcg_right(capsys):
    assert reply(capsys, exercises.check_ndcg, ndcg_right)[0]
    assert reply(
        capsys, exercises.check_ndcg, lambda g, s, k: sk.ndcg_score([2.0**g - 1], [s], k=k)
    )[0]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda g, s, k: sk.ndcg_score([g], [s], k=k), "2^g − 1, not g"),
        (
            lambda g, s, k: dcg(2.0 ** g[np.argsort(-s)], k) / dcg(np.sort(2.0**g)[::-1], k),
            "grade 0",
        ),
        (lambda g, s, k: ndcg_right(g, -s, k), "sort falling"),
        (lambda g, s, k: ndcg_right(g, s, None), "first k ranks"),
        (ideal_of_the_top, "what you left out must hurt"),
        (ideal_not_cut, "a perfect order cannot reach 1"),
        (lambda g, s, k: dcg((2.0**g - 1)[np.argsort(-s)], k), "that is DCG"),
        (one_over_rank, "not 1/rank"),
        (precision_like, "every rank counts the same"),
        (lambda g, s, k: np.nan, "the first rank is 1"),
        (ndcg_short_lists_fail, "beyond the end"),
        (ndcg_as_it_came, "stand as they came"),
        (lambda g, s, k: ndcg_as_it_came(g[::-1], s[::-1], k), "stand as they came"),
        (best_order_of_ties, "gains the mean gain of the tie"),
        (lambda g, s, k: 0.5, "NDCG@3 of the first case"),
    ],
)
def test_ndcg_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_ndcg, answer, hint)


# --- 5 -------------------------------------------------------------------------------------------


def best_cut(labels, probs, cuts=None):
    cuts = np.unique(probs) if cuts is None else cuts
    return cuts[np.argmax([np.mean((probs >= t) == labels) for t in cuts])]


def honest(valid_labels, valid_probs, test_labels, test_probs):
    return np.mean((test_probs >= best_cut(valid_labels, valid_probs)) == test_labels)


def honest_last_of_the_best(valid_labels, valid_probs, test_labels, test_probs):
    cuts = np.unique(valid_probs)[::-1]
    return np.mean((test_probs >= best_cut(valid_labels, valid_probs, cuts)) == test_labels)


def on_validation(valid_labels, valid_probs, test_labels, test_probs):
    return np.mean((valid_probs >= best_cut(valid_labels, valid_probs)) == valid_labels)


def on_both(vy, vp, ty, tp):
    cut = best_cut(np.concatenate([vy, ty]), np.concatenate([vp, tp]))
    return np.mean((tp >= cut) == ty)


@pytest.mark.parametrize("answer", [honest, honest_last_of_the_best])
def test_honest_report_right(capsys, answer):
    right, line = reply(capsys, exercises.check_honest_report, answer)
    assert right, line


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (exercises.flawed_report, "still chosen on the test part"),
        (on_validation, "validation's"),
        (lambda vy, vp, ty, tp: np.mean((tp >= 0.5) == ty), "one half is honest but not chosen"),
        (on_both, "together with validation"),
        (lambda vy, vp, ty, tp: 1.0, "is between"),
    ],
)
def test_honest_report_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_honest_report, answer, hint)


def test_the_flaw_is_worth_something():
    """Tuned on test, the report is never below the honest one, and above it on average."""
    cases = [exercises._small_parts(seed) for seed in range(20, 32)]
    gaps = [exercises.flawed_report(*case) - honest(*case) for case in cases]
    assert min(gaps) >= 0
    assert np.mean(gaps) > 0.01
