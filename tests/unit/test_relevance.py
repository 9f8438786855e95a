"""Search tasks in one form: parts share nothing, grades agree, broken input is one line."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_lib.datasets.leaks import jaccard, shingles
from recsys_lib.datasets.market import make_market
from recsys_lib.datasets.relevance import (
    BUILT_IN,
    NOT_JUDGED,
    build_relevance,
    load_relevance,
    market_relevance,
    table_relevance,
)
from recsys_lib.workbook import InputError, memory

WORDS = ["red", "blue", "shoe", "hat", "for", "rain", "sun", "day", "night", "old", "new"]
WORDS += ["wool", "silk", "long", "short", "big", "small"]


def tables(n_queries: int = 60, n_products: int = 12, seed: int = 0):
    """A small catalog, queries of three to six random words, and three judgements each."""
    random = np.random.default_rng(seed)
    products = pd.DataFrame(
        {
            "product_id": [f"p{i}" for i in range(n_products)],
            "text": [f"item {i}" for i in range(n_products)],
        }
    )
    texts = [" ".join(random.choice(WORDS, random.integers(3, 7))) for _ in range(n_queries)]
    queries = pd.DataFrame({"query_id": np.arange(n_queries), "text": texts})
    judgements = pd.DataFrame(
        [
            (query, f"p{product}", grade)
            for query in range(n_queries)
            for grade, product in enumerate(random.choice(n_products, 3, replace=False))
        ],
        columns=["query_id", "product_id", "grade"],
    )
    return products, queries, judgements


def build(products, queries, judgements, **options):
    options = {"complete": False} | options
    return build_relevance("shop", products, queries, judgements, **options)


def refused(*arguments, **options) -> str:
    with pytest.raises(InputError) as caught:
        build(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check_form(task) -> None:
    """What `Relevance` promises about every task."""
    products, queries, judgements = task.products, task.queries, task.judgements
    assert products["product_id"].is_unique and queries["query_id"].is_unique
    for column in (products["name"], products["text"], queries["text"]):
        assert (column.str.strip() != "").all()
    assert set(queries["part"]) == {"train", "valid", "test"}
    assert not judgements.duplicated(["query_id", "product_id"]).any()
    assert judgements["query_id"].isin(queries["query_id"]).all()
    assert judgements["product_id"].isin(products["product_id"]).all()
    assert queries["query_id"].isin(judgements["query_id"]).all()
    assert judgements["grade"].dtype == np.int8 and judgements["grade"].between(0, 10).all()


def check_nothing_shared(queries: pd.DataFrame) -> None:
    """By brute force over all pairs: no group, no text, no near-duplicate stands in two parts."""
    by_part = dict(list(queries.groupby("part")))
    for earlier, later in (("train", "valid"), ("train", "test"), ("valid", "test")):
        one, other = by_part[earlier], by_part[later]
        assert not set(one["group"]) & set(other["group"])
        found = [shingles(text) for text in one["text"]]
        for text in other["text"]:
            mine = shingles(text)
            # At 0.8 itself the index may miss a pair (1 % at most); above it practically never.
            assert max(jaccard(mine, theirs) for theirs in found) < 0.85, text


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**31), st.integers(0, 30))
def test_no_part_repeats_another(seed, copies):
    products, queries, judgements = tables(120, seed=seed)
    random = np.random.default_rng(seed)
    for target in random.choice(120, copies, replace=False):  # copies, some shouted, some longer
        text = queries["text"].iloc[random.integers(120)]
        queries.loc[target, "text"] = random.choice([text, text.upper(), f"{text} please"])
    task = build(products, queries, judgements, seed=seed % 100)
    check_form(task)
    check_nothing_shared(task.queries)


def test_groups_are_never_parted():
    products, queries, judgements = tables(120)
    queries["group"] = [f"g{i // 4}" for i in range(120)]
    task = build(products, queries, judgements)
    assert (task.queries.groupby("group")["part"].nunique() == 1).all()


def test_the_same_seed_gives_the_same_task_and_another_one_other_parts():
    first, again, other = (build(*tables(), seed=seed) for seed in (1, 1, 2))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    pd.testing.assert_frame_equal(first.queries, again.queries)
    pd.testing.assert_frame_equal(first.judgements, again.judgements)


@pytest.mark.parametrize("change", ["name", "text", "query", "grade", "complete"])
def test_the_fingerprint_notices(change):
    products, queries, judgements = tables()
    products["name"] = products["text"]
    before = build(products, queries, judgements).fingerprint
    if change in ("name", "text"):
        products.loc[3, change] = "another"
    elif change == "query":
        queries.loc[5, "text"] = "a query unlike all others here"
    elif change == "grade":
        judgements.loc[4, "grade"] = 7
    after = build(products, queries, judgements, complete=change == "complete").fingerprint
    assert before != after


def test_a_task_cannot_be_changed_by_accident():
    task = build(*tables())
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.name = "other"


def test_the_inputs_are_left_as_they_are():
    given = tables()
    before = [frame.copy() for frame in given]
    build(*given)
    for frame, copy in zip(given, before, strict=True):
        pd.testing.assert_frame_equal(frame, copy)


def test_given_parts_are_kept_and_validation_is_cut_from_train():
    products, queries, judgements = tables(100)
    queries["text"] = [
        f"{text} number {i} of many {i * i}" for i, text in enumerate(queries["text"])
    ]
    queries["part"] = np.where(np.arange(100) < 60, "train", "test")
    task = build(products, queries, judgements)
    assert set(task.part("test")["query_id"]) == set(range(60, 100))
    assert set(task.part("train")["query_id"]) | set(task.part("valid")["query_id"]) == set(
        range(60)
    )
    assert len(task.part("valid")) == 6
    queries["part"] = ["train", "valid", "test", "test"] * 25
    kept = build(products, queries, judgements).queries
    assert kept["part"].tolist() == queries["part"].tolist()


def test_a_group_in_both_published_parts_stays_in_the_test_only():
    products, queries, judgements = tables(100)
    queries["part"] = ["train", "test"] * 50
    queries["group"] = [f"g{i}" for i in range(98)] + ["g0", "g0"]
    task = build(products, queries, judgements)
    assert task.queries.loc[task.queries["group"] == "g0", "part"].tolist() == ["test"]
    assert any("left out: a later part" in note for note in task.notes)


def test_the_matrix_of_grades_is_the_table_of_judgements():
    task = build(*tables(), complete=False)
    asked = task.part("test")["query_id"].tolist()[::-1]
    matrix = task.grades(asked)
    assert matrix.shape == (len(asked), 12) and matrix.dtype == np.int8
    listed = {
        (query, product): grade
        for query, product, grade in task.judgements.itertuples(index=False, name=None)
    }
    for row, query in enumerate(asked):
        for column, product in enumerate(task.products["product_id"]):
            assert matrix[row, column] == listed.get((query, product), NOT_JUDGED)
    complete = build(*tables(), complete=True)
    assert (complete.grades() == np.maximum(task.grades(), 0)).all()
    assert (task.grades([asked[0], asked[0]]) == matrix[0]).all()


def test_a_matrix_of_grades_that_does_not_fit_is_one_line(monkeypatch):
    task = build(*tables(), complete=False)
    monkeypatch.setattr(memory, "usable_memory", lambda: 2 * 12 * 5)
    asked = task.queries["query_id"].iloc[:6]
    assert task.grades(asked[:5]).shape == (5, 12)
    with pytest.raises(InputError, match=r"shop, 6 queries × 12 products, would take .* GB"):
        task.grades(asked)
    assert len(task.judged(asked))


def test_judged_lists_what_the_matrix_of_grades_holds():
    task = build(*tables(), complete=False)
    asked = task.part("test")["query_id"].tolist()[::-1]
    rows = task.judged(asked)
    matrix = np.full((len(asked), 12), NOT_JUDGED)
    matrix[rows[:, 0], rows[:, 1]] = rows[:, 2]
    assert (matrix == task.grades(asked)).all()
    assert len(rows) == (matrix != NOT_JUDGED).sum() and (np.diff(rows[:, 0]) >= 0).all()
    assert len(task.judged()) == len(task.judgements)
    with pytest.raises(InputError, match="stands twice"):
        task.judged([asked[0], asked[0]])
    with pytest.raises(InputError, match='shop has no query "999"'):
        task.judged([999])


def test_asking_for_what_there_is_not():
    task = build(*tables())
    with pytest.raises(InputError, match='"dev" is not one of "train"'):
        task.part("dev")
    with pytest.raises(InputError, match='shop has no query "999"'):
        task.grades([999])


def test_judgements_are_in_order_best_first():
    task = build(*tables())
    place = {query: i for i, query in enumerate(task.queries["query_id"])}
    keys = [(place[q], -g) for q, _, g in task.judgements.itertuples(index=False, name=None)]
    assert keys == sorted(keys)


def test_unknown_products_and_queries_are_left_out_and_said():
    products, queries, judgements = tables()
    extra = pd.DataFrame([(0, "gone", 2), (999, "p1", 1), (0, None, 1)], columns=judgements.columns)
    task = build(products, queries, pd.concat([judgements, extra], ignore_index=True))
    said = " ".join(task.notes)
    assert "2 judgements of 183 on a product that the catalog lacks left out (first: gone)" in said
    assert "1 judgement of 183 on a query that is not listed left out (first: 999)" in said
    assert len(task.judgements) <= 180


def test_a_pair_judged_twice_gets_its_higher_grade():
    products, queries, judgements = tables()
    query, product, _ = judgements.iloc[0]
    again = pd.DataFrame(
        [(query, product, 9), (query, product, 4), tuple(judgements.iloc[1])],
        columns=judgements.columns,
    )
    task = build(products, queries, pd.concat([judgements, again], ignore_index=True))
    column = task.products["product_id"].tolist().index(product)
    assert task.grades([query])[0, column] == 9
    assert (
        "3 judgements on a pair that was judged before left out; 1 pair with different grades, "
        "the highest counts"
    ) in task.notes


def test_queries_without_judgement_go_and_without_relevance_stay():
    products, queries, judgements = tables()
    judgements = judgements[judgements["query_id"] != 7]
    judgements.loc[judgements["query_id"] == 8, "grade"] = 0
    task = build(products, queries, judgements)
    assert 7 not in set(task.queries["query_id"])
    assert "1 query without a judgement left out" in task.notes
    assert any(note.startswith("1 query without any relevant product: kept") for note in task.notes)
    assert (task.grades([8]) <= 0).all() or 8 not in set(task.queries["query_id"])


def test_ids_mean_the_same_as_numbers_and_as_texts():
    products, queries, judgements = tables()
    number = {f"p{i}": i + 0.0 for i in range(12)}
    numbered = build(
        products.assign(product_id=[str(i) for i in range(12)]),
        queries,
        judgements.assign(product_id=judgements["product_id"].map(number)),
    )
    spaced = build(
        products.assign(product_id=[f" {i}" for i in range(12)]),
        queries,
        judgements.assign(product_id=judgements["product_id"].map(lambda p: f"{p[1:]} ")),
    )
    assert spaced.fingerprint == numbered.fingerprint
    assert numbered.products["product_id"].tolist() == [str(i) for i in range(12)]
    assert (numbered.grades() == build(products, queries, judgements).grades()).all()


def test_blank_texts_repeated_rows_and_control_characters_are_mended_and_said():
    products, queries, judgements = tables()
    products = pd.concat([products, products.iloc[:2]], ignore_index=True)
    products.loc[len(products)] = ["blank", " \u200b"]
    products.loc[4, "text"] = "a\x00b"
    queries.loc[3, "text"] = "nan"
    task = build(products, queries, judgements)
    said = " ".join(task.notes)
    assert len(task.products) == 12 and "a b" in set(task.products["text"])
    assert 3 not in set(task.queries["query_id"])
    for part in (
        "1 product with control characters",
        "1 product without a text left out",
        "2 products listed again under the same id left out",
        "1 query without a text left out",
    ):
        assert part in said


def test_a_blank_name_is_filled_from_the_text_and_a_blank_text_from_the_name():
    products, queries, judgements = tables()
    products["name"] = ["", *[f"name {i}" for i in range(1, 12)]]
    products.loc[1, "text"] = None
    task = build(products, queries, judgements)
    assert task.products["name"].iloc[0] == "item 0"
    assert task.products["text"].iloc[1] == "name 1"


@pytest.mark.parametrize(
    ("grade", "said"),
    [(-1, "-1"), (11, "11"), (0.5, "0.5"), ("Exact", '"Exact"'), (None, '"None"')],
)
def test_a_grade_that_is_none_is_one_line(grade, said):
    products, queries, judgements = tables()
    judgements["grade"] = judgements["grade"].astype(object)
    judgements.loc[5, "grade"] = grade
    message = refused(products, queries, judgements)
    assert "row 5" in message and "whole numbers from 0" in message
    assert said in message


def test_what_cannot_be_mended_is_one_line():
    products, queries, judgements = tables()
    two = products.assign(product_id=["p0", "p0", *products["product_id"][2:]])
    assert '"p0" of shop stands there with two texts' in refused(two, queries, judgements)
    two = queries.assign(query_id=[0, 0, *range(2, 60)])
    assert 'query id "0" of shop stands there with two texts' in refused(products, two, judgements)
    assert "no product with an id" in refused(products.assign(text=""), queries, judgements)
    assert "no query with a text" in refused(products, queries.assign(text=" "), judgements)
    assert "holds no judgements" in refused(products, queries, judgements.iloc[:0])
    assert "every judgement of shop is 0" in refused(products, queries, judgements.assign(grade=0))
    other = judgements.assign(product_id="x" + judgements["product_id"])
    message = refused(products, queries, other)
    assert "every judgement of shop is on a product that the catalog lacks" in message
    assert "do the files belong together?" in message
    assert "'dev'" in refused(products, queries.assign(part="dev"), judgements)
    assert "too few" in refused(products, queries.iloc[:2], judgements)
    assert "limit = 0" in refused(products, queries, judgements, limit=0)
    assert 'no id column "product_id"' in refused(
        products.drop(columns="product_id"), queries, judgements
    )


def test_a_limit_leaves_queries_out_but_no_product():
    task = build(*tables(), limit=30)
    assert len(task.queries) <= 30 and len(task.products) == 12
    assert "30 of 60 queries were chosen at random (seed 0)" in task.notes


# --- the market ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def market():
    return make_market(5, n_products=300, n_queries=120, n_reviews=0, n_impressions=0)


def test_the_market_has_the_true_grade_of_every_pair(market):
    task = market_relevance(5, market=market)
    check_form(task)
    check_nothing_shared(task.queries)
    assert task.complete
    for query, grades in zip(task.queries["query_id"], task.grades(), strict=True):
        assert (grades == market.truth.relevance(query)).all()
    intent = dict(zip(market.queries["query_id"], market.truth.intents, strict=True))
    parts = {}
    for query, part in zip(task.queries["query_id"], task.queries["part"], strict=True):
        parts.setdefault(intent[query], set()).add(part)
    assert all(len(found) == 1 for found in parts.values())


def test_the_markets_pool_is_what_judges_saw(market):
    task = market_relevance(5, market=market, pooled=True)
    assert not task.complete
    kept = market.judgements[market.judgements["query_id"].isin(task.queries["query_id"])]
    assert len(task.judgements) == len(kept)
    known = task.grades() != NOT_JUDGED
    truth = market_relevance(5, market=market).grades(task.queries["query_id"])
    assert (task.grades()[known] == truth[known]).all() and not known.all()


def test_a_shopper_does_not_see_what_the_market_knows(market):
    shown = set(market_relevance(5, market=market).products.columns)
    hidden = set(market.truth.products.columns) - {"product_id"}
    assert not shown & hidden and "picture" not in shown


# --- own tables ---------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path):
    """Writes two own tables and loads them; each is given as text or bytes, or left as it is."""
    catalog = "id,text\n" + "".join(f"{i},product number {i}\n" for i in range(20))
    rows = [
        (f"find {WORDS[i % 17]} thing {i}", (i * 7 + j) % 20, j % 4)
        for i in range(60)
        for j in range(5)
    ]
    judged = "query,id,grade\n" + "".join(f"{q},{p},{g}\n" for q, p, g in rows)

    def load(catalog=catalog, judged=judged, **options):
        for name, content in (("catalog.csv", catalog), ("judged.csv", judged)):
            content = content.encode("utf-8") if isinstance(content, str) else content
            (tmp_path / name).write_bytes(content)
        return table_relevance(tmp_path / "catalog.csv", tmp_path / "judged.csv", **options)

    load.catalog, load.judged, load.rows, load.folder = catalog, judged, rows, tmp_path
    return load


def test_own_tables_are_read_as_they_stand(own):
    task = own()
    check_form(task)
    assert task.name == "catalog.csv" and not task.complete and task.notes == ()
    texts = dict(zip(task.queries["query_id"], task.queries["text"], strict=True))
    found = {(texts[q], p, g) for q, p, g in task.judgements.itertuples(index=False, name=None)}
    assert found == {(q, str(p), g) for q, p, g in own.rows}


def test_own_columns_may_have_other_names_and_files_other_kinds(own):
    pd.read_csv(own.folder / own().name).rename(columns={"id": "sku", "text": "title"}).to_parquet(
        own.folder / "shop.parquet"
    )
    judged = pd.read_csv(own.folder / "judged.csv")
    judged.rename(columns={"id": "sku", "query": "q", "grade": "rel"}).to_csv(
        own.folder / "judged.tsv", sep="\t", index=False
    )
    names = {"id": "sku", "text": "title", "query": "q", "grade": "rel"}
    task = table_relevance(own.folder / "shop.parquet", own.folder / "judged.tsv", **names)
    assert (task.grades() == own().grades()).all()


def test_a_query_with_other_spaces_is_the_same_query(own):
    twice = own.judged + "".join(f"  {q.replace(' ', '  ')} ,{p},{g}\n" for q, p, g in own.rows)
    task = own(judged=twice)
    assert len(task.queries) == len(own().queries)
    assert "300 judgements on a pair that was judged before left out" in task.notes


def test_an_encoding_that_had_to_be_guessed_is_said(own):
    task = own(catalog=own.catalog.replace("number 3\n", "numéro 3\n").encode("cp1252"))
    assert "product numéro 3" in set(task.products["text"])
    assert any("Windows-1252" in note for note in task.notes)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"catalog": ""}, "catalog.csv is empty"),
        ({"catalog": "id,text\n"}, "has a header but no rows"),
        ({"judged": "query,id,grade\n"}, "has a header but no rows"),
        ({"catalog": "sku,text\n1,a\n"}, 'catalog.csv has no id column "id"'),
        ({"judged": "query,id,grad\na,1,1\n"}, 'Did you mean "grad"'),
        ({"judged": "query,id,grade\na,1,good\n"}, 'is "good"; grades are whole numbers'),
        ({"judged": "query,id,grade\na,77,1\n"}, "do the files belong together?"),
        ({"catalog": "id,text\n1,a\n1,b\n"}, "stands there with two texts"),
        ({"judged": b"PK\x03\x04rest"}, "save the sheet as CSV"),
        ({"judged": b"\x00\x00\x01" * 50}, "is not text"),
    ],
)
def test_a_broken_own_table_is_one_line(own, broken, said):
    with pytest.raises(InputError) as caught:
        own(**broken)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_sets_are_found_by_name(own, monkeypatch, tmp_path):
    own()
    task = load_relevance(own.folder / "catalog.csv", judgements=own.folder / "judged.csv")
    assert task.fingerprint == own().fingerprint
    with pytest.raises(InputError, match='Did you mean "fashion"'):
        load_relevance("fasion")
    with pytest.raises(InputError, match="give judgements too"):
        load_relevance(own.folder / "catalog.csv")
    with pytest.raises(InputError, match="belongs to an own catalog"):
        load_relevance("market", judgements="judged.csv")
    with pytest.raises(InputError, match=r"nowhere\.csv does not exist"):
        load_relevance("nowhere.csv", judgements="judged.csv")
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "empty"))
    for name in BUILT_IN[1:]:
        with pytest.raises(InputError, match=f'"{name}" is not on this machine') as caught:
            load_relevance(name)
        assert "\n" not in str(caught.value)
