"""The report to hand on: one table, one figure, plain sentences, what could not be tested.

For a reader without statistics. The page is one file that loads nothing and runs nothing; every
text in it that came from data is escaped.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from math import ceil
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from recsys_lib.fairness.audit import Audit
from recsys_lib.fairness.gaps import GAP, NOT_SHOWN, NOT_TESTABLE, POWER
from recsys_lib.metrics import format_p
from recsys_lib.workbook import InputError, atomic_write

# measure → words for it, and whether it is shown in percent
_WORDS = {
    "accuracy": ("decided rightly", True),
    "base_rate": ("labeled {positive}", True),
    "selection_rate": ("decided {positive}", True),
    "true_positive_rate": ("of those labeled {positive}, decided so", True),
    "false_positive_rate": (
        "of those not labeled {positive}, decided {positive} all the same",
        True,
    ),
    "precision": ("of those decided {positive}, labeled so", True),
    "auc": ("how well scores tell the two labels apart (AUC)", False),
    "log_loss": ("how dearly wrong probabilities cost (log loss)", False),
    "brier": ("squared error of the probabilities (Brier)", False),
    "mean_error": ("share of {positive} that is expected, less the share labeled so", True),
    "calibration_error": ("distance of promised from true shares", True),
}
_SHARES = ("accuracy", "base_rate", "selection_rate", "true_positive_rate", "false_positive_rate",
           "precision", "auc")  # fmt: skip
_TECHNICAL = ("auc", "log_loss", "brier", "calibration_error")  # last, for they need explaining
_VERDICTS = {
    GAP: "difference shown",
    NOT_SHOWN: "no difference shown",
    NOT_TESTABLE: "could not be tested",
}
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#111;background:#fff}table{border-collapse:collapse;font-size:14px;width:100%}"
    "th,td{border-bottom:1px solid #999;padding:.3rem .5rem;text-align:left;vertical-align:top}"
    "td.number{text-align:right;white-space:nowrap}caption{text-align:left;font-weight:bold;"
    "padding:.3rem 0}img{max-width:100%}.gap{font-weight:bold}.quiet{color:#555}"
    "@media print{body{margin:0}details>*{display:block}}"
)


def report_table(audit: Audit, *, positive: str = "1") -> pd.DataFrame:
    """All findings as texts, differences shown first, then the untestable, then the others.

    Columns: column, compared, measure, group, others, difference (with its interval; the largest
    less the smallest group has none, since it is never below 0, and its bootstrap interval runs too
    high), chance (the corrected p value), could have been missed (the smallest gap shown with a
    power of 80 %), and verdict.

    Args:
        audit: what was found.
        positive: the name of label 1, such as "recommended".
    """
    lines = []
    order = {GAP: 0, NOT_TESTABLE: 1, NOT_SHOWN: 2}
    rows = sorted(
        audit.findings.to_dict("records"),
        key=lambda row: (
            order[row["verdict"]],
            row["metric"] in _TECHNICAL,
            row["p_holm"] if row["known"] else 0,
        ),
    )
    for row in rows:
        line = {
            "column": row["sensitive"],
            "compared": row["comparison"],
            "measure": measure_words(row["metric"], positive),
        }
        if row["known"]:
            line |= {
                "group": _number(row["first"], row["metric"]),
                "others": _number(row["second"], row["metric"]),
                "difference": _interval(row),
                "chance": format_p(row["p_holm"]),
                "could have been missed": _missed(row),
            }
        else:
            line |= dict.fromkeys(("group", "others", "difference"), "unknown")
            line |= {"chance": "", "could have been missed": ""}
        verdict = _VERDICTS[row["verdict"]]
        line["verdict"] = f"{verdict}: {_why(row, positive)}" if row["why"] else verdict
        lines.append(line)
    return pd.DataFrame(lines)


def sentences(audit: Audit, *, positive: str = "1", things: str = "rows") -> list[str]:
    """What was found, in plain sentences: the whole first, then every difference shown.

    Args:
        positive: the name of label 1. things: what the rows are, such as "reviews".
    """
    found = audit.found
    untested = len(audit.not_testable)
    count = audit.tested
    tested = f"{count:,} comparison{'s' if count != 1 else ''}"
    said = [
        f"{audit.rows:,} {things} were audited; {tested} between groups could be tested, "
        f"{untested:,} could not."
    ]
    if found.empty and count:
        said.append(
            "No difference between groups was shown. That is not proof that there is none: small "
            "differences can hide in so few data, and the table says how large one could be."
        )
    elif found.empty:
        said.append("Nothing could be tested, so nothing is known about any difference.")
    else:
        said.append(
            f"{len(found)} difference{'s were' if len(found) != 1 else ' was'} shown. If there "
            "were none at all, an audit like this would show one or more in at most "
            f"{_percent(audit.alpha)} of cases."
        )
    rows = sorted(found.to_dict("records"), key=lambda row: row["metric"] in _TECHNICAL)
    said += [_sentence(row, audit, positive) for row in rows]
    return said


def not_testable(audit: Audit, *, positive: str = "1") -> list[str]:
    """Groups about which nothing is known, and why; one line per reason."""
    lines: dict[tuple[str, str, str], list[str]] = {}
    for row in audit.not_testable.to_dict("records"):
        who = row["group"] or "the range over all groups"
        key = (row["sensitive"], who, _why(row, positive))
        lines.setdefault(key, []).append(measure_words(row["metric"], positive))
    return [
        f"{column}, {who}: {why} ({'; '.join(measures)})"
        for (column, who, why), measures in lines.items()
    ]


def measure_words(metric: str, positive: str = "1") -> str:
    """A measure in plain words; a name that is no measure of ours as it is."""
    words = _WORDS.get(metric, (metric.replace("_", " "), False))[0]
    return words.replace("{positive}", f"“{positive}”")


def report_html(
    audit: Audit,
    *,
    title: str,
    dataset: str,
    figure: Figure | None = None,
    alt: str = "",
    positive: str = "1",
    things: str = "rows",
    sections: Sequence[tuple[str, Sequence[str]]] = (),
) -> str:
    """The report as one page of HTML.

    Args:
        audit: what was found.
        title: of the page. dataset: what was audited, in words.
        figure: the one figure, kept in the page as a PNG; `alt` says what it shows.
        positive: the name of label 1. things: what the rows are.
        sections: more headings with their sentences, such as what mitigation costs.

    Raises:
        InputError: a figure without an alt text.
    """
    if figure is not None and len(alt.split()) < 4:
        raise InputError("alt must say in a sentence what the figure shows.")
    table = report_table(audit, positive=positive)
    known = table[table["verdict"] == _VERDICTS[GAP]]
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="quiet">{escape(_facts(audit, dataset, things))}</p>',
        "<h2>What was found</h2>",
        _list(sentences(audit, positive=positive, things=things)),
    ]
    if figure is not None:
        body.append(f'<p><img alt="{escape(alt)}" src="{_png(figure)}"></p>')
    if len(known):
        body.append(_table(known, "Differences shown"))
    hidden = not_testable(audit, positive=positive)
    body.append("<h2>What could not be tested</h2>")
    body.append(
        _list(hidden) if hidden else "<p>Every comparison that was asked for could be tested.</p>"
    )
    for heading, said in sections:
        body += [f"<h2>{escape(heading)}</h2>", _list(said)]
    body += ["<h2>How to read this</h2>", _list(_how_to_read(audit))]
    if audit.notes:
        body += ["<h2>Notes</h2>", _list(audit.notes)]
    body.append(
        f"<details><summary>All {len(table):,} comparisons</summary>"
        f"{_table(table, 'All comparisons')}</details>"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def save_report(path: str | Path, page: str) -> Path:
    """Write a page of `report_html`, whole or not at all; the path that it has now.

    Raises:
        InputError: a name without .html, or a place that cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{path.name} must end in .html.")
    try:
        atomic_write(path, page)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): name another.") from error
    return path


# ----------------------------------------------------------------------------- helpers


def _sentence(row: dict, audit: Audit, positive: str) -> str:
    who = f"{row['sensitive']}: {row['comparison']}"
    words = measure_words(row["metric"], positive)
    a, b = (_number(row[side], row["metric"]) for side in ("first", "second"))
    return (
        f"{who} — {words}: {a} against {b}, a difference of {_interval(row, audit.level)}. "
        f"If {row['sensitive']} meant nothing, one this clear would turn up in "
        f"{_how_often(row['p_holm'])} of 100 such audits ({format_p(row['p_holm'])})."
    )


def _number(value: float, metric: str, sign: bool = False) -> str:
    percent = _WORDS.get(metric, ("", False))[1]
    text = f"{100 * value:{'+' if sign else ''}.1f}" if percent else (
        f"{value:{'+' if sign else ''}.3f}"
    )  # fmt: skip
    return text.replace("-", "−") + (" %" if percent and not sign else "")


def _why(row: dict, positive: str) -> str:
    """The reason in the words of the report: labels by their name."""
    said = str(row["why"]).replace("labeled 1", f"labeled “{positive}”")
    said = said.replace("labeled 0", f"not labeled “{positive}”")
    return said.replace("decided 1", f"decided “{positive}”")


def _interval(row: dict, level: float | None = None) -> str:
    percent = _WORDS.get(row["metric"], ("", False))[1]
    value, low, high = (_number(row[k], row["metric"], sign=True) for k in ("value", "low", "high"))
    said = f"{value}{' points' if percent else ''}"
    if row["kind"] == "range":
        return said
    name = "" if level is None else f"{_percent(level)} interval "
    return f"{said} ({name}{low} to {high})"


def _missed(row: dict) -> str:
    if pd.isna(row["detectable"]):
        return ""
    percent = _WORDS.get(row["metric"], ("", False))[1]
    size = _number(row["detectable"], row["metric"]).removesuffix(" %")
    said = f"below {size}{' points' if percent else ''}"
    if row["metric"] not in _SHARES or row["kind"] != "difference":
        return said
    above = row["second"] + row["detectable"] > 1  # no group lies that far above the others
    below = row["second"] - row["detectable"] < 0
    if above and below:
        return "any"
    if above:
        return f"{said} downward, any upward"
    return f"{said} upward, any downward" if below else said


def _percent(share: float) -> str:
    return f"{100 * share:.6g}%"  # 99.5 % and 0.5 % are neither 100 % nor 0 %


def _how_often(p: float) -> str:
    return "fewer than 1" if p < 0.01 else f"at most {ceil(100 * p - 1e-9)}"  # Holm's is a bound


def _facts(audit: Audit, dataset: str, things: str) -> str:
    return (
        f"Data: {dataset}. {audit.rows:,} {things}, {audit.units:,} independent units "
        f"({audit.unit}). Decided 1 where the probability is {audit.threshold:g} or more. "
        f"Intervals: {_percent(audit.level)}."
    )


def _how_to_read(audit: Audit) -> list[str]:
    return [
        f"An interval aims to hold the true difference in {_percent(audit.level)} of audits like "
        "this; with few units it holds it somewhat less often. A wide one says that little is "
        "known. “Largest − smallest” has none: chance alone keeps it above 0, so look at its p.",
        "p says how often groups that mean nothing would differ as much or more, corrected "
        f"for {audit.comparisons:,} comparisons; up to {audit.alpha:g}, and if the interval leaves "
        "0 out, a difference is shown.",
        f"“Could have been missed”: a true difference below this size is found with a chance of "
        f"less than {_percent(POWER)} (at the strictest step of the correction). “Any” stands "
        "where no group can differ by that much, because a share ends at 0 and at 100 %.",
        "“Unknown” is not zero: the group is too small, or lacks a label, so no number is given.",
        "A difference is a fact about data and decisions. Whether it is unjust, and which kind of "
        "difference matters, no number decides: that is for people, and for the law that applies.",
    ]


def _list(said: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(str(line))}</li>" for line in said) + "</ul>"


def _table(table: pd.DataFrame, caption: str) -> str:
    numbers = ("group", "others", "difference", "chance", "could have been missed")
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    lines = []
    for row in table.to_dict("records"):
        cells = "".join(
            f"<td{' class=number' if column in numbers else ''}>{escape(str(value))}</td>"
            for column, value in row.items()
        )
        mark = ' class="gap"' if row["verdict"] == _VERDICTS[GAP] else ""
        lines.append(f"<tr{mark}>{cells}</tr>")
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
