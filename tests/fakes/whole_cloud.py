"""A whole Google Cloud on loopback: BigQuery, Cloud Storage, Vertex AI with all we use of it.

Pipelines that are submitted run in processes of their own, which reach the rest by address and
with a service account's key, as containers do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from llmops.adapters.catalog import adapter
from tests.fakes.bigquery import bigquery
from tests.fakes.faults import Faults, serve
from tests.fakes.gcs_server import Objects, cloud_storage
from tests.fakes.gemini import Gemini
from tests.fakes.google_evaluation import Evaluation
from tests.fakes.identity import Identity, add_identity, key_file
from tests.fakes.pipelines import Machines
from tests.fakes.vertex_models import VertexModels
from tests.fakes.vertex_pipelines import VertexPipelines
from tests.smoke.check import overrides as given_as_overrides

BUCKET = "shop-bucket"
SAMPLE = {
    "kind": "duckdb",
    "name": "sample",
    "sample": True,
    "memory_limit": "1GB",
    "source": {"title": "docstrings of the Python standard library"},
}

VERDICT = {"score": 5.0, "pairwiseChoice": "TIE", "explanation": "right"}


@dataclass
class WholeCloud:
    """What a test may look at; ``overrides`` lead an experiment here."""

    gemini: Gemini
    models: VertexModels
    pipelines: VertexPipelines
    faults: Faults
    overrides: tuple[str, ...]
    environment: Mapping[str, Any]


@contextlib.contextmanager
def whole_cloud(folder: Path) -> Iterator[WholeCloud]:
    """Serve everything until the block ends; BigQuery holds the built-in sample."""
    folder.mkdir()
    identity, gemini, models = Identity(), Gemini(), VertexModels()
    machines = Machines(folder / "machines")
    pipelines = VertexPipelines(machines)
    app = FastAPI()
    evaluation = Evaluation(lambda instance, prompt: VERDICT)
    for service in (pipelines, models, evaluation, gemini):  # the last takes all
        app.include_router(service.router())
    add_identity(app, identity)
    warehouse = adapter("warehouse", SAMPLE, folder)
    rows = bigquery(warehouse, identity=identity)
    with cloud_storage() as storage, serve(app) as vertex, serve(rows) as query:
        gemini.files = Objects(storage, BUCKET)
        key = key_file(folder, vertex.url)
        machines.environment = {
            "GOOGLE_APPLICATION_CREDENTIALS": str(key),
            "STORAGE_EMULATOR_HOST": storage,  # a task reads its config before it knows `env`
        }
        environment = {
            "name": "test",
            "project": "shop-project",
            "region": "us-central1",
            "bucket": f"gs://{BUCKET}",
            "budget": None,
            "credentials": {"kind": "service_account_file", "file": str(key)},
            "endpoints": {"vertex": vertex.url, "storage": storage, "bigquery": query.url},
        }
        overrides = tuple(given_as_overrides(environment))
        try:
            yield WholeCloud(gemini, models, pipelines, vertex.faults, overrides, environment)
        finally:
            machines.stop()
