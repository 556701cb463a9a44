"""One step: look its key up, or do the work, publish the result and record it.

Knows no engine and no KFP. Only one process at a time works on a key; a second one waits and
then finds the result.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops.artifacts import Artifact, integral
from llmops.errors import ConfigError
from llmops.plan.graph import Node
from llmops.plan.keys import read_settings, step_key
from llmops.plan.kinds import Adapters, Outcome, Source, StepKind, Work
from llmops.ports.progress import TuningProgress
from llmops.ports.store import IndexEntry, Store


@dataclass(frozen=True)
class Task:
    """A step that is due: its node, the resolved config, its inputs and the run it belongs to."""

    node: Node
    config: Mapping[str, Any]
    run_id: str
    inputs: Mapping[str, Artifact]
    forced: bool = False


@dataclass(frozen=True)
class Result:
    """What came of a task; ``cached`` says that nothing was done."""

    entry: IndexEntry
    cached: bool


def execute(task: Task, store: Store, adapters: Adapters, progress: TuningProgress) -> Result:
    """Return the step's result, from the index or by doing the work.

    Raises:
        LlmopsError: What the step, its adapters or the store raised.
    """
    kind = task.node.kind
    settings = read_settings(kind, task.config, task.node.name)
    inputs = {name: artifact.sha256 for name, artifact in task.inputs.items()}
    source = ask_source(kind, settings, adapters).facts
    key = step_key(kind, settings, inputs, source)
    with store.lock(key):
        found = None if task.forced else store.entry(key)
        if found and _still_holds(kind, settings, adapters, found):
            return Result(found, cached=True)
        started = time.monotonic()
        published = _work(task, kind, settings, key, store, adapters, progress)
        entry = IndexEntry(
            key=key,
            step=task.node.name,
            kind=kind.name,
            revision=kind.revision,
            settings=settings,
            inputs=inputs,
            source=source,
            outputs=published.outputs,
            facts=published.facts,
            run_id=task.run_id,
            seconds=round(time.monotonic() - started, 3),
        )
        store.record(entry)
        store.clear_scratch(key)
        return Result(entry, cached=False)


def ask_source(kind: StepKind, settings: Mapping[str, Any], adapters: Adapters) -> Source:
    """Ask what this step knows of the outside world; nothing for most kinds."""
    return kind.source(structure(kind, settings), adapters) if kind.source else Source({})


def structure(kind: StepKind, settings: Mapping[str, Any]) -> Any:
    """Build the kind's settings dataclass from its leaves.

    Raises:
        ConfigError: If a value does not fit its field.
    """
    import msgspec

    leaves = {
        f.name: settings[f.metadata["leaf"]]
        for f in dataclasses.fields(kind.settings)
        if f.metadata["leaf"] in settings or f.metadata["leaf"] not in kind.optional_reads
    }
    try:
        return msgspec.convert(integral(leaves), kind.settings)
    except msgspec.ValidationError as exc:
        raise ConfigError(
            f"the settings of {kind.name} do not fit: {exc}",
            hint=f"it reads {', '.join(kind.reads)}",
        ) from exc


def _still_holds(
    kind: StepKind, settings: Mapping[str, Any], adapters: Adapters, entry: IndexEntry
) -> bool:
    return kind.verify is None or kind.verify(structure(kind, settings), adapters, entry.facts)


@dataclass(frozen=True)
class _Published:
    outputs: Mapping[str, Artifact]
    facts: Mapping[str, Any]


def _work(
    task: Task,
    kind: StepKind,
    settings: Mapping[str, Any],
    key: str,
    store: Store,
    adapters: Adapters,
    progress: TuningProgress,
) -> _Published:
    folder = store.temporary()
    try:
        scratch, keep = store.scratch(key), functools.partial(store.keep, key)
        adapters.take_over(scratch, keep)
        outputs = {port.name: folder / f"{port.name}.{port.kind}" for port in kind.gives}
        outcome: Outcome = kind.run(
            Work(
                step=task.node.name,
                key=key,
                run_id=task.run_id,
                settings=structure(kind, settings),
                inputs={name: store.local_path(item) for name, item in task.inputs.items()},
                digests={name: item.sha256 for name, item in task.inputs.items()},
                outputs=outputs,
                adapters=adapters,
                progress=progress,
                scratch=scratch,
                experiment=task.config["name"],
                keep=keep,
            )
        )
        return _Published(_publish(kind, outputs, outcome, store), outcome.facts)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(
    kind: StepKind, outputs: Mapping[str, Path], outcome: Outcome, store: Store
) -> dict[str, Artifact]:
    missing = [name for name, path in outputs.items() if not path.exists()]
    if missing:
        raise RuntimeError(f"step kind {kind.name} did not write {', '.join(missing)}")
    return {
        port.name: store.put(outputs[port.name], port.kind, rows=outcome.rows.get(port.name))
        for port in kind.gives
    }
