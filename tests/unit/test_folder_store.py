"""What the store in a folder does beyond the contract of all stores."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from llmops.adapters.store.folder import FolderStore
from llmops.artifacts import canonical_json
from llmops.errors import BackendError, DamagedObject
from llmops.ports.store import IndexEntry

KEY = "ab" * 32


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "store")


def done(store):
    artifact = store.put_text('"out"')
    store.record(IndexEntry(KEY, "s", "s", 1, {}, {}, {}, {"out": artifact}, {}, "run", 0.0))
    return artifact


def folder_in(store):
    made = store.temporary() / "model"
    made.mkdir()
    (made / "weights").write_text("1 2 3")
    return store.put(made, "folder")


def refusing(number):
    def refuse(*args, **options):
        raise OSError(number, os.strerror(number), "the/file")

    return refuse


def test_what_a_killed_process_left_of_a_done_step_is_cleared(store):
    (store.scratch(KEY) / "part").write_text("half")
    done(store)
    store.clear_temporary()
    assert list((store.root / "scratch").iterdir()) == []


def test_what_a_step_that_is_not_done_has_reached_stays(store):
    (store.scratch(KEY) / "checkpoint").write_text("half")
    store.clear_temporary()
    assert (store.scratch(KEY) / "checkpoint").exists()


def test_what_a_step_works_with_that_is_done_again_stays(store):
    (store.scratch(KEY) / "checkpoint").write_text("half")
    done(store)
    with store.lock(KEY):
        store.clear_temporary()
    assert (store.scratch(KEY) / "checkpoint").exists()


@pytest.mark.parametrize("manifest", ["", "no JSON", "[]", '{"files": [{}]}', '{"files": 5}'])
def test_a_folder_whose_manifest_is_torn_is_not_there(store, manifest):
    artifact = folder_in(store)
    assert store.has(artifact)
    path = store.object_path(artifact.sha256)
    path.chmod(0o644)
    path.write_text(manifest)
    assert not store.has(artifact)


def test_a_system_that_refuses_does_not_make_an_object_absent(store, monkeypatch):
    artifact, model = done(store), folder_in(store)
    monkeypatch.setattr(Path, "read_bytes", refusing(errno.EMFILE))
    monkeypatch.setattr(Path, "read_text", refusing(errno.EMFILE))
    for look in (
        lambda: store.find(artifact.sha256),
        lambda: store.has(model),
        lambda: store.entry(KEY),
    ):
        with pytest.raises(BackendError, match="Too many open files"):
            look()


def test_a_folder_that_cannot_be_put_in_its_place_is_told(store, monkeypatch):
    model = folder_in(store)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refusing(errno.EIO))
        with pytest.raises(BackendError, match="Input/output error"):
            store.local_path(model)
    assert (store.local_path(model) / "weights").read_text() == "1 2 3"


def test_a_folder_that_another_process_put_in_its_place_first_is_taken(store, monkeypatch):
    model = folder_in(store)
    rename = Path.rename

    def second(source, target):
        rename(source, target)
        source.mkdir()
        (source / "weights").write_text("1 2 3")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", second)
    assert (store.local_path(model) / "weights").read_text() == "1 2 3"


def test_a_folder_is_laid_out_by_copies_where_there_are_no_links(store, monkeypatch):
    model = folder_in(store)
    monkeypatch.setattr(os, "link", refusing(errno.EXDEV))
    assert (store.local_path(model) / "weights").read_text() == "1 2 3"


@pytest.mark.parametrize("name", ["../outside", "/tmp/llmops-outside", "a/../../outside", ""])
def test_a_folder_never_lays_a_file_outside_of_itself(store, name):
    content = store.put_text("planted")
    files = [{"path": name, "bytes": content.bytes, "sha256": content.sha256}]
    manifest = store.put_text(canonical_json({"files": files}))
    with pytest.raises(DamagedObject, match="names files outside of it"):
        store.local_path(replace(manifest, kind="folder"))
    assert not (store.root / "folders").exists()


@pytest.mark.parametrize(
    "remove",
    [
        lambda store, sha256: store.remove_object(sha256),
        lambda store, sha256: store.remove_reports("run"),
    ],
)
def test_what_cannot_be_removed_is_told(store, monkeypatch, remove):
    model = folder_in(store)
    store.local_path(model)
    store.write_report("run", "s", {})
    monkeypatch.setattr(os, "unlink", refusing(errno.EIO))
    with pytest.raises(BackendError, match="Input/output error"):
        remove(store, model.sha256)
