"""One query job of BigQuery: submitted once, whatever happens to the answers, and followed.

A job's name is made of what it is for. If the answer to its submission is lost, or the process
dies, the same name is submitted again: BigQuery then says that the job exists, and its result is
read. So no query is paid twice. Only a job that failed or is gone gets a successor.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from llmops.adapters.patience import LOG, Patience
from llmops.adapters.warehouse.bigquery_errors import job_failure
from llmops.errors import BackendError

if TYPE_CHECKING:
    from google.cloud.bigquery import Client, QueryJob, QueryJobConfig

T = TypeVar("T")
ATTEMPTS = 5
FIRST_POLL_S = 0.1
LONGEST_POLL_S = 3.0
CALL_S = 60.0  # one request; what a job takes is another matter
ONCE: Any = None  # the client does not retry by itself: `Patience` does


@dataclass(frozen=True)
class Submission:
    """A query job that is due. ``name`` is all of its id but the number of the attempt."""

    sql: str
    config: QueryJobConfig
    name: str
    location: str | None
    timeout_s: float


def finished(client: Client, submission: Submission, patience: Patience) -> QueryJob:
    """Return the job, done and with a result that can be read.

    A job of an earlier run that failed or was cancelled, for whatever reason, has a successor; one
    that is submitted now and fails for good is told of.

    Raises:
        ConfigError: If BigQuery cannot answer the query.
        Refused: If the job would bill more than it may.
        BackendError: If BigQuery fails, or the job is not done within its time.
    """
    attempts = 0
    for number in itertools.count(1):
        name = f"{submission.name}-{number}"
        submitted = patience.ask(functools.partial(_submitted, client, submission, name))
        job = _followed(client, submitted.job, submission, patience)
        failed_before = not submitted.now and job is not None and job.error_result is not None
        attempts += not failed_before
        if attempts > ATTEMPTS:
            break
        if job is None:
            LOG.warning("BigQuery no longer knows job %s; submitting it anew", name)
            continue
        if job.error_result is None:
            if _readable(client, job, patience):
                return job
            continue  # its result was kept for a day and is gone
        error = job_failure(job.error_result, job.job_id)
        if submitted.now and not (isinstance(error, BackendError) and error.retryable):
            raise error
        LOG.warning("%s; submitting it anew", error)
    raise BackendError(
        f"BigQuery did not finish {submission.name} in {ATTEMPTS} attempts",
        hint="see the job in the Cloud console; then run it again",
        retryable=True,
    )


class _Submitted(NamedTuple):
    """A job, and whether this very call submitted it."""

    job: QueryJob
    now: bool


def _submitted(client: Client, submission: Submission, name: str) -> _Submitted:
    from google.api_core.exceptions import Conflict

    try:
        job = client.query(
            submission.sql,
            job_config=submission.config,
            job_id=name,
            location=submission.location,
            retry=ONCE,
            job_retry=None,
            timeout=CALL_S,
        )
    except Conflict:  # an earlier submission, whose answer was lost or whose process died
        return _Submitted(_known(client, name, submission.location), now=False)
    return _Submitted(job, now=True)


def _followed(
    client: Client, job: QueryJob, submission: Submission, patience: Patience
) -> QueryJob | None:
    """Wait for the job; None if BigQuery no longer knows it.

    Raises:
        BackendError: If it is not done in time; it is cancelled then.
    """
    deadline = time.monotonic() + submission.timeout_s
    pause = FIRST_POLL_S
    found: QueryJob | None = job
    while found is not None and found.state != "DONE":
        if time.monotonic() > deadline:
            _cancel(client, job, patience)
            raise BackendError(
                f"job {job.job_id} was still {found.state} after {submission.timeout_s:g} s "
                "and was cancelled",
                hint="run it again, or raise warehouse.timeout_s",
                retryable=True,
            )
        time.sleep(pause)
        pause = min(LONGEST_POLL_S, pause * 1.5)
        found = patience.ask(_or_none(_look(client, job)))
    return found


def _look(client: Client, job: QueryJob) -> Callable[[], QueryJob]:
    return lambda: _known(client, job.job_id, job.location)


def _known(client: Client, name: str, location: str | None) -> QueryJob:
    found: Any = client.get_job(name, location=location, retry=ONCE, timeout=CALL_S)
    job: QueryJob = found
    return job


def _cancel(client: Client, job: QueryJob, patience: Patience) -> None:
    cancel = functools.partial(client.cancel_job, job.job_id, location=job.location)
    patience.ask(_or_none(lambda: cancel(retry=ONCE, timeout=CALL_S)))


def _readable(client: Client, job: QueryJob, patience: Patience) -> bool:
    """Say whether the table that holds the result is still there; BigQuery keeps it for a day."""
    if job.statement_type == "EXPORT_DATA":  # its result is files
        return True
    table = functools.partial(client.get_table, job.destination)
    return patience.ask(_or_none(lambda: table(retry=ONCE, timeout=CALL_S))) is not None


def _or_none(call: Callable[[], T]) -> Callable[[], T | None]:
    """Return a call that answers None where there is nothing."""
    from google.api_core.exceptions import NotFound

    def asked() -> T | None:
        try:
            return call()
        except NotFound:
            return None

    return asked
