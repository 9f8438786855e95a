"""Tiny random models, made here: the tests need no model but the built-in one."""

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel


def _new(kind: type, dropout: float, seed: int):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=30_522,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            num_labels=1,
        )
        return kind(config).eval()


@pytest.fixture
def tiny_classifier():
    """A new tiny one-logit BERT without dropout; the same weights every time."""

    def make(dropout: float = 0.0, seed: int = 0) -> BertForSequenceClassification:
        return _new(BertForSequenceClassification, dropout, seed)

    return make


@pytest.fixture
def tiny_encoder():
    """A new tiny BERT without a head and without dropout; the same weights every time."""

    def make(dropout: float = 0.0, seed: int = 0) -> BertModel:
        return _new(BertModel, dropout, seed)

    return make
