"""Queries made over the catalog of `fashion`: what is asked, graded, and kept for the test.

The catalog here is made by the test, in the published format; the published one is used as well
where it is on this machine.
"""

import re
import tomllib
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from recsys_lib.datasets.fashion_catalog import FIELDS, annotate, fashion_pictures, read_fashion
from recsys_lib.datasets.fashion_queries import HELD_OUT, MIN_PERFECT, fashion_relevance
from recsys_lib.datasets.registry import find_dataset
from recsys_lib.workbook import InputError, project_folder
from tests.unit.test_relevance import check_form, check_nothing_shared

SIZES = {"n_train": 150, "n_valid": 20, "n_test": 60}
HERE = find_dataset("fashion")
TYPES = {
    "Tshirts": "T-shirt",
    "Shirts": "Shirt",
    "Jeans": "Jeans",
    "Casual Shoes": "Shoes",
    "Sports Shoes": "Sports Shoes",
    "Sandals": "Sandals",
    "Handbags": "Handbag",
    "Watches": "Watch",
    "Sweaters": "Sweater",
    "Socks": "Socks",
    "Belts": "Belt",
    "Kurtas": "Kurta",
    "Caps": "Cap",
    "Ties": "Tie",
    "Free Gifts": "Gift",
}
COLORS = ["Black", "White", "Blue", "Navy Blue", "Red", "Maroon", "Olive", "Lavender", "Gold"]
BRANDS = ["Nike", "Puma", "UCB", "Levis", "Fossil", "Nikeish", "Lee Cooper", "Lee"]


def words() -> dict:
    with (project_folder() / "data/relevance/fashion.toml").open("rb") as file:
        return tomllib.load(file)


def catalog(n: int = 3000, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        type_, gender = (
            random.choice(list(TYPES)),
            random.choice(["Men", "Women", "Unisex", "Boys"]),
        )
        color, usage = (
            random.choice(COLORS),
            random.choice(["Casual", "Sports", "Formal", "Ethnic"]),
        )
        shown = color if random.random() < 0.7 else ""
        name = " ".join(f"{random.choice(BRANDS)} {gender} {shown} {TYPES[type_]} {i}".split())
        picture = {"bytes": b"\xff\xd8" + bytes([i % 250]), "path": None}
        category = ("Apparel", "Topwear", type_, color, "Summer", 2012, usage, name, picture)
        rows.append((i + 10, gender, *category))
    columns = ["id", "gender", "masterCategory", "subCategory", "articleType", "baseColour"]
    columns += ["season", "year", "usage", "productDisplayName", "image"]
    return pd.DataFrame(rows, columns=columns)


def put(folder, frame: pd.DataFrame):
    (folder / "fashion").mkdir(exist_ok=True)
    frame.to_parquet(folder / "fashion" / "fashion.parquet")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A data folder with a catalog in it, and the task over it."""
    folder = tmp_path_factory.mktemp("data")
    put(folder, catalog())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECSYS_DATA", str(folder))
        return folder, fashion_relevance(3, **SIZES)


@pytest.fixture(params=["made", "published"])
def task(request, shop):
    if request.param == "made":
        return shop[1]
    if HERE is None:
        pytest.skip("fashion is not on this machine")
    return request.getfixturevalue("published")


@pytest.fixture(scope="module")
def published():
    return fashion_relevance(0)


def wishes_of(row) -> dict[str, str]:
    return {field: getattr(row, field) for field in FIELDS if getattr(row, field)}


def test_it_has_the_form_of_every_task(task):
    check_form(task)
    assert task.complete and task.name == "fashion"
    assert task.queries["text"].is_unique
    assert (task.queries["text"].str.split().str.join(" ") == task.queries["text"]).all()
    assert task.queries["text"].str.match(r"^[\w\s'&.?-]+$").all()  # no brace, no blank left


def test_nothing_asked_in_one_part_is_asked_in_another(task):
    check_nothing_shared(task.queries)
    asked = {part: {} for part in ("train", "valid", "test")}
    for row in task.queries.itertuples():
        asked[row.part][frozenset(wishes_of(row).items())] = row.text
    for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
        for mine in asked[one]:
            for theirs in asked[other]:
                assert not mine <= theirs and not theirs <= mine, (mine, theirs)


def test_paraphrases_are_in_one_part(task):
    groups = task.queries.groupby("group")
    assert (groups["part"].nunique() == 1).all()
    train = task.part("train").groupby("group").size()
    assert train.max() == 2 and (task.part("test").groupby("group").size() == 1).all()
    assert task.part("test")["text"].nunique() == len(task.part("test"))


def test_what_is_held_out_occurs_in_the_test_only(task):
    test, other = task.part("test"), task.queries[task.queries["part"] != "test"]
    for field in HELD_OUT:
        unseen = test[test["unseen"] == field]
        assert len(unseen) > 0
        assert not set(unseen[field]) & set(other[field])
    combination = test[test["unseen"] == "combination"]
    each = round(len(test) / 9)
    assert test["unseen"].value_counts().to_dict() == {
        **dict.fromkeys(HELD_OUT, each),
        "combination": len(test) - 3 * each,
    }
    for field in HELD_OUT:
        assert not set(combination[field]) & set(test.loc[test["unseen"] == field, field]) - {""}
    assert (task.part("train")["unseen"] == "").all()


def grade_by_hand(row, product, lists) -> int:
    """The grade of one product by its raw annotations, written again from the word list's head."""
    kind = lists["kinds"][row.kind]
    families = {t: k["family"] for k in lists["kinds"].values() for t in k["types"]}
    wished = wishes_of(row)
    met = 0
    for field, column in (("color", "baseColour"), ("gender", "gender"), ("use", "usage")):
        if field in wished:
            met += product[column] in lists[f"{field}s"][wished[field]]["met_by"]
    if "brand" in wished:
        name = product["productDisplayName"].lower()
        starts = {s.lower(): b for b, all_ in lists["brands"].items() for s in all_}
        fits = [s for s in starts if re.match(re.escape(s) + r"(?!\w)", name)]
        met += bool(fits) and starts[max(fits, key=len)] == wished["brand"]
    missing = len(wished) - 1 - met
    if product["articleType"] in kind["types"]:
        grade = 3 - missing
    elif families.get(product["articleType"]) == kind["family"]:
        grade = 2 - missing
    else:
        return 0
    return max(0, min(grade, 3 if met else 1))


def test_grades_agree_with_the_annotations_read_again(task, shop):
    folder = shop[0] / "fashion" if task is shop[1] else HERE
    raw = pd.read_parquet(folder / "fashion.parquet").drop(columns="image").set_index("id")
    random = np.random.default_rng(0)
    lists = words()
    queries = task.queries.iloc[random.choice(len(task.queries), 40, replace=False)]
    matrix = task.grades(queries["query_id"])
    for row, grades in zip(queries.itertuples(), matrix, strict=True):
        some = np.concatenate(
            [random.permutation(np.flatnonzero(grades == grade))[:8] for grade in np.unique(grades)]
        )
        for at in some:
            product = raw.loc[task.products["product_id"].iloc[at]]
            assert grades[at] == grade_by_hand(row, product, lists), (row.text, product.tolist())
    assert ((matrix == 3).sum(axis=1) >= MIN_PERFECT).all()
    assert ((matrix == 3).mean(axis=1) <= 0.1).all()


def test_queries_say_what_they_wish_in_words_of_the_list(task):
    lists = words()
    for row in task.queries.itertuples():
        text = f" {row.text.strip('?')} "
        for field, key in wishes_of(row).items():
            if field == "brand":
                assert f" {key} " in text
                continue
            entry = lists[f"{field}s"][key]
            known = [*entry["words"], *entry.get("phrases", [])]
            assert any(f" {word} " in text for word in known), (row.text, field, key)


def test_unsaid_is_what_most_perfect_products_do_not_say(task):
    """Colors, by another way: count names with any of the color's words between spaces."""
    lists = words()
    asked = task.queries[task.queries["color"] != ""].iloc[:60]
    names = task.products["name"].str.lower().str.replace(r"[^\w' -]", " ", regex=True)
    for row, grades in zip(asked.itertuples(), task.grades(asked["query_id"]), strict=True):
        entry = lists["colors"][row.color]
        known = [w.lower() for w in entry["met_by"] + entry["words"] + entry.get("said", [])]
        hits = [any(f" {w} " in f" {name} " for w in known) for name in names[grades == 3]]
        if abs(np.mean(hits) - 0.5) > 0.15:  # plurals and hyphens may move a few
            assert ("color" in row.unsaid.split()) == (np.mean(hits) < 0.5), row.text


def test_the_same_seed_gives_the_same_queries(shop, monkeypatch):
    monkeypatch.setenv("RECSYS_DATA", str(shop[0]))
    again, other = fashion_relevance(3, **SIZES), fashion_relevance(4, **SIZES)
    assert again.fingerprint == shop[1].fingerprint != other.fingerprint
    pd.testing.assert_frame_equal(again.queries, shop[1].queries)


def test_the_test_does_not_depend_on_how_much_is_trained_on(shop, monkeypatch):
    monkeypatch.setenv("RECSYS_DATA", str(shop[0]))
    less = fashion_relevance(3, **SIZES | {"n_train": 40, "n_valid": 5})
    columns = ["text", "unseen", "unsaid", *FIELDS]
    pd.testing.assert_frame_equal(less.part("test")[columns], shop[1].part("test")[columns])
    assert (
        less.grades(less.part("test")["query_id"])
        == shop[1].grades(shop[1].part("test")["query_id"])
    ).all()


@pytest.mark.skipif(HERE is None, reason="fashion is not on this machine")
def test_the_published_catalog_has_the_size_of_its_card():
    products, notes = read_fashion()
    assert len(products) == 14_997
    assert notes == ["2 of 14,999 products have no name: left out"]


def test_a_color_is_said_by_the_name_or_not():
    products = pd.DataFrame(
        {
            "name": ["Puma Men Navy Blue Shirts", "Puma Men Twilight Shirt", "Puma Men NAVY Tee"],
            "type": ["Shirts", "Shirts", "Tshirts"],
            "color": ["Navy Blue"] * 3,
            "gender": ["Men"] * 3,
            "use": ["Casual"] * 3,
            "kind": ["shirt", "shirt", "t-shirt"],
            "brand": ["puma"] * 3,
        }
    )
    facts = annotate(products)
    assert facts.said["color", "navy"].tolist() == [True, False, True]
    assert facts.said["kind", "shirt"].tolist() == [True, True, False]
    assert facts.related["shirt"].tolist() == [False, False, True]
    wishes = (("kind", "shirt"), ("color", "navy"))
    assert facts.grade(wishes).tolist() == [3, 3, 2]


def test_brands_are_read_from_the_beginning_of_a_name(shop, monkeypatch):
    monkeypatch.setenv("RECSYS_DATA", str(shop[0]))
    products, _ = read_fashion()
    first = products["name"].str.split().str[0]
    assert set(products.loc[first == "UCB", "brand"]) == {"benetton"}
    assert set(products.loc[first == "Nikeish", "brand"]) == {""}
    cooper = products["name"].str.startswith("Lee Cooper")
    assert set(products.loc[cooper, "brand"]) == {"lee cooper"}
    assert set(products.loc[(first == "Lee") & ~cooper, "brand"]) <= {"lee", ""}


def test_the_catalogs_mistakes_are_handled_or_said(tmp_path, monkeypatch):
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path))
    frame = catalog(3000)
    frame.loc[:2, "productDisplayName"] = None
    frame.loc[5:9, ["baseColour", "usage"]] = None
    put(tmp_path, frame)
    task = fashion_relevance(**SIZES, limit=200)
    assert len(task.products) == 2997 and len(task.queries) <= 200
    assert "3 of 3,000 products have no name: left out" in task.notes
    assert any("is not the registered file" in note for note in task.notes)
    put(tmp_path, frame.drop(columns="baseColour"))
    assert 'no color column "baseColour"' in said()
    put(tmp_path, frame.iloc[:0])
    assert "has a header but no rows" in said()
    put(tmp_path, frame.iloc[:60])
    assert "no room for 400 different wishes in the test part" in said()
    assert "n_test = 0 must be at least 1" in said(n_test=0)
    (tmp_path / "fashion/fashion.parquet").write_bytes(b"PAR1 cut short")
    assert "not a Parquet file, or is cut short" in said()
    (tmp_path / "fashion/fashion.parquet").unlink()
    assert '"fashion" is not on this machine' in said()


def said(**options) -> str:
    with pytest.raises(InputError) as caught:
        fashion_relevance(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pictures_are_found_by_product(shop, monkeypatch):
    monkeypatch.setenv("RECSYS_DATA", str(shop[0]))
    assert fashion_pictures([12, 10]) == {12: b"\xff\xd8\x02", 10: b"\xff\xd8\x00"}
    with pytest.raises(InputError, match="fashion has no product 5"):
        fashion_pictures([10, 5])


def test_the_word_list_is_consistent():
    """No annotation meets two kinds, and no word of a field means two of its keys."""
    lists = words()
    types = [t for entry in lists["kinds"].values() for t in entry["types"]]
    assert len(types) == len(set(types))
    for field in ("kinds", "colors", "genders", "uses"):
        spoken = [
            w for entry in lists[field].values() for w in entry["words"] + entry.get("phrases", [])
        ]
        twice = [a for a, b in pairwise(sorted(spoken)) if a == b]
        assert not twice
    assert set(lists["weights"]) == set(FIELDS) - {"kind"}
    starts = [s.lower() for all_ in lists["brands"].values() for s in all_]
    assert len(starts) == len(set(starts))
