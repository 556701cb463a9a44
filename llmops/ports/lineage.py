"""A service that keeps lineage events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class LineageTarget(Protocol):
    """A service that keeps OpenLineage run events."""

    def send(self, event: Mapping[str, Any]) -> None:
        """Hand one event over.

        Raises:
            BackendError: If it cannot be reached or refuses.
        """
        ...
