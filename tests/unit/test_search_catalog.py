"""An embedded catalog: the same bytes whatever interrupts it, and nothing of another model."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from recsys_lib.models import cells_per_batch, embed, load_encoder, load_tokenizer
from recsys_lib.search import catalog, embed_catalog, exact_search, open_catalog
from recsys_lib.text import encode
from recsys_lib.workbook import InputError, project_folder

WORDS = ["red", "navy", "linen", "dress", "boots", "hat", "for", "a", "walk", "evening"]
TEXTS = [" ".join(WORDS[(i * j) % 10] for j in range(1, 3 + i % 5)) for i in range(23)]
OPTIONS = {"shard_size": 5, "max_length": 16, "precision": "fp32"}


def contents(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in folder.iterdir() if f.name != ".lock"}


@pytest.fixture(scope="module")
def model(checkpoints):
    return checkpoints["bert"]


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """The folder of an embedding that nothing interrupted."""
    return embed_catalog(TEXTS, tmp_path_factory.mktemp("whole"), model=model, **OPTIONS)


def test_the_shards_hold_what_embed_gives(whole, model):
    vectors = whole.array()
    assert vectors.shape == (23, 32)
    assert [len(part) for part in whole.parts] == [5, 5, 5, 5, 3]
    assert all(isinstance(part, np.memmap) and not part.flags.writeable for part in whole.parts)
    encoded = encode(load_tokenizer(model), TEXTS, max_length=16)
    expected = embed(load_encoder(model), encoded, precision="fp32")
    # Other batches sum in another order: float32 rounding of values below 1.
    assert np.abs(vectors - expected).max() < 1e-5
    found = exact_search(expected[:3], whole.parts, 1)
    assert (found.scores > 1 - 1e-5).all()
    assert not list(whole.folder.glob("*.tmp"))
    assert whole.made_from["batch_tokens"] == cells_per_batch("cpu")


def test_an_iterator_gives_the_same_bytes_as_a_list(whole, model, tmp_path):
    embed_catalog(iter(TEXTS), tmp_path, model=model, **OPTIONS)
    assert contents(tmp_path) == contents(whole.folder)


def test_texts_are_read_a_shard_at_a_time(model, tmp_path):
    """When a shard is on disk, no text beyond the next shard has been asked for."""
    most = 0

    def stream():
        nonlocal most
        for i, text in enumerate(TEXTS):
            most = max(most, i - 5 * len(list(tmp_path.glob("*.npy"))))
            yield text

    embed_catalog(stream(), tmp_path, model=model, **OPTIONS)
    assert most <= 5


def test_shards_of_many_batches_meet_one_shape_for_each_length(model, tokenizer, tmp_path):
    """PyTorch keeps kernels by shape, so a last batch of any size would let memory grow."""
    encoder, seen = load_encoder(model), []
    encoder.register_forward_pre_hook(
        lambda _, __, given: seen.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    texts = [f"{text} {i}" for i in range(40) for text in TEXTS[: 7 + i % 4]]
    options = {**OPTIONS, "shard_size": 40, "batch_tokens": 100}
    made = embed_catalog(texts, tmp_path, model=encoder, tokenizer=tokenizer, **options)
    whole, rest = divmod(len(texts), 40)
    assert whole > 5
    assert rest
    full = [shape for shape in seen if shape[0] == 100 // shape[1]]
    assert len(seen) - len(full) <= 1  # the last of the last shard, which is not whole
    alone = embed(encoder, encode(tokenizer, texts, max_length=16), precision="fp32")
    assert np.abs(made.array() - alone).max() < 1e-5  # as in the first test


def test_a_shard_has_left_memory_when_the_next_one_is_made(model, tmp_path, monkeypatch):
    made = []

    def watched(*args, **options):
        assert not [1 for vectors in made if vectors() is not None]
        vectors = embed(*args, **options)
        made.append(weakref.ref(vectors))
        return vectors

    monkeypatch.setattr(catalog, "embed", watched)
    embed_catalog(TEXTS, tmp_path, model=model, **OPTIONS)
    assert len(made) == 5


SCRIPT = """
    import json, sys, time
    from recsys_lib.search import catalog, embed_catalog
    given = json.loads(sys.stdin.readline())
    def slowly(path, content, write=catalog.atomic_write):
        print("before", path.name, flush=True)
        time.sleep(30 if path.name.startswith("00002") else 0)
        write(path, content)
    catalog.atomic_write = slowly
    embed_catalog(given["texts"], given["folder"], model=given["model"], **given["options"])
"""


def test_a_killed_process_is_taken_up_to_the_same_bytes(whole, model, tmp_path):
    """SIGKILL, as from a kernel out of memory, while the third shard is about to be saved."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=project_folder(),
    )
    given = {"texts": TEXTS, "folder": str(tmp_path), "model": str(model), "options": OPTIONS}
    process.stdin.write(json.dumps(given) + "\n")
    process.stdin.flush()
    for line in process.stdout:
        if line.startswith("before 00002"):
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL
    process.stdin.close()
    process.stdout.close()
    left = sorted(file.name for file in tmp_path.glob("0*.npy"))
    assert [name[:5] for name in left] == ["00000", "00001"]
    with pytest.raises(InputError, match="embedding was interrupted: call embed_catalog again"):
        open_catalog(tmp_path)
    (tmp_path / ".00002-abc.npy.123.tmp").write_bytes(b"half")  # killed while writing
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in left}
    embed_catalog(TEXTS, tmp_path, model=model, **OPTIONS)
    assert contents(tmp_path) == contents(whole.folder)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in left} == before


def test_a_stop_at_every_write_ends_with_the_same_bytes(whole, model, tmp_path, monkeypatch):
    """Seven writes: what it is for, five shards, the list. Each run gets one write further."""
    write, runs = catalog.atomic_write, 0
    while True:
        done = 0

        def once(path, content):
            nonlocal done
            if done == 1:
                raise KeyboardInterrupt
            done += 1
            write(path, content)

        monkeypatch.setattr(catalog, "atomic_write", once)
        runs += 1
        try:
            embed_catalog(TEXTS, tmp_path, model=model, **OPTIONS)
            break
        except KeyboardInterrupt:
            assert runs < 10
    assert runs == 7
    assert contents(tmp_path) == contents(whole.folder)


def test_a_full_disk_is_one_line_and_loses_nothing(whole, model, tmp_path, monkeypatch):
    fsync, calls = os.fsync, 0

    def full(descriptor):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="the disk is full: 00002-") as caught:
        embed_catalog(TEXTS, tmp_path, model=model, **OPTIONS)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert len(list(tmp_path.glob("*.npy"))) == 2
    assert not list(tmp_path.glob(".*.tmp"))
    embed_catalog(TEXTS, tmp_path, model=model, **OPTIONS)
    assert contents(tmp_path) == contents(whole.folder)


def count_embedded(monkeypatch):
    counted = []

    def counting(encoder, encoded, **options):
        counted.append(len(encoded))
        return embed(encoder, encoded, **options)

    monkeypatch.setattr(catalog, "embed", counting)
    return counted


def test_only_the_shard_of_a_changed_text_is_made_again(model, tmp_path, monkeypatch):
    old = embed_catalog(TEXTS, tmp_path, model=model, **OPTIONS).array()
    counted = count_embedded(monkeypatch)
    changed = [*TEXTS[:7], "something else", *TEXTS[8:]]
    new = embed_catalog(changed, tmp_path, model=model, **OPTIONS).array()
    assert counted == [5]
    assert np.flatnonzero((old != new).any(axis=1)).tolist() == [7]
    assert len(list(tmp_path.glob("*.npy"))) == 5
    embed_catalog(changed[:20], tmp_path, model=model, **OPTIONS)
    assert counted == [5]
    assert open_catalog(tmp_path).count == 20
    assert len(list(tmp_path.glob("*.npy"))) == 4


def test_a_whole_catalog_loads_no_model(whole, model, monkeypatch):
    monkeypatch.setattr(catalog, "load_encoder", None)
    assert embed_catalog(TEXTS, whole.folder, model=model, **OPTIONS).count == 23


@pytest.mark.parametrize(
    "other",
    [{"max_length": 8}, {"pooling": "first"}, {"normalize": False}, {"dtype": "float16"}],
)
def test_other_options_are_refused_until_it_is_rebuilt(model, tmp_path, other):
    first = embed_catalog(TEXTS[:6], tmp_path, model=model, **OPTIONS)
    saved = contents(tmp_path)
    name = next(iter(other))
    with pytest.raises(InputError, match=f"made with another {name}: choose another folder"):
        embed_catalog(TEXTS[:6], tmp_path, model=model, **(OPTIONS | other))
    assert contents(tmp_path) == saved
    new = embed_catalog(TEXTS[:6], tmp_path, model=model, rebuild=True, **(OPTIONS | other))
    assert new.made_from != first.made_from
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_another_model_is_refused(checkpoints, model, tmp_path):
    other = checkpoints["distilbert"]
    embed_catalog(TEXTS[:6], tmp_path, model=model, **OPTIONS)
    with pytest.raises(InputError, match="made with another model"):
        embed_catalog(TEXTS[:6], tmp_path, model=other, **OPTIONS)
    with pytest.raises(InputError, match="was embedded with another model"):
        open_catalog(tmp_path, model=other)
    assert open_catalog(tmp_path, model=model).count == 6


def test_an_encoder_in_memory_is_known_by_its_weights(model, tokenizer, tmp_path):
    import torch

    encoder = load_encoder(model)
    embed_catalog(TEXTS[:6], tmp_path, model=encoder, tokenizer=tokenizer, **OPTIONS)
    again = load_encoder(model)
    assert open_catalog(tmp_path, model=again, tokenizer=tokenizer).count == 6
    with torch.no_grad():
        again.embeddings.word_embeddings.weight[7, 3] += 1e-3
    with pytest.raises(InputError, match="another model"):
        open_catalog(tmp_path, model=again, tokenizer=tokenizer)


def damage_cut(file):
    file.write_bytes(file.read_bytes()[:-40])


def damage_header(file):
    file.write_bytes(file.read_bytes()[:20])


@pytest.mark.parametrize("damage", [damage_cut, damage_header, Path.unlink])
def test_a_damaged_shard_is_noticed_and_made_again(whole, model, tmp_path, damage):
    embed_catalog(TEXTS, tmp_path, model=model, **OPTIONS)
    damage(next(tmp_path.glob("00003*.npy")))
    with pytest.raises(InputError, match=r"00003.*missing, damaged or cut short"):
        open_catalog(tmp_path)
    embed_catalog(TEXTS, tmp_path, model=model, **OPTIONS)
    assert contents(tmp_path) == contents(whole.folder)


def test_of_two_that_embed_at_once_one_is_refused(whole, model, tmp_path):
    """The lock of a file belongs to whoever opened it, in another process or in this one."""
    with FileLock(tmp_path / ".lock"):
        with pytest.raises(InputError, match="another process is writing into it"):
            embed_catalog(TEXTS, tmp_path, model=model, **OPTIONS)
        assert not list(tmp_path.glob("*.npy"))
    embed_catalog(TEXTS, tmp_path, model=model, **OPTIONS)
    assert contents(tmp_path) == contents(whole.folder)


def test_bad_input_is_one_line(model, tokenizer, tmp_path):
    encoder = load_encoder(model)
    for call, message in [
        (lambda f: embed_catalog([], f, model=model), "the catalog is empty"),
        (lambda f: embed_catalog("hat", f, model=model), "texts is one string"),
        (lambda f: embed_catalog(["a", None], f, model=model), "text 1 is NoneType"),
        (lambda f: embed_catalog(["a"], f, model=model, shard_size=0), "shard_size = 0"),
        (lambda f: embed_catalog(["a"], f, model=model, dtype="int8"), "dtype = 'int8'"),
        (lambda f: embed_catalog(["a"], f, model=model, precision="x"), "precision = 'x'"),
        (lambda f: embed_catalog(["a"], f, model=encoder), "needs its tokenizer"),
        (lambda f: embed_catalog(["a"], f, model=model, tokenizer=tokenizer), "its own tokenizer"),
        (lambda f: open_catalog(f), "holds no embedded catalog"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            call(tmp_path / message.split()[0])
        assert "\n" not in str(caught.value)
    (tmp_path / "catalog.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"catalog.json: cannot be read"):
        open_catalog(tmp_path)
