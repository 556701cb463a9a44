"""What every target of OpenLineage events must do. A target joins by adding itself to ADAPTERS."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from llmops.adapters import catalog
from llmops.errors import BackendError, ConfigError
from llmops.lineage import openlineage
from tests.fakes.faults import serve
from tests.fakes.identity import Identity, add_identity, key_file
from tests.fakes.lineage import LineageServer
from tests.fakes.run_folder import make_run

ADAPTERS = [
    pytest.param({"kind": "http"}, "/api/v1/lineage", id="http"),
    pytest.param(
        {"kind": "google", "location": "us-central1"},
        "/v1/projects/shop-project/locations/us-central1:processOpenLineageRunEvent",
        id="google",
    ),
]


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    record = make_run(tmp_path_factory.mktemp("run")).run
    return [*openlineage.started(record), *openlineage.ended(record)]


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Serve Google's API, which asks for a token, and one that does not."""
    folder, world = tmp_path_factory.mktemp("servers"), LineageServer()
    plain, guarded, identity = FastAPI(), FastAPI(), Identity()
    plain.include_router(world.router())
    guarded.include_router(world.router())
    add_identity(guarded, identity)
    with serve(plain) as http, serve(guarded) as google:
        key = key_file(folder, google.url)
        yield {"http": http, "google": google}, world, key, identity


@pytest.fixture
def target(config, servers):
    both, world, key, _ = servers
    world.events.clear()
    for server in both.values():
        server.faults.clear()
    environment = {
        "project": "shop-project",
        "credentials": {"kind": "service_account_file", "file": str(key)},
        "endpoints": {"lineage": both["google"].url},
    }
    if config["kind"] == "http":
        return catalog.adapter("lineage", {**config, "url": f"{both['http'].url}/"})
    return catalog.adapter("lineage", config, environment=environment)


def test_the_suite_covers_every_target_of_the_catalog():
    assert {one.values[0]["kind"] for one in ADAPTERS} == set(catalog.ADAPTERS["lineage"])


@pytest.mark.parametrize(("config", "path"), ADAPTERS)
def test_every_event_of_a_run_is_taken_as_it_is(target, servers, events, path):
    for event in events:
        target.send(event)
    assert servers[1].events == [(path, event) for event in events]


@pytest.mark.parametrize(("config", "path"), ADAPTERS)
def test_a_refusal_is_told_as_such(target, events, path):
    broken = {**events[0], "run": {"runId": "no uuid", "facets": {}}}
    with pytest.raises(BackendError, match="400"):
        target.send(broken)


@pytest.mark.parametrize(("config", "path"), ADAPTERS)
def test_a_secret_of_the_environment_is_not_sent(target, servers, events, path, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "a-very-secret-value-1234")
    job = {**events[0]["job"], "name": "a-very-secret-value-1234"}
    target.send({**events[0], "job": job})
    assert "a-very-secret-value-1234" not in str(servers[1].events)
    assert len(servers[1].events) == 1


@pytest.mark.parametrize(("config", "path"), ADAPTERS)
def test_an_answer_that_is_cut_off_is_a_backend_that_failed(target, servers, events, config, path):
    servers[0][config["kind"]].faults.lose(path)
    with pytest.raises(BackendError):
        target.send(events[0])


def test_google_is_asked_with_the_credentials_of_the_config(servers, events):
    both, _, key, identity = servers
    environment = {
        "project": "shop-project",
        "credentials": {"kind": "service_account_file", "file": str(key)},
        "endpoints": {"lineage": both["google"].url},
    }
    config = {"kind": "google", "location": "eu"}
    target = catalog.adapter("lineage", config, environment=environment)
    target.send(events[0])
    identity.revoke()
    target.send(events[0])  # the client takes a new token


def test_without_a_project_google_is_a_mistake_of_the_config():
    with pytest.raises(ConfigError, match=r"env\.project"):
        catalog.adapter(
            "lineage", {"kind": "google", "location": "eu"}, environment={"project": None}
        )


def test_an_address_that_is_a_secret_must_be_set(monkeypatch, events):
    monkeypatch.delenv("OPENLINEAGE_URL", raising=False)
    target = catalog.adapter("lineage", {"kind": "http", "url": "${secret:OPENLINEAGE_URL}"})
    with pytest.raises(ConfigError, match="OPENLINEAGE_URL"):
        target.send(events[0])
