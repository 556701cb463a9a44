"""The page of a monitored window: one file that asks nothing of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops.report.drawing import draw
from llmops.report.figures import INK, MAIN, NEUTRAL, Spec, spec
from llmops.report.rendering import render

ALERT = "#b0500c"


def monitor_page(report: Mapping[str, Any], cache: Path) -> str:
    """Return the page of ``report``; figures that were drawn before come from ``cache``."""
    specs = {
        "drift": _drift(report["drift"]),
        "rates": _rates(report["rates"]),
        "answers": _by_day(report["days"], "answers", "Answers by day", "answers"),
        "latency": _by_day(report["days"], "p95_s", "Latency by day", "p95, seconds"),
    }
    figures = {name: draw(one, cache) for name, one in specs.items() if one is not None}
    return render("monitor.html.j2", {"report": report, "figures": figures})


def _drift(found: Sequence[Mapping[str, Any]]) -> Spec | None:
    values = [
        {
            "name": one["name"].replace("_", " "),
            "value": one["distance"],
            "low": one["low"],
            "high": one["high"],
            "chance": one["by_chance"],
            "limit": one["limit"],
            "alert": one["alert"],
        }
        for one in found
    ]
    described = "; ".join(f"{one['name']} {one['value']:.3f}" for one in values)
    return _intervals("Drift, with what chance gives and the limit", described, values, "distance")


def _rates(found: Sequence[Mapping[str, Any]]) -> Spec | None:
    values = [
        {
            "name": one["name"].replace("_", " "),
            "value": one["value"],
            "low": one["low"],
            "high": one["high"],
            "chance": None,
            "limit": one["limit"],
            "alert": one["alert"],
        }
        for one in found
        if one["value"] is not None
    ]
    described = "; ".join(f"{one['name']} {one['value']:.1%}" for one in values)
    return _intervals("Rates, with their limits", described, values, "share of answers")


def _intervals(
    title: str, description: str, values: list[dict[str, Any]], unit: str
) -> Spec | None:
    """Return points with intervals, a light tick for chance and a dark one for the limit."""
    if not values:
        return None
    y = {"field": "name", "type": "nominal", "sort": None, "axis": {"title": None, "grid": False}}

    def across(field: str) -> Spec:
        return {"field": field, "type": "quantitative", "title": unit, "scale": {"zero": True}}

    colour = {
        "condition": {"test": "datum.alert", "value": ALERT},
        "value": MAIN,
    }
    return spec(
        title=title,
        description=description,
        data=values,
        height={"step": 34},
        layer=[
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {
                    "y": y,
                    "x": across("low"),
                    "x2": {"field": "high"},
                    "color": colour,
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                "encoding": {"y": y, "x": across("value"), "color": colour},
            },
            _tick(y, across("chance"), NEUTRAL),
            _tick(y, across("limit"), INK),
        ],
    )


def _tick(y: Spec, x: Spec, colour: str) -> Spec:
    return {
        "transform": [{"filter": f"isValid(datum.{x['field']})"}],
        "mark": {"type": "tick", "color": colour, "thickness": 2, "size": 22},
        "encoding": {"y": y, "x": x},
    }


def _by_day(days: Sequence[Mapping[str, Any]], field: str, title: str, unit: str) -> Spec | None:
    values = [{"day": one["day"], "value": one[field]} for one in days if one[field] is not None]
    if not values:
        return None
    return spec(
        title=title,
        description="; ".join(f"{one['day']} {one['value']:.4g}" for one in values),
        data=values,
        height=140,
        layer=[
            {
                "mark": {"type": "bar", "color": MAIN},
                "encoding": {
                    "x": {
                        "field": "day",
                        "type": "ordinal",
                        "axis": {"title": None, "labelAngle": -40, "grid": False},
                    },
                    "y": {
                        "field": "value",
                        "type": "quantitative",
                        "axis": {"title": unit, "tickCount": 4},
                    },
                },
            }
        ],
    )
