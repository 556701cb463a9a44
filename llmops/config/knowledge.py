"""What the config floor must know of the floors above it, as plain tables.

Tests on the floors above compare these with the real things.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# The version of the config's schema that this llmops reads.
SCHEMA_VERSION = 1
# What to change in a config of an older version; a version that is not here is not read any more.
SCHEMA_CHANGES: Mapping[int, str] = {
    0: "no llmops ever wrote version 0: write schema_version: 1, nothing else changes",
}

# The categories that each kind of scorer reports; a threshold for any other would never be judged.
_HARMS = ("dangerous_content", "harassment", "hate_speech", "sexually_explicit")
SCORER_CATEGORIES: Mapping[str, tuple[str, ...]] = {
    "profanity": ("profanity",),
    "llama_guard": (
        "unsafe",  # then the hazards S1 to S14, in this order
        *("violent_crimes", "non_violent_crimes", "sex_crimes", "child_exploitation"),
        *("defamation", "specialised_advice", "privacy", "intellectual_property"),
        *("indiscriminate_weapons", "hate", "self_harm", "sexual_content"),
        *("elections", "code_interpreter_abuse"),
    ),
    "shieldgemma": _HARMS,
    "gemini": (*_HARMS, *(f"{harm}_severity" for harm in _HARMS)),
}
# Scorers that read the ratings of these models' answers, and rate no other text.
SCORERS_OF_RATINGS: Mapping[str, tuple[str, ...]] = {"gemini": ("gemini",)}

# The metrics that are built in; a project brings others by `project.metrics`.
METRICS = (
    *("loss", "perplexity", "rouge_l", "chrf", "bleu", "exact_match", "semantic_similarity"),
    *("valid_json", "valid_output", "code_parses", "code_passes", "refusal", "empty"),
    *("length", "latency", "cost", "judge", "truncated", "blocked"),
)

# The engines whose tasks run on other machines than the command.
ENGINES_ELSEWHERE = ("kubeflow", "vertex")

# Metrics that are made of the probability of the reference answer.
NEED_SCORES = ("loss", "perplexity")


@dataclass(frozen=True)
class Provider:
    """What the models of one ``model.kind`` can do; ``docs/providers.md`` shows the same table.

    ``can_score``: they give the probability of a text that they did not write themselves.
    ``only_judges``: they judge answers as ``judge.model``, and give none.
    ``can_search``: they can search the web for themselves.
    ``tunes``: there is a tuner for them. ``formats``: the formats of JSONL that it sends, for whose
    files there may be limits; none: it reads the rows themselves. ``regions``: where it tunes, and
    for each the regions that can serve what was tuned there; null where there are no regions.
    """

    can_score: bool
    tunes: bool = True
    only_judges: bool = False
    can_search: bool = False
    formats: tuple[str, ...] = ()
    regions: Mapping[str, tuple[str, ...]] | None = None


# The regions are as of September 2026, from the provider's page on supervised tuning.
PROVIDERS: Mapping[str, Provider] = {
    "local": Provider(can_score=True),
    "openai": Provider(can_score=False, tunes=False),
    "gemini": Provider(
        can_score=False,
        can_search=True,
        formats=("gemini",),
        regions={"us-central1": ("us-central1", "us"), "europe-west4": ("europe-west4", "eu")},
    ),
    "palm": Provider(can_score=False, tunes=False),
    "google_evaluation": Provider(can_score=False, tunes=False, only_judges=True),
}


def lacks(metric: str, model_kind: str | None) -> bool:
    """Say whether models of a kind cannot be measured by a metric; unknown kinds lack nothing."""
    provider = PROVIDERS.get(model_kind or "")
    return provider is not None and not provider.can_score and metric in NEED_SCORES
