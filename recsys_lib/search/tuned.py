"""Bi-encoder and cross-encoder fine-tuned on a search task, trained once and then kept.

The recipe, in the order of its steps:

1. the encoder learns to find the right product among those of the batch (`biencoder`);
2. the products that it still takes for right are mined (`negatives`), and it learns against them;
3. a cross-encoder, which reads query and product together, learns to order what stands on top;
   validation says how much its word counts beside the bi-encoder's.

What `fit_biencoder` and `fit_crossencoder` do can be had without this module; it adds what each
step is given and where the result is kept (`workbook.artifact`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recsys_lib.biencoder import fit_biencoder
from recsys_lib.crossencoder import fit_crossencoder, rerank
from recsys_lib.datasets.relevance_tables import Relevance
from recsys_lib.models import (
    BUILT_IN,
    embed,
    load_classifier,
    load_encoder,
    load_tokenizer,
    model_fingerprint,
    save_model,
)
from recsys_lib.negatives import mine_negatives, sample_lists, sample_pairs
from recsys_lib.search.fusion import choose_first_weight
from recsys_lib.search.index import exact_search
from recsys_lib.search.results import Ranking
from recsys_lib.text import Encoded, encode
from recsys_lib.training import predict
from recsys_lib.training_loop import FitResult, TrainConfig
from recsys_lib.workbook import InputError, artifact, detect_hardware

_MINED = 20  # hard negatives kept per query, of which each batch draws some


@dataclass(frozen=True)
class TunedRanker:
    """A ranker's weights and how they were trained.

    folder: of the artifact; its `model` is a checkpoint with tokenizer. kind: "biencoder" or
    "crossencoder". reads: the column of the products that it reads. max_length: tokens of it.
    examples: pairs that it was trained on. result: see `training_loop.FitResult`. first_weight: of
    a cross-encoder, what the first ranker's cosines are multiplied by before they are added to its
    logits, chosen on validation.
    """

    folder: Path
    kind: str
    reads: str
    max_length: int
    examples: int
    result: FitResult
    first_weight: float = 0.0

    @property
    def checkpoint(self) -> Path:
        """The folder of the model, which every loader takes as a name."""
        return self.folder / "model"

    def load(self) -> PreTrainedModel:
        """The model with its fine-tuned weights."""
        load = load_encoder if self.kind == "biencoder" else load_classifier
        return load(self.checkpoint)


def encode_products(
    task: Relevance, *, reads: str = "name", model: str | Path = BUILT_IN, max_length: int = 32
) -> Encoded:
    """The catalog's texts of one column, encoded in order. Raises InputError for no such column."""
    if reads not in task.products:
        raise InputError(f'reads = "{reads}": the products of {task.name} have no such column')
    return encode(load_tokenizer(model), task.products[reads], max_length=max_length)


def embedded_products(
    task: Relevance,
    *,
    reads: str = "name",
    model: str | Path = BUILT_IN,
    max_length: int = 32,
    runs: Path | None = None,
) -> np.ndarray:
    """The vectors of the catalog by an encoder, (products, width) float32 of length 1, made once.

    model: a checkpoint, such as `TunedRanker.checkpoint`. The others as in `encode_products`.
    Texts that several products share are read once. For a catalog that does not fit into memory
    there is `catalog.embed_catalog`.
    """
    items = encode_products(task, reads=reads, model=model, max_length=max_length)
    key = {
        "data": task.fingerprint,
        "model": model_fingerprint(model),
        "reads": reads,
        "max_length": max_length,
    }

    def build(folder: Path) -> None:
        encoder = load_encoder(model).to(detect_hardware().device)
        texts, _ = pd.factorize(task.products[reads])
        _, firsts = np.unique(texts, return_index=True)
        vectors = embed(encoder, items.take(firsts))[texts]
        np.save(folder / "vectors.npy", vectors, allow_pickle=False)

    folder = artifact("search-products", key, build, runs=runs)
    return np.load(folder / "vectors.npy", allow_pickle=False)


def validation_products(n: int, most: int, seed: int = 0) -> np.ndarray:
    """The rows of the catalog, of n, that `tuned_biencoder` ranks in its validation, sorted."""
    return np.sort(np.random.default_rng(seed).permutation(n)[:most])


def tuned_biencoder(
    task: Relevance,
    config: TrainConfig,
    *,
    reads: str = "name",
    model: str | Path = BUILT_IN,
    max_length: int = 32,
    start: TunedRanker | None = None,
    negatives: int = 0,
    depth: int = 60,
    least: int | None = None,
    never: int | None = None,
    per_query: int = 6,
    temperature: float = 0.05,
    chunk_size: int | None = None,
    valid_products: int = 3_000,
    runs: Path | None = None,
) -> TunedRanker:
    """The encoder fine-tuned on the training queries, chosen by NDCG@10 on the validation queries.

    Args:
        task: its test part is not looked at.
        config: see `fit_biencoder`; `batch_size` counts pairs of a query and a right product.
        reads: the column of the products that the encoder reads. max_length: tokens of each text.
        model: the checkpoint to start from.
        start: a bi-encoder made by this function, to go on from instead.
        negatives: hard negatives per query and batch, drawn from those that the model which is
            started from ranks among the first `depth` wrong ones. Where judgements are not
            complete, only products that were judged wrong count as wrong.
        least: the lowest grade of a right product; by default the highest grade in use.
        never: products of this grade and above are never negatives; by default `least`.
        per_query: right products per query, drawn at random.
        temperature, chunk_size: see `fit_biencoder`.
        valid_products: size of the part of the catalog that validation ranks, see
            `validation_products`.
        runs: where artifacts lie; by default `runs_folder()`.

    Raises:
        InputError: no query to train or validate on, a column or grade that there is not.
    """
    source = start.checkpoint if start else model
    train, valid = _parts(task)
    judged = task.judged(train["query_id"])
    top = int(judged[:, 2].max(initial=0)) if least is None else least
    spared = top if never is None else never
    options = {
        "reads": reads,
        "max_length": max_length,
        "negatives": negatives,
        "depth": depth,
        "least": top,
        "never": spared,
        "per_query": per_query,
        "temperature": temperature,
        "chunk_size": chunk_size,
        "valid_products": valid_products,
    }

    def build(folder: Path) -> None:
        encoder = load_encoder(source, dropout=0.0)
        tokenizer = load_tokenizer(source)
        items = encode_products(task, reads=reads, model=source, max_length=max_length)
        queries, asked = (
            encode(tokenizer, q["text"], max_length=max_length) for q in (train, valid)
        )
        kept = judged[judged[:, 2] >= spared][:, :2]
        mined = None
        if negatives:
            vectors = embedded_products(
                task, reads=reads, model=source, max_length=max_length, runs=runs
            )
            mined = _mine(task, embed(encoder, queries), vectors, judged, spared, depth, config)
        pairs = sample_pairs(judged, least=top, per_query=per_query, seed=config.seed)
        some = validation_products(len(items), valid_products, config.seed)
        result = fit_biencoder(
            encoder,
            queries,
            items,
            pairs,
            config=config,
            temperature=temperature,
            relevant=kept,
            hard_negatives=mined,
            negatives_per_query=max(1, negatives),
            chunk_size=chunk_size,
            valid=(asked, items.take(some), task.grades(valid["query_id"])[:, some]),
        )
        _keep(folder, encoder, source, result, examples=len(pairs))

    return _kept("biencoder", task, source, config, options, build, runs)


def tuned_crossencoder(
    task: Relevance,
    first: TunedRanker,
    config: TrainConfig,
    *,
    model: str | Path | None = None,
    max_length: int = 48,
    loss: str = "listnet",
    near: int = 12,
    depth: int = 50,
    per_grade: int = 2,
    valid_depth: int = 20,
    chunk_size: int | None = None,
    runs: Path | None = None,
) -> TunedRanker:
    """A cross-encoder trained on graded lists of the training queries, to re-rank what `first`
    finds; chosen by NDCG@10 over what `first` finds for the validation queries.

    It learns without the cosines of `first`: these come from the queries which `first` was trained
    on, where they are nearly right, and a model that is given them learns little else. Afterwards
    they are added to its logits with the weight that `fusion.choose_first_weight` finds on the
    validation queries; `re_ranked` applies both.

    A list holds what the cross-encoder will have to order, judged products that `first` ranks high,
    and a few from anywhere in the catalog.

    Args:
        task: its test part is not looked at.
        first: a bi-encoder, see `tuned_biencoder`; the cross-encoder reads the same column.
        config: see `fit_crossencoder`; `batch_size` counts queries, unless `loss` is "bce".
        model: the checkpoint to start from; by default that of `first`, which knows the task's
            words. max_length: tokens of query and product together.
        loss: see `fit_crossencoder`.
        near: products in a query's list among the first `depth` of `first`, drawn at random. Where
            judgements are not complete, those that nobody judged are left out.
        per_grade: products of each grade above 0 in it besides, drawn at random.
        valid_depth: products of each validation query that are re-ranked.
        chunk_size: see `fit_crossencoder`.
        runs: where artifacts lie; by default `runs_folder()`.
    """
    source = first.checkpoint if model is None else model
    train, valid = _parts(task)
    judged = task.judged(train["query_id"])
    options = {
        "first": model_fingerprint(first.checkpoint),
        "reads": first.reads,
        "max_length": max_length,
        "loss": loss,
        "near": near,
        "depth": depth,
        "per_grade": per_grade,
        "valid_depth": valid_depth,
        "chunk_size": chunk_size,
    }

    def build(folder: Path) -> None:
        encoder, tokenizer = first.load(), load_tokenizer(first.checkpoint)
        vectors = embedded_products(
            task,
            reads=first.reads,
            model=first.checkpoint,
            max_length=first.max_length,
            runs=runs,
        )
        asked, valid_asked = (
            embed(encoder, encode(tokenizer, part["text"], max_length=first.max_length))
            for part in (train, valid)
        )
        top = exact_search(asked, vectors, depth).rows
        shown = exact_search(valid_asked, vectors, valid_depth)
        drawn = np.random.default_rng(config.seed).permuted(top, axis=1)[:, :near]
        high = _graded(task, train, drawn)
        anywhere = sample_lists(judged, per_grade=per_grade, seed=config.seed)
        rows = np.unique(np.concatenate([high[high[:, 2] >= 0], anywhere]), axis=0)
        ranked = _graded(task, valid, shown.rows)
        names = task.products[first.reads].tolist()
        tokens = load_tokenizer(source)

        def read(words: pd.Series, pairs: np.ndarray) -> Encoded:
            wishes = [words.iloc[q] for q in pairs[:, 0]]
            return encode(
                tokens, wishes, pairs=[names[i] for i in pairs[:, 1]], max_length=max_length
            )

        valid_pairs = read(valid["text"], ranked)
        scorer = load_classifier(source, dropout=0.0, seed=config.seed)
        result = fit_crossencoder(
            scorer,
            read(train["text"], rows),
            rows[:, 2],
            rows[:, 0],
            loss=loss,
            config=config,
            chunk_size=chunk_size,
            valid=(valid_pairs, np.maximum(ranked[:, 2], 0), ranked[:, 0]),
        )
        logits = np.full(shown.rows.shape, -np.inf)
        logits[shown.rows >= 0] = predict(scorer, valid_pairs, precision=config.precision)
        weight = choose_first_weight(
            np.maximum(shown.gains(task.grades(valid["query_id"])), 0),
            logits,
            np.where(shown.rows >= 0, shown.scores, 0),
        )
        _keep(folder, scorer, source, result, examples=len(rows), first_weight=weight)

    return _kept("crossencoder", task, source, config, options, build, runs)


def re_ranked(
    cross: TunedRanker,
    task: Relevance,
    queries: Sequence[str],
    found: Ranking,
    *,
    model: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Ranking:
    """The candidates of each query in the order of `cross`.

    found: of its first ranker, cosines as scores, cut to what is to be re-ranked (`Ranking.head`).
    model, tokenizer: `cross.load()` and that of `cross.checkpoint`, where they are at hand: to read
    them takes longer than to answer a query.
    """
    done = rerank(
        cross.load() if model is None else model,
        load_tokenizer(cross.checkpoint) if tokenizer is None else tokenizer,
        queries,
        found.rows,
        task.products[cross.reads].array,  # not a list of all texts for every query
        first_scores=cross.first_weight * np.where(found.rows >= 0, found.scores, 0),
        max_length=cross.max_length,
    )
    return Ranking(done.items, done.scores)


def _graded(task: Relevance, queries: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    """Ranked products, (Q, k) rows of the catalog or -1, as (n, 3): query, product, grade."""
    query, at = np.nonzero(rows >= 0)
    product = rows[query, at]
    return np.column_stack([query, product, task.grades(queries["query_id"])[query, product]])


def _parts(task: Relevance) -> tuple[pd.DataFrame, pd.DataFrame]:
    train, valid = task.part("train"), task.part("valid")
    for name, part in (("train", train), ("validate", valid)):
        if not len(part):
            raise InputError(f"{task.name} has no query to {name} on: give more queries")
    return train, valid


def _mine(
    task: Relevance,
    queries: np.ndarray,
    products: np.ndarray,
    judged: np.ndarray,
    spared: int,
    depth: int,
    config: TrainConfig,
) -> np.ndarray:
    """Hard negatives of the training queries, (Q, _MINED), from the vectors of both."""
    wrong = None if task.complete else judged[judged[:, 2] < spared][:, :2]
    return mine_negatives(
        queries,
        products,
        judged[judged[:, 2] >= spared][:, :2],
        n=min(_MINED, depth),
        irrelevant=wrong,
        unjudged=task.complete,
        depth=depth,
        seed=config.seed,
    )


def _keep(
    folder: Path,
    model: PreTrainedModel,
    source: str | Path,
    result: FitResult,
    *,
    examples: int,
    first_weight: float = 0.0,
) -> None:
    save_model(model, folder / "model", load_tokenizer(source))
    result.history.to_parquet(folder / "history.parquet")
    rest = {k: v for k, v in vars(result).items() if k != "history"}
    rest |= {"examples": examples, "first_weight": first_weight}
    (folder / "result.json").write_text(json.dumps(rest), encoding="utf-8")


def _kept(
    kind: str,
    task: Relevance,
    source: str | Path,
    config: TrainConfig,
    options: dict,
    build: Callable[[Path], None],
    runs: Path | None,
) -> TunedRanker:
    key = {
        "data": task.fingerprint,
        "model": model_fingerprint(source),
        "config": asdict(config),
        "options": options,
    }
    folder = artifact(f"search-{kind}", key, build, runs=runs)
    rest = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    examples, first_weight = rest.pop("examples"), rest.pop("first_weight", 0.0)
    result = FitResult(history=pd.read_parquet(folder / "history.parquet"), **rest)
    return TunedRanker(
        folder,
        kind,
        options["reads"],
        options["max_length"],
        examples,
        result,
        first_weight,
    )
