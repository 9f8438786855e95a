"""One executed notebook, as far as a report needs it."""

import ast
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from recsys_lib.workbook.errors import InputError
from recsys_lib.workbook.results import recorded_in

LEFT_OUT = ("Exercises", "Results", "What you should remember")  # sections, see `pages`
OF_ANOTHER_RUN = ("**The answer.**", "committed run")  # marks of paragraphs that quote one
_PAPERMILLS = "papermill-error-cell-tag"  # on cells that papermill adds to a notebook that failed
_ENTRY = ("value", "low", "high", "level")


@dataclass(frozen=True)
class Figure:
    """A picture of a notebook."""

    png: str  # in base64
    alt: str


@dataclass(frozen=True)
class Section:
    """A section: what it is about, and its pictures."""

    heading: str
    idea: str  # Markdown
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Failure:
    """A cell that ended in an error, or a notebook that ended without its numbers."""

    error: str
    cell: int | None = None  # its number as the notebook shows it
    source: str = ""


@dataclass(frozen=True)
class Run:
    """One run of one notebook."""

    path: Path
    notebook: str
    title: str
    question: str  # Markdown
    sections: tuple[Section, ...] = ()
    payload: Mapping[str, object] = field(default_factory=dict)  # of `Book.payload`
    defaults: Mapping[str, object] = field(default_factory=dict)
    given: Mapping[str, object] = field(default_factory=dict)  # in place of defaults
    seconds: float | None = None
    began: str = ""
    failures: tuple[Failure, ...] = ()

    @property
    def results(self) -> Mapping[str, Mapping[str, object]]:
        """The recorded numbers by name."""
        return self.payload.get("results", {})

    @property
    def parameters(self) -> dict[str, object]:
        """Every parameter as it was; ``dataset`` is what "auto" became, where that is known."""
        all_of_them = {**self.defaults, **self.given}
        if all_of_them.get("dataset") == "auto" and "dataset" in self.payload:
            all_of_them["dataset"] = self.payload["dataset"]
        return all_of_them


def read_run(path: Path) -> Run:
    """Read an executed notebook.

    Raises:
        InputError: a file that cannot be read, that is no notebook, or whose numbers are none.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        if notebook["nbformat"] < 4:
            raise InputError(f"{path} is a notebook of an old format: open and save it in Jupyter.")
        return _run(path, notebook)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path} is not a notebook.") from None


def _run(path: Path, notebook: dict) -> Run:
    cells = [
        cell
        for cell in notebook["cells"]
        if _PAPERMILLS not in cell.get("metadata", {}).get("tags", [])
    ]
    payload = _payload(path, cells)
    papermill = notebook["metadata"].get("papermill", {})
    title, question = _opening(cells)
    failures = tuple(_failures(cells))
    if not failures and not payload and papermill:
        failures = (Failure("It did not run to its end: it holds no table of recorded numbers."),)
    return Run(
        path=path,
        notebook=str(payload.get("notebook", path.stem)),
        title=title or path.stem,
        question=question,
        sections=tuple(_sections(cells)),
        payload=payload,
        defaults=_defaults(cells),
        given=dict(papermill.get("parameters", {})),
        seconds=_seconds(papermill, cells),
        began=str(papermill.get("start_time") or ""),
        failures=failures,
    )


def text_of(value: object) -> str:
    """A source or an output, which notebooks keep as a text or as a list of lines."""
    return "".join(value) if isinstance(value, list) else str(value)


def _payload(path: Path, cells: list[dict]) -> dict:
    payload = recorded_in({"cells": cells})
    if payload is None:
        return {}
    for name, entry in payload["results"].items():
        if not isinstance(entry, dict) or not all(_is_number(entry.get(part)) for part in _ENTRY):
            raise InputError(f'{path}: the recorded number "{name}" is not a number.')
    if not isinstance(payload.get("versions", {}), dict):
        raise InputError(f"{path}: its table of recorded numbers has no list of versions.")
    return payload


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (bool, int))


def _failures(cells: list[dict]) -> Iterator[Failure]:
    for cell in cells:
        if "raises-exception" in cell.get("metadata", {}).get("tags", []):
            continue
        for output in cell.get("outputs", []):
            if output.get("output_type") == "error":
                told = f"{output.get('ename', 'Error')}: {output.get('evalue', '')}".strip()
                yield Failure(told, cell.get("execution_count"), text_of(cell["source"]))


def _opening(cells: list[dict]) -> tuple[str, str]:
    """The title and the question, both from the first cell of text."""
    first = next((text_of(c["source"]) for c in cells if c["cell_type"] == "markdown"), "")
    heading = re.search(r"^# +(.+)$", first, flags=re.MULTILINE)
    kept = [text for text in paragraphs(first) if not text.startswith("#")]
    asked = [text for text in kept if text.startswith("**The question.**")]
    return heading[1].strip() if heading else "", (asked or kept or [""])[0]


def paragraphs(text: str) -> list[str]:
    """What blank lines part in Markdown, without paragraphs that quote another run."""
    found = re.split(r"\n\s*\n", text.strip())
    return [part for part in found if part and not any(mark in part for mark in OF_ANOTHER_RUN)]


def _sections(cells: list[dict]) -> Iterator[Section]:
    """The sections with an idea or a picture, but for those that belong to the notebook alone."""
    heading, idea, figures = "", "", []
    for cell in cells:
        if cell["cell_type"] == "markdown":
            for begun, text in _headed(text_of(cell["source"])):
                yield from _kept(heading, idea, figures)
                heading, idea, figures = begun, "\n\n".join(paragraphs(text)), []
        figures += _figures(cell)
    yield from _kept(heading, idea, figures)


def _kept(heading: str, idea: str, figures: list[Figure]) -> list[Section]:
    named = any(heading.endswith(name) for name in LEFT_OUT)
    if named or not (idea or figures):
        return []
    return [Section(heading, idea, tuple(figures))]


def _headed(text: str) -> Iterator[tuple[str, str]]:
    """Each ``## heading`` in a cell, with the text up to the next heading of any level."""
    heading, body, fenced = "", [], False
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        found = None if fenced else re.match(r"(#{1,6}) +(.+)", line)
        if found is None:
            body.append(line)
            continue
        if heading:
            yield heading, "\n".join(body)
        heading, body = found[2].strip() if found[1] == "##" else "", []
    if heading:
        yield heading, "\n".join(body)


def _figures(cell: dict) -> Iterator[Figure]:
    for output in cell.get("outputs", []):
        if "image/png" in output.get("data", {}):
            about = output.get("metadata", {}).get("image/png", {})
            alt = str(about.get("alt") or "").strip() or "A picture without a description."
            yield Figure("".join(text_of(output["data"]["image/png"]).split()), alt)


def _defaults(cells: list[dict]) -> dict[str, object]:
    """The parameters as the notebook has them, those that are plain values."""
    found = {}
    for cell in cells:
        if "parameters" not in cell.get("metadata", {}).get("tags", []):
            continue
        with suppress(SyntaxError):
            for node in ast.parse(text_of(cell["source"])).body:
                if isinstance(node, (ast.Assign, ast.AnnAssign)):
                    name = node.targets[0] if isinstance(node, ast.Assign) else node.target
                    with suppress(ValueError):
                        found[ast.unparse(name)] = ast.literal_eval(node.value)
    return found


def _seconds(papermill: dict, cells: list[dict]) -> float | None:
    """How long it ran, where papermill has noted that; of a run cut short, its cells' seconds."""
    if (whole := _finite(papermill.get("duration"))) is not None:
        return whole
    noted = [cell.get("metadata", {}).get("papermill", {}).get("duration") for cell in cells]
    measured = [seconds for value in noted if (seconds := _finite(value)) is not None]
    return sum(measured) if measured else None


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
