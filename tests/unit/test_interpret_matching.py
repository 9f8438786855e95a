"""Pairs of words add up to the cosine; their derivatives are those of finite differences."""

import numpy as np
import pytest
import torch

from recsys_lib.interpret.matching import integrated_pairs, match_pairs
from recsys_lib.models import embed, load_encoder
from recsys_lib.text import encode
from recsys_lib.workbook import InputError

QUERIES = ["navy sneakers for guys", "waterproof jacket", "unbelievably soft scarf"]
PRODUCTS = ["Men's trainers, dark blue", "Rain jacket with a hood, red", "Wool scarf"]


@pytest.fixture(scope="module")
def encoder():
    return load_encoder()


def test_pairs_add_up_to_the_cosine_of_the_library(encoder, tokenizer):
    matches = match_pairs(encoder, tokenizer, QUERIES, PRODUCTS)
    left, right = (
        embed(encoder, encode(tokenizer, texts), precision="fp32") for texts in (QUERIES, PRODUCTS)
    )
    for match, a, b in zip(matches, left, right, strict=True):
        assert match.error < 1e-12  # a sum in float64
        assert match.score == match.cosine
        assert match.score == pytest.approx(float(a @ b), abs=1e-6)  # float32 states


def test_words_are_whole_and_special_tokens_visible(encoder, tokenizer):
    match = match_pairs(encoder, tokenizer, ["unbelievably soft!"], ["Men's wool"])[0]
    assert match.query == ("[CLS]", "unbelievably", "soft", "!", "[SEP]")
    assert match.product == ("[CLS]", "Men's", "wool", "[SEP]")
    assert match.values.shape == (5, 4)
    assert match.special[0].tolist() == [True, False, False, False, True]
    inner = match.values[1:-1, 1:-1].sum()
    assert match.special_share == pytest.approx(match.score - inner)


def test_a_word_of_several_pieces_is_their_sum(tiny_encoder, tokenizer):
    """By hand: the terms of the token states, added up over the pieces of "unbelievably"."""
    model, query, product = tiny_encoder(), "unbelievably soft", "wool"
    pieces = tokenizer(query)["input_ids"]
    assert len(pieces) > 4  # otherwise nothing is added up
    states = []
    for text in (query, product):
        with torch.no_grad():
            states.append(model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0])
    h, g = (s.double().numpy() for s in states)
    terms = h @ g.T / len(h) / len(g) / np.linalg.norm(h.mean(0)) / np.linalg.norm(g.mean(0))
    match = match_pairs(model, tokenizer, [query], [product])[0]
    assert match.query == ("[CLS]", "unbelievably", "soft", "[SEP]")
    by_hand = np.stack([terms[0], terms[1:-2].sum(0), terms[-2], terms[-1]])
    assert match.values == pytest.approx(by_hand, abs=1e-6)


def test_the_same_text_meets_itself_with_cosine_one(encoder, tokenizer):
    match = match_pairs(encoder, tokenizer, ["red wool scarf"], ["red wool scarf"])[0]
    assert match.score == pytest.approx(1.0, abs=1e-12)
    assert match.values == pytest.approx(match.values.T)


def test_integrated_pairs_add_up(encoder, tokenizer):
    """16 points of the path leave an error of less than 1 % of the score's range of 2."""
    for match in integrated_pairs(encoder, tokenizer, QUERIES[:1], PRODUCTS[:1], steps=16):
        assert match.error < 0.01
        assert match.special_share == pytest.approx(0, abs=1e-12)
        assert match.values[1:-1, 1:-1].std() > 0


def test_integrated_pairs_converge(tiny_encoder, tokenizer):
    few, many = (
        integrated_pairs(tiny_encoder(), tokenizer, QUERIES[:1], PRODUCTS[:1], steps=steps)[0]
        for steps in (1, 24)
    )
    assert many.error < 1e-5  # float32
    assert many.error < few.error


def test_integrated_pairs_of_a_linear_encoder_are_known(tokenizer, monkeypatch):
    """Where e is linear in each token, the Jacobian is constant and A_i = (x_i − r_i) / T."""

    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding.from_pretrained(torch.randn(30_522, 8))
            self.config = type("Config", (), {"hidden_size": 8})

        def get_input_embeddings(self):
            return self.table

        def forward(self, inputs_embeds, attention_mask):
            return type("Out", (), {"last_hidden_state": inputs_embeds})

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Linear()
    monkeypatch.setattr(torch.nn.functional, "normalize", lambda x, dim: x)
    match = integrated_pairs(model, tokenizer, ["soft wool"], ["red scarf"], steps=1)[0]
    table = model.table.weight.detach().double().numpy()
    ids = [tokenizer(text)["input_ids"] for text in ("soft wool", "red scarf")]
    a, b = ((table[x] - table[tokenizer.pad_token_id]) / len(x) for x in ids)
    assert match.values[1:-1, 1:-1] == pytest.approx(a[1:-1] @ b[1:-1].T, rel=1e-5)


def test_bad_input_gets_one_line(tiny_encoder, tokenizer):
    model = tiny_encoder()
    cases = [
        (lambda: match_pairs(model, tokenizer, ["a"], []), "1 queries but 0 products"),
        (lambda: match_pairs(model, tokenizer, ["a"], [" "]), "product 0 is empty"),
        (lambda: match_pairs(model, tokenizer, ["a b c"], ["a"], max_length=4), "query 0 has 5"),
        (lambda: match_pairs(model, tokenizer, ["a"], ["a"], pooling="first"), "one pair"),
        (lambda: integrated_pairs(model, tokenizer, ["a"], ["a"], steps=0), "at least 1"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()
