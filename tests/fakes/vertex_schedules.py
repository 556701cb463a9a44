"""A fake of Vertex AI's schedules: checks what it is sent, keeps it, and says what would run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from tests.fakes.faults import google_error

PLACE = "/v1/projects/{project}/locations/{location}/schedules"
CRON = re.compile(r"TZ=[A-Za-z_]+/[A-Za-z_]+( [-0-9*/,]+){5}")
CHANGEABLE = {"cron", "createPipelineJobRequest"}


@dataclass
class VertexSchedules:
    """The state of the service; tests read it."""

    project: str = "shop-project"
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route(PLACE, self._create, methods=["POST"])
        router.add_api_route(PLACE, self._list, methods=["GET"])
        router.add_api_route(PLACE + "/{number}", self._change, methods=["PATCH"])
        return router

    def containers(self) -> list[dict[str, Any]]:
        """Return the containers that a run of the only schedule starts."""
        (one,) = self.kept.values()
        spec = one["createPipelineJobRequest"]["pipelineJob"]["pipelineSpec"]
        executors = spec["deploymentSpec"]["executors"]
        return [executor["container"] for executor in executors.values()]

    async def _create(self, project: str, location: str, request: Request) -> Any:
        body = await request.json()
        if wrong := self._wrong(project, location, body):
            return JSONResponse(google_error(400, wrong), status_code=400)
        name = f"projects/{project}/locations/{location}/schedules/{len(self.kept) + 1}"
        self.kept[name] = body | {"name": name, "nextRunTime": datetime.now(UTC).isoformat()}
        return self.kept[name]

    def _list(self, project: str, location: str, request: Request) -> Any:
        wanted = re.fullmatch(r'display_name="([^"]*)"', request.query_params.get("filter", ""))
        found = [one for one in self.kept.values() if not wanted or one["displayName"] == wanted[1]]
        return {"schedules": found}

    async def _change(self, project: str, location: str, number: str, request: Request) -> Any:
        name = f"projects/{project}/locations/{location}/schedules/{number}"
        if name not in self.kept:
            return JSONResponse(google_error(404, f"not found: {name}"), status_code=404)
        body = await request.json()
        mask = set(request.query_params["updateMask"].split(","))
        if not mask <= CHANGEABLE or (wrong := self._wrong(project, location, body)):
            told = f"the mask {sorted(mask)} is not valid" if not mask <= CHANGEABLE else wrong
            return JSONResponse(google_error(400, told), status_code=400)
        self.kept[name] |= {key: body[key] for key in mask}
        return self.kept[name]

    def _wrong(self, project: str, location: str, body: dict[str, Any]) -> str:
        """Say what the service would have against a schedule."""
        job = body.get("createPipelineJobRequest", {})
        pipeline = job.get("pipelineJob", {})
        root = pipeline.get("runtimeConfig", {}).get("gcsOutputDirectory", "")
        checks = {
            f"no such project {project}": project == self.project,
            "displayName is missing": bool(body.get("displayName")),
            f"cron {body.get('cron')} is not valid": bool(CRON.fullmatch(body.get("cron", ""))),
            "maxConcurrentRunCount must be positive": int(body.get("maxConcurrentRunCount", 0)) > 0,
            "the job has another parent": job.get("parent")
            == f"projects/{project}/locations/{location}",
            "the pipeline has no schema version": pipeline.get("pipelineSpec", {}).get(
                "schemaVersion"
            )
            == "2.1.0",
            "gcsOutputDirectory must be a Cloud Storage address": root.startswith("gs://"),
        }
        return next((told for told, holds in checks.items() if not holds), "")
