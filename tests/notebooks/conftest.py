"""What the tests of the notebooks share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_runs(tmp_path_factory) -> dict[bool, Path]:
    """One runs folder for the market and one for real data (True), empty at first.

    What one notebook builds there, a later one finds, as on a reader's machine.
    """
    return {real: tmp_path_factory.mktemp("real" if real else "market") for real in (False, True)}
