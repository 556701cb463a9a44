"""Fenced blocks in a model's answer, as Markdown writes them."""

from __future__ import annotations

import re

FENCE = re.compile(r"^```[ \t]*(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def unfenced(text: str) -> str:
    """Return what stands inside the fence if the text is one fenced block, else the text."""
    found = FENCE.fullmatch(text.strip())
    return found[2] if found else text


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the language (in lower case, empty if not said) and the code of each fenced block."""
    return [(language.lower(), code) for language, code in FENCE.findall(text)]
