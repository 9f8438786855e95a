"""Effects of words against pandas, scipy and scikit-learn; a planted cue is found, no other is."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control, ttest_1samp
from sklearn.linear_model import LogisticRegression

from recsys_lib import metrics
from recsys_lib.datasets.market import make_market
from recsys_lib.interpret.truth import tfidf_order
from recsys_lib.interpret.vocabulary import (
    _logistic,
    occurrences,
    spurious_words,
    word_effects,
    word_table,
)
from recsys_lib.interpret.words import Words
from recsys_lib.workbook import InputError

SENTENCES = "paid with a i had bought by the way code worked voucher"  # the words of the cue's


def in_words(text, values=None):
    ends = np.cumsum([len(word) + 1 for word in text.split(" ")]) - 1
    spans = np.stack([np.r_[0, ends[:-1] + 1], ends], axis=1)
    values = np.zeros(len(ends)) if values is None else values
    return Words(text, spans, np.asarray(values, dtype=np.float64), rest=0.0)


@pytest.fixture(scope="module")
def explained():
    """30 texts of 10 products; every text has "the" once, two of three have "good"."""
    rng = np.random.default_rng(0)
    texts = ["The fit is good.", "Not good, the zip", "the rest"]
    rows = [in_words(texts[i % 3], rng.normal(size=len(texts[i % 3].split()))) for i in range(30)]
    return rows, np.array([f"product {i % 10}" for i in range(30)])


def test_the_table_holds_each_word_in_plain_form(explained):
    table = word_table(explained[0][:2])
    assert table["word"].tolist() == ["the", "fit", "is", "good", "not", "good", "the", "zip"]
    assert table["place"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    dash = word_table([in_words("so - well-made!", [1, 2, 3])])
    assert dash["word"].tolist() == ["so", "well-made"]
    assert dash["value"].tolist() == [1, 3]


def test_counts_and_means_are_those_of_pandas(explained):
    rows, groups = explained
    found = word_effects(rows, groups=groups, minimum=3).set_index("word")
    table = word_table(rows, groups=groups).groupby("word")
    assert found["mean"].to_dict() == pytest.approx(table["value"].mean().to_dict())
    assert found["count"].to_dict() == table.size().to_dict()
    assert found["groups"].to_dict() == table["group"].nunique().to_dict()
    assert found["mean"].is_monotonic_decreasing
    assert found["p_adjusted"].to_numpy() == pytest.approx(false_discovery_control(found["p"]))


def test_intervals_are_those_of_the_metrics_bootstrap(explained):
    """For a word of every group both see the same resamples, so they agree exactly."""
    rows, groups = explained
    found = word_effects(rows, groups=groups, n=500, seed=7).set_index("word").loc["the"]
    table = word_table(rows, groups=groups)
    the = table[table["word"] == "the"]
    expected = metrics.bootstrap_mean(the["value"], groups=the["group"].to_numpy(), n=500, seed=7)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))


def test_p_is_the_t_test_where_every_group_is_one_occurrence():
    rng = np.random.default_rng(1)
    rows = [in_words("soft", [x]) for x in rng.normal(0.3, 1, size=25)]
    found = word_effects(rows).iloc[0]
    expected = ttest_1samp([row.values[0] for row in rows], 0.0).pvalue
    assert found["p"] == pytest.approx(expected)


def test_intervals_of_words_cover_their_true_effect():
    """200 words of effect 0 in clustered texts: p below 0.05 in 5 %, give or take 4 errors."""
    rng = np.random.default_rng(2)
    words = [f"w{i}" for i in range(200)]
    rows, groups = [], []
    for group in range(40):
        shift = rng.normal(size=200)
        for _ in range(2):
            rows.append(in_words(" ".join(words), shift + 0.3 * rng.normal(size=200)))
            groups.append(group)
    found = word_effects(rows, groups=groups, n=400)
    wrong = (found["p"] < 0.05).mean()
    assert abs(wrong - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 200)
    assert ((found["low"] <= 0) & (found["high"] >= 0)).mean() > 0.87
    assert (found["p_adjusted"] < 0.05).sum() <= 1


def test_occurrences_show_the_company_of_a_word(explained):
    rows, _ = explained
    table = occurrences(rows[:3], "Good", window=2)
    assert table["before"].tolist() == ["fit is", "not"]
    assert table["after"].tolist() == ["", "the zip"]
    assert table["value"].tolist() == [rows[0].values[3], rows[1].values[1]]


def test_the_regression_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    y = (rng.random(300) < 1 / (1 + np.exp(-(0.5 + x @ [1.0, -2.0])))).astype(float)
    design = np.c_[np.ones(300), x]
    weight, covariance = _logistic(design, y, np.array([0.0, 0.5, 0.5]))
    reference = LogisticRegression(C=2.0, tol=1e-10).fit(x, y)
    assert weight == pytest.approx([reference.intercept_[0], *reference.coef_[0]], abs=1e-4)
    chance = 1 / (1 + np.exp(-design @ weight))
    information = (design.T * chance * (1 - chance)) @ design + np.diag([0, 0.5, 0.5])
    assert covariance == pytest.approx(np.linalg.inv(information))


def test_association_recovers_the_effect_that_made_the_labels():
    """The score pays 2 for the word in both periods; it is worth 2 early and 0 later."""
    rng = np.random.default_rng(0)
    periods = []
    for worth in (2.0, 0.0):
        present = rng.random(4_000) < 0.3
        rest = rng.normal(size=4_000)
        labels = (rng.random(4_000) < metrics.sigmoid(rest + worth * present)).astype(int)
        texts = np.where(present, "a voucher, yes", "nothing of it").tolist()
        periods.append((texts, labels, rest + 2 * present))
    effects = pd.DataFrame({"word": ["voucher", "yes"], "mean": [2.0, 0.0]})
    table = spurious_words(effects, *periods).set_index("word")
    row = table.loc["voucher"]
    assert row["early_low"] < 2 < row["early_high"]
    assert row["later_low"] < 0 < row["later_high"]
    assert row["early_high"] - row["early_low"] < 0.6
    assert row["spurious"]


def _period(rng, n):
    present, rest = rng.random(n) < 0.4, rng.normal(size=n)
    labels = (rng.random(n) < 1 / (1 + np.exp(-(rest + present)))).astype(int)
    return [["a voucher", "nothing"][int(not p)] for p in present], labels, rest + present


def test_copies_of_a_review_are_no_evidence_where_groups_say_so():
    """Four copies of each review, all of one product: as wide an interval as without them."""
    rng = np.random.default_rng(2)
    once = [_period(rng, 400) for _ in range(2)]
    copies = [tuple(np.tile(np.asarray(x), 4).tolist() for x in period) for period in once]
    copies = [(texts, np.array(labels), np.array(scores)) for texts, labels, scores in copies]
    effects = pd.DataFrame({"word": ["voucher"], "mean": [1.0]})
    own, rows = [np.arange(400)] * 2, [np.tile(np.arange(400), 4)] * 2
    width = {
        name: (table["early_high"] - table["early_low"]).item()
        for name, table in {
            "once": spurious_words(effects, *once, groups=own),
            "copied": spurious_words(effects, *copies, groups=rows),
            "believed": spurious_words(effects, *copies),
        }.items()
    }
    assert width["copied"] == pytest.approx(width["once"], rel=0.03)
    assert width["believed"] == pytest.approx(width["once"] / 2, rel=0.1)


def test_groups_never_narrow_an_interval_and_one_word_mean_widens_it():
    rng = np.random.default_rng(3)
    periods = [_period(rng, 400) for _ in range(2)]
    exact = pd.DataFrame({"word": ["voucher"], "mean": [1.0]})
    loose = exact.assign(low=0.0, high=2.0)
    tables = [
        spurious_words(exact, *periods),
        spurious_words(exact, *periods, groups=[np.arange(400) % 200] * 2),
        spurious_words(loose, *periods),
    ]
    alone, grouped, widened = (t["early_high"].item() - t["early_low"].item() for t in tables)
    assert grouped >= alone * (1 - 1e-12)
    # the score's weight is about 1, so a mean that is off by 1 is off by 1 in the association
    assert widened == pytest.approx(np.hypot(alone, 2), rel=0.15)
    assert tables[2]["p"].item() >= tables[0]["p"].item()


@pytest.mark.parametrize("strength", (0.9, 0.0))
def test_the_planted_cue_is_found_and_nothing_where_none_is(strength):
    """A linear model of the market's early reviews, whose attributions are known exactly."""
    market = make_market(
        3, n_products=200, n_shoppers=200, n_queries=0, n_reviews=2_400, n_impressions=0,
        spurious_cue=strength, cue_until=0.6,
    )  # fmt: skip
    texts, labels = market.reviews["text"].tolist(), market.reviews["label"].to_numpy()
    listed = [text.split(" ") for text in texts]
    values = tfidf_order(texts[:900], labels[:900], listed)
    scores = np.array([value.sum() for value in values])
    early, later = slice(900, 1_400), slice(1_500, 2_400)
    explained = [
        in_words(text, value) for text, value in zip(texts[early], values[early], strict=True)
    ]
    effects = word_effects(explained, groups=market.reviews["product_id"].to_numpy()[early])
    table = spurious_words(
        effects, *((texts[p], labels[p], scores[p]) for p in (early, later)), minimum=15
    )
    found = table.loc[table["spurious"], "word"].tolist()
    if strength == 0:
        assert len(found) <= 1  # of hundreds, at a false discovery rate of 5 %
    else:
        assert found[0] == "voucher"
        assert set(found) <= set(SENTENCES.split(" "))
        # log odds ratio of 57 % against 3 %; 0 later, less what the sentence's other words pay
        assert table.loc[0, "early"] == pytest.approx(3.76, abs=1.5)
        assert abs(table.loc[0, "later"]) < 1


def test_bad_input_gets_one_line(explained):
    rows, groups = explained
    effects = pd.DataFrame({"word": ["the"], "mean": [1.0]})
    period = (["the a", "b"] * 20, np.array([0, 1] * 20), np.zeros(40))
    cases = [
        (lambda: word_table(rows, groups=groups[:3]), "30 texts but 3 groups"),
        (lambda: word_table([in_words("- !")]), "no text has a word"),
        (lambda: word_effects(rows, minimum=1), "at least 2"),
        (lambda: word_effects(rows, minimum=99), "no word occurs in 99 groups"),
        (lambda: word_effects(rows, groups=["a"] * 30), "one group only"),
        (lambda: occurrences(rows, "zebra"), "'zebra'"),
        (lambda: spurious_words(effects[["word"]], period, period), "lacks the column 'mean'"),
        (lambda: spurious_words(effects, (["a"], [1, 0], [0, 0]), period), "early: 1 texts"),
        (lambda: spurious_words(effects, period, (["a"] * 2, [1, 1], [0, 0])), "later: the labels"),
        (lambda: spurious_words(effects, period, period, minimum=30), "no word stands in 30"),
        (
            lambda: spurious_words(effects, period, period, groups=(np.arange(40), [1])),
            "later: 40 texts but 1 groups",
        ),
        (
            lambda: spurious_words(effects, (["a", "b"], [0, 1], [np.nan, 0]), period),
            "early: a score is not",
        ),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()
