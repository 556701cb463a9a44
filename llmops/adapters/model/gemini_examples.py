"""Write a split's rows as the JSONL that Gemini tunes on, leaving out what it would not take.

What is left out is told, row by row, with the reason. Reads in bounded memory. Knows no client: how
many tokens a text has, it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

from llmops.data import columns
from llmops.errors import DataError

SHOWN_DROPS = 50  # rows left out that the record names; all are counted
CountTokens = Callable[[str], int]


@dataclass(frozen=True)
class Dropped:
    """A row that was left out, and why."""

    row_key: str
    reason: str


@dataclass(frozen=True)
class TuningFile:
    """A finished JSONL file: rows in it, its digest and size, and the rows left out."""

    path: Path
    rows: int
    sha256: str
    bytes: int
    dropped: tuple[Dropped, ...]
    dropped_rows: int


class Fits:
    """Says why a row cannot be tuned on; tokens are counted only where their number is in doubt.

    A text never has more tokens than bytes.
    """

    def __init__(self, max_tokens: float | None, count: CountTokens) -> None:
        self.max_tokens = max_tokens
        self.count = count

    def __call__(self, row: dict[str, Any]) -> str:
        """Return the reason, or an empty text."""
        texts = (row.get(columns.SYSTEM) or "", row[columns.RENDERED], row[columns.ANSWER])
        if not all(texts[1:]):
            return "its question or answer is empty"
        if self.max_tokens is None or sum(len(t.encode()) for t in texts) <= self.max_tokens:
            return ""
        tokens = self.count("\n".join(texts))
        if tokens <= self.max_tokens:
            return ""
        return f"it has {tokens:,} tokens, the provider accepts {self.max_tokens:,.0f}"


def write_file(
    source: Path, target: Path, *, max_rows: int | None, system: str | None, fits: Fits
) -> TuningFile:
    """Write the first ``max_rows`` rows of ``source``; a row's own system text counts first.

    Raises:
        DataError: If the file lacks a column.
    """
    rows, dropped, dropped_rows, size, content = 0, list[Dropped](), 0, 0, sha256()
    with target.open("wb") as file:
        for batch in _batches(source, max_rows):
            kept = []
            for row in batch:
                reason = fits(row)
                if not reason:
                    kept.append(row)
                    continue
                dropped_rows += 1
                if len(dropped) < SHOWN_DROPS:
                    dropped.append(Dropped(str(row.get(columns.ROW_KEY)), reason))
            for said, group in groupby(kept, key=lambda row: row.get(columns.SYSTEM) or system):
                for block in _blocks(list(group), said):
                    content.update(block)
                    size += file.write(block)
            rows += len(kept)
    return TuningFile(target, rows, content.hexdigest(), size, tuple(dropped), dropped_rows)


def _blocks(rows: Sequence[dict[str, Any]], system: str | None) -> Iterator[memoryview]:
    import polars as pl

    from llmops.data.formats import encode, inner, shape
    from llmops.data.texts import Around

    users, answers = (
        encode(pl.Series([row[name] for row in rows]))
        for name in (columns.RENDERED, columns.ANSWER)
    )
    lines = shape("gemini", system, Around())
    return lines.blocks(inner(users), inner(answers))


def _batches(source: Path, max_rows: int | None) -> Iterator[list[dict[str, Any]]]:
    import pyarrow.parquet as pq

    from llmops.data.parquet import read_batches

    present = set(pq.read_schema(source).names)
    needed = (columns.RENDERED, columns.ANSWER)
    missing = [name for name in needed if name not in present]
    if missing:
        raise DataError(f"{source.name} has no column {', '.join(missing)}")
    wanted = [name for name in (columns.ROW_KEY, columns.SYSTEM, *needed) if name in present]
    left = max_rows
    for batch in read_batches(source, wanted):
        taken = batch if left is None else batch.slice(0, left)
        left = None if left is None else left - taken.num_rows
        if taken.num_rows:
            yield taken.to_pylist()
        if left == 0:
            return
