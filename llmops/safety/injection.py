"""Signs that a text tries to give the model orders of its own.

Finds known wording, markers of chat templates and hidden characters. An attack in new words or
another language passes: docs/safety.md says what was measured. Every pattern ends in linear time.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

_WORDS = r"(?:[\w'-]+ ){0,4}"
SIGNS: Mapping[str, re.Pattern[str]] = {
    "overrides instructions": re.compile(
        rf"\b(?:ignore|disregard|forget|override|overrule|bypass) {_WORDS}"
        r"(?:previous|prior|above|earlier|preceding|system|initial|original|your|safety) "
        rf"{_WORDS}(?:instructions?|prompts?|rules|guidelines|directions|policy|policies)\b"
    ),
    "asks for the hidden prompt": re.compile(
        r"\b(?:reveal|show|print|repeat|output|display|leak|tell me|write out|what (?:is|are)) "
        rf"{_WORDS}"
        r"(?:system|hidden|initial|secret|original) (?:prompts?|instructions?|messages?|rules)\b"
    ),
    "claims another role": re.compile(
        r"\b(?:do anything now|jailbroken|developer mode (?:is )?(?:on|enabled|activated)"
        r"|(?:you are|act as|pretend to be|respond as|from now on you are) "
        rf"{_WORDS}(?:unrestricted|unfiltered|uncensored|dan)"
        r"|(?:without|no longer bound by|free of|have no) (?:any |your |all )"
        r"(?:ethical |safety |content )?(?:restrictions|guidelines|filters|rules|policies))\b"
    ),
}
MARKERS = re.compile(
    r"<\|(?:im_start|im_end|system|user|assistant|start_header_id|end_header_id|eot_id|endoftext)\|>"
    r"|<start_of_turn>|<end_of_turn>|\[/?inst\]|<</?sys>>",
    re.IGNORECASE,
)
_INVISIBLE = re.compile(
    r"[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2060-\u2064\ufeff]"
)
# Tag characters spell text that nobody sees; flags of England, Scotland and Wales use them too.
_TAGS = re.compile(r"(?<!\U0001f3f4)[\U000e0020-\U000e007e]")
_FLAG = re.compile(r"\U0001f3f4[\U000e0020-\U000e007f]{1,8}")
_OVERRIDES = re.compile("[\u202d\u202e]")


def plain(text: str) -> str:
    """Return the text as a reader takes it: one form a letter, no hidden characters, one case."""
    seen = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    return " ".join(seen.casefold().split())


def signs(text: str) -> tuple[str, ...]:
    """Return the names of the signs in ``text``, in a fixed order."""
    read = plain(text)
    found = [name for name, pattern in SIGNS.items() if pattern.search(read)]
    if MARKERS.search(text):
        found.append("markers of a chat template")
    if _TAGS.search(_FLAG.sub("", text)) or _OVERRIDES.search(text):
        found.append("hidden characters")
    return tuple(found)
