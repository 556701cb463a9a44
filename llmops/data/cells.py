"""The bytes of a column of text, as NumPy and Python's own functions take them. Copies nothing.

Knows nothing of what the texts mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntFlag
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING
from unicodedata import category

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    import polars as pl

Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]

# Characters that Unicode's NFC_Quick_Check does not call stable, and some more; combining marks
# and characters that are not assigned yet come on top.
_NFC_RANGES = (
    (0x374, 0x374),
    (0x37E, 0x37E),
    (0x387, 0x387),
    (0x958, 0x95F),
    (0x9DC, 0x9DF),
    (0xA33, 0xA5E),
    (0xB5C, 0xB5D),
    (0xF43, 0xFB9),
    (0x1100, 0x11FF),
    (0x1F71, 0x1FFD),
    (0x2000, 0x2001),
    (0x2126, 0x2126),
    (0x212A, 0x212B),
    (0x2329, 0x232A),
    (0x2ADC, 0x2ADC),
    (0xD7B0, 0xD7FB),
    (0xF900, 0xFAFF),
    (0xFB1D, 0xFB4E),
    (0x10D00, 0x11FFF),
    (0x16D00, 0x16DFF),
    (0x1D15E, 0x1D1C0),
    (0x2F800, 0x2FA1D),
)
_LEAST_LEAD = 0xC2  # the first byte of U+0080; before it only the bytes below are looked for
_WORD = 4  # bytes of the longest character
_INLINE = 12  # bytes of a text that lie in its view
_BLOCK = 1 << 19  # bytes looked at at once, so that they stay in the processor's cache


@dataclass(frozen=True)
class Cells:
    """A column's bytes: cell ``n`` lies in ``data`` from ``bounds[n]`` to ``bounds[n + 1]``."""

    data: Bytes
    bounds: Numbers

    @property
    def sizes(self) -> Numbers:
        """Bytes a cell."""
        return np.diff(self.bounds)


def whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece; copies nothing where it is one (Arrow's own way does)."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def cells(texts: pa.Array) -> Cells:
    """Return the bytes of ``texts``; a null has none."""
    kind = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    _, bounds, data = texts.buffers()
    if bounds is None or not len(texts):
        return Cells(np.empty(0, np.uint8), np.zeros(len(texts) + 1, np.int64))
    numbers = np.frombuffer(bounds, kind)[texts.offset : texts.offset + len(texts) + 1]
    if texts.null_count and np.diff(numbers)[~_valid(texts)].any():
        return cells(texts.fill_null(""))
    return Cells(np.frombuffer(data or b"", np.uint8), numbers.astype(np.int64, copy=False))


def _valid(texts: pa.Array) -> Mask:
    valid: Mask = texts.is_valid().to_numpy(zero_copy_only=False)
    return valid


def string_views(data: Bytes, starts: Numbers, sizes: Numbers) -> pa.Array:
    """Return texts that lie in ``data`` (less than 2 GiB) with anything between them; copies none.

    Arrow's format of a view: https://arrow.apache.org/docs/format/Columnar.html
    """
    views = np.zeros((len(starts), 4), "<u4")
    views[:, 0] = sizes
    long = sizes > _INLINE
    views[long, 1] = _words(data)[starts[long]]
    views[long, 3] = starts[long]
    short = np.flatnonzero(~long)
    places = starts[short, None] + np.arange(_INLINE)
    inline = np.where(np.arange(_INLINE) < sizes[short, None], data.take(places, mode="clip"), 0)
    views.view(np.uint8)[short, 4:] = inline
    buffers = [None, pa.py_buffer(views), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string_view(), len(starts), buffers)


def laid(texts: pl.Series) -> Iterator[memoryview]:
    """Yield the bytes of texts of more than 12 bytes, one text after the other; copies nothing.

    Where polars has just made the texts, most of them lie one after the other.
    """
    import polars as pl

    array = texts.to_arrow(compat_level=pl.CompatLevel.newest())
    if not len(array):
        return
    _, raw, *buffers = array.buffers()
    views = np.frombuffer(raw, "<u4").reshape(-1, 4)[array.offset : array.offset + len(array)]
    sizes, numbers, starts = views[:, 0], views[:, 2], views[:, 3]
    ends = starts + sizes
    apart = (numbers[1:] != numbers[:-1]) | (starts[1:] != ends[:-1])
    bounds = [0, *(np.flatnonzero(apart) + 1).tolist(), len(views)]
    for first, last in pairwise(bounds):
        yield memoryview(buffers[numbers[first]])[starts[first] : ends[last - 1]]


def _words(data: Bytes) -> npt.NDArray[np.uint32]:
    """Return the four bytes that begin at every byte as a number each; copies next to nothing."""
    if len(data) < _WORD:
        data = np.concatenate([data, np.zeros(_WORD, np.uint8)])
    return np.ndarray(len(data) - _WORD + 1, "<u4", data, 0, (1,))


def ends_in_print(found: Cells) -> Mask:
    """Say which cells end in a visible ASCII character."""
    ends = found.bounds[1:]
    printed = np.zeros(len(ends), bool)
    filled = ends > found.bounds[:-1]
    last = found.data[ends[filled] - 1]
    printed[filled] = (last > 0x20) & (last < 0x7F)
    return printed


class Sign(IntFlag):
    """What a text may hold that asks for a closer look."""

    UNSTABLE = 1  # a character that Unicode's NFC may change
    LINE_END = 2  # U+0085, U+2028 or U+2029
    REPLACED = 4  # U+FFFD
    NUL = 8
    RETURN = 16


_OF_BYTES = {0x00: Sign.NUL, 0x0D: Sign.RETURN}
_OF_CHARACTERS = {
    0x85: Sign.LINE_END,
    0x2028: Sign.LINE_END,
    0x2029: Sign.LINE_END,
    0xFFFD: Sign.REPLACED,
}


@dataclass(frozen=True)
class Signs:
    """The signs of each cell of a column."""

    of: Bytes

    def holding(self, sign: Sign) -> Mask:
        """Say which cells hold it."""
        held: Mask = (self.of & sign) != 0
        return held


def signs(found: Cells) -> Signs:
    """Look at every byte once."""
    of = np.zeros(len(found.bounds) - 1, np.uint8)

    def note(places: Numbers, sign: Sign) -> None:
        of[np.searchsorted(found.bounds, places, "right") - 1] |= np.uint8(sign)

    for start in range(int(found.bounds[0]), int(found.bounds[-1]), _BLOCK):
        block = found.data[start : min(start + _BLOCK, int(found.bounds[-1]))]
        leads = start + np.flatnonzero(block >= _LEAST_LEAD)
        kinds = _kinds()[_code_points(found.data, leads)]
        for sign in Sign if kinds.any() else ():
            note(leads[(kinds & sign) != 0], sign)
        raw = block.tobytes()  # Python's search is the fastest here
        for byte, sign in _OF_BYTES.items():
            if byte in raw:
                note(start + np.flatnonzero(block == byte), sign)
    return Signs(of)


def _code_points(data: Bytes, leads: Numbers) -> npt.NDArray[np.uint32]:
    """Return the characters that start at ``leads``, each of two bytes of UTF-8 or more."""
    words = _words(data)
    within = np.minimum(leads, len(words) - 1)
    word = words[within] >> (8 * (leads - within)).astype(np.uint32)
    two = (word & 0x1F) << 6 | word >> 8 & 0x3F
    three = (word & 0x0F) << 12 | word >> 2 & 0xFC0 | word >> 16 & 0x3F
    four = (word & 0x07) << 18 | word << 4 & 0x3F000 | word >> 10 & 0xFC0 | word >> 24 & 0x3F
    first = word & 0xFF
    return np.where(first < 0xE0, two, np.where(first < 0xF0, three, four))


@lru_cache(maxsize=1)
def _kinds() -> Bytes:
    """Return the signs of every character."""
    table = np.zeros(0x110000, np.uint8)
    for first, last in _NFC_RANGES:
        table[first : last + 1] = Sign.UNSTABLE
    marks = [c for c in range(0x300, 0x30000) if category(chr(c)) in ("Mn", "Mc", "Me", "Cn")]
    table[marks] = Sign.UNSTABLE
    for character, sign in _OF_CHARACTERS.items():
        table[character] = sign
    return table
