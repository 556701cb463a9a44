"""Word shingles of texts as 64-bit numbers: the sets that near-duplicates are measured on.

A word is a run of letters, marks, digits and underscores, lower-cased; a shingle is some words in
a row. Stable on every machine and Python version. Knows nothing of files.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmops.data.keys import normalise

_BETWEEN_WORDS = r"[^\p{L}\p{M}\p{N}_]+"
_MULTIPLIER = 0x9E3779B97F4A7C15  # odd: multiplying by it loses nothing, modulo 2**64

U64 = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Shingles:
    """The shingles of texts, one text after the other, repeats included; ``counts`` one a text."""

    values: U64
    counts: npt.NDArray[np.int64]


def shingle(texts: pa.Array, words: int) -> Shingles:
    """Return the shingles of ``words`` words; a text with fewer words is one shingle of all.

    A text without any word has no shingle.
    """
    split = pc.split_pattern_regex(pc.utf8_lower(normalise(texts)), pattern=_BETWEEN_WORDS)
    flat, owner = split.flatten(), pc.list_parent_indices(split).to_numpy()
    is_word = pc.not_equal(flat, "").to_numpy(zero_copy_only=False)  # the ends of a text are not
    owner = owner[is_word].astype(np.int64)
    hashed = _hash_words(flat.filter(pa.array(is_word)))
    return _windows(hashed, owner, len(texts), words)


def _hash_words(words: pa.Array) -> U64:
    encoded = words.dictionary_encode()
    digests = (blake2b(w.encode(), digest_size=8).digest() for w in encoded.dictionary.to_pylist())
    vocabulary = np.frombuffer(b"".join(digests), dtype="<u8")
    hashed: U64 = vocabulary[encoded.indices.to_numpy()]
    return hashed


def _windows(hashed: U64, owner: npt.NDArray[np.int64], texts: int, words: int) -> Shingles:
    size = len(hashed)
    values = np.zeros(size, np.uint64)
    is_whole = np.ones(size, bool)  # the window ends inside its text
    for shift in range(words):
        end = max(0, size - shift)
        inside = np.zeros(size, bool)
        inside[:end] = owner[shift:] == owner[:end]
        factor = np.uint64(pow(_MULTIPLIER, shift + 1, 2**64))
        values[inside] += hashed[shift:][inside[:end]] * factor
        is_whole = inside
    is_first = np.ones(size, bool)
    is_first[1:] = owner[1:] != owner[:-1]
    kept = is_whole | is_first
    return Shingles(_mix(values[kept]), np.bincount(owner[kept], minlength=texts))


def _mix(values: U64) -> U64:
    """Scatter the bits (the finaliser of SplitMix64, Steele and others 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
