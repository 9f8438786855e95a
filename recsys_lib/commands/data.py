"""``data``: the real data sets, what is here, fetched and verified.

Each command imports the data sets itself: with scikit-learn they take a second, which the other
commands do without.
"""

import sys

import click

from recsys_lib.workbook.errors import InputError

NAMES = click.argument("names", nargs=-1, metavar="[NAME]...")


@click.group()
def data() -> None:
    """List, fetch and verify the real data sets."""


@data.command("list")
def list_sets() -> None:
    """What there is, how large, under which licence, and where it is on this machine."""
    from recsys_lib.datasets.registry import datasets, find_dataset

    for name, dataset in datasets().items():
        found = find_dataset(name)
        size = f"{dataset.size / 1e6:6.1f}" if dataset.size else f"{'?':>6}"
        print(f"{name:<12} {size} MB  {dataset.license:<10} {dataset.contents}")
        print(f"{'':<12} {'here: ' + str(found) if found else 'not here'}")


@data.command()
@NAMES
@click.option("--to", metavar="FOLDER", help="Data folder to write to (default: runs/data).")
@click.option("--base-url", metavar="URL", help="A mirror laid out like the data folder.")
def get(names: tuple[str, ...], to: str | None, base_url: str | None) -> None:
    """Download what is missing of the named sets, or of all, and check every hash."""
    from recsys_lib.datasets.download import download_dataset
    from recsys_lib.datasets.registry import datasets, get_dataset

    chosen = [get_dataset(name) for name in names] or list(datasets().values())
    failed = 0
    for dataset in chosen:
        try:
            folder = download_dataset(dataset.name, to, base_url=base_url)
            print(f"{dataset.name}: complete and verified in {folder} ({dataset.license})")
        except InputError as error:
            by_hand = not names and not dataset.fetchable  # asked for all: one line, no failure
            failed += not by_hand
            print(f"{dataset.name}: {error}", file=sys.stdout if by_hand else sys.stderr)
    sys.exit(1 if failed else 0)


@data.command()
@NAMES
def verify(names: tuple[str, ...]) -> None:
    """Compare the files here with the registry."""
    from recsys_lib.datasets.registry import (
        dataset_folder,
        datasets,
        how_to_mend,
        verify_dataset,
    )

    wrong = 0
    for name in names or datasets():
        folder = dataset_folder(name)
        states = verify_dataset(name, folder)
        good = {path for path, state in states.items() if state in ("ok", "unchecked")}
        bad = {path: state for path, state in states.items() if path not in good}
        if not folder.is_dir() and not names:
            print(f"{name}: not here")
            continue
        wrong += len(bad)
        unchecked = list(states.values()).count("unchecked")
        known = f" ({unchecked} without a registered SHA-256)" if unchecked else ""
        print(f"{name}: {len(good)} of {len(states)} files in {folder} are as registered{known}")
        for path, state in bad.items():
            print(f"  {state}: {path}")
        if bad:
            print(f"{name}: {how_to_mend(name)}", file=sys.stderr)
    sys.exit(1 if wrong else 0)
