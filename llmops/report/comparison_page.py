"""Write a comparison of runs as one page: config, figures, answers side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops.report import words
from llmops.report.rendering import render


def comparison_page(found: Mapping[str, Any], *, home: str = "") -> str:
    """Return the page of a comparison's JSON; ``home`` is the address of the site it is part of."""
    figures = [_figure(row) for row in found["figures"]]
    return render("compare.html.j2", {"found": found, "figures": figures, "home": home})


def verdict(interval: Mapping[str, Any] | None, better: str | None) -> str:
    """Say what the interval of a difference shows."""
    if interval is None:
        return "not compared row by row"
    if interval["why"]:
        return str(interval["why"])
    if interval["low"] is None or interval["low"] <= 0 <= interval["high"]:
        return "not told apart"
    if better is None:
        return "differs"
    return "better" if (interval["high"] < 0) == (better == "lower") else "worse"


def _figure(row: Mapping[str, Any]) -> dict[str, Any]:
    unit = row["unit"]
    return {
        "who": words.plain_name(row["contestant"]),
        "metric": words.metric_title(row["metric"]),
        "unit": unit,
        "cells": [
            {
                "value": words.figure((figure or {}).get("value"), unit),
                "interval": words.interval(
                    (figure or {}).get("low"), (figure or {}).get("high"), unit
                ),
                "change": _change(difference, unit),
                "verdict": verdict(difference, row["better"]) if place else "",
            }
            for place, (figure, difference) in enumerate(
                zip(row["figures"], row["differences"], strict=True)
            )
        ],
    }


def _change(difference: Mapping[str, Any] | None, unit: str) -> str:
    if difference is None or difference["value"] is None:
        return ""
    span = words.interval(difference["low"], difference["high"], unit)
    return f"{words.signed(difference['value'], unit)} {span}".rstrip()
