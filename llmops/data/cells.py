"""The bytes of a column of text, as NumPy and Python's own functions take them. Copies nothing.

Knows nothing of what the texts mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from unicodedata import category

import numpy as np
import numpy.typing as npt
import pyarrow as pa

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
_LEAST_LEAD = 0xCC  # the first byte of U+0300, before which NFC changes nothing
_BLOCK = 1 << 20  # bytes looked at at once: what is held beside the text


@dataclass(frozen=True)
class Cells:
    """A column's bytes: cell ``n`` lies in ``data`` from ``bounds[n]`` to ``bounds[n + 1]``."""

    data: Bytes
    bounds: Numbers

    @property
    def sizes(self) -> Numbers:
        """Bytes a cell."""
        return np.diff(self.bounds)

    @property
    def view(self) -> memoryview:
        """The bytes as Python takes them."""
        return self.data.data

    def slices(self) -> Iterator[memoryview]:
        """Yield the bytes of each cell."""
        view = self.view
        return (view[start:end] for start, end in pairwise(self.bounds.tolist()))


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


def ends_in_print(found: Cells) -> Mask:
    """Say which cells end in a visible ASCII character."""
    ends = found.bounds[1:]
    printed = np.zeros(len(ends), bool)
    filled = ends > found.bounds[:-1]
    last = found.data[ends[filled] - 1]
    printed[filled] = (last > 0x20) & (last < 0x7F)
    return printed


def nfc_may_change(found: Cells) -> Mask:
    """Say which cells hold a character that Unicode's NFC may change."""
    changed = np.zeros(len(found.bounds) - 1, bool)
    for start in range(int(found.bounds[0]), int(found.bounds[-1]), _BLOCK):
        end = min(start + _BLOCK, int(found.bounds[-1]))
        leads = start + np.flatnonzero(found.data[start:end] >= _LEAST_LEAD)
        if len(leads):
            hits = leads[_unstable()[_code_points(found.data, leads)]]
            changed[np.searchsorted(found.bounds, hits, "right") - 1] = True
    return changed


def _code_points(data: Bytes, leads: Numbers) -> npt.NDArray[np.uint32]:
    """Return the characters that start at ``leads``, each of two bytes of UTF-8 or more."""
    last = len(data) - 1  # a short character at the end has no further bytes to be read
    first, second, third, fourth = (
        data[np.minimum(leads + place, last)].astype(np.uint32) for place in range(4)
    )
    low = np.uint32(0x3F)
    two = (first & np.uint32(0x1F)) << 6 | second & low
    three = (first & np.uint32(0x0F)) << 12 | (second & low) << 6 | third & low
    four = (
        (first & np.uint32(0x07)) << 18 | (second & low) << 12 | (third & low) << 6 | fourth & low
    )
    return np.where(first < 0xE0, two, np.where(first < 0xF0, three, four)).astype(np.uint32)


@lru_cache(maxsize=1)
def _unstable() -> Mask:
    """Say of every character whether NFC may change it or what stands beside it."""
    table = np.zeros(0x110000, bool)
    for first, last in _NFC_RANGES:
        table[first : last + 1] = True
    marks = [c for c in range(0x300, 0x30000) if category(chr(c)) in ("Mn", "Mc", "Me", "Cn")]
    table[marks] = True
    return table
