"""Encoding and batching against the tokenizer's own padding and truncation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lib.models import load_tokenizer
from recsys_lib.text import collate, encode, make_batches, padding_share
from recsys_lib.workbook import InputError

TEXTS = [
    "Warm and waterproof.",
    "",
    "not nearly as soft as I hoped " * 40,
    "😀 emoji, \u0000 control \x1b[31m characters & <script>alert(1)</script>",
    "Größe passt überhaupt nicht",
    "one",
]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer()


def test_batches_are_what_the_tokenizer_itself_pads_and_truncates(tokenizer):
    encoded = encode(tokenizer, TEXTS, max_length=24)
    theirs = tokenizer(
        TEXTS, truncation=True, max_length=24, padding="longest", return_tensors="pt"
    )
    ours = collate(encoded, np.arange(len(TEXTS)))
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    assert torch.equal(ours["attention_mask"], theirs["attention_mask"])
    assert "token_type_ids" not in ours


def test_pairs_are_what_the_tokenizer_itself_makes_of_them(tokenizer):
    second = list(reversed(TEXTS))
    encoded = encode(tokenizer, TEXTS, max_length=24, pairs=second)
    theirs = tokenizer(
        TEXTS, second, truncation=True, max_length=24, padding="longest", return_tensors="pt"
    )
    ours = collate(encoded, np.arange(len(TEXTS)))
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert torch.equal(ours[name], theirs[name]), name


def test_full_lengths_tell_which_texts_were_cut(tokenizer):
    encoded = encode(tokenizer, TEXTS, max_length=24)
    whole = [len(tokenizer(text, verbose=False)["input_ids"]) for text in TEXTS]
    assert encoded.full_lengths.tolist() == whole
    assert encoded.truncated.tolist() == [n > 24 for n in whole]
    assert encoded.lengths.max() == 24


def test_take_keeps_order_and_repeats(tokenizer):
    encoded = encode(tokenizer, TEXTS, max_length=24)
    rows = np.array([4, 0, 4, 2])
    assert torch.equal(
        collate(encoded.take(rows), [0, 1, 2, 3])["input_ids"],
        collate(encoded, rows)["input_ids"],
    )
    assert len(encoded.take(encoded.lengths > 3)) == int((encoded.lengths > 3).sum())
    assert len(encoded.take(np.array([], dtype=int))) == 0


def test_padding_options(tokenizer):
    encoded = encode(tokenizer, TEXTS, max_length=24)
    assert collate(encoded, [0], multiple_of=16)["input_ids"].shape == (1, 16)
    assert collate(encoded, [2], multiple_of=16)["input_ids"].shape == (
        1,
        24,
    )  # not beyond the limit
    assert collate(encoded, [0, 2], pad_to=32)["input_ids"].shape == (2, 32)
    with pytest.raises(InputError, match="24 tokens"):
        collate(encoded, [0, 2], pad_to=16)


def test_a_megabyte_of_text_is_one_truncated_row(tokenizer):
    encoded = encode(tokenizer, ["so warm " * 131_072, "x" * 1_000_000], max_length=64)
    assert encoded.lengths.tolist() == [64, 3]  # a word of a million letters is one unknown token
    assert encoded.full_lengths[0] == 2 * 131_072 + 2


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (["fine", None], {}, "text 1 is NoneType"),
        (["fine", float("nan")], {}, "text 1 is float"),
        (["fine"], {"max_length": 2}, "max_length=2"),
        (["a", "b"], {"pairs": ["c"]}, "2 texts but 1 pairs"),
        (["fine 🙂", "half \ud83d"], {}, "text 1 has half a character"),
    ],
)
def test_bad_input_is_one_clear_line(tokenizer, texts, options, message):
    with pytest.raises(InputError, match=message) as caught:
        encode(tokenizer, texts, **options)
    assert "\n" not in str(caught.value)


def test_no_texts_make_no_batches(tokenizer):
    encoded = encode(tokenizer, [])
    assert len(encoded) == 0
    assert make_batches(encoded.lengths) == []


lengths_strategy = st.lists(st.integers(2, 200), min_size=1, max_size=300).map(np.array)


@settings(max_examples=60)
@given(
    lengths=lengths_strategy,
    batch_size=st.none() | st.integers(1, 40),
    max_tokens=st.none() | st.integers(50, 2_000),
    by_length=st.booleans(),
    shuffle=st.booleans(),
)
def test_every_row_once_and_within_the_limits(lengths, batch_size, max_tokens, by_length, shuffle):
    batches = make_batches(
        lengths,
        batch_size=batch_size,
        max_tokens=max_tokens,
        by_length=by_length,
        shuffle=shuffle,
        seed=3,
    )
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for rows in batches:
        if max_tokens is not None and len(rows) > 1:
            assert len(rows) * lengths[rows].max() <= max_tokens
        limit = batch_size or (32 if max_tokens is None else len(lengths))
        assert 1 <= len(rows) <= limit


def test_order_follows_from_seed_and_epoch_alone():
    lengths = np.random.default_rng(0).integers(5, 120, 2_000)

    def order(seed, epoch):
        return np.concatenate(make_batches(lengths, batch_size=16, seed=seed, epoch=epoch)).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_batches_of_like_length_waste_little_and_stay_random():
    lengths = np.random.default_rng(0).integers(5, 120, 4_000)
    like = make_batches(lengths, batch_size=32, seed=0)
    mixed = make_batches(lengths, batch_size=32, seed=0, by_length=False)
    # uniform lengths: the longest of 32 is about 116, the mean 62, so nearly half is padding
    assert 0.40 < padding_share(lengths, mixed) < 0.52
    assert padding_share(lengths, like) < 0.03
    means = [lengths[rows].mean() for rows in like]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3  # not sorted over the epoch


def test_padding_share_counts_the_cells_of_the_tensors(tokenizer):
    encoded = encode(tokenizer, TEXTS, max_length=24)
    batches = make_batches(encoded.lengths, batch_size=2, seed=0)
    masks = [collate(encoded, rows)["attention_mask"] for rows in batches]
    cells, used = sum(m.numel() for m in masks), sum(int(m.sum()) for m in masks)
    assert padding_share(encoded.lengths, batches) == pytest.approx(1 - used / cells)
    fixed = padding_share(encoded.lengths, batches, pad_to=32)
    assert fixed == pytest.approx(1 - used / (32 * len(TEXTS)))


@pytest.mark.parametrize("limits", [{"batch_size": 0}, {"max_tokens": 0}])
def test_limits_of_a_batch_must_be_positive(limits):
    with pytest.raises(InputError, match="must be at least 1"):
        make_batches(np.array([3, 4]), **limits)
