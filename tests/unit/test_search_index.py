"""Vector search, held against a float64 sort; FAISS against exact search."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lib.metrics import bootstrap_queries
from recsys_lib.search import (
    build_index,
    clustered_vectors,
    compare_indexes,
    exact_search,
    index,
    index_search,
    recall_against,
    take_vectors,
    top_k,
)
from recsys_lib.workbook import InputError


def brute_force(queries, products, k):
    """Rows by a stable sort of float64 products, rounded as scores are."""
    scores = np.einsum("qd,nd->qn", queries.astype(np.float64), products.astype(np.float64))
    return np.argsort(-scores.astype(np.float32), axis=1, kind="stable")[:, :k]


@settings(max_examples=40)
@given(
    st.integers(0, 2**32),
    st.integers(1, 60),
    st.integers(0, 6),
    st.integers(1, 9),
    st.integers(1, 70),
    st.integers(1, 3),
)
def test_exact_search_is_a_sort(seed, n, q, width, k, values):
    """Small whole numbers: products are exact in float32, and most of them tie."""
    rng = np.random.default_rng(seed)
    products = rng.integers(-values, values + 1, (n, width)).astype(np.float32)
    queries = rng.integers(-values, values + 1, (q, width)).astype(np.float32)
    found = exact_search(queries, products, k)
    assert found.rows.shape == (q, k)
    assert np.array_equal(found.rows[:, :n], brute_force(queries, products, k))
    assert (found.rows[:, n:] == -1).all()


@pytest.fixture(scope="module")
def vectors():
    made = clustered_vectors(6_200, 24, clusters=100, seed=1)
    return made[:6_000], made[6_000:]


def test_exact_search_depends_on_no_block_part_or_company(vectors):
    products, queries = vectors
    whole = exact_search(queries, products, 10)
    assert np.array_equal(whole.rows, brute_force(queries, products, 10))
    small = exact_search(queries, products, 10, memory=1)
    parts = exact_search(
        queries, [products[:5], products[5:5], products[5:4_321], products[4_321:]], 10
    )
    alone = [exact_search(queries[i : i + 1], products, 10) for i in range(20)]
    for other in (small, parts):
        assert np.array_equal(other.rows, whole.rows)
        assert other.scores.tobytes() == whole.scores.tobytes()
    for i, one in enumerate(alone):
        assert one.scores.tobytes() == whole.scores[i : i + 1].tobytes()


def test_more_queries_than_are_multiplied_at_a_time(vectors, monkeypatch):
    products, queries = vectors
    whole = exact_search(queries, products, 5)
    monkeypatch.setattr(index, "_QUERIES", 32)
    again = exact_search(queries, products, 5, memory=1)
    assert np.array_equal(again.rows, whole.rows)


def test_equal_vectors_have_equal_scores_in_the_order_of_the_catalog():
    """Copies far apart fall into different tiles of a matrix product."""
    products = np.random.default_rng(0).standard_normal((3_000, 37)).astype(np.float32)
    copies = np.array([3, 777, 1_501, 2_999])
    products[copies] = products[3]
    found = exact_search(10 * products[3:4], products, 6, memory=1)
    assert found.rows[0, :4].tolist() == copies.tolist()
    assert len(set(found.scores[0, :4].tolist())) == 1


def test_zero_vectors_score_zero_and_stand_in_the_order_of_the_catalog():
    found = exact_search(np.zeros((1, 4)), np.random.default_rng(0).normal(size=(2_500, 4)), 3)
    assert found.rows.tolist() == [[0, 1, 2]]
    assert found.scores.tolist() == [[0, 0, 0]]
    found = exact_search(np.ones((1, 4)), np.zeros((2_500, 4)), 3, memory=1)
    assert found.rows.tolist() == [[0, 1, 2]]


def test_a_large_catalog_needs_little_memory(tmp_path):
    """Peak of numpy's own allocations, which tracemalloc sees; the full matrix would be 48 MB."""
    import tracemalloc

    n = 60_000
    np.save(tmp_path / "v.npy", clustered_vectors(n, 16, clusters=50))
    products = np.load(tmp_path / "v.npy", mmap_mode="r")
    queries = np.array(products[:200])
    tracemalloc.start()
    exact_search(queries, products, 10, memory=2 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6


def test_a_catalog_whose_best_come_last(vectors):
    """Every product of a later block is better than all before it."""
    products, queries = vectors
    order = np.argsort(products @ queries[0])
    found = exact_search(queries[:9], products[order], 10, memory=1)
    assert np.array_equal(found.rows, brute_force(queries[:9], products[order], 10))
    assert (found.rows[0] > 5_980).all()


def test_gathering_vectors_from_parts():
    array = np.arange(20, dtype=np.float32).reshape(10, 2)
    parts = [array[:3], array[3:3], array[3:]]
    rows = np.array([9, 0, 3, 2, 9])
    assert np.array_equal(take_vectors(parts, rows), array[rows])
    assert take_vectors(array, rows[:0]).shape == (0, 2)
    for wrong in (-1, 10, 99):
        for products in (array, parts):
            with pytest.raises(InputError, match=f"row {wrong} is not in a catalog of 10 products"):
                take_vectors(products, np.array([0, wrong, 3]))


@pytest.mark.parametrize(
    ("queries", "products", "message"),
    [
        (np.ones((1, 2)), np.ones((0, 2)), "the catalog is empty"),
        (np.ones((1, 2)), [], "the catalog is empty"),
        (np.ones((1, 3)), np.ones((5, 2)), "the same model"),
        (np.ones(2), np.ones((5, 2)), "the same model"),
        (np.ones((1, 2)), np.ones(5), "shape"),
        (np.ones((1, 2)), [np.ones((5, 2)), np.ones((5, 3))], "different widths"),
        (np.array([[1, np.nan]]), np.ones((5, 2)), "queries: vector 0"),
        (np.ones((1, 2)), np.array([[1, 1], [np.nan, 1]]), "products: vector 1"),
        (np.zeros((1, 2)), np.array([[1, 1], [1, np.inf]]), "products: vector 1"),
        (np.full((1, 2), 1e30), np.array([[1, 1], [1e30, 1]]), "products: vector 1"),
        (np.ones((1, 2)), [[1.0, 2.0]], "must be an array of shape"),
    ],
)
def test_bad_vectors_are_refused(queries, products, message):
    with pytest.raises(InputError, match=message):
        exact_search(queries, products, 3)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_faiss_finds_what_exact_search_finds(vectors, kind):
    """Flat, IVF with all its clusters, and HNSW with a wide search over few vectors."""
    products, queries = vectors
    exact = exact_search(queries, products, 10)
    found = index_search(build_index(products, kind, threads=1), queries, 10, breadth=6_000)
    recall = recall_against(exact, found)
    if kind == "hnsw":  # approximate even so; seldom misses
        assert recall.mean() > 0.99
    else:
        assert (recall == 1).all()
        # FAISS sums in another order; no two products of a list are that close here.
        assert np.array_equal(found.rows, exact.rows)
        assert np.abs(found.scores - exact.scores).max() < 1e-5


def test_a_wider_search_misses_less(vectors):
    products, queries = vectors
    exact = exact_search(queries, products, 10)
    ivf = build_index(products, "ivf", lists=100, seed=3)
    recalls = [
        recall_against(exact, index_search(ivf, queries, 10, breadth=b)).mean() for b in (1, 4, 100)
    ]
    assert recalls[0] < recalls[1] <= recalls[2] == 1


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_an_index_is_the_same_each_time(vectors, kind):
    products, queries = vectors
    first, second = (
        index_search(build_index(products, kind, seed=5, threads=1), queries, 5, breadth=4)
        for _ in range(2)
    )
    assert np.array_equal(first.rows, second.rows)


def test_an_index_of_fewer_products_than_k(vectors):
    products, queries = vectors
    for kind in index.KINDS:
        found = index_search(build_index(products[:3], kind), queries[:2], 5, breadth=8)
        assert (np.sort(found.rows, axis=1) == [-1, -1, 0, 1, 2]).all()
        again = index_search(build_index(products[:3], kind), queries[:2], 5, breadth=10**12)
        assert np.array_equal(np.sort(again.rows), np.sort(found.rows))  # and it is not tried
    assert index_search(build_index(products[:3]), queries[:0], 5).rows.shape[0] == 0


def test_a_handful_of_products_makes_an_index_in_silence(vectors, capfd):
    """FAISS warns on stderr where clusters have few points; the one default cluster needs one."""
    build_index(vectors[0][:3], "ivf")
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_an_index_of_parts_is_that_of_the_whole(vectors):
    products, queries = vectors
    whole = index_search(build_index(products, "ivf", threads=1), queries, 5)
    parts = index_search(build_index([products[:99], products[99:]], "ivf", threads=1), queries, 5)
    assert np.array_equal(whole.rows, parts.rows)


def test_the_size_of_an_index(vectors):
    products, _ = vectors
    flat, ivf, hnsw = (build_index(products, kind).nbytes for kind in index.KINDS)
    data = products.nbytes
    assert data < flat < data + 200  # a header
    ids = 8 * len(products)
    assert data + ids < ivf < 1.2 * (data + ids)
    assert hnsw > data + 4 * 32 * len(products)  # 32 links of 4 bytes at least


def test_bad_indexes_are_refused(vectors):
    products, queries = vectors
    flat = build_index(products[:50])
    spoiled = products[:50].copy()
    spoiled[7] = np.nan
    for call, message in [
        (lambda: build_index(products, "lsh"), "kind = 'lsh' must be one of flat, ivf, hnsw"),
        (lambda: build_index(products[:0]), "the catalog is empty"),
        (
            lambda: build_index(products[:9], "ivf", lists=10),
            "lists = 10 must be a whole number in 1 … 9",
        ),
        (lambda: build_index(products, "ivf", lists=2.5), "lists = 2.5 must be a whole number"),
        (lambda: build_index(products, "ivf", seed=-1), "seed = -1 must be a whole number"),
        (lambda: build_index(products, "ivf", seed=2**31), "seed = 2147483648 must be"),
        (lambda: build_index(products, threads=0), "threads = 0"),
        (lambda: build_index(spoiled), "products: vector 7"),
        (lambda: build_index(spoiled, "ivf"), "products: vector 7"),
        (lambda: index_search(flat, queries[:, :3], 3), "the same model"),
        (lambda: index_search(flat, queries, 3, breadth=0), "breadth = 0"),
        (lambda: index_search(flat, queries, 3, breadth=1.5), "breadth = 1.5"),
    ]:
        with pytest.raises(InputError, match=message):
            call()


def test_recall_counts_equally_good_products_as_found():
    exact = top_k(np.array([[3.0, 2.0, 2.0, 2.0, 1.0]]), 3)
    for scores, expected in [
        ([3.0, -np.inf, 2.0, 2.0, 1.0], 1.0),
        ([3.0, -np.inf, -np.inf, 2.0, 1.0], 2 / 3),
        ([-np.inf] * 5, 0.0),
    ]:
        assert recall_against(exact, top_k(np.array([scores]), 3)) == pytest.approx([expected])
    with pytest.raises(InputError, match="at least one exact result"):
        recall_against(top_k(np.full((1, 2), -np.inf), 2), exact)
    with pytest.raises(InputError, match="found 1"):
        recall_against(top_k(np.zeros((2, 2)), 2), exact)


def test_the_table_of_indexes(vectors):
    products, queries = vectors
    table = compare_indexes(
        products, queries[:40], sizes=(500, 6_000), breadths={"ivf": (1, 8)}, rounds=3, threads=1
    )
    assert list(table) == [
        *("vectors", "index", "breadth", "recall", "recall_low", "recall_high"),
        *("ms_median", "ms_p95", "ms_batch", "build_seconds", "megabytes"),
    ]
    assert not table.isna().any(axis=None)
    assert len(table) == 2 * (1 + 1 + 2 + 3)
    known = table[table["index"].isin(["exact", "flat"])]
    assert (known["recall"] == 1).all()
    assert (known["breadth"] == 0).all()
    assert table["recall"].between(0, 1).all()
    large = table[table["vectors"] == 6_000].set_index(["index", "breadth"])
    assert large["recall"]["ivf", 1] < large["recall"]["ivf", 8]
    assert large["recall"]["hnsw", 256] > 0.95
    clusters = build_index(products, "ivf", threads=1)
    exact = exact_search(queries[:40], products, 10)
    for breadth in (1, 8):
        found = index_search(clusters, queries[:40], 10, breadth=breadth, threads=1)
        wanted = bootstrap_queries(recall_against(exact, found))
        row = large.loc[("ivf", breadth), ["recall", "recall_low", "recall_high"]]
        assert row.tolist() == [wanted.value, wanted.low, wanted.high]
    assert (table[["ms_median", "ms_p95", "ms_batch", "megabytes"]] > 0).all(axis=None)
    assert (table["ms_median"] <= table["ms_p95"]).all()
    for options, message in [
        ({"sizes": (7_000,)}, "sizes: 7000 must lie in 1 … 6000"),
        ({"breadths": {"flat": (1,)}}, "not flat"),
        ({"rounds": 0}, "at least one query"),
    ]:
        with pytest.raises(InputError, match=message):
            compare_indexes(products, queries, **options)


def test_recall_of_queries_that_mean_the_same_is_less_sure(vectors):
    products, queries = vectors
    options = {"sizes": (6_000,), "breadths": {"ivf": (1,)}, "rounds": 1, "threads": 1}
    alone = compare_indexes(products, queries[:40], **options)
    again = compare_indexes(products, np.repeat(queries[:40], 4, axis=0), **options)
    told = np.repeat(np.arange(40), 4)
    grouped = compare_indexes(products, np.repeat(queries[:40], 4, axis=0), groups=told, **options)
    width = [
        (t["recall_high"] - t["recall_low"])[t["index"] == "ivf"].item()
        for t in (alone, again, grouped)
    ]
    assert width[1] < 0.7 * width[0]
    assert width[2] == pytest.approx(width[0], rel=1e-6)


def test_hnsw_links_twice_as_many_on_the_bottom_layer(vectors):
    """So a vector's links take 2 · 4 · links bytes there, which is most of what HNSW adds."""
    products, _ = vectors
    graph = build_index(products, "hnsw", links=16, threads=1)
    assert [graph.engine.hnsw.nb_neighbors(layer) for layer in (0, 1, 2)] == [32, 16, 16]
    flat = build_index(products)
    per_vector = (graph.nbytes - flat.nbytes) / len(products)
    assert 4 * 32 < per_vector < 4 * 32 + 40


def test_made_up_vectors_are_clustered_and_grow_at_their_end():
    few = clustered_vectors(100, 16, clusters=5, seed=2)
    many = clustered_vectors(9_000, 16, clusters=5, seed=2)
    assert np.array_equal(few, many[:100])
    assert np.linalg.norm(many, axis=1) == pytest.approx(1, abs=1e-6)
    cosines = few @ few.T
    # spread 0.6: cosine within a cluster is 1 / (1 + 0.6²) = 0.74 on average; five clusters
    assert np.mean(cosines > 0.45) == pytest.approx(0.2, abs=0.1)
    assert not np.array_equal(few, clustered_vectors(100, 16, clusters=5, seed=3))
