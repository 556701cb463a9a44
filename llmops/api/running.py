"""Carry out a plan, write its run folder, and promote what its gate passed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmops.api.announcing import Listeners
from llmops.api.opening import Adjustment, Opened, adjusted, adjustments, open_config
from llmops.api.past import Run
from llmops.api.planning import EVERYTHING, check_budget, planned_against
from llmops.artifacts import canonical_json
from llmops.config.identity import config_digest
from llmops.config.project import workspace
from llmops.config.reference_tables import ReferenceTables
from llmops.config.remembered import Checked, checked
from llmops.engines.engine import Assignment, engine
from llmops.engines.jobs import logs, read_facts, read_parts
from llmops.errors import ConfigError, Interrupted, LlmopsError, Refused, StepFailed, Unattended
from llmops.files import refusal
from llmops.lineage import machine, record
from llmops.lineage.datasets import changes
from llmops.lineage.looks import looked
from llmops.lineage.run_folder import RunFolder, all_runs, find_run, new_run_id
from llmops.plan import cost
from llmops.plan.build import Plan, Selection, read_plan
from llmops.plan.graph import Graph, build_graph
from llmops.plan.side import Side
from llmops.ports import Store
from llmops.processes import this_process
from llmops.steps import COMPONENTS
from llmops.worker import REQUEST, request

if TYPE_CHECKING:
    from llmops.review.reproduction import Reproduction

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
        identity = _new_identity(opened, score_on=score_on, promote=promote)
        on_start(identity.folder.path)
        handling = Handling(on_event, detach, cancels)
        return _Runner(opened, selection, identity).run(planned, handling)


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
    runner = _Runner(opened, Selection(force=forced), _identity_of(folder, recorded))
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
    identity = _new_identity(opened, reproduces=before["run_id"])
    made = _Runner(opened, selection, identity).run(planned, Handling(on_event))
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


@dataclass(frozen=True)
class Handling:
    """How whoever started a run wants to hear of it; see ``run``."""

    on_event: Callable[[Event], None]
    detach: bool = False
    cancels: Callable[[], bool] = lambda: True


@dataclass(frozen=True)
class _Identity:
    """What a run is from its start to its end, whichever process looks after it."""

    run_id: str
    started: datetime
    folder: RunFolder
    surroundings: Mapping[str, Any]  # as they were at the start
    reproduces: str | None = None  # such a run moves no alias
    score_on: Side = "test"  # nor does one that did not see the test side
    promote: Promotion = "own"

    @property
    def promotes(self) -> bool:
        """Whether what the gate passes is promoted."""
        return self.reproduces is None and self.score_on == "test" and self.promote != "nothing"


def _new_identity(
    opened: Opened,
    *,
    reproduces: str | None = None,
    score_on: Side = "test",
    promote: Promotion = "own",
) -> _Identity:
    started = datetime.now(UTC)
    run_id = new_run_id(started)
    folder = RunFolder.create(opened.workspace, opened.config["name"], run_id)
    surroundings = machine.surroundings(opened.workspace)
    return _Identity(run_id, started, folder, surroundings, reproduces, score_on, promote)


def _identity_of(folder: RunFolder, recorded: Mapping[str, Any]) -> _Identity:
    return _Identity(
        recorded["run_id"],
        datetime.fromisoformat(recorded["started"]),
        folder,
        {name: recorded[name] for name in machine.SURROUNDINGS},
        recorded["reproduces"],
        recorded["scored_on"],
    )


class _Runner:
    """Carries out one plan and writes its run folder."""

    def __init__(self, opened: Opened, selection: Selection, identity: _Identity) -> None:
        self.opened = opened
        self.selection = selection
        self.identity = identity
        self.run_id, self.folder = identity.run_id, identity.folder
        self.process = this_process()
        self.engine_started = False
        self.listeners = Listeners(identity.folder, opened.config, opened.store)
        self.estimate: Mapping[str, Any] = {}

    def run(self, plan: Plan, handling: Handling) -> Run:
        assert plan.estimate is not None
        self.folder.write_yaml("config.yaml", self.opened.config)
        self.folder.write_json("provenance.json", self.opened.origins())
        self.folder.write_json("plan.json", plan.as_json())
        begun = self._record(plan, "running", None)
        self.folder.write_json("run.json", begun)
        self.listeners.started(begun)
        return self.go_on(plan, plan.estimate.as_json(), handling)

    def go_on(self, plan: Plan, estimate: Mapping[str, Any], handling: Handling) -> Run:
        """Carry the plan out, from where an earlier process left off."""
        self.estimate = estimate
        try:
            if plan.to_run:
                outcome = self._start_engine(plan, handling)
                plan = outcome.plan
                if not outcome.ended:
                    return self._still_running(plan, None)
        except Interrupted as exc:
            self._finish(plan, "interrupted", _error(exc))
            raise
        except Unattended as exc:
            self._still_running(plan, exc)
            raise
        except LlmopsError as exc:
            return self._finish(plan, "failed", _error(exc))
        except OSError as exc:
            refused = refusal(exc)
            if refused is None:
                raise
            return self._finish(plan, "failed", _error(refused))
        return self._finish(plan, "succeeded", None)

    def _start_engine(self, plan: Plan, handling: Handling) -> _Outcome:
        """Run the plan; if an object of the store turns out damaged, plan anew, once."""
        self.opened.store.clear_temporary()
        first = read_facts(self.folder.path).get("attempt", 1)
        for attempt in range(first, 3):
            if not self._engine(plan, attempt, handling):
                return _Outcome(plan, ended=False)
            failed = self._failed_step(plan)
            if failed is None or failed.error["class"] != "DamagedObject" or attempt == 2:
                break
            plan = planned_against(self.opened, self.selection, "store")
            self.folder.write_json("plan.json", plan.as_json())
        if failed is not None:
            raise failed.as_error(self.folder.path)
        return _Outcome(plan, ended=True)

    def _engine(self, plan: Plan, attempt: int, handling: Handling) -> bool:
        opened, config = self.opened, self.opened.config
        forced = [step.name for step in plan.steps if step.forced and step.status != "skipped"]
        graph = build_graph(config["pipeline"], opened.kinds)
        components = _component_texts(graph)
        opened.store.write_report(self.run_id, REQUEST, request(graph, forced, components))
        assignment = Assignment(
            run_folder=self.folder.path,
            workspace=opened.workspace,
            run_id=self.run_id,
            config=config,
            config_uri=opened.store.put_text(canonical_json(config)).uri,
            plan=plan.as_json(),
            store=opened.store,
            attempt=attempt,
            detach=handling.detach,
            cancels=handling.cancels,
            meanwhile=_prepare_report,
        )
        self.engine_started = True
        return engine(config["engine"]["kind"]).run(assignment, self._telling(handling.on_event))

    def _telling(self, on_event: Callable[[Event], None]) -> Callable[[Event], None]:
        def tell(event: Event) -> None:
            self.listeners.event(event)
            on_event(event)

        return tell

    def _failed_step(self, plan: Plan) -> _FailedStep | None:
        """Return the step that failed, or the first that was due and left no report."""
        store = self.opened.store
        reports = {step.name: store.read_report(self.run_id, step.name) for step in plan.to_run}
        for name, report in reports.items():
            if report is not None and report["status"] == "failed":
                return _FailedStep(name, report["error"])
        for name, report in reports.items():
            if report is None:  # its worker did not live to write one
                error = _vanished(name, self.folder.path / "logs")
                store.write_report(self.run_id, name, {"status": "failed", "error": error})
                return _FailedStep(name, error)
        return None

    def _still_running(self, plan: Plan, exc: Unattended | None) -> Run:
        made = self._record(plan, "running", None if exc is None else _error(exc))
        self.folder.write_json("run.json", made)
        self.listeners.leave()
        return Run(self.folder.path, made)

    def _finish(self, plan: Plan, status: str, error: dict[str, Any] | None) -> Run:
        made = self._record(plan, status, error)
        made["dataset_changes"] = changes(made, self._earlier(), self.opened.store)
        made["test_set"] = looked(
            self.opened.workspace, self.run_id, self.opened.digest, made["steps"]
        )
        decision = made["gate"]
        if status == "succeeded" and decision is not None:
            if self.identity.promotes:
                chosen = self.identity.promote == "chosen"
                made["champion"] = _promote(self.opened, made, decision, chosen=chosen)
            made["status"] = "succeeded" if decision["passed"] else "refused"
        if made["metrics"]:
            self.folder.write_json("metrics.json", made["metrics"])
        _write_report(self.folder, self.opened.store, made)
        self.folder.write_json("run.json", made)  # last: a finished run has all of its files
        self.listeners.ended(made)
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
        parts = read_parts(self.folder.path)
        steps = record.step_records(plan, store, self.run_id, logs(parts))
        results = record.results(steps, store)
        now = datetime.now(UTC)
        ended = status != "running"
        return {
            "schema": record.SCHEMA,
            "run_id": self.run_id,
            "experiment": config["name"],
            "version": config["version"],
            "status": status,
            "started": self.identity.started.isoformat(timespec="seconds"),
            "finished": now.isoformat(timespec="seconds") if ended else None,
            "seconds": round((now - self.identity.started).total_seconds(), 3) if ended else None,
            "config_digest": self.opened.digest,
            "pipeline_digest": self._pipeline_digest(),
            "reproduces": self.identity.reproduces,
            "overrides": list(self.opened.overrides),
            "scored_on": self.identity.score_on,
            "process": self.process,
            **self.identity.surroundings,
            "source": _source(config, results["statistics"]),
            "dataset_version": results["card"] and results["card"]["dataset_version"],
            "prompt": results["card"] and results["card"]["prompt"],
            "engine": self._engine_record(),
            "error": error,
            "steps": steps,
            "counts": _counts(steps),
            "estimates": self._estimates(steps) if ended else None,
            "champion": None,
            "dataset_changes": None,  # since the experiment's version before
            **{name: results[name] for name in ("model", "metrics", "safety", "gate")},
        }

    def _pipeline_digest(self) -> str:
        from llmops.engines.pipeline import pipeline_digest

        graph = build_graph(self.opened.config["pipeline"], self.opened.kinds)
        return pipeline_digest(graph, self.opened.config["engine"])

    def _engine_record(self) -> dict[str, Any]:
        """Return the engine, and of one that runs elsewhere its image and jobs."""
        made = {"kind": self.opened.config["engine"]["kind"], "started": self.engine_started}
        facts = read_facts(self.folder.path)
        jobs = [
            {"name": part.name, "link": part.job.link, "state": part.job.state}
            for part in read_parts(self.folder.path)
            if part.job
        ]
        names = ("image", "image_digest", "image_unknown")
        return (
            made
            | {name: facts[name] for name in names if name in facts}
            | ({"jobs": jobs} if facts else {})
        )

    def _estimates(self, steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what the steps of this run were estimated to use, and what they used."""
        config, prices = self.opened.config, self.opened.tables().prices
        used = cost.actual(steps, config, self.opened.kinds, prices)
        whole = cost.spent(used, config, prices, engine_started=self.engine_started)
        return {
            "currency": self.estimate["currency"],
            "total": {
                "estimated": self.estimate["total"],
                "actual": cost.use_json(whole),
            },
            "steps": {
                name: {"estimated": use, "actual": cost.use_json(used[name])}
                for name, use in self.estimate["steps"].items()
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


def _component_texts(graph: Graph) -> dict[str, str]:
    """Return the texts of the component files that steps use: no worker has the config folder."""
    names = [node.kind.name for node in graph.nodes if node.kind.name.endswith(COMPONENTS)]
    if not names:
        return {}
    from llmops.steps.component import component_text

    return {name: component_text(name) for name in names}


@dataclass(frozen=True)
class _Outcome:
    """The plan that the engine carried out in the end, and whether it has ended."""

    plan: Plan
    ended: bool


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
    from llmops.api.registering import promote

    deploy = opened.config.get("deploy")
    facts = next((s["facts"] for s in made["steps"] if s["kind"] == "deploy"), None)
    if deploy is None or facts is None or deploy["promote_to"] is None:
        return None
    name, version, alias = facts["name"], facts["version"], deploy["promote_to"]
    outcome = {"name": name, "version": version, "alias": alias, "promoted": False}
    if not decision["passed"]:
        return outcome | {"reason": "the gate refused"}
    registry = opened.adapters.registry()
    candidate = registry.get(name, str(version))
    if alias in candidate.aliases:
        return outcome | {"promoted": True, "reason": f"holds {alias} already"}
    held = any(one.name == name and alias in one.aliases for one in registry.list())
    decided_now = chosen or any(
        s["kind"] == "gate" and s["status"] == "done" for s in made["steps"]
    )
    if held and not decided_now:
        return outcome | {"reason": f"another version holds {alias}; nothing new was decided"}
    try:
        promote(registry, candidate, alias, records=[made])
    except Refused as exc:
        return outcome | {"reason": exc.problem}
    return outcome | {"promoted": True, "reason": "the gate passed"}


def _prepare_report() -> None:
    from llmops.report.page import prepare

    prepare()


def _write_report(folder: RunFolder, store: Store, made: Mapping[str, Any]) -> None:
    from llmops.lineage.ancestry import ancestry, as_json
    from llmops.report.page import write_report

    graph = ancestry([made])
    origins = as_json(graph, graph.nodes[f"run:{made['run_id']}"])
    write_report(folder.path, store, made, origins)
