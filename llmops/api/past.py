"""What has run: run records, dataset versions, the accepted run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops.adapters.catalog import open_store
from llmops.config.project import workspace
from llmops.errors import ConfigError
from llmops.files import read_text
from llmops.lineage import catalogue, lock
from llmops.lineage.catalogue import Answer, RunRow, Wanted
from llmops.lineage.datasets import Dataset
from llmops.lineage.run_folder import all_runs, find_run
from llmops.ports.store import Store

DEFAULT_STORE = {"kind": "folder", "path": ".llmops/store"}  # conf/store/folder.yaml


@dataclass(frozen=True)
class Run:
    """A run that has ended: its folder and its record (the content of ``run.json``)."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def exit_code(self) -> int:
        """0 succeeded, 3 the gate refused, otherwise what the failed step's error says."""
        if self.record["status"] == "refused":
            return 3
        error = self.record["error"]
        return int(error["exit_code"]) if error else 0


def runs(experiment: str | None = None) -> list[Run]:
    """Return the workspace's runs, newest first; unreadable ones are left out."""
    found = []
    for folder in all_runs(workspace(), experiment):
        try:
            found.append(Run(folder.path, folder.record()))
        except ConfigError:
            continue
    return found


def run_rows(wanted: Wanted | None = None) -> list[RunRow]:
    """Return the workspace's runs as rows, newest first; one that cannot be read is a row too.

    Raises:
        ConfigError: If ``wanted`` asks for a figure or a date that cannot be read.
    """
    return catalogue.chosen(catalogue.run_rows(workspace()), wanted or Wanted())


def query_runs(sql: str) -> Answer:
    """Ask the runs with SQL: the tables ``runs``, ``figures`` and ``steps``.

    Raises:
        ConfigError: If the query fails, with DuckDB's words.
    """
    return catalogue.query(catalogue.run_rows(workspace()), sql)


def tag_run(name: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> tuple[str, ...]:
    """Change a run's tags and return them.

    Raises:
        ConfigError: If there is no such run, or a tag is no plain name.
    """
    return catalogue.tag(find_run(workspace(), name), add, remove)


def show(name: str) -> Run:
    """Return one run by its id or the beginning of it.

    Raises:
        ConfigError: If there is no such run, with the nearest id.
    """
    folder = find_run(workspace(), name)
    return Run(folder.path, folder.record())


def datasets() -> list[Dataset]:
    """Return the workspace's dataset versions, those of the newest runs first."""
    from llmops.lineage.datasets import datasets as known

    return known([run.record for run in runs()], workspace_store())


def workspace_store() -> Store:
    """Return the store of the workspace's newest run; without any run, the default one."""
    configs = (_read_config(run) for run in runs())
    chosen = next((config for config in configs if config.get("store")), {"store": DEFAULT_STORE})
    return open_store(chosen, workspace())


def _read_config(run: Run) -> Mapping[str, Any]:
    import yaml

    try:
        loaded: Mapping[str, Any] = yaml.safe_load(read_text(run.folder / "config.yaml"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return loaded or {}


def accept(name: str) -> Path:
    """Make a run the accepted one of its experiment: write the lock and return its path.

    Raises:
        ConfigError: If there is no such run.
        Refused: If it did not succeed.
    """
    return lock.write_lock(workspace(), show(name).record)
