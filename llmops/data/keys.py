"""Keys of content: sha256 over texts that are normalised and length-prefixed.

The same text gives the same key on every warehouse and machine. Knows nothing of rows or files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmops.data.cells import Cells, Mask, cells, ends_in_print, nfc_may_change


def normalise(texts: pa.Array) -> pa.Array:
    r"""Return the texts in Unicode NFC, with ``\n`` line ends and no trailing white space."""
    found = cells(texts)
    # Only the few texts that something may change in pay for it.
    other = nfc_may_change(found) | ~ends_in_print(found) | holding(texts, "\r")
    if not other.any():
        return texts
    mask = pa.array(other)
    unix = pc.replace_substring(pc.replace_substring(texts.filter(mask), "\r\n", "\n"), "\r", "\n")
    return pc.replace_with_mask(
        texts, mask, pc.utf8_rtrim_whitespace(pc.utf8_normalize(unix, form="NFC"))
    )


def holding(texts: pa.Array, needle: str) -> Mask:
    """Say which texts hold a string; faster by far than Arrow's own search."""
    import polars as pl

    found = pl.Series(pl.from_arrow(texts)).str.contains(needle, literal=True)
    held: Mask = found.fill_null(value=False).to_numpy()
    return held


Codes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Keyed:
    """The keys of a batch's pairs, and 64 bits of each text, by which equal ones can be counted.

    The bits are good within this process only: the hash behind them is not promised for ever.
    """

    keys: pa.Array
    codes: tuple[Codes, Codes]


def keyed_pairs(left: pa.Array, right: pa.Array) -> Keyed:
    """Return ``content_keys(left, right)`` and codes of both; each text is normalised once."""
    one, other = normalise(left), normalise(right)
    missing = pc.or_(left.is_null(), right.is_null())
    keys = pa.array([digest.hex() for digest in exact_digests(one, other)], pa.string())
    codes = (_codes(one), _codes(other))
    return Keyed(pc.if_else(missing, pa.scalar(None, pa.string()), keys), codes)


def _codes(texts: pa.Array) -> Codes:
    import polars as pl

    codes: Codes = pl.Series(pl.from_arrow(texts)).hash(0).to_numpy()
    return codes


def content_keys(*columns: pa.Array) -> pa.Array:
    """Return a key in hex per row over the normalised texts, null where one of them is null.

    Texts are length-prefixed: ("ab", "c") and ("a", "bc") have different keys.
    """
    missing = columns[0].is_null()
    for column in columns[1:]:
        missing = pc.or_(missing, column.is_null())
    keys = [digest.hex() for digest in exact_digests(*(normalise(c) for c in columns))]
    return pc.if_else(missing, pa.scalar(None, pa.string()), pa.array(keys, pa.string()))


def content_codes(column: pa.Array) -> Codes:
    """Return 64 bits of each normalised text, by which equal ones can be found in this process."""
    return _codes(normalise(column))


def exact_digests(*columns: pa.Array) -> list[bytes]:
    """Return 32 bytes per row over the texts as they are; null differs from empty."""
    pieces: list[Iterable[bytes | memoryview]] = []
    for column in columns:
        found = cells(column)
        pieces += (_lengths(found, column), found.slices())
    return [sha256(b"".join(row)).digest() for row in zip(*pieces, strict=True)]


def _lengths(found: Cells, column: pa.Array) -> list[bytes]:
    lengths = [b"%d:" % size for size in found.sizes.tolist()]
    if column.null_count:
        for row in pc.indices_nonzero(column.is_null()).to_pylist():
            lengths[row] = b"null:"
    return lengths
