"""The cross-encoder: query and product in one text, read together; it orders what others found.

Every word of the query can look at every word of the product, which a bi-encoder's vectors cannot.
The price: nothing can be computed before the query is known, so that only the first candidates of a
faster ranker are scored (Nogueira, Cho 2019, arXiv 1901.04085).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recsys_lib.gradient_cache import Chunk, batch_gradient, make_chunks
from recsys_lib.losses import bce_with_logits, lambdarank, listnet, ranknet
from recsys_lib.metrics import ndcg
from recsys_lib.models import attention_backend, autocast
from recsys_lib.text import Encoded, collate, encode
from recsys_lib.training import plan_steps, predict
from recsys_lib.training_loop import (
    FitResult,
    Step,
    TrainConfig,
    make_accelerator,
    run_steps,
    step_seed,
)
from recsys_lib.workbook.errors import InputError
from recsys_lib.workbook.progress import progress as progress_bar

LOSSES = ("bce", "ranknet", "lambdarank", "listnet")
_LISTWISE = {"ranknet": ranknet, "lambdarank": lambdarank, "listnet": listnet}
_BLOCK = 20_000  # pairs encoded at a time

Lists = tuple[Encoded, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Reranked:
    """Candidates in their new order.

    items: (Q, K) int64, rows of the catalog, best first; -1 fills a row up, at its end.
    scores: (Q, K) float64, falling along each row: logits of the candidates that were scored (with
        what was added to them); the
        others follow below, each 1 lower than the one before, in the order they had; -inf at -1.
    """

    items: np.ndarray
    scores: np.ndarray


def fit_crossencoder(
    model: PreTrainedModel,
    pairs: Encoded,
    grades: np.ndarray,
    queries: np.ndarray,
    *,
    loss: str = "bce",
    config: TrainConfig | None = None,
    max_grade: float | None = None,
    chunk_size: int | None = None,
    valid: Lists | None = None,
    k: int = 10,
    run_dir: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
    on_step: Callable[[int], None] | None = None,
) -> FitResult:
    """Fine-tune a one-logit classifier in place to score pairs of a query and a product.

    Args:
        model: see `models.load_classifier`; one logit.
        pairs: n encoded pairs, ``encode(tokenizer, queries, pairs=products)``.
        grades: (n,) graded relevance, not negative.
        queries: (n,) the query of each pair, as whole numbers; its pairs are one list, see
            `negatives.sample_lists`.
        loss: "bce": each pair for itself, its target being grade / max_grade; "ranknet",
            "lambdarank" or "listnet": the pairs of a query against one another, see
            `losses.ranking`. Lists in which these find nothing to learn are left out.
        config: `batch_size` and `max_tokens` count pairs with "bce", else queries and the tokens
            of their lists.
        max_grade: the grade that means certainly relevant, by default the highest of `grades`.
        chunk_size: pairs whose activations are held at a time, see `gradient_cache`. None holds
            the whole batch.
        valid: encoded pairs, grades and queries of the validation part. The model ends with the
            weights of its best validation by NDCG@k. Never give the test part.
        k: ranks that count in validation.
        run_dir, resume, progress, on_step: see `training.fit`.

    Raises:
        InputError: sizes or grades that do not fit, nothing to learn, a checkpoint of another run.
        TrainingError: a loss or gradient that is not finite; the last checkpoint is kept.
    """
    config = config or TrainConfig()
    grades, queries = _checked_lists("training", pairs, grades, queries)
    if valid is not None:
        valid = (valid[0], *_checked_lists("validation", *valid))
        if not (valid[1] > 0).any():
            raise InputError("the validation part has no grade above 0: nothing can be measured.")
    if loss not in LOSSES:
        raise InputError(f"loss = {loss!r} must be one of {', '.join(LOSSES)}.")
    if model.config.num_labels != 1:
        raise InputError(f"the model has {model.config.num_labels} logits; a cross-encoder has 1.")
    if chunk_size is not None and chunk_size < 1:
        raise InputError(f"chunk_size = {chunk_size!r} must be at least 1.")
    top = float(grades.max() if max_grade is None else max_grade)
    if not top >= grades.max() or top == 0:
        raise InputError(
            f"max_grade = {top:g} must be above 0 and at least {grades.max():g}, the highest grade."
        )
    lists = _lists_to_learn(queries, grades, loss)
    lengths = np.array([pairs.lengths[rows].sum() for rows in lists])
    if loss != "bce":
        config = replace(config, by_length=False)
    accelerator = make_accelerator()

    def gradient(wrapped: torch.nn.Module, step: int, batches: Step) -> float:
        examples, total = sum(len(rows) for rows in batches), 0.0
        for number, chosen in enumerate(batches):
            total += _add_gradient(
                wrapped,
                pairs,
                [lists[i] for i in chosen],
                grades / top if loss == "bce" else grades,
                loss,
                examples,
                chunk_size=chunk_size,
                precision=config.precision,
                seed=step_seed(config.seed, step, number),
                accelerator=accelerator,
                last=number + 1 == len(batches),
            )
        return total

    def validate() -> dict:
        logits = predict(model, valid[0], precision=config.precision)
        return {"valid_metric": list_ndcg(valid[1], logits, valid[2], k)}

    arrays = [pairs.ids, pairs.offsets, grades, queries]
    if valid is not None:
        arrays += [valid[0].ids, valid[0].offsets, *valid[1:]]
    return run_steps(
        model,
        plan_steps(lengths, config),
        gradient,
        config=config,
        accelerator=accelerator,
        identity=[(loss, top, chunk_size, k), *arrays],
        validate=None if valid is None else validate,
        run_dir=run_dir,
        resume=resume,
        progress=progress,
        on_step=on_step,
    )


def rerank(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    candidates: np.ndarray,
    texts: Sequence[str],
    *,
    k: int | None = None,
    first_scores: np.ndarray | None = None,
    max_length: int = 64,
    batch_tokens: int = 8_192,
    precision: str = "auto",
    progress: bool = False,
) -> Reranked:
    """Order the first `k` candidates of each query by the cross-encoder's score.

    Args:
        model, tokenizer: a one-logit classifier and its tokenizer.
        queries: Q texts.
        candidates: (Q, K) ints, rows of `texts` in the order of a first ranker; -1 for none.
        texts: of the catalog's products.
        k: candidates to score of each query; None for all. What stands behind keeps its order.
        first_scores: (Q, K), what the first ranker says, weighed; added to the logits.
        max_length: tokens of a pair; the longer text of a pair is cut first.
        batch_tokens: cells of one batch, padding included; texts of like length go together.
        precision: see `models.autocast`. progress: show a bar.

    Equal scores keep the order that they had. Raises InputError for candidates that are not in the
    catalog or stand twice in a row.
    """
    candidates = _checked_candidates(candidates, queries, texts, k)
    added = np.zeros(candidates.shape) if first_scores is None else np.asarray(first_scores)
    if added.shape != candidates.shape or not np.isfinite(added[candidates >= 0]).all():
        raise InputError(f"first_scores must be {candidates.shape}, finite for every candidate.")
    # -1 may stand anywhere in a row; behind everything it is out of the way
    place = np.argsort(candidates < 0, axis=1, kind="stable")
    candidates, added = (np.take_along_axis(x, place, axis=1) for x in (candidates, added))
    width = candidates.shape[1]
    k = width if k is None else min(k, width)
    logits = np.full(candidates.shape, -np.inf)
    row, column = np.nonzero(candidates[:, :k] >= 0)
    with progress_bar(len(row), "re-ranking", shown=progress) as bar:
        for start in range(0, len(row), _BLOCK):
            r, c = row[start : start + _BLOCK], column[start : start + _BLOCK]
            encoded = encode(
                tokenizer,
                [queries[i] for i in r],
                pairs=[texts[i] for i in candidates[r, c]],
                max_length=max_length,
            )
            scored = predict(model, encoded, batch_tokens=batch_tokens, precision=precision)
            logits[r, c] = scored + added[r, c]
            bar.update(len(r))
    if np.isnan(logits).any():
        raise InputError("the cross-encoder's scores are not numbers; train it again, more slowly.")
    order = np.argsort(-logits[:, :k], axis=1, kind="stable")
    scored = np.take_along_axis(logits[:, :k], order, axis=1)
    least = np.where(candidates[:, :k] >= 0, scored, np.inf).min(axis=1, keepdims=True)
    items = np.hstack([np.take_along_axis(candidates[:, :k], order, axis=1), candidates[:, k:]])
    scores = np.hstack([scored, least - np.arange(1, width - k + 1)])
    return Reranked(items, np.where(items >= 0, scores, -np.inf))


def list_ndcg(grades: np.ndarray, scores: np.ndarray, queries: np.ndarray, k: int = 10) -> float:
    """Mean NDCG@k over the lists of queries with a relevant product; all arguments (n,)."""
    lists = _lists(queries)
    mask = np.arange(max(map(len, lists))) < np.array([len(rows) for rows in lists])[:, None]
    padded = np.zeros((2, *mask.shape))
    padded[:, mask] = np.stack([grades, scores])[:, np.concatenate(lists)]
    return float(np.nanmean(ndcg(*padded, k, mask=mask)))


def list_loss(
    scores: torch.Tensor, grades: np.ndarray, sizes: Sequence[int], loss: str
) -> torch.Tensor:
    """Mean over lists of one of `LOSSES`.

    scores, grades: (n,), list after list (with "bce", grades from 0 to 1). sizes: of each list.
    """
    targets = torch.as_tensor(grades, dtype=torch.float32, device=scores.device)
    if loss == "bce":
        return bce_with_logits(scores, targets)
    mask = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
    mask = mask.to(scores.device)
    padded = [scores.new_zeros(mask.shape).masked_scatter(mask, x) for x in (scores, targets)]
    return _LISTWISE[loss](*padded, mask, reduction="sum") / len(sizes)


def _add_gradient(
    model: torch.nn.Module,
    pairs: Encoded,
    lists: list[np.ndarray],
    targets: np.ndarray,
    loss: str,
    examples: int,
    *,
    chunk_size: int | None,
    precision: str,
    seed: int,
    accelerator: Accelerator,
    last: bool,
) -> float:
    """Add the gradient of the mean loss over these of a step's `examples` lists to the weights."""
    rows, sizes = np.concatenate(lists), [len(part) for part in lists]
    size = chunk_size or -(-len(rows) // accelerator.num_processes)
    chunks, order = make_chunks(pairs, rows, size)
    places = torch.from_numpy(order).to(accelerator.device)

    def forward(chunk: Chunk) -> torch.Tensor:
        batch = collate(*chunk, multiple_of=8)
        batch = {key: value.to(accelerator.device) for key, value in batch.items()}
        ids = batch["input_ids"]
        with autocast(accelerator.device, precision), attention_backend(model, ids):
            logits = model(**batch).logits
        return logits.float().squeeze(-1)

    return batch_gradient(
        forward,
        chunks,
        lambda logits: (
            list_loss(logits[places], targets[rows], sizes, loss) * (len(lists) / examples)
        ),
        seed=seed,
        cached=chunk_size is not None,
        accelerator=accelerator,
        model=model,
        last=last,
    )


def _lists(queries: np.ndarray) -> list[np.ndarray]:
    """The rows of each query, queries in order."""
    order = np.argsort(queries, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(queries[order])) + 1)


def _lists_to_learn(queries: np.ndarray, grades: np.ndarray, loss: str) -> list[np.ndarray]:
    if loss == "bce":
        return list(np.arange(len(queries))[:, None])
    lists = [rows for rows in _lists(queries) if len(rows) > 1]
    if loss != "listnet":
        lists = [rows for rows in lists if np.ptp(grades[rows]) > 0]
    if not lists:
        what = "two pairs" if loss == "listnet" else "two pairs of different grades"
        raise InputError(f"loss = {loss!r}: no query has {what}, there is nothing to compare.")
    return lists


def _checked_lists(
    part: str, pairs: Encoded, grades: np.ndarray, queries: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    grades, queries = np.asarray(grades), np.asarray(queries)
    if len(pairs) == 0:
        raise InputError(f"the {part} part is empty.")
    if grades.shape != (len(pairs),) or queries.shape != grades.shape:
        raise InputError(
            f"the {part} part has {len(pairs)} pairs, but grades {grades.shape} and queries "
            f"{queries.shape}."
        )
    if queries.dtype.kind not in "iu":
        raise InputError(f"the {part} part's queries must be whole numbers, not {queries.dtype}.")
    grades = grades.astype(np.float64)
    wrong = np.flatnonzero(~((grades >= 0) & np.isfinite(grades)))
    if len(wrong):
        raise InputError(
            f"the {part} grade of row {wrong[0]} is {grades[wrong[0]]:g}, which is no grade: leave "
            "out what was not judged."
        )
    return grades, queries


def _checked_candidates(
    candidates: np.ndarray, queries: Sequence[str], texts: Sequence[str], k: int | None
) -> np.ndarray:
    candidates = np.asarray(candidates)
    if candidates.ndim != 2 or len(candidates) != len(queries) or candidates.dtype.kind not in "iu":
        raise InputError(
            f"candidates must be whole numbers ({len(queries)}, K), a row per query; they are "
            f"{candidates.dtype} {candidates.shape}."
        )
    if k is not None and k < 1:
        raise InputError(f"k = {k} must be at least 1, or None for all candidates.")
    if not candidates.shape[1]:
        raise InputError("candidates have no column: there is nothing to re-rank.")
    wrong = np.argwhere((candidates < -1) | (candidates >= len(texts)))
    if len(wrong):
        raise InputError(
            f"candidates of query {wrong[0][0]} name product {candidates[tuple(wrong[0])]}; there "
            f"are {len(texts):,}, counted from 0, and -1 for none."
        )
    ranked = np.sort(candidates, axis=1)
    twice = np.argwhere((ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] >= 0))
    if len(twice):
        row, column = twice[0]
        raise InputError(f"candidates of query {row} name product {ranked[row, column]} twice.")
    return candidates.astype(np.int64)
