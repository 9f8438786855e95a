"""The checks of notebook 03's exercises: right answers pass, typical wrong ones get their hint."""

import itertools
import random
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import get_linear_schedule_with_warmup
from transformers.trainer_pt_utils import get_parameter_names

from recsys_lib.exercises import fine_tuning as exercises
from recsys_lib.models import parameter_groups
from tests.unit.answers import reply

CHECKS = [
    exercises.check_train_step,
    exercises.check_schedule,
    exercises.check_decay_groups,
    exercises.check_accumulation,
    exercises.check_rows_at,
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("nonsense", [None, 3, "text", [], dict, lambda: None, lambda *a: None])
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


def step_right(model, batch, labels, optimizer, max_norm):
    model.train()
    loss = F.binary_cross_entropy_with_logits(model(**batch).logits[:, 0], labels.float())
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return loss.item()


def test_train_step_right(capsys):
    assert reply(capsys, exercises.check_train_step, step_right)[0]


def test_every_combination_of_the_bugs_ends_with_other_weights():
    bugs = list(exercises._STEP_BUGS)
    ends = [
        exercises._train(exercises._step_with(chosen))[0][-1]
        for count in range(len(bugs) + 1)
        for chosen in itertools.combinations(bugs, count)
    ]
    assert len(ends) == 16
    for a, b in itertools.combinations(ends, 2):
        assert (a - b).abs().max() > 1e-3  # far above the check's tolerance of 1e-5


def step_no_zero_grad(model, batch, labels, optimizer, max_norm):
    model.train()
    loss = F.binary_cross_entropy_with_logits(model(**batch).logits[:, 0], labels.float())
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return loss.item()


def step_clip_late(model, batch, labels, optimizer, max_norm):
    model.train()
    loss = F.binary_cross_entropy_with_logits(model(**batch).logits[:, 0], labels.float())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    return loss.item()


def step_broadcast(model, batch, labels, optimizer, max_norm):
    model.train()
    z = model(**batch).logits
    loss = (torch.logaddexp(z, torch.zeros_like(z)) - z * labels).mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return loss.item()


def step_without_train(model, batch, labels, optimizer, max_norm):
    loss = F.binary_cross_entropy_with_logits(model(**batch).logits[:, 0], labels.float())
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return loss.item()


def step_returns_graph(model, batch, labels, optimizer, max_norm):
    model.train()
    loss = F.binary_cross_entropy_with_logits(model(**batch).logits[:, 0], labels.float())
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return loss


def step_idle(model, batch, labels, optimizer, max_norm):
    return F.binary_cross_entropy_with_logits(model(**batch).logits[:, 0], labels.float()).item()


def step_sum(model, batch, labels, optimizer, max_norm):
    model.train()
    z = model(**batch).logits[:, 0]
    loss = F.binary_cross_entropy_with_logits(z, labels.float(), reduction="sum")
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 10 * max_norm)
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (step_no_zero_grad, "zero_grad is missing"),
        (step_clip_late, "clip before it"),
        (step_broadcast, "squeeze the logits"),
        (step_without_train, "call model.train()"),
        (step_returns_graph, "loss.item()"),
        (step_idle, "optimizer.step()"),
        (step_sum, "a mean over rows"),
        (exercises._step_with(("broadcast", "late clip")), "2 bugs are left"),
    ],
)
def test_train_step_hints(capsys, answer, hint):
    right, line = reply(capsys, exercises.check_train_step, answer)
    assert not right and hint in line


# --- 2 -------------------------------------------------------------------------------------------


def schedule_right(step, total, warmup):
    if step < warmup:
        return step / warmup
    return max(0.0, (total - step) / (total - warmup))


def test_schedule_right_and_equal_to_transformers(capsys):
    assert reply(capsys, exercises.check_schedule, schedule_right)[0]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    for total, warmup in ((10, 4), (50, 5), (7, 0)):
        factor = get_linear_schedule_with_warmup(optimizer, warmup, total).lr_lambdas[0]
        for step in range(total + 1):
            assert exercises._schedule(step, total, warmup) == pytest.approx(factor(step))


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda s, t, w: (s + 1) / w if s < w else (t - s) / (t - w), "one step early"),
        (lambda s, t, w: s / w if s < w else 1 - s / t, "and jumps"),
        (lambda s, t, w: s / w if s < w else 1.0, "nothing decays"),
        (lambda s, t, w: 1 - s / t, "no warm-up"),
        (lambda s, t, w: s / w if s < w else 1 - (s - w) / t, "reach 0 at step `total`"),
        (lambda s, t, w: min(s / w, (t - s) / (t - w)), "no warm-up; start at 1"),
        (lambda s, t, w: s // w if s < w else (t - s) // (t - w), "not //"),
        (lambda s, t, w: s / w if s < w else (t - s) / (t - w), "keep it at 0"),
        (lambda s, t, w: 0.5, "it should be"),
    ],
)
def test_schedule_hints(capsys, answer, hint):
    right, line = reply(capsys, exercises.check_schedule, answer)
    assert not right and hint in line


# --- 3 -------------------------------------------------------------------------------------------


def groups_as_transformers(model, weight_decay):
    """By the function with which `Trainer` chooses, told of embeddings too."""
    decaying = set(get_parameter_names(model, [nn.LayerNorm, nn.Embedding], ["bias"]))
    return groups_by(lambda n, p: n in decaying)(model, weight_decay)


def groups_by_module(model, weight_decay):
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    return groups_by(lambda n, p: p.ndim > 1 and id(p) not in tables)(model, weight_decay)


@pytest.mark.parametrize("answer", [groups_as_transformers, groups_by_module])
def test_decay_groups_right(capsys, answer):
    assert reply(capsys, exercises.check_decay_groups, answer)[0]


def groups_by(decays, *, trainable=True):
    def answer(model, weight_decay):
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad or not trainable]
        return [
            {"params": [p for n, p in named if decays(n, p)], "weight_decay": weight_decay},
            {"params": [p for n, p in named if not decays(n, p)], "weight_decay": 0.0},
        ]

    return answer


def groups_dropping_biases(model, weight_decay):
    return [{"params": [p for p in model.parameters() if p.requires_grad and p.ndim > 1],
             "weight_decay": weight_decay}]  # fmt: skip


def groups_twice(model, weight_decay):
    groups = groups_by_module(model, weight_decay)
    return [*groups, {"params": groups[0]["params"][:1], "weight_decay": 0.0}]


def groups_without_zero(model, weight_decay):
    groups = groups_by_module(model, weight_decay)
    return [groups[0], {"params": groups[1]["params"]}]


def groups_of_names(model, weight_decay):
    return [{"params": [n for n, _ in model.named_parameters()], "weight_decay": weight_decay}]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (groups_by(lambda n, p: True), "is the scale of a layer norm"),
        (groups_by(lambda n, p: "norm" in n.lower() or p.ndim > 1), "scale of a layer norm"),
        (groups_by(lambda n, p: not re.search(r"bias|LayerNorm|embeddings", n)), "norm1.weight"),
        (groups_by(lambda n, p: n.endswith("bias") or p.ndim > 1), "is a bias"),
        (parameter_groups, "position_embeddings.weight is the table of an nn.Embedding"),
        (groups_by(lambda n, p: p.ndim > 1 and "embed" not in n), "0.weight is the table"),
        (groups_by(lambda n, p: False), "of no embedding and must decay"),
        (groups_by(lambda n, p: p.ndim > 1, trainable=False), "is frozen"),
        (groups_dropping_biases, "never be trained"),
        (groups_twice, "stands in two groups"),
        (groups_without_zero, "default, 0.01"),
        (groups_of_names, "not its name"),
        (lambda model, decay: model.parameters(), "return a list of dicts"),
    ],
)
def test_decay_group_hints(capsys, answer, hint):
    right, line = reply(capsys, exercises.check_decay_groups, answer)
    assert not right and hint in line


# --- 4 -------------------------------------------------------------------------------------------


def accumulate_by(weight, *, keep=True, backward=True):
    def answer(model, parts):
        rows = sum(len(labels) for _, labels in parts)
        for batch, labels in parts:
            if not keep:
                model.zero_grad()
            z = model(**batch).logits[:, 0]
            loss = F.binary_cross_entropy_with_logits(z, labels.float())
            if backward:
                (loss * weight(len(labels), rows, len(parts))).backward()

    return answer


def test_accumulation_right(capsys):
    right = accumulate_by(lambda size, rows, parts: size / rows)
    assert reply(capsys, exercises.check_accumulation, right)[0]


def accumulate_as_one_batch(model, parts):
    batch = {key: torch.cat([part[key] for part, _ in parts]) for key in parts[0][0]}
    labels = torch.cat([labels for _, labels in parts]).float()
    F.binary_cross_entropy_with_logits(model(**batch).logits[:, 0], labels).backward()


def test_the_large_batch_itself_is_the_reference(capsys):
    assert reply(capsys, exercises.check_accumulation, accumulate_as_one_batch)[0]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (accumulate_by(lambda size, rows, parts: 1 / parts), "a mean of means"),
        (accumulate_by(lambda size, rows, parts: 1.0), "are added up: the gradient is too large"),
        (accumulate_by(lambda size, rows, parts: float(size)), "divide by their number"),
        (accumulate_by(lambda size, rows, parts: size / rows, keep=False), "zero_grad"),
        (accumulate_by(lambda size, rows, parts: 1.0, backward=False), "call backward()"),
        (accumulate_by(lambda size, rows, parts: -0.5 * size / rows), "0.50 times"),
    ],
)
def test_accumulation_hints(capsys, answer, hint):
    right, line = reply(capsys, exercises.check_accumulation, answer)
    assert not right and hint in line


# --- 5 -------------------------------------------------------------------------------------------


def rows_right(step, n, batch_size, seed):
    epoch, place = divmod(step, -(-n // batch_size))
    order = np.random.default_rng([seed, epoch]).permutation(n)
    return order[place * batch_size : (place + 1) * batch_size]


def rows_with(order, *, steps=lambda n, size: -(-n // size)):
    def answer(step, n, batch_size, seed):
        epoch, place = divmod(step, steps(n, batch_size))
        return order(n, seed, epoch)[place * batch_size : (place + 1) * batch_size]

    return answer


def draws(*words):
    return np.random.default_rng(list(words))


def global_numpy(n, seed, epoch):
    return np.random.permutation(n)  # noqa: NPY002 - the mistake itself


def seeding_globally(n, seed, epoch):
    np.random.seed(1000 * seed + epoch)  # noqa: NPY002
    return np.random.permutation(n)  # noqa: NPY002


def global_random(n, seed, epoch):
    return random.sample(range(n), n)


def dropping(step, n, batch_size, seed):
    rows = rows_right(step, n, batch_size, seed)
    return rows if len(rows) == batch_size else rows[:0]


def drawing_each_step(step, n, batch_size, seed):
    return draws(seed, step).permutation(n)[: batch_size if step % 5 < 4 else n % batch_size]


def one_epoch_only(step, n, batch_size, seed):
    return draws(seed).permutation(n)[step * batch_size : (step + 1) * batch_size]


@pytest.mark.parametrize("answer", [rows_right, lambda *a: rows_right(*a).tolist()])
def test_rows_at_right(capsys, answer):
    assert reply(capsys, exercises.check_rows_at, answer)[0]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (rows_with(lambda n, s, e: np.arange(n)), "shuffle them"),
        (rows_with(lambda n, s, e: draws(s).permutation(n)), "every epoch has the same order"),
        (rows_with(lambda n, s, e: draws(e).permutation(n)), "another seed gives the same order"),
        (rows_with(lambda n, s, e: draws(s + e).permutation(n)), "use [seed, epoch]"),
        (rows_with(lambda n, s, e: draws(s, e).permutation(n) + 1), "does not exist"),
        (rows_with(lambda n, s, e: draws(s, e).integers(n, size=n)), "exactly once"),
        (rows_with(global_numpy), "other rows when asked again"),
        (rows_with(seeding_globally), "a generator of its own"),
        (rows_with(global_random), "other rows when asked again"),
        (dropping, "are dropped"),
        (drawing_each_step, "exactly once"),
        (one_epoch_only, "first of the second epoch"),
        (lambda *a: 3, "as a list or an array"),
    ],
)
def test_rows_at_hints(capsys, answer, hint):
    right, line = reply(capsys, exercises.check_rows_at, answer)
    assert not right and hint in line


def test_checks_leave_the_global_generators_of_torch_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    exercises.check_train_step(step_right)
    exercises.check_rows_at(rows_right)
    assert torch.equal(before, torch.random.get_rng_state())
