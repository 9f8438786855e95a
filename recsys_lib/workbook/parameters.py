"""What a notebook can be run with, and the check of it before a kernel starts.

A parameter stands once, in the notebook's cell with the tag ``parameters``: its name, its type, its
default and a comment with its meaning. What values it allows follows from there and from the rules
that `workbook.start` keeps in the kernel, so that both refuse the same in the same words.
"""

import ast
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import papermill

from recsys_lib.workbook.errors import InputError, nearest
from recsys_lib.workbook.files import project_folder
from recsys_lib.workbook.settings import (
    PROFILES,
    TABLE_SUFFIXES,
    check_model,
    check_profile,
    check_seed,
    resolve_dataset,
)

KINDS = {
    "str": (str, "a text"),
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "bool": (bool, "True or False"),
}


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's parameters cell."""

    name: str
    kind: str  # one of KINDS
    default: object
    meaning: str  # its comment

    @property
    def names(self) -> tuple[str, ...]:
        """Of ``dataset``: the sets that the notebook knows."""
        found = re.findall(r'"([^"]*)"', self.meaning) if self.name == "dataset" else []
        return tuple(name for name in found if name != "auto")

    @property
    def takes_table(self) -> bool:
        """Of ``dataset``: whether it may be the path of an own table."""
        return self.name == "dataset" and "path to your own" in self.meaning

    @property
    def allowed(self) -> str:
        """Which values are taken, in words."""
        if self.name == "profile":
            return " or ".join(f'"{name}"' for name in PROFILES)
        if self.name == "dataset":
            named = ", ".join(f'"{name}"' for name in ("auto", *self.names))
            return named + (", or the path of a table" if self.takes_table else "")
        if self.name == "seed":
            return f"a whole number from 0 to {2**32 - 1}"
        if self.name == "model":
            return "a model's name, or the path of a folder"
        if self.name == "judgements":
            return '"", or the path of a table'
        if self.name.startswith("cost_"):
            return "a number above 0"
        return KINDS[self.kind][1]


def declared(path: Path) -> dict[str, Parameter]:
    """The parameters of a notebook by name, in its order.

    Raises:
        InputError: the file is no notebook, or a default is no plain value.
    """
    try:
        lines = papermill.inspect_notebook(str(path))
    except ValueError as error:
        what = (str(error).splitlines() or ["it cannot be read"])[0]
        raise InputError(f"{path} is not a notebook: {what[:80]}") from None
    found = {}
    for name, line in lines.items():
        try:
            default = ast.literal_eval(line["default"])
        except (ValueError, SyntaxError):
            raise InputError(
                f'{path}: the default of "{name}" must be a plain value; it is {line["default"]}'
            ) from None
        kind = line["inferred_type_name"]
        kind = kind if kind in KINDS else type(default).__name__
        found[name] = Parameter(name, kind, default, line["help"].strip())
    return found


def from_text(parameter: Parameter, text: str) -> object:
    """The value that a text from the command line stands for, of the parameter's own type.

    The path of a table or of a model's folder becomes absolute, because a notebook runs in its own
    folder.

    Raises:
        InputError: a text that is no number or truth value where one is asked for.
    """
    if parameter.kind == "str":
        path = Path(text).expanduser()
        table = parameter.takes_table or parameter.name == "judgements"
        is_path = table and path.suffix.lower() in TABLE_SUFFIXES
        is_path |= parameter.name == "model" and text != parameter.default and path.is_dir()
        return str(path.resolve()) if is_path else text
    if parameter.kind == "bool":
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
    else:
        try:
            return KINDS[parameter.kind][0](text)
        except ValueError:
            pass
    raise InputError(f'{parameter.name} = "{text}" must be {parameter.allowed}.')


def check_names(path: Path, parameters: Mapping[str, object]) -> None:
    """Refuse parameters that a notebook does not have (papermill itself only warns).

    Raises:
        InputError: names the parameter, the nearest known one and all that there are.
    """
    known = declared(path)
    for name in parameters:
        if name not in known:
            raise InputError(
                f'{path.stem} has no parameter "{name}"; it has: {", ".join(known)}.'
                f"{nearest(name, known)}"
            )


def check(path: Path, parameters: Mapping[str, object]) -> None:
    """Refuse what the notebook `path` would refuse, before anything starts.

    Raises:
        InputError: an unknown name (with the nearest known one), a wrong type, a value out of its
            range, an unknown data set, a file that is not there. One line that names the parameter.
    """
    check_names(path, parameters)
    known = declared(path)
    for name, value in parameters.items():
        check_value(known[name], value)


def check_value(parameter: Parameter, value: object) -> None:
    """Refuse a value that `parameter` does not take; see `check`."""
    name = parameter.name
    if name == "profile":
        return check_profile(value)
    if name == "seed":
        return check_seed(value)
    if name == "model":
        return check_model(value)
    wanted, words = KINDS[parameter.kind]
    number = wanted is float and isinstance(value, int) and not isinstance(value, bool)
    if type(value) is not wanted and not number:
        raise InputError(f"{name} = {value!r} must be {words}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{name} = {value!r} must be a finite number.")
    if name == "dataset":
        resolve_dataset(value, parameter.names, parameter.takes_table)
    if name.startswith("cost_") and value <= 0:
        raise InputError(f"{name} = {value!r} must be a number above 0.")
    if name == "judgements" and value:
        places = (Path(value).expanduser(), project_folder() / value)
        if not any(place.is_file() for place in places):
            raise InputError(f'judgements = "{value}" is not a file; give the path of a table.')
    return None
