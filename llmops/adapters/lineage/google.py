"""Google's Data Lineage API, which takes OpenLineage events as they are.

https://cloud.google.com/dataplex/docs/open-lineage: ``processOpenLineageRunEvent`` of a location.
Knows no run: an event is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llmops.adapters.google import WAYS, credentials, endpoint, place, translated
from llmops.errors import BackendError
from llmops.secrecy import masked

if TYPE_CHECKING:
    from google.auth.transport.requests import AuthorizedSession

SERVICE = "Data Lineage"
PUBLIC = "https://datalineage.googleapis.com"
TIMEOUT_S = 10.0  # the first call fetches a token as well


def open_target(config: Mapping[str, Any], *, environment: Mapping[str, Any]) -> GoogleLineage:
    """Open ``{kind: google, location: ...}`` in ``env.project``; nothing is asked yet."""
    parent = f"projects/{place(environment, 'project')}/locations/{config['location']}"
    return GoogleLineage(parent, environment)


@dataclass(frozen=True)
class GoogleLineage:
    """See ``ports.lineage.LineageTarget``."""

    parent: str
    environment: Mapping[str, Any]

    def send(self, event: Mapping[str, Any]) -> None:
        """Post one event."""
        base = endpoint(self.environment, "lineage") or PUBLIC
        body = masked(json.dumps(event, ensure_ascii=False, allow_nan=False))
        with translated(SERVICE):
            answer = self._session.post(
                f"{base}/v1/{self.parent}:processOpenLineageRunEvent",
                data=body.encode(),
                headers={"Content-Type": "application/json"},
                timeout=TIMEOUT_S,
            )
        if answer.status_code >= 400:
            raise BackendError(
                f"{SERVICE} answered {answer.status_code}: {answer.text[:200]}",
                hint=WAYS if answer.status_code == 401 else "is its API enabled in env.project?",
                retryable=answer.status_code >= 429,
            )

    @cached_property
    def _session(self) -> AuthorizedSession:
        from google.auth.transport.requests import AuthorizedSession

        with translated(SERVICE):
            session: Any = AuthorizedSession  # untyped
            made: AuthorizedSession = session(credentials(self.environment))
        return made
