"""Sorts and deduplicates rows by key out of core: spill by key prefix, then bucket by bucket.

A bucket is a prefix of the key, so the buckets in turn give the whole order, and the result does
not depend on their number. Knows nothing of rules or prompts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmops.data.columns import ROW_KEY

BUCKET_BYTES = 64 << 20  # what one bucket may hold in memory, about
MOST_DIGITS = 2  # 256 files open at once; 4096 are more than most systems allow


def prefix_digits(total_bytes: int, bucket_bytes: int | None = None) -> int:
    """Return how many hex digits of the key name a bucket, for this many bytes of rows."""
    digits, held = 0, bucket_bytes or BUCKET_BYTES
    while total_bytes > held * 16**digits and digits < MOST_DIGITS:
        digits += 1
    return digits


@dataclass(frozen=True)
class Bucket:
    """Rows in key order, each key once, and how many rows with an equal key were left out."""

    rows: pa.Table
    duplicates: int


class Buckets:
    """Takes rows in any order and gives them back in key order, one bucket at a time."""

    def __init__(self, folder: Path, schema: pa.Schema, digits: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._schema = schema
        self._digits = digits
        self._paths = [folder / f"{number:02x}.arrows" for number in range(16**digits)]
        self._writers = [pa.ipc.new_stream(str(path), schema) for path in self._paths]

    def add(self, rows: pa.Table) -> None:
        """Spill rows to their buckets."""
        ordered = rows.take(pc.sort_indices(rows[ROW_KEY]))
        starts = self._starts(ordered[ROW_KEY])
        for writer, (start, end) in zip(self._writers, pairwise(starts), strict=True):
            if end > start:
                writer.write_table(ordered.slice(start, end - start))

    def _starts(self, ordered_keys: pa.ChunkedArray) -> list[int]:
        if not self._digits:
            return [0, len(ordered_keys)]
        prefixes = pc.utf8_slice_codeunits(ordered_keys, 0, self._digits).to_pylist()
        bounds = [f"{number:0{self._digits}x}" for number in range(len(self._writers))]
        return [*(bisect_left(prefixes, bound) for bound in bounds), len(prefixes)]

    def merged(self) -> Iterator[Bucket]:
        """Yield the buckets in key order; call it once, after the last ``add``."""
        yield from (load() for load in self.loaders())

    def loaders(self) -> Iterator[Callable[[], Bucket]]:
        """Yield what reads and merges each bucket, in key order; threads may call them."""
        self.close()
        yield from (partial(_load, path) for path in self._paths)

    def close(self) -> None:
        """Close the spill files."""
        for writer in self._writers:
            writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        for path in self._paths:
            path.unlink(missing_ok=True)


def _load(path: Path) -> Bucket:
    with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as reader:
        bucket = _merge(reader.read_all())
    path.unlink()
    return bucket


def _merge(rows: pa.Table) -> Bucket:
    ordered = rows.take(pc.sort_indices(rows[ROW_KEY])).combine_chunks()
    repeats = _repeats(ordered)
    if not repeats.any():
        return Bucket(ordered, duplicates=0)
    shared = repeats.copy()  # every row of a key that several have
    shared[:-1] |= repeats[1:]
    # Rows of one key may differ in what the key does not see (line ends, ids): sorting them by
    # every column makes the one that stays the same in any order of arrival.
    twins = ordered.filter(pa.array(shared))
    twins = twins.sort_by([(name, "ascending") for name in twins.column_names]).combine_chunks()
    first = twins.filter(pa.array(~_repeats(twins)))
    kept = pa.concat_tables([ordered.filter(pa.array(~shared)), first])
    return Bucket(
        kept.take(pc.sort_indices(kept[ROW_KEY])).combine_chunks(), duplicates=int(repeats.sum())
    )


def _repeats(ordered: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Say of each row, in key order, whether the one before it has the same key."""
    keys = ordered[ROW_KEY].combine_chunks()
    same = np.zeros(len(keys), dtype=bool)
    if len(keys) > 1:
        same[1:] = pc.equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)
    return same
