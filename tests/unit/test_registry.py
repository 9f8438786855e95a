"""The registry of real data sets holds together, and agrees with the files where they are here."""

import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from recsys_lib.datasets import registry
from recsys_lib.datasets.registry import (
    DataFile,
    dataset_folder,
    datasets,
    find_dataset,
    get_dataset,
    how_to_mend,
    is_sound,
    sha256_of,
    verify_dataset,
)
from recsys_lib.workbook import InputError, data_folders, project_folder

NAMES = ["clothing", "fashion", "banking77", "hotels", "open_bandit", "sentences", "wands", "esci"]
BY_HAND = ("fashion", "wands", "esci")


def test_all_sets_are_registered():
    assert list(datasets()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_is_complete(name):
    dataset = datasets()[name]
    for text in (dataset.title, dataset.what, dataset.contents, dataset.license):
        assert text.strip()
    assert dataset.homepage.startswith("https://")
    assert re.match(r"@\w+\{", dataset.citation.strip())
    assert "author" in dataset.citation
    assert len({file.path for file in dataset.files}) == len(dataset.files) > 0
    assert all(file.size > 0 for file in dataset.files if file.sha256)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in BY_HAND])
def test_every_address_is_pinned_to_the_commit(name):
    dataset = datasets()[name]
    assert re.fullmatch(r"[0-9a-f]{40}", dataset.commit)
    prefix = f"https://raw.githubusercontent.com/{dataset.repository}/{dataset.commit}/"
    for file in dataset.files:
        assert file.url.startswith(prefix)
        assert " " not in file.url
        assert unquote(file.url).rsplit("/", 1)[1] == file.path.rsplit("/", 1)[-1]


@pytest.mark.parametrize("name", BY_HAND)
def test_a_set_that_cannot_be_fetched_file_by_file_says_how_to_get_it(name):
    dataset = datasets()[name]
    assert not dataset.fetchable
    assert dataset.homepage in dataset.how and f"{name}/" in dataset.how


def test_only_wands_has_files_without_a_hash():
    without = {name for name, entry in datasets().items() for f in entry.files if not f.sha256}
    assert without == {"wands"}


def test_every_set_has_a_data_card():
    cards = (project_folder() / "data/README.md").read_text(encoding="utf-8")
    for name, dataset in datasets().items():
        card = re.search(rf"^## `{name}`.*?(?=^## |\Z)", cards, re.MULTILINE | re.DOTALL)
        assert card, f"data/README.md has no section for {name}"
        for fact in (
            dataset.license,
            dataset.homepage,
            (dataset.files[0].sha256 or dataset.files[0].path)[:12],
        ):
            assert fact in card.group(), f"the card of {name} does not give {fact}"


@pytest.mark.parametrize("name", NAMES)
def test_the_copy_on_this_machine_is_as_registered(name):
    if find_dataset(name) is None:
        pytest.skip(f"{name} is not on this machine (make data)")
    assert is_sound(name, find_dataset(name))


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(InputError, match='Did you mean "banking77"') as caught:
        get_dataset("banking")
    assert "\n" not in str(caught.value)


@pytest.fixture
def one_file(monkeypatch, tmp_path):
    """`clothing` registered as one file of two bytes; both data folders are empty."""
    file = DataFile(
        "a.csv", "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4", 2, "http://x"
    )
    entry = replace(datasets()["clothing"], files=(file,))
    monkeypatch.setattr(registry, "datasets", lambda: {"clothing": entry})
    (tmp_path / "given").mkdir()
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "given"))
    monkeypatch.setenv("RECSYS_RUNS", str(tmp_path / "runs"))
    return tmp_path


def put(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True)
    (folder / "a.csv").write_bytes(content)
    return folder


def test_the_given_folder_is_looked_in_first(one_file):
    assert find_dataset("clothing") is None
    own = put(one_file / "runs/data/clothing", b"hi")
    assert find_dataset("clothing") == own
    given = put(one_file / "given/clothing", b"hi")
    assert find_dataset("clothing") == given
    assert data_folders() == [one_file / "given", one_file / "runs/data"]


def test_verify_tells_missing_differing_and_sound(one_file):
    assert verify_dataset("clothing") == {"a.csv": "missing"}
    folder = put(one_file / "given/clothing", b"ho")
    assert verify_dataset("clothing") == {"a.csv": "differs"}  # same size, other bytes
    (folder / "a.csv").write_bytes(b"hi")
    assert verify_dataset("clothing") == {"a.csv": "ok"}


def test_what_mends_a_set_depends_on_where_it_lies(one_file, monkeypatch):
    put(one_file / "given/clothing", b"ho")
    assert how_to_mend("clothing").endswith(f'data get clothing --to "{one_file / "given"}"')
    monkeypatch.setenv("RECSYS_DATA", "")
    assert how_to_mend("clothing").endswith("data get clothing")
    entry = replace(datasets()["clothing"], files=(DataFile("a.csv", None, 0, None),), how="Ask.")
    monkeypatch.setattr(registry, "datasets", lambda: {"clothing": entry})
    assert how_to_mend("clothing") == "Ask."


def test_a_set_in_part_is_verified_where_it_lies(one_file):
    (one_file / "given/clothing").mkdir()
    (one_file / "given/clothing/other.csv").write_bytes(b"hi")
    assert dataset_folder("clothing") == one_file / "given/clothing"
    assert verify_dataset("clothing") == {"a.csv": "missing"}
    own = put(one_file / "runs/data/clothing", b"hi")
    assert dataset_folder("clothing") == own  # whole before in part


def test_a_file_without_a_registered_hash_is_there_or_not(one_file, monkeypatch):
    entry = replace(datasets()["clothing"], files=(DataFile("a.csv", None, 0, None),), how="Ask.")
    monkeypatch.setattr(registry, "datasets", lambda: {"clothing": entry})
    assert verify_dataset("clothing") == {"a.csv": "missing"}
    folder = put(one_file / "given/clothing", b"anything")
    assert verify_dataset("clothing") == {"a.csv": "unchecked"}
    assert is_sound("clothing", folder)


def test_sha256_is_the_standard_one(tmp_path):
    # FIPS 180-4's example: SHA-256 of "abc"
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "abc") == expected


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("not [ toml", "broken"),
        ("[a]\ntitle = 'x'\n", "broken: 'files'"),
        ("__traversal__", "leaves the data set's folder"),
        ("__hash__", "64 hexadecimal digits"),
        ("__no_url__", "does not agree"),
        ("__no_hash__", "has a url but no SHA-256"),
    ],
)
def test_a_broken_registry_is_one_clear_line(broken, said, tmp_path, monkeypatch):
    good = (
        "[a]\ntitle='t'\nwhat='w'\ncontents='c'\nlicense='l'\nlicense_url='u'\nhomepage='h'\n"
        "fetch='files'\ncitation='c'\n[[a.files]]\npath='a.csv'\nurl='http://x'\n"
        f"sha256='{'0' * 64}'\nsize=1\n"
    )
    text = {
        "__traversal__": good.replace("a.csv", "../a.csv"),
        "__hash__": good.replace("0" * 64, "0" * 63),
        "__no_url__": good.replace("url='http://x'\n", ""),
        "__no_hash__": good.replace(f"sha256='{'0' * 64}'\n", ""),
    }.get(broken, broken)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/registry.toml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(registry, "project_folder", lambda: tmp_path)
    registry.datasets.cache_clear()
    try:
        with pytest.raises(InputError, match=said) as caught:
            datasets()
        assert "\n" not in str(caught.value)
    finally:
        registry.datasets.cache_clear()
