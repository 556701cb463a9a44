"""The report's figures as Vega-Lite specifications: plain dicts, drawn elsewhere.

Colours are a fixed set of marks; the page's style sheet swaps each for its dark counterpart, so
one drawing serves both schemes. Every figure carries a ``title`` and a ``description`` that says
in words what it shows; ``drawing.py`` makes them the drawing's accessible name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from llmops.report.results import Cell, Contestant, Difference
from llmops.report.words import SHARE, figure, interval, metric_title, plain_name, signed

Spec = dict[str, Any]
Counted = Mapping[str, int]

INK = "#1c2733"
MUTED = "#576373"
GRID = "#e1e6ec"
MAIN = "#0b5fa5"
SECOND = "#b0500c"
NEUTRAL = "#7a8794"

_AXIS = {
    "labelColor": MUTED,
    "titleColor": MUTED,
    "gridColor": GRID,
    "domainColor": NEUTRAL,
    "tickColor": NEUTRAL,
    "labelFontSize": 11.5,
    "titleFontSize": 12,
    "titleFontWeight": "normal",
    "labelLimit": 170,
}


def interval_figure(metric: str, rows: Sequence[Contestant], baseline: str) -> Spec | None:
    """Return each contestant's figure with its interval, and a dashed line at the baseline's."""
    cells = [(row.name, cell) for row in rows for cell in row.cells if cell.metric == metric]
    known = [(name, cell) for name, cell in cells if cell.value is not None]
    if not known:
        return None
    values = [
        {"who": plain_name(name), "value": cell.value, "low": cell.low, "high": cell.high}
        for name, cell in known
    ]
    across = _Across(known[0][1].unit)
    layers = [across.rule(), across.point()]
    reference = next((cell.value for name, cell in known if name == baseline), None)
    if reference is not None:
        layers.insert(0, across.upright(reference))
    return spec(
        title=f"{metric_title(metric)} per contestant",
        description="; ".join(_in_words(name, cell) for name, cell in known),
        data=values,
        height={"step": 30},
        layer=layers,
    )


def difference_figure(metric: str, rows: Sequence[Difference], baseline: str) -> Spec | None:
    """Return each contestant's paired difference against the baseline, or null if all are zero."""
    known = [row for row in rows if row.metric == metric and row.value is not None]
    if not any(row.value or row.low or row.high for row in known):
        return None
    across = _Across(known[0].unit)
    values = [
        {"who": plain_name(row.contestant), "value": row.value, "low": row.low, "high": row.high}
        for row in known
    ]
    words = (
        f"{plain_name(row.contestant)} {signed(row.value, row.unit)} "
        f"{interval(row.low, row.high, row.unit)}"
        for row in known
    )
    return spec(
        title=f"{metric_title(metric)}: difference from {plain_name(baseline)}",
        description="; ".join(words),
        data=values,
        height={"step": 30},
        layer=[across.upright(0), across.rule(), across.point()],
    )


def distribution_figure(
    counted: Mapping[tuple[str, int], int], names: Sequence[str], bins: int, title: str
) -> Spec:
    """Return how each contestant's answers score: a mark a bin of [0, 1], as large as its share."""
    totals = {name: sum(n for (who, _), n in counted.items() if who == name) for name in names}
    values = [
        {"who": plain_name(who), "at": (place + 0.5) / bins, "share": rows / totals[who]}
        for (who, place), rows in sorted(counted.items())
    ]
    shown = ", ".join(f"{plain_name(name)} {totals[name]} rows" for name in names)
    encoding = {
        "y": {**_WHO, "sort": [plain_name(name) for name in names]},
        "x": {
            "field": "at",
            "type": "quantitative",
            "title": title,
            "scale": {"domain": [0, 1]},
            "axis": {"tickCount": 5},
        },
        "size": {
            "field": "share",
            "type": "quantitative",
            "legend": None,
            "scale": {"range": [4, 420]},
        },
    }
    mark = {"type": "circle", "color": MAIN, "opacity": 0.75}
    return spec(
        title="How answers score",
        description=f"Distribution of {title}: {shown}",
        data=values,
        height={"step": 32},
        layer=[{"mark": mark, "encoding": encoding}],
    )


def scatter_figure(
    cells: Mapping[tuple[int, int], int], names: tuple[str, str], bins: int, title: str, said: str
) -> Spec:
    """Return one contestant's scores against another's: a mark a cell, as large as its rows."""
    values = [
        {"base": (x + 0.5) / bins, "other": (y + 0.5) / bins, "rows": rows}
        for (x, y), rows in sorted(cells.items())
    ]
    axis = {"type": "quantitative", "scale": {"domain": [0, 1]}}
    points = {
        "mark": {"type": "circle", "color": MAIN, "opacity": 0.75},
        "encoding": {
            "x": {**axis, "field": "base", "title": names[0], "axis": {"tickCount": 5}},
            "y": {**axis, "field": "other", "title": names[1], "axis": {"tickCount": 5}},
            "size": {"field": "rows", "type": "quantitative", "legend": None},
        },
    }
    line = {
        "data": {"values": [{"at": 0}, {"at": 1}]},
        "mark": {"type": "line", "color": NEUTRAL, "strokeDash": [4, 3]},
        "encoding": {"x": {**axis, "field": "at"}, "y": {**axis, "field": "at"}},
    }
    return spec(
        title=f"{names[1]} against {names[0]}",
        description=f"{title}: {said}",
        data=values,
        height=230,
        layer=[line, points],
    )


def curve_figure(points: Sequence[Mapping[str, Any]]) -> Spec | None:
    """Return training and validation loss by optimiser step; ``points`` as ``CurvePoint``."""
    values = [
        {"step": point["step"], "loss": point[column], "rows": name}
        for name, column in (("train", "train_loss"), ("validation", "validation_loss"))
        for point in points
        if point.get(column) is not None
    ]
    if not values:
        return None
    names = list(dict.fromkeys(value["rows"] for value in values))
    last = {value["rows"]: value for value in values}
    words = (f"{name} {figure(v['loss'])} at step {v['step']}" for name, v in last.items())
    colour = {
        "field": "rows",
        "type": "nominal",
        "scale": {"domain": names, "range": [MAIN, SECOND][: len(names)]},
        "legend": {"title": None, "orient": "top", "labelColor": INK, "labelFontSize": 12},
    }
    encoding = {
        "x": {
            "field": "step",
            "type": "quantitative",
            "axis": {"title": "optimiser step", "tickCount": 8, "tickMinStep": 1},
        },
        "y": {
            "field": "loss",
            "type": "quantitative",
            "title": "loss, nats per answer token",
            "scale": {"zero": False, "nice": True},
        },
        "color": colour,
    }
    return spec(
        title="Training curve",
        description="; ".join(words),
        data=values,
        width=380,
        height=220,
        layer=[
            {"mark": {"type": "line", "strokeWidth": 2}, "encoding": encoding},
            {
                "mark": {"type": "point", "filled": True, "size": 18, "opacity": 1},
                "encoding": encoding,
            },
        ],
    )


def histogram_figure(
    title: str, unit: str, edges: Sequence[int | None], counts: Sequence[int]
) -> Spec | None:
    """Return a histogram; ``edges`` is one longer than ``counts``, its last may be null: open."""
    if not any(counts):
        return None
    values = [
        {"range": name, "rows": rows} for name, rows in zip(ranges(edges), counts, strict=True)
    ]
    fullest = values[counts.index(max(counts))]
    return spec(
        title=title,
        description=(
            f"{sum(counts):,} rows; the most, {fullest['rows']:,}, have {fullest['range']} {unit}"
        ),
        data=values,
        height=140,
        layer=[
            {
                "mark": {"type": "bar", "color": MAIN},
                "encoding": {
                    "x": {
                        "field": "range",
                        "type": "ordinal",
                        "sort": None,
                        "axis": {"title": unit, "labelAngle": -40, "grid": False},
                    },
                    "y": {
                        "field": "rows",
                        "type": "quantitative",
                        "axis": {"title": "rows", "tickCount": 4},
                    },
                },
            }
        ],
    )


def compared_figure(title: str, unit: str, before: Counted, after: Counted) -> Spec | None:
    """Return two versions' rows side by side; ``before`` and ``after`` have the same names."""
    shown = [name for name in after if before[name] or after[name]]
    if not shown:
        return None
    values = [
        {"name": name, "version": version, "rows": counts[name]}
        for name in shown
        for version, counts in (("before", before), ("after", after))
    ]
    color = {"domain": ["before", "after"], "range": [NEUTRAL, MAIN]}
    return spec(
        title=title,
        description="; ".join(f"{name} {before[name]:,} then {after[name]:,}" for name in shown),
        data=values,
        height=140,
        layer=[
            {
                "mark": {"type": "bar"},
                "encoding": {
                    "x": {
                        "field": "name",
                        "type": "ordinal",
                        "sort": None,
                        "axis": {"title": unit, "labelAngle": -40, "grid": False},
                    },
                    "xOffset": {"field": "version", "sort": ["before", "after"]},
                    "color": {
                        "field": "version",
                        "type": "nominal",
                        "scale": color,
                        "legend": {"title": None, "orient": "top"},
                    },
                    "y": {
                        "field": "rows",
                        "type": "quantitative",
                        "axis": {"title": "rows", "tickCount": 4},
                    },
                },
            }
        ],
    )


def ranges(edges: Sequence[int | None]) -> list[str]:
    """Return the names of a histogram's bins; a last edge of null is open."""
    return [_range(low, high) for low, high in pairwise(edges) if low is not None]


def _range(low: int | None, high: int | None) -> str:
    return f"{low:,}+" if high is None else f"{low:,}\N{EN DASH}{high - 1:,}"


def bars_figure(title: str, counts: Mapping[str, int], *, at_most: int = 12) -> Spec | None:
    """Return the largest of ``counts`` as bars, largest first."""
    largest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:at_most]
    if not largest:
        return None
    values = [{"name": name, "rows": rows} for name, rows in largest]
    axis = {"title": None}
    sort: list[str] = [name for name, _ in largest]
    encoding = {"y": {"field": "name", "type": "nominal", "sort": sort, "axis": axis}}
    across = {"field": "rows", "type": "quantitative", "title": "rows"}
    label = {"type": "text", "align": "left", "dx": 4, "color": INK, "fontSize": 12}
    return spec(
        title=title,
        description="; ".join(f"{name} {rows:,}" for name, rows in largest),
        data=values,
        height={"step": 22},
        layer=[
            {"mark": {"type": "bar", "color": MAIN}, "encoding": encoding | {"x": across}},
            {
                "mark": label,
                "encoding": encoding
                | {"x": across, "text": {"field": "rows", "type": "quantitative", "format": ","}},
            },
        ],
    )


def spec(
    *,
    title: str,
    description: str,
    data: list[dict[str, Any]],
    height: Any,
    layer: list[Spec],
    width: int = 250,
) -> Spec:
    """Return a whole specification, in the page's fonts and colours; sizes in pixels."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "usermeta": {"title": title},
        "description": description,
        "width": width,
        "height": height,
        "background": None,
        "padding": {"left": 24, "top": 2, "right": 8, "bottom": 2},  # fonts differ in width
        "data": {"values": data},
        "config": {"aria": False, "font": "sans-serif", "view": {"stroke": None}, "axis": _AXIS},
        "layer": layer,
    }


@dataclass(frozen=True)
class _Across:
    """Layers that share one horizontal scale, in ``unit``, with a row for each ``who``."""

    unit: str

    def rule(self) -> Spec:
        encoding = {"y": _WHO, "x": self._x("low"), "x2": {"field": "high"}}
        return {"mark": {"type": "rule", "color": MAIN, "strokeWidth": 2}, "encoding": encoding}

    def point(self) -> Spec:
        mark = {"type": "point", "filled": True, "color": MAIN, "size": 90, "opacity": 1}
        return {"mark": mark, "encoding": {"y": _WHO, "x": self._x("value")}}

    def upright(self, at: float) -> Spec:
        mark = {"type": "rule", "color": NEUTRAL, "strokeDash": [4, 3]}
        return {"data": {"values": [{"at": at}]}, "mark": mark, "encoding": {"x": self._x("at")}}

    def _x(self, field: str) -> Spec:
        axis: Spec = {"title": None, "tickCount": 4}
        if self.unit == SHARE:
            axis["format"] = "~%"
        scale = {"zero": False, "nice": True}
        return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}


_WHO = {"field": "who", "type": "nominal", "sort": None, "axis": {"title": None, "grid": False}}


def _in_words(name: str, cell: Cell) -> str:
    span = interval(cell.low, cell.high, cell.unit)
    return f"{plain_name(name)} {figure(cell.value, cell.unit)} {span}".rstrip()
