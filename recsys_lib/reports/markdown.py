"""Markdown to HTML: formulas as MathML, no HTML of its own, nothing that asks for a file."""

import html
import re
import unicodedata
from functools import lru_cache
from xml.etree import ElementTree

from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin

_NAMESPACE = "http://www.w3.org/1998/Math/MathML"
# What MathML may consist of here: neither links nor styles, nor anything that is no formula.
_ELEMENTS = {
    *("math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "ms", "mfrac", "msqrt", "mroot"),
    *("msub", "msup", "msubsup", "munder", "mover", "munderover", "mmultiscripts", "mprescripts"),
    *("mtable", "mtr", "mtd", "mpadded", "mphantom", "mstyle", "merror", "none"),
}
_ATTRIBUTES = {
    *("display", "stretchy", "fence", "form", "separator", "accent", "accentunder", "largeop"),
    *("movablelimits", "symmetric", "minsize", "maxsize", "lspace", "rspace", "width", "height"),
    *("depth", "linethickness", "columnalign", "displaystyle", "scriptlevel", "columnspacing"),
}
_PARTS = {  # how many an element must have, or browsers draw it as a mistake
    **dict.fromkeys(("mfrac", "mroot", "msub", "msup", "munder", "mover"), 2),
    **dict.fromkeys(("msubsup", "munderover"), 3),
}
_LETTERS = {  # of a `mathvariant`, by the name that Unicode gives its letters
    "double-struck": "DOUBLE-STRUCK",
    "bold": "BOLD",
    "bold-italic": "BOLD ITALIC",
    "script": "SCRIPT",
    "fraktur": "FRAKTUR",
    "sans-serif": "SANS-SERIF",
    "monospace": "MONOSPACE",
}
_LONG = 50  # characters of LaTeX from which on a formula in a line may be wider than a phone


class _Unreadable(ValueError):
    """A formula that is shown as its source."""


def to_html(text: str) -> str:
    """The HTML of a text in Markdown. Its headings become bold lines, its pictures their texts."""
    tokens = _parser().parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = "p"
        if token.type == "inline":
            token.children = _without_files(token.children or [])
    return _parser().renderer.render(tokens, _parser().options, {})


def inline_html(text: str) -> str:
    """The HTML of one line in Markdown, without a paragraph around it."""
    (token, *_) = _parser().parseInline(" ".join(text.split()))
    token.children = _without_files(token.children or [])
    return _parser().renderer.render([token], _parser().options, {})


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.use(dollarmath_plugin, allow_labels=False, double_inline=True)
    parser.add_render_rule("math_inline", lambda self, tokens, i, *_: formula(tokens[i].content))
    for block in ("math_block", "math_inline_double"):
        parser.add_render_rule(
            block, lambda self, tokens, i, *_: formula(tokens[i].content, block=True)
        )
    parser.add_render_rule("table_open", lambda *_: f"{scroll_open('table')}<table>\n")
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    parser.add_render_rule("th_open", lambda *_: '<th scope="col">')
    parser.add_render_rule("td_open", lambda *_: "<td>")
    for code in ("fence", "code_block"):
        parser.add_render_rule(
            code, lambda self, tokens, i, *_: code_html(tokens[i].content, "program text")
        )
    return parser


def scroll_open(what: str) -> str:
    """The start of a box that scrolls by itself, with the keyboard too; `what` is in it."""
    label = html.escape(what, quote=True)
    return f'<div class="scroll" tabindex="0" role="group" aria-label="{label}">'


def code_html(source: str, what: str) -> str:
    """Program text in a box that scrolls."""
    return f"{scroll_open(what)}<pre><code>{html.escape(source)}</code></pre></div>\n"


def _without_files(tokens: list[Token]) -> list[Token]:
    """Pictures become their texts, and links that lead to no web address become plain text."""
    kept, opened = [], []
    for token in tokens:
        if token.type == "image":
            kept.append(Token("text", "", 0, content=token.content))
        elif token.type == "link_open":
            opened.append(str(token.attrGet("href")).startswith(("https://", "http://")))
            kept += [token] if opened[-1] else []
        elif token.type == "link_close":
            kept += [token] if opened.pop() else []
        else:
            kept.append(token)
    return kept


def formula(latex: str, *, block: bool = False) -> str:
    """A formula as MathML, or as its source where it cannot be read."""
    try:
        math = mathml(latex.strip(), block=block)
    except _Unreadable:
        math = f"<code>{html.escape(latex.strip())}</code>"
    if block:
        return f"{scroll_open('formula').replace('scroll', 'scroll formula', 1)}{math}</div>\n"
    if len(latex) > _LONG:
        return f'<span class="long" tabindex="0" role="group" aria-label="formula">{math}</span>'
    return math


def mathml(latex: str, *, block: bool = False) -> str:
    """MathML of a formula, made of nothing but MathML's own elements.

    latex2mathml passes text on as it is, so what it gives is taken apart and put together again.
    """
    unboxed = re.sub(r"\\boxed\s*(?=\{)", "", latex)  # a frame, which it does not know
    try:
        tree = ElementTree.fromstring(convert(unboxed, display="block" if block else "inline"))
    except Exception as error:  # it raises exceptions of many kinds, its own and Python's
        raise _Unreadable(latex) from error
    return _element(tree)


def _element(node: ElementTree.Element) -> str:
    name = node.tag.removeprefix(f"{{{_NAMESPACE}}}")
    text = (node.text or "").strip() if name != "mtext" else node.text or ""
    unknown = name not in _ELEMENTS or text.startswith("\\")  # as an unknown command does
    if unknown or len(node) != _PARTS.get(name, len(node)):
        raise _Unreadable(name)
    attributes = {key: value for key, value in node.attrib.items() if key in _ATTRIBUTES}
    variant = node.get("mathvariant", "")
    if variant == "normal":
        attributes["mathvariant"] = variant
    elif variant in _LETTERS:
        text = "".join(_letter(letter, _LETTERS[variant]) for letter in text)
    if name == "math":
        attributes["xmlns"] = _NAMESPACE
    given = "".join(f' {key}="{html.escape(value)}"' for key, value in attributes.items())
    inner = html.escape(text) + "".join(_element(child) for child in node)
    return f"<{name}{given}>{inner}</{name}>"


def _letter(letter: str, style: str) -> str:
    """A letter of a mathematical alphabet; browsers no longer make it out of `mathvariant`."""
    case = "CAPITAL" if letter.isupper() else "SMALL"
    if not re.fullmatch(r"[A-Za-z]", letter):
        return letter
    for start in (f"MATHEMATICAL {style}", style):
        try:
            return unicodedata.lookup(f"{start} {case} {letter}")
        except KeyError:
            continue
    return letter
