"""What the tests that rerun notebooks share."""

from pathlib import Path

import pytest

from recsys_lib.models import load_encoder, load_tokenizer


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """What one notebook builds there, a later one finds, as on an analyst's machine."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def without_real_data(runs, monkeypatch):
    """A machine on which only the market is found."""
    monkeypatch.setenv("RECSYS_RUNS", str(runs))
    monkeypatch.setenv("RECSYS_DATA", "")


@pytest.fixture(scope="session")
def shallow(tmp_path_factory) -> Path:
    """The built-in encoder without the upper two thirds of its layers: quicker, and it learns."""
    folder = tmp_path_factory.mktemp("shallow")
    encoder = load_encoder()
    encoder.encoder.layer = encoder.encoder.layer[:2]
    encoder.config.num_hidden_layers = 2
    encoder.config.pooling = "mean"
    encoder.save_pretrained(folder)
    load_tokenizer().save_pretrained(folder)
    return folder
