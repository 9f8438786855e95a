"""What an analyst does: rerun a notebook by papermill on an own table, or an own catalog.

Good ones run to the end; a bad one fails in one clear line, and the outputs are saved.
"""

import random
import re
from pathlib import Path

import pandas as pd
import pytest

from recsys_lib.workbook import runs_folder
from recsys_lib.workbook.parameters import declared
from recsys_lib.workbook.results import executed_results
from recsys_lib.workbook.running import Outcome, notebook_files
from tests.notebooks.reruns import by_name, check_refused, outputs, run

pytestmark = pytest.mark.usefixtures("without_real_data")
NOTEBOOKS = notebook_files()
OWN_TABLE = [path for path in NOTEBOOKS if "text_column" in declared(path)]
SEARCH = next(path for path in NOTEBOOKS if path.stem == "05_search_and_ranking")
FAIRNESS = next(path for path in NOTEBOOKS if path.stem == "07_fairness")
COLUMNS = {"text_column": "Review Text", "label_column": "stars >= 4", "group_column": "sku"}
SCRIPT = "<script>alert(1)</script>"


def own_table(rows: int) -> pd.DataFrame:
    """Reviews as a shop might export them: markup and emoji in the texts, stars, a product."""
    dice = random.Random(0)
    things = ["the coat", "the zip", "the hood", "the fabric", "the color", "the fit", "the lining"]
    good = ["soft and warm", "just right", "worth every cent", "better than I hoped", "lovely 😍"]
    bad = ["thin and cold", "far too tight", "already torn", "a waste of money", "awful 😡"]
    filler = "I wore it to work. | My sister has one. | It came on Monday. | I am 170 cm tall."
    table = []
    for row in range(rows):
        stars = dice.choice([1, 2, 4, 5, 5])
        words = good if stars >= 4 else bad
        parts = [f"{dice.choice(things).capitalize()} is {dice.choice(words)}." for _ in range(5)]
        parts += dice.sample(filler.split(" | "), 3)
        parts.append(f"Size {dice.randrange(34, 48)}, order {dice.randrange(10**6)}.")
        dice.shuffle(parts)
        text = " ".join([*parts, SCRIPT if row % 3 == 0 else "Size & price: a < b."])
        table.append({"Review Text": text, "stars": stars, "sku": f"P{row % 60:03d}"})
    return pd.DataFrame(table)


@pytest.fixture
def own_file(tmp_path):
    def write(rows: int) -> Path:
        path = tmp_path / f"shop-{rows}.csv"
        own_table(rows).to_csv(path, index=False)
        return path

    return write


def check_ran(outcome: Outcome, file: Path) -> None:
    """The run on an own table ended, recorded something, and no text became markup."""
    assert outcome.ok, outcome.error
    payload = executed_results(outcome.executed)
    assert payload["dataset"] == file.name
    assert payload["results"]
    for output in outputs(outcome):
        data = output.get("data", {})
        for kind in ("text/html", "text/markdown", "image/svg+xml"):
            found = re.search(r"<script\b.{0,40}", "".join(data.get(kind, "")), re.I | re.S)
            assert not found, f"{kind} holds {found[0]!r} from a text"
        assert output.get("name") != "stderr", output.text


@pytest.fixture
def tiny(checkpoints):
    """Parameters with a tiny encoder, for a notebook that takes one: no claim rests on it here."""

    def parameters(path: Path) -> dict[str, str]:
        return {"model": str(checkpoints["bert"])} if "model" in declared(path) else {}

    return parameters


@pytest.mark.parametrize("path", OWN_TABLE, ids=by_name)
def test_an_own_table(path, own_file, tiny, shallow, tmp_path):
    file = own_file(300)
    parameters = COLUMNS | tiny(path)
    if path.stem == "03_fine_tuning":  # it checks that the model learns; here with another seed,
        parameters |= {"model": str(shallow), "seed": 7}  # which the market would take minutes for
    check_ran(run(path, tmp_path, dataset=str(file), **parameters), file)


@pytest.mark.parametrize("column", ["team", "height"])
def test_an_own_column_is_audited(column, tiny, tmp_path):
    """Names with markup and holes, and numbers with holes that bands cut: the run ends, the groups
    are in the report as they are called, and nothing in it is markup."""
    table = own_table(600)
    teams = [f"{SCRIPT} A", "B & <b>Co</b>", " "]
    table["team"] = [teams[row % 7 % 3] for row in range(600)]
    table["height"] = [None if row % 9 == 0 else 150 + row * 37 % 300 / 7 for row in range(600)]
    file = tmp_path / f"{column}.csv"
    table.to_csv(file, index=False)
    bands = {"sensitive_bands": "(165, 180)"} if column == "height" else {}
    parameters = COLUMNS | bands | tiny(FAIRNESS) | {"sensitive_column": column}
    check_ran(run(FAIRNESS, tmp_path, dataset=str(file), **parameters), file)
    page = (runs_folder() / "reports" / f"fairness-{file.name}-quick.html").read_text("utf-8")
    names = {
        "team": ["&lt;script&gt;alert(1)&lt;/script&gt; A", "B &amp; &lt;b&gt;Co&lt;/b&gt;"],
        "height": ["under 165", "165 to &lt;180", "180 and over"],
    }[column]
    for name in [*names, "missing"]:
        assert name in page
    assert "<script" not in page.lower() and "<b>" not in page


def own_catalog(folder: Path, queries: int) -> tuple[Path, Path]:
    """A shop's products and what its customers asked for, judged 0 to 2; markup and emoji in it."""
    dice = random.Random(0)
    colors, things = ["red", "navy", "sand", "plum"], ["coat", "scarf", "boots", "bag", "belt"]
    catalog = [(f"P{i}", color, thing) for i, (color, thing) in
               enumerate((c, t) for c in colors for t in things for _ in range(4))]  # fmt: skip
    products = [(id, f"{color} {thing} {SCRIPT} no. {id} 😍") for id, color, thing in catalog]
    asked = [(c, t, f"{word} {c} {t}") for c in colors for t in things
             for word in ("a", "looking for a", "my size in a", "gift:")]  # fmt: skip
    judged = [
        (text, id, (color == c) + (thing == t))
        for c, t, text in dice.sample(asked, queries)
        for id, color, thing in dice.sample(catalog, 40)
    ]
    files = folder / "catalog.csv", folder / "judged.csv"
    pd.DataFrame(products, columns=["id", "text"]).to_csv(files[0], index=False)
    pd.DataFrame(judged, columns=["query", "id", "grade"]).to_csv(files[1], index=False)
    return files


def test_an_own_catalog(tiny, tmp_path):
    file, judgements = own_catalog(tmp_path, queries=60)
    parameters = {"judgements": str(judgements)} | tiny(SEARCH)
    outcome = run(SEARCH, tmp_path, dataset=str(file), wish="warm <b>", **parameters)
    check_ran(outcome, file)


def as_wands(folder: Path, data: Path) -> None:
    """An own catalog in the files and columns of WANDS, which is too large to come along."""
    file, judgements = own_catalog(folder, queries=60)
    products, judged = pd.read_csv(file), pd.read_csv(judgements)
    number = {id: row for row, id in enumerate(products["id"])}
    asked = {text: row for row, text in enumerate(judged["query"].unique())}
    tables = {
        "product": pd.DataFrame(
            {
                "product_id": range(len(products)),
                "product_name": products["text"],
                "product_class": [text.split()[1] for text in products["text"]],
                "category hierarchy": "Clothing / All",
                "product_description": products["text"].where(products.index % 7 > 0),
                "product_features": "care : wash cold | size:one",
            }
        ),
        "query": pd.DataFrame(
            {"query_id": asked.values(), "query": asked.keys(), "query_class": "Clothing"}
        ),
        "label": pd.DataFrame(
            {
                "id": range(len(judged)),
                "query_id": judged["query"].map(asked),
                "product_id": judged["id"].map(number),
                "label": judged["grade"].map({0: "Irrelevant", 1: "Partial", 2: "Exact"}),
            }
        ),
    }
    (data / "wands").mkdir(parents=True)
    for name, table in tables.items():
        table.to_csv(data / "wands" / f"{name}.csv", sep="\t", index=False)


def test_a_published_set_that_does_not_come_along(tiny, tmp_path, monkeypatch):
    as_wands(tmp_path, tmp_path / "data")
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "data"))
    outcome = run(SEARCH, tmp_path, dataset="wands", **tiny(SEARCH))
    check_ran(outcome, Path("wands"))


def test_an_own_catalog_without_judgements(tmp_path):
    file, _ = own_catalog(tmp_path, queries=10)
    check_refused(run(SEARCH, tmp_path, dataset=str(file)), file.name, "give judgements too")


@pytest.mark.parametrize("path", OWN_TABLE, ids=by_name)
def test_an_own_table_of_ten_rows(path, own_file, tiny, tmp_path):
    file = own_file(10)
    outcome = run(path, tmp_path, dataset=str(file), **COLUMNS, **tiny(path))
    check_refused(outcome, file.name, "10")


@pytest.mark.parametrize("path", OWN_TABLE[:1], ids=by_name)
def test_a_misnamed_column(path, own_file, tiny, tmp_path):
    wrong = COLUMNS | tiny(path) | {"text_column": "Reviw Text"}
    outcome = run(path, tmp_path, dataset=str(own_file(300)), **wrong)
    check_refused(outcome, "Reviw Text", 'Did you mean "Review Text"?')


def test_a_column_that_cannot_be_audited_is_refused_before_training(tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    monkeypatch.setenv("RECSYS_RUNS", str(runs))
    file = tmp_path / "heights.csv"
    own_table(300).assign(height=[150 + row / 7 for row in range(300)]).to_csv(file, index=False)
    outcome = run(FAIRNESS, tmp_path, dataset=str(file), sensitive_column="height", **COLUMNS)
    check_refused(outcome, 'the column "height"', "bands")
    assert not list(runs.glob("artifacts/*"))


def test_the_notebooks_about_reviews_take_an_own_table():
    assert {path.stem[:2] for path in OWN_TABLE} >= {"02", "03", "04"}
