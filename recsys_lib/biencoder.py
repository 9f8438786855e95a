"""The bi-encoder: one encoder for queries and products, trained so that the right ones are near.

Queries and products become vectors independently of each other, so that a catalog is embedded once
and searched by a matrix product. `fit_biencoder` trains with the other products of the batch as
wrong answers; `models.embed` makes the vectors, with the same pooling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from scipy.sparse import csr_array
from transformers import PreTrainedModel

from recsys_lib.gradient_cache import Chunk, batch_gradient, make_chunks
from recsys_lib.losses import info_nce
from recsys_lib.metrics import ndcg
from recsys_lib.models import attention_backend, autocast, check_pooling, embed, pool
from recsys_lib.text import Encoded, collate
from recsys_lib.training import plan_steps
from recsys_lib.training_loop import (
    FitResult,
    Step,
    TrainConfig,
    make_accelerator,
    run_steps,
    step_seed,
)
from recsys_lib.workbook.errors import InputError

Metric = Callable[[np.ndarray, np.ndarray], float]
Search = tuple[Encoded, Encoded, np.ndarray]


@dataclass(frozen=True)
class Batch:
    """A batch of N pairs as the loss sees it, each text once.

    queries, items: the different queries, and the different products, the pairs' own ones first and
        hard negatives behind; rows of the encoded texts.
    query, item: (N,) the place of each pair's query in `queries` and of its product in `items`.
    own: how many of `items` are the own product of some pair.
    hidden: (N, N + len(items) - own) bool; True where the loss must not take the product for wrong,
        because it is relevant to the query, or has a column already. The columns are the N pairs'
        products and the hard negatives.
    """

    queries: np.ndarray
    items: np.ndarray
    query: np.ndarray
    item: np.ndarray
    own: int
    hidden: np.ndarray


def fit_biencoder(
    model: PreTrainedModel,
    queries: Encoded,
    items: Encoded,
    pairs: np.ndarray,
    *,
    config: TrainConfig | None = None,
    temperature: float = 0.05,
    relevant: np.ndarray | None = None,
    hard_negatives: np.ndarray | None = None,
    negatives_per_query: int = 1,
    chunk_size: int | None = None,
    pooling: str = "mean",
    valid: Search | None = None,
    metric: Metric | None = None,
    run_dir: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
    on_step: Callable[[int], None] | None = None,
) -> FitResult:
    """Fine-tune the encoder `model` in place with in-batch negatives (`losses.info_nce`).

    The loss of a pair is that of finding its product among all products of the batch by cosine.
    Henderson et al. (2017), arXiv 1705.00652, section 4; Karpukhin et al. (2020), arXiv 2004.04906.

    Args:
        model: gives `.last_hidden_state`, see `models.load_encoder`.
        queries: the Q encoded queries.
        items: the n encoded products of the catalog.
        pairs: (P, 2) ints, the row of a query and the row of a product that is right for it.
        config: `batch_size` counts pairs. Batches are drawn regardless of length (`by_length` has
            no effect): negatives must be a fair sample.
        temperature: divides the cosines; small values look at the hardest negatives only.
        relevant: (J, 2) ints like `pairs`, never taken for wrong. `pairs` never are.
        hard_negatives: (Q, H) ints, products that are wrong for each query, -1 where there is none
            (see `negatives.mine_negatives`). Each batch draws `negatives_per_query` of them for
            each of its queries and offers them to all.
        chunk_size: texts whose activations are held at a time; the gradient is that of the whole
            batch all the same, see `gradient_cache`. None holds the whole batch.
        pooling: "mean" or "first", see `models.embed`.
        valid: V encoded queries, m encoded products (the catalog, or some of it) and their grades,
            (V, m) ints, below 0 where not judged. The model ends with the weights of its best
            validation. Never give the test part.
        metric: (grades, cosines), both (V, m) → number, higher is better; by default the mean
            NDCG@10, a product that was not judged counting as irrelevant.
        run_dir, resume, progress, on_step: see `training.fit`.

    Several processes (`accelerate launch`) share each batch and take the step of one.

    Raises:
        InputError: shapes, rows or settings that do not fit, a checkpoint of another run.
        TrainingError: a loss or gradient that is not finite; the last checkpoint is kept.
    """
    config = replace(config or TrainConfig(), by_length=False)
    pairs = _checked_pairs("pairs", pairs, queries, items)
    known = pairs if relevant is None else _checked_pairs("relevant", relevant, queries, items)
    hard = None if hard_negatives is None else _checked_hard(hard_negatives, queries, items)
    _check_settings(pairs, hard, config, temperature, negatives_per_query, chunk_size)
    check_pooling(pooling)
    if valid is not None:
        _check_valid(valid)
    table = relevance_table(np.concatenate([pairs, known]), len(queries), len(items))
    # the pooling layer of a BERT gets no gradient here; several processes have to be told
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = make_accelerator(unused)

    def gradient(wrapped: torch.nn.Module, step: int, batches: Step) -> float:
        examples, total = sum(len(rows) for rows in batches), 0.0
        for number, rows in enumerate(batches):
            seed = step_seed(config.seed, step, number)
            batch = make_batch(pairs[rows], table, hard, draws=negatives_per_query, seed=seed)
            total += biencoder_gradient(
                wrapped,
                queries,
                items,
                batch,
                temperature=temperature,
                chunk_size=chunk_size,
                pooling=pooling,
                precision=config.precision,
                weight=len(rows) / examples,
                seed=seed,
                accelerator=accelerator,
                last=number + 1 == len(batches),
            )
        return total

    def validate() -> dict:
        vectors = [
            embed(model, texts, precision=config.precision, pooling=pooling) for texts in valid[:2]
        ]
        return {"valid_metric": float(metric(valid[2], vectors[0] @ vectors[1].T))}

    metric = metric or mean_ndcg
    settings = (
        temperature,
        negatives_per_query,
        chunk_size,
        pooling,
        getattr(metric, "__name__", metric),
    )
    arrays = [pairs, known] + ([] if hard is None else [hard])
    for texts in (queries, items, *(valid[:2] if valid is not None else ())):
        arrays += [texts.ids, texts.offsets]
    return run_steps(
        model,
        plan_steps(queries.lengths[pairs[:, 0]] + items.lengths[pairs[:, 1]], config),
        gradient,
        config=config,
        accelerator=accelerator,
        identity=[settings, *arrays, *(valid[2:] if valid is not None else ())],
        validate=None if valid is None else validate,
        run_dir=run_dir,
        resume=resume,
        progress=progress,
        on_step=on_step,
    )


def relevance_table(pairs: np.ndarray, n_queries: int, n_items: int) -> csr_array:
    """(J, 2) rows of queries and products as a sparse matrix, (n_queries, n_items), 1 for each."""
    pairs = np.unique(pairs, axis=0)
    ones = np.ones(len(pairs), dtype=np.int8)
    return csr_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(n_queries, n_items))


def make_batch(
    pairs: np.ndarray,
    relevant: csr_array,
    hard_negatives: np.ndarray | None = None,
    *,
    draws: int = 1,
    seed: int = 0,
) -> Batch:
    """The texts of a batch of (N, 2) pairs, its hard negatives, and what is no negative.

    relevant: see `relevance_table`. hard_negatives: (Q, H), of which `draws` are drawn for each
    query of the batch, without repetition; see `fit_biencoder`.
    """
    queries, query = np.unique(pairs[:, 0], return_inverse=True)
    own, first, item = np.unique(pairs[:, 1], return_index=True, return_inverse=True)
    extra = np.zeros(0, dtype=np.int64)
    if hard_negatives is not None:
        mined = hard_negatives[queries]
        chance = np.random.default_rng(seed).random(mined.shape)
        drawn = np.argsort(np.where(mined < 0, np.inf, chance), axis=1)[:, :draws]
        extra = np.setdiff1d(np.take_along_axis(mined, drawn, axis=1), own)
        extra = extra[extra >= 0]
    columns = np.concatenate([pairs[:, 1], extra])
    hidden = relevant[pairs[:, 0]][:, columns].toarray().astype(bool)
    again = np.setdiff1d(np.arange(len(pairs)), first)  # columns of a product that has one already
    hidden[:, again] = True
    return Batch(queries, np.concatenate([own, extra]), query, item, len(own), hidden)


def batch_loss(vectors: torch.Tensor, batch: Batch, *, temperature: float = 0.05) -> torch.Tensor:
    """Mean `losses.info_nce` over the pairs of a batch.

    vectors: (len(batch.queries) + len(batch.items), width), in that order, of any length.
    """
    asked, offered = vectors.split([len(batch.queries), len(batch.items)])
    return info_nce(
        asked[torch.from_numpy(batch.query)],
        offered[torch.from_numpy(batch.item)],
        temperature=temperature,
        negatives=offered[batch.own :],
        false_negatives=torch.from_numpy(batch.hidden).to(vectors.device),
    )


def biencoder_gradient(
    model: torch.nn.Module,
    queries: Encoded,
    items: Encoded,
    batch: Batch,
    *,
    temperature: float = 0.05,
    chunk_size: int | None = None,
    pooling: str = "mean",
    precision: str = "auto",
    weight: float = 1.0,
    seed: int = 0,
    accelerator: Accelerator | None = None,
    last: bool = True,
) -> float:
    """Add `weight` times the gradient of `batch_loss` to the weights; return `weight` × the loss.

    seed: of dropout. accelerator, last: see `gradient_cache.batch_gradient`. The others are those
    of `fit_biencoder`.
    """
    device = next(model.parameters()).device
    texts, processes = len(batch.queries) + len(batch.items), 1
    if accelerator is not None:
        processes = accelerator.num_processes
    size = chunk_size or -(-texts // processes)
    chunks, asked = make_chunks(queries, batch.queries, size)
    more, offered = make_chunks(items, batch.items, size)
    order = torch.from_numpy(np.concatenate([asked, len(asked) + offered])).to(device)

    def forward(chunk: Chunk) -> torch.Tensor:
        inputs = {key: value.to(device) for key, value in collate(*chunk, multiple_of=8).items()}
        with autocast(device, precision), attention_backend(model, inputs["input_ids"]):
            states = model(**inputs).last_hidden_state
        return pool(states, inputs["attention_mask"], pooling)

    return batch_gradient(
        forward,
        chunks + more,
        lambda vectors: batch_loss(vectors[order], batch, temperature=temperature) * weight,
        seed=seed,
        cached=chunk_size is not None,
        accelerator=accelerator,
        model=model,
        last=last,
    )


def mean_ndcg(grades: np.ndarray, scores: np.ndarray, k: int = 10) -> float:
    """Mean NDCG@k over the queries with a relevant product, both arrays (V, m).

    A grade below 0 ("not judged") counts as 0.
    """
    return float(np.nanmean(ndcg(np.maximum(grades, 0), scores, k)))


def _checked_pairs(name: str, pairs: np.ndarray, queries: Encoded, items: Encoded) -> np.ndarray:
    pairs = np.asarray(pairs)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu" or not len(pairs):
        raise InputError(
            f"{name} must be an array of whole numbers (P, 2), row of the query and row of the "
            f"product, with at least one; it is {pairs.dtype} {pairs.shape}."
        )
    for column, (what, texts) in enumerate((("query", queries), ("product", items))):
        wrong = np.flatnonzero((pairs[:, column] < 0) | (pairs[:, column] >= len(texts)))
        if len(wrong):
            raise InputError(
                f"{name} row {wrong[0]} names {what} {pairs[wrong[0], column]}; "
                f"there are {len(texts):,}, counted from 0."
            )
    return pairs.astype(np.int64)


def _checked_hard(hard: np.ndarray, queries: Encoded, items: Encoded) -> np.ndarray:
    hard = np.asarray(hard)
    if hard.ndim != 2 or len(hard) != len(queries) or hard.dtype.kind not in "iu":
        raise InputError(
            f"hard_negatives must be an array of whole numbers ({len(queries)}, H), a row per "
            f"query; it is {hard.dtype} {hard.shape}."
        )
    wrong = np.argwhere((hard < -1) | (hard >= len(items)))
    if len(wrong):
        raise InputError(
            f"hard_negatives row {wrong[0][0]} names product {hard[tuple(wrong[0])]}; there are "
            f"{len(items):,}, counted from 0, and -1 for none."
        )
    return hard.astype(np.int64)


def _check_settings(
    pairs: np.ndarray,
    hard: np.ndarray | None,
    config: TrainConfig,
    temperature: float,
    draws: int,
    chunk_size: int | None,
) -> None:
    if not temperature > 0:
        raise InputError(f"temperature = {temperature!r} must be above 0.")
    for name, value in (("negatives_per_query", draws), ("chunk_size", chunk_size)):
        if value is not None and value < 1:
            raise InputError(f"{name} = {value!r} must be at least 1.")
    if hard is None and (config.batch_size == 1 or len(np.unique(pairs[:, 1])) == 1):
        what = "pairs name a single product" if config.batch_size != 1 else "batch_size = 1"
        raise InputError(f"{what}: a batch has no wrong product; give hard_negatives, or more.")


def _check_valid(valid: Search) -> None:
    queries, items, grades = valid
    grades = np.asarray(grades)
    if grades.shape != (len(queries), len(items)):
        raise InputError(
            f"valid: grades are {grades.shape}, but there are {len(queries)} queries and "
            f"{len(items)} products."
        )
    if not (grades > 0).any():
        raise InputError("valid: no query has a relevant product, so that nothing can be measured.")
