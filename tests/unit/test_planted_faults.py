"""A broken library function makes the suite fail, and in the right place.

Each fault is planted in a copy of the library; the test file that is there for it runs against the
copy. A fault that is not noticed means a test that cannot fail.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from recsys_lib.workbook.files import project_folder


@dataclass(frozen=True)
class Fault:
    """What is done to one line of the library, and which tests must notice."""

    file: str  # below recsys_lib/
    right: str  # stands in the file
    wrong: str
    tests: str  # the file below tests/unit/ whose tests must notice


FAULTS = {
    "wrong sign of the gradient": Fault(
        "losses/pointwise.py",
        "torch.sigmoid(z) - weight * y",
        "torch.sigmoid(z) + weight * y",
        "test_losses.py",
    ),
    "NDCG discounts one rank too much": Fault(
        "metrics/_formulas.py",
        "/ np.log2(1 + lists.rank)",
        "/ np.log2(2 + lists.rank)",
        "test_metrics_ranking.py",
    ),
    "a split that tears groups apart": Fault(
        "datasets/splits.py",
        "part = part_of_group[code]",
        "part = np.random.default_rng(seed).permutation(part_of_group[code])",
        "test_splits.py",
    ),
    "two groups swapped": Fault(
        "fairness/gaps.py",
        "a, b = draws.point[g, at], draws.rest[g, at]",
        "b, a = draws.point[g, at], draws.rest[g, at]",
        "test_fairness_groups.py",
    ),
    "a bootstrap that forgets the groups": Fault(
        "metrics/intervals.py",
        "unit, units = _units(groups, len(v))",
        "unit, units = _units(None, len(v))",
        "test_metrics.py",
    ),
    "gradients that add up": Fault(
        "training_loop.py",
        "optimizer.zero_grad(set_to_none=True)",
        "pass",
        "test_training.py",
    ),
}


@pytest.fixture
def copy(tmp_path) -> Path:
    """The project with a library of its own."""
    project = project_folder()
    shutil.copytree(
        project / "recsys_lib",
        tmp_path / "recsys_lib",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("tests", "data", "notebooks", "pyproject.toml"):
        (tmp_path / name).symlink_to(project / name)
    return tmp_path


def run(copy: Path, tests: str) -> subprocess.CompletedProcess:
    """A test file against the library of `copy`, up to the first failure."""
    options = ["-x", "-q", "--color=no", "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"tests/unit/{tests}"],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
    )


def test_without_a_fault_the_copy_passes(copy):
    done = run(copy, "test_splits.py")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_noticed(name, copy):
    fault = FAULTS[name]
    file = copy / "recsys_lib" / fault.file
    source = file.read_text(encoding="utf-8")
    assert fault.right in source, f"{fault.file} reads otherwise now"
    file.write_text(source.replace(fault.right, fault.wrong), encoding="utf-8")
    done = run(copy, fault.tests)
    assert done.returncode == 1, f"nothing noticed: {name}\n{done.stdout[-2000:]}{done.stderr}"
    assert f"FAILED tests/unit/{fault.tests}::" in done.stdout, done.stdout[-2000:]
