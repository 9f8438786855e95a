"""Frozen layers stay, and training on their cached outputs is training on the texts."""

import numpy as np
import pytest
import torch

from recsys_lib.freezing import cache_lower_layers, freeze
from recsys_lib.models import load_classifier
from recsys_lib.text import encode
from recsys_lib.training import TrainConfig, fit, predict
from recsys_lib.workbook import InputError

TEXTS = [f"{'so warm ' * (i % 7)} coat number {i} {'not ' if i % 3 else ''}soft" for i in range(48)]


@pytest.fixture
def data(tokenizer):
    labels = np.array([i % 3 == 0 for i in range(48)]).astype(int)
    encoded = encode(tokenizer, TEXTS)
    return encoded.take(np.arange(32)), labels[:32], encoded.take(np.arange(32, 48)), labels[32:]


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2"])
def test_freezing_stops_gradients_where_it_says(checkpoints, family):
    model = freeze(load_classifier(checkpoints[family]), layers=1)
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any(
        part in name for name in trainable for part in ("embed", "wte", "wpe", "layer.0.", "h.0.")
    )
    assert any(part in name for name in trainable for part in ("layer.1.", "h.1."))
    with pytest.raises(InputError, match="has 2 layers"):
        freeze(model, layers=3)


def test_cached_outputs_give_the_same_logits(data, tiny_classifier):
    train, _, valid, _ = data
    model = tiny_classifier()
    upper, (cached_train, cached_valid) = cache_lower_layers(
        model, [train, valid], layers=1, precision="fp32"
    )
    for texts, places in ((train, cached_train), (valid, cached_valid)):
        want = predict(model, texts, precision="fp32")
        got = predict(upper, places, precision="fp32")
        assert np.abs(want - got).max() < 1e-2  # the table is kept in bf16: 8 bits of mantissa


def test_training_above_the_cache_trains_the_model_below_it_stays(data, tiny_classifier):
    train, labels, valid, valid_labels = data
    config = TrainConfig(epochs=3, lr=3e-3, batch_size=8, precision="fp32")
    slow = freeze(tiny_classifier(), layers=1)
    fit(slow, train, labels, config=config)
    fast = tiny_classifier()
    before = {name: value.clone() for name, value in fast.state_dict().items()}
    upper, (cached, cached_valid) = cache_lower_layers(fast, [train, valid], layers=1)
    result = fit(upper, cached, labels, config=config, valid=(cached_valid, valid_labels))
    assert result.best_metric is not None
    for name, value in fast.state_dict().items():
        frozen = "embeddings" in name or "layer.0." in name
        assert torch.equal(value, before[name]) == frozen, name
    last = {name: value for name, value in fast.state_dict().items() if "classifier" in name}
    for name, value in last.items():  # the same training up to the table's rounding
        assert (value - slow.state_dict()[name]).abs().max() < 0.02, name


def test_only_berts_are_cached(checkpoints, data):
    with pytest.raises(InputError, match="BERT models only, not gpt2"):
        cache_lower_layers(load_classifier(checkpoints["gpt2"]), [data[0]], layers=1)


def test_the_built_in_model_above_its_cached_layers_gives_the_same_logits(tokenizer):
    model = load_classifier(dropout=0.0)
    texts = encode(tokenizer, ["a warm waterproof jacket", "it ran small", "lovely " * 60])
    want = predict(model, texts, precision="fp32")
    upper, (cached,) = cache_lower_layers(model, [texts], layers=4, precision="fp32")
    # the table keeps bf16: eight bits of each number, 0.4 %
    assert np.abs(predict(upper, cached, precision="fp32") - want).max() < 0.02
