"""How a memory limit is shared out: what a batch and a bucket may hold. Knows no file.

The limit is for what the data steps hold of the rows; Python and its libraries come on top.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from llmops.data import buckets, parquet
from llmops.errors import ConfigError

LEAST_MEMORY = 128 << 20
ROW_BYTES = 700  # of a row in the split: its numbers, and the signatures of its two texts
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Memory:
    """Bytes that one batch of rows, and one bucket of them, may hold, about."""

    batch_bytes: int
    bucket_bytes: int


def parse_bytes(text: str, *, where: str) -> int:
    """Return the bytes of a size such as ``1GB``, ``512 MB`` or ``2GiB``.

    Raises:
        ConfigError: If it is no size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", text, re.IGNORECASE)
    if found is None:
        raise ConfigError(f"{where}: '{text}' is no size", hint="for example 1GB or 512MB")
    power = " KMGT".index(found[2].upper() or " ")
    unit = 1024**power if found[3] else _UNITS[found[2].upper()]
    return int(float(found[1]) * unit)


def share_out(limit: str) -> Memory:
    """Share out ``dataset.memory_limit``.

    A bucket is sorted in memory, which takes about four times its bytes, so it gets an eighth.

    Raises:
        ConfigError: If it is too small to work with; says the least that works.
    """
    given = parse_bytes(limit, where="dataset.memory_limit")
    if given < LEAST_MEMORY:
        raise ConfigError(
            f"dataset.memory_limit {limit} is too small to work with",
            hint=f"the least that works is {LEAST_MEMORY / 1e6:.0f}MB",
        )
    return Memory(min(parquet.BATCH_BYTES, given // 16), min(buckets.BUCKET_BYTES, given // 8))


def check_rows(limit: str, rows: int, step: str) -> Memory:
    """Share out ``dataset.memory_limit`` in a step that must know something of every row at once.

    Raises:
        ConfigError: If it is too small for that many rows; says the least that works.
    """
    memory = share_out(limit)
    least = LEAST_MEMORY + rows * ROW_BYTES
    if parse_bytes(limit, where="dataset.memory_limit") < least:
        raise ConfigError(
            f"dataset.memory_limit {limit} is too small for the {step} of {rows:,} rows",
            hint=f"the least that works is {math.ceil(least / 1e6)}MB",
        )
    return memory
