"""A report in a browser: laid out, readable on a phone and on paper, open to everybody."""

import base64
import importlib.util
import time
from pathlib import Path

import pytest

from recsys_lib.reports import make_report, write_report
from recsys_lib.workbook.running import notebook_files
from tests.report_samples import HOSTILE, NUMBERS, write_notebook, write_sweep

_LOADED = """
return document.readyState == 'complete' && document.querySelector('footer') !== null &&
  [...document.images].every(e => e.complete);
"""
_FAULTS = """
const root = document.documentElement, seen = e => !e.closest('details:not([open])');
const box = e => e.getBoundingClientRect();
return {
  wide: root.scrollWidth - root.clientWidth,
  flat: [...document.querySelectorAll('math')].filter(e => seen(e) &&
    !(box(e).width > 0 && box(e).height > 0)).map(e => e.outerHTML.slice(0, 200)),
  pictures: [...document.images].filter(e => !(e.complete && e.naturalWidth && e.alt)).length,
  scripts: document.scripts.length,
  formulas: document.querySelectorAll('math').length,
  images: document.images.length,
};
"""
_AXE = """
const done = arguments[0];
axe.run(document).then(
  found => done({checked: found.passes.length, wrong: found.violations.map(
    v => `${v.id}: ${v.help}: ${v.nodes.map(n => n.html.slice(0, 120)).slice(0, 3).join(' | ')}`)}),
  error => done({checked: 0, wrong: [String(error)]}));
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """A report of small runs with everything in it, and one of the workbook's own notebooks."""
    folder = tmp_path_factory.mktemp("reports")
    changed = NUMBERS | {"test/auc": {"value": 0.7, "low": 0.68, "high": 0.72}}
    wide = (
        "## 1 · Wide\n\n" + "$" + "x_i+" * 60 + "y$\n\n```\n" + "a very long line " * 30 + "\n```"
    )
    small = write_notebook(folder / "one" / "98_sample.ipynb", alt=HOSTILE)
    write_notebook(folder / "one" / "99_wide.ipynb", section=wide, error=f"KeyError: {HOSTILE}")
    write_notebook(folder / "two" / "98_sample.ipynb", numbers=changed)
    made = {
        "small": make_report(
            [small.parent, write_sweep(folder / "rates")], against=folder / "two", title=HOSTILE
        ),
        "workbook": make_report(notebook_files(), title="The workbook"),
    }
    return {name: write_report(report, folder / f"{name}.html") for name, report in made.items()}


def show(browser, page: Path, *, width: int, scheme: str) -> None:
    """Open a page at a width of CSS pixels; below 500 as on a phone."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get("about:blank")
    browser.get(page.as_uri())
    until = time.monotonic() + 60
    while not browser.execute_script(_LOADED):  # a busy machine returns earlier from a large page
        assert time.monotonic() < until, "the page did not load"
        time.sleep(0.1)


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("name", ["small", "workbook"])
def test_a_page_is_laid_out(browser, pages, name, width):
    show(browser, pages[name], width=width, scheme="light")
    found = browser.execute_script(_FAULTS)
    assert found["wide"] <= 0
    assert found["flat"] == []
    assert found["pictures"] == 0
    assert found["scripts"] == 0
    assert found["formulas"] >= (3 if name == "small" else 100)
    assert found["images"] >= (8 if name == "small" else 50)
    assert browser.get_log("browser") == []
    assert name != "small" or browser.title == HOSTILE


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["small", "workbook"])
def test_a_page_is_accessible(browser, pages, name, scheme):
    package = importlib.util.find_spec("axe_core_python")
    if package is None:
        pytest.skip("axe_core_python is not installed")
    axe = Path(package.origin).with_name("axe.min.js").read_text(encoding="utf-8")
    show(browser, pages[name], width=360, scheme=scheme)
    browser.set_script_timeout(300)
    browser.execute_script("document.querySelectorAll('details').forEach(e => e.open = true)")
    browser.execute_script(axe)
    found = browser.execute_async_script(_AXE)
    assert found["wrong"] == []
    assert found["checked"] > 30


@pytest.mark.parametrize("name", ["small", "workbook"])
def test_a_page_can_be_printed(browser, pages, name):
    show(browser, pages[name], width=1200, scheme="dark")
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    content = base64.b64decode(printed["data"])
    assert content.startswith(b"%PDF")
    assert len(content) > 20_000


def test_a_box_that_scrolls_can_be_reached_by_keyboard(browser, pages):
    show(browser, pages["small"], width=360, scheme="light")
    missed = browser.execute_script(
        "return [...document.querySelectorAll('main *')].filter(e => e.tabIndex < 0 && "
        "e.scrollWidth > e.clientWidth + 1 && ['auto', 'scroll'].includes("
        "getComputedStyle(e).overflowX)).map(e => e.outerHTML.slice(0, 200))"
    )
    assert missed == []


def test_the_first_key_leads_past_the_contents(browser, pages):
    from selenium.webdriver.common.keys import Keys

    show(browser, pages["small"], width=1200, scheme="light")
    browser.switch_to.active_element.send_keys(Keys.TAB)
    link = browser.switch_to.active_element
    assert link.text == "To the content"
    link.send_keys(Keys.ENTER)
    assert browser.execute_script("return document.activeElement.id") == "content"
