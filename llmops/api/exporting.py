"""Export a run to MLflow or TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops.api.ancestry import registered
from llmops.api.past import show, workspace_store
from llmops.artifacts import reference
from llmops.errors import LlmopsError
from llmops.lineage import trackers
from llmops.lineage.run_folder import RunFolder
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
    run = show(name)
    config = RunFolder(run.folder).config()
    aliases = [
        f"{version.name}@{alias}"
        for version in registered()
        if version.registered_by == run.record["run_id"]
        for alias in version.aliases
    ]
    return trackers.to_mlflow(run.record, config, _curve(run.record), aliases, uri)


def export_to_tensorboard(name: str, folder: Path) -> Path:
    """Write a run's figures as TensorBoard's event files; return the folder that holds them.

    Raises:
        ConfigError: If there is no such run.
        MissingExtra: If tensorboardX is not installed.
    """
    record = show(name).record
    return trackers.to_tensorboard(record, _curve(record), folder)


def _curve(record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found = output_of(record, "tune", "model")
    if found is None:
        return []
    try:
        path = workspace_store().local_path(reference(found)) / "curve.json"
        curve: Sequence[Mapping[str, Any]] = json.loads(path.read_text("utf-8"))
    except (LlmopsError, OSError, ValueError):  # cleared since: the other figures are there
        return []
    return curve
