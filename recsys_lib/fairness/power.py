"""What gap could this test set have shown at all?

"No gap shown" says little where only a huge one could have been. Two answers: a closed formula for
two shares of independent rows, and the standard error of the test, for any measure and any
dependence.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import nct, norm
from scipy.stats import t as student

from recsys_lib.workbook import InputError


def power_of_two_shares(
    first: float, second: float, n_first: float, n_second: float, *, alpha: float = 0.05
) -> float:
    """Chance that the two-sided z test of two shares finds this difference.

    Args:
        first, second: the true shares, from 0 to 1.
        n_first, n_second: independent rows in each group.
        alpha: level of the test; for k comparisons give ``alpha / k``.

    Under equal shares the difference has the pooled spread σ₀, in truth σ₁; the chance is
    ``Φ((|d| − z σ₀) / σ₁) + Φ((−|d| − z σ₀) / σ₁)``.

    Source: Fleiss, Levin, Paik (2003), Statistical methods for rates and proportions, section 4.2.
    """
    _check(first, second, n_first, n_second, alpha)
    gap = abs(first - second)
    pooled = (n_first * first + n_second * second) / (n_first + n_second)
    null = np.sqrt(pooled * (1 - pooled) * (1 / n_first + 1 / n_second))
    true = np.sqrt(first * (1 - first) / n_first + second * (1 - second) / n_second)
    z = norm.isf(alpha / 2)
    if true == 0:
        return float(gap > z * null)
    return float(norm.cdf((gap - z * null) / true) + norm.cdf((-gap - z * null) / true))


def smallest_gap_of_shares(
    share: float,
    n_group: float,
    n_rest: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    direction: int = -1,
    design_effect: float = 1.0,
) -> float:
    """The smallest difference from `share` that would be found with this power; NaN for none.

    Args:
        share: of the rest, such as its accuracy, strictly between 0 and 1.
        n_group, n_rest: rows in the group and in the rest.
        power, alpha: as wished; for k comparisons give ``alpha / k``.
        direction: −1 if the group's share is lower, +1 if higher.
        design_effect: by how much rows that resemble each other (reviews of one product) widen the
            variance; both counts are divided by it. 1 for independent rows.
    """
    _check(share, share, n_group, n_rest, alpha)
    if not (alpha < power < 1 and 0 < share < 1 and design_effect > 0 and direction in (-1, 1)):
        raise InputError(
            "power must lie between alpha and 1, share between 0 and 1, design_effect above 0, "
            "and direction be −1 or 1."
        )
    a, b = n_group / design_effect, n_rest / design_effect
    room = share if direction < 0 else 1 - share

    def lacks(gap: float) -> float:
        return power_of_two_shares(share + direction * gap, share, a, b, alpha=alpha) - power

    most = room * (1 - 1e-9)
    if lacks(most) < 0:
        return float("nan")
    return float(brentq(lacks, 0.0, most, xtol=1e-9))


def smallest_gap(
    spread: float, *, power: float = 0.8, alpha: float = 0.05, freedom: float | None = None
) -> float:
    """The same from a standard error, for any measure: ``(z_{1−α/2} + z_power) · spread``.

    Args:
        spread: standard error of the gap, such as the column ``null_spread`` of `gaps`, by which
            its test goes and which has the dependence of the rows in it. The bootstrap's
            (``spread``) is too small where a group has few rows.
        power, alpha: as wished; for k comparisons give ``alpha / k``.
        freedom: degrees of freedom of the standard error, as in `power_of_gap`.
    """
    if not (spread >= 0 and 0 < alpha < power < 1 and (freedom is None or freedom > 0)):
        raise InputError("spread must not be negative, 0 < alpha < power < 1, freedom above 0.")
    if freedom is None:
        return float((norm.isf(alpha / 2) + norm.ppf(power)) * spread)
    return _errors_of_t(power, alpha, freedom) * spread


def power_of_gap(
    gap: float, spread: float, *, alpha: float = 0.05, freedom: float | None = None
) -> float:
    """Chance that a true gap of this size is found, given its standard error (as `smallest_gap`).

    ``Φ(|gap| / spread − z) + Φ(−|gap| / spread − z)``; `alpha` itself for a gap of 0. Where the
    standard error comes from few units, such as 12 brands, `freedom` gives its degrees of freedom
    (10), and the normal law makes way for the noncentral t.
    """
    if not (spread > 0 and 0 < alpha < 1 and (freedom is None or freedom > 0)):
        raise InputError("spread and freedom must be above 0, and alpha between 0 and 1.")
    shift = abs(gap) / spread
    if freedom is not None:
        ends = student.isf(alpha / 2, freedom)
        wrong_side = np.nan_to_num(nct.cdf(-ends, freedom, shift))  # NaN where next to nothing
        return float(nct.sf(ends, freedom, shift) + wrong_side)
    z = norm.isf(alpha / 2)
    return float(norm.cdf(shift - z) + norm.cdf(-shift - z))


def power_table(
    gaps: pd.DataFrame, *, power: float = 0.8, alpha: float = 0.05, by: str = "group"
) -> pd.DataFrame:
    """The smallest gap that could have been shown, alone and among all comparisons.

    Args:
        gaps: of `gaps` or `audit`; differences that are known.
        power, alpha: as wished.
        by: column that names the lines, beside metric.

    Returns:
        Columns metric, `by`, rows, value, alone (level `alpha`) and corrected
        (``alpha / comparisons``, Holm's first and hardest step).
    """
    comparisons = max(int(gaps["p"].notna().sum()), 1)
    part = gaps[(gaps["kind"] == "difference") & gaps["known"]]
    table = part[["metric", by, "rows", "value"]].copy()
    for name, level in (("alone", alpha), ("corrected", alpha / comparisons)):
        table[name] = [smallest_gap(s, power=power, alpha=level) for s in part["null_spread"]]
    return table.reset_index(drop=True)


@lru_cache
def _errors_of_t(power: float, alpha: float, freedom: float) -> float:
    """How many standard errors a gap must have that a t test finds with this power."""

    def lacks(errors: float) -> float:
        return power_of_gap(errors, 1.0, alpha=alpha, freedom=freedom) - power

    most = 2 * float(student.isf(alpha / 2, freedom) + student.isf((1 - power) / 2, freedom))
    return float(brentq(lacks, 0.0, most, xtol=1e-9))


def _check(first: float, second: float, n_first: float, n_second: float, alpha: float) -> None:
    if not (0 <= first <= 1 and 0 <= second <= 1 and n_first > 0 and n_second > 0):
        raise InputError("shares must lie between 0 and 1 and both groups have rows.")
    if not 0 < alpha < 1:
        raise InputError(f"alpha = {alpha} must lie between 0 and 1.")
