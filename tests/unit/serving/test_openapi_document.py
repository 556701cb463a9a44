"""Requests made of the OpenAPI document: none gets a 500, and every answer is as documented."""

from __future__ import annotations

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from llmops.serving import openapi
from llmops.serving.guard import OPEN
from tests.fakes.serving import TOKEN

schema = schemathesis.openapi.from_dict(openapi.document())


@schema.parametrize()
@settings(max_examples=25, suppress_health_check=list(HealthCheck), derandomize=True)
def test_what_the_document_allows_and_forbids_gets_an_answer_of_the_document(case, server):
    answer = case.call(
        base_url=server.address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20
    )
    case.validate_response(
        answer,
        checks=[
            schemathesis.checks.not_a_server_error,
            schemathesis.checks.status_code_conformance,
            schemathesis.checks.content_type_conformance,
            schemathesis.checks.response_schema_conformance,
        ],
    )


def test_the_document_has_every_route_and_its_own_address(server, http):
    document = http.get("/openapi.json").json()
    routes = {route.path for route in server.guard.fastapi.routes}
    assert set(document["paths"]) == routes
    assert document["security"] == [{"bearer": []}]
    open_ones = {
        path
        for path, item in document["paths"].items()
        for operation in item.values()
        if operation.get("security") == []
    }
    assert open_ones == OPEN


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi"])
def test_no_page_that_loads_scripts_from_elsewhere_is_served(http, path):
    assert http.get(path).status_code == 404
    assert isinstance(http, httpx.Client)
