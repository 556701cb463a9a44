"""A fake of Vertex AI's Model Registry: models, versions, aliases, over REST.

    world = VertexModels(project="shop-project")
    app.include_router(world.router())   # before a router that takes every path

Uploads, deletions and copies end at once: their operations come back done.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from tests.fakes.faults import google_error

MODEL_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
ALIAS = re.compile(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]")
RESPONSE = "type.googleapis.com/google.cloud.aiplatform.v1.UploadModelResponse"
EMPTY = "type.googleapis.com/google.protobuf.Empty"


class Refusal(Exception):
    """What the service answers instead."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Model:
    """A Model: its versions by number, and the greatest number that was ever given."""

    versions: dict[int, dict[str, Any]] = field(default_factory=dict)
    last: int = 0


@dataclass
class VertexModels:
    """The models of one project; tests read and change them."""

    project: str = "shop-project"
    models: dict[str, Model] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock)

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()

        @router.api_route(
            "/v1/projects/{project}/locations/{location}/models{rest:path}",
            methods=["GET", "POST", "DELETE"],
        )
        async def any_call(project: str, location: str, rest: str, request: Request) -> Any:
            body = await request.body()
            parent = f"projects/{project}/locations/{location}"
            try:
                if project != self.project:
                    raise Refusal(403, f"Permission denied on project '{project}'")
                with self.lock:
                    return self._answer(
                        request.method,
                        parent,
                        rest,
                        json.loads(body) if body else {},
                        dict(request.query_params),
                    )
            except Refusal as refusal:
                error = google_error(refusal.status, str(refusal))
                return JSONResponse(error, status_code=refusal.status)

        return router

    def _answer(
        self, method: str, parent: str, rest: str, body: dict[str, Any], query: dict[str, str]
    ) -> Any:
        if rest == ":upload" and method == "POST":
            return self._upload(parent, body)
        if rest == "" and method == "GET":
            return self._list(parent, query)
        found = re.fullmatch(r"/([^/:@]+)(?:@([^:/]+))?(?::(\w+))?", rest)
        if not found or found[1] not in self.models:
            raise Refusal(404, f"The Model does not exist: {parent}/models{rest}")
        name, version, verb = found.groups()
        model = self.models[name]
        if verb == "listVersions":
            shown = [self._shown(parent, name, number) for number in sorted(model.versions)]
            return _page("models", shown, query)
        number = self._number(model, version)
        if verb == "mergeVersionAliases":
            self._merge(model, number, body["versionAliases"])
            return self._shown(parent, name, number)
        if verb == "deleteVersion" and method == "DELETE":
            return self._delete(parent, name, number)
        if verb is None and method == "GET":
            return self._shown(parent, name, number)
        raise Refusal(404, f"no route {method} {rest}")

    def _upload(self, parent: str, body: dict[str, Any]) -> dict[str, Any]:
        if set(body) - {"model", "modelId", "parentModel"}:
            raise Refusal(400, f"Unknown name {sorted(body)}")
        content = body["model"]
        if not content.get("displayName"):
            raise Refusal(400, "displayName is required")
        if "parentModel" in body:
            name = body["parentModel"].rpartition("/")[2]
            if name not in self.models:
                raise Refusal(404, f"The Model does not exist: {name}")
        else:
            name = body.get("modelId") or f"{1 + len(self.models)}"
            if not MODEL_ID.fullmatch(name):
                raise Refusal(400, f"model id {name} is not valid")
            if name in self.models:
                raise Refusal(409, f"The Model already exists: {name}")
            self.models[name] = Model()
        model = self.models[name]
        model.last += 1
        first = not model.versions
        model.versions[model.last] = {
            **content,
            "createTime": _now(),
            "updateTime": _now(),
            "versionAliases": ["default"] if first else [],
        }
        response = {"@type": RESPONSE, "model": f"{parent}/models/{name}"}
        return _done(parent, {**response, "modelVersionId": str(model.last)})

    def _list(self, parent: str, query: dict[str, str]) -> dict[str, Any]:
        shown = [
            self._shown(parent, name, self._number(model, "default"))
            for name, model in self.models.items()
            if model.versions
        ]
        for key, value in re.findall(r'labels\.([\w-]+)="?([\w-]+)"?', query.get("filter", "")):
            shown = [one for one in shown if one.get("labels", {}).get(key) == value]
        return _page("models", shown, query)

    def _merge(self, model: Model, number: int, aliases: list[str]) -> None:
        for alias in aliases:
            name = alias.removeprefix("-")
            if name != "default" and not ALIAS.fullmatch(name):
                raise Refusal(400, f"alias {name} is not valid")
            for version in model.versions.values():
                version["versionAliases"] = [a for a in version["versionAliases"] if a != name]
            if not alias.startswith("-"):
                model.versions[number]["versionAliases"].append(name)

    def _delete(self, parent: str, name: str, number: int) -> dict[str, Any]:
        model = self.models[name]
        if "default" in model.versions[number]["versionAliases"]:
            raise Refusal(400, "the default version cannot be deleted")
        del model.versions[number]
        return _done(parent, {"@type": EMPTY})

    def _number(self, model: Model, version: str | None) -> int:
        for number, content in model.versions.items():
            if str(number) == version or (version or "default") in content["versionAliases"]:
                return number
        raise Refusal(404, f"The Model version does not exist: {version}")

    def _shown(self, parent: str, name: str, number: int) -> dict[str, Any]:
        content = self.models[name].versions[number]
        return {**content, "name": f"{parent}/models/{name}", "versionId": str(number)}


def _page(key: str, shown: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
    size, start = int(query.get("pageSize") or 5), int(query.get("pageToken") or 0)
    more = {"nextPageToken": str(start + size)} if start + size < len(shown) else {}
    return {key: shown[start : start + size], **more}


def _done(parent: str, response: dict[str, Any]) -> dict[str, Any]:
    return {"name": f"{parent}/operations/1", "done": True, "response": response}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
