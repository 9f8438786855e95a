"""A search system's run against judgments: every metric of every query.

A *run* lists, for each query, the documents that a system retrieved, best first. *Judgments* grade
documents for queries. The two rarely cover the same documents: what was retrieved may be unjudged,
what is relevant may not have been retrieved. The convention of the metrics is that of ``ranking``.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence, Set

import numpy as np
import pandas as pd

from recsys_lib.metrics._ranked import as_precise_as, check_threshold, evaluate_long
from recsys_lib.metrics.per_query import at_each_depth, parse_measures, query_table

UNJUDGED = ("not relevant", "condensed")

Run = pd.DataFrame | Mapping[Hashable, Sequence[Hashable] | Mapping[Hashable, float]]
Judgments = pd.DataFrame | Mapping[Hashable, Mapping[Hashable, float]]


def evaluate_run(
    run: Run,
    judgments: Judgments,
    measures: Sequence[str] | None = None,
    *,
    relevant: float = 1.0,
    max_grade: float | None = None,
    p: float = 0.8,
    unjudged: str = "not relevant",
) -> pd.DataFrame:
    """Many metrics of each query of a search system's run.

    Relevant documents that the run does not list count in recall, average precision and the ideal
    order. A judged query that the run does not answer is worth 0; a query of the run without any
    judgment has no value (NaN), not even of "dcg", only of "judged".

    Args:
        run: a frame with columns query, doc and score (higher is better; ties as in ``ranking``)
            or, without a score, rank (1 is best); or ``{query: [doc, best first]}``, or
            ``{query: {doc: score}}``.
        judgments: a frame with columns query, doc and grade, or ``{query: {doc: grade}}``.
        measures: as in ``metrics_per_query``; also "judged@k", the share of the first k documents
            retrieved that have a judgment (of the whole run, condensed or not).
        relevant, max_grade, p: as in ``metrics_per_query``.
        unjudged: "not relevant", or "condensed": left out of the lists before they are ranked.

    Returns:
        One row per query, first those with judgments, in their order; one column per measure.

    Raises:
        ValueError: on a document listed or judged twice for a query, missing values, negative
            grades, no query in common, an unknown measure.

    Source: condensed lists: Sakai (2007), Alternatives to bpref, SIGIR.
    """
    if unjudged not in UNJUDGED:
        raise ValueError(f"unjudged is {unjudged!r}; it must be one of {UNJUDGED}")
    names, functions, depths = parse_measures(measures, p, max_grade)
    check_threshold(relevant)
    relevant = as_precise_as(relevant, _grade_type(judgments))
    listed, asked = _run_rows(run)
    known = _judgment_rows(judgments)
    query, ids = pd.factorize(
        pd.concat([known["query"], pd.Series(asked, dtype=object)], ignore_index=True)
    )
    doc, _ = pd.factorize(pd.concat([known["doc"], listed["doc"]], ignore_index=True))
    judged_query, judged_doc = query[: len(known)], doc[: len(known)]
    run_query = pd.Index(ids).get_indexer(listed["query"])
    width = int(doc.max(initial=0)) + 1
    if asked and not (query[len(known) :] < len(pd.unique(judged_query))).any():
        raise ValueError(
            f"no query of the run has judgments: the run names {_example(asked[0])}, "
            f"the judgments {_example(known['query'].iloc[0])}"
        )
    judged_key = _unique(judged_query * width + judged_doc, known, "judgments")
    run_key = _unique(run_query * width + doc[len(known) :], listed, "run")
    at = judged_key.get_indexer(run_key)
    found = at >= 0
    if len(listed) and not found.any():
        ours, theirs = listed["doc"].iloc[0], known["doc"].iloc[0]
        if isinstance(ours, str) != isinstance(theirs, str):
            raise ValueError(
                f"no document of the run has a judgment: the run names {_example(ours)}, "
                f"the judgments {_example(theirs)}"
            )
    grades = known["grade"].to_numpy()
    missed = np.ones(len(known), bool)
    missed[at[found]] = False
    missed &= grades > 0
    kept = found if unjudged == "condensed" else np.ones(len(found), bool)
    score = listed["score"].to_numpy()
    gathered = (
        np.concatenate([run_query[kept], judged_query[missed]]),
        len(ids),
        np.concatenate([np.where(found, grades[at], 0.0)[kept], grades[missed]]),
        np.concatenate([score[kept], np.zeros(missed.sum())]),
        np.repeat([True, False], [kept.sum(), missed.sum()]),
    )
    values = at_each_depth(
        functions,
        depths,
        lambda some, depth: evaluate_long(some, *gathered, depth=depth, threshold=relevant),
    )
    values[:, judged_query.max() + 1 :] = np.nan  # queries are numbered in order: nothing is known
    whole = run_query, len(ids), found.astype(float), score, None
    for row, name in enumerate(names):
        if name.partition("@")[0] == "judged":
            (values[row],) = evaluate_long(
                [functions[row]], *whole, depth=depths[row], threshold=relevant
            )
    return query_table(values, names, ids)


# ----------------------------------------------------------------------------- helpers


def _run_rows(run: Run) -> tuple[pd.DataFrame, list]:
    """Columns query, doc and score (higher is better), and the queries that were asked."""
    if isinstance(run, pd.DataFrame):
        order = "score" if "score" in run.columns else "rank"
        rows = _columns(run, ["query", "doc", order], "run")
        if order == "rank":
            rows = rows.rename(columns={"rank": "score"})
            rows["score"] = -rows["score"]
        return rows, list(pd.unique(rows["query"]))
    if not isinstance(run, Mapping):
        raise ValueError("run must be a data frame or a dictionary by query")
    docs, scores, counts = [], [], []
    for query, found in run.items():
        before = len(docs)
        if isinstance(found, Mapping):
            docs += found.keys()
            scores += found.values()
        elif isinstance(found, (str, bytes, Set)) or not isinstance(found, Iterable):
            raise ValueError(
                f"the run must have a list of documents, best first, or {{doc: score}} for query "
                f"{_example(query)}; got {_example(found)}"
            )
        else:
            docs += found
            scores += range(0, before - len(docs), -1)
        counts.append(len(docs) - before)
    rows = _frame(list(run), counts, docs, scores, "score")
    return _columns(rows, ["query", "doc", "score"], "run"), list(run)


def _judgment_rows(judgments: Judgments) -> pd.DataFrame:
    if isinstance(judgments, Mapping):
        for query, docs in judgments.items():
            if not isinstance(docs, Mapping):
                raise ValueError(
                    f"the judgments must have {{doc: grade}} for query {_example(query)}; "
                    f"got {_example(docs)}"
                )
        docs = [doc for graded in judgments.values() for doc in graded]
        grades = [grade for graded in judgments.values() for grade in graded.values()]
        counts = [len(graded) for graded in judgments.values()]
        judgments = _frame(list(judgments), counts, docs, grades, "grade")
    if not isinstance(judgments, pd.DataFrame):
        raise ValueError("judgments must be a data frame or a dictionary by query")
    known = _columns(judgments, ["query", "doc", "grade"], "judgments")
    if not len(known):
        raise ValueError("judgments is empty")
    if not np.isfinite(known["grade"]).all() or known["grade"].min() < 0:
        raise ValueError(
            f"grades must be finite and not negative; got {known['grade'].min():g} to "
            f"{known['grade'].max():g} (to count negative grades as not relevant, raise them to 0)"
        )
    return known


def _frame(queries: list, counts: list[int], docs: list, values: list, number: str) -> pd.DataFrame:
    """The first ``counts[0]`` rows belong to ``queries[0]``, and so on."""
    owner = np.repeat(np.arange(len(queries)), np.array(counts, dtype=np.int64))
    return pd.DataFrame(
        {
            "query": pd.Series(queries, dtype=object).take(owner).reset_index(drop=True),
            "doc": pd.Series(docs, dtype=object),
            number: pd.Series(values, dtype=object),
        }
    )


def _columns(frame: pd.DataFrame, names: list[str], what: str) -> pd.DataFrame:
    """These columns, the last one as numbers, without missing values."""
    lacking = [name for name in names if name not in frame.columns]
    if lacking:
        raise ValueError(
            f"{what} has no column {lacking[0]}; it needs {', '.join(names)} and has "
            f"{', '.join(map(str, frame.columns))}"
        )
    if not frame.columns[frame.columns.isin(names)].is_unique:
        raise ValueError(f"{what} has a column twice: {', '.join(map(str, frame.columns))}")
    rows = frame[names].reset_index(drop=True)
    try:
        rows[names[-1]] = rows[names[-1]].astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{names[-1]} of the {what} must be numbers") from None
    for name in names:
        missing = np.flatnonzero(rows[name].isna())
        if len(missing):
            raise ValueError(
                f"{what} has {len(missing)} missing values in {name}, the first in row {missing[0]}"
            )
    return rows


def _unique(key: np.ndarray, rows: pd.DataFrame, what: str) -> pd.Index:
    index = pd.Index(key)
    if not index.is_unique:
        row = int(np.argmax(index.duplicated()))
        query, doc = (_example(rows[name].iloc[row]) for name in ("query", "doc"))
        raise ValueError(f"{what} has document {doc} of query {query} more than once")
    return index


def _example(name: Hashable) -> str:
    name = name.item() if isinstance(name, np.generic) else name
    return f"{repr(name)[:60]} ({type(name).__name__})"


def _grade_type(judgments: Judgments) -> np.dtype:
    """The type that the grades came in, as far as it matters how it rounds."""
    grades = judgments.get("grade") if isinstance(judgments, pd.DataFrame) else None
    numpy = isinstance(grades, pd.Series) and isinstance(grades.dtype, np.dtype)
    return grades.dtype if numpy else np.dtype(np.float64)
