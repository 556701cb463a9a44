"""Places that fsspec knows: a disk, and one in memory, which stands for all that are no disk."""

from __future__ import annotations

import errno
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from llmops.adapters.store import fsspec as adapter
from llmops.adapters.store import gcs
from llmops.adapters.store.address import read_text
from llmops.adapters.store.blobs import Blob
from llmops.adapters.store.bucket import copies
from llmops.adapters.store.fsspec import FsspecBlobs, open_store
from llmops.errors import BackendError, ConfigError, DamagedObject, MissingExtra

NO_PROCESS = 2**22 + 1  # above the highest number that Linux gives
MOMENT = datetime(2026, 11, 25, 10, 15, tzinfo=UTC)


@pytest.fixture(params=["file", "memory"])
def blobs(request, tmp_path):
    place = f"memory://{uuid4().hex}" if request.param == "memory" else f"file://{tmp_path}/b"
    return FsspecBlobs(f"{place}/", {})


def test_an_address_has_no_slash_at_its_end(blobs):
    assert not blobs.uri.endswith("/")


def test_what_is_written_is_read_and_what_is_not_there_is_none(blobs):
    assert blobs.read("a/b") is None
    assert blobs.size("a/b") is None
    blobs.write("a/b", b"one")
    blobs.write("a/b", b"three")
    assert blobs.read("a/b") == b"three"
    assert blobs.size("a/b") == 5


def test_of_two_that_create_the_first_one_wins(blobs):
    assert blobs.create("a/b", b"one")
    assert not blobs.create("a/b", b"two")
    assert blobs.read("a/b") == b"one"


def test_a_file_is_uploaded_once_unless_it_replaces(blobs, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert blobs.upload("a/b", path)
    path.write_bytes(b"two")
    assert not blobs.upload("a/b", path)
    assert blobs.read("a/b") == b"one"
    assert blobs.upload("a/b", path, replace=True)
    assert blobs.read("a/b") == b"two"


def test_a_file_comes_back_and_a_missing_one_is_told(blobs, tmp_path):
    blobs.write("a/b", b"one")
    assert blobs.download("a/b", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"one"
    assert not blobs.download("a/c", tmp_path / "other")


def test_objects_are_listed_by_what_their_names_begin_with(blobs):
    before = datetime.now(UTC).timestamp() - 5
    for name in ("a/b", "a/c/d", "b/a"):
        blobs.write(name, b"12")
    found = {blob.name: blob for blob in blobs.list("a/")}
    assert set(found) == {"a/b", "a/c/d"}
    assert found["a/b"] == Blob("a/b", 2, found["a/b"].modified)
    assert before < found["a/b"].modified < before + 60
    assert list(blobs.list("c/")) == []
    blobs.write("a/X/b", b"12")
    assert [blob.name for blob in blobs.list("a/X/")] == ["a/X/b"]


def test_a_place_with_folders_gets_those_that_a_name_needs(tmp_path):
    blobs = FsspecBlobs(f"file://{tmp_path}/b", {})
    blobs.on_disk = False  # as on a server with folders
    (tmp_path / "file").write_bytes(b"three")
    blobs.write("a/b/one", b"one")
    assert blobs.create("c/d/two", b"two")
    assert blobs.upload("e/f/three", tmp_path / "file")
    found = {name: blobs.read(name) for name in ("a/b/one", "c/d/two", "e/f/three")}
    assert found == {"a/b/one": b"one", "c/d/two": b"two", "e/f/three": b"three"}
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["a", "c", "e"]


def test_what_is_removed_or_renamed_may_be_missing(blobs):
    blobs.write("a/b", b"one")
    blobs.rename("a/b", "a/c")
    assert (blobs.read("a/b"), blobs.read("a/c")) == (None, b"one")
    blobs.delete("a/c")
    blobs.delete("a/c")
    assert blobs.read("a/c") is None


def test_nothing_half_written_is_left_on_a_disk(tmp_path):
    blobs = FsspecBlobs(f"file://{tmp_path}/b", {})
    blobs.write("a/b", b"one")
    blobs.create("a/b", b"two")
    blobs.create("a/c", b"two")
    files = [path for path in (tmp_path / "b").rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == ["b", "c"]


def test_what_a_dead_process_left_half_written_on_a_disk_is_cleared(tmp_path):
    tmp = tmp_path / "b" / "tmp"
    tmp.mkdir(parents=True)
    (tmp / f"{socket.gethostname()}-{NO_PROCESS}-x").write_bytes(b"half")
    (tmp / f"elsewhere-{NO_PROCESS}-x").write_bytes(b"half")
    FsspecBlobs(f"file://{tmp_path}/b", {}).write("a", b"one")
    assert [path.name for path in tmp.iterdir()] == [f"elsewhere-{NO_PROCESS}-x"]


def test_a_disk_without_links_is_copied_to_exclusively(tmp_path, monkeypatch):
    def refuse(path, target):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    blobs = FsspecBlobs(f"file://{tmp_path}/b", {})
    assert blobs.create("a", b"one")
    assert not blobs.create("a", b"two")
    assert blobs.read("a") == b"one"


def test_a_place_that_refuses_says_what_to_check(tmp_path):
    (tmp_path / "b").write_text("a file where a folder should be")
    blobs = FsspecBlobs(f"file://{tmp_path}/b", {})
    with pytest.raises(BackendError) as told:
        blobs.write("a", b"one")
    assert told.value.problem == f"file://{tmp_path}/b: File exists"
    assert told.value.hint == ("check store.url and store.options, and the right to write there")
    assert told.value.retryable


def test_a_service_that_fails_in_its_own_words_is_quoted(blobs, monkeypatch):
    def fail(path):
        raise OSError("the bucket is asleep")

    monkeypatch.setattr(blobs.files, "cat_file", fail)
    with pytest.raises(BackendError) as told:
        blobs.read("a")
    assert told.value.problem == f"{blobs.uri}: the bucket is asleep"


def test_an_address_that_fsspec_does_not_know_is_a_config_error():
    with pytest.raises(ConfigError, match=r"store\.url nowhere://x: ") as told:
        FsspecBlobs("nowhere://x", {})
    assert told.value.hint == "e.g. s3://bucket/llmops"


def test_an_address_whose_package_is_missing_names_it(monkeypatch):
    import fsspec

    def refuse(url, **options):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(MissingExtra, match=r"store\.url s3://x: Install s3fs") as told:
        FsspecBlobs("s3://x", {})
    assert told.value.hint == "install that package"


def test_options_reach_fsspec_with_their_secrets_revealed(monkeypatch, tmp_path):
    import fsspec

    given = {}

    def note(url, **options):
        given.update(options)
        return fsspec.filesystem("memory"), "/X/"

    monkeypatch.setenv("BUCKET_KEY", "a-key-of-the-tests")
    monkeypatch.setattr(fsspec.core, "url_to_fs", note)
    options = {"anon": False, "client": {"key": "${secret:BUCKET_KEY}", "region": "eu"}}
    store = open_store({"url": "s3://X/", "options": options, "lease_s": 7}, tmp_path)
    assert given == {"anon": False, "client": {"key": "a-key-of-the-tests", "region": "eu"}}
    assert (store.uri, store.blobs.root, store.lease_s) == ("s3://X", "/X", 7)


@pytest.mark.parametrize(
    ("details", "moment"),
    [
        ({"mtime": 12}, 12.0),
        ({"mtime": 12.5, "created": 1}, 12.5),
        ({"LastModified": MOMENT}, MOMENT.timestamp()),
        ({"last_modified": MOMENT.isoformat()}, MOMENT.timestamp()),
        ({"updated": "2026-11-25T10:15:00Z"}, MOMENT.timestamp()),
        ({"created": None}, 0.0),
        ({}, 0.0),
    ],
)
def test_each_file_system_says_in_its_own_way_when_an_object_was_made(details, moment):
    assert adapter._modified(details) == moment


# ---------------------------------------------------------------------- addresses


@pytest.mark.usefixtures("ascii_locale")
def test_a_text_is_read_at_a_path(tmp_path):
    (tmp_path / "x.json").write_text("ä", "utf-8")
    assert read_text(str(tmp_path / "x.json"), tmp_path) == "ä"
    with pytest.raises(FileNotFoundError):
        read_text(str(tmp_path / "y.json"), tmp_path)


@pytest.mark.usefixtures("ascii_locale")
@pytest.mark.parametrize("place", ["memory://no-such-bucket", "memory://no-such/objects/of/ours"])
def test_a_text_is_read_in_the_workspace_s_copy_before_its_bucket(tmp_path, place):
    copy = copies(tmp_path, place).put_text('"ä"')
    uri = f"{place}/objects/{copy.sha256[:2]}/{copy.sha256}"
    assert read_text(uri, tmp_path) == '"ä"'


def test_an_address_is_never_taken_for_a_path_of_this_machine(tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(DamagedObject, match="there is nothing at memory://"):
        read_text(f"memory:/{tmp_path}/x", tmp_path)


def test_a_text_in_a_google_bucket_is_asked_of_cloud_storage(tmp_path, monkeypatch):
    monkeypatch.setattr(gcs, "read_text", {"gs://bucket/objects/ab/abc": "ä"}.get)
    assert read_text("gs://bucket/objects/ab/abc", tmp_path) == "ä"
    with pytest.raises(DamagedObject, match="there is nothing at gs://bucket/objects/ab/abd"):
        read_text("gs://bucket/objects/ab/abd", tmp_path)


def test_a_text_is_read_at_its_address_and_a_missing_one_is_told(tmp_path):
    blobs = FsspecBlobs(f"memory://{uuid4().hex}", {})
    blobs.write("objects/ab/abc", "ä".encode())
    assert read_text(f"{blobs.uri}/objects/ab/abc", tmp_path) == "ä"
    with pytest.raises(DamagedObject, match="there is nothing at memory://") as told:
        read_text(f"{blobs.uri}/objects/ab/abd", tmp_path)
    assert told.value.hint == "run the experiment again"
