"""Keys of content: sha256 over texts that are normalised and length-prefixed.

The same text gives the same key on every warehouse and machine. Knows nothing of rows or files.
"""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def normalise(texts: pa.Array) -> pa.Array:
    r"""Return the texts in Unicode NFC, with ``\n`` line ends and no trailing white space."""
    unix = pc.replace_substring(pc.replace_substring(texts, "\r\n", "\n"), "\r", "\n")
    return pc.utf8_rtrim_whitespace(_composed(unix))


def _composed(texts: pa.Array) -> pa.Array:
    # NFC leaves ASCII as it is and is the slowest part by far, so only the other rows pay for it.
    other = pc.fill_null(pc.invert(pc.string_is_ascii(texts)), False)
    if not pc.any(other).as_py():
        return texts
    return pc.replace_with_mask(texts, other, pc.utf8_normalize(texts.filter(other), form="NFC"))


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
