"""What is done to a text before it gets its key: HTML, chat-role tags, control characters.

A row's text is data. A tag that a chat template would read as the start of a turn, or a character
that a terminal would obey, is written out so that it is seen and never obeyed. Knows no batch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml.html import HtmlElement

# Special tokens of common chat templates; the full-width bar is DeepSeek's. Each pattern with what
# takes its place, in order, so that a tag within a tag is escaped too. RE2 reads them alike.
ROLE_TAG_ESCAPES = (
    (
        "<([|\uff5c][^<>|\uff5c\n]{1,40}[|\uff5c]>"
        "|</?SYS>>|/?s>|(?:bos|eos|pad|start_of_turn|end_of_turn|im_start|im_end)>)",
        r"<\\\1",
    ),
    (r"\[(/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])", r"[\\\1"),
)
ROLE_TAGS = "|".join(pattern for pattern, _ in ROLE_TAG_ESCAPES)
# C0 without tab and line ends (NUL is a rule's part), DEL, C1 without NEL, and the marks that
# turn the direction of what follows.
CONTROL = "[\x01-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069]"
MARKUP = r"</?[A-Za-z][^<>]*>|&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,31});"
_ESCAPES = tuple((re.compile(pattern), escaped) for pattern, escaped in ROLE_TAG_ESCAPES)
_CONTROL, _MARKUP = map(re.compile, (CONTROL, MARKUP))
_HEADINGS = tuple(f"h{level}" for level in range(1, 7))
_BLOCKS = frozenset(
    [
        *("address", "article", "aside", "blockquote", "dd", "div", "dl", "dt", "figure", "footer"),
        *("header", "hr", "li", "main", "ol", "p", "section", "table", "tr", "ul", *_HEADINGS),
    ]
)
_BLOCK = re.compile("\0([0-9]+)\0")
_BLANK_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class Around:
    """What a template writes before and after a text."""

    before: str = ""
    after: str = ""


def escape_role_tags(text: str) -> str:
    r"""Return the text with a backslash in each chat-role tag: ``<\|im_start|>``."""
    for pattern, escaped in _ESCAPES:
        text = pattern.sub(escaped, text)
    return text


def escape_control(text: str) -> str:
    r"""Return the text with control characters written out: ``\x1b``, ``\u202e``."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def html_to_text(text: str) -> str:
    """Return the text of HTML; code blocks stay as they are, between fences."""
    if not _MARKUP.search(text):
        return text
    from lxml import html

    root = html.fragment_fromstring(text.replace("\r\n", "\n"), create_parent="div")
    blocks: list[str] = []
    whole = "".join(_walk(root, blocks))
    lines = "\n".join(line.rstrip() for line in whole.split("\n"))
    tidy = _BLANK_LINES.sub("\n\n", lines).strip("\n")
    return _BLOCK.sub(lambda found: blocks[int(found[1])], tidy)


def html_to_markdown(text: str) -> str:
    """Return HTML as Markdown with fenced code blocks."""
    if not _MARKUP.search(text):
        return text
    from markdownify import markdownify

    made: str = markdownify(text, heading_style="ATX", bs4_options="lxml", escape_misc=False)
    return _BLANK_LINES.sub("\n\n", made).strip("\n")


def _walk(element: HtmlElement, blocks: list[str]) -> Iterator[str]:
    """Yield the pieces of text below ``element``; code goes to ``blocks``, a mark takes its place.

    The mark is in NULs: no HTML parser lets one through.
    """
    if element.tag == "pre":
        blocks.append(f"```\n{element.text_content().strip(chr(10))}\n```")
        yield f"\n\n\0{len(blocks) - 1}\0\n\n"
        return
    if not isinstance(element.tag, str) or element.tag in ("script", "style"):
        return
    around = "\n" if element.tag in _BLOCKS else ""
    yield around * (2 if element.tag == "p" else 1)
    if element.tag == "br":
        yield "\n"
    if element.tag == "li":
        yield "- "
    yield _flowed(element.text)
    for child in element:
        yield from _walk(child, blocks)
        yield _flowed(child.tail)
    yield around


def _flowed(text: str | None) -> str:
    return re.sub(r"[ \t]*\n[ \t]*", "\n", text or "")
