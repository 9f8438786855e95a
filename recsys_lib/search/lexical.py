"""Keyword search: words of product texts, and BM25 over them.

BM25 (Robertson, Zaragoza 2009, "The probabilistic relevance framework") weighs each word that query
and product share by how rare it is, and saturates with its count and the length of the text:

    score(q, d) = Σ over words t of q:  idf(t) · f / (f + k1 · (1 − b + b · |d| / mean length))
    idf(t) = ln(1 + (N − n + 0.5) / (n + 0.5))

with f the count of t in d, N products, n of which contain t. The form is Lucene's (the numerator's
constant k1 + 1, which changes no order, is left out); `bm25s` (Lù 2024, arXiv 2407.03618) computes
all weights once and adds them up at search time.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import bm25s
import numpy as np
from bm25s.stopwords import STOPWORDS_EN

from recsys_lib.search.results import Ranking, check_k, top_k
from recsys_lib.workbook.errors import InputError

_STOP_WORDS = frozenset(STOPWORDS_EN)
_WORD = re.compile(r"\d+\.\d+|[^\W_]+")
_POSSESSIVE = re.compile(r"['’]s?\b")
_ONE_LETTER = re.compile(r"\b([^\W\d_])[-‐](?=[^\W\d_]{2})")  # the hyphen of t-shirt, v-neck


def words(text: str) -> list[str]:
    """The words of a text as the keyword search compares them, in order.

    Case, accents, possessives and plurals are ignored ("Women's Dresses" → women, dress); a hyphen
    parts words, except behind a single letter ("T-shirt" → tshirt); numbers stay whole ("3.5").
    English stop words are left out. A text of stop words, signs or emoji has no words. Languages
    that write no spaces need a tokenizer of their own.
    """
    text = unicodedata.normalize("NFKD", text).casefold()
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = _ONE_LETTER.sub(r"\1", _POSSESSIVE.sub("", text))
    return [_singular(word) for word in _WORD.findall(text) if word not in _STOP_WORDS]


def _singular(word: str) -> str:
    """The s-stemmer of Harman (1991), JASIS 42, plus "es" behind a hissing sound (dresses)."""
    if len(word) <= 3 or not word.endswith("s"):
        return word
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes", "zzes")):
        return word[:-2]
    return word if word.endswith(("us", "ss")) else word[:-1]


@dataclass(frozen=True, eq=False)
class KeywordIndex:
    """BM25 weights of a catalog's words; made by `keyword_index`, used by `keyword_search`.

    engine: the weights, by `bm25s`. n_products: texts in the catalog.
    """

    engine: bm25s.BM25
    n_products: int


def keyword_index(texts: Sequence[str], *, k1: float = 1.2, b: float = 0.75) -> KeywordIndex:
    """Index one text per product: its name, or its name and attributes.

    k1: how slowly repeated words saturate, from 0 on; b: how much long texts are held against
    them, 0 … 1. Defaults are Lucene's.
    Raises InputError for an empty catalog, one without any word, or something that is not a string.
    """
    if not (0 <= k1 < np.inf and 0 <= b <= 1):
        raise InputError(f"k1 = {k1}, b = {b}: k1 must be finite and not negative, b lie in 0 … 1")
    corpus = [words(text) for text in _strings(texts, "text")]
    if not corpus:
        raise InputError("the catalog is empty: there is nothing to index")
    if not any(corpus):
        raise InputError("no text of the catalog holds a word that can be searched for")
    engine = bm25s.BM25(k1=k1, b=b, method="lucene")
    engine.index(corpus, show_progress=False)
    return KeywordIndex(engine, len(corpus))


def keyword_search(index: KeywordIndex, queries: Sequence[str], k: int) -> Ranking:
    """The best k products of each query by BM25; only products that share a word are listed.

    So a query without a word that the catalog knows (empty, stop words, emoji) has an empty list.
    """
    check_k(k)
    queries = _strings(queries, "query")
    found = [top_k(_scores(index, query)[None], k) for query in queries]
    rows = np.concatenate([one.rows for one in found]) if found else np.empty((0, k), np.int64)
    scores = np.concatenate([one.scores for one in found]) if found else np.empty((0, k))
    return Ranking(rows, scores)


def keyword_scores(index: KeywordIndex, queries: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """BM25 scores of given products, (Q, C) float32; 0 where no word is shared or the row is -1.

    rows: (Q, C) int64, as in a `Ranking`.
    """
    queries, rows = _strings(queries, "query"), np.asarray(rows)
    if len(rows) != len(queries):
        raise InputError(f"{len(queries)} queries but rows for {len(rows)}")
    if rows.size and rows.max() >= index.n_products:
        raise InputError(f"row {rows.max()} is not among the {index.n_products} indexed products")
    out = np.zeros(rows.shape, dtype=np.float32)
    for i, query in enumerate(queries):
        scores = _scores(index, query)[np.maximum(rows[i], 0)]
        out[i] = np.where((rows[i] >= 0) & np.isfinite(scores), scores, 0)
    return out


def _scores(index: KeywordIndex, query: str) -> np.ndarray:
    """(N,) float32; -inf for products that share no word with the query."""
    ids = index.engine.get_tokens_ids(words(query))
    if not ids:
        return np.full(index.n_products, -np.inf, dtype=np.float32)
    scores = index.engine.get_scores_from_ids(ids)
    return np.where(scores > 0, scores, np.float32(-np.inf))


def _strings(values: Sequence[str], what: str) -> list[str]:
    if isinstance(values, str):
        raise InputError(f"one string was given where a list is needed: [{values[:40]!r}]")
    values = list(values)
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise InputError(f"{what} {i} is {type(value).__name__}, not a string")
    return values
