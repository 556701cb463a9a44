"""A run in other programs' trackers: MLflow's store or server, TensorBoard's event files.

Parameters are the leaves of the resolved config, metrics the figures of the evaluation and the
training curve by optimiser step. Rows and answers stay here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from llmops.errors import BackendError, MissingExtra

PARAMETER_LIMIT = 500  # characters that MLflow keeps of a parameter
STATUSES: Mapping[str, str] = {"succeeded": "FINISHED", "refused": "FINISHED", "failed": "FAILED"}


@dataclass(frozen=True)
class Point:
    """One value of a metric; ``step`` is the optimiser step, 0 for what was measured once."""

    name: str
    value: float
    step: int


def points(record: Mapping[str, Any], curve: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Return the figures of a run: its training curve, then what the evaluation measured."""
    found = [
        Point(f"tuning/{name}", float(point[name]), int(point["step"]))
        for point in curve
        for name in ("train_loss", "validation_loss")
        if point.get(name) is not None
    ]
    side = record.get("scored_on", "test")
    for who, figures in ((record.get("metrics") or {}).get("contestants") or {}).items():
        for name, figure in figures.items():
            for part in ("value", "low", "high"):
                if figure.get(part) is not None:
                    suffix = "" if part == "value" else f"_{part}"
                    found.append(Point(f"{side}/{who}/{name}{suffix}", float(figure[part]), 0))
    return found


def to_tensorboard(
    record: Mapping[str, Any], curve: Sequence[Mapping[str, Any]], folder: Path
) -> Path:
    """Write event files into ``folder/<experiment>/<run id>`` and return that folder.

    Raises:
        MissingExtra: If tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ModuleNotFoundError as exc:
        raise _missing("tensorboardX") from exc
    target = folder / str(record["experiment"]) / str(record["run_id"])
    with SummaryWriter(str(target)) as writer:
        for point in points(record, curve):
            writer.add_scalar(point.name, point.value, point.step)
    return target


def to_mlflow(
    record: Mapping[str, Any],
    config: Mapping[str, Any],
    curve: Sequence[Mapping[str, Any]],
    aliases: Sequence[str],
    uri: str,
) -> str:
    """Write the run into MLflow, or find it there, and return MLflow's id of it.

    A run that was exported before is not written again.

    Raises:
        MissingExtra: If mlflow-skinny is not installed.
        BackendError: If the store or server cannot be reached or refuses.
    """
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ModuleNotFoundError as exc:
        raise _missing("mlflow-skinny") from exc
    try:
        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(record["experiment"])
        where = (
            experiment.experiment_id
            if experiment
            else client.create_experiment(record["experiment"])
        )
        asked = f"tags.`llmops.run_id` = '{record['run_id']}'"
        before = client.search_runs([where], filter_string=asked, max_results=1)
        if before:
            return str(before[0].info.run_id)
        return _write(client, where, record, config, curve, aliases)
    except (MlflowException, OSError) as exc:
        raise BackendError(
            f"MLflow at {uri} does not take the run: {str(exc).splitlines()[0]}",
            hint="is its address right, and the server up?",
            retryable=True,
        ) from exc


def _write(
    client: Any,
    where: str,
    record: Mapping[str, Any],
    config: Mapping[str, Any],
    curve: Sequence[Mapping[str, Any]],
    aliases: Sequence[str],
) -> str:
    from mlflow.entities import Metric, Param, RunTag

    began = _milliseconds(record["started"])
    ended = _milliseconds(record.get("finished") or record["started"])
    run = client.create_run(where, start_time=began, run_name=record["run_id"])
    identity = str(run.info.run_id)
    parameters = [Param(name, str(value)[:PARAMETER_LIMIT]) for name, value in _leaves(config)]
    metrics = [Metric(p.name, p.value, ended, p.step) for p in points(record, curve)]
    tags = [RunTag(name, value) for name, value in _tags(record, aliases).items()]
    for start in range(0, len(parameters), 100):  # what a server takes at once
        client.log_batch(identity, params=parameters[start : start + 100])
    for start in range(0, len(metrics), 1000):
        client.log_batch(identity, metrics=metrics[start : start + 1000])
    client.log_batch(identity, tags=tags)
    client.set_terminated(identity, STATUSES.get(record["status"], "KILLED"), end_time=ended)
    return identity


def _tags(record: Mapping[str, Any], aliases: Sequence[str]) -> dict[str, str]:
    model, git = record.get("model") or {}, record.get("git") or {}
    known = {
        "llmops.run_id": record["run_id"],
        "llmops.status": record["status"],
        "llmops.config_digest": record["config_digest"],
        "llmops.dataset_version": record.get("dataset_version"),
        "llmops.model": model.get("tuned") or model.get("base"),
        "llmops.aliases": ", ".join(aliases) or None,
        "mlflow.source.git.commit": git.get("commit"),
    }
    return {name: str(value) for name, value in known.items() if value}


def _leaves(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _leaves(item, f"{above}{key}.")
        else:
            yield f"{above}{key}", item


def _milliseconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp() * 1000)


def _missing(package: str) -> MissingExtra:
    return MissingExtra(f"this needs the package '{package}'", hint="pip install 'llmops[export]'")
