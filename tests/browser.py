"""A headless Chromium for tests of what a reader sees; skipped where there is none."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

MISSING = "no chromium on this machine: apt-get install chromium chromium-driver"
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def program(*names: str) -> str | None:
    """The path of the first of these programs that is here."""
    return next((found for name in names if (found := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A Chromium without a window and with a profile of its own, driven by selenium.

    Its console is kept: ``browser.get_log("browser")``. Set ``CHROMIUM`` to the path of another
    Chromium.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium = os.environ.get("CHROMIUM") or program(*_NAMES)
    driver = program("chromedriver")
    if chromium is None or driver is None:
        pytest.skip(MISSING)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile: Path = tmp_path_factory.mktemp("chromium")
    for argument in (
        "--headless=new",
        "--no-sandbox",  # a container's root has none
        "--disable-dev-shm-usage",
        "--disable-gpu",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        chrome.set_page_load_timeout(120)
        yield chrome
    finally:
        chrome.quit()
