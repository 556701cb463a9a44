"""How fast a step goes, and how long what is left will take. Knows no terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmops.report import words

LEAST_SECONDS = 1.0  # before that a pace would be guessed
SLOWEST = 0.1  # a second; what goes slower is told by its count alone


@dataclass
class _Stretch:
    """A part of a step in which its count only grows."""

    since: float
    first: float
    last: float


class Paces:
    """Follows the counts of a run's steps; a count that falls begins another part of its step."""

    def __init__(self) -> None:
        self._stretches: dict[str, _Stretch] = {}

    def start(self, step: str, now: float) -> None:
        """Note that a step begins; ``now`` is in seconds of any clock."""
        self._stretches[step] = _Stretch(now, 0, 0)

    def told(self, step: str, event: Mapping[str, Any], now: float) -> str:
        """Return the pace after an event, such as ``850/s, 40 s left``; empty if there is none."""
        done, total = event.get("done") or 0, event.get("total")
        stretch = self._stretches.setdefault(step, _Stretch(now, done, done))
        if done < stretch.last:
            stretch.since, stretch.first = now, done
        stretch.last = done
        taken = now - stretch.since
        rate = (done - stretch.first) / taken if taken >= LEAST_SECONDS else 0.0
        if rate < SLOWEST:
            return ""
        shown = f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"
        left = (total - done) / rate if total else 0
        return f"{shown}, {words.seconds(left)} left" if left > 0 else shown
