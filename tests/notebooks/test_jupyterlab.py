"""JupyterLab itself, in a browser: a notebook as its reader opens it, runs it and looks at it."""

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
import pytest

from recsys_lib.workbook.files import project_folder
from recsys_lib.workbook.running import notebook_files
from tests.notebooks.rules import code_cells

# Seconds. It answers after 3 to 8 on two cores, and a page stands 3 later; an import that finds the
# disk cold, beside other tests, takes several times as long.
STARTS = 120
# Twice what a notebook may take in test_nbval: it is the same run, with a browser beside it.
RUNS = 360
SHOWS = 30  # what the page does by itself takes less than a second

START_HERE = notebook_files(["00"])[0]
# What a reader could choose too. Cells outside the window are not drawn otherwise, and
# a question whether news may be fetched would stand above the page.
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false"},
}


@dataclass(frozen=True)
class Lab:
    """A server with a copy of the notebooks, and a browser that looks at it."""

    browser: object
    folder: Path  # the notebooks
    url: str
    token: str

    def open(self, name: str) -> None:
        """Show a notebook and nothing else, its kernel ready."""
        self.browser.get(f"{self.url}lab/tree/{name}?token={self.token}&reset")
        self.wait(lambda: self.status() == ["idle"], STARTS, f"{name} is not open")

    def run_all(self) -> None:
        """Run > Run All Cells, to the end or to the first cell that fails."""
        self.click("lm-MenuBar-itemLabel", "Run")
        self.click("lm-Menu-itemLabel", "Run All Cells")
        self.wait(self.has_run, RUNS, "the notebook runs on")

    def has_run(self) -> bool:
        """Whether some cell has a number, none waits for one, and the kernel does nothing."""
        prompts = self.seen(
            "[...document.querySelectorAll('.jp-InputPrompt')].map(e => e.innerText)"
        )
        waits = any("*" in prompt for prompt in prompts)
        numbered = any(re.search("[0-9]", prompt) for prompt in prompts)
        return numbered and not waits and self.status() == ["idle"]

    def save(self, name: str) -> nbformat.NotebookNode:
        """What File > Save Notebook writes of what has run."""
        file = self.folder / name
        before = file.stat().st_mtime_ns
        self.click("lm-MenuBar-itemLabel", "File")
        self.click("lm-Menu-itemLabel", "Save Notebook")

        def saved() -> bool:  # Jupyter empties the file before it writes
            return file.stat().st_mtime_ns > before and file.read_bytes().endswith(b"}\n")

        self.wait(saved, SHOWS, f"{name} is not saved")
        return nbformat.read(file, as_version=4)

    def status(self) -> list[str]:
        """What the kernel of each open notebook does."""
        return self.seen(
            "[...document.querySelectorAll('.jp-Notebook-ExecutionIndicator')]"
            ".map(e => e.dataset.status)"
        )

    def pictures(self) -> list[dict]:
        """The pictures of the outputs: their width as decoded, and the text in their place."""
        return self.seen(
            "[...document.querySelectorAll('.jp-OutputArea-output img')]"
            ".map(e => ({width: e.naturalWidth, alt: e.alt}))"
        )

    def complaints(self) -> list[str]:
        """Errors in the browser's console since the last call."""
        log = self.browser.get_log("browser")
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]

    def seen(self, expression: str) -> list:
        """The value of an expression of JavaScript."""
        return self.browser.execute_script(f"return {expression}")

    def click(self, kind: str, label: str) -> None:
        """Click on what is called so in a menu."""
        from selenium.common.exceptions import StaleElementReferenceException

        path = f"//*[contains(@class, '{kind}') and text()='{label}']"

        def shown() -> bool:
            with suppress(StaleElementReferenceException):  # the menu was drawn anew meanwhile
                return any(e.is_displayed() for e in self.browser.find_elements("xpath", path))
            return False

        self.wait(shown, SHOWS, f"there is no {label} to click on")
        next(e for e in self.browser.find_elements("xpath", path) if e.is_displayed()).click()

    def wait(self, done: Callable[[], bool], seconds: float, complaint: str) -> None:
        """Wait until `done`, and fail with the complaint after so many seconds."""
        until = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < until, f"{complaint} after {seconds} s"
            time.sleep(0.3)


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory) -> Iterator[Lab]:
    """JupyterLab as `make lab` starts it, on notebooks without outputs and a machine without data.

    Everything that it writes lies in a temporary folder.
    """
    home = tmp_path_factory.mktemp("lab")
    folder = home / "notebooks"
    folder.mkdir()
    for path in notebook_files():
        notebook = nbformat.read(path, as_version=4)
        for _, cell in code_cells(notebook):
            cell.update(outputs=[], execution_count=None)
        nbformat.write(notebook, folder / path.name)
    for name, values in SETTINGS.items():
        file = home / "settings" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    browser.set_window_size(1300, 1000)
    with serving(home) as (url, token):
        yield Lab(browser, folder, url, token)


@contextmanager
def serving(home: Path) -> Iterator[tuple[str, str]]:
    """The address and token of a JupyterLab in `home`; it and its kernels end with the block."""
    token = secrets.token_hex(16)
    environment = os.environ | {
        "PYTHONPATH": str(project_folder()),
        "RECSYS_RUNS": str(home / "runs"),
        "RECSYS_DATA": "",
        "JUPYTER_TOKEN": token,
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
    }
    command = [sys.executable, "-m", "jupyterlab", "notebooks/00_start_here.ipynb"]
    command += ["--no-browser", "--port=0", "--allow-root"]  # a free port; CI may be root
    with (home / "lab.log").open("w+", encoding="utf-8") as log:
        server = psutil.Popen(
            command, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield address(server, home), token
        finally:
            family = [server]
            if server.is_running():
                family += server.children(recursive=True)
                server.terminate()  # it then ends its kernels
            for left in psutil.wait_procs(family, timeout=30)[1]:
                left.kill()


def address(server: psutil.Popen, home: Path) -> str:
    """What a server says of itself when it listens."""
    until = time.monotonic() + STARTS
    while time.monotonic() < until:
        for file in (home / "runtime").glob("jpserver-*.json"):
            text = file.read_text(encoding="utf-8")
            if text.endswith("}"):
                return json.loads(text)["url"]
        if server.poll() is not None:
            break
        time.sleep(0.2)
    raise AssertionError(f"no server: {(home / 'lab.log').read_text(encoding='utf-8')[-3000:]}")


def test_the_first_notebook_runs_and_its_pictures_appear(lab):
    before = START_HERE.read_bytes()
    lab.open(START_HERE.name)
    assert lab.pictures() == []
    lab.run_all()
    saved = lab.save(START_HERE.name)
    cells = [cell for _, cell in code_cells(saved)]
    errors = [out.evalue for cell in cells for out in cell.outputs if out.output_type == "error"]
    assert errors == []
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [out for cell in cells for out in cell.outputs if out.get("name") == "stderr"]

    drawn = [out for cell in cells for out in cell.outputs if "image/png" in out.get("data", {})]
    assert len(drawn) >= 5
    # JupyterLab 4.6 does not put it on the page (jupyter/enhancement-proposals#120 asks for it)
    assert all(len(out.metadata["image/png"]["alt"].split()) > 3 for out in drawn)
    figures = [picture for picture in lab.pictures() if not picture["alt"]]
    assert len(figures) == len(drawn)
    assert min(picture["width"] for picture in figures) > 300
    told = lab.seen("document.querySelector('.jp-Notebook').innerText")
    inside, compared = re.search(r"(\d+) of (\d+) compared numbers are in their", told).groups()
    assert int(inside) == int(compared) >= 9
    assert lab.complaints() == []
    assert START_HERE.read_bytes() == before


def test_the_search_box_takes_wishes(lab):
    """The widget of the notebook that the test before has run."""

    def found() -> list[str]:
        return lab.seen("[...document.querySelectorAll('figcaption')].map(e => e.innerText)")

    before = found()
    assert len(before) == 8
    pictures = [picture for picture in lab.pictures() if picture["alt"]]
    assert len(pictures) == 8
    assert min(picture["width"] for picture in pictures) > 50
    assert all(picture["alt"].startswith("Picture of ") for picture in pictures)
    (field,) = lab.browser.find_elements("css selector", ".widget-text input")
    field.clear()
    field.send_keys("yellow wellies for the rain\n")
    lab.wait(lambda: "wellies" in " ".join(found()).lower(), SHOWS, "the box found nothing new")
    assert found() != before
    assert lab.complaints() == []
