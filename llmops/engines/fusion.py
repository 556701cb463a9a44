"""Which steps share a task: a container takes a minute to start, a cheap step takes a second.

``engine.fuse`` names groups of step kinds; steps of one group that can run one after the other
without waiting for anything between them become one task. Each stays a step of its own: its own
key, report and place in the run record. A step with a container image of its own is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops.errors import ConfigError
from llmops.plan.graph import Edge, Graph, Node


@dataclass(frozen=True)
class Group:
    """A task: the steps that it runs, in order."""

    name: str
    nodes: tuple[Node, ...]

    @property
    def steps(self) -> tuple[str, ...]:
        """The names of its steps."""
        return tuple(node.name for node in self.nodes)

    @property
    def own(self) -> Node | None:
        """Its step, if that runs in a container image of its own."""
        return self.nodes[0] if self.nodes[0].kind.own_image else None

    @property
    def takes(self) -> Mapping[str, Edge]:
        """What it takes from other tasks, by the address of the output."""
        edges = [edge for node in self.nodes for edge in node.takes.values()]
        return {str(edge): edge for edge in edges if edge.step not in self.steps}


def grouped(graph: Graph, fuse: Mapping[str, Any] | None) -> tuple[Group, ...]:
    """Share the graph's steps out over tasks, in an order that respects what they take.

    Args:
        graph: The steps that are due. What they take from others is known already.
        fuse: Name of a task -> the step kinds that share it; None: each step has its own.

    Raises:
        ConfigError: If the steps of a group cannot run without another step between them.
    """
    members: dict[str, list[Node]] = {}
    for node in graph.nodes:
        members.setdefault(_group_of(node, fuse or {}), []).append(node)
    # Alone, a step gives its task its own name.
    groups = {
        name: Group(name.partition(":")[2] if len(nodes) > 1 else nodes[0].name, tuple(nodes))
        for name, nodes in members.items()
    }
    return tuple(groups[name] for name in _order(groups))


def _group_of(node: Node, fuse: Mapping[str, Any]) -> str:
    for name, kinds in fuse.items():
        if node.kind.name in kinds and node.kind.own_image is None:
            return f"task:{name}"
    return f"step:{node.name}"


def _order(groups: Mapping[str, Group]) -> list[str]:
    home = {step: name for name, group in groups.items() for step in group.steps}
    waits = {
        name: {home[edge.step] for edge in group.takes.values() if edge.step in home}
        for name, group in groups.items()
    }
    order: list[str] = []
    while len(order) < len(groups):
        ready = (name for name in groups if name not in order and waits[name] <= set(order))
        found = next(ready, None)
        if found is None:
            raise _stuck([group for name, group in groups.items() if name not in order])
        order.append(found)
    return order


def _stuck(groups: Sequence[Group]) -> ConfigError:
    names = [group.name for group in groups if len(group.nodes) > 1]
    return ConfigError(
        f"engine.fuse: the steps of {' and '.join(names)} cannot share a task: one of them waits "
        "for a step between them",
        hint="take a step kind out of one of them; a kind that is in none is a task of its own",
    )
