"""What the tests that rerun notebooks share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """What one notebook builds there, a later one finds, as on an analyst's machine."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def without_real_data(runs, monkeypatch):
    """A machine on which only the market is found."""
    monkeypatch.setenv("RECSYS_RUNS", str(runs))
    monkeypatch.setenv("RECSYS_DATA", "")
