"""Labels of 0 and 1 from a column of yes and no, or from a rule such as ``rating >= 4``."""

import operator
import re

import numpy as np
import pandas as pd

from recsys_lib.datasets.tables import as_text, get_column, is_missing
from recsys_lib.workbook import InputError

_TRUE = {"1", "1.0", "true", "yes", "y", "t"}
_FALSE = {"0", "0.0", "false", "no", "n", "f"}
_COMPARE = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_RULE = re.compile(r"\s*(`[^`]+`|[^<>=!`]+?)\s*(==|!=|>=|<=|>|<|=)\s*(.+?)\s*")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_SHAPE = 'write it like "rating >= 4" or "sentiment == \'positive\'"'


def read_labels(frame: pd.DataFrame, label: str, table: str = "the table") -> pd.Series:
    """Labels from the column called `label`, or by the rule that it is (see `parse_label`).

    A column may hold 0 and 1, true and false, yes and no, y and n, in any case and type.

    Args:
        frame: the table.
        label: a column's name, or a rule.
        table: what the table is called in an error.

    Returns:
        (n,) Int8; missing where nothing stands.

    Raises:
        InputError: no such column, no proper rule, or a value that is neither.
    """
    if label not in frame.columns and any(sign in label for sign in "<>="):
        return parse_label(frame, label, table)
    values = as_text(get_column(frame, label, table, "label"))
    lowered = values.str.strip().str.lower()
    is_true, is_false = lowered.isin(_TRUE), lowered.isin(_FALSE)
    wrong = ~(is_true | is_false | is_missing(values))
    if wrong.any():
        kinds = values[~is_missing(values)].value_counts()
        shown = ", ".join(repr(kind[:30]) for kind in kinds.index[:5])
        raise InputError(
            f'the label column "{label}" of {table} must hold 0 and 1 (or true and false, yes and '
            f"no), but it holds {shown}{', …' if len(kinds) > 5 else ''} (first in row "
            f"{int(np.flatnonzero(wrong)[0])}); give a rule such as {_suggest(label, kinds)}."
        )
    return is_true.astype("Int8").mask(~(is_true | is_false))


def _suggest(label: str, kinds: pd.Series) -> str:
    numbers = pd.to_numeric(pd.Series(kinds.index), errors="coerce")
    if numbers.notna().all():
        return f'label = "{label} >= {numbers.quantile(0.6, interpolation="higher"):g}"'
    return f"label = \"{label} == '{kinds.index[0][:30]}'\""


def parse_label(frame: pd.DataFrame, rule: str, table: str = "the table") -> pd.Series:
    """Labels by a rule: a column, one of ``== != >= <= > <``, and a number or a quoted text.

    The rule is read, never evaluated as code. A column whose name has an operator in it stands
    between backticks. Examples: ``rating >= 4``, ``sentiment == 'positive'``,
    `` `stars (>0)` > 3 ``.

    Args:
        frame: the table.
        rule: the rule.
        table: what the table is called in an error.

    Returns:
        (n,) Int8: 1 where the rule holds, 0 where not, missing where the column is missing.

    Raises:
        InputError: a rule that is none, an unknown column, or values that cannot be compared.
    """
    parsed = _RULE.fullmatch(rule)
    if parsed is None:
        raise InputError(f'label = "{rule}" is not a rule; {_SHAPE}.')
    column, sign, value = parsed.groups()
    if sign == "=":
        raise InputError(f'label = "{rule}": equality is written ==; {_SHAPE}.')
    values = get_column(frame, column.strip("`"), table, "label")
    quoted = _QUOTED.fullmatch(value)
    if quoted and sign not in ("==", "!="):
        raise InputError(f'label = "{rule}": a text can only be compared with == or !=.')
    if quoted:
        wanted: object = quoted.group(1) if quoted.group(1) is not None else quoted.group(2)
        given = as_text(values)
    elif _NUMBER.fullmatch(value):
        wanted = float(value)
        given = _as_numbers(values, rule, table)
    else:
        raise InputError(f'label = "{rule}": {value} is no number and not in quotes; {_SHAPE}.')
    holds = _COMPARE[sign](given, wanted)
    return holds.astype("Int8").mask(given.isna())


def _as_numbers(values: pd.Series, rule: str, table: str) -> pd.Series:
    if pd.api.types.is_bool_dtype(values):
        values = values.astype("Int8")
    numbers = pd.to_numeric(values, errors="coerce").astype("Float64")
    given = as_text(values)
    unread = np.flatnonzero(numbers.isna() & ~is_missing(given))
    if len(unread):
        value = given.iloc[unread[0]][:30]
        raise InputError(
            f'label = "{rule}": row {unread[0]} of {table} holds {value!r}, which is no number.'
        )
    return numbers
