"""Every committed notebook keeps every rule, and every rule notices the fault it is there for."""

import base64
import copy
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_output

from recsys_lib.workbook.files import project_folder
from recsys_lib.workbook.running import notebook_files
from tests.notebooks import rules
from tests.notebooks.samples import sample_project

NOTEBOOKS = notebook_files()


def test_there_are_notebooks_in_an_unbroken_order():
    numbers = [int(path.stem[:2]) for path in NOTEBOOKS]
    assert numbers == list(range(len(numbers)))
    assert numbers
    assert len(NOTEBOOKS) == len(list((project_folder() / "notebooks").glob("*.ipynb")))


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_keeps_the_rule(path, rule):
    faults = rule(nbformat.read(path, as_version=4), path)
    assert not faults, "\n".join([f"{path.name}: {rule.__doc__.splitlines()[0]}", *faults])


def test_ruff_finds_nothing():
    folder = project_folder()
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "notebooks"],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_shows_pictures_of_the_committed_runs():
    folder = project_folder()
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (folder / "README.md").read_text("utf-8"))
    assert shown
    drawn = {
        base64.b64decode(output.data["image/png"])
        for path in NOTEBOOKS
        for _, cell in rules.code_cells(nbformat.read(path, as_version=4))
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    }
    for name in shown:
        assert (folder / name).read_bytes() in drawn, (
            f"{name} is no output of a notebook (any more)"
        )


# What follows holds the rules themselves: a rule that cannot fail keeps nothing.


@pytest.fixture
def sample(tmp_path) -> Path:
    return sample_project(tmp_path)


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_the_sample_keeps_the_rule(sample, rule):
    assert rule(nbformat.read(sample, as_version=4), sample) == []


def _cell(notebook, text: str):
    return next(cell for cell in notebook.cells if text in cell.source)


def _replace(text: str, new: str) -> Callable:
    def plant(notebook):
        cell = _cell(notebook, text)
        cell.source = cell.source.replace(text, new)

    return plant


def _output(text: str, output) -> Callable:
    def plant(notebook):
        _cell(notebook, text).outputs.append(output)

    return plant


def _set(text: str, **metadata) -> Callable:
    return lambda notebook: _cell(notebook, text).metadata.update(metadata)


def _stream(text: str, name: str = "stdout"):
    return new_output("stream", name=name, text=text)


def _html(text: str):
    return new_output("display_data", {"text/html": text})


def _clear_outputs(text: str) -> Callable:
    def plant(notebook):
        _cell(notebook, text).outputs = []

    return plant


def _count(text: str, count: int | None) -> Callable:
    def plant(notebook):
        _cell(notebook, text).execution_count = count

    return plant


def _lengthen(text: str, lines: int) -> Callable:
    """Blank lines before the last line of a cell, until it has so many."""

    def plant(notebook):
        cell = _cell(notebook, text)
        *first, last = cell.source.splitlines()
        cell.source = "\n".join([*first, *[""] * (lines - len(first) - 1), last])

    return plant


def _record(name: str, value: float | None) -> Callable:
    def plant(notebook):
        rules.recorded_in(notebook)["results"][name] = {"value": value}

    return plant


def _run(**changes) -> Callable:
    return lambda notebook: rules.recorded_in(notebook).update(changes)


SOLUTION = "answer_2 = 2\n"
PLANTED = [
    (rules.is_valid, lambda nb: nb.metadata.update(papermill={"input_path": "x"})),
    (rules.is_valid, lambda nb: nb.metadata.kernelspec.update(name="my-kernel")),
    (rules.is_valid, _set("2 + 2", execution={"iopub.execute_input": "2026-01-01"})),
    (rules.is_valid, _replace("## A picture", " ")),
    (rules.parameters_cell, _set("profile: str", tags=[])),
    (rules.parameters_cell, _set("2 + 2", tags=["parameters"])),
    (rules.parameters_cell, _replace("seed: int = 0", "seed = 0")),
    (rules.parameters_cell, _replace("  # every random choice follows from it", "")),
    (rules.parameters_cell, _replace("seed: int = 0  #", "seed: int = len(profile)  #")),
    (rules.parameters_cell, _replace("seed: int = 0", "seed: int = 1")),
    (rules.parameters_cell, _replace('"auto"  #', '"market"  #')),
    (rules.parameters_cell, _replace("profile: str", "detail: str")),
    (rules.parameters_cell, _replace("every random choice", "seed = 1 gives another; it")),
    (rules.executed_in_order, _count("2 + 2", None)),
    (rules.executed_in_order, _count("2 + 2", 17)),
    (rules.executed_in_order, _count("profile: str", 2)),
    (rules.clean_outputs, _output("2 + 2", new_output("error", ename="E", evalue=""))),
    (rules.clean_outputs, _output("2 + 2", _stream("careful", "stderr"))),
    (rules.clean_outputs, _output("2 + 2", _stream(" 40%|████      | 4/10 [00:01<00:02]"))),
    (rules.clean_outputs, _output("2 + 2", _html('<progress value="3" max="4"></progress>'))),
    (rules.clean_outputs, _output("2 + 2", _html("<SCRIPT>alert(1)</SCRIPT>"))),
    (rules.clean_outputs, _output("2 + 2", _stream("line\n" * 41))),
    (
        rules.clean_outputs,
        _output("2 + 2", new_output("display_data", {"application/x-widget-view+json": {}})),
    ),
    (rules.short_cells, _replace("two and two", "x" + '")\nprint("' * 25)),
    (rules.short_cells, _lengthen("2 + 2", rules.MAX_LINES + 1)),
    (rules.short_cells, _lengthen(SOLUTION, rules.MAX_LINES + 1)),
    (rules.alt_texts, lambda nb: _cell(nb, "plots.show").outputs[0].metadata.clear()),
    (rules.alt_texts, _replace("## A picture", "## A picture\n\n![](shop.png)")),
    (rules.alt_texts, _output("2 + 2", _html('<img src="a.png">'))),
    (rules.solutions, _set(SOLUTION, tags=[])),
    (rules.solutions, _set(SOLUTION, jupyter={})),
    (rules.solutions, _set(SOLUTION, collapsed=False)),
    (rules.solutions, _replace(f"{SOLUTION}check_2(answer_2);", "print('✓')")),
    (rules.solutions, _clear_outputs(SOLUTION)),
    (rules.solutions, _output(SOLUTION, _stream("✗ wrong"))),
    (rules.solutions, _output("answer_2 = None", _stream("✓ right"))),
    (rules.solutions, _replace("### Exercise 3", "### Something")),
    (rules.small_and_portable, _replace("## A picture", "Saved in /home/ada/shop/runs")),
    (rules.small_and_portable, _output("2 + 2", _stream("wrote /tmp/pytest-1/x.csv"))),
    (rules.small_and_portable, _output("2 + 2", _html("<td>/root/.venv/lib</td>"))),
    (rules.small_and_portable, _output("2 + 2", _stream("<Model at 0x7f3c2a9be0d0>"))),
    (rules.opening, _replace("# Sample", "Sample")),
    (rules.opening, _replace("every rule?", "every rule.")),
    (rules.opening, _replace("**The answer.** In the committed run", "On clothing")),
    (rules.opening, _replace("minutes on one GPU", "time")),
    (rules.headings, _replace("## A picture", "# A picture")),
    (rules.headings, _replace("## A picture", "#### A picture")),
    (rules.headings, _replace("What you should remember", "The end")),
    (rules.headings, _replace("- Rules are cheap", "- a\n- b\n- c\n- d\n- e\n- Rules are cheap")),
    (rules.headings, _replace("Next: `91_other`", "Good bye")),
    (rules.results_cell, _replace("book.results()", "print(1)")),
    (rules.results_cell, _clear_outputs("book.results()")),
    (rules.results_cell, _run(dataset="market")),
    (rules.results_cell, _run(seed=1)),
    (rules.results_cell, _run(notebook="91_other")),
    (rules.results_cell, _record("score", 0.9)),
    (rules.results_cell, _record("score", None)),
    (rules.results_cell, _record("ratio", 3.9)),
    (rules.results_cell, _record("without a band", 1.0)),
    (rules.results_cell, lambda nb: rules.recorded_in(nb)["results"].pop("score")),
    (rules.answer_agrees, _replace("0.750", "0.751")),
    (rules.answer_agrees, _replace("0.750", "74 %")),
    (rules.answer_agrees, _replace("5×", "6×")),
    (rules.compared_by_nbval, _replace("# NBVAL_CHECK_OUTPUT\n", "")),
    (rules.compared_by_nbval, _clear_outputs("2 + 2")),
    (rules.compared_by_nbval, _count("2 + 2", None)),
    (rules.nothing_hidden, _replace("2 + 2", "warnings.simplefilter('ignore') or 2 + 2")),
    (rules.nothing_hidden, _replace("NBVAL_CHECK_OUTPUT", "NBVAL_IGNORE_OUTPUT")),
    (rules.nothing_hidden, _set("2 + 2", tags=["raises-exception"])),
]


@pytest.mark.parametrize(("rule", "plant"), PLANTED, ids=lambda value: value.__name__)
def test_a_planted_fault_is_noticed(sample, rule, plant):
    notebook = nbformat.read(sample, as_version=4)
    before = copy.deepcopy(notebook)
    plant(notebook)
    assert notebook != before, "the fault was not planted"
    nbformat.write(notebook, sample)
    assert rule(notebook, sample) != []


@pytest.mark.parametrize("text", ["2 + 2", SOLUTION])
def test_a_cell_may_have_as_many_lines_as_the_rule_says(sample, text):
    notebook = nbformat.read(sample, as_version=4)
    _lengthen(text, rules.MAX_LINES)(notebook)
    assert len(_cell(notebook, text.splitlines()[0]).source.splitlines()) == rules.MAX_LINES
    assert rules.short_cells(notebook, sample) == []


def test_a_big_notebook_is_noticed(sample):
    notebook = nbformat.read(sample, as_version=4)
    notebook.cells[0].source += "x" * rules.MAX_BYTES
    nbformat.write(notebook, sample)
    assert rules.small_and_portable(notebook, sample) != []


def test_a_notebook_that_the_readme_does_not_name_is_noticed(sample):
    (sample.parents[1] / "README.md").write_text("The map: nothing", encoding="utf-8")
    assert rules.in_readme(nbformat.read(sample, as_version=4), sample) != []


def test_missing_expected_results_are_noticed(sample):
    (sample.parents[1] / "tests" / "expected" / f"{sample.stem}.json").unlink()
    assert rules.results_cell(nbformat.read(sample, as_version=4), sample) != []


@pytest.mark.parametrize("text", ["0.750", "75 %", "75.0 %", "0.75", "5.0×"])
def test_rounded_results_may_be_quoted(sample, text):
    notebook = nbformat.read(sample, as_version=4)
    _replace("0.750", text)(notebook)
    assert rules.answer_agrees(notebook, sample) == []


def test_levels_counts_and_code_are_no_results(sample):
    notebook = nbformat.read(sample, as_version=4)
    text = "0.750 (95 % interval; 4,096 reviews; NDCG@10; `lr=0.1`; MiniLM-L6-v2; $z = 0.3$)"
    _replace("0.750", text)(notebook)
    assert rules.answer_agrees(notebook, sample) == []
