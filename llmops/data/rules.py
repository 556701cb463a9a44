"""The rules a row must keep, as masks over a batch. Knows no file and no configuration file.

The rules from the config bear the name of their key, so that a message names what to change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmops.data.columns import ANSWER, QUESTION, ROW_KEY
from llmops.data.mapping import Mapped, Mask
from llmops.data.settings import Rules

RULES = (
    "not_utf8",
    "missing",
    "nul",
    "replacement_character",
    "empty",
    "min_question_characters",
    "max_question_characters",
    "min_answer_characters",
    "max_answer_characters",
)
"""Every rule, in the order in which a row is asked: it is quarantined under the first it breaks."""


@dataclass(frozen=True)
class Breach:
    """The rows of a batch, by mask, that break ``rule`` in ``column``."""

    rule: str
    column: str
    rows: Mask


@dataclass(frozen=True)
class Verdict:
    """Per row of a batch the first breach, as its place in ``breaches``, or -1 for a good row."""

    breaches: tuple[Breach, ...]
    first: np.ndarray[tuple[int], np.dtype[np.int64]]

    @property
    def good(self) -> Mask:
        """The rows that keep every rule."""
        return self.first < 0


def judge(batch: Mapped, rules: Rules) -> Verdict:
    """Ask every rule of every row."""
    breaches = tuple(_breaches(batch, rules))
    first = np.full(batch.rows.num_rows, -1, dtype=np.int64)
    for place, breach in enumerate(breaches):
        first[(first < 0) & breach.rows] = place
    return Verdict(breaches, first)


def _breaches(batch: Mapped, rules: Rules) -> Iterator[Breach]:
    """Yield the breaches in the order of ``RULES``."""
    every = [name for name in batch.rows.column_names if name != ROW_KEY]
    pair = (QUESTION, ANSWER)
    for name in every:
        yield Breach("not_utf8", name, batch.broken[name])
    for name in pair:
        yield _breach("missing", name, batch, lambda texts: texts.is_null())
    for name in every:
        yield _breach("nul", name, batch, lambda texts: pc.match_substring(texts, "\0"))
    for name in pair:
        # Somewhere before us a byte or a lone surrogate was lost: the text is not what was written.
        yield _breach("replacement_character", name, batch, _has_replacement)
    for name in pair:
        yield _breach("empty", name, batch, _is_blank)
    yield from _lengths("question", QUESTION, batch, rules)
    yield from _lengths("answer", ANSWER, batch, rules)


def _lengths(what: str, name: str, batch: Mapped, rules: Rules) -> Iterator[Breach]:
    low, high = f"min_{what}_characters", f"max_{what}_characters"
    yield _breach(low, name, batch, lambda t: pc.less(pc.utf8_length(t), getattr(rules, low)))
    yield _breach(high, name, batch, lambda t: pc.greater(pc.utf8_length(t), getattr(rules, high)))


def _breach(rule: str, name: str, batch: Mapped, test: Callable[[pa.Array], pa.Array]) -> Breach:
    broken = pc.fill_null(test(batch.rows[name]), False).to_numpy()
    return Breach(rule, name, broken)


def _has_replacement(texts: pa.Array) -> pa.Array:
    return pc.match_substring(texts, "\ufffd")


def _is_blank(texts: pa.Array) -> pa.Array:
    return pc.equal(pc.binary_length(pc.utf8_trim_whitespace(texts)), 0)
