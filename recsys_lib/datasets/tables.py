"""Reading a table that somebody else wrote: CSV, TSV or Parquet, in whatever encoding it came.

The file is only read. Whatever had to be guessed is told in a note; whatever cannot be read is one
clear line.
"""

import csv
import difflib
import io
import warnings
from collections import Counter
from pathlib import Path

import pandas as pd

from recsys_lib.workbook import InputError

INVISIBLE = " \t\r\n\xa0\u200b\u200c\u200d\u2060\ufeff\ufe0f"  # a text of these only is blank

_MISSING = {"", "nan", "na", "n/a", "#n/a", "null", "none", "<na>"}
_SEPARATORS = (",", ";", "\t", "|")
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
# How files begin that are no tables of text: (bytes, what they are, what to do)
_OTHERS = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook", "save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the sheet as CSV"),
    (b"PAR1", "a Parquet file", "name it .parquet"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"BZh", "a bzip2 archive", "unpack it first"),
    (b"%PDF", "a PDF", "export the table as CSV"),
    (b"\x89PNG", "a picture", "give a table"),
    (b"SQLite format 3", "a database", "export the table as CSV"),
)


def read_table(path: Path, *, separator: str | None = None) -> tuple[pd.DataFrame, list[str]]:
    """The table in a .csv, .tsv or .parquet file, and notes on what had to be guessed.

    From CSV and TSV every value comes as text, and an empty field as missing; Parquet keeps its
    types. Column names lose the white space around them.

    Args:
        path: the file.
        separator: what parts the fields of a text table, where the name's ending does not say it;
            by default a tab for .tsv, else a comma. A header that has none of it is parted by what
            it has.

    Raises:
        InputError: no such file, a folder, an empty file, a file that is no table; one line.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the path of a .csv, .tsv or .parquet file.")
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the path.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    if not data.strip():
        raise InputError(f"{path.name} is empty; it needs a header line and rows.")
    if path.suffix.lower() == ".parquet":
        frame, notes = _read_parquet(path.name, data), []
    else:
        frame, notes = _read_text_table(path, data, separator)
    frame.columns = [str(column).strip() for column in frame.columns]
    if frame.empty:
        raise InputError(f"{path.name} has a header but no rows.")
    return frame.reset_index(drop=True), notes


def _read_parquet(name: str, data: bytes) -> pd.DataFrame:
    try:
        return pd.read_parquet(io.BytesIO(data))
    except (OSError, ValueError) as error:  # pyarrow's errors are both
        raise InputError(
            f"{name} is not a Parquet file, or is cut short ({_first_line(error)})."
        ) from error


def _read_text_table(
    path: Path, data: bytes, separator: str | None
) -> tuple[pd.DataFrame, list[str]]:
    for start, what, remedy in _OTHERS:
        if data.startswith(start):
            raise InputError(f"{path.name} is {what} and not a table of text; {remedy}.")
    text, notes = _decode(path.name, data)
    if not text.strip():
        raise InputError(f"{path.name} is empty; it needs a header line and rows.")
    if text.lstrip()[:1] in ("<", "{") or text.lstrip()[:2] in ("[{", "[["):
        raise InputError(
            f"{path.name} begins with {text.lstrip()[:15]!r}, as HTML or JSON does; it must be a "
            "table: a header line with the columns' names, then a line per row."
        )
    if separator is None:
        separator = "\t" if path.suffix.lower() == ".tsv" else ","
    guessed = _guess_separator(text, separator)
    if guessed != separator:
        notes.append(f"{path.name} is separated by {guessed!r} and was read so")
    return _parse(path.name, text, guessed), notes


def _decode(name: str, data: bytes) -> tuple[str, list[str]]:
    """The text in `data`: by its byte-order mark, as UTF-8, as UTF-16 without a mark, or cp1252."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _decode_as(name, data, encoding), []
    head = data[:4096]
    for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = head[offset::2].count(0), head[1 - offset :: 2].count(0)
        if zeros > len(head) / 8 and others < len(head) / 100:
            note = f"{name} was read as {encoding}: it has no byte-order mark"
            return _decode_as(name, data, encoding), [note]
    if head.count(0) > len(head) / 20:
        raise InputError(f"{name} is not text; it must be a CSV or TSV table, or named .parquet.")
    try:
        return data.decode("utf-8"), []
    except UnicodeDecodeError as error:
        note = (
            f"{name} is not UTF-8 (byte {error.start:,}) and was read as Windows-1252: "
            "if accents look wrong, save it as UTF-8"
        )
        # Five bytes have no meaning in Windows-1252; Latin-1 gives them a control character.
        table = {byte: chr(byte) for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}
        parts = [bytes([b]).decode("cp1252", "replace") for b in range(256)]
        mapping = "".join(table.get(b, part) for b, part in enumerate(parts))
        return data.decode("latin-1").translate(dict(enumerate(mapping))), [note]


def _decode_as(name: str, data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} begins like {encoding} but is broken at byte {error.start:,}; "
            "save it again as UTF-8."
        ) from error


def _guess_separator(text: str, expected: str) -> str:
    """The expected separator if the header has it, else the one that parts the header most."""
    header = text.lstrip("\r\n").split("\n", 1)[0]
    if expected in header:
        return expected
    counts = Counter({separator: header.count(separator) for separator in _SEPARATORS})
    best, count = counts.most_common(1)[0]
    return best if count else expected


def _parse(name: str, text: str, separator: str) -> pd.DataFrame:
    text = text.replace("\0", "\ufffd")  # the parser would take it for the end of a field
    try:
        header = next(csv.reader(io.StringIO(text.lstrip("\r\n")), delimiter=separator))
        counts = Counter(column.strip() for column in header if column.strip())
        twice = [column for column, count in counts.items() if count > 1]
        if twice:
            raise InputError(f'{name} has two columns called "{twice[0]}"; rename one of them.')
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                io.StringIO(text),
                sep=separator,
                dtype=str,
                keep_default_na=False,
                na_values=[""],
                index_col=False,
            )
    except (csv.Error, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise InputError(
            f"{name} is not a proper table ({_first_line(error)}): every line needs as many fields "
            "as the header, and a text with the separator or a line break in it needs quotes."
        ) from error
    return frame


def _first_line(error: Exception) -> str:
    said = str(error).strip().split("\n")[0].removeprefix("Error tokenizing data. C error: ")
    return said.rstrip(".")[:120]


def get_column(frame: pd.DataFrame, name: str, table: str, role: str) -> pd.Series:
    """The column `name` of `frame`.

    Raises:
        InputError: there is none; the line lists the columns and names the nearest.
    """
    if name in frame.columns:
        return frame[name]
    lowered = {str(column).lower(): str(column) for column in frame.columns}
    close = difflib.get_close_matches(name.lower().strip(), list(lowered), n=1, cutoff=0.5)
    hint = f' Did you mean "{lowered[close[0]]}"?' if close else ""
    listed = ", ".join(f'"{str(column)[:30]}"' for column in list(frame.columns)[:12])
    more = f" and {len(frame.columns) - 12} more" if len(frame.columns) > 12 else ""
    raise InputError(f'{table} has no {role} column "{name}"; it has {listed}{more}.{hint}')


def as_text(values: pd.Series) -> pd.Series:
    """As strings, missing where nothing stands; the number 1077.0 becomes "1077"."""
    if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    given = values.notna()
    return values.astype(object).where(given, "").astype(str).where(given)


def is_missing(values: pd.Series) -> pd.Series:
    """Of texts: nothing there, or only white space or a word for nothing such as NaN (bool)."""
    return values.isna() | values.str.strip(INVISIBLE).str.lower().isin(_MISSING)
