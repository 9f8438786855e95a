"""Is the product recommended in this review? The task that notebooks 03, 04, 06 and 07 share.

`prepare` splits and encodes a table of reviews once; every system then gives the log-odds of
"recommended" for the same validation and test reviews, so that they can be compared row by row.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from transformers import PreTrainedModel

from recsys_lib.datasets import Reviews, Split, drop_leaks, find_leaks, split_by_group
from recsys_lib.freezing import cache_lower_layers, freeze
from recsys_lib.metrics import auc
from recsys_lib.models import (
    BUILT_IN,
    embed,
    load_classifier,
    load_encoder,
    load_tokenizer,
    model_fingerprint,
    save_model,
)
from recsys_lib.text import Encoded, encode
from recsys_lib.training import FitResult, TrainConfig, fit, predict
from recsys_lib.workbook import InputError, artifact, detect_hardware

_STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)  # inverse regularization, chosen on validation
_MIN_ROWS = 30


@dataclass(frozen=True)
class Part:
    """One part of a split: its rows of the table and their encoded texts, in the same order."""

    frame: pd.DataFrame
    encoded: Encoded

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def texts(self) -> list[str]:
        """(n,) the texts."""
        return self.frame["text"].tolist()

    @property
    def labels(self) -> np.ndarray:
        """(n,) int8, 1 = recommended."""
        return self.frame["label"].to_numpy(copy=True)

    @property
    def groups(self) -> np.ndarray:
        """(n,) the unit of independence of each row, e.g. its product."""
        return self.frame["group"].to_numpy()

    def take(self, rows: np.ndarray) -> Part:
        """The rows at these positions, in that order."""
        return Part(self.frame.iloc[rows], self.encoded.take(rows))


@dataclass(frozen=True)
class Task:
    """Reviews, split by group without leaks, and encoded for `model`.

    dropped: rows left out of train and validation because they (nearly) stand in a later part.
    fingerprint: hash of the texts, labels and parts; it belongs into the key of every artifact.
    """

    name: str
    model: str
    train: Part
    valid: Part
    test: Part
    dropped: int
    fingerprint: str


@dataclass(frozen=True)
class Scores:
    """Log-odds of "recommended" of one system: valid (n_valid,) and test (n_test,), float64."""

    valid: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned classifier: its scores, how it was trained, and where its weights are."""

    scores: Scores
    result: FitResult
    folder: Path

    def load(self) -> PreTrainedModel:
        """The model with its fine-tuned weights."""
        if not (self.folder / "model").is_dir():
            raise InputError("this classifier was made with keep_weights=False: train it again")
        return load_classifier(self.folder / "model")


def prepare(
    reviews: Reviews,
    *,
    seed: int,
    model: str = BUILT_IN,
    max_length: int = 128,
    n_train: int | None = None,
    n_valid: int | None = None,
    n_test: int | None = None,
    split: Split | None = None,
) -> Task:
    """Split by group (70 / 10 / 20 %), draw at most `n_…` rows of each part, drop leaks, encode.

    split: the parts, where another question is asked, such as by `datasets.split_by_time`; rows of
    `reviews.frame` by position. Smaller samples of the same seed are parts of larger ones, but for
    leaks. Raises InputError if a part is left without both classes.
    """
    frame = reviews.frame.reset_index(drop=True)
    if len(frame) < _MIN_ROWS:
        raise InputError(
            f"{reviews.name}: {len(frame)} usable rows; a split into train, validation and test "
            f"needs at least {_MIN_ROWS}: give more rows."
        )
    if split is None:
        split = split_by_group(frame["group"], valid=0.1, test=0.2, seed=seed)
    rng = np.random.default_rng(seed)
    sizes = {"train": n_train, "valid": n_valid, "test": n_test}
    drawn = {name: rng.permutation(getattr(split, name))[:size] for name, size in sizes.items()}
    split = type(split)(**drawn)
    before = len(split.train) + len(split.valid)
    split = drop_leaks(split, find_leaks(frame["text"], split, seed=seed))
    tokenizer = load_tokenizer(model)
    parts, digest = {}, hashlib.sha256()
    for name in sizes:
        rows = frame.iloc[getattr(split, name)]
        if rows["label"].nunique() < 2:
            raise InputError(
                f"{reviews.name}: the {name} part ({len(rows)} rows) does not hold both classes: "
                "give more rows, or more of the rarer class."
            )
        parts[name] = Part(rows, encode(tokenizer, rows["text"], max_length=max_length))
        for column in ("text", "label", "group"):
            digest.update(json.dumps([name, column, *map(str, rows[column])]).encode())
    digest.update(f"{max_length}".encode())
    dropped = before - len(split.train) - len(split.valid)
    return Task(reviews.name, model, **parts, dropped=dropped, fingerprint=digest.hexdigest())


def fine_tuned(
    task: Task,
    config: TrainConfig,
    *,
    dropout: float | None = 0.0,
    frozen: int | None = None,
    n_train: int | None = None,
    draw: int = 0,
    keep_weights: bool = True,
    resumable: bool = False,
    runs: Path | None = None,
) -> FineTuned:
    """The classifier fine-tuned on `task` (on `n_train` of its rows; `draw` says which, as in
    `tfidf_logistic`), trained once and then kept.

    config.seed also draws the new head. dropout: 0 by default, since a small encoder that reads a
    few thousand texts two or three times does not overfit, and the noise can hold it at chance for
    hundreds of steps (market, 2,400 reviews, [CLS] head: AUC 0.95 without, 0.77 with 0.1); None
    keeps the checkpoint's. frozen: leave the embeddings and so many of the lowest layers as they
    are (0: the embeddings only); a BERT computes their outputs once. None: all is trained.
    resumable: keep checkpoints at each validation, so that a run that was killed goes on.
    """
    key = {
        "data": task.fingerprint,
        "model": model_fingerprint(task.model),
        "config": asdict(config),
        "dropout": dropout,
        "n_train": n_train,
        "weights": keep_weights,
    }
    key |= {} if frozen is None else {"frozen": frozen}
    key |= {} if draw == 0 else {"draw": draw}
    part = task.train.take(_drawn(task.train, n_train, draw))

    def build(folder: Path) -> None:
        model = load_classifier(task.model, seed=config.seed, dropout=dropout)
        run_dir = None
        if resumable:
            name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
            run_dir = folder.parents[1] / "training" / name
        above, texts = model, [part.encoded, task.valid.encoded]
        if frozen is not None and model.config.model_type == "bert":
            model.to(detect_hardware().device)
            above, texts = cache_lower_layers(
                model, texts, layers=frozen, precision=config.precision
            )
        elif frozen is not None:
            freeze(model, layers=frozen)
        valid = (texts[1], task.valid.labels)
        result = fit(above, texts[0], part.labels, config=config, valid=valid, run_dir=run_dir)
        model.to(next(above.parameters()).device)  # `fit` moves only what it trains
        scores = {
            name: predict(model, getattr(task, name).encoded, precision=config.precision)
            for name in ("valid", "test")
        }
        np.savez(folder / "scores.npz", **scores)
        result.history.to_parquet(folder / "history.parquet")
        rest = {k: v for k, v in vars(result).items() if k != "history"}
        (folder / "result.json").write_text(json.dumps(rest), encoding="utf-8")
        if keep_weights:
            save_model(model, folder / "model", load_tokenizer(task.model))

    folder = artifact("review-classifier", key, build, runs=runs)
    with np.load(folder / "scores.npz", allow_pickle=False) as saved:
        scores = Scores(saved["valid"], saved["test"])
    rest = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    result = FitResult(history=pd.read_parquet(folder / "history.parquet"), **rest)
    return FineTuned(scores, result, folder)


def tfidf_logistic(
    task: Task, *, n_train: int | None = None, draw: int = 0, class_weight: str | None = None
) -> Scores:
    """Logistic regression on TF-IDF of words and pairs of words; its strength chosen on validation.

    n_train: train on so many rows, drawn at random; smaller samples are parts of larger ones.
    draw: another number draws other rows. class_weight: None or "balanced", as in scikit-learn.
    """
    part = task.train.take(_drawn(task.train, n_train, draw))
    train, valid, test = _tfidf(task, part, min_df=2 if len(part) > 500 else 1)
    return _best_logistic(part, task, train, valid, test, class_weight=class_weight)


def lightgbm_tfidf(task: Task, *, n_train: int | None = None, seed: int = 0) -> Scores:
    """Gradient-boosted trees (Ke et al. 2017) on TF-IDF of words; their number by validation.

    Single words and small trees: pairs of words doubled the time and gained nothing.
    """
    part = task.train.take(_drawn(task.train, n_train))
    matrices = _tfidf(task, part, min_df=3 if len(part) > 500 else 1, pairs=False, most=4_000)
    train, valid, test = (matrix.astype(np.float32) for matrix in matrices)
    data = lightgbm.Dataset(train, label=part.labels)
    watch = lightgbm.Dataset(valid, label=task.valid.labels, reference=data)
    options = {
        "objective": "binary",
        "metric": "binary_logloss",
        "learning_rate": 0.1,
        "num_leaves": 15,
        "min_data_in_leaf": 5,
        "feature_fraction": 0.3,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    stop = lightgbm.early_stopping(20, verbose=False)
    trees = lightgbm.train(options, data, 400, valid_sets=[watch], callbacks=[stop])
    return Scores(*(trees.predict(x, raw_score=True) for x in (valid, test)))


def frozen_probe(
    task: Task, *, n_train: int | None = None, draw: int = 0, runs: Path | None = None
) -> Scores:
    """Logistic regression on the sentence vectors of the encoder as it comes, which stays as it is.

    The vectors are kept as an artifact; the strength is chosen on validation. n_train and draw as
    in `tfidf_logistic`.
    """
    vectors = embedded(task, runs=runs)
    rows = _drawn(task.train, n_train, draw)
    train, valid, test = vectors["train"][rows], vectors["valid"], vectors["test"]
    return _best_logistic(task.train.take(rows), task, train, valid, test, scale=True)


def embedded(task: Task, *, runs: Path | None = None) -> dict[str, np.ndarray]:
    """The pretrained encoder's vectors of "train", "valid" and "test", each (n, width) float32."""
    key = {"data": task.fingerprint, "model": model_fingerprint(task.model)}

    def build(folder: Path) -> None:
        encoder = load_encoder(task.model)
        parts = {name: getattr(task, name).encoded for name in ("train", "valid", "test")}
        np.savez(folder / "vectors.npz", **{k: embed(encoder, v) for k, v in parts.items()})

    folder = artifact("review-vectors", key, build, runs=runs)
    with np.load(folder / "vectors.npz", allow_pickle=False) as saved:
        return dict(saved)


def subset(task: Task, *, n_valid: int | None = None, n_test: int | None = None) -> Task:
    """The same task with fewer rows to score: the first `n_valid` and `n_test` of them.

    Validation keeps at least five rows of each class, where there are so many.
    """
    labels = task.valid.labels
    needed = np.concatenate([np.flatnonzero(labels == label)[:5] for label in (0, 1)])
    rows = np.union1d(np.arange(len(labels))[:n_valid], needed)
    valid, test = task.valid.take(rows), task.test.take(np.arange(len(task.test))[:n_test])
    text = f"{task.fingerprint} {n_valid} {n_test}"
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    return replace(task, valid=valid, test=test, fingerprint=fingerprint)


def _drawn(part: Part, n: int | None, draw: int = 0) -> np.ndarray:
    """Positions of `n` rows drawn at random; all in order where n is None or too many."""
    if n is None or n >= len(part):
        return np.arange(len(part))
    return np.random.default_rng(draw).permutation(len(part))[:n]


def _tfidf(
    task: Task, part: Part, *, min_df: int, pairs: bool = True, most: int | None = None
) -> tuple:
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2 if pairs else 1), min_df=min_df, max_features=most, sublinear_tf=True
    )
    train = vectorizer.fit_transform(part.texts)
    return train, vectorizer.transform(task.valid.texts), vectorizer.transform(task.test.texts)


def _best_logistic(
    part: Part, task: Task, train, valid, test, *, class_weight=None, scale: bool = False
) -> Scores:
    if len(np.unique(part.labels)) < 2:
        raise InputError(f"the {len(part)} training rows drawn have one class only: use more rows.")
    best, best_auc = None, -1.0
    for strength in _STRENGTHS:
        steps = [StandardScaler()] if scale else []
        regression = LogisticRegression(
            C=strength / 100 if scale else strength, class_weight=class_weight, max_iter=1_000
        )
        with threadpool_limits(1, user_api="blas"):  # vectors so short that threads only wait
            model = make_pipeline(*steps, regression).fit(train, part.labels)
        scores = Scores(*(model.decision_function(x).astype(np.float64) for x in (valid, test)))
        value = auc(task.valid.labels, scores.valid)
        if value > best_auc:
            best, best_auc = scores, value
    return best
