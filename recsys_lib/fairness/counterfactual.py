"""The same review with one thing about the reviewer named differently: does the score move?

A *swap* exchanges words that stand in a review ("my husband" becomes "my wife", or the other way
round); an *insertion* puts one of two sentences before any review ("I am 25." or "I am 65.").
Either gives a pair of texts that differ in nothing else, and the difference of their scores has no
other cause than the words exchanged. Control rules exchange words that mean nothing here (a
weekday, a house number): any edit moves a network's score a little, and they say how much.

Sources: Kusner, Loftus, Russell, Silva (2017), Counterfactual fairness, NeurIPS (the idea; here the
text is changed, not a cause of it); Garg et al. (2019), Counterfactual fairness in text
classification through robustness, AIES.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from recsys_lib.fairness.chance import MOST, monte_carlo_interval, undecided
from recsys_lib.metrics import Estimate, bootstrap_mean, holm, sign_flip_test
from recsys_lib.workbook.errors import InputError

MIN_GROUPS = 10  # products below which a rule is called not testable
CONTROL = "control"
_FLIPS = 10_000
_FAR = 2_000  # resamples that a simultaneous interval needs at least
_OTHER_SIZE = r"\bsizes?\b|\b(?:\d|1\d)\b(?!\s*['’\"”])"  # a second size, but no height (5'4")
_PRONOUN = r"\b(?:he|she|him|his|hers?|himself|herself)\b"


@dataclass(frozen=True)
class Swap:
    """Words that are exchanged where they stand, in either direction.

    name: in results. about: what it says about the reviewer, or "control". forms: (first, second),
    each pair exchanged for one another. unless: a regular expression; a review that holds it beside
    the words (a pronoun that would contradict them, say) is left out.
    """

    name: str
    about: str
    forms: tuple[tuple[str, str], ...]
    unless: str = ""


@dataclass(frozen=True)
class Insertion:
    """Two sentences, of which one is put before a review (where truncation does not cut it)."""

    name: str
    about: str
    first: str
    second: str


RULES: tuple[Swap | Insertion, ...] = (
    Swap("my husband → my wife", "relation", (("my husband", "my wife"),), _PRONOUN),
    Swap("my son → my daughter", "relation", (("my son", "my daughter"),), _PRONOUN),
    Swap(
        "size 2, 4, 6 → 16, 14, 12",
        "size",
        (("size 2", "size 16"), ("size 4", "size 14"), ("size 6", "size 12")),
        _OTHER_SIZE,
    ),
    Swap("blue → green", CONTROL, (("blue", "green"),)),
    Swap(
        "Monday → Tuesday, …",
        CONTROL,
        (
            ("monday", "tuesday"),
            ("wednesday", "thursday"),
            ("saturday", "sunday"),
            ("january", "february"),
            ("june", "july"),
            ("october", "november"),
        ),
    ),
    Insertion("“I am 25.” → 65", "age", "I am 25.", "I am 65."),
    Insertion(
        "“… with my husband.” → wife",
        "relation",
        "I was there with my husband.",
        "I was there with my wife.",
    ),
    Insertion("“I wear a size 4.” → 16", "size", "I wear a size 4.", "I wear a size 16."),
    Insertion(
        "“I ordered on a Monday.” → Tuesday",
        CONTROL,
        "I ordered on a Monday.",
        "I ordered on a Tuesday.",
    ),
    Insertion(
        "“I live at number 25.” → 65", CONTROL, "I live at number 25.", "I live at number 65."
    ),
    Insertion(
        "“… with my neighbor.” → colleague",
        CONTROL,
        "I was there with my neighbor.",
        "I was there with my colleague.",
    ),
    Insertion("“I went by bus.” → train", CONTROL, "I went by bus.", "I went by train."),
)


@dataclass(frozen=True)
class Effect:
    """What one rule does to the score.

    rule, about, kind ("swapped" or "inserted"): which. pairs, groups: how many pairs, of how many
    products. change: the mean of score(second) − score(first), in log-odds. size: the mean of its
    absolute value. excess: size less that of the largest control of the same kind (None for
    controls, and where none was testable); a size on a yardstick, not a test of bias. Its interval
    is a simultaneous one: those of all rules that have an excess hold together with the chance of
    the level (Bonferroni). p: of the sign-flip test of "the mean change is 0", flipping
    whole products; p_holm: corrected for all rules tested. flipped: share of pairs whose scores lie
    on different sides of 0. Where fewer than `MIN_GROUPS` products are touched the estimates are
    None and the p values NaN: not testable. The same, but for change and size, where the model is
    `blind` to the rule.
    """

    rule: str
    about: str
    kind: str
    pairs: int
    groups: int
    change: Estimate | None
    size: Estimate | None
    excess: Estimate | None
    p: float
    p_holm: float
    flipped: float

    @property
    def blind(self) -> bool:
        """No pair's score moved at all: the model does not see the words, so the rule tests
        nothing (a vocabulary that drops them, say)."""
        return self.size is not None and self.size.value == 0


def swapped(text: str, rule: Swap) -> tuple[str, str] | None:
    """The text with the rule's first form and with its second, or None where it does not apply.

    Whole words only, in any case, and the case is kept: "My Husband" becomes "My wife", "MY WIFE"
    "MY HUSBAND". It does not apply to a text that holds none of the forms, more than one of them
    (the exchange would be ambiguous) or what `rule.unless` names.
    """
    to_second = {first.lower(): second for first, second in rule.forms}
    to_first = {second.lower(): first for first, second in rule.forms}
    pattern = _whole_words([*to_second, *to_first])
    found = {match.group().lower() for match in pattern.finditer(text)}
    if len(found) != 1 or not found <= to_second.keys() | to_first.keys():
        return None
    if rule.unless and re.search(rule.unless, pattern.sub(" ", text), re.IGNORECASE):
        return None
    form = found.pop()
    new = (to_second | to_first)[form]
    other = pattern.sub(lambda match: _in_case_of(match.group(), new), text)
    return (text, other) if form in to_second else (other, text)


def make_pairs(
    texts: Sequence[str],
    groups: Sequence[Hashable] | None = None,
    *,
    rules: Sequence[Swap | Insertion] = RULES,
    at_most: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The pairs of texts that the rules make, one line per pair.

    Args:
        texts: (n,) reviews.
        groups: (n,) the unit of independence of each, such as its product; by default the text.
        rules: swaps and insertions, with names of their own.
        at_most: pairs per rule, drawn at random; insertions draw the same reviews.
        seed: of the draw.

    Returns columns rule, about, kind ("swapped" or "inserted"), row (position in `texts`), group,
    first, second.

    Raises:
        InputError: no text, something that is not a string, groups of another length, two rules of
            one name, or no review that any rule applies to.
    """
    texts = list(texts)
    if not texts:
        raise InputError("texts is empty: give at least one review.")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"text {row} is {type(text).__name__}, not a string: drop it first.")
    groups = list(range(len(texts))) if groups is None else list(groups)
    if len(groups) != len(texts):
        raise InputError(f"{len(texts)} texts but {len(groups)} groups: give one per text.")
    names = [rule.name for rule in rules]
    if len(set(names)) < len(names):
        raise InputError("rules: two of them have the same name.")
    lines = []
    for rule in rules:
        kind = "swapped" if isinstance(rule, Swap) else "inserted"
        order = np.random.default_rng(seed).permutation(len(texts))
        taken = 0
        for row in order.tolist():
            if taken == at_most:
                break
            pair = _pair(texts[row], rule)
            if pair is not None:
                lines.append((rule.name, rule.about, kind, row, groups[row], *pair))
                taken += 1
    if not lines:
        raise InputError("no review holds the words of any rule: add rules for this language.")
    columns = ["rule", "about", "kind", "row", "group", "first", "second"]
    return pd.DataFrame(lines, columns=columns)


def score_pairs(pairs: pd.DataFrame, score: Callable[[list[str]], np.ndarray]) -> pd.DataFrame:
    """The pairs with the columns score_first, score_second and change (second less first).

    score: a list of n texts → (n,) log-odds. It is called once, with every text once.

    Raises InputError if it returns another number of scores, or one that is not finite.
    """
    texts = pd.unique(pairs[["first", "second"]].to_numpy().ravel())
    scores = np.asarray(score(list(texts)), dtype=np.float64)
    if scores.shape != (len(texts),):
        raise InputError(f"score: gave the shape {scores.shape} for {len(texts)} texts.")
    if not np.isfinite(scores).all():
        raise InputError("score: gave NaN or infinity; log-odds must be finite.")
    of = pd.Series(scores, index=texts)
    out = pairs.assign(
        score_first=of[pairs["first"]].to_numpy(), score_second=of[pairs["second"]].to_numpy()
    )
    return out.assign(change=out["score_second"] - out["score_first"])


def rule_effects(
    scored: pd.DataFrame, *, n: int = 2000, level: float = 0.95, seed: int = 0
) -> list[Effect]:
    """What each rule does, in the order of the rules; `scored` as `score_pairs` returns it.

    Intervals resample whole products (those of the excess 2,000 times at least, since they are
    simultaneous and so reach further out), p values flip whole products: 10,000 times, and 200,000
    times where other flips could move the corrected p to the other side of 0.05. See `Effect`.
    """
    found = []
    by_rule = scored.groupby("rule", sort=False)
    compared = sum(
        part["about"].iloc[0] != CONTROL
        and part["group"].nunique() >= MIN_GROUPS
        and bool((part["change"] != 0).any())
        for _, part in by_rule
    )
    apart = 1 - (1 - level) / max(compared, 1)
    for rule, part in by_rule:
        about, kind = part["about"].iloc[0], part["kind"].iloc[0]
        groups = part["group"].nunique()
        flipped = float(((part["score_first"] >= 0) != (part["score_second"] >= 0)).mean())
        known = {"rule": rule, "about": about, "kind": kind, "pairs": len(part), "groups": groups}
        if groups < MIN_GROUPS:
            nothing = {"change": None, "size": None, "excess": None, "p": np.nan}
            found.append(known | nothing | {"flipped": flipped})
            continue
        change, unit = part["change"].to_numpy(), part["group"].to_numpy()
        options = {"groups": unit, "n": n, "level": level, "seed": seed}
        seen = bool((change != 0).any())
        excess = None
        if about != CONTROL and seen:
            excess = _excess(scored, part, kind, max(n, _FAR), apart, seed)
        found.append(
            known
            | {
                "change": bootstrap_mean(change, **options),
                "size": bootstrap_mean(np.abs(change), **options),
                "excess": excess,
                "p": sign_flip_test(change, groups=unit, n=_FLIPS, seed=seed) if seen else np.nan,
                "flipped": flipped,
            }
        )
    p = np.array([line["p"] for line in found])
    drawn = ~np.isnan(p) & [line["groups"] > np.log2(_FLIPS) for line in found]
    ends = monte_carlo_interval(np.rint(p * (_FLIPS + 1)) - 1, _FLIPS)
    for at in np.flatnonzero(undecided(*(np.where(drawn, end, p) for end in ends))):
        part = scored[scored["rule"] == found[at]["rule"]]
        found[at]["p"] = sign_flip_test(
            part["change"].to_numpy(), groups=part["group"].to_numpy(), n=MOST, seed=seed
        )
    corrected = holm([line["p"] for line in found]).tolist()
    return [Effect(**line, p_holm=p) for line, p in zip(found, corrected, strict=True)]


def _pair(text: str, rule: Swap | Insertion) -> tuple[str, str] | None:
    if isinstance(rule, Swap):
        return swapped(text, rule)
    return f"{rule.first} {text}", f"{rule.second} {text}"


def _whole_words(forms: Sequence[str]) -> re.Pattern:
    """No part of a longer word, a compound (size 6-8) or a number (size 6.5, size 6/8)."""
    words = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])(?:{words})(?![\w-]|[./]\d)", re.IGNORECASE)


def _in_case_of(old: str, new: str) -> str:
    if old.isupper() and sum(map(str.isalpha, old)) > 1:
        return new.upper()
    return new[:1].upper() + new[1:] if old[:1].isupper() else new


def _excess(
    scored: pd.DataFrame, part: pd.DataFrame, kind: str, n: int, level: float, seed: int
) -> Estimate | None:
    """Mean |change| of a rule less that of the control of its kind that moves the score most,
    resampling the products of both together, so that what the two share cancels."""
    controls = scored[(scored["about"] == CONTROL) & (scored["kind"] == kind)]
    sizes = {
        rule: rows["change"].abs().mean()
        for rule, rows in controls.groupby("rule", sort=False)
        if rows["group"].nunique() >= MIN_GROUPS
    }
    if not sizes:
        return None
    control = controls[controls["rule"] == max(sizes, key=sizes.get)]
    both = pd.concat([part, control])
    unit, names = pd.factorize(both["group"])
    size = both["change"].abs().to_numpy()
    own = np.arange(len(both)) < len(part)
    columns = [size * own, 1.0 * own, size * ~own, 1.0 * ~own]
    sums = np.stack([np.bincount(unit, column, len(names)) for column in columns], axis=1)

    def difference(total: np.ndarray) -> np.ndarray:
        total = np.where(total[..., 1::2].min(axis=-1, keepdims=True) > 0, total, np.nan)
        return total[..., 0] / total[..., 1] - total[..., 2] / total[..., 3]

    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n)
    drawn = difference(counts @ sums)
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    method = f"percentile bootstrap of rule − control, {n} resamples of {len(names)} groups"
    value = float(difference(sums.sum(axis=0)))
    return Estimate(value, float(low), float(high), level, len(both), len(names), method)
