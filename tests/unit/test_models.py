"""Checkpoints are loaded, saved, refused; embeddings against sentence-transformers."""

import socket

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import BertForSequenceClassification

from recsys_lib import models
from recsys_lib.text import collate, encode
from recsys_lib.workbook import InputError

TEXTS = ["a warm waterproof jacket", "it ran small", "lovely " * 60, ""]


def test_embeddings_equal_those_of_sentence_transformers(tokenizer):
    theirs = SentenceTransformer(str(models.model_path())).encode(TEXTS, normalize_embeddings=True)
    ours = models.embed(
        models.load_encoder(), encode(tokenizer, TEXTS, max_length=256), precision="fp32"
    )
    assert np.abs(ours - theirs).max() < 1e-5  # float32, other summation order


def test_embeddings_in_bf16_point_the_same_way(tokenizer):
    encoder, encoded = models.load_encoder(), encode(tokenizer, TEXTS)
    exact = models.embed(encoder, encoded, precision="fp32")
    rough = models.embed(encoder, encoded, precision="bf16")
    assert (exact * rough).sum(1).min() > 0.999


def test_embed_options(tokenizer, checkpoints):
    encoder, encoded = models.load_encoder(checkpoints["bert"]), encode(tokenizer, TEXTS)
    raw = models.embed(encoder, encoded, pooling="first", normalize=False, precision="fp32")
    with torch.inference_mode():
        want = encoder(**collate(encoded, np.arange(4))).last_hidden_state[:, 0].numpy()
    assert np.abs(raw - want).max() < 1e-5
    assert np.abs(np.linalg.norm(models.embed(encoder, encoded), axis=1) - 1).max() < 1e-5
    with pytest.raises(InputError, match="pooling='max'"):
        models.embed(encoder, encoded, pooling="max")


def test_batches_fit_the_device_unless_told_otherwise(tokenizer, checkpoints):
    encoder = models.load_encoder(checkpoints["bert"])
    encoded, cells = encode(tokenizer, TEXTS * 80), []
    encoder.register_forward_pre_hook(
        lambda model, args, kwargs: cells.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    vectors = models.embed(encoder, encoded)
    assert len(cells) > 2
    assert max(cells) <= models.cells_per_batch("cpu") < models.cells_per_batch("cuda")
    cells.clear()
    again = models.embed(encoder, encoded, batch_tokens=100_000)
    assert len(cells) == 1
    assert (vectors * again).sum(1).min() > 0.999  # bf16, where the processor has it


@pytest.mark.parametrize(("family", "most"), [("bert", 512), ("distilbert", 512), ("gpt2", 128)])
def test_a_text_beyond_the_models_positions_is_refused(tokenizer, checkpoints, family, most):
    encoder, texts = models.load_encoder(checkpoints[family]), ["short", "navy " * 2_000]
    longest = encode(tokenizer, texts, max_length=most)
    assert models.embed(encoder, longest, batch_tokens=most).shape == (2, 32)
    beyond = encode(tokenizer, texts, max_length=most + 1)
    with pytest.raises(InputError, match=f"{most + 1} tokens, the model reads {most}: encode"):
        models.embed(encoder, beyond)


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2"])
@pytest.mark.parametrize("num_labels", [1, 3])
def test_any_family_becomes_a_classifier_whose_padding_changes_nothing(
    checkpoints, tokenizer, family, num_labels
):
    model = models.load_classifier(checkpoints[family], num_labels=num_labels)
    encoded = encode(tokenizer, TEXTS, max_length=60)
    with torch.inference_mode():
        together = model(**collate(encoded, [0, 1, 2, 3], pad_to=64)).logits
        alone = torch.cat([model(**collate(encoded, [i])).logits for i in range(4)])
    assert together.shape == (4, num_labels)
    assert (together - alone).abs().max() < 1e-5


def test_the_built_in_head_reads_the_mean_that_the_encoder_was_trained_to_give(tmp_path):
    tokenizer, model = models.load_tokenizer(), models.load_classifier(seed=3)
    encoded = encode(tokenizer, TEXTS, max_length=60)
    mean = models.embed(models.load_encoder(), encoded, precision="fp32")
    scaled = torch.from_numpy(mean) * mean.shape[1] ** 0.5  # unit length to mean square 1
    batch = collate(encoded, np.arange(len(TEXTS)), pad_to=64)
    with torch.inference_mode():
        logits = model(**batch).logits
        assert (logits - model.classifier(scaled)).abs().max() < 1e-5
        alone = encoded.take([0])
        whole = model(input_ids=collate(alone, [0])["input_ids"]).logits  # no mask: every token
        assert (whole - logits[:1]).abs().max() < 1e-5
        again = models.load_classifier(models.save_model(model, tmp_path / "model", tokenizer))
        assert torch.equal(again(**batch).logits, logits)
    model(**batch).logits.sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_bert_that_was_not_trained_as_a_sentence_encoder_keeps_its_family_head(checkpoints):
    assert type(models.load_classifier(checkpoints["bert"])) is BertForSequenceClassification


def test_the_head_follows_from_the_seed_and_leaves_the_generator_alone(checkpoints):
    state = torch.get_rng_state()
    one, same, other = (models.load_classifier(checkpoints["bert"], seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.classifier.weight, same.classifier.weight)
    assert not torch.equal(one.classifier.weight, other.classifier.weight)


def test_dropout_is_set_everywhere(checkpoints):
    for family, folder in checkpoints.items():
        model = models.load_classifier(folder, dropout=0.37)
        rates = {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}
        assert rates <= {0.37, 0.2}, family  # 0.2: DistilBERT's own rate before its head
        assert 0.37 in rates
        encoder = models.load_encoder(folder, dropout=0.0)
        assert {m.p for m in encoder.modules() if isinstance(m, torch.nn.Dropout)} == {0.0}


def test_saved_and_loaded_again_is_the_same_model(tiny_classifier, tokenizer, tmp_path):
    model = tiny_classifier()
    folder = models.save_model(model, tmp_path / "a" / "model", tokenizer)
    again = models.load_classifier(folder)
    for (name, ours), theirs in zip(
        model.state_dict().items(), again.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    assert (
        models.load_tokenizer(folder)("so warm")["input_ids"] == tokenizer("so warm")["input_ids"]
    )
    with pytest.raises(InputError, match="exists already"):
        models.save_model(model, folder)


def test_a_full_disk_while_saving_leaves_nothing_behind(tiny_classifier, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    model = tiny_classifier()
    monkeypatch.setattr(model, "save_pretrained", full)
    with pytest.raises(InputError, match="the disk is full"):
        models.save_model(model, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_checkpoint_is_one_clear_line(tiny_classifier, tokenizer, tmp_path):
    folder = models.save_model(tiny_classifier(), tmp_path / "model", tokenizer)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    for load in (models.load_classifier, models.load_encoder):
        with pytest.raises(InputError, match="checkpoint cannot be read") as caught:
            load(folder)
        assert "\n" not in str(caught.value)


def test_pickled_weights_are_not_read(tiny_classifier, tokenizer, tmp_path):
    model = tiny_classifier()
    folder = models.save_model(model, tmp_path / "model", tokenizer)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"no \.safetensors weights"):
        models.load_classifier(folder)


def test_weights_that_are_missing_from_the_body_are_noticed(tiny_classifier, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = models.save_model(tiny_classifier(), tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    gone = "bert.encoder.layer.1.output.dense.weight"
    del tensors[gone]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=gone.replace(".", r"\.")):
        models.load_classifier(folder)


def test_unknown_names_are_one_clear_line(tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    for name, message in {
        "bert-huge-uncased": "no network|HF_HUB_OFFLINE",
        "not a name!": "not a valid name",
        "./nowhere": "not found",
        str(tmp_path / "gone"): "not found",
        str(tmp_path): "no config.json",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            models.load_classifier(name)
        assert "\n" not in str(caught.value)


def test_decay_is_for_matrices_only(tiny_classifier):
    decayed, plain = models.parameter_groups(tiny_classifier(), 0.1)
    assert {p.ndim for p in decayed["params"]} == {2} and decayed["weight_decay"] == 0.1
    assert {p.ndim for p in plain["params"]} == {1} and plain["weight_decay"] == 0.0
    count = sum(p.numel() for group in (decayed, plain) for p in group["params"])
    assert count == sum(p.numel() for p in tiny_classifier().parameters())


def test_fingerprint_changes_with_the_weights(tiny_classifier, tmp_path):
    one = models.save_model(tiny_classifier(seed=0), tmp_path / "one")
    two = models.save_model(tiny_classifier(seed=1), tmp_path / "two")
    again = models.save_model(tiny_classifier(seed=0), tmp_path / "again")
    assert models.model_fingerprint(one) == models.model_fingerprint(again)
    assert models.model_fingerprint(one) != models.model_fingerprint(two)
    weights = one / "model.safetensors"
    weights.write_bytes((two / weights.name).read_bytes())  # as long as before, and newer
    assert models.model_fingerprint(one) == models.model_fingerprint(two)
