"""Fine-tuning on labeled texts: `fit` trains on one CPU, one GPU, or many; `predict` scores.

`accelerate` places the model and averages gradients between processes (`accelerate launch`); the
loop over the steps is `training_loop.run_steps`, the gradient of a step stands here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from recsys_lib.losses import bce_with_logits
from recsys_lib.metrics import auc
from recsys_lib.models import attention_backend, autocast, evaluating
from recsys_lib.text import Encoded, collate, make_batches
from recsys_lib.training_loop import (
    FitResult,
    Step,
    TrainConfig,
    TrainingError,
    learning_rate,
    make_accelerator,
    run_steps,
)
from recsys_lib.workbook.errors import InputError
from recsys_lib.workbook.progress import progress as progress_bar

__all__ = [
    "FitResult",
    "TrainConfig",
    "TrainingError",
    "fit",
    "learning_rate",
    "plan_steps",
    "predict",
]

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Metric = Callable[[np.ndarray, np.ndarray], float]
Part = tuple[Encoded, np.ndarray]


def plan_steps(lengths: np.ndarray, config: TrainConfig) -> list[Step]:
    """The rows of every batch of every optimizer step of one run, in order.

    lengths: (n,) tokens of each text. Each step is a list of up to `accumulate` batches.
    """
    steps: list[Step] = []
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
    accelerator = make_accelerator()
    identity: list[object] = [getattr(metric, "__name__", metric)]
    for encoded, values in (train, labels), *([] if valid is None else [valid]):
        identity += [encoded.ids, encoded.offsets, values]
    return run_steps(
        model,
        plan_steps(train.lengths, config),
        lambda wrapped, _, batches: _backward(
            wrapped, train, labels, batches, loss, config, accelerator
        ),
        config=config,
        accelerator=accelerator,
        identity=identity,
        validate=valid and (lambda: _validate(model, valid, loss, score, config)),
        run_dir=run_dir,
        resume=resume,
        progress=progress,
        on_step=on_step,
    )


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
    with autocast(device, precision), attention_backend(model, batch["input_ids"]):
        logits = model(**batch).logits
    return logits.float().squeeze(-1) if logits.shape[-1] == 1 else logits.float()


def _targets(labels: np.ndarray, logits: torch.Tensor) -> torch.Tensor:
    kind = torch.float32 if logits.ndim == 1 or labels.dtype.kind == "f" else torch.int64
    return torch.as_tensor(labels, dtype=kind, device=logits.device)


def _backward(
    model: torch.nn.Module,
    train: Encoded,
    labels: np.ndarray,
    batches: Step,
    loss: Loss,
    config: TrainConfig,
    accelerator: Accelerator,
) -> float:
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
    return float(accelerator.reduce(total, "sum"))


def _validate(
    model: torch.nn.Module, valid: Part, loss: Loss, score: Metric, config: TrainConfig
) -> dict:
    logits = predict(model, valid[0], precision=config.precision)
    scores = torch.from_numpy(logits).float()
    row = {"valid_loss": float(loss(scores, _targets(valid[1], scores)))}
    row["valid_metric"] = -row["valid_loss"] if score is None else float(score(valid[1], logits))
    return row


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
