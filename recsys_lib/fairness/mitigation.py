"""What mitigating a gap costs a classifier, and who pays.

Three ways, before, after and during the fit, all on features that stay as they are (an encoder's
vectors): weights that make group and label independent in the training part (*reweighing*), one
threshold per group chosen on validation, and a fit under a constraint. Each gives decisions for the
test part; `judge` says what they are worth: a quality, a gap, and what changed for every group.

Sources: Kamiran, Calders (2012), Data preprocessing techniques for classification without
discrimination, Knowledge and Information Systems 33; Hardt, Price, Srebro (2016), Equality of
opportunity in supervised learning, NeurIPS; Agarwal et al. (2018), A reductions approach to fair
classification, ICML. The last two as fairlearn implements them.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from fairlearn.postprocessing import ThresholdOptimizer
from fairlearn.reductions import (
    DemographicParity,
    ExponentiatedGradient,
    FalsePositiveRateParity,
    TruePositiveRateParity,
)
from numpy.typing import ArrayLike
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from recsys_lib.fairness.chance import blocks
from recsys_lib.metrics import Estimate
from recsys_lib.workbook.errors import InputError

CRITERIA = {
    "selection_rate": ("demographic_parity", DemographicParity),
    "true_positive_rate": ("true_positive_rate_parity", TruePositiveRateParity),
    "false_positive_rate": ("false_positive_rate_parity", FalsePositiveRateParity),
}
AS_IT_IS = "as it is"
_BLOCK = 128  # resamples at a time


@dataclass(frozen=True)
class Sample:
    """One part of the data: features (n, d), labels 0/1 (n,), the sensitive group of each row (n,).

    Raises InputError for other shapes, labels other than 0 and 1, features that are not finite, or
    a row without a group.
    """

    features: np.ndarray
    labels: np.ndarray
    sensitive: np.ndarray

    def __post_init__(self) -> None:
        features = np.asarray(self.features, dtype=np.float64)
        labels, sensitive = np.asarray(self.labels), _groups(self.sensitive)
        if features.ndim != 2 or not len(features) == len(labels) == len(sensitive):
            raise InputError(
                f"sample: features {features.shape}, labels {labels.shape} and sensitive "
                f"{sensitive.shape}; needed are (n, d), (n,) and (n,)."
            )
        if not np.isfinite(features).all():
            raise InputError("sample: features hold NaN or infinity.")
        _check_binary(labels, "labels")
        for name, value in (("features", features), ("sensitive", sensitive)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "labels", labels.astype(np.int64))


def reweighing(labels: ArrayLike, sensitive: Sequence[Hashable]) -> np.ndarray:
    """(n,) weights P(group) P(label) / P(group, label): with them the two are independent.

    Kamiran and Calders (2012), algorithm 3. A cell without rows stays without.
    """
    labels, sensitive = np.asarray(labels), _groups(sensitive)
    _check_binary(labels, "labels")
    cell = 2 * np.unique(sensitive, return_inverse=True)[1] + labels.astype(np.int64)
    joint = np.bincount(cell, minlength=2 * (cell.max() // 2 + 1)).reshape(-1, 2)
    expected = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0) / len(labels)
    return (expected.ravel() / np.maximum(joint.ravel(), 1))[cell]


def mitigated_decisions(
    train: Sample,
    valid: Sample,
    test: Sample,
    *,
    criterion: str = "false_positive_rate",
    strength: float = 0.03,
    slack: float = 0.02,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Decisions 0/1 for the test part, int64 (n_test,), by name: first "as it is", then with
    each kind of mitigation.

    The classifier is a logistic regression on standardized features. "as it is": fitted on train,
    decided at one half. "reweighing": fitted with those weights. "a threshold per group": the first
    classifier's, chosen on validation so that the criterion is equal and accuracy highest.
    "constrained fit": fitted on train so that no group's rate is further than `slack` from that of
    all. The last two may toss a coin for some rows (seeded). The test labels are not used, but the
    second to last needs the groups of the test rows.

    Args:
        criterion: the rate that should be equal, one of `CRITERIA`.
        strength: inverse regularization of the regression (scikit-learn's C).
        slack: of the constrained fit.
        seed: of the coins.

    Raises InputError for an unknown criterion, a group of test that train or validation lack, or a
    group with one class only there.
    """
    if criterion not in CRITERIA:
        raise InputError(f"criterion = {criterion!r} is not one of {', '.join(CRITERIA)}.")
    _check_parts(train, valid, test)
    equal, constraint = CRITERIA[criterion]
    scaler = StandardScaler().fit(train.features)
    x_train, x_valid, x_test = (scaler.transform(part.features) for part in (train, valid, test))

    def regression() -> LogisticRegression:
        return LogisticRegression(C=strength, max_iter=500)

    plain = regression().fit(x_train, train.labels)
    weights = reweighing(train.labels, train.sensitive)
    weighted = regression().fit(x_train, train.labels, sample_weight=weights)
    per_group = ThresholdOptimizer(
        estimator=plain,
        constraints=equal,
        objective="accuracy_score",
        prefit=True,
        predict_method="predict_proba",
    ).fit(x_valid, valid.labels, sensitive_features=valid.sensitive)
    constrained = ExponentiatedGradient(
        regression(), constraint(difference_bound=slack), eps=slack, max_iter=20
    )
    with warnings.catch_warnings():  # fairlearn 0.15 fills a series in a way that pandas 4 refuses
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"fairlearn\.")
        constrained.fit(x_train, train.labels, sensitive_features=train.sensitive)
    found = {
        AS_IT_IS: plain.predict(x_test),
        "reweighing": weighted.predict(x_test),
        "a threshold per group": per_group.predict(
            x_test, sensitive_features=test.sensitive, random_state=seed
        ),
        "constrained fit": constrained.predict(x_test, random_state=seed),
    }
    return {name: np.asarray(decided).astype(np.int64) for name, decided in found.items()}


@dataclass(frozen=True)
class Mitigated:
    """What one set of decisions is worth.

    quality: accuracy. gap: the widest difference of the criterion between two groups; its interval
    is that of the difference between these two, down to 0. Since the two were picked for being far
    apart, compare it with `chance_gap`. quality_change, gap_change: against the first, paired.
    rates: the criterion in each group; rate_changes and accuracy_changes: what changed in each
    group against the first: who pays.
    """

    name: str
    quality: Estimate
    gap: Estimate
    quality_change: Estimate
    gap_change: Estimate
    rates: dict[str, Estimate]
    rate_changes: dict[str, Estimate]
    accuracy_changes: dict[str, Estimate]


def judge(
    decisions: Mapping[str, ArrayLike],
    labels: ArrayLike,
    sensitive: Sequence[Hashable],
    *,
    groups: Sequence[Hashable] | None = None,
    criterion: str = "false_positive_rate",
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Mitigated]:
    """Quality, gap and what changed, with percentile intervals over whole products, all on the same
    resamples.

    Args:
        decisions: by name, 0/1 of each test row; changes are against the first of them.
        labels, sensitive: of the test rows.
        groups: the unit of independence of each row; by default the row.
        criterion: one of `CRITERIA`.
        n, level, seed: of the bootstrap.

    Raises InputError for other lengths or values, one sensitive group only, or a group so small
    that more than one in ten resamples has no rate for it.
    """
    if criterion not in CRITERIA:
        raise InputError(f"criterion = {criterion!r} is not one of {', '.join(CRITERIA)}.")
    labels, sensitive = np.asarray(labels), _groups(sensitive)
    _check_binary(labels, "labels")
    names, of = np.unique(sensitive, return_inverse=True)
    if len(names) < 2:
        raise InputError("sensitive: only one group; there is no gap.")
    unit = np.arange(len(labels))
    if groups is not None:
        if pd.isna(pd.Series(list(groups), dtype=object)).any():
            raise InputError("groups: a row has none: leave it out, or give it one of its own.")
        unit = np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
    if not len(labels) == len(of) == len(unit):
        raise InputError("labels, sensitive and groups must have one entry per row.")
    if not decisions:
        raise InputError("decisions is empty: give at least one set.")
    cells = []
    for name, decided in decisions.items():
        decided = np.asarray(decided)
        if decided.shape != labels.shape:
            raise InputError(f'decisions "{name}": {decided.shape} for {len(labels)} rows.')
        _check_binary(decided, f'decisions "{name}"')
        cell = 4 * of + 2 * labels.astype(np.int64) + decided.astype(np.int64)
        table = np.zeros((unit.max() + 1, 4 * len(names)))
        np.add.at(table, (unit, cell), 1)
        cells.append(table.reshape(-1, len(names), 4))
    per_unit = np.stack(cells, axis=1)  # (units, decisions, groups, 4)
    point = _values(per_unit.sum(axis=0)[None], criterion)
    drawn = _values(_resampled(per_unit, n, seed), criterion)
    if not np.isfinite(point["rate"]).all():
        raise InputError(f"{criterion}: a group has no row to compute it from; leave it out.")
    highest, lowest = point["rate"][0].argmax(axis=-1), point["rate"][0].argmin(axis=-1)
    for values in (point, drawn):
        each = np.arange(len(decisions))
        values["gap"] = values["rate"][:, each, highest] - values["rate"][:, each, lowest]

    def estimate(of_values, least: float = -np.inf) -> Estimate:
        value, values = of_values(point)[0], of_values(drawn)
        defined = values[np.isfinite(values)]
        if len(defined) < 0.9 * n:
            raise InputError(
                f"{criterion}: a group has too few rows for an interval; join it with another "
                "or leave it out."
            )
        low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
        method = f"percentile bootstrap, {len(defined)} resamples of {len(per_unit)} units"
        low = max(float(low), least)
        return Estimate(float(value), low, float(high), level, len(labels), len(per_unit), method)

    found = []
    for m, name in enumerate(decisions):
        each = {str(group): g for g, group in enumerate(names)}
        found.append(
            Mitigated(
                name=name,
                quality=estimate(lambda v, m=m: v["quality"][:, m]),
                gap=estimate(lambda v, m=m: v["gap"][:, m], least=0.0),
                quality_change=estimate(lambda v, m=m: v["quality"][:, m] - v["quality"][:, 0]),
                gap_change=estimate(lambda v, m=m: v["gap"][:, m] - v["gap"][:, 0]),
                rates={
                    k: estimate(lambda v, m=m, g=g: v["rate"][:, m, g]) for k, g in each.items()
                },
                rate_changes={
                    k: estimate(lambda v, m=m, g=g: v["rate"][:, m, g] - v["rate"][:, 0, g])
                    for k, g in each.items()
                },
                accuracy_changes={
                    k: estimate(lambda v, m=m, g=g: v["accuracy"][:, m, g] - v["accuracy"][:, 0, g])
                    for k, g in each.items()
                },
            )
        )
    return found


def chance_gap(
    decisions: ArrayLike,
    labels: ArrayLike,
    sensitive: Sequence[Hashable],
    *,
    criterion: str = "false_positive_rate",
    n: int = 1000,
    quantile: float = 0.95,
    seed: int = 0,
) -> float:
    """The gap that randomly permuted group labels stay below in `quantile` of n permutations.

    Raises InputError for an unknown criterion, other lengths or values, or no row that the
    criterion is about.
    """
    if criterion not in CRITERIA:
        raise InputError(f"criterion = {criterion!r} is not one of {', '.join(CRITERIA)}.")
    labels, decisions = np.asarray(labels), np.asarray(decisions)
    of = np.unique(_groups(sensitive), return_inverse=True)[1]
    _check_binary(labels, "labels")
    _check_binary(decisions, "decisions")
    if not len(labels) == len(decisions) == len(of):
        raise InputError("labels, decisions and sensitive must have one entry per row.")
    cell = 2 * labels.astype(np.int64) + decisions.astype(np.int64)
    rng = np.random.default_rng(seed)
    size = 4 * (of.max() + 1)
    tables = [np.bincount(4 * rng.permutation(of) + cell, minlength=size) for _ in range(n)]
    rates = _values(np.reshape(tables, (n, -1, 4)).astype(float), criterion)["rate"]
    spans = rates.max(axis=-1) - rates.min(axis=-1)
    if np.isnan(spans).all():
        raise InputError(f"{criterion}: too few rows to compute it from in every group.")
    return float(np.nanquantile(spans, quantile))


# ----------------------------------------------------------------------------- helpers


def _values(cells: np.ndarray, criterion: str) -> dict[str, np.ndarray]:
    """From counts (n, decisions, groups, 4), the four by label and decision: 00, 01, 10, 11."""
    with np.errstate(invalid="ignore", divide="ignore"):
        c00, c01, c10, c11 = np.moveaxis(cells, -1, 0)
        everyone = cells.sum(axis=-1)
        rate = {
            "selection_rate": (c01 + c11) / everyone,
            "true_positive_rate": c11 / (c10 + c11),
            "false_positive_rate": c01 / (c00 + c01),
        }[criterion]
        right = c00 + c11
        return {
            "rate": rate,
            "accuracy": right / everyone,
            "quality": right.sum(axis=-1) / everyone.sum(axis=-1),
        }


def _resampled(per_unit: np.ndarray, n: int, seed: int) -> np.ndarray:
    units = len(per_unit)
    rng = np.random.default_rng(seed)
    flat = per_unit.reshape(units, -1)
    even = np.full(units, 1 / units)
    sums = np.concatenate(
        [rng.multinomial(units, even, size=size) @ flat for size in blocks(n, _BLOCK)]
    )
    return sums.reshape(n, *per_unit.shape[1:])


def _groups(sensitive: Sequence[Hashable]) -> np.ndarray:
    values = list(sensitive)
    if not values:
        raise InputError("sensitive is empty: give the group of each row.")
    if pd.isna(pd.Series(values, dtype=object)).any():
        raise InputError(
            "sensitive: a row has no group: leave it out, or give it a group of its own."
        )
    return np.asarray(values, dtype=str)


def _check_binary(values: np.ndarray, what: str) -> None:
    if values.ndim != 1 or not np.isin(values, (0, 1)).all():
        raise InputError(f"{what}: must be 0 or 1 for each row.")


def _check_parts(train: Sample, valid: Sample, test: Sample) -> None:
    for part, sample in (("train", train), ("validation", valid)):
        for group in np.unique(np.concatenate([test.sensitive, sample.sensitive])):
            here = sample.labels[sample.sensitive == group]
            if len(np.unique(here)) < 2:
                raise InputError(
                    f'sensitive: group "{group}" has {len(here)} rows of one class in the {part} '
                    "part; join it with another or leave it out."
                )
