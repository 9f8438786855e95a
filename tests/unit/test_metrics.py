"""The metrics against scikit-learn and scipy; the intervals against cases with a known truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from recsys_lib import metrics

# Scores on a coarse grid, so that ties within and between the classes are the rule.
tied_rows = st.lists(
    st.tuples(st.integers(0, 1), st.integers(-3, 3), st.integers(0, 4)), min_size=2, max_size=40
)


def sample(seed=0, n=300, share=0.7, shift=1.0):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < share).astype(int)
    return y, special.expit(rng.normal(size=n) + shift * (2 * y - 1))


# ---------------------------------------------------------------------------- classification


@given(tied_rows)
@settings(max_examples=200)
def test_auc_and_average_precision_equal_sklearn_with_ties_and_weights(rows):
    y, s, w = np.array(rows).T
    weighted = w + 0.5
    if len(set(y)) == 2:
        for weights in (None, weighted):
            expected = reference.roc_auc_score(y, s, sample_weight=weights)
            assert metrics.auc(y, s, weights) == pytest.approx(expected, abs=1e-12)
    if y.any():
        for weights in (None, weighted):
            expected = reference.average_precision_score(y, s, sample_weight=weights)
            assert metrics.average_precision(y, s, weights) == pytest.approx(expected, abs=1e-12)


@given(tied_rows)
@settings(max_examples=200)
def test_integer_weights_are_repetitions(rows):
    y, s, w = np.array(rows).T
    if len(set(np.repeat(y, w))) == 2:
        for metric in (metrics.auc, metrics.average_precision):
            repeated = metric(np.repeat(y, w), np.repeat(s, w))
            assert metric(y, s, w) == pytest.approx(repeated, abs=1e-12)


@given(tied_rows)
@settings(max_examples=100)
def test_auc_is_the_share_of_pairs_won(rows):
    y, s, _ = np.array(rows).T
    if len(set(y)) == 2:
        pairs = [np.sign(p - n) / 2 + 0.5 for p in s[y == 1] for n in s[y == 0]]
        assert metrics.auc(y, s) == pytest.approx(np.mean(pairs), abs=1e-12)
        assert metrics.auc(y, -s) == pytest.approx(1 - metrics.auc(y, s), abs=1e-12)


def test_auc_takes_infinite_scores():
    assert metrics.auc([0, 0, 1, 1], [-np.inf, 0, 0, np.inf]) == 7 / 8


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
@settings(max_examples=200)
def test_decision_metrics_equal_sklearn(rows):
    y, decided = np.array(rows).T
    np.testing.assert_array_equal(
        metrics.confusion(y, decided), reference.confusion_matrix(y, decided, labels=[0, 1])
    )
    assert metrics.accuracy(y, decided) == reference.accuracy_score(y, decided)
    for ours, theirs in (
        (metrics.precision, reference.precision_score),
        (metrics.recall, reference.recall_score),
        (metrics.f1, reference.f1_score),
    ):
        for positive in (0, 1):
            expected = theirs(y, decided, pos_label=positive, zero_division=0, labels=[0, 1])
            assert ours(y, decided, positive) == pytest.approx(expected, abs=1e-12)
    expected = reference.f1_score(y, decided, average="macro", labels=[0, 1], zero_division=0)
    assert metrics.macro_f1(y, decided) == pytest.approx(expected, abs=1e-12)


def test_probability_metrics_equal_sklearn():
    y, p = sample()
    assert metrics.log_loss(y, p) == pytest.approx(reference.log_loss(y, p), abs=1e-12)
    assert metrics.brier(y, p) == pytest.approx(reference.brier_score_loss(y, p), abs=1e-12)


def test_log_loss_is_not_clipped_unless_asked():
    assert metrics.log_loss([0, 1], [1.0, 0.5]) == np.inf
    assert metrics.log_loss([0, 1], [0.0, 1.0]) == 0
    assert metrics.log_loss([0], [1.0], clip=1e-3) == pytest.approx(-np.log(1e-3))


@given(tied_rows)
@settings(max_examples=100)
def test_curves_equal_sklearn(rows):
    y, s, _ = np.array(rows).T
    if len(set(y)) < 2:
        return
    for mine, theirs in zip(
        metrics.roc_curve(y, s),
        reference.roc_curve(y, s, drop_intermediate=False),
        strict=True,
    ):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)
    fpr, tpr, _ = metrics.roc_curve(y, s)
    assert np.trapezoid(tpr, fpr) == pytest.approx(metrics.auc(y, s), abs=1e-12)
    theirs = reference.precision_recall_curve(y, s)
    expected = (theirs[0][:-1], theirs[1][:-1], theirs[2])  # without its point at recall 0
    for mine, their in zip(metrics.pr_curve(y, s), expected, strict=True):
        np.testing.assert_allclose(mine[::-1], their, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: metrics.auc([0, 1], [0.1, np.nan]), "1 NaN, the first at position 1"),
        (lambda: metrics.auc([0, 1, 1], [0.1, 0.2]), "3 rows"),
        (lambda: metrics.auc([1, 1], [0.1, 0.2]), "one class only (all 1)"),
        (lambda: metrics.auc([0, 2], [0.1, 0.2]), "0 or 1; got 2"),
        (lambda: metrics.auc(["no", "yes"], [0.1, 0.2]), "must be numbers"),
        (lambda: metrics.auc([[0, 1]], [[0.1, 0.2]]), "one dimension"),
        (lambda: metrics.auc([], []), "empty"),
        (lambda: metrics.auc([0, 1], [0, 1], [1, -1]), "not negative"),
        (lambda: metrics.auc([0, 1], [0, 1], [1, 0]), "on one class"),
        (lambda: metrics.average_precision([0, 0], [0, 1]), "at least one positive"),
        (lambda: metrics.pr_curve([0, 0], [0, 1]), "at least one positive"),
        (lambda: metrics.log_loss([0, 1], [0.5, 1.5]), "probabilities in [0, 1]"),
        (lambda: metrics.log_loss([0, 1], [0.5, 0.5], clip=0.7), "clip"),
        (lambda: metrics.accuracy([0, 1], [0.4, 0.6]), "predicted must be 0 or 1"),
        (lambda: metrics.f1([0, 1], [0, 1], positive=2), "positive"),
        (lambda: metrics.calibration_table([0, 1], [0.5, 0.5], 0), "bins"),
        (lambda: metrics.calibration_table([0, 1], [0.5, 0.5], by="x"), "'x'"),
        (lambda: metrics.fit_temperature([1.0, -1.0], [0, 1]), "no better than chance"),
        (lambda: metrics.fit_temperature([1.0, -1.0], [1, 0]), "every label"),
        (lambda: metrics.fit_temperature([np.inf, -1.0], [1, 0]), "finite"),
        (lambda: metrics.fit_platt([1.0, 1.0], [1, 0]), "not all equal"),
        (lambda: metrics.best_threshold([0, 1], [0, 1], cost_fp=0, cost_fn=0), "not both 0"),
        (lambda: metrics.bootstrap([0, 1], [0, 1], "gini"), "'gini'"),
        (lambda: metrics.bootstrap([0, 1], [0, 1], "auc", n=0), "n must be"),
        (lambda: metrics.bootstrap([0, 1], [0, 1], "auc", level=95), "level"),
        (lambda: metrics.bootstrap([0, 1], [0, 1], "auc", groups=["a", None]), "missing value"),
        (lambda: metrics.bootstrap([0, 1], [0, 1], "auc", groups=["a", "a"]), "one group"),
        (lambda: metrics.bootstrap([0, 1], [0, 1], "auc", groups=["a"]), "groups 1"),
        (lambda: metrics.bootstrap([0, 1], [0, 1], "auc"), "too few"),
        (lambda: metrics.bootstrap_mean([0.5, np.nan]), "values has 1 NaN"),
        (lambda: metrics.bootstrap_mean([0.5, np.inf]), "finite"),
        (lambda: metrics.ndcg([0, 1], [0, np.nan]), "scores has 1 NaN"),
        (lambda: metrics.ndcg([0, -1], [0, 1]), "not negative"),
        (lambda: metrics.ndcg([0, 1], [0, 1, 2]), "one shape"),
        (lambda: metrics.ndcg([0, 1], [0, 1], k=0), "k must be"),
        (lambda: metrics.ndcg([0, 1], [0, 1], gain="x"), "'x'"),
    ],
)
def test_bad_input_gets_one_clear_line(call, says):
    with pytest.raises(ValueError) as error:
        call()
    assert says in str(error.value)
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------- calibration


def test_sigmoid_equals_scipy_and_does_not_overflow():
    z = np.r_[-1e4, np.linspace(-40, 40, 81), 1e4]
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_allclose(metrics.sigmoid(z), special.expit(z), rtol=1e-15)


@pytest.mark.parametrize(("by", "strategy"), [("width", "uniform"), ("count", "quantile")])
def test_calibration_table_equals_sklearn(by, strategy):
    y, p = sample(n=997)
    table = metrics.calibration_table(y, p, 8, by=by)
    observed, predicted = calibration_curve(y, p, n_bins=8, strategy=strategy)
    np.testing.assert_allclose(table.observed, observed)
    np.testing.assert_allclose(table.predicted, predicted)
    assert table.n.sum() == len(y)
    assert ((table.left <= table.predicted) & (table.predicted <= table.right)).all()
    interval = stats.binomtest(
        int((table.observed * table.n).round()[0]), int(table.n[0])
    ).proportion_ci(method="wilson")
    assert (table.low[0], table.high[0]) == pytest.approx(tuple(interval))
    expected = np.average(np.abs(observed - predicted), weights=table.n)
    assert metrics.expected_calibration_error(y, p, 8, by=by) == pytest.approx(expected)


def test_calibration_of_one_repeated_probability():
    for by in ("width", "count"):
        table = metrics.calibration_table([0, 1, 1, 1], [0.5] * 4, by=by)
        assert table.n.tolist() == [4]
        assert metrics.expected_calibration_error([0, 1, 1, 1], [0.5] * 4, by=by) == 0.25


def test_temperature_is_the_minimum_of_the_log_loss_and_scales_with_the_logits():
    y, p = sample(1)
    z = special.logit(p)
    temperature = metrics.fit_temperature(z, y)
    best = optimize.minimize_scalar(
        lambda t: reference.log_loss(y, special.expit(z / t)), bounds=(0.05, 20), method="bounded"
    )
    assert temperature == pytest.approx(best.x, rel=1e-4)  # the optimizer's own tolerance
    assert metrics.fit_temperature(7 * z, y) == pytest.approx(7 * temperature, rel=1e-10)
    slope = ((metrics.sigmoid(z / temperature) - y) * z).mean()
    assert slope == pytest.approx(0, abs=1e-12)


def test_temperature_recovers_a_known_one():
    rng = np.random.default_rng(0)
    z = rng.normal(scale=2, size=200_000)
    y = rng.random(len(z)) < metrics.sigmoid(z)
    # The standard error of 1/T is 1/sqrt(n E[z² p (1-p)]) = 0.003.
    assert metrics.fit_temperature(3 * z, y) == pytest.approx(3, rel=0.012)


@pytest.mark.parametrize("part", [False, True])
def test_platt_is_logistic_regression_on_targets_that_keep_it_finite(part):
    y, p = sample(1)
    z = 3 * special.logit(p) + 2
    if part:
        y = (z > np.median(z)).astype(int)  # which sends the plain fit to infinity
    a, b = metrics.fit_platt(z, y)
    target = np.where(y == 1, (sum(y) + 1) / (sum(y) + 2), 1 / (sum(1 - y) + 2))
    twice, labels = np.r_[z, z][:, None], np.repeat([1, 0], len(z))  # each row as a 1 and as a 0
    model = LogisticRegression(C=1e12, tol=1e-12, max_iter=10_000)
    model.fit(twice, labels, sample_weight=np.r_[target, 1 - target])
    assert a == pytest.approx(model.coef_.item(), rel=1e-4)
    assert b == pytest.approx(model.intercept_.item(), rel=1e-4, abs=1e-4)


def test_platt_recovers_a_known_slope_and_shift():
    rng = np.random.default_rng(0)
    z = rng.normal(scale=2, size=200_000)
    y = rng.random(len(z)) < metrics.sigmoid(z)
    # z = 0.5 · (2z - 3) + 1.5; the standard errors are 0.002 and 0.01
    assert metrics.fit_platt(2 * z - 3, y) == pytest.approx((0.5, 1.5), abs=0.03)


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 10)), min_size=1, max_size=30),
    st.integers(0, 5),
    st.integers(1, 5),
)
@settings(max_examples=200)
def test_best_threshold_has_the_least_cost(rows, cost_fp, cost_fn):
    y, tenths = np.array(rows).T
    p = tenths / 10

    def cost(threshold):
        false_alarms, missed = (p >= threshold) & (y == 0), (p < threshold) & (y == 1)
        return (cost_fp * false_alarms.sum() + cost_fn * missed.sum()) / len(y)

    threshold, least = metrics.best_threshold(y, p, cost_fp=cost_fp, cost_fn=cost_fn)
    assert 0 <= threshold <= np.nextafter(1, 2)
    assert least == pytest.approx(cost(threshold), abs=1e-12)
    assert least == pytest.approx(min(map(cost, np.arange(0, 1.2, 0.05))), abs=1e-12)


def test_best_threshold_of_calibrated_probabilities_is_the_ratio_of_costs():
    rng = np.random.default_rng(2)
    p = rng.random(400_000)
    y = rng.random(len(p)) < p
    threshold, _ = metrics.best_threshold(y, p, cost_fp=1, cost_fn=4)
    assert threshold == pytest.approx(0.2, abs=0.02)


# --------------------------------------------------------------------------------- intervals

REFERENCE = {
    "auc": lambda y, s: reference.roc_auc_score(y, s),
    "average_precision": lambda y, s: reference.average_precision_score(y, s),
    "brier": lambda y, s: np.mean((s - y) ** 2),
    "log_loss": lambda y, s: reference.log_loss(y, s),
    "accuracy": lambda y, s: reference.accuracy_score(y, s >= 0.4),
    "precision": lambda y, s: reference.precision_score(y, s >= 0.4),
    "recall": lambda y, s: reference.recall_score(y, s >= 0.4),
    "f1": lambda y, s: reference.f1_score(y, s >= 0.4),
    "macro_f1": lambda y, s: reference.f1_score(y, s >= 0.4, average="macro"),
}


def resampled_rows(groups, n, seed):
    """The rows of each resample, by the definition in the docstring of ``bootstrap``."""
    names = list(dict.fromkeys(groups))
    rows = [np.flatnonzero(np.asarray(groups) == name) for name in names]
    for draw in np.random.default_rng(seed).integers(0, len(names), (n, len(names))):
        yield np.concatenate([rows[i] for i in draw])


@pytest.mark.parametrize("metric", REFERENCE)
@pytest.mark.parametrize("grouped", [False, True])
def test_bootstrap_equals_a_loop_over_sklearn(metric, grouped):
    y, s = sample(3, n=120)
    s = np.round(s, 1)  # ties
    s = np.clip(s, 0.05, 0.95)
    groups = np.array([f"p{i}" for i in np.random.default_rng(0).integers(0, 40, 120)])
    names = groups if grouped else np.arange(120)
    estimate = metrics.bootstrap(
        y, s, metric, groups=names if grouped else None, n=150, seed=9, threshold=0.4
    )
    loop = [REFERENCE[metric](y[rows], s[rows]) for rows in resampled_rows(names, 150, 9)]
    low, high = np.quantile(loop, [0.025, 0.975])
    assert estimate.value == pytest.approx(REFERENCE[metric](y, s), abs=1e-12)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-12)
    assert estimate.n == 120
    assert estimate.units == len(set(names))
    by_function = metrics.bootstrap(
        y, s, REFERENCE[metric], groups=names if grouped else None, n=150, seed=9
    )
    assert (by_function.low, by_function.high) == pytest.approx((low, high), abs=1e-12)


def test_blocks_do_not_change_the_resamples(monkeypatch):
    y, s = sample(n=200)
    before = metrics.bootstrap(y, s, "auc", n=500)
    monkeypatch.setattr("recsys_lib.metrics.intervals.CELLS_PER_BLOCK", 1)
    assert metrics.bootstrap(y, s, "auc", n=500) == before


def test_bootstrap_of_a_mean_equals_scipy():
    """Accuracy is a mean of 0 and 1: its interval agrees with scipy's percentile bootstrap."""
    y, s = sample(4, n=400)
    right = ((s >= 0.5) == y).astype(float)
    ours = metrics.bootstrap(y, s, "accuracy", n=20_000)
    theirs = stats.bootstrap(
        (right,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    # Quantiles of 20,000 draws wander by about 3 % of the width; the grid of the mean is 1/400.
    assert ours.low == pytest.approx(theirs.low, abs=0.0026)
    assert ours.high == pytest.approx(theirs.high, abs=0.0026)


def test_bootstrap_of_per_query_values_equals_a_loop():
    values = np.random.default_rng(3).random(40)
    groups = np.arange(40) // 3
    for names in (None, groups):
        estimate = metrics.bootstrap_mean(values, groups=names, n=300, seed=2)
        units = np.arange(40) if names is None else names
        loop = [values[rows].mean() for rows in resampled_rows(units, 300, 2)]
        assert estimate.value == pytest.approx(values.mean())
        assert (estimate.low, estimate.high) == pytest.approx(
            tuple(np.quantile(loop, [0.025, 0.975])), abs=1e-12
        )
        assert (estimate.n, estimate.units) == (40, len(set(units)))


def test_the_difference_of_two_kinds_is_scipys():
    rng = np.random.default_rng(5)
    values, chosen = rng.gamma(2.0, size=300), rng.random(300) < 0.3
    values[chosen] += 0.4
    ours = metrics.bootstrap_difference(values, chosen, n=4_000)
    theirs = stats.bootstrap(
        (values[chosen], values[~chosen]),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        method="percentile",
        n_resamples=4_000,
        rng=np.random.default_rng(6),
    ).confidence_interval
    assert ours.value == pytest.approx(values[chosen].mean() - values[~chosen].mean())
    # scipy keeps the size of each kind, we draw it; the width is 0.67, a limit's error about 0.01
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=0.04)
    # Each unit four times, in one group, says nothing new.
    names = np.repeat(np.arange(300), 4)
    again = metrics.bootstrap_difference(
        np.repeat(values, 4), np.repeat(chosen, 4), groups=names, n=4_000
    )
    assert (again.value, again.low, again.high) == pytest.approx((ours.value, ours.low, ours.high))


def test_the_difference_of_two_kinds_needs_both():
    for chosen, message in [([True] * 3, "some of them"), ([1, 0, 0], "booleans"), ([True], "3")]:
        with pytest.raises(ValueError, match=message):
            metrics.bootstrap_difference([0.1, 0.2, 0.3], chosen)
    with pytest.raises(ValueError, match="too few"):  # one unit shows no spread of its own
        metrics.bootstrap_difference(np.arange(51.0), np.arange(51) == 0)


def test_intervals_cover_the_known_auc_as_often_as_they_say():
    """Two normal classes one unit apart: the true AUC is Φ(1/√2)."""
    truth = stats.norm.cdf(1 / np.sqrt(2))
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(400):
        y = np.r_[np.zeros(150, int), np.ones(150, int)]
        estimate = metrics.bootstrap(y, rng.normal(size=300) + y, "auc", n=400, seed=trial)
        inside += estimate.low <= truth <= estimate.high
    # 380 of 400 ± 3 standard errors of 4.4, and one per cent for the percentile method.
    assert 363 <= inside <= 393


def test_resampling_groups_covers_where_resampling_rows_does_not():
    """Ten alike rows per group: rows pretend to ten times the evidence."""
    rng = np.random.default_rng(1)
    inside = {"rows": 0, "groups": 0}
    for trial in range(300):
        label = rng.integers(0, 2, 60)
        score = rng.normal(size=60) + label
        y, s, groups = (np.repeat(x, 10) for x in (label, score, np.arange(60)))
        for name, names in (("rows", None), ("groups", groups)):
            e = metrics.bootstrap(y, s, "auc", groups=names, n=200, seed=trial)
            inside[name] += e.low <= stats.norm.cdf(1 / np.sqrt(2)) <= e.high
    assert inside["groups"] >= 0.90 * 300
    assert inside["rows"] <= 0.60 * 300


def test_undefined_resamples_are_reported():
    y = np.r_[np.ones(30, int), np.zeros(4, int)]  # 1.5 % of resamples have no negative
    estimate = metrics.bootstrap(y, np.arange(34.0), "auc", n=2000)
    drawn = int(estimate.method.split(", ")[1].split()[0])
    assert 1900 < drawn < 2000
    with pytest.raises(ValueError, match="too few"):
        metrics.bootstrap([0, 1, 1, 1], [0.1, 0.2, 0.3, 0.4], "auc")


def test_infinite_log_loss_stays_infinite_without_nan():
    estimate = metrics.bootstrap([0, 1, 1, 0], [1.0, 0.5, 0.6, 0.4], "log_loss", n=200)
    assert estimate.value == np.inf
    assert np.isfinite(estimate.low)
    assert estimate.high == np.inf


def test_estimate_prints_with_its_interval():
    estimate = metrics.Estimate(0.9712, 0.9651, 0.9773)
    assert str(estimate) == "0.971 [0.965, 0.977]"
    assert f"{estimate:.2f}" == "0.97 [0.97, 0.98]"
    assert f"{metrics.Estimate(-0.0004, -0.02, 1.5):+.3f}" == "+0.000 [−0.020, +1.500]"
    assert f"{metrics.Estimate(-np.inf, np.nan, -1e-9):.0e}" == "−inf [nan, −1e−09]"


def test_paired_bootstrap_is_the_difference_on_the_same_resamples():
    y, a = sample(5, n=150)
    _, b = sample(6, n=150)
    groups = np.arange(150) // 3
    estimate = metrics.paired_bootstrap(y, a, b, "auc", groups=groups, n=200, seed=4)
    loop = [
        reference.roc_auc_score(y[rows], a[rows]) - reference.roc_auc_score(y[rows], b[rows])
        for rows in resampled_rows(groups, 200, 4)
    ]
    assert (estimate.low, estimate.high) == pytest.approx(
        tuple(np.quantile(loop, [0.025, 0.975])), abs=1e-12
    )
    assert estimate.value == pytest.approx(metrics.auc(y, a) - metrics.auc(y, b))
    same = metrics.paired_bootstrap(y, a, a, "macro_f1", threshold=(0.5, 0.5))
    assert (same.value, same.low, same.high) == (0, 0, 0)
    apart = metrics.paired_bootstrap(y, a, a, "accuracy", threshold=(0.5, 0.99))
    assert apart.value == metrics.accuracy(y, a >= 0.5) - metrics.accuracy(y, a >= 0.99)


def test_permutation_test_equals_scipy_for_a_mean():
    """Brier scores are means of row losses, so the test is scipy's test of paired samples."""
    y, a = sample(7, n=60, shift=0.8)
    b = special.expit(np.random.default_rng(8).normal(size=60) + 0.5 * (2 * y - 1))
    loss_a, loss_b = (a - y) ** 2, (b - y) ** 2
    ours = metrics.permutation_test(y, a, b, "brier", n=20_000)
    theirs = stats.permutation_test(
        (loss_a, loss_b),
        lambda x, y: np.mean(x - y),
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    ).pvalue
    assert 0.001 < theirs < 0.5, "the case must be neither trivial nor hopeless"
    assert ours == pytest.approx(theirs, abs=4 * np.sqrt(2 * theirs / 20_000))


@pytest.mark.parametrize("metric", ["auc", "macro_f1", "brier"])
def test_permutation_test_keeps_its_level_when_there_is_no_difference(metric):
    rng = np.random.default_rng(2)
    p_values = []
    for trial in range(300):
        groups = np.repeat(np.arange(40), 3)
        y = np.repeat(rng.integers(0, 2, 40), 3)
        a, b = special.expit(rng.normal(size=(2, 120)) + y - 0.5)
        p_values.append(metrics.permutation_test(y, a, b, metric, groups=groups, n=99, seed=trial))
    # Uniform on the grid of 1/100; macro-F1 has ties, which only make it careful.
    assert np.mean(np.array(p_values) <= 0.1) == pytest.approx(0.1, abs=3.5 * np.sqrt(0.09 / 300))
    assert min(p_values) >= 1 / 100


def test_permutation_test_finds_a_difference_on_another_scale():
    y, a = sample(8, n=400, shift=1.5)
    _, b = sample(9, n=400, shift=0.1)
    assert metrics.permutation_test(y, 1000 * a, b, "auc", n=999) == 1 / 1000
    assert metrics.permutation_test(y, 1000 * a, a, "auc", n=99) == 1
    slow = metrics.permutation_test(y, a, b, REFERENCE["brier"], n=99)
    assert slow == metrics.permutation_test(y, a, b, "brier", n=99)


# ----------------------------------------------------------------------------------- ranking


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(-2, 2)), min_size=2, max_size=12),
    st.sampled_from([None, 1, 3, 50]),
)
@settings(max_examples=200)
def test_dcg_and_ndcg_equal_sklearn_with_ties(rows, k):
    gains, scores = np.array(rows).T
    for gain, values in (("linear", gains), ("exponential", 2.0**gains - 1)):
        expected = reference.dcg_score([values], [scores], k=k)
        assert metrics.dcg(gains, scores, k, gain=gain) == pytest.approx(expected, abs=1e-12)
        ours = metrics.ndcg(gains, scores, k, gain=gain)
        if gains.any():
            assert ours == pytest.approx(reference.ndcg_score([values], [scores], k=k), abs=1e-12)
        else:
            assert np.isnan(ours)


def test_ties_are_the_mean_over_their_orders():
    gains, scores = np.array([3, 0, 1, 0]), np.array([1.0, 1.0, 1.0, 0.0])
    rng = np.random.default_rng(0)
    broken = [metrics.ndcg(gains, scores + 1e-6 * rng.random(4), k=2) for _ in range(20_000)]
    assert metrics.ndcg(gains, scores, k=2) == pytest.approx(np.mean(broken), abs=0.01)


def test_batched_and_padded_lists_equal_single_ones():
    rng = np.random.default_rng(1)
    gains, scores = rng.integers(0, 4, (50, 8)), rng.integers(0, 5, (50, 8)).astype(float)
    lengths = rng.integers(2, 9, 50)
    scores[0, 0] = -np.inf
    mask = np.arange(8) < lengths[:, None]
    batched = metrics.ndcg(gains, np.where(mask, scores, np.nan), k=3, mask=mask)
    single = [metrics.ndcg(g[m], s[m], k=3) for g, s, m in zip(gains, scores, mask, strict=True)]
    np.testing.assert_allclose(batched, single, atol=1e-12)
    np.testing.assert_allclose(
        metrics.dcg(gains, scores, mask=mask),
        [metrics.dcg(g[m], s[m]) for g, s, m in zip(gains, scores, mask, strict=True)],
    )


@pytest.mark.parametrize(
    ("p", "said"),
    [(0.0, "p < 0.001"), (0.00049, "p < 0.001"), (0.0116, "p = 0.012"), (0.477, "p = 0.48")],
)
def test_a_p_value_is_never_printed_as_zero(p, said):
    assert metrics.format_p(p) == said
