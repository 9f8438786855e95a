"""The registry of real data sets: what each is, where its files come from, where they are here.

The facts stand in ``data/registry.toml``; this module reads them. Nothing here downloads anything.
"""

import hashlib
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from recsys_lib.workbook import InputError, data_folders, nearest, project_folder

REGISTRY = "data/registry.toml"


@dataclass(frozen=True)
class DataFile:
    """One file of a data set: its path inside the set's folder and what it must be."""

    path: str  # relative, with forward slashes
    sha256: str | None  # 64 hexadecimal digits; None where nobody published or measured it
    size: int  # bytes; 0 where unknown
    url: str | None  # pinned to a commit; None where the file has no address of its own


@dataclass(frozen=True)
class Dataset:
    """One real data set, as described in ``data/registry.toml``."""

    name: str
    title: str
    what: str
    contents: str  # how much of what
    license: str
    license_url: str
    homepage: str
    citation: str  # BibTeX
    files: tuple[DataFile, ...]
    repository: str | None = None  # owner/name on GitHub
    commit: str | None = None
    how: str | None = None  # how to get a set that cannot be fetched file by file

    @property
    def fetchable(self) -> bool:
        """Whether `make data` can download it."""
        return all(file.url for file in self.files)

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)


@lru_cache(maxsize=1)
def datasets() -> dict[str, Dataset]:
    """All registered data sets by name, in the registry's order.

    Raises:
        InputError: the registry is missing or broken; the line says where.
    """
    path = project_folder() / REGISTRY
    try:
        with path.open("rb") as file:
            tables = tomllib.load(file)
        return {name: _dataset(name, table) for name, table in tables.items()}
    except FileNotFoundError:
        raise InputError(f"the registry {path} is missing; take it from the repository.") from None
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"the registry {path} is broken: {error}.") from error


def _dataset(name: str, table: dict) -> Dataset:
    fields = {key: value for key, value in table.items() if key not in ("files", "fetch")}
    files = tuple(_data_file(name, entry) for entry in table["files"])
    dataset = Dataset(name=name, files=files, **fields)
    if table["fetch"] not in ("files", "by hand"):
        raise ValueError(f'{name}: fetch must be "files" or "by hand", not "{table["fetch"]}"')
    if dataset.fetchable != (table["fetch"] == "files") or dataset.fetchable == bool(dataset.how):
        raise ValueError(f'{name}: fetch = "{table["fetch"]}" does not agree with its urls and how')
    return dataset


def _data_file(name: str, entry: dict) -> DataFile:
    file = DataFile(entry["path"], entry.get("sha256"), entry.get("size", 0), entry.get("url"))
    parts = PurePosixPath(file.path)
    if parts.is_absolute() or ".." in parts.parts:
        raise ValueError(f"{name}: the path {file.path} leaves the data set's folder")
    if file.sha256 is None:
        if file.url:
            raise ValueError(f"{name}: {file.path} has a url but no SHA-256 to check it by")
    elif len(file.sha256) != 64 or int(file.sha256, 16) < 0:
        raise ValueError(f"{name}: the SHA-256 of {file.path} is not 64 hexadecimal digits")
    return file


def get_dataset(name: str) -> Dataset:
    """The registered data set called `name`.

    Raises:
        InputError: there is none; the line names the nearest and all that there are.
    """
    known = datasets()
    if name not in known:
        raise InputError(
            f'no data set is called "{name}"; there are {", ".join(known)}.{nearest(name, known)}'
        )
    return known[name]


def find_dataset(name: str) -> Path | None:
    """The folder on this machine that holds every file of the set `name`, or None.

    Looks under ``RECSYS_DATA`` first, then under ``runs/data``. It asks only whether the files are
    there; `verify_dataset` asks whether they are the right ones.
    """
    dataset = get_dataset(name)
    for folder in data_folders():
        if all((folder / name / file.path).is_file() for file in dataset.files):
            return folder / name
    return None


def dataset_folder(name: str) -> Path:
    """Where the set `name` lies: whole, as `find_dataset` asks, or in part; else where it would."""
    folders = [folder / name for folder in data_folders()]
    in_part = (folder for folder in folders if folder.is_dir() and any(folder.iterdir()))
    return find_dataset(name) or next(in_part, folders[-1])


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_dataset(name: str, folder: Path | None = None) -> dict[str, str]:
    """Check every file of the set `name` against the registry.

    Args:
        name: of a registered set.
        folder: the set's own folder; by default `dataset_folder`.

    Returns:
        for each path "ok", "missing", "differs" (another size or SHA-256), or "unchecked" (it is
        there, and the registry knows no SHA-256 of it).
    """
    dataset = get_dataset(name)
    folder = folder if folder is not None else dataset_folder(name)
    return {file.path: _state(folder / file.path, file) for file in dataset.files}


def how_to_mend(name: str) -> str:
    """What to do where files of the set `name` are missing or differ, in words."""
    dataset, folder = get_dataset(name), dataset_folder(name)
    if not dataset.fetchable:
        return dataset.how
    to = "" if folder.parent == data_folders()[-1] else f' --to "{folder.parent}"'
    return f"mend it with: python -m recsys_lib data get {name}{to}"


def is_sound(name: str, folder: Path) -> bool:
    """Whether every file of the set `name` is in `folder` and none differs from the registry."""
    return set(verify_dataset(name, folder).values()) <= {"ok", "unchecked"}


def _state(path: Path, file: DataFile) -> str:
    if not path.is_file():
        return "missing"
    if file.sha256 is None:
        return "unchecked"
    same = path.stat().st_size == file.size and sha256_of(path) == file.sha256
    return "ok" if same else "differs"
