"""Fine-tuned rankers: what they learn on, that they are kept, and what breaks them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from transformers import AutoTokenizer

from recsys_lib.biencoder import mean_ndcg
from recsys_lib.datasets.relevance_tables import build_relevance
from recsys_lib.models import embed, load_encoder, load_tokenizer
from recsys_lib.search import (
    embedded_products,
    encode_products,
    exact_search,
    re_ranked,
    tuned,
    tuned_biencoder,
    tuned_crossencoder,
    validation_products,
    weighted_fusion,
)
from recsys_lib.text import encode
from recsys_lib.training import predict
from recsys_lib.training_loop import TrainConfig
from recsys_lib.workbook import InputError

KINDS = ["shoe", "boot", "shirt", "dress", "watch", "bag"]
COLORS = ["red", "blue", "green", "black", "white"]


def make_task(complete=True, judged_items=30):
    """30 products, one of each kind and color; a query asks for both: 3, one of them: 1."""
    pairs = [(kind, color) for kind in KINDS for color in COLORS]
    products = pd.DataFrame({"product_id": range(30), "name": [f"{c} {k}" for k, c in pairs]})
    products["text"] = products["name"] + " made with care"
    queries = pd.DataFrame({"query_id": range(30), "text": [f"a {k} in {c}" for k, c in pairs]})
    queries["part"] = np.where(np.arange(30) % 5 == 0, "test", "train")
    queries.loc[queries.index % 5 == 1, "part"] = "valid"
    judgements = [
        (q, p, 3 if q == p else int(pairs[q][0] == pairs[p][0] or pairs[q][1] == pairs[p][1]))
        for q in range(30)
        for p in range(judged_items)
    ]
    judgements = pd.DataFrame(judgements, columns=["query_id", "product_id", "grade"])
    return build_relevance("shop", products, queries, judgements, complete=complete)


CONFIG = TrainConfig(epochs=2, lr=1e-3, batch_size=6, eval_every=3, precision="fp32")


@pytest.fixture(scope="module")
def trained(checkpoints, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    model = checkpoints["bert"]
    first = tuned_biencoder(make_task(), CONFIG, model=model, runs=runs)
    second = tuned_biencoder(
        make_task(), CONFIG, model=model, start=first, negatives=1, depth=5, runs=runs
    )
    cross = tuned_crossencoder(
        make_task(), second, CONFIG, model=model, depth=5, valid_depth=5, runs=runs
    )
    return runs, model, first, second, cross


def test_training_learns_from_the_right_products(trained):
    first = trained[2]
    assert first.result.history["loss"].iloc[-1] < first.result.history["loss"].iloc[0]
    assert first.examples == 18  # one right product for each of the training queries


def test_a_trained_ranker_is_kept(trained, monkeypatch):
    runs, model, first, second, cross = trained

    def untouched(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(tuned, "fit_biencoder", untouched)
    again = tuned_biencoder(make_task(), CONFIG, model=model, runs=runs)
    assert again.folder == first.folder
    pd.testing.assert_frame_equal(again.result.history, first.result.history)
    assert len({one.folder for one in (first, second, cross)}) == 3
    with pytest.raises(AssertionError, match="trained again"):
        tuned_biencoder(make_task(), CONFIG, model=model, temperature=0.1, runs=runs)


def test_validation_ranks_a_part_of_the_catalog_that_the_seed_chooses():
    rows = validation_products(50, 20, seed=3)
    assert len(np.unique(rows)) == 20 and (np.diff(rows) > 0).all() and rows.max() < 50
    assert not np.array_equal(rows, validation_products(50, 20, seed=4))
    assert np.array_equal(validation_products(7, 20), np.arange(7))


@pytest.mark.parametrize("which", [2, 3])
def test_the_kept_weights_are_those_of_the_best_validation(trained, which):
    ranker, task = trained[which], make_task()
    valid = task.part("valid")
    items = encode_products(task, model=ranker.checkpoint)
    asked = encode(load_tokenizer(ranker.checkpoint), valid["text"], max_length=32)
    encoder = ranker.load()
    scores = embed(encoder, asked, precision="fp32") @ embed(encoder, items, precision="fp32").T
    measured = mean_ndcg(task.grades(valid["query_id"]), scores)
    # in other batches: two products that are level to rounding may swap, worth a few thousandths
    assert measured == pytest.approx(ranker.result.best_metric, abs=5e-3)


def test_a_cross_encoder_has_one_logit_and_reads_what_its_bi_encoder_reads(trained):
    cross = trained[-1]
    assert cross.load().config.num_labels == 1
    assert cross.reads == trained[3].reads == "name"


def test_re_ranking_adds_the_first_cosines_to_the_logits(trained):
    first, cross = trained[3], trained[4]
    task = make_task()
    queries = task.part("test")["text"].tolist()
    tokens = load_tokenizer(first.checkpoint)
    asked = embed(first.load(), encode(tokens, queries, max_length=32))
    vectors = embedded_products(task, model=first.checkpoint, runs=trained[0])
    found = exact_search(asked, vectors, 5)
    done = re_ranked(cross, task, queries, found)
    alone = re_ranked(replace(cross, first_weight=0), task, queries, found)
    added = weighted_fusion([alone, found], [1, cross.first_weight], 5, normalize="none")
    np.testing.assert_array_equal(added.rows, done.rows)
    reader = AutoTokenizer.from_pretrained(cross.checkpoint)
    again = re_ranked(cross, task, queries, found, model=cross.load(), tokenizer=reader)
    np.testing.assert_array_equal(again.scores, done.scores)
    names = task.products["name"].tolist()
    for q, query in enumerate(queries):
        pairs = [names[i] for i in done.rows[q]]
        logits = predict(cross.load(), encode(tokens, [query] * 5, pairs=pairs, max_length=48))
        cosines = asked[q] @ vectors[done.rows[q]].T
        # bf16 where the hardware has it, in other batches
        np.testing.assert_allclose(done.scores[q], logits + cross.first_weight * cosines, atol=0.02)
        assert sorted(done.rows[q]) == sorted(found.rows[q])


def test_without_complete_judgements_only_judged_products_are_negatives(
    checkpoints, tmp_path, monkeypatch
):
    """Of an incomplete set half the pairs are taken away: none of these may be mined."""
    task = make_task(complete=False, judged_items=15)
    mined = []
    real = tuned.mine_negatives
    monkeypatch.setattr(
        tuned, "mine_negatives", lambda *a, **k: mined.append(real(*a, **k)) or mined[-1]
    )
    tuned_biencoder(task, CONFIG, model=checkpoints["bert"], negatives=1, depth=5, runs=tmp_path)
    assert mined[0].max() < 15
    assert (mined[0] >= 0).any()


def test_the_catalog_is_embedded_once(trained, monkeypatch):
    runs, first = trained[0], trained[2]
    task = make_task()
    vectors = embedded_products(task, model=first.checkpoint, runs=runs)  # made to mine negatives
    items = encode_products(task, model=first.checkpoint)
    np.testing.assert_allclose(vectors, embed(first.load(), items), atol=1e-6)
    monkeypatch.setattr(tuned, "embed", None)  # would fail if it were called
    assert embedded_products(task, model=first.checkpoint, runs=runs).shape == (30, 32)
    with pytest.raises(TypeError):
        embedded_products(task, reads="text", model=first.checkpoint, runs=runs)


def test_mistakes_are_one_line(checkpoints, tmp_path):
    model = checkpoints["bert"]
    with pytest.raises(InputError, match='reads = "title": the products of shop have no such'):
        tuned_biencoder(make_task(), CONFIG, reads="title", model=model, runs=tmp_path)
    with pytest.raises(InputError, match="least = 9: no pair has such a grade"):
        tuned_biencoder(make_task(), CONFIG, least=9, model=model, runs=tmp_path)
    task = make_task()
    only_test = replace(task, queries=task.queries.assign(part="test"))
    with pytest.raises(InputError, match="shop has no query to train on"):
        tuned_biencoder(only_test, CONFIG, model=model, runs=tmp_path)


def test_a_text_that_products_share_is_read_once(checkpoints, tmp_path, monkeypatch):
    task = make_task()
    names = task.products["name"].tolist()
    names[4] = names[9] = names[0]
    task = replace(task, products=task.products.assign(name=names))
    each = embed(
        load_encoder(checkpoints["bert"]), encode_products(task, model=checkpoints["bert"])
    )
    read = []
    real = tuned.embed
    monkeypatch.setattr(tuned, "embed", lambda m, texts: read.append(len(texts)) or real(m, texts))
    vectors = embedded_products(task, model=checkpoints["bert"], runs=tmp_path)
    np.testing.assert_allclose(vectors, each, atol=0.01)  # bf16 where the hardware has it
    assert read == [len(set(names))]
    assert len(set(names)) < len(names)
