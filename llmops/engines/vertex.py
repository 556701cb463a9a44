"""Vertex AI Pipelines. Only this engine knows its client.

The client is ``aiplatform``'s PipelineServiceClient, not its PipelineJob: that one looks at the
bucket of ``pipeline_root`` through another service before each submission, for a minute where it
may not, and its ``wait`` is deaf (docs/adr/0007-jobs-are-named-by-their-run.md).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from llmops.adapters import google
from llmops.engines import image, remote
from llmops.engines.engine import Assignment, Event
from llmops.engines.image import Image
from llmops.engines.jobs import Job, JobState, JobTask, Submission, TaskState
from llmops.errors import BackendError

SERVICE = "Vertex AI Pipelines"
CALL_SECONDS = 60.0
STATES: Mapping[str, JobState] = {
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "RUNNING": "runs",
    "CANCELLING": "runs",
}
TASK_STATES: Mapping[str, TaskState] = {
    "SUCCEEDED": "done",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "CANCELLING": "runs",
    "CANCEL_PENDING": "runs",
    "RUNNING": "runs",
    "SKIPPED": "skipped",
    "NOT_TRIGGERED": "skipped",
}


def run(assignment: Assignment, on_event: Callable[[Event], None]) -> bool:
    """Run what is due as pipeline jobs of a Google Cloud project; see ``engine.Engine``."""
    return remote.run(assignment, on_event, VertexService(assignment.config))


class VertexService:
    """Pipeline jobs of one project and region; see ``jobs.Service``."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.engine, self.environment = config["engine"], config["env"]
        self.project = google.place(self.environment, "project")
        self.region = google.place(self.environment, "region")
        self.parent = f"projects/{self.project}/locations/{self.region}"
        self.credentials: Any = google.credentials(self.environment)
        self.client = self._client()

    def _client(self) -> Any:
        from google.cloud.aiplatform_v1 import PipelineServiceClient

        own = google.endpoint(self.environment, "vertex")
        address = own or f"https://{self.region}-aiplatform.googleapis.com"
        return PipelineServiceClient(
            credentials=self.credentials,
            transport="rest",
            client_options={"api_endpoint": address},
        )

    def image(self, name: str) -> Image:
        """Ask the registry for the image's digest, as whoever runs this."""
        return image.resolved(name, self._token)

    def _token(self) -> str:
        from google.auth.transport.requests import Request

        if not self.credentials.valid:
            self.credentials.refresh(Request())
        return str(self.credentials.token)

    def find(self, name: str) -> Job | None:
        """Return the job of this name; a job's id is ours, and unique in project and region."""
        return self._get(f"{self.parent}/pipelineJobs/{name}")

    def submit(self, submission: Submission) -> Job:
        """Create the job; one that is there already is it."""
        from google.api_core.exceptions import AlreadyExists

        try:
            with _translated():
                made = self.client.create_pipeline_job(
                    parent=self.parent,
                    pipeline_job=self._message(submission),
                    pipeline_job_id=submission.name,
                    timeout=CALL_SECONDS,
                    retry=None,
                )
        except BackendError as exc:
            if not isinstance(exc.__cause__, AlreadyExists):
                raise
            found = self.find(submission.name)
            if found is None:
                raise
            return found
        return self._job(made)

    def look(self, job: Job) -> Job | None:
        """Return the job as it is now."""
        return self._get(job.address)

    def cancel(self, job: Job) -> None:
        """Ask Vertex to cancel the job."""
        with _translated():
            self.client.cancel_pipeline_job(name=job.address, timeout=CALL_SECONDS, retry=None)

    def _get(self, address: str) -> Job | None:
        from google.api_core.exceptions import NotFound

        try:
            with _translated():
                found = self.client.get_pipeline_job(name=address, timeout=CALL_SECONDS, retry=None)
        except BackendError as exc:
            if isinstance(exc.__cause__, NotFound):
                return None
            raise
        return self._job(found)

    def _message(self, submission: Submission) -> Any:
        """Return Vertex's own form of a job: the pipeline inline, the arguments beside it."""
        import yaml
        from google.cloud.aiplatform_v1 import PipelineJob
        from google.cloud.aiplatform_v1.types import EncryptionSpec

        spec = yaml.safe_load(submission.pipeline.read_text("utf-8"))
        job = PipelineJob(
            display_name=submission.name,
            pipeline_spec=spec,
            labels=submission.labels,
            runtime_config=PipelineJob.RuntimeConfig(
                gcs_output_directory=self.engine["pipeline_root"],
                parameter_values=submission.arguments,
            ),
        )
        if self.engine["service_account"]:
            job.service_account = self.engine["service_account"]
        if self.engine["network"]:
            job.network = self.engine["network"]
        if self.engine["encryption_key"]:
            job.encryption_spec = EncryptionSpec(kms_key_name=self.engine["encryption_key"])
        return job

    # ---------------------------------------------------------------- reading

    def _job(self, found: Any) -> Job:
        name = found.name.rpartition("/")[2]
        return Job(
            name=name,
            address=found.name,
            state=STATES.get(_last_word(found.state.name), "waits"),
            link=self._console(f"vertex-ai/locations/{self.region}/pipelines/runs/{name}"),
            error=found.error.message,
            tasks=tuple(
                JobTask(
                    name=task.task_name,
                    state=TASK_STATES.get(task.state.name, "waits"),
                    error=task.error.message,
                    log=self._log(task),
                )
                for task in found.job_detail.task_details
                if task.task_name not in ("", name)  # the pipeline itself is listed as a task
            ),
        )

    def _log(self, task: Any) -> str:
        """Return the address of a task's log: that of the custom job that is its container."""
        job = task.executor_detail.container_detail.main_job.rpartition("/")[2]
        if not job:
            return ""
        query = quote(f'resource.labels.job_id="{job}"', safe="")
        return self._console(f"logs/query;query={query}")

    def _console(self, path: str) -> str:
        return f"https://console.cloud.google.com/{path}?project={self.project}"


def _last_word(state: str) -> str:
    return state.removeprefix("PIPELINE_STATE_")


@contextmanager
def _translated() -> Iterator[None]:
    """Raise Google's errors as ours, and let its client not print its own tracebacks."""
    logging.getLogger("google").setLevel(logging.ERROR)
    with google.translated(SERVICE):
        yield
