"""Weighs a config before its interpolations are resolved: a few lines can stand for gigabytes.

``b: ${a}${a}`` doubles ``a``; thirty such lines fill any memory. Here each leaf is weighed by
following its references once. Knows plain values only: no Hydra and no file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmops.config.problems import KeyPath

REFERENCE = 2_000  # what following one weighs, in characters: OmegaConf takes its time for each
MAX_LEAF = 1_000_000  # characters of one value, and of everything below a reference
MAX_TOTAL = 4_000_000  # of all values together
MAX_DEPTH = 50  # references that lead to references
LIMITS = (
    f"a value of at most {MAX_LEAF:,} characters by {MAX_LEAF // REFERENCE} references, "
    f"{MAX_DEPTH} deep"
)

_REFERENCE = re.compile(r"\$\{\s*(?:oc\.select\s*:\s*)?(?P<name>[.\w\[\]]+)\s*[,}]")
_SQL = re.compile(r"\$\{\s*llmops\.sql\s*:\s*(?P<name>\w+)\s*\}")


@dataclass
class _Scale:
    """Weighs each node once; a node on the way to itself weighs nothing: that is another error."""

    config: Mapping[str, Any]
    sql_characters: Callable[[str], int]
    weights: dict[KeyPath, int] = field(default_factory=dict)
    leaves: dict[KeyPath, int] = field(default_factory=dict)

    def weigh(self, path: KeyPath, value: Any, depth: int) -> int:
        if path not in self.weights:
            self.weights[path] = 0
            if isinstance(value, Mapping | list):
                weight = 1 + sum(self.weigh((*path, k), v, depth) for k, v in _items(value))
            else:
                weight = self._leaf(path, value, depth)
            self.weights[path] = weight
        return self.weights[path]

    def _leaf(self, path: KeyPath, value: Any, depth: int) -> int:
        if not isinstance(value, str):
            return 1
        weight = len(value)
        if "${" in value:
            weight += sum(self.sql_characters(name) for name in _SQL.findall(value))
            for named in _REFERENCE.findall(value):
                weight += self._referenced(_absolute(named, path), depth)
            self.leaves[path] = weight
        return weight

    def _referenced(self, path: KeyPath, depth: int) -> int:
        if depth >= MAX_DEPTH:
            return MAX_LEAF + 1
        found: Any = self.config
        for key in path:
            below = dict(_items(found)) if isinstance(found, Mapping | list) else {}
            if key not in below:
                return 0
            found = below[key]
        return REFERENCE + self.weigh(path, found, depth + 1)


def too_large(config: Mapping[str, Any], sql_characters: Callable[[str], int]) -> set[KeyPath]:
    """Return the leaves that stand for too much.

    Args:
        config: The composed config, interpolations as written.
        sql_characters: The length of the text that ``${llmops.sql:NAME}`` stands for.
    """
    scale = _Scale(config, sql_characters)
    total = scale.weigh((), config, 0)
    found = {path for path, weight in scale.leaves.items() if weight > MAX_LEAF}
    if not found and total > MAX_TOTAL and scale.leaves:
        found = {max(scale.leaves, key=lambda path: scale.leaves[path])}
    return found


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
    return ((str(key), item) for key, item in pairs)


def _absolute(name: str, path: KeyPath) -> KeyPath:
    """Return the key path that a reference names; leading dots count up from the leaf's parent."""
    plain = name.lstrip(".")
    dots = len(name) - len(plain)
    above = path[: max(0, len(path) - dots)] if dots else ()
    return (*above, *(part for part in re.split(r"[.\[\]]", plain) if part))
