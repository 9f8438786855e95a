"""The market's word lists and grammar, read once from data/market/*.toml."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "data" / "market"


@cache
def table(name: str) -> dict[str, Any]:
    """The contents of data/market/<name>.toml. Treat it as read-only."""
    with (FOLDER / f"{name}.toml").open("rb") as file:
        return tomllib.load(file)


def catalog() -> dict[str, Any]:
    """Attributes, uses, materials, features, colors, brands, names, description sentences."""
    return table("catalog")


def product_types() -> dict[str, dict[str, Any]]:
    """The kinds of product, by key."""
    return table("types")
