"""The digest of the image that a run's tasks use."""

from __future__ import annotations

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from llmops.engines.image import Image, image_of, resolved
from tests.fakes.faults import serve

DIGEST = "sha256:" + "a" * 64


def registry(needs_token: bool) -> FastAPI:
    app = FastAPI()

    @app.head("/v2/team/llmops/manifests/{tag}")
    def manifest(tag: str, request: Request) -> Response:
        if needs_token and request.headers.get("authorization") != "Bearer anybody":
            challenge = f'Bearer realm="{request.base_url}token",scope="pull"'
            return JSONResponse({}, 401, {"WWW-Authenticate": challenge})
        return (
            Response(headers={"Docker-Content-Digest": DIGEST})
            if tag == "1"
            else Response(status_code=404)
        )

    @app.get("/token")
    def token() -> dict[str, str]:
        return {"token": "anybody"}

    return app


@pytest.mark.parametrize("needs_token", [False, True])
def test_a_tag_is_pinned_to_the_digest_that_the_registry_tells(needs_token):
    with serve(registry(needs_token)) as server:
        name = f"{server.url.removeprefix('http://')}/team/llmops:1"
        found = resolved(name)
    assert found == Image(name, DIGEST)
    assert found.pinned == f"{name}@{DIGEST}"


def test_an_unknown_tag_leaves_the_digest_open_and_says_why():
    with serve(registry(False)) as server:
        found = resolved(f"{server.url.removeprefix('http://')}/team/llmops:2")
    assert found.digest is None
    assert "404" in found.unknown
    assert found.pinned == found.name


def test_a_digest_in_the_name_asks_nobody():
    name = f"registry.invalid/team/llmops@{DIGEST}"
    assert resolved(name) == Image(name, DIGEST)
    assert resolved(name).pinned == name


def test_a_registry_that_is_not_there_is_no_failure():
    found = resolved("127.0.0.1:9/team/llmops:1")
    assert found.digest is None
    assert "its registry does not say" in found.unknown


def test_what_the_record_keeps_gives_the_image_back():
    image = Image("registry.invalid/llmops:1", DIGEST)
    assert image_of(image.facts()) == image
