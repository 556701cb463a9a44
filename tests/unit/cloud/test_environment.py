"""Where work is done changes nothing of its result, so it stands in no step's key."""

from __future__ import annotations

import pytest

from llmops.adapters import catalog
from llmops.errors import ConfigError
from llmops.steps import step_kinds


def test_no_step_reads_the_environment():
    kinds = step_kinds([])
    assert len(kinds) >= 10
    assert [k for k in kinds.values() for path in k.reads if path.split(".")[0] == "env"] == []


def test_an_adapter_in_the_cloud_is_given_the_environment(monkeypatch):
    entry = catalog.Entry("tests.unit.cloud.test_environment", "opened", cloud=True)
    monkeypatch.setitem(catalog.ADAPTERS["scorer"], "cloudy", entry)  # type: ignore[arg-type]
    assert catalog.in_cloud("scorer", {"kind": "cloudy"})
    assert not catalog.in_cloud("scorer", {"kind": "profanity"})
    assert catalog.adapter("scorer", {"kind": "cloudy"}, environment={"name": "prod"}) == "prod"
    with pytest.raises(ConfigError, match="needs the group env"):
        catalog.adapter("scorer", {"kind": "cloudy"})


def opened(config, *, environment):
    return environment["name"]
