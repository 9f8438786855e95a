"""Recorded numbers held against their bands, and the texts that tell them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recsys_lib.reports.notebooks import Run
from recsys_lib.workbook.files import MAIN_FILES
from recsys_lib.workbook.results import (
    band_text,
    compare,
    expected_results,
    format_interval,
    format_number,
)

IN, OUT, NOT_COMPARED, NO_BAND = "in its band", "outside", "not compared", "no band"
_WHERE = ("dataset", "profile", "seed")  # parameters that bands take into account


@dataclass(frozen=True)
class Number:
    """A recorded number, and what became of it."""

    name: str
    entry: Mapping[str, object]  # empty where the run has not recorded it
    band: str = ""
    verdict: str = ""  # IN, OUT, NOT_COMPARED, NO_BAND; empty where nothing is compared
    off: str = ""  # how far outside


def bands_of(notebook: str, dataset: object, profile: object) -> Mapping[str, Mapping] | None:
    """The bands of a notebook's numbers; None where none are kept."""
    if not re.fullmatch(r"\w+", notebook) or dataset not in (*MAIN_FILES, "market"):
        return None
    return expected_results(notebook, str(dataset), str(profile))


def judged(run: Run) -> list[Number]:
    """The numbers of a run, those outside their band first."""
    payload = run.payload
    bands = None
    if payload.get("seed") == 0:
        bands = bands_of(run.notebook, payload.get("dataset"), payload.get("profile"))
    if bands is None:
        return [Number(name, entry) for name, entry in run.results.items()]
    numbers = []
    for row in compare(run.results, bands).itertuples():
        entry, band = run.results.get(row.name, {}), bands.get(row.name)
        if band is None:
            verdict = NO_BAND
        elif not row.ok:
            verdict = OUT
        else:
            verdict = NOT_COMPARED if "any" in band else IN
        text = "" if band is None else band_text(band)
        off = distance(entry, band) if verdict == OUT else ""
        numbers.append(Number(row.name, entry, text, verdict, off))
    return sorted(numbers, key=lambda number: number.verdict != OUT)


def distance(entry: Mapping[str, object], band: Mapping[str, object]) -> str:
    """How far a number is outside its band, in words."""
    if not entry:
        return "not recorded"
    value, wanted = entry.get("value"), band.get("value")
    if value is None:
        return "undefined"
    if isinstance(value, bool) or isinstance(wanted, bool):
        return f"{format_number(value)} in place of {format_number(wanted)}"
    lows, highs = [band.get("at_least")], [band.get("at_most")]
    if wanted is not None:
        lows.append(wanted - band["tolerance"])
        highs.append(wanted + band["tolerance"])
    low = max((limit for limit in lows if limit is not None), default=value)
    high = min((limit for limit in highs if limit is not None), default=value)
    if value < low:
        return f"{format_number(low - value)} below"
    return f"{format_number(value - high)} above"


def changed(run: Run) -> dict[str, object]:
    """The parameters in which a run departs from the notebook, as bands do not foresee."""
    return {
        name: value
        for name, value in run.given.items()
        if name not in _WHERE and run.defaults.get(name) != value
    }


def value_text(entry: Mapping[str, object]) -> str:
    """A value as tables print it."""
    if not entry:
        return "not recorded"
    return format_interval(*(entry.get(part) for part in ("value", "low", "high")))[0]


def interval_text(entry: Mapping[str, object]) -> str:
    """``[low, high]``, with its level where that is not 95 %; empty without an interval."""
    if entry.get("low") is None or entry.get("high") is None:
        return ""
    level = entry.get("level") or 0.95
    told = format_interval(entry.get("value"), entry["low"], entry["high"])[1]
    return told if level == 0.95 else f"{told} ({level:.0%})"


def counted(number: int, what: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def listed(names: Sequence[str], most: int = 10) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
