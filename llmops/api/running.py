"""Carry out a plan, write its run folder, and promote what its gate passed."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmops.api.opening import Adjustment, Opened, adjusted, adjustments, open_config
from llmops.api.past import Run
from llmops.api.planning import EVERYTHING, check_budget, planned_against
from llmops.artifacts import canonical_json
from llmops.config.identity import config_digest
from llmops.config.project import workspace
from llmops.config.reference_tables import read_tables
from llmops.config.remembered import Checked, checked
from llmops.errors import ConfigError, Interrupted, LlmopsError, Refused, StepFailed, unknown_name
from llmops.files import refusal
from llmops.lineage import machine, record
from llmops.lineage.datasets import changes
from llmops.lineage.run_folder import RunFolder, all_runs, find_run, new_run_id
from llmops.plan import cost
from llmops.plan.build import Plan, Selection
from llmops.plan.graph import build_graph
from llmops.plan.side import Side
from llmops.ports import Store
from llmops.processes import this_process
from llmops.worker import REQUEST

if TYPE_CHECKING:
    from llmops.review.reproduction import Reproduction

ENGINES: Mapping[str, str] = {"local": "llmops.engines.local"}
PAID = {"tuner", "generator", "registry"}  # what a reproduction takes from the store if it can
Event = Mapping[str, Any]
Promotion = Literal["own", "chosen", "nothing"]


def run(
    overrides: Sequence[str],
    *,
    limit: int | None = None,
    selection: Selection = EVERYTHING,
    budget: float | None = None,
    score_on: Side = "test",
    promote: Promotion = "own",
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
    """
    known = checked(overrides)
    changes = adjustments(known.config, limit, score_on)
    opened = open_config(
        adjusted(known.config, changes),
        known.overrides,
        functools.partial(_origins, known, changes),
    )
    planned = planned_against(opened, selection, "store")
    on_plan(planned)
    check_budget([planned], budget)
    runner = _Runner(opened, selection, score_on=score_on, promote=promote)
    on_start(runner.folder.path)
    return runner.run(planned, on_event)


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
    from llmops.review import reproduction

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
    made = _Runner(opened, selection, reproduces=before["run_id"]).run(planned, on_event)
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


class _Runner:
    """Carries out one plan and writes its run folder."""

    def __init__(
        self,
        opened: Opened,
        selection: Selection,
        reproduces: str | None = None,
        score_on: Side = "test",
        promote: Promotion = "own",
    ) -> None:
        self.opened = opened
        self.reproduces = reproduces  # such a run moves no alias
        self.score_on = score_on  # nor does one that did not see the test side
        self.promote = promote
        self.selection = selection
        self.started = datetime.now(UTC)
        self.run_id = new_run_id(self.started)
        self.folder = RunFolder.create(opened.workspace, opened.config["name"], self.run_id)
        self.surroundings = machine.surroundings(opened.workspace)  # as they were at the start
        self.process = this_process()
        self.engine_started = False

    def run(self, plan: Plan, on_event: Callable[[Event], None]) -> Run:
        self._write_inputs(plan)
        try:
            if plan.to_run:
                plan = self._start_engine(plan, on_event)
        except Interrupted as exc:
            self._finish(plan, "interrupted", _error(exc))
            raise
        except LlmopsError as exc:
            return self._finish(plan, "failed", _error(exc))
        except OSError as exc:
            refused = refusal(exc)
            if refused is None:
                raise
            return self._finish(plan, "failed", _error(refused))
        return self._finish(plan, "succeeded", None)

    def _write_inputs(self, plan: Plan) -> None:
        self.folder.write_yaml("config.yaml", self.opened.config)
        self.folder.write_json("provenance.json", self.opened.origins())
        self.folder.write_json("plan.json", plan.as_json())
        self.folder.write_json("run.json", self._record(plan, "running", None))

    def _start_engine(self, plan: Plan, on_event: Callable[[Event], None]) -> Plan:
        """Run the plan; if an object of the store turns out damaged, plan anew, once."""
        self.opened.store.clear_temporary()
        for attempt in (1, 2):
            self._engine(plan, on_event)
            failed = self._failed_step(plan)
            if failed is None or failed.error["class"] != "DamagedObject" or attempt == 2:
                break
            plan = planned_against(self.opened, self.selection, "store")
            self.folder.write_json("plan.json", plan.as_json())
        if failed is not None:
            raise failed.as_error(self.folder.path)
        return plan

    def _engine(self, plan: Plan, on_event: Callable[[Event], None]) -> None:
        from llmops.engines.local import Assignment

        kind = self.opened.config["engine"]["kind"]
        if kind not in ENGINES:
            raise unknown_name("engine", kind, ENGINES, where="engine.kind")
        forced = [step.name for step in plan.steps if step.forced and step.status != "skipped"]
        self.opened.store.write_report(self.run_id, REQUEST, {"forced": forced})
        assignment = Assignment(
            run_folder=self.folder.path,
            workspace=self.opened.workspace,
            run_id=self.run_id,
            config_uri=self.opened.store.put_text(canonical_json(self.opened.config)).uri,
            store_root=self.opened.workspace / self.opened.config["store"]["path"],
        )
        self.engine_started = True
        importlib.import_module(ENGINES[kind]).run(assignment, on_event)

    def _failed_step(self, plan: Plan) -> _FailedStep | None:
        """Return the step that failed, or the first that was due and left no report."""
        store = self.opened.store
        for step in plan.to_run:
            report = store.read_report(self.run_id, step.name)
            if report is None:  # its worker did not live to write one
                error = _vanished(step.name, self.folder.path / "logs")
                report = {"status": "failed", "error": error}
                store.write_report(self.run_id, step.name, report)
            if report["status"] == "failed":
                return _FailedStep(step.name, report["error"])
        return None

    def _finish(self, plan: Plan, status: str, error: dict[str, Any] | None) -> Run:
        made = self._record(plan, status, error)
        made["dataset_changes"] = changes(made, self._earlier(), self.opened.store)
        decision = made["gate"]
        if status == "succeeded" and decision is not None:
            if self.reproduces is None and self.score_on == "test" and self.promote != "nothing":
                chosen = self.promote == "chosen"
                made["champion"] = _promote(self.opened, made, decision, chosen=chosen)
            made["status"] = "succeeded" if decision["passed"] else "refused"
        if made["metrics"]:
            self.folder.write_json("metrics.json", made["metrics"])
        _write_report(self.folder, self.opened.store, made)
        self.folder.write_json("run.json", made)  # last: a finished run has all of its files
        return Run(self.folder.path, made)

    def _earlier(self) -> Iterator[Mapping[str, Any]]:
        """Yield the records of the experiment's earlier runs, newest first."""
        for folder in all_runs(self.folder.path.parents[2], self.opened.config["name"]):
            if folder.path == self.folder.path:
                continue
            try:
                yield folder.record()
            except ConfigError:
                continue

    def _record(self, plan: Plan, status: str, error: dict[str, Any] | None) -> dict[str, Any]:
        config, store = self.opened.config, self.opened.store
        steps = record.step_records(plan, store, self.run_id)
        results = record.results(steps, store)
        now = datetime.now(UTC)
        ended = status != "running"
        return {
            "schema": record.SCHEMA,
            "run_id": self.run_id,
            "experiment": config["name"],
            "version": config["version"],
            "status": status,
            "started": self.started.isoformat(timespec="seconds"),
            "finished": now.isoformat(timespec="seconds") if ended else None,
            "seconds": round((now - self.started).total_seconds(), 3) if ended else None,
            "config_digest": self.opened.digest,
            "pipeline_digest": self._pipeline_digest(),
            "reproduces": self.reproduces,
            "overrides": list(self.opened.overrides),
            "scored_on": self.score_on,
            "process": self.process,
            **self.surroundings,
            "source": _source(config, results["statistics"]),
            "dataset_version": results["card"] and results["card"]["dataset_version"],
            "prompt": results["card"] and results["card"]["prompt"],
            "engine": {"kind": config["engine"]["kind"], "started": self.engine_started},
            "error": error,
            "steps": steps,
            "counts": _counts(steps),
            "estimates": self._estimates(plan, steps) if ended else None,
            "champion": None,
            "dataset_changes": None,  # since the experiment's version before
            **{name: results[name] for name in ("model", "metrics", "safety", "gate")},
        }

    def _pipeline_digest(self) -> str:
        from llmops.engines.pipeline import pipeline_digest

        graph = build_graph(self.opened.config["pipeline"], self.opened.kinds)
        return pipeline_digest(graph, self.opened.config["engine"]["image"])

    def _estimates(self, plan: Plan, steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what the steps of this run were estimated to use, and what they used."""
        assert plan.estimate is not None
        used = cost.actual(steps, self.opened.config, self.opened.kinds, read_tables().prices)
        return {
            "currency": plan.estimate.currency,
            "total": {
                "estimated": cost.use_json(plan.estimate.total),
                "actual": cost.use_json(cost.total(used.values())),
            },
            "steps": {
                name: {"estimated": cost.use_json(use), "actual": cost.use_json(used[name])}
                for name, use in plan.estimate.steps.items()
                if name in used
            },
        }


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


@dataclass(frozen=True)
class _FailedStep:
    name: str
    error: Mapping[str, Any]

    def as_error(self, folder: Path) -> StepFailed:
        log = folder / "logs" / f"{self.name}.log"
        hint = f"{self.error['hint']}\n       log: {log}" if self.error["hint"] else f"log: {log}"
        return StepFailed(
            self.error["problem"],
            step=self.name,
            hint=hint,
            exit_code=self.error["exit_code"],
        )


def _vanished(step: str, logs: Path) -> dict[str, Any]:
    """Describe a step that left no report: it was killed, or the engine did not get to it."""
    if (logs / f"{step}.log").exists():
        problem, hint = "its process was killed", "was the machine short of memory? run it again"
    else:
        last = (logs / "engine.log").read_text("utf-8", "replace").strip().rpartition("\n")[2]
        problem, hint = f"the engine did not start it: {last}", f"see {logs / 'engine.log'}"
    return {"class": "Vanished", "problem": problem, "hint": hint, "exit_code": 5}


def _error(exc: LlmopsError) -> dict[str, Any]:
    step = exc.step if isinstance(exc, StepFailed) else None
    return {"step": step, "problem": exc.problem, "hint": exc.hint, "exit_code": exc.exit_code}


def _source(config: Mapping[str, Any], statistics: Mapping[str, Any] | None) -> Any:
    if "warehouse" not in config:
        return None
    name = statistics["source"] if statistics else None
    return {**config["warehouse"]["source"], "name": name}


def _counts(steps: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {
        f"{step['name']}.{name}": output["rows"]
        for step in steps
        for name, output in step["outputs"].items()
        if output["rows"] is not None
    }


def _promote(
    opened: Opened, made: Mapping[str, Any], decision: Mapping[str, Any], *, chosen: bool
) -> dict[str, Any] | None:
    """Move the alias that a passed gate earns, if the gate decided in this very run.

    A run that only found an old decision in the store must not take the alias back from a newer
    model; it moves the alias only if nothing holds it.
    """
    deploy = opened.config.get("deploy")
    facts = next((s["facts"] for s in made["steps"] if s["kind"] == "deploy"), None)
    if deploy is None or facts is None or deploy["promote_to"] is None:
        return None
    name, version, alias = facts["name"], facts["version"], deploy["promote_to"]
    outcome = {"name": name, "version": version, "alias": alias, "promoted": False}
    if not decision["passed"]:
        return outcome | {"reason": "the gate refused"}
    registry = opened.adapters.registry()
    holder = _holder(registry, name, alias)
    if holder == version:
        return outcome | {"promoted": True, "reason": f"holds {alias} already"}
    decided_now = chosen or any(
        s["kind"] == "gate" and s["status"] == "done" for s in made["steps"]
    )
    if holder is not None and not decided_now:
        return outcome | {"reason": f"version {holder} holds {alias}; nothing new was decided"}
    registry.set_alias(name, alias, version, reason=f"gate passed in run {made['run_id']}")
    return outcome | {"promoted": True, "reason": "the gate passed"}


def _holder(registry: Any, name: str, alias: str) -> int | None:
    for version in registry.list():
        if version.name == name and alias in version.aliases:
            found: int = version.version
            return found
    return None


def _write_report(folder: RunFolder, store: Store, made: Mapping[str, Any]) -> None:
    from llmops.report.page import write_report

    write_report(folder.path, store, made)
