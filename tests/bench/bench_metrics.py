"""2,000 bootstrap resamples of AUC over 4,000 rows against a loop over ``roc_auc_score``.

Both see the same resamples, and the values must agree to 1e-12.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
from sklearn.metrics import roc_auc_score

from recsys_lib import metrics

ROWS, RESAMPLES, ROUNDS, SEED = 4_000, 2_000, 3, 0
TARGET = 20.0


def run() -> dict:
    """Times both in turn, ``ROUNDS`` times, and compares medians."""
    rng = np.random.default_rng(SEED)
    labels = (rng.random(ROWS) < 0.8).astype(int)
    scores = rng.normal(size=ROWS) + 2 * labels
    ours_seconds, loop_seconds = [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        ours = metrics.bootstrap(labels, scores, "auc", n=RESAMPLES, seed=SEED)
        ours_seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
        loop = _loop(labels, scores)
        loop_seconds.append(time.perf_counter() - start)
    worst = max(
        abs(ours.value - roc_auc_score(labels, scores)),
        *np.abs(np.quantile(loop, [0.025, 0.975]) - [ours.low, ours.high]),
        np.abs(_all_values(labels, scores) - loop).max(),
    )
    assert worst < 1e-12, (
        f"the bootstrap and the loop differ by {worst:.1e}; the ratio means nothing"
    )
    ours_median, loop_median = statistics.median(ours_seconds), statistics.median(loop_seconds)
    return {
        "results": [
            {
                "what": f"{RESAMPLES:,} bootstrap resamples of AUC over {ROWS:,} rows",
                "unit": "s",
                "ours": ours_median,
                "reference": loop_median,
                "reference_name": "a loop over sklearn.metrics.roc_auc_score",
                "ratio": loop_median / ours_median,
                "target": TARGET,
            }
        ],
        "seconds_ours": ours_seconds,
        "seconds_reference": loop_seconds,
        "largest_difference": float(worst),
        "interval": [ours.low, ours.high],
    }


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
