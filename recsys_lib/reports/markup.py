"""The page around a report, its look, and its tables."""

import base64
import hashlib
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

from recsys_lib.reports.markdown import scroll_open

GENERATOR = "recsys-workbook report"  # marks a file as a report that a new one may replace
_STYLE = """
:root { color-scheme: light dark;
  --back: #ffffff; --text: #1b1f24; --soft: #57606a; --line: #d0d7de; --head: #f3f5f7;
  --link: #0b57a4; --wrong: #a1260d; --wrong-back: #fdf0ec; --right: #1a6332; --card: #ffffff; }
@media (prefers-color-scheme: dark) { :root {
  --back: #14181d; --text: #e6e9ed; --soft: #a9b3be; --line: #3a434d; --head: #1f262d;
  --link: #82b7f5; --wrong: #ffa28c; --wrong-back: #36201b; --right: #7fd39b; --card: #f6f7f8; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--back); color: var(--text);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
header, nav, main, footer { max-width: 64rem; margin: 0 auto; padding: 0 1rem; }
h1, h2, h3, h4, summary { line-height: 1.25; overflow-wrap: break-word; }
h1 { font-size: 1.75rem; margin: 1.5rem 0 .25rem; }
h2 { font-size: 1.4rem; margin: 2.75rem 0 .5rem; padding-top: .75rem;
  border-top: 2px solid var(--line); }
h3 { font-size: 1.1rem; margin: 1.75rem 0 .25rem; }
p, ul, ol, blockquote { margin: .5rem 0; max-width: 46rem; overflow-wrap: break-word; }
blockquote { margin-left: 0; padding-left: .8rem; border-left: 3px solid var(--line); }
code { font: .88em ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
pre { margin: 0; padding: .6rem .8rem; } pre code { overflow-wrap: normal; }
a { color: var(--link); } .note { color: var(--soft); }
.lead { color: var(--soft); margin-top: 0; }
.skip { position: absolute; left: -100vw; } .skip:focus { position: static; padding: .5rem 1rem;
  display: inline-block; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
nav ol { margin: 0; padding: 0; list-style: none; display: flex; flex-wrap: wrap;
  gap: .15rem 1.1rem; max-width: none; }
nav a { display: inline-block; padding: .3rem 0; }
.scroll { overflow-x: auto; margin: .5rem 0; max-width: 100%; }
.scroll:has(tbody > :nth-child(16)) { max-height: 30rem; overflow-y: auto;
  border-bottom: 1px solid var(--line); }
.scroll thead th { position: sticky; top: 0; z-index: 1; }
.scroll:has(> pre) { background: var(--head); border-radius: 4px; }
.formula { padding: .2rem 0; } .formula math { margin: 0; }
.long { display: inline-block; max-width: 100%; overflow-x: auto; overflow-y: hidden;
  vertical-align: middle; padding: .15rem 0; }
math { font-family: "STIX Two Math", "Cambria Math", "Latin Modern Math", math, serif;
  font-size: 1.06em; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding: .25rem 0; }
th, td { text-align: left; vertical-align: top; padding: .28rem .7rem .28rem 0;
  border-bottom: 1px solid var(--line); }
thead th { background: var(--head); border-bottom: 2px solid var(--line); }
th:first-child, td:first-child { padding-left: .5rem; }
tbody th { font-weight: 500; position: sticky; left: 0; background: var(--back);
  max-width: 22rem; overflow-wrap: break-word; }
td.number, td.verdict { white-space: nowrap; } td.hash { overflow-wrap: anywhere; }
tr.wrong > * { background: var(--wrong-back); } .wrong .verdict { color: var(--wrong);
  font-weight: 600; } .right .verdict { color: var(--right); }
ul.alert { padding: .6rem .8rem .6rem 1.8rem; background: var(--wrong-back);
  border-left: 4px solid var(--wrong); max-width: none; }
figure { margin: 1rem 0; } figure img { display: block; max-width: 100%; height: auto;
  background: #ffffff; border-radius: 4px; }
figcaption { color: var(--soft); font-size: .9rem; max-width: 46rem; margin-top: .3rem;
  overflow-wrap: break-word; }
details { margin: .5rem 0; } summary { cursor: pointer; padding: .35rem 0; color: var(--link); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .5rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 3rem; padding-bottom: 2rem; color: var(--soft); font-size: .9rem; }
@media (max-width: 30rem) { h1 { font-size: 1.4rem; } h2 { font-size: 1.2rem; }
  tbody th { max-width: 45vw; } .named tbody th { min-width: 8.5rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .4rem; } }
@media print {
  :root { --back: #fff; --text: #000; --soft: #333; --line: #999; --head: #eee; --link: #000;
    --wrong: #000; --wrong-back: #eee; --right: #000; }
  body { font-size: 10pt; } nav, .skip { display: none; }
  header, main, footer { max-width: none; padding: 0; }
  .scroll, .long { overflow: visible !important; max-height: none !important; }
  .scroll th { position: static; } table { font-size: 7.5pt; }
  td.number, td.verdict { white-space: normal; }
  pre code { white-space: pre-wrap; }
  h2, h3, summary { break-after: avoid; } figure, tr { break-inside: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""
_NAME = 12  # letters from which on a row's heading needs some room
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode("utf-8")).digest()).decode("ascii")
# No script, no network, no form: a browser refuses whatever text might smuggle in.
_POLICY = (
    f"default-src 'none'; img-src data:; style-src 'sha256-{_HASH}'; base-uri 'none'; "
    "form-action 'none'"
)


@dataclass(frozen=True)
class Cell:
    """A cell of a table with a look of its own."""

    text: str
    kind: str = ""  # "number" and "verdict" do not wrap, "hash" does anywhere


def escape(text: object) -> str:
    """A text as HTML, in an element or in an attribute."""
    return html.escape(str(text), quote=True)


def page(title: str, lead: str, contents: Sequence[tuple[str, str]], body: str, foot: str) -> str:
    """A whole HTML file.

    Args:
        title: a text.
        lead: one line of HTML below it.
        contents: the id and the title (HTML) of each part of the body.
        body: HTML.
        foot: HTML.
    """
    links = "".join(f'<li><a href="#{name}">{text}</a></li>' for name, text in contents)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="generator" content="{GENERATOR}">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#content">To the content</a>\n'
        f'<header>\n<h1>{escape(title)}</h1>\n<p class="lead">{lead}</p>\n</header>\n'
        f'<nav aria-label="Contents"><ol>{links}</ol></nav>\n'
        f'<main id="content" tabindex="-1">\n{body}</main>\n<footer>\n{foot}</footer>\n'
        "</body>\n</html>\n"
    )


def table(
    what: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str | Cell]],
    *,
    marks: Sequence[str] = (),
) -> str:
    """A table that scrolls in its own box; the first cell of a row is the row's heading.

    Args:
        what: is in it, for readers who hear it.
        columns: their headings, texts.
        rows: texts, or cells with a look.
        marks: a class of each row, "wrong", "right" or "".
    """
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    texts = [row[0].text if isinstance(row[0], Cell) else row[0] for row in rows]
    named = ' class="named"' if any(len(text) > _NAME for text in texts) else ""
    lines = []
    for place, (first, *others) in enumerate(rows):
        mark = f' class="{marks[place]}"' if marks and marks[place] else ""
        cells = "".join(_cell(cell) for cell in others)
        lines.append(f'<tr{mark}><th scope="row">{_wrapping(first)}</th>{cells}</tr>\n')
    return (
        f"{scroll_open(what)}<table{named}>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{''.join(lines)}</tbody>\n</table></div>\n"
    )


def _wrapping(cell: str | Cell) -> str:
    """A cell's text, which may go on in a new line within a name such as `a/b_c`."""
    text = escape(cell.text if isinstance(cell, Cell) else cell)
    return re.sub("([/_])", r"\1<wbr>", text)


def _cell(cell: str | Cell) -> str:
    kind = f' class="{cell.kind}"' if isinstance(cell, Cell) and cell.kind else ""
    return f"<td{kind}>{_wrapping(cell)}</td>"


def details(summary: str, body: str) -> str:
    """HTML folded in below a line of text."""
    return f"<details><summary>{escape(summary)}</summary>\n{body}</details>\n"


def facts(pairs: Sequence[tuple[str, object]]) -> str:
    """Names and what they are, as a list."""
    told = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return f"<dl>{told}</dl>\n"
