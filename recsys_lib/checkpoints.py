"""Checkpoints of a training run: everything that its next step depends on, all or nothing.

A checkpoint is the folder `checkpoint-<steps done>` with `model.safetensors`,
`optimizer.safetensors`, `best.safetensors` (the weights of the best validation, if they are not the
current ones) and `state.json`. It gets its name only when it is complete; the one before is removed
afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model

from recsys_lib.workbook.errors import InputError, saving

_SCRATCH = ".checkpoint-"


def save_checkpoint(
    run_dir: Path,
    identity: str,
    *,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    state: dict,
    best: dict[str, torch.Tensor] | None,
) -> Path:
    """Write the checkpoint of `state["step"]` steps and remove the earlier ones.

    identity: says which run this is. state: plain JSON values. best: a state dict to keep beside
    the current weights, or None.
    Raises InputError if the disk is full; the earlier checkpoint is then still there.
    """
    target = run_dir / f"checkpoint-{state['step']:08d}"
    with (
        saving("the checkpoint", run_dir),
        tempfile.TemporaryDirectory(dir=run_dir, prefix=_SCRATCH) as scratch,
    ):
        new = Path(scratch) / target.name
        new.mkdir()
        save_model(model, str(new / "model.safetensors"))
        slots = optimizer.state_dict()["state"]
        tensors = {f"{i}/{key}": value for i, slot in slots.items() for key, value in slot.items()}
        save_file(tensors, new / "optimizer.safetensors")
        if best is not None:
            save_file(best, new / "best.safetensors")
        text = json.dumps({"identity": identity, "state": state})
        (new / "state.json").write_text(text, encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        os.replace(new, target)
    for older in run_dir.glob("checkpoint-*"):
        if older != target:
            shutil.rmtree(older, ignore_errors=True)
    return target


def load_checkpoint(
    run_dir: Path, identity: str, *, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict, dict[str, torch.Tensor] | None] | None:
    """Put the last checkpoint's weights into `model` and `optimizer`; return its state and best.

    Returns None if there is no checkpoint. Raises InputError if it belongs to another run (then
    nothing is touched) or if its files are damaged.
    """
    folders = sorted(run_dir.glob("checkpoint-*"))
    if not folders:
        return None
    folder = folders[-1]
    try:
        saved = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if saved["identity"] != identity:
            raise InputError(
                f"{run_dir} holds another run (other data, weights or settings): choose another "
                "run_dir, or call fit with resume=False to start over there"
            )
        tensors = load_file(folder / "optimizer.safetensors")
        best = folder / "best.safetensors"
        best_weights = load_file(best) if best.is_file() else None
        load_model(model, str(folder / "model.safetensors"))
    except InputError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{folder}: the checkpoint is damaged ({' '.join(str(error).split())[:120]}): "
            "remove the folder, or call fit with resume=False to start over"
        ) from error
    slots: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split("/")
        slots.setdefault(int(index), {})[key] = value
    whole = optimizer.state_dict()
    whole["state"] = slots
    optimizer.load_state_dict(whole)
    return saved["state"], best_weights


def clear_checkpoints(run_dir: Path, *, leftovers_only: bool = False) -> None:
    """Remove what a killed run left half-written, and (by default) its checkpoints and logs too."""
    patterns = [f"{_SCRATCH}*"]
    if not leftovers_only:
        patterns += ["checkpoint-*", "tensorboard", "history.csv"]
    for pattern in patterns:
        for path in run_dir.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
