"""One form for every search task: a catalog, queries in three parts, and graded judgements.

`build_relevance` takes the three tables as a source gives them, leaves out what cannot be used and
says so, parts the queries, removes what the parts give away to one another, and freezes the result.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from recsys_lib.datasets.leaks import drop_leaks, find_leaks
from recsys_lib.datasets.relevance_checks import (
    clean_judgements,
    clean_products,
    clean_queries,
    count,
)
from recsys_lib.datasets.splits import PARTS, Split, split_by_group
from recsys_lib.workbook import InputError, check_fits

NOT_JUDGED = -1


@dataclass(frozen=True, eq=False)
class Relevance:
    """A search task with graded relevance.

    Attributes:
        name: of the data set, or of the catalog's file.
        products: product_id (int64 or str, unique), name (short) and text (everything that is
            written about the product), both str and not blank; more columns by data set.
        queries: query_id (int64 or str, unique), text (str), part ("train", "valid", "test") and
            group (str; queries that mean the same share it, and no group stands in two parts);
            more columns by data set.
        judgements: query_id, product_id, grade (int8, 0 is irrelevant, at most `MAX_GRADE`), each
            pair once; in the order of the queries, best first.
        complete: whether a pair that is not judged is known to be irrelevant; else nobody knows.
        fingerprint: SHA-256 of all ids, names, texts, parts and grades in order, for cache keys.
        notes: what was left out, replaced or noticed, one sentence each.
    """

    name: str
    products: pd.DataFrame
    queries: pd.DataFrame
    judgements: pd.DataFrame
    complete: bool
    fingerprint: str
    notes: tuple[str, ...] = ()

    def part(self, name: str) -> pd.DataFrame:
        """The queries of one part.

        Raises:
            InputError: `name` is not one of "train", "valid", "test".
        """
        if name not in PARTS:
            allowed = ", ".join(f'"{part}"' for part in PARTS)
            raise InputError(f'part = "{name}" is not one of {allowed}.')
        return self.queries[self.queries["part"] == name].reset_index(drop=True)

    def grades(self, query_ids: Sequence[object] | pd.Series | None = None) -> np.ndarray:
        """Grades of all products for some queries (all by default), int8 of shape (Q, products).

        The columns are in the order of `products`, the rows in that of `query_ids`. A pair that is
        not judged is 0 in a complete set, else `NOT_JUDGED` (−1).

        Raises:
            InputError: a query that there is not, or a matrix that would take over half of the
                memory; `judged` lists what was judged.
        """
        known = pd.Index(self.queries["query_id"])
        asked = known if query_ids is None else pd.Index(query_ids)
        missing = asked[~asked.isin(known)]
        if len(missing):
            raise InputError(f'query_ids: {self.name} has no query "{missing[0]}".')
        unjudged = 0 if self.complete else NOT_JUDGED
        size = len(asked) * len(self.products)
        pairs = f"{len(asked):,} queries × {len(self.products):,} products"
        check_fits(
            size, f"the grades of {self.name}, {pairs},", "load it with fewer queries: limit."
        )
        matrix = np.full((len(asked), len(self.products)), unjudged, dtype=np.int8)
        judged = self.judgements[self.judgements["query_id"].isin(asked)]
        columns = pd.Index(self.products["product_id"]).get_indexer(judged["product_id"])
        if asked.is_unique:
            rows = asked.get_indexer(judged["query_id"])
            matrix[rows, columns] = judged["grade"].to_numpy()
            return matrix
        return self.grades(asked.unique())[asked.unique().get_indexer(asked)]

    def judged(self, query_ids: Sequence[object] | pd.Series | None = None) -> np.ndarray:
        """The judgements of some queries (all by default) by row, (J, 3) int64.

        Columns: row of the query in `query_ids`, row of the product in `products`, grade. Only what
        was judged is listed, and memory grows with that.

        Raises:
            InputError: a query that there is not, or one twice.
        """
        known = pd.Index(self.queries["query_id"])
        asked = known if query_ids is None else pd.Index(query_ids)
        missing = asked[~asked.isin(known)]
        if len(missing):
            raise InputError(f'query_ids: {self.name} has no query "{missing[0]}".')
        if not asked.is_unique:
            raise InputError(f'query_ids: query "{asked[asked.duplicated()][0]}" stands twice.')
        rows = asked.get_indexer(self.judgements["query_id"])
        columns = pd.Index(self.products["product_id"]).get_indexer(self.judgements["product_id"])
        table = np.column_stack([rows, columns, self.judgements["grade"]]).astype(np.int64)
        table = table[rows >= 0]
        return table[np.argsort(table[:, 0], kind="stable")]


def build_relevance(
    name: str,
    products: pd.DataFrame,
    queries: pd.DataFrame,
    judgements: pd.DataFrame,
    *,
    complete: bool,
    seed: int = 0,
    valid: float = 0.1,
    test: float = 0.4,
    limit: int | None = None,
    notes: Sequence[str] = (),
) -> Relevance:
    """Check, part and freeze three tables; see `Relevance` for their columns.

    Args:
        name: what the set is called, in errors too.
        products: product_id and name or text or both. A blank one is filled from the other.
        queries: query_id and text. With a column part, its parts are kept, and a missing
            validation part is cut from train; without one, the groups are parted at random. With a
            column group, that is the unit that is parted; without one, equal texts are.
        judgements: query_id, product_id, grade. Of a pair judged twice the higher grade counts.
        complete: see `Relevance`.
        seed: of the parting, and of the choice where `limit` leaves queries out.
        valid: share of the queries for validation; where the test part is given, share of train.
        test: share of the queries for the test where no part is given.
        limit: at most so many queries, chosen at random; the catalog stays whole.
        notes: what the reader of the tables noticed already.

    Raises:
        InputError: nothing to work with, ids that name two things, or grades that are none.
    """
    notes = list(notes)
    products = clean_products(products, name, notes)
    queries = clean_queries(queries, name, notes)
    judgements = clean_judgements(judgements, products, queries, name, notes)
    queries = _judged_only(queries, judgements, name, notes)
    if limit is not None:
        queries = choose_queries(queries, limit, seed, notes)
    queries = _parted(queries, valid, test, seed, name, notes)
    judgements = _in_order(judgements, products, queries)
    fingerprint = _fingerprint(products, queries, judgements, complete)
    return Relevance(name, products, queries, judgements, complete, fingerprint, tuple(notes))


def choose_queries(queries: pd.DataFrame, limit: int, seed: int, notes: list[str]) -> pd.DataFrame:
    """At most `limit` of the queries, at random, in their order; a note where some are left out.

    Raises:
        InputError: a limit below 1.
    """
    if limit < 1:
        raise InputError(f"limit = {limit} must be at least 1, or None for all queries.")
    if limit >= len(queries):
        return queries
    kept = np.sort(np.random.default_rng(seed).choice(len(queries), limit, replace=False))
    notes.append(f"{limit:,} of {len(queries):,} queries were chosen at random (seed {seed})")
    return queries.iloc[kept].reset_index(drop=True)


def _judged_only(
    queries: pd.DataFrame, judgements: pd.DataFrame, name: str, notes: list[str]
) -> pd.DataFrame:
    judged = queries["query_id"].isin(judgements["query_id"])
    if not judged.all():
        notes.append(f"{count((~judged).sum(), 'query')} without a judgement left out")
    relevant = judgements.loc[judgements["grade"] > 0, "query_id"]
    if relevant.empty:
        raise InputError(f"every judgement of {name} is 0: no query has a relevant product.")
    barren = judged & ~queries["query_id"].isin(relevant)
    if barren.any():
        notes.append(
            f"{count(barren.sum(), 'query')} without any relevant product: kept, for what it has "
            "no NDCG"
        )
    return queries[judged].reset_index(drop=True)


def _parted(
    queries: pd.DataFrame, valid: float, test: float, seed: int, name: str, notes: list[str]
) -> pd.DataFrame:
    """The queries with their part; those of train and valid that a later part repeats are gone."""
    split = _given_split(queries, valid, seed, name) if "part" in queries else None
    if split is None:
        split = split_by_group(queries["group"], valid=valid, test=test, seed=seed)
    report = find_leaks(queries["text"].tolist(), split, groups=queries["group"].tolist())
    if report:
        split = drop_leaks(split, report)
        notes.append(
            f"{count(len(report.rows_to_drop), 'query')} of train or valid left out: a later part "
            "has the same, or nearly"
        )
    code = split.part_of(len(queries))
    queries = queries.assign(part=np.array([*PARTS, ""], dtype=object)[code].astype(str))
    for part in PARTS:
        if not (queries["part"] == part).any():
            raise InputError(f"{name} has no query left for the {part} part; give more queries.")
    return queries[code >= 0].reset_index(drop=True)


def _given_split(queries: pd.DataFrame, valid: float, seed: int, name: str) -> Split:
    unknown = set(queries["part"].unique()) - set(PARTS)
    if unknown:
        raise InputError(f"{name} has queries in a part {min(unknown, key=str)!r}.")
    rows = {part: np.flatnonzero(queries["part"] == part) for part in PARTS}
    if not len(rows["valid"]):
        cut = split_by_group(queries["group"].iloc[rows["train"]], valid=valid, test=0, seed=seed)
        rows = rows | {"train": rows["train"][cut.train], "valid": rows["train"][cut.valid]}
    return Split(**rows)


def _in_order(
    judgements: pd.DataFrame, products: pd.DataFrame, queries: pd.DataFrame
) -> pd.DataFrame:
    query = pd.Index(queries["query_id"]).get_indexer(judgements["query_id"])
    product = pd.Index(products["product_id"]).get_indexer(judgements["product_id"])
    order = np.lexsort((product, -judgements["grade"].to_numpy(np.int64), query))
    order = order[query[order] >= 0]  # of queries that were left out
    return judgements.iloc[order].reset_index(drop=True)


def _fingerprint(
    products: pd.DataFrame, queries: pd.DataFrame, judgements: pd.DataFrame, complete: bool
) -> str:
    digest = hashlib.sha256(f"complete {complete}".encode())
    for frame, columns in (
        (products, ("product_id", "name", "text")),
        (queries, ("query_id", "text", "part")),
        (judgements, ("query_id", "product_id", "grade")),
    ):
        for column in columns:
            digest.update(f"\n{column} {len(frame)}\n".encode())
            if pd.api.types.is_integer_dtype(frame[column]):
                digest.update(frame[column].to_numpy("<i8").tobytes())
            else:
                encoded = [str(value).encode("utf-8", "replace") for value in frame[column]]
                digest.update(np.array([len(text) for text in encoded], dtype="<i8").tobytes())
                digest.update(b"".join(encoded))
    return digest.hexdigest()
