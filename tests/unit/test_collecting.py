"""``runs gc``: what nothing needs goes, and nothing else."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from llmops import api
from llmops.adapters.model.answers import Answer, Kept
from llmops.adapters.registry.files import FileRegistry
from llmops.adapters.store.folder import FolderStore
from llmops.errors import BackendError, ConfigError, DamagedObject
from llmops.lineage.catalogue import tag
from llmops.lineage.lock import lock_content, lock_path
from llmops.lineage.run_folder import RunFolder
from llmops.ports.model import ModelReference
from llmops.processes import this_process
from tests.fakes.many_runs import record, step_with, write_run

DAY = 86400


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    return tmp_path


@pytest.fixture
def store(workspace):
    return FolderStore(workspace / ".llmops" / "store", uri=".llmops/store")


def made(workspace, store, number, **fields):
    """Make a run with one step of its own, and let all of it be two days old."""
    step = step_with(store, f"{number:064}", f"run {number}".encode())
    run = record(number, steps=[step], **fields)
    store.write_report(run["run_id"], "s", {"status": "done", "outputs": step["outputs"]})
    age(store)
    return write_run(workspace, run), step["outputs"]["out"]["sha256"]


def age(store):
    for path in (store.root / "objects").glob("??/*"):
        os.utime(path, (time.time() - 2 * DAY,) * 2)


def has(store, sha256):
    try:
        store.find(sha256)
    except DamagedObject:
        return False
    return True


def test_without_a_run_to_forget_only_what_nothing_names_goes(workspace, store):
    _, kept = made(workspace, store, 1)
    orphan = step_with(store, "f" * 64, b"nobody's")["outputs"]["out"]["sha256"]
    age(store)
    done = api.gc()
    assert done.garbage.objects == (orphan,)
    assert has(store, kept)
    assert store.entry(f"{1:064}") is not None
    assert store.entry("f" * 64) is None
    assert done.garbage.bytes == len(b"nobody's")


def test_a_dry_run_says_the_same_and_removes_nothing(workspace, store):
    made(workspace, store, 1)
    folder, gone = made(workspace, store, 0)
    said = api.gc(keep=1, dry_run=True)
    assert folder.exists()
    assert has(store, gone)
    assert api.gc(keep=1).garbage == said.garbage
    assert not folder.exists()
    assert not has(store, gone)
    assert api.gc().garbage.objects == ()


def test_the_newest_of_each_experiment_and_young_ones_stay(workspace, store):
    now = time.time()

    def run(number, days, **fields):
        began = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(now - days * DAY))
        return made(workspace, store, number, started=began, **fields)[0]

    old, young, newest = run(0, 30), run(1, 3), run(2, 1)
    other = run(3, 30, experiment="other")
    api.gc(keep=1, older_than_days=7)
    assert [one.exists() for one in (old, young, newest, other)] == [False, True, True, True]


@pytest.mark.parametrize("why", ["tag", "lock", "model", "working", "sweep"])
def test_what_somebody_needs_stays(workspace, store, why):
    fields = {"status": "running", "process": this_process()} if why == "working" else {}
    folder, sha256 = made(workspace, store, 0, **fields)
    made(workspace, store, 5)
    run_id = folder.name
    if why == "tag":
        api.tag_run(run_id, add=["paper"])
    if why == "lock":
        run = {**record(0), "steps": [], "metrics": None, "git": {}}
        lock_path(workspace, "so_python").write_text(yaml.safe_dump(lock_content(run)))
    if why == "model":
        registry = FileRegistry(workspace / ".llmops" / "registry")
        model = ModelReference("local", "base", adapter=sha256)
        registry.register("m", model, labels={}, run_id=run_id)
    if why == "sweep":
        sweep = workspace / "runs" / "sweeps" / "s-1"
        sweep.mkdir(parents=True)
        (sweep / "sweep.json").write_text(f'{{"final": {{"run_id": "{run_id}"}}}}')
    api.gc(keep=1)
    assert folder.exists()
    assert has(store, sha256)


def test_a_model_keeps_its_weights_though_its_run_was_removed_by_hand(workspace, store):
    import shutil

    folder, sha256 = made(workspace, store, 0)
    made(workspace, store, 1)
    registry = FileRegistry(workspace / ".llmops" / "registry")
    registry.register("m", ModelReference("local", "b", adapter=sha256), labels={}, run_id="x")
    shutil.rmtree(folder)
    api.gc()
    assert has(store, sha256)
    registry.delete("m", 1, reason="tidy")
    api.gc()
    assert not has(store, sha256)


def test_what_was_written_lately_stays(workspace, store):
    made(workspace, store, 1)
    late = step_with(store, "e" * 64, b"not named yet")["outputs"]["out"]["sha256"]
    assert api.gc().garbage.objects == ()
    assert api.gc(grace_hours=0).garbage.objects == (late,)


def test_what_was_written_since_a_working_run_began_stays(workspace, store):
    began = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - 3 * DAY))
    write_run(workspace, record(7, status="running", started=began, process=this_process()))
    sha256 = step_with(store, "e" * 64, b"of the working run")["outputs"]["out"]["sha256"]
    age(store)
    api.gc()
    assert has(store, sha256)


def test_a_corrupt_run_keeps_what_it_reported(workspace, store):
    folder, sha256 = made(workspace, store, 0)
    made(workspace, store, 1)
    (folder / "run.json").write_text("{")
    done = api.gc(keep=1)
    assert done.corrupt == (folder.name,)
    assert folder.exists()
    assert has(store, sha256)


def test_a_store_outside_the_workspace_keeps_what_other_workspaces_made(
    workspace, tmp_path_factory
):
    root = tmp_path_factory.mktemp("shared") / "store"
    store = FolderStore(root, uri=str(root))
    folder, _ = made(workspace, store, 1)
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"store": {"kind": "folder", "path": str(root)}})
    )
    step = step_with(store, "d" * 64, b"theirs")
    store.write_report("20261101-000000-aaaa", "s", {"outputs": step["outputs"], "key": "d" * 64})
    age(store)
    done = api.gc()
    assert done.foreign_runs == 1
    assert has(store, step["outputs"]["out"]["sha256"])


def test_a_lock_that_cannot_be_read_stops_it(workspace, store):
    _, _ = made(workspace, store, 1)
    lock_path(workspace, "so_python").write_text("nothing")
    with pytest.raises(ConfigError, match="nothing was removed"):
        api.gc(keep=0)


def test_a_negative_number_is_refused(workspace):
    with pytest.raises(ConfigError):
        api.gc(keep=-1)


def test_answers_that_nothing_used_for_so_long_go_and_others_stay(workspace, store):
    kept = Kept(workspace / ".llmops" / "answers.sqlite")
    kept.keep({name: Answer([["user", name]], {"text": name}) for name in ("old", "new")})
    with closing(sqlite3.connect(kept.path)) as connection, connection:
        connection.execute("UPDATE kept SET used = '2020-01-01' WHERE key = 'old'")
    assert api.gc(keep=1).answers == 0
    assert api.gc(older_than_days=30, dry_run=True).answers == 1
    assert set(kept.find(["old", "new"])) == {"old", "new"}  # and "old" is of use again
    assert api.gc(older_than_days=30).answers == 0
    with closing(sqlite3.connect(kept.path)) as connection, connection:
        connection.execute("UPDATE kept SET used = '2020-01-01' WHERE key = 'old'")
    assert api.gc(older_than_days=30).answers == 1
    assert set(kept.find(["old", "new"])) == {"new"}


def begun(workspace, hours_ago):
    """Make the folder of a run that was killed before it had a record."""
    folder = workspace / "runs" / "so_python" / "20261120-101502-7b1e"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("name: so_python\n")
    for path in (folder / "config.yaml", folder):
        os.utime(path, (time.time() - hours_ago * 3600,) * 2)
    return folder


def test_a_run_that_was_killed_before_it_had_a_record_goes_once_it_is_old(workspace, store):
    folder = begun(workspace, hours_ago=2)
    assert api.gc(dry_run=True).runs == (folder.name,)
    assert folder.exists()
    assert api.gc().runs == (folder.name,)
    assert not folder.exists()


@pytest.mark.parametrize(("hours_ago", "grace_hours"), [(0.5, 1.0), (0.01, 0.0)])
def test_a_run_that_has_just_begun_stays(workspace, store, hours_ago, grace_hours):
    folder = begun(workspace, hours_ago)
    assert api.gc(grace_hours=grace_hours).runs == ()
    assert folder.exists()


def test_a_record_or_tags_that_the_system_refuses_to_read_stop_it(workspace, store, monkeypatch):
    folder, sha256 = made(workspace, store, 1)
    tag(RunFolder(folder), ["kept"], [])
    for name in ("run.json", "tags.json"):
        with monkeypatch.context() as patched:
            patched.setattr(Path, "read_bytes", _refusing(name))
            with pytest.raises(BackendError, match="Too many open files"):
                api.gc(keep=0)
    assert folder.exists()
    assert has(store, sha256)
    assert [row.tags for row in api.run_rows()] == [("kept",)]


def _refusing(name):
    read = Path.read_bytes

    def refuse(path):
        if path.name == name:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        return read(path)

    return refuse
