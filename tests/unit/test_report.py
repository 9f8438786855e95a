"""`report`: what it says, what it escapes, what it compares and what it refuses."""

import hashlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from recsys_lib.commands.main import main
from recsys_lib.reports import make_report, write_report
from recsys_lib.reports import numbers as report_numbers
from recsys_lib.reports.changes import DIFFERS, MOVED, SAME, TOLERATED, UNDEFINED, WITHIN, verdict
from recsys_lib.reports.markdown import formula, inline_html, to_html
from recsys_lib.reports.markup import _STYLE
from recsys_lib.reports.notebooks import read_run
from recsys_lib.reports.numbers import distance
from recsys_lib.reports.pictures import Album, dots
from recsys_lib.reports.sweeps import read_sweep, spread_over_seeds
from recsys_lib.workbook import InputError, runs_folder
from recsys_lib.workbook.files import project_folder
from tests.report_samples import HOSTILE, NUMBERS, picture, sweep_rows, write_notebook, write_sweep


class Page(HTMLParser):
    """What a browser would make of a report."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.attributes, self.texts, self.headings = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_data(self, data):
        if self.tags[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())


def report_on(*paths: Path, **options) -> Page:
    return Page(make_report(paths, **options).html)


@pytest.fixture
def bands(monkeypatch):
    """Expected bands of the sample notebook."""
    kept = {
        "test/auc": {"value": 0.95, "tolerance": 0.02},
        "test/rows": {"value": 1000, "tolerance": 0},
        "train/time": {"any": "a time"},
        "test/gone": {"at_least": 0.5},
    }
    monkeypatch.setattr(report_numbers, "expected_results", lambda *_: kept)
    return kept


def test_a_report_says_what_was_run_and_what_came_out(tmp_path, bands):
    write_notebook(tmp_path / "98_sample.ipynb", given={"seed": 0, "dataset": "market"})
    page = report_on(tmp_path)
    assert "1 notebook · data market · profile quick · seed 0 · device cpu bf16" in page.text
    assert "run on 2026-03-01 · took 1 min 15 s" in page.text
    assert "2 of 3 numbers left their band" in page.text
    assert "98_sample: test/auc 0.900, 0.030 below its band 0.95 ± 0.02" in page.text
    assert "test/gone, not recorded (band: ≥ 0.500)" in page.text
    assert "[0.880, 0.920]" in page.text
    assert page.text.index("outside: 0.030 below") < page.text.index("in its band")
    assert "98 · A sample" in page.text
    assert "The question." in page.text
    assert "An idea with a formula" in page.text
    for absent in ("0.12345", "0.54321", "Text of a part"):
        assert absent not in page.text
    assert "A white picture of a report's test." in page.text
    assert ("img", "alt", "A white picture of a report's test.") in page.attributes
    assert "simulated: made from the seed, no file" in page.text
    assert "torch2.13.0" in page.text
    assert page.tags.count("math") == 2


def test_a_report_is_a_sound_page(tmp_path):
    write_notebook(tmp_path / "98_sample.ipynb")
    page = report_on(tmp_path, title="Mine")
    assert ("html", "lang", "en") in page.attributes
    assert page.headings[0] == 1
    steps = zip(page.headings, page.headings[1:], strict=False)
    assert all(after <= before + 1 for before, after in steps)
    assert page.headings.count(1) == 1
    assert {"header", "nav", "main", "footer", "title"} <= set(page.tags)
    scopes = [value for tag, name, value in page.attributes if (tag, name) == ("th", "scope")]
    assert len(scopes) == page.tags.count("th")
    links = {v[1:] for tag, name, v in page.attributes if (tag, name) == ("a", "href")}
    assert links <= {value for _, name, value in page.attributes if name == "id"}
    assert not [v for _, name, v in page.attributes if name == "src" and not v.startswith("data:")]
    assert page.text.startswith("Mine")


def test_text_from_data_never_becomes_html(tmp_path):
    numbers = {
        f"a/{HOSTILE}": {"value": 1.0, "note": HOSTILE, "unit": HOSTILE},
        "b": {"value": None, "low": None, "high": None},
    }
    text = (
        f"# {HOSTILE}\n\n**The question.** {HOSTILE} [x](javascript:alert(1)) ![{HOSTILE}](y.png)"
    )
    section = f"## {HOSTILE}\n\n{HOSTILE} $\\text{{{HOSTILE}}}$ and $\\href{{javascript:a}}{{x}}$"
    path = write_notebook(
        tmp_path / "98_sample.ipynb",
        numbers=numbers,
        payload={
            "dataset": HOSTILE,
            "device": HOSTILE,
            "model": HOSTILE,
            "notebook": HOSTILE,
            "versions": {HOSTILE: HOSTILE},
        },
        given={"dataset": HOSTILE, HOSTILE: HOSTILE},
        alt=HOSTILE,
        error=f"ValueError: {HOSTILE}",
        text=text,
        section=section,
    )
    sweep = write_sweep(tmp_path / f"sweep {HOSTILE.replace('/', '')}")
    rows = pd.DataFrame(sweep_rows()).assign(p_word=HOSTILE, executed=HOSTILE, notebook=HOSTILE)
    rows.loc[rows["name"] == "auc", "name"] = HOSTILE
    rows.to_parquet(sweep / "table.parquet")
    page = report_on(path, sweep, title=HOSTILE, against=path)
    assert not {"script", "iframe", "object", "embed", "form"} & set(page.tags)
    assert page.tags.count("img") == 1 + 6  # the notebook's and the sweep's
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    addresses = [v for _, name, v in page.attributes if name in ("href", "src")]
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in addresses)
    assert page.text.count("<script>alert(2)</script>") > 10


def test_a_formula_that_cannot_be_read_is_shown_as_its_source():
    for latex in ("\\frac{", "\\frac{a"):
        assert formula(latex) == f"<code>{latex}</code>"
    assert formula("\\unknowncommand x") == "<code>\\unknowncommand x</code>"
    assert "<script" not in formula("\\text{<script>alert(1)</script>}")
    assert "style" not in formula("\\style{color:red}{x}")
    assert "𝔼" in formula("\\mathbb E[x]")
    assert "<mfrac>" in formula("\\boxed{\\frac ab}", block=True)
    assert "tabindex" in formula("a+" * 40 + "b")


def test_markdown_asks_for_no_file_and_has_no_headings_of_its_own():
    html = to_html("# Big\n\n![a picture](here.png) [there](other.ipynb) [web](https://a.b/)")
    assert html == '<p>Big</p>\n<p>a picture there <a href="https://a.b/">web</a></p>\n'
    assert to_html("```\n# x < 1\n```").count("<pre>") == 1
    assert inline_html("1 · *So* $x$").startswith("1 · <em>So</em> <math")


def test_parameters_are_read_as_far_as_they_are_plain_values(tmp_path):
    path = write_notebook(tmp_path / "98_sample.ipynb", given={"rate": 2.0})
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["cells"][1]["source"] = "rate: float = 1.0\nlater: int\nroot = rate ** 0.5\nn = 3"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    assert read_run(path).parameters == {"rate": 2.0, "n": 3}
    notebook["cells"][1]["source"] = "%load_ext x"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    assert read_run(path).parameters == {"rate": 2.0}


def test_a_heading_within_program_text_ends_no_idea(tmp_path):
    section = "## 1 · Commands\n\n```bash\n# a remark\nls\n```\n\nAfterwards."
    run = read_run(write_notebook(tmp_path / "98_sample.ipynb", section=section))
    assert run.sections[0].idea.endswith("Afterwards.")


@pytest.mark.parametrize(
    ("value", "band", "off"),
    [
        (0.9, {"value": 0.95, "tolerance": 0.02}, "0.030 below"),
        (1.0, {"value": 0.95, "tolerance": 0.02}, "0.030 above"),
        (0.4, {"at_least": 0.5}, "0.100 below"),
        (3, {"at_most": 1}, "2 above"),
        (False, {"value": True}, "no in place of yes"),
        (None, {"at_least": 0.5}, "undefined"),
    ],
)
def test_how_far_a_number_is_outside(value, band, off):
    assert distance({"value": value}, band) == off


@pytest.mark.parametrize(
    ("payload", "given"),
    [({"seed": 1}, {"seed": 1}), ({"dataset": "my.csv"}, {"dataset": "/there/my.csv"})],
)
def test_other_seeds_and_own_tables_have_no_bands(payload, given, tmp_path, bands):
    write_notebook(tmp_path / "98_sample.ipynb", payload=payload, given=given)
    text = report_on(tmp_path).text
    assert "left their band" not in text
    assert "verdict" not in text
    assert "Not compared, because bands are kept for seed 0" in text


def test_other_parameters_are_told_where_bands_are_compared(tmp_path, bands):
    write_notebook(tmp_path / "98_sample.ipynb", given={"seed": 0, "rate": 0.5})
    assert "Others were given here: 98_sample: rate = 0.5" in report_on(tmp_path).text


def test_an_own_table_is_named_with_its_hash(tmp_path):
    table = tmp_path / "own.csv"
    table.write_text("text,label\n", encoding="utf-8")
    file = write_notebook(
        tmp_path / "98.ipynb", payload={"dataset": "own.csv"}, given={"dataset": str(table)}
    )
    text = report_on(file).text
    assert str(table) in text
    assert hashlib.sha256(table.read_bytes()).hexdigest() in text
    table.unlink()
    assert "not here now" in report_on(file).text


def test_a_failed_notebook_is_told_with_its_cell_and_parameters(tmp_path):
    write_notebook(tmp_path / "98_sample.ipynb")
    write_notebook(
        tmp_path / "99_fails.ipynb", numbers={}, error="KeyError: no rows", given={"seed": 3}
    )
    write_notebook(tmp_path / "99_ended.ipynb", numbers={})
    made = make_report([tmp_path])
    text = Page(made.html).text
    assert made.summary == "2 of 3 notebooks failed"
    assert "99_fails, cell 7 KeyError: no rows" in text
    assert "fit( rows < 3)" in text
    assert 'Parameters: profile = "quick", dataset = "auto", seed = 3' in text
    assert "99_ended It did not run to its end" in text
    assert text.index("99_fails, cell 7") < text.index("The question.")


def test_an_error_that_is_shown_on_purpose_is_no_failure(tmp_path):
    path = write_notebook(tmp_path / "98_sample.ipynb", error="ValueError: a check")
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell["metadata"].setdefault("tags", []).append("raises-exception")
    path.write_text(json.dumps(notebook), encoding="utf-8")
    assert not read_run(path).failures


def test_a_sweep_tells_its_runs_and_the_spread_over_seeds(tmp_path):
    page = report_on(write_sweep(tmp_path / "rates"))
    assert "Sweep: rates" in page.text
    assert "6 runs of a sweep" in page.text
    assert "98_sample, run 1 of the sweep cell 3: ValueError" in page.text
    assert page.tags.count("img") == 6
    assert "2 more numbers" in page.text
    assert "1 number without an interval that no run changed" in page.text
    assert "rate 0.2, seed 10.710[0.700, 0.720]" in page.text
    assert "rate 0.20.710 ± 0.0103" in page.text  # mean, deviation, seeds
    assert "rate 0.10.610 ± 0.0142" in page.text  # one of its three runs failed
    assert "auc in 5 runs, with intervals where there are any: lowest 0.600" in page.text


def test_the_spread_of_a_single_seed_is_none(tmp_path):
    sweep = read_sweep(write_sweep(tmp_path / "rates", failed=False))
    assert sweep.varying == ("rate", "seed")
    first = [run for run in sweep.runs if run.parameters["seed"] == 0]
    assert spread_over_seeds(first, "auc") == []
    both = spread_over_seeds([*sweep.runs[:3], sweep.runs[3]], "auc")
    assert [(s.seeds, s.deviation is None) for s in both] == [(3, False), (1, True)]


def entry(value, low=None, high=None) -> dict:
    return {"value": value, "low": low, "high": high}


@pytest.mark.parametrize(
    ("one", "other", "tolerance", "says"),
    [
        (entry(0.5, 0.4, 0.6), entry(0.8, 0.7, 0.9), None, MOVED),
        (entry(0.5, 0.4, 0.6), entry(0.65, 0.45, 0.9), None, WITHIN),  # in one of the two
        (entry(0.5, 0.4, 0.6), entry(0.7), None, MOVED),
        (entry(0.5, 0.4, 0.6), entry(0.55), 0.0, WITHIN),
        (entry(0.5), entry(0.6), 0.05, MOVED),
        (entry(0.5), entry(0.6), 0.2, TOLERATED),
        (entry(0.5), entry(0.6), None, DIFFERS),
        (entry(0.5), entry(0.5), None, SAME),
        (entry(None), entry(0.5), 0.1, UNDEFINED),
        (entry(None), entry(None), 0.1, SAME),
        (entry(True), entry(False), None, DIFFERS),
    ],
)
def test_what_counts_as_moved(one, other, tolerance, says):
    assert verdict(one, other, tolerance) == says
    assert verdict(other, one, tolerance) == says


def test_a_comparison_names_what_moved_and_what_only_one_has(tmp_path):
    moved = NUMBERS | {"test/auc": entry(0.7, 0.68, 0.72), "test/new": {"value": 1}}
    write_notebook(tmp_path / "one" / "98_sample.ipynb", given={"seed": 0})
    write_notebook(tmp_path / "two" / "98_sample.ipynb", numbers=moved, given={"seed": 4})
    made = make_report([tmp_path / "one"], against=tmp_path / "two")
    text = Page(made.html).text
    assert made.summary == "1 of 3 numbers in both moved beyond their intervals"
    assert "intervals: 98_sample · test/auc." in text
    assert "+0.200moved" in text
    assert "each of the two values lies outside the other's interval" in text
    assert "98_sample: seed is 0 here and 4 there" in text
    assert "1 number only in two 98_sample · test/new" in text
    other = write_notebook(tmp_path / "99_other.ipynb")
    assert make_report([tmp_path / "one"], against=other).summary == "no recorded number is in both"
    same = make_report([tmp_path / "one"], against=tmp_path / "one")
    assert same.summary == "0 of 3 numbers in both moved beyond their intervals"


def test_sweeps_are_compared_point_by_point(tmp_path):
    one, two = write_sweep(tmp_path / "one"), write_sweep(tmp_path / "two", shift=0.2)
    made = make_report([one], against=two)
    text = Page(made.html).text
    assert "5 of 45 numbers in both moved" in made.summary
    assert "98_sample · rate 0.1, seed 0 · auc" in text


def test_a_report_is_small_enough_to_be_passed_on(tmp_path):
    album = Album(most_bytes=1_000)
    assert "<img" in album.figure(picture(), "A first picture of a test.")
    large = picture((3_000, 3_000))
    assert "Left out" in album.figure(large, "A large picture.")
    assert "cannot be read" in album.figure("bm90IGEgcGljdHVyZQ==", "A text.")
    assert "cannot be read" in album.figure("<script>", "No base64.")


def test_a_picture_of_a_sweep_takes_any_text():
    png, alt = dots("$\\frac{", [("$\\x{", entry(1.0, 0.5, 1.5)), ("y" * 99, entry(2.0))])
    assert png.startswith("iVBOR")
    assert alt.startswith("$\\frac{ in 2 runs")


def test_the_command_writes_and_replaces_its_own_reports_only(tmp_path, capsys):
    write_notebook(tmp_path / "a run" / "98_sample.ipynb")
    assert main(["report", str(tmp_path / "a run")]) == 0
    (file,) = (runs_folder() / "reports").iterdir()
    assert re.fullmatch(r"a-run-[0-9a-f]{8}\.html", file.name)
    assert capsys.readouterr().out.startswith(f"{file} (0.0 MB)")
    first = file.read_bytes()
    assert main(["report", str(tmp_path / "a run"), "--title", "Another"]) == 0
    assert file.read_bytes() != first
    mine = tmp_path / "mine.html"
    mine.write_text("my own page", encoding="utf-8")
    capsys.readouterr()
    assert main(["report", str(tmp_path / "a run"), "--out", str(mine)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is there and is not an earlier report" in line
    assert mine.read_text(encoding="utf-8") == "my own page"
    assert main(["report", str(tmp_path / "a run"), "--out", str(mine), "--again"]) == 0
    assert mine.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_same_run_gives_the_same_report(tmp_path):
    write_notebook(tmp_path / "98_sample.ipynb")
    sweep = write_sweep(tmp_path / "rates")
    paths = [tmp_path / "98_sample.ipynb", sweep]
    assert make_report(paths).html == make_report(paths).html


def test_without_a_source_the_newest_folder_is_taken(tmp_path):
    executed = runs_folder() / "executed"
    with pytest.raises(InputError, match="nothing has run into"):
        make_report([])
    write_notebook(executed / "older" / "98_sample.ipynb")
    os.utime(executed / "older" / "98_sample.ipynb", (1e9, 1e9))
    os.utime(executed / "older", (1e9, 1e9))
    write_notebook(executed / "newer" / "98_sample.ipynb")
    assert make_report([]).name == "newer"


def test_reports_on_other_sources_have_other_names(tmp_path):
    runs = [tmp_path / "a" / "mine", tmp_path / "b" / "mine", runs_folder() / "executed" / "mine"]
    paths = [write_notebook(folder / "98_sample.ipynb") for folder in runs]
    names = [make_report([path]).name for path in (*runs, *paths)]
    names += [make_report(runs[:2]).name, make_report(runs[:1], against=runs[1]).name]
    assert len(set(names)) == len(names)
    assert names[2] == "mine"
    assert names[5] == "mine-98_sample"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is not there: name an executed notebook"),
        ("not JSON", "is not a notebook"),
        ("[1, 2]", "is not a notebook"),
        ('{"nbformat": 3, "worksheets": []}', "of an old format"),
        ('{"nbformat": 4, "metadata": {}, "cells": [{"source": 1}]}', "is not a notebook"),
        ('{"nbformat": 4, "metadata": {}, "cells": []}', "It has no recorded numbers"),
        (b"\xff\xfe\x00", "is not a notebook"),
    ],
)
def test_a_bad_source_is_one_clear_line(content, says, tmp_path, capsys):
    path = tmp_path / "98_sample.ipynb"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    assert main(["report", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}")
    assert says in line


def test_numbers_that_are_none_are_refused(tmp_path):
    path = write_notebook(tmp_path / "98.ipynb", numbers={"auc": {"value": "<b>high</b>"}})
    with pytest.raises(InputError, match='the recorded number "auc" is not a number'):
        make_report([path])


def test_a_folder_without_anything_that_ran_is_one_clear_line(tmp_path):
    (tmp_path / "below").mkdir()
    with pytest.raises(InputError, match=r"holds no notebooks and no table.*folders: below"):
        make_report([tmp_path])
    write_notebook(tmp_path / "98_sample.ipynb", numbers={}, executed=False)
    with pytest.raises(InputError, match="No notebook in it has any recorded numbers"):
        make_report([tmp_path])


def test_a_table_that_is_no_sweeps_is_one_clear_line(tmp_path):
    file = tmp_path / "table.parquet"
    for frame, says in [
        (pd.DataFrame({"run": [1]}), "it lacks notebook, executed"),
        (pd.DataFrame(sweep_rows()).assign(value="high"), "value holds no numbers"),
        (pd.DataFrame(sweep_rows())[:0], "has no rows"),
    ]:
        frame.to_parquet(file)
        with pytest.raises(InputError, match=says):
            make_report([tmp_path])
    file.write_bytes(b"not a table")
    with pytest.raises(InputError, match="cannot be read"):
        make_report([tmp_path])


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path):
    made = make_report([write_notebook(tmp_path / "98.ipynb")])
    with pytest.raises(InputError, match="is a folder: name a file"):
        write_report(made, tmp_path)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(made, tmp_path / "file" / "report.html")


def test_a_report_needs_no_torch():
    program = "import sys, recsys_lib.reports; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=project_folder())
    assert done.returncode == 0


def _light(color: str) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colors_have_enough_contrast(scheme):
    found = re.findall(r"--([\w-]+): (#[0-9a-f]{6})", _STYLE)
    half = len(found) // 2
    colors = dict(found[half * scheme : half * (scheme + 1)])
    pairs = [
        *[(front, "back") for front in ("text", "soft", "link", "wrong", "right")],
        *[("text", "head"), ("text", "wrong-back"), ("wrong", "wrong-back"), ("soft", "head")],
    ]
    for front, back in pairs:
        high, low = sorted((_light(colors[front]), _light(colors[back])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (front, back)
