"""Metrics, their intervals and paired tests. Imports nothing else of this library.

``classification`` (labels 0/1 and a score, a probability or a decision per row):
    ``auc``, ``average_precision``, ``log_loss``, ``brier``, ``accuracy``, ``precision``,
    ``recall``, ``f1``, ``macro_f1``, ``confusion``, ``roc_curve``, ``pr_curve``
``calibration`` (does 0.8 mean eight in ten, and where is the threshold):
    ``sigmoid``, ``calibration_table``, ``expected_calibration_error``, ``fit_temperature``,
    ``fit_platt``, ``best_threshold``
``intervals`` (how far may a number be trusted, does A beat B):
    ``Estimate``, ``bootstrap``, ``bootstrap_mean``, ``paired_bootstrap``, ``permutation_test``,
    ``sign_flip_test``, ``holm``, ``format_p``
``ranking`` (graded relevance; one list, padded lists or long rows):
    ``precision_at_k``, ``recall_at_k``, ``hit_rate_at_k``, ``reciprocal_rank``,
    ``average_precision_at_k``, ``dcg``, ``ndcg``, ``rbp``, ``err``
``per_query`` (a table of many metrics, their means, A against B):
    ``metrics_per_query``, ``bootstrap_queries``, ``summarize_queries``, ``compare_queries``,
    ``QueryComparison``
``runs`` (a search system's lists against judgments):
    ``evaluate_run``

NaN, a wrong shape, labels other than 0 and 1, or one class where two are needed is a ``ValueError``
of one line. Nothing is clipped, dropped or rounded in silence.
"""

from recsys_lib.metrics.calibration import (
    CalibrationTable,
    best_threshold,
    calibration_table,
    expected_calibration_error,
    fit_platt,
    fit_temperature,
    sigmoid,
)
from recsys_lib.metrics.classification import (
    accuracy,
    auc,
    average_precision,
    brier,
    confusion,
    f1,
    log_loss,
    macro_f1,
    pr_curve,
    precision,
    recall,
    roc_curve,
)
from recsys_lib.metrics.intervals import (
    Estimate,
    bootstrap,
    bootstrap_difference,
    bootstrap_mean,
    format_p,
    holm,
    paired_bootstrap,
    permutation_test,
    sign_flip_test,
)
from recsys_lib.metrics.per_query import (
    QueryComparison,
    bootstrap_queries,
    compare_queries,
    metrics_per_query,
    summarize_queries,
)
from recsys_lib.metrics.ranking import (
    average_precision_at_k,
    dcg,
    err,
    hit_rate_at_k,
    ndcg,
    precision_at_k,
    rbp,
    recall_at_k,
    reciprocal_rank,
)
from recsys_lib.metrics.runs import evaluate_run

__all__ = [
    "CalibrationTable",
    "Estimate",
    "QueryComparison",
    "accuracy",
    "auc",
    "average_precision",
    "average_precision_at_k",
    "best_threshold",
    "bootstrap",
    "bootstrap_difference",
    "bootstrap_mean",
    "bootstrap_queries",
    "brier",
    "calibration_table",
    "compare_queries",
    "confusion",
    "dcg",
    "err",
    "evaluate_run",
    "expected_calibration_error",
    "f1",
    "fit_platt",
    "fit_temperature",
    "format_p",
    "hit_rate_at_k",
    "holm",
    "log_loss",
    "macro_f1",
    "metrics_per_query",
    "ndcg",
    "paired_bootstrap",
    "permutation_test",
    "pr_curve",
    "precision",
    "precision_at_k",
    "rbp",
    "recall",
    "recall_at_k",
    "reciprocal_rank",
    "roc_curve",
    "sigmoid",
    "sign_flip_test",
    "summarize_queries",
]
