"""Own tables in every state that users' files come in, and the real reviews."""

import hashlib
import io
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lib.datasets.labels import parse_label, read_labels
from recsys_lib.datasets.market import make_market
from recsys_lib.datasets.registry import find_dataset
from recsys_lib.datasets.reviews import Reviews, load_reviews
from recsys_lib.datasets.tables import INVISIBLE, read_table
from recsys_lib.workbook import InputError

needs_clothing = pytest.mark.skipif(
    find_dataset("clothing") is None, reason="clothing is not on this machine (make data)"
)


def good_table(n: int = 60) -> pd.DataFrame:
    """n distinct reviews of 20 products, a third of them negative, with ratings that agree."""
    number = np.arange(n)
    negative = number % 3 == 0
    return pd.DataFrame(
        {
            "text": [
                f"review {i}: the {'seam broke' if negative[i] else 'fit is fine'}" for i in number
            ],
            "label": (~negative).astype(int),
            "rating": np.where(negative, 2, 5),
            "product": [f"P{i % 20}" for i in number],
            "city": [("Oslo", "Lima")[i % 2] for i in number],
        }
    )


@pytest.fixture
def save(tmp_path):
    """Write a frame, a text or bytes to a file and return its path."""

    def write(content, name="own.csv", **options):
        path = tmp_path / name
        if isinstance(content, pd.DataFrame):
            if name.endswith(".parquet"):
                content.to_parquet(path)
            else:
                content.to_csv(
                    path, index=False, sep="\t" if name.endswith("tsv") else ",", **options
                )
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def one_line(caught) -> str:
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500, message
    return message


@pytest.mark.parametrize("name", ["own.csv", "own.tsv", "own.parquet"])
def test_a_good_table_comes_back_whole(save, name):
    table = good_table()
    reviews = load_reviews(save(table, name), group="product", sensitive="city")
    assert reviews.name == name
    assert reviews.notes == ()
    assert reviews.frame["text"].tolist() == table["text"].tolist()
    assert reviews.frame["label"].tolist() == table["label"].tolist()
    assert reviews.frame["label"].dtype == np.int8
    assert reviews.frame["group"].tolist() == table["product"].tolist()
    assert reviews.frame["sensitive"].tolist() == table["city"].tolist()
    assert reviews.frame["row"].tolist() == list(range(60))
    assert reviews.frame["rating"].tolist() == table["rating"].tolist()


def test_the_fingerprint_is_of_the_content_not_of_the_format(save):
    table = good_table()
    prints = {
        load_reviews(save(table, f"a.{kind}")).fingerprint for kind in ("csv", "tsv", "parquet")
    }
    table.loc[5, "text"] += "!"
    prints.add(load_reviews(save(table, "b.csv")).fingerprint)
    assert len(prints) == 2


def test_the_users_file_is_only_read(save):
    path = save(good_table())
    path.chmod(0o444)
    before = (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
    load_reviews(path, label="rating >= 4")
    assert (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) == before
    assert [entry.name for entry in path.parent.iterdir()] == ["own.csv"]


def test_without_a_group_every_distinct_text_is_its_own(save):
    table = good_table()
    table.loc[7, "text"] = table.loc[3, "text"]
    reviews = load_reviews(save(table))
    groups = reviews.frame["group"]
    assert groups[7] == groups[3]
    assert groups.nunique() == 59
    assert any("no group column" in note for note in reviews.notes)


def test_rows_without_a_group_stand_alone(save):
    table = good_table()
    table.loc[[1, 2], "product"] = [None, " "]
    reviews = load_reviews(save(table), group="product")
    assert (reviews.frame["group"].value_counts()[reviews.frame["group"][[1, 2]]] == 1).all()
    assert '2 rows without "product" count as groups of their own' in reviews.notes


def test_limit_chooses_by_seed_and_keeps_the_order(save):
    path = save(good_table(200))
    first, again = (load_reviews(path, limit=60, seed=3) for _ in range(2))
    other = load_reviews(path, limit=60, seed=4)
    assert first.frame["row"].tolist() == again.frame["row"].tolist()
    assert first.frame["row"].is_monotonic_increasing and len(first) == 60
    assert first.frame["row"].tolist() != other.frame["row"].tolist()


# Labels


@pytest.mark.parametrize(
    ("no", "yes"),
    [(0, 1), (0.0, 1.0), (False, True), ("false", "TRUE"), ("No", "yes"), ("n", "Y"), ("0", "1.0")],
)
@pytest.mark.parametrize("name", ["own.csv", "own.parquet"])
def test_labels_of_every_kind(save, no, yes, name):
    table = good_table()
    expected = table["label"].tolist()
    table["label"] = pd.Series([yes if label else no for label in expected])
    assert load_reviews(save(table, name)).frame["label"].tolist() == expected


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("stars >= 4", [0, 1, 1, None]),
        ("stars>4", [0, 0, 1, None]),
        ("stars == 4.0", [0, 1, 0, None]),
        ("stars != 4", [1, 0, 1, None]),
        ("stars <= -1e0", [0, 0, 0, None]),
        ("stars < 4", [1, 0, 0, None]),
        ("mood == 'glad'", [0, 1, None, 0]),
        ('mood != "glad"', [1, 0, None, 1]),
        ("my column == 1", [1, 0, 1, 0]),
        ("`a>b` == 1", [0, 0, 1, 1]),
        ("ok == 1", [1, 1, 0, 0]),
    ],
)
def test_rules(rule, expected):
    table = pd.DataFrame(
        {
            "stars": ["1", "4", "5", None],
            "mood": ["sad", "glad", None, "so so"],
            "my column": [1, 0, 1, 0],
            "a>b": [0, 0, 1, 1],
            "ok": [True, True, False, False],
        }
    )
    found = parse_label(table, rule)
    assert found.dtype == "Int8"
    assert [None if pd.isna(value) else int(value) for value in found] == expected


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("stars >= four", "no number and not in quotes"),
        ("stars >= 4 and stars < 5", "is no number"),
        ("stars = 4", "equality is written =="),
        ("stars >= '4'", "only be compared with == or !="),
        ("star >= 4", 'Did you mean "stars"'),
        ("mood >= 4", "row 0 of the table holds 'sad', which is no number"),
        (">= 4", "is not a rule"),
        ("__import__('os').system('true') == 1", 'no label column "__import__'),
        ("stars >= (lambda: 4)()", "is no number"),
    ],
)
def test_what_is_no_rule(rule, said):
    table = pd.DataFrame({"stars": [1, 5], "mood": ["sad", "glad"]})
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        read_labels(table, rule)
    one_line(caught)


@given(
    st.lists(st.one_of(st.none(), st.integers(-9, 9)), min_size=1, max_size=20),
    st.sampled_from(["==", "!=", ">=", "<=", ">", "<"]),
    st.integers(-9, 9),
)
@settings(max_examples=60)
def test_a_rule_agrees_with_pandas_query(numbers, sign, limit):
    frame = pd.DataFrame({"stars": pd.array(numbers, dtype="Int64")})
    found = parse_label(frame, f"stars {sign} {limit}")
    assert found.isna().tolist() == frame["stars"].isna().tolist()
    known = frame.dropna()
    chosen = set(known.query(f"stars {sign} {limit}").index)
    assert set(found.index[(found == 1).fillna(False).astype(bool)]) == chosen


@given(st.text(max_size=30))
@settings(max_examples=200)
def test_no_rule_crashes_or_runs(rule):
    frame = pd.DataFrame({"stars": [1, 5]})
    try:
        found = read_labels(frame, rule)
    except InputError as error:
        assert str(error)
    else:
        assert set(found.dropna()) <= {0, 1}


def test_labels_that_are_neither_suggest_a_rule(save):
    with pytest.raises(InputError, match='"rating >= 5"') as caught:
        load_reviews(save(good_table()), label="rating")
    assert "'5', '2'" in one_line(caught)
    table = good_table()
    table["label"] = np.where(table["label"] == 1, "positive", "negative")
    with pytest.raises(InputError, match="label == 'positive'"):
        load_reviews(save(table))
    fixed = load_reviews(save(table), label="label == 'positive'")
    assert fixed.frame["label"].sum() == 40


def test_missing_labels_are_left_out_and_told(save):
    table = good_table().astype({"label": object})
    table.loc[[0, 9], "label"] = [None, "NaN"]
    reviews = load_reviews(save(table))
    assert len(reviews) == 58
    assert "2 of 60 rows have no label and were left out" in reviews.notes


@pytest.mark.parametrize("label", ["label", "rating > 9"])
def test_one_class_only(save, label):
    table = good_table()
    table["label"] = 1
    with pytest.raises(InputError, match="two classes") as caught:
        load_reviews(save(table), label=label)
    one_line(caught)


def test_a_label_that_is_too_rare(save):
    table = good_table()
    table["label"] = (np.arange(60) > 2).astype(int)
    with pytest.raises(InputError, match="only 3 rows with label 0"):
        load_reviews(save(table))


# Bad files


def test_ten_rows_are_too_few(save):
    with pytest.raises(InputError, match=r"own\.csv has only 10 rows") as caught:
        load_reviews(save(good_table(10)))
    one_line(caught)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"text": "txt"}, 'no text column "txt".*Did you mean "text"'),
        ({"text": "TEXT"}, 'no text column "TEXT".*Did you mean "text"'),
        ({"label": "lable"}, 'no label column "lable".*Did you mean "label"'),
        ({"label": "ratng >= 4"}, 'no label column "ratng".*Did you mean "rating"'),
        ({"group": "produkt"}, 'no group column "produkt".*Did you mean "product"'),
        ({"sensitive": "town"}, 'no sensitive column "town"; it has "text", "label"'),
    ],
)
def test_a_misnamed_column_names_the_nearest(save, options, said):
    with pytest.raises(InputError, match=said) as caught:
        load_reviews(save(good_table()), **options)
    one_line(caught)


def test_a_line_break_in_a_columns_name_breaks_no_message(save):
    with pytest.raises(InputError, match='it has "text", "label a", "b"') as caught:
        load_reviews(save(b'text,"label\na",b\nfine,1,2\n'))
    one_line(caught)


@pytest.mark.parametrize("content", [b"", b"  \n \n", b"text,label\n"])
def test_an_empty_file(save, content):
    with pytest.raises(InputError, match=r"empty|no rows") as caught:
        load_reviews(save(content))
    one_line(caught)


def test_an_empty_parquet_table(save):
    with pytest.raises(InputError, match="no rows"):
        load_reviews(save(good_table().head(0), "own.parquet"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04" + bytes(200), "Excel"),
        (b"%PDF-1.7\n%...", "a PDF"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a picture"),
        (b"PAR1" + bytes(50), "a Parquet file"),
        (b"\x1f\x8b" + bytes(50), "gzip"),
        (bytes(range(256)) * 20, "is not text|no text column"),
        (b"\x00\x01\x02\x00\x00\x03" * 100, "is not text"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML or JSON"),
        (b'{"text": ["a"], "label": [1]}', "HTML or JSON"),
        (b'[{"text": "a", "label": 1}]', "HTML or JSON"),
        (b"Dear shop,\nI write to you about\nthe shoes.\n", 'no text column "text"'),
        (b"text,label\na,1\nb,1,2,3\n", "not a proper table.*line 3"),
        (b'text,label\n"a,1\nb,0\nc,1\n', "not a proper table"),
        (b"text,label\na,1,x\nb,0,y\n", "not a proper table"),
        (b"text,label,text\na,1,b\n", 'two columns called "text"'),
        (b"\xff\xfet\x00e\x00x", "broken at byte"),
        (b"\xef\xbb\xbf\n", "is empty"),
        (b"x" * 200_000, "not a proper table.*field limit|no text column"),
    ],
)
def test_a_file_that_is_no_table(save, content, said):
    with pytest.raises(InputError, match=said) as caught:
        load_reviews(save(content))
    assert "own.csv" in one_line(caught)


@pytest.mark.parametrize("content", [b"text,label\na,1\n", b"PAR1" + bytes(20), b""])
def test_a_parquet_file_that_is_none(save, content):
    with pytest.raises(InputError, match=r"not a Parquet file|is empty") as caught:
        load_reviews(save(content, "own.parquet"))
    one_line(caught)


def test_a_truncated_parquet_file(save):
    whole = save(good_table(), "whole.parquet").read_bytes()
    with pytest.raises(InputError, match="cut short"):
        load_reviews(save(whole[: len(whole) // 2], "own.parquet"))


def test_a_folder_and_a_missing_file(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        load_reviews(tmp_path / "folder.csv")
    with pytest.raises(InputError, match="is a folder"):
        load_reviews(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        load_reviews(tmp_path / "nowhere.csv")
    with pytest.raises(InputError, match=r"must end in \.csv"):
        load_reviews(tmp_path / "own.xlsx")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("clothin", 'Did you mean "clothing"'),
        ("markt", 'Did you mean "market"'),
        ("fashion", "holds no reviews"),
        ("qqq", 'not one of "market", "clothing"'),
    ],
)
def test_an_unknown_data_set(name, said):
    with pytest.raises(InputError, match=said) as caught:
        load_reviews(name)
    one_line(caught)


def test_clothing_that_is_not_here(monkeypatch, tmp_path):
    monkeypatch.delenv("RECSYS_DATA", raising=False)
    monkeypatch.setenv("RECSYS_RUNS", str(tmp_path))
    with pytest.raises(InputError, match="make data"):
        load_reviews("clothing")


def test_clothing_that_is_another_file(monkeypatch, tmp_path):
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path))
    (tmp_path / "clothing").mkdir()
    name = "Womens Clothing E-Commerce Reviews.csv"
    (tmp_path / "clothing" / name).write_text("text,label\n", encoding="utf-8")
    with pytest.raises(InputError, match="SHA-256 differs"):
        load_reviews("clothing")


# Encodings and separators


@pytest.mark.parametrize(
    ("encoding", "noted"),
    [
        ("utf-8", False),
        ("utf-8-sig", False),
        ("utf-16", False),
        ("utf-16-le", True),
        ("utf-16-be", True),
        ("cp1252", True),
        ("latin-1", True),
    ],
)
def test_every_usual_encoding(save, encoding, noted):
    table = good_table()
    table.loc[4, "text"] = "très joli, «coupe» parfaite"
    content = table.to_csv(index=False).encode(encoding)
    reviews = load_reviews(save(content), group="product")
    assert reviews.frame["text"][4] == "très joli, «coupe» parfaite"
    assert len(reviews.notes) == noted


def test_windows_quotes_and_the_bytes_windows_leaves_open(save):
    content = good_table().to_csv(index=False).encode()
    content = content.replace(b"review 4:", b"a \x93nice\x94 \x80 5 \x81 \xe9")
    reviews = load_reviews(save(content), group="product")
    assert reviews.frame["text"][4].startswith("a “nice” € 5   é")
    assert any("Windows-1252" in note for note in reviews.notes)
    assert any("control characters" in note for note in reviews.notes)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_another_separator_is_seen_and_told(save, separator):
    content = good_table().to_csv(index=False, sep=separator)
    reviews = load_reviews(save(content), group="product")
    assert len(reviews) == 60
    assert any("separated by" in note for note in reviews.notes)


def test_line_breaks_quotes_and_separators_inside_a_text(save):
    table = good_table()
    table.loc[4, "text"] = 'she said "no",\nthen; left\r\n\tfast'
    for name in ("own.csv", "own.tsv", "own.parquet"):
        reviews = load_reviews(save(table, name), group="product")
        assert reviews.frame["text"][4].replace("\r\n", "\n") == (
            'she said "no",\nthen; left\n\tfast'
        )


def test_white_space_around_column_names(save):
    content = good_table().to_csv(index=False).replace("text,label", " text , label", 1)
    assert len(load_reviews(save(content))) == 60


# Odd texts


@pytest.mark.parametrize("name", ["own.csv", "own.parquet"])
def test_blank_texts_are_left_out_and_told(save, name):
    table = good_table()
    table.loc[[0, 1, 2, 3, 4], "text"] = [None, "", "   ", "NaN", "\u200b\u00a0"]
    reviews = load_reviews(save(table, name), group="product")
    assert reviews.frame["row"].tolist() == list(range(5, 60))
    assert reviews.notes == ("5 of 60 rows have no text and were left out",)


def test_control_characters_become_spaces_and_emoji_stay(save):
    table = good_table()
    table.loc[4, "text"] = "lovely\x07dress\x1b[31m 😍👗🏽 \x00end"
    table.loc[5, "text"] = "😡😡"
    reviews = load_reviews(save(table, "own.parquet"), group="product")
    assert reviews.frame["text"][4] == "lovely dress [31m 😍👗🏽  end"
    assert reviews.frame["text"][5] == "😡😡"
    assert reviews.notes == (
        "1 row has control characters in the text; a space stands for each now (first: row 4)",
    )


def test_a_nul_in_a_csv_ends_no_field(save):
    content = good_table().to_csv(index=False).replace("review 4:", "re\0view 4:")
    reviews = load_reviews(save(content), group="product")
    assert reviews.frame["text"][4].endswith("view 4: the fit is fine")
    assert len(reviews) == 60


def test_a_text_of_a_megabyte(save):
    table = good_table()
    table.loc[4, "text"] = "word " * 200_000 + "end"
    reviews = load_reviews(save(table), group="product")
    assert len(reviews.frame["text"][4]) == 1_000_003
    assert "longest: row 4, 1,000,003" in reviews.notes[0]


def test_markup_in_a_text_is_only_text(save):
    table = good_table()
    table.loc[4, "text"] = "<script>alert('x')</script>"
    reviews = load_reviews(save(table), group="product")
    assert reviews.frame["text"][4] == "<script>alert('x')</script>"


def test_copies_are_told_with_both_labels_and_kept(save):
    table = good_table()
    table.loc[[10, 11], "text"] = table.loc[3, "text"]
    reviews = load_reviews(save(table), group="product")
    assert len(reviews) == 60
    assert (
        "2 rows repeat the text of an earlier row (first: row 10 repeats row 3)"
        in (reviews.notes[0])
    )
    assert "1 of these texts stand there with both labels" in reviews.notes[0]


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=40),
        min_size=60,
        max_size=80,
    )
)
@settings(max_examples=40)
def test_any_texts_survive_csv_or_are_reported(tmp_path_factory, texts):
    table = pd.DataFrame({"text": texts, "label": np.arange(len(texts)) % 2})
    path = tmp_path_factory.mktemp("any") / "own.csv"
    buffer = io.StringIO()
    table.to_csv(buffer, index=False, quoting=1)
    path.write_bytes(buffer.getvalue().encode())
    try:
        reviews = load_reviews(path)
    except InputError as error:
        assert "at least" in str(error) or "only" in str(error)
        return
    assert isinstance(reviews, Reviews)
    dropped = len(texts) - len(reviews)
    assert (dropped > 0) == any("have no text" in note for note in reviews.notes)
    for row, text in zip(reviews.frame["row"], reviews.frame["text"], strict=True):
        if texts[row].isprintable():
            assert text == texts[row].strip(INVISIBLE)


def test_read_table_keeps_parquet_types(save):
    frame, notes = read_table(save(good_table(), "own.parquet"))
    assert pd.api.types.is_integer_dtype(frame["label"])
    assert notes == []


# The real thing


@needs_clothing
def test_clothing_is_what_its_card_says():
    reviews = load_reviews("clothing")
    frame = reviews.frame
    assert len(frame) == 22_641  # 23,486 rows less 845 without a text
    assert "845 of 23,486 rows have no text and were left out" in reviews.notes
    assert frame["row"].max() == 23_485
    assert round(frame["label"].mean(), 4) == 0.8189
    assert frame["group"].nunique() == 1_179
    assert frame["text"][0].startswith("Absolutely wonderful - silky")  # no title, no ". "
    assert frame["text"][2].startswith("Some major design flaws. I had such high hopes")
    assert frame["rating"].between(1, 5).all() and frame["age"].between(18, 99).all()
    assert frame["department"].nunique() == 6


@needs_clothing
def test_clothing_takes_another_label_and_group():
    reviews = load_reviews("clothing", label="rating >= 5", group="department", sensitive="age")
    assert reviews.frame["label"].mean() == (reviews.frame["rating"] == 5).mean()
    assert "Tops" in set(reviews.frame["group"])
    assert reviews.frame["sensitive"][0] == "33"


def test_market_reviews_have_the_same_columns():
    reviews = load_reviews("market", seed=3)
    market = make_market(3)
    assert reviews.name == "market"
    assert reviews.frame["text"].tolist() == market.reviews["text"].tolist()
    assert reviews.frame["label"].tolist() == market.reviews["label"].tolist()
    assert reviews.frame["group"].tolist() == market.reviews["product_id"].astype(str).tolist()
    assert set(reviews.frame["department"]) <= set(market.products["department"])
    assert {"rating", "age", "review_id"} <= set(reviews.frame.columns)
    assert reviews.fingerprint != load_reviews("market", seed=4).fingerprint
