"""A fake of what takes OpenLineage events: Marquez's route, and Google's Data Lineage API.

Both refuse an event that the official client's classes refuse, and what Google's page asks for:
https://cloud.google.com/dataplex/docs/open-lineage
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from tests.fakes.faults import google_error

ASKED_FOR = ("eventTime", "producer", "schemaURL", "run", "job")


@dataclass
class LineageServer:
    """What came, in order, by the path that it came to."""

    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()

        @router.post("/api/v1/lineage")
        @router.post("/v1/projects/{project}/locations/{location}:processOpenLineageRunEvent")
        async def take(request: Request) -> JSONResponse:
            event = await request.json()
            try:
                accepted(event)
            except (ValueError, KeyError, TypeError) as exc:
                return JSONResponse(google_error(400, f"{exc!r}"), status_code=400)
            self.events.append((request.url.path, event))
            job, run = event["job"], event["run"]["runId"]
            return JSONResponse({"process": f"processes/{job['name']}", "run": f"runs/{run}"})

        return router


def accepted(event: dict[str, Any]) -> Any:
    """Build the official client's own classes from an event; they check what they are given."""
    from openlineage.client.event_v2 import (
        InputDataset,
        Job,
        OutputDataset,
        Run,
        RunEvent,
        RunState,
    )

    missing = [name for name in ASKED_FOR if not event.get(name)]
    if missing or datetime.fromisoformat(event["eventTime"]).tzinfo is None:
        raise ValueError(f"lacks {missing} or a time zone")
    UUID(event["run"]["runId"])
    return RunEvent(
        eventType=RunState[event["eventType"]],
        eventTime=event["eventTime"],
        run=Run(event["run"]["runId"], event["run"]["facets"]),
        job=Job(event["job"]["namespace"], event["job"]["name"], event["job"]["facets"]),
        producer=event["producer"],
        inputs=[InputDataset(one["namespace"], one["name"]) for one in event["inputs"]],
        outputs=[OutputDataset(one["namespace"], one["name"]) for one in event["outputs"]],
    )
