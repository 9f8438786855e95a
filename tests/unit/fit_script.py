"""Fine-tune a tiny BERT as a script of one's own would: `python -m tests.unit.fit_script FOLDER`.

What every process ended with goes to FOLDER/<its number>.pt; test_training_distributed starts it.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from recsys_lib.text import Encoded
from recsys_lib.training import TrainConfig, fit

# by cells, so that batches have different numbers of rows; the long texts have one for themselves
CONFIG = TrainConfig(
    epochs=2, lr=1e-2, batch_size=None, max_tokens=40, accumulate=2, precision="fp32"
)


def texts(n: int, seed: int) -> tuple[Encoded, np.ndarray]:
    """n texts of 4 to 11 random tokens, every tenth of 32, and random labels."""
    rng = np.random.default_rng(seed)
    lengths = np.where(np.arange(n) % 10 == 9, 32, rng.integers(4, 12, n))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = rng.integers(5, 90, offsets[-1]).astype(np.int32)
    return Encoded(ids, offsets, lengths.astype(np.int32), 0, 32), rng.integers(0, 2, n)


def model() -> BertForSequenceClassification:
    """A tiny BERT without dropout: each process would draw its own."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForSequenceClassification(
        BertConfig(vocab_size=100, intermediate_size=16, num_labels=1, **shape, **dropout)
    )


def run(folder: Path) -> dict:
    """What the run ended with; its logs and checkpoint lie in folder/run."""
    tiny, stepped = model(), []
    (train, labels), valid = texts(50, 0), texts(30, 1)
    result = fit(
        tiny,
        train,
        labels,
        config=CONFIG,
        valid=valid,
        run_dir=folder / "run",
        progress=False,
        on_step=stepped.append,
    )
    columns = [name for name in result.history if name != "seconds"]
    return {
        "stepped": stepped,
        "best": (result.best_step, result.best_metric),
        "history": {name: result.history[name].tolist() for name in columns},
        "weights": tiny.state_dict(),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.save(run(Path(sys.argv[1])), Path(sys.argv[1]) / f"{os.environ.get('RANK', 0)}.pt")
