"""Figures of parts of the test rows: by tag, by length of the question, by year.

Slices overlap where a row has several tags. Many slices are many questions: their intervals are
not corrected, and a small slice carries a warning.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmops.evaluation.intervals import fewest_groups
from llmops.evaluation.metrics import Metric
from llmops.evaluation.summary import Settings, summarise
from llmops.evaluation.table import Contestant

KINDS = ("tag", "length", "date")
MOST_TAGS = 12  # the most frequent ones
FEW_GROUPS = 20  # fewer are called few
TAG = re.compile(r"[^<>|,;\s\[\]\"']+")


@dataclass(frozen=True)
class Row:
    """What a test row can be sliced by; null where the dataset does not say."""

    key: str
    question: str
    tags: str | None
    created_at: str | None


def slices(
    table: Sequence[Contestant],
    rows: Sequence[Row],
    kinds: Sequence[str],
    metrics: Sequence[Metric],
    settings: Settings,
) -> list[dict[str, Any]]:
    """Return ``{"by", "value", "rows", "groups", "warning", "contestants", "paired"}`` a slice."""
    answered = set(table[0].keys)
    known = [row for row in rows if row.key in answered]
    return [
        _figures(table, (kind, value, keys), metrics, settings)
        for kind in kinds
        for value, keys in _members(kind, known)
    ]


def _members(kind: str, rows: Sequence[Row]) -> Iterator[tuple[str, frozenset[str]]]:
    if kind == "tag":
        tagged = [(row.key, set(TAG.findall(row.tags or ""))) for row in rows]
        counted = Counter(tag for _, tags in tagged for tag in tags)
        for tag, _ in sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:MOST_TAGS]:
            yield tag, frozenset(key for key, tags in tagged if tag in tags)
    elif kind == "date":
        years = sorted({str(row.created_at)[:4] for row in rows if row.created_at})
        for year in years:
            yield year, frozenset(r.key for r in rows if str(r.created_at or "")[:4] == year)
    else:
        yield from _thirds(rows)


def _thirds(rows: Sequence[Row]) -> Iterator[tuple[str, frozenset[str]]]:
    """Cut the rows into thirds by the length of the question; equal lengths stay together."""
    lengths = sorted(len(row.question) for row in rows)
    if not lengths:
        return
    first, second = lengths[len(lengths) // 3], lengths[2 * len(lengths) // 3]
    names = (f"under {first} characters", f"{first} to {second - 1}", f"{second} and more")
    for place, name in enumerate(names):
        keys = frozenset(r.key for r in rows if _third(len(r.question), first, second) == place)
        if keys:
            yield name, keys


def _third(length: int, first: int, second: int) -> int:
    return 0 if length < first else 1 if length < second else 2


def _figures(
    table: Sequence[Contestant],
    member: tuple[str, str, frozenset[str]],
    metrics: Sequence[Metric],
    settings: Settings,
) -> dict[str, Any]:
    kind, value, keys = member
    document = summarise([_part(one, keys) for one in table], metrics, settings)
    groups = document["groups"]
    return {
        "by": kind,
        "value": value,
        "rows": document["rows"],
        "groups": groups,
        "warning": _warning(groups, settings.confidence),
        "contestants": document["contestants"],
        "paired": document["paired"],
    }


def _warning(groups: int, confidence: float) -> str:
    if groups < fewest_groups(confidence):
        return f"{groups} groups of rows: no interval can be given"
    if groups < FEW_GROUPS:
        return f"only {groups} groups of rows: read it as a hint"
    return ""


def _part(one: Contestant, keys: frozenset[str]) -> Contestant:
    import numpy as np

    chosen = np.array([key in keys for key in one.keys], dtype=bool)
    return replace(
        one,
        keys=[key for key in one.keys if key in keys],
        groups=one.groups[chosen],
        rows={name: values[chosen] for name, values in one.rows.items()},
    )
