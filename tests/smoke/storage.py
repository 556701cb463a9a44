"""Cloud Storage: objects by digest, two writers, leases; what is written is removed again."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

from llmops.adapters.catalog import adapter
from llmops.adapters.store.bucket import BucketStore
from tests.smoke.check import Check, Place

COSTS = "a few writes of some bytes"


@contextlib.contextmanager
def stores(place: Place) -> Iterator[list[BucketStore]]:
    """Open one fresh prefix of the bucket from two workspaces, and empty it at the end."""
    prefix = f"llmops-smoke/{uuid.uuid4().hex}"
    bucket = place.environment["bucket"]
    config = {"kind": "gcs", "bucket": bucket, "prefix": prefix, "lease_s": 10}
    opened: list[BucketStore] = []
    for name in ("one", "two"):
        workspace = place.folder / prefix / name
        workspace.mkdir(parents=True)
        opened.append(adapter("store", config, workspace, environment=place.environment))
    try:
        yield opened
    finally:
        for blob in list(opened[0].blobs.list("")):
            opened[0].blobs.delete(blob.name)


def handed_over(place: Place) -> str:
    with stores(place) as (one, two):
        artifact = one.put_text('"hello"')
        assert two.local_path(artifact).read_text() == '"hello"'
        return artifact.uri


def two_writers(place: Place) -> str:
    with stores(place) as (one, two):
        wins = [one.blobs.create("name", b"1"), two.blobs.create("name", b"2")]
        assert wins == [True, False], wins
        assert two.blobs.read("name") == b"1"
        return "the first"


def leases(place: Place) -> str:
    with stores(place) as (one, two):
        for store in (one, two, one):
            with store.lock("key"):
                pass
        names = [blob.name for blob in one.blobs.list("locks/")]
        assert names == ["locks/key/00000003.json"], names
        return "three holders, one lease left"


CHECKS = (
    Check("what one workspace writes another reads by its digest", handed_over, COSTS),
    Check("of two writers of one name the first wins", two_writers, COSTS),
    Check("a step's lease goes from hand to hand", leases, COSTS),
)
