"""From a resolved config to a plan: each step with its key, whether it must run, and why.

Pure: the step table and the facts (what the store has, table versions, what ran before) are
passed in. Runs and opens nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from llmops.errors import ConfigError, ConfigProblems
from llmops.plan.graph import Graph, Node, build_graph
from llmops.plan.keys import read_settings, step_key
from llmops.plan.kinds import KindTable
from llmops.ports.store import IndexEntry

if TYPE_CHECKING:
    from llmops.plan.cost import Estimate

Status = Literal["cached", "unchanged", "run", "waits", "skipped"]
DONE = ("cached", "unchanged")


@dataclass(frozen=True)
class Selection:
    """Which steps the user picked: run again, run again from here on, or run alone."""

    force: tuple[str, ...] = ()
    start: str | None = None
    only: str | None = None


@dataclass(frozen=True)
class Before:
    """How a step looked when it last ran, in this experiment; ``rows`` by output."""

    key: str
    revision: int
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    source: Mapping[str, Any]
    rows: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What planning may know of the world.

    ``entry`` looks a step key up in the store's index; ``sources`` has, by step name, what the
    key of an ingesting step must know of its warehouse; ``unknown`` names the steps whose part of
    the world cannot be asked now; ``before`` is the last run, by step name. ``hit`` is how a step
    that ``entry`` knows is called: ``cached`` by the store, ``unchanged`` since a lock or run.
    """

    entry: Callable[[str], IndexEntry | None]
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    before: Mapping[str, Before] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    hit: Status = "cached"


@dataclass(frozen=True)
class PlannedStep:
    """One step of the plan.

    ``status`` is ``cached``, ``unchanged`` (since what the plan is compared with), ``run``,
    ``waits`` (its key depends on an output that is not known yet) or ``skipped`` (not selected).
    ``key`` is null while unknown. ``reason`` is for people.
    """

    name: str
    kind: str
    revision: int
    status: Status
    reason: str
    key: str | None
    takes: Mapping[str, str]
    inputs: Mapping[str, str]
    settings: Mapping[str, Any]
    source: Mapping[str, Any]
    forced: bool = False
    entry: IndexEntry | None = None


@dataclass(frozen=True)
class Plan:
    """All steps in running order, and notes for the user."""

    experiment: str
    pipeline: str
    config_digest: str
    steps: tuple[PlannedStep, ...]
    notes: tuple[str, ...] = ()
    against: str = "store"
    estimate: Estimate | None = None

    @property
    def to_run(self) -> tuple[PlannedStep, ...]:
        """The steps that are not known to be cached and are not skipped."""
        return tuple(step for step in self.steps if step.status in ("run", "waits"))

    def as_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON, without the cached entries' facts."""
        steps = []
        for step in self.steps:
            plain = {k: v for k, v in asdict(step).items() if k != "entry"}
            outputs = step.entry.outputs if step.entry else {}
            steps.append(plain | {"outputs": {k: asdict(v) for k, v in outputs.items()}})
        return {
            "experiment": self.experiment,
            "pipeline": self.pipeline,
            "config_digest": self.config_digest,
            "against": self.against,
            "notes": list(self.notes),
            "steps": steps,
            "estimate": self.estimate.as_json() if self.estimate else None,
        }


def read_plan(plain: Mapping[str, Any], entry: Callable[[str], IndexEntry | None]) -> Plan:
    """Return the plan that ``Plan.as_json`` wrote, without its estimate.

    Args:
        plain: The plan as plain JSON.
        entry: Looks a step key up in the store's index.
    """
    steps = []
    for step in plain["steps"]:
        fields = {name: value for name, value in step.items() if name != "outputs"}
        found = entry(step["key"]) if step["status"] in DONE else None
        steps.append(PlannedStep(**fields, entry=found))
    return Plan(
        experiment=plain["experiment"],
        pipeline=plain["pipeline"],
        config_digest=plain["config_digest"],
        steps=tuple(steps),
        notes=tuple(plain["notes"]),
        against=plain["against"],
    )


def build(
    config: Mapping[str, Any],
    kinds: KindTable,
    facts: Facts,
    *,
    config_digest: str,
    selection: Selection,
    notes: tuple[str, ...] = (),
    against: str = "store",
) -> Plan:
    """Plan ``config``.

    Raises:
        ConfigProblems: If the pipeline is miswired or a step reads a leaf that is not set.
        ConfigError: If the selection names an unknown step, or needs a step that is not cached.
    """
    graph = build_graph(config["pipeline"], kinds)
    settings = _all_settings(graph, config)
    forced = _forced(graph, selection)
    planned: dict[str, PlannedStep] = {}
    for node in graph.nodes:
        planned[node.name] = _plan_step(node, settings[node.name], planned, facts, forced)
    steps = tuple(_select(graph, planned, selection))
    return Plan(config["name"], graph.name, config_digest, steps, notes, against)


def _all_settings(graph: Graph, config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    for node in graph.nodes:
        try:
            found[node.name] = read_settings(node.kind, config, node.name)
        except ConfigError as exc:
            problems.append(f"{exc.problem}; {exc.hint}")
    if problems:
        raise ConfigProblems(problems)
    return found


def _forced(graph: Graph, selection: Selection) -> frozenset[str]:
    forced = {graph.node(name).name for name in selection.force}
    if selection.start is not None:
        forced |= {graph.node(selection.start).name} | graph.after(selection.start)
    if selection.only is not None:
        graph.node(selection.only)
    return frozenset(forced)


def _plan_step(
    node: Node,
    settings: Mapping[str, Any],
    planned: Mapping[str, PlannedStep],
    facts: Facts,
    forced: frozenset[str],
) -> PlannedStep:
    known = _inputs(node, planned)
    inputs, waits_for = known.digests, known.waits_for
    source = facts.sources.get(node.name, {})
    unknown = node.name in facts.unknown
    key = None if waits_for or unknown else step_key(node.kind, settings, inputs, source)
    entry = facts.entry(key) if key else None
    before = facts.before.get(node.name)
    status, reason = facts.hit, str(facts.hit)
    if waits_for:
        status, reason = "waits", _changes(node, settings, {}, {}, before) or _waits(waits_for)
    elif node.name in forced:
        status, reason = "run", "asked for"
    elif unknown and before:
        status = "run"
        reason = _changes(node, settings, inputs, {}, before) or "its tables are not known yet"
    elif entry is None:
        status, reason = "run", _why(node, settings, inputs, source, before, str(key))
    return PlannedStep(
        name=node.name,
        kind=node.kind.name,
        revision=node.kind.revision,
        status=status,
        reason=reason,
        key=key,
        takes={name: str(edge) for name, edge in node.takes.items()},
        inputs=inputs,
        settings=settings,
        source=source,
        forced=node.name in forced,
        entry=entry if status in DONE else None,
    )


@dataclass(frozen=True)
class _Inputs:
    digests: dict[str, str]
    waits_for: tuple[str, ...]


def _inputs(node: Node, planned: Mapping[str, PlannedStep]) -> _Inputs:
    digests: dict[str, str] = {}
    waits_for: list[str] = []
    for name, edge in node.takes.items():
        entry = planned[edge.step].entry
        if entry is None:
            waits_for.append(edge.step)
        else:
            digests[name] = entry.outputs[edge.output].sha256
    return _Inputs(digests, tuple(dict.fromkeys(waits_for)))


def _waits(names: tuple[str, ...]) -> str:
    return f"after {', '.join(names)}"


def _why(
    node: Node,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    source: Mapping[str, Any],
    before: Before | None,
    key: str,
) -> str:
    if before is None:
        return "first run"
    if before.key == key:
        return "its result is no longer in the store"
    return _changes(node, settings, inputs, source, before) or "its inputs changed"


def _changes(
    node: Node,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    source: Mapping[str, Any],
    before: Before | None,
) -> str:
    if before is None:
        return ""
    changes: list[str] = []
    if before.revision != node.kind.revision:
        changes.append(f"{node.kind.name} revision {before.revision} -> {node.kind.revision}")
    changes += leaf_changes(before.settings, settings)
    changes += [
        f"{n} changed" for n, sha in inputs.items() if before.inputs.get(n) not in (None, sha)
    ]
    changes += [
        f"the {name} changed" for name, value in source.items() if before.source.get(name) != value
    ]
    return ", ".join(changes)


def leaf_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Name the leaves that differ, e.g. ``tuning.max_steps 40 -> 80``; long texts by name only."""
    flat_old, flat_new = flatten(old), flatten(new)
    paths = sorted(flat_old.keys() | flat_new.keys())
    return [
        _change(path, flat_old.get(path), flat_new.get(path))
        for path in paths
        if flat_old.get(path) != flat_new.get(path)
        and not _filled(path, flat_old, flat_new)
        and not _filled(path, flat_new, flat_old)
    ]


def _filled(path: str, empty: Mapping[str, Any], full: Mapping[str, Any]) -> bool:
    """Say whether an empty list or mapping here has items there, which are named themselves."""
    return empty.get(path) in ([], {}) and any(key.startswith(f"{path}.") for key in full)


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Return nested mappings and lists as ``{dotted.path: leaf}``."""
    if isinstance(value, Mapping) and value:
        items = ((str(key), item) for key, item in value.items())
    elif isinstance(value, list | tuple) and value:
        items = ((str(index), item) for index, item in enumerate(value))
    else:
        return {path: value}
    flat: dict[str, Any] = {}
    for key, item in items:
        flat |= flatten(item, f"{path}.{key}" if path else key)
    return flat


def _change(path: str, old: Any, new: Any) -> str:
    if max(len(str(old)), len(str(new))) > 40:
        return f"{path} changed"
    return f"{path} {_show(old)} -> {_show(new)}"


def _show(value: Any) -> str:
    return "null" if value is None else str(value)


def _select(
    graph: Graph, planned: Mapping[str, PlannedStep], selection: Selection
) -> list[PlannedStep]:
    if selection.only is None:
        return list(planned.values())
    chosen = planned[selection.only]
    waiting = [edge.step for edge in graph.node(chosen.name).takes.values()]
    missing = [name for name in waiting if planned[name].status not in DONE]
    if missing:
        raise ConfigError(
            f"--only {chosen.name} needs {', '.join(missing)}, which is not cached",
            hint="run the experiment without --only first, or use --from",
        )
    return [
        step
        if step.name == chosen.name or step.status in DONE
        else replace(step, status="skipped", reason="not selected")
        for step in planned.values()
    ]
