"""Keys of content: sha256 over texts that are normalised and length-prefixed.

The same text gives the same key on every warehouse and machine. Knows nothing of rows or files.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

NFC_MAY_CHANGE = (
    r"[\pM\x{374}\x{37e}\x{387}\x{958}-\x{95f}\x{9dc}-\x{9df}\x{a33}-\x{a5e}\x{b5c}\x{b5d}"
    r"\x{f43}-\x{fb9}\x{1100}-\x{11ff}\x{1f71}-\x{1ffd}\x{2000}\x{2001}\x{2126}\x{212a}\x{212b}"
    r"\x{2329}\x{232a}\x{2adc}\x{d7b0}-\x{d7fb}\x{f900}-\x{faff}\x{fb1d}-\x{fb4e}"
    r"\x{10d00}-\x{11fff}\x{16d00}-\x{16dff}\x{1d15e}-\x{1d1c0}\x{2f800}-\x{2fa1d}]"
)
"""Characters without which a text is in NFC already (Unicode's NFC_Quick_Check), and some more."""


def normalise(texts: pa.Array) -> pa.Array:
    r"""Return the texts in Unicode NFC, with ``\n`` line ends and no trailing white space."""
    unix = texts
    if holds(texts, "\r"):
        unix = pc.replace_substring(pc.replace_substring(texts, "\r\n", "\n"), "\r", "\n")
    composed = _composed(unix)
    return composed if _ends_in_print(composed) else pc.utf8_rtrim_whitespace(composed)


def holds(texts: pa.Array, *needles: str) -> bool:
    """Say whether some text holds one of the strings; faster by far than Arrow's own search."""
    import polars as pl

    series = pl.Series(pl.from_arrow(texts))
    return any(series.str.contains(needle, literal=True).any() for needle in needles)


def _ends_in_print(texts: pa.Array) -> bool:
    """Say whether every text ends in a visible ASCII character: there is nothing to trim then."""
    if not len(texts) or texts.null_count or texts.buffers()[2] is None:
        return False
    kind = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    offsets = np.frombuffer(texts.buffers()[1], kind)[texts.offset : texts.offset + len(texts) + 1]
    if (np.diff(offsets) == 0).any():
        return False
    last = np.frombuffer(texts.buffers()[2], np.uint8)[offsets[1:] - 1]
    return bool(((last > 0x20) & (last < 0x7F)).all())


def _composed(texts: pa.Array) -> pa.Array:
    # NFC is the slowest part by far, so only texts that it may change pay for it.
    other = pc.fill_null(pc.match_substring_regex(texts, NFC_MAY_CHANGE), False)
    if not pc.any(other).as_py():
        return texts
    return pc.replace_with_mask(texts, other, pc.utf8_normalize(texts.filter(other), form="NFC"))


@dataclass(frozen=True)
class Keyed:
    """The keys of a batch's pairs, and 64 bits of each text, by which equal ones can be counted.

    The bits are good within this process only: the hash behind them is not promised for ever.
    """

    keys: pa.Array
    codes: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]


def keyed_pairs(left: pa.Array, right: pa.Array) -> Keyed:
    """Return ``content_keys(left, right)`` and codes of both; each text is normalised once."""
    import polars as pl

    one, other = normalise(left), normalise(right)
    missing = pc.or_(left.is_null(), right.is_null())
    keys = pa.array([digest.hex() for digest in exact_digests(one, other)], pa.string())
    codes = tuple(pl.Series(pl.from_arrow(texts)).hash(0).to_numpy() for texts in (one, other))
    return Keyed(pc.if_else(missing, pa.scalar(None, pa.string()), keys), (codes[0], codes[1]))


def content_keys(*columns: pa.Array) -> pa.Array:
    """Return a key in hex per row over the normalised texts, null where one of them is null.

    Texts are length-prefixed: ("ab", "c") and ("a", "bc") have different keys.
    """
    missing = columns[0].is_null()
    for column in columns[1:]:
        missing = pc.or_(missing, column.is_null())
    keys = [digest.hex() for digest in exact_digests(*(normalise(c) for c in columns))]
    return pc.if_else(missing, pa.scalar(None, pa.string()), pa.array(keys, pa.string()))


def content_codes(column: pa.Array) -> npt.NDArray[np.uint64]:
    """Return 64 bits of each normalised text's key; a null has the code of no text."""
    digests = exact_digests(normalise(column))
    return np.frombuffer(b"".join(d[:8] for d in digests), dtype=np.uint64)


def exact_digests(*columns: pa.Array) -> list[bytes]:
    """Return 32 bytes per row over the texts as they are; null differs from empty."""
    parts = [part for column in columns for part in _length_prefixed(column)]
    joined = pc.binary_join_element_wise(*parts, "").cast(pa.large_string())
    offsets = np.frombuffer(joined.buffers()[1], dtype=np.int64)[: len(joined) + 1].tolist()
    with memoryview(joined.buffers()[2] or b"") as view:
        return [sha256(view[start:end]).digest() for start, end in pairwise(offsets)]


def _length_prefixed(column: pa.Array) -> tuple[pa.Array, str, pa.Array]:
    lengths = pc.fill_null(pc.binary_length(column).cast(pa.string()), "null")
    return lengths, ":", pc.fill_null(column, "")
