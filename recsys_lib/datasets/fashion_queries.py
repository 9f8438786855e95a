"""Queries in shoppers' words over the catalog of `fashion`, graded by the catalog's annotations.

The catalog has no queries, so they are made: a wish is drawn (a kind of product and one to three
of color, gender, use and brand, all true of some product), written in words of shoppers from
data/relevance/fashion.toml, and every product is graded by its annotations. A ranker sees the
products' names and the queries' words only.

Grades, as in the market: 3 where the product is of the kind and meets every wish; each missing wish
and a merely related kind cost one; any other kind is 0; a product that meets no wish is at most 1.

What the test asks was not trained on: of two wishes in different parts neither contains the other
(no "navy shirt" beside "navy shirt for men"), and some kinds, colors and brands occur in the test
only.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from recsys_lib.datasets.registry import find_dataset, verify_dataset
from recsys_lib.datasets.relevance_tables import Relevance, build_relevance, word_file
from recsys_lib.datasets.tables import get_column, read_table
from recsys_lib.workbook import InputError

FIELDS = ("kind", "color", "gender", "use", "brand")
HELD_OUT = {"kind": 0.12, "color": 0.15, "brand": 0.25}  # shares of the keys kept for the test
COMMON = 0.05  # a kind or color with more of the catalog than this is never held out
HELD_OUT_SHARE = 1 / 3  # of the test: queries that name something held out
WORDINGS = 2  # of each wish in the training part
NO_WISH = 0.9  # what so many products of a kind meet is no wish, but what the kind is
MIN_PERFECT = 3  # a wish that fewer products grant is answered by chance
USUAL = 0.25  # chance of the usual word beside its chance as one of all: half in all for three
NO_TEST = 0.1  # a wish that so much of the catalog grants is no test of search
_PATIENCE = 2000  # draws in a row without a new wish

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


def fashion_relevance(
    seed: int = 0, *, n_train: int = 800, n_valid: int = 100, n_test: int = 400
) -> Relevance:
    """The search task over `fashion`. The same seed gives the same queries.

    `products`: name as the shop wrote it, text with all annotations behind it, and gender, type,
    color, season, use, category as annotated, kind and brand as in data/relevance/fashion.toml
    ("" where that knows none). `queries`: the wish by field (kind, color, gender, use, brand; ""
    for none), wishes (how many besides the kind), unseen ("" in train; "kind", "color" or "brand"
    for a query with one that training never names, else "combination") and unsaid (the fields,
    separated by a space, that the names of most perfect products do not say: there a picture could
    help). Every pair is judged: what is not listed is 0.

    Args:
        seed: of the wishes, the words and what is held out.
        n_train: wishes to train on, each in `WORDINGS` wordings; some are left out afterwards,
            because they say nearly what a later part says.
        n_valid: wishes for validation, one wording each.
        n_test: wishes for the test, one wording each, a third of them with something held out.

    Raises:
        InputError: the catalog is not here or not as published, or has no room for so many wishes.
    """
    for name, number in (("n_train", n_train), ("n_valid", n_valid), ("n_test", n_test)):
        if number < 1:
            raise InputError(f"{name} = {number} must be at least 1.")
    products, notes = read_fashion()
    facts = annotate(products)
    random = np.random.default_rng(seed)
    held_out = _hold_out(facts, random)
    parts = _parted_wishes(facts, held_out, random, n_train, n_valid, n_test)
    queries = _write_queries(facts, parts, held_out, random)
    judgements = _judge(facts, products, queries)
    queries = queries.drop(columns="asked")
    return build_relevance(
        "fashion", products, queries, judgements, complete=True, seed=seed, notes=notes
    )


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
    if set(verify_dataset("fashion", folder).values()) != {"ok"}:
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


def _hold_out(facts: Annotations, random: np.random.Generator) -> frozenset[Wish]:
    """Kinds, colors and brands for the test only; common kinds and colors are never among them."""
    chosen: list[Wish] = []
    for field, share in HELD_OUT.items():
        keys = [wish for wish in facts.met if wish[0] == field]
        rare = [wish for wish in keys if facts.met[wish].mean() <= COMMON]
        n = min(len(rare), max(1, round(share * len(keys))))
        chosen += [rare[at] for at in random.choice(len(rare), n, replace=False)] if n else []
    return frozenset(chosen)


def _parted_wishes(
    facts: Annotations,
    held_out: frozenset[Wish],
    random: np.random.Generator,
    n_train: int,
    n_valid: int,
    n_test: int,
) -> dict[str, list[Wishes]]:
    """Wishes for each part, in the order in which they were drawn; see the module's docstring."""
    n_held = round(n_test * HELD_OUT_SHARE)
    parts: dict[str, dict[Wishes, None]] = {"test": {}, "valid": {}, "train": {}}  # ordered sets
    room = {"held out": n_held, "test": n_test - n_held, "valid": n_valid, "train": n_train}
    touched: dict[str, set[Wishes]] = {part: set() for part in parts}  # every wish within a wish
    stock = {kind: np.flatnonzero(facts.met["kind", kind]) for kind in facts.offers}
    failures = 0
    while sum(room.values()):
        if failures == _PATIENCE:
            short = ", ".join(f"{n} of {part}" for part, n in room.items() if n)
            raise InputError(
                f"the catalog has no room for so many different wishes ({short} are missing); ask "
                "for fewer queries."
            )
        wishes = _draw(facts, stock, random)
        where = "held out" if not held_out.isdisjoint(wishes) else _next_part(room)
        if not wishes or not room.get(where):
            failures += 1
            continue
        part = "test" if where == "held out" else where
        within = set(_within(wishes))
        others = [other for other in parts if other != part]
        beside = any(wishes in touched[o] or not parts[o].keys().isdisjoint(within) for o in others)
        if beside or wishes in parts[part]:
            failures += 1
            continue
        failures = 0
        parts[part][wishes] = None
        touched[part] |= within
        room[where] -= 1
    return {part: list(drawn) for part, drawn in parts.items()}


def _next_part(room: dict[str, int]) -> str:
    """The test is filled first, then validation: what they hold decides what may be trained on."""
    return next((part for part in ("test", "valid", "train") if room[part]), "")


def _within(wishes: Wishes) -> Iterator[Wishes]:
    """The wishes themselves and everything with the same kind and some of the other wishes."""
    kind, *others = wishes
    for size in range(len(others) + 1):
        for some in combinations(others, size):
            yield (kind, *some)


def _draw(
    facts: Annotations, stock: dict[str, np.ndarray], random: np.random.Generator
) -> Wishes:
    """Wishes that one product, drawn at random, grants completely; () where it grants too few."""
    words = shoppers_words()
    kinds = list(stock)
    # Between one product, one chance (all tees) and one kind, one chance (all cufflinks).
    chances = _shares(np.sqrt([len(products) for products in stock.values()]))
    kind = kinds[random.choice(len(kinds), p=chances)]
    product = random.choice(stock[kind])
    wanted = 1 + random.choice(len(words["count"]), p=_shares(words["count"]))
    granted: dict[str, list[Wish]] = {}
    for wish in facts.offers[kind]:
        if facts.met[wish][product]:
            granted.setdefault(wish[0], []).append(wish)
    if len(granted) < wanted:
        return ()
    shares = _shares([words["weights"][field] for field in granted])
    fields = random.choice(list(granted), size=wanted, replace=False, p=shares)
    chosen = [granted[f][random.integers(len(granted[f]))] for f in FIELDS if f in fields]
    wishes = (("kind", kind), *chosen)
    perfect = np.count_nonzero(facts.perfect(wishes))
    return wishes if MIN_PERFECT <= perfect <= NO_TEST * len(facts.met[wishes[0]]) else ()


def _shares(weights: Sequence[float]) -> np.ndarray:
    return np.asarray(weights, dtype=np.float64) / np.sum(weights)


def _write_queries(
    facts: Annotations,
    parts: dict[str, list[Wishes]],
    held_out: frozenset[Wish],
    random: np.random.Generator,
) -> pd.DataFrame:
    """A line per query; `asked` holds its wishes."""
    rows, seen = [], set()
    for part, all_wishes in parts.items():
        for wishes in all_wishes:
            named = dict(wishes)
            unseen = next((f for f in HELD_OUT if (f, named.get(f)) in held_out), "combination")
            for _ in range(WORDINGS if part == "train" else 1):
                text = _wording(wishes, random)
                if text in seen:  # another wish, or this one, was put in the same words
                    continue
                seen.add(text)
                row = {"text": text, "part": part, "group": _key(wishes)}
                row |= {field: named.get(field, "") for field in FIELDS}
                row |= {"wishes": len(wishes) - 1, "unseen": "" if part == "train" else unseen}
                rows.append(row | {"unsaid": " ".join(facts.unsaid(wishes)), "asked": wishes})
    queries = pd.DataFrame(rows)
    queries.insert(0, "query_id", np.arange(len(queries), dtype=np.int64))
    return queries


def _key(wishes: Wishes) -> str:
    return " ".join(f"{field}={key}" for field, key in wishes)


def _wording(wishes: Wishes, random: np.random.Generator) -> str:
    """The wishes in a shopper's words: "navy sneakers for guys"."""
    words = shoppers_words()

    def pick(choices: Sequence[str], *, usual: float = 0.0) -> str:
        return choices[0 if random.random() < usual else random.integers(len(choices))]

    before: dict[str, str] = {}
    after: list[str] = []
    for field, key in wishes[1:]:
        if field == "brand":
            before[field] = key
            continue
        entry = words[f"{field}s"][key]
        if "phrases" in entry and random.random() < 0.6:
            after.append(pick(entry["phrases"]))
        else:
            before[field] = pick(entry["words"], usual=USUAL)
    noun = pick(words["kinds"][wishes[0][1]]["words"], usual=USUAL)
    adjectives = [before[field] for field in ("gender", "brand", "use", "color") if field in before]
    thing = " ".join([*adjectives, noun])
    text = pick(words["lead"]).format(thing=thing, rest=" ".join(after))
    return re.sub(r"\s+(\?|$)", r"\1", re.sub(r"\s+", " ", text)).strip()


def _judge(facts: Annotations, products: pd.DataFrame, queries: pd.DataFrame) -> pd.DataFrame:
    """Every pair with a grade above 0."""
    ids = products["product_id"].to_numpy(np.int64)
    graded = {wishes: facts.grade(wishes) for wishes in dict.fromkeys(queries["asked"])}
    found = [(query, graded[asked]) for query, asked in queries[["query_id", "asked"]].values]
    relevant = [np.flatnonzero(grade) for _, grade in found]
    return pd.DataFrame(
        {
            "query_id": np.repeat(queries["query_id"].to_numpy(), [len(at) for at in relevant]),
            "product_id": ids[np.concatenate(relevant)],
            "grade": np.concatenate(
                [grade[at] for (_, grade), at in zip(found, relevant, strict=True)]
            ),
        }
    )
