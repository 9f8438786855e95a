"""Embedding a catalog, side by side with ``SentenceTransformer.encode`` as it comes, on the CPU.

Both with their defaults and the same checkpoint, over product texts and over product names. Ours is
the whole path: the model is loaded in each round, and the vectors end in shards on the disk; the
reference has its model loaded before and leaves the vectors in memory.

Then memory: how much a process that embeds a catalog grows at its peak, the model included, beside
its peak over the first eighth of the texts.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from sentence_transformers import SentenceTransformer

from recsys_lib.datasets import load_relevance
from recsys_lib.models import model_path
from recsys_lib.search import embed_catalog
from recsys_lib.workbook import detect_hardware, find_data, project_folder, quiet_libraries

TEXTS, ROUNDS, SEED = 4_000, 3, 0
SAME = 0.999  # cosine of equal vectors, as bf16 leaves it
TARGET = 2.5  # on a CPU with bf16
# Eight shards, and sixty-four: caches (kernels by shape, the allocator's) fill in the first ones.
FEW, TIMES = 32_768, 8
TURNS = 2
FLAT = 0.9  # so eight times the texts need at most 1.1 times the memory


def run() -> dict:
    """Times both in turn on texts and names, ``ROUNDS`` times; then measures memory."""
    quiet_libraries()
    dataset = "fashion" if find_data("fashion") else "market"
    products = load_relevance(dataset, seed=SEED).products[:TEXTS]
    reference = SentenceTransformer(str(model_path()), device="cpu")
    parts = [
        _beside(reference, products[column].tolist(), f"product {what} of {dataset}")
        for column, what in (("text", "texts"), ("name", "names"))
    ]
    return {
        "results": [*(part.pop("row") for part in parts), _memory(products["name"].tolist())],
        "dataset": dataset,
        "speeds": parts,
    }


def _beside(reference: SentenceTransformer, texts: list[str], what: str) -> dict:
    speeds: dict[str, list[float]] = {"ours": [], "reference": []}
    vectors: dict[str, np.ndarray] = {}
    for turn in range(ROUNDS + 1):
        some = texts[:256] if turn == 0 else texts  # the first turn warms up
        for side, call in (("ours", _ours), ("reference", reference.encode)):
            start = time.perf_counter()
            vectors[side] = call(some)
            if turn > 0:
                speeds[side].append(len(some) / (time.perf_counter() - start))
    unit = {
        side: array / np.linalg.norm(array, axis=1, keepdims=True)
        for side, array in vectors.items()
    }
    cosine = float(np.einsum("nd,nd->n", unit["ours"], unit["reference"]).min())
    assert cosine >= SAME, f"{what}: a cosine is only {cosine:.4f}, so the ratio means nothing"
    here = detect_hardware()
    pairs = zip(speeds["ours"], speeds["reference"], strict=True)
    row = {
        "what": f"embedding {len(texts):,} {what}, cosines ≥ {np.floor(cosine * 1e5) / 1e5:.5f}",
        "unit": "texts/s",
        **{side: statistics.median(values) for side, values in speeds.items()},
        "reference_name": "SentenceTransformer.encode",
        "ratio": statistics.median(a / b for a, b in pairs),
        "target": TARGET if (here.device, here.precision) == ("cpu", "bf16") else None,
    }
    return {"row": row, "smallest_cosine": cosine, **speeds}


def _ours(texts: list[str]) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        return embed_catalog(texts, folder).array()


# The system's own record of the peak begins, in a new process, with the memory of the process that
# started it. So the memory in use is watched while the catalog is embedded.
_CHILD = """
import itertools, json, sys, tempfile, threading
import psutil
from recsys_lib.search import embed_catalog

texts, few, count = json.load(sys.stdin), int(sys.argv[1]), int(sys.argv[2])
memory, done = psutil.Process().memory_info, threading.Event()
before = peak = memory().rss
after_few = None

def stream():
    global after_few
    for i, text in enumerate(itertools.islice(itertools.cycle(texts), count)):
        if i == few:
            after_few = peak
        yield f"{text} {i}"

def watch():
    global peak
    while not done.wait(0.005):
        peak = max(peak, memory().rss)

watcher = threading.Thread(target=watch)
watcher.start()
with tempfile.TemporaryDirectory() as folder:
    assert embed_catalog(stream(), folder).count == count
done.set()
watcher.join()
print(*((bytes - before) / 2**20 for bytes in (after_few, peak)))
"""


def _memory(texts: list[str]) -> dict:
    """Means of several processes; each gives both peaks, so that both began alike."""
    few, many = np.mean([_growth(texts) for _ in range(TURNS)], axis=0)
    return {
        "what": f"peak memory of embedding {TIMES * FEW:,} names beside that of the first {FEW:,}",
        "unit": "MB",
        "ours": many,
        "reference": few,
        "reference_name": f"the first {FEW:,} names",
        "ratio": few / many,
        "target": FLAT,
    }


def _growth(texts: list[str]) -> tuple[float, float]:
    """Megabytes that a new process has more than before at its peaks, over the first and all."""
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, str(FEW), str(TIMES * FEW)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
        cwd=project_folder(),
    )
    few, many = map(float, child.stdout.split())
    return few, many
