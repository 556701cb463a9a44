"""From an answer in the traffic log to what it was made of."""

from __future__ import annotations

import pytest

from llmops import api, cli
from llmops.adapters.registry.files import FileRegistry
from llmops.api.answering import serve_config
from llmops.errors import ConfigError
from llmops.ports.model import ModelReference
from tests.fakes.many_runs import record, write_run
from tests.unit.traffic.test_log_queries import log_at
from tests.unit.traffic.test_log_queries import record as answered


@pytest.fixture
def answer(tmp_path, monkeypatch):
    """Return the id of an answer that version 1 of a model gave; run 1 made the model."""
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    write_run(tmp_path, record(1))
    registry = FileRegistry(tmp_path / ".llmops" / "registry")
    model = ModelReference("local", "base", adapter="ab" * 32, dataset_version="v1-3f9c21ab")
    registry.register("so_python", model, labels={}, run_id=record(1)["run_id"])
    log = log_at((tmp_path / serve_config()["log"]["path"]).parent)
    identity = answered(log)
    log.close()
    return identity


def test_an_answer_leads_to_its_model_run_and_dataset(answer):
    found = api.lineage(answer)
    up = {other for _, _, other in found.graph.walk(found.node.id, "up")}
    assert found.node.kind == "prediction"
    assert {
        "model:so_python:1",
        f"run:{record(1)['run_id']}",
        "dataset:v1-3f9c21ab",
        f"commit:{1:040x}",
    } <= up


def test_the_command_prints_its_tree(answer, capsys):
    assert cli.main(["lineage", answer]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"prediction:{answer}\nmade of:\n  └─ model so_python:1")
    assert said.endswith("made from it: nothing that is known\n")


def test_an_answer_that_is_not_in_the_log_is_not_there(answer):
    with pytest.raises(ConfigError, match="nothing here is named"):
        api.lineage("ans_" + "0" * 24 + "_" + "0" * 8)
