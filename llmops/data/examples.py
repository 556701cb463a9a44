"""What provider limits are on, read from rows column by column. Knows no limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmops.data.cells import cells
from llmops.data.columns import ANSWER, RENDERED, ROW_KEY
from llmops.data.formats import encode, inner, shape
from llmops.data.groups import Rows
from llmops.data.splits import Draws, row_draws
from llmops.data.texts import Around
from llmops.data.tokens import Counter

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RenderedRows:
    """Rendered rows in key order; ``limits.Examples`` by shape."""

    rows: Rows
    system: str | None
    seed: int
    counter: Counter

    def draws(self) -> Draws:
        """Return the order in which rows are taken where not all can be."""
        drawn = (row_draws(self.seed, keys) for keys in self.rows.values(ROW_KEY))
        return np.concatenate([np.empty(0, np.uint64), *drawn])

    def seen_bytes(self) -> Numbers:
        """Return the bytes of UTF-8 that a model sees of each example."""
        return self._seen_bytes

    @cached_property
    def _seen_bytes(self) -> Numbers:
        system = len((self.system or "").encode())
        sizes = [cells(user).sizes + cells(answer).sizes + system for user, answer in self._pairs()]
        return np.concatenate([np.empty(0, np.int64), *sizes])

    def tokens(self, rows: Numbers) -> Numbers:
        """Return the tokens of some rows (ascending)."""
        system = int(self.counter.count(pa.array([self.system], pa.string()))[0])
        counts, start = [np.empty(0, np.int64)], 0
        for pair in self._pairs():
            low, high = np.searchsorted(rows, [start, start + len(pair[0])])
            chosen = pa.array(rows[low:high] - start)
            user, answer = (self.counter.count(texts.take(chosen)) for texts in pair)
            counts.append(user + answer + system)
            start += len(pair[0])
        return np.concatenate(counts)

    def line_bytes(self, format: str) -> Numbers:
        """Return the bytes of each example's line in a format."""
        import polars as pl

        known = shape(format, self.system, Around())
        around = len(known.before) + len(known.between) + len(known.after)
        sizes = [np.empty(0, np.int64)]
        for pair in self._pairs():
            users, answers = (inner(encode(pl.Series(pl.from_arrow(texts)))) for texts in pair)
            inside = users.str.len_bytes() + answers.str.len_bytes()
            sizes.append(inside.cast(pl.Int64).to_numpy() + around)
        return np.concatenate(sizes)

    def _pairs(self) -> Iterator[tuple[pa.Array, pa.Array]]:
        return zip(self.rows.values(RENDERED), self.rows.values(ANSWER), strict=True)


def rendered(questions: pa.Array, around: Around) -> pa.Array:
    """Return what a template makes of questions that it only writes something around."""
    return pc.binary_join_element_wise(around.before, questions, around.after, "")
