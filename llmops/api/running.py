"""Run an experiment, and follow a run that goes on elsewhere."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops.api.opening import Adjustment, adjusted, adjustments, open_config
from llmops.api.past import Run
from llmops.api.planning import EVERYTHING, check_budget, planned_against
from llmops.api.runner import Handling, Promotion, Runner, identity_of, new_identity
from llmops.config.project import workspace
from llmops.config.reference_tables import ReferenceTables
from llmops.config.remembered import Checked, checked
from llmops.engines.engine import Event
from llmops.errors import ConfigError
from llmops.lineage.run_folder import find_run
from llmops.plan.build import Plan, Selection, read_plan
from llmops.plan.side import Side


def run(
    overrides: Sequence[str],
    *,
    limit: int | None = None,
    selection: Selection = EVERYTHING,
    budget: float | None = None,
    score_on: Side = "test",
    promote: Promotion = "own",
    detach: bool = False,
    cancels: Callable[[], bool] = lambda: True,
    on_plan: Callable[[Plan], None] = lambda plan: None,
    on_start: Callable[[Path], None] = lambda folder: None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Run:
    """Run an experiment; steps whose key is in the store are not run again.

    Args:
        overrides: As on the command line.
        limit: Rows of the query's result to use; all if None.
        selection: Steps to run again or alone.
        budget: Money that the run may cost; None for no other bound than ``env.budget``.
        score_on: The side of the data whose rows contestants answer. A run that scores on
            validation rows leaves the test side alone and promotes nothing.
        promote: What a passed gate promotes: what this run decided itself; for the ``chosen``
            member of a sweep also what was found in the store; or ``nothing``.
        detach: Return once the work is handed over, of an engine that runs it elsewhere; the
            record then says ``running``, and ``attach`` finishes it.
        cancels: Asked after a Ctrl-C, where ``engine.on_interrupt`` is ``ask``: end the job too?
        on_plan: Called with the plan before anything starts.
        on_start: Called with the run's folder once it is there.
        on_event: Called with each progress event of a step: ``step``, ``event`` (``start``,
            ``progress``, ``end``), ``done``, ``total``, ``note``, ``status``, ``seconds``.

    Returns:
        The run, whether it succeeded, was refused by its gate, or failed in a step.

    Raises:
        ConfigError: If the config is wrong; no run folder is made then.
        Refused: If the estimate is not certainly within the budget; nothing has run then.
        BackendError: If the run folder or the store cannot be written.
        Interrupted: On Ctrl-C or SIGTERM; the record says so.
        Unattended: If the run goes on elsewhere and cannot be followed; ``attach`` can later.
    """
    with contextlib.ExitStack() as prepared:
        known = checked(
            overrides, before_composing=lambda: _start_engine_ahead(overrides, prepared)
        )
        if detach:
            _check_detachable(known.config)
        changes = adjustments(known.config, limit, score_on)
        opened = open_config(
            adjusted(known.config, changes),
            known.overrides,
            functools.partial(_origins, known, changes),
            tables=lambda: ReferenceTables(**known.tables),
        )
        planned = planned_against(opened, selection, "store")
        on_plan(planned)
        check_budget([planned], budget)
        identity = new_identity(opened, score_on=score_on, promote=promote)
        on_start(identity.folder.path)
        handling = Handling(on_event, detach, cancels)
        return Runner(opened, selection, identity).run(planned, handling)


def _start_engine_ahead(overrides: Sequence[str], prepared: contextlib.ExitStack) -> None:
    """Let the local engine import what it needs while a config that is new is composed.

    A config that is new has work to do, nearly always; where another engine is named, not here.
    """
    from llmops.engines import local

    if not any(word.lstrip("+").startswith(("engine=", "env=")) for word in overrides):
        prepared.enter_context(local.started_ahead())


def attach(
    name: str,
    *,
    cancels: Callable[[], bool] = lambda: True,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Run:
    """Follow a run that goes on elsewhere, and finish its record; one that has ended is returned.

    A run whose process died before it could submit its job is submitted now: its name is looked
    for first, so nothing is submitted twice.

    Args:
        name: The run's id, the beginning of it, or a path to its folder.
        cancels: As of ``run``.
        on_event: As of ``run``.

    Raises:
        ConfigError: If there is no such run, or it ran on this machine.
        Interrupted: As ``run``.
        Unattended: As ``run``.
    """
    folder = find_run(workspace(), name)
    recorded, config = folder.record(), folder.config()
    if recorded["status"] != "running":
        return Run(folder.path, recorded)
    if config["engine"]["kind"] == "local":
        raise ConfigError(
            f"run {recorded['run_id']} ran on this machine, and its process is gone or still there",
            hint="the same `run` command goes on from its last finished step",
        )
    opened = open_config(config, tuple(recorded["overrides"]), folder.origins)
    plain = folder.plan()
    forced = tuple(step["name"] for step in plain["steps"] if step["forced"])
    runner = Runner(opened, Selection(force=forced), identity_of(folder, recorded))
    runner.listeners.go_on(recorded)
    return runner.go_on(
        read_plan(plain, opened.store.entry), plain["estimate"], Handling(on_event, False, cancels)
    )


def _check_detachable(config: Mapping[str, Any]) -> None:
    from llmops.engines.remote import tuner_may_leave

    if config["engine"]["kind"] == "local":
        raise ConfigError(
            "--detach: engine local runs in processes of this command, which end with it",
            hint="choose an engine that runs elsewhere: engine=vertex or engine=kubeflow",
        )
    if tuner_may_leave(config):
        raise ConfigError(
            "--detach: nobody would be there when the tuning job of the provider has ended, for "
            "model.tuner.waiting.max_wait_s lets the step that waits for it end",
            hint="model.tuner.waiting.max_wait_s=null lets its task wait",
        )


def _origins(known: Checked, changes: Sequence[Adjustment]) -> dict[str, Any]:
    """Return each leaf's value, who set it and what that shadowed."""
    origins = dict(known.origins)
    config = adjusted(known.config, changes)
    for change in changes:
        hidden = origins[change.path]
        shadowed = [hidden["set_by"], *hidden.get("shadowed", ())]
        origins[change.path] = {"set_by": change.set_by, "shadowed": shadowed}
    return {
        path: {"value": _at(config, path), "shadowed": [], **origin}
        for path, origin in origins.items()
    }


def _at(config: Any, path: str) -> Any:
    for part in path.split("."):
        config = config[part]
    return config
