"""The fakes' faults are real ones on the wire, so that what survives them survives the cloud's."""

from __future__ import annotations

import time

import httpx
import pytest
from fastapi import FastAPI

from tests.fakes.faults import serve

LONG = "x" * 100_000


@pytest.fixture(scope="module")
def running():
    app, worked = FastAPI(), []

    @app.get("/pages/{number}")
    def page(number: int) -> dict[str, str]:
        return {"page": LONG}

    @app.post("/jobs")
    def job() -> dict[str, int]:
        worked.append(1)
        return {"jobs": len(worked)}

    app.state.worked = worked
    with serve(app) as server:
        yield server


@pytest.fixture
def server(running):
    running.faults.clear()
    running.app.state.worked.clear()
    return running


def test_a_refusal_is_shown_as_often_as_told_and_only_where_told(server):
    server.faults.refuse(429, "/jobs", times=2, headers={"Retry-After": "7"})
    answers = [httpx.post(f"{server.url}/jobs") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["retry-after"] == "7"
    assert answers[0].json()["error"]["errors"][0]["reason"] == "rateLimitExceeded"
    assert server.app.state.worked == [1]


def test_the_first_requests_pass_where_told(server):
    server.faults.refuse(503, "/pages", skip=1)
    codes = [httpx.get(f"{server.url}/pages/{n}").status_code for n in range(3)]
    assert codes == [200, 503, 200]


def test_a_cut_answer_breaks_off_in_the_middle(server):
    server.faults.cut("/pages")
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{server.url}/pages/1")
    assert httpx.get(f"{server.url}/pages/1").json() == {"page": LONG}


def test_a_lost_answer_s_work_is_done(server):
    server.faults.lose("/jobs")
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{server.url}/jobs")
    assert server.app.state.worked == [1]


def test_a_delay_delays(server):
    server.faults.delay(0.2, "/jobs")
    started = time.monotonic()
    httpx.post(f"{server.url}/jobs")
    assert time.monotonic() - started >= 0.2


def test_every_request_is_remembered_with_its_body_and_fault(server):
    server.faults.lose("/jobs")
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{server.url}/jobs?a=1", json={"b": 2})
    httpx.get(f"{server.url}/pages/1")
    (request,) = server.faults.found("/jobs", method="POST")
    assert (request.query, request.body, request.fault) == ("a=1", {"b": 2}, "lose")
    assert server.faults.count() == 2
