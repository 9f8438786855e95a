"""Search tasks with graded relevance, all in one form: the market, public sets, your own tables.

`load_relevance` finds a set by name; each set's own function says what its columns and grades are.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from recsys_lib.datasets.fashion_queries import fashion_relevance
from recsys_lib.datasets.market import Market, make_market
from recsys_lib.datasets.relevance_public import (
    banking77_relevance,
    esci_relevance,
    wands_relevance,
)
from recsys_lib.datasets.relevance_tables import NOT_JUDGED, Relevance, build_relevance
from recsys_lib.datasets.tables import get_column, read_table
from recsys_lib.workbook import InputError, nearest, project_folder
from recsys_lib.workbook.settings import is_table_path

__all__ = [
    "BUILT_IN",
    "NOT_JUDGED",
    "Relevance",
    "banking77_relevance",
    "build_relevance",
    "esci_relevance",
    "fashion_relevance",
    "load_relevance",
    "market_relevance",
    "table_relevance",
    "wands_relevance",
]

BUILT_IN = ("market", "fashion", "banking77", "wands", "esci")


def load_relevance(
    dataset: str | Path,
    *,
    judgements: str | Path | None = None,
    seed: int = 0,
    limit: int | None = None,
) -> Relevance:
    """The search task of a built-in set, or of your own catalog and judgements.

    Args:
        dataset: one of `BUILT_IN`, or the path of a catalog (see `table_relevance`).
        judgements: the path of the judgements that belong to an own catalog.
        seed: of everything random: the market, made queries, the parts.
        limit: at most so many queries, chosen at random.

    Raises:
        InputError: everything that a user can mend, in one line that says what and where.
    """
    makers = {
        "market": market_relevance,
        "fashion": fashion_relevance,
        "banking77": banking77_relevance,
        "wands": wands_relevance,
        "esci": esci_relevance,
    }
    if dataset in makers:
        if judgements is not None:
            raise InputError(
                f'judgements = "{judgements}" belongs to an own catalog; "{dataset}" has its own.'
            )
        return makers[dataset](seed, limit=limit)
    if isinstance(dataset, str) and not is_table_path(dataset):
        allowed = ", ".join(f'"{known}"' for known in BUILT_IN)
        raise InputError(
            f'dataset = "{dataset}" is not one of {allowed}, nor the path of a .csv, .tsv or '
            f".parquet file.{nearest(dataset, BUILT_IN)}"
        )
    if judgements is None:
        raise InputError(
            f'dataset = "{dataset}" is a catalog of your own; give judgements too: the path of a '
            "table with the columns query, id and grade."
        )
    return table_relevance(dataset, judgements, seed=seed, limit=limit)


def market_relevance(
    seed: int = 0,
    *,
    market: Market | None = None,
    pooled: bool = False,
    limit: int | None = None,
) -> Relevance:
    """The market's queries and products, graded 0–3.

    `products`: name is the title, text the title with the description, and the shop's own columns
    (department, type, color, material, brand, price, …). `queries`: typo, picture (whether the
    query needs the picture) and wishes, from the truth; queries with the same intent are one group.

    Args:
        seed: of the market, where none is given, and of the parts.
        market: the market; by default ``make_market(seed)``.
        pooled: judgements as judges would give them, some products of each query, and for the
            others nobody knows; by default the truth about every pair.
        limit: at most so many queries, chosen at random.
    """
    market = make_market(seed) if market is None else market
    products = market.products.rename(columns={"title": "name"})
    products["text"] = products["name"] + ". " + products["description"]
    products = products.drop(columns=["description", "picture"])
    truth = market.truth.queries.drop(columns="query_id")
    queries = pd.concat([market.queries, truth], axis=1)
    queries["group"] = [repr(intent) for intent in market.truth.intents]
    judgements = market.judgements
    if not pooled:
        row, column = np.nonzero(market.truth.grades)
        judgements = pd.DataFrame(
            {
                "query_id": market.queries["query_id"].to_numpy()[row],
                "product_id": market.products["product_id"].to_numpy()[column],
                "grade": market.truth.grades[row, column],
            }
        )
    return build_relevance(
        "market", products, queries, judgements, complete=not pooled, seed=seed, limit=limit
    )


def table_relevance(
    catalog: str | Path,
    judgements: str | Path,
    *,
    id: str = "id",
    text: str = "text",
    query: str = "query",
    grade: str = "grade",
    seed: int = 0,
    limit: int | None = None,
) -> Relevance:
    """The search task of two tables of your own: a catalog, and judgements of its products.

    Files are .csv, .tsv or .parquet and only read; relative to the working folder or the project.
    A pair without a judgement counts as unknown. Equal queries are one; the parts are made by seed.

    Args:
        catalog: a table with a line per product.
        judgements: a table with a line per judged pair of a query and a product.
        id: the column with the product's id, in both.
        text: the catalog's column with the product's text.
        query: the judgements' column with the query, in words.
        grade: the judgements' column with the grade, a whole number from 0 (irrelevant) to 10.
        seed: of the parts, and of the choice by `limit`.
        limit: at most so many queries, chosen at random.

    Raises:
        InputError: a file or column is missing, or what it holds cannot be used.
    """
    products, notes = _own_table(catalog)
    judged, said = _own_table(judgements)
    name, other = Path(catalog).name, Path(judgements).name
    products = pd.DataFrame(
        {
            "product_id": get_column(products, id, name, "id"),
            "text": get_column(products, text, name, "text"),
        }
    )
    wording = get_column(judged, query, other, "query")
    wording = wording.where(wording.isna(), wording.astype(str).str.split().str.join(" "))
    codes, texts = pd.factorize(wording)  # a missing query has the code −1
    queries = pd.DataFrame({"query_id": np.arange(len(texts), dtype=np.int64), "text": texts})
    pairs = pd.DataFrame(
        {
            "query_id": codes,
            "product_id": get_column(judged, id, other, "id"),
            "grade": get_column(judged, grade, other, "grade"),
        }
    )
    return build_relevance(
        name,
        products,
        queries,
        pairs,
        complete=False,
        seed=seed,
        limit=limit,
        notes=[*notes, *said],
    )


def _own_table(path: str | Path) -> tuple[pd.DataFrame, list[str]]:
    path = Path(path).expanduser()
    if not path.exists() and (project_folder() / path).exists():
        path = project_folder() / path
    return read_table(path)
