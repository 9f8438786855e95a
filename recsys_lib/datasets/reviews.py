"""Reviews as one table, wherever they come from: the market, a real data set, or your own file.

`load_reviews` gives the same columns for all of them and tells in `Reviews.notes` what it left out
or noticed. A file is only ever read.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa

from recsys_lib.datasets.labels import read_labels
from recsys_lib.datasets.market import make_market
from recsys_lib.datasets.registry import datasets, find_dataset, verify_dataset
from recsys_lib.datasets.tables import INVISIBLE, as_text, get_column, is_missing, read_table
from recsys_lib.workbook import InputError, nearest, project_folder
from recsys_lib.workbook.settings import TABLE_SUFFIXES, is_table_path

BUILT_IN = ("market", "clothing")
MIN_ROWS = 50  # fewer give no number worth printing
MIN_PER_LABEL = 10
LONG = 20_000  # characters from which a text is reported as unusual
NUMBERS = ("rating", "age")  # extra columns kept as numbers
EXTRAS = ("title", "rating", "age", "department")

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")

_SCHEMA = pa.DataFrameSchema(
    {
        "row": pa.Column("int64", pa.Check.ge(0), unique=True),
        "text": pa.Column(str, pa.Check(lambda text: text.str.strip(INVISIBLE) != "")),
        "label": pa.Column("int8", pa.Check.isin([0, 1])),
        "group": pa.Column(str),
        "rating": pa.Column(float, coerce=True, nullable=True, required=False),
        "age": pa.Column(float, coerce=True, nullable=True, required=False),
    }
)


@dataclass(frozen=True)
class Reviews:
    """Labeled reviews.

    Attributes:
        name: "market", "clothing", or the file's name.
        frame: one line per review with at least row (int64, 0-based data row in the file), text
            (str), label (int8, 1 = recommended) and group (str, the product). Where known also
            sensitive, title, rating, age, department and others.
        fingerprint: SHA-256 of the texts, labels and groups in order, for cache keys.
        notes: what was left out, replaced or noticed, one sentence each.
    """

    name: str
    frame: pd.DataFrame
    fingerprint: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)


def load_reviews(
    dataset: str | Path,
    *,
    text: str = "text",
    label: str = "label",
    group: str | None = None,
    sensitive: str | None = None,
    seed: int = 0,
    limit: int | None = None,
) -> Reviews:
    """Reviews of "market", "clothing", or of your own .csv, .tsv or .parquet file.

    Args:
        dataset: one of `BUILT_IN`, or a path (relative to the working folder or the project).
        text: the column with the review's text.
        label: a column of 0/1 or of true/false, yes/no in any case, or a rule such as
            ``"rating >= 4"`` or ``"sentiment == 'positive'"`` (see `labels.parse_label`).
        group: the column that says which rows belong together (the product); splits never part
            them. None: the product for the built-in sets; in an own file every text is its own
            group. An empty string counts as None, here and for `sensitive`.
        sensitive: a column to audit for fairness; kept as ``sensitive``.
        seed: of the market, and of the choice where `limit` leaves rows out.
        limit: at most so many rows, chosen at random.

    Raises:
        InputError: everything that a user can mend, in one line that says what and where.
    """
    raw, name, notes = _raw_table(dataset, seed)
    own = name not in BUILT_IN
    frame = pd.DataFrame({"row": np.arange(len(raw), dtype=np.int64)})
    frame["text"] = as_text(get_column(raw, text, name, "text"))
    frame["label"] = read_labels(raw, label, name)
    group = group or (None if own else "group")
    frame["group"] = None if group is None else as_text(get_column(raw, group, name, "group"))
    if sensitive:
        frame["sensitive"] = as_text(get_column(raw, sensitive, name, "sensitive"))
    for column in raw.columns:
        if column not in frame and (not own or column in EXTRAS):
            values = raw[column]
            frame[column] = pd.to_numeric(values, errors="coerce") if column in NUMBERS else values
    frame, found = _clean(frame, group)
    notes += found
    _refuse_too_little(frame, label, name)
    if limit is not None and limit < len(frame):
        kept = np.sort(np.random.default_rng(seed).choice(len(frame), limit, replace=False))
        frame = frame.iloc[kept]
        notes.append(f"{limit:,} reviews were chosen at random (seed {seed})")
    frame = _checked(frame.reset_index(drop=True), name)
    return Reviews(name, frame, _fingerprint(frame), tuple(notes))


def _raw_table(dataset: str | Path, seed: int) -> tuple[pd.DataFrame, str, list[str]]:
    """The table as it is, with the columns text, label and group for the built-in sets."""
    if dataset == "market":
        return _read_market(seed), "market", []
    if dataset == "clothing":
        return _read_clothing()
    if isinstance(dataset, str) and not is_table_path(dataset):
        if dataset in datasets():
            raise InputError(f'dataset = "{dataset}" holds no reviews; "clothing" does.')
        allowed = ", ".join(f'"{known}"' for known in BUILT_IN)
        raise InputError(
            f'dataset = "{dataset}" is not one of {allowed}, nor the path of a .csv, .tsv or '
            f".parquet file.{nearest(dataset, BUILT_IN)}"
        )
    path = Path(dataset).expanduser()
    if not path.exists() and (project_folder() / path).exists():
        path = project_folder() / path
    if path.suffix.lower() not in TABLE_SUFFIXES and not path.is_dir():
        raise InputError(f"{path} must end in {', '.join(TABLE_SUFFIXES)}.")
    frame, notes = read_table(path)
    return frame, path.name, notes


def _read_market(seed: int) -> pd.DataFrame:
    market = make_market(seed, n_queries=0, n_impressions=0)
    shelf = market.products[["product_id", "department"]]
    reviews = market.reviews.merge(shelf, on="product_id", how="left", validate="many_to_one")
    return reviews.rename(columns={"product_id": "group"})


def _read_clothing() -> tuple[pd.DataFrame, str, list[str]]:
    folder = find_dataset("clothing")
    if folder is None:
        raise InputError(
            'dataset = "clothing" is not on this machine: run `make data`, or set RECSYS_DATA to '
            'the folder that holds clothing/, or use dataset = "market".'
        )
    wrong = [path for path, state in verify_dataset("clothing", folder).items() if state != "ok"]
    if wrong:
        raise InputError(
            f"{folder / wrong[0]} is not the registered file (its SHA-256 differs): run `make "
            "data` for a sound copy, or give the path of your version as dataset."
        )
    file = pd.read_csv(next(folder.glob("*.csv")), encoding="utf-8")
    title, body = file["Title"], file["Review Text"]
    named = title.notna() & (title.fillna("").str.strip() != "")
    whole = body.where(~named, title.fillna("") + ". " + body.fillna("")).where(body.notna())
    return (
        pd.DataFrame(
            {
                "text": whole,
                "label": file["Recommended IND"],
                "group": file["Clothing ID"],
                "title": title.where(named),
                "rating": file["Rating"],
                "age": file["Age"],
                "department": file["Department Name"],
            }
        ),
        "clothing",
        [],
    )


def _clean(frame: pd.DataFrame, group: str | None) -> tuple[pd.DataFrame, list[str]]:
    """Drop what cannot be used, replace what is no character, and say what was found."""
    notes = []
    n = len(frame)
    odd = frame["text"].str.contains(_CONTROL, na=False)
    if odd.any():
        frame["text"] = frame["text"].str.replace(_CONTROL, " ", regex=True)
        notes.append(
            f"{_rows(odd)} {_has(odd)} control characters in the text; a space stands for each now "
            f"(first: row {frame['row'][odd].iloc[0]})"
        )
    blank = is_missing(frame["text"])
    if blank.any():
        notes.append(f"{blank.sum():,} of {n:,} rows have no text and were left out")
    unlabeled = frame["label"].isna() & ~blank
    if unlabeled.any():
        notes.append(f"{unlabeled.sum():,} of {n:,} rows have no label and were left out")
    frame = frame[~blank & ~unlabeled].copy()
    frame["text"] = frame["text"].str.strip(INVISIBLE)
    frame["label"] = frame["label"].astype(np.int8)
    notes += _note_lengths(frame) + _note_copies(frame)
    frame["group"], said = _filled_groups(frame, group)
    return frame, notes + said


def _rows(chosen: pd.Series) -> str:
    return "1 row" if chosen.sum() == 1 else f"{chosen.sum():,} rows"


def _has(chosen: pd.Series) -> str:
    return "has" if chosen.sum() == 1 else "have"


def _note_lengths(frame: pd.DataFrame) -> list[str]:
    lengths = frame["text"].str.len()
    long = lengths > LONG
    if not long.any():
        return []
    return [
        f"{_rows(long)} {_has(long)} a text over {LONG:,} characters (longest: row "
        f"{frame['row'][lengths.idxmax()]}, {lengths.max():,}); a model reads only its beginning"
    ]


def _note_copies(frame: pd.DataFrame) -> list[str]:
    copy = frame.duplicated("text")
    if not copy.any():
        return []
    second = frame[copy].iloc[0]
    first = frame[frame["text"] == second["text"]].iloc[0]
    note = (
        f"{_rows(copy)} {'repeats' if copy.sum() == 1 else 'repeat'} the text of an earlier row "
        f"(first: row {second['row']} repeats row {first['row']}); kept, for the leak audit to find"
    )
    both = frame.groupby("text")["label"].nunique() > 1
    if both.any():
        note += f"; {both.sum():,} of these texts stand there with both labels"
    return [note]


def _filled_groups(frame: pd.DataFrame, group: str | None) -> tuple[pd.Series, list[str]]:
    """The groups as text; rows without one are their own group, equal texts share one."""
    alone = "text " + pd.Series(pd.factorize(frame["text"])[0], index=frame.index).astype(str)
    if group is None:
        return alone, ["no group column: every distinct text is its own group"]
    missing = is_missing(frame["group"])
    filled = frame["group"].where(~missing, alone)
    if not missing.any():
        return filled, []
    return filled, [f'{_rows(missing)} without "{group}" count as groups of their own']


def _refuse_too_little(frame: pd.DataFrame, label: str, name: str) -> None:
    if len(frame) < MIN_ROWS:
        raise InputError(
            f"{name} has only {len(frame)} rows with a text and a label; at least {MIN_ROWS} are "
            "needed, and some hundreds for intervals that say anything."
        )
    counts = frame["label"].value_counts().reindex([0, 1], fill_value=0)
    if counts.min() == 0:
        raise InputError(
            f'label = "{label}" makes every row of {name} a {counts.idxmax()}; two classes are '
            "needed to learn and to score."
        )
    if counts.min() < MIN_PER_LABEL:
        raise InputError(
            f"{name} has only {counts.min()} rows with label {counts.idxmin()}; at least "
            f"{MIN_PER_LABEL} of each label are needed."
        )


def _checked(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    try:
        return _SCHEMA.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        case = error.failure_cases.iloc[0]
        raise InputError(
            f'the column "{case["column"]}" of {name} is not as it must be ({case["check"]}): '
            f"{str(case['failure_case'])[:60]!r}."
        ) from error


def _fingerprint(frame: pd.DataFrame) -> str:
    digest = hashlib.sha256()
    columns: Sequence[str] = ("text", "label", "group")
    for values in zip(*(frame[column] for column in columns), strict=True):
        for value in values:
            encoded = str(value).encode("utf-8")
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()
