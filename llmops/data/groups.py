"""Rows that belong together: connected components over what they share.

Knows no side of a split and no file format but the examples' Parquet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from llmops.data.columns import ANSWER, QUESTION
from llmops.data.keys import content_codes
from llmops.data.near_duplicates import I64, TextIndex, index_texts
from llmops.data.parquet import read_batches
from llmops.data.settings import NearDuplicates

TEXTS = {"question": QUESTION, "answer": ANSWER}


@dataclass(frozen=True)
class Groups:
    """The group of each row.

    ``first`` is, per row, the first row of its group: as rows are in key order, the row with the
    group's smallest key. ``joined_by`` are the joins that the rows' columns allowed.
    """

    first: I64
    joined_by: tuple[str, ...]

    @property
    def sizes(self) -> Mapping[int, int]:
        """First row -> number of rows, by first row."""
        first, counts = np.unique(self.first, return_counts=True)
        return dict(zip(first.tolist(), counts.tolist(), strict=True))


def index_examples(path: Path, near: NearDuplicates, spill: Path) -> Mapping[str, TextIndex]:
    """Index the questions and the answers of the examples."""
    return {
        name: index_texts(path, column, near, spill / f"{name}.shingles")
        for name, column in TEXTS.items()
    }


def group_rows(path: Path, by: Sequence[str], texts: Mapping[str, TextIndex]) -> Groups:
    """Group the rows of ``path`` by the joins in ``by`` whose column the rows have."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import (
        connected_components,
    )

    size = len(texts["question"].text)
    columns = pq.read_schema(path).names
    joined = tuple(join for join in by if join not in ("id", "author") or join in columns)
    nodes = [np.empty((0, 2), np.int64)]
    for join in joined:
        nodes.extend(_edges(path, join, texts))
    edges = np.concatenate(nodes)
    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), (size, size))
    _, labels = connected_components(graph, directed=False)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return Groups(first[inverse], joined)


def _edges(path: Path, join: str, texts: Mapping[str, TextIndex]) -> Iterator[I64]:
    """Yield pairs of rows that ``join`` puts together."""
    if join in TEXTS:
        yield _to_first(texts[join].text)
    elif join == "near_duplicate":
        for index in texts.values():
            yield _first_rows(index.text)[index.pairs]
    else:
        yield _equal_values(path, join)


def _first_rows(values: I64) -> I64:
    """Return, by number, the first row that holds it; the numbers run from 0 without gaps."""
    return np.unique(values, return_index=True)[1]


def _to_first(values: I64) -> I64:
    """Pair every row with the first row of equal value."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    pairs = np.stack([np.arange(len(values)), first[inverse]], axis=1)
    paired: I64 = pairs[pairs[:, 0] != pairs[:, 1]]
    return paired


def _equal_values(path: Path, column: str) -> I64:
    """Pair the rows of equal value in ``column``; rows without a value are paired with none."""
    import pyarrow.compute as pc

    codes, filled = [np.empty(0, np.uint64)], [np.empty(0, bool)]
    for batch in read_batches(path, [column]):
        values = batch.column(0)
        codes.append(content_codes(values))
        blank = pc.equal(pc.utf8_trim_whitespace(pc.fill_null(values, "")), "")
        filled.append(~blank.to_numpy(zero_copy_only=False))
    rows = np.flatnonzero(np.concatenate(filled))
    return rows[_to_first(np.concatenate(codes)[rows].view(np.int64))]
