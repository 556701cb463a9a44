"""The identity of a resolved config. Knows nothing of where its values came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops import artifacts


def config_digest(config: Mapping[str, Any]) -> str:
    """Return the config's sha256, in hex: the same for equal values, whatever the order of keys."""
    return artifacts.digest(config)
