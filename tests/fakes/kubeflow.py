"""A fake of Kubeflow Pipelines' v2beta1 API: checks what it is sent, and runs it."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from tests.fakes.pipelines import Execution, Machines

API = "/apis/v2beta1"
STATES = {"CANCELLED": "CANCELED"}  # the API writes it with one L


@dataclass
class Kubeflow:
    """The state of the service; tests read and change it. ``tokens``: empty: anybody may."""

    machines: Machines
    tokens: set[str] = field(default_factory=set)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, tuple[dict[str, Any], Execution]] = field(default_factory=dict)

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route(f"{API}/healthz", self._health, methods=["GET"])
        router.add_api_route(f"{API}/experiments", self._experiments, methods=["GET", "POST"])
        router.add_api_route(f"{API}/runs", self._create, methods=["POST"])
        router.add_api_route(f"{API}/runs", self._list, methods=["GET"])
        router.add_api_route(f"{API}/runs/{{run}}:terminate", self._terminate, methods=["POST"])
        router.add_api_route(f"{API}/runs/{{run}}", self._get, methods=["GET"])
        return router

    def execution(self, number: int = -1) -> Execution:
        """Return the execution of a run, by default that of the last."""
        return list(self.runs.values())[number][1]

    def vanish(self) -> None:
        """Forget every run, as if somebody had deleted them."""
        self.runs.clear()

    def _refused(self, request: Request) -> JSONResponse | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not self.tokens or token in self.tokens:
            return None
        return _error(401, "the token is not valid")

    def _health(self) -> Any:
        return {"multi_user": False}

    async def _experiments(self, request: Request) -> Any:
        if refused := self._refused(request):
            return refused
        if request.method == "GET":
            wanted = json.loads(request.query_params.get("filter", "{}")).get("predicates", [])
            names = [predicate["stringValue"] for predicate in wanted]
            found = [e for e in self.experiments.values() if e["display_name"] in names]
            return {"experiments": found, "total_size": len(found)}
        body = await request.json()
        body |= {"experiment_id": str(uuid.uuid4()), "created_at": _now()}
        self.experiments[body["experiment_id"]] = body
        return body

    async def _create(self, request: Request) -> Any:
        if refused := self._refused(request):
            return refused
        body = await request.json()
        if body.get("experiment_id") not in self.experiments:
            return _error(400, "there is no such experiment")
        specification = body["pipeline_spec"]
        known = specification["root"].get("inputDefinitions", {}).get("parameters", {})
        given = body.get("runtime_config", {}).get("parameters", {})
        if set(given) != set(known):
            return _error(400, f"the pipeline's parameters are {sorted(known)}")
        if any(len(str(value)) > 10_000 for value in given.values()):
            return _error(400, "a parameter is over 10,000 bytes")
        run = body | {"run_id": str(uuid.uuid4()), "created_at": _now()}
        execution = self.machines.start(run["run_id"], specification, given)
        self.runs[run["run_id"]] = (run, execution)
        return self._shown(run["run_id"])

    def _list(self, request: Request) -> Any:
        if refused := self._refused(request):
            return refused
        predicates = json.loads(request.query_params.get("filter", "{}")).get("predicates", [])
        names = [p["stringValue"] for p in predicates if p["key"] == "name"]
        found = [
            self._shown(run_id)
            for run_id, (run, _) in self.runs.items()
            if not names or run["display_name"] in names
        ]
        return {"runs": found, "total_size": len(found)}

    def _get(self, run: str, request: Request) -> Any:
        if refused := self._refused(request):
            return refused
        return self._shown(run) if run in self.runs else _error(404, f"no run {run}")

    def _terminate(self, run: str, request: Request) -> Any:
        if refused := self._refused(request):
            return refused
        if run not in self.runs:
            return _error(404, f"no run {run}")
        self.runs[run][1].cancel()
        return {}

    def _shown(self, run_id: str) -> dict[str, Any]:
        run, execution = self.runs[run_id]
        error = {"error": {"code": 2, "message": execution.error}} if execution.error else {}
        tasks = [
            {
                "run_id": run_id,
                "task_id": f"task-{number}",
                "display_name": task,
                "state": STATES.get(state, state),
            }
            | ({"error": {"code": 2, "message": f"{task} failed"}} if state == "FAILED" else {})
            for number, (task, state) in enumerate(execution.tasks.items(), 1)
        ]
        state = STATES.get(execution.state, execution.state)
        return run | error | {"state": state, "run_details": {"task_details": tasks}}


def _error(code: int, message: str) -> JSONResponse:
    return JSONResponse({"error_message": message, "code": code}, status_code=code)


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
