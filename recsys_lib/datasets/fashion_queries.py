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
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from recsys_lib.datasets.fashion_catalog import (
    FIELDS,
    Annotations,
    Wish,
    Wishes,
    annotate,
    read_fashion,
    shoppers_words,
)
from recsys_lib.datasets.relevance_tables import Relevance, build_relevance
from recsys_lib.workbook import InputError

HELD_OUT = {"kind": 0.12, "color": 0.15, "brand": 0.25}  # shares of the keys kept for the test
COMMON = 0.2  # so many of the kinds, colors and brands, the most common ones, are never held out
HELD_OUT_SHARE = 1 / 3  # of the test: queries with a kind, color or brand held out, a third each
WORDINGS = 2  # of each wish in the training part
MIN_PERFECT = 3  # a wish that fewer products grant is answered by chance
USUAL = 0.25  # chance of the usual word beside its chance as one of all: half in all for three
NO_TEST = 0.1  # a wish that so much of the catalog grants is no test of search
_PATIENCE = 2000  # draws in a row without a new wish
_TRIES = 20  # wordings of a wish, if it was put in the same words before


def fashion_relevance(
    seed: int = 0,
    *,
    n_train: int = 800,
    n_valid: int = 100,
    n_test: int = 400,
    limit: int | None = None,
) -> Relevance:
    """The search task over `fashion`. The test depends on the seed and `n_test` only.

    `products`: name as the shop wrote it, text with all annotations behind it, and gender, type,
    color, season, use, category as annotated, kind and brand as in data/relevance/fashion.toml
    ("" where that knows none). `queries`: the wish by field (kind, color, gender, use, brand; ""
    for none), wishes (how many besides the kind), unseen ("" in train; "kind", "color" or "brand"
    for a query with one that training never names, else "combination") and unsaid (the fields,
    separated by a space, that the names of at least half of the perfect products do not say: there
    a picture could help). Every pair is judged: what is not listed is 0.

    Args:
        seed: of the wishes, the words and what is held out.
        n_train: wishes to train on, each in `WORDINGS` wordings; some are left out afterwards,
            because they say nearly what a later part says.
        n_valid: wishes for validation, one wording each.
        n_test: wishes for the test, one wording each, a third of them with something held out.
        limit: at most so many of all these queries, chosen at random.

    Raises:
        InputError: the catalog is not here or not as published, or has no room for so many wishes.
    """
    for name, number in (("n_train", n_train), ("n_valid", n_valid), ("n_test", n_test)):
        if number < 1:
            raise InputError(f"{name} = {number} must be at least 1.")
    products, notes = read_fashion()
    facts = annotate(products)
    held_out = _hold_out(facts, np.random.default_rng(seed))
    sizes = {"test": n_test, "valid": n_valid, "train": n_train}
    queries = _write_queries(facts, _parted_wishes(facts, held_out, sizes, seed), held_out, seed)
    judgements = _judge(facts, products, queries)
    queries = queries.drop(columns="asked")
    return build_relevance(
        "fashion", products, queries, judgements, complete=True, seed=seed, limit=limit, notes=notes
    )


def _hold_out(facts: Annotations, random: np.random.Generator) -> frozenset[Wish]:
    """Kinds, colors and brands for the test only; the most common are never among them."""
    chosen: list[Wish] = []
    for field, share in HELD_OUT.items():
        keys = [wish for wish in facts.met if wish[0] == field]
        keys.sort(key=lambda wish: -np.count_nonzero(facts.met[wish]))
        rarer = keys[round(COMMON * len(keys)) :]
        n = min(len(rarer), max(1, round(share * len(keys))))
        chosen += [rarer[at] for at in random.choice(len(rarer), n, replace=False)]
    return frozenset(chosen)


def _parted_wishes(
    facts: Annotations, held_out: frozenset[Wish], sizes: dict[str, int], seed: int
) -> dict[str, list[Wishes]]:
    """Wishes for each part; see the module's docstring. What the test asks is drawn first and
    depends on no other part, then what may be asked in validation, and last in training."""
    draw = _drawer(facts)
    parts: dict[str, list[Wishes]] = {}
    asked: set[Wishes] = set()  # in the parts before
    touched: set[Wishes] = set()  # every wish within one of these
    for number, (part, size) in enumerate(sizes.items()):
        random = np.random.default_rng([seed, number])
        each = round(size * HELD_OUT_SHARE / len(HELD_OUT)) if part == "test" else 0
        room = dict.fromkeys(HELD_OUT, each)
        room["combination"] = size - sum(room.values())
        drawn: dict[Wishes, None] = {}  # an ordered set
        failures = 0
        while sum(room.values()):
            if failures == _PATIENCE:
                raise InputError(
                    f"the catalog has no room for {size:,} different wishes in the {part} part "
                    f"({sum(room.values()):,} are missing); ask for fewer."
                )
            wishes = draw(random)
            unseen = _unseen(wishes, held_out)
            beside = wishes in touched or not asked.isdisjoint(_within(wishes))
            if not wishes or not room[unseen] or beside or wishes in drawn:
                failures += 1
                continue
            failures = 0
            drawn[wishes] = None
            room[unseen] -= 1
        parts[part] = list(drawn)
        asked |= drawn.keys()
        touched |= {within for wishes in drawn for within in _within(wishes)}
    return parts


def _unseen(wishes: Wishes, held_out: frozenset[Wish]) -> str:
    """The first field that names something held out, or "combination"."""
    return next((field for field, key in wishes if (field, key) in held_out), "combination")


def _within(wishes: Wishes) -> Iterator[Wishes]:
    """The wishes themselves and everything with the same kind and some of the other wishes."""
    for size in range(len(wishes)):
        for some in combinations(wishes[1:], size):
            yield (wishes[0], *some)


def _drawer(facts: Annotations) -> Callable[[np.random.Generator], Wishes]:
    """A function that draws wishes which one product, drawn at random, grants completely; () where
    it grants too few."""
    words = shoppers_words()
    kinds = list(facts.offers)
    stock = [np.flatnonzero(facts.met["kind", kind]) for kind in kinds]
    # Of each kind, which of its products (lines) grants which wish.
    grants = [
        np.reshape(
            [facts.met[wish][products] for wish in facts.offers[kind]], (-1, len(products))
        ).T
        for kind, products in zip(kinds, stock, strict=True)
    ]
    # Between one product, one chance (all tees) and one kind, one chance (all cufflinks).
    chances = _shares(np.sqrt([len(products) for products in stock]))
    counts = _shares(words["count"])

    def draw(random: np.random.Generator) -> Wishes:
        at = random.choice(len(kinds), p=chances)
        product = random.integers(len(stock[at]))
        wanted = 1 + random.choice(len(counts), p=counts)
        granted: dict[str, list[Wish]] = {}
        for number in np.flatnonzero(grants[at][product]):
            wish = facts.offers[kinds[at]][number]
            granted.setdefault(wish[0], []).append(wish)
        if len(granted) < wanted:
            return ()
        shares = _shares([words["weights"][field] for field in granted])
        fields = random.choice(list(granted), size=wanted, replace=False, p=shares)
        chosen = [granted[f][random.integers(len(granted[f]))] for f in FIELDS if f in fields]
        wishes = (("kind", kinds[at]), *chosen)
        perfect = np.count_nonzero(facts.perfect(wishes))
        return wishes if MIN_PERFECT <= perfect <= NO_TEST * len(facts.met[wishes[0]]) else ()

    return draw


def _shares(weights: Sequence[float]) -> np.ndarray:
    return np.asarray(weights, dtype=np.float64) / np.sum(weights)


def _write_queries(
    facts: Annotations, parts: dict[str, list[Wishes]], held_out: frozenset[Wish], seed: int
) -> pd.DataFrame:
    """A line per query; `asked` holds its wishes."""
    rows, seen = [], set()
    for number, (part, all_wishes) in enumerate(parts.items()):
        random = np.random.default_rng([seed, len(parts) + number])
        for wishes in all_wishes:
            named = dict(wishes)
            unseen = _unseen(wishes, held_out)
            for _ in range(WORDINGS if part == "train" else 1):
                tries = (_wording(wishes, random) for _ in range(_TRIES))
                text = next((text for text in tries if text not in seen), None)
                if text is None:  # there are no more words for it
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
