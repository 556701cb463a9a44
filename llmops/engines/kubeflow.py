"""Kubeflow Pipelines on a cluster, through ``kfp.Client``."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from llmops.adapters.secrets import reveal
from llmops.engines import image, remote
from llmops.engines.engine import Assignment, Event
from llmops.engines.image import Image
from llmops.engines.jobs import Job, JobState, JobTask, Submission, TaskState
from llmops.errors import BackendError

SERVICE = "Kubeflow Pipelines"
RETRYABLE = (408, 429, 500, 502, 503, 504)
STATES: Mapping[str, JobState] = {
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "CANCELED": "cancelled",
    "RUNNING": "runs",
    "CANCELING": "runs",
    "PAUSED": "runs",
}
TASK_STATES: Mapping[str, TaskState] = {
    "SUCCEEDED": "done",
    "FAILED": "failed",
    "CANCELED": "cancelled",
    "CANCELING": "runs",
    "RUNNING": "runs",
    "SKIPPED": "skipped",
}


def run(assignment: Assignment, on_event: Callable[[Event], None]) -> bool:
    """Run what is due as runs of a cluster; see ``engine.Engine``."""
    return remote.run(assignment, on_event, KubeflowService(assignment.config))


class KubeflowService:
    """Runs of one namespace of a cluster; see ``jobs.Service``.

    The service gives a run its id, so a run is found again by its name, which is ours.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.engine = config["engine"]
        self.host = self.engine["host"].rstrip("/")
        self.client = self._client()
        self._experiment: str | None = None

    def _client(self) -> Any:
        import kfp

        token = self.engine["token"]
        with _translated(), _quiet():
            return kfp.Client(
                host=self.host,
                namespace=self.engine["namespace"] or "kubeflow",
                existing_token=reveal(token) if token else None,
                ssl_ca_cert=self.engine["certificate"],
            )

    def image(self, name: str) -> Image:
        """Ask the registry for the image's digest, as anybody may."""
        return image.resolved(name)

    def find(self, name: str) -> Job | None:
        """Return the run of this name in the experiment's own folder of runs."""
        wanted = {"predicates": [{"operation": 1, "key": "name", "stringValue": name}]}
        with _translated():
            listed = self.client.list_runs(
                page_size=100,
                sort_by="created_at desc",
                experiment_id=self._experiment_id(),
                filter=json.dumps(wanted),
            )
        found = [run for run in listed.runs or () if run.display_name == name]
        return self._job(found[0]) if found else None

    def submit(self, submission: Submission) -> Job:
        """Create the run."""
        with _translated(), _quiet():
            made = self.client.run_pipeline(
                experiment_id=self._experiment_id(),
                job_name=submission.name,
                pipeline_package_path=str(submission.pipeline),
                params=dict(submission.arguments),
                pipeline_root=self.engine["pipeline_root"],
                service_account=self.engine["service_account"],
            )
        return self._job(made)

    def look(self, job: Job) -> Job | None:
        """Return the run as it is now."""
        import kfp_server_api

        try:
            with _translated():
                return self._job(self.client.get_run(job.address))
        except BackendError as exc:
            cause = exc.__cause__
            if isinstance(cause, kfp_server_api.ApiException) and cause.status == 404:
                return None
            raise

    def cancel(self, job: Job) -> None:
        """Ask the cluster to terminate the run."""
        with _translated():
            self.client.terminate_run(job.address)

    def _experiment_id(self) -> str:
        """Return the id of KFP's experiment, a folder of runs, made if it is not there."""
        if self._experiment is None:
            with _translated(), _quiet():
                made = self.client.create_experiment(
                    name=self.engine["experiment"], namespace=self.engine["namespace"]
                )
            self._experiment = str(made.experiment_id)
        return self._experiment

    # ---------------------------------------------------------------- reading

    def _job(self, found: Any) -> Job:
        link = f"{self.host}/#/runs/details/{found.run_id}"
        details = found.run_details.task_details if found.run_details else None
        return Job(
            name=found.display_name,
            address=found.run_id,
            state=STATES.get(found.state or "", "waits"),
            link=link,
            error=_message(found.error),
            tasks=tuple(
                JobTask(
                    name=task.display_name,
                    state=TASK_STATES.get(task.state or "", "waits"),
                    error=_message(task.error),
                    log=f"{link}?task={task.task_id}",
                )
                for task in details or ()
            ),
        )


def _message(status: Any) -> str:
    return str(status.message or "") if status else ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what KFP's client prints off the screen, and its word that it wants KFP 2."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This client only works with Kubeflow Pipeline v2")
        yield


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise what KFP's client raises as a BackendError."""
    import kfp_server_api
    import urllib3.exceptions

    try:
        yield
    except kfp_server_api.ApiException as exc:
        raise _refusal(exc) from exc
    except urllib3.exceptions.HTTPError as exc:
        raise BackendError(
            f"{SERVICE} cannot be reached: {exc}", hint="check engine.host", retryable=True
        ) from exc


def _refusal(exc: Any) -> BackendError:
    hints = {
        401: "the token is not accepted or has expired: set the variable that engine.token names",
        403: "the account may not do this in engine.namespace",
    }
    return BackendError(
        f"{SERVICE} answered {exc.status}: {_reason(exc)}",
        hint=hints.get(exc.status, ""),
        retryable=exc.status in RETRYABLE,
    )


def _reason(exc: Any) -> str:
    try:
        return str(json.loads(exc.body)["error_message"])
    except (TypeError, ValueError, KeyError):
        return str(exc.body or exc.reason)[:300]
