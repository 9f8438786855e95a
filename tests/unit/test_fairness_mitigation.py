"""What mitigation costs: weights, decisions and rates against references; re-ranking by an LP."""

import warnings

import numpy as np
import pandas as pd
import pytest
from fairlearn import metrics as fair
from scipy.optimize import linprog
from sklearn.metrics import accuracy_score

from recsys_lib.fairness.exposure import attention
from recsys_lib.fairness.mitigation import (
    AS_IT_IS,
    CRITERIA,
    Sample,
    chance_gap,
    judge,
    mitigated_decisions,
    reweighing,
)
from recsys_lib.fairness.reranking import (
    bonus_for,
    exposure_tradeoff,
    favored_share,
    rank_with_bonus,
)
from recsys_lib.metrics import ndcg, paired_bootstrap
from recsys_lib.workbook import InputError

RATES = {
    "selection_rate": fair.selection_rate,
    "true_positive_rate": fair.true_positive_rate,
    "false_positive_rate": fair.false_positive_rate,
}


def world(n: int, seed: int, harm: float = 1.5) -> Sample:
    """Group B's records say less often that it succeeded, and the features give the group away."""
    rng = np.random.default_rng(seed)
    group = rng.choice(["A", "B"], n, p=[0.6, 0.4])
    features = rng.normal(size=(n, 6))
    features[:, 1] += 2.0 * (group == "A")
    worth = features[:, 0] - harm * (group == "B") + 0.5 * rng.normal(size=n)
    return Sample(features, (worth > -0.4).astype(int), group)


def test_reweighing_makes_group_and_label_independent():
    part = world(500, 0)
    weights = reweighing(part.labels, part.sensitive)
    shares = [np.average(part.labels[part.sensitive == g],
                         weights=weights[part.sensitive == g]) for g in "AB"]  # fmt: skip
    assert shares == pytest.approx([part.labels.mean()] * 2, abs=1e-12)
    assert weights.sum() == pytest.approx(500)
    # By hand: A has 2 of 3 ones, B 0 of 1: P(A)P(1)/P(A,1) = (3/4)(2/4)/(2/4) = 0.75, …
    assert reweighing([1, 1, 0, 0], ["A", "A", "A", "B"]) == pytest.approx([0.75, 0.75, 1.5, 0.5])


@pytest.mark.parametrize("criterion", CRITERIA)
def test_rates_and_gaps_are_those_of_fairlearn(criterion):
    part = world(400, 1)
    rng = np.random.default_rng(2)
    decided = {"first": rng.integers(0, 2, 400), "second": part.labels}
    for found in judge(decided, part.labels, part.sensitive, criterion=criterion, n=50):
        choice = {"y_true": part.labels, "y_pred": decided[found.name],
                  "sensitive_features": part.sensitive}  # fmt: skip
        frame = fair.MetricFrame(metrics=RATES[criterion], **choice)
        assert {g: e.value for g, e in found.rates.items()} == pytest.approx(
            frame.by_group.to_dict(), abs=1e-12
        )
        assert found.gap.value == pytest.approx(frame.difference(), abs=1e-12)
        right = accuracy_score(part.labels, decided[found.name])
        assert found.quality.value == pytest.approx(right, abs=1e-12)


def test_changes_are_paired_by_product():
    part = world(600, 3)
    groups = np.arange(600) // 4
    rng = np.random.default_rng(4)
    decided = {"a": rng.integers(0, 2, 600), "b": part.labels ^ (rng.random(600) < 0.2)}
    first, second = judge(decided, part.labels, part.sensitive, groups=groups, n=4000)
    assert first.gap_change.low == first.gap_change.high == first.quality_change.value == 0
    expected = paired_bootstrap(
        part.labels, decided["b"], decided["a"], "accuracy", groups=groups, n=4000, seed=5
    )
    assert second.quality_change.value == pytest.approx(expected.value, abs=1e-12)
    # Two Monte Carlo runs of 4,000: the ends differ by about 2 % of the width.
    width = expected.high - expected.low
    assert second.quality_change.low == pytest.approx(expected.low, abs=0.1 * width)
    assert second.quality_change.high == pytest.approx(expected.high, abs=0.1 * width)
    assert second.quality.units == 150


def test_mitigation_closes_the_planted_gap_and_costs_accuracy():
    train, valid, test = world(3000, 0), world(3000, 1), world(4000, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decided = mitigated_decisions(train, valid, test, criterion="selection_rate", strength=1.0)
    found = judge(decided, test.labels, test.sensitive, criterion="selection_rate", n=500)
    plain, *mitigated = found
    assert plain.name == AS_IT_IS
    assert plain.gap.low > 0.2
    for way in mitigated:
        assert way.gap_change.high < -0.1, way.name
        assert way.quality_change.high < 0, way.name  # the records reward the bias
        pays = way.rate_changes["A"].value < 0 < way.rate_changes["B"].value
        assert pays, way.name
    assert {way.name: way.gap.value for way in mitigated}["a threshold per group"] < 0.05
    again = mitigated_decisions(train, valid, test, criterion="selection_rate", strength=1.0)
    assert all((decided[name] == again[name]).all() for name in decided)


def test_interval_of_the_gap_holds_the_truth():
    """Rates 0.3 and 0.5 are known; 100 samples, 95 %: the 0.1 % point of the hits is 87."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        group = rng.choice(["A", "B"], 400)
        decided = (rng.random(400) < np.where(group == "A", 0.3, 0.5)).astype(int)
        (found,) = judge({"x": decided}, decided, group, criterion="selection_rate", n=200)
        hits += found.gap.low <= 0.2 <= found.gap.high
    assert hits >= 87


def test_chance_gap_is_the_quantile_of_equal_groups():
    """Two halves of n rows, rate ½: the difference is normal with σ² = 4 · ¼ / n · n/(n − 1), and
    its absolute value stays below 1.96 σ. Counts are whole, so 5 % of a step of 4/n remain."""
    n = 2000
    decided = np.arange(n) % 2
    group = np.where(np.random.default_rng(0).permutation(n) < n // 2, "A", "B")
    found = chance_gap(decided, decided, group, criterion="selection_rate", n=4000)
    assert found == pytest.approx(1.96 / np.sqrt(n), rel=0.08)


def lists(seed: int, queries: int = 12, products: int = 8):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(queries, products)), rng.random(products) < 0.4


def best_by_linear_program(scores, favored, share, k, weights):
    """The most attention-weighted score that any probabilistic ranking can have (Singh and
    Joachims 2018, section 3.3): matrices of the chance of product i at position j."""
    queries, products = scores.shape
    size = products * k
    value = np.concatenate([(row[:, None] * weights).ravel() for row in scores])
    block_positions = np.kron(np.ones(products), np.eye(k))  # each position once
    block_products = np.kron(np.eye(products), np.ones(k))  # each product at most once
    positions = np.kron(np.eye(queries), block_positions)
    each = np.kron(np.eye(queries), block_products)
    seen = np.tile((favored[:, None] * weights).ravel(), queries) / (queries * weights.sum())
    done = linprog(
        -value, A_eq=positions, b_eq=np.ones(len(positions)),
        A_ub=np.concatenate([each, -seen[None]]),
        b_ub=np.append(np.ones(len(each)), -share), bounds=(0, 1), method="highs",
    )  # fmt: skip
    assert done.status == 0 and len(value) == queries * size
    return -done.fun


@pytest.mark.parametrize("seed", range(5))
def test_no_ranking_gives_this_share_with_a_better_score(seed):
    scores, favored = lists(seed)
    weights = attention(4)
    plain = np.mean(favored_share(rank_with_bonus(scores, favored, 4), favored, weights))
    bonus = bonus_for(scores, favored, min(0.95, plain + 0.15), k=4)
    rows = rank_with_bonus(scores, favored, 4, bonus)
    share = np.mean(favored_share(rows, favored, weights))
    value = (np.take_along_axis(scores, rows, axis=1) @ weights).sum()
    best = best_by_linear_program(scores, favored, share - 1e-12, 4, weights)
    assert bonus > 0
    assert value == pytest.approx(best, abs=1e-5)  # the bonus is found to 1e-6 of the range


def test_the_bonus_is_the_smallest_that_reaches_the_share():
    scores, favored = lists(7, queries=40, products=20)
    bonus = bonus_for(scores, favored, 0.6)
    weights = attention(10)
    after, before = (
        np.mean(favored_share(rank_with_bonus(scores, favored, 10, b), favored, weights))
        for b in (bonus, bonus - 1e-4)
    )
    assert before < 0.6 <= after
    assert bonus_for(scores, favored, 0.0) == 0.0


def test_rankings_break_ties_by_row_and_end_where_nothing_is_left():
    scores = np.array([[1, 1, 1, -np.inf], [0, 2, -np.inf, -np.inf]])
    rows = rank_with_bonus(scores, np.array([False, False, True, True]), 3)
    assert rows.tolist() == [[0, 1, 2], [1, 0, -1]]
    lifted = rank_with_bonus(scores, np.array([False, False, True, True]), 2, 0.5)
    assert lifted.tolist() == [[2, 0], [1, 0]]
    rng = np.random.default_rng(0)
    many = rng.integers(0, 4, (50, 30)).astype(float)
    nobody = np.zeros(30, dtype=bool)
    full = np.argsort(-many, axis=1, kind="stable")[:, :7]
    assert (rank_with_bonus(many, nobody, 7) == full).all()


def test_the_tradeoff_is_tuned_on_other_queries_and_scored_as_the_metrics_do():
    rng = np.random.default_rng(0)
    favored = rng.random(60) < 0.3
    gains = rng.integers(0, 4, (80, 60)).astype(float)
    scores = gains + rng.normal(size=gains.shape) - 2.0 * favored  # a search that holds them down
    found = exposure_tradeoff(scores[:40], scores[40:], gains[40:], favored, [0.2, 0.3], n=300)
    plain, some, more = found
    matrix = np.full((40, 60), -np.inf)
    np.put_along_axis(matrix, plain.rows, -np.arange(10.0)[None], axis=1)
    expected = np.mean(ndcg(gains[40:], matrix, k=10, gain="linear"))
    assert plain.quality.value == pytest.approx(expected, abs=1e-12)
    assert np.isnan(plain.least) and plain.bonus == 0 and plain.share_change.value == 0
    due = (gains[40:] @ favored / gains[40:].sum(axis=1)).mean()
    for point in found:
        assert point.gap.value == pytest.approx(abs(point.share.value - due), abs=1e-12)
    assert plain.share.high < due  # held down
    assert 0 < some.bonus < more.bonus
    assert more.share.value == pytest.approx(0.3, abs=0.06)  # of 40 other queries
    assert more.gap.value < some.gap.value < plain.gap.value


def test_queries_that_say_the_same_are_resampled_together():
    """Every test query five times over, in groups: the intervals are those of the queries alone."""
    rng = np.random.default_rng(1)
    favored, gains = rng.random(30) < 0.4, rng.integers(0, 4, (40, 30)).astype(float)
    scores = gains + rng.normal(size=gains.shape) - favored
    once = exposure_tradeoff(scores[:20], scores[20:], gains[20:], favored, [0.4], n=400)
    again, groups = np.repeat(np.arange(20, 40), 5), np.repeat(np.arange(20), 5)
    together = exposure_tradeoff(
        scores[:20], scores[again], gains[again], favored, [0.4], groups=groups, n=400
    )
    for one, other in zip(once, together, strict=True):
        for field in ("share", "gap", "quality", "quality_change"):
            a, b = getattr(one, field), getattr(other, field)
            assert (b.value, b.low, b.high) == pytest.approx((a.value, a.low, a.high), abs=1e-12)
    assert together[0].share.units == 20 and together[0].share.n == 100


def test_bad_input_is_one_clear_line():
    part = world(60, 0)
    with pytest.raises(InputError, match="criterion = 'luck'"):
        judge({"a": part.labels}, part.labels, part.sensitive, criterion="luck")
    with pytest.raises(InputError, match="criterion = 'luck'"):
        mitigated_decisions(part, part, part, criterion="luck")
    with pytest.raises(InputError, match="only one group"):
        judge({"a": part.labels}, part.labels, ["A"] * 60)
    with pytest.raises(InputError, match='decisions "a"'):
        judge({"a": part.labels[:5]}, part.labels, part.sensitive)
    with pytest.raises(InputError, match="too few rows for an interval"):
        judge({"a": part.labels}, part.labels, ["A"] * 59 + ["B"], criterion="selection_rate")
    with pytest.raises(InputError, match="labels: must be 0 or 1"):
        Sample(part.features, part.labels * 2, part.sensitive)
    with pytest.raises(InputError, match="a row has no group"):
        Sample(part.features, part.labels, [None, *part.sensitive[1:]])
    with pytest.raises(InputError, match="NaN or infinity"):
        Sample(part.features * np.nan, part.labels, part.sensitive)
    with pytest.raises(InputError, match="a row has no group"):
        Sample(part.features, part.labels, [pd.NA, *part.sensitive[1:]])
    with pytest.raises(InputError, match="sensitive is empty"):
        reweighing([], [])
    with pytest.raises(InputError, match="decisions is empty"):
        judge({}, part.labels, part.sensitive)
    with pytest.raises(InputError, match="groups: a row has none"):
        judge({"a": part.labels}, part.labels, part.sensitive, groups=[None, *range(59)])
    with pytest.raises(InputError, match="criterion = 'luck'"):
        chance_gap(part.labels, part.labels, part.sensitive, criterion="luck")
    with pytest.raises(InputError, match="decisions: must be 0 or 1"):
        chance_gap(np.full(60, 0.7), part.labels, part.sensitive)
    with pytest.raises(InputError, match="too few rows to compute"):
        chance_gap(part.labels, np.ones(60), part.sensitive)
    lonely = Sample(part.features, part.labels, np.where(np.arange(60) < 1, "C", part.sensitive))
    with pytest.raises(InputError, match='group "C" has'):
        mitigated_decisions(part, part, lonely)
    scores, favored = lists(0)
    with pytest.raises(InputError, match="can have at most"):
        bonus_for(scores, favored, 1.01)
    with pytest.raises(InputError, match="true or false"):
        bonus_for(scores, favored.astype(int), 0.5)
    with pytest.raises(InputError, match="must be finite"):
        rank_with_bonus(scores * np.nan, favored, 3)
    with pytest.raises(InputError, match="no product may be listed"):
        bonus_for(np.full_like(scores, -np.inf), favored, 0.5)
    for bad in ([0, 0], [1, np.nan], [1, -0.5]):
        with pytest.raises(InputError, match="weights: attention must be finite, not negative"):
            bonus_for(scores, favored, 0.5, k=2, weights=bad)
    with pytest.raises(InputError, match="weights: shape"):
        bonus_for(scores, favored, 0.5, k=2, weights=[1.0])
    with pytest.raises(InputError, match="k = -1"):
        rank_with_bonus(scores, favored, -1)
    with pytest.raises(InputError, match="gains: must be finite"):
        exposure_tradeoff(scores, scores, scores * np.nan, favored, [0.3])
    with pytest.raises(InputError, match="no test query has both"):
        exposure_tradeoff(scores, scores, np.zeros_like(scores), favored, [0.3])
    with pytest.raises(InputError, match="groups: 1 for 12 rankings"):
        exposure_tradeoff(scores, scores, scores**2, favored, [0.3], groups=[1])
    with pytest.raises(InputError, match="groups: a ranking has none"):
        exposure_tradeoff(scores, scores, scores**2, favored, [0.3], groups=[None] * 12)
    with pytest.raises(InputError, match="groups: only one"):
        exposure_tradeoff(scores, scores, scores**2, favored, [0.3], groups=["a"] * 12)
    with pytest.raises(InputError, match="weights: shape"):
        bonus_for(scores, favored, 0.3, weights=[1.0, 0.5])
    with pytest.raises(InputError, match="gains: shape"):
        exposure_tradeoff(scores, scores, scores[:2], favored, [0.3])
