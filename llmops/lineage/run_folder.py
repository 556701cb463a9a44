"""The folder of one run, ``runs/<experiment>/<run id>/``: writing it and finding earlier ones."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmops.errors import ConfigError, nearest
from llmops.files import disk_errors, read_text, write_text

SETTING = "LLMOPS_WORKSPACE"
RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")


def new_run_id(now: datetime) -> str:
    """Return UTC time and random digits, e.g. ``20261123-101502-7b1e``: sortable and unique."""
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class RunFolder:
    """One run's folder. Every file in it is written whole or not at all."""

    path: Path

    @classmethod
    def create(cls, workspace: Path, experiment: str, run_id: str) -> RunFolder:
        """Make the folder.

        Raises:
            BackendError: If the disk refuses.
        """
        path = workspace / "runs" / experiment / run_id
        with disk_errors(workspace / "runs", setting=SETTING):
            (path / "logs").mkdir(parents=True)
        return cls(path)

    def write(self, name: str, text: str) -> None:
        """Write one file of the folder."""
        with disk_errors(self.path, setting=SETTING):
            write_text(self.path / name, text)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write one JSON file of the folder."""
        self.write(name, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def write_yaml(self, name: str, value: Mapping[str, Any]) -> None:
        """Write one YAML file of the folder, keys in the order given."""
        import yaml

        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        self.write(name, yaml.dump(value, Dumper=dumper, sort_keys=False, allow_unicode=True))

    def config(self) -> dict[str, Any]:
        """Return ``config.yaml``, the resolved config.

        Raises:
            ConfigError: If there is none, or it cannot be read.
            BackendError: If the system refuses for now.
        """
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            loaded = yaml.load(read_text(self.path / "config.yaml"), loader)
        except (OSError, ValueError, yaml.YAMLError) as exc:
            raise ConfigError(
                f"{self.path} holds no readable config ({str(exc).splitlines()[0]})",
                hint="python -m llmops runs list",
            ) from exc
        if not isinstance(loaded, dict):
            raise ConfigError(f"{self.path / 'config.yaml'} holds no config")
        return loaded

    def plan(self) -> dict[str, Any]:
        """Return ``plan.json``.

        Raises:
            ConfigError: If there is none, or it cannot be read.
            BackendError: If the system refuses for now.
        """
        try:
            plan: dict[str, Any] = json.loads(read_text(self.path / "plan.json"))
        except (OSError, ValueError) as exc:
            raise ConfigError(
                f"{self.path} holds no readable plan ({exc})", hint="python -m llmops runs list"
            ) from exc
        return plan

    def origins(self) -> dict[str, Any]:
        """Return ``provenance.json``; empty if there is none that can be read."""
        try:
            loaded: dict[str, Any] = json.loads(read_text(self.path / "provenance.json"))
        except (OSError, ValueError):
            return {}
        return loaded

    def record(self) -> dict[str, Any]:
        """Return ``run.json``.

        Raises:
            ConfigError: If there is none, or it cannot be read.
            BackendError: If the system refuses for now.
        """
        try:
            record: dict[str, Any] = json.loads(read_text(self.path / "run.json"))
        except (OSError, ValueError) as exc:
            raise ConfigError(
                f"{self.path} holds no readable run record ({exc})",
                hint="python -m llmops runs list",
            ) from exc
        return record


def find_run(workspace: Path, name: str) -> RunFolder:
    """Find a run by its id, its beginning, ``<experiment>/<run id>``, or a path to its folder.

    Raises:
        ConfigError: If no run or several fit, with the nearest ids.
    """
    if (Path(name) / "run.json").is_file():
        return RunFolder(Path(name).resolve())
    wanted = name.rpartition("/")[2]
    runs = {run.path.name: run for run in all_runs(workspace)}
    fitting = [run_id for run_id in runs if run_id.startswith(wanted)]
    if len(fitting) == 1:
        return runs[fitting[0]]
    if fitting:
        raise ConfigError(f"several runs start with '{name}'", hint=", ".join(sorted(fitting)[:8]))
    guess = nearest(wanted, runs)
    raise ConfigError(
        f"there is no run '{name}' under {workspace / 'runs'}",
        hint=f"{guess} python -m llmops runs list".strip(),
    )


def all_runs(workspace: Path, experiment: str | None = None) -> Iterator[RunFolder]:
    """Yield the runs of a workspace, newest first."""
    pattern = f"{experiment or '*'}/*/run.json"
    found = (workspace / "runs").glob(pattern)
    for file in sorted(found, key=lambda file: file.parent.name, reverse=True):
        yield RunFolder(file.parent)
