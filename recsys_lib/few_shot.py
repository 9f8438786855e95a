"""Finding the one right answer among many with few labels, with all of them, and with none.

A search task in which each query has exactly one right product (`banking77`: a customer's message,
77 services) is also a classification into the products. `few_shot_curve` says what a frozen encoder
makes of a few labeled queries per product, `linear_probe` what it makes of all, and `fine_tuned`
trains the encoder on from there. Vectors have a row per text; labels are the rows of the products.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from recsys_lib.datasets import Relevance
from recsys_lib.models import (
    BUILT_IN,
    MeanPooledBert,
    embed,
    load_classifier,
    load_encoder,
    load_tokenizer,
    model_fingerprint,
    save_model,
)
from recsys_lib.text import Encoded, encode
from recsys_lib.training import FitResult, TrainConfig, fit, predict
from recsys_lib.workbook import InputError, artifact

PROBE, NEAREST_MEAN = "logistic regression", "nearest mean"
# For banking77. Of two learning rates, 1e-4 and 2e-4, the better one on its validation part (0.943
# and 0.938); the rest was not tuned. 987 messages cannot tell one epoch from the next, so that the
# only validation is at the end and the last weights are kept.
RECIPE = TrainConfig(epochs=5, lr=1e-4, batch_size=32, eval_every=1_000_000)
STRENGTHS = (3.0, 10.0, 30.0)  # of the linear probe: scikit-learn's C, validation chooses
_PARTS = ("train", "valid", "test")
_MAX_ITERATIONS = 1_000


@dataclass(frozen=True, eq=False)
class Part:
    """Queries of one part: their texts, the same encoded, and the right product's row, (n,)."""

    texts: tuple[str, ...]
    encoded: Encoded
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Task:
    """Queries with one right product each, in three parts, encoded for `model`.

    products: product_id, name and text of the products; a label is a row of it.
    described: the products' names with their texts, encoded.
    fingerprint: hash of the texts and labels of all parts; it belongs into the key of an artifact.
    """

    name: str
    model: str
    products: pd.DataFrame
    described: Encoded
    train: Part
    valid: Part
    test: Part
    fingerprint: str


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear classifier on vectors of length 1.

    weights: (classes, width). bias: (classes,). classes: (classes,) the label of each row.
    strength: its inverse regularization, scikit-learn's C, chosen by valid_accuracy.
    """

    weights: np.ndarray
    bias: np.ndarray
    classes: np.ndarray
    strength: float
    valid_accuracy: float

    def logits(self, vectors: np.ndarray) -> np.ndarray:
        """(n, classes) for vectors (n, width), which are scaled to length 1."""
        return _unit(vectors) @ self.weights.T + self.bias

    def predict(self, vectors: np.ndarray) -> np.ndarray:
        """(n,) the label of the highest logit."""
        return self.classes[self.logits(vectors).argmax(axis=1)]


@dataclass(frozen=True, eq=False)
class FineTuned:
    """A fine-tuned classifier: logits (n, products) of both parts, its training, its weights.

    start_accuracy: on validation before the first step, with the head as it starts.
    """

    valid: np.ndarray
    test: np.ndarray
    start_accuracy: float
    result: FitResult
    folder: Path

    def load(self) -> PreTrainedModel:
        """The model with its fine-tuned weights."""
        if not (self.folder / "model").is_dir():
            raise InputError("this classifier was made with keep_weights=False: train it again")
        return load_classifier(self.folder / "model", num_labels=self.valid.shape[1])


def prepare(
    relevance: Relevance,
    *,
    model: str = BUILT_IN,
    max_length: int = 128,
    n_train: int | None = None,
    n_valid: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
) -> Task:
    """Queries and products of a search task, encoded; the right product of a query is its label.

    n_train: at most so many training queries for each product. n_valid, n_test: at most so many
    queries of that part. Smaller samples of the same seed are parts of larger ones.
    Raises InputError if a query has no or several right products, or a product no training query.
    """
    products = relevance.products.reset_index(drop=True)
    tokenizer = load_tokenizer(model)
    described = products["name"] + ". " + products["text"]
    digest = hashlib.sha256(json.dumps([max_length, described.tolist()]).encode())
    parts = {}
    for name, most in zip(_PARTS, (n_train, n_valid, n_test), strict=True):
        queries = relevance.part(name)
        right = relevance.grades(queries["query_id"]) > 0
        odd = np.flatnonzero(right.sum(axis=1) != 1)
        if len(odd):
            raise InputError(
                f'{relevance.name}: query "{queries["query_id"][odd[0]]}" has '
                f"{right[odd[0]].sum()} right products; here each needs exactly one."
            )
        labels = right.argmax(axis=1)
        if name == "train":
            missing = np.setdiff1d(np.arange(len(products)), labels)
            if len(missing):
                raise InputError(
                    f'{relevance.name}: product "{products["product_id"][missing[0]]}" has no '
                    "training query: give one, or leave the product out."
                )
        rows = np.arange(len(labels))
        if most is not None:
            pools = labels if name == "train" else np.zeros(len(labels))
            drawn = [pool[:most] for pool in _in_random_order(pools, seed)]
            rows = np.sort(np.concatenate(drawn))
        texts = queries["text"].iloc[rows].tolist()
        encoded = encode(tokenizer, texts, max_length=max_length)
        parts[name] = Part(tuple(texts), encoded, labels[rows])
        digest.update(json.dumps([name, texts, labels[rows].tolist()]).encode())
    products = products[["product_id", "name", "text"]]
    encoded = encode(tokenizer, described, max_length=max_length)
    return Task(relevance.name, model, products, encoded, **parts, fingerprint=digest.hexdigest())


def embedded(task: Task, *, runs: Path | None = None) -> dict[str, np.ndarray]:
    """The pretrained encoder's vectors of "train", "valid", "test" and "products", made once.

    Each (n, width) float32, of length 1.
    """
    key = {"data": task.fingerprint, "model": model_fingerprint(task.model)}

    def build(folder: Path) -> None:
        encoder = load_encoder(task.model)
        texts = {name: getattr(task, name).encoded for name in _PARTS}
        texts["products"] = task.described
        np.savez(folder / "vectors.npz", **{k: embed(encoder, v) for k, v in texts.items()})

    folder = artifact("few-shot-vectors", key, build, runs=runs)
    with np.load(folder / "vectors.npz", allow_pickle=False) as saved:
        return dict(saved)


def draw_per_class(labels: np.ndarray, n: int, *, seed: int = 0, draw: int = 0) -> np.ndarray:
    """Rows of `n` examples of each class, drawn without replacement: (n × classes,) int64.

    The rows of a class stand together. Smaller samples of the same draw are parts of larger ones.
    Raises InputError if a class has fewer than `n`.
    """
    labels = np.asarray(labels)
    if n < 1:
        raise InputError(f"{n} examples per class: at least 1 is needed.")
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise InputError(f"the labels hold {len(classes)} class(es): at least 2 are needed.")
    if counts.min() < n:
        raise InputError(
            f"class {classes[counts.argmin()]} has {counts.min()} training examples, not {n}: ask "
            "for fewer per class."
        )
    return np.concatenate([rows[:n] for rows in _in_random_order(labels, [seed, draw])])


def few_shot_curve(
    train_vectors: np.ndarray,
    train_labels: np.ndarray,
    test_vectors: np.ndarray,
    test_labels: np.ndarray,
    *,
    sizes: Sequence[int] = (1, 5, 10, 20),
    draws: int = 10,
    strength: float = 10.0,
    seed: int = 0,
) -> pd.DataFrame:
    """Accuracy over the number of labeled examples per class, by two classifiers.

    Logistic regression, and the simplest rule there is: the class whose examples' mean direction is
    nearest by cosine (Snell et al. 2017, arXiv 1703.05175, section 2.2). Draws as in
    `draw_per_class`; both classifiers see the same.

    Args:
        train_vectors, train_labels: (n, width) and (n,), of which the examples are drawn.
        test_vectors, test_labels: (m, width) and (m,).
        sizes: examples per class. draws: samples of each size.
        strength: inverse regularization, scikit-learn's C, the same for all sizes, since who has
            one example per class has no validation part. 10 was chosen once, on the validation part
            of banking77; 1 with 8 examples and 10 draws is the protocol of MTEB (Muennighoff et al.
            2023, arXiv 2210.07316).
        seed: of the draws.

    Returns:
        A row per system, size and draw: system ("logistic regression", "nearest mean"), examples,
        draw, accuracy.

    Raises:
        InputError: vectors and labels that do not fit, a class with too few examples, a test label
            that is not trained.
    """
    train, labels = _checked(train_vectors, train_labels, "training")
    test, truth = _checked(test_vectors, test_labels, "test")
    _check_known(truth, labels, train, test)
    if draws < 1 or not strength > 0:
        raise InputError(f"draws = {draws!r} and strength = {strength!r} must be above 0.")
    rows = []
    for size in sizes:
        for draw in range(draws):
            drawn = draw_per_class(labels, size, seed=seed, draw=draw)
            some, known = train[drawn], labels[drawn]
            guesses = {
                PROBE: _logistic(some, known, strength).predict(test),
                NEAREST_MEAN: nearest_mean(some, known, test),
            }
            for system, guess in guesses.items():
                rows.append((system, size, draw, float(np.mean(guess == truth))))
    return pd.DataFrame(rows, columns=["system", "examples", "draw", "accuracy"])


def nearest_mean(
    train_vectors: np.ndarray, train_labels: np.ndarray, vectors: np.ndarray
) -> np.ndarray:
    """(m,) the label whose training vectors' mean is nearest to each of `vectors` by cosine."""
    classes, place = np.unique(train_labels, return_inverse=True)
    sums = np.zeros((len(classes), train_vectors.shape[1]))
    np.add.at(sums, place, _unit(train_vectors))
    return classes[(_unit(vectors) @ _unit(sums).T).argmax(axis=1)]


def linear_probe(
    train_vectors: np.ndarray,
    train_labels: np.ndarray,
    valid_vectors: np.ndarray,
    valid_labels: np.ndarray,
    *,
    strengths: Sequence[float] = STRENGTHS,
) -> Probe:
    """Logistic regression on all training vectors, its strength the best on validation.

    Vectors (n, width), which are scaled to length 1; labels (n,). Ties go to the smaller strength.
    Raises InputError as `few_shot_curve` does.
    """
    train, labels = _checked(train_vectors, train_labels, "training")
    valid, truth = _checked(valid_vectors, valid_labels, "validation")
    _check_known(truth, labels, train, valid)
    if len(np.unique(labels)) < 2:
        raise InputError("the training labels hold one class: at least 2 are needed.")
    best = None
    for strength in sorted(strengths):
        model = _logistic(train, labels, strength)
        accuracy = float(np.mean(model.predict(valid) == truth))
        if best is None or accuracy > best.valid_accuracy:
            weights, bias = model.coef_, model.intercept_
            if len(weights) == 1:  # of two classes scikit-learn keeps the difference
                weights, bias = (np.concatenate([-half, half]) for half in (weights / 2, bias / 2))
            best = Probe(weights, bias, model.classes_, strength, accuracy)
    if best is None:
        raise InputError("strengths is empty: give at least one.")
    return best


def start_at_probe(model: MeanPooledBert, probe: Probe) -> None:
    """Give the head of `model`, in place, the weights of a probe on its own vectors.

    The logits of model and probe are then the same: the head reads the mean of the token vectors
    with mean square 1, the probe the same direction with length 1. Training the rest of the model
    from there distorts it less than from a random head (Kumar et al. 2022, arXiv 2202.10054).
    """
    width = probe.weights.shape[1]
    with torch.no_grad():
        model.classifier.weight.copy_(torch.from_numpy(probe.weights / width**0.5))
        model.classifier.bias.copy_(torch.from_numpy(probe.bias))


def fine_tuned(
    task: Task,
    config: TrainConfig = RECIPE,
    *,
    dropout: float | None = 0.1,
    label_smoothing: float = 0.1,
    keep_weights: bool = True,
    runs: Path | None = None,
) -> FineTuned:
    """A classifier into the products, all its weights trained by softmax cross-entropy, then kept.

    A `MeanPooledBert`, such as the built-in model, starts at `linear_probe`; another model with the
    new head that config.seed draws. Of the validations that `config` asks for, the one of highest
    accuracy gives the weights; `RECIPE` asks for one, at the end.

    dropout: of the whole encoder; None keeps the checkpoint's. label_smoothing: the share of a
    label that is spread over all products (Szegedy et al. 2016, arXiv 1512.00567, section 7).
    """
    key = {
        "data": task.fingerprint,
        "model": model_fingerprint(task.model),
        "config": asdict(config),
        "dropout": dropout,
        "label_smoothing": label_smoothing,
        "weights": keep_weights,
    }

    def build(folder: Path) -> None:
        model = load_classifier(
            task.model, num_labels=len(task.products), seed=config.seed, dropout=dropout
        )
        if isinstance(model, MeanPooledBert):
            vectors = embedded(task, runs=runs)
            parts = vectors["train"], task.train.labels, vectors["valid"], task.valid.labels
            start_at_probe(model, linear_probe(*parts))
        valid = task.valid.encoded, task.valid.labels
        start = top_1(valid[1], predict(model, valid[0], precision=config.precision))
        result = fit(
            model,
            task.train.encoded,
            task.train.labels,
            config=config,
            valid=valid,
            loss=partial(cross_entropy, label_smoothing=label_smoothing),
            metric=top_1,
        )
        logits = {
            name: predict(model, getattr(task, name).encoded, precision=config.precision)
            for name in ("valid", "test")
        }
        np.savez(folder / "logits.npz", **logits)
        result.history.to_parquet(folder / "history.parquet")
        rest = {k: v for k, v in vars(result).items() if k != "history"} | {"start": start}
        (folder / "result.json").write_text(json.dumps(rest), encoding="utf-8")
        if keep_weights:
            save_model(model, folder / "model", load_tokenizer(task.model))

    folder = artifact("few-shot-classifier", key, build, runs=runs)
    with np.load(folder / "logits.npz", allow_pickle=False) as saved:
        valid, test = saved["valid"], saved["test"]
    rest = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    start = rest.pop("start")
    result = FitResult(history=pd.read_parquet(folder / "history.parquet"), **rest)
    return FineTuned(valid, test, start, result, folder)


def top_1(labels: np.ndarray, scores: np.ndarray) -> float:
    """Share of rows whose highest score, of (n, classes), stands in the column of their label."""
    return float(np.mean(scores.argmax(axis=1) == labels))


def _logistic(vectors: np.ndarray, labels: np.ndarray, strength: float) -> LogisticRegression:
    with warnings.catch_warnings():
        # with one example per class scikit-learn asks whether the labels are numbers to predict
        warnings.filterwarnings("ignore", message="The number of unique classes is greater")
        return LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS).fit(vectors, labels)


def _in_random_order(labels: np.ndarray, seed: int | list[int]) -> list[np.ndarray]:
    """The rows of each class, shuffled."""
    rng = np.random.default_rng(seed)
    return [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors scaled to length 1; a zero vector stays zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def _checked(vectors: np.ndarray, labels: np.ndarray, part: str) -> tuple[np.ndarray, np.ndarray]:
    vectors, labels = np.asarray(vectors), np.asarray(labels)
    if vectors.ndim != 2 or labels.shape != vectors.shape[:1] or not len(labels):
        raise InputError(
            f"the {part} part needs vectors (n, width) and labels (n,), n at least 1; it has "
            f"{vectors.shape} and {labels.shape}."
        )
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise InputError(f"the {part} vector of row {row} is not finite: embed it again.")
    return _unit(vectors), labels


def _check_known(
    truth: np.ndarray, labels: np.ndarray, train: np.ndarray, other: np.ndarray
) -> None:
    if train.shape[1] != other.shape[1]:
        raise InputError(
            f"training vectors are {train.shape[1]} wide, the others {other.shape[1]}: embed both "
            "with one model."
        )
    unknown = np.setdiff1d(truth, labels)
    if len(unknown):
        raise InputError(f"label {unknown[0]} has no training example: it cannot be predicted.")
