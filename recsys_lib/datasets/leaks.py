"""Finding what a split leaks: shared groups, repeated texts and near-duplicates across its parts.

Near-duplicates are found in two steps. MinHash signatures (Broder 1997, "On the resemblance and
containment of documents") in a locality-sensitive index (``datasketch``) name candidate pairs
without comparing all pairs; the exact Jaccard similarity of their word shingles then decides.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from datasketch import MinHash, MinHashLSH

from recsys_lib.datasets.splits import PARTS, Split
from recsys_lib.workbook import InputError

SHINGLE = 2  # words in a row that make one shingle
VALUE_LENGTH = 80  # characters of a text that the report shows
KINDS = ("shared group", "exact", "near")
COLUMNS = ["kind", "value", "similarity", "row_a", "part_a", "row_b", "part_b"]
_WORD = re.compile(r"\w+(?:['’]\w+)*")


@dataclass(frozen=True)
class LeakReport:
    """What stands on both sides of a split; true where anything does.

    Attributes:
        table: one line per kind and leaking row of the later part, beside the first (for "near":
            the most similar) row of an earlier part. Columns: kind ("shared group", "exact",
            "near"), value (the group, or the beginning of the text), similarity (1.0, or the
            Jaccard similarity), row_a and part_a (earlier part), row_b and part_b (later part).
        rows_to_drop: positions in train and valid that leak into a later part (int64, ascending).
        checked: (pair of parts as "train → test") -> number of rows of the later part.
    """

    table: pd.DataFrame
    rows_to_drop: np.ndarray
    checked: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return len(self.table) > 0

    def counts(self) -> pd.DataFrame:
        """Leaking rows of the later part: kinds down, pairs of parts across (int)."""
        pair = self.table["part_a"].astype(str) + " → " + self.table["part_b"].astype(str)
        counted = pd.crosstab(self.table["kind"], pair)
        counted = counted.reindex(index=list(KINDS), columns=list(self.checked), fill_value=0)
        return counted.rename_axis(index=None, columns=None)

    def summary(self) -> str:
        """One line: how many rows of a later part leak, by kind, or that none does."""
        if not self:
            return "no leaks: no group, no text and no near-duplicate stands in two parts"
        later = self.table.drop_duplicates(["kind", "row_b"])["kind"].value_counts()
        found = ", ".join(f"{later.get(kind, 0):,} {kind}" for kind in KINDS)
        return (
            f"leaks: rows of a later part that an earlier part gives away: {found}; "
            f"{len(self.rows_to_drop):,} earlier rows to drop"
        )


def words(text: str) -> list[str]:
    """The words of `text` in lower case, without punctuation."""
    return _WORD.findall(text.casefold())


def shingles(text: str, size: int = SHINGLE) -> frozenset[str]:
    """The set of runs of `size` words in `text`; of a shorter text the whole text."""
    found = words(text)
    if len(found) <= size:
        return frozenset([" ".join(found) or text.strip()])
    return frozenset(" ".join(found[i : i + size]) for i in range(len(found) - size + 1))


def jaccard(a: frozenset, b: frozenset) -> float:
    """|a ∩ b| / |a ∪ b|, and 1.0 for two empty sets."""
    common = len(a & b)
    union = len(a) + len(b) - common
    return common / union if union else 1.0


def near_duplicates(
    texts: Sequence[str], *, threshold: float = 0.8, num_perm: int = 128, seed: int = 0
) -> pd.DataFrame:
    """Pairs of texts whose word shingles have a Jaccard similarity of `threshold` or more.

    Every pair returned is certain: its similarity is computed exactly. A pair *at* the threshold
    is missed with a probability of about 1 % at most (the index proposes pairs from 80 % of the
    threshold on), one well above it practically never.

    Texts that are the same but for case and white space are compared once: each copy is paired
    with the first of them (similarity 1), and the first stands for all in other pairs. So a text
    that occurs a thousand times makes a thousand pairs and not half a million.

    Args:
        texts: (n,) the texts.
        threshold: smallest Jaccard similarity that counts, in (0, 1].
        num_perm: permutations of a MinHash signature.
        seed: of the permutations.

    Returns:
        columns a, b (positions, a < b) and similarity, most similar first.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"threshold = {threshold} must be above 0 and at most 1.")
    copies = _rows_by_key([_same(text) for text in texts])
    first = [rows[0] for rows in copies.values()]
    sets = [shingles(texts[row]) for row in first]
    pairs = [(rows[0], row, 1.0) for rows in copies.values() for row in rows[1:]]
    for i, j in _candidates(sets, threshold, num_perm, seed):
        similarity = jaccard(sets[i], sets[j])
        if similarity >= threshold:
            pairs.append((*sorted((first[i], first[j])), similarity))
    found = pd.DataFrame(pairs, columns=["a", "b", "similarity"])
    found = found.astype({"a": np.int64, "b": np.int64, "similarity": np.float64})
    order = ["similarity", "a", "b"]
    return found.sort_values(order, ascending=[False, True, True], ignore_index=True)


def _same(text: str) -> str:
    """What two texts share if they differ in case and white space only."""
    return " ".join(text.casefold().split())


def _rows_by_key(keys: Sequence[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    return rows


def _candidates(
    sets: list[frozenset], threshold: float, num_perm: int, seed: int
) -> list[tuple[int, int]]:
    """Pairs of positions that share a band of their signatures, each once."""
    if len(sets) < 2:
        return []
    encoded = [[shingle.encode("utf-8", "replace") for shingle in found] for found in sets]
    signatures = MinHash.bulk(encoded, num_perm=num_perm, seed=seed + 1)
    # Bands are chosen to miss little: false candidates only cost a comparison.
    index = MinHashLSH(threshold=0.8 * threshold, num_perm=num_perm, weights=(0.1, 0.9))
    pairs = []
    for position, signature in enumerate(signatures):
        pairs += [(other, position) for other in index.query(signature)]
        index.insert(position, signature)
    return sorted(pairs)


def find_leaks(
    texts: Sequence[str],
    split: Split,
    *,
    groups: Sequence[object] | None = None,
    rows: Sequence[int] | None = None,
    pairs: pd.DataFrame | None = None,
    threshold: float = 0.8,
    seed: int = 0,
) -> LeakReport:
    """Look for everything that a later part of `split` shares with an earlier one.

    Args:
        texts: (n,) the texts that the split's positions point into.
        split: train, valid and test; rows in no part are not looked at.
        groups: (n,) the group of each row; None to leave groups out.
        rows: (n,) the number that names each row in the report (its row in the file); by default
            its position.
        pairs: what `near_duplicates` found in the same texts, where several splits of them are
            looked at; by default it is called here.
        threshold: smallest Jaccard similarity of word shingles that counts as near-duplicate.
        seed: of the MinHash permutations.
    """
    texts = [str(text) for text in texts]
    part = split.part_of(len(texts))
    links: list[tuple] = []  # (kind, value, similarity, earlier row, later row)
    drop: set[int] = set()
    if groups is not None:
        for group, held in _rows_by_key([str(group) for group in groups]).items():
            _link("shared group", group, 1.0, held, held, part, links, drop)
    copies = _rows_by_key([_same(text) for text in texts])
    for held in copies.values():
        _link("exact", texts[held[0]], 1.0, held, held, part, links, drop)
    if pairs is None:
        inside = np.flatnonzero(part >= 0)
        pairs = near_duplicates([texts[i] for i in inside], threshold=threshold, seed=seed)
        pairs = pairs.assign(a=inside[pairs["a"]], b=inside[pairs["b"]])
    for a, b, similarity in pairs[["a", "b", "similarity"]].itertuples(index=False):
        one, other = copies[_same(texts[a])], copies[_same(texts[b])]
        if one is not other:  # copies are "exact"
            _link("near", texts[b], similarity, one, other, part, links, drop)
            _link("near", texts[a], similarity, other, one, part, links, drop)
    sizes = {name: len(held) for name, held in split.parts().items()}
    checked = {
        f"{PARTS[a]} → {PARTS[b]}": sizes[PARTS[b]] for a in range(3) for b in range(a + 1, 3)
    }
    return LeakReport(_table(links, part, rows), np.array(sorted(drop), dtype=np.int64), checked)


def _link(
    kind: str,
    value: str,
    similarity: float,
    earlier: list[int],
    later: list[int],
    part: np.ndarray,
    links: list[tuple],
    drop: set[int],
) -> None:
    """Note every row of `later` that a row of `earlier` in a part before its own gives away."""
    if len(earlier) == len(later) == 1 and part[earlier[0]] >= part[later[0]]:
        return
    for before, after in ((0, 1), (0, 2), (1, 2)):
        giving = [row for row in earlier if part[row] == before]
        given = [row for row in later if part[row] == after]
        if giving and given:
            links += [(kind, value, similarity, giving[0], row) for row in given]
            drop.update(giving)


def _table(links: list[tuple], part: np.ndarray, rows: Sequence[int] | None) -> pd.DataFrame:
    """One line per kind, later row and earlier part: the first and most similar partner."""
    kind, value, similarity, a, b = zip(*links, strict=True) if links else ([],) * 5
    a, b = np.array(a, dtype=np.int64), np.array(b, dtype=np.int64)
    names = np.arange(len(part)) if rows is None else np.asarray(rows)
    columns = (kind, value, similarity, names[a], _names(part[a]), names[b], _names(part[b]))
    table = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
    table["value"] = table["value"].astype(str).str.slice(0, VALUE_LENGTH)
    table["similarity"] = table["similarity"].astype(np.float64)
    return table.drop_duplicates(["kind", "row_b", "part_a"], ignore_index=True)


def _names(codes: np.ndarray) -> np.ndarray:
    return np.array(PARTS, dtype=object)[codes]


def drop_leaks(split: Split, report: LeakReport) -> Split:
    """The split without the rows of train and valid that leak into a later part.

    The test part stays as it is: what is scored does not depend on what was trained on.
    """
    kept = {name: np.setdiff1d(rows, report.rows_to_drop) for name, rows in split.parts().items()}
    return Split(kept["train"], kept["valid"], split.test)
