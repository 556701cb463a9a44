"""Export a run to MLflow or TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops.api.ancestry import registries
from llmops.api.past import show, workspace_store
from llmops.artifacts import reference
from llmops.errors import LlmopsError
from llmops.lineage import trackers
from llmops.lineage.run_folder import RunFolder
from llmops.ports.registry import ModelVersion
from llmops.report.results import output_of


def export_to_mlflow(name: str, uri: str) -> str:
    """Write a run's parameters, figures, dataset, model and aliases into MLflow; return its id.

    Args:
        name: The run's id or the beginning of it.
        uri: A tracking server's address, or a local store such as ``sqlite:///mlflow.db``.

    Raises:
        ConfigError: If there is no such run.
        MissingExtra: If mlflow-skinny is not installed.
        BackendError: If MLflow cannot be reached or refuses.
    """
    from llmops.lineage.mlflow_run import MlflowRun

    run = show(name)
    found = MlflowRun(uri, run.record, RunFolder(run.folder).config())
    found.finish(run.record, training_curve(run.record), registered_by(run.record))
    return found.id


def export_to_tensorboard(name: str, folder: Path) -> Path:
    """Write a run's figures as TensorBoard's event files; return the folder that holds them.

    Raises:
        ConfigError: If there is no such run.
        MissingExtra: If tensorboardX is not installed.
    """
    record = show(name).record
    return trackers.to_tensorboard(record, training_curve(record), folder)


def registered_by(record: Mapping[str, Any]) -> Sequence[ModelVersion]:
    """Return the versions that a run registered, as the registry has them now."""
    return [one for one in registries().versions if one.registered_by == record["run_id"]]


def training_curve(record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the curve that the run's tuning left; empty if there is none any more."""
    found = output_of(record, "tune", "model")
    if found is None:
        return []
    try:
        path = workspace_store().local_path(reference(found)) / "curve.json"
        curve: Sequence[Mapping[str, Any]] = json.loads(path.read_text("utf-8"))
    except (LlmopsError, OSError, ValueError):  # cleared since: the other figures are there
        return []
    return curve
