"""Carry out a run as jobs of a service elsewhere: submit, follow, cancel, go on after a crash.

A job's name is made of the run's id, so that it can be looked for before it is submitted: a run
that lost its answer, its process or its credentials finds its job again and pays nothing twice.

A run is one job, except where it tunes with a provider and somebody follows it: then the first
job ends with the tuning job submitted, this process waits for that, and a second job does the
rest. No container waits for hours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar, cast

from llmops.adapters.catalog import open_adapters
from llmops.adapters.patience import retry_after
from llmops.artifacts import reference
from llmops.engines import signals
from llmops.engines.engine import Assignment, Event, selected_graph
from llmops.engines.image import image_of
from llmops.engines.jobs import (
    ENDED,
    Job,
    JobTask,
    Part,
    Service,
    Submission,
    job_name,
    label,
    read_facts,
    read_parts,
    write_parts,
)
from llmops.engines.own_image import task_names
from llmops.engines.pipeline import compile_pipeline
from llmops.errors import BackendError, Interrupted, LlmopsError, Unattended
from llmops.plan.graph import Graph
from llmops.ports.model import RemoteTuner
from llmops.worker import PROGRESS

SLICE_SECONDS = 0.2  # how soon a Ctrl-C is heard
LONGEST_PAUSE_SECONDS = 60.0  # between two tries of a service that fails
FINISHED = ("done", "cached")
T = TypeVar("T")


def run(assignment: Assignment, on_event: Callable[[Event], None], service: Service) -> bool:
    """Run what is due as jobs of ``service``; see ``engine.Engine``."""
    with signals.collected() as received:
        return _Run(assignment, service, on_event, received).run()


class _Run:
    """One run: its jobs so far, and the steps that are known."""

    def __init__(
        self,
        assignment: Assignment,
        service: Service,
        on_event: Callable[[Event], None],
        received: list[int],
    ) -> None:
        self.assignment = assignment
        self.service = service
        self.received = received
        self.engine = assignment.config["engine"]
        self.graph = selected_graph(assignment.config, assignment.plan)
        self.hits = _planned_hits(assignment)
        self.parts = read_parts(assignment.run_folder)
        kept = read_facts(assignment.run_folder)
        self.image = image_of(kept) if kept else service.image(self.engine["image"])
        self.asked_to_submit = False
        self.settled: set[str] = set()  # steps whose jobs with a provider have ended
        self.events = _Events(assignment, on_event)

    def run(self) -> bool:
        number = 0
        while any(node.name not in self.hits for node in self.graph.nodes):
            number += 1
            part = self._submitted(number)
            if self.assignment.detach:
                return False
            part = self._followed(part)
            reports = self._reports(part)
            if not self._went_well(part, reports):
                break
            self._learn(reports)
            self._wait_for_providers(reports)
        return True

    # ------------------------------------------------------------ submitting

    def _submitted(self, number: int) -> Part:
        """Return the run's job of that number, submitted if it is not there yet."""
        attempt = self.assignment.attempt
        name = job_name(self.assignment.config["name"], self.assignment.run_id, attempt, number)
        known = next((part for part in self.parts if part.name == name), None)
        if known is None:
            known = self._compiled(name, number)
            self.parts.append(known)
            self._keep()  # from here on, whoever comes after a crash knows what to look for
        job = self._patiently(partial(self._find_or_submit, known))
        return self._update(known.with_job(job))

    def _compiled(self, name: str, number: int) -> Part:
        attempt = self.assignment.attempt
        file = (
            "pipeline.yaml" if (attempt, number) == (1, 1) else f"pipeline-{attempt}-{number}.yaml"
        )
        engine = {**self.engine, "image": self.image.pinned}
        target = self.assignment.run_folder / file
        compiled = compile_pipeline(self._due_now(), engine, target, self.hits)
        tasks = {name: task.steps for task in compiled.tasks for name in task_names(task)}
        return Part(name, file, tasks)

    def _find_or_submit(self, part: Part) -> Job:
        found = self.service.find(part.name)
        if found:
            return found
        self.asked_to_submit = True
        return self.service.submit(
            Submission(
                name=part.name,
                pipeline=self.assignment.run_folder / part.pipeline,
                arguments={
                    "config_uri": self.assignment.config_uri,
                    "run_id": self.assignment.run_id,
                },
                labels={
                    "llmops-experiment": label(self.assignment.config["name"]),
                    "llmops-run": label(self.assignment.run_id),
                    "llmops-config": label(self.assignment.plan["config_digest"][:12]),
                    **{key: label(text) for key, text in (self.engine.get("labels") or {}).items()},
                },
            )
        )

    def _due_now(self) -> Graph:
        """Return the graph up to and with the tuning, if that may be waited for outside."""
        if not tuner_may_leave(self.assignment.config):
            return self.graph
        later = {
            after
            for node in self.graph.nodes
            if "tuner" in node.kind.uses and node.name not in self.hits.keys() | self.settled
            for after in self.graph.after(node.name)
        }
        return Graph(
            self.graph.name, tuple(node for node in self.graph.nodes if node.name not in later)
        )

    # ------------------------------------------------------------- following

    def _followed(self, part: Part) -> Part:
        """Follow the job to its end."""
        while part.job is not None and part.job.state not in ENDED:
            self.events.tell(part)
            self._sleep(self.engine["poll_s"], part)
            job = part.job
            found = self._patiently(partial(self.service.look, job), part)
            if found is None:
                raise BackendError(
                    f"the job {job.name} is gone: somebody deleted it",
                    hint=f"the same command goes on from the last finished step; {job.link}",
                )
            part = self._update(part.with_job(found))
        self.events.tell(part)
        return part

    def _patiently(self, ask: Callable[[], T], part: Part | None = None) -> T:
        """Ask again while the service fails in a way that passes, up to ``engine.patience_s``.

        It is asked as late as it says, or else after a pause that grows.

        Raises:
            BackendError: If nothing is submitted yet and the service refuses or stays away.
            Unattended: If a job goes on that cannot be followed any more.
        """
        growing, waited = 1.0, 0.0
        while True:
            try:
                return ask()
            except BackendError as exc:
                if not exc.retryable or waited >= self.engine["patience_s"]:
                    raise self._given_up(exc, part) from exc
                ordered = retry_after(exc.__cause__)
            pause = growing if ordered is None else max(ordered, SLICE_SECONDS)
            pause = min(pause, max(self.engine["patience_s"] - waited, 0.01))
            self._sleep(pause, part)
            waited += pause
            growing = min(2 * growing, LONGEST_PAUSE_SECONDS)

    def _given_up(self, exc: BackendError, part: Part | None) -> LlmopsError:
        """Return the error itself if nothing is at work, else the one that says how to go on."""
        if part is None and not (self.asked_to_submit and exc.retryable):
            return exc
        may = "goes on" if part else "may have been submitted"
        return Unattended(
            f"the run {may}, but cannot be followed: {exc.problem}", run_id=self.assignment.run_id
        )

    def _sleep(self, seconds: float, part: Part | None) -> None:
        end = time.monotonic() + seconds
        while not self.received and (left := end - time.monotonic()) > 0:
            time.sleep(min(SLICE_SECONDS, left))
        if self.received:
            self._interrupted(part)

    def _interrupted(self, part: Part | None) -> None:
        """End the job or leave it, as ``engine.on_interrupt`` and the user say."""
        number = self.received[0]
        if part is None or part.job is None:
            if self.asked_to_submit:
                raise Unattended(
                    "a job may have been submitted; nobody follows it",
                    run_id=self.assignment.run_id,
                    exit_code=128 + number,
                )
            raise Interrupted(number)
        choice = self.engine["on_interrupt"]
        if choice == "leave" or (choice == "ask" and not self.assignment.cancels()):
            raise Unattended(
                "the run goes on; nobody follows it",
                run_id=self.assignment.run_id,
                exit_code=128 + number,
            )
        job = part.job
        if job.state in ENDED:  # only a provider's own job goes on: the next run finds it again
            raise Interrupted(number)
        try:
            self.service.cancel(job)
        except BackendError as exc:
            raise Unattended(
                f"the job {job.name} could not be cancelled: {exc.problem}",
                run_id=self.assignment.run_id,
                exit_code=128 + number,
            ) from exc
        self._update(part.with_job(Job(job.name, job.address, "cancelled", job.link)))
        raise Interrupted(number)

    # -------------------------------------------------------------- afterwards

    def _reports(self, part: Part) -> dict[str, Mapping[str, Any]]:
        found = {
            step: self.assignment.store.read_report(self.assignment.run_id, step)
            for step in part.steps
        }
        return {step: report for step, report in found.items() if report}

    def _went_well(self, part: Part, reports: Mapping[str, Mapping[str, Any]]) -> bool:
        """Say whether all steps are done or wait for a provider; else see that one tells why.

        Raises:
            BackendError: If the job failed and no step of it can be blamed.
        """
        assert part.job is not None
        if part.job.state == "succeeded" and len(reports) == len(part.steps):
            return all(r["status"] in FINISHED or _waits(r) for r in reports.values())
        if any(report["status"] == "failed" for report in reports.values()):
            return False
        for task in part.job.tasks:
            if task.state in ("failed", "cancelled"):
                self._blame(part, task, reports)
                return False
        raise BackendError(
            f"the job {part.job.name} {_what_became(part.job)}",
            hint=f"the same command goes on from the last finished step; {part.job.link}",
        )

    def _blame(self, part: Part, task: JobTask, reports: Mapping[str, Mapping[str, Any]]) -> None:
        """Leave a report for the step at which a task ended without one."""
        assert part.job is not None
        step = next((s for s in part.steps_of(task) if s not in reports), None)
        if step is None:
            return
        cancelled = part.job.state == "cancelled"
        problem = (
            f"the job {part.job.name} was cancelled from outside"
            if cancelled
            else f"its task {task.name} ended: {task.error or part.job.error or 'no reason given'}"
        )
        error = {
            "class": "Cancelled" if cancelled else "TaskFailed",
            "problem": problem,
            "hint": f"the log: {task.log or part.job.link}",
            "exit_code": BackendError.exit_code,
        }
        self.assignment.store.write_report(
            self.assignment.run_id, step, {"status": "failed", "error": error}
        )

    def _learn(self, reports: Mapping[str, Mapping[str, Any]]) -> None:
        """Take the results of the steps that are done as known for the next job."""
        learnt = {
            step: _addresses(self.assignment, report["outputs"])
            for step, report in reports.items()
            if report["status"] in FINISHED
        }
        if not learnt and not any(map(_waits, reports.values())):
            raise BackendError("the job ended and no step of it is done", hint="see engine.log")
        self.hits = {**self.hits, **learnt}

    def _wait_for_providers(self, reports: Mapping[str, Mapping[str, Any]]) -> None:
        """Wait for the tuning jobs that steps left behind; ask the provider, not a container."""
        for step, report in reports.items():
            if not _waits(report):
                continue
            config, store = self.assignment.config, self.assignment.store
            opened = open_adapters(config, store, self.assignment.workspace)
            tuner = cast(RemoteTuner, opened.tuner())
            job = report["error"]["job"]
            while not self._patiently(partial(tuner.has_ended, job), self.parts[-1]):
                self.events.send(
                    step, event="progress", done=0, total=None, note=f"waits for {job}"
                )
                self._sleep(self.engine["poll_s"], self.parts[-1])
            self.settled.add(step)

    # -------------------------------------------------------------- the folder

    def _update(self, part: Part) -> Part:
        self.parts = [part if known.name == part.name else known for known in self.parts]
        self._keep()
        return part

    def _keep(self) -> None:
        facts = {"attempt": self.assignment.attempt, **self.image.facts()}
        write_parts(self.assignment.run_folder, self.parts, facts)


class _Events:
    """Turns what a job says of its tasks, and workers of their steps, into a run's events."""

    def __init__(self, assignment: Assignment, on_event: Callable[[Event], None]) -> None:
        self.assignment = assignment
        self.on_event = on_event
        self.ended: set[str] = set()
        self.told: dict[str, Mapping[str, Any]] = {}

    def tell(self, part: Part) -> None:
        """Tell what is new of a job's tasks."""
        assert part.job is not None
        for task in part.job.tasks:
            if task.state not in ("waits", "skipped"):
                for step in part.steps_of(task):
                    if step not in self.ended:
                        self._tell_of_step(step, over=task.state != "runs")

    def _tell_of_step(self, step: str, *, over: bool) -> None:
        store, run_id = self.assignment.store, self.assignment.run_id
        report = store.read_report(run_id, step)
        if report is None and over:
            return  # its task ended before it, or it left no report
        if report is not None and not _waits(report):
            self.ended.add(step)
            self.send(step, event="end", status=report["status"], seconds=report["seconds"])
            return
        progress = store.read_report(run_id, f"{PROGRESS}{step}")
        if progress and self.told.get(step) != progress:
            self.told[step] = progress
            self.send(step, **progress)

    def send(self, step: str, **event: Any) -> None:
        """Send one event."""
        self.on_event({"step": step, **event})


def tuner_may_leave(config: Mapping[str, Any]) -> bool:
    """Say whether the step that tunes may end while the provider's job is still at work."""
    waiting = (config.get("model") or {}).get("tuner", {}).get("waiting") or {}
    return waiting.get("max_wait_s") is not None


def _planned_hits(assignment: Assignment) -> dict[str, Mapping[str, str]]:
    return {
        step["name"]: _addresses(assignment, step["outputs"])
        for step in assignment.plan["steps"]
        if step["status"] == "cached"
    }


def _addresses(assignment: Assignment, outputs: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: assignment.store.reference_uri(reference(output)) for name, output in outputs.items()
    }


def _waits(report: Mapping[str, Any]) -> bool:
    """Say whether a step left a provider's job behind, which is still at work."""
    return bool(report["status"] == "failed" and report["error"]["class"] == "Pending")


def _what_became(job: Job) -> str:
    if job.state == "cancelled":
        return "was cancelled from outside"
    return f"ended without the reports of its steps: {job.error or 'no reason given'}"
