"""The loop against transformers' Trainer, against itself interrupted, and against bad input."""

import errno
import math
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from transformers import Trainer, TrainerCallback, TrainingArguments, get_scheduler

from recsys_lib import training_loop
from recsys_lib.losses import bce_with_logits
from recsys_lib.models import attention_backend
from recsys_lib.text import collate, encode
from recsys_lib.training import TrainConfig, TrainingError, fit, learning_rate, plan_steps, predict
from recsys_lib.workbook import InputError

GOOD = ["soft", "warm", "lovely", "perfect", "flattering"]
BAD = ["itchy", "thin", "awful", "torn", "shapeless"]
FILLER = ["the", "coat", "and", "my", "sleeve", "was", "in", "store", "a", "day"]


def reviews(n: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Texts whose label is a single word among filler."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    texts = []
    for label in labels:
        words = rng.choice(FILLER, rng.integers(3, 25)).tolist()
        words.insert(rng.integers(0, len(words)), str(rng.choice(GOOD if label else BAD)))
        texts.append(" ".join(words))
    return texts, labels


@pytest.fixture(scope="module")
def parts():
    from recsys_lib.models import load_tokenizer

    tokenizer = load_tokenizer()
    made = []
    for n, seed in ((192, 0), (96, 1)):
        texts, labels = reviews(n, seed)
        made.append((encode(tokenizer, texts, max_length=32), labels))
    return made


FAST = TrainConfig(epochs=2, lr=3e-3, batch_size=16, precision="fp32")
LONG = TrainConfig(epochs=5, lr=5e-3, batch_size=16, precision="fp32")


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same_bits(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_learns_what_can_be_learned_and_nothing_from_shuffled_labels(parts, tiny_classifier):
    (train, labels), valid = parts
    model = tiny_classifier()
    result = fit(model, train, labels, config=LONG, valid=valid)
    assert result.best_metric > 0.95
    shuffled = np.random.default_rng(0).permutation(labels)
    model = tiny_classifier()
    result = fit(model, train, shuffled, config=LONG, valid=valid)
    # the standard error of an AUC of 0.5 over 48 + 48 rows is about 0.06
    assert abs(result.history["valid_metric"].dropna().iloc[-1] - 0.5) < 0.25


def test_history_and_summary_agree(parts, tiny_classifier):
    (train, labels), valid = parts
    result = fit(tiny_classifier(), train, labels, config=FAST, valid=valid)
    history = result.history
    assert history["step"].tolist() == list(range(1, 25))
    assert history["examples"].sum() == 2 * len(train)
    assert history["epoch"].iloc[-1] == 2 and history["epoch"].is_monotonic_increasing
    assert result.steps == 24 and not result.stopped_early
    assert history["valid_metric"].notna().sum() == 2
    best = history.loc[history["valid_metric"].idxmax()]
    assert (result.best_step, result.best_metric) == (best["step"], best["valid_metric"])
    assert result.examples_per_second == pytest.approx(2 * len(train) / history["seconds"].iloc[-1])


class _Losses(TrainerCallback):
    def __init__(self):
        self.losses = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.losses.append(logs["loss"])


@pytest.mark.parametrize("accumulate", [1, 3])
def test_same_losses_and_weights_as_the_trainer_given_the_same_batches(
    parts, tiny_classifier, tmp_path, accumulate
):
    (train, labels), _ = parts
    config = TrainConfig(
        epochs=1, lr=1e-3, batch_size=16, accumulate=accumulate, precision="fp32", clip=0.5
    )
    ours = tiny_classifier()
    result = fit(ours, train, labels, config=config)

    batches = [rows for step in plan_steps(train.lengths, config) for rows in step]
    theirs = tiny_classifier()
    theirs.config.problem_type = "multi_label_classification"  # BCE on float labels (rows, 1)
    seen = _Losses()

    class SameBatches(Trainer):
        def __init__(self, **options):
            super().__init__(**options)
            # a model whose forward takes **kwargs is believed to divide by the number of
            # accumulated batches itself; a classifier's does not, and the sum would stay a sum
            self.model_accepts_loss_kwargs = False

        def get_train_dataloader(self):
            return [
                {
                    **collate(train, rows),
                    "labels": torch.tensor(labels[rows], dtype=torch.float32)[:, None],
                }
                for rows in batches
            ]

    SameBatches(
        model=theirs,
        args=TrainingArguments(
            output_dir=str(tmp_path),
            max_steps=math.ceil(len(batches) / accumulate),
            learning_rate=config.lr,
            warmup_steps=math.ceil(math.ceil(len(batches) / accumulate) * config.warmup),
            weight_decay=config.weight_decay,
            max_grad_norm=config.clip,
            gradient_accumulation_steps=accumulate,
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=[None] * len(batches),
        callbacks=[seen],
    ).train()
    assert len(seen.losses) == result.steps
    assert np.abs(result.history["loss"] - np.array(seen.losses)).max() < 1e-6
    for name, value in theirs.state_dict().items():
        assert (ours.state_dict()[name] - value).abs().max() < 1e-6, name


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_learning_rates_are_those_of_transformers(schedule):
    config = TrainConfig(lr=1.0, warmup=0.25, schedule=schedule)
    name = "constant_with_warmup" if schedule == "constant" else schedule
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=5, num_training_steps=20)
    for step in range(20):
        assert learning_rate(step, 20, config) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


def test_accumulated_small_batches_are_one_large_batch(parts, tiny_classifier):
    (train, labels), _ = parts
    one, many = tiny_classifier(), tiny_classifier()
    options = {"epochs": 1, "lr": 1e-3, "precision": "fp32", "by_length": False, "shuffle": False}
    whole = fit(one, train, labels, config=TrainConfig(batch_size=48, **options))
    parts_ = fit(many, train, labels, config=TrainConfig(batch_size=16, accumulate=3, **options))
    assert np.abs(whole.history["loss"] - parts_.history["loss"]).max() < 1e-6
    for a, b in zip(one.parameters(), many.parameters(), strict=True):
        assert (a - b).abs().max() < 1e-5


def test_the_same_seed_gives_the_same_bits_and_leaves_the_generator_alone(parts, tiny_classifier):
    (train, labels), _ = parts
    state = torch.get_rng_state()
    models = [tiny_classifier(dropout=0.1) for _ in range(3)]
    for model, seed in zip(models, (5, 5, 6), strict=True):
        fit(model, train, labels, config=TrainConfig(epochs=0.5, batch_size=16, seed=seed))
    assert torch.equal(torch.get_rng_state(), state)
    assert same_bits(weights(models[0]), weights(models[1]))
    assert not same_bits(weights(models[0]), weights(models[2]))


def test_a_trainer_before_does_not_decide_how_fit_computes(
    parts, tiny_classifier, tmp_path, monkeypatch
):
    """Its precision stays in the process; accelerate refuses another one, in a traceback."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # which the arguments overwrite
    (train, labels), _ = parts
    config = TrainConfig(epochs=0.25, batch_size=16, seed=5, precision="fp32")
    models = [tiny_classifier() for _ in range(2)]
    fit(models[0], train, labels, config=config)
    TrainingArguments(output_dir=str(tmp_path), use_cpu=True, bf16=True, report_to=[]).device  # noqa: B018
    Accelerator(mixed_precision="bf16", cpu=True)  # what Trainer makes of these arguments
    fit(models[1], train, labels, config=config)
    assert same_bits(weights(models[0]), weights(models[1]))


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("at", [1, 7, 8, 12, 13, 23, 24])
def test_killed_at_any_step_and_resumed_ends_with_the_same_bits(
    parts, tiny_classifier, tmp_path, at
):
    (train, labels), valid = parts
    config = TrainConfig(
        epochs=2, lr=3e-3, batch_size=16, eval_every=6, checkpoint_every=4, precision="bf16"
    )

    def run(folder, on_step=None):
        model = tiny_classifier(dropout=0.1)
        result = fit(
            model, train, labels, config=config, valid=valid, run_dir=folder, on_step=on_step
        )
        return weights(model), result

    def die(step):
        if step == at:
            raise _Killed

    whole, want = run(tmp_path / "whole")
    with pytest.raises(_Killed):
        run(tmp_path / "broken", die)
    resumed, got = run(tmp_path / "broken")
    assert same_bits(whole, resumed)
    columns = ["step", "loss", "lr", "grad_norm", "valid_loss", "valid_metric"]
    pd.testing.assert_frame_equal(want.history[columns], got.history[columns], check_exact=True)
    assert (want.best_step, want.best_metric) == (got.best_step, got.best_metric)
    finished, again = run(tmp_path / "broken", on_step=lambda step: pytest.fail("nothing is left"))
    assert same_bits(whole, finished) and again.steps == want.steps
    logged = pd.read_csv(tmp_path / "broken" / "history.csv")
    assert logged["loss"].to_numpy() == pytest.approx(want.history["loss"].to_numpy())


def test_killed_by_the_system_while_saving_a_checkpoint(parts, tmp_path):
    """SIGKILL in the middle of a write: the checkpoint before it is whole, and the run goes on."""
    program = textwrap.dedent(
        """
        import os, signal, sys
        import numpy as np, torch
        from transformers import BertConfig, BertForSequenceClassification
        from recsys_lib import checkpoints, training
        from recsys_lib.text import Encoded
        rng = np.random.default_rng(0)
        offsets = np.arange(0, 65 * 8, 8)
        data = Encoded(rng.integers(5, 90, 64 * 8).astype(np.int32), offsets,
                       np.full(64, 8, np.int32), 0, 8)
        torch.manual_seed(0)
        model = BertForSequenceClassification(BertConfig(vocab_size=100, hidden_size=16,
            num_hidden_layers=1, num_attention_heads=1, intermediate_size=16, num_labels=1))
        if sys.argv[2] == "kill":
            save = checkpoints.save_file
            def dying(tensors, path):
                if "checkpoint-00000006" in str(path):
                    path.write_bytes(b"half")
                    os.kill(os.getpid(), signal.SIGKILL)
                save(tensors, path)
            checkpoints.save_file = dying
        config = training.TrainConfig(epochs=1, batch_size=8, checkpoint_every=2)
        steps = []
        training.fit(model, data, rng.integers(0, 2, 64), config=config, run_dir=sys.argv[1],
                     progress=False, on_step=steps.append)
        print(steps, float(sum(p.double().sum() for p in model.parameters())))
        """
    )

    def run(folder, mode):
        command = [sys.executable, "-c", program, str(folder), mode]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    whole = run(tmp_path / "whole", "run")
    assert whole.returncode == 0, whole.stderr
    killed = run(tmp_path / "broken", "kill")
    assert killed.returncode == -signal.SIGKILL
    assert [p.name for p in (tmp_path / "broken").glob("checkpoint-*")] == ["checkpoint-00000004"]
    resumed = run(tmp_path / "broken", "run")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.startswith("[5, 6, 7, 8]")
    assert resumed.stdout.split("]")[1] == whole.stdout.split("]")[1]
    assert not list((tmp_path / "broken").glob(".checkpoint-*"))


def test_a_full_disk_keeps_the_checkpoint_before(parts, tiny_classifier, tmp_path, monkeypatch):
    (train, labels), _ = parts
    config = TrainConfig(epochs=1, batch_size=16, checkpoint_every=4)
    saved = training_loop.save_checkpoint

    def full_at_eight(folder, identity, **kwargs):
        if kwargs["state"]["step"] == 8:

            def full(*args, **options):
                raise OSError(28, "No space left on device")

            monkeypatch.setattr("recsys_lib.checkpoints.save_file", full)
        saved(folder, identity, **kwargs)

    monkeypatch.setattr(training_loop, "save_checkpoint", full_at_eight)
    with pytest.raises(InputError, match="the disk is full"):
        fit(tiny_classifier(), train, labels, config=config, run_dir=tmp_path)
    assert [p.name for p in tmp_path.glob("*checkpoint-*")] == ["checkpoint-00000004"]
    load_file(tmp_path / "checkpoint-00000004" / "model.safetensors")


@pytest.mark.parametrize("rows", [-2, 0, 5])
def test_a_full_disk_under_the_training_log_is_one_line(
    parts, tiny_classifier, tmp_path, monkeypatch, capfd, rows
):
    """The kernel itself answers ENOSPC: after so many rows the log is written to /dev/full."""
    (train, labels), _ = parts
    opened, logged = Path.open, []

    def on_a_disk_that_fills_up(path, *args, **kwargs):
        if path.parent.name == "tensorboard":
            logged.append(path)
            path = Path("/dev/full") if len(logged) > rows + 2 else path  # two entries at the start
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", on_a_disk_that_fills_up)
    config = TrainConfig(epochs=1, batch_size=16, checkpoint_every=4)
    with pytest.raises(InputError, match=r"the disk is full: the training log .* RECSYS_RUNS"):
        fit(tiny_classifier(), train, labels, config=config, run_dir=tmp_path, progress=False)
    assert len(logged) == rows + 3
    kept = ["checkpoint-00000004"] if rows > 4 else []
    assert [p.name for p in tmp_path.glob("checkpoint-*")] == kept
    assert capfd.readouterr().err == ""  # no traceback of another thread either


def test_a_full_disk_for_the_run_folder_is_one_line(parts, tiny_classifier, tmp_path, monkeypatch):
    (train, labels), _ = parts

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(InputError, match="the disk is full: the training run"):
        fit(tiny_classifier(), train, labels, config=FAST, run_dir=tmp_path / "new" / "run")


def test_a_full_disk_under_the_history_is_one_line(parts, tiny_classifier, tmp_path, monkeypatch):
    (train, labels), _ = parts
    opened = Path.open

    def on_a_full_disk(path, *args, **kwargs):
        if path.name.startswith(".history.csv"):
            return opened(Path("/dev/full"), "wb")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", on_a_full_disk)
    config = TrainConfig(epochs=0.5, batch_size=16)
    with pytest.raises(InputError, match=r"the disk is full: history\.csv"):
        fit(tiny_classifier(), train, labels, config=config, run_dir=tmp_path, progress=False)


def test_another_run_in_the_folder_is_refused_and_kept(parts, tiny_classifier, tmp_path):
    (train, labels), _ = parts
    config = TrainConfig(epochs=0.5, batch_size=16)
    fit(tiny_classifier(), train, labels, config=config, run_dir=tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for other in (
        {"config": TrainConfig(epochs=0.5, batch_size=16, seed=1)},
        {"labels": 1 - labels},
        {"model": tiny_classifier(seed=1)},
    ):
        arguments = {"model": tiny_classifier(), "labels": labels, "config": config} | other
        with pytest.raises(InputError, match="holds another run"):
            fit(
                arguments["model"],
                train,
                arguments["labels"],
                config=arguments["config"],
                run_dir=tmp_path,
            )
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    fit(tiny_classifier(seed=1), train, labels, config=config, run_dir=tmp_path, resume=False)


def test_a_damaged_checkpoint_is_one_clear_line(parts, tiny_classifier, tmp_path):
    (train, labels), _ = parts
    config = TrainConfig(epochs=0.5, batch_size=16)
    fit(tiny_classifier(), train, labels, config=config, run_dir=tmp_path)
    (file,) = tmp_path.glob("checkpoint-*/optimizer.safetensors")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match="checkpoint is damaged") as caught:
        fit(tiny_classifier(), train, labels, config=config, run_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_the_best_weights_are_restored_and_patience_stops(parts, tiny_classifier):
    (train, labels), valid = parts
    values = iter([0.6, 0.9, 0.8, 0.7, 0.95])
    kept = []
    model = tiny_classifier()

    def metric(labels, logits):
        kept.append(weights(model))
        return next(values)

    config = TrainConfig(epochs=2, lr=1e-3, batch_size=16, eval_every=4, patience=2)
    result = fit(model, train, labels, config=config, valid=valid, metric=metric)
    assert (result.best_step, result.best_metric, result.stopped_early) == (8, 0.9, True)
    assert result.steps == 16
    assert same_bits(weights(model), kept[1])


def test_a_loss_that_is_not_finite_stops_before_the_update(parts, tiny_classifier):
    (train, labels), _ = parts
    calls = []

    def loss(logits, targets):
        calls.append(1)
        value = bce_with_logits(logits, targets)
        return value * float("nan") if len(calls) == 3 else value

    model = tiny_classifier()
    with pytest.raises(TrainingError, match="loss is nan in step 3") as caught:
        fit(model, train, labels, config=TrainConfig(batch_size=16), loss=loss)
    assert "\n" not in str(caught.value)
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_every_trainable_parameter_moves_and_no_frozen_one(parts, tiny_classifier):
    from recsys_lib.freezing import freeze

    (train, labels), _ = parts
    model = freeze(tiny_classifier(), layers=1)
    before = weights(model)
    fit(model, train, labels, config=TrainConfig(lr=1e-2, batch_size=16, warmup=0))
    for name, parameter in model.named_parameters():
        moved = not torch.equal(before[name], parameter.detach())
        assert moved == parameter.requires_grad, name


def test_several_classes_with_cross_entropy(parts, tiny_classifier):
    (train, labels), _ = parts
    model = tiny_classifier()
    model.classifier = torch.nn.Linear(32, 2)
    fit(model, train, labels, config=LONG, loss=torch.nn.functional.cross_entropy)
    logits = predict(model, train)
    assert logits.shape == (len(train), 2)
    assert (logits.argmax(1) == labels).mean() > 0.9


def test_tensorboard_has_the_curves(parts, tiny_classifier, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (train, labels), valid = parts
    config = TrainConfig(epochs=1, batch_size=16)
    result = fit(tiny_classifier(), train, labels, config=config, valid=valid, run_dir=tmp_path)
    log = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(log.Tags()["scalars"]) == {
        "train/loss",
        "train/lr",
        "train/grad_norm",
        "valid/loss",
        "valid/metric",
    }
    logged = [event.value for event in log.Scalars("train/loss")]
    assert logged == pytest.approx(result.history["loss"].tolist(), rel=1e-6)


def test_the_log_of_a_resumed_run_has_each_step_once(parts, tiny_classifier, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (train, labels), _ = parts
    config = TrainConfig(epochs=1, batch_size=16, checkpoint_every=4, precision="fp32")

    def die(step):
        if step == 7:
            raise _Killed

    with pytest.raises(_Killed):
        fit(tiny_classifier(), train, labels, config=config, run_dir=tmp_path, on_step=die)
    half = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [point.step for point in half.Scalars("train/loss")] == list(range(1, 8))
    result = fit(tiny_classifier(), train, labels, config=config, run_dir=tmp_path)
    log = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [point.step for point in log.Scalars("train/loss")] == list(range(1, result.steps + 1))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_attention_is_plain_in_bf16_on_a_cpu_and_pytorchs_choice_elsewhere(
    parts, tiny_classifier, precision
):
    """By PyTorch's own switch, in a training step, a prediction and afterwards."""
    (train, labels), (held_out, _) = parts
    model, fused = tiny_classifier(), {True: set(), False: set()}
    model.register_forward_hook(
        lambda module, *_: fused[module.training].add(torch.backends.cuda.flash_sdp_enabled())
    )
    fit(model, train, labels, config=TrainConfig(epochs=0.2, precision=precision), progress=False)
    predict(model, held_out)
    assert fused == {True: {precision == "fp32"}, False: {True}}


def test_attention_over_many_pairs_is_not_plain():
    """Plain attention stores a weight per pair of tokens: not for a batch of long texts."""
    model = torch.nn.Linear(1, 1).train()
    for rows, plain in ((2, True), (3, False)):
        with (
            torch.autocast("cpu", dtype=torch.bfloat16),
            attention_backend(model, torch.zeros(rows, 512, dtype=torch.int64)),
        ):
            assert torch.backends.cuda.flash_sdp_enabled() is not plain


def test_predict_does_not_depend_on_the_batches(parts, tiny_classifier):
    (train, _), _ = parts
    model = tiny_classifier(dropout=0.5).train()
    small = predict(model, train, batch_tokens=64, precision="fp32")
    large = predict(model, train, batch_tokens=100_000, precision="fp32")
    assert np.abs(small - large).max() < 1e-5
    assert model.training  # left in the mode it was in
    assert predict(model, train.take([])).shape == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros(3)}, "192 texts but 3 labels"),
        ({"labels": np.r_[np.nan, np.zeros(191)]}, "label of row 0 is not a finite number"),
        ({"metric": "accuracy"}, "metric = 'accuracy'"),
        ({"one_class": True}, "needs both classes"),
        ({"empty": True}, "the training part is empty"),
    ],
)
def test_bad_input_is_one_clear_line(parts, tiny_classifier, change, message):
    (train, labels), valid = parts
    if change.pop("one_class", False):
        valid = (valid[0], np.ones_like(valid[1]))
    if change.pop("empty", False):
        train, labels = train.take([]), labels[:0]
    arguments = {"labels": labels, "metric": "auc"} | change
    with pytest.raises(InputError, match=message) as caught:
        fit(tiny_classifier(), train, arguments["labels"], valid=valid, metric=arguments["metric"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"lr": -1}, {"schedule": "step"}, {"warmup": 1.0}, {"patience": 0}],
)
def test_wrong_settings_are_refused_by_name(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        TrainConfig(**wrong)
