"""so_python through BigQuery, Cloud Storage, Vertex pipelines and Gemini to a promoted model.

Every service is a fake on loopback that Google's real clients talk to; what only a real project
can show is listed in docs/google_cloud.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI

from llmops import api
from tests.fakes.faults import serve
from tests.fakes.kubeflow import Kubeflow
from tests.fakes.whole_cloud import whole_cloud

COMMAND = [
    "+experiment=so_python",
    "engine=vertex",
    "warehouse=bigquery",
    "model=gemini",
    "store=gcs",
]
SETTINGS = (
    "dataset.acknowledged_terms=[cc-by-sa-4.0]",
    "dataset.max_rows=80",
    "evaluation.max_rows=8",
    "gate.max_leakage=1.0",
    "safety.max_blocked_rate=1.0",  # of 8 rows, the bound is far from what was seen
    "safety.max_violation_rate=1.0",
    "model.tuner.waiting.poll_s=0.05",
)
ELSEWHERE = (
    "engine.image=registry.invalid/llmops-python:1",
    "engine.poll_s=0.2",
    "model.tuner.waiting.max_wait_s=0",  # no container waits for the tuning job
)
# What says where and when a run was, not what it did.
MAY_DIFFER = {
    "run_id",
    "started",
    "finished",
    "seconds",
    "process",
    "overrides",
    "config_digest",
    "pipeline_digest",
    "engine",
    "estimates",
    "steps",  # compared apart: their artifacts hold how long each answer took
    "command",
}


@pytest.fixture
def away(tmp_path, monkeypatch):
    """Work in an empty workspace, with no credentials and settings of this machine."""
    for name in ("LLMOPS_WORKSPACE", "LLMOPS_CONF", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")

    def enter(name: str) -> Path:
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        return tmp_path / f"{name}_cloud"

    return enter


@pytest.mark.slow
def test_so_python_on_vertex_is_the_experiment_that_it_is_on_this_machine(away):
    with whole_cloud(away("here")) as cloud:
        beside = ["engine=local" if word == "engine=vertex" else word for word in COMMAND]
        here = api.run([*beside, "deploy=vertex", *SETTINGS, *cloud.overrides]).record
        assert here["status"] == "succeeded", (here["error"], here["gate"])
    with whole_cloud(away("there")) as cloud:
        there = api.run([*COMMAND, *SETTINGS, *cloud.overrides, *ELSEWHERE]).record
        assert there["status"] == "succeeded", (there["error"], there["gate"])
        jobs, tuned, models = cloud.pipelines.jobs, cloud.gemini.jobs, cloud.models.models
    assert [job["state"] for job in there["engine"]["jobs"]] == ["succeeded", "succeeded"]
    assert (len(jobs), len(tuned), len(models)) == (2, 1, 1)
    assert there["champion"]["promoted"]
    assert comparable(there) == comparable(here)
    assert [step_of(step) for step in there["steps"]] == [step_of(step) for step in here["steps"]]


@pytest.mark.slow
def test_a_cluster_registers_and_promotes_in_the_store(away):
    with whole_cloud(away("cluster")) as cloud:
        kubeflow, app = Kubeflow(cloud.pipelines.machines), FastAPI()
        app.include_router(kubeflow.router())
        with serve(app) as server:
            cluster = ["engine=kubeflow", f"engine.host={server.url}"]
            wanted = [word for word in COMMAND if word != "engine=vertex"]
            made = api.run([*wanted, *cluster, *SETTINGS, *cloud.overrides, *ELSEWHERE]).record
        assert made["status"] == "succeeded", (made["error"], made["gate"])
        found = api.find_model("champion", ["deploy=store", "store=gcs", *cloud.overrides])
        assert not cloud.models.models  # Vertex AI's registry was not asked
    assert (found.version, found.registered_by) == (1, made["run_id"])
    assert found.aliases == ("candidate", "champion")


def comparable(record):
    return {name: value for name, value in record.items() if name not in MAY_DIFFER}


def step_of(step):
    """Return what of a step does not depend on how long its answers took."""
    kept = {name: step[name] for name in ("name", "kind", "revision", "status", "takes", "reason")}
    outputs = {name: (out["kind"], out["rows"]) for name, out in step["outputs"].items()}
    return kept | {"outputs": outputs, "facts": sorted(step["facts"])}
