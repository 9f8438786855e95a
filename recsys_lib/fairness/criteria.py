"""Kinds of fairness that exclude one another, shown with a data set's own base rates.

Equal error rates, equal meaning of a decision and equal meaning of a score cannot hold together
where groups differ in how often the label is 1, unless nothing is ever decided wrongly. That is
arithmetic, no matter of effort.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from recsys_lib.fairness.groups import MIN_ROWS, coded_groups
from recsys_lib.fairness.measures import Measures
from recsys_lib.metrics import calibration_table
from recsys_lib.workbook import InputError


def implied_false_positive_rate(
    base_rate: ArrayLike, precision: ArrayLike, false_negative_rate: ArrayLike
) -> np.ndarray:
    """The only false-positive rate that goes with these three, any shape.

    ``FPR = p / (1 − p) · (1 − PPV) / PPV · (1 − FNR)``. It may pass 1: then no classifier has these
    three together. So two groups of different base rates p that share PPV and FNR differ in FPR.

    Source: Chouldechova (2017), Big Data 5, eq. 2.6 (arXiv 1703.00056).
    """
    p, ppv, fnr = (np.asarray(x, dtype=np.float64) for x in (base_rate, precision,
                                                            false_negative_rate))  # fmt: skip
    if not ((p >= 0) & (p < 1) & (ppv > 0) & (ppv <= 1) & (fnr >= 0) & (fnr <= 1)).all():
        raise InputError("base_rate must lie in [0, 1), precision in (0, 1], the FNR in [0, 1].")
    return p / (1 - p) * (1 - ppv) / ppv * (1 - fnr)


def implied_mean_of_negatives(base_rate: ArrayLike, mean_of_positives: ArrayLike) -> np.ndarray:
    """The mean score of the rows labeled 0, if scores are right on average in the group.

    ``p · m₁ + (1 − p) · m₀ = p`` gives ``m₀ = p / (1 − p) · (1 − m₁)``: a line through
    (m₀, m₁) = (0, 1) whose slope depends on the base rate p. Lines of different base rates meet
    only there, at a perfect prediction.

    Source: Kleinberg, Mullainathan, Raghavan (2016), arXiv 1609.05807, section 2.
    """
    p, m = np.asarray(base_rate, dtype=np.float64), np.asarray(mean_of_positives, dtype=np.float64)
    if not ((p >= 0) & (p < 1) & (m >= 0) & (m <= 1)).all():
        raise InputError("base_rate must lie in [0, 1) and the mean score in [0, 1].")
    return p / (1 - p) * (1 - m)


def incompatible_criteria(
    labels: ArrayLike,
    probs: ArrayLike,
    sensitive: ArrayLike | pd.Series,
    *,
    threshold: float = 0.5,
    min_rows: int = MIN_ROWS,
) -> pd.DataFrame:
    """What each group has, and what it would have to have if the others were made equal.

    Returns:
        One row per group with at least `min_rows` rows of each label and of decisions for 1:
        group, rows, base_rate, precision, false_negative_rate, false_positive_rate (as measured);
        identity (the same by `implied_false_positive_rate`, equal up to rounding); if_equal (the
        FPR that it would have with the precision and the FNR of all rows); mean_of_negatives and
        mean_of_positives (of the probabilities); if_balanced (the mean of its negatives if
        probabilities were right on average in the group and its positives had the mean of all).

    Raises:
        InputError: fewer than two groups are large enough.
    """
    measured = Measures(labels, probs, ("precision",), threshold=threshold)
    names, code = coded_groups(sensitive, rows=len(measured.labels))
    y, p, d = measured.labels, measured.probs, measured.decided
    whole = code >= 0
    if min_rows < 1:
        raise InputError(f"min_rows = {min_rows} must be at least 1.")
    if not (d[whole].any() and y[whole].any()):
        raise InputError("no row is decided 1, or none is labeled 1: there is nothing to compare.")
    ppv, fnr = y[whole & (d == 1)].mean(), 1 - d[whole & (y == 1)].mean()
    positives = p[whole & (y == 1)].mean()
    lines = []
    for g, name in enumerate(names):
        mine = code == g
        one, zero, chosen = mine & (y == 1), mine & (y == 0), mine & (d == 1)
        if min(one.sum(), zero.sum(), chosen.sum()) < min_rows:
            continue
        base, own_ppv, own_fnr = y[mine].mean(), y[chosen].mean(), 1 - d[one].mean()
        if own_ppv == 0:
            continue
        lines.append(
            {
                "group": name,
                "rows": int(mine.sum()),
                "base_rate": base,
                "precision": own_ppv,
                "false_negative_rate": own_fnr,
                "false_positive_rate": d[zero].mean(),
                "identity": float(implied_false_positive_rate(base, own_ppv, own_fnr)),
                "if_equal": float(implied_false_positive_rate(base, ppv, fnr)),
                "mean_of_negatives": p[zero].mean(),
                "mean_of_positives": p[one].mean(),
                "if_balanced": float(implied_mean_of_negatives(base, positives)),
            }
        )
    if len(lines) < 2:
        raise InputError(
            f"{len(lines)} group(s) have {min_rows} rows of each label and of decisions for 1; two "
            "are needed to compare: put groups together, or lower min_rows."
        )
    return pd.DataFrame(lines)


def calibration_by_group(
    labels: ArrayLike,
    probs: ArrayLike,
    sensitive: ArrayLike | pd.Series,
    *,
    bins: int = 5,
    min_rows: int = 50,
) -> dict[str, pd.DataFrame]:
    """Does 0.8 mean eight in ten in every group: a `metrics.calibration_table` for each.

    Bins hold about equal numbers of a group's rows. Groups of fewer than `min_rows` are left out:
    they are unknown. Raises InputError if none is left.
    """
    measured = Measures(labels, probs, ("mean_error",))
    names, code = coded_groups(sensitive, rows=len(measured.labels))
    tables = {}
    for g, name in enumerate(names):
        mine = code == g
        if mine.sum() >= min_rows:
            table = calibration_table(measured.labels[mine], measured.probs[mine], bins, by="count")
            tables[name] = pd.DataFrame(dataclasses.asdict(table))
    if not tables:
        raise InputError(f"no group has {min_rows} rows: put groups together, or lower min_rows.")
    return tables
