"""Which texts of a column are equal, and which nearly: MinHash finds candidates, sets decide.

Candidates come from banded MinHash signatures (Broder 1997; Leskovec, Rajaraman and Ullman,
Mining of Massive Datasets, section 3.4); each is then measured by the exact Jaccard similarity of
its shingle sets, so that the threshold means what it says. Knows nothing of groups or sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmops.data.keys import content_codes
from llmops.data.settings import NearDuplicates
from llmops.data.shingles import U64, Shingles, shingle

RECALL = 0.99  # the chance that a pair just at the threshold becomes a candidate
NEIGHBOURS = 16  # how far apart two texts of one band bucket may stand and still be compared
_SEED = 20  # of the permutations; not the split's: what is a near-duplicate is a fact of the data

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TextIndex:
    """The distinct texts of a column, numbered by first appearance of their code.

    ``text`` is one number a row; ``pairs`` has two columns of numbers of near-duplicate texts.
    """

    text: I64
    pairs: I64

    @property
    def texts(self) -> int:
        """How many distinct texts there are."""
        return int(self.text.max(initial=-1)) + 1


def number_texts(codes: U64) -> TextIndex:
    """Number texts by their codes; no near-duplicates are looked for."""
    _, first, text = np.unique(codes, return_index=True, return_inverse=True)
    return TextIndex(_by_appearance(first)[text], np.empty((0, 2), np.int64))


def _by_appearance(first: I64) -> I64:
    """Return the number of each code, given the first row of each in the order of the codes."""
    number = np.empty_like(first)
    number[np.argsort(first)] = np.arange(len(first))
    return number


def index_texts(
    texts: Callable[[], Iterator[pa.Array]], near: NearDuplicates, spill: Path
) -> TextIndex:
    """Number the distinct normalised texts of a column and find the near-duplicates among them.

    ``texts`` reads the column from its start each time that it is called.

    Memory is about 300 bytes a distinct text; the shingles themselves go to the file ``spill``.
    """
    codes = [content_codes(batch) for batch in texts()]
    _, first, text = np.unique(np.concatenate(codes), return_index=True, return_inverse=True)
    spill.parent.mkdir(parents=True, exist_ok=True)
    with spill.open("w+b") as file:
        signatures, counts = [], []
        for distinct in _at_rows(texts(), np.sort(first)):
            shingles = shingle(distinct, near.shingle_words)
            file.write(shingles.values.tobytes())
            counts.append(shingles.counts)
            signatures.append(_signatures(shingles, near.permutations))
        file.flush()
        sets = _Sets(_mapped(spill), np.concatenate([np.zeros(1, np.int64), *counts]).cumsum())
        found = _verified(_candidates(np.concatenate(signatures), sets, near), sets, near.threshold)
    spill.unlink()
    return TextIndex(_by_appearance(first)[text], found)


def _at_rows(batches: Iterator[pa.Array], rows: I64) -> Iterator[pa.Array]:
    """Yield the texts at ``rows`` (ascending), batch by batch."""
    start = 0
    for batch in batches:
        low, high = np.searchsorted(rows, [start, start + len(batch)])
        yield batch.take(pa.array(rows[low:high] - start))
        start += len(batch)


def _mapped(path: Path) -> U64:
    if path.stat().st_size == 0:
        return np.empty(0, np.uint64)
    return np.memmap(path, dtype=np.uint64, mode="r")


class _Sets:
    """The shingle sets of texts, read from the spill file when asked for."""

    def __init__(self, values: U64, bounds: I64) -> None:
        self._values = values
        self._bounds = bounds
        self.of = lru_cache(maxsize=4096)(self._of)
        self.is_empty = np.diff(bounds) == 0

    def _of(self, text: int) -> frozenset[int]:
        return frozenset(self._values[self._bounds[text] : self._bounds[text + 1]].tolist())

    def similarity(self, left: int, right: int) -> float:
        """Return the Jaccard similarity of two texts."""
        one, other = self.of(left), self.of(right)
        both = len(one & other)
        return both / (len(one) + len(other) - both)


def _signatures(shingles: Shingles, permutations: int) -> npt.NDArray[np.uint32]:
    """Return a MinHash signature a text: (texts, permutations); all bits set without shingles."""
    out = np.full((len(shingles.counts), permutations), 2**32 - 1, np.uint32)
    filled = shingles.counts > 0
    if not filled.any():
        return out
    starts = (np.cumsum(shingles.counts) - shingles.counts)[filled]
    # RandomState's stream is frozen by NumPy's policy; the newer generators' streams are not.
    factors = np.random.RandomState(_SEED).randint(0, 2**64, (permutations, 2), dtype=np.uint64)
    for number, (factor, shift) in enumerate(factors):
        hashed = (shingles.values * (factor | np.uint64(1)) + shift) >> np.uint64(32)
        out[filled, number] = np.minimum.reduceat(hashed, starts)
    return out


def band_rows(threshold: float, permutations: int) -> int:
    """Return the most rows a band that still find a pair at ``threshold`` with chance ``RECALL``.

    A pair of similarity s shares one of b bands of r rows with the chance 1 - (1 - s**r)**b.
    """
    rows = [
        r
        for r in range(1, permutations + 1)
        if 1 - (1 - threshold**r) ** (permutations // r) >= RECALL
    ]
    return max(rows, default=1)


def _candidates(
    signatures: npt.NDArray[np.uint32], sets: _Sets, near: NearDuplicates
) -> Iterator[tuple[int, int]]:
    """Yield pairs worth measuring, each once, the smaller number first, in order."""
    size = len(signatures)
    rows = band_rows(near.threshold, near.permutations)
    pairs = [np.empty(0, np.int64)]
    usable = np.flatnonzero(~sets.is_empty)
    for start in range(0, near.permutations - rows + 1, rows):
        band = _fold(signatures[usable, start : start + rows])
        for left, right in _neighbours(usable, band):
            likely = _may_reach(signatures, left, right, near)
            low, high = np.minimum(left, right)[likely], np.maximum(left, right)[likely]
            pairs.append(low * size + high)
    for pair in np.unique(np.concatenate(pairs)).tolist():
        yield divmod(pair, size)


def _fold(band: npt.NDArray[np.uint32]) -> U64:
    folded = np.zeros(len(band), np.uint64)
    for column in band.T:
        folded = (folded ^ column) * np.uint64(0x100000001B3) + (folded >> np.uint64(29))
    return folded


def _neighbours(texts: I64, band: U64) -> Iterator[tuple[I64, I64]]:
    """Yield the pairs of texts in one bucket of the band.

    A bucket of more than ``NEIGHBOURS`` + 1 texts is compared along its order only: its pairs
    would grow with the square of its size.
    """
    order = np.argsort(band, kind="stable")
    ordered, owner = band[order], texts[order]
    for distance in range(1, NEIGHBOURS + 1):
        same = ordered[distance:] == ordered[:-distance]
        if not same.any():
            return
        yield owner[:-distance][same], owner[distance:][same]


def _may_reach(
    signatures: npt.NDArray[np.uint32], left: I64, right: I64, near: NearDuplicates
) -> npt.NDArray[np.bool_]:
    """Say which pairs' estimated similarity is within four standard errors of the threshold."""
    error = np.sqrt(near.threshold * (1 - near.threshold) / near.permutations)
    estimate = (signatures[left] == signatures[right]).mean(axis=1)
    likely: npt.NDArray[np.bool_] = estimate >= near.threshold - 4 * error
    return likely


def _verified(pairs: Iterator[tuple[int, int]], sets: _Sets, threshold: float) -> I64:
    near = [pair for pair in pairs if sets.similarity(*pair) >= threshold]
    return np.array(near, dtype=np.int64).reshape(-1, 2)
