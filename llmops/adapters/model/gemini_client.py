"""Google's client for Gemini on Vertex AI, asked with patience. Knows no prompt and no job."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from llmops.adapters.asking import Asking, Requests
from llmops.adapters.google import credentials, endpoint, place

if TYPE_CHECKING:
    from google import genai

T = TypeVar("T")
SERVICE = "Gemini"
RESOURCE = re.compile(r"projects/[^/]+/locations/(?P<location>[^/]+)/.+")


class GeminiClient:
    """Google's client for one place; safe for many threads."""

    def __init__(self, environment: Mapping[str, Any], location: str, requests: Requests) -> None:
        self.requests = requests
        self.project = place(environment, "project")
        self.location = location
        self._credentials = credentials(environment)
        self._client = self._open(endpoint(environment, "vertex"))
        self._asking = Asking(SERVICE, requests, self._credentials)

    def _open(self, address: str | None) -> genai.Client:
        from google import genai
        from google.genai import types

        options = types.HttpOptions(
            base_url=address, api_version="v1", timeout=int(self.requests.timeout_s * 1000)
        )
        return genai.Client(
            vertexai=True,
            project=self.project,
            location=self.location,
            credentials=self._credentials,
            http_options=options,
        )

    def call(
        self,
        ask: Callable[[genai.Client], T],
        *,
        deadline_s: float | None = None,
        repeatable: bool = True,
    ) -> T:
        """Return what ``ask`` gets from the client; see ``Asking.call`` for what it raises."""
        return self._asking.call(
            lambda: ask(self._client), deadline_s=deadline_s, repeatable=repeatable
        )


def location_of(resource: str, default: str) -> str:
    """Return the location in a resource's name, e.g. an endpoint's; ``default`` if it has none."""
    found = RESOURCE.fullmatch(resource)
    return found["location"] if found else default
