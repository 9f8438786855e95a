"""Recorded numbers: kept, shown, and held against bands that a changed number leaves."""

import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from recsys_lib.workbook import Book, compare, detect_hardware, results, runs_folder
from recsys_lib.workbook.settings import Settings

FINITE = st.floats(-1e6, 1e6)


@dataclass(frozen=True)
class Estimate:
    value: float
    low: float
    high: float
    level: float = 0.95
    n: int = 100
    units: int = 10
    method: str = "bootstrap"


@pytest.fixture
def book() -> Book:
    machine = detect_hardware()
    return Book(
        Settings(
            notebook="90_sample",
            profile="quick",
            dataset="market",
            seed=0,
            model="all-MiniLM-L6-v2",
            device=machine.device,
            precision=machine.precision,
            runs=runs_folder(),
            data=None,
        )
    )


@pytest.fixture
def bands(monkeypatch, tmp_path):
    """Write the expected results of the sample notebook."""

    def write(expected: dict, key: str = "market-quick") -> None:
        file = tmp_path / "tests" / "expected" / "90_sample.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"bands": {key: expected}}), encoding="utf-8")

    monkeypatch.setattr(results, "project_folder", lambda: tmp_path)
    return write


def _saved(book: Book) -> dict:
    path = results.results_file(book.settings)
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (0.25, 0.25),
        (3, 3),
        (True, True),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.bool_(False), False),
        (torch.tensor(1.5), 1.5),
        (math.nan, None),
        (math.inf, None),
    ],
)
def test_numbers_of_any_kind_are_kept_plain(book, capsys, value, kept):
    book.record("x", value)
    book.results()
    entry = _saved(book)["results"]["x"]
    assert entry == {"value": kept}
    assert type(entry["value"]) is type(kept)


def test_an_estimate_keeps_its_interval(book, capsys):
    book.record("test/auc", Estimate(0.9714, 0.9651, 0.9774), unit="AUC", note="by product")
    book.results()
    assert _saved(book)["results"]["test/auc"] == {
        "value": 0.9714,
        "low": 0.9651,
        "high": 0.9774,
        "level": 0.95,
        "n": 100,
        "units": 10,
        "method": "bootstrap",
        "unit": "AUC",
        "note": "by product",
    }
    printed = capsys.readouterr().out
    assert "0.971 AUC  [0.965, 0.977]" in printed
    assert "by product" in printed


@pytest.mark.parametrize("name", ["", "a b", "/a", "a/", "a//b", "<b>"])
def test_a_bad_name_is_refused(book, name):
    with pytest.raises(ValueError, match="words joined"):
        book.record(name, 1)


@pytest.mark.parametrize("value", ["0.9", None, [1.0], 1j])
def test_what_is_not_a_number_is_refused(book, value):
    with pytest.raises(ValueError, match=r'record\("x"\)'):
        book.record("x", value)


def test_the_same_name_again_replaces(book):
    book.record("x", 1)
    book.record("x", 2)
    assert book.payload()["results"] == {"x": {"value": 2}}


def test_two_equal_runs_give_the_same_payload(book):
    other = replace(book, numbers={}, started=0.0)
    for each in (book, other):
        each.record("x", 0.1)
    assert json.dumps(book.payload()) == json.dumps(other.payload())


def test_runs_do_not_overwrite_each_other(book, tmp_path):
    settings = [
        replace(book.settings, dataset=dataset, profile=profile, seed=seed)
        for dataset in ("market", "clothing", "/a/own.csv", "/b/own.csv")
        for profile in ("quick", "full")
        for seed in (0, 1)
    ]
    files = {results.results_file(one) for one in settings}
    assert len(files) == len(settings)
    assert all(file.parent == runs_folder() / "results" / "90_sample" for file in files)


def test_in_a_notebook_the_display_carries_the_numbers_and_escapes_texts(book, bands):
    bands({"x": {"value": 0.5, "tolerance": 0.1}})
    book.record("x", 0.5, note="<script>alert(1)</script>")
    book.settings.__dict__["dataset"] = "market"
    shell = InteractiveShell.instance()
    try:
        with capture_output() as captured:
            book.results()
    finally:
        shell.clear_instance()
    (output,) = captured.outputs
    assert set(output.data) == {"text/plain", "text/html", results.MIME_TYPE}
    assert output.data[results.MIME_TYPE] == book.payload()
    assert "<script" not in output.data["text/html"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in output.data["text/html"]
    assert "0.500" in output.data["text/plain"]
    assert "1 of 1 compared numbers are in their expected band." in output.data["text/plain"]


def test_an_own_tables_folder_is_not_told(book):
    own = Book(replace(book.settings, dataset="/home/ada/<i>own</i>.csv"))
    assert "ada" not in json.dumps(own.payload())
    assert "<i>" not in results._as_html(own.payload(), None)


def test_a_changed_number_is_named(book, bands, capsys):
    bands({"x": {"value": 0.5, "tolerance": 0.01}, "y": {"at_least": 2}, "gone": {"at_most": 1}})
    book.record("x", 0.52)
    book.record("y", 2.5)
    book.record("new", 1)
    book.results()
    printed = capsys.readouterr().out
    assert "1 of 3 compared numbers are in their expected band." in printed
    assert "Outside: x, gone." in printed
    assert "Without a band: new." in printed
    assert "✗ 0.50 ± 0.01" in printed
    assert "✓ ≥ 2" in printed


@pytest.mark.parametrize("changes", [{"seed": 1}, {"profile": "full"}, {"dataset": "/a/own.csv"}])
def test_other_runs_are_not_compared(book, bands, changes):
    bands({"x": {"value": 0.5, "tolerance": 0.01}})
    assert Book(replace(book.settings, **changes)).compare() is None


def test_a_notebook_without_bands_is_not_compared(book, bands):
    assert book.compare() is None
    assert results.expected_results("90_sample", "market", "quick") is None


@pytest.mark.parametrize(
    ("value", "band", "ok"),
    [
        (0.51, {"value": 0.5, "tolerance": 0.01}, True),
        (0.5101, {"value": 0.5, "tolerance": 0.01}, False),
        (0.0, {"value": 0.001, "tolerance": 0.0005}, False),  # small numbers count as well
        (3, {"value": 3, "tolerance": 0}, True),
        (4, {"value": 3, "tolerance": 0}, False),
        (True, {"value": True}, True),
        (False, {"value": True}, False),
        (1, {"value": True}, False),
        (None, {"value": 0.5, "tolerance": 9}, False),
        (None, {"at_least": 0}, False),
        (None, {"any": "a time"}, True),
        (5.0, {"at_least": 5}, True),
        (4.9, {"at_least": 5}, False),
        (1e-9, {"at_most": 1e-8}, True),
        (1e-7, {"at_most": 1e-8}, False),
        (0.5, {"at_least": 0.4, "at_most": 0.6}, True),
        (0.7, {"at_least": 0.4, "at_most": 0.6}, False),
    ],
)
def test_bands(value, band, ok):
    assert results.in_band(value, band) is ok
    table = compare({"x": {"value": value}}, {"x": band})
    assert table["ok"].tolist() == [ok]


@pytest.mark.parametrize("band", [{}, {"why": "a"}, {"values": 1}, {"any": "x", "least": 2}])
def test_a_band_that_says_nothing_is_an_error(band):
    with pytest.raises(ValueError, match="band"):
        results.in_band(1.0, band)


@given(value=FINITE, tolerance=st.floats(0, 1e3), distance=st.floats(0, 2e3))
def test_a_number_is_in_its_band_exactly_up_to_the_tolerance(value, tolerance, distance):
    if math.isclose(distance, tolerance, rel_tol=1e-6, abs_tol=1e-6):
        return  # rounding decides
    band = {"value": value, "tolerance": tolerance}
    for moved in (value + distance, value - distance):
        assert results.in_band(moved, band) is (distance < tolerance)


@given(value=FINITE, width=st.floats(1e-6, 1e3))
def test_a_proposed_band_holds_its_number_and_not_its_interval(value, width):
    entry = {"value": value, "low": value - width, "high": value + width}
    band = results.proposed_band(entry)
    assert results.in_band(value, band)
    if width > 1e-4 * abs(value):
        assert not results.in_band(value + width, band)


def test_proposed_bands_of_counts_and_verdicts_are_exact():
    assert not results.in_band(5, results.proposed_band({"value": 4}))
    assert not results.in_band(False, results.proposed_band({"value": True}))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.97143, "0.971"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (23486, "23,486"),
        (1e-9, "1.0e−09"),
        (-0.5, "−0.500"),
        (-1200, "−1,200"),
        (0.0, "0"),
        (True, "yes"),
        (None, "undefined"),
    ],
)
def test_numbers_are_printed_for_people(value, text):
    assert results.format_number(value) == text


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ((0.97143, 0.96512, 0.97731), ("0.971", "[0.965, 0.977]")),
        ((10.87, 8.843, 12.9), ("10.9", "[8.8, 12.9]")),
        ((-0.00065, -0.034, 0.03), ("−0.001", "[−0.034, 0.030]")),
        ((-0.0001, -0.034, 0.03), ("0.000", "[−0.034, 0.030]")),
        ((-0.00061, -0.00162, 0.00048), ("−0.0006", "[−0.0016, 0.0005]")),
        ((1e-7, 0.5e-7, 2e-7), ("1.0e−07", "[5.0e−08, 2.0e−07]")),
        ((1502.4, 1400.0, 1600.0), ("1,502", "[1,400, 1,600]")),
        ((0.5, 0.5, 0.5), ("0.500", "[0.500, 0.500]")),
        ((12, 10, 15), ("12.0", "[10.0, 15.0]")),
        ((0.5, None, 0.6), ("0.500", "[undefined, 0.600]")),
    ],
)
def test_a_number_and_its_interval_have_the_same_decimals(entry, text):
    assert results.format_interval(*entry) == text


@pytest.mark.parametrize(
    ("band", "text"),
    [
        ({"value": 0.96312, "tolerance": 0.008}, "0.963 ± 0.008"),
        ({"value": 0.015, "tolerance": 0.00029}, "0.01500 ± 0.00029"),
        ({"value": -0.067, "tolerance": 0.25}, "−0.07 ± 0.25"),
        ({"value": 9900.0, "tolerance": 100.0}, "9,900 ± 100"),
        ({"value": 0.375, "tolerance": 0}, "0.375 ± 0"),
        ({"value": 30, "tolerance": 2}, "30 ± 2"),
        ({"at_least": -0.5, "at_most": 1e-8}, "≥ −0.500, ≤ 1.0e−08"),
    ],
)
def test_a_band_in_words(band, text):
    assert results.band_text(band) == text
