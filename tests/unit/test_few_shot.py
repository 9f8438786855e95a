"""The curve against a loop over scikit-learn; planted classes; a head that starts as its probe."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize

from recsys_lib import few_shot
from recsys_lib.datasets import find_dataset, load_relevance
from recsys_lib.datasets.relevance_tables import build_relevance
from recsys_lib.few_shot import (
    NEAREST_MEAN,
    PROBE,
    draw_per_class,
    embedded,
    few_shot_curve,
    fine_tuned,
    linear_probe,
    nearest_mean,
    prepare,
    start_at_probe,
    top_1,
)
from recsys_lib.models import embed, load_classifier, load_encoder
from recsys_lib.training import TrainConfig, predict
from recsys_lib.workbook import InputError

WORDS = {
    "card": ["card", "plastic", "chip", "visa"],
    "rate": ["exchange", "rate", "currency", "euro"],
    "cash": ["cash", "machine", "withdraw", "notes"],
    "code": ["pin", "password", "code", "locked"],
    "fee": ["fee", "charge", "cost", "price"],
}
FILLER = ["please", "why", "today", "still", "again", "help", "my", "the", "now", "what"]


def planted(n: int, *, classes: int = 6, width: int = 12, noise: float = 0.6, seed: int = 0):
    """Vectors around one random direction per class, of any length, and their labels."""
    means = np.random.default_rng(0).normal(size=(classes, width))
    rng = np.random.default_rng([1, seed])
    labels = np.arange(n) % classes
    vectors = means[labels] + noise * rng.normal(size=(n, width)) * np.sqrt(width) / 2
    return vectors * rng.uniform(0.5, 4, size=(n, 1)), labels


def search_task(n: int = 150, *, filler: int = 4, seed: int = 0):
    """Messages whose one planted word, among filler, says which of five services is meant."""
    rng = np.random.default_rng(seed)
    names = list(WORDS)
    products = pd.DataFrame({"product_id": names, "name": names})
    products["text"] = [" ".join(WORDS[name]) for name in names]
    services = [names[i % len(names)] for i in range(n)]
    texts = [
        f"{' '.join(rng.choice(FILLER, filler))} {rng.choice(WORDS[name])} number {i}"
        for i, name in enumerate(services)
    ]
    queries = pd.DataFrame({"query_id": np.arange(n), "text": texts})
    queries["part"] = np.repeat(["train", "valid", "test"], [n - 60, 30, 30])
    judgements = pd.DataFrame({"query_id": np.arange(n), "product_id": services, "grade": 1})
    return build_relevance("planted", products, queries, judgements, complete=True)


@pytest.fixture(scope="module")
def task():
    return prepare(search_task())


def said(call, *arguments, **options) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- draws --------------------------------------------------------------------------------------


def test_a_draw_takes_so_many_of_each_class_without_replacement():
    labels = np.random.default_rng(0).permutation(np.repeat([3, 5, 9], [10, 20, 7]))
    rows = draw_per_class(labels, 7, seed=1)
    assert len(np.unique(rows)) == 21
    assert labels[rows].tolist() == [3] * 7 + [5] * 7 + [9] * 7


def test_smaller_draws_are_parts_of_larger_ones_and_other_draws_are_others():
    labels = np.arange(400) % 4
    small, large = draw_per_class(labels, 5), draw_per_class(labels, 20)
    assert set(small) < set(large)
    assert set(small) != set(draw_per_class(labels, 5, draw=1))
    assert set(small) != set(draw_per_class(labels, 5, seed=1))
    assert small.tolist() == draw_per_class(labels, 5).tolist()


def test_every_example_is_drawn_as_often_as_any_other():
    labels = np.arange(20) % 2
    counts = np.zeros(20)
    for draw in range(1_000):
        counts[draw_per_class(labels, 3, draw=draw)] += 1
    # 300 expected of each, with a standard deviation of 14.5: six of them
    assert np.abs(counts - 300).max() < 87


def test_a_class_that_is_too_small_is_named():
    labels = np.repeat([0, 1, 2], [9, 4, 9])
    assert "class 1 has 4 training examples, not 5" in said(draw_per_class, labels, 5)
    assert "at least 1" in said(draw_per_class, labels, 0)
    assert "1 class(es)" in said(draw_per_class, np.zeros(5, dtype=int), 2)


# --- the curve ----------------------------------------------------------------------------------


def test_the_curve_is_that_of_a_loop_over_scikit_learn():
    train, labels = planted(120)
    test, truth = planted(90, seed=1)
    curve = few_shot_curve(train, labels, test, truth, sizes=(2, 5), draws=3, strength=4.0, seed=7)
    expected = []
    for size in (2, 5):
        for draw in range(3):
            rows = draw_per_class(labels, size, seed=7, draw=draw)
            some, asked = normalize(train[rows]), normalize(test)
            model = LogisticRegression(C=4.0, max_iter=1_000).fit(some, labels[rows])
            expected.append((PROBE, size, draw, model.score(asked, truth)))
            # Euclidean distance to a mean of length 1 orders as the cosine does
            means = np.stack([some[labels[rows] == label].mean(axis=0) for label in range(6)])
            model = KNeighborsClassifier(1).fit(normalize(means), np.arange(6))
            expected.append((NEAREST_MEAN, size, draw, model.score(asked, truth)))
    columns = ["system", "examples", "draw", "accuracy"]
    pd.testing.assert_frame_equal(curve, pd.DataFrame(expected, columns=columns))
    assert curve["accuracy"].between(0.2, 0.99).all()  # not a task where every answer is right


def test_more_examples_help_and_shuffled_labels_give_chance():
    train, labels = planted(300)
    test, truth = planted(300, seed=1)
    curve = few_shot_curve(train, labels, test, truth, sizes=(1, 20), draws=4)
    mean = curve.groupby(["system", "examples"])["accuracy"].mean()
    for system in (PROBE, NEAREST_MEAN):
        assert mean[system, 20] > mean[system, 1] + 0.1
    shuffled = np.random.default_rng(0).permutation(labels)
    curve = few_shot_curve(train, shuffled, test, truth, sizes=(20,), draws=4)
    # chance is 1/6; 0.09 is four standard deviations of 300 guesses
    assert curve["accuracy"].to_numpy() == pytest.approx(1 / 6, abs=0.09)


def test_one_example_per_class_raises_no_warning():
    train, labels = planted(60, classes=30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curve = few_shot_curve(train, labels, train, labels, sizes=(1,), draws=1)
    assert len(curve) == 2


def test_labels_may_be_any_values():
    train, labels = planted(60)
    names = np.array(list("fedcba"))
    numbers = few_shot_curve(train, labels, train, labels, sizes=(3,), draws=1)
    named = few_shot_curve(train, names[5 - labels], train, names[5 - labels], sizes=(3,), draws=1)
    assert numbers["accuracy"].tolist() == named["accuracy"].tolist()
    assert nearest_mean(train, names[labels], train[:3]).dtype == names.dtype


def test_bad_input_of_the_curve_is_one_line():
    train, labels = planted(60)
    call = (train, labels, train, labels)
    assert "label 6 has no training example" in said(few_shot_curve, *call[:3], labels + 2)
    assert "12 wide, the others 5" in said(few_shot_curve, *call[:2], train[:, :5], labels)
    assert "training part needs vectors" in said(few_shot_curve, train, labels[1:], *call[2:])
    assert "(0, 12) and (0,)" in said(few_shot_curve, *call[:2], train[:0], labels[:0])
    assert "not 11" in said(few_shot_curve, *call, sizes=(1, 11))
    assert "draws = 0" in said(few_shot_curve, *call, draws=0)
    assert "strength = 0" in said(few_shot_curve, *call, strength=0)
    broken = train.copy()
    broken[4, 2] = np.nan
    assert "test vector of row 4 is not finite" in said(few_shot_curve, *call[:2], broken, labels)


# --- the probe ----------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 6])
def test_the_probe_is_scikit_learns_with_the_strength_that_is_best_on_validation(classes):
    train, labels = planted(90, classes=classes, noise=1.0)
    valid, truth = planted(60, classes=classes, noise=1.0, seed=1)
    strengths = (0.01, 1.0, 100.0)
    probe = linear_probe(train, labels, valid, truth, strengths=strengths)
    models = {
        c: LogisticRegression(C=c, max_iter=1_000).fit(normalize(train), labels) for c in strengths
    }
    scores = {c: model.score(normalize(valid), truth) for c, model in models.items()}
    assert len(set(scores.values())) > 1  # there is something to choose
    assert probe.strength == max(strengths, key=lambda c: (scores[c], -c))
    assert probe.valid_accuracy == max(scores.values())
    model = models[probe.strength]
    assert probe.predict(valid).tolist() == model.predict(normalize(valid)).tolist()
    logits = probe.logits(valid)
    assert logits.shape == (60, classes)
    shares = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    np.testing.assert_allclose(shares, model.predict_proba(normalize(valid)), atol=1e-9)


def test_bad_input_of_the_probe_is_one_line():
    train, labels = planted(60)
    assert "strengths is empty" in said(linear_probe, train, labels, train, labels, strengths=())
    one = np.zeros(60, dtype=int)
    assert "one class" in said(linear_probe, train, one, train, one)
    assert "no training example" in said(linear_probe, train, labels, train, labels + 1)


# --- the task -----------------------------------------------------------------------------------


def test_the_task_has_the_row_of_the_right_product_as_label(task):
    assert [len(part) for part in (task.train, task.valid, task.test)] == [90, 30, 30]
    for part in (task.train, task.valid, task.test):
        for text, label in zip(part.texts, part.labels, strict=True):
            name = task.products["product_id"][label]
            assert any(word in text.split() for word in WORDS[name])
    assert len(task.described) == 5


def test_a_smaller_task_is_a_part_of_a_larger_one():
    relevance = search_task()
    small = prepare(relevance, n_train=4, n_valid=10, n_test=12)
    larger = prepare(relevance, n_train=9, n_valid=20, n_test=30)
    assert np.bincount(small.train.labels).tolist() == [4] * 5
    assert (len(small.valid), len(small.test)) == (10, 12)
    for name in ("train", "valid", "test"):
        assert set(getattr(small, name).texts) < set(getattr(larger, name).texts)
    assert small.fingerprint != larger.fingerprint
    assert small.fingerprint == prepare(relevance, n_train=4, n_valid=10, n_test=12).fingerprint
    other = prepare(relevance, n_train=4, n_valid=10, n_test=12, seed=1)
    assert set(other.test.texts) != set(small.test.texts)


def test_a_query_with_two_right_products_and_a_product_without_queries_are_one_line():
    found = search_task()
    more = pd.DataFrame({"query_id": [3], "product_id": ["fee"], "grade": [2]})
    both = pd.concat([found.judgements, more])
    twice = build_relevance("twice", found.products, found.queries, both, complete=True)
    assert 'twice: query "3" has 2 right products' in said(prepare, twice)
    lone = pd.DataFrame({"product_id": ["loan"], "name": ["loan"], "text": ["a loan"]})
    lone = pd.concat([found.products, lone])
    lone = build_relevance("lone", lone, found.queries, found.judgements, complete=True)
    assert 'lone: product "loan" has no training query' in said(prepare, lone)


def test_vectors_are_those_of_the_encoder_and_are_made_once(task, tmp_path, monkeypatch):
    vectors = embedded(task, runs=tmp_path)
    assert {name: len(rows) for name, rows in vectors.items()} == {
        "train": 90, "valid": 30, "test": 30, "products": 5,
    }  # fmt: skip
    np.testing.assert_allclose(np.linalg.norm(vectors["test"], axis=1), 1, atol=1e-5)
    # no labels at all: these services' names and words lie among their messages
    assert top_1(task.test.labels, vectors["test"] @ vectors["products"].T) > 0.7
    monkeypatch.setattr(few_shot, "load_encoder", None)
    again = embedded(task, runs=tmp_path)
    assert all(np.array_equal(vectors[name], again[name]) for name in vectors)


# --- fine-tuning --------------------------------------------------------------------------------


def test_a_head_that_starts_at_the_probe_gives_the_probes_logits(task, tmp_path):
    vectors = {
        name: embed(load_encoder(), getattr(task, name).encoded, precision="fp32")
        for name in ("train", "valid")
    }
    probe = linear_probe(
        vectors["train"], task.train.labels, vectors["valid"], task.valid.labels, strengths=[3.0]
    )
    model = load_classifier(num_labels=5)
    before = predict(model, task.valid.encoded, precision="fp32")
    start_at_probe(model, probe)
    after = predict(model, task.valid.encoded, precision="fp32")
    # float32 sums of 384 products, of logits up to about 3
    np.testing.assert_allclose(after, probe.logits(vectors["valid"]), atol=2e-4)
    assert np.abs(after - before).max() > 0.1


def test_fine_tuning_learns_is_kept_and_is_loaded_again(checkpoints, tmp_path, monkeypatch):
    """A tiny random encoder without pooled vectors: it starts at chance and learns the words."""
    small = prepare(search_task(filler=0), model=str(checkpoints["bert"]))
    config = TrainConfig(epochs=15, lr=3e-3, batch_size=16, precision="fp32")
    made = fine_tuned(small, config, dropout=0.0, runs=tmp_path)
    assert made.valid.shape == (30, 5) and made.test.shape == (30, 5)
    assert made.start_accuracy < 0.5
    assert top_1(small.valid.labels, made.valid) == made.result.best_metric
    assert top_1(small.test.labels, made.test) > 0.8  # chance is 0.2
    again = predict(made.load(), small.test.encoded, precision="fp32")
    np.testing.assert_allclose(again, made.test, atol=1e-5)
    with monkeypatch.context() as patched:
        patched.setattr(few_shot, "fit", None)
        kept = fine_tuned(small, config, dropout=0.0, runs=tmp_path)
    assert np.array_equal(kept.test, made.test)
    assert kept.start_accuracy == made.start_accuracy
    pd.testing.assert_frame_equal(kept.result.history, made.result.history)


def test_smoothed_labels_make_it_less_sure(checkpoints, tmp_path):
    small = prepare(search_task(filler=0), model=str(checkpoints["bert"]))
    options = {"batch_size": 16, "precision": "fp32", "eval_every": 10_000}
    config = TrainConfig(epochs=30, lr=3e-3, **options)  # validated, and so kept, at the end
    made = fine_tuned(small, config, dropout=0.0, label_smoothing=0.5, runs=tmp_path)
    # what is asked for: 1 − 0.5 + 0.5/5 for the right one of five; 0.95 is what 0 ends with
    sure = torch.softmax(torch.from_numpy(made.test), dim=1).max(dim=1).values.mean()
    assert sure == pytest.approx(0.6, abs=0.05)


def test_the_built_in_model_starts_at_its_probe_and_may_leave_no_weights(task, tmp_path):
    config = TrainConfig(epochs=0.2, lr=1e-6, batch_size=16, precision="fp32")
    made = fine_tuned(task, config, keep_weights=False, runs=tmp_path)
    vectors = embedded(task, runs=tmp_path)
    probe = linear_probe(vectors["train"], task.train.labels, vectors["valid"], task.valid.labels)
    # one of 30 may lie on the border, where bf16 vectors and float32 logits differ
    assert made.start_accuracy == pytest.approx(probe.valid_accuracy, abs=1.5 / 30)
    assert probe.valid_accuracy > 0.7
    assert "keep_weights=False" in said(made.load)


def test_top_1_counts_the_highest_scores():
    assert top_1(np.array([0, 1, 2]), np.array([[2.0, 1, 0], [0, 2, 1], [3, 0, 1]])) == 2 / 3


# --- the published set --------------------------------------------------------------------------


@pytest.mark.skipif(find_dataset("banking77") is None, reason="banking77 is not on this machine")
def test_the_published_protocol_gives_the_published_figure(tmp_path):
    """MTEB's protocol (8 messages per label, C = 1): about 0.80 for the built-in model."""
    task = prepare(load_relevance("banking77"), n_train=12, n_valid=77, n_test=400)
    vectors = embedded(task, runs=tmp_path)
    known, asked = (vectors["train"], task.train.labels), (vectors["test"], task.test.labels)
    curve = few_shot_curve(*known, *asked, sizes=(8,), draws=2, strength=1.0)
    # 400 messages: a standard error of 0.020; 2.5 of them
    mean = curve.groupby("system")["accuracy"].mean()
    assert mean[PROBE] == pytest.approx(0.80, abs=0.05)
    assert 0.6 < top_1(asked[1], vectors["test"] @ vectors["products"].T) < mean[PROBE]
