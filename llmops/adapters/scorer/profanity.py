"""The offline scorer: a linear classifier (alt-profanity-check) that knows profanity only.

It is no safety evaluation: a politely worded harmful answer scores near zero, and harmless
programmer's words ("dummy", "sucks") can score high. Knows texts, neither thresholds nor models.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops.config.knowledge import SCORER_CATEGORIES
from llmops.errors import BackendError, MissingExtra

BATCH_TEXTS = 1024  # one call costs 5 ms, a text in it 15 microseconds
DESCRIPTION = (
    "alt-profanity-check, a linear classifier of swear words. It knows profanity and no other harm:"
    " this is no safety evaluation."
)
Probabilities = Callable[[Sequence[str]], Sequence[float]]


@dataclass(frozen=True)
class ProfanityScorer:
    """Scores the one category ``profanity`` in [0, 1]."""

    probabilities: Probabilities
    categories: tuple[str, ...] = SCORER_CATEGORIES["profanity"]
    is_safety_evaluation: bool = False
    description: str = DESCRIPTION

    def score(self, texts: Sequence[str]) -> Sequence[Mapping[str, float] | None]:
        """Return a score for each text; None for what is not text that UTF-8 can hold."""
        scores: list[Mapping[str, float] | None] = [None] * len(texts)
        readable = [place for place, text in enumerate(texts) if _is_readable(text)]
        for start in range(0, len(readable), BATCH_TEXTS):
            places = readable[start : start + BATCH_TEXTS]
            found = self.probabilities([texts[place] for place in places])
            for place, score in zip(places, found, strict=True):
                scores[place] = {"profanity": float(score)} if 0 <= score <= 1 else None
        return scores


def open_scorer(config: Mapping[str, Any]) -> ProfanityScorer:
    """Load the classifier; ``config`` is ``safety.scorer`` and says nothing beyond ``kind``.

    Raises:
        MissingExtra: If the package is not installed.
        BackendError: If its model was made by another scikit-learn, whose scores may differ.
    """
    del config
    try:
        from sklearn.exceptions import InconsistentVersionWarning

        with warnings.catch_warnings():
            warnings.simplefilter("error", InconsistentVersionWarning)
            from profanity_check import predict_prob
    except ModuleNotFoundError as exc:
        raise MissingExtra(
            f"the profanity scorer needs the package '{exc.name}'",
            hint="pip install alt-profanity-check",
        ) from exc
    except InconsistentVersionWarning as exc:
        raise BackendError(
            "the profanity classifier was made by another version of scikit-learn",
            hint="install the pinned set: make setup",
        ) from exc
    return ProfanityScorer(predict_prob)


def _is_readable(text: object) -> bool:
    if not isinstance(text, str):
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True
