"""The vector index: exact search in blocks, FAISS beside it, and what each choice costs.

Exact search multiplies all queries with all products. FAISS (Douze et al. 2024, arXiv 2401.08281)
can avoid most of that: IVF looks only into the clusters nearest to the query, HNSW (Malkov and
Yashunin 2018, arXiv 1603.09320) walks a graph of neighbors. Both miss some of the true best:
their recall is below 1.

Scores are dot products, so cosines for vectors of length 1.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from recsys_lib.metrics import bootstrap_queries
from recsys_lib.search.results import NO_ROW, Ranking, check_k, rank_triples, top_k
from recsys_lib.workbook.errors import InputError

KINDS = ("flat", "ivf", "hnsw")
_SPARE = 32  # candidates beyond k that are scored again precisely
_QUERIES = 256  # queries multiplied at a time
_EQUAL = 1e-5  # scores that float32 sums cannot tell apart


def exact_search(
    queries: np.ndarray,
    products: np.ndarray | Sequence[np.ndarray],
    k: int,
    *,
    memory: int = 64 << 20,
) -> Ranking:
    """The k products of highest dot product for each query, without a (Q, N) matrix.

    queries: (Q, d) float. products: (N, d) float, or the parts of a catalog one after the other
    (memory-mapped shards), read once from front to back.
    memory: bytes that a block of scores and of products may take; more changes the speed only.

    Candidates are found by float32 products of blocks; k and 32 more of them are scored again in
    float64. So the result does not depend on the size of the blocks or on which queries are asked
    together, equal vectors have equal scores, and of equal scores the lower row comes first (among
    more than 32 that tie with the last, whichever the products of blocks found).

    Raises InputError for an empty catalog, NaN or infinite values, or vectors of another width.
    """
    check_k(k)
    parts = [products] if isinstance(products, np.ndarray) else list(products)
    queries = _checked_queries(queries, _checked_parts(parts))
    n_queries, width = queries.shape
    if not n_queries:
        return top_k(np.empty((0, 1)), k)
    wanted = k + _SPARE
    at_once = min(_QUERIES, n_queries)
    step = max(1_000, memory // (4 * (at_once + width)))
    best = Ranking(
        np.full((n_queries, wanted), NO_ROW, dtype=np.int64),
        np.full((n_queries, wanted), -np.inf, dtype=np.float32),
    )
    start = 0
    for part in parts:
        for low in range(0, len(part), step):
            block = np.asarray(part[low : low + step], dtype=np.float32)
            best = _better(best, queries, block, start + low, at_once)
        start += len(part)
    return _scored_precisely(best, queries, parts, k)


def _better(
    best: Ranking, queries: np.ndarray, block: np.ndarray, first_row: int, at_once: int
) -> Ranking:
    """The best of what was found and of one more block of products."""
    rows, scores = best.rows, best.scores
    for low in range(0, len(queries), at_once):
        part = slice(low, low + at_once)
        with np.errstate(over="ignore", invalid="ignore"):  # refused below
            new = queries[part] @ block.T
        if not np.isfinite(new[0]).all():  # NaN or infinity in a product spoils every score of it
            bad = first_row + int(np.flatnonzero(~np.isfinite(new[0]))[0])
            raise InputError(f"products: vector {bad} has NaN, or values too large to multiply")
        # A later row replaces an earlier one only if it is strictly better.
        better = new > scores[part, -1:]
        if np.count_nonzero(better) <= 4 * rows.shape[1] * len(new):
            query, column = np.nonzero(better)
        else:  # the first block, or a catalog sorted by what is asked for
            in_block = top_k(new, rows.shape[1])
            if first_row == 0:  # nothing was found before
                rows[part], scores[part] = in_block.rows, in_block.scores
                continue
            query, at = np.nonzero(in_block.rows >= 0)
            column = in_block.rows[query, at]
        old_query, old_at = np.nonzero(rows[part] >= 0)
        found = rank_triples(
            np.concatenate([old_query, query]),
            np.concatenate([rows[part][old_query, old_at], column + first_row]),
            np.concatenate([scores[part][old_query, old_at], new[query, column]]),
            len(new),
            rows.shape[1],
        )
        rows[part], scores[part] = found.rows, found.scores
    return best


def _scored_precisely(
    found: Ranking, queries: np.ndarray, parts: Sequence[np.ndarray], k: int
) -> Ranking:
    """The k best of the candidates, by products in float64 that are the same for equal vectors."""
    scores = np.full(found.rows.shape, -np.inf)
    for low in range(0, len(queries), _QUERIES):
        rows = found.rows[low : low + _QUERIES]
        query, at = np.nonzero(rows >= 0)
        vectors = take_vectors(parts, rows[query, at]).astype(np.float64)
        scores[low + query, at] = np.einsum("nd,nd->n", vectors, queries[low + query])
    query, at = np.nonzero(found.rows >= 0)
    return rank_triples(query, found.rows[query, at], scores[query, at], len(queries), k)


def take_vectors(products: np.ndarray | Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """The vectors of given rows, (n, d) float32, from an array or the parts of a catalog.

    Raises InputError for a row that the catalog lacks (a negative one, too), or an empty catalog.
    """
    parts = [products] if isinstance(products, np.ndarray) else list(products)
    width = _checked_parts(parts)
    out = np.empty((len(rows), width), dtype=np.float32)
    ends = np.cumsum([len(part) for part in parts])
    if len(rows) and not 0 <= np.min(rows) <= np.max(rows) < ends[-1]:
        wrong = np.min(rows) if np.min(rows) < 0 else np.max(rows)
        raise InputError(f"row {wrong} is not in a catalog of {ends[-1]} products")
    source = np.searchsorted(ends, rows, side="right")
    for i, part in enumerate(parts):
        here = np.flatnonzero(source == i)
        if len(here):
            out[here] = part[rows[here] - (ends[i] - len(part))]
    return out


@dataclass(frozen=True, eq=False)
class VectorIndex:
    """A FAISS index over a catalog; made by `build_index`, used by `index_search`.

    engine: the `faiss` index. kind: one of `KINDS`. n_products, width: of the vectors in it.
    seconds: that it took to build. nbytes: of the index as it would lie on a disk.
    """

    engine: object
    kind: str
    n_products: int
    width: int
    seconds: float
    nbytes: int


def build_index(
    products: np.ndarray | Sequence[np.ndarray],
    kind: str = "flat",
    *,
    lists: int | None = None,
    links: int = 32,
    effort: int = 80,
    seed: int = 0,
    threads: int | None = None,
) -> VectorIndex:
    """A FAISS index for dot products.

    products: as in `exact_search`.
    kind: "flat" compares with every product; "ivf" with the products of the clusters nearest to the
        query; "hnsw" walks a graph.
    lists: IVF: clusters, by default 4 √N (at least 39 products for each, as k-means needs).
    links: HNSW: neighbors per product; on the bottom layer, which holds every product, FAISS keeps
        up to twice as many. effort: HNSW: candidates while the graph is built.
    seed: IVF: of k-means. threads: by default torch's. With one thread an HNSW graph is the same
        each time; with more, the order in which products join it varies.
    Raises InputError as `exact_search`, and for an unknown kind or an option out of range.
    """
    if kind not in KINDS:
        raise InputError(f"kind = {kind!r} must be one of {', '.join(KINDS)}")
    parts = [products] if isinstance(products, np.ndarray) else list(products)
    width = _checked_parts(parts)
    n = sum(len(part) for part in parts)
    if lists is None:
        lists = max(1, min(round(4 * n**0.5), n // 39))
    for name, value, most in (
        ("lists", lists, n),
        ("links", links, 512),
        ("effort", effort, 10_000),
    ):
        if not _is_whole(value) or not 1 <= value <= most:
            raise InputError(f"{name} = {value} must be a whole number in 1 … {most}")
    if not _is_whole(seed) or not 0 <= seed < 2**31:
        raise InputError(f"seed = {seed} must be a whole number in 0 … {2**31 - 1}")
    faiss = load_faiss(threads)
    started = time.perf_counter()
    metric = faiss.METRIC_INNER_PRODUCT
    if kind == "flat":
        engine = faiss.IndexFlatIP(width)
    elif kind == "ivf":
        quantizer = faiss.IndexFlatIP(width)
        engine = faiss.IndexIVFFlat(quantizer, width, lists, metric)
        engine.cp.seed = seed
        if lists == 1:  # the one cluster of a few products needs no warning that they are few
            engine.cp.min_points_per_centroid = 1
        engine.train(_sample(parts, 256 * lists, seed))
    else:
        engine = faiss.IndexHNSWFlat(width, max(2, links), metric)
        engine.hnsw.efConstruction = effort
    start = 0
    for part in parts:
        for low in range(0, len(part), 65_536):
            block = np.ascontiguousarray(part[low : low + 65_536], dtype=np.float32)
            _check_finite(block, "products", start + low)
            engine.add(block)
        start += len(part)
    seconds = time.perf_counter() - started
    return VectorIndex(engine, kind, n, width, seconds, _stored_bytes(faiss, engine))


def index_search(
    index: VectorIndex,
    queries: np.ndarray,
    k: int,
    *,
    breadth: int | None = None,
    threads: int | None = None,
) -> Ranking:
    """The k best products that the index finds for each query, (Q, d) float.

    breadth: how hard it looks: IVF: clusters that are searched, by default an eighth; HNSW:
        candidates on the way, by default the larger of 64 and k. More is slower and misses less.
    Among equal scores at the end of a list, FAISS decides which product is in it.
    Raises InputError for another width, NaN, or a breadth below 1.
    """
    check_k(k)
    queries = _checked_queries(queries, index.width)
    if breadth is not None and (not _is_whole(breadth) or breadth < 1):
        raise InputError(f"breadth = {breadth} must be a whole number from 1 on")
    if not len(queries):
        return top_k(np.empty((0, 1)), k)
    faiss = load_faiss(threads)
    options = None
    if index.kind == "ivf":
        probes = max(1, index.engine.nlist // 8) if breadth is None else breadth
        options = faiss.SearchParametersIVF(nprobe=min(probes, index.engine.nlist))
    elif index.kind == "hnsw":
        effort = max(64, k) if breadth is None else breadth
        options = faiss.SearchParametersHNSW(efSearch=min(effort, max(64, index.n_products)))
    depth = min(k, index.n_products)
    scores, rows = index.engine.search(np.ascontiguousarray(queries), depth, params=options)
    query, at = np.nonzero(rows >= 0)
    return rank_triples(query, rows[query, at], scores[query, at], len(queries), k)


def recall_against(exact: Ranking, found: Ranking) -> np.ndarray:
    """The share of each query's true best products that was found, (Q,) float64 in 0 … 1.

    A found product counts if its score is not below that of the last of the exact list (but for
    1e-5, relative to it): which of equally good products is listed is no mistake. The depth is that
    of the shorter list.
    """
    if len(exact) != len(found):
        raise InputError(f"exact has {len(exact)} queries, found {len(found)}")
    k = min(exact.k, found.k)
    exact, found = exact.head(k), found.head(k)
    lengths = exact.lengths
    if not lengths.all():
        raise InputError("recall needs at least one exact result per query")
    last = np.take_along_axis(exact.scores, lengths[:, None] - 1, axis=1)
    level = last - _EQUAL * np.maximum(1, np.abs(last))
    return ((found.rows >= 0) & (found.scores >= level)).sum(axis=1) / lengths


def compare_indexes(
    products: np.ndarray,
    queries: np.ndarray,
    *,
    sizes: Sequence[int] = (1_000, 10_000),
    k: int = 10,
    breadths: Mapping[str, Sequence[int]] | None = None,
    rounds: int = 50,
    groups: Sequence[Hashable] | np.ndarray | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> pd.DataFrame:
    """Recall, latency and memory of exact search and every kind of index, side by side.

    products: (N, d) float; a size takes the first so many. queries: (Q, d) float.
    breadths: for "ivf" and "hnsw", the breadths to try; by default 1, 4, 16 and 64 clusters, and
        16, 64 and 256 candidates.
    rounds: queries that are asked one at a time, for the latency.
    groups: (Q,), of queries that are not independent, such as those that mean the same.
    threads: FAISS's, by default torch's; exact search has those of numpy's BLAS.

    Returns a row per size, index and breadth: vectors, index ("exact", "flat", "ivf", "hnsw"),
    breadth (0 where there is none), recall (mean over queries, at k, against exact), recall_low and
    recall_high (its 95 % interval, queries or groups resampled), ms_median and ms_p95 (one query
    alone), ms_batch (per query, all asked at once), build_seconds, megabytes.
    Raises InputError for a size beyond the vectors.
    """
    tried = {"ivf": (1, 4, 16, 64), "hnsw": (16, 64, 256)} | dict(breadths or {})
    unknown = set(tried) - {"ivf", "hnsw"}
    if unknown:
        raise InputError(f"breadths: only ivf and hnsw have a breadth, not {min(unknown)}")
    if rounds < 1 or not len(queries):
        raise InputError("compare_indexes needs at least one query and one round")
    rows = []
    for size in sizes:
        if not 1 <= size <= len(products):
            raise InputError(f"sizes: {size} must lie in 1 … {len(products)}, the vectors given")
        part = products[:size]
        exact = exact_search(queries, part, k)
        times = _times(lambda q, part=part: exact_search(q, part, k), queries, rounds)
        megabytes = part[:1].nbytes * size / 1e6
        rows.append((size, "exact", 0, 1.0, 1.0, 1.0, *times, 0.0, megabytes))
        for kind in KINDS:
            index = build_index(part, kind, seed=seed, threads=threads)
            for breadth in tried.get(kind, (None,)):
                if kind == "ivf" and breadth > index.engine.nlist:
                    continue  # the same as all of them

                def ask(q, index=index, breadth=breadth):
                    return index_search(index, q, k, breadth=breadth, threads=threads)

                found = recall_against(exact, ask(queries))
                recall = bootstrap_queries(found, groups=groups, seed=seed)
                times = _times(ask, queries, rounds)
                row = (size, kind, breadth or 0, recall.value, recall.low, recall.high)
                rows.append((*row, *times, index.seconds, index.nbytes / 1e6))
    columns = ("vectors", "index", "breadth", "recall", "recall_low", "recall_high", "ms_median")
    columns = (*columns, "ms_p95", "ms_batch", "build_seconds", "megabytes")
    return pd.DataFrame(rows, columns=list(columns))


def clustered_vectors(
    n: int, width: int, *, clusters: int = 1_000, spread: float = 0.6, seed: int = 0
) -> np.ndarray:
    """Made-up unit vectors in clusters, as texts about like things have, (n, width) float32.

    Each is a cluster's center, a random direction, plus noise of length about `spread`; the first n
    are the same for any larger n. For measuring an index beyond the size of a real catalog.
    """
    centers = np.random.default_rng([seed, 0]).standard_normal((clusters, width), np.float32)
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    out = np.empty((n, width), dtype=np.float32)
    for block, low in enumerate(range(0, n, 8_192)):
        rng = np.random.default_rng([seed, 1, block])
        cluster = rng.integers(0, clusters, 8_192)
        noise = rng.standard_normal((8_192, width), np.float32) * np.float32(spread / width**0.5)
        vectors = (centers[cluster] + noise)[: n - low]
        out[low : low + 8_192] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return out


def load_faiss(threads: int | None):
    """FAISS, with as many threads as torch uses; one on macOS, where two OpenMPs in one process
    end it. Imported here, behind torch: whichever comes first brings the OpenMP for both."""
    import faiss

    if threads is None:
        threads = 1 if sys.platform == "darwin" else torch.get_num_threads()
    if threads < 1:
        raise InputError(f"threads = {threads} must be at least 1")
    faiss.omp_set_num_threads(threads)
    return faiss


def _stored_bytes(faiss, engine) -> int:
    """Bytes of the index if it was written, counted without writing it."""
    total = 0

    def count(data: bytes) -> None:
        nonlocal total
        total += len(data)

    faiss.write_index(engine, faiss.BufferedIOWriter(faiss.PyCallbackIOWriter(count), 1 << 22))
    return total


def _sample(parts: Sequence[np.ndarray], most: int, seed: int) -> np.ndarray:
    """At most so many rows of all parts at random, for k-means."""
    n = sum(len(part) for part in parts)
    chosen = np.arange(n)
    if n > most:
        chosen = np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
    vectors = take_vectors(parts, chosen)
    _check_finite(vectors, "products", 0)
    return vectors


def _times(ask, queries: np.ndarray, rounds: int) -> tuple[float, float, float]:
    """Milliseconds: median and 95th percentile of one query alone; per query, all at once."""
    ask(queries[:1])
    alone = []
    for i in range(rounds):
        one = queries[i % len(queries)][None]
        started = time.perf_counter()
        ask(one)
        alone.append(time.perf_counter() - started)
    started = time.perf_counter()
    ask(queries)
    together = (time.perf_counter() - started) / len(queries)
    return tuple(1e3 * np.array([np.median(alone), np.quantile(alone, 0.95), together]))


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _checked_parts(parts: Sequence[np.ndarray]) -> int:
    """The width of the vectors."""
    if any(not isinstance(part, np.ndarray) or part.ndim != 2 for part in parts):
        raise InputError("products must be an array of shape (products, width), or a list of these")
    if not sum(len(part) for part in parts):
        raise InputError("the catalog is empty: there is no vector to search")
    widths = {part.shape[1] for part in parts}
    if len(widths) > 1:
        raise InputError(f"the parts of the catalog have different widths: {sorted(widths)}")
    return widths.pop()


def _checked_queries(queries: np.ndarray, width: int) -> np.ndarray:
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if queries.ndim != 2 or queries.shape[1] != width:
        raise InputError(
            f"queries have the shape {queries.shape}, the products the width {width}: embed both "
            "with the same model"
        )
    _check_finite(queries, "queries", 0)
    return queries


def _check_finite(vectors: np.ndarray, what: str, first_row: int) -> None:
    if not np.isfinite(vectors).all():
        bad = first_row + int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise InputError(f"{what}: vector {bad} has NaN or infinite values")
