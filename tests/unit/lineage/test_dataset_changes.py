"""Which earlier run a run's data is compared with, and how many records that takes."""

from __future__ import annotations

import pytest

from llmops.lineage import datasets


def run(version, status="succeeded", changes=None):
    return {"dataset_version": version, "status": status, "dataset_changes": changes}


@pytest.fixture
def compared(monkeypatch):
    """The comparison of two versions' rows, which other tests look at."""
    monkeypatch.setattr(
        datasets, "_compared", lambda known, record, store: {"before": known["dataset_version"]}
    )


@pytest.mark.usefixtures("compared")
@pytest.mark.parametrize(
    ("version", "earlier", "told", "read"),
    [
        (None, [run("v1"), run(None)], None, 0),
        ("v1", [], None, 0),
        ("v1", [run("v1"), run("v0")], None, 1),
        ("v1", [run("v1", "refused", {"before": "v0"}), run("v1")], {"before": "v0"}, 1),
        ("v1", [run("v1", "running"), run("v1", changes={"before": "v0"})], {"before": "v0"}, 2),
        ("v1", [run(None, "failed"), run("v0"), run("v1")], {"before": "v0"}, 2),
    ],
)
def test_only_the_records_that_it_takes_are_read(version, earlier, told, read):
    records = iter(earlier)
    assert datasets.changes({"dataset_version": version}, records, store=None) == told
    assert len(list(records)) == len(earlier) - read
