"""The OpenAPI document, made of the shapes that requests are checked with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops import __version__
from llmops.serving.guard import OPEN
from llmops.serving.shapes import ChatRequest, FeedbackRequest, PredictRequest

ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}
FAULTS: Mapping[str, str] = {
    "400": "the body is wrong, or asks for what is not served",
    "401": "a known bearer token is needed",
    "403": "web pages of this origin may not call",
    "404": "there is no such route, model or answer",
    "405": "the route has another method",
    "408": "the body came too slowly",
    "413": "the body or its texts are too long",
    "415": "the body is not application/json",
    "421": "this host is not served here",
    "429": "this client has too many requests in work",
    "502": "the model failed",
    "503": "too much to do, going down, or the log cannot be written",
    "504": "the model has not answered in time",
}
ANSWER = {
    "type": "object",
    "required": ["id", "text", "blocked", "blocked_by", "finish_reason", "safety", "tokens"],
    "properties": {
        "id": {"type": "string"},
        "session": {"type": ["string", "null"]},
        "text": {"type": "string"},
        "blocked": {"type": "boolean"},
        "blocked_by": {
            "type": "array",
            "items": {"enum": ["provider", "thresholds", "rules"]},
        },
        "finish_reason": {"enum": ["stop", "length", "safety", "recitation", "error"]},
        "safety": {"type": "object"},
        "policy": {"type": "object"},
        "citations": {"type": "array"},
        "grounding": {"type": ["object", "null"]},
        "trace": {"type": "array"},
        "tokens": {"type": "object"},
        "latency_s": {"type": "number"},
    },
}


def document() -> dict[str, Any]:
    """Return the document, as JSON."""
    import msgspec

    shapes = (PredictRequest, ChatRequest, FeedbackRequest)
    _, components = msgspec.json.schema_components(
        shapes, ref_template="#/components/schemas/{name}"
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "llmops serve", "version": __version__},
        "paths": {
            "/v1/predict": {"post": _post("Ask the model", "PredictRequest", "200", ANSWER)},
            "/v1/chat/completions": {
                "post": _post("OpenAI's chat completions", "ChatRequest", "200", {"type": "object"})
            },
            "/v1/feedback": {
                "post": _post("Rate or correct an answer", "FeedbackRequest", "201", _object())
            },
            "/v1/models": {"get": _get("/v1/models", "List the models", _object())},
            "/healthz": {"get": _get("/healthz", "Does the process live?", _object())},
            "/readyz": {"get": _get("/readyz", "May requests be sent here?", _object())},
            "/metrics": {"get": _get("/metrics", "Figures for Prometheus", None)},
            "/openapi.json": {"get": _get("/openapi.json", "This document", _object())},
        },
        "components": {
            "schemas": {**components, "Error": ERROR},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}],
    }


def _object() -> dict[str, Any]:
    return {"type": "object"}


def _post(summary: str, shape: str, status: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": answer}}
    if shape == "ChatRequest":
        content["text/event-stream"] = {"schema": {"type": "string"}}
    return {
        "summary": summary,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{shape}"}}},
        },
        "responses": {status: {"description": "done", "content": content}, **_faults(*FAULTS)},
    }


def _get(path: str, summary: str, answer: Mapping[str, Any] | None) -> dict[str, Any]:
    content: dict[str, Any] = (
        {"text/plain": {"schema": {"type": "string"}}}
        if answer is None
        else {"application/json": {"schema": answer}}
    )
    done = {"200": {"description": "done", "content": content}}
    made: dict[str, Any] = {"summary": summary}
    if path in OPEN:
        made["security"] = []
        unready = {"description": FAULTS["503"], "content": content}
        return {**made, "responses": {**done, "503": unready, **_faults("403", "421")}}
    return {**made, "responses": {**done, **_faults("401", "403", "405", "421")}}


def _faults(*statuses: str) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {status: {"description": FAULTS[status], "content": error} for status in statuses}
