"""What only the registry in Vertex AI promises."""

from __future__ import annotations

import pytest

from llmops.adapters import catalog
from llmops.adapters.registry import vertex
from llmops.errors import BackendError, ConfigError
from llmops.ports import ModelReference

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
