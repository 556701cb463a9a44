"""Run a run again from its folder alone, and compare what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmops.api.opening import open_config
from llmops.api.planning import check_budget, planned_against
from llmops.api.runner import Handling, Runner, new_identity
from llmops.config.identity import config_digest
from llmops.config.project import workspace
from llmops.engines.engine import Event
from llmops.errors import Refused, StepFailed
from llmops.lineage.run_folder import find_run
from llmops.plan.build import Plan, Selection
from llmops.plan.graph import build_graph
from llmops.review import reproduction
from llmops.review.reproduction import Reproduction

PAID = {"tuner", "generator", "registry"}  # what comes from the store if it can


def reproduce(
    name: str,
    *,
    everything: bool = False,
    on_plan: Callable[[Plan], None] = lambda plan: None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Reproduction:
    """Run a run again from its folder alone, and compare config, pipeline, data and the rest.

    Args:
        name: The run's id, the beginning of it, or a path to its folder.
        everything: Tune and answer again as well; else they come from the store if it has them.
        on_plan: As of ``run``.
        on_event: As of ``run``.

    Raises:
        ConfigError: If there is no such run, or its config is none that this version accepts.
        Refused: If ``config.yaml`` is not the config that the run recorded, or over budget.
        StepFailed: If a step fails this time.
    """
    folder = find_run(workspace(), name)
    before, config = folder.record(), folder.config()
    kept = reproduction.config_check(before["config_digest"], config_digest(config))
    if not kept.same:
        raise Refused(
            f"{folder.path / 'config.yaml'} is not the config that ran: its digest is "
            f"{kept.after[:12]}, the record says {kept.before[:12]}",
            hint="somebody changed the file; nothing was run",
        )
    _check_resolved(config, folder.path / "config.yaml")
    opened = open_config(config, tuple(before["overrides"]), folder.origins)
    graph = build_graph(config["pipeline"], opened.kinds)
    again = (node.name for node in graph.nodes if everything or not PAID & set(node.kind.uses))
    selection = Selection(force=tuple(again))
    planned = planned_against(opened, selection, "store")
    on_plan(planned)
    check_budget([planned], None)
    identity = new_identity(opened, reproduces=before["run_id"])
    made = Runner(opened, selection, identity).run(planned, Handling(on_event))
    if made.record["status"] == "failed":
        error = made.record["error"]
        raise StepFailed(
            f"run {made.record['run_id']}: {error['problem']}",
            step=error["step"] or "",
            hint=error["hint"],
            exit_code=error["exit_code"],
        )
    return reproduction.compare(before, made.record)


def _check_resolved(config: Mapping[str, Any], path: Path) -> None:
    """Refuse a resolved config that this version of llmops does not accept.

    Raises:
        ConfigProblems: With every mistake.
    """
    from llmops.config import rules, schemas
    from llmops.config.problems import Problem, dotted, raise_all

    found = schemas.mistakes(config) or rules.mistakes(config)
    raise_all(Problem(str(path), dotted(m.path), m.expected, m.got, m.hint) for m in found)
