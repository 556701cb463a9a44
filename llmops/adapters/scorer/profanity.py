"""The offline scorer: a linear classifier (alt-profanity-check) that knows profanity only.

It is no safety evaluation: a politely worded harmful answer scores near zero, and harmless
programmer's words ("dummy", "sucks") can score high. Knows texts, neither thresholds nor models.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llmops.config.knowledge import SCORER_CATEGORIES
from llmops.errors import BackendError, MissingExtra

DESCRIPTION = (
    "alt-profanity-check, a linear classifier of swear words. It knows profanity and no other harm:"
    " this is no safety evaluation."
)
Probability = Callable[[str], float]


@dataclass(frozen=True)
class LinearClassifier:
    """The package's classifier, ready to rate one text in microseconds; its own call costs 5 ms.

    A text becomes its words' counts, weighted by ``idf`` and scaled to length 1; each of several
    linear models gives a figure, which its sigmoid turns into a chance; the mean counts.
    """

    words: re.Pattern[str]
    vocabulary: Mapping[str, int]
    idf: npt.NDArray[np.float64]  # (words,)
    weights: npt.NDArray[np.float64]  # (words, models), each row times its idf
    intercepts: npt.NDArray[np.float64]  # (models,)
    slopes: npt.NDArray[np.float64]  # (models,), of the sigmoids
    offsets: npt.NDArray[np.float64]  # (models,)

    def probability(self, text: str) -> float:
        """Return the chance in [0, 1] that ``text`` is profane."""
        place_of, found = self.vocabulary.get, dict[int, int]()
        for word in self.words.findall(text.lower()):
            if (place := place_of(word)) is not None:
                found[place] = found.get(place, 0) + 1
        figures = self.intercepts
        if found:
            places = np.fromiter(found.keys(), np.intp, len(found))
            counts = np.fromiter(found.values(), np.float64, len(found))
            scaled = counts * self.idf[places]
            figures = figures + counts @ self.weights[places] / np.sqrt(scaled @ scaled)
        chances = 1 / (1 + np.exp(self.slopes * figures + self.offsets))
        return float(np.add.reduce(chances) / len(chances))  # half the time of mean()


def _linear(vectorizer: Any, model: Any) -> LinearClassifier:
    parts = model.calibrated_classifiers_
    weights = np.array([part.estimator.coef_[0] for part in parts]).T
    sigmoids = [part.calibrators[0] for part in parts]
    return LinearClassifier(
        words=re.compile(vectorizer.token_pattern),
        vocabulary=vectorizer.vocabulary_,
        idf=vectorizer.idf_,
        weights=np.ascontiguousarray(weights * vectorizer.idf_[:, None]),
        intercepts=np.array([part.estimator.intercept_[0] for part in parts]),
        slopes=np.array([sigmoid.a_ for sigmoid in sigmoids]),
        offsets=np.array([sigmoid.b_ for sigmoid in sigmoids]),
    )


@dataclass(frozen=True)
class ProfanityScorer:
    """Scores the one category ``profanity`` in [0, 1]."""

    probability: Probability
    categories: tuple[str, ...] = SCORER_CATEGORIES["profanity"]
    is_safety_evaluation: bool = False
    description: str = DESCRIPTION

    def score(self, texts: Sequence[str]) -> Sequence[Mapping[str, float] | None]:
        """Return a score for each text; None for what is not text that UTF-8 can hold."""
        return [self._score(text) for text in texts]

    def _score(self, text: str) -> Mapping[str, float] | None:
        if not _is_readable(text):
            return None
        score = self.probability(text)
        return {"profanity": score} if 0 <= score <= 1 else None


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
            from profanity_check import profanity_check as package
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
    return ProfanityScorer(_linear(package.vectorizer, package.model).probability)


def _is_readable(text: object) -> bool:
    if not isinstance(text, str):
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True
