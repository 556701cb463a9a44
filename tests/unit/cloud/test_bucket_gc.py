"""``runs gc`` where the store is a bucket of Cloud Storage that two workspaces share."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import yaml

from llmops import api
from llmops.adapters import catalog
from llmops.adapters.registry.files import FileRegistry
from llmops.errors import BackendError, DamagedObject
from llmops.lineage.lock import lock_content, lock_path
from llmops.ports.model import ModelReference
from llmops.processes import this_process
from tests.fakes.many_runs import record, step_with, write_run
from tests.fakes.storage import storage


@pytest.fixture(scope="module")
def cloud():
    with storage() as opened:
        yield opened


@pytest.fixture
def config(cloud, tmp_path):
    cloud.server.faults.clear()
    store = {"kind": "gcs", "bucket": f"gs://{cloud.bucket()}", "prefix": "p", "lease_s": 2.0}
    return {"store": store, "env": cloud.environment(tmp_path)}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    folder = tmp_path / "ours"
    folder.mkdir()
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(folder))
    return folder


@pytest.fixture
def store(config, workspace):
    return catalog.open_store(config, workspace)


def made(workspace, store, config, number):
    """Make a run with one step of its own in the bucket; return its folder and object."""
    step = step_with(store, f"{number:064}", f"run {number}".encode())
    run = record(number, steps=[step])
    store.write_report(run["run_id"], "s", {"status": "done", "outputs": step["outputs"]})
    folder = write_run(workspace, run)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder, step["outputs"]["out"]["sha256"]


def has(store, sha256):
    try:
        store.find(sha256)
    except DamagedObject:
        return False
    return True


def test_only_what_nothing_kept_reaches_goes_and_a_dry_run_says_it_first(workspace, store, config):
    old, gone = made(workspace, store, config, 0)
    _, kept = made(workspace, store, config, 1)
    orphan = step_with(store, "f" * 64, b"nobody's")["outputs"]["out"]["sha256"]
    said = api.gc(keep=1, grace_hours=0, dry_run=True)
    assert set(said.garbage.objects) == {gone, orphan}
    assert has(store, gone)
    assert has(store, orphan)
    assert old.exists()
    done = api.gc(keep=1, grace_hours=0)
    assert done.garbage == said.garbage
    assert not old.exists()
    assert not has(store, gone)
    assert not has(store, orphan)
    assert store.entry("f" * 64) is None
    assert store.reported_runs() == [record(1)["run_id"]]
    assert has(store, kept)
    assert store.entry(f"{1:064}") is not None
    assert api.gc(keep=1, grace_hours=0).garbage.objects == ()


def test_what_was_written_lately_stays(workspace, store, config):
    made(workspace, store, config, 1)
    late = step_with(store, "e" * 64, b"not named yet")["outputs"]["out"]["sha256"]
    assert api.gc().garbage.objects == ()
    assert api.gc(grace_hours=0).garbage.objects == (late,)


def test_a_lock_a_model_and_another_workspace_keep_what_they_need(workspace, store, config):
    locked, _ = made(workspace, store, config, 0)
    run = {**record(0), "steps": [], "metrics": None, "git": {}}
    lock_path(workspace, "so_python").write_text(yaml.safe_dump(lock_content(run)))
    weights = step_with(store, "a" * 64, b"weights")["outputs"]["out"]["sha256"]
    registry = FileRegistry(workspace / ".llmops" / "registry")
    registry.register("m", ModelReference("local", "b", adapter=weights), labels={}, run_id="x")
    theirs = step_with(store, "d" * 64, b"theirs")
    report = {"outputs": theirs["outputs"], "key": "d" * 64}
    store.write_report("20261101-000000-aaaa", "s", report)
    made(workspace, store, config, 1)
    done = api.gc(keep=1, grace_hours=0)
    assert done.garbage.objects == ()
    assert done.foreign_runs == 1
    assert locked.exists()
    assert has(store, weights)
    assert has(store, theirs["outputs"]["out"]["sha256"])


def test_a_bucket_that_refuses_is_told_as_such_and_the_next_time_goes_on(
    cloud, workspace, store, config
):
    made(workspace, store, config, 1)
    orphan = step_with(store, "f" * 64, b"nobody's")["outputs"]["out"]["sha256"]
    cloud.server.faults.refuse(403, method="DELETE", times=50)
    with pytest.raises(BackendError):
        api.gc(grace_hours=0)
    assert has(store, orphan)
    cloud.server.faults.clear()
    api.gc(grace_hours=0)
    assert not has(store, orphan)


def test_what_was_written_since_a_working_run_began_stays(workspace, store, config):
    began = datetime.now(UTC).isoformat()
    folder = write_run(
        workspace, record(7, status="running", started=began, process=this_process(), steps=[])
    )
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    unnamed = step_with(store, "e" * 64, b"of the working run")["outputs"]["out"]["sha256"]
    assert api.gc(keep=0, grace_hours=0).garbage.objects == ()
    assert folder.exists()
    assert has(store, unnamed)
