"""A fake of Google's evaluation service: renders the prompt and gives a verdict on it.

Takes what ``EvaluateInstancesRequest`` of v1beta1 knows and refuses every other field, a field of
the template that the instance lacks, and a model that is not Google's. ``opinion`` sees the
instance's fields and the rendered prompt, and returns the result to send.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from tests.fakes.faults import google_error

MODEL = re.compile(r"projects/[^/]+/locations/[^/]+/publishers/google/models/gemini-[^/]+")
FIELD = re.compile(r"{(\w+)}")
SPEC = {
    "pointwise": {"metricPromptTemplate", "systemInstruction"},
    "pairwise": {
        "metricPromptTemplate",
        "systemInstruction",
        "candidateResponseFieldName",
        "baselineResponseFieldName",
    },
}


class Refusal(Exception):
    """What the service answers with 400."""


def _score(instance: Mapping[str, str], prompt: str) -> dict[str, Any]:
    return {"score": 3.0, "explanation": "neither good nor bad"}


@dataclass
class Evaluation:
    """The service; tests read and change it."""

    opinion: Callable[[Mapping[str, str], str], dict[str, Any]] = _score
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def router(self) -> APIRouter:
        """Return the route."""
        router = APIRouter()

        @router.post("/v1beta1/projects/{project}/locations/{location}:evaluateInstances")
        async def evaluate(project: str, location: str, request: Request) -> Any:
            body = json.loads(await request.body())
            self.bodies.append(body)
            try:
                return self._result(body)
            except Refusal as refusal:
                return JSONResponse(google_error(400, str(refusal)), status_code=400)

        return router

    def _result(self, body: dict[str, Any]) -> dict[str, Any]:
        (kind,) = (one for one in SPEC if f"{one}MetricInput" in body)
        _only(body, f"{kind}MetricInput", "autoraterConfig")
        rater = body["autoraterConfig"]
        _only(rater, "samplingCount", "flipEnabled", "autoraterModel", "generationConfig")
        if not MODEL.fullmatch(rater["autoraterModel"]) or not 1 <= rater["samplingCount"] <= 32:
            raise Refusal("the autorater is no publisher model, or is asked too often")
        given = body[f"{kind}MetricInput"]
        _only(given, "metricSpec", "instance")
        _only(given["metricSpec"], *SPEC[kind])
        instance = json.loads(given["instance"]["jsonInstance"])
        result = self.opinion(instance, _rendered(given["metricSpec"], instance))
        return {f"{kind}MetricResult": result}


def _rendered(spec: Mapping[str, str], instance: Mapping[str, str]) -> str:
    named = [spec[name] for name in spec if name.endswith("FieldName")]
    wanted = {*FIELD.findall(spec["metricPromptTemplate"]), *named}
    if missing := wanted - set(instance):
        raise Refusal(f"the instance has no {sorted(missing)}")
    return FIELD.sub(lambda found: instance[found[1]], spec["metricPromptTemplate"])


def _only(given: Mapping[str, Any], *known: str) -> None:
    if unknown := set(given) - set(known):
        raise Refusal(f"Invalid JSON payload received. Unknown name: {sorted(unknown)}")
