"""Checking and cleaning the tables of a search task, and reading the word files behind some.

What can be mended is mended and told in `notes`; what cannot is one clear line.
"""

import re
import tomllib
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from recsys_lib.datasets.tables import INVISIBLE, as_text, get_column, is_missing
from recsys_lib.workbook import InputError, project_folder

MAX_GRADE = 10  # gains grow as 2^grade: more makes a mean over queries that of one query

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@cache
def word_file(name: str) -> dict[str, Any]:
    """The contents of data/relevance/<name>.toml. Treat it as read-only."""
    path = project_folder() / "data" / "relevance" / f"{name}.toml"
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise InputError(f"{path} is missing; take it from the repository.") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} cannot be read: {error}.") from None


def clean_products(products: pd.DataFrame, name: str, notes: list[str]) -> pd.DataFrame:
    """Products with an id and a text, each once; name and text filled from one another."""
    frame = _with_ids(products, "product_id", "product", name, notes)
    given = [column for column in ("name", "text") if column in frame]
    texts = {column: _clean_texts(frame[column], "product", notes) for column in given}
    first, last = texts[given[0]], texts[given[-1]]
    frame["name"], frame["text"] = first.where(first != "", last), last.where(last != "", first)
    blank = frame["name"] == ""
    if blank.any():
        notes.append(f"{count(blank.sum(), 'product')} without a text left out")
    frame = _once(frame[~blank], "product_id", "text", "product", name, notes)
    if frame.empty:
        raise InputError(f"the catalog of {name} holds no product with an id and a text.")
    return frame


def clean_queries(queries: pd.DataFrame, name: str, notes: list[str]) -> pd.DataFrame:
    """Queries with an id and a text, each once; without a column group, equal texts are one."""
    frame = _with_ids(queries, "query_id", "query", name, notes)
    frame["text"] = _clean_texts(frame["text"], "query", notes)
    blank = frame["text"] == ""
    if blank.any():
        notes.append(f"{count(blank.sum(), 'query')} without a text left out")
    frame = _once(frame[~blank], "query_id", "text", "query", name, notes)
    if frame.empty:
        raise InputError(f"{name} holds no query with a text.")
    if "group" not in frame:
        frame["group"] = frame["text"].map(lambda text: " ".join(text.casefold().split()))
    return frame


def _with_ids(
    frame: pd.DataFrame, column: str, what: str, name: str, notes: list[str]
) -> pd.DataFrame:
    """A copy of `frame` whose ids are whole numbers, or texts without space around them."""
    ids = get_column(frame, column, name, "id")
    if pd.api.types.is_integer_dtype(ids) and not ids.isna().any():
        return frame.assign(**{column: ids.astype(np.int64)})
    ids = as_text(ids).str.strip(INVISIBLE)
    missing = ids.isna() | (ids == "")
    if missing.any():
        notes.append(f"{count(missing.sum(), what)} without an id left out")
    return frame.assign(**{column: ids})[~missing]


def _clean_texts(texts: pd.Series, what: str, notes: list[str]) -> pd.Series:
    """Texts without control characters or space around them; "" where there is none."""
    texts = as_text(texts)
    texts = texts.where(~is_missing(texts), "").astype(str)
    odd = texts.str.contains(_CONTROL)
    if odd.any():
        texts = texts.str.replace(_CONTROL, " ", regex=True)
        notes.append(
            f"{count(odd.sum(), what)} with control characters in the text; a space stands for "
            "each now"
        )
    return texts.str.strip(INVISIBLE)


def _once(
    frame: pd.DataFrame, column: str, text: str, what: str, name: str, notes: list[str]
) -> pd.DataFrame:
    """Each id once; rows that repeat an id must say the same."""
    again = frame.duplicated(column)
    if again.any():
        first = frame.drop_duplicates(column).set_index(column)[text]
        other = frame[again & (frame[text] != frame[column].map(first))]
        if len(other):
            raise InputError(
                f'the {what} id "{other[column].iloc[0]}" of {name} stands there with two texts; '
                f"an id must name one {what}."
            )
        notes.append(f"{count(again.sum(), what)} listed again under the same id left out")
    return frame[~again].reset_index(drop=True)


def clean_judgements(
    judgements: pd.DataFrame,
    products: pd.DataFrame,
    queries: pd.DataFrame,
    name: str,
    notes: list[str],
) -> pd.DataFrame:
    """query_id, product_id, grade of what there is, each pair once with its highest grade."""
    judgements = judgements.reset_index(drop=True)
    frame = pd.DataFrame({"grade": _checked_grades(judgements["grade"], name)})
    for column, known in (("query_id", queries), ("product_id", products)):
        ids = judgements[column]
        if known[column].dtype != np.int64 or ids.dtype != np.int64:
            # 7, 7.0 and " 7" name the same thing
            ids = as_text(ids).str.strip(INVISIBLE)
            back = pd.Series(known[column].to_numpy(), index=as_text(known[column]))
            ids = ids.map(back[~back.index.duplicated()])
        frame[column] = ids
    frame = frame[["query_id", "product_id", "grade"]]
    n = len(frame)
    for column, known, what in (
        ("product_id", products, "a product that the catalog lacks"),
        ("query_id", queries, "a query that is not listed"),
    ):
        lost = ~frame[column].isin(known[column])
        if lost.any():
            example = judgements.loc[lost.idxmax(), column]
            if lost.all():
                raise InputError(
                    f'every judgement of {name} is on {what} (the first on "{example}"); do the '
                    "files belong together?"
                )
            notes.append(
                f"{count(lost.sum(), 'judgement')} of {n:,} on {what} left out (first: {example})"
            )
            frame = frame[~lost]
    best = frame.groupby(["query_id", "product_id"])["grade"].agg(["max", "min", "size"])
    again = int((best["size"] - 1).sum())
    if again:
        differ = int((best["max"] != best["min"]).sum())
        said = f"; {count(differ, 'pair')} with different grades, the highest counts"
        notes.append(
            f"{count(again, 'judgement')} on a pair that was judged before left out"
            f"{said if differ else ''}"
        )
    frame = best["max"].rename("grade").reset_index()
    for column, known in (("query_id", queries), ("product_id", products)):
        frame[column] = frame[column].astype(known[column].dtype)
    return frame


def _checked_grades(grades: pd.Series, name: str) -> np.ndarray:
    """Whole numbers from 0 to `MAX_GRADE`, int8."""
    if grades.empty:
        raise InputError(f"{name} holds no judgements.")
    numbers = pd.to_numeric(grades, errors="coerce")
    wrong = ~(numbers.between(0, MAX_GRADE) & (numbers % 1 == 0)).to_numpy()
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f'the grade in row {row} of the judgements of {name} is "{grades.iloc[row]}"; grades '
            f"are whole numbers from 0 (irrelevant) to {MAX_GRADE}."
        )
    return numbers.to_numpy(np.int8)


def count(n: int, what: str) -> str:
    """`1 query`, `2 queries`."""
    if n == 1:
        return f"1 {what}"
    return f"{n:,} {what[:-1]}ies" if what.endswith("y") else f"{n:,} {what}s"
