"""From one review to the model: which words push it, where, and which of them it should not trust.

One explained review is an anecdote. Over a test set, the same word has a mean effect with an
interval (`word_effects`), different effects in different company (`occurrences`), and a use that
holds or does not hold in another period (`spurious_words`).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.stats import false_discovery_control, norm, t

from recsys_lib.interpret.words import Words
from recsys_lib.metrics import sigmoid
from recsys_lib.workbook import InputError

Period = tuple[Sequence[str], np.ndarray, np.ndarray]

_PRIOR = 5.0  # standard deviation of a word's log odds ratio: holds apart what separates by luck
_BLOCK = 64  # resamples held at a time


def word_table(
    explained: Sequence[Words], *, groups: Sequence[Hashable] | np.ndarray | None = None
) -> pd.DataFrame:
    """Every word of every explained text: text (its number), group, place, word, value.

    Words are in lower case without the punctuation around them; what is punctuation only is left
    out. Without `groups`, each text is a group of its own.

    Raises InputError if nothing is left, or the groups do not fit.
    """
    if groups is None:
        groups = np.arange(len(explained))
    if len(groups) != len(explained):
        raise InputError(f"{len(explained)} texts but {len(groups)} groups: give one for each.")
    rows = []
    for number, (text, group) in enumerate(zip(explained, groups, strict=True)):
        for place, (word, value) in enumerate(zip(text.words, text.values, strict=True)):
            if plain := _plain(word):
                rows.append((number, group, place, plain, float(value)))
    if not rows:
        raise InputError("no text has a word: there is nothing to explain.")
    return pd.DataFrame(rows, columns=["text", "group", "place", "word", "value"])


def word_effects(
    explained: Sequence[Words],
    *,
    groups: Sequence[Hashable] | np.ndarray | None = None,
    minimum: int = 10,
    n: int = 1_000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """What each word adds to the score on average, with interval and counts, largest first.

    Args:
        explained: texts with their words and values, on one scale (log-odds).
        groups: the unit of independence of each text, such as its product; whole groups are
            resampled. None: the texts.
        minimum: groups that a word must occur in; rarer words are left out.
        n, level, seed: of the percentile bootstrap, resamples as in `metrics.bootstrap_mean`. A
            resample without the word is left out for it.

    Returns a row per word: word, count (occurrences), texts, groups, mean, low, high, p (two-sided,
    of mean 0: t test with the variance between groups), p_adjusted (false discovery rate over all
    the words of the table; Benjamini, Hochberg 1995).

    Raises InputError if no word is frequent enough, or there is a single group.
    """
    if minimum < 2:
        raise InputError(f"minimum = {minimum!r} must be at least 2: one group has no interval.")
    table = word_table(explained, groups=groups)
    # numbered as metrics.bootstrap_mean numbers them: in order of first appearance
    unit = pd.factorize(table["group"])[0]
    code, names = pd.factorize(table["word"], sort=True)
    shape = (int(unit.max()) + 1, len(names))
    if shape[0] < 2:
        raise InputError("groups has one group only; at least two are needed to resample.")
    counts = csr_array((np.ones(len(table)), (unit, code)), shape=shape).toarray()
    sums = csr_array((table["value"].to_numpy(), (unit, code)), shape=shape).toarray()
    kept = (counts > 0).sum(axis=0) >= minimum
    if not kept.any():
        raise InputError(
            f"no word occurs in {minimum} groups: explain more texts, or lower minimum."
        )
    counts, sums, names = counts[:, kept], sums[:, kept], names[kept]
    total = counts.sum(axis=0)
    mean = sums.sum(axis=0) / total
    low, high = np.nanquantile(
        _resampled_means(sums, counts, n, seed), [(1 - level) / 2, (1 + level) / 2], axis=0
    )
    units = (counts > 0).sum(axis=0)
    rest = sums - mean * counts
    error = np.sqrt((rest**2).sum(axis=0) * units / (units - 1)) / total
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(error > 0, 2 * t.sf(np.abs(mean) / error, units - 1), np.where(mean, 0.0, 1.0))
    texts = table.groupby("word")["text"].nunique().loc[names].to_numpy()
    frame = pd.DataFrame(
        {
            "word": names,
            "count": total.astype(np.int64),
            "texts": texts,
            "groups": units,
            "mean": mean,
            "low": low,
            "high": high,
            "p": p,
            "p_adjusted": false_discovery_control(p),
        }
    )
    return frame.sort_values("mean", ascending=False, kind="stable").reset_index(drop=True)


def occurrences(explained: Sequence[Words], word: str, *, window: int = 3) -> pd.DataFrame:
    """Each place where a word stands: text (its number), value, before, after.

    before, after: up to `window` words on either side, in lower case, "" at an end of the text.
    Raises InputError for a word that none of the texts has.
    """
    table = word_table(explained)
    wanted = _plain(word)
    rows = []
    for number, words in table.groupby("text", sort=True):
        listed = words["word"].tolist()
        for at, (found, value) in enumerate(zip(listed, words["value"], strict=True)):
            if found == wanted:
                before = " ".join(listed[max(0, at - window) : at])
                rows.append((number, value, before, " ".join(listed[at + 1 : at + 1 + window])))
    if not rows:
        raise InputError(f"none of the {len(explained)} texts has the word {word!r}.")
    return pd.DataFrame(rows, columns=["text", "value", "before", "after"])


def spurious_words(
    effects: pd.DataFrame,
    early: Period,
    later: Period,
    *,
    groups: tuple[Sequence[Hashable] | np.ndarray, Sequence[Hashable] | np.ndarray] | None = None,
    minimum: int = 10,
    level: float = 0.95,
) -> pd.DataFrame:
    """Words that the model uses, and that stopped telling anything about the label.

    In each period the label is regressed on the model's score and the presence of the word:
    logit P(label = 1) = a + b · score + d · present. The score holds the word's own effect m (its
    mean attribution), so that the word's association with the label, given all the rest that the
    model knows of the text, is d + b · m: a log odds ratio. A word that earns its place has it in
    both periods; a cue that only the training period knew has it early and not later. A cue of
    several words ("paid with a voucher") is paid for by each of them, so that each of them has an
    association below 0 later: the others have paid too much.

    Args:
        effects: of `word_effects`; its words are tested. Where it has the columns low and high
            (of the same level), m counts as known to within them, in the intervals and in p.
        early: texts (n,), labels (n,) and scores (n,) log-odds, of the period of training, best of
            texts that the model has not seen.
        later: the same of a later period, or another shop.
        groups: the unit of independence of each text of early, and of later, such as its product.
            The variance is then the larger of the model's and the one between groups (clustered
            sandwich; Liang, Zeger 1986, Biometrika 73), which is too small where few groups have
            the word. None: every text is a unit.
        minimum: texts with, and without, the word that each period must have; others are left out.
        level: of the intervals, and 1 − level the false discovery rate of the verdict.

    Returns a row per word: word, mean (attribution), early, early_low, early_high, later,
    later_low, later_high, p (early = later), p_adjusted (false discovery rate), spurious (the
    association has changed, was on the side of the attribution, and is less than half as large);
    spurious words first, then by |mean|.

    A log odds ratio has a weak prior (normal, standard deviation 5), which keeps it finite where a
    few texts separate by luck. Source: d + b · m is the coefficient of "present" after the word's
    own share is taken out of the score; penalized likelihood, le Cessie, van Houwelingen (1992).

    Raises InputError for columns, lengths or groups that do not fit, or one class only.
    """
    for column in ("word", "mean"):
        if column not in effects.columns:
            raise InputError(f"effects lacks the column {column!r}: give that of word_effects.")
    parts = {"early": _checked_period("early", early), "later": _checked_period("later", later)}
    units = {
        name: _checked_groups(name, period, None if groups is None else groups[side])
        for side, (name, period) in enumerate(parts.items())
    }
    z = norm.ppf((1 + level) / 2)
    spread = np.zeros(len(effects))  # standard error of each mean
    if {"low", "high"} <= set(effects.columns):
        spread = (effects["high"] - effects["low"]).to_numpy() / (2 * z)
    rows = []
    for word, mean, loose in zip(effects["word"], effects["mean"], spread, strict=True):
        row: dict[str, object] = {"word": word, "mean": float(mean)}
        variance, slopes = 0.0, []
        for name, (texts, labels, scores) in parts.items():
            present = _has_word(texts, word)
            if min(present.sum(), (~present).sum()) < minimum:
                break
            value, slope, error = _association(present, labels, scores, float(mean), units[name])
            half = z * np.hypot(error, slope * loose)
            row |= {name: value, f"{name}_low": value - half, f"{name}_high": value + half}
            variance += error**2
            slopes.append(slope)
        else:
            variance += ((slopes[0] - slopes[1]) * loose) ** 2  # the same mean in both periods
            row["p"] = 2 * norm.sf(abs(row["early"] - row["later"]) / np.sqrt(variance))
            rows.append(row)
    if not rows:
        raise InputError(
            f"no word stands in {minimum} texts of both periods: give more texts, or lower minimum."
        )
    table = pd.DataFrame(rows)
    table["p_adjusted"] = false_discovery_control(table["p"])
    table["spurious"] = (
        (table["p_adjusted"] < 1 - level)
        & (np.sign(table["early"]) == np.sign(table["mean"]))
        & (table["later"] * np.sign(table["early"]) < table["early"].abs() / 2)
    )
    order = np.lexsort([-table["mean"].abs(), ~table["spurious"]])
    return table.iloc[order].reset_index(drop=True)


# ----------------------------------------------------------------------------- helpers


def _plain(word: str) -> str:
    """Lower case, without what is no letter or digit at either end."""
    return re.sub(r"^\W+|\W+$", "", word.lower())


def _has_word(texts: Sequence[str], word: str) -> np.ndarray:
    """(n,) bool: the word as a whole, whatever stands around it."""
    pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
    return np.array([bool(pattern.search(text.lower())) for text in texts])


def _resampled_means(sums: np.ndarray, counts: np.ndarray, n: int, seed: int) -> np.ndarray:
    """(n, words) means over resampled groups; NaN where a resample lacks the word."""
    units = len(sums)
    rng = np.random.default_rng(seed)
    means = np.empty((n, sums.shape[1]))
    for start in range(0, n, _BLOCK):
        size = min(_BLOCK, n - start)
        drawn = rng.integers(0, units, (size, units)) + np.arange(size)[:, None] * units
        times = np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units)
        total = times @ counts
        with np.errstate(invalid="ignore"):
            means[start : start + size] = np.where(total > 0, times @ sums / total, np.nan)
    return means


def _checked_period(name: str, period: Period) -> Period:
    texts, labels, scores = period[0], np.asarray(period[1]), np.asarray(period[2], np.float64)
    if not len(texts) == len(labels) == len(scores):
        raise InputError(
            f"{name}: {len(texts)} texts, {len(labels)} labels and {len(scores)} scores."
        )
    if len(np.unique(labels)) != 2 or not np.isin(labels, (0, 1)).all():
        raise InputError(f"{name}: the labels must be 0 and 1, with both of them there.")
    if not np.isfinite(scores).all():
        raise InputError(f"{name}: a score is not a finite number.")
    return texts, labels.astype(np.float64), scores


def _checked_groups(
    name: str, period: Period, groups: Sequence[Hashable] | np.ndarray | None
) -> np.ndarray | None:
    """(n,) numbers of the groups."""
    if groups is None:
        return None
    if len(groups) != len(period[0]):
        raise InputError(f"{name}: {len(period[0])} texts but {len(groups)} groups.")
    return pd.factorize(np.asarray(groups))[0]


def _association(
    present: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    mean: float,
    units: np.ndarray | None,
) -> tuple[float, float, float]:
    """d + b · mean of the regression of `spurious_words`, b, and the first one's standard error."""
    design = np.stack([np.ones(len(labels)), scores, present], axis=1)
    weight, inverse = _logistic(design, labels, np.array([0.0, 0.0, _PRIOR**-2]))
    along = np.array([0.0, mean, 1.0])
    variance = float(along @ inverse @ along)
    if units is not None:
        each = (design @ inverse @ along) * (labels - sigmoid(design @ weight))
        sums = np.bincount(units, each)
        variance = max(variance, float(sums @ sums) * len(sums) / max(len(sums) - 1, 1))
    return float(along @ weight), float(weight[1]), float(np.sqrt(variance))


def _logistic(
    design: np.ndarray, labels: np.ndarray, precision: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients with normal priors of these precisions, and their covariance (Newton)."""
    weight = np.zeros(design.shape[1])

    def loss(w: np.ndarray) -> float:
        z = design @ w
        return float(np.logaddexp(0, z).sum() - labels @ z + precision @ w**2 / 2)

    for _ in range(50):
        chance = sigmoid(design @ weight)
        slope = design.T @ (chance - labels) + precision * weight
        bend = (design.T * (chance * (1 - chance))) @ design + np.diag(precision)
        step = np.linalg.lstsq(bend, slope, rcond=None)[0]
        size = 1.0
        while loss(weight - size * step) > loss(weight) and size > 1e-6:
            size /= 2
        weight = weight - size * step
        if np.abs(size * step).max() < 1e-9:
            break
    return weight, np.linalg.pinv(bend)
