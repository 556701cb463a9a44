"""The rules a row must keep, as masks over a batch. Knows no file and no configuration file.

The rules from the config bear the name of their key, so that a message names what to change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmops.data.cells import Sign, cells, ends_in_print, whole
from llmops.data.columns import ANSWER, QUESTION, ROW_KEY
from llmops.data.mapping import Mapped, Mask
from llmops.data.moments import microseconds
from llmops.data.personal import KINDS
from llmops.data.settings import Rules
from llmops.data.tokens import Counter

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
    "min_question_tokens",
    "max_question_tokens",
    "min_answer_tokens",
    "max_answer_tokens",
    "question_pattern",
    "answer_pattern",
    "min_script_fraction",
    "required",
    "created_from",
    "created_before",
    *(f"personal_{kind}" for kind in KINDS),
    "erased",
    "unique",
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


def judge(batch: Mapped, rules: Rules, counter: Counter) -> Verdict:
    """Ask every rule of every row; ``unique`` is asked when all rows are known."""
    breaches = (*_breaches(batch, rules), *_further(batch, rules, counter))
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
        yield Breach("nul", name, batch.signs[name].holding(Sign.NUL))
    for name in pair:
        # Somewhere before us a byte or a lone surrogate was lost: the text is not what was written.
        yield Breach("replacement_character", name, batch.signs[name].holding(Sign.REPLACED))
    for name in pair:
        yield Breach("empty", name, _blank(whole(batch.rows[name])))
    yield from _lengths("question", QUESTION, batch, rules)
    yield from _lengths("answer", ANSWER, batch, rules)


def _further(batch: Mapped, rules: Rules, counter: Counter) -> Iterator[Breach]:
    """Yield the breaches of the rules that most configs leave out."""
    pair = {"question": QUESTION, "answer": ANSWER}
    for what, name in pair.items():
        yield from _token_lengths(what, name, batch, rules, counter)
    for what, name in pair.items():
        if (pattern := getattr(rules, f"{what}_pattern")) is not None:
            yield _breach(f"{what}_pattern", name, batch, partial(_lacks, pattern=pattern))
    if rules.scripts:
        for name in pair.values():
            yield _breach("min_script_fraction", name, batch, partial(_foreign, rules=rules))
    for role in rules.required:
        name = pair.get(role, role)
        yield Breach("required", name, _absent(batch.rows[name]))
    yield from _age(batch, rules)
    for (name, kind), rows in batch.personal.items():
        yield Breach(f"personal_{kind}", name, rows)
    if rules.erased:
        erased = pc.is_in(batch.rows[ROW_KEY], pa.array(rules.erased, pa.string()))
        yield Breach("erased", QUESTION, erased.to_numpy())


def _token_lengths(
    what: str, name: str, batch: Mapped, rules: Rules, counter: Counter
) -> Iterator[Breach]:
    low, high = f"min_{what}_tokens", f"max_{what}_tokens"
    if getattr(rules, low) is None and getattr(rules, high) is None:
        return
    tokens = counter.count(whole(batch.rows[name]))
    if (least := getattr(rules, low)) is not None:
        yield Breach(low, name, tokens < least)
    if (most := getattr(rules, high)) is not None:
        yield Breach(high, name, tokens > most)


def _lacks(texts: pa.Array, pattern: str) -> pa.Array:
    return pc.invert(pc.match_substring_regex(texts, pattern))


def _foreign(texts: pa.Array, rules: Rules) -> pa.Array:
    """Say which texts have too few of their letters in the scripts; without letters none has."""
    known = "".join(f"\\p{{{script}}}" for script in rules.scripts)
    letters = pc.count_substring_regex(texts, r"\p{L}")
    native = pc.count_substring_regex(texts, f"[{known}]")
    return pc.less(
        native.cast("double"), pc.multiply(letters.cast("double"), rules.min_script_fraction)
    )


def _absent(texts: pa.ChunkedArray) -> Mask:
    blank = pc.equal(pc.binary_length(pc.utf8_trim_whitespace(texts)), 0)
    absent: Mask = pc.fill_null(blank, True).to_numpy()
    return absent


def _age(batch: Mapped, rules: Rules) -> Iterator[Breach]:
    """A row without a moment is neither too old nor too new; ``required`` asks for one."""
    if rules.created_from is None and rules.created_before is None:
        return
    read = [microseconds(text) for text in batch.rows["created_at"].to_pylist()]
    known = np.array([moment is not None for moment in read], bool)
    moments = np.array([moment or 0 for moment in read], np.int64)
    oldest, end = microseconds(rules.created_from), microseconds(rules.created_before)
    if oldest is not None:
        yield Breach("created_from", "created_at", known & (moments < oldest))
    if end is not None:
        yield Breach("created_before", "created_at", known & (moments >= end))


def _lengths(what: str, name: str, batch: Mapped, rules: Rules) -> Iterator[Breach]:
    low, high = f"min_{what}_characters", f"max_{what}_characters"
    lengths = batch.characters[name]
    yield Breach(low, name, lengths < getattr(rules, low))
    yield Breach(high, name, lengths > getattr(rules, high))


def _breach(rule: str, name: str, batch: Mapped, test: Callable[[pa.Array], pa.Array]) -> Breach:
    broken = pc.fill_null(test(batch.rows[name]), False).to_numpy()
    return Breach(rule, name, broken)


def _blank(texts: pa.Array) -> Mask:
    """Say which texts are nothing but white space; only those with an odd end are looked at."""
    blank = ~ends_in_print(cells(texts))
    odd = texts.filter(pa.array(blank))
    trimmed = pc.equal(pc.binary_length(pc.utf8_trim_whitespace(odd)), 0)
    blank[blank] = pc.fill_null(trimmed, False).to_numpy(zero_copy_only=False)
    return blank
