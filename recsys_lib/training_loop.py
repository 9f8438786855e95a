"""What every training run shares: its configuration, the loop over optimizer steps, its history.

`run_steps` is the loop: learning rate, gradient, clipping, update, validation, checkpoint. What a
step's gradient is, the caller says: a loss per text (`training.fit`), per batch of pairs, or per
list. A run is a function of its data, its configuration and its seed: every optimizer step seeds
the generators anew, so that a run which was killed and resumed ends with the same bits as one that
was not.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import KwargsHandler

from recsys_lib.checkpoints import clear_checkpoints, load_checkpoint, save_checkpoint
from recsys_lib.models import parameter_groups
from recsys_lib.workbook.errors import InputError, saving
from recsys_lib.workbook.files import atomic_write
from recsys_lib.workbook.progress import progress as progress_bar

Step = list[np.ndarray]  # the rows of each batch of one optimizer step
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


def make_accelerator(*handlers: KwargsHandler) -> Accelerator:
    """What places the model and joins the processes. `TrainConfig.precision` alone says how to
    compute: the launcher's mixed precision would be a second one, inside the model, and so would be
    that which a ``Trainer`` leaves to the whole process.

    handlers: options of `accelerate` for how the processes are joined.
    """
    if is_initialized() and AcceleratorState().mixed_precision != "no":
        AcceleratorState._reset_state()  # as Trainer itself does; Accelerator would refuse ours
    return Accelerator(mixed_precision="no", kwargs_handlers=list(handlers))


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


def run_steps(
    model: torch.nn.Module,
    steps: Sequence[Step],
    gradient: Callable[[torch.nn.Module, int, Step], float],
    *,
    config: TrainConfig,
    accelerator: Accelerator,
    identity: Sequence[object] = (),
    validate: Callable[[], dict] | None = None,
    run_dir: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
    on_step: Callable[[int], None] | None = None,
) -> FitResult:
    """Update `model` in place, step by step, with AdamW (Loshchilov & Hutter, arXiv 1711.05101).

    Args:
        model: moved to the accelerator's device, where it stays.
        steps: the rows of every batch of every step, see `training.plan_steps`.
        gradient: (what `accelerate` made of the model, number of the step from 0, its batches) →
            the step's mean loss over all processes; adds its gradient to the parameters.
        identity: arrays and texts that, with the weights and `config`, determine the run; a
            checkpoint of another run is refused.
        validate: the columns of a validation: valid_metric, higher is better, and others. The model
            ends with the weights of its best validation.
        run_dir, resume, progress, on_step: see `training.fit`.

    Raises:
        InputError: a checkpoint of another run, a full disk.
        TrainingError: a loss or gradient that is not finite; the last checkpoint is kept.
    """
    folder = None if run_dir is None else Path(run_dir)
    name = "" if folder is None else _identity(model, config, identity)
    inside = model  # what `accelerate` wraps
    model = accelerator.prepare(model)
    optimizer = torch.optim.AdamW(
        parameter_groups(inside, config.weight_decay),
        lr=config.lr,
        fused=accelerator.device.type in ("cpu", "cuda"),
    )
    state, best = _begin(folder, resume, inside, optimizer, name, accelerator)
    log = None
    if folder is not None and accelerator.is_main_process:
        log = _TrainingLog(folder / "tensorboard", state.step)

    shown = progress and accelerator.is_main_process
    with torch.random.fork_rng(), progress_bar(len(steps), "training", shown=shown) as bar:
        bar.update(state.step)
        while state.step < len(steps) and not state.stopped:
            clock, batches = time.perf_counter(), steps[state.step]
            model.train()
            torch.manual_seed(step_seed(config.seed, state.step, accelerator.process_index))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(state.step, len(steps), config)
            row = {"loss": gradient(model, state.step, batches)}
            row["examples"] = sum(len(rows) for rows in batches)
            row["grad_norm"] = float(accelerator.clip_grad_norm_(inside.parameters(), config.clip))
            _stop_if_not_finite(row, state.step, batches, config)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            state.step += 1
            state.seconds += time.perf_counter() - clock
            row |= {"step": state.step, "lr": optimizer.param_groups[0]["lr"]}
            row |= {"epoch": config.epochs * state.step / len(steps), "seconds": state.seconds}
            due = _is_due(state.step, len(steps), config.eval_every, config.epochs)
            if due and validate is not None:
                row |= validate()
                best = _keep_best(inside, row, state, config.patience) or best
            state.history.append(row)
            if log is not None:
                log.write(row)
            if folder is not None and _checkpoint_is_due(state, len(steps), due, config):
                _save(folder, inside, optimizer, state, best, name, accelerator)
            bar.update(1, f"loss {row['loss']:.3f}")
            if on_step is not None:
                on_step(state.step)
    if best is not None:
        inside.load_state_dict(best)
    inside.eval()
    return _result(state)


def step_seed(*numbers: int) -> int:
    """A seed of its own for every step and process, so that dropout does not depend on the past."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


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


def _stop_if_not_finite(
    row: dict, step: int, batches: list[np.ndarray], config: TrainConfig
) -> None:
    for what in ("loss", "grad_norm"):
        if not math.isfinite(row[what]):
            raise TrainingError(
                f"{what} is {row[what]} in step {step + 1} (rows {batches[0][:4].tolist()}, …): "
                f"the update was not made. Lower lr = {config.lr:g}, or look at these rows."
            )


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


def _identity(model: torch.nn.Module, config: TrainConfig, rest: Sequence[object]) -> str:
    """A hash of everything that a run follows from: weights, data, configuration."""
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode())
    for item in rest:
        digest.update(
            np.ascontiguousarray(item).tobytes()
            if isinstance(item, np.ndarray)
            else str(item).encode()
        )
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
        with saving("the training run", folder):
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


class _TrainingLog:
    """TensorBoard's log of a run, in a new file of its own; each row is on the disk when `write`
    returns. `SummaryWriter` writes in another thread, whose errors nobody can catch.

    done: steps of the run so far; points of older logs in the folder beyond them do not count.
    """

    def __init__(self, folder: Path, done: int):
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # slow to import
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._records = Event, RecordWriter
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._file = folder / name
        with saving("the training log", folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._append(file_version="brain.Event:2")
        self._append(step=done + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, row: dict) -> None:
        names = ("loss", "lr", "grad_norm", "valid_loss", "valid_metric")
        tags = {name: f"train/{name}".replace("train/valid_", "valid/") for name in names}
        points = [{"tag": tags[k], "simple_value": row[k]} for k in names if k in row]
        self._append(step=row["step"], summary={"value": points})

    def _append(self, **content: object) -> None:
        event = self._event(wall_time=time.time(), **content)
        with saving("the training log", self._file.parent), self._file.open("ab") as file:
            self._records(file).write(event.SerializeToString())


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
