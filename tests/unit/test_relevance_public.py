"""Published sets, read from small files in their published formats that the tests make."""

import json

import numpy as np
import pandas as pd
import pytest

from recsys_lib.datasets.registry import find_dataset
from recsys_lib.datasets.relevance import (
    NOT_JUDGED,
    banking77_relevance,
    esci_relevance,
    load_relevance,
    wands_relevance,
)
from recsys_lib.datasets.relevance_checks import word_file
from recsys_lib.datasets.relevance_public import ESCI_EXAMPLES, ESCI_PRODUCTS
from recsys_lib.metrics import ndcg
from recsys_lib.workbook import InputError
from tests.unit.test_relevance import check_form, check_nothing_shared

WORDS = ["oak", "sofa", "lamp", "rug", "blue", "large", "rustic", "king", "bed", "desk", "glass"]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty data folder where the library looks for real sets."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("RECSYS_DATA", str(folder))
    return folder


def said(make, **options) -> str:
    with pytest.raises(InputError) as caught:
        make(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def search(random: np.random.Generator, number: int) -> str:
    return " ".join([*random.choice(WORDS, 3), f"no {number}"])


# --- banking77 ----------------------------------------------------------------------------------


@pytest.fixture
def banking(data):
    """Three services with twenty messages each to train on and five to test."""
    folder = data / "banking77"
    folder.mkdir()
    labels = ["card_arrival", "reverted_card_payment?", "Refund_not_showing_up"]
    random = np.random.default_rng(0)
    for part, n in (("train", 20), ("test", 5)):
        rows = [(search(random, i), label) for label in labels for i in range(n)]
        pd.DataFrame(rows, columns=["text", "category"]).to_csv(folder / f"{part}.csv", index=False)
    (folder / "categories.json").write_text(json.dumps(labels), encoding="utf-8")
    return folder


def test_banking77_is_a_search_for_one_of_77_services(banking):
    task = load_relevance("banking77")
    check_form(task)
    check_nothing_shared(task.queries)
    assert len(task.products) == 77 and task.complete
    test = pd.read_csv(banking / "test.csv")
    assert task.part("test")["text"].tolist() == test["text"].tolist()
    matrix = task.grades(task.part("test")["query_id"])
    assert (matrix.sum(axis=1) == 1).all()
    right = task.products["product_id"].to_numpy()[matrix.argmax(axis=1)]
    assert right.tolist() == test["category"].tolist()
    train = set(pd.read_csv(banking / "train.csv")["text"])
    assert set(task.queries.loc[task.queries["part"] != "test", "text"]) <= train
    assert any("is not the registered file" in note for note in task.notes)


def test_what_the_test_repeats_leaves_banking77s_training(banking):
    train = pd.read_csv(banking / "train.csv")
    copied = pd.read_csv(banking / "test.csv").iloc[2]
    train.loc[len(train)] = [copied["text"].upper() + "!", copied["category"]]
    train.to_csv(banking / "train.csv", index=False)
    task = banking77_relevance()
    assert copied["text"] in set(task.part("test")["text"])
    assert copied["text"].upper() + "!" not in set(task.queries["text"])
    assert "1 query of train or valid left out: a later part has the same, or nearly" in task.notes


def test_a_broken_banking77_is_one_line(banking):
    train = (banking / "train.csv").read_text(encoding="utf-8")
    (banking / "train.csv").write_text(train.replace("card_arrival", "card_arival", 1), "utf-8")
    message = said(banking77_relevance)
    assert 'row 0 of banking77 has the category "card_arival"' in message
    assert 'Did you mean "card_arrival"?' in message
    (banking / "train.csv").write_text(train.replace("category", "label", 1), encoding="utf-8")
    assert 'train.csv has no label column "category"' in said(banking77_relevance)
    (banking / "train.csv").write_bytes(b"")
    assert "train.csv is empty" in said(banking77_relevance)


def test_every_service_has_its_own_name_and_description():
    services = word_file("banking77")
    assert len(services) == 77
    for column in ("name", "text"):
        assert len({entry[column].casefold() for entry in services.values()}) == 77


@pytest.mark.skipif(find_dataset("banking77") is None, reason="banking77 is not on this machine")
def test_the_published_banking77():
    task = banking77_relevance()
    check_form(task)
    folder = find_dataset("banking77")
    labels = json.loads((folder / "categories.json").read_text(encoding="utf-8"))
    assert sorted(task.products["product_id"]) == sorted(labels)
    test = pd.read_csv(folder / "test.csv")
    assert len(task.part("test")) == len(test) == 3080
    by_text = dict(zip(test["text"].str.strip(), test["category"], strict=True))
    asked = task.part("test")
    right = task.products["product_id"].to_numpy()[task.grades(asked["query_id"]).argmax(axis=1)]
    assert [by_text[text] for text in asked["text"]] == right.tolist()
    n = len(pd.read_csv(folder / "train.csv"))
    left = n - len(task.part("train")) - len(task.part("valid"))
    assert 0 < left < 0.05 * n  # the near-duplicates
    assert task.notes == (
        f"{left} queries of train or valid left out: a later part has the same, or nearly",
    )


# --- WANDS --------------------------------------------------------------------------------------

WANDS_PRODUCT = (
    "product_id\tproduct_name\tproduct_class\tcategory hierarchy\tproduct_description\t"
    "product_features\trating_count\taverage_rating\treview_count\n"
)


@pytest.fixture
def wands(data):
    """Forty products, fifty queries and ten judgements of each, as WANDS writes them."""
    folder = data / "wands"
    folder.mkdir()
    random = np.random.default_rng(1)
    product = WANDS_PRODUCT
    for i in range(40):
        about = "" if i == 3 else f'"soft, with ""a"" name {i}"'
        product += f"{i}\tsofa {i}\tSofas\tFurniture / Sofas\t{about}\tcolor:red|size : {i}\t"
        product += "15.0\t4.5\t15.0\n"
    queries = [(i, f'"{search(random, i)} 36"" wide"', "Sofas" if i % 9 else "") for i in range(50)]
    judged = [
        (query, int(p), ["Exact", "Partial", "Irrelevant"][j % 3])
        for query, _, _ in queries
        for j, p in enumerate(random.choice(40, 10, replace=False))
    ]
    label = "id\tquery_id\tproduct_id\tlabel\n"
    label += "".join(f"{i}\t{q}\t{p}\t{given}\n" for i, (q, p, given) in enumerate(judged))
    query = "query_id\tquery\tquery_class\n" + "".join(f"{i}\t{t}\t{c}\n" for i, t, c in queries)
    for name, content in (("product", product), ("query", query), ("label", label)):
        (folder / f"{name}.csv").write_text(content, encoding="utf-8")
    return folder


def test_wands_is_read_in_its_published_format(wands):
    task = load_relevance("wands")
    check_form(task)
    check_nothing_shared(task.queries)
    assert task.name == "wands" and not task.complete and task.notes == ()
    assert len(task.products) == 40 and len(task.queries) == 50
    first = task.products.iloc[0]
    assert first["name"] == "sofa 0" and first["category"] == "Furniture / Sofas"
    assert first["text"] == 'sofa 0. Sofas. soft, with "a" name 0. color:red, size : 0'
    assert task.products["text"].iloc[3] == "sofa 3. Sofas. color:red, size : 3"
    assert task.queries["text"].str.endswith('36" wide').all()
    label = pd.read_csv(wands / "label.csv", sep="\t")
    grades = {"Exact": 2, "Partial": 1, "Irrelevant": 0}
    expected = {(q, p): grades[g] for q, p, g in label.iloc[:, 1:].itertuples(index=False)}
    found = task.judgements.itertuples(index=False, name=None)
    assert {(q, p): g for q, p, g in found} == expected


def test_wands_may_name_its_column_as_its_description_does(wands):
    path = wands / "product.csv"
    content = path.read_text(encoding="utf-8").replace("category hierarchy", "category_hierarchy")
    path.write_text(content, encoding="utf-8")
    assert wands_relevance().products["category"].iloc[0] == "Furniture / Sofas"


def test_labels_of_wands_that_contradict_are_counted(wands):
    with (wands / "label.csv").open("a", encoding="utf-8") as file:
        first = pd.read_csv(wands / "label.csv", sep="\t").iloc[2]  # Irrelevant
        file.write(f"900\t{first.query_id}\t{first.product_id}\tExact\n901\t1\t7777\tExact\n")
    task = wands_relevance()
    column = task.products["product_id"].tolist().index(first.product_id)
    assert task.grades([first.query_id])[0, column] == 2
    assert "1 judgement of 502 on a product that the catalog lacks left out (first: 7777)" in (
        task.notes
    )
    assert any("1 pair with different grades" in note for note in task.notes)


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("label", "\tExact", "\tExakt", 'has the label "Exakt"; known are "Exact"'),
        ("label", "product_id", "product", 'label.csv has no id column "product_id"'),
        ("product", "product_name", "title", 'product.csv has no name column "product_name"'),
        ("query", "0\t", "zero\t", 'row 0 of query.csv has the query_id "zero"'),
        ("query", "\tquery\t", "\twords\t", 'query.csv has no text column "query"'),
    ],
)
def test_a_broken_wands_is_one_line(wands, name, old, new, expected):
    path = wands / f"{name}.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    assert expected in said(wands_relevance)


def test_wands_cut_short_is_one_line(wands):
    (wands / "label.csv").write_bytes(b"")
    assert "label.csv is empty" in said(wands_relevance)
    (wands / "label.csv").unlink()
    assert '"wands" is not on this machine' in said(wands_relevance)
    assert "label.csv does not exist" in said(wands_relevance, folder=wands)


# --- ESCI ---------------------------------------------------------------------------------------


@pytest.fixture
def esci(data):
    """Sixty English queries in the small version, ten easy ones, and ten Spanish ones."""
    folder = data / "esci"
    folder.mkdir()
    random = np.random.default_rng(2)
    rows = []
    for query in range(80):
        locale, small = ("es" if query >= 70 else "us"), int(not 60 <= query < 70)
        split, text = ("test" if query % 3 == 0 else "train"), search(random, query)
        for j, product in enumerate(random.choice(30, 6, replace=False)):
            row = (text, query, f"B{product:03}", locale, "ESCI"[j % 4], small, 1, split)
            rows.append((len(rows), *row))
    columns = ["example_id", "query", "query_id", "product_id", "product_locale", "esci_label"]
    columns += ["small_version", "large_version", "split"]
    pd.DataFrame(rows, columns=columns).to_parquet(folder / ESCI_EXAMPLES)
    products = [
        (
            f"B{i:03}",
            f"title {i} {locale}",
            None,
            f"point {i}",
            "Acme" if i % 2 else None,
            "red",
            locale,
        )
        for locale in ("us", "es", "jp")
        for i in range(35)
    ]
    columns = ["id", "title", "description", "bullet_point", "brand", "color", "locale"]
    products = pd.DataFrame(products, columns=[f"product_{column}" for column in columns])
    products.to_parquet(folder / ESCI_PRODUCTS)
    return folder


def change(path, edit) -> None:
    edit(pd.read_parquet(path)).to_parquet(path)


def test_esci_is_read_in_its_published_format(esci):
    task = load_relevance("esci")
    check_form(task)
    check_nothing_shared(task.queries)
    examples = pd.read_parquet(esci / ESCI_EXAMPLES)
    ours = examples[(examples["small_version"] == 1) & (examples["product_locale"] == "us")]
    assert set(task.queries["query_id"]) == set(ours["query_id"]) == set(range(60))
    test = set(ours.loc[ours["split"] == "test", "query_id"])
    assert set(task.part("test")["query_id"]) == test
    assert len(task.part("valid")) == 4  # a tenth of 40
    assert set(task.products["product_id"]) == set(ours["product_id"])
    assert task.products["name"].str.endswith(" us").all()
    named = task.products.set_index("product_id")
    assert named.loc["B002", "text"] == "title 2 us. red. point 2"
    assert named.loc["B003", "text"] == "title 3 us. Acme. red. point 3"
    grades = {"E": 3, "S": 2, "C": 1, "I": 0}
    expected = {(r.query_id, r.product_id): grades[r.esci_label] for r in ours.itertuples()}
    found = task.judgements.itertuples(index=False, name=None)
    assert {(q, p): g for q, p, g in found} == expected
    assert task.name == "esci" and not task.complete
    assert (task.grades() == NOT_JUDGED).sum() == 60 * len(task.products) - len(expected)


def test_esci_has_other_locales_and_a_large_version(esci):
    assert set(esci_relevance(locale="es").queries["query_id"]) == set(range(70, 80))
    assert set(esci_relevance(version="large").queries["query_id"]) == set(range(70))
    assert 'locale = "uk" is not one of "us"' in said(esci_relevance, locale="uk")
    assert 'Did you mean "small"' in said(esci_relevance, version="smal")
    assert "no small examples for the locale jp" in said(esci_relevance, locale="jp")


def test_a_limit_reads_only_the_products_of_the_queries_kept(esci):
    few = esci_relevance(limit=12)
    assert len(few.queries) == 12
    judged = set(few.judgements["product_id"])
    assert set(few.products["product_id"]) == judged
    assert "12 of 60 queries were chosen at random (seed 0)" in few.notes


def test_a_query_in_both_published_parts_is_a_test_query(esci):
    change(esci / ESCI_EXAMPLES, lambda frame: frame.assign(split=_both(frame)))
    task = esci_relevance()
    assert task.queries.loc[task.queries["query_id"] == 1, "part"].tolist() == ["test"]
    assert len(task.judgements[task.judgements["query_id"] == 1]) == 6
    assert any("stand in both published parts" in note for note in task.notes)


def _both(frame: pd.DataFrame) -> pd.Series:
    """Query 1 has some of its examples in train and some in test."""
    return frame["split"].mask((frame["query_id"] == 1) & (frame["example_id"] % 2 == 0), "test")


def test_esci_without_some_products_says_so(esci):
    change(esci / ESCI_PRODUCTS, lambda frame: frame.drop(index=[0, 1]))
    change(esci / ESCI_PRODUCTS, _untitled)
    task = esci_relevance()
    assert not {"B000", "B001", "B004"} & set(task.judgements["product_id"])
    assert "B004" not in set(task.products["product_id"])
    assert any("a product that the catalog lacks" in note for note in task.notes)
    assert "1 product without a text left out" in task.notes


def _untitled(frame: pd.DataFrame) -> pd.DataFrame:
    """Product B004 has nothing written about it."""
    nothing = frame["product_id"] == "B004"
    for field in ("title", "bullet_point", "brand", "color"):
        frame[f"product_{field}"] = frame[f"product_{field}"].mask(nothing)
    return frame


@pytest.mark.parametrize(
    ("file", "column", "value", "expected"),
    [
        (ESCI_EXAMPLES, "esci_label", "X", 'has the esci_label "X"; known are "E", "S", "C", "I"'),
        (ESCI_EXAMPLES, "split", "dev", 'has the split "dev"'),
        (ESCI_EXAMPLES, "query", None, 'has no query column "query"'),
        (ESCI_PRODUCTS, "product_title", None, 'has no product_title column "product_title"'),
    ],
)
def test_a_broken_esci_is_one_line(esci, file, column, value, expected):
    if value is None:
        change(esci / file, lambda frame: frame.drop(columns=column))
    else:
        change(esci / file, lambda frame: frame.assign(**{column: value}))
    assert expected in said(esci_relevance)


def test_esci_cut_short_is_one_line(esci):
    whole = (esci / ESCI_PRODUCTS).read_bytes()
    (esci / ESCI_PRODUCTS).write_bytes(whole[: len(whole) // 2])
    assert "is not a Parquet file, or is cut short" in said(esci_relevance)
    (esci / ESCI_PRODUCTS).unlink()
    assert '"esci" is not on this machine' in said(esci_relevance)
    assert "does not exist" in said(esci_relevance, folder=esci)


def test_a_task_and_the_metric_fit_together(esci):
    task = esci_relevance()
    grades = task.grades()
    gains = np.maximum(grades, 0)
    assert np.allclose(ndcg(gains, gains.astype(float), 10), 1.0)
    assert (ndcg(gains, -gains.astype(float), 10) < 0.5).all()
