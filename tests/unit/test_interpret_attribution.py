"""Attributions against Captum one text at a time, finite differences and exact enumeration."""

import itertools
import warnings
from math import factorial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from captum.attr import LayerConductance, LayerIntegratedGradients
from scipy.integrate import quad
from transformers import BertConfig, BertForSequenceClassification

from recsys_lib.interpret import (
    BASELINES,
    METHODS,
    attribute,
    attribution,
    by_word,
    layer_conductance,
    word_spans,
)
from recsys_lib.interpret.scores import baseline_vector, quick_products
from recsys_lib.models import load_classifier
from recsys_lib.workbook import InputError

TEXTS = [
    "The dress is gorgeous, but the zipper broke after one day.",
    "Didn't love it.",
    "Fits well; I would buy the well-made jacket again, and in another color, for my sister!",
    "No.",
]
SHORT = "broken zipper returned"


@pytest.fixture(scope="module")
def rough():
    """A tiny BERT whose weights are large enough to bend the way from the baseline to the text."""

    def make(labels: int = 1) -> BertForSequenceClassification:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            config = BertConfig(
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=64,
                initializer_range=0.25,
                num_labels=labels,
            )
            return BertForSequenceClassification(config).eval()

    return make


class Linear(torch.nn.Module):
    """A score that is linear in the word vectors: every method has a value known beforehand."""

    def __init__(self, labels: int = 1):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.table = torch.nn.Embedding(30_522, 6)
            self.head = torch.nn.Linear(6, labels)
        self.config = SimpleNamespace(max_position_embeddings=128)

    def get_input_embeddings(self):
        return self.table

    def forward(self, input_ids, attention_mask):
        vectors = self.table(input_ids) * attention_mask[:, :, None]
        return SimpleNamespace(logits=self.head(vectors.sum(dim=1)))

    def shares(self, tokenizer, text: str, base: torch.Tensor) -> np.ndarray:
        """w · (e − b) of each token, 0 for the special ones."""
        ids = torch.tensor(tokenizer(text)["input_ids"])
        shares = (self.table(ids) - base) @ self.head.weight[0]
        shares[[0, -1]] = 0
        return shares.detach().double().numpy()


def values(found) -> list[np.ndarray]:
    return [a.values for a in found]


def by_captum(model, tokenizer, text, steps=500, base="pad_token_id"):
    """The published loop's call for one text, at the word-embedding layer."""
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    blank = torch.full_like(ids, getattr(tokenizer, base))
    blank[0, 0], blank[0, -1] = ids[0, 0], ids[0, -1]
    explainer = LayerIntegratedGradients(
        lambda x: model(x).logits[:, 0], model.bert.embeddings.word_embeddings
    )
    found = explainer.attribute(ids, blank, n_steps=steps)
    return found.sum(-1)[0].detach().double().numpy()


@pytest.mark.parametrize("baseline", BASELINES)
def test_one_step_is_exact_for_a_linear_score(tokenizer, baseline):
    model = Linear()
    base = baseline_vector(model, tokenizer, baseline)
    (found,) = attribute(model, tokenizer, [TEXTS[0]], baseline=baseline, steps=1)
    expected = model.shares(tokenizer, TEXTS[0], base)
    np.testing.assert_allclose(found.values, expected, atol=1e-5)  # float32
    assert found.error < 1e-4
    assert found.tokens[0] == "[CLS]" and found.tokens[-1] == "[SEP]"


def test_all_methods_with_a_baseline_agree_for_a_linear_score(tokenizer):
    model = Linear()
    (exact,) = attribute(model, tokenizer, [TEXTS[0]], steps=1)
    for method in ("occlusion", "shapley"):
        (found,) = attribute(model, tokenizer, [TEXTS[0]], method=method, steps=3)
        np.testing.assert_allclose(by_word(found).values, by_word(exact).values, atol=1e-4)


def test_average_is_the_mean_of_the_vocabulary_and_zero_the_origin(rough, tokenizer):
    model = rough()
    table = model.get_input_embeddings().weight.detach()
    torch.testing.assert_close(baseline_vector(model, tokenizer, "average"), table.mean(dim=0))
    assert not baseline_vector(model, tokenizer, "zero").any()
    mask = baseline_vector(model, tokenizer, "mask")
    torch.testing.assert_close(mask, table[tokenizer.mask_token_id])


@pytest.mark.parametrize("base", ["pad", "mask"])
def test_integrated_gradients_are_those_of_captum_one_text_at_a_time(rough, tokenizer, base):
    model = rough()
    found = attribute(model, tokenizer, TEXTS, baseline=base, steps=100, cells=700)
    for text, value in zip(TEXTS, values(found), strict=True):
        exact = by_captum(model, tokenizer, text, steps=100, base=f"{base}_token_id")
        np.testing.assert_allclose(value, exact, atol=2e-5 * np.abs(exact).max() + 1e-6)


def test_the_chosen_steps_come_as_near_to_500_as_was_asked(rough, tokenizer):
    model, tolerance = rough(), 0.01
    found = attribute(model, tokenizer, TEXTS, tolerance=tolerance)
    span = np.ptp([[a.score, a.baseline_score] for a in found])
    rougher = attribute(model, tokenizer, TEXTS, steps=2)
    assert max(a.error for a in rougher) > tolerance * span, "the way is not bent: a vacuous test"
    for text, one in zip(TEXTS, found, strict=True):
        assert one.error <= tolerance * span
        exact = by_captum(model, tokenizer, text)
        # A token may be off by more than the sum, where errors cancel, but not by much more.
        assert np.abs(one.values - exact).max() < 3 * tolerance * span


@pytest.mark.parametrize("baseline", BASELINES)
def test_completeness_holds_for_every_baseline(rough, tokenizer, baseline):
    found = attribute(rough(), tokenizer, TEXTS, baseline=baseline, tolerance=1e-3)
    span = np.ptp([[a.score, a.baseline_score] for a in found])
    assert max(a.error for a in found) <= 1e-3 * span
    assert {a.steps for a in found} - {11}, "one text at least needs more than the first steps"


@pytest.mark.parametrize("count", [5, 11, 23, 47])
def test_points_are_nested_and_inside_and_weights_positive(count):
    points, weights = attribution.nested_points(count)
    assert (np.diff(points) < 0).all() and 0 < points[-1] < points[0] < 1
    assert (weights > 0).all()
    more, _ = attribution.nested_points(2 * count + 1)
    np.testing.assert_allclose(more[1::2], points, atol=1e-12)


@pytest.mark.parametrize(
    "bend",
    [
        lambda t: np.exp(t),
        lambda t: 1 / (1 + 100 * (t - 0.4) ** 2),
        lambda t: np.tanh(12 * (t - 0.5)) * np.cos(3 * t),
    ],
)
def test_the_error_falls_fast_also_where_the_middle_bends(bend):
    exact = quad(bend, 0, 1, epsabs=1e-13)[0]
    errors = []
    for count in (11, 23, 47, 95):
        points, weights = attribution.nested_points(count)
        errors.append(abs(weights @ bend(points) - exact))
    assert errors[0] < 0.01 and errors[2] < 1e-4 and errors[3] < 1e-7


def test_points_are_kept_from_round_to_round(rough, tokenizer, monkeypatch):
    """What several rounds put together is what one round with all the points gives."""
    model = rough()
    rounds = attribute(model, tokenizer, TEXTS, tolerance=1e-4, cells=300)
    most = max(a.steps for a in rounds)
    assert most >= 47, "three rounds at least, or the order of the points is not tested"
    monkeypatch.setattr(attribution, "FIRST_STEPS", most)
    at_once = attribute(model, tokenizer, TEXTS, tolerance=1e-4)
    for a, b in zip(rounds, at_once, strict=True):
        if a.steps == most:
            np.testing.assert_allclose(a.values, b.values, atol=1e-4 * np.abs(b.values).max())


def test_tighter_tolerances_take_more_steps(rough, tokenizer):
    model = rough()
    loose, tight = (attribute(model, tokenizer, TEXTS, tolerance=t) for t in (0.05, 1e-4))
    assert sum(a.steps for a in tight) > sum(a.steps for a in loose)


def test_a_text_that_misses_the_tolerance_is_warned_about(rough, tokenizer, monkeypatch):
    monkeypatch.setattr(attribution, "MOST_STEPS", 11)
    with pytest.warns(UserWarning, match="4 of 4 texts still miss completeness"):
        attribute(rough(), tokenizer, TEXTS, tolerance=1e-12)


def test_gradient_x_input_is_the_slope_found_by_finite_differences(rough, tokenizer):
    model = rough().double()
    (found,) = attribute(model, tokenizer, [SHORT], method="gradient_x_input")
    ids = tokenizer(SHORT, return_tensors="pt")["input_ids"]
    layer, h = model.bert.embeddings.word_embeddings, 1e-5

    def score(scale):
        with torch.no_grad():
            return float(model(inputs_embeds=layer(ids) * scale[None, :, None]).logits)

    for token in range(ids.shape[1]):
        up, down = torch.ones(2, ids.shape[1], dtype=torch.float64)
        up[token] += h
        down[token] -= h
        slope = (score(up) - score(down)) / (2 * h)
        assert found.values[token] == pytest.approx(slope, abs=1e-7)
    assert np.isnan(found.error)


def score_without(model, tokenizer, text, gone) -> float:
    """The score with the words `gone` replaced by [PAD]."""
    out = tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
    spans, ids = word_spans(text), out["input_ids"].clone()
    for token, (start, end) in enumerate(out["offset_mapping"][0].tolist()):
        if end > start and any(spans[w][0] <= start < spans[w][1] for w in gone):
            ids[0, token] = tokenizer.pad_token_id
    with torch.no_grad():
        return float(model(ids).logits)


def test_occlusion_takes_one_word_away_at_a_time(rough, tokenizer):
    model, text = rough(), TEXTS[1]
    (found,) = attribute(model, tokenizer, [text], method="occlusion", cells=30)
    words = by_word(found)
    assert words.words == ("Didn't", "love", "it", ".")
    full = score_without(model, tokenizer, text, [])
    expected = [full - score_without(model, tokenizer, text, [w]) for w in range(4)]
    np.testing.assert_allclose(words.values, expected, atol=1e-5)
    pieces = found.values[1:4]  # didn ' t
    np.testing.assert_allclose(pieces, pieces[0])
    assert found.values[0] == found.values[-1] == 0


def test_shapley_values_are_those_of_exact_enumeration(rough, tokenizer):
    model, players, orders = rough(), (0, 1, 2), 400
    worth = {
        present: score_without(model, tokenizer, SHORT, set(players) - set(present))
        for size in range(4)
        for present in itertools.combinations(players, size)
    }
    gains = np.zeros((factorial(3), 3))
    for row, order in enumerate(itertools.permutations(players)):
        for at, player in enumerate(order):
            before = tuple(sorted(order[:at]))
            gains[row, player] = worth[tuple(sorted((*before, player)))] - worth[before]
    (found,) = attribute(model, tokenizer, [SHORT], method="shapley", steps=orders)
    error = gains.std(axis=0) / np.sqrt(orders)
    assert (gains.std(axis=0) > 0.01).all(), "no word depends on another: a vacuous test"
    assert (np.abs(by_word(found).values - gains.mean(axis=0)) < 4 * error).all()
    assert found.error < 1e-5  # each order adds up, so the mean does


def test_gradient_shap_estimates_the_mean_over_all_baselines(tokenizer):
    model, samples = Linear(), 2_000
    bases = torch.stack([baseline_vector(model, tokenizer, name) for name in BASELINES])
    shares = np.array([model.shares(tokenizer, SHORT, base) for base in bases])
    (found,) = attribute(model, tokenizer, [SHORT], method="gradient_shap", steps=samples)
    error = shares.std(axis=0) / np.sqrt(samples)
    assert (np.abs(found.values - shares.mean(axis=0)) <= 4 * error + 1e-6).all()
    floor = found.score - shares.mean(axis=0).sum()
    assert found.baseline_score == pytest.approx(floor, abs=1e-4)


@pytest.mark.parametrize("method", ["gradient_shap", "shapley"])
def test_the_seed_alone_decides_and_global_generators_stay(rough, tokenizer, method):
    model = rough()
    torch.manual_seed(11)
    numpy_before = np.random.get_state()[1].copy()  # noqa: NPY002
    torch_before = torch.get_rng_state()
    a, b, c = (
        values(attribute(model, tokenizer, TEXTS[1:2], method=method, steps=6, seed=seed))[0]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-6
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    torch.testing.assert_close(torch.get_rng_state(), torch_before)


@pytest.mark.parametrize("method", METHODS)
def test_a_texts_values_do_not_depend_on_the_others(rough, tokenizer, method):
    model = rough()
    together = attribute(model, tokenizer, TEXTS, method=method, steps=15, cells=4_000)
    for text, one in zip(TEXTS, together, strict=True):
        (alone,) = attribute(model, tokenizer, [text], method=method, steps=15, cells=40)
        scale = np.abs(alone.values).max()
        if method == "gradient_shap":  # its draws are made batch by batch
            (alone,) = attribute(model, tokenizer, [text], method=method, steps=15, cells=4_000)
        np.testing.assert_allclose(one.values, alone.values, atol=1e-4 * scale)
        assert one.text == text and len(one.values) == len(one.tokens) == len(one.offsets)
        assert one.score == pytest.approx(alone.score, abs=1e-5)


def test_two_logits_are_explained_by_their_difference(rough, tokenizer):
    one, two = rough(), rough(labels=2)
    two.bert.load_state_dict(one.bert.state_dict())
    with torch.no_grad():
        two.classifier.weight[1] = one.classifier.weight[0] + two.classifier.weight[0]
        two.classifier.bias[1] = one.classifier.bias[0] + two.classifier.bias[0]
    pairs = zip(*(attribute(m, tokenizer, TEXTS, steps=20) for m in (one, two)), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a.values, b.values, atol=1e-4)
        assert a.score == pytest.approx(b.score, abs=1e-4)


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2"])
@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion", "attention_rollout"])
def test_other_families_work(checkpoints, tokenizer, family, method):
    model = load_classifier(checkpoints[family])
    found = attribute(model, tokenizer, TEXTS, method=method, tolerance=0.01)
    for one in found:
        assert np.abs(one.values).sum() > 0
        if method == "integrated_gradients":
            span = np.ptp([[a.score, a.baseline_score] for a in found])
            assert one.error <= 0.01 * span


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_was(rough, tokenizer, method):
    model = rough().train()
    model.classifier.weight.requires_grad_(False)
    wanted = [p.requires_grad for p in model.parameters()]
    before = model.config._attn_implementation
    attribute(model, tokenizer, TEXTS[1:2], method=method, steps=2)
    assert model.training and [p.requires_grad for p in model.parameters()] == wanted
    assert all(p.grad is None for p in model.parameters())
    assert not model.get_input_embeddings()._forward_hooks
    assert model.config._attn_implementation == before


def test_attention_is_what_the_head_reads(rough, tokenizer):
    model = rough()
    model.set_attn_implementation("eager")
    batch = tokenizer(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        layers = [a[0].mean(dim=0).double() for a in model(**batch, output_attentions=True)[-1]]
    (last,) = attribute(model, tokenizer, TEXTS[:1], method="attention")
    np.testing.assert_allclose(last.values, layers[-1][0], atol=1e-6)
    (rolled,) = attribute(model, tokenizer, TEXTS[:1], method="attention_rollout")
    eye = torch.eye(len(layers[0]))
    flow = (layers[1] + eye) / 2 @ ((layers[0] + eye) / 2)
    np.testing.assert_allclose(rolled.values, flow[0], atol=1e-6)
    assert rolled.values.sum() == pytest.approx(1, abs=1e-5)
    assert np.isnan(last.error)


def test_a_cut_text_is_flagged_and_ends_where_the_model_stopped(rough, tokenizer):
    long = " ".join(["zipper"] * 40)
    cut, whole = attribute(rough(), tokenizer, [long, SHORT], max_length=12, steps=2)
    assert cut.truncated and not whole.truncated
    assert len(cut.tokens) == 12
    words = by_word(cut)
    assert words.truncated and len(words) == 10


def test_each_layers_conductance_adds_up_and_is_that_of_captum(rough, tokenizer):
    model, text = rough(), TEXTS[0]
    frame = layer_conductance(model, tokenizer, text, steps=400)
    assert frame.index.tolist() == ["words", "layer 1", "layer 2"]
    assert frame.columns[0] == "The" and frame.columns[-1] == "(special)"
    difference = frame.attrs["score"] - frame.attrs["baseline_score"]
    np.testing.assert_allclose(frame.sum(axis=1), difference, atol=0.02 * abs(difference))
    (exact,) = attribute(model, tokenizer, [text], steps=400)
    np.testing.assert_allclose(frame.iloc[0, :-1], by_word(exact).values, atol=1e-4)
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    layer = model.bert.embeddings.word_embeddings
    base = layer(ids).detach().clone()
    base[0, 1:-1] = layer.weight[tokenizer.pad_token_id].detach()
    explainer = LayerConductance(
        lambda x: model(inputs_embeds=x).logits[:, 0], model.bert.encoder.layer[1]
    )
    found = explainer.attribute(layer(ids).detach(), base, n_steps=400)
    found = found[0] if isinstance(found, tuple) else found
    by_token = found.sum(-1)[0].detach().numpy()
    special = frame.loc["layer 2", "(special)"]
    assert special == pytest.approx(by_token[0] + by_token[-1], abs=1e-3)
    assert frame.loc["layer 2"].sum() == pytest.approx(by_token.sum(), abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"texts": ["fine", "  "]}, "text 1 is empty"),
        ({"texts": "one string"}, "texts is one string"),
        ({"texts": ["fine", None]}, "text 1 is NoneType"),
        ({"method": "deep_lift"}, "method='deep_lift': allowed are 'integrated_gradients'"),
        ({"baseline": "black"}, "baseline='black': allowed are 'pad'"),
        ({"steps": 0}, "steps=0: must be at least 1"),
        ({"cells": 0}, "cells=0: must be at least 1"),
        ({"tolerance": 0.0}, "tolerance=0.0: must be a number above 0"),
        ({"tolerance": float("nan")}, "tolerance=nan: must be a number above 0"),
        ({"max_length": 513}, "max_length=513: the model has 512 positions"),
        ({"max_length": 2}, "max_length=2: needs more than the 2 special tokens"),
        ({"texts": ["so " * 61], "method": "shapley"}, "text 0 has 61 words, at most 60"),
    ],
)
def test_bad_input_is_one_clear_line(rough, tokenizer, options, message):
    options = {"texts": ["fine"], **options}
    with pytest.raises(InputError, match=message) as caught:
        attribute(rough(), tokenizer, options.pop("texts"), **options)
    assert "\n" not in str(caught.value)


def test_models_that_cannot_be_explained_say_why(rough, tokenizer):
    with pytest.raises(InputError, match="the classifier has 3 logits"):
        attribute(rough(labels=3), tokenizer, ["fine"])
    damaged = rough()
    with torch.no_grad():
        damaged.classifier.bias.fill_(float("nan"))
    with pytest.raises(InputError, match="score of text 0 is not a number"):
        attribute(damaged, tokenizer, ["fine", "good"])
    no_words = torch.nn.Linear(2, 1)
    with pytest.raises(InputError, match=r"Linear has no word-embedding layer: looked for"):
        attribute(no_words, tokenizer, ["fine"])
    with pytest.raises(InputError, match="Linear has no layers to look into"):
        flat = Linear()
        flat.base_model = flat
        layer_conductance(flat, tokenizer, "fine")
    slow = SimpleNamespace(is_fast=False, pad_token_id=0, mask_token_id=1)
    with pytest.raises(InputError, match="does not say where its tokens stand"):
        attribute(rough(), slow, ["fine"])
    with pytest.raises(InputError, match="steps=0"):
        layer_conductance(rough(), tokenizer, "fine", steps=0)


def test_no_texts_are_no_attributions_and_nothing_warns(rough, tokenizer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in METHODS:
            assert attribute(rough(), tokenizer, [], method=method) == []
            attribute(rough(), tokenizer, ["fine"], method=method, steps=2)


def test_a_product_by_convolution_is_the_product():
    """Outputs and gradients to rounding, for rows of any shape; the layers come back as before."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(24, 40), torch.nn.Linear(40, 7, bias=False)]
    model = torch.nn.Sequential(layers[0], torch.nn.GELU(), layers[1])
    for shape in ((1, 24), (5, 24), (3, 9, 24), (64, 32, 24)):
        x = torch.randn(shape, requires_grad=True)
        push, found = torch.randn(*shape[:-1], 7), []
        for wanted in (False, True):
            with quick_products(model, wanted=wanted):
                assert ("forward" in vars(layers[0])) is wanted
                out = model(x)
            found.append((out.detach(), torch.autograd.grad((out * push).sum(), x)[0]))
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert not any("forward" in vars(layer) for layer in layers)
    with quick_products(model, wanted=True):
        with quick_products(model, wanted=True):
            pass
        assert "forward" in vars(layers[0])  # the inner one leaves it to the outer one


def test_attributions_are_the_same_by_either_product(rough, tokenizer, monkeypatch):
    found = []
    for wanted in (False, True):
        monkeypatch.setattr(
            "recsys_lib.interpret.scores._leaves_vectors_unused", [bool, lambda: True][wanted]
        )
        found.append(attribute(rough(), tokenizer, TEXTS, steps=12))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a.values, b.values, rtol=1e-3, atol=1e-4)
