"""Words with their values as a page: every text on one scale, which is shown.

All text is escaped. Where a viewer takes the styles away, as GitHub may, bold words push the score
up, italic ones down, and the strongest carry their value as a small number.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from recsys_lib.interpret.words import Words
from recsys_lib.workbook import InputError

_UP, _DOWN = (86, 180, 233), (213, 94, 0)  # sky blue and vermilion of Okabe and Ito
_STRONG = 0.25  # of the limit: from here on a word carries its number
_SEEN = 0.04  # and from here on its color
_PAGE = "font-size:14px;line-height:2;margin:4px 0;max-width:900px"
_HEAD = "margin:8px 0 0 0;line-height:1.3"
_WORD = "padding:1px 3px;border-radius:3px"
_RAMP = (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0)


def token_page(
    texts: Sequence[Words],
    *,
    title: str = "",
    names: Sequence[str] | None = None,
    label: str = "added to the log-odds",
    limit: float | None = None,
) -> str:
    """An HTML fragment with the texts below one another, as they were written, and the scale.

    names: a line over each text, such as its score. label: what the values are. limit: the value
    that gets the full color, by default the largest of all texts; stronger ones look like it.
    A truncated text ends in a note. It loads nothing and has no script.

    Raises InputError without a word, for unequally many names, a value that is not a number, or a
    limit that is not above 0.
    """
    texts = list(texts)
    if not any(len(text) for text in texts):
        raise InputError("token_page: there is no word to show")
    if names is not None and len(names) != len(texts):
        raise InputError(f"token_page: {len(texts)} texts but {len(names)} names")
    for i, text in enumerate(texts):
        if not np.isfinite(text.values).all():
            raise InputError(f"token_page: text {i} has a value that is not a number")
    if limit is None:
        limit = max(float(np.abs(text.values).max()) for text in texts if len(text)) or 1.0
    if not 0 < limit < np.inf:
        raise InputError(f"token_page: limit={limit} must be a number above 0")
    parts = [f"<p><b>{escape(title)}</b></p>"] if title else []
    parts.append(_scale(limit, label))
    for i, text in enumerate(texts):
        if names is not None:
            parts.append(f'<p style="{_HEAD}"><b>{escape(str(names[i]))}</b></p>')
        parts.append(f"<p>{_text(text, limit)}</p>")
    return f'<div style="{_PAGE}">{"".join(parts)}</div>'


def _text(words: Words, limit: float) -> str:
    """The text with its words marked, and what stands between them as it is."""
    out, at = [], 0
    for (start, end), value in zip(words.spans.tolist(), words.values.tolist(), strict=True):
        out += [escape(words.text[at:start]), _word(words.text[start:end], value, limit)]
        at = end
    if words.truncated:
        out.append(" <small>… (the model did not read on from here)</small>")
    else:
        out.append(escape(words.text[at:]))
    return "".join(out)


def _word(word: str, value: float, limit: float) -> str:
    share = float(np.clip(value / limit, -1, 1))
    if abs(share) < _SEEN:
        return f'<span title="{value:+.3f}">{escape(word)}</span>'
    number = f"<sup>{_signed(value)}</sup>" if abs(share) >= _STRONG else ""
    tag = ("b" if share > 0 else "i") if abs(share) >= _STRONG else "span"
    inner = f"<{tag}>{escape(word)}</{tag}>{number}"
    return f'<span style="{_WORD};{_colors(share)}" title="{value:+.3f}">{inner}</span>'


def _colors(share: float) -> str:
    """Background from white to the full color, and black letters, in dark themes too."""
    full = _UP if share > 0 else _DOWN
    mixed = [round(255 + (channel - 255) * abs(share)) for channel in full]
    return f"background:#{mixed[0]:02x}{mixed[1]:02x}{mixed[2]:02x};color:#000"


def _scale(limit: float, label: str) -> str:
    cells = "".join(
        f'<span style="{_WORD};{_colors(share)}">{_signed(share * limit)}</span> '
        for share in _RAMP
    )
    return (
        f"<p><small>{cells}{escape(label)}; <b>bold</b> pushes up, <i>italic</i> pushes down, "
        f"numbers from {_signed(_STRONG * limit)[1:]} on</small></p>"
    )


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−") if round(value, 2) else "0.00"
