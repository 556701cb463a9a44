"""The evaluation's pages beyond the table of figures: claims, slices, prompts x models, rows.

Turns the metrics document and the answers' scores into what the template prints. Reads no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmops.report import figures, words
from llmops.report.figures import Spec
from llmops.report.reading import Reading
from llmops.report.words import figure, interval, metric_title, plain_name, signed

Draw = Callable[[Spec], str]
SHOWN_SLICES = 24
BINS = 20


def scores(reading: Reading, draw: Draw) -> dict[str, Any] | None:
    """Return how single answers score: distributions, against the baseline, who gained or lost."""
    found, metrics = reading.answers, reading.run.get("metrics")
    if not found or not found["rows"] or not metrics:
        return None
    score = _score(found)
    if score is None:
        return None
    name, title = score
    baseline = metrics["baseline"]
    others = [one for one in found["contestants"] if one != baseline]
    return {
        "title": title,
        "distribution": draw(_distribution(found, name, title)),
        "scatters": [
            {"title": plain_name(one), "plot": draw(spec)}
            for one in others
            if (spec := _scatter(found, (baseline, one), name, title))
        ],
        "baseline": plain_name(baseline),
        "rows": words.count(len(found["rows"]), "row"),
    }


def _score(found: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the score that every answer has: a judge's if there is one, else ROUGE-L."""
    answers = [one for row in found["rows"] for one in row["answers"].values()]
    for name, title in (("judge", "judge's score, 0 to 1"), ("rouge", "ROUGE-L, 0 to 1")):
        if answers and all(one.get(name) is not None for one in answers):
            return name, title
    return None


def _bin(value: float) -> int:
    return min(BINS - 1, max(0, int(value * BINS)))


def _distribution(found: Mapping[str, Any], name: str, title: str) -> Spec:
    counted = Counter(
        (one, _bin(answer[name])) for row in found["rows"] for one, answer in row["answers"].items()
    )
    return figures.distribution_figure(counted, found["contestants"], BINS, title)


def _scatter(found: Mapping[str, Any], pair: tuple[str, str], name: str, title: str) -> Spec | None:
    base, one = pair
    answers = [row["answers"] for row in found["rows"]]
    both = [named for named in answers if base in named and one in named]
    cells = Counter((_bin(row[base][name]), _bin(row[one][name])) for row in both)
    if not cells:
        return None
    gained = sum(row[one][name] > row[base][name] for row in both)
    lost = sum(row[one][name] < row[base][name] for row in both)
    said = f"{gained} of {len(both)} rows gained, {lost} lost"
    return figures.scatter_figure(cells, (plain_name(base), plain_name(one)), BINS, title, said)


def claims(metrics: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return what may be called learning, and what not."""
    return [
        {"text": one["text"], "holds": one["holds"]} for one in (metrics or {}).get("claims") or ()
    ]


def looks(found: Mapping[str, Any] | None) -> str:
    """Say how often these test rows have been looked at; empty where nobody counted."""
    if not found:
        return ""
    times = words.count(found["looks"], "time")
    configs = words.count(found["configs"], "config")
    return (
        f"These test rows have been looked at {times}, with {configs}, in this workspace: choices"
        " made after a look fit to them."
    )


def comparisons(metrics: Mapping[str, Any]) -> str:
    """Say how many comparisons were corrected for, in one sentence; empty for older runs."""
    found = metrics.get("comparisons")
    if not found or not found["tested"]:
        return ""
    return (
        f"p is by {found['test']}, corrected for {words.count(found['tested'], 'comparison')}"
        f" ({found['correction']}). What is smaller than the smallest shown may be there unseen."
    )


def slices(reading: Reading) -> dict[str, Any] | None:
    """Return the figures of parts of the rows, those of the baseline's differences."""
    metrics = reading.run.get("metrics") or {}
    found = metrics.get("slices") or []
    if not found:
        return None
    return {
        "rows": [_slice(one, metrics) for one in found[:SHOWN_SLICES]],
        "left_out": max(0, len(found) - SHOWN_SLICES),
        "baseline": plain_name(metrics["baseline"]),
        "contestants": [
            plain_name(name) for name in metrics["contestants"] if name != metrics["baseline"]
        ],
    }


def _slice(one: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    metric = next(iter(one["paired"]), "")
    others = [name for name in metrics["contestants"] if name != metrics["baseline"]]
    cells = [one["paired"].get(metric, {}).get(name, {}) for name in others]
    own = one["contestants"].get(metrics["baseline"], {}).get(metric, {})
    return {
        "by": one["by"],
        "value": one["value"],
        "rows": words.count(one["rows"], "row"),
        "warning": one["warning"],
        "metric": metric_title(metric),
        "baseline": figure(own.get("value"), own.get("unit") or ""),
        "cells": [
            {
                "value": signed(cell.get("difference"), own.get("unit") or ""),
                "interval": interval(cell.get("low"), cell.get("high"), own.get("unit") or ""),
            }
            for cell in cells
        ],
    }


def grid(reading: Reading) -> dict[str, Any] | None:
    """Return prompts x models, metric by metric, the best figure of each marked."""
    metrics = reading.run.get("metrics") or {}
    names = [name.split("/", 1) for name in metrics.get("contestants", {}) if "/" in name]
    if not names:
        return None
    prompts = list(dict.fromkeys(prompt for prompt, _ in names))
    models = list(dict.fromkeys(model for _, model in names))
    measured = list(dict.fromkeys(m for one in metrics["contestants"].values() for m in one))
    return {
        "models": [plain_name(model) for model in models],
        "tables": [
            table
            for metric in measured
            if (table := _table(metrics["contestants"], metric, prompts, models))
        ],
    }


def _table(
    contestants: Mapping[str, Any], metric: str, prompts: Sequence[str], models: Sequence[str]
) -> dict[str, Any] | None:
    cells = {
        (prompt, model): contestants.get(f"{prompt}/{model}", {}).get(metric) or {}
        for prompt in prompts
        for model in models
    }
    known = [one["value"] for one in cells.values() if one.get("value") is not None]
    if not known:
        return None
    first = next(one for one in cells.values() if one.get("value") is not None)
    unit, better = first.get("unit") or "", first.get("better")
    best = {"lower": min(known), "higher": max(known)}.get(better or "")
    return {
        "title": metric_title(metric),
        "unit": unit,
        "rows": [
            {
                "prompt": plain_name(prompt),
                "cells": [
                    {
                        "value": figure(cells[prompt, model].get("value"), unit),
                        "interval": interval(
                            cells[prompt, model].get("low"), cells[prompt, model].get("high"), unit
                        ),
                        "best": best is not None and cells[prompt, model].get("value") == best,
                    }
                    for model in models
                ],
            }
            for prompt in prompts
        ],
    }
