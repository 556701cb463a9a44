"""What every store must do. An adapter joins by adding itself to ADAPTERS."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmops.adapters.catalog import adapter
from llmops.artifacts import Artifact
from llmops.errors import BackendError, DamagedObject
from llmops.ports import IndexEntry

ADAPTERS = [pytest.param({"kind": "folder", "path": "store"}, id="folder")]


@pytest.fixture(params=ADAPTERS)
def store(request, tmp_path):
    return adapter("store", request.param, tmp_path)


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


def test_an_entry_whose_object_is_gone_counts_as_absent(store):
    artifact = store.put(written(store, b"x"), "json")
    store.record(entry({"out": artifact}))
    store.local_path(artifact).unlink()
    assert store.entry("k" * 64) is None


def test_an_unknown_object_is_a_damaged_object_error(store):
    with pytest.raises(DamagedObject):
        store.find("0" * 64)
    with pytest.raises(DamagedObject):
        store.local_path(Artifact("u", "json", "0" * 64, 1))


@pytest.mark.parametrize("damage", [b"", b"y", b"xx"])
def test_a_damaged_object_is_seen_set_aside_and_made_again(store, damage):
    artifact = store.put(written(store, b"x"), "json")
    path = store.local_path(artifact)
    path.chmod(0o644)
    path.write_bytes(damage)
    with pytest.raises(DamagedObject):
        store.local_path(artifact)
    assert path.with_name(path.name + ".bad").read_bytes() == damage
    assert store.local_path(store.put(written(store, b"x"), "json")).read_bytes() == b"x"


def test_a_damaged_file_of_a_folder_is_seen(store):
    artifact = store.put(folder_with(store, {"a": b"1"}), "folder")
    inside = store.local_path(artifact) / "a"
    inside.chmod(0o644)
    inside.write_bytes(b"2")
    with pytest.raises(DamagedObject):
        store.local_path(artifact)


def test_reports_come_back_by_run_and_step(store):
    store.write_report("run", "step", {"status": "done"})
    assert store.read_report("run", "step") == {"status": "done"}
    assert store.read_report("run", "other") is None


def test_scratch_survives_until_it_is_cleared(store):
    (store.scratch("key") / "checkpoint").write_text("1")
    assert (store.scratch("key") / "checkpoint").exists()
    store.clear_scratch("key")
    assert not (store.scratch("key") / "checkpoint").exists()


def test_temporary_folders_of_the_living_are_left_alone(store):
    folder = store.temporary()
    store.clear_temporary()
    assert folder.exists()


def _leave_behind(config, root):
    adapter("store", config, root).temporary()


def test_temporary_folders_of_the_dead_are_cleared(request, store, tmp_path):
    config = request.node.callspec.params["store"]
    other = multiprocessing.get_context("spawn").Process(
        target=_leave_behind, args=(config, tmp_path)
    )
    other.start()
    other.join()
    left = set(store.temporary().parent.iterdir())
    store.clear_temporary()
    assert len(left) - len(set(next(iter(left)).parent.iterdir())) == 1


def _count_under_lock(config, root, rounds):
    store = adapter("store", config, Path(root))
    counter = Path(root) / "counter.json"
    for _ in range(rounds):
        with store.lock("key"):
            counter.write_text(json.dumps(json.loads(counter.read_text()) + 1))


def test_a_lock_lets_one_process_in_at_a_time(request, store, tmp_path):
    (tmp_path / "counter.json").write_text("0")
    config = request.node.callspec.params["store"]
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=_count_under_lock, args=(config, str(tmp_path), 25))
        for _ in range(4)
    ]
    for process in others:
        process.start()
    for process in others:
        process.join()
    assert json.loads((tmp_path / "counter.json").read_text()) == 100


def test_a_refusing_disk_ends_in_a_backend_error_that_says_where(store, tmp_path):
    blocked = dataclasses.replace(entry({}), key="x")
    (tmp_path / "store").mkdir(exist_ok=True)
    (tmp_path / "store" / "index").write_text("a file where a folder should be")
    with pytest.raises(BackendError) as caught:
        store.record(blocked)
    assert "store.path" in caught.value.hint
