"""Its losses against the library's own, its learning, its memory, and the order that it leaves."""

import numpy as np
import pandas as pd
import pytest
import torch

from recsys_lib import crossencoder, losses
from recsys_lib.crossencoder import LOSSES, fit_crossencoder, list_loss, list_ndcg, rerank
from recsys_lib.metrics import ndcg
from recsys_lib.models import load_classifier
from recsys_lib.text import encode
from recsys_lib.training import TrainConfig, TrainingError, predict
from recsys_lib.workbook import InputError

COLORS = ["red", "blue", "green", "black", "white"]
KINDS = ["jacket", "shoes", "hat", "belt", "watch"]
CATALOG = [f"{color} {kind}" for kind in KINDS for color in COLORS]
QUALITY = {"red": 0, "blue": 1, "green": 2, "black": 1, "white": 3}  # whatever the query says


def lists(tokenizer, n: int, seed: int, size: int = 5):
    """Queries, each with some products; the grade follows from the product's color."""
    rng = np.random.default_rng(seed)
    queries, products, grades, numbers = [], [], [], []
    for number in range(n):
        kind = str(rng.choice(KINDS))
        for color in rng.choice(COLORS, size, replace=False):
            queries.append(f"a {kind} please")
            products.append(f"{color} {kind}")
            grades.append(QUALITY[str(color)])
            numbers.append(number)
    order = rng.permutation(len(queries))  # the rows of a query need not stand together
    encoded = encode(
        tokenizer, [queries[i] for i in order], pairs=[products[i] for i in order], max_length=16
    )
    return encoded, np.array(grades)[order], np.array(numbers)[order]


@pytest.fixture(scope="module")
def parts(tokenizer):
    return lists(tokenizer, 40, 0), lists(tokenizer, 12, 1)


FAST = {"lr": 3e-3, "precision": "fp32"}


def config(loss: str, **changes) -> TrainConfig:
    size = 40 if loss == "bce" else 8
    return TrainConfig(**{"epochs": 30, "batch_size": size, **FAST} | changes)


@pytest.mark.parametrize("loss", LOSSES)
def test_learns_the_grades(parts, tiny_classifier, loss):
    train, valid = parts
    model = tiny_classifier()
    before = list_ndcg(valid[1], predict(model, valid[0]), valid[2])
    result = fit_crossencoder(model, *train, loss=loss, config=config(loss), valid=valid)
    # LambdaRank puts nearly all weight on the first ranks: this small model settles once the best
    # product stands first, with what is worse still close together
    assert before < 0.96 and result.best_metric > (0.97 if loss == "lambdarank" else 0.99)
    after = list_ndcg(valid[1], predict(model, valid[0], precision="fp32"), valid[2])
    assert after == pytest.approx(result.best_metric)
    unit = len(train[0]) if loss == "bce" else 40
    assert result.history["examples"].sum() == 30 * unit


def test_soft_labels_make_the_probability_the_share_of_the_highest_grade(parts, tiny_classifier):
    train, valid = parts
    for top in (3, 6):
        model = tiny_classifier()
        fit_crossencoder(model, *train, config=config("bce", epochs=60), max_grade=top)
        chance = 1 / (1 + np.exp(-predict(model, valid[0])))
        assert np.abs(chance - valid[1] / top).max() < 0.1


@pytest.mark.parametrize("loss", ["ranknet", "lambdarank", "listnet"])
def test_loss_of_lists_of_unequal_length_is_the_mean_over_the_lists(loss):
    rng = np.random.default_rng(0)
    sizes, grades, scores = [4, 2, 7], rng.integers(0, 4, 13), torch.randn(13)
    grades[:6:2] += 4  # two grades at least in each list
    got = list_loss(scores, grades, sizes, loss)
    each = [
        getattr(losses, loss)(s[None], torch.tensor(g, dtype=torch.float32)[None])
        for s, g in zip(scores.split(sizes), np.split(grades, np.cumsum(sizes)[:-1]), strict=True)
    ]
    assert float(got) == pytest.approx(float(torch.stack(each).mean()), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_order_of_the_rows_and_the_chunks_change_nothing(parts, tiny_classifier, loss):
    (pairs, grades, queries), _ = parts
    order = np.random.default_rng(0).permutation(len(pairs))
    shuffled = pairs.take(order), grades[order], queries[order]
    options = {"epochs": 1, "batch_size": 1_000, "shuffle": False, "lr": 1e-2, "warmup": 0}
    found = []
    for train, chunk_size in (((pairs, grades, queries), None), (shuffled, None), (shuffled, 7)):
        model = tiny_classifier()
        history = fit_crossencoder(
            model, *train, loss=loss, config=config(loss, **options), chunk_size=chunk_size
        ).history
        found.append((history["loss"][0], history["grad_norm"][0]))
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert found[0] == pytest.approx(found[2], abs=1e-5)


def test_accumulated_batches_are_one_large_batch(parts, tiny_classifier):
    train, _ = parts
    losses_seen = []
    for size, accumulate in ((40, 1), (10, 4)):
        options = {"epochs": 2, "batch_size": size, "accumulate": accumulate, "shuffle": False}
        result = fit_crossencoder(
            tiny_classifier(), *train, loss="listnet", config=config("listnet", **options)
        )
        losses_seen.append(result.history[["loss", "grad_norm"]].to_numpy())
    assert np.abs(losses_seen[0] - losses_seen[1]).max() < 1e-5


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("loss", ["bce", "lambdarank"])
def test_killed_and_resumed_ends_with_the_same_bits(parts, tiny_classifier, tmp_path, loss):
    train, valid = parts
    settings = config(loss, epochs=1, eval_every=2, checkpoint_every=1)

    def run(folder, on_step=None):
        model = tiny_classifier(dropout=0.1)
        result = fit_crossencoder(
            model, *train, loss=loss, config=settings, valid=valid, run_dir=folder, on_step=on_step
        )
        return model.state_dict(), result.history.drop(columns="seconds")

    def die(step):
        if step == 3:
            raise _Killed

    whole, history = run(tmp_path / "whole")
    with pytest.raises(_Killed):
        run(tmp_path / "broken", die)
    resumed, again = run(tmp_path / "broken")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    pd.testing.assert_frame_equal(history, again, check_exact=True)


def test_lists_that_teach_nothing_are_left_out(parts, tiny_classifier):
    (pairs, grades, queries), _ = parts
    grades, queries = grades.copy(), queries.copy()
    grades[queries == 0] = 1  # all equal
    queries[np.flatnonzero(queries == 1)] = 1_000 + np.arange(5)  # five lists of one
    for loss, lists_left in (("ranknet", 38), ("listnet", 39)):
        result = fit_crossencoder(
            tiny_classifier(), pairs, grades, queries, loss=loss, config=config(loss, epochs=1)
        )
        assert result.history["examples"].sum() == lists_left


def test_list_ndcg_is_the_mean_over_queries_with_a_relevant_product():
    grades, scores = np.array([1, 0, 0, 3, 0, 2]), np.array([0.1, 0.2, 0.9, 0.5, 0.4, 0.9])
    queries = np.array([7, 7, 2, 9, 2, 9])  # query 2 has none
    want = (ndcg([1, 0], [0.1, 0.2], 10) + ndcg([3, 2], [0.5, 0.9], 10)) / 2
    assert list_ndcg(grades, scores, queries) == pytest.approx(want)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_first_loss_is_that_of_the_models_logits(parts, tiny_classifier, loss):
    train, _ = parts
    model = tiny_classifier()
    logits = predict(model, train[0], precision="fp32")
    order = np.argsort(train[2], kind="stable")
    sizes = np.bincount(train[2])
    targets = train[1] / train[1].max() if loss == "bce" else train[1]
    expected = list_loss(torch.from_numpy(logits[order]).float(), targets[order], sizes, loss)
    one = TrainConfig(epochs=1, batch_size=10**6, lr=1e-12, precision="fp32")
    result = fit_crossencoder(model, *train, loss=loss, config=one)
    assert result.history["loss"].iloc[0] == pytest.approx(float(expected), rel=1e-4)


@pytest.fixture(scope="module")
def ranker(tokenizer):
    """A cross-encoder's scores of every query and product, and what made them."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            num_labels=1,
            initializer_range=0.5,  # so that no two scores are equal
        )
    )
    model.eval()
    queries = ["a hat", "black shoes, please", ""]
    scores = np.array(
        [
            predict(model, encode(tokenizer, [q] * len(CATALOG), pairs=CATALOG), precision="fp32")
            for q in queries
        ]
    )
    return model, queries, scores


def test_rerank_is_a_sort_of_the_first_k(ranker, tokenizer):
    model, queries, scores = ranker
    rng = np.random.default_rng(0)
    candidates = np.array([rng.permutation(len(CATALOG))[:12] for _ in queries])
    for k in (1, 5, 12, None, 99):
        got = rerank(model, tokenizer, queries, candidates, CATALOG, k=k, precision="fp32")
        depth = min(k or 12, 12)
        for row, first in enumerate(candidates):
            head = sorted(first[:depth], key=lambda item, row=row: -scores[row, item])
            assert got.items[row].tolist() == head + first[depth:].tolist()
            assert np.abs(got.scores[row, :depth] - scores[row, head]).max() < 1e-5
        assert (np.diff(got.scores, axis=1) < 0).all() and np.isfinite(got.scores).all()


def test_rerank_adds_the_first_scores(ranker, tokenizer):
    model, queries, scores = ranker
    rng = np.random.default_rng(1)
    candidates = np.array([rng.permutation(len(CATALOG))[:12] for _ in queries])
    candidates[0, 3] = -1
    first = rng.normal(size=candidates.shape) * scores.std()
    got = rerank(
        model, tokenizer, queries, candidates, CATALOG, first_scores=first, precision="fp32"
    )
    for row, items in enumerate(candidates):
        total = np.where(items >= 0, scores[row, items] + first[row], -np.inf)
        assert got.items[row].tolist() == items[np.argsort(-total)].tolist()


def test_rerank_does_not_depend_on_the_order_or_the_batches(ranker, tokenizer, monkeypatch):
    model, queries, _ = ranker
    candidates = np.tile(np.arange(20), (3, 1))
    want = rerank(model, tokenizer, queries, candidates, CATALOG, precision="fp32")
    monkeypatch.setattr(crossencoder, "_BLOCK", 7)
    got = rerank(
        model,
        tokenizer,
        queries,
        candidates[:, ::-1],
        CATALOG,
        precision="fp32",
        batch_tokens=40,
    )
    assert np.array_equal(want.items, got.items)
    assert np.abs(want.scores - got.scores).max() < 1e-5


def test_rerank_keeps_the_order_of_equal_scores_and_puts_gaps_last(ranker, tokenizer):
    model, queries, scores = ranker
    catalog = [CATALOG[0]] * 5 + CATALOG  # the first six read the same
    candidates = np.array([[3, -1, 0, 4], [-1, -1, -1, -1], [-1, 2, 20, -1]])
    got = rerank(model, tokenizer, queries, candidates, catalog, precision="fp32")
    assert got.items[0].tolist() == [3, 0, 4, -1]
    assert got.items[1].tolist() == [-1] * 4 and np.isneginf(got.scores[1]).all()
    first = [2, 20] if scores[2, 0] > scores[2, 15] else [20, 2]
    assert got.items[2].tolist() == [*first, -1, -1]
    assert np.isneginf(got.scores[got.items < 0]).all()


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2"])
def test_every_family_trains_and_reranks(checkpoints, tokenizer, family):
    model = load_classifier(checkpoints[family], dropout=0.0)
    train = lists(tokenizer, 4, 0)
    if family == "distilbert":  # knows no second kind of text; its own tokenizer says so
        tokenizer = load_tokenizer_without_types(checkpoints[family])
        train = lists(tokenizer, 4, 0)
    result = fit_crossencoder(model, *train, loss="listnet", config=config("listnet", epochs=1))
    assert np.isfinite(result.history["loss"]).all()
    got = rerank(model, tokenizer, ["a hat"], np.array([[0, 1, 2]]), CATALOG)
    assert sorted(got.items[0]) == [0, 1, 2]


def load_tokenizer_without_types(folder):
    from recsys_lib.models import load_tokenizer

    tokenizer = load_tokenizer(folder)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def test_what_is_not_finite_stops_training_and_ranking(parts, tiny_classifier, tokenizer):
    model = tiny_classifier()
    with torch.no_grad():
        model.classifier.bias[0] = torch.nan
    with pytest.raises(TrainingError, match="loss is nan in step 1"):
        fit_crossencoder(model, *parts[0])
    with pytest.raises(InputError, match="scores are not numbers"):
        rerank(model, tokenizer, ["a hat"], np.array([[0]]), CATALOG)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "mse"}, "loss = 'mse' must be one of bce, ranknet"),
        ({"grades": np.zeros(3)}, r"200 pairs, but grades \(3,\)"),
        ({"queries": np.zeros(200)}, "queries must be whole numbers, not float64"),
        ({"grades": np.r_[-1, np.ones(199)]}, "training grade of row 0 is -1"),
        ({"grades": np.r_[1, np.nan, np.ones(198)]}, "training grade of row 1 is nan"),
        ({"grades": np.zeros(200)}, "max_grade = 0 must be above 0"),
        ({"max_grade": 2}, "max_grade = 2 must be above 0 and at least 3"),
        ({"grades": np.ones(200), "loss": "ranknet"}, "two pairs of different grades"),
        ({"queries": np.arange(200), "loss": "listnet"}, "no query has two pairs"),
        ({"chunk_size": 0}, "chunk_size = 0"),
        ({"empty": True}, "the training part is empty"),
        ({"barren": True}, "no grade above 0"),
        ({"num_labels": 2}, "the model has 2 logits"),
    ],
)
def test_bad_input_to_training_is_one_clear_line(parts, tiny_classifier, change, message):
    (pairs, grades, queries), valid = parts
    model = tiny_classifier()
    model.config.num_labels = change.pop("num_labels", 1)
    if change.pop("empty", False):
        pairs, grades, queries = pairs.take([]), grades[:0], queries[:0]
    if change.pop("barren", False):
        valid = (valid[0], np.zeros(len(valid[0])), valid[2])
    arguments = {"grades": grades, "queries": queries, "valid": valid} | change
    with pytest.raises(InputError, match=message) as caught:
        fit_crossencoder(model, pairs, **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("candidates", "options", "message"),
    [
        (np.zeros((2, 3), int), {}, r"whole numbers \(1, K\)"),
        (np.zeros((1, 3)), {}, "whole numbers"),
        (np.zeros((1, 0), int), {}, "nothing to re-rank"),
        (np.array([[0, 25]]), {}, "candidates of query 0 name product 25; there are 25"),
        (np.array([[0, 3, 0]]), {}, "name product 0 twice"),
        (np.array([[0, 3]]), {"k": 0}, "k = 0 must be at least 1"),
        (np.array([[0, 3]]), {"first_scores": np.zeros(2)}, r"first_scores must be \(1, 2\)"),
    ],
)
def test_bad_input_to_reranking_is_one_clear_line(ranker, tokenizer, candidates, options, message):
    with pytest.raises(InputError, match=message) as caught:
        rerank(ranker[0], tokenizer, ["a hat"], candidates, CATALOG, **options)
    assert "\n" not in str(caught.value)
