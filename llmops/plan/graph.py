"""The pipeline as a graph: named steps in an order that respects what they take.

Built from the config's ``pipeline`` section and a table of step kinds. Runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from llmops.errors import ConfigError, ConfigProblems, nearest, unknown_name
from llmops.plan.kinds import KindTable, Port, StepKind

STEP_NAME = re.compile(r"^[a-z][a-z0-9_]{0,40}$")  # also a Python identifier and a KFP task name


@dataclass(frozen=True)
class Edge:
    """An output of an earlier step."""

    step: str
    output: str

    def __str__(self) -> str:
        return f"{self.step}.{self.output}"


@dataclass(frozen=True)
class Node:
    """A step of the pipeline: its kind, where each input comes from, its own ``with:`` block."""

    name: str
    kind: StepKind
    takes: Mapping[str, Edge]
    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """The steps in running order; steps that do not depend on each other keep the file's order."""

    name: str
    nodes: tuple[Node, ...]

    def node(self, name: str) -> Node:
        """Return the step called ``name``.

        Raises:
            ConfigError: If there is none, with the nearest name.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        names = [node.name for node in self.nodes]
        raise unknown_name("step", name, names, where=f"pipeline {self.name}")

    def after(self, name: str) -> frozenset[str]:
        """Return the names of all steps that depend on ``name``, directly or not."""
        found: set[str] = set()
        for node in self.nodes:
            sources = {edge.step for edge in node.takes.values()}
            if name in sources or found & sources:
                found.add(node.name)
        return frozenset(found)


def build_graph(pipeline: Mapping[str, Any], kinds: KindTable) -> Graph:
    """Check the pipeline's wiring and put its steps in order.

    Raises:
        ConfigProblems: With every unknown kind, input, output, missing input and cycle.
    """
    steps: Mapping[str, Mapping[str, Any]] = pipeline["steps"]
    problems = list(_problems(steps, kinds))
    if problems:
        raise ConfigProblems(problems)
    nodes = {
        name: Node(name, kinds[step["use"]], _edges(step), step.get("with") or {})
        for name, step in steps.items()
    }
    return Graph(pipeline["name"], tuple(nodes[name] for name in _order(nodes)))


def _edges(step: Mapping[str, Any]) -> dict[str, Edge]:
    return {name: Edge(*source.split(".")) for name, source in (step.get("takes") or {}).items()}


def _problems(steps: Mapping[str, Mapping[str, Any]], kinds: KindTable) -> Iterable[str]:
    for name, step in steps.items():
        where = f"pipeline.steps.{name}"
        if not STEP_NAME.match(name):
            yield f"{where}: a step's name has lower-case letters, digits and _, e.g. tune_again"
        if problem := _kind_problem(step["use"], kinds):
            yield f"{where}.use: {problem}"
        else:
            yield from _input_problems(where, step, steps, kinds)


def _kind_problem(name: str, kinds: KindTable) -> str:
    if name not in kinds:
        return (
            f"there is no step kind '{name}'; "
            f"{nearest(name, kinds)} valid: {', '.join(sorted(kinds))}"
        )
    try:
        kinds[name]
    except ConfigError as exc:  # a component file that cannot be used
        return f"{exc.problem}; {exc.hint}"
    return ""


def _input_problems(
    where: str,
    step: Mapping[str, Any],
    steps: Mapping[str, Mapping[str, Any]],
    kinds: KindTable,
) -> Iterable[str]:
    ports = {port.name: port for port in kinds[step["use"]].takes}
    takes = step.get("takes") or {}
    for name, source in takes.items():
        if name not in ports:
            yield (
                f"{where}.takes.{name}: {step['use']} has no input '{name}'; "
                f"{nearest(name, ports)} valid: {', '.join(ports) or 'none'}"
            )
        elif problem := _source_problem(source, ports[name], steps, kinds):
            yield f"{where}.takes.{name}: {problem}"
    for port in ports.values():
        if not port.optional and port.name not in takes:
            yield f"{where}.takes: the input '{port.name}' ({port.kind}) is missing"


def _source_problem(
    source: str, port: Port, steps: Mapping[str, Mapping[str, Any]], kinds: KindTable
) -> str:
    step, _, output = source.partition(".")
    if step not in steps:
        return f"there is no step '{step}'; {nearest(step, steps)} valid: {', '.join(steps)}"
    if _kind_problem(steps[step]["use"], kinds):
        return ""  # said already, at that step
    kind = kinds[steps[step]["use"]]
    given = {gives.name: gives for gives in kind.gives}
    if output not in given:
        return (
            f"{step} ({kind.name}) has no output '{output}'; "
            f"{nearest(output, given)} valid: {', '.join(given)}"
        )
    if not port.any_kind and given[output].kind != port.kind:
        return f"{source} is {given[output].kind}, but this input wants {port.kind}"
    return ""


def _order(nodes: Mapping[str, Node]) -> list[str]:
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for node in nodes.values():
        sorter.add(node.name, *(edge.step for edge in node.takes.values()))
    try:
        sorter.prepare()
    except CycleError as exc:
        loop = " -> ".join(exc.args[1])
        raise ConfigError(
            f"pipeline.steps: {loop} is a circle", hint="a step takes outputs of earlier steps only"
        ) from exc
    ranks = list(nodes)
    order: list[str] = []
    ready: list[str] = []
    while sorter.is_active():
        ready.extend(sorter.get_ready())
        ready.sort(key=ranks.index)
        order.append(ready.pop(0))
        sorter.done(order[-1])
    return order
