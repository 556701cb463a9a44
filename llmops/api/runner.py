"""Carry out a plan, write its run folder, and promote what its gate passed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from llmops.api.announcing import Listeners
from llmops.api.opening import Opened
from llmops.api.past import Run
from llmops.api.planning import planned_against
from llmops.artifacts import canonical_json
from llmops.engines.engine import Assignment, Event, engine
from llmops.engines.jobs import logs, read_facts, read_parts
from llmops.errors import ConfigError, Interrupted, LlmopsError, StepFailed, Unattended
from llmops.files import refusal
from llmops.lineage import machine, record
from llmops.lineage.dataset_changes import changes
from llmops.lineage.looks import looked
from llmops.lineage.run_folder import RunFolder, all_runs, new_run_id
from llmops.plan import cost
from llmops.plan.build import Plan, Selection
from llmops.plan.graph import Graph, build_graph
from llmops.plan.side import Side
from llmops.ports.store import Store
from llmops.processes import this_process
from llmops.steps import COMPONENTS
from llmops.worker import REQUEST, request

Promotion = Literal["own", "chosen", "nothing"]


@dataclass(frozen=True)
class Handling:
    """How whoever started a run wants to hear of it; see ``run``."""

    on_event: Callable[[Event], None]
    detach: bool = False
    cancels: Callable[[], bool] = lambda: True


@dataclass(frozen=True)
class Identity:
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


def new_identity(
    opened: Opened,
    *,
    reproduces: str | None = None,
    score_on: Side = "test",
    promote: Promotion = "own",
) -> Identity:
    """Make the folder of a run that begins now.

    Raises:
        BackendError: If it cannot be made.
    """
    started = datetime.now(UTC)
    run_id = new_run_id(started)
    folder = RunFolder.create(opened.workspace, opened.config["name"], run_id)
    surroundings = machine.surroundings(opened.workspace)
    return Identity(run_id, started, folder, surroundings, reproduces, score_on, promote)


def identity_of(folder: RunFolder, recorded: Mapping[str, Any]) -> Identity:
    """Return what a run is that another process began."""
    return Identity(
        recorded["run_id"],
        datetime.fromisoformat(recorded["started"]),
        folder,
        {name: recorded[name] for name in machine.SURROUNDINGS},
        recorded["reproduces"],
        recorded["scored_on"],
    )


class Runner:
    """Carries out one plan and writes its run folder."""

    def __init__(self, opened: Opened, selection: Selection, identity: Identity) -> None:
        self.opened = opened
        self.selection = selection
        self.identity = identity
        self.run_id, self.folder = identity.run_id, identity.folder
        self.process = this_process()
        self.engine_started = False
        self.listeners = Listeners(identity.folder, opened.config, opened.store)
        self.estimate: Mapping[str, Any] = {}

    def run(self, plan: Plan, handling: Handling) -> Run:
        """Begin the run's folder, and carry the plan out; see ``running.run``."""
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
                from llmops.api.registering import promote_passed

                made["champion"] = promote_passed(self.opened, made, decision, chosen=chosen)
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
            "source": record.source_of(config, steps),
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


def _counts(steps: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {
        f"{step['name']}.{name}": output["rows"]
        for step in steps
        for name, output in step["outputs"].items()
        if output["rows"] is not None
    }


def _prepare_report() -> None:
    from llmops.report.page import prepare

    prepare()


def _write_report(folder: RunFolder, store: Store, made: Mapping[str, Any]) -> None:
    from llmops.lineage.ancestry import ancestry, as_json
    from llmops.report.page import write_report

    graph = ancestry([made])
    origins = as_json(graph, graph.nodes[f"run:{made['run_id']}"])
    write_report(folder.path, store, made, origins)
