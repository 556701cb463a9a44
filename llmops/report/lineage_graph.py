"""What a lineage graph's drawing shows: the things nearest to one, as boxes from above to below.

Takes the graph as plain JSON, ``{start, nodes, edges}``, as ``llmops lineage --json`` prints it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops.report.graph import Box, Edge, lay_out

MOST = 40  # boxes; more cannot be read
NOT_DRAWN = ("leaves",)  # one for each step: the tree beside the drawing has them


@dataclass(frozen=True)
class Drawn:
    """A box, and what is written in it."""

    box: Box
    kind: str
    name: str
    is_start: bool


@dataclass(frozen=True)
class LineageGraph:
    """The drawing, in pixels, in words, and how many things it leaves out."""

    boxes: tuple[Drawn, ...]
    edges: tuple[Edge, ...]
    width: float
    height: float
    words: str
    left_out: int


def lineage_graph(document: Mapping[str, Any]) -> LineageGraph:
    """Return the drawing of the ``MOST`` things nearest to ``document['start']``."""
    nodes = {one["id"]: one for one in document["nodes"] if one["kind"] not in NOT_DRAWN}
    edges = [one for one in document["edges"] if one["from"] in nodes and one["to"] in nodes]
    kept = set(_nearest(document["start"], edges)[:MOST])
    edges = [one for one in edges if one["from"] in kept and one["to"] in kept]
    order = _in_order(kept, edges)
    marks = {id_: f"n{place}" for place, id_ in enumerate(order)}
    drawn = [edge for edge in edges if not _goes_round(edge, edges)]
    layout = lay_out([_as_step(id_, marks, drawn) for id_ in order])
    boxes = tuple(
        Drawn(box, _kind(nodes[id_]), nodes[id_]["short"], id_ == document["start"])
        for id_, box in zip(order, layout.boxes, strict=True)
    )
    words = "; ".join(
        f"{_said(nodes[one['to']])} {one['how']} {_said(nodes[one['from']])}" for one in edges
    )
    left_out = len(nodes) - len(kept)
    return LineageGraph(boxes, layout.edges, layout.width, layout.height, words, left_out)


def _nearest(start: str, edges: Sequence[Mapping[str, str]]) -> list[str]:
    """Return what edges reach from ``start``, either way, the nearest first."""
    beside: dict[str, list[str]] = {}
    for edge in edges:
        beside.setdefault(edge["from"], []).append(edge["to"])
        beside.setdefault(edge["to"], []).append(edge["from"])
    found = [start]
    for node in found:  # grows as it goes
        found += [one for one in dict.fromkeys(beside.get(node, ())) if one not in found]
    return found


def _in_order(kept: set[str], edges: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the things, each after all that it was made of."""
    above: dict[str, list[str]] = {id_: [] for id_ in sorted(kept)}
    for edge in edges:
        above[edge["to"]].append(edge["from"])
    order: dict[str, None] = {}
    opened: set[str] = set()

    def visit(id_: str) -> None:
        if id_ not in opened:
            opened.add(id_)
            for other in above[id_]:
                visit(other)
            order[id_] = None

    for id_ in above:
        visit(id_)
    return list(order)


def _goes_round(edge: Mapping[str, str], edges: Sequence[Mapping[str, str]]) -> bool:
    """Say whether other edges lead from its beginning to its end: the line would say nothing."""
    waiting = [one["to"] for one in edges if one["from"] == edge["from"] and one is not edge]
    seen = {edge["from"]}
    while waiting:
        node = waiting.pop()
        if node == edge["to"]:
            return True
        if node not in seen:
            seen.add(node)
            waiting += [one["to"] for one in edges if one["from"] == node]
    return False


def _as_step(
    id_: str, marks: Mapping[str, str], edges: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    return {"name": marks[id_], "takes": dict(_taken(id_, marks, edges))}


def _taken(
    id_: str, marks: Mapping[str, str], edges: Sequence[Mapping[str, str]]
) -> Iterator[tuple[str, str]]:
    for edge in edges:
        if edge["to"] == id_:
            yield edge["from"], f"{marks[edge['from']]}.{edge['how']}"


def _kind(node: Mapping[str, Any]) -> str:
    """Return a thing's kind; of a file which output of which step it is."""
    return " ".join(filter(None, (node["kind"], node["facts"].get("is"))))


def _said(node: Mapping[str, Any]) -> str:
    return f"{node['kind']} {node['short']}"
