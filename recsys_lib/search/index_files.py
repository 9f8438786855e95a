"""A vector index on disk: saved whole or not at all, and opened only where it fits.

The folder holds `index.json`, which says what the index is, and one file of data:

    index.json              kind, metric, width, count, the model that embedded the products, the
                            products in order (a hash of their ids), size and SHA-256 of the data
    index-1f0c….npy         the vectors of a "flat" index, (count, width) float32
    index-1f0c….faiss       FAISS's own format, of the other kinds

The data's name has the hash of its bytes, and `index.json` is replaced last: after a kill at any
step, or on a full disk, the folder holds the old index or the new one.

The hash finds damage before FAISS reads a byte of it. It does not make a folder from a stranger
safe: who can write the data can write its hash, and FAISS trusts what it reads. Build your own.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recsys_lib.search.catalog import alone, model_hash
from recsys_lib.search.index import KINDS, VectorIndex, build_index, load_faiss
from recsys_lib.workbook.errors import InputError
from recsys_lib.workbook.files import atomic_file, atomic_write

INDEX_FILE = "index.json"
_METRIC = "inner product"
_TEXTS = ("kind", "metric", "model", "products", "sha256", "faiss")
_NUMBERS = ("width", "count", "bytes", "seconds")
_AGAIN = "build the index again and save it with save_index"


def save_index(
    index: VectorIndex,
    folder: str | Path,
    *,
    model: str | Path | PreTrainedModel,
    product_ids: Iterable[object],
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Path:
    """Save an index in `folder`, in place of one that is there; returns the folder.

    model: what embedded the products, as in `embed_catalog`: a checkpoint's name or folder, or an
        encoder in memory with its `tokenizer`.
    product_ids: of the indexed products, in order.

    Raises InputError if the ids are not one per product, for a duplicate id, if another process is
    writing into the folder, and if the disk is full; the old index is untouched in each case.
    """
    folder = Path(folder)
    fingerprint = model_hash(model, tokenizer)
    count, products = _products_hash(product_ids)
    if count != index.n_products:
        raise InputError(f"product_ids: {count} ids for an index of {index.n_products} products")
    digest, size = hashlib.sha256(), 0

    def measure(data: bytes) -> None:
        nonlocal size
        digest.update(data)
        size += len(data)

    _write_data(index, measure)
    about = {
        "kind": index.kind,
        "metric": _METRIC,
        "width": index.width,
        "count": index.n_products,
        "model": fingerprint,
        "products": products,
        "bytes": size,
        "sha256": digest.hexdigest(),
        "seconds": float(index.seconds),
        "faiss": version("faiss-cpu"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        data = _data_file(folder, about)
        with atomic_file(data) as file:
            _write_data(index, file.write)
        atomic_write(folder / INDEX_FILE, json.dumps(about, indent=1, sort_keys=True) + "\n")
        for other in folder.iterdir():  # an earlier index, and what a kill left half-written
            ours = re.fullmatch(r"index-[0-9a-f]{24}\.(npy|faiss)|\.index.*\.tmp", other.name)
            if ours and other != data:
                other.unlink(missing_ok=True)
    return folder


def open_index(
    folder: str | Path,
    *,
    model: str | Path | PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    product_ids: Iterable[object] | None = None,
    threads: int | None = None,
) -> VectorIndex:
    """Open what `save_index` saved: it finds what the saved index found.

    model: where given, the index must be of this model's vectors (an encoder in memory comes with
        its `tokenizer`). product_ids: where given, it must be of these products in this order.
    threads: as in `build_index`.

    Raises InputError if there is no index, if its data is missing, cut short or damaged, or if it
    is of another model or other products.
    """
    folder = Path(folder)
    about = _read(folder)
    if model is not None and model_hash(model, tokenizer) != about["model"]:
        raise InputError(
            f"{folder}: the index is of another model's vectors: open it with that one, or {_AGAIN}"
        )
    if product_ids is not None:
        count, products = _products_hash(product_ids)
        if count != about["count"]:
            raise InputError(
                f"{folder}: the index has {about['count']} products, the catalog {count}: {_AGAIN}"
            )
        if products != about["products"]:
            raise InputError(
                f"{folder}: the index is of other products, or of these in another order: {_AGAIN}"
            )
    data = _data_file(folder, about)
    _check_data(data, about)
    index = _load_data(data, about, threads)
    found = (index.n_products, index.width)
    if found != (about["count"], about["width"]):
        raise InputError(
            f"{data}: holds {found[0]} vectors of width {found[1]}, not {about['count']} of width "
            f"{about['width']} as {INDEX_FILE} says: {_AGAIN}"
        )
    return replace(index, seconds=about["seconds"])


def _products_hash(product_ids: Iterable[object]) -> tuple[int, str]:
    """How many ids there are, and a hash of them in order; 7 and "7" are the same."""
    ids = [str(product) for product in product_ids]
    if len(set(ids)) < len(ids):
        seen: set[str] = set()
        twice = next(i for i in ids if i in seen or seen.add(i))
        raise InputError(f"product_ids: {twice} stands there twice: every product needs its own id")
    return len(ids), hashlib.sha256(json.dumps(ids).encode()).hexdigest()


def _data_file(folder: Path, about: dict) -> Path:
    ending = "npy" if about["kind"] == "flat" else "faiss"
    return folder / f"index-{about['sha256'][:24]}.{ending}"


def _write_data(index: VectorIndex, write: Callable[[bytes], object]) -> None:
    """Give the bytes of the data file to `write`, piece by piece."""
    faiss = load_faiss(None)
    if index.kind == "flat":
        stored = faiss.rev_swig_ptr(index.engine.get_xb(), index.n_products * index.width)
        vectors = stored.reshape(index.n_products, index.width)
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, np.lib.format.header_data_from_array_1_0(vectors)
        )
        write(header.getvalue())
        for low in range(0, len(vectors), 4_096):
            write(vectors[low : low + 4_096].tobytes())
    else:
        # No BufferedIOWriter: it writes its rest when it is deleted, and an error then is lost.
        faiss.write_index(index.engine, faiss.PyCallbackIOWriter(write))


def _check_data(file: Path, about: dict) -> None:
    """Refuse a data file that is not, to the last bit, the one that was saved."""
    try:
        size = file.stat().st_size
        if size < about["bytes"]:
            raise InputError(
                f"{file}: cut short, {size:,} of {about['bytes']:,} bytes are there: {_AGAIN}"
            )
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{file}: missing or not readable: {_AGAIN}") from error
    if found != about["sha256"]:
        raise InputError(f"{file}: damaged, its SHA-256 is not the one that was saved: {_AGAIN}")


def _load_data(file: Path, about: dict, threads: int | None) -> VectorIndex:
    """The index in a data file that was checked; its sizes are those of its vectors."""
    faiss, kind = load_faiss(threads), about["kind"]
    try:
        if kind == "flat":
            return build_index(np.load(file, mmap_mode="r", allow_pickle=False), threads=threads)
        engine = faiss.read_index(str(file))
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        raise InputError(
            f"{file}: saved by FAISS {about['faiss']}, cannot be read by {version('faiss-cpu')}: "
            f"{_AGAIN}"
        ) from error
    right = {"ivf": faiss.IndexIVFFlat, "hnsw": faiss.IndexHNSWFlat}[kind]
    if not isinstance(engine, right) or engine.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise InputError(
            f"{file}: is no {kind!r} index by {_METRIC}, as {INDEX_FILE} says: {_AGAIN}"
        )
    return VectorIndex(engine, kind, engine.ntotal, engine.d, about["seconds"], about["bytes"])


def _read(folder: Path) -> dict:
    """What `index.json` says, every field of the right type."""
    file = folder / INDEX_FILE
    about = None
    try:
        with suppress(ValueError):
            about = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{folder}: holds no saved index: {_AGAIN}") from error
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    if not (
        isinstance(about, dict)
        and all(type(about.get(name)) is str for name in _TEXTS)
        and all(type(about.get(name)) in (int, float) for name in _NUMBERS)
        and about["kind"] in KINDS
        and about["metric"] == _METRIC
        and re.fullmatch("[0-9a-f]{64}", about["sha256"])
    ):
        raise InputError(f"{file}: damaged: {_AGAIN}")
    return about
