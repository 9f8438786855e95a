"""Agreement of explanations against scipy; layers drawn anew from the head down."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from transformers import BertConfig, BertForSequenceClassification

from recsys_lib.interpret import attribute, by_word
from recsys_lib.interpret.sanity import agreement, randomized_layers
from recsys_lib.models import load_classifier, load_tokenizer
from recsys_lib.workbook import InputError


def test_agreement_is_scipys_rank_correlation_and_a_count():
    rng = np.random.default_rng(0)
    a = [rng.normal(size=n) for n in (4, 9, 30)]
    b = [x + rng.normal(size=len(x)) for x in a]
    table = agreement(a, b, k=3)
    assert table["spearman"].tolist() == [
        spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)
    ]
    by_hand = [len({*np.argsort(-abs(x))[:3]} & {*np.argsort(-abs(y))[:3]}) / 3
               for x, y in zip(a, b, strict=True)]  # fmt: skip
    assert table["overlap"].tolist() == by_hand
    same = agreement(a, a).mean()
    assert same["spearman"] == pytest.approx(1) and same["overlap"] == 1
    turned = agreement(a, [-x for x in a]).mean()
    assert turned["spearman"] == pytest.approx(-1) and turned["overlap"] == 1


def test_a_constant_explanation_has_no_rank_correlation():
    table = agreement([np.ones(4), np.array([1.0])], [np.arange(4.0), np.array([2.0])])
    assert table["spearman"].isna().all()
    assert table.loc[1, "overlap"] == 1  # one word, and both name it


@pytest.mark.parametrize("family", ("bert", "distilbert", "gpt2"))
def test_layers_fall_one_after_another(checkpoints, family):
    """After each stage the weights below it are still the old ones, and no other has changed."""
    model = load_classifier(checkpoints[family])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    left = []
    names = []
    for name, drawn in randomized_layers(model):
        names.append(name)
        state = drawn.state_dict()
        left.append({k for k in before if torch.equal(before[k], state[k])})
    assert names == ["head", "layer 2", "layer 1", "embeddings"]
    matrices = {k for k, v in before.items() if v.ndim >= 2}
    assert all(later <= earlier for earlier, later in pairwise(left))
    assert not left[-1] & matrices  # at the end nothing learned is left
    layers = {"bert": "encoder.layer.{}.", "distilbert": "transformer.layer.{}.", "gpt2": "h.{}."}
    for stage, number in ((1, 1), (2, 0)):
        own = {k for k in matrices if layers[family].format(number) in k}
        assert own and own <= left[stage - 1] and not own & left[stage]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())  # a copy


def test_weights_follow_the_seed_and_the_spread(tiny_classifier):
    model = tiny_classifier()
    last = [list(randomized_layers(model, seed=seed))[-1][1] for seed in (0, 0, 1)]
    words = [m.get_input_embeddings().weight.detach() for m in last]
    assert torch.equal(words[0], words[1]) and not torch.equal(words[0], words[2])
    assert float(words[0].std()) == pytest.approx(model.config.initializer_range, rel=0.01)


def test_an_attribution_falls_apart_with_the_weights():
    """At the end neither the signed order nor that of the sizes is the one of before."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        spread = 0.25  # large weights: a score that bends
        config = BertConfig(**shape, intermediate_size=64, num_labels=1, initializer_range=spread)
        model = BertForSequenceClassification(config).eval()
    rng, tokenizer = np.random.default_rng(0), load_tokenizer()
    listed = ["good", "bad", "warm", "thin", "soft", "loose", "ugly", "pretty", "heavy", "cheap"]
    texts = [" ".join(rng.permutation(listed)) for _ in range(40)]

    def values(model):
        found = attribute(model, tokenizer, texts, steps=8)
        return [by_word(one).values for one in found]

    first = values(model)
    *_, (name, drawn) = randomized_layers(model)
    assert name == "embeddings"
    now = values(drawn)
    for change in (np.asarray, np.abs):
        alike = agreement([change(v) for v in first], [change(v) for v in now])["spearman"]
        assert abs(alike.mean()) < 0.3


def test_bad_input_gets_one_line():
    cases = [
        (lambda: agreement([np.ones(2)], []), "1 explanations but 0"),
        (lambda: agreement([np.ones(2)], [np.ones(3)]), "text 0: 2 values against 3"),
        (lambda: next(randomized_layers(torch.nn.Linear(2, 1))), "no list of layers"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()
