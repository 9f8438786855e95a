"""The training loop: `fit` fine-tunes a model on one CPU, one GPU, or many; `predict` scores.

`accelerate` places the model and averages gradients between processes (`accelerate launch`); the
loop itself stays in sight. A run is a function of its data, its configuration and its seed: every
optimizer step seeds the generators anew, so that a run which was killed and resumed ends with the
same bits as one that was not.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator

from recsys_lib.checkpoints import clear_checkpoints, load_checkpoint, save_checkpoint
from recsys_lib.losses import bce_with_logits
from recsys_lib.metrics import auc
from recsys_lib.models import autocast, evaluating, parameter_groups
from recsys_lib.text import Encoded, collate, make_batches
from recsys_lib.workbook.errors import InputError
from recsys_lib.workbook.files import atomic_write
from recsys_lib.workbook.progress import progress as progress_bar

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Metric = Callable[[np.ndarray, np.ndarray], float]
Part = tuple[Encoded, np.ndarray]
_SCHEDULES = ("linear", "cosine", "constant")


class TrainingError(RuntimeError):
    """Training cannot go on: the loss or its gradient is not a finite number."""

    def _render_traceback_(self) -> list[str]:
        """In a notebook, show the one line."""
        return [f"TrainingError: {self}"]


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    epochs: passes over the data; a fraction stops inside a pass.
    lr: the highest learning rate. warmup: the share of steps in which it rises from 0; it then
        falls to 0 by `schedule` ("linear", "cosine") or stays ("constant").
    batch_size, max_tokens: limits of one batch, in rows and in cells, see `text.make_batches`.
    accumulate: batches per optimizer step.
    weight_decay: of AdamW, on matrices only. clip: the largest norm of the gradient.
    precision: "auto" (bf16 where the hardware computes in it), "bf16" or "fp32".
    by_length: batches of texts of like length. shuffle: a new random order in every epoch.
    eval_every: optimizer steps between validations (None: at the end of each epoch).
    patience: validations without a better one until training stops (None: never).
    checkpoint_every: optimizer steps between checkpoints in `run_dir` (None: at each validation).
    seed: of the order and of dropout.
    """

    epochs: float = 1.0
    lr: float = 1e-4
    batch_size: int | None = 32
    max_tokens: int | None = None
    accumulate: int = 1
    warmup: float = 0.1
    schedule: str = "linear"
    weight_decay: float = 0.01
    clip: float = 1.0
    precision: str = "auto"
    by_length: bool = True
    shuffle: bool = True
    eval_every: int | None = None
    patience: int | None = None
    checkpoint_every: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        allowed = {
            "epochs": (self.epochs > 0, "above 0"),
            "lr": (self.lr > 0, "above 0"),
            "accumulate": (self.accumulate >= 1, "at least 1"),
            "warmup": (0 <= self.warmup < 1, "from 0 to below 1"),
            "schedule": (self.schedule in _SCHEDULES, f"one of {', '.join(_SCHEDULES)}"),
            "weight_decay": (self.weight_decay >= 0, "at least 0"),
            "clip": (self.clip > 0, "above 0"),
            "eval_every": (self.eval_every is None or self.eval_every >= 1, "at least 1"),
            "patience": (self.patience is None or self.patience >= 1, "at least 1"),
            "checkpoint_every": (
                self.checkpoint_every is None or self.checkpoint_every >= 1,
                "at least 1",
            ),
        }
        for name, (fine, what) in allowed.items():
            if not fine:
                raise InputError(f"{name} = {getattr(self, name)!r} must be {what}.")


@dataclass(frozen=True)
class FitResult:
    """What a training run did.

    history: a row per optimizer step: step (1-based), epoch (passes done), loss (mean over the
        step's rows, before the update), lr, grad_norm (before clipping), examples, seconds (since
        the start, without validation), and valid_loss, valid_metric where it was validated.
    steps, seconds, examples_per_second: of the whole run, without validation.
    best_step, best_metric: the validation whose weights the model has now; None without validation.
    stopped_early: whether `patience` ended the run.
    """

    history: pd.DataFrame
    steps: int
    seconds: float
    examples_per_second: float
    best_step: int | None
    best_metric: float | None
    stopped_early: bool


@dataclass
class _State:
    """What changes during a run and is not in the model or the optimizer."""

    step: int = 0
    seconds: float = 0.0
    best_step: int | None = None
    best_metric: float | None = None
    waited: int = 0
    stopped: bool = False
    history: list[dict] = field(default_factory=list)


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """The rate of optimizer step `step` (0-based) of `total`: a linear warm-up, then decay.

    The same numbers as `transformers.get_scheduler`: the first step of a warm-up has rate 0.
    """
    warmup = math.ceil(total * config.warmup)
    if step < warmup:
        return config.lr * step / warmup
    done = (step - warmup) / max(1, total - warmup)
    factor = {
        "linear": 1.0 - done,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * done)),
        "constant": 1.0,
    }[config.schedule]
    return config.lr * factor


def plan_steps(lengths: np.ndarray, config: TrainConfig) -> list[list[np.ndarray]]:
    """The rows of every batch of every optimizer step of one run, in order.

    lengths: (n,) tokens of each text. Each step is a list of up to `accumulate` batches.
    """
    steps: list[list[np.ndarray]] = []
    for epoch in range(math.ceil(config.epochs)):
        batches = make_batches(
            lengths,
            batch_size=config.batch_size,
            max_tokens=config.max_tokens,
            by_length=config.by_length,
            shuffle=config.shuffle,
            seed=config.seed,
            epoch=epoch,
        )
        size = config.accumulate
        whole = [batches[i : i + size] for i in range(0, len(batches), size)]
        share = min(1.0, config.epochs - epoch)
        steps += whole[: max(1, round(len(whole) * share))]
    return steps


def fit(
    model: torch.nn.Module,
    train: Encoded,
    labels: np.ndarray,
    *,
    config: TrainConfig | None = None,
    valid: Part | None = None,
    loss: Loss = bce_with_logits,
    metric: str | Metric = "auc",
    run_dir: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
    on_step: Callable[[int], None] | None = None,
) -> FitResult:
    """Fine-tune `model` in place with AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101).

    Args:
        model: gives `.logits` of shape (rows, 1) or (rows, classes) for `input_ids` and
            `attention_mask`. It is moved to the accelerator, where there is one, and stays there.
        train, labels: n encoded texts and their labels, (n,).
        valid: texts and labels of the validation part; the model ends with the weights of its best
            validation. Never give the test part.
        loss: (logits, labels) → mean over rows; the logits of a one-logit model come as (rows,).
        metric: what makes a validation better: "auc", "loss", or a function (labels, logits) →
            number, higher is better.
        run_dir: where checkpoints, `history.csv` and TensorBoard's log go; None keeps nothing.
        resume: go on from the last checkpoint in `run_dir`; False starts over and removes it.
        progress: show a bar. on_step: called with the number of steps done, after each step.

    Several processes (`accelerate launch`) share each batch, weighted by rows: their step is that
    of one process with the whole batch.

    Raises:
        InputError: sizes or labels that do not fit, a checkpoint of another run, a full disk.
        TrainingError: a loss or gradient that is not finite; the last checkpoint is kept.
    """
    config = config or TrainConfig()
    labels = _checked_labels(train, labels, "training")
    if valid is not None:
        valid = (valid[0], _checked_labels(valid[0], valid[1], "validation"))
    score = _scoring(metric, valid)
    accelerator = Accelerator()
    steps = plan_steps(train.lengths, config)
    folder = None if run_dir is None else Path(run_dir)
    identity = "" if folder is None else _identity(model, (train, labels), valid, config, metric)
    inside = model  # what `accelerate` wraps
    model = accelerator.prepare(model)
    optimizer = torch.optim.AdamW(
        parameter_groups(inside, config.weight_decay),
        lr=config.lr,
        fused=accelerator.device.type in ("cpu", "cuda"),
    )
    state, best = _begin(folder, resume, inside, optimizer, identity, accelerator)
    writer = _tensorboard(folder, state.step) if accelerator.is_main_process else None

    shown = progress and accelerator.is_main_process
    with torch.random.fork_rng(), progress_bar(len(steps), "training", shown=shown) as bar:
        bar.update(state.step)
        while state.step < len(steps) and not state.stopped:
            clock = time.perf_counter()
            model.train()
            torch.manual_seed(_step_seed(config.seed, state.step, accelerator))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(state.step, len(steps), config)
            row = _backward(model, train, labels, steps[state.step], loss, config, accelerator)
            norm = accelerator.clip_grad_norm_(inside.parameters(), config.clip)
            row["grad_norm"] = float(norm)
            _stop_if_not_finite(row, state.step, steps[state.step], config)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            state.step += 1
            state.seconds += time.perf_counter() - clock
            row |= {"step": state.step, "lr": optimizer.param_groups[0]["lr"]}
            row |= {"epoch": config.epochs * state.step / len(steps), "seconds": state.seconds}
            due = _is_due(state.step, len(steps), config.eval_every, config.epochs)
            if due and valid is not None:
                row |= _validate(inside, valid, loss, score, config)
                best = _keep_best(inside, row, state, config.patience) or best
            state.history.append(row)
            _log(writer, row)
            if folder is not None and _checkpoint_is_due(state, len(steps), due, config):
                _save(folder, inside, optimizer, state, best, identity, accelerator)
            bar.update(1, f"loss {row['loss']:.3f}")
            if on_step is not None:
                on_step(state.step)
    if writer is not None:
        writer.close()
    if best is not None:
        inside.load_state_dict(best)
    inside.eval()
    return _result(state)


def predict(
    model: torch.nn.Module,
    encoded: Encoded,
    *,
    batch_tokens: int = 8_192,
    precision: str = "auto",
    progress: bool = False,
) -> np.ndarray:
    """The logits of every text, float64, in the order of the texts: (n,), or (n, classes).

    batch_tokens: cells of one batch, padding included. Dropout is off.
    """
    device = next(model.parameters()).device
    out: np.ndarray | None = None
    with (
        evaluating(model),
        torch.inference_mode(),
        progress_bar(len(encoded), "scoring", shown=progress) as bar,
    ):
        for rows in make_batches(encoded.lengths, max_tokens=batch_tokens, shuffle=False):
            logits = _logits(model, encoded, rows, precision, device).cpu().numpy()
            if out is None:
                out = np.zeros((len(encoded), *logits.shape[1:]))
            out[rows] = logits
            bar.update(len(rows))
    return np.zeros(0) if out is None else out


def _logits(
    model: torch.nn.Module, encoded: Encoded, rows: np.ndarray, precision: str, device: torch.device
) -> torch.Tensor:
    # few widths: the allocator finds blocks it gave back, which halves the memory of a long run
    batch = collate(encoded, rows, multiple_of=8)
    batch = {key: value.to(device) for key, value in batch.items()}
    with autocast(device, precision):
        logits = model(**batch).logits
    return logits.float().squeeze(-1) if logits.shape[-1] == 1 else logits.float()


def _targets(labels: np.ndarray, logits: torch.Tensor) -> torch.Tensor:
    kind = torch.float32 if logits.ndim == 1 or labels.dtype.kind == "f" else torch.int64
    return torch.as_tensor(labels, dtype=kind, device=logits.device)


def _backward(
    model: torch.nn.Module,
    train: Encoded,
    labels: np.ndarray,
    batches: list[np.ndarray],
    loss: Loss,
    config: TrainConfig,
    accelerator: Accelerator,
) -> dict:
    """Gradients of the mean loss over all rows of a step, whatever its number of batches."""
    world, mine = accelerator.num_processes, accelerator.process_index
    examples = sum(len(rows) for rows in batches)
    total = torch.zeros((), device=accelerator.device)
    for i, rows in enumerate(batches):
        local = rows[mine::world]
        share = len(local) / examples
        if len(local) == 0:  # every process takes part in averaging
            local = rows[:1]
        with accelerator.no_sync(model) if i + 1 < len(batches) else nullcontext():
            logits = _logits(model, train, local, config.precision, accelerator.device)
            part = loss(logits, _targets(labels[local], logits)) * share
            accelerator.backward(part * world)  # the processes' gradients are averaged
        total += part.detach()
    return {"loss": float(accelerator.reduce(total, "sum")), "examples": examples}


def _validate(
    model: torch.nn.Module, valid: Part, loss: Loss, score: Metric, config: TrainConfig
) -> dict:
    logits = predict(model, valid[0], precision=config.precision)
    scores = torch.from_numpy(logits).float()
    row = {"valid_loss": float(loss(scores, _targets(valid[1], scores)))}
    row["valid_metric"] = -row["valid_loss"] if score is None else float(score(valid[1], logits))
    return row


def _keep_best(
    model: torch.nn.Module, row: dict, state: _State, patience: int | None
) -> dict[str, torch.Tensor] | None:
    """A copy of the weights if this validation is the best so far; updates `state`."""
    if state.best_metric is None or row["valid_metric"] > state.best_metric:
        state.best_step, state.best_metric, state.waited = state.step, row["valid_metric"], 0
        return {key: value.detach().clone() for key, value in model.state_dict().items()}
    state.waited += 1
    state.stopped = patience is not None and state.waited >= patience
    return None


def _scoring(metric: str | Metric, valid: Part | None) -> Metric | None:
    """The function behind `metric`; None for the negated loss."""
    if callable(metric):
        return metric
    if metric not in ("auc", "loss"):
        raise InputError(f"metric = {metric!r} must be 'auc', 'loss' or a function.")
    if metric == "auc" and valid is not None and len(np.unique(valid[1])) != 2:
        raise InputError("metric = 'auc' needs both classes among the validation labels.")
    return auc if metric == "auc" else None


def _checked_labels(encoded: Encoded, labels: np.ndarray, part: str) -> np.ndarray:
    labels = np.asarray(labels)
    if len(encoded) == 0:
        raise InputError(f"the {part} part is empty.")
    if len(labels) != len(encoded):
        raise InputError(f"the {part} part has {len(encoded)} texts but {len(labels)} labels.")
    if not np.isfinite(labels.astype(np.float64)).all():
        row = int(np.flatnonzero(~np.isfinite(labels.astype(np.float64)))[0])
        raise InputError(f"the {part} label of row {row} is not a finite number: drop the row.")
    return labels


def _stop_if_not_finite(
    row: dict, step: int, batches: list[np.ndarray], config: TrainConfig
) -> None:
    for what in ("loss", "grad_norm"):
        if not math.isfinite(row[what]):
            raise TrainingError(
                f"{what} is {row[what]} in step {step + 1} (rows {batches[0][:4].tolist()}, …): "
                f"the update was not made. Lower lr = {config.lr:g}, or look at these rows."
            )


def _step_seed(seed: int, step: int, accelerator: Accelerator) -> int:
    """A seed of its own for every step and process, so that dropout does not depend on the past."""
    words = np.random.SeedSequence([seed, step, accelerator.process_index]).generate_state(1)
    return int(words[0])


def _is_due(step: int, total: int, every: int | None, epochs: float) -> bool:
    """Whether something done every `every` steps (None: once per epoch) is due after `step`."""
    if step == total:
        return True
    if every is not None:
        return step % every == 0
    return math.floor(step * epochs / total) > math.floor((step - 1) * epochs / total)


def _checkpoint_is_due(state: _State, total: int, validated: bool, config: TrainConfig) -> bool:
    if state.stopped or config.checkpoint_every is None:
        return state.stopped or validated
    return _is_due(state.step, total, config.checkpoint_every, config.epochs)


def _identity(
    model: torch.nn.Module, train: Part, valid: Part | None, config: TrainConfig, metric: object
) -> str:
    """A hash of everything that a run follows from: weights, data, configuration."""
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode())
    digest.update(str(getattr(metric, "__name__", metric)).encode())
    for encoded, labels in (train, valid) if valid is not None else (train,):
        for array in (encoded.ids, encoded.offsets, labels):
            digest.update(np.ascontiguousarray(array).tobytes())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _begin(
    folder: Path | None,
    resume: bool,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    identity: str,
    accelerator: Accelerator,
) -> tuple[_State, dict[str, torch.Tensor] | None]:
    """The state to start from: a new one, or that of the last checkpoint."""
    if folder is None:
        return _State(), None
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        clear_checkpoints(folder, leftovers_only=resume)
    accelerator.wait_for_everyone()
    found = load_checkpoint(folder, identity, model=model, optimizer=optimizer)
    if found is None:
        return _State(), None
    state, best = _State(**found[0]), found[1]
    if best is None and state.best_step is not None:  # the best weights are the current ones
        best = {key: value.detach().clone() for key, value in model.state_dict().items()}
    return state, best


def _save(
    folder: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    state: _State,
    best: dict[str, torch.Tensor] | None,
    identity: str,
    accelerator: Accelerator,
) -> None:
    if accelerator.is_main_process:
        kept = None if state.best_step == state.step else best
        save_checkpoint(
            folder, identity, model=model, optimizer=optimizer, state=asdict(state), best=kept
        )
        history = pd.DataFrame(state.history).to_csv(index=False)
        atomic_write(folder / "history.csv", history)
    accelerator.wait_for_everyone()


def _tensorboard(folder: Path | None, step: int):
    if folder is None:
        return None
    from torch.utils.tensorboard import SummaryWriter  # slow to import, and needed here only

    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)


def _log(writer, row: dict) -> None:
    if writer is None:
        return
    for name in ("loss", "lr", "grad_norm", "valid_loss", "valid_metric"):
        if name in row:
            tag = name.replace("valid_", "valid/") if name.startswith("valid_") else f"train/{name}"
            writer.add_scalar(tag, row[name], row["step"])


def _result(state: _State) -> FitResult:
    columns = ["step", "epoch", "loss", "lr", "grad_norm", "examples", "seconds"]
    history = pd.DataFrame(state.history)
    history = history[columns + [name for name in history if name not in columns]]
    return FitResult(
        history=history,
        steps=state.step,
        seconds=state.seconds,
        examples_per_second=float(history["examples"].sum()) / state.seconds,
        best_step=state.best_step,
        best_metric=state.best_metric,
        stopped_early=state.stopped,
    )
