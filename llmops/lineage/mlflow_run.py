"""A run in MLflow: a server or a local store, written while the run goes on or once it is over.

Parameters are the leaves of the resolved config, metrics the loss of tuning and the figures of the
evaluation, the dataset an input by its version, the registered model a version with its aliases.
Whatever is there already is found and not written twice. Rows and answers stay here.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from llmops.errors import BackendError, MissingExtra
from llmops.lineage.trackers import Point, points
from llmops.ports.registry import ModelVersion

PARAMETER_LIMIT = 500  # characters that MLflow keeps of a parameter
BATCHES = {"params": 100, "metrics": 1000, "tags": 100}  # what a server takes at once
DIGEST_LIMIT = 36  # characters that MLflow keeps of a dataset's digest
STATUSES: Mapping[str, str] = {"succeeded": "FINISHED", "refused": "FINISHED", "failed": "FAILED"}
MADE_BY = "llmops.run_id"


class MlflowRun:
    """One run in one MLflow; found there by our run id, or made."""

    def __init__(self, uri: str, record: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Find the run, or begin it with its parameters.

        Raises:
            MissingExtra: If mlflow-skinny is not installed.
            BackendError: If the store or server cannot be reached or refuses.
        """
        try:
            from mlflow import MlflowClient
        except ModuleNotFoundError as exc:
            raise MissingExtra(
                "this needs the package 'mlflow-skinny'", hint="pip install 'llmops[export]'"
            ) from exc
        self.uri = uri
        with self._translated():
            self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            self.experiment = self._experiment(str(record["experiment"]))
            self.id = self._found(record) or self._begun(record, config)

    def loss(self, point: Point, at: datetime) -> None:
        """Add a value measured while the run goes on."""
        moment = int(at.timestamp() * 1000)
        with self._translated():
            self.client.log_metric(self.id, point.name, point.value, moment, point.step)

    def finish(
        self,
        record: Mapping[str, Any],
        curve: Sequence[Mapping[str, Any]],
        versions: Sequence[ModelVersion],
    ) -> None:
        """Add what is known at the end, and end it.

        Args:
            record: The run's record.
            curve: The training curve.
            versions: The versions that the run registered, with the aliases that they hold.

        Raises:
            BackendError: If the store or server cannot be reached or refuses.
        """
        with self._translated():
            self._log_missing(record, curve)
            self._log_dataset(record)
            for version in versions:
                self._log_model(version)
            self._log("tags", _tags(record, versions))
            ended = _milliseconds(record.get("finished") or record["started"])
            status = STATUSES.get(record["status"], "KILLED")
            self.client.set_terminated(self.id, status, end_time=ended)

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        made: str = found.experiment_id if found else self.client.create_experiment(name)
        return made

    def _found(self, record: Mapping[str, Any]) -> str | None:
        asked = f"tags.`{MADE_BY}` = '{record['run_id']}'"
        found = self.client.search_runs([self.experiment], filter_string=asked, max_results=1)
        return str(found[0].info.run_id) if found else None

    def _begun(self, record: Mapping[str, Any], config: Mapping[str, Any]) -> str:
        from mlflow.entities import Param

        run = self.client.create_run(
            self.experiment,
            start_time=_milliseconds(record["started"]),
            run_name=record["run_id"],
            tags={MADE_BY: str(record["run_id"])},
        )
        self.id = str(run.info.run_id)
        leaves = [Param(name, str(value)[:PARAMETER_LIMIT]) for name, value in _leaves(config)]
        self._log("params", leaves)
        return self.id

    def _log_missing(self, record: Mapping[str, Any], curve: Sequence[Mapping[str, Any]]) -> None:
        from mlflow.entities import Metric

        ended = _milliseconds(record.get("finished") or record["started"])
        wanted = points(record, curve)
        there = {
            (name, one.step)
            for name in {point.name for point in wanted}
            for one in self.client.get_metric_history(self.id, name)
        }
        missing = [point for point in wanted if (point.name, point.step) not in there]
        self._log("metrics", [Metric(p.name, p.value, ended, p.step) for p in missing])

    def _log_dataset(self, record: Mapping[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        version = record.get("dataset_version")
        there = self.client.get_run(self.id).inputs
        if not version or (there and there.dataset_inputs):
            return
        counts = {name: rows for name, rows in (record.get("counts") or {}).items() if rows}
        source = {"uri": (record.get("source") or {}).get("name")}
        dataset = Dataset(
            name=str(record["experiment"]),
            digest=str(version)[-DIGEST_LIMIT:],
            source_type="llmops",
            source=json.dumps(source),
            profile=json.dumps(counts),
        )
        tag = InputTag("mlflow.data.context", "training")
        self.client.log_inputs(self.id, [DatasetInput(dataset, [tag])])

    def _log_model(self, version: ModelVersion) -> None:
        """Register the version once, and let its aliases be held by it there too."""
        from mlflow.exceptions import MlflowException

        name, mark = version.name, str(version.version)
        try:
            self.client.get_registered_model(name)
        except MlflowException:
            self.client.create_registered_model(name)
        there = self.client.search_model_versions(f"name = '{name}'")
        ours = next((one for one in there if one.tags.get("llmops.version") == mark), None)
        if ours is None:
            ours = self.client.create_model_version(
                name,
                source=f"llmops://{name}/{mark}",
                run_id=self.id,
                tags={"llmops.version": mark, "llmops.digest": version.digest},
                description=version.model.tuned or version.model.base,
            )
        for alias in version.aliases:
            self.client.set_registered_model_alias(name, alias, str(ours.version))

    def _log(self, what: str, values: Sequence[Any]) -> None:
        log: Any = self.client.log_batch
        size = BATCHES[what]
        for start in range(0, len(values), size):
            log(self.id, **{what: values[start : start + size]})

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, OSError) as exc:
            raise BackendError(
                f"MLflow at {self.uri} does not take the run: {str(exc).splitlines()[0]}",
                hint="is its address right, and the server up?",
                retryable=True,
            ) from exc


def _tags(record: Mapping[str, Any], versions: Sequence[ModelVersion]) -> list[Any]:
    from mlflow.entities import RunTag

    model, git = record.get("model") or {}, record.get("git") or {}
    aliases = [f"{one.name}@{alias}" for one in versions for alias in one.aliases]
    known = {
        "llmops.status": record["status"],
        "llmops.config_digest": record["config_digest"],
        "llmops.dataset_version": record.get("dataset_version"),
        "llmops.model": model.get("tuned") or model.get("base"),
        "llmops.aliases": ", ".join(aliases) or None,
        "mlflow.source.git.commit": git.get("commit"),
    }
    return [RunTag(name, str(value)) for name, value in known.items() if value]


def _leaves(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _leaves(item, f"{above}{key}.")
        else:
            yield f"{above}{key}", item


def _milliseconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp() * 1000)
