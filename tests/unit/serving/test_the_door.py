"""The door: tokens, hosts, origins, and how much is taken at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from starlette.routing import Route

from llmops.serving.clients import Clients, new_token, token_digest
from llmops.serving.guard import OPEN
from llmops.serving.settings import Token
from tests.fakes.serving import OTHER_TOKEN, Echo, echoing, running


def test_every_route_but_health_is_closed_to_who_has_no_token(server):
    routes = [route for route in server.guard.fastapi.routes if isinstance(route, Route)]
    assert len(routes) == len(server.guard.fastapi.routes) >= 8
    assert {route.path for route in routes} >= OPEN
    with httpx.Client(base_url=server.address) as stranger:
        _knock(stranger, routes)


def _knock(stranger, routes):
    for route in routes:
        for method in {*route.methods, "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"}:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}):
                found = stranger.request(method, route.path, headers=headers)
                denied = found.status_code == 401
                assert denied == (route.path not in OPEN), (method, route.path)


def test_what_is_no_route_is_closed_too_and_unknown_only_to_clients(server, http):
    for path in ("/", "/docs", "/openapi", "/v1", "/v1/predict/", "//healthz", "/healthz/x"):
        assert httpx.get(f"{server.address}{path}").status_code == 401, path
        assert http.get(path).status_code == 404, path


def test_the_wrong_method_says_which_is_right(http):
    found = http.get("/v1/predict")
    assert (found.status_code, found.headers["allow"]) == (405, "POST")
    assert found.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "a b", "", "[::1"])
def test_another_host_is_not_served(http, host):
    assert http.get("/healthz", headers={"Host": host}).status_code in (400, 421)


def test_web_pages_may_call_only_if_the_config_names_them(http, tmp_path):
    assert http.get("/v1/models", headers={"Origin": "https://evil.example"}).status_code == 403
    origin = "https://chat.example.com"
    overrides = [f"serve.origins=['{origin}']"]
    with running(tmp_path, echoing(Echo()), overrides=overrides) as found:
        answer = httpx.get(
            f"{found.address}/v1/models", headers={**found.headers, "Origin": origin}
        )
        preflight = httpx.options(f"{found.address}/v1/predict", headers={"Origin": origin})
    assert answer.headers["access-control-allow-origin"] == origin
    assert preflight.status_code == 204
    assert "authorization" in preflight.headers["access-control-allow-headers"]


def test_a_token_is_known_by_its_digest_alone():
    token = new_token()
    clients = Clients([Token("ops", token_digest(token))])
    assert clients.named(f"Bearer {token}".encode()) == "ops"
    assert clients.named(f"bearer {token}".encode()) == "ops"
    for wrong in (None, b"", b"Bearer ", f"Bearer {token}x".encode(), b"Bearer " + b"x" * 9999):
        assert clients.named(wrong) is None


def test_more_work_than_the_server_takes_is_told_to_come_back(tmp_path):
    gate = threading.Event()
    overrides = ["serve.limits.answering=3", "serve.limits.answering_each=2"]
    with (
        running(tmp_path, echoing(Echo(gate=gate)), overrides=overrides) as found,
        ThreadPoolExecutor(8) as pool,
    ):

        def ask(token=None):
            headers = {"Authorization": f"Bearer {token}"} if token else found.headers
            return httpx.post(
                f"{found.address}/v1/predict", json={"question": "q"}, headers=headers, timeout=20
            )

        work = [pool.submit(ask), pool.submit(ask)]
        _until(lambda: found.guard.in_work == 2)
        mine = ask()
        work.append(pool.submit(ask, OTHER_TOKEN))
        _until(lambda: found.guard.in_work == 3)
        others = ask(OTHER_TOKEN)
        health = httpx.get(f"{found.address}/healthz")
        gate.set()
        assert [one.result().status_code for one in work] == [200, 200, 200]
    assert (mine.status_code, mine.headers["retry-after"]) == (429, "1")
    assert (others.status_code, others.headers["retry-after"]) == (503, "1")
    assert health.status_code == 200


def test_metrics_count_requests_answers_and_tokens(http):
    http.post("/v1/predict", json={"question": "q"}).raise_for_status()
    page = http.get("/metrics").text
    assert 'llmops_requests_total{route="/v1/predict",status="200"}' in page
    assert 'llmops_answers_total{action="allow",model="so_python",version="1"}' in page
    assert "llmops_batch_rows_bucket" in page


def test_metrics_have_no_label_that_a_client_can_choose(http):
    http.get("/made/up/by/a/client")
    assert "made/up" not in http.get("/metrics").text


def test_questions_that_come_together_are_answered_together(tmp_path):
    echo = Echo(seconds=0.15)
    with running(tmp_path, echoing(echo)) as found, ThreadPoolExecutor(9) as pool:

        def ask(number):
            return httpx.post(
                f"{found.address}/v1/predict",
                json={"question": f"q{number}"},
                headers=found.headers,
            ).json()["text"]

        first = pool.submit(ask, 0)
        time.sleep(0.05)
        answers = list(pool.map(ask, range(1, 9)))
        assert first.result() == "echo: q0"
    assert answers == [f"echo: q{number}" for number in range(1, 9)]
    assert max(echo.batches) >= 4


def test_readiness_ends_when_the_server_drains(tmp_path):
    with running(tmp_path, echoing(Echo())) as found:
        assert httpx.get(f"{found.address}/readyz").status_code == 200
        found.guard.draining = True
        answer = httpx.post(
            f"{found.address}/v1/predict", json={"question": "q"}, headers=found.headers
        )
        assert httpx.get(f"{found.address}/readyz").status_code == 503
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")


def _until(holds, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
