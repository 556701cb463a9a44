"""Sorts rows by key out of core: spill by key prefix, then bucket by bucket.

A bucket is a prefix of the key, so the buckets in turn give the whole order, and the result does
not depend on their number. Knows nothing of rules or prompts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmops.data.columns import ROW_KEY

BUCKET_BYTES = 64 << 20  # what one bucket may hold in memory, about
MOST_BITS = 8  # 256 files open at once; many more than that most systems do not allow


def prefix_bits(total_bytes: int, bucket_bytes: int | None = None) -> int:
    """Return how many bits of the key name a bucket, for this many bytes of rows."""
    bits, held = 0, bucket_bytes or BUCKET_BYTES
    while total_bytes > held << bits and bits < MOST_BITS:
        bits += 1
    return bits


class Buckets:
    """Takes batches of rows, each in key order, and keeps each key's rows in one of its files."""

    def __init__(self, folder: Path, schema: pa.Schema, bits: int) -> None:
        self.paths = [folder / f"{number:02x}.arrows" for number in range(1 << bits)]
        self._folder, self._schema, self._bits = folder, schema, bits
        self._files: list[pa.NativeFile] = []
        self._writers: list[pa.RecordBatchWriter] = []

    def add(self, ordered: pa.Table, first_bytes: npt.NDArray[np.uint8]) -> None:
        """Spill rows that are in key order; ``first_bytes`` are the first of each row's key."""
        numbers = first_bytes.astype(np.int64) >> (8 - self._bits)
        starts = np.searchsorted(numbers, np.arange(len(self.paths) + 1)).tolist()
        for writer, (start, end) in zip(self._writers, pairwise(starts), strict=True):
            if end > start:
                writer.write_table(ordered.slice(start, end - start))

    def close(self) -> None:
        """Close the spill files; after it they can be read."""
        with ExitStack() as every:  # one that cannot be closed leaves none open
            while self._files:
                every.callback(self._files.pop().close)
            while self._writers:
                every.callback(self._writers.pop().close)

    def _remove(self) -> None:
        for path in self.paths:
            path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            for path in self.paths:
                # A stream that opens its path itself leaves the file open when it is closed.
                self._files.append(pa.OSFile(str(path), "wb"))
                self._writers.append(pa.ipc.new_stream(self._files[-1], self._schema))
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()  # on a full disk this fails too
        except OSError:
            if error is None:
                raise
        finally:
            self._remove()


@dataclass(frozen=True)
class Bucket:
    """Rows in key order, each key once, and how many rows with an equal key were left out."""

    rows: pa.Table
    duplicates: int


def spill(buckets: Buckets, rows: pa.Table) -> int:
    """Spill rows in any order whose key is in hex; return how many repeated a key among them."""
    bucket = _merge(rows)  # so that a table of nothing but duplicates fills no bucket
    first = pc.utf8_slice_codeunits(bucket.rows[ROW_KEY], 0, 2).to_pylist()
    buckets.add(bucket.rows, np.frombuffer(bytes.fromhex("".join(first)), np.uint8))
    return bucket.duplicates


def merged(buckets: Buckets) -> Iterator[Bucket]:
    """Yield the buckets in key order; call it once, after the last ``spill``."""
    buckets.close()
    for path in buckets.paths:
        with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as reader:
            bucket = _merge(reader.read_all())
        path.unlink()
        yield bucket


def _merge(rows: pa.Table) -> Bucket:
    order = pc.sort_indices(rows[ROW_KEY])
    ordered = rows.select([ROW_KEY]).take(order).combine_chunks()
    repeats = _repeats(ordered)
    if not repeats.any():
        return Bucket(rows.take(order).combine_chunks(), duplicates=0)
    shared = repeats.copy()  # every row of a key that several have
    shared[:-1] |= repeats[1:]
    # Rows of one key may differ in what the key does not see (line ends, ids): sorting them by
    # every column makes the one that stays the same in any order of arrival.
    places = order.to_numpy()
    twins = rows.take(pa.array(places[shared])).append_column("place", pa.array(places[shared]))
    by = [(name, "ascending") for name in rows.column_names]
    twins = twins.take(pc.sort_indices(twins, by)).combine_chunks()
    places = places.copy()
    places[shared] = twins["place"].to_numpy()
    kept = rows.take(pa.array(places[~repeats])).combine_chunks()
    return Bucket(kept, duplicates=int(repeats.sum()))


def _repeats(ordered: pa.Table) -> npt.NDArray[np.bool_]:
    """Say of each row, in key order, whether the one before it has the same key."""
    keys = ordered[ROW_KEY].combine_chunks()
    same = np.zeros(len(keys), dtype=bool)
    if len(keys) > 1:
        same[1:] = pc.equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)
    return same
