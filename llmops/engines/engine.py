"""What an engine is, and the table of them.

An engine carries out the steps of a plan that are due. What came of each stands in the reports
that the workers leave in the store, whatever the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from llmops.errors import unknown_name
from llmops.plan.graph import Graph, build_graph
from llmops.ports.store import Store
from llmops.steps import step_kinds

ENGINES: Mapping[str, str] = {
    "local": "llmops.engines.local",
    "kubeflow": "llmops.engines.kubeflow",
    "vertex": "llmops.engines.vertex",
}
JOBS = "engine.json"  # in the run folder: the jobs of an engine that runs elsewhere
Event = Mapping[str, Any]


@dataclass(frozen=True)
class Assignment:
    """A run that is due.

    ``plan`` is the content of ``plan.json``. ``attempt`` counts the plans of this run: a second
    one is made if an object of the store turns out damaged. ``detach``: return as soon as the
    work is handed over. ``cancels`` is asked, after a Ctrl-C, whether work elsewhere is to end.
    ``meanwhile`` is called once other processes of this machine are at work, with time to spare.
    """

    run_folder: Path
    workspace: Path
    run_id: str
    config: Mapping[str, Any]
    config_uri: str
    plan: Mapping[str, Any]
    store: Store
    attempt: int = 1
    detach: bool = False
    cancels: Callable[[], bool] = lambda: True
    meanwhile: Callable[[], None] = lambda: None


class Engine(Protocol):
    """A module of this floor."""

    def run(self, assignment: Assignment, on_event: Callable[[Event], None]) -> bool:
        """Run the steps that the plan leaves to do; go on where an earlier call left off.

        Returns:
            Whether the work has ended, well or not; false if it was handed over and goes on.

        Raises:
            Interrupted: On SIGINT or SIGTERM, when nothing of the run is at work any more.
            Unattended: If the work goes on and cannot be followed.
            BackendError: If the engine's service refuses or fails.
        """
        ...


def engine(kind: str) -> Engine:
    """Return the engine that ``engine.kind`` names.

    Raises:
        ConfigError: If there is none of that name.
    """
    if kind not in ENGINES:
        raise unknown_name("engine", kind, ENGINES, where="engine.kind")
    return cast(Engine, import_module(ENGINES[kind]))


def selected_graph(config: Mapping[str, Any], plan: Mapping[str, Any]) -> Graph:
    """Return the pipeline of a resolved config without the steps that the plan skips."""
    graph = build_graph(config["pipeline"], step_kinds(config["project"]["steps"]))
    skipped = {step["name"] for step in plan["steps"] if step["status"] == "skipped"}
    return Graph(graph.name, tuple(n for n in graph.nodes if n.name not in skipped))
