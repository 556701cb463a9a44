"""What a run would do: plan, cost, the meaning of a change, the compiled pipeline. Runs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from llmops.api.opening import Opened, graph_of, open_to_read, validate, validate_members
from llmops.api.past import show
from llmops.config.project import workspace
from llmops.config.reference_tables import ReferenceTables, read_tables
from llmops.engines import fitting
from llmops.errors import Refused
from llmops.execute import ask_source
from llmops.lineage import lock, record
from llmops.lineage.run_folder import all_runs
from llmops.plan import availability, cost
from llmops.plan import build as planning
from llmops.plan.build import Facts, Plan, Selection
from llmops.plan.cost import Knowledge
from llmops.plan.graph import Graph, build_graph
from llmops.plan.keys import read_settings
from llmops.plan.kinds import Source
from llmops.plan.reference import Reference, of_lock, of_record
from llmops.plan.side import Side

if TYPE_CHECKING:
    from llmops.plan.diff import Diff

EVERYTHING = Selection()


def plan(
    overrides: Sequence[str],
    *,
    limit: int | None = None,
    selection: Selection = EVERYTHING,
    against: str | None = None,
) -> Plan:
    """Say which steps of an experiment would run, why, and what they use; write nothing.

    Args:
        overrides: As on the command line, e.g. ``["+experiment=so_python"]``.
        limit: Rows of the query's result to use; all if None.
        selection: Steps to run again or alone.
        against: What counts as done: ``store``, ``lock``, or a run's id. None: the store, or the
            lock where the store has nothing of this experiment.

    Raises:
        ConfigError: If the config, its query or the selection is wrong.
    """
    return planned_against(open_to_read(validate(overrides), limit), selection, against)


def plan_members(
    overrides: Sequence[str],
    *,
    limit: int | None = None,
    selection: Selection = EVERYTHING,
    against: str | None = None,
    score_on: Side = "test",
) -> list[Plan]:
    """Plan every member of a sweep; see ``plan`` and, for ``score_on``, ``run``."""
    return [
        planned_against(open_to_read(composed, limit, score_on), selection, against)
        for composed in validate_members(overrides, sweep=True)
    ]


def diff(base: str, head: str | None = None) -> Diff:
    """Say what a change of the config means, experiment by experiment.

    Args:
        base: A git ref, folder, experiment file, lock file or run's id: what was.
        head: The same: what is; None for the config as it lies here.

    Raises:
        ConfigError: If one of them names nothing.
    """
    from llmops.review.differences import differences

    return differences(base, head, workspace(), _knowledge(read_tables()))


def check_budget(plans: Sequence[Plan], budget: float | None) -> None:
    """Refuse plans that together may cost more than ``budget``, or one more than its env.budget.

    Raises:
        Refused: If a budget is exceeded, or a price or quantity is unknown.
    """
    estimates = [plan.estimate for plan in plans if plan.estimate is not None]
    checks = [(one.total.money, one.budget, "env.budget") for one in estimates]
    checks.append((cost.of_sweep(estimates).total.money, budget, "--budget"))
    for money, allowed, setting in checks:
        if allowed is not None and (why := cost.over_budget(money, allowed, estimates[0].currency)):
            raise Refused(
                f"{why}; nothing was run",
                hint=f"raise or drop {setting}, or fill the price in: it is a line of your "
                "project's conf/knowledge/prices.yaml (docs/google_cloud.md, Prices)",
            )


def compile_pipeline(overrides: Sequence[str], target: Path) -> None:
    """Write the experiment's cold graph as a KFP pipeline; the same config gives the same bytes.

    Raises:
        ConfigError: If the config is wrong.
    """
    from llmops.engines.pipeline import compile_pipeline as compile_graph

    composed = validate(overrides)
    graph = graph_of(composed)
    compile_graph(graph, composed.config["engine"], target)


def planned_against(opened: Opened, selection: Selection, against: str | None) -> Plan:
    """Plan against what was asked for; by default the store, or the lock if that knows more."""
    graph = build_graph(opened.config["pipeline"], opened.kinds)
    fitting.check(graph, opened.config)
    sources = _sources(graph, opened)
    if against not in (None, "store"):
        return _build(opened, selection, sources, _reference(opened, str(against)))
    plan = _build(opened, selection, sources, None)
    known = _before(opened) or any(step.status in planning.DONE for step in plan.steps)
    if against is None and not known and lock.lock_path(opened.workspace, plan.experiment).exists():
        return _build(opened, selection, sources, _reference(opened, "lock"))
    return plan


def _build(
    opened: Opened,
    selection: Selection,
    sources: Mapping[str, Source],
    compared: Reference | None,
) -> Plan:
    before = compared.before if compared else _before(opened)
    assumed = compared.sources if compared else {}
    unknown = frozenset(step for step, source in sources.items() if not source.known)
    facts = Facts(
        entry=compared.entries.get if compared else opened.store.entry,
        sources={
            step: assumed[step] if step in unknown & assumed.keys() else source.facts
            for step, source in sources.items()
        },
        before=before,
        unknown=unknown - assumed.keys(),
        hit="unchanged" if compared else "cached",
    )
    plan = planning.build(
        opened.config,
        opened.kinds,
        facts,
        config_digest=opened.digest,
        selection=selection,
        notes=(
            *availability.notes(opened.config),
            *_notes(sources, unknown & assumed.keys()),
        ),
        against=compared.label if compared else "store",
    )
    known = _knowledge(opened.tables())
    outside = cost.Outside({step: source.bytes for step, source in sources.items()}, before)
    return replace(plan, estimate=cost.estimate(plan, opened.config, opened.kinds, known, outside))


def _knowledge(tables: ReferenceTables) -> Knowledge:
    return Knowledge(tables.prices, tables.limits, tables.models, datetime.now(UTC).date())


def _notes(sources: Mapping[str, Source], assumed: Iterable[str]) -> tuple[str, ...]:
    notes = [note for source in sources.values() for note in source.notes]
    notes += [f"{step}: taken to read the same tables as then" for step in sorted(assumed)]
    return tuple(notes)


def _reference(opened: Opened, against: str) -> Reference:
    if against != "lock":
        run = show(against)
        return of_record(run.record, f"run {run.record['run_id']}")
    path = lock.lock_path(opened.workspace, opened.config["name"])
    held = lock.read_lock(path)
    return of_lock(held, f"{path.relative_to(opened.workspace)} (run {held['run_id']})")


def _sources(graph: Graph, opened: Opened) -> dict[str, Source]:
    return {
        node.name: ask_source(
            node.kind, read_settings(node.kind, opened.config, node.name), opened.adapters
        )
        for node in graph.nodes
        if node.kind.source
    }


def _before(opened: Opened) -> dict[str, planning.Before]:
    for folder in all_runs(opened.workspace, opened.config["name"]):
        if before := record.steps_before(folder):
            return before
    return {}
