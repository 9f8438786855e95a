"""What a wish found, as a page with pictures, and a box to type wishes into.

Text of the catalog, of the shopper and of errors is escaped; pictures are part of the page. It
loads nothing from elsewhere, has no script, and takes its colors from what is around it (light or
dark).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from numbers import Real

import ipywidgets as widgets
import numpy as np
import pandas as pd
from IPython import get_ipython
from PIL import Image

from recsys_lib.search.personal import Found
from recsys_lib.workbook.errors import InputError

Pictures = Mapping[object, bytes | np.ndarray]

_LONGEST = 140  # characters of a text that are shown
_PAGE = "font-size:13px;line-height:1.35;margin:4px 0"
_LINE = "margin:0 0 8px 0"
_GRID = "display:flex;flex-wrap:wrap;gap:14px 10px;align-items:flex-start"
_CARD = "width:104px;margin:0;overflow-wrap:anywhere"
_PICTURE = (
    "display:block;width:104px;height:128px;margin:0 0 4px 0;object-fit:contain;background:#fff;"
    "border:1px solid rgba(128,128,128,.5);border-radius:4px"
)
_FACT = "font-size:12px"
_QUIET = "opacity:.75"


@dataclass(frozen=True)
class ResultPage:
    """A page for a notebook: html is what is displayed; text is the same for a terminal."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def result_page(
    found: Found,
    pictures: Pictures | Callable[[list], Pictures] | None = None,
    *,
    title: str = "",
    name: str = "name",
    columns: Sequence[str] = (),
) -> ResultPage:
    """What `search_for` found, a card per product in the order of the ranking, notes above.

    pictures: by product_id, each the bytes of a PNG, JPEG, GIF or WebP file, or an array as
        `datasets.product_picture` draws it, (height, width, 3) uint8; or a function that takes a
        list of product ids and gives these, such as `datasets.fashion_pictures`. A card without a
        picture has its words alone.
    title: for example the wish. name: the column with the name. columns: further facts to show,
        such as price or score; a missing value is left out.

    Bytes that are no such file are not shown, with a note. Texts are shown on one line, without
    control characters, their first 140 characters.
    Raises InputError for an unknown column, or pictures of another type.
    """
    table = found.table
    for column in (name, *columns):
        if column not in table:
            raise InputError(f'the products have no column "{column}": {", ".join(table)}')
    ids = table["product_id"].tolist()
    given = pictures(ids) if callable(pictures) else pictures or {}
    names, facts = table[name].tolist(), {column: table[column].tolist() for column in columns}
    notes = [_clean(note) for note in found.notes]
    cards, lines = [], []
    for i, (rank, product) in enumerate(zip(table["rank"], ids, strict=True)):
        words, source = _clean(names[i]) or "(no name)", ""
        if product in given:
            source = _picture_source(given[product], product)
            if not source:
                notes.append(f"the picture of {_clean(product)} is no PNG, JPEG, GIF or WebP")
        known = [
            (_clean(column.replace("_", " ")), _fact(values[i]))
            for column, values in facts.items()
            if not _is_missing(values[i])
        ]
        cards.append(_card(rank, words, source, known))
        said = ", ".join(f"{label} {fact}" for label, fact in known)
        lines.append(f"{rank:>3}. {words}" + (f" ({said})" if said else ""))
    if not cards:
        notes.append("nothing was found")
    html = [f'<p style="{_LINE}"><b>{escape(_clean(title))}</b></p>'] if title else []
    html += [f'<p style="{_LINE}">Note: {escape(note)}.</p>' for note in notes]
    html += [f'<div style="{_GRID}">{"".join(cards)}</div>'] if cards else []
    text = ([_clean(title)] if title else []) + [f"Note: {note}." for note in notes] + lines
    return ResultPage(f'<div style="{_PAGE}">{"".join(html)}</div>', "\n".join(text))


def search_box(
    search: Callable[..., Found],
    wish: str,
    *,
    weight: float | None = None,
    pictures: Pictures | Callable[[list], Pictures] | None = None,
    name: str = "name",
    columns: Sequence[str] = (),
    interactive: bool | None = None,
) -> widgets.VBox | ResultPage:
    """A box to type wishes into, showing the page of the first wish; that page alone where nobody
    can type: under papermill, nbconvert and pytest, and outside Jupyter.

    search: takes a wish and gives a `Found`, such as `search_for` with all but the wish given.
    weight: where given, a slider from 0 to 1 starts there, and `search` is called with
        ``weight=…`` too: how far the earlier purchases count.
    pictures, name, columns: as in `result_page`. interactive: box or page, by default as found out.

    The box searches on Enter, on its button, and when the slider has moved. An error is shown in
    its place, in a line, and the box lives on; without a box it is raised.
    Its children: the row of text and button, the slider if there is one, and the results.
    Raises InputError for a weight that is not a number from 0 to 1.
    """
    if weight is not None and not 0 <= weight <= 1:
        raise InputError(f"weight = {weight} must be a number from 0 to 1")

    def page(words: str, **options: float) -> ResultPage:
        found = search(words, **options)
        return result_page(found, pictures, title=words, name=name, columns=columns)

    if not (_somebody_types() if interactive is None else interactive):
        return page(wish, **({} if weight is None else {"weight": weight}))

    text = widgets.Text(
        value=wish,
        placeholder="what are you looking for?",
        continuous_update=False,  # a new value is then Enter, or leaving the field
        layout=widgets.Layout(flex="1 1 200px", width="auto"),
    )
    button = widgets.Button(description="Search", layout=widgets.Layout(width="90px"))
    slider = widgets.FloatSlider(
        value=weight or 0.0,
        min=0,
        max=1,
        step=0.05,
        description="earlier purchases",
        continuous_update=False,
        style={"description_width": "initial"},
        layout=widgets.Layout(max_width="400px"),
    )
    area = widgets.HTML()

    def run(*_: object) -> None:
        button.disabled = True
        area.value = _message("searching …")
        try:
            options = {} if weight is None else {"weight": slider.value}
            area.value = page(text.value, **options).html
        except InputError as error:
            area.value = _message(str(error))
        except Exception as error:  # whatever the caller's function raises must not end the box
            why = f"{type(error).__name__}: {error}"
            area.value = _message(f"{why} (call your search in a cell of its own to see where)")
        finally:
            button.disabled = False

    button.on_click(run)
    text.observe(run, "value")
    slider.observe(run, "value")
    run()
    row = widgets.HBox([text, button], layout=widgets.Layout(max_width="600px", flex_flow="wrap"))
    return widgets.VBox([row, area] if weight is None else [row, slider, area])


def _somebody_types() -> bool:
    """Whether a person is at this kernel: only then does a cell's request allow input."""
    kernel = getattr(get_ipython(), "kernel", None)
    return bool(getattr(kernel, "_allow_stdin", False))


def _message(text: str) -> str:
    return f'<div style="{_PAGE}"><p style="{_LINE}">{escape(_clean(text, longest=400))}</p></div>'


def _card(rank: int, name: str, source: str, facts: list[tuple[str, str]]) -> str:
    picture = ""
    if source:
        picture = f'<img style="{_PICTURE}" alt="Picture of {escape(name)}" src="{source}">'
    lines = "".join(
        f'<div style="{_FACT}"><span style="{_QUIET}">{escape(label)}</span> {escape(fact)}</div>'
        for label, fact in facts
    )
    words = f"<div><b>{rank}. {escape(name)}</b></div>"
    return f'<figure style="{_CARD}">{picture}<figcaption>{words}{lines}</figcaption></figure>'


def _picture_source(picture: bytes | np.ndarray, product: object) -> str:
    """A data URI; empty for bytes that are no picture which every browser shows."""
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise InputError(
                f"pictures: that of {_clean(product)} is {picture.dtype} of shape {picture.shape}; "
                "an array must be uint8 of shape (height, width, 3)"
            )
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, format="PNG")
        picture = buffer.getvalue()
    if not isinstance(picture, bytes):
        raise InputError(
            f"pictures: that of {_clean(product)} is {type(picture).__name__}; give the bytes of "
            "its file, or an array"
        )
    kind = _picture_type(picture)
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}" if kind else ""


def _picture_type(data: bytes) -> str:
    """The type that a file's first bytes say; SVG, which can hold scripts, is none of them."""
    for start, kind in (
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
    ):
        if data.startswith(start):
            return kind
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


def _is_missing(value: object) -> bool:
    return bool(pd.api.types.is_scalar(value) and pd.isna(value)) or value == ""


def _fact(value: object) -> str:
    """A number with two decimals, or three below 1; whole numbers and texts as they are."""
    if isinstance(value, Real) and not isinstance(value, int | np.integer | np.bool_):
        return f"{value:,.3f}" if abs(value) < 1 else f"{value:,.2f}"
    return _clean(value)


def _clean(value: object, longest: int = _LONGEST) -> str:
    """A text of data on one line: no line breaks, control characters, marks that turn the reading
    direction, or half characters (which no notebook can be saved with)."""
    text = "" if _is_missing(value) else str(value)
    text = "".join(c if c.isprintable() or c == "\u200d" else " " for c in text)
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
