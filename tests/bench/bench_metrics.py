"""The metrics against the loops and libraries that they replace, on the same data.

* 2,000 bootstrap resamples of AUC over 4,000 rows: a loop over ``roc_auc_score``, same resamples.
* NDCG@10 of 10,000 queries with 1,000 candidates each, and of 2,000 as the long rows of a frame: a
  loop over ``ndcg_score``.
* Average precision of 2,000 queries: a loop over ``average_precision_score``.
* A run of 1,000 queries with 100 documents against judgments, from frames: ``ir_measures``, which
  calls trec_eval.
* Five metrics of 10,000 queries with 1,000 candidates each, and of 1,000 from dictionaries:
  ``ranx``, whose compiled functions have run before. ``make bench`` installs it (the extra
  ``bench``): without it a line says so, and these rows are left out.

What is promised are the rows with a target: 20 times the loops of scikit-learn, and no slower than
``ranx.evaluate`` on the same grades and scores, its ``Qrels`` and ``Run`` built before, the sorting
part of the time on both sides. The other rows are measured for the sake of knowing: what building
those objects costs, and ranx's compiled loops alone over lists that were sorted before, which is
less work than ours.

The values must agree to 1e-12 (of runs: 1e-9), or the ratio means nothing.
"""

from __future__ import annotations

import importlib.util
import itertools
import statistics
import time
from collections.abc import Callable

import ir_measures
import numpy as np
import pandas as pd
from ir_measures import AP, P, R, nDCG
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score

from recsys_lib import metrics

ROWS, RESAMPLES, ROUNDS, SEED = 4_000, 2_000, 3, 0
QUERIES, FEWER, CANDIDATES, CUT = 10_000, 2_000, 1_000, 10
RUN_QUERIES, RUN_DEPTH, JUDGED = 1_000, 100, 200
TARGET = 20.0
BESIDE_RANX = {  # our name: theirs, whose ndcg has linear gains
    "ndcg_linear@10": "ndcg@10",
    "rr": "mrr",
    "ap": "map",
    "recall@10": "recall@10",
    "precision@10": "precision@10",
}


def run() -> dict:
    """Times each pair in turn, ``ROUNDS`` times, and compares medians."""
    parts = [_bootstrap(), *_many_queries(), _run_against_judgments(), *_beside_ranx()]
    return {
        "results": [part.pop("row") for part in parts],
        "bootstrap": parts[0],
        "queries": parts[1:],
    }


def _timed(
    what: str, ours: Callable[[], object], reference: Callable[[], object], name: str, target
) -> tuple[dict, object, object]:
    """The row of the table with all seconds, and what the last calls returned."""
    seconds: dict[str, list[float]] = {"ours": [], "reference": []}
    value: dict[str, object] = {}
    for _ in range(ROUNDS):
        for side, call in (("ours", ours), ("reference", reference)):
            start = time.perf_counter()
            value[side] = call()
            seconds[side].append(time.perf_counter() - start)
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    row = {
        "what": what,
        "unit": "s",
        **medians,
        "reference_name": name,
        "ratio": medians["reference"] / medians["ours"],
        "target": target,
    }
    part = {"row": row, "seconds_ours": seconds["ours"], "seconds_reference": seconds["reference"]}
    return part, value["ours"], value["reference"]


def _agree(part: dict, worst: float, tolerance: float) -> dict:
    assert worst < tolerance, f"{part['row']['what']}: the values differ by {worst:.1e}"
    return part | {"largest_difference": float(worst)}


def _bootstrap() -> dict:
    rng = np.random.default_rng(SEED)
    labels = (rng.random(ROWS) < 0.8).astype(int)
    scores = rng.normal(size=ROWS) + 2 * labels
    part, ours, loop = _timed(
        f"{RESAMPLES:,} bootstrap resamples of AUC over {ROWS:,} rows",
        lambda: metrics.bootstrap(labels, scores, "auc", n=RESAMPLES, seed=SEED),
        lambda: _loop(labels, scores),
        "a loop over sklearn.metrics.roc_auc_score",
        TARGET,
    )
    worst = max(
        abs(ours.value - roc_auc_score(labels, scores)),
        *np.abs(np.quantile(loop, [0.025, 0.975]) - [ours.low, ours.high]),
        np.abs(_all_values(labels, scores) - loop).max(),
    )
    return _agree(part, worst, 1e-12) | {"interval": [ours.low, ours.high]}


def _many_queries() -> list[dict]:
    rng = np.random.default_rng(SEED)
    shape = (QUERIES, CANDIDATES)
    grades = rng.choice(4, shape, p=[0.95, 0.03, 0.01, 0.01])
    scores = rng.normal(size=shape) + grades
    gains = 2**grades - 1
    queries = np.repeat(np.arange(FEWER), CANDIDATES)
    # As a frame has them: lists of unequal length, so that the rows are no rectangle.
    kept = rng.random(queries.size) < 0.9
    flat = grades[:FEWER].ravel()[kept], scores[:FEWER].ravel()[kept]
    owner, bounds = queries[kept], np.searchsorted(queries[kept], np.arange(FEWER + 1))
    binary = (grades[:FEWER] > 0).astype(int)
    cases = [
        (
            f"NDCG@{CUT} of {QUERIES:,} queries × {CANDIDATES:,} candidates, padded",
            lambda: metrics.ndcg(grades, scores, CUT),
            lambda: [
                ndcg_score(gains[q : q + 1], scores[q : q + 1], k=CUT) for q in range(QUERIES)
            ],
            "a loop over sklearn.metrics.ndcg_score",
        ),
        (
            f"NDCG@{CUT} of {FEWER:,} queries × about {0.9 * CANDIDATES:,.0f}, long rows",
            lambda: metrics.ndcg(*flat, CUT, queries=owner),
            lambda: [
                ndcg_score([2 ** flat[0][a:b] - 1], [flat[1][a:b]], k=CUT)
                for a, b in itertools.pairwise(bounds)
            ],
            "a loop over sklearn.metrics.ndcg_score",
        ),
        (
            f"average precision of {FEWER:,} queries × {CANDIDATES:,} candidates",
            lambda: metrics.average_precision_at_k(binary, scores[:FEWER]),
            lambda: [average_precision_score(binary[q], scores[q]) for q in range(FEWER)],
            "a loop over sklearn.metrics.average_precision_score",
        ),
    ]
    parts = []
    for what, ours, reference, name in cases:
        part, got, wanted = _timed(what, ours, reference, name, TARGET)
        parts.append(_agree(part, np.abs(got - np.array(wanted)).max(), 1e-12))
    return parts


def _run_against_judgments() -> dict:
    rng = np.random.default_rng(SEED)
    documents = np.array([f"product-{number:06d}" for number in range(20_000)])
    known, found = [], []
    for query in (f"query-{number}" for number in range(RUN_QUERIES)):
        judged = rng.choice(len(documents), JUDGED, replace=False)
        listed = rng.permutation(np.r_[judged[: RUN_DEPTH // 2], judged[0] + 1 + np.arange(50)])
        listed = np.unique(listed % len(documents))
        known.append({"query": query, "doc": documents[judged]})
        found.append({"query": query, "doc": documents[listed]})
    judgments = pd.concat(map(pd.DataFrame, known), ignore_index=True)
    judgments["grade"] = rng.integers(0, 4, len(judgments))
    run = pd.concat(map(pd.DataFrame, found), ignore_index=True)
    run["score"] = rng.permutation(len(run)).astype(float)
    ours = {"ap": AP, "ndcg_linear@10": nDCG @ 10, "precision@10": P @ 10, "recall@10": R @ 10}
    named = {"query": "query_id", "doc": "doc_id", "grade": "relevance"}
    theirs = judgments.rename(columns=named), run.rename(columns=named)
    part, table, rows = _timed(
        f"{len(ours)} metrics of a run of {RUN_QUERIES:,} queries, from frames",
        lambda: metrics.evaluate_run(run, judgments, list(ours)),
        lambda: list(ir_measures.iter_calc(list(ours.values()), *theirs)),
        "ir_measures (trec_eval)",
        None,
    )
    names = {measure: name for name, measure in ours.items()}
    worst = max(abs(row.value - table.at[row.query_id, names[row.measure]]) for row in rows)
    assert len(rows) == table.size
    return _agree(part, worst, 1e-9)


def _beside_ranx() -> list[dict]:
    """The promised pair: grades and scores are at hand on both sides, and are sorted by both.

    Then from dictionaries, which is ranx's way, and ranx's compiled loops alone, over lists that
    are sorted already: neither is promised.
    """
    if importlib.util.find_spec("ranx") is None:
        print("no rows beside ranx: not installed (pip install -c constraints.txt -e '.[bench]')")
        return []
    from ranx import Qrels, Run, evaluate

    rng = np.random.default_rng(SEED)
    grades = rng.choice(4, (QUERIES, CANDIDATES), p=[0.95, 0.03, 0.01, 0.01])
    scores = rng.normal(size=grades.shape) + grades
    ours, theirs = list(BESIDE_RANX), list(BESIDE_RANX.values())

    def judge(known: object, found: object) -> np.ndarray:
        options = {"return_mean": False, "save_results_in_run": False}
        return np.array([*evaluate(known, found, theirs, **options).values()]).T

    def dictionaries(count: int) -> tuple[dict, dict]:
        documents = [f"product-{number:04d}" for number in range(CANDIDATES)]
        known, found = {}, {}
        for row in range(count):
            name = f"query-{row:05d}"
            relevant = np.flatnonzero(grades[row])
            known[name] = {documents[at]: int(grades[row, at]) for at in relevant}
            found[name] = dict(zip(documents, scores[row].tolist(), strict=True))
        return known, found

    few = dictionaries(RUN_QUERIES)
    known, found = dictionaries(QUERIES)
    built = Qrels(known), Run(found)
    del known, found
    # As ranx holds them inside: columns document and value, best first; grade 0 is not judged.
    order = np.argsort(-scores, axis=1)
    listed = np.stack([order, np.take_along_axis(scores, order, axis=1)], axis=2).astype(float)
    most = int(np.count_nonzero(grades, axis=1).max())
    best = np.argsort(-grades, axis=1, kind="stable")[:, :most]
    judged = np.stack([best, np.take_along_axis(grades, best, axis=1)], axis=2).astype(float)
    size = f"{QUERIES:,} queries × {CANDIDATES:,}"
    cases = [
        (
            f"{len(ours)} metrics of {size}",
            lambda: metrics.metrics_per_query(grades, scores, ours).to_numpy(),
            lambda: judge(*built),
            "ranx.evaluate, Qrels and Run built before",
            1.0,
        ),
        (
            f"{len(ours)} metrics of {RUN_QUERIES:,} queries × {CANDIDATES:,}, from dictionaries",
            lambda: metrics.evaluate_run(few[1], few[0], ours).to_numpy(),
            lambda: judge(Qrels(few[0]), Run(few[1])),
            "ranx, building Qrels and Run",
            None,
        ),
        (
            f"{len(ours)} metrics of {size}, for ranx sorted before",
            lambda: metrics.metrics_per_query(grades, scores, ours).to_numpy(),
            lambda: judge(judged, listed),
            "ranx's compiled functions alone",
            None,
        ),
    ]
    parts = []
    for what, our_call, their_call, name, target in cases:
        their_call()  # compiles
        part, got, wanted = _timed(what, our_call, their_call, name, target)
        parts.append(_agree(part, np.abs(got - wanted).max(), 1e-9))
    return parts


def _loop(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The same resamples, as the docstring of ``bootstrap`` defines them, one by one."""
    rng = np.random.default_rng(SEED)
    values = np.empty(RESAMPLES)
    for b in range(RESAMPLES):
        rows = rng.integers(0, ROWS, ROWS)
        values[b] = roc_auc_score(labels[rows], scores[rows])
    return values


def _all_values(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Every resample's AUC from our engine: nested intervals would hide a swap."""
    from recsys_lib.metrics import intervals

    evaluate = intervals._evaluator(labels, scores, "auc", np.arange(ROWS), 0.5, 1)
    blocks = intervals._resamples(ROWS, RESAMPLES, SEED, ROWS)
    return np.concatenate([evaluate(counts) for counts in blocks])
