"""The store in a bucket, over a bucket in memory: what is asked of it, and what is kept here."""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmops.adapters.store.bucket import BucketStore, copies
from llmops.errors import BackendError, DamagedObject
from llmops.files import owner
from llmops.ports.store import IndexEntry, StoredObject
from tests.fakes.blobs import MemoryBlobs

KEY = "ab" * 32
TEXT = '"hello"'
SHA256 = "5aa762ae383fbb727af3c7a36d4940a5b8c40a989452d2304fc958ff3f354e7a"
OBJECT = f"objects/5a/{SHA256}"


@pytest.fixture
def blobs():
    return MemoryBlobs()


@pytest.fixture
def store(blobs, tmp_path):
    return BucketStore(blobs, tmp_path / "here", lease_s=5)


@pytest.fixture
def elsewhere(blobs, tmp_path):
    return BucketStore(blobs, tmp_path / "elsewhere", lease_s=5)


def model(store):
    folder = store.temporary() / "model"
    folder.mkdir()
    (folder / "a").write_text("one")
    (folder / "b").write_text("two")
    return store.put(folder, "folder")


def refusing(number):
    def refuse(*args, **options):
        raise OSError(number, os.strerror(number), "the/file")

    return refuse


def entry(**outputs):
    return IndexEntry(KEY, "s", "kind", 1, {}, {}, {}, outputs, {}, "run", 0.5)


# --------------------------------------------------------------------- publishing


def test_a_text_lies_under_its_digest_with_a_reference_and_a_copy_here(store, blobs, tmp_path):
    artifact = store.put_text(TEXT)
    assert (artifact.sha256, artifact.bytes, artifact.kind) == (SHA256, len(TEXT), "json")
    assert artifact.uri == f"memory://bucket/{OBJECT}"
    assert blobs.objects == {
        OBJECT: TEXT.encode(),
        f"refs/{SHA256}.json": artifact.to_json().encode(),
    }
    assert copies(tmp_path / "here", blobs.uri).object_path(SHA256).read_text() == TEXT
    assert store.reference_uri(artifact) == f"memory://bucket/refs/{SHA256}.json"
    assert store.find(SHA256) == artifact


def test_nothing_temporary_stays_of_a_text(store):
    store.put_text(TEXT)
    assert list((store.here.root / "tmp").iterdir()) == []


@pytest.mark.usefixtures("ascii_locale")
def test_a_text_is_utf_8_whatever_the_locale(store, blobs):
    artifact = store.put_text('"ä"')
    assert blobs.read(f"objects/{artifact.sha256[:2]}/{artifact.sha256}") == '"ä"'.encode()


def test_what_is_known_already_is_told_though_its_temporary_folder_stays(
    store, elsewhere, monkeypatch
):
    (store.scratch(KEY) / "checkpoint").write_text("1")
    store.keep(KEY, store.scratch(KEY) / "checkpoint")
    monkeypatch.setattr(os, "rmdir", refusing(errno.EBUSY))
    assert store.put_text(TEXT).sha256 == SHA256
    assert store.intact(SHA256)
    assert (elsewhere.scratch(KEY) / "checkpoint").read_text() == "1"


@pytest.mark.parametrize(
    ("refused", "operation"),
    [
        ("write_text", lambda store: store.put_text('"another"')),
        ("chmod", lambda store: store.local_path(store.find(SHA256))),
        ("rename", lambda store: store.scratch(KEY)),
        ("open", lambda store: store.intact(SHA256)),
    ],
)
def test_what_this_machine_refuses_is_told_with_its_workspace(
    store, elsewhere, monkeypatch, refused, operation
):
    store.put_text(TEXT)
    (store.scratch(KEY) / "checkpoint").write_text("1")
    store.keep(KEY, store.scratch(KEY) / "checkpoint")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=5_000_000))
    monkeypatch.setattr(Path, refused, refusing(errno.EIO))
    with pytest.raises(BackendError) as told:
        operation(elsewhere)
    monkeypatch.undo()
    assert list((elsewhere.here.root / "tmp").iterdir()) == []
    assert told.value.problem == "Input/output error: the/file"
    assert re.fullmatch(
        f"{elsewhere.here.root}/tmp/{owner()}-[^/]* has 5 MB free; "
        "make room, allow writing there, or set LLMOPS_WORKSPACE",
        told.value.hint,
    )


def test_copies_of_two_buckets_lie_apart(tmp_path):
    assert copies(tmp_path, "memory://a").root != copies(tmp_path, "memory://b").root
    assert copies(tmp_path, "memory://a").root == (
        tmp_path / ".llmops" / "fetched" / "f59b39f4f70063d1"
    )


def test_the_manifest_of_a_folder_is_written_after_its_files(store, blobs):
    artifact = model(store)
    names = [name for name in blobs.objects if name.startswith("objects/")]
    assert names[-1].endswith(artifact.sha256)
    assert len(names) == 3
    assert store.parts(artifact) == {name.rpartition("/")[2] for name in names}


def test_rows_are_told_in_the_reference(store):
    path = store.temporary() / "rows"
    path.write_text("1 2")
    assert store.find(store.put(path, "parquet", rows=2).sha256).rows == 2


def test_an_object_of_another_size_is_damaged_and_made_again(store, elsewhere, blobs):
    store.put_text(TEXT)
    blobs.objects[OBJECT] = b"hal"
    elsewhere.put_text(TEXT)
    assert blobs.objects[OBJECT] == TEXT.encode()


def test_an_object_that_is_there_is_not_written_again(store, elsewhere, blobs):
    store.put_text(TEXT)
    blobs.upload = None  # whoever calls it fails
    elsewhere.put_text(TEXT)


@pytest.mark.parametrize(("theirs", "whole"), [(TEXT.encode(), True), (b"ha", False)])
def test_an_object_that_another_worker_writes_meanwhile_must_be_whole(store, blobs, theirs, whole):
    upload = blobs.upload

    def beaten(name, path, *, replace=False):
        assert not replace
        blobs.write(name, theirs)
        return upload(name, path, replace=replace)

    blobs.upload = beaten
    if whole:
        store.put_text(TEXT)
        return
    with pytest.raises(BackendError) as told:
        store.put_text(TEXT)
    assert told.value.problem == (
        "object 5aa762ae383f was written by another worker, and not whole"
    )
    assert told.value.hint == "run it again"
    assert told.value.retryable


# ------------------------------------------------------------------------ reading


def test_what_one_workspace_put_another_fetches_once(store, elsewhere, blobs):
    artifacts = store.put_text(TEXT), model(store)
    assert elsewhere.local_path(artifacts[0]).read_text() == TEXT
    fetched = elsewhere.local_path(artifacts[1])
    assert {path.name: path.read_text() for path in fetched.iterdir()} == {"a": "one", "b": "two"}
    blobs.download = None
    assert elsewhere.local_path(artifacts[0]).read_text() == TEXT
    assert elsewhere.local_path(artifacts[0]).stat().st_mode & 0o777 == 0o444
    assert list((elsewhere.here.root / "tmp").iterdir()) == []


def test_a_damaged_copy_here_is_set_aside_and_fetched_again(store):
    artifact = store.put_text(TEXT)
    path = store.here.object_path(SHA256)
    path.chmod(0o644)
    path.write_text("damaged")
    assert store.local_path(artifact).read_text() == TEXT
    assert path.with_suffix(".bad").read_text() == "damaged"


def test_a_damaged_object_is_set_aside_in_the_bucket(store, elsewhere, blobs):
    artifact = store.put_text(TEXT)
    blobs.objects[OBJECT] = b"damaged"
    with pytest.raises(DamagedObject) as told:
        elsewhere.local_path(artifact)
    assert told.value.problem == (
        f"object 5aa762ae383f is damaged; it was set aside as {SHA256}.bad"
    )
    assert told.value.hint == ("run the experiment again: the step that made it makes it anew")
    assert blobs.objects[f"{OBJECT}.bad"] == b"damaged"
    assert OBJECT not in blobs.objects
    assert list((elsewhere.here.root / "tmp").iterdir()) == []


def test_a_lost_object_is_told(store, elsewhere, blobs):
    artifact = store.put_text(TEXT)
    blobs.delete(OBJECT)
    with pytest.raises(DamagedObject) as told:
        elsewhere.local_path(artifact)
    assert told.value.problem == "the store has lost object 5aa762ae383f"
    assert told.value.hint == "run the experiment again"


@pytest.mark.parametrize("reference", [None, b"", b"no JSON", b"[]", b'{"uri": "x"}'])
def test_a_reference_that_is_gone_or_torn_names_no_object(store, blobs, reference):
    store.put_text(TEXT)
    blobs.delete(f"refs/{SHA256}.json")
    if reference is not None:
        blobs.write(f"refs/{SHA256}.json", reference)
    with pytest.raises(DamagedObject) as told:
        store.find(SHA256)
    assert told.value.problem == "the store has no object 5aa762ae383f"
    assert told.value.hint == "run the experiment again"


# -------------------------------------------------------------------------- index


def test_an_entry_counts_while_its_objects_are_there_in_the_right_size(store, blobs):
    made = entry(text=store.put_text(TEXT), model=model(store))
    store.record(made)
    assert store.entry(KEY) == made
    for name in [name for name in blobs.objects if name.startswith("objects/")]:
        whole = blobs.objects[name]
        blobs.objects[name] = whole[:-1]
        assert store.entry(KEY) is None, name
        blobs.delete(name)
        assert store.entry(KEY) is None, name
        blobs.write(name, whole)
    assert store.entry(KEY) == made


def test_an_unknown_key_has_no_entry(store):
    assert store.entry(KEY) is None


@pytest.mark.parametrize("manifest", [b"", b"torn", b"[]", b"5", b'{"files": []}', b"{}"])
def test_a_folder_with_a_torn_or_empty_manifest_is_not_there(store, blobs, manifest):
    artifact = model(store)
    assert store.has(artifact)
    blobs.objects[f"objects/{artifact.sha256[:2]}/{artifact.sha256}"] = manifest
    assert not store.has(artifact)
    assert store.parts(artifact) == {artifact.sha256}


def test_an_entry_is_plain_sorted_json(store, blobs):
    store.record(entry())
    assert (
        blobs.objects[f"index/{KEY}.json"].decode()
        == f"""\
{{
 "facts": {{}},
 "inputs": {{}},
 "key": "{KEY}",
 "kind": "kind",
 "outputs": {{}},
 "revision": 1,
 "run_id": "run",
 "seconds": 0.5,
 "settings": {{}},
 "source": {{}},
 "step": "s"
}}"""
    )


def test_an_entry_with_a_number_that_json_has_not_is_a_bug_and_not_written(store, blobs):
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.record(replace(entry(), facts={"loss": math.nan}))
    assert blobs.objects == {}


def test_a_torn_entry_is_listed_as_such_and_as_nothing_else(store, blobs):
    store.record(entry())
    blobs.write("index/torn.json", b'{"key": ')
    blobs.write("index/another.json", b"")
    assert list(store.entries()) == [entry()]
    assert store.unreadable_entries() == ["another", "torn"]
    assert store.entry("torn") is None


def test_a_worker_whose_key_was_taken_over_records_nothing(store, blobs):
    with store.lock(KEY):
        store.record(entry())
        blobs.write(f"locks/{KEY}/00000002.json", b"{}")
        blobs.delete(f"index/{KEY}.json")
        with pytest.raises(BackendError, match="took over"):
            store.record(entry())
    assert store.entry(KEY) is None
    store.record(entry())  # outside of the lock nobody else is asked
    assert store.entry(KEY) == entry()


def test_a_lock_is_let_go_of_when_the_work_fails(store, elsewhere):
    with pytest.raises(ZeroDivisionError), store.lock(KEY):
        raise ZeroDivisionError
    with elsewhere.lock(KEY):
        pass


# ---------------------------------------------------------- reports and removing


def test_reports_come_back_by_run_and_step_and_torn_ones_are_left_out(store, blobs):
    store.write_report("run-1", "a", {"status": "done"})
    store.write_report("run-2", "b", {"status": "failed"})
    blobs.write("runs/run-1/torn.json", b"{")
    assert blobs.read("runs/run-1/a.json") == b'{\n "status": "done"\n}'
    assert store.read_report("run-1", "a") == {"status": "done"}
    assert store.read_report("run-1", "b") is None
    assert store.reported_runs() == ["run-1", "run-2"]
    assert store.reports("run-1") == {"a": {"status": "done"}}
    assert store.reports("run") == {}
    store.remove_reports("run")  # the beginning of two names is none of them
    store.remove_reports("run-1")
    assert store.reported_runs() == ["run-2"]


def test_objects_are_listed_without_what_was_set_aside(store, blobs):
    store.put_text(TEXT)
    moment = blobs.moments[OBJECT]
    assert list(store.objects()) == [StoredObject(SHA256, len(TEXT), moment)]
    store.set_aside(SHA256)
    assert list(store.objects()) == []
    assert blobs.objects[f"{OBJECT}.bad"] == TEXT.encode()


def test_an_object_is_removed_with_its_reference_and_its_copy(store, blobs):
    store.put_text(TEXT)
    store.remove_object(SHA256)
    assert blobs.objects == {}
    assert not store.here.object_path(SHA256).exists()


def test_a_removed_entry_is_forgotten(store):
    store.record(entry())
    store.remove_entry(KEY)
    assert store.entry(KEY) is None


def test_only_bytes_that_are_what_their_name_says_are_intact(store, blobs):
    store.put_text(TEXT)
    assert store.intact(SHA256)
    blobs.objects[OBJECT] = b"damaged"
    assert not store.intact(SHA256)
    blobs.delete(OBJECT)
    assert not store.intact(SHA256)
    assert list((store.here.root / "tmp").iterdir()) == []


def test_scratch_and_temporary_folders_are_those_of_this_machine(store, elsewhere):
    (store.scratch(KEY) / "checkpoint").write_text("1")
    assert not (elsewhere.scratch(KEY) / "checkpoint").exists()
    assert (store.scratch(KEY) / "checkpoint").exists()
    store.clear_scratch(KEY)
    assert not (store.scratch(KEY) / "checkpoint").exists()
    mine = store.temporary()
    store.clear_temporary()
    assert mine.exists()


def test_what_was_kept_of_a_step_is_there_for_a_worker_on_another_machine(store, elsewhere, blobs):
    (store.scratch(KEY) / "checkpoint").write_text("1")
    store.keep(KEY, store.scratch(KEY) / "checkpoint")
    assert (elsewhere.scratch(KEY) / "checkpoint").read_text() == "1"
    (elsewhere.scratch(KEY) / "checkpoint").write_text("2")
    assert (elsewhere.scratch(KEY) / "checkpoint").read_text() == "2"  # its own is newer
    elsewhere.keep(KEY, elsewhere.scratch(KEY) / "checkpoint")
    assert blobs.objects == {f"scratch/{KEY}/checkpoint": b"2"}
    elsewhere.clear_scratch(KEY)
    assert blobs.objects == {}
    assert list(elsewhere.scratch(KEY).iterdir()) == []


def test_what_was_kept_and_is_removed_while_it_is_fetched_is_not_there(store, elsewhere, blobs):
    (store.scratch(KEY) / "checkpoint").write_text("1")
    store.keep(KEY, store.scratch(KEY) / "checkpoint")
    blobs.download = lambda name, path: False
    assert list(elsewhere.scratch(KEY).iterdir()) == []
    assert list((elsewhere.here.root / "tmp").iterdir()) == []
