"""Training speed of ``fit`` on reviews, side by side with the loops that it replaces.

The references: the loop that pads to 256 tokens in fp32; transformers' ``Trainer`` with its
defaults (batches of 8, fp32, random order); ``Trainer`` with every speed option it has (bf16,
batches of like length, fused AdamW, our batch size). All train the same model on the same reviews,
cut at the same 128 tokens (256 for the first), in turn, several rounds; the median of the rounds'
ratios counts.

Then what might take ``fit`` further, each option on its own beside `PLAIN`, with its speed and its
price: the AUC on held-out reviews after one pass over the same training reviews, mean over several
seeds, and what it changes seed by seed (lowest to highest). ``torch.compile`` and packing have no
price, only a speed.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)

from recsys_lib.classification import Part, Task, prepare
from recsys_lib.datasets import load_reviews
from recsys_lib.freezing import cache_lower_layers, freeze
from recsys_lib.losses import bce_with_logits
from recsys_lib.metrics import auc
from recsys_lib.models import autocast, load_classifier, load_tokenizer, parameter_groups
from recsys_lib.text import collate, make_batches, padding_share
from recsys_lib.training import TrainConfig, fit, predict
from recsys_lib.workbook import detect_hardware, find_data

ROWS, FEW, ROUNDS = 512, 64, 3
QUALITY_ROWS, HELD_OUT, SEEDS = 1_024, 1_000, (0, 1, 2)
CONFIG = TrainConfig(epochs=1, lr=2e-4, batch_size=32)
PLAIN = "fit without dropout"


def run() -> dict:
    """Speeds in rounds, then each option's speed and AUC."""
    dataset = "clothing" if find_data("clothing") else "market"
    task = prepare(load_reviews(dataset), seed=0, n_train=QUALITY_ROWS, n_valid=HELD_OUT, n_test=50)
    speeds = _speeds(task.train)
    ours = speeds.pop("fit")
    bf16 = detect_hardware().precision == "bf16"
    targets = {"padded to 256, fp32": 5.0, "Trainer, defaults": 1.8, "Trainer, all options": 1.0}
    results = [
        {
            "what": f"training on {dataset}: fit against {name}",
            "unit": "examples/s",
            "ours": statistics.median(ours),
            "reference": statistics.median(theirs),
            "reference_name": name,
            "ratio": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
            "target": targets[name] if bf16 else None,  # the targets are for hardware with bf16
        }
        for name, theirs in speeds.items()
    ]
    options = _options(task)
    plain = options[PLAIN]
    for name, option in options.items():
        if name == PLAIN:
            continue
        by_seed = zip(option["auc_by_seed"], plain["auc_by_seed"], strict=True)
        changes = [a - b for a, b in by_seed]
        price = f"{statistics.mean(changes):+.3f}, {min(changes):+.3f} to {max(changes):+.3f}"
        pairs = zip(option["speeds"], plain["speeds"], strict=True)
        results.append(
            {
                "what": f"{name}: AUC {option['auc']:.3f} ({price} by seed)",
                "unit": "examples/s",
                "ours": statistics.median(option["speeds"]),
                "reference": statistics.median(plain["speeds"]),
                "reference_name": PLAIN,
                "ratio": statistics.median(a / b for a, b in pairs),
                "target": None,
            }
        )
    results.append(_compiled(task.train))
    lengths = task.train.encoded.lengths
    padding = padding_share(lengths, make_batches(lengths, batch_size=CONFIG.batch_size))
    results.append(
        {
            "what": "packing without padding: what it could give at most",
            "unit": "of the tokens",
            "ours": 1.0,
            "reference": 1 - padding,
            "reference_name": "batches of like length",
            "ratio": 1 / (1 - padding),
            "target": None,
        }
    )
    return {"results": results, "dataset": dataset, "options": options}


def _speeds(part: Part) -> dict[str, list[float]]:
    rows = part.take(np.arange(ROWS))
    few = part.take(np.arange(FEW))
    loops: dict[str, tuple[Part, Callable[[Part], object]]] = {
        "padded to 256, fp32": (few, _padded_loop),
        "Trainer, defaults": (rows, lambda p: _trainer(p)),
        "Trainer, all options": (
            rows,
            lambda p: _trainer(
                p,
                per_device_train_batch_size=CONFIG.batch_size,
                bf16=detect_hardware().precision == "bf16",
                train_sampling_strategy="group_by_length",
                optim="adamw_torch_fused",
            ),
        ),
        "fit": (rows, lambda p: _fit(p)),
    }
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(ROUNDS + 1):
        for name, (data, loop) in loops.items():
            data = few if turn == 0 else data  # the first turn warms up
            start = time.perf_counter()
            loop(data)
            if turn > 0:
                speeds[name].append(len(data) / (time.perf_counter() - start))
    return speeds


def _fit(part: Part) -> None:
    fit(load_classifier(), part.encoded, part.labels, config=CONFIG, progress=False)


def _padded_loop(part: Part) -> None:
    model = load_classifier().train()
    optimizer = torch.optim.AdamW(parameter_groups(model, CONFIG.weight_decay), lr=CONFIG.lr)
    tokens = load_tokenizer()(
        part.texts, padding="max_length", truncation=True, max_length=256, return_tensors="pt"
    )
    labels = torch.tensor(part.labels, dtype=torch.float32)
    for rows in make_batches(np.full(len(part), 256), batch_size=CONFIG.batch_size):
        optimizer.zero_grad()
        logits = model(tokens["input_ids"][rows], tokens["attention_mask"][rows]).logits[:, 0]
        bce_with_logits(logits, labels[rows]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CONFIG.clip)
        optimizer.step()


class _Rows(torch.utils.data.Dataset):
    """A part as ``Trainer`` wants it: one dictionary per row, padded by its collator."""

    column_names = ("input_ids", "labels", "length")

    def __init__(self, part: Part):
        offsets, ids = part.encoded.offsets, part.encoded.ids.tolist()
        self.ids = [ids[a:b] for a, b in itertools.pairwise(offsets)]
        self.labels = part.labels.astype(float).tolist()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> dict:
        return {"input_ids": self.ids[row], "labels": [self.labels[row]]}


def _trainer(part: Part, **options: object) -> None:
    model = load_classifier()
    model.config.problem_type = "multi_label_classification"  # BCE on one logit
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            learning_rate=CONFIG.lr,
            warmup_steps=2,
            save_strategy="no",
            use_cpu=detect_hardware().device == "cpu",
            dataloader_pin_memory=detect_hardware().device == "cuda",
            report_to=[],
            disable_tqdm=True,
            **options,
        )
        collator = DataCollatorWithPadding(load_tokenizer())
        Trainer(model, arguments, collator, train_dataset=_Rows(part)).train()


def _options(task: Task) -> dict[str, dict[str, float]]:
    """Speed (median) and AUC (mean over seeds) of every option."""

    def plain(model: PreTrainedModel) -> tuple:
        return model, task.train.encoded, task.valid.encoded

    def frozen(layers: int) -> Callable[[PreTrainedModel], tuple]:
        return lambda model: plain(freeze(model, layers=layers))

    def cached(layers: int) -> Callable[[PreTrainedModel], tuple]:
        def make(model: PreTrainedModel) -> tuple:
            parts = [task.train.encoded, task.valid.encoded]
            upper, parts = cache_lower_layers(model, parts, layers=layers)
            return upper, *parts

        return make

    makers = {  # how the model is made, and its dropout
        PLAIN: (plain, 0.0),
        "with dropout 0.1": (plain, 0.1),
        "frozen embeddings": (frozen(0), 0.0),
        "frozen embeddings and 2 layers": (frozen(2), 0.0),
        "2 lower layers cached": (cached(2), 0.0),
        "3 lower layers cached": (cached(3), 0.0),
    }
    found: dict[str, dict[str, list[float]]] = {name: {"auc": [], "speeds": []} for name in makers}
    for seed in SEEDS:
        for name, (make, dropout) in makers.items():
            start = time.perf_counter()
            model, train, valid = make(load_classifier(seed=seed, dropout=dropout))
            config = TrainConfig(**(vars(CONFIG) | {"seed": seed, "batch_size": 16}))
            fit(model, train, task.train.labels, config=config, progress=False)
            seconds = time.perf_counter() - start  # computing the cache is part of the price
            found[name]["speeds"].append(len(train) / seconds)
            found[name]["auc"].append(auc(task.valid.labels, predict(model, valid)))
    return {
        name: {
            "speeds": values["speeds"],
            "auc": statistics.mean(values["auc"]),
            "auc_by_seed": values["auc"],
        }
        for name, values in found.items()
    }


def _compiled(part: Part) -> dict:
    """One pass by a model that `torch.compile` made, beside the same pass without: the same
    batches, padded to multiples of 32 so that few shapes have to be compiled."""
    batches = make_batches(part.encoded.lengths, batch_size=CONFIG.batch_size)
    batches = [rows for rows in batches if len(rows) == CONFIG.batch_size]
    model = load_classifier(dropout=0.0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CONFIG.lr, fused=True)

    def one_pass(forward: Callable) -> float:
        start = time.perf_counter()
        for rows in batches:
            batch = collate(part.encoded, rows, multiple_of=32)
            with autocast("cpu"):
                logits = forward(**batch).logits[:, 0]
            labels = torch.tensor(part.labels[rows], dtype=torch.float32)
            bce_with_logits(logits.float(), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        return sum(map(len, batches)) / (time.perf_counter() - start)

    compiled = torch.compile(model, dynamic=False)
    first = one_pass(compiled)  # compiles for every shape
    pairs = [(one_pass(compiled), one_pass(model)) for _ in range(ROUNDS)]
    seconds = sum(map(len, batches)) / first
    ours, reference = (statistics.median(side) for side in zip(*pairs, strict=True))
    return {
        "what": f"torch.compile, after a first pass of {seconds:.0f} s that compiles",
        "unit": "examples/s",
        "ours": ours,
        "reference": reference,
        "reference_name": "the same steps without",
        "ratio": statistics.median(a / b for a, b in pairs),
        "target": None,
    }
