"""A sweep's figures: members as lines over what varies, and a scatter plot for each number.

Vega-Lite specifications, as those of ``figures``. Knows rows of the leaderboard, no run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops.report.figures import INK, MAIN, MUTED, NEUTRAL, SECOND, Spec, spec
from llmops.report.words import figure

STEP_PX = 200  # between two axes
MOST_LABELS = 8  # names on one axis


@dataclass(frozen=True)
class Point:
    """One member with a figure: what varies, by key, and where it stands."""

    member: str
    varies: Mapping[str, str]
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class _Axis:
    key: str
    places: Mapping[str, float]  # a value as written -> where it stands, 0 to 1

    def ticks(self) -> list[str]:
        names = sorted(self.places, key=self.places.__getitem__)
        return names if len(names) <= MOST_LABELS else [names[0], names[-1]]


def parallel_figure(points: Sequence[Point], title: str, *, lower_is_better: bool) -> Spec | None:
    """Return the members as lines over an axis for each key that varies, the figure's axis last.

    The best member is drawn thick; null where fewer than two members or no key can be shown.
    """
    keys = list(dict.fromkeys(key for point in points for key in point.varies))
    if len(points) < 2 or not keys:
        return None
    axes = [_axis(key, [point.varies.get(key, "") for point in points]) for key in keys]
    axes.append(_axis(title, [_written(point.value) for point in points]))
    best = min(points, key=lambda point: point.value if lower_is_better else -point.value)
    values = [
        {
            "member": point.member,
            "axis": axis.key,
            "at": axis.places[_at(point, axis.key, title)],
            "best": point is best,
        }
        for point in points
        for axis in axes
    ]
    labels = [
        {"axis": axis.key, "at": axis.places[name], "label": name or "(unset)"}
        for axis in axes
        for name in axis.ticks()
    ]
    order = [axis.key for axis in axes]
    x = {
        "field": "axis",
        "type": "nominal",
        "sort": order,
        "axis": {"title": None, "labelAngle": 0, "domain": False, "orient": "top"},
    }
    y = {"field": "at", "type": "quantitative", "axis": None, "scale": {"domain": [-0.05, 1.05]}}
    line = {"x": x, "y": y, "detail": {"field": "member"}}
    return spec(
        title=f"What varies, and {title}",
        description=f"the best is {best.member} with {_written(best.value)}; "
        + "; ".join(
            f"{key} over {', '.join(axis.ticks())}" for key, axis in zip(keys, axes, strict=False)
        ),
        data=values,
        width=STEP_PX * len(axes),
        height=230,
        layer=[
            {
                "transform": [{"filter": "!datum.best"}],
                "mark": {"type": "line", "color": NEUTRAL, "opacity": 0.55, "strokeWidth": 1.2},
                "encoding": line,
            },
            {
                "transform": [{"filter": "datum.best"}],
                "mark": {
                    "type": "line",
                    "color": SECOND,
                    "strokeWidth": 3,
                    "point": {"color": SECOND},
                },
                "encoding": line,
            },
            {
                "data": {"values": labels},
                "mark": {
                    "type": "text",
                    "align": "left",
                    "dx": 6,
                    "dy": -7,
                    "color": INK,
                    "fontSize": 11,
                },
                "encoding": {"x": x, "y": y, "text": {"field": "label", "type": "nominal"}},
            },
        ],
    )


def scatter_figure(points: Sequence[Point], key: str, title: str) -> Spec | None:
    """Return each member's figure with its interval against a key; null if the key is one value."""
    shown = [point for point in points if key in point.varies]
    if len({point.varies[key] for point in shown}) < 2:
        return None
    numeric = all(_number(point.varies[key]) is not None for point in shown)
    values = [
        {
            "at": _number(point.varies[key]) if numeric else point.varies[key],
            "value": point.value,
            "low": point.low,
            "high": point.high,
        }
        for point in shown
    ]
    x: dict[str, Any] = {
        "field": "at",
        "type": "quantitative" if numeric else "nominal",
        "title": key,
    }
    x |= {"scale": {"zero": False, "padding": 12}} if numeric else {"axis": {"labelAngle": 0}}
    y = {
        "field": "value",
        "type": "quantitative",
        "title": title,
        "scale": {"zero": False, "nice": True},
    }
    words = "; ".join(f"{point.varies[key]}: {_written(point.value)}" for point in shown[:20])
    return spec(
        title=f"{title} by {key}",
        description=words,
        data=values,
        height=170,
        layer=[
            {
                "mark": {"type": "rule", "color": MUTED, "opacity": 0.7},
                "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "color": MAIN, "size": 55, "opacity": 1},
                "encoding": {"x": x, "y": y},
            },
        ],
    )


def _at(point: Point, key: str, title: str) -> str:
    return _written(point.value) if key == title else point.varies.get(key, "")


def _axis(key: str, written: Sequence[str]) -> _Axis:
    names = list(dict.fromkeys(written))
    numbers = {name: _number(name) for name in names}
    known = [number for number in numbers.values() if number is not None]
    if len(known) == len(names) and max(known) > min(known):
        low, span = min(known), max(known) - min(known)
        return _Axis(
            key,
            {name: (number - low) / span for name, number in numbers.items() if number is not None},
        )
    last = max(1, len(names) - 1)
    return _Axis(key, {name: place / last for place, name in enumerate(sorted(names))})


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def _written(value: float) -> str:
    return figure(value)
