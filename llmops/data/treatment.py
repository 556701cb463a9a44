"""Treats the texts of a batch before they get their key: HTML, hostile marks, personal data.

A regular expression that Arrow runs over the whole batch finds the few texts worth a closer look;
only those become Python strings. Knows no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmops.data import personal, texts
from llmops.data.settings import Personal, Rules, Texts

Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]
_HTML: Mapping[str, Callable[[str], str]] = {
    "text": texts.html_to_text,
    "markdown": texts.html_to_markdown,
}
OVERSIZE = 8  # a text of this many times the greatest length is left alone: it breaks the rule


@dataclass
class Tally:
    """How many texts were changed or held something; grows batch by batch."""

    converted: int = 0
    escaped: Counter[str] = field(default_factory=Counter)
    personal_rows: Counter[str] = field(default_factory=Counter)
    personal_finds: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Treated:
    """A column's texts, and per kind of personal data that is to be dropped the rows with it."""

    texts: pa.Array
    drop: Mapping[str, Mask]


class Treatment:
    """What the config asks to be done to texts."""

    def __init__(self, how: Texts, people: Personal, rules: Rules) -> None:
        self._how = how
        self._actions = people.actions()
        self._region = people.phone_region
        self._longest = OVERSIZE * max(rules.max_question_characters, rules.max_answer_characters)
        self._asked = bool(self._actions) or how != Texts()
        self.tally = Tally()
        self._lock = Lock()  # batches may be treated on several threads; the tally is of all

    @property
    def hides(self) -> bool:
        """Whether some personal data must not be shown, in no excerpt either."""
        return bool({"mask", "drop"} & {*self._actions.values()})

    def apply(self, array: pa.Array) -> Treated:
        """Treat one column of a batch."""
        if not self._asked:
            return Treated(array, {})
        sized = pc.less_equal(pc.utf8_length(array), self._longest)
        if convert := _HTML.get(self._how.html):
            made = _rewrite(array, sized, texts.MARKUP, convert)
            array = made.texts
            with self._lock:
                self.tally.converted += made.changed
        if self._how.role_tags == "escape":
            made = _rewrite(array, sized, texts.ROLE_TAGS, texts.escape_role_tags)
            array = made.texts
            self._escaped("role_tags", made.changed)
        if self._how.control_characters == "escape":
            made = _rewrite(array, sized, texts.CONTROL, texts.escape_control)
            array = made.texts
            self._escaped("control_characters", made.changed)
        return self._people(array, sized)

    def excerpt(self, text: str) -> str:
        """Return a text as a quarantine may show it."""
        if not self.hides:
            return text
        return personal.mask(text, personal.find(text, self._actions, self._region))

    def _people(self, array: pa.Array, sized: pa.Array) -> Treated:
        drop = {
            kind: np.zeros(len(array), bool)
            for kind, action in self._actions.items()
            if action == "drop"
        }
        if not self._actions:
            return Treated(array, drop)
        masked: dict[int, str] = {}
        for row, kinds in self._hinted(array, sized).items():
            text = array[row].as_py()
            found = personal.find(text, kinds, self._region)
            self._count(found)
            for kind in {find.kind for find in found} & drop.keys():
                drop[kind][row] = True
            hidden = [find for find in found if self._actions[find.kind] == "mask"]
            if hidden:
                masked[row] = personal.mask(text, hidden)
        return Treated(_replaced(array, masked), drop)

    def _hinted(self, array: pa.Array, sized: pa.Array) -> Mapping[int, dict[str, str]]:
        """Return row -> the kinds that its text may hold."""
        found: dict[int, dict[str, str]] = {}
        for kind, action in self._actions.items():
            hit = pc.match_substring_regex(array, personal.HINTS[kind])
            for row in _rows(pc.and_(hit, sized)):
                found.setdefault(row, {})[kind] = action
        return found

    def _escaped(self, what: str, texts: int) -> None:
        with self._lock:
            self.tally.escaped[what] += texts

    def _count(self, found: list[personal.Find]) -> None:
        with self._lock:
            self.tally.personal_finds.update(find.kind for find in found)
            self.tally.personal_rows.update({find.kind for find in found})


def _rows(mask: pa.Array) -> list[int]:
    rows: list[int] = pc.indices_nonzero(pc.fill_null(mask, False)).to_pylist()
    return rows


@dataclass(frozen=True)
class _Rewritten:
    texts: pa.Array
    changed: int


def _rewrite(
    array: pa.Array, sized: pa.Array, pattern: str, change: Callable[[str], str]
) -> _Rewritten:
    """Change the texts that hold ``pattern``."""
    rows = _rows(pc.and_(pc.match_substring_regex(array, pattern), sized))
    made = {row: change(array[row].as_py()) for row in rows}
    return _Rewritten(_replaced(array, made), len(made))


def _replaced(array: pa.Array, texts_by_row: Mapping[int, str]) -> pa.Array:
    if not texts_by_row:
        return array
    mask = np.zeros(len(array), bool)
    mask[list(texts_by_row)] = True
    ordered = [texts_by_row[row] for row in sorted(texts_by_row)]
    return pc.replace_with_mask(array, pa.array(mask), pa.array(ordered, pa.string()))
