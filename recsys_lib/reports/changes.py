"""What changed between two runs, or two sweeps: number by number, with what chance allows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recsys_lib.reports.numbers import bands_of
from recsys_lib.reports.sweeps import point_of, varying

MEANING = (
    "A number has moved beyond its intervals if each of the two values lies outside the other's "
    "interval; where only one has an interval, if the other value lies outside it. Where neither "
    "has one, it has moved if the two differ by more than the tolerance of the number's expected "
    "band; without such a band it can only be said that they differ. Intervals tell what chance "
    "does to one number: of many numbers, some move by chance alone."
)
MOVED, WITHIN, SAME = "moved", "within intervals", "the same"
TOLERATED, DIFFERS, UNDEFINED = "within tolerance", "differs, no interval", "undefined in one"


@dataclass(frozen=True)
class Change:
    """A number that both have."""

    notebook: str
    point: str  # values of the parameters that vary within one of the two; empty without
    name: str
    one: Mapping[str, object]
    other: Mapping[str, object]
    verdict: str

    @property
    def difference(self) -> float | None:
        """The first value minus the second; None where that has no meaning."""
        a, b = self.one.get("value"), self.other.get("value")
        if a is None or b is None or isinstance(a, bool) or isinstance(b, bool):
            return None
        return a - b


@dataclass(frozen=True)
class Comparison:
    """All numbers of the one and the other: (notebook, point, name) of those in one alone."""

    changes: tuple[Change, ...]  # those that moved first
    only_one: tuple[tuple[str, str, str], ...]
    only_other: tuple[tuple[str, str, str], ...]
    differing: tuple[str, ...]  # texts: what the runs themselves do not share

    @property
    def moved(self) -> list[Change]:
        """What moved beyond its intervals."""
        return [change for change in self.changes if change.verdict == MOVED]


def compare_runs(runs: Sequence, others: Sequence) -> Comparison:
    """Compare runs of notebooks or of sweeps, number by number.

    Numbers belong together that have the same notebook and name and, where parameters vary within
    one of the two, the same values of these.
    """
    names = tuple(dict.fromkeys((*varying(runs), *varying(others))))
    one, other = _by_key(runs, names), _by_key(others, names)
    found = []
    for key in one:
        if key in other:
            run, entry = one[key]
            _, against = other[key]
            tolerance = _tolerance(run, key[2])
            found.append(Change(*key, entry, against, verdict(entry, against, tolerance)))
    order = [MOVED, DIFFERS, UNDEFINED, TOLERATED, WITHIN, SAME]
    found.sort(key=lambda change: order.index(change.verdict))
    return Comparison(
        tuple(found),
        tuple(key for key in one if key not in other),
        tuple(key for key in other if key not in one),
        tuple(_differing(runs, others, names)),
    )


def verdict(one: Mapping[str, object], other: Mapping[str, object], tolerance: float | None) -> str:
    """Whether a number moved; see `MEANING`."""
    a, b = one.get("value"), other.get("value")
    if a is None or b is None:
        return SAME if a is b else UNDEFINED
    if a == b:
        return SAME
    outside = [
        not entry["low"] <= value <= entry["high"]
        for value, entry in ((a, other), (b, one))
        if entry.get("low") is not None and entry.get("high") is not None
    ]
    if outside:
        return MOVED if all(outside) else WITHIN
    if tolerance is None:
        return DIFFERS
    return MOVED if abs(a - b) > tolerance + 1e-12 else TOLERATED


def _by_key(runs: Sequence, names: Sequence[str]) -> dict[tuple[str, str, str], tuple]:
    found: dict[tuple[str, str, str], tuple] = {}
    for run in runs:
        point = point_text(point_of(run, names))
        for name, entry in run.results.items():
            key, again = (run.notebook, point, name), 1
            while key in found:  # the same notebook twice with the same parameters
                again += 1
                key = (run.notebook, f"{point} (no. {again})".strip(), name)
            found[key] = (run, entry)
    return found


def point_text(point: Mapping[str, object]) -> str:
    """``seed 1, profile quick``."""
    return ", ".join(f"{name} {value}" for name, value in point.items())


def _tolerance(run, name: str) -> float | None:
    """Of the expected band of a number; None where it has none."""
    dataset = run.payload.get("dataset", run.parameters.get("dataset"))
    bands = bands_of(run.notebook, dataset, run.parameters.get("profile", "quick"))
    return ((bands or {}).get(name) or {}).get("tolerance")


def _differing(runs: Sequence, others: Sequence, names: Sequence[str]):
    """Parameters that are one value here and another one there."""
    first = {run.notebook: run.parameters for run in runs}
    for notebook, parameters in {run.notebook: run.parameters for run in others}.items():
        for name, value in first.get(notebook, {}).items():
            if name not in names and name in parameters and parameters[name] != value:
                yield f"{notebook}: {name} is {value} here and {parameters[name]} there"
