"""The lock of an experiment, ``runs/<experiment>.lock.yaml``: what the last accepted run was.

It is committed. Plan, diff and CI compare with it where the store is empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops.errors import ConfigError, Refused
from llmops.files import disk_errors, read_text, write_text

SCHEMA = 1
HEADER = """\
# The last accepted run of this experiment, written by `python -m llmops accept RUN`.
# Commit it: plan, diff and CI compare with it. Do not edit it.
"""


def lock_path(workspace: Path, experiment: str) -> Path:
    """Return where the experiment's lock lies."""
    return workspace / "runs" / f"{experiment}.lock.yaml"


def write_lock(workspace: Path, record: Mapping[str, Any]) -> Path:
    """Accept a run: write its keys, digests, metrics and model as the experiment's lock.

    Raises:
        Refused: If the run did not succeed, or its gate refused.
        BackendError: If the disk refuses.
    """
    if record["status"] != "succeeded":
        raise Refused(
            f"run {record['run_id']} is '{record['status']}' and cannot be accepted",
            hint=f"python -m llmops runs show {record['run_id']}",
        )
    import yaml

    path = lock_path(workspace, record["experiment"])
    text = yaml.safe_dump(lock_content(record), sort_keys=False, allow_unicode=True)
    with disk_errors(path.parent, setting="LLMOPS_WORKSPACE"):
        write_text(path, HEADER + text)
    return path


def read_lock(path: Path) -> dict[str, Any]:
    """Return what a lock file holds.

    Raises:
        ConfigError: If there is none, or it cannot be read, or is of another schema.
        BackendError: If the system refuses for now.
    """
    import yaml

    try:
        loaded = yaml.load(read_text(path), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        found = loaded["schema"], loaded["steps"], loaded["experiment"], loaded["config_digest"]
    except FileNotFoundError as exc:
        raise ConfigError(
            f"there is no lock {path.parent.name}/{path.name}",
            hint="python -m llmops accept RUN writes it",
        ) from exc
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as exc:
        raise ConfigError(
            f"{path} is no lock that can be read ({str(exc).splitlines()[0]})",
            hint="write it anew: python -m llmops accept RUN",
        ) from exc
    if found[0] != SCHEMA:
        raise ConfigError(
            f"{path} has schema {found[0]}, this version of llmops reads {SCHEMA}",
            hint="write it anew: python -m llmops accept RUN",
        )
    lock: dict[str, Any] = loaded
    return lock


def lock_content(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a lock holds of a run record."""
    return {
        "schema": SCHEMA,
        "experiment": record["experiment"],
        "version": record["version"],
        "run_id": record["run_id"],
        "config_digest": record["config_digest"],
        "llmops": record["llmops"],
        "git": record["git"],
        "dataset_version": record["dataset_version"],
        "prompt": record["prompt"],
        "model": record["model"],
        "steps": {step["name"]: _step(step) for step in record["steps"]},
        "metrics": _metrics(record["metrics"]),
        "gate": record["gate"] and {"passed": record["gate"]["passed"]},
    }


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": step["kind"],
        "revision": step["revision"],
        "key": step["key"],
        "settings": step["settings"],
        "inputs": step["inputs"],
        "source": step["source"],
        "outputs": {name: output["sha256"] for name, output in step["outputs"].items()},
        "rows": {
            name: output["rows"]
            for name, output in step["outputs"].items()
            if output["rows"] is not None
        },
    }


def _metrics(metrics: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if metrics is None:
        return None
    return {
        contestant: {
            name: {part: figure[part] for part in ("value", "low", "high", "n")}
            for name, figure in figures.items()
        }
        for contestant, figures in metrics["contestants"].items()
    }
