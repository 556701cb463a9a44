"""Answers as a responses file stores them, for programs that measure the same things."""

from __future__ import annotations

import random
from typing import Any

from llmops.evaluation.metrics import find
from llmops.evaluation.summary import Settings, summarise
from llmops.evaluation.table import contestants

WORDS = [*("open", "the", "file", "with", "a", "manager", "and", "read"), "its", "naïvely", "42"]
SETTINGS = Settings("untuned", 0.95, 200, 1)


def forty_answers() -> dict[str, list[Any]]:
    """Return forty answers with references and likelihoods, as a batch of a responses file."""
    dice = random.Random(7)

    def said(least: int) -> str:
        return " ".join(dice.choices(WORDS, k=dice.randint(least, 14)))

    references = [said(1) for _ in range(40)]
    texts = [one if i % 8 == 0 else said(0) for i, one in enumerate(references)]
    return {
        "contestant": ["untuned"] * 40,
        "row_key": [f"{i:04}" for i in range(40)],
        "group": [f"{i:04}" for i in range(40)],
        "text": texts,
        "reference": references,
        "nll": [dice.uniform(1, 40) for _ in range(40)],
        "nll_tokens": [dice.randint(1, 20) for _ in range(40)],
    }


def measured(stored: dict[str, list[Any]], *names: str) -> dict[str, float]:
    """Return the figures of those metrics over the stored answers."""
    chosen = [find(name) for name in names]
    document = summarise(contestants([stored], chosen), chosen, SETTINGS)
    return {name: document["contestants"]["untuned"][name]["value"] for name in names}
