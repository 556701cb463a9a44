"""Rows that belong together: connected components over what they share.

Knows no side of a split and no file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from llmops.data.columns import ANSWER, QUESTION
from llmops.data.keys import content_codes
from llmops.data.near_duplicates import I64, TextIndex, index_texts
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


class Rows(Protocol):
    """Rows in key order, of which any column can be read, as often as need be."""

    columns: Sequence[str]

    def values(self, column: str) -> Iterator[pa.Array]:
        """Yield a column's values, batch by batch."""
        ...


def index_examples(rows: Rows, near: NearDuplicates, spill: Path) -> Mapping[str, TextIndex]:
    """Index the questions and the answers of the examples."""
    return {
        name: index_texts(partial(rows.values, column), near, spill / f"{name}.shingles")
        for name, column in TEXTS.items()
    }


def group_rows(rows: Rows, by: Sequence[str], texts: Mapping[str, TextIndex]) -> Groups:
    """Group rows by the joins in ``by`` whose column they have."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import (
        connected_components,
    )

    size = len(texts["question"].text)
    joined = tuple(join for join in by if join not in ("id", "author") or join in rows.columns)
    nodes = [np.empty((0, 2), np.int64)]
    for join in joined:
        nodes.extend(_edges(rows, join, texts))
    edges = np.concatenate(nodes)
    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), (size, size))
    _, labels = connected_components(graph, directed=False)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return Groups(first[inverse], joined)


def _edges(rows: Rows, join: str, texts: Mapping[str, TextIndex]) -> Iterator[I64]:
    """Yield pairs of rows that ``join`` puts together."""
    if join in TEXTS:
        yield _to_first(texts[join].text)
    elif join == "near_duplicate":
        for index in texts.values():
            yield _first_rows(index.text)[index.pairs]
    else:
        yield _equal_values(rows, join)


def _first_rows(values: I64) -> I64:
    """Return, by number, the first row that holds it; the numbers run from 0 without gaps."""
    return np.unique(values, return_index=True)[1]


def _to_first(values: I64) -> I64:
    """Pair every row with the first row of equal value."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    pairs = np.stack([np.arange(len(values)), first[inverse]], axis=1)
    paired: I64 = pairs[pairs[:, 0] != pairs[:, 1]]
    return paired


def _equal_values(rows: Rows, column: str) -> I64:
    """Pair the rows of equal value in ``column``; rows without a value are paired with none."""
    import pyarrow.compute as pc

    codes, filled = [np.empty(0, np.uint64)], [np.empty(0, bool)]
    for values in rows.values(column):
        codes.append(content_codes(values))
        blank = pc.equal(pc.utf8_trim_whitespace(pc.fill_null(values, "")), "")
        filled.append(~blank.to_numpy(zero_copy_only=False))
    chosen = np.flatnonzero(np.concatenate(filled))
    return chosen[_to_first(np.concatenate(codes)[chosen].view(np.int64))]
