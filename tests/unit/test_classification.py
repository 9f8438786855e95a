"""Reviews to scores: parts without leaks, systems that find a planted signal, artifacts reused."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from recsys_lib import classification
from recsys_lib.classification import Part, Task, fine_tuned, frozen_probe, prepare, subset
from recsys_lib.datasets import Reviews, find_leaks
from recsys_lib.datasets.splits import Split
from recsys_lib.metrics import auc
from recsys_lib.models import load_classifier
from recsys_lib.training import TrainConfig
from recsys_lib.workbook import InputError

GOOD = ["love the soft fabric", "fits perfectly and feels great", "a wonderful warm gift"]
BAD = ["hate the itchy fabric", "tore apart and feels awful", "a terrible thin mess"]
NOUNS = ["dress", "shirt", "coat", "skirt", "sweater", "scarf", "jacket", "blouse", "hat", "belt"]


def reviews(n: int = 300, *, share: float = 0.7, seed: int = 0) -> Reviews:
    """A planted signal: the opinion's words say the label; the rest is noise; products are runs."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < share).astype(np.int8)
    texts = []
    for i, label in enumerate(labels):
        noise = " ".join(rng.choice(NOUNS, 6))
        texts.append(f"{noise} number {i} {rng.choice(GOOD if label else BAD)}")
    frame = pd.DataFrame({"row": np.arange(n), "text": texts, "label": labels})
    frame["group"] = [f"P{i // 3}" for i in range(n)]
    return Reviews("planted", frame, f"planted-{n}-{share}-{seed}")


@pytest.fixture(scope="module")
def task() -> Task:
    return prepare(reviews(), seed=0)


@pytest.fixture
def small_model(checkpoints) -> str:
    """A tiny encoder, so that training costs a second."""
    return str(checkpoints["bert"])


def test_parts_are_whole_products_without_leaks(task):
    groups = [set(part.groups) for part in (task.train, task.valid, task.test)]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert len(task.train) + len(task.valid) + len(task.test) == 300
    assert len(task.test) == pytest.approx(60, abs=3)


def test_leaks_are_dropped_from_the_earlier_part():
    """Every text stands in two products: what is also in test must leave train and validation."""
    once = reviews(150)
    frame = pd.concat([once.frame, once.frame], ignore_index=True)
    frame["row"] = np.arange(len(frame))
    frame["group"] = [f"P{i // 3}" for i in range(len(frame))]
    doubled = prepare(Reviews("doubled", frame, "doubled"), seed=1)
    assert doubled.dropped > 0
    seen, scored = set(doubled.train.texts) | set(doubled.valid.texts), set(doubled.test.texts)
    assert not seen & scored
    parts = [part.frame.index.to_numpy() for part in (doubled.train, doubled.valid, doubled.test)]
    assert not find_leaks(frame["text"], Split(*parts), seed=1)


def test_parts_of_ones_own_are_kept():
    """A split by time: the parts are its rows, and a sample is drawn within each of them."""
    given = Split(np.arange(200), np.arange(200, 250), np.arange(250, 300))
    own = prepare(reviews(), seed=0, split=given)
    assert own.test.frame["row"].sort_values().tolist() == list(range(250, 300))
    assert set(own.train.frame["row"]) <= set(range(200))
    assert len(own.train) + own.dropped >= 200
    few = prepare(reviews(), seed=0, split=given, n_test=20)
    assert len(few.test) == 20 and set(few.test.frame["row"]) <= set(range(250, 300))
    assert own.fingerprint != prepare(reviews(), seed=0).fingerprint


def test_too_few_rows_is_one_line():
    with pytest.raises(InputError, match=r"planted: 29 usable rows.*at least 30") as error:
        prepare(reviews(29), seed=0)
    assert "\n" not in str(error.value)


def test_one_class_is_one_line():
    with pytest.raises(InputError, match=r"part.*does not hold both classes.*give more") as error:
        prepare(reviews(60, share=1.0), seed=0)
    assert "\n" not in str(error.value)


def test_a_class_missing_in_the_drawn_rows_is_one_line(task):
    ones = np.flatnonzero(task.train.labels == 1)
    happy = dataclasses.replace(task, train=task.train.take(ones))
    with pytest.raises(InputError, match="have one class only: use more rows"):
        classification.tfidf_logistic(happy, n_train=20)


def test_smaller_samples_are_parts_of_larger_ones(task):
    small = prepare(reviews(), seed=0, n_train=50, n_valid=20, n_test=30)
    middle = prepare(reviews(), seed=0, n_train=100, n_valid=25, n_test=40)
    for name in ("train", "valid", "test"):
        rows = [set(getattr(t, name).frame["row"]) for t in (small, middle, task)]
        assert rows[0] < rows[1] < rows[2], name
    assert small.test.frame["row"].tolist() == middle.test.frame["row"].tolist()[:30]


def test_training_rows_are_drawn_at_random_and_nested(task):
    """A table sorted by label or by date must not give its first rows only."""
    rows = {n: classification._drawn(task.train, n) for n in (20, 80)}
    assert rows[80][:20].tolist() == rows[20].tolist()
    assert len(set(rows[80].tolist())) == 80
    assert rows[80].max() > 100  # 80 of about 210 rows, from all over the table
    assert classification._drawn(task.train, None).tolist() == list(range(len(task.train)))
    assert classification._drawn(task.train, 10**6).tolist() == list(range(len(task.train)))
    assert set(classification._drawn(task.train, 20, draw=1)) != set(rows[20])


def test_the_fingerprint_follows_what_matters(task):
    assert prepare(reviews(), seed=0).fingerprint == task.fingerprint
    others = [
        prepare(reviews(), seed=1),
        prepare(reviews(), seed=0, n_train=100),
        prepare(reviews(), seed=0, max_length=16),
        prepare(reviews(seed=5), seed=0),
        subset(task, n_test=10),
    ]
    assert len({task.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_subset_keeps_the_first_test_rows_and_both_validation_classes(task):
    few = subset(task, n_valid=1, n_test=20)
    assert few.test.texts == task.test.texts[:20]
    assert len(few.test.encoded) == 20
    counts = np.bincount(few.valid.labels)
    assert counts.min() >= 5
    assert few.train is task.train


@pytest.mark.parametrize(
    "system",
    [
        classification.tfidf_logistic,
        lambda task: classification.tfidf_logistic(task, class_weight="balanced"),
        classification.lightgbm_tfidf,
        frozen_probe,
    ],
    ids=["tfidf", "balanced", "lightgbm", "probe"],
)
def test_every_system_finds_the_planted_signal(system, task):
    scores = system(task)
    for part in ("valid", "test"):
        z = getattr(scores, part)
        assert z.shape == (len(getattr(task, part)),) and z.dtype == np.float64
        assert auc(getattr(task, part).labels, z) > 0.95


def test_balanced_weights_say_no_more_often(task):
    plain = classification.tfidf_logistic(task)
    balanced = classification.tfidf_logistic(task, class_weight="balanced")
    assert (balanced.test < 0).sum() >= (plain.test < 0).sum()
    assert balanced.test.mean() < plain.test.mean()


def test_scores_stand_beside_their_rows(task):
    """Turn the order of the test rows around: the scores turn with them."""
    back = np.arange(len(task.test))[::-1]
    turned = dataclasses.replace(task, test=task.test.take(back), fingerprint="turned")
    for system in (classification.tfidf_logistic, classification.lightgbm_tfidf, frozen_probe):
        np.testing.assert_allclose(system(turned).test, system(task).test[back], atol=2e-2)


def test_shuffled_labels_give_chance(task):
    frame = task.train.frame.copy()
    frame["label"] = np.random.default_rng(0).permutation(frame["label"])
    luck = dataclasses.replace(task, train=Part(frame, task.train.encoded))
    value = auc(task.test.labels, classification.tfidf_logistic(luck).test)
    assert 0.2 < value < 0.8  # 60 test rows: the standard error of chance is about 0.08


def test_fine_tuning_finds_the_signal_and_is_done_once(small_model, monkeypatch):
    task = prepare(reviews(), seed=0, model=small_model)
    config = TrainConfig(epochs=6, lr=3e-3, batch_size=16, precision="fp32")
    first = fine_tuned(task, config)
    assert auc(task.test.labels, first.scores.test) > 0.9
    assert first.scores.valid.shape == (len(task.valid),)

    def again(*_args, **_kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(classification, "fit", again)
    second = fine_tuned(task, config)
    assert second.folder == first.folder
    np.testing.assert_array_equal(second.scores.test, first.scores.test)
    pd.testing.assert_frame_equal(second.result.history, first.result.history)
    with pytest.raises(AssertionError, match="trained again"):
        fine_tuned(task, dataclasses.replace(config, seed=1))
    with pytest.raises(AssertionError, match="trained again"):
        fine_tuned(task, config, n_train=100)
    with pytest.raises(AssertionError, match="trained again"):
        fine_tuned(task, config, draw=1)


def test_fine_tuning_learns_from_the_rows_that_were_drawn(small_model, monkeypatch):
    task = prepare(reviews(), seed=0, model=small_model)
    seen = []

    def stop(_model, encoded, labels, **_options):
        seen.append((encoded.ids.tolist(), labels.tolist()))
        raise KeyboardInterrupt

    monkeypatch.setattr(classification, "fit", stop)
    for draw in (0, 1):
        with pytest.raises(KeyboardInterrupt):
            fine_tuned(task, TrainConfig(), n_train=40, draw=draw)
        part = task.train.take(classification._drawn(task.train, 40, draw))
        assert seen[draw] == (part.encoded.ids.tolist(), part.labels.tolist())
    assert seen[0] != seen[1]


def test_saved_weights_give_the_saved_scores(small_model):
    task = prepare(reviews(), seed=0, model=small_model)
    config = TrainConfig(epochs=1, lr=3e-3, batch_size=16, precision="fp32")
    done = fine_tuned(task, config, n_train=64)
    z = classification.predict(done.load(), task.test.encoded, precision="fp32")
    np.testing.assert_allclose(z, done.scores.test, atol=1e-5)
    light = fine_tuned(task, config, n_train=64, keep_weights=False)
    np.testing.assert_array_equal(light.scores.test, done.scores.test)
    with pytest.raises(InputError, match="keep_weights"):
        light.load()


@pytest.mark.parametrize("frozen", [0, 1])
def test_frozen_layers_stay_as_they_are(small_model, frozen):
    task = prepare(reviews(), seed=0, model=small_model)
    config = TrainConfig(epochs=2, lr=3e-3, batch_size=16, precision="fp32")
    done = fine_tuned(task, config, frozen=frozen)
    before = load_classifier(small_model, seed=config.seed, dropout=0.0).state_dict()
    after = done.load().state_dict()
    lower = tuple(f".layer.{number}." for number in range(frozen))
    for name, weights in after.items():
        kept = "embeddings" in name or any(part in name for part in lower)
        assert torch.equal(weights, before[name]) == kept, name
    z = classification.predict(done.load(), task.test.encoded, precision="fp32")
    np.testing.assert_allclose(z, done.scores.test, atol=1e-5)
    assert done.folder != fine_tuned(task, config).folder


def test_labels_may_be_written_to(task):
    """Torch warns about read-only arrays; a part hands out copies."""
    labels = task.valid.labels
    labels[:] = 0
    assert task.valid.labels.any()
