"""The market's word lists and grammar, read once from data/market/*.toml."""

from __future__ import annotations

import tomllib
from functools import cache
from typing import Any

import pandas as pd

from recsys_lib.workbook.errors import InputError
from recsys_lib.workbook.files import project_folder


@cache
def table(name: str) -> dict[str, Any]:
    """The contents of data/market/<name>.toml. Treat it as read-only."""
    path = project_folder() / "data" / "market" / f"{name}.toml"
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise InputError(
            f"{path} is missing: the market is made from it; run inside a clone of the workbook."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} cannot be read: {error}.") from None


def catalog() -> dict[str, Any]:
    """Attributes, uses, materials, features, colors, brands, names, description sentences."""
    return table("catalog")


def product_types() -> dict[str, dict[str, Any]]:
    """The kinds of product, by key."""
    return table("types")


def as_frame(rows: list[tuple], types: dict[str, str]) -> pd.DataFrame:
    """A frame with these columns and types from rows in the same order; there may be no rows."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(types)
    return pd.DataFrame(
        {
            name: pd.Series(list(column), dtype=dtype)
            for (name, dtype), column in zip(types.items(), columns, strict=True)
        }
    )
