"""Power and incompatible criteria, against exact sums over scipy's laws and by arithmetic."""

import numpy as np
import pytest
from scipy import stats

from recsys_lib.fairness import (
    gaps,
    implied_false_positive_rate,
    implied_mean_of_negatives,
    incompatible_criteria,
    power_of_gap,
    power_of_two_shares,
    power_table,
    smallest_gap,
    smallest_gap_of_shares,
)
from recsys_lib.workbook import InputError


def _exact_power(p1: float, p2: float, n1: int, n2: int, alpha: float) -> float:
    """Sum of the two binomial laws over all pairs of counts that the pooled z test rejects."""
    a, b = np.arange(n1 + 1)[:, None], np.arange(n2 + 1)[None]
    pooled = (a + b) / (n1 + n2)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (a / n1 - b / n2) / np.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n2))
    rejects = np.abs(np.nan_to_num(z)) >= stats.norm.isf(alpha / 2)
    law = stats.binom.pmf(a, n1, p1) * stats.binom.pmf(b, n2, p2)
    return float((law * rejects).sum())


@pytest.mark.parametrize(
    ("p1", "p2", "n1", "n2", "alpha"),
    [(0.9, 0.8, 200, 250, 0.05), (0.5, 0.6, 388, 388, 0.05), (0.3, 0.5, 80, 400, 0.01),
     (0.7, 0.7, 300, 300, 0.05)],
)  # fmt: skip
def test_the_formula_is_the_exact_power(p1, p2, n1, n2, alpha):
    """Up to 0.015, by which counts being whole numbers differs from a normal law."""
    formula = power_of_two_shares(p1, p2, n1, n2, alpha=alpha)
    assert formula == pytest.approx(_exact_power(p1, p2, n1, n2, alpha), abs=0.015)


def test_the_textbook_sample_size():
    """0.5 against 0.6 at 5 % and 80 % takes 388 in each group (Fleiss et al. 2003, section 4.2)."""
    assert power_of_two_shares(0.5, 0.6, 388, 388) >= 0.8 > power_of_two_shares(0.5, 0.6, 386, 386)


@pytest.mark.parametrize("direction", [-1, 1])
def test_the_smallest_gap_has_the_power_it_was_asked_for(direction):
    gap = smallest_gap_of_shares(0.85, 150, 800, power=0.9, direction=direction)
    found = power_of_two_shares(0.85 + direction * gap, 0.85, 150, 800)
    assert found == pytest.approx(0.9, abs=1e-6)


def test_dependence_and_many_comparisons_widen_it():
    gap = smallest_gap_of_shares(0.85, 150, 800)
    assert smallest_gap_of_shares(0.85, 150, 800, design_effect=2) == pytest.approx(
        smallest_gap_of_shares(0.85, 75, 400), abs=1e-9
    )
    assert smallest_gap_of_shares(0.85, 150, 800, alpha=0.05 / 20) > gap


def test_no_gap_at_all_could_be_shown():
    assert np.isnan(smallest_gap_of_shares(0.99, 30, 800, direction=1))


def test_the_gap_from_a_spread_is_that_of_the_normal_law():
    gap = smallest_gap(0.02, power=0.8, alpha=0.05)
    assert gap == pytest.approx(2.8016 * 0.02, rel=1e-4)
    assert power_of_gap(gap, 0.02) == pytest.approx(0.8, abs=1e-4)
    assert power_of_gap(0, 0.02) == pytest.approx(0.05)
    shares = smallest_gap_of_shares(0.5, 400, 400)
    assert smallest_gap(np.sqrt(0.25 / 400 * 2)) == pytest.approx(shares, rel=0.02)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_few_degrees_of_freedom_give_the_power_of_the_t_test(shift):
    """Two groups of six: 4,000 t tests, up to the binomial error of 99.9 %."""
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(2, 6, 4_000))
    p = stats.ttest_ind(first + shift * np.sqrt(1 / 3), second).pvalue
    stated = power_of_gap(shift, 1.0, freedom=10)
    error = 3.3 * np.sqrt(stated * (1 - stated) / 4_000)
    assert (p <= 0.05).mean() == pytest.approx(stated, abs=error)
    assert power_of_gap(shift, 1.0, freedom=1e6) == pytest.approx(power_of_gap(shift, 1), abs=1e-5)


def test_the_power_of_a_table_of_gaps_is_reached_in_simulated_data():
    """The table says which gap in accuracy would be found with 80 %; planted in 200 data sets,
    it is found in 80 % up to the binomial error of 99 % and 0.04 for the normal law."""
    rng = np.random.default_rng(0)
    who = np.r_[np.zeros(150, int), np.ones(450, int)]
    label = np.ones(600, dtype=int)

    def test_set(gap: float) -> np.ndarray:
        right = rng.random(600) < np.where(who == 0, 0.8 - gap, 0.8)
        return np.where(right, 0.9, 0.1)

    names = np.where(who == 0, "few", "many")
    first = gaps(label, test_set(0.12), names, metrics=["accuracy"], n=1000, permutations=99)
    table = power_table(first)
    assert table["alone"].iloc[0] == pytest.approx(table["corrected"].iloc[0])  # one comparison
    gap = table["alone"].iloc[0]
    found = [
        gaps(label, test_set(gap), names, metrics=["accuracy"], n=20, permutations=199, seed=k)[
            "p"
        ].iloc[0]
        <= 0.05
        for k in range(200)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=2.58 * np.sqrt(0.16 / 200) + 0.04)


def test_what_could_be_shown_in_a_small_group_is_no_luck_of_its_rows():
    """40 of 1,040 rows, all right in nine of ten cases. Where the 40 happen to be right, their own
    spread promises to find gaps that cannot be found."""
    names = np.where(np.arange(1040) < 40, "few", "many")
    truth = np.sqrt(0.9 * 0.1 * (1 / 40 + 1 / 1000))
    spreads = []
    for world in range(60):
        right = np.random.default_rng([9, world]).random(1040) < 0.9
        row = gaps(right.astype(int), np.full(1040, 0.9), names, metrics=["accuracy"], n=100,
                   permutations=50).iloc[0]  # fmt: skip
        assert row["detectable"] == pytest.approx(smallest_gap(row["null_spread"]))
        spreads.append((row["spread"], row["null_spread"]))
    own, used = np.quantile(spreads, 0.05, axis=0)
    assert own < 0.7 * truth < 0.9 * truth < used


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: power_of_two_shares(1.2, 0.5, 10, 10), "between 0 and 1"),
        (lambda: power_of_two_shares(0.2, 0.5, 0, 10), "have rows"),
        (lambda: smallest_gap_of_shares(0.5, 10, 10, power=0.01), "between alpha and 1"),
        (lambda: smallest_gap(-1.0), "must not be negative"),
        (lambda: power_of_gap(0.1, 0.0), "above 0"),
        (lambda: power_of_gap(0.1, 0.1, freedom=0), "above 0"),
        (lambda: implied_false_positive_rate(1.0, 0.5, 0.1), "base_rate"),
        (lambda: implied_mean_of_negatives(0.5, 1.5), "mean score"),
    ],
)
def test_bad_input_is_one_line(call, said):
    with pytest.raises(InputError, match=said):
        call()


# ------------------------------------------------------------------ incompatible criteria


@pytest.fixture(scope="module")
def two_groups():
    """Scores that are right in both groups, which differ in their base rate."""
    rng = np.random.default_rng(3)
    who = np.where(rng.random(20_000) < 0.4, "low", "high")
    prob = np.where(who == "low", rng.beta(2, 3, 20_000), rng.beta(3, 2, 20_000))
    label = (rng.random(20_000) < prob).astype(int)
    return label, prob, who


def test_chouldechovas_identity_holds_in_every_group(two_groups):
    label, prob, who = two_groups
    table = incompatible_criteria(label, prob, who)
    np.testing.assert_allclose(table["identity"], table["false_positive_rate"], atol=1e-12)
    for row in table.itertuples():
        mine = who == row.group
        tn, fp, fn, tp = np.bincount(2 * label[mine] + (prob[mine] >= 0.5), minlength=4)
        assert row.false_positive_rate == pytest.approx(fp / (fp + tn))
        assert row.false_negative_rate == pytest.approx(fn / (fn + tp))
        assert row.precision == pytest.approx(tp / (tp + fp))
    rows = table.set_index("group")
    assert rows.loc["high", "if_equal"] > rows.loc["low", "if_equal"]  # equal all but the FPR


def test_kleinbergs_line_holds_where_scores_are_right(two_groups):
    """Both means of a group lie on its line, up to 4 standard errors of 20,000 labels; the groups'
    lines meet at perfect prediction only."""
    table = incompatible_criteria(*two_groups)
    line = implied_mean_of_negatives(table["base_rate"], table["mean_of_positives"])
    np.testing.assert_allclose(table["mean_of_negatives"], line, atol=4 * 0.5 / np.sqrt(8_000))
    means = np.linspace(0, 1, 11)
    one, two = (implied_mean_of_negatives(rate, means) for rate in table["base_rate"])
    assert (np.flatnonzero(np.isclose(one, two)) == [10]).all() and one[10] == 0


def test_small_groups_are_left_out_and_two_are_needed(two_groups):
    label, prob, who = (part[:500] for part in two_groups)
    who = who.astype(object)
    who[:5] = "few"
    assert set(incompatible_criteria(label, prob, who)["group"]) == {"low", "high"}
    with pytest.raises(InputError, match="two are needed"):
        incompatible_criteria(label, prob, who, min_rows=400)
    with pytest.raises(InputError, match="no row is decided 1"):
        incompatible_criteria(label, np.zeros(500), who)
    with pytest.raises(InputError, match="min_rows = 0"):
        incompatible_criteria(label, prob, who, min_rows=0)


@pytest.mark.parametrize(("alpha", "freedom"), [(0.05, 10), (0.05 / 4, 10), (0.05 / 57, 1498)])
def test_the_smallest_gap_of_few_units_has_the_power_it_was_asked_for(alpha, freedom):
    gap = smallest_gap(0.02, alpha=alpha, freedom=freedom)
    assert power_of_gap(gap, 0.02, alpha=alpha, freedom=freedom) == pytest.approx(0.8, abs=1e-6)
    plain = smallest_gap(0.02, alpha=alpha)
    assert gap > plain
    if freedom > 1000:
        assert gap == pytest.approx(plain, rel=0.01)
