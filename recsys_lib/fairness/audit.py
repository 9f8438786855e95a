"""The audit as one call, and the worlds in which the audit itself is audited.

An alarm means something only if it is rare where there is nothing to find, and common where there
is. `placebo_worlds` measures both on the labels and scores at hand: it draws groups that mean
nothing, or plants a bias of known size against them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from recsys_lib.fairness.chance import MOST, undecided
from recsys_lib.fairness.columns import Edges, sensitive_groups
from recsys_lib.fairness.gaps import GAP, NOT_TESTABLE, correct, enough_permutations, gaps
from recsys_lib.fairness.groups import MIN_ROWS, MIN_UNITS, group_table
from recsys_lib.fairness.measures import USUAL, checked
from recsys_lib.workbook import InputError, nearest

_CELLS = 2_000_000_000  # shuffles times rows of a test that is repeated


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found.

    Attributes:
        groups: `group_table` of every sensitive column, with the column `sensitive` in front.
        findings: `gaps` of all of them, corrected together, with the column `sensitive` in front.
        rows, units: audited. unit: what was resampled, in a word, such as "product".
        threshold: of the decisions. level: of the intervals. alpha: of the whole audit.
        comparisons: whose p values are corrected together, over all columns and measures; those of
            them that are not testable are counted, too.
        notes: what a reader must know, such as rows left out.
    """

    groups: pd.DataFrame
    findings: pd.DataFrame
    rows: int
    units: int
    unit: str
    threshold: float
    level: float
    alpha: float
    comparisons: int
    notes: tuple[str, ...] = ()

    @property
    def found(self) -> pd.DataFrame:
        """The findings whose verdict is "gap", the least like chance first."""
        part = self.findings[self.findings["verdict"] == GAP]
        return part.sort_values("p_holm", kind="stable")

    @property
    def tested(self) -> int:
        """How many comparisons were tested: those that are not among `not_testable`."""
        return len(self.findings) - len(self.not_testable)

    @property
    def not_testable(self) -> pd.DataFrame:
        """The findings that could not be tested, with the reason in `why`: a group is unknown, or
        the correction leaves its test no chance."""
        return self.findings[self.findings["verdict"] == NOT_TESTABLE]


def audit(
    frame: pd.DataFrame,
    *,
    label: str = "label",
    prob: str = "prob",
    sensitive: str | Sequence[str] = "sensitive",
    unit: str | None = None,
    bands: Mapping[str, Edges] | None = None,
    missing: str = "group",
    metrics: Sequence[str] = USUAL,
    threshold: float = 0.5,
    min_rows: int = MIN_ROWS,
    min_units: int = MIN_UNITS,
    n: int = 2000,
    permutations: int | None = None,
    level: float = 0.95,
    alpha: float = 0.05,
    seed: int = 0,
) -> Audit:
    """Every gap of a classifier in every sensitive column, tested and corrected together.

    Args:
        frame: one line per decision.
        label, prob: columns with the label 0/1 and the probability of 1.
        sensitive: one column or several; each is cut by `bands` if named there, else taken as it is
            (see `sensitive_groups`). For a crossing, add a column with `cross` first.
        unit: column with the unit of independence, such as the product; None: every line.
        bands: edges by column.
        missing: what becomes of lines without a value, as in `sensitive_groups`.
        permutations: per column; None: enough for Holm's correction over all columns together.

    Where the verdict on a measure hangs on which shuffles were drawn (`undecided`, and the interval
    leaves 0 out), the measure is tested anew with 200,000 of them (20,000 for those that are no
    ratio of sums), or with 2,000,000,000 / rows, which bounds the time; not at all where that is
    no more than before. The other arguments are those of `group_table` and `gaps`.

    Raises:
        InputError: a column that is not there or cannot be used, in one line.
    """
    columns = [sensitive] if isinstance(sensitive, str) else list(sensitive)
    if not columns:
        raise InputError("sensitive names no column: name at least one.")
    for column in [label, prob, *columns, *([unit] if unit else [])]:
        if column not in frame:
            raise InputError(
                f'the table has no column "{column}".{nearest(column, map(str, frame.columns))}'
            )
        if (frame.columns == column).sum() > 1:
            raise InputError(f'the table has more than one column "{column}": rename one.')
    if len(set(columns)) < len(columns):
        raise InputError("sensitive names a column twice: name each once.")
    bands = bands or {}
    if unknown := set(bands) - set(columns):
        raise InputError(f"bands are given for {sorted(unknown)[0]!r}, which is not audited.")
    units = None if unit is None else frame[unit].to_numpy()
    common = {"metrics": metrics, "groups": units, "threshold": threshold, "min_rows": min_rows,
              "min_units": min_units, "n": n, "level": level, "seed": seed}  # fmt: skip
    groups = {
        column: sensitive_groups(
            frame[column], name=column, bands=bands.get(column), missing=missing
        )
        for column in columns
    }
    if permutations is None and 0 < alpha < 1:  # shuffles of one column must do for all of them
        sizes = [len(people.cat.categories) for people in groups.values()]
        most = len(metrics) * sum(k + 1 if k > 2 else 1 for k in sizes)
        permutations = enough_permutations(most, alpha)
    tables, found, notes = [], [], []
    n_units = len(frame) if units is None else int(pd.Series(units).nunique())
    for column, people in groups.items():
        if people.isna().any():
            notes.append(
                f'{people.isna().sum():,} of {len(frame):,} rows have no value in "{column}" and '
                "were left out of its comparisons"
            )
        data = (frame[label].to_numpy(), frame[prob].to_numpy(), people)
        tables.append(group_table(*data, **common).assign(sensitive=column))
        table = gaps(*data, permutations=permutations, alpha=alpha, **common)
        found.append(table.assign(sensitive=column))
    findings = correct(pd.concat(found, ignore_index=True), alpha=alpha)
    open_ = _hanging(findings, alpha)
    for column, metric in open_.groupby(["sensitive", "metric"], sort=False).groups:
        slow = metric in ("auc", "calibration_error")
        more = min(MOST // 10 if slow else MOST, _CELLS // len(frame))
        if more <= permutations:
            continue
        data = (frame[label].to_numpy(), frame[prob].to_numpy(), groups[column])
        again = gaps(*data, permutations=more, alpha=alpha, **common | {"metrics": [metric]})
        rows = (findings["sensitive"] == column) & (findings["metric"] == metric)
        ends = ["p", "p_low", "p_high", "p_least"]
        findings.loc[rows, ends] = again[ends].to_numpy()
    findings = correct(findings, alpha=alpha)
    open_ = _hanging(findings, alpha)
    notes += [
        f"{row.sensitive}, {row.comparison}: the corrected p of {row.metric.replace('_', ' ')} is "
        f"between {row.p_holm_low:.3f} and {row.p_holm_high:.3f}: other shuffles could move it "
        f"across {alpha:g}"
        for row in open_.itertuples()
    ]
    return Audit(
        groups=_first(pd.concat(tables, ignore_index=True)),
        findings=_first(findings),
        rows=len(frame),
        units=n_units,
        unit=unit or "row",
        threshold=threshold,
        level=level,
        alpha=alpha,
        comparisons=int(findings["p"].notna().sum()),
        notes=tuple(notes),
    )


def placebo_worlds(
    labels: ArrayLike,
    probs: ArrayLike,
    units: ArrayLike,
    *,
    worlds: int = 200,
    label_bias: float = 0.0,
    share: float = 0.3,
    per_row: bool = False,
    metric: str = "mean_error",
    metrics: Sequence[str] = ("mean_error",),
    threshold: float = 0.5,
    n: int = 200,
    permutations: int = 399,
    alpha: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """The audit in many worlds whose truth is known: groups that mean nothing, or a planted bias.

    In every world each unit (a shopper) belongs to group "B" with probability `share`, apart from
    everything else, as the market draws it; then each label 1 of group B is recorded as 0 with
    probability `label_bias`. Scores stay: they come from texts, which do not know the group.

    Args:
        labels: without a bias, ``(rows,)``. probs: ``(rows,)``.
        units: the unit of independence of each row.
        worlds: how many.
        label_bias: 0 for placebo groups.
        per_row: draw the group of each row apart, so that units hold both groups.
        metric: whose gap is kept; it must be one of `metrics`, over which Holm corrects.
        threshold, n, permutations, alpha: as in `gaps`.
        seed: world w uses the stream ``default_rng([seed, w])``.

    Returns:
        One row per world: alarm (any of `metrics` has the verdict "gap"), found (`metric` has),
        value, low, high, p, spread of the gap B − A in `metric`, and truth: what was planted in
        "mean_error" or "base_rate", NaN for others: ± `label_bias` × the share of labels 1 among
        all rows, which a group drawn from them at random has, too. (Not that of the B drawn: that
        moves with the draw, and no interval is made to hold it.)
    """
    y, p = checked(labels, probs)
    unit = pd.factorize(pd.Series(units))[0]
    if len(unit) != len(y) or (unit < 0).any():
        raise InputError(f"units must name one for each of the {len(y):,} rows, none missing.")
    if metric not in metrics:
        raise InputError(f'metric = "{metric}" is not one of metrics = {tuple(metrics)}.')
    if worlds < 1 or not 0 <= label_bias <= 1 or not 0 < share < 1:
        raise InputError("worlds must be at least 1, label_bias from 0 to 1, share between them.")
    sign = {"mean_error": 1.0, "base_rate": -1.0}.get(metric, np.nan)
    lines = []
    for world in range(worlds):
        rng = np.random.default_rng([seed, world])
        draws = rng.random(len(y) if per_row else int(unit.max()) + 1) < share
        in_b = draws if per_row else draws[unit]
        flipped = in_b & (y == 1) & (rng.random(len(y)) < label_bias)
        table = gaps(
            np.where(flipped, 0, y),
            p,
            pd.Series(pd.Categorical(np.where(in_b, "B", "A"), ["A", "B"])),
            metrics=metrics,
            groups=unit,
            threshold=threshold,
            n=n,
            permutations=permutations,
            alpha=alpha,
            seed=int(rng.integers(2**31)),
        )
        mine = table[table["metric"] == metric].iloc[0]
        lines.append(
            {
                "alarm": bool((table["verdict"] == GAP).any()),
                "found": mine["verdict"] == GAP,
                **{name: mine[name] for name in ("value", "low", "high", "p", "spread")},
                "truth": sign * label_bias * y.mean(),
            }
        )
    return pd.DataFrame(lines)


def _hanging(findings: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """The findings whose verdict other shuffles could change: a gap needs an interval without 0."""
    agree = (findings["low"] > 0) | (findings["high"] < 0)
    return findings[agree & undecided(findings["p_low"], findings["p_high"], alpha)]


def _first(table: pd.DataFrame) -> pd.DataFrame:
    return table[["sensitive", *(c for c in table.columns if c != "sensitive")]]
