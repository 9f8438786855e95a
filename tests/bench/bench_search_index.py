"""Exact search beside FAISS flat at 10⁵ vectors; recall, latency and memory from 10³ to 10⁶.

The vectors are made up (`search.clustered_vectors`), 384 wide, as those of the built-in encoder.
``RECSYS_BENCH_VECTORS=100000`` stops at fewer vectors; 10⁶ need 4 GB and some twenty minutes, most
of them for the graph of HNSW.
"""

from __future__ import annotations

import os
import statistics
import time

import numpy as np

from recsys_lib.search import (
    VectorIndex,
    build_index,
    clustered_vectors,
    compare_indexes,
    exact_search,
    index_search,
    recall_against,
)

SIZES = (1_000, 10_000, 100_000, 1_000_000)
WIDTH, QUERIES, K, SEED = 384, 256, 10, 0
ROUNDS, ROUNDS_OF_ONE = 5, 50
BESIDE = 100_000  # vectors at which exact search and FAISS flat are timed in turn
TARGET = 0.83  # no slower by more than 1.2 times


def run() -> dict:
    """Times both in turn, compares medians, and makes the table of indexes."""
    most = int(os.environ.get("RECSYS_BENCH_VECTORS", SIZES[-1]))
    sizes = [size for size in SIZES if size <= most]
    vectors = clustered_vectors(sizes[-1] + QUERIES, WIDTH, seed=SEED)
    products, queries = vectors[:-QUERIES], vectors[-QUERIES:]
    part = products[:BESIDE]
    flat = build_index(part)
    asked = [(f"{QUERIES} queries", queries, ROUNDS), ("one query", queries[:1], ROUNDS_OF_ONE)]
    beside = [_beside(part, flat, some, what, rounds) for what, some, rounds in asked]
    table = compare_indexes(products, queries, sizes=sizes, k=K, seed=SEED)
    return {
        "results": [
            *(part.pop("row") for part in beside),
            *map(_fastest_good, _by_size(table)),
        ],
        "beside_flat": beside,
        "indexes": table.to_dict("records"),
    }


def _beside(
    products: np.ndarray, flat: VectorIndex, queries: np.ndarray, what: str, rounds: int
) -> dict:
    """Both in turn; the medians in a row of the table."""
    exact_seconds, flat_seconds = [], []
    for turn in range(rounds + 1):
        start = time.perf_counter()
        exact = exact_search(queries, products, K)
        between = time.perf_counter()
        found = index_search(flat, queries, K)
        if turn > 0:  # the first turn warms up
            exact_seconds.append(between - start)
            flat_seconds.append(time.perf_counter() - between)
    recall = float(recall_against(exact, found).mean())
    assert recall == 1, f"FAISS flat and exact search differ (recall {recall}): the ratio is void"
    ours, theirs = statistics.median(exact_seconds), statistics.median(flat_seconds)
    row = {
        "what": f"exact top-{K} of {what} over {len(products):,} vectors",
        "unit": "ms",
        "ours": 1e3 * ours,
        "reference": 1e3 * theirs,
        "reference_name": "FAISS flat",
        "ratio": theirs / ours,
        "target": TARGET,
    }
    return {"row": row, "seconds_ours": exact_seconds, "seconds_reference": flat_seconds}


def _by_size(table):
    return [part for _, part in table.groupby("vectors")]


def _fastest_good(part) -> dict:
    """At one size, the fastest setting with a recall of 0.95 beside exact search, one query."""
    exact = part[part["index"] == "exact"].iloc[0]
    good = part[part["index"].isin(["ivf", "hnsw"]) & (part["recall"] >= 0.95)]
    best = good.loc[good["ms_median"].idxmin()] if len(good) else exact
    return {
        "what": (
            f"{int(exact['vectors']):,} vectors: {best['index']} of breadth {best['breadth']}, "
            f"recall {best['recall']:.3f}"
        ),
        "unit": "ms",
        "ours": float(best["ms_median"]),
        "reference": float(exact["ms_median"]),
        "reference_name": "exact search",
        "ratio": float(np.divide(exact["ms_median"], best["ms_median"])),
        "target": None,
    }
