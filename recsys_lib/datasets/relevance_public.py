"""Published sets with relevance labels from people, in the formats in which they are published.

`banking77` (customers' messages, 77 services), WANDS (furniture, Wayfair) and the Shopping Queries
Data Set (Amazon, "ESCI"). data/README.md says what each is and how to get it.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.dataset as arrow

from recsys_lib.datasets.registry import find_dataset, get_dataset, verify_dataset
from recsys_lib.datasets.relevance_checks import word_file
from recsys_lib.datasets.relevance_tables import (
    Relevance,
    build_relevance,
    choose_queries,
)
from recsys_lib.datasets.tables import get_column, read_table
from recsys_lib.workbook import InputError, nearest

WANDS_GRADES = {"Exact": 2, "Partial": 1, "Irrelevant": 0}
ESCI_GRADES = {"E": 3, "S": 2, "C": 1, "I": 0}
# What the authors of ESCI give a grade in NDCG, for metrics that take gains (Reddy et al. 2022,
# arXiv 2206.06588); the exponential gain of the grades values substitutes higher.
ESCI_GAINS = {3: 1.0, 2: 0.1, 1: 0.01, 0: 0.0}
ESCI_LOCALES = ("us", "es", "jp")
ESCI_VERSIONS = ("small", "large")
ESCI_EXAMPLES = "shopping_queries_dataset_examples.parquet"
ESCI_PRODUCTS = "shopping_queries_dataset_products.parquet"


def banking77_relevance(
    seed: int = 0, *, folder: Path | None = None, limit: int | None = None
) -> Relevance:
    """`banking77` as a search task: a message is the query, the 77 services are the catalog.

    `products`: product_id is the label, name and text describe the service in the words of
    data/relevance/banking77.toml. `queries`: the published test part; validation, a tenth, is cut
    from the published train part. Messages of train that the test repeats, or nearly, are left out
    (see `leaks`). `judgements`: grade 1 for the one right service; the set is complete.

    Args:
        seed: of the cut, and of the choice by `limit`.
        folder: where train.csv and test.csv are; by default where `find_dataset` finds them.
        limit: at most so many messages, chosen at random.

    Raises:
        InputError: the files are not here, lack a column, or name an unknown service.
    """
    folder = _folder("banking77", folder)
    services = word_file("banking77")
    products = pd.DataFrame(
        [(label, entry["name"], entry["text"]) for label, entry in services.items()],
        columns=["product_id", "name", "text"],
    )
    parts, notes = [], _unregistered("banking77", folder)
    for part in ("train", "test"):
        path = folder / f"{part}.csv"
        raw, said = read_table(path)
        notes += said
        columns = {
            "text": get_column(raw, "text", path.name, "text"),
            "service": get_column(raw, "category", path.name, "label"),
        }
        parts.append(pd.DataFrame(columns).assign(part=part))
    queries = pd.concat(parts, ignore_index=True)
    _refuse_unknown(queries["service"], services, "category", "banking77")
    queries.insert(0, "query_id", np.arange(len(queries), dtype=np.int64))
    judgements = queries[["query_id"]].assign(product_id=queries["service"], grade=1)
    return build_relevance(
        "banking77",
        products,
        queries,
        judgements,
        complete=True,
        seed=seed,
        limit=limit,
        notes=notes,
    )


def wands_relevance(
    seed: int = 0, *, folder: Path | None = None, limit: int | None = None
) -> Relevance:
    """WANDS, the Wayfair Annotation Dataset (Chen et al. 2022, ECIR): product.csv, query.csv and
    label.csv, separated by tabs.

    `products`: name; text with class, description and features; category. Grades: `WANDS_GRADES`.
    Not every pair is judged. There is no published split: the queries are parted by seed.

    Args:
        seed: of the parting.
        folder: where the files are; by default where `find_dataset` finds them.
        limit: at most so many queries, chosen at random.

    Raises:
        InputError: a file is missing, lacks a column, or has an unknown label.
    """
    folder = _folder("wands", folder)
    notes = _unregistered("wands", folder)
    product = _tabs(folder / "product.csv", notes)
    query = _tabs(folder / "query.csv", notes)
    label = _tabs(folder / "label.csv", notes)
    name = get_column(product, "product_name", "product.csv", "name")
    # The published file has a space in the name of this column, its description an underscore.
    hierarchy = "category hierarchy"
    if hierarchy not in product and "category_hierarchy" in product:
        hierarchy = "category_hierarchy"
    kind = get_column(product, "product_class", "product.csv", "class")
    features = get_column(product, "product_features", "product.csv", "features")
    description = get_column(product, "product_description", "product.csv", "description")
    details = [name, kind, description, features.str.replace("|", ", ", regex=False)]
    products = pd.DataFrame(
        {
            "product_id": _numbers(product, "product_id", "product.csv"),
            "name": name,
            "text": _joined(details),
            "class": kind.fillna(""),
            "category": get_column(product, hierarchy, "product.csv", "category").fillna(""),
        }
    )
    queries = pd.DataFrame(
        {
            "query_id": _numbers(query, "query_id", "query.csv"),
            "text": get_column(query, "query", "query.csv", "text"),
            "class": get_column(query, "query_class", "query.csv", "class").fillna(""),
        }
    )
    given = get_column(label, "label", "label.csv", "label")
    _refuse_unknown(given, WANDS_GRADES, "label", "label.csv")
    judgements = pd.DataFrame(
        {
            "query_id": _numbers(label, "query_id", "label.csv"),
            "product_id": _numbers(label, "product_id", "label.csv"),
            "grade": given.map(WANDS_GRADES),
        }
    )
    return build_relevance(
        "wands",
        products,
        queries,
        judgements,
        complete=False,
        seed=seed,
        limit=limit,
        notes=notes,
    )


def esci_relevance(
    seed: int = 0,
    *,
    folder: Path | None = None,
    locale: str = "us",
    version: str = "small",
    limit: int | None = None,
) -> Relevance:
    """The Shopping Queries Data Set of Amazon (Reddy et al. 2022, arXiv 2206.06588), one locale.

    `products`: what is judged for some of the queries kept; name is the title, text the title with
    brand, color and bullet points; brand and color. Ids are only unique within a locale. Grades:
    `ESCI_GRADES` (exact, substitute, complement, irrelevant); `ESCI_GAINS` are its authors' gains.
    Not every pair is judged. The published test part is kept; validation, a tenth, is cut from
    train. A query that stands in both published parts is a test query here.

    Args:
        seed: of the cut and of the choice by `limit`.
        folder: where the two Parquet files are; by default where `find_dataset` finds them.
        locale: "us", "es" or "jp".
        version: "small" (the harder queries, the ranking task) or "large".
        limit: at most so many queries, chosen at random, and only their products are read: the
            whole catalog of the small version has hundreds of thousands.

    Raises:
        InputError: a file is missing or cut short, lacks a column, or has an unknown label.
    """
    for what, value, allowed in (
        ("locale", locale, ESCI_LOCALES),
        ("version", version, ESCI_VERSIONS),
    ):
        if value not in allowed:
            listed = ", ".join(f'"{known}"' for known in allowed)
            raise InputError(f'{what} = "{value}" is not one of {listed}.{nearest(value, allowed)}')
    folder = _folder("esci", folder)
    notes = _unregistered("esci", folder)
    columns = ["query_id", "query", "product_id", "esci_label", "split", f"{version}_version"]
    examples = _read_locale(folder / ESCI_EXAMPLES, columns, locale)
    examples = examples[examples[f"{version}_version"] == 1]
    if examples.empty:
        raise InputError(f"{ESCI_EXAMPLES} has no {version} examples for the locale {locale}.")
    _refuse_unknown(examples["esci_label"], ESCI_GRADES, "esci_label", ESCI_EXAMPLES)
    _refuse_unknown(examples["split"], ("train", "test"), "split", ESCI_EXAMPLES)
    queries = _esci_queries(examples, notes)
    if limit is not None:
        queries = choose_queries(queries, limit, seed, notes)
    examples = examples[examples["query_id"].isin(queries["query_id"])]
    judgements = examples[["query_id", "product_id"]].assign(
        grade=examples["esci_label"].map(ESCI_GRADES)
    )
    columns = [
        "product_id",
        *(f"product_{field}" for field in ("title", "brand", "color", "bullet_point")),
    ]
    wanted = examples["product_id"].unique().tolist()
    found = _read_locale(folder / ESCI_PRODUCTS, columns, locale, product_id=wanted)
    products = pd.DataFrame({"product_id": found["product_id"], "name": found["product_title"]})
    products["text"] = _joined([found[column] for column in columns[1:]])
    for field in ("brand", "color"):
        products[field] = found[f"product_{field}"].fillna("")
    return build_relevance(
        "esci", products, queries, judgements, complete=False, seed=seed, notes=notes
    )


def _esci_queries(examples: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Each query once; the test part has it where both parts do."""
    columns = {"query": "text", "split": "part"}
    queries = examples[["query_id", "query", "split"]].rename(columns=columns).drop_duplicates()
    queries = queries.sort_values(["query_id", "part"])  # "test" before "train"
    both = queries.duplicated(["query_id", "text"])
    if both.any():
        notes.append(
            f"{both.sum():,} of the queries stand in both published parts: in the test here"
        )
    return queries[~both].reset_index(drop=True)


def _read_locale(path: Path, columns: list[str], locale: str, **isin: list[object]) -> pd.DataFrame:
    """Some columns of the rows of one locale, without reading the others into memory."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the path.")
    try:
        table = arrow.dataset(path, format="parquet")
        names = table.schema.names
        for column in [*columns, "product_locale"]:
            get_column(pd.DataFrame(columns=names), column, path.name, column)
        chosen = arrow.field("product_locale") == locale
        for column, values in isin.items():
            chosen &= arrow.field(column).isin(values)
        return table.to_table(columns=columns, filter=chosen).to_pandas()
    except InputError:
        raise
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        said = str(error).split("\n")[0].rstrip(".")[:120]
        raise InputError(f"{path.name} is not a Parquet file, or is cut short ({said}).") from error


def _folder(name: str, folder: Path | None) -> Path:
    """Where the files of the set are."""
    found = folder if folder is not None else find_dataset(name)
    files = [file.path for file in get_dataset(name).files]
    if found is None:
        raise InputError(
            f'dataset = "{name}" is not on this machine: put {", ".join(files)} into {name}/ where '
            "RECSYS_DATA points; data/README.md says how to get them."
        )
    return found


def _unregistered(name: str, folder: Path) -> list[str]:
    states = verify_dataset(name, folder)
    return [
        f"{path} is not the registered file (its SHA-256 differs)"
        for path, state in states.items()
        if state == "differs"
    ]


def _tabs(path: Path, notes: list[str]) -> pd.DataFrame:
    """A table separated by tabs, whatever its name ends in."""
    frame, said = read_table(path, separator="\t")
    notes += said
    return frame


def _numbers(frame: pd.DataFrame, column: str, table: str) -> pd.Series:
    """A column of ids that are whole numbers, int64."""
    values = get_column(frame, column, table, "id")
    numbers = pd.to_numeric(values, errors="coerce")
    wrong = np.flatnonzero(~(numbers % 1 == 0))
    if len(wrong):
        raise InputError(
            f'row {wrong[0]} of {table} has the {column} "{values.iloc[wrong[0]]}"; ids of WANDS '
            "are whole numbers."
        )
    return numbers.astype(np.int64)


def _joined(columns: list[pd.Series]) -> pd.Series:
    """The texts of each row, one after the other, without those that are missing."""
    rows = zip(*(column.fillna("").astype(str).str.strip() for column in columns), strict=True)
    return pd.Series([". ".join(filter(None, row)) for row in rows], index=columns[0].index)


def _refuse_unknown(values: pd.Series, known: object, column: str, table: str) -> None:
    wrong = ~values.isin(list(known))
    if wrong.any():
        listed = ", ".join(f'"{label}"' for label in list(known)[:5])
        more = ", …" if len(list(known)) > 5 else ""
        raise InputError(
            f"row {int(np.flatnonzero(wrong)[0])} of {table} has the {column} "
            f'"{values[wrong].iloc[0]}"; known are {listed}{more}'
            f"{nearest(values[wrong].iloc[0], known) or '.'}"
        )
