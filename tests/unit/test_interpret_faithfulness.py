"""Erasure against a plain loop, infidelity and sensitivity against Captum's definitions."""

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from transformers import BertConfig, BertForSequenceClassification

from recsys_lib.interpret.attribution import Attribution
from recsys_lib.interpret.faithfulness import erasure, infidelity, max_sensitivity
from recsys_lib.interpret.words import Words
from recsys_lib.workbook import InputError

TEXTS = ["unbelievably soft wool", "the zipper broke after a week", "red"]


class Additive(torch.nn.Module):
    """The log-odds are the sum of one weight per token: every explanation of it is known."""

    def __init__(self, vocabulary: int = 30_522):
        super().__init__()
        weight = torch.randn(vocabulary, 1, generator=torch.Generator().manual_seed(0))
        weight[:110] = 0.0  # special tokens, padding and mask among them
        self.table = torch.nn.Embedding.from_pretrained(weight)

    def get_input_embeddings(self):
        return self.table

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None, **_):
        vectors = self.table(input_ids) if inputs_embeds is None else inputs_embeds
        logits = (vectors * attention_mask[..., None]).sum(1)
        return type("Out", (), {"logits": logits})


def explain(tokenizer, text, value_of):
    """An attribution with the value `value_of(token id)` for each token."""
    encoded = tokenizer(text, return_offsets_mapping=True)
    offsets = np.array(encoded["offset_mapping"], dtype=np.int64)
    ids = encoded["input_ids"]
    values = np.array([value_of(i) for i in ids]) * (offsets[:, 1] > offsets[:, 0])
    tokens = tuple(tokenizer.convert_ids_to_tokens(ids))
    score = float(values.sum())
    return Attribution(text, tokens, offsets, values, score, 0.0, False, "known")


def in_words(text, values):
    ends = np.cumsum([len(word) + 1 for word in text.split(" ")]) - 1
    spans = np.stack([np.r_[0, ends[:-1] + 1], ends], axis=1)
    return Words(text, spans, np.asarray(values, dtype=np.float64), rest=0.0)


def probability(model, tokenizer, text, side):
    with torch.no_grad():
        z = float(model(**tokenizer(text, return_tensors="pt")).logits[0, 0])
    return 1 / (1 + np.exp(-side * z))


def test_erasure_is_that_of_the_texts_without_the_words(tiny_classifier, tokenizer):
    """Dropping tokens must equal tokenizing the text without the words, one text at a time."""
    model, rng = tiny_classifier(), np.random.default_rng(0)
    explained = [in_words(text, rng.normal(size=len(text.split(" ")))) for text in TEXTS]
    found = erasure(model, tokenizer, explained, shares=[0.1, 0.4, 0.7])
    assert found.shares.tolist() == [0, 0.1, 0.4, 0.7, 1]
    for row, words in enumerate(explained):
        listed = words.text.split(" ")
        side = 1 if probability(model, tokenizer, words.text, 1) >= 0.5 else -1
        order = np.argsort(-side * words.values)
        for column, share in enumerate(found.shares):
            top = set(order[: int(np.ceil(share * len(listed) - 1e-9))])
            without = " ".join(w for i, w in enumerate(listed) if i not in top)
            only = " ".join(w for i, w in enumerate(listed) if i in top)
            for curve, text in ((found.deletion, without), (found.insertion, only)):
                expected = probability(model, tokenizer, text, side)
                assert curve[row, column] == pytest.approx(expected, abs=1e-5)  # float32


def test_values_without_a_sign_are_taken_largest_first(tokenizer):
    """The model says no; a signed value of 3 speaks against that, attention of 3 is attention."""
    model = Additive()
    weight = model.table.weight.detach().numpy()[:, 0]
    words = ["red", "soft", "bad", "wool", "zip", "new"]
    low, high = (f(words, key=lambda w: weight[tokenizer(w)["input_ids"][1]]) for f in (min, max))
    text = f"{low} {low} {high}"
    assert probability(model, tokenizer, text, -1) > 0.5
    for signed, left in ((False, f"{low} {high}"), (True, f"{low} {low}")):
        found = erasure(
            model, tokenizer, [in_words(text, [3.0, 2.0, 1.0])], shares=[0.3], signed=signed
        )
        expected = probability(model, tokenizer, left, -1)
        assert found.deletion[0, 1] == pytest.approx(expected, abs=1e-5)


def test_masking_keeps_the_places(tiny_classifier, tokenizer):
    model = tiny_classifier()
    found = erasure(model, tokenizer, [in_words("soft wool", [2.0, 1.0])], removal="mask")
    side = 1 if probability(model, tokenizer, "soft wool", 1) >= 0.5 else -1
    values = np.array([2.0, 1.0]) * side
    text = "[MASK] wool" if values[0] > values[1] else "soft [MASK]"
    expected = probability(model, tokenizer, text, side)
    assert found.deletion[0, found.shares == 0.5][0] == pytest.approx(expected, abs=1e-5)
    empty = probability(model, tokenizer, "[MASK] [MASK]", side)
    assert found.deletion[0, -1] == found.insertion[0, 0] == pytest.approx(empty, abs=1e-5)


def test_true_values_beat_a_random_and_a_reversed_order(tokenizer):
    """Where the model is a sum, no order can beat that of the summands."""
    model, rng = Additive(), np.random.default_rng(1)
    weight = model.table.weight.detach().numpy()[:, 0]
    texts = [" ".join(rng.choice(["red", "soft", "bad", "wool", "zip", "new", "fit"], 6,
                                 replace=False)) for _ in range(20)]  # fmt: skip
    true = [
        in_words(text, [weight[i] for i in tokenizer(text)["input_ids"][1:-1]]) for text in texts
    ]
    orders = {
        "true": true,
        "random": [Words(w.text, w.spans, rng.permutation(w.values), 0.0) for w in true],
        "reversed": [Words(w.text, w.spans, -w.values, 0.0) for w in true],
    }
    curves = {
        name: erasure(model, tokenizer, words, shares=[0.2, 0.4, 0.6, 0.8])
        for name, words in orders.items()
    }
    for other in ("random", "reversed"):
        for measure, better in (("deletion_area", -1), ("insertion_area", 1),
                                ("comprehensiveness", 1), ("sufficiency", -1)):  # fmt: skip
            gain = better * (getattr(curves["true"], measure) - getattr(curves[other], measure))
            assert (gain >= -1e-6).all(), (other, measure)
            assert gain.mean() > 0.01, (other, measure)


def test_areas_and_eraser_measures_by_hand(tokenizer):
    found = erasure(Additive(), tokenizer, [in_words("soft red wool", [3.0, 2, 1])], shares=[0.5])
    d, i = found.deletion[0], found.insertion[0]
    assert found.deletion_area[0] == pytest.approx(0.25 * d[0] + 0.5 * d[1] + 0.25 * d[2])
    assert found.insertion_area[0] == pytest.approx(0.25 * i[0] + 0.5 * i[1] + 0.25 * i[2])
    assert found.comprehensiveness[0] == pytest.approx(d[0] - d[1])
    assert found.sufficiency[0] == pytest.approx(d[0] - i[1])
    assert d[0] == pytest.approx(i[-1])


def test_infidelity_is_captums(tiny_classifier, tokenizer, monkeypatch):
    """The same sets of tokens, through `captum.metrics.infidelity`, for both scalings."""
    model = tiny_classifier()
    rng = np.random.default_rng(0)
    texts = [explain(tokenizer, text, lambda _: rng.normal()) for text in TEXTS[:2]]
    drawn = []
    from recsys_lib.interpret import faithfulness

    draw = faithfulness._random_sets
    monkeypatch.setattr(
        faithfulness, "_random_sets", lambda *args: drawn.append(draw(*args)) or drawn[-1]
    )
    for normalize in (True, False):
        drawn.clear()
        found = infidelity(model, tokenizer, {"a": texts}, n_samples=6, normalize=normalize)
        for row, (text, taken) in enumerate(zip(texts, drawn, strict=True)):
            ids = torch.tensor(tokenizer(text.text)["input_ids"])

            def score(present, ids=ids):
                read = torch.where(present > 0.5, ids, tokenizer.pad_token_id)
                with torch.no_grad():
                    return model(read, attention_mask=torch.ones_like(read)).logits[:, 0]

            def perturb(present, taken=taken):
                mask = torch.from_numpy(taken).float()
                return mask, present - mask

            expected = captum_infidelity(
                score, perturb, torch.ones(1, len(ids)),
                torch.from_numpy(text.values)[None].float(),
                n_perturb_samples=6, normalize=normalize,
            )  # fmt: skip
            assert found.loc[row, "a"] == pytest.approx(float(expected), rel=1e-3, abs=1e-6)


def test_infidelity_of_the_true_values_is_zero(tokenizer):
    model = Additive()
    weight = model.table.weight.detach().numpy()[:, 0]
    rng = np.random.default_rng(0)
    methods = {
        "true": [explain(tokenizer, t, lambda i: weight[i]) for t in TEXTS],
        "scaled": [explain(tokenizer, t, lambda i: 7 * weight[i]) for t in TEXTS],
        "random": [explain(tokenizer, t, lambda _: rng.normal()) for t in TEXTS],
    }
    found = infidelity(model, tokenizer, methods)
    assert found["true"].max() < 1e-10  # float32 scores of size 1
    assert found["scaled"].max() < 1e-10  # the best factor takes the scale away
    assert found["random"].iloc[:2].min() > 1e-3  # one word alone can always be scaled right
    assert infidelity(model, tokenizer, methods, normalize=False)["scaled"].min() > 1e-3


def test_sensitivity_of_a_sum_is_known(tokenizer):
    """Gradients of a sum are 1: gradient × input is the input, and moves as the input does."""
    model, radius = Additive(), 0.1
    found = max_sensitivity(
        model, tokenizer, TEXTS[:2], method="gradient_x_input", radius=radius, n_samples=50
    )
    for value, text in zip(found, TEXTS[:2], strict=True):
        x = model.table(torch.tensor(tokenizer(text)["input_ids"])).detach()
        most = radius * float(x.std()) * np.sqrt(len(x)) / float(x.norm())
        assert 0.5 * most < value <= most  # the largest of 50 draws from the cube is near its edge


def test_sensitivity_grows_with_the_radius_and_follows_the_seed(tiny_classifier, tokenizer):
    options = {"method": "integrated_gradients", "n_samples": 3, "steps": 4}
    model = tiny_classifier()
    small, large, again = (
        max_sensitivity(model, tokenizer, TEXTS, radius=radius, **options)
        for radius in (0.01, 0.3, 0.01)
    )
    assert (small > 0).all() and (small < large).all()
    assert np.array_equal(small, again)


def test_two_logits_are_read_as_their_difference(tokenizer):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                            intermediate_size=32, num_labels=2)  # fmt: skip
        model = BertForSequenceClassification(config).eval()
    found = erasure(model, tokenizer, [in_words("soft wool", [1.0, 0.0])])
    with torch.no_grad():
        logits = model(**tokenizer("soft wool", return_tensors="pt")).logits[0]
    assert found.deletion[0, 0] == pytest.approx(float(logits.softmax(0).max()), abs=1e-5)


def test_bad_input_gets_one_line(tiny_classifier, tokenizer):
    model, words = tiny_classifier(), in_words("soft wool", [1.0, 0.0])
    empty = Words("  ", np.zeros((0, 2), dtype=np.int64), np.zeros(0), 0.0)
    text, other = (explain(tokenizer, t, lambda _: 1.0) for t in TEXTS[:2])
    cases = [
        (lambda: erasure(model, tokenizer, [words], shares=[1.5]), "between 0 and 1"),
        (lambda: erasure(model, tokenizer, [words], removal="pad"), "not one of drop, mask"),
        (lambda: erasure(model, tokenizer, [empty]), "text 0 has no words"),
        (lambda: erasure(model, tokenizer, [in_words("a", [np.nan])]), "not a finite number"),
        (lambda: infidelity(model, tokenizer, {"a": [text], "b": [other]}), "texts of 'b'"),
        (lambda: infidelity(model, tokenizer, {}), "at least one method"),
        (lambda: infidelity(model, tokenizer, {"a": [text]}, baseline="zero"), "'pad' or 'mask'"),
        (lambda: infidelity(model, tokenizer, {"a": [text]}, share=0), "above 0"),
        (lambda: max_sensitivity(model, tokenizer, TEXTS, method="occlusion"), "functions of"),
        (lambda: max_sensitivity(model, tokenizer, TEXTS, radius=0), "above 0"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()
