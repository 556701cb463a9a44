"""What only the registry in Vertex AI promises."""

from __future__ import annotations

import pytest

from llmops import api
from llmops.adapters import catalog
from llmops.adapters.bucket import Bucket
from llmops.adapters.registry import vertex
from llmops.api.past import DEFAULT_STORE
from llmops.errors import BackendError, ConfigError
from llmops.lineage.run_folder import RunFolder
from llmops.ports.model import ModelReference
from tests.fakes.many_runs import record, write_run

MODEL = ModelReference("gemini", "gemini-3.5-flash", tuned="models/1@1", endpoint="endpoints/1")


@pytest.fixture
def registry(cloud):
    config = {"kind": "vertex", "region": "us-central1"}
    return catalog.adapter("registry", config, None, environment=cloud.environment)


def register(registry, model=MODEL):
    return registry.register("so_python", model, labels={"step_key": "ef" * 32}, run_id="run-1")


def test_a_version_and_its_aliases_stand_in_vertex_ai(cloud, registry):
    register(registry)
    registry.set_alias("so_python", "champion", 1, reason="first")
    stored = cloud.models.models["so_python"].versions[1]
    assert sorted(stored["versionAliases"]) == ["champion", "default"]
    assert stored["labels"]["llmops"] == "registry"


def test_an_alias_that_somebody_moved_in_the_console_is_read_as_it_is(cloud, registry):
    register(registry)
    cloud.models.models["so_python"].versions[1]["versionAliases"].append("champion")
    assert registry.get("so_python", "champion").version == 1


def test_what_is_written_anew_while_it_is_read_is_read_as_it_is_now(cloud, monkeypatch):
    from google.cloud.storage import Blob

    bucket = Bucket(cloud.environment)
    bucket.create("note.json", "old")
    seen, download = [bucket.read("note.json")], Blob.download_as_bytes

    def late(blob, **options):
        if seen:
            assert bucket.replace("note.json", "new", seen.pop())
        return download(blob, **options)

    monkeypatch.setattr(Blob, "download_as_bytes", late)
    assert bucket.read("note.json").text == "new"


def test_a_crash_between_upload_and_state_is_taken_over(cloud, registry):
    version = register(registry)
    del cloud.world.files[f"gs://{cloud.bucket}/above/registry/so_python/state.json"]
    assert register(registry) == version
    assert list(cloud.models.models["so_python"].versions) == [1]


def test_a_lease_that_a_crash_left_is_taken_over(cloud, registry, monkeypatch):
    cloud.world.files[f"gs://{cloud.bucket}/above/registry/so_python/lease.json"] = b"gone"
    monkeypatch.setattr(vertex, "LEASE_TIMEOUT_S", 0.0)
    with pytest.raises(BackendError, match="in use"):
        register(registry)
    monkeypatch.setattr(vertex, "LEASE_S", 0.0)
    assert register(registry).version == 1


@pytest.mark.parametrize("alias", ["Champion", "a_b", "default"])
def test_an_alias_that_vertex_ai_does_not_take_is_refused(registry, alias):
    register(registry)
    with pytest.raises(ConfigError, match="cannot be an alias"):
        registry.set_alias("so_python", alias, 1, reason="odd")


@pytest.fixture
def workspace(cloud, registry, tmp_path, monkeypatch):
    """Return a workspace whose only run registered its model in Vertex AI."""
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    run = record(1)
    registry.register("so_python", MODEL, labels={"step_key": "ef" * 32}, run_id=run["run_id"])
    deploy = {"registry": {"kind": "vertex", "region": "us-central1"}}
    config = {"deploy": deploy, "env": dict(cloud.environment), "store": DEFAULT_STORE}
    RunFolder(write_run(tmp_path, run)).write_yaml("config.yaml", config)
    return tmp_path


def test_lineage_and_site_know_models_of_the_registry_that_a_run_named(workspace):
    found = api.lineage("so_python:1")
    up = {other for _, _, other in found.graph.walk(found.node.id, "up")}
    assert f"run:{record(1)['run_id']}" in up
    assert found.away == ()
    api.site(workspace / "site")
    assert (workspace / "site" / "models" / "so_python-1.html").exists()


def test_a_registry_that_does_not_answer_is_named_and_hides_nothing_else(cloud, workspace):
    cloud.faults.refuse(403, "/models", times=100)
    found = api.lineage(record(1)["run_id"])
    assert found.node.kind == "run"
    (why,) = found.away
    assert why.startswith("registry vertex: ")
    api.site(workspace / "site")
    assert "registry vertex: " in (workspace / "site" / "index.html").read_text()
