"""Its loss against sentence-transformers, its masks against a loop, its memory, its learning."""

import json
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from recsys_lib.biencoder import (
    batch_loss,
    biencoder_gradient,
    fit_biencoder,
    make_batch,
    mean_ndcg,
    relevance_table,
)
from recsys_lib.gradient_cache import stored_activations
from recsys_lib.models import embed, load_encoder
from recsys_lib.text import encode
from recsys_lib.training import TrainConfig, TrainingError
from recsys_lib.workbook import InputError
from tests.unit.processes import start

WANTED = ["jacket", "shoes", "scarf", "belt", "watch", "hat", "dress", "socks", "bag", "ring"]
OFFERED = ["parka", "trainers", "shawl", "strap", "clock", "cap", "gown", "hose", "purse", "band"]
FILLER = ["new", "fine", "soft", "good", "warm", "classic", "small", "large", "light", "plain"]
COPIES = 6  # texts per kind, on each side


def texts(words: list[str], seed: int) -> list[str]:
    """Each word `COPIES` times, among filler."""
    rng = np.random.default_rng(seed)
    made = []
    for word in np.repeat(words, COPIES):
        text = rng.choice(FILLER, rng.integers(1, 6)).tolist()
        text.insert(rng.integers(0, len(text) + 1), word)
        made.append(" ".join(text))
    return made


@pytest.fixture(scope="module")
def shop(tokenizer):
    """Queries and products of ten kinds, which are named by different words on the two sides."""
    queries = encode(tokenizer, texts(WANTED, 0), max_length=16)
    items = encode(tokenizer, texts(OFFERED, 1), max_length=16)
    asked = encode(tokenizer, texts(WANTED, 2), max_length=16)
    kinds = np.repeat(np.arange(len(WANTED)), COPIES)
    right = np.argwhere(kinds[:, None] == kinds[None, :])
    grades = (kinds[:, None] == kinds[None, :]).astype(np.int8)
    return queries, items, right, (asked, items, grades)


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def farthest(one: dict, two: dict) -> float:
    """The largest difference of two gradients, in units of the largest gradient."""
    assert one.keys() == two.keys() and one
    largest = max(float(value.abs().max()) for value in two.values())
    return max(float((one[name] - two[name]).abs().max()) for name in one) / largest


def some_batch(shop, n: int, seed: int = 0, negatives: int = 0):
    _, items, right, _ = shop
    rng = np.random.default_rng(seed)
    pairs = right[rng.choice(len(right), n, replace=False)]
    table = relevance_table(right, len(shop[0]), len(items))
    hard = None
    if negatives:
        hard = rng.integers(0, len(items), (len(shop[0]), negatives))
    return make_batch(pairs, table, hard, draws=negatives or 1), pairs, hard


def test_loss_and_gradient_are_those_of_sentence_transformers(shop, checkpoints, tokenizer):
    """With one product of each kind nothing is hidden, which their loss cannot do."""
    words = [Transformer(str(checkpoints["bert"])), Pooling(32, "mean")]
    theirs = SentenceTransformer(modules=words, device="cpu").eval()
    firsts = np.arange(0, len(WANTED) * COPIES, COPIES)
    wrong = (firsts + 2 * COPIES) % (len(WANTED) * COPIES) + 1  # another text of a wrong kind
    strings = [
        [texts(WANTED, 0)[i] for i in firsts],
        [texts(OFFERED, 1)[i] for i in firsts],
        [texts(OFFERED, 1)[i] for i in wrong],
    ]
    loss = MultipleNegativesRankingLoss(theirs, scale=1 / 0.07)
    features = [theirs.tokenize(column) for column in strings]
    want = loss(features, None)
    want.backward()

    queries, items, _, _ = shop
    ours = load_encoder(checkpoints["bert"])
    pairs = np.column_stack([firsts, firsts])
    hard = np.full((len(queries), 1), -1)
    hard[firsts, 0] = wrong
    batch = make_batch(pairs, relevance_table(pairs, len(queries), len(items)), hard)
    got = biencoder_gradient(
        ours, queries, items, batch, temperature=0.07, precision="fp32", chunk_size=7
    )
    assert got == pytest.approx(want.item(), abs=1e-5)
    reference = gradients(theirs[0].auto_model)
    assert farthest(gradients(ours), reference) < 1e-5  # float32, other summation order


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("chunk_size", [1, 5, 16, 1000])
def test_chunks_give_the_gradient_of_the_whole_batch(shop, tiny_encoder, dropout, chunk_size):
    """With dropout: of the whole batch whose chunks drew the same masks."""
    from recsys_lib import gradient_cache

    queries, items, _, _ = shop
    batch, _, _ = some_batch(shop, 32, negatives=2)
    model = tiny_encoder(dropout=dropout).train()
    options = {"precision": "fp32", "seed": 3}
    state = torch.get_rng_state()
    loss = biencoder_gradient(model, queries, items, batch, chunk_size=chunk_size, **options)
    assert torch.equal(torch.get_rng_state(), state)
    got = gradients(model)

    calls = []

    def whole(*arguments, cached, **others):
        calls.append(cached)
        return original(*arguments, cached=False, **others)

    original = gradient_cache.batch_gradient
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recsys_lib.biencoder.batch_gradient", whole)
        want = biencoder_gradient(model, queries, items, batch, chunk_size=chunk_size, **options)
    assert calls == [True]
    assert loss == pytest.approx(want, abs=1e-6)
    assert farthest(got, gradients(model)) < 1e-6
    if dropout == 0:  # chunks of any size, and none at all, are then one and the same
        biencoder_gradient(model, queries, items, batch, **options)
        assert farthest(got, gradients(model)) < 1e-6
    else:  # another seed, other masks: the test would notice
        biencoder_gradient(
            model, queries, items, batch, chunk_size=chunk_size, precision="fp32", seed=4
        )
        assert farthest(got, gradients(model)) > 1e-4


def test_what_is_stored_is_counted_by_hand():
    """Neither weights nor anything twice; behind the backward pass nothing is left."""
    layer = torch.nn.Linear(8, 8, bias=False)
    x = torch.ones(100, 8, requires_grad=True)
    with stored_activations(layer) as stored:
        assert stored.now == 0
        hidden = layer(x)  # stores x, and the weights
        assert stored.now == 4 * 800
        value = hidden.exp()  # stores its output
        assert stored.now == 4 * 1_600
        total = (hidden * hidden).sum() + value.sum()  # stores hidden, which both factors share
        assert stored.now == 4 * 2_400
        with torch.no_grad():
            layer(x).exp()
        total.backward()
        del total, value, hidden
    assert stored.now == 0
    assert stored.most == 4 * 2_400


def test_memory_is_that_of_a_chunk(shop, tiny_encoder):
    queries, items, _, _ = shop

    def peak(n: int, chunk_size: int | None) -> int:
        batch, _, _ = some_batch(shop, n, seed=1)
        model = tiny_encoder().train()
        with stored_activations(model) as stored:
            biencoder_gradient(
                model, queries, items, batch, chunk_size=chunk_size, precision="fp32"
            )
        assert stored.now == 0
        return stored.most

    small, large = peak(16, 8), peak(256, 8)
    assert large < 1.5 * small  # the similarities of the pairs grow, the activations do not
    assert peak(256, None) > 5 * large


def test_what_is_relevant_is_never_in_the_denominator(shop, tiny_encoder):
    """Against a loop over the pairs of the batch that asks the table of what is right."""
    queries, items, right, _ = shop
    batch, pairs, hard = some_batch(shop, 40, seed=2, negatives=3)
    q = torch.from_numpy(embed(tiny_encoder(), queries, precision="fp32")).double()
    d = torch.from_numpy(embed(tiny_encoder(), items, precision="fp32")).double()
    known = {tuple(pair) for pair in right}
    offered = set(pairs[:, 1]) | set(hard[pairs[:, 0]].ravel())
    each = []
    for query, item in pairs:
        wrong = [other for other in offered if (query, other) not in known]
        assert wrong and len(wrong) < len(offered)
        scores = torch.stack([q[query] @ d[i] for i in [item, *wrong]]) / 0.05
        each.append(torch.logsumexp(scores, 0) - scores[0])
    vectors = torch.cat([q[batch.queries], d[batch.items]])
    assert float(batch_loss(vectors, batch)) == pytest.approx(float(torch.stack(each).mean()))


def test_the_order_of_the_pairs_changes_nothing(shop, tiny_encoder):
    queries, items, right, _ = shop
    _, pairs, hard = some_batch(shop, 24, negatives=2)
    table = relevance_table(right, len(queries), len(items))
    found = []
    for order in (np.arange(24), np.random.default_rng(0).permutation(24)):
        model = tiny_encoder()
        batch = make_batch(pairs[order], table, hard, draws=2)
        loss = biencoder_gradient(model, queries, items, batch, chunk_size=6, precision="fp32")
        found.append((loss, gradients(model)))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    assert farthest(found[0][1], found[1][1]) < 1e-6


def test_hard_negatives_are_drawn_once_each_and_none_is_none(shop):
    queries, items, right, _ = shop
    table = relevance_table(right, len(queries), len(items))
    pairs = np.array([[0, 0], [6, 6]])
    hard = np.full((len(queries), 4), -1)
    hard[0] = [30, 31, -1, -1]
    hard[6] = [30, 0, 40, -1]  # 0 is the own product of the other query
    whole = make_batch(pairs, table, hard, draws=4)
    assert whole.items.tolist() == [0, 6, 30, 31, 40] and whole.own == 2
    drawn = {tuple(make_batch(pairs, table, hard, draws=1, seed=s).items) for s in range(30)}
    assert (0, 6, 30) in drawn and (0, 6, 31, 40) in drawn
    assert all(len(items) <= 4 for items in drawn)  # two of each query's list, never -1
    empty = make_batch(pairs, table, np.full((len(queries), 1), -1))
    assert empty.items.tolist() == [0, 6]


LEARN = TrainConfig(epochs=15, lr=3e-3, batch_size=60, precision="fp32")


@pytest.mark.parametrize("chunk_size", [None, 24])
def test_learns_a_language_of_synonyms(shop, tiny_encoder, chunk_size):
    queries, items, right, valid = shop
    model = tiny_encoder()
    before = mean_ndcg(
        valid[2], embed(model, valid[0], precision="fp32") @ embed(model, items, precision="fp32").T
    )
    result = fit_biencoder(
        model, queries, items, right, config=LEARN, valid=valid, chunk_size=chunk_size
    )
    assert before < 0.5 and result.best_metric > 0.97
    vectors = [embed(model, part, precision="fp32") for part in valid[:2]]
    assert mean_ndcg(valid[2], vectors[0] @ vectors[1].T) == pytest.approx(result.best_metric)
    history = result.history
    assert history["examples"].sum() == 15 * len(right)
    assert history["valid_metric"].notna().sum() == 15


def test_learns_from_hard_negatives_what_the_batch_does_not_say(tokenizer, tiny_encoder):
    """All pairs have the same color; only the hard negatives say that the color matters."""
    kinds = [f"{word} {color}" for word in WANTED for color in ("red", "blue")]
    encoded = encode(tokenizer, kinds, max_length=8)
    red = np.arange(0, len(kinds), 2)
    hard = np.full((len(kinds), 1), -1)
    hard[red, 0] = red + 1
    pairs = np.column_stack([red, red])
    grades = np.eye(len(kinds), dtype=int)[red]
    config = TrainConfig(epochs=30, lr=3e-3, batch_size=10, precision="fp32")
    reached = []
    for negatives in (None, hard):
        model = tiny_encoder()
        fit_biencoder(model, encoded, encoded, pairs, config=config, hard_negatives=negatives)
        vectors = embed(model, encoded, precision="fp32")
        others = vectors[red] @ vectors.T
        reached.append(others[np.arange(len(red)), red] - others[np.arange(len(red)), red + 1])
        assert mean_ndcg(grades, others) > 0.9
    assert reached[1].min() > 2 * reached[0].max()


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("at", [3, 6])
def test_killed_and_resumed_ends_with_the_same_bits(shop, tiny_encoder, tmp_path, at):
    queries, items, right, valid = shop
    hard = np.random.default_rng(0).integers(0, len(items), (len(queries), 3))
    config = TrainConfig(epochs=1, lr=3e-3, batch_size=40, eval_every=3, checkpoint_every=2)

    def run(folder, on_step=None):
        model = tiny_encoder(dropout=0.1)
        result = fit_biencoder(
            model,
            queries,
            items,
            right,
            config=config,
            hard_negatives=hard,
            chunk_size=16,
            valid=valid,
            run_dir=folder,
            on_step=on_step,
        )
        return model.state_dict(), result.history.drop(columns="seconds")

    def die(step):
        if step == at:
            raise _Killed

    whole, history = run(tmp_path / "whole")
    with pytest.raises(_Killed):
        run(tmp_path / "broken", die)
    resumed, again = run(tmp_path / "broken")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    pd.testing.assert_frame_equal(history, again, check_exact=True)
    hard[0, 0] += 1
    with pytest.raises(InputError, match="holds another run"):
        run(tmp_path / "broken")


def test_accumulated_batches_each_with_its_own_negatives(shop, tiny_encoder):
    """A step over two batches has the mean loss and gradient of the two."""
    queries, items, right, _ = shop
    pairs = right[np.random.default_rng(0).permutation(len(right))[:30]]
    options = {"lr": 1e-9, "clip": 1e9, "precision": "fp32", "shuffle": False}
    apart = fit_biencoder(
        tiny_encoder(), queries, items, pairs, config=TrainConfig(batch_size=20, **options)
    ).history
    model = tiny_encoder()
    both = fit_biencoder(
        model, queries, items, pairs, config=TrainConfig(batch_size=20, accumulate=2, **options)
    ).history
    assert apart["examples"].tolist() == [20, 10] and both["examples"].tolist() == [30]
    want = np.average(apart["loss"], weights=apart["examples"])
    assert both["loss"][0] == pytest.approx(want, abs=1e-6)
    assert both["grad_norm"][0] < np.average(apart["grad_norm"], weights=apart["examples"])


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2"])
@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_every_family_trains_and_every_weight_that_counts_moves(shop, checkpoints, family, pooling):
    queries, items, right, _ = shop
    model = load_encoder(checkpoints[family], dropout=0.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config = TrainConfig(epochs=0.2, lr=1e-2, warmup=0, batch_size=60)
    fit_biencoder(model, queries, items, right, config=config, pooling=pooling, chunk_size=32)
    still = [name for name, value in model.state_dict().items() if torch.equal(before[name], value)]
    # a first token of GPT-2 sees nothing but itself, the same for all: its words learn nothing
    if (family, pooling) != ("gpt2", "first"):
        assert all("pooler" in name or "position_ids" in name for name in still), still


def test_patience_and_the_best_weights(shop, tiny_encoder):
    queries, items, right, valid = shop
    values, kept = iter([0.3, 0.5, 0.4, 0.2, 0.9]), []
    model = tiny_encoder()

    def metric(grades, scores):
        assert grades.shape == scores.shape == (60, 60)
        kept.append({name: value.clone() for name, value in model.state_dict().items()})
        return next(values)

    config = TrainConfig(batch_size=40, eval_every=1, patience=2)
    result = fit_biencoder(model, queries, items, right, config=config, valid=valid, metric=metric)
    assert (result.best_step, result.steps, result.stopped_early) == (2, 4, True)
    assert all(torch.equal(kept[1][name], value) for name, value in model.state_dict().items())


def test_what_is_not_finite_stops_training(shop, tiny_encoder):
    queries, items, right, _ = shop
    model = tiny_encoder()
    with torch.no_grad():
        model.embeddings.LayerNorm.weight[0] = torch.nan
    with pytest.raises(TrainingError, match="loss is nan in step 1") as caught:
        fit_biencoder(model, queries, items, right)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pairs": np.zeros((0, 2), int)}, "pairs must be an array of whole numbers"),
        ({"pairs": np.zeros((3, 2))}, "pairs must be an array of whole numbers"),
        ({"pairs": np.array([[0, 1], [0, 60]])}, "pairs row 1 names product 60; there are 60"),
        ({"pairs": np.array([[-1, 1]])}, "pairs row 0 names query -1"),
        ({"pairs": np.array([[0, 1], [1, 1]])}, "a batch has no wrong product"),
        ({"relevant": np.array([[60, 1]])}, "relevant row 0 names query 60"),
        ({"config": TrainConfig(batch_size=1)}, "batch_size = 1: a batch has no wrong product"),
        ({"temperature": 0.0}, "temperature = 0.0 must be above 0"),
        ({"chunk_size": 0}, "chunk_size = 0 must be at least 1"),
        ({"negatives_per_query": 0}, "negatives_per_query = 0"),
        ({"hard_negatives": np.zeros((3, 1), int)}, "a row per query"),
        ({"hard_negatives": np.full((60, 1), 60)}, "hard_negatives row 0 names product 60"),
        ({"pooling": "max"}, "pooling='max'"),
        ({"valid": "transposed"}, r"grades are \(60, 59\)"),
        ({"valid": "barren"}, "no query has a relevant product"),
    ],
)
def test_bad_input_is_one_clear_line(shop, tiny_encoder, change, message):
    queries, items, right, (asked, products, grades) = shop
    bad = {"transposed": grades[:, 1:], "barren": np.minimum(grades, 0)}
    if "valid" in change:
        change = {"valid": (asked, products, bad[change["valid"]])}
    arguments = {"pairs": right} | change
    with pytest.raises(InputError, match=message) as caught:
        fit_biencoder(tiny_encoder(), queries, items, **arguments)
    assert "\n" not in str(caught.value)


def test_two_processes_take_the_step_of_one(tmp_path):
    """With dropout: each chunk has its seed, wherever it is computed."""
    program = tmp_path / "train.py"
    program.write_text(
        textwrap.dedent(
            """
            import json, os, sys
            import numpy as np, torch
            from transformers import BertConfig, BertModel
            from recsys_lib.biencoder import fit_biencoder
            from recsys_lib.text import Encoded
            from recsys_lib.training import TrainConfig
            torch.set_num_threads(1)
            rng = np.random.default_rng(0)
            def made(n):
                lengths = rng.integers(4, 12, n)
                offsets = np.concatenate([[0], np.cumsum(lengths)])
                return Encoded(rng.integers(5, 90, offsets[-1]).astype(np.int32), offsets,
                               lengths.astype(np.int32), 0, 12)
            torch.manual_seed(0)
            model = BertModel(BertConfig(vocab_size=100, hidden_size=16, num_hidden_layers=1,
                num_attention_heads=1, intermediate_size=16))
            pairs = np.column_stack([np.arange(45), np.arange(45)])
            result = fit_biencoder(model, made(45), made(45), pairs, progress=False, chunk_size=7,
                config=TrainConfig(epochs=2, lr=1e-2, batch_size=10, accumulate=2,
                                   precision="fp32"))
            if os.environ.get("RANK", "0") == "0":
                total = float(sum(p.double().abs().sum() for p in model.parameters()))
                with open(sys.argv[1], "w") as file:
                    json.dump({"losses": result.history["loss"].tolist(), "weights": total,
                               "processes": int(os.environ.get("WORLD_SIZE", 1))}, file)
            """
        )
    )
    answers = []
    for name, two in (("one", False), ("two", True)):
        target = tmp_path / f"{name}.json"
        start(str(program), str(target), two=two, mixed_precision="bf16")
        answers.append(json.loads(target.read_text()))
    assert [answer["processes"] for answer in answers] == [1, 2]
    losses = np.array([answer["losses"] for answer in answers])
    assert np.abs(losses[0] - losses[1]).max() < 1e-5
    assert answers[0]["weights"] == pytest.approx(answers[1]["weights"], rel=1e-6)
