"""``python -m recsys_lib.datasets``: list, fetch and verify the real data sets (`make data`)."""

import argparse
import sys
from collections.abc import Sequence

from recsys_lib.datasets.download import download_dataset
from recsys_lib.datasets.registry import datasets, find_dataset, get_dataset, verify_dataset
from recsys_lib.workbook import InputError


def _list() -> int:
    for name, dataset in datasets().items():
        found = find_dataset(name)
        size = f"{dataset.size / 1e6:6.1f}" if dataset.size else f"{'?':>6}"
        print(f"{name:<12} {size} MB  {dataset.license:<10} {dataset.contents}")
        print(f"{'':<12} {'here: ' + str(found) if found else 'not here'}")
    return 0


def _get(names: Sequence[str], target: str | None, base_url: str | None) -> int:
    chosen = [get_dataset(name) for name in names] or list(datasets().values())
    failed = 0
    for dataset in chosen:
        try:
            folder = download_dataset(dataset.name, target, base_url=base_url)
            print(f"{dataset.name}: complete and verified in {folder} ({dataset.license})")
        except InputError as error:
            by_hand = not names and not dataset.fetchable  # asked for all: one line, no failure
            failed += not by_hand
            print(f"{dataset.name}: {error}", file=sys.stdout if by_hand else sys.stderr)
    return 1 if failed else 0


def _verify(names: Sequence[str]) -> int:
    wrong = 0
    for name in names or datasets():
        states = verify_dataset(name)
        good = {path for path, state in states.items() if state in ("ok", "unchecked")}
        bad = {path: state for path, state in states.items() if path not in good}
        if find_dataset(name) is None and not names:
            print(f"{name}: not here")
            continue
        wrong += len(bad)
        unchecked = list(states.values()).count("unchecked")
        known = f" ({unchecked} without a registered SHA-256)" if unchecked else ""
        print(f"{name}: {len(good)} of {len(states)} files are as registered{known}")
        for path, state in bad.items():
            print(f"  {state}: {path}")
    if wrong:
        print("Mend it with: python -m recsys_lib.datasets get NAME", file=sys.stderr)
    return 1 if wrong else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 something failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m recsys_lib.datasets",
        description="The real data sets of the workbook: list, fetch and verify them.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what there is and what is on this machine")
    get = commands.add_parser("get", help="download what is missing, check every hash")
    get.add_argument("names", nargs="*", metavar="NAME", help="data sets; all if none is named")
    get.add_argument("--to", metavar="FOLDER", help="data folder to write to (default: runs/data)")
    get.add_argument("--base-url", metavar="URL", help="a mirror laid out like the data folder")
    verify = commands.add_parser("verify", help="compare the files here with the registry")
    verify.add_argument("names", nargs="*", metavar="NAME", help="data sets; all if none is named")
    given = parser.parse_args(arguments)
    try:
        if given.command == "list":
            return _list()
        if given.command == "verify":
            return _verify(given.names)
        return _get(given.names, given.to, given.base_url)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
