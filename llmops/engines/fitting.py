"""Whether an engine can carry out a graph, asked when a config is checked: before anything is paid.

Knows no service and imports no KFP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmops.config.knowledge import ENGINES_ELSEWHERE
from llmops.engines import resources
from llmops.engines.fusion import grouped
from llmops.errors import ConfigError, ConfigProblems
from llmops.execute import structure
from llmops.plan.graph import Graph
from llmops.plan.keys import read_settings


def check(graph: Graph, config: Mapping[str, Any]) -> None:
    """Ask the steps what they have against their settings, and the engine about its tasks.

    Raises:
        ConfigProblems: With everything that does not fit, each with its key and what to do.
    """
    asked = (*_settings(graph, config), *_images(graph, config), *_tasks(graph, config))
    if asked:
        raise ConfigProblems([f"{exc.problem}; {exc.hint}" for exc in asked])


def _settings(graph: Graph, config: Mapping[str, Any]) -> Iterator[ConfigError]:
    for node in graph.nodes:
        if node.kind.check:
            try:
                read = read_settings(node.kind, config, node.name)
                node.kind.check(structure(node.kind, read), node.name)
            except ConfigError as exc:
                yield exc


def _images(graph: Graph, config: Mapping[str, Any]) -> Iterator[ConfigError]:
    """Kubeflow's local runner starts a container only with Docker, which we do not ask for."""
    if config["engine"]["kind"] in ENGINES_ELSEWHERE:
        return
    for node in graph.nodes:
        if node.kind.own_image:
            yield ConfigError(
                f"pipeline.steps.{node.name}.use: it runs in the container image "
                f"{node.kind.own_image.image}, which one machine does not start",
                hint="choose engine=vertex or engine=kubeflow, or compile it as a Lightweight "
                "Python Component: docs/engines.md",
            )


def _tasks(graph: Graph, config: Mapping[str, Any]) -> Iterator[ConfigError]:
    engine = config["engine"]
    try:
        for group in grouped(graph, engine.get("fuse")):
            resources.needed(group.steps, engine.get("resources") or {})
    except ConfigError as exc:
        yield exc
