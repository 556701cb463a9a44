"""The models that were tuned from Gemini in one project and region, whoever tuned them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmops.adapters.asking import Requests
from llmops.adapters.model.gemini_client import GeminiClient
from llmops.adapters.model.gemini_jobs import SUCCEEDED
from llmops.ports.model import ModelReference, TunedModel


def open_shelf(config: Mapping[str, Any], *, environment: Mapping[str, Any]) -> GeminiShelf:
    """Open the shelf of the ``model`` config group.

    Raises:
        BackendError: If there are no credentials.
        ConfigError: If the environment names no project.
    """
    requests = Requests(**config["requests"])
    return GeminiShelf(GeminiClient(environment, config["tuner"]["region"], requests))


class GeminiShelf:
    """Reads the finished tuning jobs."""

    def __init__(self, client: GeminiClient) -> None:
        self.client = client

    def tuned(self) -> Sequence[TunedModel]:
        """Return the tuned models, newest first."""
        jobs = self.client.call(lambda client: list(client.tunings.list(config={"page_size": 100})))
        found = [
            TunedModel(
                title=job.tuned_model_display_name or str(job.tuned_model.model),
                model=ModelReference(
                    provider="gemini",
                    base=str(job.base_model),
                    tuned=str(job.tuned_model.model),
                    endpoint=str(job.tuned_model.endpoint),
                ),
                made_at=job.create_time.isoformat() if job.create_time else "",
            )
            for job in jobs
            if job.tuned_model is not None
            and job.state is not None
            and job.state.value in SUCCEEDED
        ]
        return sorted(found, key=lambda one: one.made_at, reverse=True)
