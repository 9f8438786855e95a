"""The page of what was found and the box around it: nothing of the data becomes markup."""

import base64
import contextlib
import io
from html.parser import HTMLParser

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient
from PIL import Image

from recsys_lib.datasets import make_market, product_picture
from recsys_lib.models import embed, load_encoder
from recsys_lib.search import Found, ResultPage, result_page, search_box, search_for
from recsys_lib.text import encode
from recsys_lib.workbook import InputError, project_folder


def picture(kind: str = "PNG", color: int = 200) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 8), (color, 10, 10)).save(buffer, format=kind)
    return buffer.getvalue()


def found(names, notes=(), ids=None, **columns) -> Found:
    n = len(names)
    table = pd.DataFrame({"rank": range(1, n + 1), "row": range(n), "score": 0.5})
    table["product_id"] = list(range(n)) if ids is None else ids
    table["name"] = names
    return Found(table.assign(**columns), tuple(notes))


class Reader(HTMLParser):
    """All tags, attributes and text of a page, as a browser understands them."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.attributes, self.images, self.words = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


KNOWN_TAGS = {"div", "p", "b", "span", "figure", "figcaption", "img"}
EVIL = [
    "<script>alert(1)</script>",
    '" onerror="alert(1)',
    "' onerror='alert(1)",
    "<img src=x onerror=alert(1)>",
    "</figcaption></figure></div><iframe src=https://elsewhere.example></iframe>",
    "&lt;script&gt; &amp; &#x27;",
    "<!-- ",
    '"><svg onload=alert(1)>',
]


def check_harmless(html: str) -> Reader:
    read = Reader(html)
    assert set(read.tags) <= KNOWN_TAGS
    assert {name for name, _ in read.attributes} <= {"style", "alt", "src"}
    assert all(value.startswith("data:image/") for name, value in read.attributes if name == "src")
    styles = [value for name, value in read.attributes if name == "style"]
    assert not any("url" in value or "expression" in value for value in styles)
    return read


def test_nothing_of_the_data_becomes_markup():
    """Names, notes, titles, columns and their names, product ids: all of it says what it says."""
    pages = result_page(
        found(EVIL, notes=EVIL, ids=EVIL, **{EVIL[0]: EVIL, EVIL[1]: EVIL}),
        {product: picture() for product in EVIL[:4]} | dict.fromkeys(EVIL[4:], b"<svg>"),
        title=EVIL[3],
        columns=(EVIL[0], EVIL[1]),
    )
    read = check_harmless(pages.html)
    assert [image["alt"] for image in read.images] == [f"Picture of {name}" for name in EVIL[:4]]
    for evil in EVIL:
        assert read.text.count(" ".join(evil.split())) >= 4  # name, note, 2 columns
        assert " ".join(evil.split()) in pages.text


def test_a_page_in_order_with_pictures_facts_and_notes():
    page = result_page(
        found(["navy hat", "red hat"], ["the wish is long"], price=[9.5, np.nan], stock=[3, 1_000]),
        {0: picture("JPEG"), 1: picture("PNG")},
        title="a hat",
        columns=("price", "stock", "score"),
    )
    assert (
        repr(page)
        == page.text
        == (
            "a hat\n"
            "Note: the wish is long.\n"
            "  1. navy hat (price 9.50, stock 3, score 0.500)\n"
            "  2. red hat (stock 1000, score 0.500)"
        )
    )
    assert page._repr_html_() == page.html
    read = check_harmless(page.html)
    assert read.text == (
        "a hat Note: the wish is long. 1. navy hat price 9.50 stock 3 score 0.500 "
        "2. red hat stock 1000 score 0.500"
    )
    first, second = read.images
    assert first["alt"] == "Picture of navy hat"
    kind, data = first["src"].split(";base64,")
    assert kind == "data:image/jpeg" and base64.b64decode(data) == picture("JPEG")
    assert second["src"].startswith("data:image/png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_types_of_pictures_are_told_by_their_bytes(kind):
    (image,) = Reader(result_page(found(["hat"]), {0: picture(kind)}).html).images
    assert image["src"].startswith(f"data:image/{kind.lower()};base64,")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"<html><script>alert(1)</script>",
        b"GIF8",
        b"RIFF1234WAVE",
        b"BM" + bytes(50),
        b"\x00" + picture(),
    ],
)
def test_bytes_that_are_no_picture_are_left_out_with_a_note(data):
    page = result_page(found(["hat", "bag"]), {0: data, 1: picture()})
    read = check_harmless(page.html)
    assert [image["alt"] for image in read.images] == ["Picture of bag"]
    note = "Note: the picture of 0 is no PNG, JPEG, GIF or WebP."
    assert note in read.text and note in page.text
    assert "1. hat" in read.text


def test_pictures_may_be_drawn_arrays_a_function_or_lacking():
    market = make_market(0, n_products=10, n_shoppers=1, n_queries=1, n_reviews=0, n_impressions=0)
    asked = []

    def pictures(ids):
        asked.append(ids)
        return {i: product_picture(market.products["picture"][i]) for i in ids if i < 2}

    read = Reader(result_page(found(["a", "b", "c"]), pictures).html)
    assert asked == [[0, 1, 2]]
    assert [image["alt"] for image in read.images] == ["Picture of a", "Picture of b"]
    drawn = Image.open(io.BytesIO(base64.b64decode(read.images[1]["src"].split(",")[1])))
    assert np.array_equal(np.asarray(drawn), product_picture(market.products["picture"][1]))
    assert not Reader(result_page(found(["a"])).html).images


def test_texts_are_cut_to_a_line_that_can_be_saved():
    names = [
        "two\nlines\tand\x1b[31m red\x00",
        "turned \u202etxt",
        "half \ud83d a smile",
        "family 👨‍👩‍👧",
        "long " * 100,
        None,
        "  ",
        7,
    ]
    page = result_page(found(names))
    lines = page.text.splitlines()
    assert [line.strip() for line in lines[:4]] == [
        "1. two lines and [31m red",
        "2. turned txt",
        "3. half a smile",
        "4. family 👨‍👩‍👧",
    ]
    assert len(lines[4]) <= 145 and lines[4].endswith("…")
    assert [line.strip() for line in lines[5:]] == ["6. (no name)", "7. (no name)", "8. 7"]
    page.html.encode("utf-8")
    page.text.encode("utf-8")


def test_a_page_of_nothing_says_so():
    page = result_page(found([]), {}, title="a hat")
    assert page.text == "a hat\nNote: nothing was found."
    assert "nothing was found" in Reader(page.html).text


def test_a_filtered_table_keeps_its_ranks():
    whole = found(["a", "b", "c"], price=[1, 2, 3])
    page = result_page(Found(whole.table[whole.table["price"] > 1], ()), columns=["price"])
    assert page.text == "  2. b (price 2)\n  3. c (price 3)"


def test_bad_options_of_a_page_are_one_line():
    for call, message in [
        (lambda: result_page(found(["a"]), name="title"), 'no column "title": rank, row, score'),
        (lambda: result_page(found(["a"]), columns=["cost"]), 'no column "cost"'),
        (lambda: result_page(found(["a"]), {0: "a.png"}), "pictures: that of 0 is str"),
        (lambda: result_page(found(["a"]), {0: np.zeros((4, 4))}), r"float64 of shape \(4, 4\)"),
        (lambda: search_box(found, "a", weight=1.5), "weight = 1.5"),
        (lambda: search_box(found, "a", weight=float("nan")), "weight = nan"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


# --- the box --------------------------------------------------------------------------------------


class Search:
    """Finds what was asked for, and remembers it; raises what it is given."""

    def __init__(self):
        self.asked, self.error, self.while_asked = [], None, lambda: None

    def __call__(self, wish, **options):
        self.asked.append((wish, options))
        self.while_asked()
        if self.error is not None:
            raise self.error
        return found([f"a {wish}"])


def opened(search, wish="hat", **options):
    """The box's text, button, slider (or None) and results."""
    box = search_box(search, wish, interactive=True, **options)
    row, *slider, area = box.children
    return *row.children, (slider or [None])[0], area


def test_the_box_searches_for_the_first_wish_and_on_enter_and_on_its_button():
    search = Search()
    text, button, slider, area = opened(search)
    assert slider is None
    assert search.asked == [("hat", {})]
    assert Reader(area.value).text == "hat 1. a hat"
    text.value = "navy dress"  # with continuous_update off the browser sends this on Enter
    assert not text.continuous_update
    assert Reader(area.value).text == "navy dress 1. a navy dress"
    button.click()
    assert search.asked == [("hat", {}), ("navy dress", {}), ("navy dress", {})]


def test_the_slider_gives_the_weight():
    search = Search()
    _, button, slider, _ = opened(search, weight=0.1)
    assert search.asked == [("hat", {"weight": 0.1})]
    slider.value = 0.45
    assert search.asked[-1] == ("hat", {"weight": 0.45})
    button.click()
    assert search.asked[2:] == [("hat", {"weight": 0.45})]
    assert opened(search, weight=0)[2] is not None  # zero is a weight


def test_the_button_rests_while_searching_and_wakes_after_an_error():
    search = Search()
    _, button, _, area = opened(search)
    seen = []
    search.while_asked = lambda: seen.append((button.disabled, Reader(area.value).text))
    button.click()
    assert seen == [(True, "searching …")]
    assert not button.disabled
    for error in (InputError("no"), ValueError("no"), KeyboardInterrupt()):
        search.error = error
        with contextlib.suppress(KeyboardInterrupt):
            button.click()
        assert not button.disabled


def test_an_error_is_a_line_in_the_box_and_the_box_lives_on(shop):
    text, button, _, area = opened(shop)
    text.value = "  "
    said = Reader(area.value).text
    assert said == "the wish is empty: say in a few words what you are looking for"
    text.value = "navy dress"
    assert "1. navy dress" in Reader(area.value).text
    search = Search()
    text, button, _, area = opened(search)
    search.error = KeyError("<script>\n" + "x" * 1_000)
    button.click()
    said = check_harmless(area.value).text
    assert said.startswith(r"KeyError: '<script>\n") and len(said) <= 400
    search.error = ZeroDivisionError("by zero")
    button.click()
    said = Reader(area.value).text
    assert said == "ZeroDivisionError: by zero (call your search in a cell of its own to see where)"
    search.error = None
    button.click()
    assert Reader(area.value).text == "hat 1. a hat"


def test_pictures_and_columns_reach_the_page_of_the_box():
    *_, area = opened(Search(), pictures={0: picture()}, columns=["score"], name="name")
    read = check_harmless(area.value)
    assert read.text == "hat 1. a hat score 0.500"
    assert [image["alt"] for image in read.images] == ["Picture of a hat"]


@pytest.fixture(scope="module")
def shop(checkpoints, tokenizer):
    """The real search of a tiny market with a tiny random model."""
    names = [f"{color} {thing}" for color in ("red", "navy") for thing in ("hat", "dress", "bag")]
    products = pd.DataFrame({"product_id": 100 + np.arange(6), "name": names})
    encoder = load_encoder(checkpoints["bert"])
    vectors = embed(encoder, encode(tokenizer, names))

    def search(wish, **options):
        return search_for(
            wish, products, vectors, encoder=encoder, tokenizer=tokenizer, k=6, **options
        )

    def personal(wish, **options):
        return search(wish, purchases=[102], keep_bought=True, **options)

    search.personal = personal
    return search


def test_the_real_search_in_the_box(shop):
    text, _, slider, area = opened(shop.personal, "navy dress", weight=0.0, columns=["score"])
    assert "1. navy dress" in Reader(area.value).text
    slider.value = 1.0
    assert "1. red bag" in Reader(area.value).text  # the purchase itself
    text.value = "🙂"
    assert "6. " in Reader(area.value).text


# --- where nobody can type ------------------------------------------------------------------------


def test_without_a_person_there_is_a_page_and_errors_are_raised(shop):
    page = search_box(shop.personal, "navy dress", weight=0.0)  # pytest is no kernel
    assert isinstance(page, ResultPage)
    assert "1. navy dress" in page.text.splitlines()[1]
    with pytest.raises(InputError, match="the wish is empty"):
        search_box(shop, "")


CELL = """
import pandas as pd
from recsys_lib.search import Found, search_box

def search(wish, weight=0.0):
    table = pd.DataFrame({"rank": [1], "row": [0], "score": [weight], "product_id": [7]})
    return Found(table.assign(name=wish + " 7"), ())

search_box(search, "navy dress", weight=0.25, columns=["score"])
"""


def run_cells(*cells: str):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, resources={"metadata": {"path": project_folder()}}).execute()
    return notebook


def test_an_executed_notebook_holds_the_page_and_no_widget():
    notebook = run_cells(CELL, CELL.replace("columns=", "interactive=True, columns="))
    (output,) = notebook.cells[0].outputs
    assert set(output.data) == {"text/html", "text/plain"}
    assert output.data["text/plain"] == "navy dress\n  1. navy dress 7 (score 0.250)"
    assert "navy dress 7" in check_harmless(output.data["text/html"]).text
    (output,) = notebook.cells[1].outputs  # asked for: a widget with its state
    assert "application/vnd.jupyter.widget-view+json" in output.data


def test_a_person_at_the_kernel_gets_the_box():
    """A frontend with a person allows input with every request; JupyterLab does."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(cwd=str(project_folder()))
    try:
        shown = []
        for allow in (True, False):
            client.execute_interactive(
                CELL,
                allow_stdin=allow,
                timeout=60,
                stdin_hook=lambda _: None,
                output_hook=lambda message: shown.append(message["content"].get("data", {})),
            )
        kinds = [set(data) for data in shown if data]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    view = "application/vnd.jupyter.widget-view+json"
    assert any(view in kind for kind in kinds[:-1])
    assert kinds[-1] == {"text/html", "text/plain"}
