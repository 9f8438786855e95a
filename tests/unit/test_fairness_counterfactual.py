"""Pairs of texts that differ in one thing, and the change of score that follows."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recsys_lib.fairness.counterfactual import (
    CONTROL,
    RULES,
    Insertion,
    Swap,
    make_pairs,
    rule_effects,
    score_pairs,
    swapped,
)
from recsys_lib.metrics import bootstrap_mean
from recsys_lib.workbook import InputError

RELATION, _, SIZE, COLOR, DAYS, *_ = RULES


@pytest.mark.parametrize(
    "text, rule, expected",
    [
        ("My husband's choice.", RELATION, ("My husband's choice.", "My wife's choice.")),
        ("ask MY WIFE now", RELATION, ("ask MY HUSBAND now", "ask MY WIFE now")),
        ("Blue, blue and BLUE", COLOR, ("Blue, blue and BLUE", "Green, green and GREEN")),
        ("worn on Tuesday", DAYS, ("worn on Monday", "worn on Tuesday")),
        ("a size 4 at 5'2\"", SIZE, ("a size 4 at 5'2\"", "a size 14 at 5'2\"")),
        ("size 16!", SIZE, ("size 2!", "size 16!")),
    ],
)
def test_swaps_both_ways_and_keeps_the_case(text, rule, expected):
    assert swapped(text, rule) == expected


@pytest.mark.parametrize(
    "text, rule",
    [
        ("my husbandry", RELATION),  # part of a longer word
        ("dummy wife", RELATION),
        ("my husband and my wife", RELATION),  # ambiguous
        ("my husband says he likes it", RELATION),  # a pronoun would contradict
        ("blueish, light-blue", COLOR),
        ("size 4-6", SIZE),
        ("size 4.5", SIZE),
        ("size 4/6", SIZE),
        ("size 41", SIZE),
        ("size 4, usually a 6", SIZE),  # a second size would contradict
        ("size 4 and size 6", SIZE),
        ("", RELATION),
        ("my huſband", RELATION),  # a long s matches, but is no form of the rule
    ],
)
def test_a_swap_that_would_not_be_clean_is_left_out(text, rule):
    assert swapped(text, rule) is None


@pytest.mark.parametrize("rule", [rule for rule in RULES if isinstance(rule, Swap)])
def test_swapping_back_gives_the_text_again(rule):
    for first, second in rule.forms:
        pair = swapped(f"I saw {first} there.", rule)
        assert pair == swapped(f"I saw {second} there.", rule)
        assert pair == (f"I saw {first} there.", f"I saw {second} there.")


def test_pairs_draw_the_same_reviews_for_every_insertion():
    texts = [f"review number {i} of a blue dress" for i in range(40)]
    pairs = make_pairs(texts, [i // 2 for i in range(40)], at_most=15, seed=3)
    rows = pairs.groupby("rule")["row"].apply(tuple)
    assert set(rows[[rule.name for rule in RULES if isinstance(rule, Insertion)]]) == {
        rows["blue → green"]
    }
    assert (pairs.groupby("rule").size() == 15).all()
    assert (pairs["group"] == pairs["row"] // 2).all()
    inserted = pairs[pairs["about"] == "age"].iloc[0]
    assert inserted["first"] == "I am 25. " + texts[inserted["row"]]
    assert inserted["second"] == "I am 65. " + texts[inserted["row"]]


def test_each_text_is_scored_once():
    asked = []

    def score(texts):
        asked.extend(texts)
        return np.array([len(text) for text in texts])

    pairs = make_pairs(["a blue dress", "a blue dress", "my wife"])
    scored = score_pairs(pairs, score)
    assert len(asked) == len(set(asked))
    assert (scored["change"] == scored["second"].str.len() - scored["first"].str.len()).all()


def planted(effect: float, noise: float = 0.3, seed: int = 0):
    """A scorer in which "my wife" costs `effect`, every other word is worth its own noise."""
    rng = np.random.default_rng(seed)
    worth: dict[str, float] = {}

    def score(texts):
        out = []
        for text in texts:
            words = text.lower().rstrip(".").split()
            # The size of a word's worth depends on the review, as in a network.
            value = sum(worth.setdefault(f"{w} {words[-1]}", rng.normal(0, noise)) for w in words)
            out.append(value - effect * ("my wife" in text.lower()))
        return np.array(out)

    return score


def shop(n: int = 240):
    texts = [f"my {'husband' if i % 2 else 'wife'} took the blue one in shop{i}" for i in range(n)]
    return texts, [i // 3 for i in range(n)]


def test_the_planted_change_is_found_and_the_controls_stay_quiet():
    texts, groups = shop()
    effects = rule_effects(score_pairs(make_pairs(texts, groups), planted(0.8)), n=1000)
    by_rule = {effect.rule: effect for effect in effects}
    swap = by_rule["my husband → my wife"]
    assert swap.change.low < -0.8 < swap.change.high
    assert swap.p_holm < 0.01
    assert swap.groups == 80 and swap.pairs == 240
    assert by_rule["“… with my husband.” → wife"].p_holm < 0.01
    for effect in effects:
        if effect.about == CONTROL:
            assert effect.excess is None
            assert not effect.pairs or np.isnan(effect.p) or effect.p_holm > 0.05
    assert swap.excess.low > 0


def test_any_edit_moves_the_score_but_no_more_than_a_control():
    """Without an effect the 95 % interval of the excess leaves 0 out in about 5 % of 60 worlds; the
    99.9 % point of that is 9."""
    left_out = 0
    for seed in range(60):
        scored = score_pairs(make_pairs(*shop()), planted(0.0, seed=seed))
        swap = rule_effects(scored, n=300)[0]
        assert swap.size.low > 0.1  # every edit does move it
        left_out += not swap.excess.low < 0 < swap.excess.high
    assert left_out <= stats.binom.ppf(0.999, 60, 0.05)


def test_false_alarms_are_as_rare_as_promised():
    """300 worlds without an effect: alarms among them are binomial(300, 0.05), whose 99.9 % range
    ends at 29."""
    rng = np.random.default_rng(0)
    alarms = 0
    for world in range(300):
        scored = pd.DataFrame(
            {"rule": np.repeat(["a", "b", "c"], 40), "about": "age", "kind": "swapped",
             "group": np.tile(np.arange(20).repeat(2), 3), "score_first": 0.0}
        )  # fmt: skip
        shared = rng.normal(size=(3, 20)).repeat(2, axis=1).ravel()  # within a product
        scored["change"] = scored["score_second"] = shared + rng.normal(size=120)
        found = rule_effects(scored, n=200, seed=world)
        alarms += min(effect.p_holm for effect in found) < 0.05
    assert alarms <= stats.binom.ppf(0.999, 300, 0.05)


def test_estimates_are_those_of_the_metrics_module():
    texts, groups = shop(60)
    scored = score_pairs(make_pairs(texts, groups), planted(0.5))
    effect = rule_effects(scored, n=500, seed=4)[0]
    part = scored[scored["rule"] == effect.rule]
    expected = bootstrap_mean(part["change"], groups=part["group"].to_numpy(), n=500, seed=4)
    assert effect.change == expected
    control = scored[(scored["about"] == CONTROL) & (scored["kind"] == "swapped")]
    value = part["change"].abs().mean() - control["change"].abs().mean()
    assert effect.excess.value == pytest.approx(value, abs=1e-12)
    assert effect.excess.low < value < effect.excess.high


def test_the_yardstick_is_the_largest_control_that_is_testable():
    """Mean |change|: the rule 0.5; controls 0.1 and 0.4, and one of 3 products that moves by 9."""
    sizes = {"rule": (0.5, 30), "small": (0.1, 30), "large": (0.4, 30), "rare": (9.0, 3)}
    scored = pd.concat(
        pd.DataFrame({"rule": name, "about": "age" if name == "rule" else CONTROL,
                      "kind": "swapped", "group": range(n), "score_first": 0.0,
                      "score_second": size, "change": size})
        for name, (size, n) in sizes.items()
    )  # fmt: skip
    effect = rule_effects(scored, n=100)[0]
    assert effect.excess.value == pytest.approx(0.1)
    assert rule_effects(scored[scored["rule"].isin(["rule", "rare"])], n=100)[0].excess is None


def test_a_rule_that_few_products_allow_is_not_tested():
    texts, groups = shop(240)
    texts = [text if i < 12 else text.replace("my", "our") for i, text in enumerate(texts)]
    first = rule_effects(score_pairs(make_pairs(texts, groups), planted(5.0)), n=200)[0]
    assert first.groups == 4
    assert first.change is None and first.size is None and first.excess is None
    assert np.isnan(first.p) and np.isnan(first.p_holm)


def test_a_rule_whose_words_the_model_does_not_see_tests_nothing():
    """A score that knows one word: the rule about another moves it never, and is not corrected."""
    texts, groups = shop(120)
    pairs = make_pairs(texts, groups, rules=[RELATION, RULES[-1]])
    swap, control = rule_effects(
        score_pairs(pairs, lambda texts: np.array([t.count("train") for t in texts]))
    )
    assert not control.blind and control.p_holm == control.p
    assert swap.blind and swap.change.value == 0 and swap.excess is None
    assert np.isnan(swap.p) and np.isnan(swap.p_holm)


def test_the_excesses_hold_together():
    """Three rules and a control of one size, 150 worlds: an interval that leaves 0 out in any of
    the three is as rare as 5 %; the 99.9 % point of that is 17. One by one it would be more."""
    rng = np.random.default_rng(5)
    any_of_three = 0
    for world in range(150):
        scored = pd.DataFrame(
            {"rule": np.repeat(["a", "b", "c", "d"], 60), "kind": "swapped",
             "about": np.repeat(["age", "age", "age", CONTROL], 60),
             "group": np.arange(240), "score_first": 0.0}
        )  # fmt: skip
        scored["change"] = scored["score_second"] = rng.normal(0.2, 1, 240)
        found = rule_effects(scored, n=100, seed=world)[:3]
        any_of_three += any(not e.excess.low < 0 < e.excess.high for e in found)
    assert any_of_three <= stats.binom.ppf(0.999, 150, 0.05)
    assert all(e.excess.level == pytest.approx(1 - 0.05 / 3) for e in found)


def test_bad_input_is_one_clear_line():
    with pytest.raises(InputError, match="texts is empty"):
        make_pairs([])
    with pytest.raises(InputError, match="text 1 is float"):
        make_pairs(["fine", float("nan")])
    with pytest.raises(InputError, match="2 texts but 1 groups"):
        make_pairs(["a", "b"], [1])
    with pytest.raises(InputError, match="same name"):
        make_pairs(["a"], rules=[RULES[0], RULES[0]])
    with pytest.raises(InputError, match="no review holds the words"):
        make_pairs(["quite nice"], rules=[RULES[0]])
    pairs = make_pairs(["my wife"])
    with pytest.raises(InputError, match="shape"):
        score_pairs(pairs, lambda texts: np.zeros(1))
    with pytest.raises(InputError, match="finite"):
        score_pairs(pairs, lambda texts: np.full(len(texts), np.nan))
