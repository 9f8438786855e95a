"""Exercises of notebook 03. Each check runs the reader's function and names the mistake it makes.

A check prints one line, "✓ …" or "✗ …" with a hint, and returns whether the answer is right. Where
a mistake is typical, the check computes what that mistake would give, so that the hint is about
*this* answer.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig, BertForSequenceClassification

from recsys_lib.exercises.answers import examine, say

_MAX_NORM = 0.2


def _examine(answer: object, signature: str, check: Callable[[], bool]) -> bool:
    """`examine` without a trace in torch's global generator."""
    with torch.random.fork_rng(devices=[]):
        return examine(answer, signature, check)


class _Toy(nn.Module):
    """A classifier small enough to check by hand, called like those of Hugging Face."""

    def __init__(self, seed: int = 0):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.words = nn.Parameter(torch.randn(12, 4, generator=draw))
        self.head = nn.Parameter(torch.randn(4, 1, generator=draw))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        mask = attention_mask[:, :, None].float()
        text = (self.words[input_ids] * mask).sum(1) / mask.sum(1)
        return SimpleNamespace(logits=F.dropout(text, 0.3, self.training) @ self.head)

    def flat(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in self.parameters()])

    def gradient(self) -> torch.Tensor | None:
        grads = [p.grad for p in self.parameters()]
        return None if any(g is None for g in grads) else torch.cat([g.flatten() for g in grads])


def _toy_batches(sizes: tuple[int, ...]) -> list[tuple[dict[str, torch.Tensor], torch.Tensor]]:
    draw = torch.Generator().manual_seed(7)
    batches = []
    for size in sizes:
        ids = torch.randint(12, (size, 5), generator=draw)
        mask = (torch.arange(5) < torch.randint(2, 6, (size, 1), generator=draw)).long()
        labels = torch.randint(2, (size,), generator=draw)
        batches.append(({"input_ids": ids, "attention_mask": mask}, labels))
    return batches


# --- 1: mend a training step ---------------------------------------------------------------------

_STEP_BUGS = {
    "broadcast": "(B, 1) logits against (B,) labels broadcast to B × B losses: squeeze the logits",
    "no zero_grad": "each step still holds the gradients of all steps before: zero_grad is missing",
    "late clip": "clipping after optimizer.step() changes nothing any more: clip before it",
    "evaluation mode": "the model came in evaluation mode and stayed in it: call model.train()",
}


def _train(step: Callable[..., object]) -> tuple[list[torch.Tensor], list[object]]:
    """Weights after each of four steps on the toy, and what the steps returned."""
    model = _Toy().eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    weights, returned = [], []
    for number, (batch, labels) in enumerate(_toy_batches((6, 6, 6, 3))):
        torch.manual_seed(number)
        returned.append(step(model, batch, labels, optimizer, _MAX_NORM))
        weights.append(model.flat())
    return weights, returned


def _step_with(bugs: tuple[str, ...]) -> Callable[..., float]:
    def step(model, batch, labels, optimizer, max_norm) -> float:
        if "evaluation mode" not in bugs:
            model.train()
        z = model(**batch).logits
        if "broadcast" not in bugs:
            z = z.squeeze(-1)
        loss = (F.softplus(z) - z * labels).mean()
        if "no zero_grad" not in bugs:
            optimizer.zero_grad()
        loss.backward()
        if "late clip" not in bugs:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        return loss.item()

    return step


def _alike(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.allclose(x, y, atol=1e-5) for x, y in zip(a, b, strict=True))


def check_train_step(answer: object) -> bool:
    """Exercise 1: `train_step(model, batch, labels, optimizer, max_norm)` with its bugs mended."""

    def check() -> bool:
        weights, returned = _train(answer)
        for count in range(len(_STEP_BUGS) + 1):
            for bugs in itertools.combinations(_STEP_BUGS, count):
                if _alike(weights, _train(_step_with(bugs))[0]):
                    return _judge_step(bugs, returned)
        right, _ = _train(_step_with(()))
        if torch.allclose(weights[-1], _Toy().flat()):
            return say(False, "the weights never change: is optimizer.step() called?")
        wrong = next(i for i, (x, y) in enumerate(zip(weights, right, strict=True))
                     if not torch.allclose(x, y, atol=1e-5))  # fmt: skip
        if wrong == 0:
            return say(
                False, "step 1 goes elsewhere: check the loss (a mean over rows) and max_norm"
            )
        return say(False, f"step 1 is right, step {wrong + 1} is not: what is left of the first?")

    return _examine(answer, "train_step(model, batch, labels, optimizer, max_norm)", check)


def _judge_step(bugs: tuple[str, ...], returned: list[object]) -> bool:
    if bugs:
        left = "1 bug is left" if len(bugs) == 1 else f"{len(bugs)} bugs are left"
        return say(False, f"{left}. The first: {_STEP_BUGS[bugs[0]]}")
    if any(isinstance(value, torch.Tensor) and value.requires_grad for value in returned):
        return say(
            False,
            "the weights are right, but the returned loss still holds its whole graph in memory: "
            "return loss.item()",
        )
    if any(value is None for value in returned):
        return say(False, "the weights are right, but nothing is returned: return loss.item()")
    return say(True, "after four steps every weight is that of the correct loop")


# --- 2: the learning rate's schedule -------------------------------------------------------------


def _schedule(step: int, total: int, warmup: int) -> float:
    if step < warmup:
        return step / warmup
    return max(0.0, (total - step) / max(1, total - warmup))


_SCHEDULE_MISTAKES: dict[str, Callable[[int, int, int], float]] = {
    "your warm-up is one step early: here step 0 has the factor 0, as in transformers": (
        lambda s, t, w: (s + 1) / w if s < w else _schedule(s, t, w)
    ),
    "the decay must start at 1 where the warm-up ends: yours falls from step 0 on and jumps": (
        lambda s, t, w: s / w if s < w else 1 - s / t
    ),
    "the warm-up is right, but nothing decays after it": lambda s, t, w: min(1.0, s / max(1, w)),
    "the decay is right, but there is no warm-up": lambda s, t, w: 1 - s / t,
    "after the warm-up the factor must reach 0 at step `total`, not at total + warmup": (
        lambda s, t, w: s / w if s < w else 1 - (s - w) / t
    ),
}


def check_schedule(answer: object) -> bool:
    """Exercise 2: `schedule(step, total, warmup)`, the factor of the highest learning rate."""
    cases = [(s, t, w) for t, w in ((10, 4), (50, 5), (7, 0)) for s in range(t + 1)]

    def check() -> bool:
        try:
            given = np.array([float(answer(*case)) for case in cases])
        except ZeroDivisionError:
            return say(False, "ZeroDivisionError: warmup = 0 means no warm-up; start at 1 then")
        right = np.array([_schedule(*case) for case in cases])
        if np.allclose(given, right, atol=1e-9):
            beyond = float(answer(13, 10, 4))
            if beyond < 0:
                return say(False, f"at step 13 of 10 the factor is {beyond:.2f}: keep it at 0")
            return say(True, "rises to 1, falls to 0, and copes with no warm-up at all")
        for hint, mistake in _SCHEDULE_MISTAKES.items():
            warmed = [i for i, (_, _, w) in enumerate(cases) if w]
            if np.allclose(given[warmed], [mistake(*cases[i]) for i in warmed], atol=1e-9):
                return say(False, hint)
        if set(np.unique(given)) <= {0.0, 1.0}:
            return say(False, "only 0 and 1 come back: use / (division), not // (whole numbers)")
        worst = int(np.abs(given - right).argmax())
        step, total, warmup = cases[worst]
        return say(
            False,
            f"schedule({step}, {total}, {warmup}) is {given[worst]:.3f}; "
            f"{'in the warm-up' if step < warmup else 'in the decay'} it should be "
            f"{right[worst]:.3f}",
        )

    return _examine(answer, "schedule(step, total, warmup)", check)


# --- 3: what weight decay may touch --------------------------------------------------------------


def _decay_models() -> list[nn.Module]:
    """Two models, each with a frozen matrix, whose layer norms and embeddings are named unlike."""
    config = BertConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=16, num_labels=1)  # fmt: skip
    bert = BertForSequenceClassification(config)
    bert.bert.embeddings.word_embeddings.weight.requires_grad_(False)
    plain = nn.Sequential(nn.Embedding(30, 8), nn.TransformerEncoderLayer(8, 2, 16))
    plain[1].linear1.weight.requires_grad_(False)
    return [bert, plain]


def check_decay_groups(answer: object) -> bool:
    """Exercise 3: `split_decay(model, weight_decay)`, AdamW's groups: embeddings do not decay."""

    def check() -> bool:
        for model in _decay_models():
            hint = _decay_mistake(answer(model, 0.05), model, 0.05)
            if hint:
                return say(False, hint)
        return say(True, "each trainable parameter once; matrices decay, embeddings do not")

    return _examine(answer, "split_decay(model, weight_decay)", check)


def _decay_mistake(groups: object, model: nn.Module, decay: float) -> str:
    if not isinstance(groups, (list, tuple)) or not all(isinstance(g, dict) for g in groups):
        return (
            'return a list of dicts, {"params": [...], "weight_decay": ...}, as AdamW takes it; '
            f"this is {type(groups).__name__}"
        )
    groups = [{**group, "params": list(group.get("params", ()))} for group in groups]
    if any("weight_decay" not in group for group in groups):
        return "a group without its own weight_decay gets AdamW's default, 0.01: write 0.0"
    names = {id(p): name for name, p in model.named_parameters()}
    given = [(names.get(id(p)), p, g["weight_decay"]) for g in groups for p in g["params"]]
    if any(name is None or isinstance(p, str) for name, p, _ in given):
        return "the groups hold something that is no parameter of the model: put p, not its name"
    listed = [name for name, _, _ in given]
    if len(set(listed)) < len(listed):
        twice = next(name for name in listed if listed.count(name) > 1)
        return f"{twice} stands in two groups: it would be updated twice"
    frozen = [name for name, p, _ in given if not p.requires_grad]
    if frozen:
        return f"{frozen[0]} is frozen (requires_grad is False): leave it out"
    missing = [n for n, p in model.named_parameters() if p.requires_grad and n not in set(listed)]
    if missing:
        return f"{missing[0]} is in no group: it would never be trained"
    for name, p, value in given:
        if p.ndim < 2 and value != 0:
            what = "a bias" if "bias" in name else "the scale of a layer norm"
            return f"{name} is {what}: pulling it towards 0 makes no sense, give it decay 0"
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for name, p, value in given:
        if id(p) in tables and value != 0:
            return (
                f"{name} is the table of an nn.Embedding: give it decay 0, else vectors that no "
                "text of a batch uses shrink too"
            )
        if p.ndim >= 2 and id(p) not in tables and value != decay:
            return f"{name} is a matrix of no embedding and must decay with {decay}: it has {value}"
    return ""


# --- 4: accumulation -----------------------------------------------------------------------------


def _accumulate(model: nn.Module, parts: list, *, weigh: Callable[..., float], keep=True) -> None:
    rows = sum(len(labels) for _, labels in parts)
    for batch, labels in parts:
        if not keep:
            model.zero_grad()
        z = model(**batch).logits.squeeze(-1)
        share = weigh(size=len(labels), rows=rows, parts=len(parts))
        (F.binary_cross_entropy_with_logits(z, labels.float()) * share).backward()


_ACCUMULATION_MISTAKES = {
    "a mean of means: the 2 rows of the last part weigh as much as the 7 of the first. "
    "Weight each part by its share of the rows": {
        "weigh": lambda size, rows, parts: 1 / parts,
    },
    "the parts' mean losses are added up: the gradient is too large. Weight each part by its share "
    "of the rows": {"weigh": lambda size, rows, parts: 1.0},
    "the losses of all rows are added up: divide by their number": {
        "weigh": lambda size, rows, parts: float(size),
    },
    "only the last part is left: do not call zero_grad between the parts": {
        "weigh": lambda size, rows, parts: size / rows,
        "keep": False,
    },
}


def check_accumulation(answer: object) -> bool:
    """Exercise 4: `accumulate(model, parts)` leaves the gradient of one large batch."""
    parts = _toy_batches((7, 5, 2))

    def gradient(run: Callable[[nn.Module], object]) -> torch.Tensor | None:
        model = _Toy().eval()
        run(model)
        return model.gradient()

    def check() -> bool:
        given = gradient(lambda model: answer(model, parts))
        if given is None:
            return say(False, "no gradient in the parameters afterwards: call backward() per part")
        share = {"weigh": lambda size, rows, parts: size / rows}
        right = gradient(lambda model: _accumulate(model, parts, **share))
        if torch.allclose(given, right, atol=1e-6):
            return say(True, "three unequal parts give the gradient of the batch of all 14 rows")
        for hint, mistake in _ACCUMULATION_MISTAKES.items():
            wrong = gradient(lambda model, m=mistake: _accumulate(model, parts, **m))
            if torch.allclose(given, wrong, atol=1e-6):
                return say(False, hint)
        ratio = float(given.norm() / right.norm())
        return say(False, f"the gradient's norm is {ratio:.2f} times that of the large batch")

    return _examine(answer, "accumulate(model, parts)", check)


# --- 5: an order that can be resumed -------------------------------------------------------------


def check_rows_at(answer: object) -> bool:
    """Exercise 5: `rows_at(step, n, batch_size, seed)`, the rows of one step of a run."""

    def check() -> bool:
        hint = _order_mistake(answer)
        return say(not hint, hint or "any step of any epoch can be had without the ones before")

    return _examine(answer, "rows_at(step, n, batch_size, seed)", check)


def _order_mistake(rows_at: Callable[..., object], n: int = 23, size: int = 5) -> str:
    steps = -(-n // size)

    def epoch(number: int, seed: int = 0) -> list[list[int]]:
        first = number * steps
        return [np.asarray(rows_at(s, n, size, seed)).tolist() for s in range(first, first + steps)]

    state = np.random.get_state()[1].copy()  # noqa: NPY002 - does the answer use it?
    zero = epoch(0)
    if not all(isinstance(rows, list) for rows in zero):
        return "return the rows of the step as a list or an array"
    flat = [row for rows in zero for row in rows]
    if len(flat) == n - n % size and len(zero[-1]) == 0:
        return f"the last {n % size} rows of an epoch are dropped: let the last batch be smaller"
    if any(not 0 <= row < n for row in flat):
        return f"row {max(flat)} does not exist: rows run from 0 to {n - 1}"
    if epoch(0) != zero:
        return (
            "the same step gives other rows when asked again: draw from a generator made from seed "
            "and epoch, np.random.default_rng([seed, epoch])"
        )
    if not np.array_equal(state, np.random.get_state()[1]):  # noqa: NPY002
        return "np.random.seed changes every other draw of the program: use a generator of its own"
    if sorted(flat) != list(range(n)):
        return "within one epoch every row must come exactly once: permute once per epoch, then cut"
    if [len(rows) for rows in zero] != [size] * (steps - 1) + [n % size]:
        return f"batches of {[len(rows) for rows in zero]} rows: {size} in each but the last"
    if flat == list(range(n)):
        return "the rows come in the order of the file: shuffle them"
    one = epoch(1)
    if [len(rows) for rows in one] != [len(rows) for rows in zero]:
        return f"step {steps} is the first of the second epoch: use divmod(step, steps per epoch)"
    if sorted(row for rows in one for row in rows) != list(range(n)):
        return "in the second epoch some rows are missing: shuffle once for each epoch"
    if one == zero:
        return "every epoch has the same order: put the epoch into the generator's seed"
    if epoch(0, seed=1) == zero:
        return "another seed gives the same order"
    if epoch(0, seed=1) == one:
        return "seed + epoch makes seed 0's second epoch seed 1's first: use [seed, epoch]"
    return ""
