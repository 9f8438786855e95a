"""Notebook 05 on the other published set that does not come along: Amazon's ESCI, as its files are.

`test_own_data` has WANDS. Here also what the table of rankers says about pairs that nobody judged.
"""

from pathlib import Path

import pandas as pd
import pytest

from recsys_lib.datasets.relevance_public import ESCI_EXAMPLES, ESCI_PRODUCTS
from tests.notebooks.reruns import outputs, run
from tests.notebooks.test_own_data import SEARCH, check_ran, own_catalog

pytestmark = pytest.mark.usefixtures("without_real_data")


def as_esci(folder: Path, data: Path) -> None:
    """An own catalog in the two Parquet files of ESCI, every fifth query in its published test."""
    file, judgements = own_catalog(folder, queries=60)
    products, judged = pd.read_csv(file), pd.read_csv(judgements)
    asked = {text: row for row, text in enumerate(judged["query"].unique())}
    examples = pd.DataFrame(
        {
            "example_id": range(len(judged)),
            "query": judged["query"],
            "query_id": judged["query"].map(asked),
            "product_id": judged["id"],
            "product_locale": "us",
            "esci_label": judged["grade"].map({0: "I", 1: "C", 2: "E"}),
            "small_version": 1,
            "large_version": 1,
            "split": judged["query"].map(lambda text: "train" if asked[text] % 5 else "test"),
        }
    )
    catalog = pd.DataFrame(
        {
            "product_id": products["id"],
            "product_title": products["text"],
            "product_description": None,
            "product_bullet_point": "Wash cold",
            "product_brand": [text.split()[1] for text in products["text"]],
            "product_color": [text.split()[0] for text in products["text"]],
            "product_locale": "us",
        }
    )
    (data / "esci").mkdir(parents=True)
    examples.to_parquet(data / "esci" / ESCI_EXAMPLES)
    catalog.to_parquet(data / "esci" / ESCI_PRODUCTS)


def test_esci_in_its_published_files(checkpoints, tmp_path, monkeypatch):
    as_esci(tmp_path, tmp_path / "data")
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "data"))
    outcome = run(SEARCH, tmp_path, dataset="esci", model=str(checkpoints["bert"]))
    check_ran(outcome, Path("esci"))
    tables = ["".join(output.get("data", {}).get("text/html", "")) for output in outputs(outcome)]
    assert any("judged@10" in table and "MRR@10" in table for table in tables)
