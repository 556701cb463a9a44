"""What a plan is compared with where it is not the store: a lock, an earlier run, another config.

Each is a table of steps with their keys and what they gave, so that planning finds its "hits" in
it. Pure: the documents are passed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmops.artifacts import Artifact
from llmops.plan.build import Before
from llmops.plan.graph import Graph
from llmops.plan.keys import read_settings, step_key
from llmops.ports.store import IndexEntry


@dataclass(frozen=True)
class Reference:
    """Steps that count as done: by key for a plan to find, by name to say what changed.

    The keys of one that is made up, of a config that need not have run, know of no tables.
    """

    label: str
    entries: Mapping[str, IndexEntry]
    before: Mapping[str, Before]
    made_up: bool = False

    @property
    def sources(self) -> dict[str, Mapping[str, Any]]:
        """What each step knew of the outside world, e.g. table versions, by step name."""
        return {name: before.source for name, before in self.before.items() if before.source}


def of_lock(lock: Mapping[str, Any], label: str) -> Reference:
    """Read the steps of a lock."""
    steps = {name: _lock_step(name, step) for name, step in lock["steps"].items()}
    return _reference(label, str(lock["run_id"]), steps)


def of_record(record: Mapping[str, Any], label: str) -> Reference:
    """Read the finished steps of a run record."""
    steps = {step["name"]: step for step in record["steps"] if step["status"] in ("done", "cached")}
    return _reference(label, str(record["run_id"]), steps)


def of_config(graph: Graph, config: Mapping[str, Any], label: str) -> Reference:
    """Make up what a config's steps would leave, for another config to be compared with.

    The keys are not those of a store: nothing is known of tables, and outputs are named by the
    step that gives them.
    """
    entries: dict[str, IndexEntry] = {}
    before: dict[str, Before] = {}
    outputs: dict[str, str] = {}
    for node in graph.nodes:
        settings = read_settings(node.kind, config, node.name)
        inputs = {name: outputs[str(edge)] for name, edge in node.takes.items()}
        key = step_key(node.kind, settings, inputs, {})
        given = {p.name: Artifact("", "json", f"{key}:{p.name}", 0) for p in node.kind.gives}
        outputs |= {f"{node.name}.{name}": item.sha256 for name, item in given.items()}
        before[node.name] = Before(key, node.kind.revision, settings, inputs, {})
        entries[key] = IndexEntry(
            key,
            node.name,
            node.kind.name,
            node.kind.revision,
            settings,
            inputs,
            {},
            given,
            {},
            "",
            0,
        )
    return Reference(label, entries, before, made_up=True)


def _lock_step(name: str, step: Mapping[str, Any]) -> dict[str, Any]:
    rows = step.get("rows", {})
    outputs = {
        output: {"uri": "", "kind": "json", "sha256": sha256, "bytes": 0, "rows": rows.get(output)}
        for output, sha256 in step["outputs"].items()
    }
    return {**step, "name": name, "outputs": outputs, "facts": {}}


def _reference(label: str, run_id: str, steps: Mapping[str, Mapping[str, Any]]) -> Reference:
    entries = {step["key"]: _entry(step, run_id) for step in steps.values()}
    return Reference(label, entries, {name: before_of(step) for name, step in steps.items()})


def before_of(step: Mapping[str, Any]) -> Before:
    """Return how a recorded step looked."""
    rows = {name: out["rows"] for name, out in step["outputs"].items() if out["rows"] is not None}
    return Before(
        step["key"], step["revision"], step["settings"], step["inputs"], step["source"], rows
    )


def _entry(step: Mapping[str, Any], run_id: str) -> IndexEntry:
    return IndexEntry(
        key=step["key"],
        step=step["name"],
        kind=step["kind"],
        revision=step["revision"],
        settings=step["settings"],
        inputs=step["inputs"],
        source=step["source"],
        outputs={name: Artifact(**output) for name, output in step["outputs"].items()},
        facts=step["facts"],
        run_id=run_id,
        seconds=0.0,
    )
