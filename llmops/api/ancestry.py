"""Comparing runs, and walking from a thing to what it was made of and what was made of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops.adapters.catalog import adapter, in_cloud, registry_of
from llmops.api.answering import serve_config
from llmops.api.past import runs, workspace_store
from llmops.artifacts import canonical_json
from llmops.config.project import workspace
from llmops.errors import ConfigError, LlmopsError
from llmops.lineage.ancestry import Ancestry, Node, ancestry
from llmops.lineage.comparison import Comparison
from llmops.lineage.comparison import compare as compare_folders
from llmops.lineage.run_folder import all_runs, find_run
from llmops.lineage.sweep import all_sweeps
from llmops.ports.registry import ModelVersion, Registry

ANSWER = "ans_"  # how the ids of answers in the traffic log begin
FILES = {"kind": "files", "path": ".llmops/registry"}


@dataclass(frozen=True)
class Found:
    """A thing, and the graph that it stands in."""

    node: Node
    graph: Ancestry
    away: tuple[str, ...] = ()  # why registries could not be asked


@dataclass(frozen=True)
class Registered:
    """A registry that runs of the workspace register in, and the versions in it."""

    registry: Registry
    versions: Sequence[ModelVersion]


@dataclass(frozen=True)
class Registries:
    """All registries of the workspace that answer, and why the others do not."""

    found: tuple[Registered, ...]
    away: tuple[str, ...]

    @property
    def versions(self) -> list[ModelVersion]:
        """The versions in all of them."""
        return [version for one in self.found for version in one.versions]


def compare(names: Sequence[str]) -> Comparison:
    """Compare runs with the first of them: config, figures, the answers that changed most.

    Raises:
        ConfigError: If fewer than two are named, or one cannot be found or read.
    """
    if len(names) < 2:
        raise ConfigError(
            "one run cannot be compared", hint="llmops runs compare RUN RUN [RUN ...]"
        )
    folders = [find_run(workspace(), name) for name in names]
    return compare_folders(folders, workspace_store())


def lineage(name: str) -> Found:
    """Find a run, sweep, dataset version, model, alias, file or answer, and all around it.

    Raises:
        ConfigError: If nothing or several things have that name, with the nearest.
    """
    known = registries()
    graph = whole_ancestry(known)
    if name.startswith(ANSWER):
        _add_answer(graph, name)
    return Found(graph.find(name), graph, known.away)


def whole_ancestry(known: Registries) -> Ancestry:
    """Return the graph of the whole workspace."""
    return ancestry([run.record for run in runs()], known.versions, _sweeps())


def registries() -> Registries:
    """Open each registry that the newest run of an experiment names, and the workspace's own."""
    found, away = [], []
    for config, environment in _registry_configs():
        try:
            registry = adapter("registry", config, workspace(), environment=environment)
            found.append(Registered(registry, registry.list()))
        except LlmopsError as exc:
            away.append(f"registry {config['kind']}: {exc.problem}")
    return Registries(tuple(found), tuple(away))


def _registry_configs() -> Iterable[tuple[Mapping[str, Any], Mapping[str, Any] | None]]:
    chosen: dict[str, tuple[Mapping[str, Any], Mapping[str, Any] | None]] = {}
    seen: set[str] = set()
    for folder in all_runs(workspace()):
        experiment = folder.path.parent.name
        if experiment in seen:
            continue
        seen.add(experiment)
        with contextlib.suppress(ConfigError):
            config = folder.config()
            registry = registry_of(config) if config.get("deploy") else None
            if registry and in_cloud("registry", registry):
                environment = config.get("env")
                chosen[canonical_json([registry, environment])] = (registry, environment)
            elif registry:
                chosen[canonical_json(registry)] = (registry, None)
    return {canonical_json(FILES): (FILES, None), **chosen}.values()


def _sweeps() -> Iterator[Mapping[str, Any]]:
    for sweep in all_sweeps(workspace()):
        with contextlib.suppress(ConfigError):
            final = (sweep.asked().get("final") or {}).get("run_id")
            ran = [member.run_id for member in sweep.members() if member.run_id]
            yield {"id": sweep.id, "runs": ran, "final": final}


def _add_answer(graph: Ancestry, name: str) -> None:
    """Look an answer up in the traffic log and hang it below the model that gave it."""
    from llmops.traffic.query import rows

    folder = workspace() / serve_config()["log"]["path"]
    quoted = name.replace("'", "''")
    _, found = rows(folder, f"SELECT model, version, time FROM answers WHERE id = '{quoted}'")
    for row in found:
        answer = graph.add(Node("prediction", name, {"time": str(row["time"])}))
        model = f"model:{row['model']}:{row['version']}"
        if model in graph.nodes:
            graph.link(model, answer, "answered")
