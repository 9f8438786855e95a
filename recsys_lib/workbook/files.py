"""Where things are (the project, its data, its runs) and writing that never leaves a half file."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from recsys_lib.workbook.errors import InputError, saving

# What `find_data` accepts as the main file of a real data set, relative to a data folder.
MAIN_FILES = {
    "clothing": "clothing/*.csv",
    "fashion": "fashion/fashion.parquet",
    "banking77": "banking77/train.csv",
    "wands": "wands/product.csv",
    "esci": "esci/*_products.parquet",
}


def project_folder() -> Path:
    """The folder that holds pyproject.toml and notebooks/, or the working folder without one."""
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "pyproject.toml").is_file() else Path.cwd()


def runs_folder() -> Path:
    """Where everything goes that a run makes: ``RECSYS_RUNS``, or ``runs`` in the project."""
    given = os.environ.get("RECSYS_RUNS", "").strip()
    return Path(given).expanduser().resolve() if given else project_folder() / "runs"


def data_folders() -> list[Path]:
    """Where real data sets are looked for, in this order: ``RECSYS_DATA``, then ``runs/data``.

    Each data set has its own folder of its own name in one of them, for example
    ``<folder>/clothing/Womens Clothing E-Commerce Reviews.csv``. ``make data`` writes to
    ``runs/data``. An empty ``RECSYS_DATA`` counts as not set.

    Raises:
        InputError: ``RECSYS_DATA`` is set to something that is not a folder.
    """
    folders = [runs_folder() / "data"]
    given = os.environ.get("RECSYS_DATA", "").strip()
    if given:
        folder = Path(given).expanduser().resolve()
        if not folder.is_dir():
            raise InputError(
                f'RECSYS_DATA = "{given}" is not a folder; set it to the folder that holds '
                "clothing/ and the other data sets, or unset it."
            )
        folders.insert(0, folder)
    return folders


def find_data(name: str) -> Path | None:
    """The main file of the real data set `name`, or None if it is not here.

    None too for a name that is no real data set, such as "market".
    """
    if name not in MAIN_FILES:
        return None
    for folder in data_folders():
        for file in sorted(folder.glob(MAIN_FILES[name])):
            if file.is_file() and file.stat().st_size > 0:
                return file
    return None


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write to; at the end of the block it takes the place of `path`.

    A reader sees the old file or the new one, never a half; after an error in the block the old
    one. Makes the folder where it is missing.

    Raises:
        InputError: the disk is full; an older file at `path` is untouched.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    with saving(path.name, path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write `content` to `path` as `atomic_file` does. Text is written as UTF-8."""
    with atomic_file(path) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)
