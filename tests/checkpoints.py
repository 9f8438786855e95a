"""Tiny random checkpoints, made here: the tests need no model but the built-in one."""

from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
)

from recsys_lib.models import load_tokenizer

FAMILIES = ("bert", "distilbert", "gpt2")


def _tiny(family: str):
    torch.manual_seed(1)
    if family == "bert":
        return BertModel(
            BertConfig(
                hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
            )
        )
    if family == "distilbert":
        return DistilBertModel(DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64))
    return GPT2Model(GPT2Config(vocab_size=30_522, n_embd=32, n_layer=2, n_head=2, n_positions=128))


@pytest.fixture(scope="session")
def tokenizer():
    return load_tokenizer()


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory, tokenizer) -> dict[str, Path]:
    """Folders of tiny random checkpoints, by family."""
    made = {}
    for family in FAMILIES:
        folder = tmp_path_factory.mktemp(family)
        _tiny(family).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        made[family] = folder
    return made
