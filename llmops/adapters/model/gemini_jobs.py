"""Submit a tuning job once under a step's key, whoever asks and however often; wait for its end.

Vertex AI takes no id from its clients, so a lost answer says nothing of the job. What holds:

* before a job is submitted, an intent is written into the bucket under the key (created once: of
  two runs with one key, one wins); the job carries the key as a label;
* before anything is submitted, the jobs of that key are listed; one that is there is taken over;
* a request without an answer is looked for in the list, never repeated;
* an intent without a job is somebody else's, or of a crash. After ``SETTLE_S`` without a job in the
  list there is none, and the intent is taken over (again: of two, one wins);
* two jobs under one key, or a job that has vanished, are for a person to judge: that is an error.

A job that failed or was cancelled makes room for the next attempt, when the step is run again.
Objects below ``env.bucket``, a pair an attempt: ``gemini/tuning/<key>/`` ``intent-1.json`` and
``job-1.json``.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from llmops.adapters.asking import RequestRefused, Unanswered
from llmops.adapters.bucket import Bucket, Found
from llmops.adapters.model.gemini_client import GeminiClient
from llmops.errors import BackendError, ConfigError, Pending
from llmops.ports.progress import Progress

if TYPE_CHECKING:
    from google.genai import types

SETTLE_S = 600.0  # after this long without a job in the list, an intent came to nothing
LOOK_AGAIN_S = 60.0  # how long to look for a job whose request got no answer
KEY_LABEL = "llmops_key"
ATTEMPT_LABEL = "llmops_attempt"
LABEL_LIMIT = 63  # characters of a label's value
SUCCEEDED = ("JOB_STATE_SUCCEEDED", "JOB_STATE_PARTIALLY_SUCCEEDED")
FAILED = ("JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_CANCELLING", "JOB_STATE_EXPIRED")
WORDS = {
    "JOB_STATE_QUEUED": "queued",
    "JOB_STATE_PENDING": "pending",
    "JOB_STATE_RUNNING": "running",
    "JOB_STATE_PAUSED": "paused by the provider",
    "TUNING_JOB_STATE_WAITING_FOR_QUOTA": "waiting for quota",
    "TUNING_JOB_STATE_WAITING_FOR_CAPACITY": "waiting for capacity",
    "TUNING_JOB_STATE_PROCESSING_DATASET": "reading the data",
    "TUNING_JOB_STATE_TUNING": "tuning",
    "TUNING_JOB_STATE_POST_PROCESSING": "storing the model",
}


@dataclass(frozen=True)
class Waiting:
    """The ``model.tuner.waiting`` block; ``max_wait_s`` null: as long as the deadline allows."""

    poll_s: float
    deadline_s: float
    max_wait_s: float | None


class TuningJobs:
    """The jobs of one key."""

    def __init__(self, client: GeminiClient, bucket: Bucket, waiting: Waiting, key: str) -> None:
        self.client, self.bucket, self.waiting, self.key = client, bucket, waiting, key
        self.label = key[:LABEL_LIMIT]

    # -------------------------------------------------------------- submitting

    def claim(
        self, submit: Callable[[Any, int, Mapping[str, str]], types.TuningJob], progress: Progress
    ) -> types.TuningJob:
        """Return the one job of this key that counts, submitting it if there is none.

        ``submit`` gets the client, the number of the attempt, and the labels to send.

        Raises:
            ConfigError: If the provider refuses the request.
            BackendError: If it stays unclear whether a job was submitted, or which one counts.
        """
        while True:
            jobs = self._jobs()
            alive = [job for job in jobs if _state(job) not in FAILED]
            if len(alive) > 1:
                raise self._several(alive)
            if alive:
                self.bucket.create(self._name("job", _attempt(alive[0])), _record(alive[0]))
                return alive[0]
            attempt = 1 + max(map(_attempt, jobs), default=0)
            if self._may_submit(attempt, progress):
                return self._submit(submit, attempt)

    def _jobs(self) -> Sequence[types.TuningJob]:
        """Return the jobs of this key: those listed, and those that were recorded."""
        listed = self.client.call(
            lambda client: list(
                client.tunings.list(
                    config={"filter": f'labels.{KEY_LABEL}="{self.label}"', "page_size": 100}
                )
            )
        )
        found = {
            str(job.name): job for job in listed if (job.labels or {}).get(KEY_LABEL) == self.label
        }
        attempt = 1
        while (record := self.bucket.read(self._name("job", attempt))) is not None:
            name = json.loads(record.text)["job"]
            found.setdefault(name, self._recorded(name, attempt))
            attempt += 1
        return list(found.values())

    def _recorded(self, name: str, attempt: int) -> types.TuningJob:
        try:
            return self.read(name)
        except BackendError as exc:
            if exc.retryable:
                raise
            raise BackendError(
                f"the tuning job {name} was submitted for this step and is gone: {exc.problem}",
                hint="if it is really gone and may be paid for again, remove "
                f"{self.bucket.uri(self._name('job', attempt))} and run again",
            ) from exc

    def _may_submit(self, attempt: int, progress: Progress) -> bool:
        """Say whether the attempt is ours to submit; wait a moment if it may be somebody else's."""
        name = self._name("intent", attempt)
        if self.bucket.create(name, self._intent(attempt)):
            return True
        found = self.bucket.read(name)
        if found is None:
            return False
        age = (datetime.now(UTC) - found.written_at).total_seconds()
        if age > SETTLE_S:
            return self.bucket.replace(name, self._intent(attempt), found)
        if self.waiting.max_wait_s is not None and self.waiting.max_wait_s < SETTLE_S - age:
            raise self._unclear(found)
        note = f"another run may be submitting this job; {SETTLE_S - age:,.0f} s until it is clear"
        progress(0, None, note)
        time.sleep(min(self.waiting.poll_s, SETTLE_S - age + 1))
        return False

    def _submit(
        self,
        submit: Callable[[Any, int, Mapping[str, str]], types.TuningJob],
        attempt: int,
    ) -> types.TuningJob:
        labels = {KEY_LABEL: self.label, ATTEMPT_LABEL: str(attempt)}
        try:
            job = self.client.call(
                lambda client: _quietly(lambda: submit(client, attempt, labels)), repeatable=False
            )
        except RequestRefused as exc:
            self.bucket.delete(self._name("intent", attempt))
            raise ConfigError(
                f"the provider refuses the tuning job: {exc}",
                hint="see model.tuner and docs/gemini.md",
            ) from exc
        except Unanswered as exc:
            job = self._look_for(attempt, exc)
        except BackendError:
            self.bucket.delete(self._name("intent", attempt))
            raise
        self.bucket.create(self._name("job", attempt), _record(job))
        return job

    def _look_for(self, attempt: int, cause: Unanswered) -> types.TuningJob:
        """Look for the job of a request that got no answer."""
        end = time.monotonic() + LOOK_AGAIN_S
        while True:
            for job in self._jobs():
                if _attempt(job) == attempt:
                    return job
            if time.monotonic() > end:
                found = self.bucket.read(self._name("intent", attempt))
                raise (self._unclear(found) if found else cause) from cause
            time.sleep(min(self.waiting.poll_s, 5.0))

    def _unclear(self, intent: Found) -> BackendError:
        return BackendError(
            f"a tuning job may have been submitted for this step at {intent.written_at:%H:%M:%S} "
            "UTC, and none is listed yet: nothing is submitted a second time",
            hint=f"run it again {SETTLE_S / 60:.0f} minutes after that: a job that shows is taken "
            "over, and if none does, it is submitted anew",
            retryable=True,
        )

    def _several(self, jobs: Sequence[types.TuningJob]) -> BackendError:
        names = ", ".join(str(job.name) for job in jobs)
        return BackendError(
            f"{len(jobs)} tuning jobs carry this step's key: {names}",
            hint="cancel all but one of them, then run it again",
        )

    # ----------------------------------------------------------------- waiting

    def follow(self, job: types.TuningJob, progress: Progress) -> types.TuningJob:
        """Wait until the job has succeeded and return it as it is then.

        Raises:
            Pending: If it is still at work after ``max_wait_s``.
            BackendError: If it fails, is cancelled, or is past its deadline.
        """
        started = time.monotonic()
        while True:
            state = _state(job)
            if state in SUCCEEDED:
                return job
            if state in FAILED:
                raise _ended(job)
            progress(0, None, told(job))
            left = self.waiting.deadline_s - _age(job)
            if left <= 0:
                raise self._late(job)
            waited = time.monotonic() - started
            if self.waiting.max_wait_s is not None and waited >= self.waiting.max_wait_s:
                raise Pending(
                    f"the tuning job is still at work ({told(job)})",
                    job=str(job.name),
                    hint="the same command goes on waiting for it",
                )
            time.sleep(min(self.waiting.poll_s, left))
            job = self.read(str(job.name), deadline_s=left)

    def read(self, name: str, *, deadline_s: float | None = None) -> types.TuningJob:
        """Return a job as it is now; an outage is waited out for ``deadline_s``.

        Raises:
            BackendError: If it is gone or cannot be read.
        """
        try:
            return self.client.call(
                lambda client: client.tunings.get(name=name), deadline_s=deadline_s
            )
        except RequestRefused as exc:
            raise BackendError(f"the tuning job {name} cannot be read: {exc}") from exc

    def _late(self, job: types.TuningJob) -> BackendError:
        return BackendError(
            f"the tuning job {job.name} has not ended after {_age(job) / 3600:.1f} h "
            f"({told(job)}), past model.tuner.waiting.deadline_s",
            hint="it is left as it is: raise the deadline to go on waiting for it, or cancel it",
        )

    def _name(self, what: str, attempt: int) -> str:
        return f"gemini/tuning/{self.key}/{what}-{attempt}.json"

    def _intent(self, attempt: int) -> str:
        return json.dumps({"key": self.key, "attempt": attempt})


def has_ended(job: types.TuningJob) -> bool:
    """Say whether a job has ended, well or badly."""
    return _state(job) in (*SUCCEEDED, *FAILED)


def told(job: types.TuningJob) -> str:
    """Say what a job is doing, e.g. ``queued: waiting for quota``."""
    state = _state(job)
    detail = job.tuning_job_state.value if job.tuning_job_state else ""
    words = WORDS.get(state, state.removeprefix("JOB_STATE_").lower())
    return f"{words}: {WORDS[detail]}" if detail in WORDS else words


def _state(job: types.TuningJob) -> str:
    return str(job.state.value) if job.state else "JOB_STATE_QUEUED"


def _attempt(job: types.TuningJob) -> int:
    number = (job.labels or {}).get(ATTEMPT_LABEL, "1")
    return int(number) if number.isdecimal() else 1


def _age(job: types.TuningJob) -> float:
    """Return the seconds since the job was created; 0 if the provider does not say."""
    return (datetime.now(UTC) - job.create_time).total_seconds() if job.create_time else 0.0


def _record(job: types.TuningJob) -> str:
    return json.dumps({"job": str(job.name)})


def _ended(job: types.TuningJob) -> BackendError:
    if _state(job) in ("JOB_STATE_CANCELLED", "JOB_STATE_CANCELLING"):
        problem = f"the tuning job {job.name} was cancelled, not by llmops"
    else:
        why = (job.error and job.error.message) or "the provider gives no reason"
        problem = f"the tuning job {job.name} failed: {why}"
    return BackendError(problem, hint="run it again to submit it anew, as the next attempt")


def _quietly(submit: Callable[[], types.TuningJob]) -> types.TuningJob:
    """Submit without the SDK's warning that its tuning module is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return submit()
