"""A pipeline as a job of a service: what engines that run elsewhere share in words and files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from llmops.engines.engine import JOBS
from llmops.engines.image import Image
from llmops.files import write_text

JobState = Literal["waits", "runs", "succeeded", "failed", "cancelled"]
TaskState = Literal["waits", "runs", "done", "failed", "cancelled", "skipped"]
ENDED = ("succeeded", "failed", "cancelled")
NAME_CHARACTERS = 128  # of a Vertex pipeline job; KFP allows more


@dataclass(frozen=True)
class JobTask:
    """A task of a job; ``error`` and ``log`` (a link) are empty where the service has none."""

    name: str
    state: TaskState
    error: str = ""
    log: str = ""


@dataclass(frozen=True)
class Job:
    """A pipeline job as its service tells it; ``address`` is the service's own name of it."""

    name: str
    address: str
    state: JobState
    link: str
    error: str = ""
    tasks: tuple[JobTask, ...] = ()


@dataclass(frozen=True)
class Submission:
    """A compiled pipeline that is to become the job ``name``."""

    name: str
    pipeline: Path
    arguments: Mapping[str, str]
    labels: Mapping[str, str]


class Service(Protocol):
    """A place where compiled pipelines run. All may raise BackendError."""

    def find(self, name: str) -> Job | None:
        """Return the job that was submitted under ``name``, or None."""
        ...

    def submit(self, submission: Submission) -> Job:
        """Submit a job; only call it when ``find`` gave None."""
        ...

    def look(self, job: Job) -> Job | None:
        """Return the job as it is now; None if the service knows it no more."""
        ...

    def cancel(self, job: Job) -> None:
        """Ask the service to end the job."""
        ...

    def image(self, name: str) -> Image:
        """Return the image of this name, with its digest if the registry tells it."""
        ...


@dataclass(frozen=True)
class Part:
    """What the run folder keeps of a job: written before it is submitted, and as it goes on."""

    name: str
    pipeline: str  # the compiled file, in the run folder
    tasks: Mapping[str, Sequence[str]]  # name of a task -> its steps
    job: Job | None = None

    def with_job(self, job: Job) -> Part:
        """Return the part with what the service says of it."""
        return replace(self, job=job)

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps of all its tasks."""
        return tuple(dict.fromkeys(step for steps in self.tasks.values() for step in steps))

    def steps_of(self, task: JobTask) -> tuple[str, ...]:
        """Return the steps of a task; none for an importer."""
        found = {same_name(name): steps for name, steps in self.tasks.items()}
        return tuple(found.get(same_name(task.name), ()))


def same_name(name: str) -> str:
    """Return a task's name as both KFP's functions and its tasks may write it."""
    return name.lower().replace("_", "-")


def job_name(experiment: str, run_id: str, attempt: int, part: int) -> str:
    """Return a job's name: known before it is submitted, and never that of another job."""
    kept = NAME_CHARACTERS - len(f"llmops--{run_id}-{attempt}-{part}")
    return f"llmops-{same_name(experiment)[:kept]}-{run_id}-{attempt}-{part}"


def label(text: str) -> str:
    """Return a text as a label's value may be written: small letters, digits, - and _."""
    return re.sub(r"[^a-z0-9_-]", "-", text.lower())[:63]


def write_parts(run_folder: Path, parts: Sequence[Part], facts: Mapping[str, Any]) -> None:
    """Keep the jobs of a run, and what else the engine knows of it, in its folder."""
    kept = {**facts, "jobs": [asdict(part) for part in parts]}
    write_text(run_folder / JOBS, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def read_parts(run_folder: Path) -> list[Part]:
    """Return the jobs that ``write_parts`` kept; none if it was not called."""
    kept = read_facts(run_folder).get("jobs", [])
    return [Part(**{**part, "job": part["job"] and _job(part["job"])}) for part in kept]


def read_facts(run_folder: Path) -> dict[str, Any]:
    """Return all that ``write_parts`` kept; empty if it was not called."""
    try:
        kept: dict[str, Any] = json.loads((run_folder / JOBS).read_text("utf-8"))
    except FileNotFoundError:
        return {}
    return kept


def logs(parts: Sequence[Part]) -> dict[str, str]:
    """Return where each step's log can be read: its task's, or else the page of the job."""
    return {
        step: task.log or part.job.link
        for part in parts
        if part.job
        for task in part.job.tasks
        for step in part.steps_of(task)
    }


def _job(fields: Mapping[str, Any]) -> Job:
    return Job(**{**fields, "tasks": tuple(JobTask(**task) for task in fields["tasks"])})
