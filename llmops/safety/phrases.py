"""Block lists: phrases found as whole words, whatever their case, spacing or hidden characters."""

from __future__ import annotations

import re
from functools import lru_cache

from llmops.safety.injection import plain


@lru_cache(maxsize=64)
def _pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(phrases, key=len, reverse=True)
    words = [r"\s+".join(map(re.escape, phrase.split())) for phrase in longest_first]
    return re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)", re.IGNORECASE)


@lru_cache(maxsize=64)
def _plain(phrases: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(plain(phrase) for phrase in phrases)


def holds(text: str, phrases: tuple[str, ...]) -> bool:
    """Say whether ``text`` holds one of ``phrases``, as a reader would take it."""
    return bool(phrases) and bool(_pattern(_plain(phrases)).search(plain(text)))


def without(text: str, phrases: tuple[str, ...]) -> str | None:
    """Return ``text`` with ``[removed]`` for each phrase; null if one is written in disguise."""
    cleaned = _pattern(phrases).sub("[removed]", text)
    return None if holds(cleaned, phrases) else cleaned
