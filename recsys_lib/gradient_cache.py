"""Gradient caching: the gradient of a large batch in the memory of a small one.

A loss that compares the texts of a batch with one another needs all their outputs at once, but not
all their activations. So the outputs are computed in chunks without a graph, the loss is
differentiated by the outputs alone, and each chunk is then run again, with a graph, to carry its
share of that gradient into the weights. The chain rule makes the sum exact; the price is a second
forward pass. Gao, Zhang, Han, Callan (2021), arXiv 2101.06983, section 3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator

from recsys_lib.text import Encoded
from recsys_lib.training_loop import step_seed

Chunk = tuple[Encoded, np.ndarray]  # texts, and which of them
Forward = Callable[[Chunk], torch.Tensor]
Loss = Callable[[torch.Tensor], torch.Tensor]


def make_chunks(
    encoded: Encoded, rows: np.ndarray, size: int | None
) -> tuple[list[Chunk], np.ndarray]:
    """`rows` of `encoded` in chunks of at most `size` texts of like length (None: all in one).

    Returns the chunks, and the place of each of `rows` in the order of the chunks, (rows,) int64.
    """
    order = np.argsort(-encoded.lengths[rows], kind="stable")
    size = size or max(1, len(rows))
    chunks = [(encoded, rows[order[i : i + size]]) for i in range(0, len(rows), size)]
    return chunks, np.argsort(order)


def batch_gradient(
    forward: Forward,
    chunks: Sequence[Chunk],
    loss: Loss,
    *,
    seed: int = 0,
    cached: bool = True,
    accelerator: Accelerator | None = None,
    model: torch.nn.Module | None = None,
    last: bool = True,
) -> float:
    """Add the gradient of the loss of one batch to the weights; return the loss.

    Args:
        forward: chunk → outputs, (rows,) or (rows, width), with a graph to the weights.
        chunks: the batch in pieces, at least one.
        loss: outputs of the whole batch, (total rows, …) in the order of the chunks → a number.
        seed: of dropout. Each chunk has a seed of its own, so that its second pass repeats the
            first; the global generator is left alone.
        cached: False keeps every chunk's activations instead and runs each once: the same gradient.
            Several processes always cache.
        accelerator: where there are several processes, deals the chunks out to them. Each learns
            the outputs of all chunks, and with them the loss of the whole batch: they take the step
            of one process.
        model: what `accelerate` made of the model behind `forward`.
        last: whether this is the step's last batch, after which gradients are summed over the
            processes.
    """
    world = 1 if accelerator is None else accelerator.num_processes
    with torch.random.fork_rng():
        if world == 1 and not cached:
            outputs = [_seeded(forward, chunk, seed, i) for i, chunk in enumerate(chunks)]
            value = loss(torch.cat(outputs))
            value.backward()
            return float(value.detach())
        own = list(range(0 if world == 1 else accelerator.process_index, len(chunks), world))
        busy = bool(own)
        own = own or [0]  # with fewer chunks than processes: every process takes part in summing
        ends = np.cumsum([len(rows) for _, rows in chunks])
        outputs = None
        with torch.no_grad():
            for i in own:
                part = _seeded(forward, chunks[i], seed, i)
                if outputs is None:
                    outputs = part.new_zeros(int(ends[-1]), *part.shape[1:])
                if busy:
                    outputs[ends[i] - len(part) : ends[i]] = part
            if world > 1:
                outputs = accelerator.reduce(outputs, "sum")
        outputs.requires_grad_()
        value = loss(outputs)
        (by_outputs,) = torch.autograd.grad(value, outputs)
        by_outputs = by_outputs * (world if busy else 0)  # the processes' gradients are averaged
        for i in own:
            waits = world > 1 and not (last and i == own[-1])
            with accelerator.no_sync(model) if waits else nullcontext():
                part = _seeded(forward, chunks[i], seed, i)
                part.backward(by_outputs[ends[i] - len(part) : ends[i]])
    return float(value.detach())


@dataclass
class Stored:
    """Bytes that autograd keeps for a backward pass: `now`, and the `most` at one time."""

    now: int = 0
    most: int = 0


@contextmanager
def stored_activations(model: torch.nn.Module) -> Iterator[Stored]:
    """Counts what is kept for the backward pass by what runs inside, on any device.

    The model's own weights do not count, and memory that several kept tensors share counts once.
    What is in use for a moment only (outputs that no gradient needs, the gradients themselves) is
    not seen, so a process needs more than this.

    Source: PyTorch's hooks for saved tensors, `torch.autograd.graph.saved_tensors_hooks`.
    """
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    stored, users = Stored(), Counter()

    class Kept:
        def __init__(self, tensor: torch.Tensor):
            memory = tensor.untyped_storage()
            self.at, self.size = memory.data_ptr(), memory.nbytes()
            self.tensor = tensor.detach()  # with its graph it would keep itself alive
            users[self.at] += 1
            if users[self.at] == 1 and self.at not in weights:
                stored.now += self.size
                stored.most = max(stored.most, stored.now)

        def __del__(self) -> None:
            users[self.at] -= 1
            if not users[self.at] and self.at not in weights:
                stored.now -= self.size

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        yield stored


def _seeded(forward: Forward, chunk: Chunk, seed: int, number: int) -> torch.Tensor:
    torch.manual_seed(step_seed(seed, number))
    return forward(chunk)
