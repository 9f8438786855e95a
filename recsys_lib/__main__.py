"""``python -m recsys_lib``: run the notebooks, get the data, check this machine."""

import sys

# nbformat brings jsonschema along, which compiles a grammar of internet addresses when it is
# imported: half of the seconds before a first cell. Without the package it checks the rest.
sys.modules.setdefault("rfc3987_syntax", None)


def start() -> int:
    """Run the command; its exit code."""
    from recsys_lib.commands.main import main

    return main()


if __name__ == "__main__":  # the workers of a sweep import this file
    sys.exit(start())
