"""The audit against the market's known truth: quiet without a bias, right about a planted one."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from recsys_lib.datasets.market import make_market
from recsys_lib.fairness import audit, placebo_worlds, power_of_gap
from recsys_lib.workbook import InputError

SIZES = {"n_products": 300, "n_queries": 0, "n_impressions": 0, "n_reviews": 3000}
BIAS = 0.15


def _market(seed: int = 0, **options) -> pd.DataFrame:
    market = make_market(seed, **(SIZES | options))
    people = market.shoppers[["shopper_id", "group", "age_band"]]
    reviews = market.reviews.merge(people, on="shopper_id", validate="many_to_one")
    return reviews.assign(verdict=market.truth.reviews["verdict"].to_numpy())


@pytest.fixture(scope="module")
def reader():
    """A classifier of texts, trained on another market without a bias."""
    other = _market(99)
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), LogisticRegression(C=5)
    )
    return model.fit(other["text"], other["label"])


@pytest.fixture(scope="module")
def shop(reader):
    frame = _market()
    return frame.assign(prob=reader.predict_proba(frame["text"])[:, 1])


@pytest.fixture(scope="module")
def biased(shop):
    frame = _market(label_bias=BIAS)
    assert (frame["text"] == shop["text"]).all()  # only labels differ
    return frame.assign(prob=shop["prob"])


def _audit(frame, **options):
    given = {"sensitive": ["group", "age_band"], "unit": "shopper_id", "n": 400} | options
    return audit(frame, **given)


def test_without_a_bias_nothing_is_found(shop):
    result = _audit(shop)
    assert result.found.empty and result.not_testable.empty
    assert result.comparisons == 7 + 7 * (4 + 1)  # A or B; four age bands and their range
    assert (result.rows, result.units, result.unit) == (3000, shop["shopper_id"].nunique(),
                                                        "shopper_id")  # fmt: skip


def test_a_planted_bias_is_found_with_its_size_and_sign(shop, biased):
    result = _audit(biased)
    flipped = shop["label"] != biased["label"]
    in_b = biased["group"] == "B"
    assert flipped[~in_b].sum() == 0
    gap = result.findings.query("sensitive == 'group' and metric == 'mean_error'").iloc[0]
    assert gap["verdict"] == "gap" and gap["comparison"] == "B − A"
    truth = BIAS * shop["verdict"][in_b].mean()  # slips of the pen take 4 % of it away
    assert gap["low"] < truth < gap["high"]
    before = _audit(shop).findings.query("sensitive == 'group' and metric == 'mean_error'")
    assert gap["value"] - before["value"].iloc[0] == pytest.approx(
        (shop["label"] - biased["label"])[in_b].mean(), abs=1e-12
    )
    assert set(result.found["sensitive"]) == {"group"}  # and nothing against any age


def test_a_bias_in_labels_does_not_touch_what_is_decided(biased):
    findings = _audit(biased).findings.query("sensitive == 'group'").set_index("metric")
    assert findings.loc["selection_rate", "verdict"] == "no gap shown"
    assert findings.loc["false_positive_rate", "verdict"] == "gap"
    assert findings.loc["false_positive_rate", "value"] > 0


def test_placebo_groups_raise_five_percent_false_alarms(shop):
    """200 worlds: the count lies within the central 99 % of the binomial law of 5 %."""
    part = shop.tail(1200)
    data = (part["label"], part["prob"], part["shopper_id"])
    one = placebo_worlds(*data, n=60, permutations=199)
    low, high = stats.binom.interval(0.99, 200, 0.05)
    assert low <= one["alarm"].sum() <= high
    assert (one["truth"] == 0).all()
    assert stats.kstest(one["p"], "uniform").pvalue > 0.001


def test_several_measures_together_raise_no_more(shop):
    """Holm keeps the chance of any alarm at 5 % at most, over three measures."""
    part = shop.tail(1200)
    table = placebo_worlds(
        part["label"], part["prob"], part["shopper_id"], worlds=120, n=20, permutations=239,
        metrics=("mean_error", "accuracy", "selection_rate"), seed=3,
    )  # fmt: skip
    assert table["alarm"].sum() <= stats.binom.ppf(0.995, 120, 0.05)


def test_a_planted_bias_is_found_at_the_stated_power(shop):
    """200 worlds: found as often as the formula says, up to the binomial error of 99 % and 0.03
    for its normal law; the interval holds the truth in 95 % of the worlds, up to the same error."""
    part = shop.tail(1200)
    table = placebo_worlds(
        part["label"], part["prob"], part["shopper_id"], label_bias=0.08, n=150, permutations=199
    )
    stated = power_of_gap(table["truth"].mean(), table["spread"].mean())
    assert 0.5 < stated < 0.95  # neither sure nor hopeless: the comparison means something
    error = 2.58 * np.sqrt(stated * (1 - stated) / 200) + 0.03
    assert abs(table["found"].mean() - stated) < error
    assert (table["value"] - table["truth"]).mean() == pytest.approx(
        0, abs=4 * table["value"].std() / np.sqrt(200)
    )
    covered = ((table["low"] <= table["truth"]) & (table["truth"] <= table["high"])).sum()
    low, high = stats.binom.interval(0.99, 200, 0.95)
    assert low <= covered <= high


def test_the_markets_own_worlds_agree(reader):
    """Ten markets without a bias, their own groups: at most two alarms (p = 0.01 for more)."""
    alarms = 0
    for seed in range(10, 20):
        frame = _market(seed, n_products=60, n_reviews=500)
        frame["prob"] = reader.predict_proba(frame["text"])[:, 1]
        result = _audit(frame, sensitive="group", metrics=["mean_error"], n=50)
        alarms += len(result.found)
    assert alarms <= 2


def test_worlds_follow_from_the_seed(shop):
    part = shop.tail(300)
    data = (part["label"], part["prob"], part["shopper_id"])
    one, two, other = (
        placebo_worlds(*data, worlds=3, n=20, permutations=19, seed=seed) for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(one, two)
    assert not one["value"].equals(other["value"])


def test_columns_that_need_bands_get_them_and_gaps_in_them_are_told(shop):
    frame = shop.assign(age=shop["age"].astype(float).where(shop.index % 50 > 0))
    result = audit(
        frame, sensitive="age", unit="shopper_id", bands={"age": (30, 45)}, missing="drop",
        metrics=["accuracy"], n=50,
    )  # fmt: skip
    assert set(result.groups["group"]) == {"under 30", "30–44", "45 and over"}
    assert result.notes == (
        '60 of 3,000 rows have no value in "age" and were left out of its comparisons',
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sensitive": "grup"}, 'no column "grup". Did you mean "group"'),
        ({"sensitive": []}, "names no column"),
        ({"sensitive": "text"}, "groups, at most 20"),
        ({"sensitive": "age"}, "continuous"),
        ({"bands": {"rating": (3,)}}, "'rating', which is not audited"),
        ({"alpha": 2.0}, "between 0 and 1"),
        ({"prob": "text"}, "probs must be numbers"),
        ({"permutations": 0}, "permutations must be at least 1"),
        ({"sensitive": ["group", "group"]}, "a column twice"),
    ],
)
def test_bad_input_is_one_line(shop, options, said):
    with pytest.raises(InputError, match=said) as error:
        _audit(shop, **options)
    assert "\n" not in str(error.value)


def test_a_column_that_stands_there_twice_is_one_line(shop):
    for name in ("group", "label", "shopper_id"):
        with pytest.raises(InputError, match=f'more than one column "{name}"'):
            _audit(pd.concat([shop, shop[[name]]], axis=1))


def test_a_plain_gap_is_found_beside_columns_with_many_groups():
    """The smallest p of each column must pass the correction over all of them."""
    rng = np.random.default_rng(3)
    label, gender = rng.integers(0, 2, 1600), rng.choice(["f", "m"], 1600)
    prob = np.where(rng.random(1600) < np.where(gender == "f", 0.9, 0.5), label, 1 - label)
    frame = pd.DataFrame({"label": label, "prob": 0.1 + 0.8 * prob, "gender": gender})
    noise = {f"noise {i}": rng.integers(0, 12, 1600).astype(str) for i in range(4)}
    result = audit(frame.assign(**noise), sensitive=["gender", *noise], n=100,
                   metrics=["accuracy"])  # fmt: skip
    assert result.found["sensitive"].tolist() == ["gender"]


def test_bad_worlds_are_one_line(shop):
    data = (shop["label"], shop["prob"], shop["shopper_id"])
    with pytest.raises(InputError, match="is not one of metrics"):
        placebo_worlds(*data, metric="auc")
    with pytest.raises(InputError, match="worlds must be at least 1"):
        placebo_worlds(*data, worlds=0)
    with pytest.raises(InputError, match="labels must be 0 or 1"):
        placebo_worlds(shop["prob"], *data[1:])
    with pytest.raises(InputError, match="none missing"):
        placebo_worlds(*data[:2], shop["shopper_id"].where(shop["label"] == 1))


def test_groups_drawn_row_by_row_raise_five_percent_false_alarms(shop):
    """Then shoppers hold both groups and rows swap: the way of the real data's products."""
    part = shop.tail(1200)
    data = (part["label"], part["prob"], part["shopper_id"])
    one = placebo_worlds(*data, per_row=True, n=100, permutations=199)
    low, high = stats.binom.interval(0.99, 200, 0.05)
    assert low <= one["alarm"].sum() <= high
    assert (one["truth"] == 0).all()
    assert stats.kstest(one["p"], "uniform").pvalue > 0.001
