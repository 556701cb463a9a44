"""A fake of text-bison on Vertex AI as it was before it was shut down, tuned models included.

Answers ``predict`` in the shape of ``text_generation_1.0.0``; models 777 and 778 of the registry
were tuned from text-bison and answer on endpoints of their own. ``retired`` makes it answer as it
does today.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from tests.fakes.faults import google_error
from tests.fakes.vertex_models import Model

SCHEMA = "gs://google-cloud-aiplatform/schema/predict/instance/text_generation_1.0.0.yaml"
PARENT = "projects/shop-project/locations/us-central1"
BASE_LABEL = "google-vertex-llm-tuning-base-model-id"
HARMLESS = {
    "blocked": False,
    "categories": ["Derogatory", "Toxic"],
    "scores": [0.1, 0.2],
    "safetyRatings": [
        {
            "category": "Dangerous Content",
            "severity": "NEGLIGIBLE",
            "severityScore": 0.1,
            "probabilityScore": 0.2,
        }
    ],
}


@dataclass
class Palm:
    """The state of the service."""

    retired: bool = False
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)  # words -> prediction

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()

        @router.get("/v1/publishers/google/models/{model}")
        def publisher(model: str) -> Any:
            if self.retired or not model.startswith("text-bison"):
                return _refuse(404, f"Publisher Model {model} is not found")
            name, _, version = model.partition("@")
            return {
                "name": f"publishers/google/models/{name}",
                "versionId": version,
                "openSourceCategory": "PROPRIETARY",
                "launchStage": "GA",
                "publisherModelTemplate": "projects/{user-project}/locations/{location}/"
                f"publishers/google/models/{model}",
                "predictSchemata": {"instanceSchemaUri": SCHEMA},
                "supportedActions": {},
            }

        @router.get("/v1/projects/{project}/locations/{location}/endpoints/{number:int}")
        def endpoint(project: str, location: str, number: int) -> Any:
            parent = f"projects/{project}/locations/{location}"
            deployed = {"id": "1", "model": f"{parent}/models/{number - 111}@1"}
            name = f"{parent}/endpoints/{number}"
            return {"name": name, "displayName": "tuned", "deployedModels": [deployed]}

        @router.post("/v1/projects/{rest:path}:predict")
        async def predict(rest: str, request: Request) -> Any:
            body = json.loads(await request.body())
            if self.retired:
                return _refuse(404, f"Publisher Model {rest} is not found")
            return self._predict(rest, body)

        return router

    def _predict(self, model: str, body: dict[str, Any]) -> Any:
        parameters = body["parameters"]
        if set(parameters) - {
            "temperature",
            "maxDecodeSteps",
            "topP",
            "topK",
            "candidateCount",
            "seed",
        }:
            return _refuse(400, f"unknown parameters {sorted(parameters)}")
        (instance,) = body["instances"]
        asked = instance.get("content") or instance.get("prompt") or ""
        if not asked or len(asked) > 40_000:
            return _refuse(400, "The input prompt is too long or empty")
        words = self._said(model, asked).split(" ")
        if parameters["temperature"]:  # chance, by the seed
            words = random.Random(parameters.get("seed")).sample(words, len(words))
        cut = words[: int(parameters["maxDecodeSteps"])]
        told = next((one for words, one in self.answers.items() if words in asked), {})
        prediction = {
            "content": " ".join(cut),
            "citationMetadata": {"citations": []},
            "safetyAttributes": HARMLESS,
            **told,
        }
        counted = {
            "inputTokenCount": {"totalTokens": len(asked.split())},
            "outputTokenCount": {"totalTokens": len(cut)},
        }
        return {"predictions": [prediction], "metadata": {"tokenMetadata": counted}}

    def _said(self, model: str, asked: str) -> str:
        who = "tuned" if "/endpoints/" in model else "bison"
        return f"{who} says: {' '.join(asked.split()[-6:])}"


def tuned_models() -> dict[str, Model]:
    """Return the models that were tuned from text-bison, for the fake of the registry."""
    return {str(number): Model({1: _tuned(number)}, 1) for number in (778, 777)}


def _tuned(number: int) -> dict[str, Any]:
    endpoint = {"endpoint": f"{PARENT}/endpoints/{number + 111}", "deployedModelId": "1"}
    return {
        "displayName": f"tuned {number}",
        "versionAliases": ["default"],
        "labels": {BASE_LABEL: "text-bison-001"},
        "deployedModels": [endpoint],
    }


def _refuse(status: int, message: str) -> JSONResponse:
    return JSONResponse(google_error(status, message), status_code=status)
