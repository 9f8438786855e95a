"""What shoppers ask for, and the true grade of every product for every query."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import pandas as pd

from recsys_lib.datasets.market_catalog import Products
from recsys_lib.datasets.market_random import Draw
from recsys_lib.datasets.market_tables import catalog, product_types, table
from recsys_lib.datasets.market_typos import misspell
from recsys_lib.workbook.errors import InputError

EXAMPLE = "something warm and waterproof for a hike"
_TYPO_SHARE = 0.15
_PATIENCE = 1000


@dataclass(frozen=True)
class Intent:
    """What somebody wants. Empty fields are no wish; `type` "" is any kind of product."""

    type: str = ""
    attributes: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    color: str = ""
    pattern: str = ""
    sleeves: str = ""
    collar: str = ""
    trim: str = ""
    max_price: int = 0

    @property
    def wishes(self) -> int:
        """How many things are wished for, the kind of product not counted."""
        single = (self.color, self.pattern, self.sleeves, self.collar, self.trim, self.max_price)
        return len(self.attributes) + len(self.uses) + sum(bool(wish) for wish in single)


def grades(intent: Intent, products: Products) -> np.ndarray:
    """The true grade 0–3 of every product, int8 of shape (products,).

    3: everything wished for. Where a kind of product is named ("navy raincoat for a hike"), each
    missing wish costs one grade, and so does a related kind (a fleece for a raincoat); any other
    kind is 0. Where none is named ("something warm and waterproof for a hike"), a product that
    lacks one of three or more wishes is a 2, one of two a 1, and one that lacks more is a 0. A
    product that meets no wish at all is at most 1.
    """
    met = wishes_met(intent, products)
    total = intent.wishes
    missing = total - met
    if intent.type:
        grade = 3 - missing
        kinds = products.shown["type"].to_numpy()
        family = {key: kind["family"] for key, kind in product_types().items()}
        related = np.array([family[kind] == family[intent.type] for kind in kinds])
        grade = np.where(kinds == intent.type, grade, np.where(related, grade - 1, 0))
    else:
        grade = np.where(missing == 1, min(total - 1, 2), np.where(missing > 1, 0, 3))
    if total:
        grade = np.where(met == 0, np.minimum(grade, 1), grade)
    return np.clip(grade, 0, 3).astype(np.int8)


def wishes_met(intent: Intent, products: Products) -> np.ndarray:
    """How many of the wishes each product meets, int64 of shape (products,)."""
    truth = products.truth
    met = np.zeros(len(truth), dtype=np.int64)
    for attribute in intent.attributes:
        met += truth[f"is_{attribute}"].to_numpy()
    for use in intent.uses:
        met += truth[f"for_{use}"].to_numpy()
    if intent.color:
        met += (truth["color_family"] == intent.color).to_numpy()
    for name in ("pattern", "sleeves", "collar", "trim"):
        if getattr(intent, name):
            met += (truth[name] == getattr(intent, name)).to_numpy()
    if intent.max_price:
        met += (products.shown["price"] <= intent.max_price).to_numpy()
    return met


@dataclass(frozen=True)
class Queries:
    """`shown`: query_id, text. `truth`: query_id, typo (bool), picture (needs the picture, bool),
    wishes; `intents` in the same order; `grades` int8 of shape (queries, products)."""

    shown: pd.DataFrame
    truth: pd.DataFrame
    intents: tuple[Intent, ...]
    grades: np.ndarray = field(repr=False)


def make_queries(seed: int, n: int, products: Products) -> Queries:
    """`n` different queries, each fully met by at least one product. The first is the workbook's
    running example wherever the shop has such a product."""
    draw = Draw(seed, "queries")
    texts: list[str] = []
    intents: list[Intent] = []
    typos: list[bool] = []
    all_grades: list[np.ndarray] = []
    seen: set[str] = set()

    def keep(text: str, intent: Intent, typo: bool, grade: np.ndarray) -> None:
        seen.add(text)
        texts.append(text)
        intents.append(intent)
        typos.append(typo)
        all_grades.append(grade)

    example = grades(understand(EXAMPLE), products)
    if n > 0 and example.max() == 3:
        keep(EXAMPLE, understand(EXAMPLE), False, example)
    failures = 0  # in a row
    while len(texts) < n:
        if failures == _PATIENCE:
            raise InputError(
                f"n_queries: {n} different queries do not fit {len(products.shown)} products; "
                "ask for fewer queries or more products."
            )
        intent = _intent(draw, products)
        text = _wording(draw, intent)
        typo = draw.chance(_TYPO_SHARE)
        if typo:
            text = misspell(text, draw, min_length=5)
        grade = grades(intent, products)
        # A wish that a tenth of the shop grants is no test of search.
        if text not in seen and np.count_nonzero(grade == 3) * 10 <= max(10, len(grade)):
            keep(text, intent, typo, grade)
            failures = 0
        else:
            failures += 1
    by_sight = [bool(i.pattern or i.sleeves or i.collar or i.trim) for i in intents]
    truth = pd.DataFrame(
        {
            "query_id": np.arange(n, dtype=np.int64),
            "typo": np.array(typos, dtype=bool),
            "picture": np.array(by_sight, dtype=bool),
            "wishes": np.array([i.wishes for i in intents], dtype=np.int64),
        }
    )
    shown = pd.DataFrame(
        {"query_id": np.arange(n, dtype=np.int64), "text": pd.Series(texts, dtype=str)}
    )
    matrix = np.stack(all_grades) if n else np.zeros((0, len(products.shown)), dtype=np.int8)
    return Queries(shown, truth, tuple(intents), matrix)


def _intent(draw: Draw, products: Products) -> Intent:
    """A wish that one product, drawn at random, grants completely."""
    at = draw.below(len(products.shown))
    shown, truth = products.shown.iloc[at], products.truth.iloc[at]
    has = [a for a in catalog()["attributes"] if truth[f"is_{a}"]]
    used = [u for u in catalog()["uses"] if truth[f"for_{u}"]]
    named = not draw.chance(0.2) or len(has) < 2 or shown["department"] == "Bags"
    if not named:
        return Intent(attributes=tuple(sorted(draw.sample(has, 2))), uses=(draw.pick(used),))
    intent = Intent(type=shown["type"])
    weights = table("queries")["wishes"]
    count = draw.pick_weighted([1, 2, 3], [35, 45, 20])
    while intent.wishes < count:
        kind = draw.pick_weighted(list(weights), list(weights.values()))
        if kind == "attribute" and has:
            wanted = {*intent.attributes, draw.pick(has)}
            intent = replace(intent, attributes=tuple(sorted(wanted)))
        elif kind == "use":
            intent = replace(intent, uses=(draw.pick(used),))
        elif kind == "color":
            intent = replace(intent, color=truth["color_family"])
        elif kind == "price":
            intent = replace(intent, max_price=int(shown["price"]) // 20 * 20 + 20)
        elif kind == "pattern" and draw.chance(0.4 if truth["pattern"] == "plain" else 1.0):
            intent = replace(intent, pattern=truth["pattern"])
        elif kind in ("sleeves", "collar", "trim"):
            intent = replace(intent, **{kind: truth[kind]})
    return intent


def _wording(draw: Draw, intent: Intent) -> str:
    words, looks, asks = catalog(), table("pictures")["looks"], table("queries")
    before: list[str] = []
    after: list[str] = []

    def say(entry: dict, *, adjective_share: float) -> None:
        if "adjective" in entry and draw.chance(adjective_share):
            before.append(draw.pick(entry["adjective"]))
        else:
            after.append(draw.pick(entry["phrase"]))

    for attribute in intent.attributes:
        # "something warm and waterproof" has room for adjectives only
        say(words["attributes"][attribute], adjective_share=0.6 if intent.type else 1.0)
    if intent.color:
        before.append(draw.pick(words["colors"][intent.color]["shopper"]))
    for name in ("pattern", "sleeves", "collar"):
        if getattr(intent, name):
            say(looks[name][getattr(intent, name)], adjective_share=0.6)
    for use in intent.uses:
        after.append(draw.pick(words["uses"][use]["shopper"]))
    if intent.trim:
        color = draw.pick(words["colors"][intent.trim]["shopper"])
        after.append(draw.pick(looks["trim"]["phrase"]).format(color=color))
    if intent.max_price:
        after.append(draw.pick(asks["price"]).format(price=intent.max_price))
    rest = " ".join(after)
    if not intent.type:
        text = draw.pick(asks["something"]).format(adjectives=" and ".join(before), rest=rest)
    else:
        thing = " ".join([*before, draw.pick(product_types()[intent.type]["shopper"])])
        plural = product_types()[intent.type].get("plural", False)
        article = "" if plural else ("an " if thing[0] in "aeiou" else "a ")
        text = draw.pick(asks["lead"]).format(thing=thing, a_thing=article + thing, rest=rest)
    return re.sub(r"\s+([?,])", r"\1", re.sub(r"\s+", " ", text)).strip(" ,")


@cache
def _vocabulary() -> list[tuple[str, str, str]]:
    """(shopper's word or phrase, field of Intent, value), longest first."""
    words, looks = catalog(), table("pictures")["looks"]
    known = [(w, "type", key) for key, kind in product_types().items() for w in kind["shopper"]]
    for attribute, entry in words["attributes"].items():
        known += [(w, "attributes", attribute) for w in entry["adjective"] + entry["phrase"]]
    for use, entry in words["uses"].items():
        known += [(w, "uses", use) for w in entry["shopper"] + entry["also"]]
    for color, entry in words["colors"].items():
        known += [(w, "color", color) for w in entry["shopper"]]
        trims = [p.format(color=w) for p in looks["trim"]["phrase"] for w in entry["shopper"]]
        known += [(w, "trim", color) for w in trims]
    for name in ("pattern", "sleeves", "collar"):
        for value, entry in looks[name].items():
            known += [(w, name, value) for w in entry["adjective"] + entry["phrase"]]
    # the first of two equal phrases wins, so that the order of the files decides, not chance
    return sorted(dict.fromkeys(known), key=lambda entry: -len(entry[0]))


def understand(text: str) -> Intent:
    """The intent behind a wish written in the market's own shopper words; whatever else it says is
    not understood. `understand("a striped raincoat for a hike").pattern == "striped"`."""
    rest = f" {text.lower()} "
    found: dict[str, list[str]] = {}
    price = re.search(r"(?:under|below|less than|max) \$?(\d+)", rest)
    for phrase, name, value in _vocabulary():
        pattern = rf"(?<![\w-]){re.escape(phrase.lower())}(?![\w-])"
        rest, times = re.subn(pattern, " | ", rest)
        if times:
            found.setdefault(name, []).append(value)
    many = {k: tuple(sorted(dict.fromkeys(found.get(k, [])))) for k in ("attributes", "uses")}
    one = {k: v[0] for k, v in found.items() if k not in many}
    return Intent(**many, **one, max_price=int(price[1]) if price else 0)


def make_judgements(
    seed: int, queries: Queries, *, relevant: int = 30, other: int = 20
) -> pd.DataFrame:
    """Graded pairs as judges would give them: per query up to `relevant` products of grade 1–3, the
    best first, and `other` products of any grade drawn at random. Columns: query_id, product_id,
    grade. The grades are the true ones; for a product not listed the log knows nothing."""
    draw = Draw(seed, "judgements")
    rows: list[tuple[int, int, int]] = []
    n_products = queries.grades.shape[1]
    for query_id, row in enumerate(queries.grades):
        order = draw.sample(range(n_products), n_products)
        chosen = sorted((p for p in order if row[p] > 0), key=lambda p: -row[p])[:relevant]
        chosen = dict.fromkeys(chosen + order[:other])
        rows += [(query_id, p, int(row[p])) for p in sorted(chosen)]
    table_ = pd.DataFrame(rows, columns=["query_id", "product_id", "grade"], dtype=np.int64)
    return table_.astype({"grade": np.int8})
