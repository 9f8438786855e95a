"""The market's small template language.

`[words]` carry an opinion, `<words>` turn it around, `(a|b|c)` is one of these, `{slot}` is filled
in and `{Slot}` is filled in with a capital. Rendering keeps track of which letters were marked, so
that the truth knows their place in the text whatever happens to the text around them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from recsys_lib.datasets.market_random import Draw

PLAIN, WORD, TURN = "", "word", "turn"


class Piece(NamedTuple):
    """A run of text; `role` is PLAIN, WORD (carries an opinion) or TURN (turns one around) and
    `opinion` says which one (None where the text is nobody's opinion)."""

    text: str
    role: str = PLAIN
    opinion: Any = None


@dataclass(frozen=True)
class _Slot:
    name: str
    capital: bool


@dataclass(frozen=True)
class _Mark:
    role: str
    inside: tuple


@dataclass(frozen=True)
class _Choice:
    options: tuple[tuple, ...]


_TOKEN = re.compile(r"[\[\]<>()|]|\{\w+\}|[^\[\]<>()|{}]+")
_CLOSING = {"[": "]", "<": ">", "(": ")"}


@cache
def parse(template: str) -> tuple:
    """The template as a tuple of strings, slots, marks and choices. Raises ValueError where
    brackets do not match."""
    tokens = _TOKEN.findall(template)
    if "".join(tokens) != template:
        raise ValueError(f"template {template!r} has a stray brace")
    rest = iter(tokens)
    nodes, end = _sequence(rest, template)
    if end is not None:
        raise ValueError(f"template {template!r} has an unmatched {end!r}")
    return nodes


def _sequence(rest: Iterator[str], template: str) -> tuple[tuple, str | None]:
    """Nodes up to the next closing bracket or bar, and that token (None at the end)."""
    nodes: list = []
    for token in rest:
        if token in ("]", ">", ")", "|"):
            return tuple(nodes), token
        if token in ("[", "<"):
            inside, end = _sequence(rest, template)
            if end != _CLOSING[token]:
                raise ValueError(f"template {template!r}: {token!r} is not closed")
            nodes.append(_Mark(WORD if token == "[" else TURN, inside))
        elif token == "(":
            options, end = [], "|"
            while end == "|":
                option, end = _sequence(rest, template)
                options.append(option)
            if end != ")":
                raise ValueError(f"template {template!r}: '(' is not closed")
            nodes.append(_Choice(tuple(options)))
        elif token[0] == "{":
            name = token[1:-1]
            nodes.append(_Slot(name[0].lower() + name[1:], name[0].isupper()))
        else:
            nodes.append(token)
    return tuple(nodes), None


def turns(template: str) -> bool:
    """Whether the template turns its opinion around."""
    return any(isinstance(node, _Mark) and node.role == TURN for node in _walk(parse(template)))


def _walk(nodes: tuple) -> Iterator[Any]:
    for node in nodes:
        yield node
        if isinstance(node, _Mark):
            yield from _walk(node.inside)
        elif isinstance(node, _Choice):
            for option in node.options:
                yield from _walk(option)


def render(template: str, slots: Mapping[str, Any], draw: Draw, opinion: Any = None) -> list[Piece]:
    """The pieces of a filled-in template.

    A slot's value is a string, a list of strings (one is drawn) or a list of pieces (a clause
    rendered before). Marked pieces get `opinion` attached.
    """
    pieces: list[Piece] = []
    _render(parse(template), slots, draw, PLAIN, opinion, pieces)
    return pieces


def _render(nodes, slots, draw, role, opinion, out: list[Piece]) -> None:
    owner = opinion if role else None
    for node in nodes:
        if isinstance(node, str):
            out.append(Piece(node, role, owner))
        elif isinstance(node, _Slot):
            value = slots[node.name]
            if isinstance(value, list) and value and isinstance(value[0], str):
                value = draw.pick(value)
            if isinstance(value, str):
                if value:
                    out.append(Piece(capital(value) if node.capital else value, role, owner))
            else:
                first, *others = value
                out.append(first._replace(text=capital(first.text)) if node.capital else first)
                out.extend(others)
        elif isinstance(node, _Mark):
            _render(node.inside, slots, draw, node.role, opinion, out)
        else:
            _render(draw.pick(node.options), slots, draw, role, opinion, out)


def capital(text: str) -> str:
    """With its first letter capital; a quotation mark or bracket before it is no letter."""
    return text[:1].upper() + text[1:]


def tidy(pieces: list[Piece]) -> list[Piece]:
    """One space between words, none before punctuation, "an" before a vowel; marked pieces neither
    begin nor end with a space, and neighbors of the same mark are one piece."""
    out: list[list] = []  # text, role and opinion; a Piece cannot be changed
    for text, role, opinion in pieces:
        before = out[-1][0] if out else " "
        if before[-1:] == " ":
            text = text.lstrip(" ")
        if not text:
            continue
        if out and text[0] in ",.;:?!" and before[-1] == " ":
            out[-1][0] = before.rstrip(" ")
        if text[0] in "aeiouAEIOU" and (before in ("a ", "A ") or before[-3:] == " a "):
            out[-1][0] = before[:-1] + "n "
        if out and out[-1][1] == role and out[-1][2] is opinion:
            out[-1][0] += text
        else:
            out.append([text, role, opinion])
    return [Piece(*piece) for piece in out]
