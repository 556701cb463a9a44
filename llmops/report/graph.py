"""Lay the steps of a run out as boxes in layers, top to bottom, for an inline SVG.

A step's layer is the longest way to it from a step that takes nothing. An edge that skips layers
keeps a lane free in each, so that no line crosses a box. Knows coordinates, not colours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BOX_WIDTH = 168
BOX_HEIGHT = 46
LANE_WIDTH = 16
GAP_ACROSS = 20
GAP_DOWN = 30
MARGIN = 8


@dataclass(frozen=True)
class Box:
    """One step; ``x`` and ``y`` are its upper left corner, in pixels."""

    name: str
    kind: str
    status: str
    seconds: float | None
    x: float
    y: float
    width: float = BOX_WIDTH
    height: float = BOX_HEIGHT


@dataclass(frozen=True)
class Edge:
    """What one step takes of another; ``path`` is the ``d`` of an SVG path going down."""

    source: str
    target: str
    outputs: tuple[str, ...]
    path: str


@dataclass(frozen=True)
class Layout:
    """The drawing, in pixels."""

    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    width: float
    height: float


@dataclass(frozen=True)
class _Lane:
    source: str
    target: str
    layer: int


_Item = str | _Lane  # what stands in a layer: a step by name, or a line passing by


def lay_out(steps: Sequence[Mapping[str, Any]]) -> Layout:
    """Lay out ``steps`` as of ``run.json``: in running order, ``takes`` as ``step.output``."""
    links = _links(steps)
    layers = _layers(steps, links)
    places = _places(layers)
    boxes = tuple(_box(step, places[str(step["name"])]) for step in steps)
    edges = tuple(
        Edge(source, target, outputs, _path(source, target, layers, places))
        for (source, target), outputs in links.items()
    )
    width = max((_width(layer) for layer in layers), default=0) + 2 * MARGIN
    height = len(layers) * (BOX_HEIGHT + GAP_DOWN) - GAP_DOWN + 2 * MARGIN if layers else 0
    return Layout(boxes, edges, width, height)


def _links(steps: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], tuple[str, ...]]:
    known = {str(step["name"]) for step in steps}
    links: dict[tuple[str, str], tuple[str, ...]] = {}
    for step in steps:
        for edge in (step.get("takes") or {}).values():
            source, _, output = str(edge).partition(".")
            if source in known:
                pair = (source, str(step["name"]))
                links[pair] = (*links.get(pair, ()), output)
    return links


def _depths(
    steps: Sequence[Mapping[str, Any]], links: Mapping[tuple[str, str], Any]
) -> dict[str, int]:
    depths: dict[str, int] = {}
    for step in steps:
        name = str(step["name"])
        above = [depths[source] for source, target in links if target == name and source in depths]
        depths[name] = max(above, default=-1) + 1
    return depths


def _layers(
    steps: Sequence[Mapping[str, Any]], links: Mapping[tuple[str, str], Any]
) -> list[list[_Item]]:
    depths = _depths(steps, links)
    layers: list[list[_Item]] = [[] for _ in range(max(depths.values(), default=-1) + 1)]
    for name, depth in depths.items():
        layers[depth].append(name)
    for source, target in links:
        for layer in range(depths[source] + 1, depths[target]):
            layers[layer].append(_Lane(source, target, layer))
    return layers


def _width(layer: Sequence[_Item]) -> float:
    return sum(_item_width(item) for item in layer) + GAP_ACROSS * (len(layer) - 1)


def _item_width(item: _Item) -> float:
    return LANE_WIDTH if isinstance(item, _Lane) else BOX_WIDTH


@dataclass(frozen=True)
class _Place:
    middle: float
    top: float


def _places(layers: Sequence[Sequence[_Item]]) -> dict[_Item, _Place]:
    """Place each layer's boxes first, then its lanes to the right, all starting at the left."""
    places: dict[_Item, _Place] = {}
    for depth, layer in enumerate(layers):
        x = float(MARGIN)
        top = MARGIN + depth * (BOX_HEIGHT + GAP_DOWN)
        for item in layer:
            places[item] = _Place(x + _item_width(item) / 2, top)
            x += _item_width(item) + GAP_ACROSS
    return places


def _box(step: Mapping[str, Any], place: _Place) -> Box:
    return Box(
        name=str(step["name"]),
        kind=str(step.get("kind", "")),
        status=str(step.get("status", "")),
        seconds=step.get("seconds"),
        x=place.middle - BOX_WIDTH / 2,
        y=place.top,
    )


def _path(
    source: str, target: str, layers: Sequence[Sequence[_Item]], places: Mapping[_Item, _Place]
) -> str:
    start, end = places[source], places[target]
    lanes = [
        places[item]
        for layer in layers
        for item in layer
        if isinstance(item, _Lane) and (item.source, item.target) == (source, target)
    ]
    x, y = start.middle, start.top + BOX_HEIGHT
    path = f"M{x:g},{y:g}"
    for lane in lanes:
        path += _bend(x, y, lane.middle, lane.top) + f"V{lane.top + BOX_HEIGHT:g}"
        x, y = lane.middle, lane.top + BOX_HEIGHT
    return path + _bend(x, y, end.middle, end.top)


def _bend(x: float, y: float, to_x: float, to_y: float) -> str:
    half = (y + to_y) / 2
    return f"C{x:g},{half:g} {to_x:g},{half:g} {to_x:g},{to_y:g}"
