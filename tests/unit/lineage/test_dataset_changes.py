"""Which earlier run a run's data is compared with, and how many records that takes."""

from __future__ import annotations

import pytest

from llmops.lineage import dataset_changes

KEPT = [{"kind": "split", "outputs": {"train": {}, "card": {}}}]
IN_ONE_PASS = [{"kind": "prepare", "outputs": {"files": {}, "card": {}}}]
FOUND = {"before": "v0"}


def run(version, status="succeeded", changes=None, steps=KEPT):
    return {
        "dataset_version": version,
        "status": status,
        "dataset_changes": changes,
        "steps": steps,
    }


@pytest.fixture
def compared(monkeypatch):
    """The comparison of two versions' rows, which other tests look at."""
    monkeypatch.setattr(
        dataset_changes,
        "_compared",
        lambda known, record, store: {"before": known["dataset_version"]},
    )


@pytest.mark.usefixtures("compared")
@pytest.mark.parametrize(
    ("now", "earlier", "told", "read"),
    [
        (run(None), [run("v1"), run(None)], None, 0),
        (run("v1"), [], None, 0),
        (run("v1"), [run("v1"), run("v0")], None, 1),
        (run("v1"), [run("v1", "refused", FOUND), run("v1")], FOUND, 1),
        (run("v1"), [run("v1", "running"), run("v1", changes=FOUND)], FOUND, 2),
        (run("v1"), [run(None, "failed", steps=[]), run("v0"), run("v1")], FOUND, 2),
        (run("v1", steps=IN_ONE_PASS), [run("v0")], None, 0),
        (run("v1"), [run("v2", steps=IN_ONE_PASS), run("v0")], FOUND, 2),
        (run("v1"), [run("v1", steps=IN_ONE_PASS), run("v0")], FOUND, 2),
    ],
)
def test_only_the_records_that_it_takes_are_read(now, earlier, told, read):
    records = iter(earlier)
    assert dataset_changes.changes(now, records, store=None) == told
    assert len(list(records)) == len(earlier) - read
