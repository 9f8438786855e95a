"""The rules that every committed notebook keeps, each a function from a notebook to its faults.

A rule takes the notebook and its path and returns one line per fault. What a rule needs besides
(the README, the expected results) it finds from the path: notebooks/ lies in the project's folder.
"""

import ast
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import papermill

from recsys_lib.workbook.results import MIME_TYPE, band_text, in_band, recorded_in

MAX_LINES = 25  # of one cell, blank ones too
MAX_BYTES = 3_000_000
MAX_OUTPUT_LINES = 40
COMMON = {"profile": "quick", "dataset": "auto", "seed": 0}
MARKER = "NBVAL_CHECK_OUTPUT"
Notebook = nbformat.NotebookNode
Rule = Callable[[Notebook, Path], list[str]]


def code_cells(notebook: Notebook) -> Iterator[tuple[int, Notebook]]:
    """Code cells with their number, counted from 0 over all cells."""
    return ((i, cell) for i, cell in enumerate(notebook.cells) if cell.cell_type == "code")


def markdown(notebook: Notebook) -> str:
    """All text of the notebook."""
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def tagged(notebook: Notebook, tag: str) -> list[tuple[int, Notebook]]:
    """Code cells with a tag."""
    return [(i, cell) for i, cell in code_cells(notebook) if tag in cell.metadata.get("tags", [])]


def output_text(cell: Notebook) -> str:
    """What a cell printed and displayed as text."""
    parts = []
    for output in cell.outputs:
        parts.append(output.get("text", ""))
        data = output.get("data", {})
        parts.append(data.get("text/markdown") or data.get("text/plain", ""))
    return "\n".join("".join(part) for part in parts)


def checked_cells(notebook: Notebook) -> list[int]:
    """The numbers of the code cells whose output nbval really compares."""
    found = []
    for i, cell in code_cells(notebook):
        marked = re.search(rf"^\s*#+\s*{MARKER}\s*$", cell.source, re.MULTILINE)
        texts = [output for output in cell.outputs if _comparable(output)]
        if marked and texts and cell.execution_count:
            found.append(i)
    return found


def _comparable(output: Notebook) -> bool:
    """nbval skips pictures; an empty text proves nothing."""
    if output.output_type == "stream":
        return bool(output.text.strip())
    data = output.get("data", {})
    return any(str(data[kind]).strip() for kind in data if not kind.startswith("image/"))


def is_valid(notebook: Notebook, path: Path) -> list[str]:
    """Valid notebook format with cell ids, the plain kernel, and no traces of tools."""
    faults = []
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        faults.append(f"not a valid notebook: {error.message}")
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        faults.append('the kernel must be "python3"')
    allowed = {"kernelspec", "language_info"}
    faults += [f"notebook metadata has {key}" for key in notebook.metadata if key not in allowed]
    for i, cell in enumerate(notebook.cells):
        extra = set(cell.metadata) - {"tags", "jupyter", "collapsed", "editable", "slideshow"}
        faults += [f"cell {i}: metadata has {key}" for key in sorted(extra)]
        if not cell.source.strip():
            faults.append(f"cell {i} is empty")
    return faults


def parameters_cell(notebook: Notebook, path: Path) -> list[str]:
    """The first code cell declares the parameters: typed, commented literals and nothing else."""
    cells = tagged(notebook, "parameters")
    if len(cells) != 1:
        return [f"{len(cells)} cells are tagged parameters; one must be"]
    number, cell = cells[0]
    faults = []
    if number != next(i for i, _ in code_cells(notebook)):
        faults.append("the parameters cell must be the first code cell")
    values = {}
    lines = cell.source.splitlines()
    for node in ast.parse(cell.source).body:
        text = ast.get_source_segment(cell.source, node)
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            faults.append(f'"{text}" must be like: name: type = value  # what it means')
            continue
        name = node.target.id
        try:
            values[name] = ast.literal_eval(node.value)
        except (ValueError, TypeError):
            faults.append(f"{name} is derived; only literals may stand here: papermill comes after")
        comment = re.search(r"#\s*(.+)$", lines[node.end_lineno - 1])
        if comment is None or len(comment[1].split()) < 3:
            faults.append(f"{name} needs a comment that says what it means")
    for name, default in COMMON.items():
        if name not in values:
            faults.append(f"the parameter {name} is missing")
        elif values[name] != default:
            faults.append(f"the parameter {name} must be {default!r} in the committed notebook")
    described = papermill.inspect_notebook(str(path)) if path.is_file() else {}
    for name in values:
        if name not in described:
            faults.append(
                f'papermill cannot read the line of {name}: no "=" in its comment, please'
            )
        elif not described[name]["help"] or described[name]["inferred_type_name"] == "None":
            faults.append(f"papermill --help-notebook has no type or no help for {name}")
    return faults


def executed_in_order(notebook: Notebook, path: Path) -> list[str]:
    """Every code cell was executed, once, from top to bottom in a fresh kernel."""
    counts = [cell.execution_count for _, cell in code_cells(notebook)]
    if counts == list(range(1, len(counts) + 1)):
        return []
    wrong = next(i for i, count in enumerate(counts) if count != i + 1)
    return [f"execution counts must run 1, 2, 3 …; code cell {wrong} has {counts[wrong]}"]


def clean_outputs(notebook: Notebook, path: Path) -> list[str]:
    """No errors, nothing on stderr, no progress bars, no widgets, no scripts, no walls of text."""
    faults = []
    for i, cell in code_cells(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            text = "".join(output.get("text", "")) + str(data.get("text/plain", ""))
            html = str(data.get("text/html", ""))
            if output.output_type == "error":
                faults.append(f"cell {i}: error output {output.ename}")
            if output.get("name") == "stderr":
                faults.append(f"cell {i}: output on stderr: {output.text[:60]!r}")
            if "\r" in text or re.search(r"\d+%\|| it/s\]|it/s\]", text) or "<progress" in html:
                faults.append(f"cell {i}: a progress bar is left in the output")
            if any("widget" in kind for kind in data):
                faults.append(f"cell {i}: a widget is left in the output")
            if "<script" in html.lower():
                faults.append(f"cell {i}: a script in the output's HTML")
            if MIME_TYPE not in data and len(text.splitlines()) > MAX_OUTPUT_LINES:
                faults.append(f"cell {i}: a wall of text, {len(text.splitlines())} lines")
    return faults


def short_cells(notebook: Notebook, path: Path) -> list[str]:
    """No code cell over `MAX_LINES` lines: blank ones count, and so do solutions."""
    counts = ((i, len(cell.source.splitlines())) for i, cell in code_cells(notebook))
    return [f"cell {i} has {n} lines, more than {MAX_LINES}" for i, n in counts if n > MAX_LINES]


def alt_texts(notebook: Notebook, path: Path) -> list[str]:
    """Every picture has an alt text of a sentence, in outputs and in the text."""
    faults = []
    for i, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            for kind in output.get("data", {}):
                if kind.startswith("image/"):
                    alt = output.metadata.get(kind, {}).get("alt", "")
                    if len(alt.split()) < 4:
                        faults.append(
                            f"cell {i}: a picture has no alt text: plots.show(fig, alt=…)"
                        )
            for image in re.findall(r"<img\b[^>]*>", str(output.get("data", {}).get("text/html"))):
                if not re.search(r"\balt=[\"'][^\"']{10,}", image):
                    faults.append(f"cell {i}: an <img> has no alt text")
        if cell.cell_type == "markdown":
            pictures = re.findall(r"!\[([^\]]*)\]\(", cell.source)
            faults += [f"cell {i}: a picture has no alt text" for alt in pictures if len(alt) < 10]
    return faults


def solutions(notebook: Notebook, path: Path) -> list[str]:
    """At least three exercises that answer; each solution is hidden and passes its own check."""
    faults = []
    exercises = re.findall(r"^#+\s.*\bexercise\s+\d", markdown(notebook), re.I | re.M)
    cells = tagged(notebook, "solution")
    if len(exercises) < 3:
        faults.append(f"{len(exercises)} exercises (headings such as “### Exercise 1 …”), need 3")
    if len(cells) != len(exercises):
        faults.append(f"{len(exercises)} exercises but {len(cells)} cells tagged solution")
    for i, cell in cells:
        if not cell.metadata.get("jupyter", {}).get("source_hidden"):
            faults.append(f"cell {i}: a solution must be hidden (jupyter.source_hidden)")
        if not cell.metadata.get("collapsed"):
            faults.append(f"cell {i}: a solution must be collapsed")
        if not re.search(r"\bcheck_\w+\(", cell.source):
            faults.append(f"cell {i}: the solution does not call its check_…")
        text = output_text(cell)
        if "✓" not in text or "✗" in text:
            faults.append(f"cell {i}: the solution does not pass its own check")
    for i, cell in code_cells(notebook):
        asks = re.search(r"\bcheck_\w+\(", cell.source)
        if asks and "solution" not in cell.metadata.get("tags", []) and "✓" in output_text(cell):
            faults.append(f"cell {i}: the exercise passes before anybody answered it")
    return faults


def small_and_portable(notebook: Notebook, path: Path) -> list[str]:
    """Under 3 MB, and no paths or addresses of the machine it ran on."""
    faults = []
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        faults.append(f"{path.stat().st_size / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:.0f}")
    pattern = (
        r"(?<![\w.:/])/(?:home|root|work|tmp|Users|mnt|opt|usr|var|private)/[\w.-]+"
        r"|[A-Z]:\\\\?Users|site-packages|\.venv/|0x[0-9a-f]{8,}"
    )
    for i, cell in enumerate(notebook.cells):
        pieces = [cell.source]
        for output in cell.get("outputs", []):
            data = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
            pieces += [json.dumps(data, ensure_ascii=False), "".join(output.get("text", ""))]
            pieces += output.get("traceback", [])
        for piece in pieces:
            if found := re.search(pattern, piece):
                faults.append(f"cell {i}: a path or address of one machine: {found[0]}")
    return faults


def opening(notebook: Notebook, path: Path) -> list[str]:
    """Title, question, answer, and the table of what one learns, needs, and how long it takes."""
    cells = []
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            break
        cells.append(cell.source)
    text = "\n\n".join(cells)
    faults = []
    if not re.match(r"# \S", text):
        faults.append('the first cell must begin with the title: "# …"')
    if "?" not in text:
        faults.append("the opening asks no question")
    if not re.search(r"\banswer\b|in the committed run", text, re.I):
        faults.append("the opening gives no answer")
    table = "\n".join(line for line in text.splitlines() if line.lstrip().startswith("|")).lower()
    for words in ("you will learn", "you need", "minutes on two cores", "minutes on one gpu"):
        if words not in table:
            faults.append(f'the opening table has no "{words}"')
    return faults


def headings(notebook: Notebook, path: Path) -> list[str]:
    """One title, sections in steps of one level, and a short list of what to remember."""
    text = re.sub(r"^```.*?^```", "", markdown(notebook), flags=re.M | re.S)
    found = [(len(m[1]), m[2].strip()) for m in re.finditer(r"^(#+) +(.+)$", text, re.M)]
    faults = []
    if [level for level, _ in found].count(1) != 1:
        faults.append("there must be exactly one title (#)")
    for (above, _), (level, title) in itertools.pairwise(found):
        if level > above + 1:
            faults.append(f'"{title}" skips a heading level')
    if sum(level == 2 for level, _ in found) < 3:
        faults.append("fewer than three sections (##)")
    remember = re.search(r"^## .*\bremember\b.*$([\s\S]*)", text, re.I | re.M)
    if remember is None:
        faults.append('no section "What you should remember" at the end')
    else:
        points = re.split(r"^#", remember[1].strip(), maxsplit=1, flags=re.M)[0]
        count = len(re.findall(r"^(?:[-*]|\d+\.) ", points, re.M))
        if not 1 <= count <= 5:
            faults.append(f'"What you should remember" has {count} points; 1 to 5 are right')
        if not re.search(r"\bnext\b", remember[1], re.I):
            faults.append("the end does not name the next notebook")
    return faults


def real_dataset(path: Path) -> str:
    """The real data set that a notebook takes first: the one that its parameter's comment names
    after the market."""
    comment = papermill.inspect_notebook(str(path))["dataset"]["help"]
    return re.search(r'"market", "(\w+)"', comment)[1]


def results_cell(notebook: Notebook, path: Path) -> list[str]:
    """One results cell, of a quick run on real data with seed 0, its numbers in their bands."""
    cells = [i for i, cell in code_cells(notebook) if "book.results()" in cell.source]
    payload = recorded_in(notebook)
    if len(cells) != 1 or payload is None:
        return ["there must be one cell with book.results(), with its output"]
    faults = []
    if payload["notebook"] != path.stem:
        faults.append(f'workbook.start is called for "{payload["notebook"]}"')
    run = {key: payload[key] for key in ("dataset", "profile", "seed")}
    real = real_dataset(path)
    if run != {"dataset": real, "profile": "quick", "seed": 0}:
        faults.append(f"committed outputs must be of {real}, quick, seed 0, not {run}")
    if not payload["results"]:
        faults.append("nothing is recorded")
    return faults + outside_bands(payload, path)


def outside_bands(payload: dict, path: Path) -> list[str]:
    """The recorded numbers that are not in their band, each with the value and the band."""
    file = path.parents[1] / "tests" / "expected" / f"{path.stem}.json"
    if not file.is_file():
        return [f"no expected results: tests/expected/{file.name}"]
    key = f"{payload['dataset']}-{payload['profile']}"
    bands = json.loads(file.read_text(encoding="utf-8"))["bands"].get(key)
    if bands is None:
        return [f"tests/expected/{file.name} has no bands for {key}"]
    faults = [f"no band for {name}" for name in payload["results"] if name not in bands]
    for name, band in bands.items():
        if name not in payload["results"]:
            faults.append(f"{name} was not recorded; expected {band_text(band)}")
        elif not in_band(payload["results"][name]["value"], band):
            value = payload["results"][name]["value"]
            faults.append(f"{name} is {value!r}; expected {band_text(band)}")
    return faults


def answer_agrees(notebook: Notebook, path: Path) -> list[str]:
    """Decimals, percentages and ratios quoted from "the committed run" are recorded results."""
    payload = recorded_in(notebook) or {"results": {}}
    known = [
        float(entry[part])
        for entry in payload["results"].values()
        for part in ("value", "low", "high")
        if entry.get(part) is not None
    ]
    faults = []
    for paragraph in re.split(r"\n\s*\n", markdown(notebook)):
        if "committed run" not in paragraph:
            continue
        for number, unit in _quoted_numbers(paragraph):
            digits = len(number.partition(".")[2])
            value = abs(float(number.replace(",", "").replace("−", "-")))
            factors = (1, 100) if unit == "%" else (1,)
            gaps = [abs(value - abs(result) * factor) for result in known for factor in factors]
            if min(gaps, default=1) > 0.5 * 10**-digits + 1e-9:
                faults.append(f"{number}{unit} is quoted from the committed run but not recorded")
    return faults


def _quoted_numbers(paragraph: str) -> list[tuple[str, str]]:
    """Decimals ("0.973"), percentages ("68 %") and ratios ("5×"); "95 %" may be a level."""
    text = re.sub(r"`[^`]*`|\]\([^)]*\)|\$[^$]*\$", " ", paragraph)
    pattern = r"(?<![\w.@-])([−-]?\d[\d,]*(?:\.\d+)?)(?:\s?(%|×))?(?![\w])"
    found = [(number.rstrip(","), unit) for number, unit in re.findall(pattern, text)]
    return [
        (number, unit)
        for number, unit in found
        if ("." in number or unit) and not (number == "95" and unit == "%")
    ]


def compared_by_nbval(notebook: Notebook, path: Path) -> list[str]:
    """Some cells are marked for comparison, and each marked one has something to compare."""
    marked = [i for i, cell in code_cells(notebook) if MARKER in cell.source]
    compared = checked_cells(notebook)
    if not marked:
        return [f"no cell is marked # {MARKER}: nothing is compared"]
    return [
        f"cell {i} is marked {MARKER} but nbval has nothing to compare"
        for i in marked
        if i not in compared
    ]


def nothing_hidden(notebook: Notebook, path: Path) -> list[str]:
    """Warnings are mended, not filtered away, and no cell is kept from nbval."""
    pattern = (
        r"filterwarnings|simplefilter|%%capture|NBVAL_(?:SKIP|IGNORE_OUTPUT|RAISES_EXCEPTION)"
        r"|redirect_stderr"
    )
    faults = []
    for i, cell in code_cells(notebook):
        if found := re.search(pattern, cell.source):
            faults.append(f"cell {i}: hides something: {found[0]}")
        hiding = {"nbval-skip", "nbval-ignore-output", "raises-exception", "nbval-raises-exception"}
        faults += [f"cell {i}: tag {tag}" for tag in cell.metadata.get("tags", []) if tag in hiding]
    return faults


def in_readme(notebook: Notebook, path: Path) -> list[str]:
    """The README's map names the notebook."""
    readme = path.parents[1] / "README.md"
    if readme.is_file() and path.stem in readme.read_text(encoding="utf-8"):
        return []
    return [f"README.md does not name {path.stem}"]


RULES: tuple[Rule, ...] = (
    is_valid,
    parameters_cell,
    executed_in_order,
    clean_outputs,
    short_cells,
    alt_texts,
    solutions,
    small_and_portable,
    opening,
    headings,
    results_cell,
    answer_agrees,
    compared_by_nbval,
    nothing_hidden,
    in_readme,
)
