"""What every store must do. An adapter joins by adding itself to ADAPTERS."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmops.adapters.catalog import adapter
from llmops.artifacts import Artifact
from llmops.errors import BackendError, DamagedObject
from llmops.ports.store import IndexEntry
from tests.fakes.storage import storage


class InFolder:
    """A store in a folder, and how its objects are damaged and lost behind its back."""

    setting = "store.path"
    rounds = 25  # that each of four processes takes the lock

    def __init__(self, folder, request):
        self.config, self.environment = {"kind": "folder", "path": "store"}, None
        self.folder = folder

    def damage(self, store, sha256, content):
        path = store.object_path(sha256)
        path.chmod(0o644)
        path.write_bytes(content)

    def lose(self, store, sha256):
        store.object_path(sha256).unlink()

    def set_aside(self, store, sha256):
        path = store.object_path(sha256)
        return path.with_name(f"{path.name}.bad").read_bytes()

    def refuse(self):
        """Let no index entry be written any more."""
        (self.folder / "store").mkdir(exist_ok=True)
        (self.folder / "store" / "index").write_text("a file where a folder should be")


class InBucket(InFolder):
    """A store over fsspec, here on a disk; what lies in the bucket has no copy in the workspace."""

    setting = "store.url"
    rounds = 3

    def __init__(self, folder, request):
        url = f"file://{folder}/store"
        self.config = {"kind": "fsspec", "url": url, "options": {}, "lease_s": 2}
        self.environment = None
        self.folder = folder

    def damage(self, store, sha256, content):
        store.blobs.write(f"objects/{sha256[:2]}/{sha256}", content)
        store.here.remove_object(sha256)

    def lose(self, store, sha256):
        store.blobs.delete(f"objects/{sha256[:2]}/{sha256}")

    def set_aside(self, store, sha256):
        return store.blobs.read(f"objects/{sha256[:2]}/{sha256}.bad")


class InGoogle(InBucket):
    """A store in a bucket of the fake-gcs-server, by Google's own client."""

    setting = "docs/google_cloud.md"

    def __init__(self, folder, request):
        self.storage = request.getfixturevalue("cloud_storage")
        bucket = self.storage.bucket()
        self.config = {"kind": "gcs", "bucket": bucket, "prefix": "llmops", "lease_s": 2}
        self.environment = self.storage.environment(folder)

    def refuse(self):
        self.storage.server.faults.refuse(403, "/upload/")


@pytest.fixture(scope="module")
def cloud_storage():
    with storage() as opened:
        yield opened


ADAPTERS = [
    pytest.param(InFolder, id="folder"),
    pytest.param(InBucket, id="fsspec"),
    pytest.param(InGoogle, id="gcs"),
]


@pytest.fixture(params=ADAPTERS)
def place(request, tmp_path):
    return request.param(tmp_path, request)


@pytest.fixture
def store(place, tmp_path):
    return adapter("store", place.config, tmp_path, environment=place.environment)


def written(store, content: bytes, name="out"):
    path = store.temporary() / name
    path.write_bytes(content)
    return path


def folder_with(store, files):
    folder = store.temporary() / "folder"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def entry(outputs, key="k" * 64):
    return IndexEntry(key, "s", "kind", 1, {"a": 1}, {}, {}, outputs, {"n": 2}, "run", 0.5)


@given(content=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_what_is_put_comes_back_byte_for_byte(store, content):
    artifact = store.put(written(store, content), "json")
    assert store.local_path(artifact).read_bytes() == content
    assert artifact.bytes == len(content)


def test_equal_content_is_one_object(store):
    first, second = (store.put(written(store, b"same"), "json") for _ in range(2))
    assert first == second


def test_a_folder_keeps_its_names_and_its_digest_does_not_depend_on_order(store):
    first = store.put(folder_with(store, {"a/b.txt": b"1", "c": b"2"}), "folder")
    second = store.put(folder_with(store, {"c": b"2", "a/b.txt": b"1"}), "folder")
    assert first == second
    assert (store.local_path(first) / "a" / "b.txt").read_bytes() == b"1"


def test_a_renamed_file_is_another_folder(store):
    first = store.put(folder_with(store, {"a": b"1"}), "folder")
    assert first.sha256 != store.put(folder_with(store, {"b": b"1"}), "folder").sha256


def test_a_reference_is_found_by_digest_and_has_an_address(store):
    artifact = store.put(written(store, b"x"), "parquet", rows=3)
    assert store.find(artifact.sha256) == artifact
    assert artifact.sha256 in store.reference_uri(artifact)


def test_an_entry_is_found_by_its_key(store):
    made = entry({"out": store.put(written(store, b"x"), "json")})
    store.record(made)
    assert store.entry(made.key) == made


def test_an_unknown_key_has_no_entry(store):
    assert store.entry("0" * 64) is None


def test_an_entry_whose_object_is_gone_counts_as_absent(place, store):
    artifact = store.put(written(store, b"x"), "json")
    store.record(entry({"out": artifact}))
    place.lose(store, artifact.sha256)
    assert store.entry("k" * 64) is None


def test_an_unknown_object_is_a_damaged_object_error(store):
    with pytest.raises(DamagedObject):
        store.find("0" * 64)
    with pytest.raises(DamagedObject):
        store.local_path(Artifact("u", "json", "0" * 64, 1))


@pytest.mark.parametrize("damage", [b"", b"y", b"xx"])
def test_a_damaged_object_is_seen_set_aside_and_made_again(place, store, damage):
    artifact = store.put(written(store, b"x"), "json")
    place.damage(store, artifact.sha256, damage)
    with pytest.raises(DamagedObject):
        store.local_path(artifact)
    assert place.set_aside(store, artifact.sha256) == damage
    assert store.local_path(store.put(written(store, b"x"), "json")).read_bytes() == b"x"


def test_an_unpacked_folder_that_was_changed_is_unpacked_anew(store):
    artifact = store.put(folder_with(store, {"a/b": b"1", "c": b"2"}), "folder")
    path = store.local_path(artifact)
    (path / "a" / "b").unlink()
    (path / "a" / "b").write_bytes(b"9")
    assert (store.local_path(artifact) / "a" / "b").read_bytes() == b"1"
    (path / "c").unlink()
    assert (store.local_path(artifact) / "c").read_bytes() == b"2"


def test_an_unpacked_file_that_was_damaged_in_place_does_not_outlive_its_object(store):
    artifact = store.put(folder_with(store, {"a": b"1"}), "folder")
    path = store.local_path(artifact) / "a"
    path.chmod(0o644)
    path.write_bytes(b"9")  # where disks have links, this is the object itself
    with contextlib.suppress(DamagedObject):
        store.local_path(artifact)
    again = store.put(folder_with(store, {"a": b"1"}), "folder")
    assert (store.local_path(again) / "a").read_bytes() == b"1"


def test_what_another_process_set_aside_already_stays_set_aside(place, store):
    artifact = store.put(written(store, b"content"), "json")
    place.damage(store, artifact.sha256, b"damaged")
    store.set_aside(artifact.sha256)
    store.set_aside(artifact.sha256)
    assert place.set_aside(store, artifact.sha256) == b"damaged"


def test_a_damaged_file_of_a_folder_is_seen(place, store):
    artifact = store.put(folder_with(store, {"a": b"1"}), "folder")
    (inside,) = store.parts(artifact) - {artifact.sha256}
    place.damage(store, inside, b"2")
    with pytest.raises(DamagedObject):
        store.local_path(artifact)


def test_reports_come_back_by_run_and_step(store):
    store.write_report("run", "step", {"status": "done"})
    assert store.read_report("run", "step") == {"status": "done"}
    assert store.read_report("run", "other") is None


def test_what_is_kept_of_a_scratch_folder_is_there_until_it_is_cleared(place, store):
    (store.scratch("key") / "part").write_text("1")
    store.keep("key", store.scratch("key") / "part")
    assert (store.scratch("key") / "part").read_text() == "1"
    store.clear_scratch("key")
    assert list(store.scratch("key").iterdir()) == []


def test_scratch_survives_until_it_is_cleared(store):
    (store.scratch("key") / "checkpoint").write_text("1")
    assert (store.scratch("key") / "checkpoint").exists()
    store.clear_scratch("key")
    assert not (store.scratch("key") / "checkpoint").exists()


def test_temporary_folders_of_the_living_are_left_alone(store):
    folder = store.temporary()
    store.clear_temporary()
    assert folder.exists()


def _leave_behind(config, environment, root):
    adapter("store", config, root, environment=environment).temporary()


def test_temporary_folders_of_the_dead_are_cleared(place, store, tmp_path):
    other = multiprocessing.get_context("spawn").Process(
        target=_leave_behind, args=(place.config, place.environment, tmp_path)
    )
    other.start()
    other.join()
    left = set(store.temporary().parent.iterdir())
    store.clear_temporary()
    assert len(left) - len(set(next(iter(left)).parent.iterdir())) == 1


def _count_under_lock(config, environment, root, rounds):
    store = adapter("store", config, Path(root), environment=environment)
    counter = Path(root) / "counter.json"
    for _ in range(rounds):
        with store.lock("key"):
            counter.write_text(json.dumps(json.loads(counter.read_text()) + 1))


def test_a_lock_lets_one_process_in_at_a_time(place, store, tmp_path):
    (tmp_path / "counter.json").write_text("0")
    rounds = place.rounds
    config = place.config
    if "lease_s" in config:  # however busy the machine is, no holder is silent for so long
        config = config | {"lease_s": 120}
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(
            target=_count_under_lock,
            args=(config, place.environment, str(tmp_path), rounds),
        )
        for _ in range(4)
    ]
    for process in others:
        process.start()
    for process in others:
        process.join()
    assert json.loads((tmp_path / "counter.json").read_text()) == 4 * rounds


def test_a_place_that_refuses_ends_in_a_backend_error_that_says_what_to_do(place, store):
    blocked = dataclasses.replace(entry({}), key="x")
    place.refuse()
    with pytest.raises(BackendError) as caught:
        store.record(blocked)
    assert place.setting in caught.value.hint


def test_every_object_is_listed_once_with_its_size(store):
    single = store.put(written(store, b"12345"), "json")
    folder = store.put(folder_with(store, {"a": b"1", "b": b"22"}), "folder")
    listed = {one.sha256: one.bytes for one in store.objects()}
    assert listed[single.sha256] == 5
    assert set(listed) == {single.sha256} | store.parts(folder)
    assert sorted(listed[part] for part in store.parts(folder) - {folder.sha256}) == [1, 2]


def test_an_object_tells_when_it_was_made(store):
    before = time.time() - 5
    store.put(written(store, b"x"), "json")
    assert all(before < one.modified < time.time() + 5 for one in store.objects())


def test_an_empty_store_lists_nothing(store):
    assert list(store.objects()) == list(store.entries()) == list(store.reported_runs()) == []


def test_a_single_object_is_its_own_only_part(store):
    artifact = store.put(written(store, b"x"), "json")
    assert store.parts(artifact) == {artifact.sha256}


def test_a_folder_whose_manifest_is_gone_is_only_itself(store):
    folder = store.put(folder_with(store, {"a": b"1"}), "folder")
    store.remove_object(folder.sha256)
    assert store.parts(folder) == {folder.sha256}


def test_a_removed_object_is_gone_and_can_be_made_again(store):
    artifact = store.put(written(store, b"x"), "json")
    store.remove_object(artifact.sha256)
    with pytest.raises(DamagedObject):
        store.find(artifact.sha256)
    with pytest.raises(DamagedObject):
        store.local_path(artifact)
    assert list(store.objects()) == []
    assert store.local_path(store.put(written(store, b"x"), "json")).read_bytes() == b"x"


def test_removing_what_is_not_there_does_nothing(store):
    store.remove_object("0" * 64)
    store.remove_entry("0" * 64)
    store.remove_reports("no-such-run")


def test_entries_are_listed_even_if_their_objects_are_gone(store):
    made = entry({"out": store.put(written(store, b"x"), "json")})
    store.record(made)
    store.remove_object(made.outputs["out"].sha256)
    assert list(store.entries()) == [made]


def test_a_removed_entry_is_forgotten_and_its_objects_stay(store):
    made = entry({"out": store.put(written(store, b"x"), "json")})
    store.record(made)
    store.remove_entry(made.key)
    assert store.entry(made.key) is None
    assert list(store.entries()) == []
    assert store.local_path(made.outputs["out"]).read_bytes() == b"x"


def test_the_reports_of_a_run_are_listed_and_removed_together(store):
    store.write_report("run-2", "one", {"status": "done"})
    store.write_report("run-2", "two", {"status": "failed"})
    store.write_report("run-1", "one", {"status": "done"})
    assert list(store.reported_runs()) == ["run-1", "run-2"]
    assert store.reports("run-2") == {"one": {"status": "done"}, "two": {"status": "failed"}}
    store.remove_reports("run-2")
    assert list(store.reported_runs()) == ["run-1"]
    assert store.reports("run-2") == {}


@pytest.mark.parametrize("odd", ["", ".", "..", "../objects"])
def test_only_the_reports_of_a_run_are_removed_by_remove_reports(store, odd):
    artifact = store.put(written(store, b"x"), "json")
    store.write_report("run", "step", {})
    store.remove_reports(odd)
    assert store.local_path(artifact).read_bytes() == b"x"
    assert store.reports("run") == {"step": {}}
