"""The same dataset from BigQuery into Cloud Storage as from DuckDB into a folder."""

from __future__ import annotations

import json

import pytest

from llmops import api, cli
from llmops.adapters.warehouse.duckdb import open_warehouse
from tests.fakes.bigquery import bigquery
from tests.fakes.faults import serve
from tests.fakes.identity import key_file
from tests.fakes.storage import storage

EXPERIMENT = [
    "+experiment=so_python",
    "pipeline=dataset",
    "warehouse.source.terms=read",
    "dataset.acknowledged_terms=[read]",
    "warehouse.source.licence=mine",
]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """Fakes of both services; BigQuery answers from the built-in sample."""
    folder = tmp_path_factory.mktemp("behind")
    config = {"name": "sample", "sample": True, "memory_limit": "1GB"}
    behind = open_warehouse(config, folder)
    with serve(bigquery(behind)) as tables, storage() as objects:
        yield tables, objects


@pytest.fixture
def workspace(tmp_path, monkeypatch, cloud):
    tables, objects = cloud
    tables.app.state.bigquery.forget()
    monkeypatch.chdir(tmp_path)
    # One key for both: each fake hands out its own tokens, and takes those of the other.
    objects.identity._good = tables.app.state.bigquery.identity._good
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file(tmp_path, tables.url)))
    return tmp_path


@pytest.fixture
def in_the_cloud(cloud, workspace):
    tables, objects = cloud
    return [
        *EXPERIMENT,
        "env=prod",
        "env.project=shop-project",
        f"env.bucket=gs://{objects.bucket()}",
        f"+env.endpoints.bigquery={tables.url}",
        f"+env.endpoints.storage={objects.server.url}",
        "env.budget=null",
        "warehouse=bigquery",
        "store=gcs",
    ]


def of_step(run, name):
    (step,) = [step for step in run.record["steps"] if step["name"] == name]
    return step


@pytest.mark.slow
def test_the_dataset_is_the_same_and_paid_once(cloud, in_the_cloud, capsys):
    fake = cloud[0].app.state.bigquery
    here = api.run(EXPERIMENT, limit=300)
    there = api.run(in_the_cloud, limit=300)
    for run in (here, there):
        assert run.record["status"] == "succeeded", run.record["error"]
    for step in ("ingest", "validate", "transform"):
        mine, theirs = (of_step(run, step)["outputs"] for run in (here, there))
        for name in set(mine) - {"statistics"}:
            assert mine[name]["sha256"] == theirs[name]["sha256"], (step, name)
    assert here.record["dataset_version"] == there.record["dataset_version"]
    facts = of_step(there, "ingest")["facts"]
    assert facts["job"].startswith("shop-project:US.llmops-")
    assert facts["billed_bytes"] == fake.billed == 2 * 10 * 1024 * 1024
    assert of_step(there, "ingest")["outputs"]["rows"]["uri"].startswith("gs://")

    again = api.run(in_the_cloud, limit=300)
    assert {step["status"] for step in again.record["steps"]} == {"cached"}
    assert len(fake.jobs) == 1
    assert cli.main(["plan", *in_the_cloud, "--limit", "300", "--json"]) == 0
    assert {step["status"] for step in json.loads(capsys.readouterr().out)["steps"]} == {"cached"}


def test_without_credentials_nothing_runs_and_the_ways_are_named(
    in_the_cloud, monkeypatch, tmp_path, capsys
):
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    assert cli.main(["run", *in_the_cloud]) == 5
    said = capsys.readouterr().err
    assert "no credentials for Google Cloud" in said
    assert "gcloud auth application-default login" in said
    assert not (tmp_path / "runs").exists()
