"""Passages in a prompt, and the citations of an answer held against them. Pure.

A passage is cited by its number in square brackets, as the prompt shows it: ``[2]``. What follows a
letter, a digit or a bracket is an index of code, such as ``rows[2]``, and no citation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmops.ports.model import Chat, Citation, Grounding, Message, Passage, Response
from llmops.prompts.prompt import Prompt

_MARK = re.compile(r"(?<![\w\])}'\"])\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\](?![\w\[(])")
_SENTINEL = "\ue000question\ue000"  # of Unicode's private use: no prompt holds it


@dataclass(frozen=True)
class Style:
    """How passages are shown: what is said of them, and how much of each, in characters."""

    instruction: str
    max_characters: int


def question_of(prompt: Prompt, text: str) -> str:
    """Return the question in a user text that ``prompt`` rendered, or the text if it did not."""
    before, found, after = prompt.render(_SENTINEL).partition(_SENTINEL)
    fits = found and text.startswith(before) and text.endswith(after)
    return text[len(before) : len(text) - len(after)] if fits else text


def grounded(chat: Chat, passages: Sequence[Passage], style: Style) -> Chat:
    """Return the chat with the passages before its last text; as it is if there are none."""
    if not passages:
        return chat
    shown = "\n\n".join(
        f"[{number}] {_shown(passage, style.max_characters)}"
        for number, passage in enumerate(passages, start=1)
    )
    last = chat[-1]
    return (*chat[:-1], Message(last.role, f"{style.instruction}\n\n{shown}\n\n{last.text}"))


def cited(response: Response, passages: Sequence[Passage]) -> Response:
    """Return the response with its citations resolved: where they stand, and what they name."""
    marks = [
        (found.start(), found.end(), int(number))
        for found in _MARK.finditer(response.text)
        for number in found[1].split(",")
    ]
    known = [(start, end, number) for start, end, number in marks if 1 <= number <= len(passages)]
    citations = tuple(
        Citation(start, end, passages[number - 1].uri, _name(passages[number - 1]))
        for start, end, number in known
    )
    grounding = Grounding(
        passages=tuple(passages),
        cited=tuple(sorted({number for _, _, number in known})),
        unknown=tuple(sorted({number for _, _, number in marks} - {n for _, _, n in known})),
        citations=citations,
    )
    return replace(response, citations=(*response.citations, *citations), grounding=grounding)


def _shown(passage: Passage, most: int) -> str:
    text = " ".join(passage.text.split())
    cut = text if len(text) <= most else text[: most - 1].rsplit(" ", 1)[0] + "…"
    return f"{passage.title}\n{cut}" if passage.title else cut


def _name(passage: Passage) -> str:
    return passage.title or passage.id
