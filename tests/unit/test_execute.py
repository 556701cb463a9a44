from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest

from llmops.adapters.store.folder import FolderStore
from llmops.errors import ConfigError, DataError
from llmops.execute import Task, execute, structure
from llmops.plan.graph import Edge, Node
from llmops.plan.kinds import Adapters, Outcome, Port, Source, StepKind, leaf


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
    assert not done.cached
    assert store.entry(done.entry.key) == done.entry
    assert store.local_path(done.entry.outputs["out"]).read_text() == '"hi"'
    assert done.entry.outputs["out"].rows == 1


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
    with pytest.raises(RuntimeError, match="write did not write out"):
        do(task(replace(KIND, run=lambda work: Outcome())), store)


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
    settings = structure(
        KIND,
        {"text.word": "w", "limits": {"low": 1, "high": None}}
        | {"names": ["a"], "table": {"x": 1}},
    )
    assert settings == Settings("w", Limits(1.0, None), ("a",), {"x": 1.0})


def test_a_value_that_does_not_fit_is_a_config_error_that_names_the_field():
    with pytest.raises(ConfigError, match="low"):
        structure(
            KIND,
            {"text.word": "w", "limits": {"low": "x", "high": None}} | {"names": [], "table": {}},
        )
