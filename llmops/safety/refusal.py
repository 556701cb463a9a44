"""Whether a model itself declines to answer, by the words such answers begin with. English only."""

from __future__ import annotations

import re

from llmops.safety.injection import plain

BEGINNING = 240  # characters; who refuses does so at once
_REFUSAL = re.compile(
    r"\bi(?:'m| am) (?:really |very |so )?(?:sorry|afraid)\b(?:,)? (?:but |that )?"
    r"|\bi (?:can(?:'t|not| not)|could not|couldn't|won't|will not|must not"
    r"|am unable to|'m unable to|am not able to|'m not able to|refuse to|must decline"
    r"|have to decline) "
    r"(?:\w+ ){0,3}(?:help|assist|provide|answer|give|support|do|create|write|share|discuss|fulfil"
    r"|fulfill|comply|continue|engage|offer|explain|tell|generate|that|this|with)\b"
    r"|\bi(?:'m| am) (?:unable|not able) to\b"
    r"|\b(?:as an ai|as a language model)\b.{0,80}\b(?:can't|cannot|not able|unable|won't)\b"
    r"|\b(?:this|that|your) (?:request|question) (?:goes against|violates|is not something)\b"
)


def is_refusal(text: str) -> bool:
    """Say whether ``text`` begins as a refusal."""
    return bool(_REFUSAL.search(plain(text[:BEGINNING]).replace("\u2019", "'")))
