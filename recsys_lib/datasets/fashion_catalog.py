"""The catalog of `fashion`: its products, their pictures, and what is annotated about them.

data/relevance/fashion.toml knows the wishes and the words for them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from recsys_lib.datasets.registry import find_dataset, is_sound
from recsys_lib.datasets.relevance_checks import word_file
from recsys_lib.datasets.tables import get_column, read_table
from recsys_lib.workbook import InputError

FIELDS = ("kind", "color", "gender", "use", "brand")
NO_WISH = 0.9  # what so many products of a kind meet is no wish, but what the kind is

Wish = tuple[str, str]  # field and key: ("color", "navy")
Wishes = tuple[Wish, ...]  # the kind first, then in the order of FIELDS

_ANNOTATIONS = {
    "gender": "gender",
    "type": "articleType",
    "color": "baseColour",
    "season": "season",
    "use": "usage",
    "category": "subCategory",
}


def shoppers_words() -> dict[str, Any]:
    """The contents of data/relevance/fashion.toml. Treat it as read-only."""
    return word_file("fashion")


@dataclass(frozen=True, eq=False)
class Annotations:
    """What the catalog says about every product, by wish; bool arrays of shape (products,).

    Attributes:
        met: whether the product meets the wish.
        related: by kind, whether the product is of another kind of the same family.
        said: whether the product's name says that the wish is met, in any word known for it.
        offers: by kind, the wishes that some of its products meet, but not nearly all (`NO_WISH`).
    """

    met: dict[Wish, np.ndarray]
    related: dict[str, np.ndarray]
    said: dict[Wish, np.ndarray]
    offers: dict[str, list[Wish]]

    def grade(self, wishes: Wishes) -> np.ndarray:
        """The grades 0–3 of all products, int8 of shape (products,)."""
        (_, kind), *others = wishes
        met = np.sum([self.met[wish] for wish in others], axis=0)
        exact, related = self.met["kind", kind], self.related[kind]
        grade = np.where(exact, 3, np.where(related, 2, -3)) - (len(others) - met)
        grade = np.where(met == 0, np.minimum(grade, 1), grade)
        return np.maximum(grade, 0).astype(np.int8)

    def perfect(self, wishes: Wishes) -> np.ndarray:
        """Whether a product is of the kind and meets every wish, bool of shape (products,)."""
        return np.logical_and.reduce([self.met[wish] for wish in wishes])

    def unsaid(self, wishes: Wishes) -> list[str]:
        """The fields that the names of at least half of the perfect products do not say."""
        perfect = self.perfect(wishes)
        return [w[0] for w in wishes if self.said[w][perfect].mean() <= 0.5]


def read_fashion() -> tuple[pd.DataFrame, list[str]]:
    """The catalog of `fashion` as `fashion_relevance` describes it, and notes.

    Raises:
        InputError: it is not on this machine, or not a table with the columns of the published one.
    """
    folder = find_dataset("fashion")
    if folder is None:
        raise InputError(
            'dataset = "fashion" is not on this machine: data/README.md says how to get it; put it '
            'where RECSYS_DATA points (fashion/fashion.parquet), or use dataset = "market".'
        )
    path = folder / "fashion.parquet"
    raw, notes = read_table(path)
    names = get_column(raw, "productDisplayName", path.name, "name")
    products = pd.DataFrame({"product_id": get_column(raw, "id", path.name, "id"), "name": names})
    for column, source in _ANNOTATIONS.items():
        products[column] = get_column(raw, source, path.name, column).fillna("").astype(str)
    if not is_sound("fashion", folder):
        notes.append(f"{path.name} is not the registered file: numbers differ from the workbook's")
    blank = products["name"].isna()
    if blank.any():
        notes.append(f"{blank.sum():,} of {len(products):,} products have no name: left out")
    products = products[~blank].reset_index(drop=True)
    products["name"] = products["name"].astype(str)
    rows = products[["name", *_ANNOTATIONS]].itertuples(index=False, name=None)
    products["text"] = [f"{name}. {' '.join(filter(None, rest))}" for name, *rest in rows]
    kinds = {t: kind for kind, entry in shoppers_words()["kinds"].items() for t in entry["types"]}
    products["kind"] = products["type"].map(kinds).fillna("")
    products["brand"] = _brands(products["name"])
    return products, notes


def fashion_pictures(product_ids: Sequence[int]) -> dict[int, bytes]:
    """The pictures of some products of `fashion` (JPEG, 60 × 80 pixels), by product_id.

    Raises:
        InputError: the catalog is not here, or a product that it lacks.
    """
    folder = find_dataset("fashion")
    if folder is None:
        raise InputError('dataset = "fashion" is not on this machine; data/README.md says how.')
    wanted = [int(product) for product in product_ids]
    frame = pd.read_parquet(
        folder / "fashion.parquet", columns=["id", "image"], filters=[("id", "in", wanted)]
    )
    found = {
        int(product): picture["bytes"] if isinstance(picture, dict) else bytes(picture)
        for product, picture in zip(frame["id"], frame["image"], strict=True)
    }
    lacking = [product for product in wanted if product not in found]
    if lacking:
        raise InputError(f"product_ids: fashion has no product {lacking[0]}.")
    return {product: found[product] for product in wanted}


def _brands(names: pd.Series) -> pd.Series:
    """The brand that each name begins with, by the longest beginning; "" where none is known."""
    brands = {
        start.casefold(): brand
        for brand, starts in shoppers_words()["brands"].items()
        for start in starts
    }
    longest_first = sorted(brands, key=lambda start: (-len(start), start))
    pattern = "|".join(re.escape(start) for start in longest_first)
    found = names.str.casefold().str.extract(rf"^({pattern})(?!\w)", expand=False)
    return found.map(brands).fillna("")


def annotate(products: pd.DataFrame) -> Annotations:
    """What the columns of `products` (as `read_fashion` gives them) say about every wish that some
    product meets."""
    words = shoppers_words()
    met: dict[Wish, np.ndarray] = {}
    said: dict[Wish, np.ndarray] = {}
    related: dict[str, np.ndarray] = {}
    names = products["name"].str.casefold()
    families = {kind: entry["family"] for kind, entry in words["kinds"].items()}
    family = products["kind"].map(families)
    for wish, entry, values in _entries(words):
        field, key = wish
        column = {"kind": "type"}.get(field, field)
        met[wish] = products[column].isin(values).to_numpy()
        said[wish] = met[wish] if field == "brand" else _says(names, entry, values)
        if field == "kind":
            related[key] = (family == families[key]).to_numpy() & ~met[wish]
    met = {wish: found for wish, found in met.items() if found.any()}
    wanted = [wish for wish in met if wish[0] != "kind"]
    offers = {}
    for field, kind in met:
        if field == "kind":
            shares = {wish: met[wish][met[field, kind]].mean() for wish in wanted}
            offers[kind] = [wish for wish, share in shares.items() if 0 < share <= NO_WISH]
    return Annotations(met, related, {wish: said[wish] for wish in met}, offers)


def _entries(words: dict[str, Any]) -> Iterator[tuple[Wish, dict[str, Any], list[str]]]:
    """Every wish with its entry in the word list and the annotations that meet it."""
    for field in FIELDS[:-1]:
        for key, entry in words[f"{field}s"].items():
            yield (field, key), entry, entry["types" if field == "kind" else "met_by"]
    for brand in words["brands"]:
        yield ("brand", brand), {}, [brand]


def _says(names: pd.Series, entry: dict[str, Any], values: list[str]) -> np.ndarray:
    lists = (entry.get(part, []) for part in ("words", "phrases", "said"))
    phrases = sorted({word.casefold() for part in (*lists, values) for word in part})
    pattern = "|".join(re.escape(phrase) for phrase in phrases)
    return names.str.contains(rf"(?<!\w)(?:{pattern})(?:e?s)?(?!\w)", regex=True).to_numpy()
