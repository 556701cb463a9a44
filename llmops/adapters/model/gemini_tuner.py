"""Supervised tuning of Gemini on Vertex AI.

Data go as JSONL into ``env.bucket``, named by their content; nothing over a limit of the dated
table is sent. The job is submitted once under the step's key (``gemini_jobs``) and waited for: the
wait ends early with ``Pending`` after ``model.tuner.waiting.max_wait_s`` (0: right after
submitting), so that nobody pays for a container that only waits. The same step asked again goes on
with that very job; ``follow`` waits for it from anywhere. Of the checkpoints, the one whose answers
to validation rows are closest to the references (mean chrF) is chosen. Gemini tunes by epochs and
tells no losses: ``max_steps`` alone means one epoch, and the curve is empty.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.adapters.asking import RequestRefused, Requests
from llmops.adapters.bucket import Bucket
from llmops.adapters.model.gemini_checkpoints import Checkpoint, Chooser, checkpoints_of
from llmops.adapters.model.gemini_client import GeminiClient
from llmops.adapters.model.gemini_examples import Fits, TuningFile, write_file
from llmops.adapters.model.gemini_jobs import TuningJobs, Waiting, has_ended
from llmops.adapters.model.gemini_limits import Limits, limits_of
from llmops.errors import ConfigError, DataError
from llmops.ports.model import Tuned, TuningRequest
from llmops.ports.progress import Progress

if TYPE_CHECKING:
    from google.genai import types

ADAPTER_SIZES = {1: "ONE", 2: "TWO", 4: "FOUR", 8: "EIGHT", 16: "SIXTEEN", 32: "THIRTY_TWO"}
DISPLAY_NAME_LIMIT = 128  # characters
VALIDATION_SHARE_FROM = 1000  # validation rows above which their share of train rows is limited


@dataclass(frozen=True)
class TunerSettings:
    """The ``model.tuner`` block; see conf/model/gemini.yaml for units."""

    region: str
    learning_rate_multiplier: float | None
    adapter_size: int | None
    validation_rows: int
    last_checkpoint_only: bool
    choose_checkpoint_on_rows: int
    display_name: str | None
    description: str | None
    labels: Mapping[str, str]
    encryption_key: str | None
    waiting: Waiting


@dataclass(frozen=True)
class Data:
    """The files of one job, and where they lie."""

    train: TuningFile
    validation: TuningFile | None
    train_uri: str
    validation_uri: str | None


def open_tuner(
    config: Mapping[str, Any], cache: Path, *, environment: Mapping[str, Any]
) -> GeminiTuner:
    """Open the tuner of the ``model`` config group.

    Raises:
        BackendError: If there are no credentials.
        ConfigError: If the environment names no project or bucket.
    """
    del cache
    return GeminiTuner(config, environment)


class GeminiTuner:
    """See the module's text."""

    def __init__(self, model: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        self.model, self.environment = model, environment
        self.settings = TunerSettings(
            **{**model["tuner"], "waiting": Waiting(**model["tuner"]["waiting"])}
        )
        self.client = GeminiClient(environment, self.settings.region, Requests(**model["requests"]))
        self.bucket = Bucket(environment)

    def tune(self, request: TuningRequest, progress: Progress) -> Tuned:
        """Tune; see ``ports.model.Tuner``."""
        epochs = _epochs(request)
        limits = limits_of(self.model["base"])
        limits.check_settings(self.model)
        progress(0, None, "writing the rows")
        data = self._data(request, limits)
        jobs = TuningJobs(self.client, self.bucket, self.settings.waiting, request.key)

        def submit(client: Any, attempt: int, labels: Mapping[str, str]) -> types.TuningJob:
            return self._submit(client, data, epochs, f"{request.key[:12]}-{attempt}", labels)

        job = jobs.follow(jobs.claim(submit, progress), progress)
        chosen, measured = self._choose(job, request, progress)
        (request.output / "job.json").write_text(_plain_text(job), "utf-8")
        progress(1, 1, "tuned")
        return Tuned(
            tuned=str(job.tuned_model.model),  # type: ignore[union-attr]
            endpoint=chosen.endpoint,
            curve=(),
            facts=_facts(job, data, epochs, chosen, measured),
        )

    def has_ended(self, job: str) -> bool:
        """Say whether a job that ``Pending`` named has ended, well or badly; costs nothing."""
        jobs = TuningJobs(self.client, self.bucket, self.settings.waiting, key="")
        return has_ended(jobs.read(job, deadline_s=0))

    # -------------------------------------------------------------------- data

    def _data(self, request: TuningRequest, limits: Limits) -> Data:
        fits = Fits(limits.at_most("example_tokens"), self._count_tokens)
        train = self._file(request, request.train, "train", request.max_examples, fits)
        if not train.rows:
            raise _no_rows(train)
        validation = None
        if request.validation is not None and self.settings.validation_rows:
            rows = self.settings.validation_rows
            validation = self._file(request, request.validation, "validation", rows, fits)
            validation = validation if validation.rows else None
        _check(limits, train, validation)
        uri = self._upload(validation) if validation else None
        return Data(train, validation, self._upload(train), uri)

    def _file(
        self, request: TuningRequest, source: Path, side: str, max_rows: int | None, fits: Fits
    ) -> TuningFile:
        target = request.scratch / f"{side}.jsonl"
        return write_file(source, target, max_rows=max_rows, system=request.system, fits=fits)

    def _upload(self, file: TuningFile) -> str:
        name = f"gemini/data/{file.sha256}.jsonl"
        self.bucket.create(name, file.path)
        return self.bucket.uri(name)

    def _count_tokens(self, text: str) -> int:
        try:
            counted = self.client.call(
                lambda client: client.models.count_tokens(model=self.model["base"], contents=text)
            )
        except RequestRefused as exc:
            raise DataError(f"the tokens of a row cannot be counted: {exc}") from exc
        return int(counted.total_tokens or 0)

    # --------------------------------------------------------------------- job

    def _submit(
        self, client: Any, data: Data, epochs: int, name: str, labels: Mapping[str, str]
    ) -> types.TuningJob:
        from google.genai import types

        settings = self.settings
        size = settings.adapter_size
        config = types.CreateTuningJobConfig(
            epoch_count=epochs,
            learning_rate_multiplier=settings.learning_rate_multiplier,
            adapter_size=types.AdapterSize(f"ADAPTER_SIZE_{ADAPTER_SIZES[size]}") if size else None,
            validation_dataset=types.TuningValidationDataset(gcs_uri=data.validation_uri)
            if data.validation_uri
            else None,
            export_last_checkpoint_only=settings.last_checkpoint_only or None,
            tuned_model_display_name=(settings.display_name or f"tune-{name}")[:DISPLAY_NAME_LIMIT],
            description=settings.description,
            labels={**settings.labels, **labels},
            encryption_spec=types.EncryptionSpec(kms_key_name=settings.encryption_key)
            if settings.encryption_key
            else None,
        )
        job: types.TuningJob = client.tunings.tune(
            base_model=self.model["base"],
            training_dataset=types.TuningDataset(gcs_uri=data.train_uri),
            config=config,
        )
        return job

    def _choose(
        self, job: types.TuningJob, request: TuningRequest, progress: Progress
    ) -> tuple[Checkpoint, Sequence[Checkpoint]]:
        """Return the checkpoint to answer with, and all of them with what was measured."""
        from llmops.data.parquet import count_rows

        points = checkpoints_of(job)
        rows = self.settings.choose_checkpoint_on_rows
        if (
            len(points) < 2
            or not rows
            or not request.validation
            or not count_rows(request.validation)
        ):
            return points[-1], points
        chooser = Chooser(self.model, self.environment, request.scratch / "checkpoints.json")
        measured = chooser.measure(points, request.validation, rows, progress)
        return max(measured, key=lambda point: (point.chrf or 0.0, -point.step)), measured


def _epochs(request: TuningRequest) -> int:
    """Return the epochs to ask for: one where the config knows steps only."""
    if request.max_steps is None and request.epochs is None:
        raise ConfigError(
            "tuning.max_steps and tuning.epochs are both null",
            hint="Gemini tunes by epochs: set tuning.epochs=1",
        )
    return request.epochs or 1


def _check(limits: Limits, train: TuningFile, validation: TuningFile | None) -> None:
    fewer = "lower tuning.max_examples"
    limits.check("train_rows", train.rows, f"there are {train.rows:,} train rows", fewer)
    limits.check("file_bytes", train.bytes, f"the train file has {train.bytes:,} bytes", fewer)
    if validation is None:
        return
    said = f"there are {validation.rows:,} validation rows"
    fewer = "lower model.tuner.validation_rows"
    limits.check("validation_rows", validation.rows, said, fewer)
    if validation.rows > VALIDATION_SHARE_FROM:
        share = validation.rows / train.rows
        limits.check("validation_share", share, f"{said}, {share:.0%} of the train rows", fewer)


def _no_rows(train: TuningFile) -> DataError:
    if not train.dropped_rows:
        return DataError(
            "there are no rows to tune on",
            hint="check split.train, tuning.max_examples and the query",
        )
    return DataError(
        f"none of {train.dropped_rows} rows has room for an answer: {train.dropped[0].reason}",
        hint="shorten the questions or the instruction",
    )


def _facts(
    job: types.TuningJob,
    data: Data,
    epochs: int,
    chosen: Checkpoint,
    measured: Sequence[Checkpoint],
) -> dict[str, Any]:
    """Return what the record should keep; no times."""
    stats = job.tuning_data_stats and job.tuning_data_stats.supervised_tuning_data_stats
    billable = stats.total_billable_token_count if stats else None
    used = (stats and stats.tuning_dataset_example_count) or data.train.rows
    return {
        "job": job.name,
        "epochs": epochs,
        "steps": stats.tuning_step_count if stats else None,
        "tokens": None if billable is None else int(billable) * epochs,
        "examples_used": int(used),
        "examples_seen": int(used) * epochs,
        "validation_examples": data.validation.rows if data.validation else 0,
        "truncated": int((stats and stats.total_truncated_example_count) or 0),
        "truncated_rows": [int(n) for n in (stats and stats.truncated_example_indices) or ()],
        "left_out": data.train.dropped_rows,
        "left_out_rows": [asdict(row) for row in data.train.dropped],
        "dropped_by_provider": list((stats and stats.dropped_example_reasons) or ()),
        "train_file": {"uri": data.train_uri, "sha256": data.train.sha256},
        "checkpoint": chosen.id,
        "checkpoints": [asdict(point) for point in measured],
    }


def _plain_text(job: types.TuningJob) -> str:
    plain = job.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude={"sdk_http_response"}
    )
    return json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
