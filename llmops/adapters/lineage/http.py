"""A server that takes OpenLineage events over HTTP, such as Marquez, at the official client's path.

https://openlineage.io/docs/client/python/#http
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmops.adapters.posting import post

PATH = "/api/v1/lineage"


def open_target(config: Mapping[str, Any]) -> HttpTarget:
    """Open ``{kind: http, url: ...}``; nothing is asked yet."""
    return HttpTarget(str(config["url"]).rstrip("/"))


@dataclass(frozen=True)
class HttpTarget:
    """See ``ports.lineage.LineageTarget``."""

    url: str

    def send(self, event: Mapping[str, Any]) -> None:
        """Post one event."""
        post(f"{self.url}{PATH}", event)
