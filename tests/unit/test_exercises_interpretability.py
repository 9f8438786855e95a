"""The checks of notebook 06's exercises: right answers pass, typical wrong ones get their hint."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import IntegratedGradients
from scipy.integrate import trapezoid

from recsys_lib.exercises import interpretability as exercises
from recsys_lib.exercises import word_deletion
from recsys_lib.models import load_tokenizer
from tests.unit.answers import reply, wrong_with

OF_FUNCTIONS = exercises.CHECKS[1:]  # the first one takes a number


@pytest.mark.parametrize("check", exercises.CHECKS)
@pytest.mark.parametrize(
    "nonsense",
    [
        *(None, 3, "text", [], {}, dict, np.nan, [[1], [2, 3]], torch.ones(2, requires_grad=True)),
        *(lambda: None, lambda *a: None, lambda *a: "x", lambda *a: np.nan, lambda *a: a),
        *(lambda *a: [[1], [2, 3]], lambda *a: [None] * 4, lambda *a: (({}, 1),)),
        *(lambda *a: np.zeros((3, 2)), lambda *a: (None, None), lambda *a: ([1.0], [2.0])),
        *(lambda *a: torch.ones(2, 2, requires_grad=True), lambda *a: 1j),
    ],
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


@pytest.mark.parametrize("check", exercises.CHECKS)
def test_no_answer_yet(capsys, check):
    assert "not answered yet" in reply(capsys, check, None)[1]


@pytest.mark.parametrize("check", OF_FUNCTIONS)
def test_an_answer_that_changes_its_input_spoils_nothing(capsys, check):
    right = {
        exercises.check_integrated_gradients: path_right,
        exercises.check_by_word: by_word_right,
        exercises.check_deletion_curve: deletion_right,
    }[check]

    def answer(*args):
        value = right(*args)
        for arg in args:
            if isinstance(arg, np.ndarray | torch.Tensor):
                arg[...] = 1
        return value

    assert reply(capsys, check, answer)[0]
    assert reply(capsys, check, answer)[0]


# --- 1 -------------------------------------------------------------------------------------------

B, X, N = exercises.BASELINE, exercises.X, exercises.STEPS
MOVED = X**2 - B**2


def steps_sum(points, factor=2.0):
    return (X - B) * np.mean(factor * np.asarray(points))


FAR = B + np.arange(1, N + 1) / N * (X - B)


def test_completeness_gap_is_that_of_captum(capsys):
    """Captum's right Riemann sum of the same function."""
    method = IntegratedGradients(lambda x: x[:, 0] ** 2)
    x, baseline = (torch.tensor([[value]], dtype=torch.float64) for value in (X, B))
    theirs = {
        rule: method.attribute(x, baseline, n_steps=N, method=rule).item() - MOVED
        for rule in ("riemann_right", "riemann_left", "riemann_middle")
    }
    # Captum keeps the points of the path in float32
    assert theirs["riemann_right"] == pytest.approx(steps_sum(FAR) - MOVED, abs=1e-5)
    assert theirs["riemann_middle"] == pytest.approx(0, abs=1e-5)
    for answer in (theirs["riemann_right"], round(theirs["riemann_right"], 3), np.float32(0.3)):
        assert reply(capsys, exercises.check_completeness_gap, answer)[0]
    wrong_with(capsys, exercises.check_completeness_gap, theirs["riemann_left"], "the sign")
    wrong_with(capsys, exercises.check_completeness_gap, theirs["riemann_middle"], "middle of each")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (X * np.mean(2 * np.arange(1, N + 1) / N * X) - X**2, "starts at the baseline"),
        (steps_sum(FAR), "sum of the attributions; subtract"),
        (MOVED, "the gap is sum − that"),
        ((steps_sum(FAR) - MOVED) / MOVED, "as a share"),
        (100 * (steps_sum(FAR) - MOVED) / MOVED, "in percent"),
        (2 * X * (X - B) - MOVED, "one step only"),
        (steps_sum(FAR) - X**2, "f(baseline) is not 0"),
        (steps_sum(FAR, 1.0) - MOVED, "is 2x, not x"),
        (steps_sum(FAR) / (X - B) - MOVED, "factor x − baseline"),
        (N * steps_sum(FAR) - MOVED, "averaged over the steps"),
        ((X - B) ** 2 / N**2, "not like 1/n²"),
        (0.7, "0.7 is not it"),
        (np.inf, "not a finite number"),
        ("a lot", "must be numbers"),
        ([0.3, 0.4], "shape ()"),
    ],
)
def test_completeness_gap_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_completeness_gap, answer, hint)


def test_each_mistake_of_the_gap_has_a_value_of_its_own():
    values = sorted([steps_sum(FAR) - MOVED, *exercises._gap_mistakes().values()])
    for one, other in itertools.pairwise(values):
        assert not np.isclose(one, other, rtol=0.006, atol=0.004)


# --- 2 -------------------------------------------------------------------------------------------


def slopes(f, points):
    points = points.detach().clone().requires_grad_(True)
    f(points).sum().backward()
    return points.grad


def along(f, x, baseline, shares):
    return (x - baseline) * slopes(f, baseline + shares[:, None] * (x - baseline)).mean(0)


def path_right(f, x, baseline, steps):
    return along(f, x, baseline, (torch.arange(steps) + 0.5) / steps)


def point_by_point(f, x, baseline, steps):
    total = torch.zeros_like(x)
    for k in range(steps):
        total += slopes(f, baseline + (k + 0.5) / steps * (x - baseline))
    return ((x - baseline) * total / steps).numpy()


def by_captum(f, x, baseline, steps):
    method = IntegratedGradients(f)
    return method.attribute(x[None], baseline[None], n_steps=steps, method="riemann_middle")[0]


def with_graph(f, x, baseline, steps):
    """Still part of a graph, as an answer without .detach() is."""
    x = x.requires_grad_(True)
    points = baseline + ((torch.arange(steps) + 0.5) / steps)[:, None] * (x - baseline)
    return (x - baseline) * torch.autograd.grad(f(points).sum(), points)[0].mean(0)


def mean_backward(f, x, baseline, steps):
    points = baseline + ((torch.arange(steps) + 0.5) / steps)[:, None] * (x - baseline)
    points.requires_grad_(True)
    f(points).mean().backward()
    return (x - baseline) * points.grad.mean(0)


@pytest.mark.parametrize("answer", [path_right, point_by_point, by_captum, with_graph])
def test_integrated_gradients_right(capsys, answer):
    right, line = reply(capsys, exercises.check_integrated_gradients, answer)
    assert right, line


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda f, x, b, n: (x - b) * slopes(f, x), "slope at x only"),
        (lambda f, x, b, n: x * slopes(f, x), "gradient × input"),
        (lambda *a: path_right(*a) / (a[1] - a[2]), "those are mean slopes"),
        (lambda *a: path_right(*a) / (a[1] - a[2]) * a[1], "not by x"),
        (lambda *a: -path_right(*a), "not baseline − x"),
        (lambda f, x, b, n: along(f, x, b, torch.arange(1, n + 1) / n), "far end"),
        (lambda f, x, b, n: along(f, x, b, torch.arange(n) / n), "near end"),
        (lambda f, x, b, n: along(f, x, b, torch.linspace(0, 1, n)), "linspace"),
        (lambda f, x, b, n: along(f, x, b, torch.tensor([0.5])), "one step only"),
        (lambda *a: a[3] * path_right(*a), "added up"),
        (mean_backward, "twice"),
        (lambda f, x, b, n: path_right(f, x, 0 * b, n), "starts at 0"),
        (
            lambda f, x, b, n: path_right(lambda p: f(p - b), x, b, n),
            "add the baseline",
        ),
        (lambda *a: path_right(*a).abs(), "absolute value"),
        (lambda f, x, b, n: path_right(f, x, b, 300), "use `steps`"),
        (lambda *a: path_right(*a) / 0, "not finite"),
        (lambda *a: path_right(*a).sum(), "must have shape (4,)"),
        (lambda *a: path_right(*a) + 0.1, "case 1, 6 steps: input"),
        (lambda f, x, b, n: f(torch.ones(7)), "the inputs last; you gave it (7,)"),
        (lambda f, x, b, n: f(x[0]), "you gave it ()"),
    ],
)
def test_integrated_gradients_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_integrated_gradients, answer, hint)


def test_each_mistake_of_the_path_has_values_of_its_own():
    formulas = [exercises._right_path, *exercises._PATH_MISTAKES.values()]
    rows = [np.concatenate([f(*case).numpy() for case in exercises._PATHS]) for f in formulas]
    for one, other in itertools.combinations(rows, 2):
        assert np.abs(one - other).max() > 0.01


def test_the_functions_have_the_slopes_of_finite_differences():
    f, x, *_ = exercises._PATHS[0]
    step = 1e-6 * torch.eye(len(x), dtype=x.dtype)
    by_difference = (f(x + step) - f(x - step)) / 2e-6
    np.testing.assert_allclose(slopes(f, x), by_difference, rtol=1e-6, atol=1e-8)


# --- 3 -------------------------------------------------------------------------------------------


def by_word_right(offsets, values, spans):
    real = offsets[:, 1] > offsets[:, 0]
    inside = real & (offsets[:, 0] >= spans[:, :1]) & (offsets[:, 1] <= spans[:, 1:])
    words = np.where(inside.any(axis=1), inside @ values, np.nan)
    return words, values[~inside.any(axis=0)].sum()


def by_loop(offsets, values, spans):
    words, rest = [np.nan] * len(spans), 0.0
    for (start, end), value in zip(offsets, values, strict=True):
        home = [i for i, (a, b) in enumerate(spans) if start < end and a <= start and end <= b]
        if home:
            words[home[0]] = np.nansum([words[home[0]], value])
        else:
            rest += value
    return words, rest


def grouped(how):
    """Pieces put together by pandas, in another way than by their sum."""

    def answer(offsets, values, spans):
        start, end = offsets.T
        inside = (start < end) & (spans[:, :1] <= start) & (end <= spans[:, 1:])
        word = np.where(inside.any(axis=0), inside.argmax(axis=0), -1)
        words = pd.Series(values).groupby(word).agg(how).drop(-1)
        return words.to_numpy(), by_word_right(offsets, values, spans)[1]

    return answer


def joined(test):
    """Words by another rule of what lies inside, the rest consistent with it."""

    def answer(offsets, values, spans):
        start, end = offsets.T
        inside = np.array([test(start, end, low, high) for low, high in spans])
        return inside @ values, values[~inside.any(axis=0)].sum()

    return answer


def with_rest(change):
    return lambda *a: (by_word_right(*a)[0], change(*a))


def with_words(change):
    def answer(*args):
        words, rest = by_word_right(*args)
        return change(words), rest

    return answer


@pytest.mark.parametrize("answer", [by_word_right, by_loop, lambda *a: list(by_word_right(*a))])
def test_by_word_right(capsys, answer):
    right, line = reply(capsys, exercises.check_by_word, answer)
    assert right, line


def test_by_word_is_what_the_tokenizer_says():
    """BERT's tokenizer knows which word a piece belongs to, without its characters."""
    text = "Gorgeous cardigan, pilling unbelievably quickly"
    tokens = load_tokenizer()(text, return_offsets_mapping=True)
    offsets, words = np.array(tokens["offset_mapping"]), tokens.word_ids()
    n = max(word for word in words if word is not None) + 1
    spans = np.array([tokens.word_to_chars(word) for word in range(n)])
    values = np.random.default_rng(0).normal(size=len(offsets))
    mine, rest = by_word_right(offsets, values, spans)
    assert len(words) > n + 2, "some word must have several pieces"
    of_tokenizer = pd.Series(values).groupby([-1 if w is None else w for w in words]).sum()
    np.testing.assert_allclose(mine, of_tokenizer[range(n)])
    assert rest == pytest.approx(of_tokenizer[-1])


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (joined(lambda s, e, a, b: (s >= a) & (e <= b)), "keep tokens of length 0 out"),
        (joined(lambda s, e, a, b: (s >= a) & (e < b) & (s < e)), "may end where its"),
        (joined(lambda s, e, a, b: (s == a) & (s < e)), "only the first piece"),
        (joined(lambda s, e, a, b: (s >= a) & (s <= b) & (s < e)), "a comma starts"),
        (grouped("mean"), "that is the mean"),
        (grouped(lambda v: v.iloc[v.abs().argmax()]), "strongest piece"),
        (grouped("last"), "overwrites"),
        (grouped(lambda v: v.abs().sum()), "absolute values"),
        (with_rest(lambda o, v, s: 0.0), "belongs to the explanation too"),
        (with_rest(lambda o, v, s: v[[0, -1]].sum()), "the comma with the special tokens"),
        (with_rest(lambda o, v, s: v.sum()), "total of all tokens"),
        (with_rest(lambda o, v, s: 9.0), "text 1: the rest, all tokens in no word"),
        (with_words(lambda words: 2 * words), "text 1: the word at 0–4 has"),
        (with_words(np.nan_to_num), "its value is NaN"),
        (lambda *a: by_word_right(*a)[0], "return two things"),
        (lambda *a: ([1.0], 0.0), "must have shape (4,)"),
        (with_rest(lambda o, v, s: v), "the rest, one number,"),
    ],
)
def test_by_word_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_by_word, answer, hint)


def test_each_mistake_of_the_pieces_has_values_of_its_own():
    ways = [(), *exercises._PIECES_HINTS]
    rows = [
        np.concatenate([exercises._in_words(*c, *how) for c in exercises._TEXTS]) for how in ways
    ]
    assert len(np.unique(np.round(rows, 6), axis=0)) == len(rows)


# --- 4 -------------------------------------------------------------------------------------------


def curve_of(score, order):
    kept = np.ones(len(order), dtype=bool)
    curve = [score(kept)]
    for word in order:
        kept[word] = False
        curve.append(score(kept))
    return np.array(curve)


def area(curve):
    return trapezoid(curve, np.linspace(0, 1, len(curve)))


def deletion_right(score, values):
    curve = curve_of(score, np.argsort(-values))
    return curve, area(curve)


def in_order(order):
    def answer(score, values):
        curve = curve_of(score, order(values))
        return curve, area(curve)

    return answer


def bent(change):
    def answer(score, values):
        curve = change(score, curve_of(score, np.argsort(-values)))
        return curve, area(curve)

    return answer


def with_area(change):
    return lambda s, v: (deletion_right(s, v)[0], change(deletion_right(s, v)[0]))


def insertion(score, values):
    curve = curve_of(lambda kept: score(~kept), np.argsort(-values))
    return curve, area(curve)


def occluded(score, values):
    n = len(values)
    curve = [score(np.ones(n)), *(score(np.arange(n) != w) for w in np.argsort(-values))]
    return curve, area(curve)


def by_index(score, values):
    return [score(np.arange(len(values))[k:]) for k in range(len(values))], 0.0


def two_words_at_least(score, values):
    assert len(values) > 1
    return deletion_right(score, values)


def nothing_for_one(score, values):
    return deletion_right(score, values) if len(values) > 1 else ([0.0, 0.0], 0.0)


@pytest.mark.parametrize(
    "answer",
    [deletion_right, lambda s, v: [list(deletion_right(s, v)[0]), deletion_right(s, v)[1]]],
)
def test_deletion_curve_right(capsys, answer):
    right, line = reply(capsys, exercises.check_deletion_curve, answer)
    assert right, line


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (in_order(np.argsort), "begins with the lowest"),
        (in_order(lambda v: np.argsort(-np.abs(v))), "|attribution|"),
        (in_order(lambda v: range(len(v))), "order of the text"),
        (insertion, "that is insertion"),
        (occluded, "put back before"),
        (bent(lambda s, c: c[0] - c), "those are drops"),
        (bent(lambda s, c: c[::-1]), "backwards"),
        (bent(lambda s, c: c / c[0]), "divided by the score"),
        (bent(lambda s, c: c + 1), "without a deletion the score is"),
        (bent(lambda s, c: np.r_[c[:2], c[2:] + 1]), "case 1: without words ["),
        (bent(lambda s, c: c[:-1]), "6 words give 7 points"),
        (bent(lambda s, c: c[:-2]), "must have shape (7,)"),
        (with_area(lambda c: trapezoid(c)), "1/W wide"),
        (with_area(np.mean), "both ends in full"),
        (with_area(np.sum), "its sum"),
        (with_area(lambda c: c[:-1].mean()), "left point only"),
        (with_area(lambda c: c[1:].mean()), "right point only"),
        (with_area(lambda c: -area(c)), "wrong sign"),
        (with_area(lambda c: (c[0] - c[1:]).mean()), "comprehensiveness"),
        (with_area(lambda c: c[0] - area(c)), "area above it"),
        (with_area(lambda c: trapezoid(c) / len(c)), "not as many as there are points"),
        (with_area(lambda c: 5.0), "the area of case 1 is"),
        (with_area(lambda c: c), "the area, one number,"),
        (lambda s, v: deletion_right(s, v)[0], "(curve, area)"),
        (by_index, "a mask of all 6 words"),
        (lambda s, v: s(None), "you gave it None"),
        (nothing_for_one, "a text of one word has a curve too"),
        (two_words_at_least, "AssertionError"),
    ],
)
def test_deletion_curve_wrong(capsys, answer, hint):
    wrong_with(capsys, exercises.check_deletion_curve, answer, hint)


def test_each_mistake_of_the_curve_has_values_of_its_own():
    cases = word_deletion._CASES
    right = [curve_of(score, np.argsort(-values)) for score, values in cases]
    rows = [np.concatenate(right)]
    rows += [np.concatenate([m(*c) for c in cases]) for m in word_deletion._CURVE_MISTAKES.values()]
    assert len(np.unique(np.round(rows, 6), axis=0)) == len(rows)
    rows = [[area(curve) for curve in right]]
    rows += [[m(curve) for curve in right] for m in word_deletion._AREA_MISTAKES.values()]
    assert len(np.unique(np.round(rows, 6), axis=0)) == len(rows)


def test_the_attributions_are_better_than_chance():
    """Or the exercise would praise an order that is none."""
    mine = np.mean([deletion_right(*case)[1] for case in word_deletion._CASES])
    assert mine < word_deletion._random_area() - 0.2
