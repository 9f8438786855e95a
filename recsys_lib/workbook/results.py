"""Recorded results: every number that a text leans on, its interval, and the band it must lie in.

``tests/expected/<notebook>.json`` holds the bands. Its ``bands`` has one table per data set and
profile ("clothing-quick"), for seed 0 and the built-in model. The band of a number is one of

* ``{"value": 0.963, "tolerance": 0.008}``: an absolute tolerance, so that small values count too;
* ``{"at_least": 0.5}`` and ``{"at_most": 1e-8}``, alone or together: for gates and ratios;
* ``{"any": "a time"}``: recorded, never compared, and why.

Each may carry a ``"why"`` for whoever has to judge a number that left its band.
"""

import hashlib
import html
import json
import math
import numbers
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from IPython import display, get_ipython

from recsys_lib.workbook.files import atomic_write, project_folder
from recsys_lib.workbook.settings import Settings

MIME_TYPE = "application/vnd.recsys-workbook.results+json"
_FORMAT = 1
_VERSIONS = ("recsys-workbook", "torch", "transformers", "numpy", "pandas", "scikit-learn")
_MOST_DECIMALS = 5
_STYLE = "text-align:left;padding:2px 12px;vertical-align:top"


@dataclass
class Book:
    """One run of a notebook: its settings and the numbers it recorded. Made by `start`."""

    settings: Settings
    numbers: dict[str, dict[str, object]] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def pick(self, *, quick: object, full: object) -> object:
        """The value for this run's profile: ``n = book.pick(quick=2_000, full=None)``."""
        return full if self.settings.profile == "full" else quick

    def record(self, name: str, value: object, *, unit: str = "", note: str = "") -> None:
        """Record one number for the table of results; the same name again replaces it.

        Args:
            name: words of letters, digits, "_", "-", "." and "@", joined by "/": "test/auc".
            value: a number, a truth value, or an estimate: anything with `value`, `low`, `high`
                (and `level`, `n`, `units`, `method` where it has them).
            unit: of the value, such as "s" or "%".
            note: what a reader must know to read the number.
        """
        if not re.fullmatch(r"[\w.@-]+(/[\w.@-]+)*", name):
            raise ValueError(f'record("{name}"): a name is words joined by "/", like "test/auc"')
        entry: dict[str, object] = {}
        if all(hasattr(value, part) for part in ("value", "low", "high")):
            for part in ("value", "low", "high", "level", "n", "units"):
                if hasattr(value, part):
                    entry[part] = _plain(name, getattr(value, part))
            if hasattr(value, "method"):
                entry["method"] = str(value.method)
        else:
            entry["value"] = _plain(name, value)
        entry |= {key: text for key, text in (("unit", unit), ("note", note)) if text}
        self.numbers[name] = entry

    def results(self) -> None:
        """Show one table of all recorded numbers and save it under ``runs/results/``.

        The display carries the numbers as JSON too (`MIME_TYPE`), so that an executed notebook can
        be compared without reading its tables.
        """
        comparison = self.compare()
        payload = self.payload()
        path = results_file(self.settings)
        measured = {"seconds": round(time.perf_counter() - self.started, 1)}
        atomic_write(path, json.dumps(payload | measured, indent=1, ensure_ascii=False) + "\n")
        text = _as_text(payload, comparison)
        if get_ipython() is None:
            print(text)
            return
        bundle = {"text/plain": text, "text/html": _as_html(payload, comparison)}
        display.display({**bundle, MIME_TYPE: payload}, raw=True)

    def compare(self) -> pd.DataFrame | None:
        """The recorded numbers against their bands; None where this run has none."""
        settings = self.settings
        if settings.seed != 0 or settings.own_table:
            return None
        expected = expected_results(settings.notebook, settings.dataset, settings.profile)
        if expected is None:
            return None
        return compare(self.numbers, expected)

    def payload(self) -> dict[str, object]:
        """The run and its numbers as plain JSON: the same for two runs with the same outcome."""
        settings = self.settings
        return {
            "format": _FORMAT,
            "notebook": settings.notebook,
            "dataset": settings.dataset_label,
            "profile": settings.profile,
            "seed": settings.seed,
            "model": settings.model,
            "device": settings.device,
            "precision": settings.precision,
            "versions": {name: version(name) for name in _VERSIONS},
            "results": self.numbers,
        }


def results_file(settings: Settings) -> Path:
    """``runs/results/<notebook>/<dataset>-<profile>-seed<seed>.json``."""
    name = settings.dataset
    if settings.own_table:  # two files of one name in different folders must not share results
        stem = re.sub(r"[^\w-]+", "-", Path(name).stem) or "table"
        name = f"{stem}-{hashlib.sha256(settings.dataset.encode('utf-8')).hexdigest()[:8]}"
    file = f"{name}-{settings.profile}-seed{settings.seed}.json"
    return settings.runs / "results" / settings.notebook / file


def recorded_in(notebook: Mapping) -> dict | None:
    """What the results cell of a notebook (as nbformat or JSON has it) carries; see `payload`."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if MIME_TYPE in output.get("data", {}):
                return output["data"][MIME_TYPE]
    return None


def executed_results(executed: Path) -> dict | None:
    """What an executed notebook recorded; None where it did not come to its results."""
    return recorded_in(json.loads(executed.read_text(encoding="utf-8")))


def expected_file(notebook: str) -> Path:
    """Where the bands of a notebook's numbers are kept."""
    return project_folder() / "tests" / "expected" / f"{notebook}.json"


def expected_results(notebook: str, dataset: str, profile: str) -> dict[str, dict] | None:
    """The bands of a notebook's numbers, by name; None where none are kept for this run."""
    file = expected_file(notebook)
    if not file.is_file():
        return None
    return json.loads(file.read_text(encoding="utf-8"))["bands"].get(f"{dataset}-{profile}")


def compare(
    results: Mapping[str, object], expected: Mapping[str, Mapping[str, object]]
) -> pd.DataFrame:
    """Hold recorded numbers against their bands.

    Args:
        results: by name, numbers or what `Book.record` keeps (a mapping with "value").
        expected: by name, the bands as the module describes them.

    Returns:
        One row per name in either: name, value, expected, tolerance, band (as text) and ok. A
        number without a band and a band without a number are both not ok.
    """
    rows = []
    for name in [*results, *(name for name in expected if name not in results)]:
        value = results.get(name)
        value = value.get("value") if isinstance(value, Mapping) else value
        band = expected.get(name)
        rows.append(
            {
                "name": name,
                "value": value,
                "expected": None if band is None else band.get("value"),
                "tolerance": None if band is None else band.get("tolerance"),
                "band": "no band" if band is None else band_text(band),
                "ok": band is not None and name in results and in_band(value, band),
            }
        )
    columns = ["name", "value", "expected", "tolerance", "band", "ok"]
    return pd.DataFrame(rows, columns=columns).astype({"value": object, "expected": object})


def in_band(value: object, band: Mapping[str, object]) -> bool:
    """Whether one value lies in its band; an undefined value (None) lies in none."""
    known = {"value", "tolerance", "at_least", "at_most", "any", "why"}
    if unknown := set(band) - known:
        raise ValueError(f"unknown key in a band: {', '.join(sorted(unknown))}")
    if "any" in band:
        return True
    limits = [key for key in ("value", "at_least", "at_most") if key in band]
    if not limits:
        raise ValueError('a band needs "value" with "tolerance", "at_least", "at_most" or "any"')
    if value is None:
        return False
    ok = True
    if "value" in band:
        wanted = band["value"]
        if isinstance(wanted, bool) or isinstance(value, bool):
            ok = value is wanted
        else:
            ok = abs(value - wanted) <= band["tolerance"] + 1e-12
    if "at_least" in band:
        ok = ok and value >= band["at_least"]
    if "at_most" in band:
        ok = ok and value <= band["at_most"]
    return bool(ok)


def band_text(band: Mapping[str, object]) -> str:
    """A band in words: "0.963 ± 0.008", "≥ 0.5", "not compared: a time"."""
    if "any" in band:
        return f"not compared: {band['any']}"
    parts = []
    if "value" in band:
        value, tolerance = band["value"], band.get("tolerance")
        decimals = None if tolerance is None else _decimals_of(tolerance)
        if decimals is None or isinstance(value, int):
            parts.append(format_number(value))
            parts[0] += "" if tolerance is None else f" ± {format_number(tolerance)}"
        else:
            parts.append(f"{_fixed(value, decimals)} ± {_fixed(tolerance, decimals)}")
    if "at_least" in band:
        parts.append(f"≥ {format_number(band['at_least'])}")
    if "at_most" in band:
        parts.append(f"≤ {format_number(band['at_most'])}")
    return ", ".join(parts)


def proposed_band(entry: Mapping[str, object]) -> dict[str, object]:
    """A first band for a new number, to be judged by whoever adds it.

    With an interval: a quarter of its width either way, half of what chance alone does to the
    number (another machine's rounding does less). Without: 2 % of the value; counts and truth
    values exactly.
    """
    value = entry["value"]
    if isinstance(value, (bool, int)):
        return {"value": value, "tolerance": 0} if not isinstance(value, bool) else {"value": value}
    if entry.get("low") is not None and entry.get("high") is not None:
        return {"value": value, "tolerance": _two_digits((entry["high"] - entry["low"]) / 4)}
    return {"value": value, "tolerance": _two_digits(0.02 * abs(value))}


def format_number(value: object) -> str:
    """A number as the tables print it: three decimals, thousands with commas, a real minus."""
    if value is None:
        return "undefined"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3:
        return f"{value:.1e}".replace("-", "−")
    return _fixed(value, _decimals_by_size(value))


def format_interval(value: object, low: object, high: object) -> tuple[str, str]:
    """A number and its interval, all three with the decimals of the number, or more if narrow.

    An interval has two digits of its width at least: four decimals for one of 0.0021. Where five
    decimals would not do, or an end is undefined, each is printed by itself.
    """
    ends = (value, low, high)
    if not any(end is None or isinstance(end, bool) for end in ends) and high > low:
        decimals = max(_decimals_by_size(value), 1 - math.floor(math.log10(high - low)))
        if decimals <= _MOST_DECIMALS:
            value, low, high = (_fixed(end, decimals) for end in ends)
            return value, f"[{low}, {high}]"
    return format_number(value), f"[{format_number(low)}, {format_number(high)}]"


def _fixed(value: float, decimals: int) -> str:
    """With commas, a minus, and none before a zero."""
    return f"{value:z,.{decimals}f}".replace("-", "−")


def _decimals_by_size(value: float) -> int:
    return 0 if abs(value) >= 100 else 3 if abs(value) < 10 else 1


def _decimals_of(tolerance: float) -> int | None:
    """Decimals that its first two digits need: 3 for 0.025; None where none or too many do."""
    if tolerance == 0:
        return None
    needed = -Decimal(f"{tolerance:.2g}").normalize().as_tuple().exponent
    decimals = max(needed, 2 if tolerance < 1 else 0)
    return decimals if decimals <= _MOST_DECIMALS else None


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")


def _plain(name: str, value: object) -> float | int | bool | None:
    """A plain JSON number; what is not finite becomes None ("undefined")."""
    if hasattr(value, "item"):  # NumPy scalars, tensors of one element
        value = value.item()
    if isinstance(value, (bool, int)):
        return value
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    raise ValueError(f'record("{name}"): {type(value).__name__} is not a number or an estimate')


def _table_rows(payload: dict, comparison: pd.DataFrame | None) -> list[list[str]]:
    """One row per recorded number: name, value, interval, (expected), note."""
    bands = {} if comparison is None else comparison.set_index("name")[["band", "ok"]].T.to_dict()
    rows = []
    for name, entry in payload["results"].items():
        value, interval = format_number(entry["value"]), ""
        if "low" in entry:
            level = entry.get("level") or 0.95
            value, interval = format_interval(entry["value"], entry["low"], entry["high"])
            interval += f" ({100 * level:g}%)" if level != 0.95 else ""
        row = [name, value + (f" {entry['unit']}" if "unit" in entry else ""), interval]
        if comparison is not None:
            band, ok = bands[name]["band"], bands[name]["ok"]
            marked = band.startswith("not compared") or band == "no band"
            row.append(band if marked else f"{'✓' if ok else '✗'} {band}")
        rows.append([*row, str(entry.get("note", ""))])
    return rows


def _heading(payload: dict) -> str:
    return (
        f"{payload['notebook']}: dataset {payload['dataset']}, profile {payload['profile']}, "
        f"seed {payload['seed']}, model {payload['model']}, {payload['device']} "
        f"{payload['precision']}"
    )


def _columns(comparison: pd.DataFrame | None) -> list[str]:
    expected = [] if comparison is None else ["expected"]
    return ["result", "value", "95 % interval", *expected, "note"]


def _verdict(comparison: pd.DataFrame | None) -> str:
    """What left its band, in one line; empty where nothing is compared."""
    if comparison is None:
        return ""
    has_band = comparison["band"] != "no band"
    left = comparison.loc[has_band & ~comparison["ok"], "name"].tolist()
    new = comparison.loc[~has_band, "name"].tolist()
    total = int((has_band & ~comparison["band"].str.startswith("not compared")).sum())
    text = f"{total - len(left)} of {total} compared numbers are in their expected band."
    if left:
        text += f" Outside: {', '.join(left)}."
    if new:
        text += f" Without a band: {', '.join(new)}."
    return text


def _as_text(payload: dict, comparison: pd.DataFrame | None) -> str:
    table = [_columns(comparison), *_table_rows(payload, comparison)]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in table
    ]
    verdict = _verdict(comparison)
    return "\n".join(line.rstrip() for line in [_heading(payload), *lines, verdict]).rstrip()


def _as_html(payload: dict, comparison: pd.DataFrame | None) -> str:
    def line(cells: list[str], tag: str) -> str:
        return "".join(f'<{tag} style="{_STYLE}">{html.escape(cell)}</{tag}>' for cell in cells)

    head = f"<tr>{line(_columns(comparison), 'th')}</tr>"
    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in _table_rows(payload, comparison))
    heading, verdict = html.escape(_heading(payload)), html.escape(_verdict(comparison))
    return (
        f"<table><caption>{heading}</caption><thead>{head}</thead><tbody>{body}</tbody></table>"
        + (f"<p>{verdict}</p>" if verdict else "")
    )
