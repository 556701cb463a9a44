from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
from filelock import FileLock, Timeout

from llmops import execute as module
from llmops.adapters.store.bucket import BucketStore
from llmops.adapters.store.folder import FolderStore
from llmops.errors import ConfigError, DataError
from llmops.execute import Task, execute, structure
from llmops.plan.graph import Edge, Node
from llmops.plan.keys import step_key
from llmops.plan.kinds import Adapters, Outcome, Port, Source, StepKind, Work, leaf
from llmops.ports.store import IndexEntry
from tests.fakes.blobs import MemoryBlobs


@dataclass(frozen=True)
class Limits:
    low: float
    high: float | None


@dataclass(frozen=True)
class Settings:
    word: str = leaf("text.word")
    limits: Limits = leaf("limits")
    names: tuple[str, ...] = leaf("names")
    table: Mapping[str, float] = leaf("table")


CONFIG = {
    "name": "mine",
    "text": {"word": "hi"},
    "limits": {"low": 1, "high": None},
    "names": ["a", "b"],
    "table": {"x": 1},
}
LEAVES = {
    "text.word": "hi",
    "limits": {"low": 1, "high": None},
    "names": ["a", "b"],
    "table": {"x": 1},
}
SETTINGS = Settings("hi", Limits(1.0, None), ("a", "b"), {"x": 1.0})
CLOSED = Adapters(*(lambda *_: pytest.fail("no seam should be opened") for _ in range(6)))


def write_word(work):
    (work.scratch / "checkpoint").write_text("kept on a crash")
    work.outputs["out"].write_text(json.dumps(work.settings.word))
    return Outcome(rows={"out": 1}, facts={"word": work.settings.word})


KIND = StepKind("write", 1, write_word, Settings, gives=(Port("out", "json"),))


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "store")


def task(kind=KIND, **changes):
    return Task(Node("step", kind, {}), CONFIG | changes, "run-1", inputs={})


def do(due, store):
    return execute(due, store, CLOSED, lambda *_: None)


def test_a_step_publishes_its_outputs_and_records_them_under_its_key(store):
    done = do(task(), store)
    assert done.cached is False
    assert done.entry.source == {}
    assert store.entry(done.entry.key) == done.entry
    assert store.local_path(done.entry.outputs["out"]).read_text() == '"hi"'
    assert done.entry.outputs["out"].rows == 1


def test_the_entry_of_a_step_says_all_of_it(store, monkeypatch):
    class Clock:
        monotonic = iter((10.0, 11.23456)).__next__

    monkeypatch.setattr(module, "time", Clock)
    made = store.put_text('"in"')
    kind = replace(
        KIND,
        revision=7,
        takes=(Port("in", "json"),),
        source=lambda settings, adapters: Source({"table": "v1"}),
    )
    due = Task(Node("step", kind, {"in": Edge("before", "out")}), CONFIG, "run-1", {"in": made})
    done = do(due, store).entry
    assert done == IndexEntry(
        key=step_key(kind, LEAVES, {"in": made.sha256}, {"table": "v1"}),
        step="step",
        kind="write",
        revision=7,
        settings=LEAVES,
        inputs={"in": made.sha256},
        source={"table": "v1"},
        outputs={"out": replace(store.put_text('"hi"'), rows=1)},
        facts={"word": "hi"},
        run_id="run-1",
        seconds=1.235,
    )


def test_a_step_is_given_all_that_it_works_with(store):
    given = []

    def note(work):
        given.append(work)
        return write_word(work)

    def progress(done, total, note="", *, loss=None):
        pass

    made = store.put_text('"in"')
    kind = replace(KIND, run=note, takes=(Port("in", "json"),))
    due = Task(Node("step", kind, {"in": Edge("before", "out")}), CONFIG, "run-1", {"in": made})
    key = execute(due, store, CLOSED, progress).entry.key
    (work,) = given
    assert work == Work(
        step="step",
        key=key,
        run_id="run-1",
        settings=SETTINGS,
        inputs={"in": store.local_path(made)},
        digests={"in": made.sha256},
        outputs={"out": work.outputs["out"]},
        adapters=CLOSED,
        progress=progress,
        scratch=store.root / "scratch" / key,
        experiment="mine",
        keep=work.keep,
    )
    assert work.outputs["out"].name == "out.json"


def test_what_a_step_keeps_of_its_scratch_is_kept_under_its_key(tmp_path):
    blobs, told = MemoryBlobs(), []

    def keep(work):
        (work.scratch / "checkpoint").write_text("half")
        work.keep(work.scratch / "checkpoint")
        told.append((work.scratch, work.keep, dict(blobs.objects)))
        return write_word(work)

    taken_over = []
    adapters = replace(CLOSED, take_over=lambda *given: taken_over.append(given))
    store = BucketStore(blobs, tmp_path, lease_s=5)
    due = task(replace(KIND, run=keep))
    key = execute(due, store, adapters, lambda *_: None).entry.key
    ((scratch, kept, objects),) = told
    assert objects[f"scratch/{key}/checkpoint"] == b"half"
    assert taken_over == [(scratch, kept)]


def test_nobody_else_works_on_a_step_s_key_meanwhile(store):
    def knock(work):
        with pytest.raises(Timeout):
            FileLock(store.root / "locks" / f"{work.key}.lock", timeout=0).acquire()
        return write_word(work)

    do(task(replace(KIND, run=knock)), store)


def test_a_setting_that_the_step_s_own_block_lacks_is_told_by_its_full_path(store):
    @dataclass(frozen=True)
    class Own:
        size: int = leaf("with.size")

    due = task(replace(KIND, settings=Own), pipeline={"steps": {"step": {"with": {}}}})
    with pytest.raises(ConfigError, match=r"pipeline\.steps\.step\.with\.size"):
        do(due, store)


def test_a_result_counts_though_its_temporary_folder_cannot_be_removed(store, monkeypatch):
    def refuse(*args, **options):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(os, "rmdir", refuse)
    assert not do(task(), store).cached
    assert do(task(), store).cached


def test_a_second_time_nothing_is_done(store):
    first = do(task(), store)
    second = do(replace(task(), run_id="run-2"), store)
    assert second.cached
    assert second.entry == first.entry


def test_a_forced_step_is_done_again(store):
    do(task(), store)
    assert not do(replace(task(), forced=True), store).cached


def test_a_hit_that_does_not_hold_any_more_is_done_again(store):
    kind = replace(KIND, verify=lambda settings, adapters, facts: facts["word"] != "hi")
    do(task(kind), store)
    assert not do(task(kind), store).cached


@pytest.mark.parametrize("asked", ["source", "verify"])
def test_the_outside_world_is_asked_with_the_step_s_settings_and_adapters(store, asked):
    given = []
    answers = {
        "source": lambda *told: given.append(told) or Source({}),
        "verify": lambda *told: given.append(told) or True,
    }
    kind = replace(KIND, **{asked: answers[asked]})
    do(task(kind), store)
    assert do(task(kind), store).cached
    assert given[-1] == (SETTINGS, CLOSED, {"word": "hi"})[: len(given[-1])]
    assert len(given[-1]) == {"source": 2, "verify": 3}[asked]


def test_what_the_outside_world_says_enters_the_key(store):
    kinds = [replace(KIND, source=lambda s, a, v=v: Source({"table": v})) for v in ("v1", "v2")]
    keys = {do(task(kind), store).entry.key for kind in kinds}
    assert len(keys) == 2


def test_a_failed_step_leaves_no_entry_no_object_and_its_scratch(store):
    def fail(work):
        (work.scratch / "checkpoint").write_text("1")
        work.outputs["out"].write_text("half")
        raise DataError("bad rows")

    with pytest.raises(DataError):
        do(task(replace(KIND, run=fail)), store)
    assert not list((store.root / "objects").glob("*/*"))
    assert not list((store.root / "tmp").iterdir())
    assert list((store.root / "scratch").glob("*/checkpoint"))


def test_a_done_step_leaves_no_scratch(store):
    do(task(), store)
    assert not list((store.root / "scratch").iterdir())


def test_a_step_that_forgets_an_output_is_a_bug_with_a_name(store):
    ports = tuple(Port(name, "json") for name in ("one", "two", "out"))
    with pytest.raises(RuntimeError) as caught:
        do(task(replace(KIND, gives=ports, run=write_word)), store)
    assert str(caught.value) == "step kind write did not write one, two"


def test_inputs_are_given_as_verified_paths(store):
    made = do(task(), store).entry.outputs["out"]
    kind = replace(
        KIND,
        name="read",
        takes=(Port("in", "json"),),
        run=lambda work: (
            work.outputs["out"].write_text(work.inputs["in"].read_text() + work.digests["in"])
            and Outcome()
        ),
    )
    due = Task(Node("reader", kind, {"in": Edge("step", "out")}), CONFIG, "r", {"in": made})
    done = do(due, store)
    assert store.local_path(done.entry.outputs["out"]).read_text() == '"hi"' + made.sha256


def test_settings_are_structured_into_their_types():
    assert structure(KIND, LEAVES) == SETTINGS


def test_an_optional_setting_that_the_config_lacks_is_null():
    @dataclass(frozen=True)
    class Optional:
        word: str = leaf("text.word")
        end: str | None = leaf("text.end", optional=True)

    kind = replace(KIND, settings=Optional)
    assert structure(kind, {"text.word": "hi"}) == Optional("hi", None)
    assert structure(kind, {"text.word": "hi", "text.end": "!"}) == Optional("hi", "!")
    with pytest.raises(KeyError, match=r"text\.word"):
        structure(kind, {"text.end": "!"})


def test_a_value_that_does_not_fit_is_a_config_error_that_names_the_field():
    with pytest.raises(ConfigError) as caught:
        structure(KIND, LEAVES | {"limits": {"low": "x", "high": None}})
    assert caught.value.problem == (
        "the settings of write do not fit: Expected `float`, got `str` - at `$.limits.low`"
    )
    assert caught.value.hint == "it reads limits, names, table, text.word"
