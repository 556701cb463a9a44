"""Vertex AI Pipelines: the pipeline `hello` is submitted, followed, read, and not repeated."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

from llmops import api
from llmops.adapters.catalog import adapter
from tests.smoke.check import IMAGE, Check, Place, overrides

COSTS = "two containers for a few minutes"


@contextlib.contextmanager
def experiment(place: Place) -> Iterator[list[str]]:
    """Yield the overrides of a run in a fresh workspace and prefix, and empty that at the end."""
    prefix = f"llmops-smoke/{uuid.uuid4().hex}"
    bucket = str(place.environment["bucket"]).rstrip("/")
    workspace = place.folder / prefix
    workspace.mkdir(parents=True)
    store = {"kind": "gcs", "bucket": bucket, "prefix": prefix, "lease_s": 10}
    opened = adapter("store", store, workspace, environment=place.environment)
    try:
        with contextlib.chdir(workspace):
            yield [
                "+experiment=hello",
                "engine=vertex",
                f"engine.image={place.image}",
                f"engine.pipeline_root={bucket}/{prefix}/pipelines",
                f"engine.poll_s={place.poll_s}",
                "store=gcs",
                f"store.prefix={prefix}",
                *overrides(place.environment),
            ]
    finally:
        for blob in list(opened.blobs.list("")):
            opened.blobs.delete(blob.name)


def followed(place: Place) -> str:
    with experiment(place) as wanted:
        record = api.run(wanted).record
        assert record["status"] == "succeeded", record["error"]
        assert [step["status"] for step in record["steps"]] == ["done", "done"]
        (job,) = record["engine"]["jobs"]
        again = api.run(wanted).record
        assert not again["engine"]["started"], again["engine"]
        return str(job["link"])


def attached(place: Place) -> str:
    with experiment(place) as wanted:
        made = api.run(wanted, detach=True)
        assert made.record["status"] == "running", made.record["error"]
        record = api.attach(Path(made.folder).name).record
        assert record["status"] == "succeeded", record["error"]
        return f"one job: {record['engine']['jobs'][0]['name']}"


def image(place: Place) -> str:
    from llmops.engines.vertex import VertexService

    engine = {"pipeline_root": "", "service_account": None}
    service = VertexService({"engine": engine, "env": place.environment})
    found = service.image(place.image)
    assert found.digest, found.unknown
    return found.digest


CHECKS = (
    Check("a run is submitted, followed and read; again, nothing runs", followed, COSTS, IMAGE),
    Check("a run that nobody follows is finished by attaching", attached, COSTS, IMAGE),
    Check("the image's digest is told", image, needs=IMAGE, only_real=True),
)
