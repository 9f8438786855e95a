"""Metrics, their intervals and paired tests. NumPy only; imports nothing else of this library.

``classification`` (labels 0/1 and a score, a probability or a decision per row):
    ``auc``, ``average_precision``, ``log_loss``, ``brier``, ``accuracy``, ``precision``,
    ``recall``, ``f1``, ``macro_f1``, ``confusion``, ``roc_curve``, ``pr_curve``
``calibration`` (does 0.8 mean eight in ten, and where is the threshold):
    ``sigmoid``, ``calibration_table``, ``expected_calibration_error``, ``fit_temperature``,
    ``best_threshold``
``intervals`` (how far may a number be trusted, does A beat B):
    ``Estimate``, ``bootstrap``, ``bootstrap_mean``, ``paired_bootstrap``, ``permutation_test``
``ranking`` (graded relevance):
    ``dcg``, ``ndcg``

NaN, a wrong shape, labels other than 0 and 1, or one class where two are needed is a ``ValueError``
of one line. Nothing is clipped, dropped or rounded in silence.
"""

from recsys_lib.metrics.calibration import (
    CalibrationTable,
    best_threshold,
    calibration_table,
    expected_calibration_error,
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
    bootstrap_mean,
    paired_bootstrap,
    permutation_test,
)
from recsys_lib.metrics.ranking import dcg, ndcg

__all__ = [
    "CalibrationTable",
    "Estimate",
    "accuracy",
    "auc",
    "average_precision",
    "best_threshold",
    "bootstrap",
    "bootstrap_mean",
    "brier",
    "calibration_table",
    "confusion",
    "dcg",
    "expected_calibration_error",
    "f1",
    "fit_temperature",
    "log_loss",
    "macro_f1",
    "ndcg",
    "paired_bootstrap",
    "permutation_test",
    "pr_curve",
    "precision",
    "recall",
    "roc_curve",
    "sigmoid",
]
