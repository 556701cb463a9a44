"""What the store in a folder does beyond the contract of all stores."""

from __future__ import annotations

import errno
import math
import os
import shutil
import socket
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmops.adapters.store.folder import FolderStore, open_store, read_entry
from llmops.artifacts import Artifact, canonical_json
from llmops.errors import BackendError, DamagedObject
from llmops.ports.store import IndexEntry

KEY = "ab" * 32
TEXT = '"hello"'
SHA256 = "5aa762ae383fbb727af3c7a36d4940a5b8c40a989452d2304fc958ff3f354e7a"
NO_PROCESS = 2**22 + 1  # above the highest number that Linux gives


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "store")


def entry(**outputs):
    return IndexEntry(KEY, "s", "kind", 1, {}, {}, {}, outputs, {}, "run", 0.5)


def done(store):
    artifact = store.put_text('"out"')
    store.record(entry(out=artifact))
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


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# ------------------------------------------------------------------ what lies where


def test_a_store_lies_in_the_workspace_and_is_named_as_the_config_does(tmp_path):
    store = open_store({"path": "my/store"}, tmp_path)
    assert (store.root, store.uri) == (tmp_path / "my" / "store", "my/store")
    assert FolderStore(tmp_path).uri == str(tmp_path)


@pytest.mark.parametrize(
    "read", [lambda store: store.read_report("run", "s"), lambda store: store.reports("run")]
)
def test_a_report_that_the_system_refuses_for_now_is_not_taken_for_a_missing_one(
    store, monkeypatch, read
):
    store.write_report("run", "s", {"a": 1})
    monkeypatch.setattr(Path, "read_bytes", refusing(errno.EMFILE))
    with pytest.raises(BackendError, match="Too many open files"):
        read(store)


def test_nothing_temporary_stays_of_a_text_that_is_refused(store, monkeypatch):
    monkeypatch.setattr(Path, "write_text", refusing(errno.ENOSPC))
    with pytest.raises(BackendError, match="No space left on device"):
        store.put_text(TEXT)
    assert list((store.root / "tmp").iterdir()) == []


def test_a_text_lies_under_its_digest_with_a_reference_and_nothing_else(tmp_path):
    store = open_store({"path": "store"}, tmp_path)
    artifact = store.put_text(TEXT)
    assert artifact == Artifact(f"store/objects/5a/{SHA256}", "json", SHA256, len(TEXT))
    assert files_in(store.root) == {f"objects/5a/{SHA256}", f"refs/{SHA256}.json"}
    assert list((store.root / "tmp").iterdir()) == []
    assert store.object_path(SHA256).read_text() == TEXT
    assert store.object_path(SHA256).stat().st_mode & 0o777 == 0o444
    assert (store.root / "refs" / f"{SHA256}.json").read_text() == artifact.to_json()
    assert store.reference_uri(artifact) == f"store/refs/{SHA256}.json"


def test_an_object_that_is_there_whole_is_not_written_again_and_a_torn_one_is(store):
    path = store.object_path(store.put_text(TEXT).sha256)
    before = path.stat().st_ino
    store.put_text(TEXT)
    assert path.stat().st_ino == before
    path.chmod(0o644)
    path.write_text(TEXT[:-1])
    store.put_text(TEXT)
    assert path.read_text() == TEXT


def test_a_folder_is_a_manifest_of_its_files_in_order(store):
    folder = store.temporary() / "folder"
    for name, text in {"c": "three", "a/b/c": "one", "a/d": "two"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    artifact = store.put(folder, "folder")
    digests = {path.read_text(): path.name for path in (store.root / "objects").glob("*/*")}
    manifest = canonical_json(
        {
            "files": [
                {"path": "a/b/c", "bytes": 3, "sha256": digests["one"]},
                {"path": "a/d", "bytes": 3, "sha256": digests["two"]},
                {"path": "c", "bytes": 5, "sha256": digests["three"]},
            ]
        }
    )
    sha256 = digests[manifest]
    assert artifact == store.find(sha256)
    assert artifact == Artifact(f"{store.uri}/objects/{sha256[:2]}/{sha256}", "folder", sha256, 11)
    path = store.local_path(artifact)
    assert path == store.root / "folders" / sha256
    assert files_in(path) == {"a/b/c", "a/d", "c"}
    store.remove_object(sha256)
    assert not path.exists()


def test_an_entry_is_plain_sorted_json(store):
    store.record(entry())
    assert (
        (store.root / "index" / f"{KEY}.json").read_text()
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


def test_an_entry_with_a_number_that_json_has_not_is_a_bug_and_not_written(store):
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.record(replace(entry(), facts={"loss": math.nan}))
    assert not (store.root / "index").exists()


def test_a_report_is_plain_json(store):
    store.write_report("run", "step", {"status": "done"})
    assert (store.root / "runs/run/step.json").read_text() == '{\n "status": "done"\n}'


@pytest.mark.usefixtures("ascii_locale")
def test_everything_is_utf_8_whatever_the_locale(store):
    assert store.object_path(store.put_text('"ä"').sha256).read_bytes() == '"ä"'.encode()
    made = store.temporary() / "model"
    made.mkdir()
    (made / "ä").write_text("1")
    model = store.put(made, "folder")
    assert store.has(model)
    assert len(store.parts(model)) == 2
    assert (store.local_path(model) / "ä").read_text() == "1"
    store.write_report("run", "step", {})
    (store.root / "runs/run/step.json").write_text('{"said": "ä"}', "utf-8")
    assert store.read_report("run", "step") == {"said": "ä"}
    assert store.reports("run") == {"step": {"said": "ä"}}


# --------------------------------------------------------------- what is torn or gone


@pytest.mark.parametrize(
    "torn",
    [
        *(b"", b"{", b"\xff", b"[]", b"5", b"null", b"{}", b'{"outputs": 5}', b'{"outputs": {}}'),
        *(b'{"outputs": {"out": {}}}', b'{"outputs": {"out": 5}}', b'{"outputs": {}, "odd": 1}'),
    ],
)
def test_a_torn_entry_is_none_and_listed_as_unreadable(store, torn):
    store.record(entry())
    for key in ("torn", "another"):
        (store.root / "index" / f"{key}.json").write_bytes(torn)
    (store.root / "index" / ".tmp-half").write_bytes(b"")
    assert read_entry(torn) is None
    assert store.entry("torn") is None
    assert list(store.entries()) == [entry()]
    assert store.unreadable_entries() == ["another", "torn"]


def test_what_is_removed_while_it_is_listed_is_left_out(store):
    done(store)
    store.write_report("run", "step", {"status": "done"})
    store.write_report("run", "torn", {})
    (store.root / "runs/run/torn.json").write_text("{")
    (listed,) = store.objects()
    for path in ("runs/run/gone.json", f"objects/{KEY[:2]}/{KEY}"):
        (store.root / path).parent.mkdir(exist_ok=True)
        (store.root / path).symlink_to("nothing")  # listed, and not there when it is looked at
    assert list(store.objects()) == [listed]
    assert store.reports("run") == {"step": {"status": "done"}}


def problem_and_hint(look):
    with pytest.raises(DamagedObject) as caught:
        look()
    return caught.value.problem, caught.value.hint


def test_an_object_that_is_missing_lost_or_damaged_is_told_with_what_to_do(store):
    again = "run the experiment again"
    assert problem_and_hint(lambda: store.find(SHA256)) == (
        "the store has no object 5aa762ae383f",
        again,
    )
    artifact = store.put_text(TEXT)
    store.object_path(SHA256).chmod(0o644)
    store.object_path(SHA256).write_text("damaged")
    assert problem_and_hint(lambda: store.local_path(artifact)) == (
        f"object 5aa762ae383f is damaged; it was set aside as {SHA256}.bad",
        f"{again}: the step that made it makes it anew",
    )
    assert problem_and_hint(lambda: store.local_path(artifact)) == (
        "the store has lost object 5aa762ae383f",
        again,
    )


@pytest.mark.parametrize("reference", ["", "{", "{}", '{"rows": null}'])
def test_a_torn_reference_names_no_object(store, reference):
    store.put_text(TEXT)
    (store.root / "refs" / f"{SHA256}.json").write_text(reference)
    with pytest.raises(DamagedObject, match="has no object 5aa762ae383f"):
        store.find(SHA256)


# ---------------------------------------------------------- what a dead process left


def test_what_a_dead_process_left_half_written_is_cleared_everywhere(store):
    done(store)
    store.write_report("run", "step", {})
    before = files_in(store.root)
    left = f".tmp-{socket.gethostname()}-{NO_PROCESS}-x"
    for folder in ("refs", "index", "runs/run"):
        (store.root / folder / left).write_text("half")
    (store.root / "tmp" / left.removeprefix(".tmp-")).mkdir()
    store.clear_temporary()
    assert files_in(store.root) == before
    assert list((store.root / "tmp").iterdir()) == []


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
    assert store.parts(artifact) == {artifact.sha256}


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


@pytest.mark.parametrize(
    ("refused", "operation"),
    [
        ((Path, "chmod"), lambda store, model: store.put(store.root.with_name("new"), "json")),
        ((Path, "write_text"), lambda store, model: store.put_text(TEXT)),
        ((Path, "rename"), lambda store, model: store.local_path(model)),
        ((Path, "stat"), lambda store, model: store.has(model)),
        ((Path, "replace"), lambda store, model: store.record(entry())),
        ((Path, "mkdir"), lambda store, model: store.lock(KEY).__enter__()),
        ((Path, "mkdir"), lambda store, model: store.scratch(KEY)),
        ((tempfile, "mkdtemp"), lambda store, model: store.temporary()),
        ((os, "rmdir"), lambda store, model: store.clear_temporary()),
        ((Path, "replace"), lambda store, model: store.write_report("run", "s", {})),
        ((Path, "open"), lambda store, model: store.intact(model.sha256)),
        ((Path, "rename"), lambda store, model: store.set_aside(model.sha256)),
        ((Path, "unlink"), lambda store, model: store.remove_object(model.sha256)),
        ((Path, "unlink"), lambda store, model: store.remove_entry(KEY)),
        ((os, "unlink"), lambda store, model: store.remove_reports("run")),
    ],
)
def test_what_the_system_refuses_is_told_with_the_place_and_what_to_set(
    store, monkeypatch, refused, operation
):
    done(store)
    model = folder_in(store)
    store.write_report("run", "s", {})
    (store.root / "tmp" / f"{socket.gethostname()}-{NO_PROCESS}-x").mkdir()
    store.root.with_name("new").write_text("new")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=5_000_000))
    monkeypatch.setattr(*refused, refusing(errno.EIO))
    with pytest.raises(BackendError) as caught:
        operation(store, model)
    monkeypatch.undo()
    assert caught.value.problem == "Input/output error: the/file"
    assert caught.value.hint == (
        f"{store.root} has 5 MB free; make room, allow writing there, or set store.path"
    )


def test_an_entry_that_cannot_be_read_now_is_not_taken_for_none(store, monkeypatch):
    done(store)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=5_000_000))
    monkeypatch.setattr(Path, "read_bytes", refusing(errno.EIO))
    with pytest.raises(BackendError) as caught:
        store.entry(KEY)
    assert caught.value.problem == "Input/output error: the/file"
    assert caught.value.hint == (
        f"{store.root}/index has 5 MB free; make room, allow writing there, or set store.path"
    )


def test_what_is_done_counts_though_a_folder_cannot_be_removed(store, monkeypatch):
    model = folder_in(store)
    path = store.local_path(model) / "weights"
    path.unlink()
    store.scratch(KEY)
    monkeypatch.setattr(os, "rmdir", refusing(errno.EBUSY))
    assert store.put_text(TEXT).sha256 == SHA256
    assert (store.local_path(model) / "weights").read_text() == "1 2 3"
    store.clear_scratch(KEY)


@pytest.mark.parametrize("links", [True, False])
def test_a_folder_that_is_laid_out_already_is_not_laid_out_again(store, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", refusing(errno.EXDEV))
    model = folder_in(store)
    (store.local_path(model) / "note").write_text("gone if the folder is laid out anew")
    assert (store.local_path(model) / "note").exists()


def test_a_changed_folder_that_another_process_took_away_first_is_laid_out_anew(store, monkeypatch):
    model = folder_in(store)
    (store.local_path(model) / "weights").unlink()
    left = list((store.root / "tmp").iterdir())
    rename = Path.rename

    def second(source, target):
        if source.exists() and source.parent.name == "folders":
            shutil.rmtree(source)
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", second)
    assert (store.local_path(model) / "weights").read_text() == "1 2 3"
    assert list((store.root / "tmp").iterdir()) == left


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
    left = list((store.root / "tmp").iterdir())
    assert (store.local_path(model) / "weights").read_text() == "1 2 3"
    assert list((store.root / "tmp").iterdir()) == left


def test_a_folder_is_laid_out_by_copies_where_there_are_no_links(store, monkeypatch):
    model = folder_in(store)
    monkeypatch.setattr(os, "link", refusing(errno.EXDEV))
    assert (store.local_path(model) / "weights").read_text() == "1 2 3"


@pytest.mark.parametrize("name", ["../outside", "/tmp/llmops-outside", "a/../../outside", ""])
def test_a_folder_never_lays_a_file_outside_of_itself(store, name):
    content = store.put_text("planted")
    files = [{"path": name, "bytes": content.bytes, "sha256": content.sha256}]
    manifest = store.put_text(canonical_json({"files": files}))
    assert problem_and_hint(lambda: store.local_path(replace(manifest, kind="folder"))) == (
        f"the folder {manifest.sha256[:12]} names files outside of it",
        "no store writes such a folder: find out who did, then run with --force",
    )
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
