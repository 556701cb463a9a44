"""The sha256 of every row of a table, made without Python and without its lock.

polars' plugin polars-hash does the work; the digests are those of ``hashlib``. Knows nothing of
what the rows mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import polars as pl

DIGEST_BYTES = 32
_BLOCK_ROWS = 1024  # hashed while what they hold is in the processor's cache

Digests = npt.NDArray[np.uint8]  # a row of 32 bytes each


def row_digests(table: pl.DataFrame, pieces: Sequence[pl.Expr]) -> Digests:
    """Return the sha256 of each row's pieces, one after the other; a null adds nothing."""
    import polars_hash

    row = polars_hash.concat_str(pieces, ignore_nulls=True)
    blocks = [
        part.select(row.chash.sha2_256().str.join("")).item()
        for part in table.iter_slices(_BLOCK_ROWS)
        if part.height
    ]
    return np.frombuffer(bytes.fromhex("".join(blocks)), np.uint8).reshape(-1, DIGEST_BYTES)
