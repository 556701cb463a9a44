"""The terms under which data may be tuned on. Knows only the dataset card.

Whether the terms allow the use is for the person who acknowledges them to judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops.errors import ConfigError


def require_acknowledged(card: Mapping[str, Any]) -> None:
    """Check that the config acknowledges the terms of the data.

    Args:
        card: A dataset card, or the ``dataset`` group of a resolved config: both name
            ``source_terms`` and ``acknowledged_terms``.

    Raises:
        ConfigError: If it does not, naming the key to set.
    """
    terms, acknowledged = card.get("source_terms"), card.get("acknowledged_terms") or []
    if not terms:
        raise ConfigError(
            "dataset.source_terms is not set: nothing is tuned on data of unknown terms",
            hint="set dataset.source_terms to an id of the terms the data came under",
        )
    if terms not in acknowledged:
        raise ConfigError(
            f"the terms '{terms}' of the data are not acknowledged, so nothing is tuned on it",
            hint="read them, then set "
            f"dataset.acknowledged_terms=[{', '.join([*acknowledged, terms])}]",
        )
