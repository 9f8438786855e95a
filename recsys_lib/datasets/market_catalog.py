"""The market's products and shoppers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import pandas as pd

from recsys_lib.datasets.market_pictures import Look, pack_look
from recsys_lib.datasets.market_random import Draw
from recsys_lib.datasets.market_tables import catalog, product_types, table

STYLES = ("outdoor", "sport", "classic", "elegant", "playful", "minimal")
PICTURE_ONLY = ("pattern", "sleeves", "collar", "trim")
AGE_BANDS = {"18-29": (18, 29), "30-44": (30, 44), "45-59": (45, 59), "60+": (60, 82)}
SIZES = ("XS", "S", "M", "L", "XL", "XXL")
_EXTRA_ATTRIBUTE = 0.35  # chance that a product has one more attribute than material and features


@dataclass(frozen=True)
class Products:
    """`shown`: what the shop knows (one row per product). `truth`: what is so, same order."""

    shown: pd.DataFrame
    truth: pd.DataFrame


def make_products(seed: int, n: int) -> Products:
    """`n` products. Columns of `shown`: product_id, title, description, department, type, color,
    material, brand, model, seller, price, season, use, popularity, picture. Columns of `truth`:
    product_id, color_family, picture-only attributes (`pattern`, `sleeves`, `collar`, `trim`),
    `quality` (probability that a buyer is content), `strength` and `flaw` (the aspects that its
    praise and its blame are mostly about), one bool column `is_<attribute>` each, one
    bool column `for_<use>` each, and style_* scores."""
    draw = Draw(seed, "products")
    names = _model_names(draw, n)
    popularity = _popularity(draw, n)
    shown, truth = [], []
    for i in range(n):
        row, facts = _product(draw, i, names[i], popularity[i])
        shown.append(row)
        truth.append(facts)
    return Products(pd.DataFrame(shown), pd.DataFrame(truth))


def _model_names(draw: Draw, n: int) -> list[str]:
    parts = catalog()["model_names"]
    names = [first + second for first in parts["first"] for second in parts["second"]]
    shuffled = draw.sample(names, len(names))
    rounds = -(-n // len(shuffled))
    return [
        name if turn == 0 else f"{name} {turn + 1}" for turn in range(rounds) for name in shuffled
    ][:n]


def _popularity(draw: Draw, n: int) -> list[int]:
    """A long tail: the product of rank r is about (r + 8)⁻¹ as popular."""
    return draw.sample([max(1, 8000 // (rank + 8)) for rank in range(n)], n)


def _product(draw: Draw, i: int, name: str, popularity: int) -> tuple[dict, dict]:
    words = catalog()
    # Every type once before chance decides, so that small shops have everything too.
    keys = list(product_types())
    key = keys[i] if i < len(keys) else draw.pick(keys)
    kind = product_types()[key]
    color = draw.pick(list(words["colors"]))
    material = draw.pick(kind["materials"])
    brand = draw.pick(list(words["brands"]))
    features = draw.sample(kind["features"], draw.pick([0, 1, 1, 2]))
    uses = draw.sample(kind["uses"], draw.pick([1, 2, 2]))
    gives = dict.fromkeys(words["materials"][material]["gives"])
    extra = None
    if draw.chance(_EXTRA_ATTRIBUTE):
        possible = {a for f in kind["features"] for a in words["features"][f]["gives"]}
        extra = draw.pick([*sorted(possible - set(gives)), None])
    for feature in features:
        gives.update(dict.fromkeys(words["features"][feature]["gives"]))
    if extra:
        gives[extra] = None
    # What it can do is partly said, partly left to follow from the material.
    told = draw.sample([a for a in gives if a != extra], draw.pick([1, 1, 2, 3]))
    told += [extra] if extra else []
    look = _look(draw, key, color)
    noun = draw.pick(kind["catalog"])
    fabric = draw.pick(words["materials"][material]["catalog"])
    shade = draw.pick(words["colors"][color]["catalog"])
    low, high = kind["price"]
    dollars = (low + draw.below(high - low + 1)) * words["brands"][brand]["price"] // 100
    shown = {
        "product_id": i,
        "title": f"{noun[:1].upper()}{noun[1:]} {name}, {fabric}, {shade}",
        "description": _description(draw, noun, fabric, features, told, uses),
        "department": kind["department"],
        "type": key,
        "color": shade,
        "material": fabric,
        "brand": brand,
        "model": name,
        "seller": words["brands"][brand]["seller"],
        "price": (dollars * 100 + 90) / 100,
        "season": draw.pick(kind["seasons"]),
        "use": draw.pick(words["uses"][uses[0]]["catalog"]),
        "popularity": popularity,
        "picture": pack_look(look),
    }
    best, worst = draw.sample([*kind["wishes"], "color", "build", "look"], 2)
    style = {axis: kind["style"].get(axis, 0) for axis in STYLES}
    for axis, points in words["brands"][brand]["style"].items():
        style[axis] += points
    if look.pattern not in ("", "plain"):
        style["playful"] += 2
    truth = {
        "product_id": i,
        "color_family": color,
        "pattern": look.pattern,
        "sleeves": look.sleeves,
        "collar": look.collar,
        "trim": look.trim,
        "quality": (45 + draw.below(25) + draw.below(25) + draw.below(7)) / 100,
        "strength": best,
        "flaw": worst,
        **{f"is_{a}": a in gives for a in words["attributes"]},
        **{f"for_{u}": u in uses for u in words["uses"]},
        **{f"style_{axis}": points for axis, points in style.items()},
    }
    if draw.chance(0.45):  # most of the shop is good: pull these up
        truth["quality"] = (84 + draw.below(13)) / 100
    return shown, truth


def _look(draw: Draw, key: str, color: str) -> Look:
    kind = product_types()[key]
    trims = [c for c in table("pictures")["looks"]["trim"]["colors"] if c != color]

    def choice(options: list[str]) -> str:
        return draw.pick(options) if options else ""

    return Look(
        type=key,
        color=color,
        pattern=choice(kind["patterns"]),
        sleeves=choice(kind["sleeves"]),
        collar=choice(kind["collars"]),
        trim=draw.pick(trims),
    )


def _description(
    draw: Draw, noun: str, fabric: str, features: list[str], told: list[str], uses: list[str]
) -> str:
    words, forms = catalog(), catalog()["descriptions"]
    sentences = []
    if draw.chance(0.5):
        sentences.append(_fill(draw.pick(forms["fabric"]), fabric=fabric, kind=noun))
    for feature in features:
        phrase = draw.pick(words["features"][feature]["catalog"])
        sentences.append(_fill(draw.pick(forms["extra"]), extra=phrase))
    for attribute in told:
        phrase = draw.pick(words["attributes"][attribute]["catalog"])
        sentences.append(_fill(draw.pick(forms["can"]), can=phrase))
    named = [draw.pick(words["uses"][use]["catalog"]) for use in uses]
    form = draw.pick(forms["use"] if len(named) == 1 else forms["two_uses"])
    sentences.append(_fill(form, **dict(zip(("use", "use2"), named, strict=False))))
    if draw.chance(0.4):
        sentences.append(draw.pick(forms["closing"]))
    return " ".join(sentences)


def _fill(template: str, **values: str) -> str:
    """Fill {name}; {Name} starts with a capital."""
    for name, value in values.items():
        template = template.replace("{" + name + "}", value)
        template = template.replace("{" + name.capitalize() + "}", value[:1].upper() + value[1:])
    return template


@dataclass(frozen=True)
class Shoppers:
    """`shown`: shopper_id, age_band, age, group, size, history, bought. `truth`: taste_*."""

    shown: pd.DataFrame
    truth: pd.DataFrame


def make_shoppers(seed: int, n: int, products: Products) -> Shoppers:
    """`n` shoppers. `group` ("A" seven in ten, "B" three) is drawn apart from everything else:
    where nothing is planted it must not matter. Tastes are points (ten each) over STYLES;
    `history` are the words of what somebody bought before, `bought` the products' ids."""
    draw = Draw(seed, "shoppers")
    styles = products.truth[[f"style_{s}" for s in STYLES]].to_numpy(np.int64)
    popularity = products.shown["popularity"].to_numpy(np.int64)
    nouns = [product_types()[t]["item"] for t in products.shown["type"]]
    shades = products.shown["color"].tolist()
    ids = list(range(len(nouns)))
    shown, truth = [], []
    for i in range(n):
        band = draw.pick_weighted(list(AGE_BANDS), [22, 36, 28, 14])
        taste = [0] * len(STYLES)
        favorites = draw.sample(range(len(STYLES)), 2)
        for _ in range(10):
            at = draw.pick(favorites) if draw.chance(0.7) else draw.below(len(STYLES))
            taste[at] += 1
        drawn_to = affinity(np.array(taste), styles)
        weights = list(accumulate((popularity * drawn_to * drawn_to).tolist()))
        count = draw.between(2, 6) if weights[-1] > 0 else 0
        bought = list(dict.fromkeys(draw.pick_cumulative(ids, weights) for _ in range(count)))
        shown.append(
            {
                "shopper_id": i,
                "age_band": band,
                "age": draw.between(*AGE_BANDS[band]),
                "group": "B" if draw.chance(0.3) else "A",
                "size": draw.pick_weighted(SIZES, [6, 20, 30, 24, 13, 7]),
                "history": ", ".join(f"{shades[p]} {nouns[p]}" for p in bought),
                "bought": " ".join(map(str, bought)),
            }
        )
        truth.append(
            {"shopper_id": i} | {f"taste_{s}": t for s, t in zip(STYLES, taste, strict=True)}
        )
    return Shoppers(pd.DataFrame(shown), pd.DataFrame(truth))


def affinity(taste: np.ndarray, styles: np.ndarray) -> np.ndarray:
    """How much a shopper with this taste (S,) is drawn to each product's style (D, S): 0 … 10."""
    total = np.maximum(styles.sum(axis=1), 1)
    # Ten points of taste over six styles: 5 is indifference, 10 is twice that or more.
    return np.minimum(10, (styles * taste).sum(axis=1) * 3 // total)
