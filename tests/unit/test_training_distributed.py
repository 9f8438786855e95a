"""Two processes that train together are one process: its steps, its weights, its files."""

import numpy as np
import pandas as pd
import pytest
import torch

from recsys_lib.training import plan_steps
from tests.unit import fit_script
from tests.unit.processes import start


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The folder of each run, and what its processes ended with: one, and two together.

    The launcher of the two is told another precision than the configuration, which is the one that
    counts: in bf16 the losses would be up to 1.5e-4 off.
    """
    made = {}
    for name, two in (("one", False), ("two", True)):
        folder = tmp_path_factory.mktemp(name)
        start("-m", "tests.unit.fit_script", str(folder), two=two, mixed_precision="bf16")
        files = sorted(folder.glob("*.pt"))
        assert len(files) == (2 if two else 1)
        made[name] = folder, [torch.load(file, weights_only=True) for file in files]
    return made


def test_batches_and_their_shares_are_of_different_sizes():
    """Else the mean of the processes' means would be the mean of the rows, and prove nothing."""
    train, _ = fit_script.texts(50, 0)
    steps = plan_steps(train.lengths, fit_script.CONFIG)
    sizes = [[len(rows) for rows in step] for step in steps]
    assert any(a != b for a, b in sizes)
    odd = {size % 2 for step in sizes for size in step}
    assert odd == {0, 1}
    assert any(1 in step for step in sizes)  # one of the processes has nothing to do


def test_two_processes_take_the_steps_of_one(ended):
    (one,), both = ended["one"][1], ended["two"][1]
    for two in both:
        assert two["history"]["examples"] == one["history"]["examples"]
        for name in ("step", "epoch", "lr"):
            assert two["history"][name] == one["history"][name]
        # Of one step the sums are the same, in another order: some units in the last place (6e-8
        # of numbers near 1). AdamW makes more of them where a gradient is near 0; over all the
        # steps the largest difference of a weight was 6e-7. Weighing the processes' means equally
        # moves the losses by 2e-3.
        for name in ("loss", "grad_norm", "valid_loss", "valid_metric"):
            want, got = np.array(one["history"][name]), np.array(two["history"][name])
            np.testing.assert_allclose(got, want, atol=1e-5, rtol=0, err_msg=name)
        for name, value in one["weights"].items():
            difference = (two["weights"][name] - value).abs().max()
            assert difference < 1e-5, name
        assert two["best"][0] == one["best"][0]


def test_both_processes_end_with_the_same_bits(ended):
    first, second = ended["two"][1]
    assert first["weights"].keys() == second["weights"].keys()
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), name
    assert first["stepped"] == second["stepped"] == first["history"]["step"]


def test_only_the_main_process_writes(ended):
    run, (first, _) = ended["two"][0] / "run", ended["two"][1]
    (log,) = (run / "tensorboard").iterdir()
    (checkpoint,) = run.glob("*checkpoint*")
    assert checkpoint.name == f"checkpoint-{len(first['stepped']):08d}"
    history = pd.read_csv(run / "history.csv")
    assert history["loss"].tolist() == pytest.approx(first["history"]["loss"])
    assert log.stat().st_size > 0


def test_one_process_goes_on_with_what_two_have_saved(ended):
    again = fit_script.run(ended["two"][0])
    assert again["stepped"] == []
    for name, value in ended["two"][1][0]["weights"].items():
        assert torch.equal(again["weights"][name].cpu(), value), name
