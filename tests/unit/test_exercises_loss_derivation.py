"""The checks of notebook 01's exercises: right answers pass, typical wrong ones get their hint."""

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from recsys_lib import losses
from recsys_lib.exercises import loss_derivation as exercises
from tests.unit.answers import reply

CHECKS = [
    exercises.check_brier_slope,
    exercises.check_stable_bce,
    exercises.check_opposite,
    exercises.check_prior_correction,
    exercises.check_masked_info_nce,
]
OF_FUNCTIONS = [check for check in CHECKS if check is not exercises.check_opposite]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "nonsense",
    [None, 3, "text", [], {}, dict, lambda: None, lambda *a: None, lambda *a: "x", lambda *a: 1.0],
)
def test_nonsense_gets_a_line_and_no_exception(capsys, check, nonsense):
    assert not reply(capsys, check, nonsense)[0]


@pytest.mark.parametrize("check", OF_FUNCTIONS)
def test_an_exception_of_the_answer_is_reported(capsys, check):
    def answer(*_args):
        raise KeyError("my_column")

    right, line = reply(capsys, check, answer)
    assert not right
    assert "KeyError" in line
    assert "my_column" in line


@pytest.mark.parametrize("check", CHECKS)
def test_no_answer_yet(capsys, check):
    assert "not answered yet" in reply(capsys, check, None)[1]


# --- 1 -------------------------------------------------------------------------------------------


def test_brier_slope_by_autograd_is_right(capsys):
    def answer(z, y):
        z = torch.tensor(z, requires_grad=True)
        (slope,) = torch.autograd.grad(((torch.sigmoid(z) - torch.tensor(y)) ** 2).sum(), z)
        return slope.numpy()

    assert reply(capsys, exercises.check_brier_slope, answer)[0]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda z, y: 2 * (expit(z) - y), "chain rule"),
        (lambda z, y: expit(z) - y, "cross-entropy"),
        (lambda z, y: (expit(z) - y) * expit(z) * expit(-z), "factor 2"),
        (lambda z, y: 2 * (y - expit(z)) * expit(z) * expit(-z), "sign"),
        (lambda z, y: 2 * (expit(z) - y) * expit(z) * expit(-z) / 6, "divide by N"),
        (lambda z, y: 2 * (expit(z) - y) * expit(z) ** 2, "not h²"),
        (lambda z, y: 2 * (expit(z) - y) * expit(-z), "not 1 − h"),
        (lambda z, y: 0 * z, "at z = "),
        (lambda z, y: ((expit(z) - y) ** 2).mean(), "shape (6,)"),
    ],
)
def test_brier_slope_hints(capsys, answer, hint):
    right, line = reply(capsys, exercises.check_brier_slope, answer)
    assert not right
    assert hint in line


# --- 2 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        lambda z, y: np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z))),
        lambda z, y: np.logaddexp(0, z) * (1 - y) + np.logaddexp(0, -z) * y,
        lambda z, y: losses.bce_with_logits(
            torch.tensor(z), torch.tensor(y), reduction="none"
        ).numpy(),
    ],
)
def test_stable_forms_are_right(capsys, answer):
    assert reply(capsys, exercises.check_stable_bce, answer)[0]


def naive(z, y):
    h = 1 / (1 + np.exp(-z))
    return -(y * np.log(h) + (1 - y) * np.log(1 - h))


def clipped(z, y):
    h = np.clip(expit(z), 1e-12, 1 - 1e-12)
    return -(y * np.log(h) + (1 - y) * np.log(1 - h))


def rounded(z, y):
    return np.maximum(z, 0) - z * y + np.log(1 + np.exp(-np.abs(z)))


def not_a_number(z, y):
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where((z > 500) & (y == 1), np.nan, np.logaddexp(0, z) - z * y)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (naive, "only exp(−|z|)"),
        (clipped, "clipping"),
        (rounded, "log1p"),
        (not_a_number, "0 · ∞"),
        (lambda z, y: -rounded(z, y), "minus the log-likelihood"),
        (lambda z, y: np.logaddexp(0, -z) + z * y, "z and −z"),
        (lambda z, y: np.where(y == 1, rounded(z, y), 0), "both terms"),
        (lambda z, y: z, "even at small logits"),
        (lambda z, y: rounded(z, y).mean(), "shape (4,)"),
    ],
)
def test_stable_bce_hints(capsys, answer, hint):
    right, line = reply(capsys, exercises.check_stable_bce, answer)
    assert not right
    assert hint in line


# --- 3 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [[0.6] * 4 + [0.01], np.array([0.95] * 4 + [0.45])])
def test_opposite_directions_are_found(capsys, answer):
    h, y = np.asarray(answer), np.array(exercises.LABELS)
    z = torch.tensor(logit(h), requires_grad=True)
    losses.bce_with_logits(z, torch.tensor(y)).backward()
    step = -(y * h / (1 - h) - (1 - y) * (1 - h) / h).mean()
    assert z.grad.sum().item() * step < 0, "the case itself must be right"
    assert reply(capsys, exercises.check_opposite, answer)[0]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ([0.6, 0.6, 0.6, 0.6, 0.4], "the same direction"),
        ([0.9, 0.9, 0.9, 0.9, 0.4], "nothing left to improve"),
        ([0.9, 0.4, 0.9, 0.9, 0.4], "h2 = 0.4 decides label 1 wrongly"),
        ([0.9, 0.9, 0.9, 0.9, 0.6], "h5 = 0.6 decides label 0 wrongly"),
        ([1.0, 0.9, 0.9, 0.9, 0.4], "strictly between"),
        ([0.9, 0.9], "shape (2,)"),
        (["a"] * 5, "five numbers"),
    ],
)
def test_opposite_hints(capsys, answer, hint):
    right, line = reply(capsys, exercises.check_opposite, answer)
    assert not right
    assert hint in line


# --- 4 -------------------------------------------------------------------------------------------


def test_prior_correction_is_right(capsys):
    def answer(z, pos_weight, train_share, shop_share):
        return z - np.log(pos_weight) + logit(shop_share) - logit(train_share)

    assert reply(capsys, exercises.check_prior_correction, answer)[0]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda z, w, a, b: expit(z - np.log(w) + logit(b) - logit(a)), "probability"),
        (lambda z, w, a, b: z - np.log(w), "shares are not exchanged"),
        (lambda z, w, a, b: z + logit(b) - logit(a), "weight is still in"),
        (lambda z, w, a, b: z + np.log(w) + logit(b) - logit(a), "subtracted"),
        (lambda z, w, a, b: z - np.log(w) + logit(a) - logit(b), "wrong way"),
        (lambda z, w, a, b: z - np.log(w) + np.log(b / a), "log-odds"),
        (lambda z, w, a, b: z - w + logit(b) - logit(a), "not w itself"),
        (lambda z, w, a, b: z / w + logit(b) - logit(a), "divided by w"),
        (lambda z, w, a, b: z, "must become"),
    ],
)
def test_prior_correction_hints(capsys, answer, hint):
    right, line = reply(capsys, exercises.check_prior_correction, answer)
    assert not right
    assert hint in line


# --- 5 -------------------------------------------------------------------------------------------


def test_the_library_masks_false_negatives_rightly(capsys):
    def answer(s, false_negatives):
        keep = torch.tensor(~false_negatives | np.eye(len(s), dtype=bool))
        return losses.info_nce_gradient(torch.tensor(s), keep).numpy()

    assert reply(capsys, exercises.check_masked_info_nce, answer)[0]


def slope(s, out, *, fill=-np.inf, axis=1, keep_own=True):
    own = np.eye(len(s), dtype=bool)
    s = np.where(out & ~own if keep_own else out, fill, s)
    p = np.exp(s - s.max(axis=axis, keepdims=True))
    return (p / p.sum(axis=axis, keepdims=True) - own) / len(s)


def overflowing(s, out):
    kept = np.exp(s) * (~out | np.eye(len(s), dtype=bool))
    return (kept / kept.sum(axis=1, keepdims=True) - np.eye(len(s))) / len(s)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda s, out: slope(s, np.zeros_like(out)), "mask is not used"),
        (lambda s, out: np.where(out, 0, slope(s, np.zeros_like(out))), "denominator"),
        (lambda s, out: 5 * slope(s, out), "divide by N"),
        (lambda s, out: -slope(s, out), "sign"),
        (lambda s, out: slope(s, out, axis=0), "axis=1"),
        (lambda s, out: slope(s, out, fill=0.0), "exp(0) = 1"),
        (lambda s, out: slope(s, out) + np.eye(5) / 5, "diagonal"),
        (overflowing, "overflow"),
        (lambda s, out: slope(s, out, keep_own=False), "never be left out"),
        (lambda s, out: np.ones_like(s), "must sum to 0"),
        (lambda s, out: s[0], "shape (5, 5)"),
    ],
)
def test_masked_info_nce_hints(capsys, answer, hint):
    right, line = reply(capsys, exercises.check_masked_info_nce, answer)
    assert not right
    assert hint in line
