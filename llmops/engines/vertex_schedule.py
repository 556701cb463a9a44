"""A command that Vertex AI Pipelines starts by the clock: one container, one schedule of a name.

Knows neither what the command does nor where its data lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops.adapters import google
from llmops.errors import ConfigError

SERVICE = "Vertex AI's schedules"
CALL_SECONDS = 60.0
TASK = "command"


@dataclass(frozen=True)
class Scheduled:
    """A schedule: its resource name, when it runs next (ISO 8601, empty if not told), its page."""

    address: str
    next_run: str
    link: str
    replaced: bool


def schedule(config: Mapping[str, Any], name: str, cron: str, command: Sequence[str]) -> Scheduled:
    """Have ``command`` run in a container of ``engine.image`` at the times of ``cron``.

    A schedule of that name in the project and region is changed; there is never a second one.

    Args:
        config: The sections ``engine`` (kind vertex) and ``env``.
        name: The schedule's display name.
        cron: Five fields, in UTC.
        command: The container's command and arguments.

    Raises:
        ConfigError: If the engine is another one, or project, region or bucket is not set.
        BackendError: If Vertex does not answer, or refuses.
    """
    if config["engine"]["kind"] != "vertex":
        raise ConfigError("only Vertex AI has schedules", hint="choose it: engine=vertex env=prod")
    service = _Service(config)
    message = service.message(name, cron, _pipeline_spec(name, config["engine"]["image"], command))
    found = service.find(name)
    made = service.create(message) if found is None else service.change(found, message)
    return service.told(made, replaced=found is not None)


def _pipeline_spec(name: str, image: str, command: Sequence[str]) -> dict[str, Any]:
    """Return a pipeline of one container, as KFP's compiler writes it."""
    import tempfile
    from pathlib import Path

    import yaml
    from kfp import compiler, dsl

    def run() -> Any:
        return dsl.ContainerSpec(image=image, command=list(command[:1]), args=list(command[1:]))

    def pipeline() -> None:
        task = component().set_display_name(TASK)
        task.set_caching_options(enable_caching=False)  # the same command, another day's data

    for function in (run, pipeline):
        function.__annotations__.clear()  # KFP would read them, and here they are texts
    component = dsl.container_component(run)
    made = dsl.pipeline(name=name)(pipeline)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(made, str(place))
        spec: dict[str, Any] = yaml.safe_load(place.read_text("utf-8"))
    return spec


class _Service:
    """Schedules of one project and region, by Google's REST client."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        from google.cloud.aiplatform_v1 import ScheduleServiceClient

        self.engine, environment = config["engine"], config["env"]
        self.project = google.place(environment, "project")
        self.region = google.place(environment, "region")
        google.place(environment, "bucket")  # where pipeline_root lies
        self.parent = f"projects/{self.project}/locations/{self.region}"
        own = google.endpoint(environment, "vertex")
        self.client = ScheduleServiceClient(
            credentials=google.credentials(environment),
            transport="rest",
            client_options={
                "api_endpoint": own or f"https://{self.region}-aiplatform.googleapis.com"
            },
        )

    def message(self, name: str, cron: str, spec: Mapping[str, Any]) -> Any:
        from google.cloud.aiplatform_v1 import CreatePipelineJobRequest, PipelineJob, Schedule

        job = PipelineJob(
            display_name=name,
            pipeline_spec=spec,
            labels=self.engine["labels"],
            runtime_config=PipelineJob.RuntimeConfig(
                gcs_output_directory=self.engine["pipeline_root"]
            ),
        )
        if self.engine["service_account"]:
            job.service_account = self.engine["service_account"]
        if self.engine["network"]:
            job.network = self.engine["network"]
        request = CreatePipelineJobRequest(parent=self.parent, pipeline_job=job)
        return Schedule(
            display_name=name,
            cron=f"TZ=Etc/UTC {cron}",
            max_concurrent_run_count=1,
            create_pipeline_job_request=request,
        )

    def find(self, name: str) -> Any | None:
        with google.translated(SERVICE):
            listed = self.client.list_schedules(
                request={"parent": self.parent, "filter": f'display_name="{name}"'},
                timeout=CALL_SECONDS,
                retry=None,
            )
            return next((one for one in listed if one.display_name == name), None)

    def create(self, message: Any) -> Any:
        with google.translated(SERVICE):
            return self.client.create_schedule(
                parent=self.parent, schedule=message, timeout=CALL_SECONDS, retry=None
            )

    def change(self, found: Any, message: Any) -> Any:
        message.name = found.name
        with google.translated(SERVICE):
            return self.client.update_schedule(
                request={
                    "schedule": message,
                    "update_mask": {"paths": ["cron", "create_pipeline_job_request"]},
                },
                timeout=CALL_SECONDS,
                retry=None,
            )

    def told(self, made: Any, *, replaced: bool) -> Scheduled:
        number = made.name.rpartition("/")[2]
        place = f"vertex-ai/locations/{self.region}/pipelines/schedules/{number}"
        return Scheduled(
            address=made.name,
            next_run=made.next_run_time.isoformat() if made.next_run_time else "",
            link=f"https://console.cloud.google.com/{place}?project={self.project}",
            replaced=replaced,
        )
