"""A catalog embedded into memory-mapped shards on disk: streaming, resumable, checked.

The folder holds `catalog.json` and one `.npy` file of vectors per `shard_size` texts:

    catalog.json                     what made the vectors, and (last) the shards in order
    00000-1f0c….npy, 00001-….npy …   (rows, width); the name has a hash of the texts and of
                                     everything that made the vectors

A shard gets its name only when it is complete, and its bytes follow from its texts alone. So after
a kill at any step the same call goes on with the first shard that is missing and ends with the same
bytes; and after a change to some texts it embeds only the shards in which they stand.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recsys_lib.models import (
    BUILT_IN,
    cells_per_batch,
    embed,
    load_encoder,
    load_tokenizer,
    model_fingerprint,
)
from recsys_lib.text import Encoded, encode
from recsys_lib.workbook.errors import InputError
from recsys_lib.workbook.files import atomic_write
from recsys_lib.workbook.memory import release_memory
from recsys_lib.workbook.progress import progress as progress_bar
from recsys_lib.workbook.settings import detect_hardware

CATALOG_FILE = "catalog.json"
_LOCK = ".lock"
_DTYPES = ("float32", "float16")
_PRECISIONS = ("auto", "bf16", "fp32")


@dataclass(frozen=True, eq=False)
class Catalog:
    """An embedded catalog, opened.

    folder: where it lies. parts: its shards in order, each (rows, width), memory-mapped and
    read-only; `exact_search` and `build_index` take them as they are. count: of all vectors.
    made_from: what determined them: model (its fingerprint), max_length, pooling, ….
    """

    folder: Path
    parts: tuple[np.ndarray, ...]
    count: int
    made_from: dict

    def array(self) -> np.ndarray:
        """All vectors in memory, (count, width) float32."""
        return np.concatenate([np.asarray(part, dtype=np.float32) for part in self.parts])


def embed_catalog(
    texts: Iterable[str],
    folder: str | Path,
    *,
    model: str | Path | PreTrainedModel = BUILT_IN,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_length: int = 128,
    pooling: str = "mean",
    normalize: bool = True,
    precision: str = "auto",
    batch_tokens: int | None = None,
    dtype: str = "float32",
    shard_size: int = 4_096,
    rebuild: bool = False,
    progress: bool = False,
) -> Catalog:
    """Embed one text per product into shards in `folder`, going on where an earlier call stopped.

    texts: any iterable; at most `shard_size` of them are held at a time, so memory does not grow
        with the catalog.
    model: a checkpoint's name or folder, or an encoder in memory with its `tokenizer`. The same
        encoder in memory and saved counts as two.
    max_length, pooling, normalize, precision, batch_tokens: as in `text.encode`, `models.embed`.
    dtype: "float32", or "float16" for half the disk at about three decimal digits.
    shard_size: texts per file. rebuild: replace what another model or other options made.

    Texts that changed since an earlier call are noticed: their shards, and only these, are made
    again (a text more or less shifts all that follow). The same texts, model, options, versions and
    number of threads give the same bytes, interrupted or not.

    Raises InputError if the folder holds vectors of another model or other options (unless
    `rebuild`), if another process is writing into it, for bad options, an empty catalog, or
    something that is not a string, and if the disk is full; finished shards are kept in each case.
    """
    folder = Path(folder)
    _check_options(shard_size, dtype, precision)
    if isinstance(texts, str):
        raise InputError("texts is one string: give a list with one text per product")
    fingerprint = model_hash(model, tokenizer)
    encoder, device = None, "cpu"
    if isinstance(model, PreTrainedModel):
        encoder, device = model, next(model.parameters()).device.type
    options = {
        "model": fingerprint,
        "max_length": max_length,
        "pooling": pooling,
        "normalize": normalize,
        "precision": _resolved(precision, device),
        "device": device,
        "batch_tokens": cells_per_batch(device) if batch_tokens is None else batch_tokens,
        "dtype": dtype,
        "shard_size": shard_size,
        "versions": {engine: version(engine) for engine in ("torch", "transformers")},
    }
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        _claim(folder, options, rebuild)
        shards = []
        total = len(texts) if hasattr(texts, "__len__") else 0
        with progress_bar(total, "embedding the catalog", shown=progress) as bar:
            for chunk in _chunks(texts, shard_size):
                file = folder / f"{len(shards):05d}-{_text_hash(chunk, options)}.npy"
                if not _is_whole(file, len(chunk)):
                    if encoder is None:  # nothing is loaded where nothing is missing
                        encoder = load_encoder(model)
                    if tokenizer is None:
                        tokenizer = load_tokenizer(model)
                    _save_shard(
                        file, encoder, encode(tokenizer, chunk, max_length=max_length), options
                    )
                    release_memory()
                shards.append({"file": file.name, "rows": len(chunk)})
                bar.update(len(chunk))
        if not shards:
            raise InputError("the catalog is empty: there is no text to embed")
        _write(folder, {"made_from": options, "shards": shards})
        _remove_others(folder, {shard["file"] for shard in shards})
    return open_catalog(folder)


def open_catalog(
    folder: str | Path,
    *,
    model: str | Path | PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Catalog:
    """Open what `embed_catalog` made; nothing is read into memory.

    model: where given, the vectors must be of this model (an encoder in memory comes with its
    `tokenizer`).
    Raises InputError if there is no catalog, its embedding was interrupted, a shard is missing or
    cut short, or it was made with another model.
    """
    folder = Path(folder)
    saved = _read(folder)
    if saved is None:
        raise InputError(f"{folder}: holds no embedded catalog: make it with embed_catalog")
    if "shards" not in saved:
        raise InputError(
            f"{folder}: embedding was interrupted: call embed_catalog again, it goes on from there"
        )
    if model is not None:
        asked = model_hash(model, tokenizer)
        if asked != saved["made_from"]["model"]:
            raise InputError(
                f"{folder}: was embedded with another model: open it with that one, or call "
                "embed_catalog with rebuild=True"
            )
    parts = []
    for shard in saved["shards"]:
        file = folder / shard["file"]
        if not _is_whole(file, shard["rows"]):
            raise InputError(
                f"{file}: missing, damaged or cut short: call embed_catalog again, it makes this "
                "shard anew"
            )
        parts.append(np.load(file, mmap_mode="r", allow_pickle=False))
    count = sum(len(part) for part in parts)
    return Catalog(folder, tuple(parts), count, saved["made_from"])


def _save_shard(file: Path, encoder: PreTrainedModel, encoded: Encoded, options: dict) -> None:
    """Embed the texts of one shard; nothing of it stays in memory while the next one is made."""
    vectors = embed(
        encoder,
        encoded,
        batch_tokens=options["batch_tokens"],
        precision=options["precision"],
        pooling=options["pooling"],
        normalize=options["normalize"],
        whole_batches=len(encoded) == options["shard_size"],  # of the last shard there is only one
    ).astype(options["dtype"], copy=False)
    if not np.isfinite(vectors).all():
        raise InputError(
            f"the model gave values that are not finite numbers in {options['dtype']}: "
            f"{file.name} was not saved"
        )
    buffer = io.BytesIO()  # numpy's own writing hides why it failed
    np.save(buffer, vectors, allow_pickle=False)
    atomic_write(file, buffer.getvalue())


def _check_options(shard_size: int, dtype: str, precision: str) -> None:
    if shard_size < 1:
        raise InputError(f"shard_size = {shard_size} must be at least 1")
    if dtype not in _DTYPES:
        raise InputError(f"dtype = {dtype!r} must be one of {', '.join(_DTYPES)}")
    if precision not in _PRECISIONS:
        raise InputError(f"precision = {precision!r} must be one of {', '.join(_PRECISIONS)}")


def _resolved(precision: str, device: str) -> str:
    """What "auto" means for a model on this device, as in `models.autocast`."""
    if precision != "auto":
        return precision
    here = detect_hardware()
    return "bf16" if here.device == device and here.precision == "bf16" else "fp32"


def model_hash(
    model: str | Path | PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None
) -> str:
    """Says which encoder it is: by the files of a checkpoint, or by what is in memory.

    Raises InputError for a tokenizer with a checkpoint, or an encoder in memory without one.
    """
    if not isinstance(model, PreTrainedModel):
        if tokenizer is not None:
            raise InputError("a checkpoint brings its own tokenizer: leave tokenizer out")
        return model_fingerprint(model)
    if tokenizer is None:
        raise InputError("an encoder in memory needs its tokenizer: tokenizer=...")
    config = {key: value for key, value in model.config.to_dict().items() if key[:1] != "_"}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, value in sorted(model.state_dict().items()):
        array = value.detach().cpu().float().contiguous().numpy()
        digest.update(f"{name} {array.shape}".encode())
        digest.update(array.data)
    digest.update(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode())
    digest.update(f"{tokenizer.pad_token_id} {type(tokenizer).__name__}".encode())
    return digest.hexdigest()


def _chunks(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    stream, first = iter(texts), 0
    while chunk := list(islice(stream, size)):
        for i, text in enumerate(chunk, first):
            if not isinstance(text, str):
                raise InputError(
                    f"text {i} is {type(text).__name__}, not a string: drop or fill missing texts"
                )
        first += len(chunk)
        yield chunk


def _text_hash(chunk: list[str], options: dict) -> str:
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for text in chunk:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:24]


def _is_whole(file: Path, rows: int) -> bool:
    """Whether the file is there with all its rows; a map of a file cut short cannot be made."""
    try:
        vectors = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return vectors.ndim == 2 and len(vectors) == rows


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system releases if this process is killed.

    Raises InputError where another process, or another call in this one, holds it.
    """
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"{folder}: another process is writing into it: wait for it") from None
    try:
        yield
    finally:
        lock.release()


def _claim(folder: Path, options: dict, rebuild: bool) -> None:
    """Note what the folder is for, before the first shard; refuse one made with other options."""
    saved = _read(folder)
    if saved is not None and saved["made_from"] != options and not rebuild:
        old = saved["made_from"]
        changed = sorted(name for name in options if old.get(name) != options[name])
        raise InputError(
            f"{folder}: holds vectors made with another {' and '.join(changed)}: choose another "
            "folder, or call embed_catalog with rebuild=True to replace them"
        )
    if saved is None or saved["made_from"] != options:
        _write(folder, {"made_from": options})


def _read(folder: Path) -> dict | None:
    try:
        saved = json.loads((folder / CATALOG_FILE).read_text(encoding="utf-8"))
        saved["made_from"]["model"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / CATALOG_FILE}: cannot be read: remove the folder and embed again"
        ) from error
    return saved


def _write(folder: Path, content: dict) -> None:
    atomic_write(folder / CATALOG_FILE, json.dumps(content, indent=1, sort_keys=True) + "\n")


def _remove_others(folder: Path, kept: set[str]) -> None:
    """Remove shards of earlier texts or options, and what a kill left half-written."""
    for file in folder.iterdir():
        ours = re.fullmatch(r"\d{5,}-[0-9a-f]{24}\.npy|\..*\.tmp", file.name)
        if ours and file.name not in kept:
            file.unlink(missing_ok=True)
