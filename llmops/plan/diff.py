"""What a change of an experiment means: leaves, steps, cost, and what got looser.

Two versions of a resolved config are compared as values: a key that moved to another file, a
comment or another order of keys is no change. Pure: both versions and all knowledge are passed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from llmops.plan import build as planning
from llmops.plan import cost
from llmops.plan.build import Before, Facts, Selection
from llmops.plan.cost import Caution, Knowledge, Outside, Use
from llmops.plan.kinds import KindTable
from llmops.plan.loosening import Loosening, loosened
from llmops.plan.reference import Reference

Change = Literal["changed", "added", "removed", "invalid"]
_ABSENT = object()


@dataclass(frozen=True)
class Version:
    """One side of a comparison: an experiment as it is, was, or ran.

    ``config`` is null for a lock, which holds only what its steps read; ``leaves`` are dotted key
    -> value, a list being one leaf; ``written`` has the interpolations among them; ``places`` who
    set them.
    """

    name: str
    digest: str
    leaves: Mapping[str, Any]
    reference: Reference
    config: Mapping[str, Any] | None = None
    written: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Side:
    """A leaf on one side: its value, as it is written if that differs, and who set it."""

    value: Any
    written: str | None
    set_by: str | None


@dataclass(frozen=True)
class LeafChange:
    """A leaf that changed; null where the leaf is not there. ``same_value``: only as written."""

    key: str
    before: Side | None
    after: Side | None
    same_value: bool = False


@dataclass(frozen=True)
class StepChange:
    """A step of the later version: ``status`` is ``unchanged``, ``run``, ``waits`` or ``gone``."""

    name: str
    status: str
    reason: str


@dataclass(frozen=True)
class CostChange:
    """What a run of all steps uses before and after, and what the changed steps alone will."""

    currency: str
    before: Use | None
    after: Use | None
    rerun: Use | None


@dataclass(frozen=True)
class ExperimentDiff:
    """What changed of one experiment."""

    name: str
    change: Change
    leaves: tuple[LeafChange, ...] = ()
    steps: tuple[StepChange, ...] = ()
    loosened: tuple[Loosening, ...] = ()
    cost: CostChange | None = None
    cautions: tuple[Caution, ...] = ()
    over_budget: str = ""
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    digests: tuple[str | None, str | None] = (None, None)

    @property
    def reruns(self) -> tuple[StepChange, ...]:
        """The steps that would run again."""
        return tuple(step for step in self.steps if step.status in ("run", "waits"))

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "name": self.name,
            "change": self.change,
            "digests": {"before": self.digests[0], "after": self.digests[1]},
            "leaves": [asdict(leaf) for leaf in self.leaves],
            "loosened": [asdict(one) for one in self.loosened],
            "steps": [asdict(step) for step in self.steps],
            "cost": self.cost and _cost_json(self.cost),
            "over_budget": self.over_budget,
            "warnings": [asdict(caution) for caution in self.cautions],
            "notes": list(self.notes),
            "problems": list(self.problems),
        }


@dataclass(frozen=True)
class Diff:
    """What a change means: the experiments that differ, and how many do not."""

    base: str
    head: str
    experiments: tuple[ExperimentDiff, ...]
    unchanged: int
    tables: tuple[str, ...] = ()  # reference tables that changed, e.g. knowledge/prices.yaml
    cheaper: tuple[Loosening, ...] = ()  # prices that let more pass a budget

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "schema": 1,
            "base": self.base,
            "head": self.head,
            "unchanged": self.unchanged,
            "tables": list(self.tables),
            "loosened": [asdict(one) for one in self.cheaper],
            "experiments": [experiment.as_json() for experiment in self.experiments],
        }


def compare(
    before: Version, after: Version, kinds: KindTable, knowledge: Knowledge
) -> ExperimentDiff | None:
    """Return what changed from one version to the other, or None if nothing did."""
    old, new = _comparable(before, after)
    leaves = _leaf_changes(before, after, old, new)
    steps = _steps(before, after, kinds)
    if not leaves and not any(step.status != "unchanged" for step in steps):
        return None
    changed = _Costs(before, after, kinds, knowledge)
    return ExperimentDiff(
        name=after.name,
        change="changed",
        leaves=leaves,
        steps=steps,
        loosened=tuple(loosened(old, new)),
        cost=changed.change(),
        cautions=changed.new_cautions(),
        over_budget=changed.over_budget(),
        notes=_notes(before, after),
        digests=(before.digest, after.digest),
    )


def added(after: Version, kinds: KindTable, knowledge: Knowledge) -> ExperimentDiff:
    """Return an experiment that was not there before."""
    nothing = Version(after.name, "", {}, Reference("nothing", {}, {}))
    costs = _Costs(nothing, after, kinds, knowledge)
    return ExperimentDiff(
        name=after.name,
        change="added",
        steps=_steps(nothing, after, kinds),
        cost=costs.change(),
        cautions=costs.new_cautions(),
        over_budget=costs.over_budget(),
        digests=(None, after.digest),
    )


def leaves_of(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return a config's leaves by dotted key; a list is one leaf, as is an empty mapping."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        path = f"{above}.{key}" if above else str(key)
        if isinstance(value, Mapping) and value:
            found |= leaves_of(value, path)
        else:
            found[path] = value
    return found


def read_leaves(before: Mapping[str, Before]) -> dict[str, Any]:
    """Return the leaves that steps read, by their full dotted key."""
    found: dict[str, Any] = {}
    for name, step in before.items():
        for path, value in step.settings.items():
            full = f"pipeline.steps.{name}.{path}" if path.split(".")[0] == "with" else path
            found |= leaves_of({full: value})
    return found


# --------------------------------------------------------------------- leaves


def _comparable(before: Version, after: Version) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return both sides' leaves; beside a lock only those that steps read."""
    if before.config is None or after.config is None:
        return read_leaves(before.reference.before), read_leaves(after.reference.before)
    return before.leaves, after.leaves


def _leaf_changes(
    before: Version, after: Version, old: Mapping[str, Any], new: Mapping[str, Any]
) -> tuple[LeafChange, ...]:
    both = bool(before.config is not None and after.config is not None)
    changes = []
    for key in dict.fromkeys([*new, *old]):
        same = key in old and key in new and old[key] == new[key]
        rewritten = both and before.written.get(key) != after.written.get(key)
        if not same or rewritten:
            sides = _side(before, old, key), _side(after, new, key)
            changes.append(LeafChange(key, *sides, same_value=same))
    return tuple(changes)


def _side(version: Version, leaves: Mapping[str, Any], key: str) -> Side | None:
    if key not in leaves:
        return None
    return Side(leaves[key], version.written.get(key), version.places.get(key))


# ---------------------------------------------------------------------- steps


def _steps(before: Version, after: Version, kinds: KindTable) -> tuple[StepChange, ...]:
    if after.config is None:
        found = _recorded_steps(before.reference, after.reference)
    else:
        found = [
            StepChange(step.name, step.status, "" if step.status == "unchanged" else step.reason)
            for step in _plan(after, before.reference, kinds).steps
        ]
    names = {step.name for step in found}
    gone = [name for name in before.reference.before if name not in names]
    return (*found, *(StepChange(name, "gone", "no longer in the pipeline") for name in gone))


def _plan(after: Version, reference: Reference, kinds: KindTable) -> planning.Plan:
    assert after.config is not None
    known = {**reference.sources, **after.reference.sources}
    sources = {} if reference.made_up else known
    facts = Facts(
        entry=reference.entries.get, sources=sources, before=reference.before, hit="unchanged"
    )
    return planning.build(
        after.config, kinds, facts, config_digest=after.digest, selection=Selection()
    )


def _recorded_steps(old: Reference, new: Reference) -> list[StepChange]:
    found = []
    for name, step in new.before.items():
        earlier = old.before.get(name)
        if earlier is None:
            found.append(StepChange(name, "run", "new step"))
        elif earlier.key == step.key:
            found.append(StepChange(name, "unchanged", ""))
        else:
            found.append(StepChange(name, "run", _reason(earlier, step)))
    return found


def _reason(old: Before, new: Before) -> str:
    reasons = planning.leaf_changes(old.settings, new.settings)
    if old.revision != new.revision:
        reasons.append(f"revision {old.revision} -> {new.revision}")
    if old.source != new.source:
        reasons.append("the tables changed")
    reasons += [
        f"{name} changed" for name in new.inputs if old.inputs.get(name) != new.inputs[name]
    ]
    return ", ".join(reasons)


# ----------------------------------------------------------------------- cost


class _Costs:
    """Estimates of both versions, as far as they can be planned."""

    def __init__(
        self, before: Version, after: Version, kinds: KindTable, knowledge: Knowledge
    ) -> None:
        self.kinds, self.knowledge = kinds, knowledge
        nothing = Reference("nothing", {}, {})
        self.before = self._estimate(before, nothing)
        self.after = self._estimate(after, nothing)
        self.rerun = self._estimate(after, before.reference)

    def change(self) -> CostChange | None:
        """Return the figures; None if the later version cannot be planned."""
        if self.after is None:
            return None
        return CostChange(
            self.after.currency,
            self.before.total if self.before else None,
            self.after.total,
            self.rerun.total if self.rerun else None,
        )

    def new_cautions(self) -> tuple[Caution, ...]:
        """Return what stands against the later version; what stood before as well, too."""
        return self.after.warnings if self.after else ()

    def over_budget(self) -> str:
        """Say why the changed steps are not certainly within env.budget."""
        if self.rerun is None or self.rerun.budget is None:
            return ""
        return cost.over_budget(self.rerun.total.money, self.rerun.budget, self.rerun.currency)

    def _estimate(self, version: Version, reference: Reference) -> cost.Estimate | None:
        if version.config is None or not version.config:
            return None
        plan = _plan(version, reference, self.kinds)
        outside = Outside(before=reference.before)
        return cost.estimate(plan, version.config, self.kinds, self.knowledge, outside)


def _cost_json(change: CostChange) -> dict[str, Any]:
    sides: dict[str, Use | None] = {
        "before": change.before,
        "after": change.after,
        "rerun": change.rerun,
    }
    return {"currency": change.currency} | {
        name: use and cost.use_json(use) for name, use in sides.items()
    }


def _notes(before: Version, after: Version) -> tuple[str, ...]:
    locks = [v.reference.label for v in (before, after) if v.config is None]
    return tuple(f"{label}: a lock holds only what the steps read" for label in locks)


def matches(diff: Diff, names: Sequence[str]) -> list[str]:
    """Return which conditions of ``--fail-on`` hold, one sentence each."""
    found = [
        f"{name}: {sentence}"
        for name in names
        for experiment in diff.experiments
        for sentence in _holding(name, experiment)
    ]
    budget = [name for name in names if name in ("loosened", "loosened-budget")]
    return found + [f"{name}: {one.key}, {one.why}" for name in budget for one in diff.cheaper]


CONDITIONS: Mapping[str, str] = {
    "loosened": "anything that is guarded got looser",
    "loosened-safety": "a safety threshold, rate, scorer or the gate's safety rule got looser",
    "loosened-gate": "a rule of the gate got looser or went",
    "loosened-leakage": "a limit on leakage, or how it is measured, got looser",
    "loosened-budget": "a budget or byte limit got looser",
    "loosened-data": "a rule for rows got looser, or more terms are acknowledged",
    "over-budget": "what reruns is not certainly within env.budget",
    "model": "a base model is retired, retiring or not known",
    "limit": "a provider's limit is exceeded",
    "rerun": "a step reruns",
    "changed": "an experiment changed, came or went",
}


def _holding(name: str, experiment: ExperimentDiff) -> list[str]:
    if name.startswith("loosened"):
        category = name.removeprefix("loosened").lstrip("-")
        return [
            f"{experiment.name}: {one.key}, {one.why}"
            for one in experiment.loosened
            if not category or category in one.categories
        ]
    if name == "over-budget":
        return [f"{experiment.name}: {experiment.over_budget}"] if experiment.over_budget else []
    if name in ("model", "limit"):
        return [f"{experiment.name}: {c.text}" for c in experiment.cautions if c.kind == name]
    if name == "rerun":
        steps = ", ".join(step.name for step in experiment.reruns)
        return [f"{experiment.name}: {steps}"] if steps else []
    return [f"{experiment.name} is {experiment.change}"]
