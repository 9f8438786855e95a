"""Does an explanation find the words that made the review? Measured where those words are known.

The market marks, by character, the words that carry each opinion and the words that turn it around.
Here an explanation is an order of a text's words; it is scored like the order of a search: which of
the first k are marked (precision), which of the marked are among the first k (recall), and the area
under the curve over all k. One value per review, so that intervals and paired tests are
`metrics.bootstrap_mean` and `metrics.sign_flip_test`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from recsys_lib import metrics
from recsys_lib.workbook import InputError

ROLES = ("word", "turn")


def marked_spans(
    spans: pd.DataFrame,
    review_ids: Sequence[int] | np.ndarray,
    *,
    roles: Sequence[str] = ROLES,
    polarity: Sequence[int] | np.ndarray | None = None,
    negated: bool | None = None,
) -> list[np.ndarray]:
    """The marked stretches of each review, (M, 2) int64 start and end in characters.

    Opinions about another product (polarity 0) and opinions without weight in the verdict are no
    reason for it and are left out.

    Args:
        spans: `market.truth.spans`.
        review_ids: (n,) the reviews, in the order wanted.
        roles: "word" (carries the opinion), "turn" (turns it around), or both.
        polarity: (n,) +1 or −1, only what speaks for this side of each review; None for both sides.
        negated: True for opinions that something turns around, False for the others, None for all.

    Raises InputError for a table without the columns, an unknown role, or lengths that differ.
    """
    needed = ["review_id", "start", "end", "role", "polarity", "negated", "weight"]
    if missing := [name for name in needed if name not in spans.columns]:
        raise InputError(f"spans lacks the column {missing[0]!r}: give market.truth.spans.")
    if unknown := set(roles) - set(ROLES):
        raise InputError(f"roles: {sorted(unknown)[0]!r} is not one of {', '.join(ROLES)}.")
    ids = np.asarray(review_ids)
    if polarity is not None and len(polarity) != len(ids):
        raise InputError(f"{len(ids)} review_ids but {len(polarity)} values of polarity.")
    keep = spans["role"].isin(roles) & (spans["weight"] > 0) & (spans["polarity"] != 0)
    if negated is not None:
        keep &= spans["negated"] == negated
    wanted = spans[keep & spans["review_id"].isin(ids)]
    columns = ["start", "end", "polarity"]
    by_review = {name: rows[columns].to_numpy() for name, rows in wanted.groupby("review_id")}
    found = [by_review.get(name, np.zeros((0, 3))).astype(np.int64) for name in ids.tolist()]
    if polarity is not None:
        found = [rows[rows[:, 2] == side] for rows, side in zip(found, polarity, strict=True)]
    return [rows[:, :2] for rows in found]


def relevant_words(spans: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """Which words share a character with a marked stretch: (W,) bool.

    spans: (W, 2) start and end of the words; marked: (M, 2), see `marked_spans`.
    """
    spans, marked = (np.asarray(x, dtype=np.int64).reshape(-1, 2) for x in (spans, marked))
    starts = np.maximum(spans[:, None, 0], marked[None, :, 0])
    ends = np.minimum(spans[:, None, 1], marked[None, :, 1])
    return (starts < ends).any(axis=1)


def found_words(
    values: Sequence[np.ndarray], relevant: Sequence[np.ndarray], *, k: int = 5
) -> pd.DataFrame:
    """How well the order of the words by `values`, largest first, finds the relevant ones.

    For the order by strength give |attribution|; for the order toward a verdict give attribution
    times ±1, and as relevant the words that speak for this verdict.

    Args:
        values: per text (W,) one number per word. Ties count as their expectation over all orders
            in precision and recall, and as one threshold in the areas.
        relevant: per text (W,) bool, see `relevant_words`.
        k: how many words a reader would look at.

    Returns a row per text: precision (of the first k; a text of fewer words still divides by k),
    recall (among the first k), average_precision (area under precision over recall), auc (the
    chance that a relevant word stands above another one), words and marked (counts). NaN where a
    text has no relevant word (and for auc where it has no other).

    Raises InputError for lengths that differ, a value that is not finite, or k below 1.
    """
    if k < 1:
        raise InputError(f"k = {k!r} must be at least 1.")
    if len(values) != len(relevant):
        raise InputError(f"values for {len(values)} texts but relevant words of {len(relevant)}.")
    rows = []
    for text, (score, mark) in enumerate(zip(values, relevant, strict=True)):
        score, mark = np.asarray(score, dtype=np.float64), np.asarray(mark, dtype=bool)
        if score.shape != mark.shape or score.ndim != 1:
            raise InputError(f"text {text}: {score.size} values for {mark.size} words.")
        if not np.isfinite(score).all():
            raise InputError(f"text {text}: a value is not a finite number.")
        row = dict.fromkeys(("precision", "recall", "average_precision", "auc"), np.nan)
        if mark.any():
            grades = mark.astype(np.int64)
            row["precision"] = metrics.precision_at_k(grades, score, k)
            row["recall"] = metrics.recall_at_k(grades, score, k)
            row["average_precision"] = metrics.average_precision(grades, score)
            if not mark.all():
                row["auc"] = metrics.auc(grades, score)
        rows.append(row | {"words": mark.size, "marked": int(mark.sum())})
    return pd.DataFrame(rows)


def random_order(relevant: Sequence[np.ndarray], *, k: int = 5) -> pd.DataFrame:
    """What `found_words` gives on average over all orders of the words, exactly.

    With m of W words relevant: precision of the first k is min(k, W) m / (W k), recall
    min(k, W) / W, AUC one half, and average precision
    Σ_i (1 + (i − 1)(m − 1)/(W − 1)) / (i W), i = 1 … W, since a relevant word on rank i has
    (i − 1)(m − 1)/(W − 1) relevant words above it on average.
    """
    if k < 1:
        raise InputError(f"k = {k!r} must be at least 1.")
    rows = []
    for mark in relevant:
        words, marked = len(mark), int(np.sum(mark))
        row = dict.fromkeys(("precision", "recall", "average_precision", "auc"), np.nan)
        if marked:
            rank = np.arange(1, words + 1)
            above = (rank - 1) * (marked - 1) / max(words - 1, 1)
            row["precision"] = min(k, words) * marked / (words * k)
            row["recall"] = min(k, words) / words
            row["average_precision"] = float(np.mean((1 + above) / rank))
            row["auc"] = 0.5 if marked < words else np.nan
        rows.append(row | {"words": words, "marked": marked})
    return pd.DataFrame(rows)


def tfidf_order(
    texts: Sequence[str],
    labels: Sequence[int] | np.ndarray,
    words: Sequence[Sequence[str]],
    *,
    strength: float = 10.0,
) -> list[np.ndarray]:
    """The weights that a logistic regression on TF-IDF of single words gives to words.

    A word that occurs once or more in a text adds coefficient × TF-IDF to the text's log-odds; each
    of its occurrences gets an equal share, so that the values of a text add up to the log-odds
    without the constant.

    Args:
        texts, labels: what the regression is trained on.
        words: per text to explain, its words in order.
        strength: inverse regularization of the regression.

    Returns per text (W,) float64; 0 for words that were not in `texts`.
    Raises InputError if the labels hold one class only.
    """
    if len(np.unique(labels)) < 2:
        raise InputError("the training labels hold one class only: give reviews of both.")
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    regression = LogisticRegression(C=strength, max_iter=1_000)
    regression.fit(vectorizer.fit_transform(texts), labels)
    analyze, vocabulary = vectorizer.build_analyzer(), vectorizer.vocabulary_
    values = []
    for listed in words:
        # a listed word may be several of the vectorizer's, such as "cheap-looking"
        parts = [[vocabulary[t] for t in analyze(word) if t in vocabulary] for word in listed]
        weights = vectorizer.transform([" ".join(listed)]).multiply(regression.coef_).toarray()[0]
        times = np.bincount([t for part in parts for t in part], minlength=len(weights))
        each = weights / np.maximum(times, 1)
        values.append(np.array([each[part].sum() for part in parts], dtype=np.float64))
    return values
