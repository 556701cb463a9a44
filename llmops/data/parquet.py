"""Parquet read in bounded memory and written so that equal rows give equal bytes.

Knows nothing of what the columns mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_ROWS = 8192
BATCH_BYTES = 32 << 20  # a batch aims at this many bytes of text, whatever the length of a row


def read_batches(
    path: Path, columns: Sequence[str] | None = None, batch_bytes: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of ``path`` in order, in batches of about ``batch_bytes``.

    The columns come in the order of ``columns``, or all in the file's.
    """
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_batch_rows(file.metadata, batch_bytes), columns=columns):
            yield batch if columns is None else batch.select(columns)


class ParquetRows:
    """The rows of a file, read column by column, in order."""

    def __init__(self, path: Path, batch_bytes: int) -> None:
        self._path, self._batch_bytes = path, batch_bytes
        self.columns: Sequence[str] = pq.read_schema(path).names

    def values(self, column: str) -> Iterator[pa.Array]:
        """Yield a column's values, batch by batch."""
        return (batch.column(0) for batch in read_batches(self._path, [column], self._batch_bytes))


def count_rows(path: Path) -> int:
    """Return the number of rows, from the footer."""
    rows: int = pq.read_metadata(path).num_rows
    return rows


def count_bytes(path: Path) -> int:
    """Return the uncompressed size of the columns, from the footer."""
    return _bytes(pq.read_metadata(path))


def _bytes(metadata: pq.FileMetaData) -> int:
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    return sum(int(group.total_byte_size) for group in groups)


def _batch_rows(metadata: pq.FileMetaData, batch_bytes: int | None) -> int:
    per_row = max(1, _bytes(metadata) // max(1, metadata.num_rows))
    rows: int = max(1, min(ROW_GROUP_ROWS, (batch_bytes or BATCH_BYTES) // per_row))
    return rows


def string_schema(names: Sequence[str]) -> pa.Schema:
    """Return a schema of string columns."""
    return pa.schema([(name, pa.string()) for name in names])


class RowWriter:
    """Writes tables to one Parquet file; its bytes depend on the rows alone.

    Row groups have ``ROW_GROUP_ROWS`` rows however the rows arrive, because readers differ in the
    batches they make.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.rows = 0
        self._held: list[pa.Table] = []
        self._held_rows = 0
        self._writer = pq.ParquetWriter(
            path, schema, compression="zstd", compression_level=3, write_statistics=True
        )

    def write(self, table: pa.Table) -> None:
        """Append rows; the table's columns are those of the schema, in its order."""
        self._held.append(table)
        self._held_rows += table.num_rows
        self.rows += table.num_rows
        if self._held_rows >= ROW_GROUP_ROWS:
            self._flush(self._held_rows - self._held_rows % ROW_GROUP_ROWS)

    def _flush(self, rows: int) -> None:
        held = pa.concat_tables(self._held)
        for start in range(0, rows, ROW_GROUP_ROWS):
            group = held.slice(start, min(ROW_GROUP_ROWS, rows - start))
            self._writer.write_table(group.combine_chunks(), row_group_size=ROW_GROUP_ROWS)
        self._held = [held.slice(rows)]
        self._held_rows -= rows

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self._held_rows:
                self._flush(self._held_rows)
        finally:
            self._writer.close()
