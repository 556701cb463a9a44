"""A store in a bucket on a bad day: two writers, silent workers, broken connections."""

from __future__ import annotations

import gc
import itertools
import json
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from llmops.adapters import catalog
from llmops.adapters.model import answers
from llmops.adapters.store import lease
from llmops.adapters.store.address import read_text
from llmops.adapters.store.fsspec import FsspecBlobs
from llmops.errors import BackendError, ConfigError, DamagedObject, MissingExtra
from llmops.execute import Task, execute
from llmops.plan.graph import Node
from llmops.plan.kinds import Outcome, Port, StepKind
from llmops.ports.model import GenerationSettings, Message, ModelReference
from llmops.ports.store import IndexEntry
from llmops.worker import read_config
from tests.fakes.openai_server import openai_server
from tests.fakes.storage import storage

KEY = "k" * 64


@pytest.fixture(scope="module")
def cloud():
    with storage() as opened:
        yield opened


@pytest.fixture
def bucket(cloud):
    cloud.server.faults.clear()
    return cloud.bucket()


@pytest.fixture
def open_one(cloud, bucket, tmp_path):
    """Open the same bucket from a workspace by that name."""

    def opened(name="one", lease_s=2.0):
        workspace = tmp_path / name
        workspace.mkdir(exist_ok=True)
        config = {"kind": "gcs", "bucket": f"gs://{bucket}", "prefix": "p", "lease_s": lease_s}
        environment = cloud.environment(tmp_path)
        return catalog.adapter("store", config, workspace, environment=environment)

    return opened


@pytest.fixture
def faults(cloud):
    return cloud.server.faults


def uploads(faults):
    """Return the uploads of objects, references and the index left out."""
    return [r for r in faults.found("/upload/") if re.search(rb'"name": ?"p/objects/', r.body)]


def written(store, content):
    path = store.temporary() / "out"
    path.write_bytes(content)
    return path


def entry(outputs=None):
    return IndexEntry(KEY, "s", "kind", 1, {}, {}, {}, outputs or {}, {}, "run", 0.5)


# ----------------------------------------------------------------- two at a time


def test_of_two_writers_of_one_name_one_wins(open_one):
    blobs = open_one().blobs
    wins, barrier = [], threading.Barrier(4)

    def write(number):
        barrier.wait()
        wins.append(blobs.create("name", str(number).encode()))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins) == [False, False, False, True]


def test_an_object_is_uploaded_on_the_condition_that_there_is_none(open_one, faults):
    open_one().put_text("{}")
    (upload,) = uploads(faults)
    assert "ifGenerationMatch=0" in upload.query


def test_what_another_workspace_put_is_not_uploaded_again(open_one, faults):
    open_one("one").put_text('"same"')
    open_one("two").put_text('"same"')
    assert len(uploads(faults)) == 1


def test_what_one_workspace_put_another_reads(open_one):
    artifact = open_one("one").put_text('"hello"')
    assert open_one("two").local_path(artifact).read_text() == '"hello"'


def test_a_copy_that_is_damaged_is_fetched_again(open_one):
    store = open_one()
    artifact = store.put_text('"hello"')
    path = store.local_path(artifact)
    path.chmod(0o644)
    path.write_text("damaged")
    assert store.local_path(artifact).read_text() == '"hello"'


def test_a_copy_that_is_here_is_not_fetched(open_one, faults):
    store = open_one()
    artifact = store.put_text('"hello"')
    faults.clear()
    store.local_path(artifact)
    assert faults.count() == 0


# ------------------------------------------------------------------------ leases


def test_a_silent_worker_s_step_is_taken_over_and_it_records_nothing(open_one, monkeypatch):
    monkeypatch.setattr(lease, "_machine", lambda: "elsewhere")
    first, second = open_one("one", lease_s=0.4), open_one("two", lease_s=0.4)
    monkeypatch.setattr(lease.Lease, "keep", lambda self: None)  # it says nothing any more
    monkeypatch.setattr(lease.Lease, "release", lambda self: None)
    with first.lock(KEY):
        started = time.monotonic()
        with second.lock(KEY):
            assert time.monotonic() - started > 0.4
            second.record(entry())
            with pytest.raises(BackendError, match="took over") as caught:
                first.record(entry())
            assert caught.value.retryable
    assert second.entry(KEY) == entry()


def test_a_worker_that_lives_keeps_its_step_however_long_it_takes(open_one):
    first, second = open_one("one", lease_s=0.4), open_one("two", lease_s=0.4)
    order = []

    def wait_for_it():
        with second.lock(KEY):
            order.append("second")

    with first.lock(KEY):
        waiter = threading.Thread(target=wait_for_it)
        waiter.start()
        time.sleep(1.2)
        order.append("first")
        first.record(entry())
    waiter.join()
    assert order == ["first", "second"]


def test_a_worker_that_died_on_this_machine_is_not_waited_for(open_one, monkeypatch):
    store = open_one(lease_s=60)
    monkeypatch.setattr(lease, "is_running", lambda pid: False)
    left = lease.Lease(store.blobs, KEY, 1, 60)
    assert left.taken()
    started = time.monotonic()
    with store.lock(KEY):
        assert time.monotonic() - started < 5


def test_old_leases_are_removed(open_one):
    store = open_one()
    for _ in range(3):
        with store.lock(KEY):
            pass
    assert [blob.name for blob in store.blobs.list("locks/")] == [f"locks/{KEY}/00000003.json"]


# --------------------------------------------------------------------- a bad day


def test_a_storm_of_503_passes(open_one, faults):
    store = open_one()
    faults.refuse(503, "/upload/", times=2)
    artifact = store.put_text('"hello"')
    faults.refuse(503, "/b/", times=2)
    assert open_one("two").local_path(artifact).read_text() == '"hello"'


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket")  # the client leaves it open
def test_a_download_that_breaks_off_goes_on(open_one, faults):
    store = open_one()
    content = bytes(range(256)) * 4000
    artifact = store.put(written(store, content), "parquet")
    faults.cut("/download/")
    assert open_one("two").local_path(artifact).read_bytes() == content
    gc.collect()


def test_a_lost_answer_to_an_upload_changes_nothing(open_one, faults):
    store = open_one()
    faults.lose("/upload/")
    artifact = store.put_text('"hello"')
    assert open_one("two").local_path(artifact).read_text() == '"hello"'


def test_a_lost_answer_to_a_lease_is_no_reason_to_wait(open_one, faults):
    store = open_one(lease_s=60)
    faults.lose("/upload/")
    started = time.monotonic()
    with store.lock(KEY):
        assert time.monotonic() - started < 10


def test_credentials_that_expire_are_renewed(cloud, open_one):
    store = open_one()
    store.put_text('"one"')
    cloud.identity.revoke()
    store.put_text('"two"')
    assert len(list(store.objects())) == 2


def test_a_bucket_that_is_not_there_says_what_to_check(cloud, tmp_path):
    config = {"kind": "gcs", "bucket": "no-such-bucket", "prefix": "", "lease_s": 2}
    store = catalog.adapter("store", config, tmp_path, environment=cloud.environment(tmp_path))
    with pytest.raises(BackendError, match="404") as caught:
        store.put_text("{}")
    assert "env.bucket" in caught.value.hint


# --------------------------------------------------------------------- addresses


def test_a_worker_reads_its_config_by_its_address_in_a_bucket(
    cloud, open_one, tmp_path, monkeypatch
):
    artifact = open_one("one").put_text('{"name":"mine"}')
    cloud.environment(tmp_path)  # writes the key
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "service_account.json"))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", cloud.server.url)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert artifact.uri.startswith("gs://")
    assert read_config(artifact.uri) == {"name": "mine"}


def test_another_machine_goes_on_from_what_was_kept(open_one):
    one, two = open_one("one"), open_one("two")
    for name in ("part-1", "part-2"):
        path = one.scratch("key") / name
        path.write_text(name)
        one.keep("key", path)
    (one.scratch("key") / "part-3").write_text("not kept")
    found = {path.name: path.read_text() for path in two.scratch("key").iterdir()}
    assert found == {"part-1": "part-1", "part-2": "part-2"}
    two.clear_scratch("key")
    assert list(open_one("three").scratch("key").iterdir()) == []


class Killed(BaseException):
    """What the test kills a worker with."""


def asking(chats):
    """A kind of step that has a model answer and writes the texts."""

    def run(work):
        reference = ModelReference("openai", "some-model")
        settings = GenerationSettings(max_new_tokens=8)
        found = work.adapters.generator(reference).generate(chats, settings, quiet)
        work.outputs["out"].write_text(json.dumps([one.text for one in found]))
        return Outcome()

    return StepKind("asking", 1, run, Nothing, gives=(Port("out", "json"),))


@dataclass(frozen=True)
class Nothing:
    """No settings."""


def quiet(done, total=None, note=""):
    """Report progress to nobody."""


def test_a_worker_on_another_machine_asks_no_question_that_was_answered(
    open_one, cloud, tmp_path, monkeypatch
):
    monkeypatch.setattr(answers, "KEEP_EVERY_S", 0.0)
    chats = [(Message("user", f"question {number}"),) for number in range(10)]
    with openai_server() as endpoint:
        endpoint.answer = lambda body: body["messages"][-1]["content"].upper()

        def work_on(name):
            store = open_one(name)
            config = {"name": "x", "model": endpoint.config(parallel_requests=1)}
            config |= {"store": {"kind": "gcs"}}
            adapters = catalog.open_adapters(config, store, tmp_path / name)
            task = Task(Node("step", asking(chats), {}), config, "run", inputs={})
            return store, execute(task, store, adapters, quiet)

        with monkeypatch.context() as patched:
            patched.setattr(answers.Journal, "write", dying_at_the_fourth(answers.Journal.write))
            with pytest.raises(Killed):
                work_on("one")
        before = asked(endpoint)
        store, done = work_on("two")
    again = [text for text in asked(endpoint)[len(before) :] if text in set(before[:3])]
    assert again == []
    expected = [f"QUESTION {number}" for number in range(10)]
    assert json.loads(store.local_path(done.entry.outputs["out"]).read_text()) == expected
    assert list(open_one("three").scratch(done.entry.key).iterdir()) == []


def dying_at_the_fourth(write):
    calls = itertools.count(1)

    def instead(journal, found):
        if next(calls) == 4:
            raise Killed
        write(journal, found)

    return instead


def asked(endpoint):
    return [body["messages"][-1]["content"] for body in endpoint.bodies]


def test_a_worker_beside_the_run_reads_the_copy(open_one, tmp_path, monkeypatch, faults):
    artifact = open_one("one").put_text('{"name":"mine"}')
    monkeypatch.chdir(tmp_path / "one")
    faults.clear()
    assert read_config(artifact.uri) == {"name": "mine"}
    assert faults.count() == 0


def test_a_config_lies_at_any_address_that_fsspec_knows(tmp_path):
    config = {"kind": "fsspec", "url": "memory://configs", "options": {}, "lease_s": 2}
    artifact = catalog.adapter("store", config, tmp_path / "one").put_text('{"name":"mine"}')
    assert read_text(artifact.uri, tmp_path / "two") == '{"name":"mine"}'
    with pytest.raises(DamagedObject, match="there is nothing at"):
        read_text(f"memory://configs/objects/aa/{'a' * 64}", tmp_path / "two")


def test_on_a_disk_no_reader_sees_half_of_what_is_written(tmp_path):
    blobs = FsspecBlobs(f"file://{tmp_path}", {})
    whole = b"x" * 2_000_000
    blobs.write("name", whole)
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(blobs.read("name") for _ in range(50)))
    reader.start()
    while reader.is_alive():
        blobs.write("name", whole)
    assert set(map(len, seen)) == {len(whole)}
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_disk_without_links_still_lets_one_writer_win(tmp_path, monkeypatch):
    def no_links(self, target):
        if self.exists():
            raise FileExistsError
        raise PermissionError("this disk has no links")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    blobs = FsspecBlobs(f"file://{tmp_path}", {})
    assert [blobs.create("name", b"1"), blobs.create("name", b"2")] == [True, False]
    assert blobs.read("name") == b"1"


@pytest.mark.parametrize(
    ("url", "kind"), [("nosuch://bucket/x", ConfigError), ("adl://bucket/x", MissingExtra)]
)
def test_an_address_that_cannot_be_opened_says_why(tmp_path, url, kind):
    config = {"kind": "fsspec", "url": url, "options": {}, "lease_s": 2}
    with pytest.raises(kind, match=r"store\.url"):
        catalog.adapter("store", config, tmp_path)


def test_a_secret_among_the_options_is_read_from_the_environment(tmp_path, monkeypatch):
    from llmops.adapters.store.fsspec import _revealed

    monkeypatch.setenv("BUCKET_KEY", "abc")
    assert _revealed({"client": {"key": "${secret:BUCKET_KEY}"}, "n": 1}) == {
        "client": {"key": "abc"},
        "n": 1,
    }
