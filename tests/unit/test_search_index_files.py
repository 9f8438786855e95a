"""A saved vector index: it finds the same, and nothing broken or of another shop is opened."""

import errno
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from recsys_lib.models import model_fingerprint
from recsys_lib.search import (
    build_index,
    clustered_vectors,
    embed_catalog,
    exact_search,
    index_search,
    open_index,
    save_index,
)
from recsys_lib.search.index import KINDS
from recsys_lib.workbook import InputError, project_folder

IDS = [f"sku-{i}" for i in range(2_000)]
VECTORS = clustered_vectors(2_050, 24, clusters=40, seed=1)
PRODUCTS, QUERIES = VECTORS[:2_000], VECTORS[2_000:]


@pytest.fixture(scope="module")
def model(checkpoints):
    return checkpoints["bert"]


@pytest.fixture(scope="module", params=KINDS)
def saved(request, model, tmp_path_factory):
    """An index of each kind, and the folder that it is saved in."""
    index = build_index(PRODUCTS, request.param, threads=1)
    folder = tmp_path_factory.mktemp(request.param)
    assert save_index(index, folder, model=model, product_ids=IDS) == folder
    return index, folder


@pytest.fixture
def copied(saved, tmp_path):
    """A copy of the folder, to be broken."""
    return shutil.copytree(saved[1], tmp_path / "copy")


def data_file(folder: Path) -> Path:
    (file,) = (f for f in folder.glob("index-*") if f.suffix in (".npy", ".faiss"))
    return file


def change(folder: Path, **fields) -> None:
    file = folder / "index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def same(one, other) -> bool:
    """Whether two indexes find the same products with the same scores, to the last bit."""
    found = [
        [index_search(index, QUERIES, 7, breadth=breadth, threads=1) for breadth in (None, 1, 3)]
        for index in (one, other)
    ]
    return all(
        np.array_equal(a.rows, b.rows) and a.scores.tobytes() == b.scores.tobytes()
        for a, b in zip(*found, strict=True)
    )


def refused(message, folder, **options):
    with pytest.raises(InputError, match=message) as caught:
        open_index(folder, **options)
    assert "\n" not in str(caught.value)
    assert "save_index" in str(caught.value)  # it says what to do


def test_what_is_opened_finds_what_was_saved(saved, model):
    index, folder = saved
    opened = open_index(folder, model=model, product_ids=IDS)
    assert same(index, opened)
    for field in ("kind", "n_products", "width", "seconds", "nbytes"):
        assert getattr(opened, field) == getattr(index, field)
    left = {file.name for file in folder.iterdir()} - {".lock"}
    assert left == {"index.json", data_file(folder).name}
    about = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    assert about["model"] == model_fingerprint(model)
    assert (about["metric"], about["count"], about["width"]) == ("inner product", 2_000, 24)
    assert about["bytes"] == data_file(folder).stat().st_size


def test_saving_again_gives_the_same_bytes(saved, model, tmp_path):
    _, folder = saved
    save_index(open_index(folder), tmp_path, model=model, product_ids=iter(IDS))
    for name in ("index.json", data_file(folder).name):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_a_flat_index_is_plain_vectors(model, tmp_path):
    save_index(build_index(PRODUCTS), tmp_path, model=model, product_ids=IDS)
    vectors = np.load(data_file(tmp_path), mmap_mode="r", allow_pickle=False)
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, PRODUCTS)
    assert exact_search(QUERIES, vectors, 3).rows.shape == (50, 3)


def test_an_encoder_in_memory_is_known_by_its_weights(tiny_encoder, tokenizer, tmp_path):
    index = build_index(PRODUCTS)
    mine = tiny_encoder(seed=1)
    save_index(index, tmp_path, model=mine, tokenizer=tokenizer, product_ids=IDS)
    assert same(open_index(tmp_path, model=tiny_encoder(seed=1), tokenizer=tokenizer), index)
    refused("another model", tmp_path, model=tiny_encoder(seed=2), tokenizer=tokenizer)
    with pytest.raises(InputError, match="needs its tokenizer"):
        open_index(tmp_path, model=mine)


# --- what does not fit, is broken or missing ------------------------------------------------------


def test_an_index_of_another_model_is_refused(saved, checkpoints):
    refused("the index is of another model's vectors", saved[1], model=checkpoints["distilbert"])


def test_an_index_of_another_catalog_is_refused(saved):
    _, folder = saved
    refused("has 2000 products, the catalog 1999", folder, product_ids=IDS[1:])
    refused("of other products, or of these in another order", folder, product_ids=IDS[::-1])
    refused("of other products", folder, product_ids=[*IDS[:-1], "sku-new"])


def test_nothing_there_is_said(tmp_path):
    refused("holds no saved index", tmp_path)
    refused("holds no saved index", tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    refused("holds no saved index", tmp_path / "file")


def test_data_that_is_missing_cut_short_or_damaged_is_refused(copied):
    file = data_file(copied)
    whole = file.read_bytes()
    for cut in (0, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:cut])
        refused("cut short", copied)
    for at in (0, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        refused("damaged, its SHA-256", copied)
    file.write_bytes(whole + b"\0")
    refused("damaged, its SHA-256", copied)
    file.unlink()
    refused("missing or not readable", copied)
    file.mkdir()
    refused("cut short|missing or not readable", copied)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "{}", "\ufeff{}"])
def test_a_damaged_manifest_is_refused(copied, text):
    (copied / "index.json").write_text(text, encoding="utf-8")
    refused(r"index\.json: damaged", copied)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "lsh"},
        {"metric": "cosine"},
        {"count": "2000"},
        {"width": None},
        {"bytes": True},
        {"sha256": "../../../elsewhere"},
        {"sha256": 7},
    ],
)
def test_a_manifest_with_a_wrong_field_is_refused(copied, fields):
    change(copied, **fields)
    refused(r"index\.json: damaged", copied)


def test_a_manifest_that_contradicts_its_data_is_refused(copied):
    kind = json.loads((copied / "index.json").read_text())["kind"]
    change(copied, count=1_999)
    refused("holds 2000 vectors of width 24, not 1999 of width 24", copied)
    change(copied, count=2_000, width=25)
    refused("holds 2000 vectors of width 24, not 2000 of width 25", copied)
    change(copied, width=24, kind={"ivf": "hnsw", "hnsw": "ivf", "flat": "ivf"}[kind])
    if kind == "flat":  # its data is looked for under another name
        refused("missing or not readable", copied)
    else:
        refused("is no '.*' index by inner product, as index.json says", copied)


def test_data_that_faiss_cannot_read_is_one_line(copied):
    """As saved by a FAISS to come: the hash is right, the content unknown."""
    content = b"IxZZ" + bytes(100)
    data_file(copied).unlink()
    digest = hashlib.sha256(content).hexdigest()
    change(copied, sha256=digest, bytes=len(content), kind="hnsw", faiss="99.0")
    (copied / f"index-{digest[:24]}.faiss").write_bytes(content)
    refused("saved by FAISS 99.0, cannot be read by", copied)


def test_nothing_is_unpickled(copied):
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    content = buffer.getvalue()
    data_file(copied).unlink()
    digest = hashlib.sha256(content).hexdigest()
    change(copied, sha256=digest, bytes=len(content), kind="flat")
    (copied / f"index-{digest[:24]}.npy").write_bytes(content)
    refused("cannot be read", copied)


def test_ids_that_do_not_fit_are_not_saved(model, tmp_path):
    index = build_index(PRODUCTS)
    for ids, message in [
        (IDS[1:], "product_ids: 1999 ids for an index of 2000 products"),
        ([*IDS[1:], "sku-7"], "product_ids: sku-7 stands there twice"),
        ([*range(1_999), "7"], "product_ids: 7 stands there twice"),
    ]:
        with pytest.raises(InputError, match=message):
            save_index(index, tmp_path, model=model, product_ids=ids)
    assert not list(tmp_path.iterdir())


# --- what interrupts saving -----------------------------------------------------------------------

OLD = build_index(PRODUCTS[:500], threads=1)
NEW = build_index(PRODUCTS, "hnsw", threads=1)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_full_disk_or_a_stop_leaves_the_old_index(tmp_path, model, monkeypatch, call, at, error):
    """There are two writes: the data, then the manifest."""
    save_index(OLD, tmp_path, model=model, product_ids=IDS[:500])
    real, calls = getattr(os, call), 0

    def fails(*arguments):
        nonlocal calls
        calls += 1
        if calls == at:
            raise error
        return real(*arguments)

    monkeypatch.setattr(os, call, fails)
    expected = InputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        save_index(NEW, tmp_path, model=model, product_ids=IDS)
    if expected is InputError:
        assert str(caught.value).startswith("the disk is full: index")
        assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert same(open_index(tmp_path, model=model, product_ids=IDS[:500]), OLD)
    assert not list(tmp_path.glob(".*.tmp"))
    save_index(NEW, tmp_path, model=model, product_ids=IDS)
    assert same(open_index(tmp_path, model=model, product_ids=IDS), NEW)
    assert len(list(tmp_path.glob("index*"))) == 2  # nothing of the old one is left


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_fills_up_in_the_middle(tmp_path, model, monkeypatch, kind):
    """The error comes from within FAISS's own writing, too."""
    save_index(OLD, tmp_path, model=model, product_ids=IDS[:500])

    class Full:
        def __init__(self, file):
            self.file, self.room = file, 50_000

        def __enter__(self):
            self.file.__enter__()
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def write(self, data):
            self.room -= len(data)
            if self.room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

    opened = Path.open

    def full(path, mode="r", **options):
        file = opened(path, mode, **options)
        return Full(file) if mode == "xb" else file

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(InputError, match="the disk is full: index-"):
        save_index(build_index(PRODUCTS, kind), tmp_path, model=model, product_ids=IDS)
    monkeypatch.undo()
    assert same(open_index(tmp_path), OLD)
    assert not list(tmp_path.glob(".*.tmp"))


SCRIPT = """
    import sys, time
    from recsys_lib.search import build_index, clustered_vectors, index_files, save_index
    def slowly(path, content, write=index_files.atomic_write):
        print("before", path.name, flush=True)
        time.sleep(30)
    index_files.atomic_write = slowly
    vectors = clustered_vectors(2_050, 24, clusters=40, seed=1)[:2_000]
    index = build_index(vectors, "hnsw")
    save_index(index, sys.argv[1], model=sys.argv[2], product_ids=range(2_000))
"""


def test_a_killed_process_leaves_the_old_index(tmp_path, model):
    """SIGKILL between the two writes: the new data is there, the manifest is the old one."""
    save_index(OLD, tmp_path, model=model, product_ids=IDS[:500])
    (tmp_path / ".index-abc.faiss.123.tmp").write_bytes(b"half")  # killed while writing
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path), str(model)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=project_folder(),
    )
    assert process.stdout.readline() == "before index.json\n"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert len(list(tmp_path.glob("index-*"))) == 2
    assert same(open_index(tmp_path, product_ids=IDS[:500]), OLD)
    save_index(NEW, tmp_path, model=model, product_ids=IDS)
    assert same(open_index(tmp_path, product_ids=IDS), NEW)
    left = {file.name for file in tmp_path.iterdir()} - {".lock"}
    assert left == {"index.json", data_file(tmp_path).name}


def test_two_at_once_are_refused(tmp_path, model):
    with (
        FileLock(tmp_path / ".lock"),
        pytest.raises(InputError, match="another process is writing into it"),
    ):
        save_index(OLD, tmp_path, model=model, product_ids=IDS[:500])


def test_a_catalog_and_an_index_share_a_folder(tmp_path, model):
    """Neither takes the other's files for its own old ones."""
    texts = ["red hat", "navy dress", "oat bag"]
    options = {"model": model, "max_length": 16}
    catalog = embed_catalog(texts, tmp_path, **options)
    index = build_index(catalog.parts)
    save_index(index, tmp_path, model=model, product_ids=texts)
    again = embed_catalog([*texts[:2], "tan bag"], tmp_path, **options)
    assert same_rows(open_index(tmp_path, product_ids=texts), index, catalog.array())
    save_index(build_index(again.parts), tmp_path, model=model, product_ids=texts)
    assert np.array_equal(embed_catalog(iter(texts), tmp_path, **options).array(), catalog.array())


def same_rows(one, other, queries) -> bool:
    return np.array_equal(index_search(one, queries, 3).rows, index_search(other, queries, 3).rows)
