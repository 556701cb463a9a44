"""Who holds a row that is to be erased: dataset versions, models, and the answers that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmops.adapters.model.answers import FILE, Kept
from llmops.api.past import datasets
from llmops.config.project import workspace
from llmops.lineage.datasets import Dataset, holding, rows_of

LEAST_CHARACTERS = 20  # of a reference answer: a shorter one stands in texts about anything


@dataclass(frozen=True)
class Erasure:
    """Where a row stands. ``answers`` counts kept answers about it; ``removed`` says they went."""

    held: Sequence[Dataset]
    models: Sequence[str]  # tuned on those
    not_searched: Sequence[str]  # versions whose rows are not kept
    answers: int
    removed: bool


def erase(key: str, *, remove_answers: bool = False) -> Erasure:
    """Find the row of this key, and remove what models answered about it if asked to.

    Kept answers are about the row if its question, or its reference answer of at least
    ``LEAST_CHARACTERS``, stands in what was asked or answered.

    Raises:
        ConfigError: If the key is none.
    """
    from llmops.data.texts import escape_role_tags

    found = datasets()
    held = holding(found, key)
    rows = rows_of(held, key)
    texts = {row["input_text"] for row in rows}
    texts |= {row["output_text"] for row in rows if len(row["output_text"]) >= LEAST_CHARACTERS}
    forms = texts | set(map(escape_role_tags, texts))
    return Erasure(
        held=held,
        models=sorted({model for each in held for model in each.models}),
        not_searched=[each.name for each in found if not each.sides],
        answers=kept_answers(workspace()).about(sorted(forms), remove=remove_answers),
        removed=remove_answers,
    )


def kept_answers(where: Path) -> Kept:
    """Return the answers that a workspace keeps."""
    return Kept(where / ".llmops" / FILE)
