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

from llmops.data.cells import Cells, Sign, Signs, cells, ends_in_print, signs


@dataclass(frozen=True)
class Signed:
    """Texts, and what each of them holds that asks for a closer look."""

    texts: pa.Array
    signs: Signs


def signed(texts: pa.Array) -> Signed:
    """Look at every text once."""
    return Signed(texts, signs(cells(texts)))


def normalise(texts: pa.Array) -> pa.Array:
    r"""Return the texts in Unicode NFC, with ``\n`` line ends and no trailing white space."""
    return _normalise(signed(texts))


def _normalise(given: Signed) -> pa.Array:
    # Only the few texts that something may change in pay for it.
    texts = given.texts
    other = given.signs.holding(Sign.UNSTABLE | Sign.RETURN) | ~ends_in_print(cells(texts))
    if texts.null_count:
        other &= texts.is_valid().to_numpy(zero_copy_only=False)
    if not other.any():
        return texts
    mask = pa.array(other)
    unix = pc.replace_substring(pc.replace_substring(texts.filter(mask), "\r\n", "\n"), "\r", "\n")
    return pc.replace_with_mask(
        texts, mask, pc.utf8_rtrim_whitespace(pc.utf8_normalize(unix, form="NFC"))
    )


Codes = npt.NDArray[np.uint64]
DIGEST_BYTES = 32


@dataclass(frozen=True)
class Keyed:
    """The keys of a batch's pairs, and 64 bits of each text, by which equal ones can be counted.

    ``digests`` are the keys' bytes, a row each, good where the key is not null. The bits are good
    within this process only: the hash behind them is not promised for ever.
    """

    keys: pa.Array
    digests: npt.NDArray[np.uint8]
    codes: tuple[Codes, Codes]


def keyed_pairs(left: Signed, right: Signed) -> Keyed:
    """Return ``content_keys(left, right)`` and codes of both; each text is normalised once."""
    one, other = _normalise(left), _normalise(right)
    raw = b"".join(exact_digests(one, other))
    missing = pc.or_(one.is_null(), other.is_null())
    digests = np.frombuffer(raw, np.uint8).reshape(-1, DIGEST_BYTES)
    codes, others = _codes(one, other)
    return Keyed(_in_hex(raw, missing), digests, (codes, others))


def _in_hex(digests: bytes, missing: pa.Array) -> pa.Array:
    size = 2 * DIGEST_BYTES
    bounds = np.arange(len(missing) + 1, dtype=np.int32) * size
    buffers = (pa.py_buffer(bounds), pa.py_buffer(digests.hex().encode()))
    keys = pa.StringArray.from_buffers(len(missing), *buffers)
    return pc.if_else(missing, pa.scalar(None, pa.string()), keys)


def _codes(*columns: pa.Array) -> tuple[Codes, ...]:
    import polars as pl

    frame = pl.DataFrame({str(place): pl.from_arrow(texts) for place, texts in enumerate(columns)})
    return tuple(column.to_numpy() for column in frame.select(pl.all().hash(0)).get_columns())


def content_keys(*columns: pa.Array) -> pa.Array:
    """Return a key in hex per row over the normalised texts, null where one of them is null.

    Texts are length-prefixed: ("ab", "c") and ("a", "bc") have different keys.
    """
    missing = columns[0].is_null()
    for column in columns[1:]:
        missing = pc.or_(missing, column.is_null())
    return _in_hex(b"".join(exact_digests(*(normalise(c) for c in columns))), missing)


def content_codes(column: pa.Array) -> Codes:
    """Return 64 bits of each normalised text, by which equal ones can be found in this process."""
    return _codes(normalise(column))[0]


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
