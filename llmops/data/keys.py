"""Keys of content: sha256 over texts that are normalised and length-prefixed.

The same text gives the same key on every warehouse and machine. Knows nothing of rows or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmops.data.cells import Sign, Signs, cells, ends_in_print, signs
from llmops.data.digests import DIGEST_BYTES, Digests, row_digests

if TYPE_CHECKING:
    import polars as pl


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


@dataclass(frozen=True)
class Keyed:
    """The keys of a batch's pairs, and 64 bits of each text, by which equal ones can be counted.

    ``digests`` are the keys' bytes, a row each, good where the key is not null. The bits are good
    within this process only: the hash behind them is not promised for ever.
    """

    keys: pa.Array
    digests: Digests
    codes: tuple[Codes, Codes]


def keyed_pairs(left: Signed, right: Signed) -> Keyed:
    """Return ``content_keys(left, right)`` and codes of both; each text is normalised once."""
    one, other = _normalise(left), _normalise(right)
    digests = exact_digests(one, other)
    missing = pc.or_(one.is_null(), other.is_null())
    codes, others = _codes(one, other)
    return Keyed(_in_hex(digests, missing), digests, (codes, others))


def _in_hex(digests: Digests, missing: pa.Array) -> pa.Array:
    size = 2 * DIGEST_BYTES
    bounds = np.arange(len(missing) + 1, dtype=np.int32) * size
    buffers = (pa.py_buffer(bounds), pa.py_buffer(digests.tobytes().hex().encode()))
    keys = pa.StringArray.from_buffers(len(missing), *buffers)
    return pc.if_else(missing, pa.scalar(None, pa.string()), keys)


def _codes(*columns: pa.Array) -> tuple[Codes, ...]:
    import polars as pl

    hashes = _frame(columns).select(pl.all().hash(0))
    return tuple(column.to_numpy() for column in hashes.get_columns())


def _frame(columns: Sequence[pa.Array]) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame({str(place): pl.from_arrow(texts) for place, texts in enumerate(columns)})


def content_keys(*columns: pa.Array) -> pa.Array:
    """Return a key in hex per row over the normalised texts, null where one of them is null.

    Texts are length-prefixed: ("ab", "c") and ("a", "bc") have different keys.
    """
    missing = columns[0].is_null()
    for column in columns[1:]:
        missing = pc.or_(missing, column.is_null())
    return _in_hex(exact_digests(*(normalise(column) for column in columns)), missing)


def content_codes(column: pa.Array) -> Codes:
    """Return 64 bits of each normalised text, by which equal ones can be found in this process."""
    return _codes(normalise(column))[0]


def exact_digests(*columns: pa.Array) -> Digests:
    """Return a digest per row over the texts as they are; null differs from empty."""
    import polars as pl

    table = _frame(columns)
    pieces: list[pl.Expr] = []
    for name in table.columns:
        text = pl.col(name)
        pieces += (length_prefix(text.str.len_bytes()).fill_null("null:"), text)
    return row_digests(table, pieces)


def length_prefix(size: pl.Expr) -> pl.Expr:
    """Return what stands before a text of so many bytes, null where it is null."""
    import polars as pl

    return pl.concat_str(size, pl.lit(":"))
