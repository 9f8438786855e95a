"""The report: plain, whole, escaped, and honest about what is not known."""

import dataclasses
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from recsys_lib.fairness import (
    audit,
    measure_words,
    not_testable,
    report_html,
    report_table,
    save_report,
    sentences,
)
from recsys_lib.workbook import InputError

EVIL = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(0)
    n = 900
    label = (rng.random(n) < 0.7).astype(int)
    who = rng.choice(["young", EVIL], n).astype(object)
    prob = np.clip(0.5 + 0.35 * (2 * label - 1) + rng.normal(0, 0.15, n), 0.01, 0.99)
    prob = np.where((who == EVIL) & (rng.random(n) < 0.2), 1 - prob, prob)
    who[:4] = "few & far"
    frame = pd.DataFrame({"label": label, "prob": prob, "age & more": who})
    return audit(frame, sensitive="age & more", n=200)


@pytest.fixture(scope="module")
def quiet():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"label": rng.integers(0, 2, 400), "prob": rng.uniform(0.1, 0.9, 400)})
    return audit(frame.assign(who=rng.choice(["a", "b"], 400)), sensitive="who", n=100,
                 metrics=["accuracy"])  # fmt: skip


class _Tags(HTMLParser):
    void = ("meta", "img")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen, self.open, self.sources = [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_table_has_every_finding_those_shown_first(found):
    table = report_table(found, positive="recommended")
    assert len(table) == len(found.findings)
    verdicts = [verdict.split(":")[0] for verdict in table["verdict"]]
    assert verdicts == sorted(
        verdicts,
        key=["difference shown", "could not be tested", "no difference shown"].index,
    )
    assert verdicts[0] == "difference shown"
    for _, part in table.groupby(pd.Series(verdicts)):
        technical = part["measure"].str.contains("log loss|AUC").tolist()
        assert technical == sorted(technical)  # what needs explaining comes last
    unknown = table[table["difference"] == "unknown"]
    assert len(unknown) == len(found.not_testable) and (unknown["group"] == "unknown").all()
    row = found.found[~found.found["metric"].isin(["log_loss", "auc"])].iloc[0]
    shown = table.iloc[0]["difference"].replace("−", "-")
    numbers = [float(x) for x in re.findall(r"[-+]?\d+\.\d+", shown)]
    scale = 100 if "points" in shown else 1
    expected = [row[k] * scale for k in ("value", "low", "high")]
    np.testing.assert_allclose(numbers, expected, atol=0.051 if scale == 100 else 0.00051)


def test_sentences_say_what_was_found_with_its_interval(found, quiet):
    said = sentences(found, positive="recommended", things="reviews")
    assert said[0].startswith("900 reviews were audited; ")
    assert len(said) == 2 + len(found.found)
    assert all("95% interval" in line and "p " in line for line in said[2:])
    assert all(
        re.search(r"(at most \d|fewer than 1) .*of 100 such audits", line) for line in said[2:]
    )
    calm = sentences(quiet)
    assert len(calm) == 2 and "not proof that there is none" in calm[1]
    assert "1 comparison between groups could be tested" in calm[0]


def test_what_was_not_testable_is_said_with_its_reason(found, quiet):
    lines = not_testable(found, positive="good")
    assert any(
        line.startswith("age & more, few & far: 4 rows, 20 needed (decided rightly; ")
        for line in lines
    )
    asked = sum(line.count("; ") + 1 for line in lines)
    assert asked == len(found.not_testable)
    assert not_testable(quiet) == []


def test_an_audit_that_could_test_nothing_says_so():
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"label": rng.integers(0, 2, 60), "prob": rng.uniform(0.1, 0.9, 60)})
    result = audit(frame.assign(who=["a"] * 10 + ["b"] * 50), sensitive="who", n=50)
    assert result.comparisons == 0
    assert "nothing is known" in sentences(result)[1]
    assert "Differences shown" not in report_html(result, title="t", dataset="d")


def test_the_page_is_one_sound_file_with_all_text_escaped(found):
    fig, ax = plt.subplots(figsize=(1, 1))
    ax.plot([0, 1])
    page = report_html(
        found, title=f"Report {EVIL}", dataset=EVIL, figure=fig, alt=f"a line {EVIL} that rises",
        positive=EVIL, things=EVIL, sections=[(EVIL, [EVIL, "plain"])],
    )  # fmt: skip
    plt.close(fig)
    tags = _Tags(page)
    assert EVIL not in page and "script" not in tags.seen
    assert tags.seen.count("table") == 2 and tags.seen.count("img") == 1
    assert [source[:22] for source in tags.sources] == ["data:image/png;base64,"]
    assert "few &amp; far" in page and "http" not in page


def test_a_page_without_a_gap_is_sound(quiet):
    page = report_html(quiet, title="Quiet", dataset="made up")
    assert _Tags(page).seen.count("table") == 1
    assert "could be tested" in page


def test_the_same_audit_gives_the_same_page(found):
    one, two = (report_html(found, title="t", dataset="d") for _ in range(2))
    assert one == two


def test_a_figure_needs_its_alt_text(quiet):
    fig = plt.figure(figsize=(1, 1))
    with pytest.raises(InputError, match="alt must say"):
        report_html(quiet, title="t", dataset="d", figure=fig)
    plt.close(fig)


def test_saving_is_whole_or_not_at_all(tmp_path):
    path = save_report(tmp_path / "deep" / "report.html", "<p>é</p>")
    assert path.read_text(encoding="utf-8") == "<p>é</p>"
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(InputError, match=r"must end in \.html"):
        save_report(tmp_path / "report.pdf", "")


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.html").mkdir()
    for path in (
        tmp_path / "file" / "r.html",
        tmp_path / "folder.html",
        tmp_path / ("a" * 300 + ".html"),
    ):
        with pytest.raises(InputError, match="cannot be written") as error:
            save_report(path, "x")
        assert "\n" not in str(error.value)


def test_an_unusual_level_is_not_rounded_away(quiet):
    strict = dataclasses.replace(quiet, level=0.995, alpha=0.005)
    page = report_html(strict, title="t", dataset="d")
    assert "Intervals: 99.5%." in page and "in 99.5% of audits" in page
    assert "“Largest − smallest” has none" in page


def test_the_largest_less_the_smallest_has_no_interval():
    """It is never below 0, so its interval would read like a difference beside its verdict."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"label": rng.integers(0, 2, 600), "prob": rng.uniform(0.1, 0.9, 600)})
    result = audit(frame.assign(who=rng.choice(list("abc"), 600)), sensitive="who", n=100,
                   metrics=["accuracy"])  # fmt: skip
    table = report_table(result).set_index("compared")["difference"]
    ranges = table.index.str.startswith("largest")
    assert ranges.sum() == 1 and table[ranges].str.fullmatch(r"\+\d+\.\d points").all()
    assert table[~ranges].str.contains(" to ").all()
    shown = result.findings.assign(verdict=np.where(result.findings["kind"] == "range", "gap", ""))
    *_, said = sentences(dataclasses.replace(result, findings=shown))
    assert "points. If who meant nothing" in said and "interval" not in said


def test_reasons_name_the_labels(quiet):
    row = quiet.findings.iloc[:1].assign(
        verdict="not testable", metric="true_positive_rate", why="1 row labeled 1, 20 needed"
    )
    audited = dataclasses.replace(quiet, findings=row)
    (line,) = not_testable(audited, positive="good")
    assert ": 1 row labeled “good”, 20 needed (" in line
    assert report_table(audited, positive="good")["verdict"].str.contains("labeled “good”").all()
    other = row.assign(why="3 rows labeled 0, 20 needed")
    (line,) = not_testable(dataclasses.replace(quiet, findings=other), positive="good")
    assert ": 3 rows not labeled “good”, 20 needed (" in line


def test_measures_have_plain_words():
    assert measure_words("selection_rate", "recommended") == "decided “recommended”"
    assert measure_words("NDCG@10") == "NDCG@10"


@pytest.mark.parametrize(
    ("metric", "others", "detectable", "said"),
    [
        ("accuracy", 0.6, 0.141, "below 14.1 points"),
        ("accuracy", 0.9, 0.141, "below 14.1 points downward, any upward"),
        ("false_positive_rate", 0.1, 0.141, "below 14.1 points upward, any downward"),
        ("selection_rate", 0.5, 0.6, "any"),
        ("log_loss", 0.1, 0.3, "below 0.300"),
    ],
)
def test_a_share_cannot_differ_beyond_its_ends(metric, others, detectable, said, quiet):
    row = quiet.findings[quiet.findings["kind"] == "difference"].iloc[:1]
    row = row.assign(metric=metric, second=others, detectable=detectable)
    table = report_table(dataclasses.replace(quiet, findings=row))
    assert table["could have been missed"].tolist() == [said]


def test_a_test_that_could_find_nothing_is_told_among_the_untestable():
    """Three shops against three: p is never below 0.1, however large the gap."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"label": rng.integers(0, 2, 600), "shop": list("abcdef") * 100})
    frame["who"] = np.where(frame["shop"] < "d", "a", "b")
    frame["prob"] = np.where(frame["who"] == "a", 0.9, 0.2) + 0.05 * rng.random(600)
    result = audit(frame, sensitive="who", unit="shop", n=50, metrics=["mean_error"], min_units=3)
    assert (result.comparisons, result.tested) == (1, 0)
    assert sentences(result) == [
        "600 rows were audited; 0 comparisons between groups could be tested, 1 could not.",
        "Nothing could be tested, so nothing is known about any difference.",
    ]
    (line,) = report_table(result).to_dict("records")
    assert line["verdict"].startswith("could not be tested: least corrected p 0.1")
    assert line["difference"] != "unknown"
    (said,) = not_testable(result)
    assert said.startswith("who, b: least corrected p 0.1")
    assert said.endswith("(share of “1” that is expected, less the share labeled so)")
