"""The scorer for answers that bring ratings along: Gemini's own, read when the answer was.

It adds no score of its own, so an answer without ratings counts as not scored. Gemini rates
probability and severity of four harms; how sure its ratings are, its documentation does not say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops.config.knowledge import SCORER_CATEGORIES

DESCRIPTION = (
    "Gemini's own safety ratings of its answers: probability and severity of four harms. The model "
    "rates itself; answers of other models have no such ratings."
)


@dataclass(frozen=True)
class GeminiScorer:
    """Leaves the scores to what the answers carry."""

    categories: tuple[str, ...] = SCORER_CATEGORIES["gemini"]
    is_safety_evaluation: bool = True
    description: str = DESCRIPTION

    def score(self, texts: Sequence[str]) -> Sequence[Mapping[str, float] | None]:
        """Return nothing to add for each text; None for what is no text that UTF-8 can hold."""
        return [{} if _is_readable(text) else None for text in texts]


def open_scorer(config: Mapping[str, Any]) -> GeminiScorer:
    """Open the scorer; ``config`` is ``safety.scorer`` and says nothing beyond ``kind``."""
    del config
    return GeminiScorer()


def _is_readable(text: object) -> bool:
    if not isinstance(text, str):
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True
