"""A fake of Vertex AI's pipelineJobs: checks what it is sent, and runs it (see ``pipelines``)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from tests.fakes.faults import google_error
from tests.fakes.pipelines import Execution, Machines

JOB_ID = re.compile(r"[a-z][-a-z0-9]{0,127}")
LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")
LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
PLACE = "/v1/projects/{project}/locations/{location}/pipelineJobs"


@dataclass
class VertexPipelines:
    """The state of the service; tests read and change it."""

    machines: Machines
    project: str = "shop-project"
    jobs: dict[str, tuple[dict[str, Any], Execution]] = field(default_factory=dict)

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route(PLACE, self._create, methods=["POST"])
        router.add_api_route(PLACE, self._list, methods=["GET"])
        router.add_api_route(PLACE + "/{job}:cancel", self._cancel, methods=["POST"])
        router.add_api_route(PLACE + "/{job}", self._get, methods=["GET"])
        return router

    def execution(self, number: int = -1) -> Execution:
        """Return the execution of a job, by default that of the last."""
        return list(self.jobs.values())[number][1]

    def vanish(self) -> None:
        """Forget every job, as if somebody had deleted them."""
        self.jobs.clear()

    async def _create(self, project: str, location: str, request: Request) -> Any:
        name = request.query_params.get("pipelineJobId", "")
        body = await request.json()
        if wrong := self._wrong(project, name, body):
            return JSONResponse(google_error(400, wrong), status_code=400)
        path = f"projects/{project}/locations/{location}/pipelineJobs/{name}"
        if path in self.jobs:
            return JSONResponse(google_error(409, f"{path} already exists"), status_code=409)
        given = body["runtimeConfig"]["parameterValues"]
        execution = self.machines.start(name, body["pipelineSpec"], given)
        kept = body | {"name": path, "createTime": datetime.now(UTC).isoformat()}
        self.jobs[path] = (kept, execution)
        return self._shown(path)

    def _wrong(self, project: str, name: str, body: dict[str, Any]) -> str:
        """Say what the service would have against a job."""
        runtime = body.get("runtimeConfig", {})
        inputs = body.get("pipelineSpec", {}).get("root", {}).get("inputDefinitions", {})
        known = set(inputs.get("parameters", {}))
        labels = body.get("labels", {})
        if project != self.project:
            return f"no such project {project}"
        if not JOB_ID.fullmatch(name):
            return f"pipelineJobId {name} is not valid"
        if body["pipelineSpec"].get("schemaVersion") != "2.1.0":
            return "the pipeline has no schema version"
        if not runtime.get("gcsOutputDirectory", "").startswith("gs://"):
            return "gcsOutputDirectory must be a Cloud Storage address"
        if set(runtime.get("parameterValues", {})) != known:
            return f"the pipeline's parameters are {sorted(known)}"
        if len(labels) > 64:
            return "too many labels"
        for key, value in labels.items():
            if not LABEL.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
                return f"label {key}={value} is not valid"
        return ""

    def _list(self, project: str, location: str) -> Any:
        return {"pipelineJobs": [self._shown(path) for path in self.jobs]}

    def _get(self, project: str, location: str, job: str) -> Any:
        path = f"projects/{project}/locations/{location}/pipelineJobs/{job}"
        if path not in self.jobs:
            return JSONResponse(google_error(404, f"not found: {path}"), status_code=404)
        return self._shown(path)

    def _cancel(self, project: str, location: str, job: str) -> Any:
        path = f"projects/{project}/locations/{location}/pipelineJobs/{job}"
        if path not in self.jobs:
            return JSONResponse(google_error(404, f"not found: {path}"), status_code=404)
        self.jobs[path][1].cancel()
        return {}

    def _shown(self, path: str) -> dict[str, Any]:
        kept, execution = self.jobs[path]
        error = {"error": {"code": 9, "message": execution.error}} if execution.error else {}
        tasks = [
            self._task(number, task, state)
            for number, (task, state) in enumerate(execution.tasks.items(), 1)
        ]
        return (
            kept
            | error
            | {
                "state": f"PIPELINE_STATE_{execution.state}",
                "jobDetail": {"taskDetails": tasks},
            }
        )

    def _task(self, number: int, name: str, state: str) -> dict[str, Any]:
        job = f"projects/1/locations/us-central1/customJobs/{number}00"
        error = {"error": {"code": 9, "message": f"{name} exited with 1"}}
        return {
            "taskId": str(number),
            "taskName": name,
            "state": state,
            "executorDetail": {"containerDetail": {"mainJob": job}},
        } | (error if state == "FAILED" else {})
