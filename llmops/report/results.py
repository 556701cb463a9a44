"""The contestants' table as plain rows, from the metrics of the evaluate step.

Both the page and the screen show these rows; nothing here knows how they are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llmops.data.columns import SIDES
from llmops.report.words import count, percent

Verdict = Literal["better", "worse", "differs", "not told apart", "unknown"]


@dataclass(frozen=True)
class Cell:
    """One figure of one contestant; ``value`` is null where it cannot be had, ``why`` says so."""

    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    unit: str = ""
    better: str = ""
    method: str = ""
    why: str = ""


@dataclass(frozen=True)
class Contestant:
    """One row of the table, its cells in the order of ``metric_names``."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Difference:
    """A contestant's figure minus the baseline's, row by row, with its interval."""

    metric: str
    contestant: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    unit: str
    better: str
    method: str
    why: str = ""
    p_corrected: float | None = None
    detectable: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Say what the interval shows: which side of zero it lies on, if it lies on one."""
        if self.low is None or self.high is None:
            return "unknown"
        if self.low <= 0 <= self.high:
            return "not told apart"
        if not self.better:
            return "differs"
        lower = self.high < 0
        return "better" if lower == (self.better == "lower") else "worse"


def metric_names(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the metrics in the order in which they first appear."""
    names = (name for figures in metrics["contestants"].values() for name in figures)
    return tuple(dict.fromkeys(names))


def contestants(metrics: Mapping[str, Any]) -> tuple[Contestant, ...]:
    """Return a row a contestant, each with a cell for every metric."""
    names = metric_names(metrics)
    return tuple(
        Contestant(name, tuple(_cell(metric, figures.get(metric) or {}) for metric in names))
        for name, figures in metrics["contestants"].items()
    )


def _cell(metric: str, fields: Mapping[str, Any]) -> Cell:
    return Cell(
        metric=metric,
        value=fields.get("value"),
        low=fields.get("low"),
        high=fields.get("high"),
        n=fields.get("n"),
        unit=fields.get("unit") or "",
        better=fields.get("better") or "",
        method=fields.get("method") or "",
        why=fields.get("why") or "",
    )


def differences(metrics: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Return the paired differences against the baseline, metric by metric."""
    units = {cell.metric: cell for row in contestants(metrics) for cell in row.cells}
    return tuple(
        Difference(
            metric=metric,
            contestant=contestant,
            value=fields.get("difference"),
            low=fields.get("low"),
            high=fields.get("high"),
            n=fields.get("n"),
            unit=units[metric].unit if metric in units else "",
            better=units[metric].better if metric in units else "",
            method=fields.get("method") or "",
            why=fields.get("why") or "",
            p_corrected=fields.get("p_corrected"),
            detectable=fields.get("detectable"),
        )
        for metric, rows in (metrics.get("paired") or {}).items()
        for contestant, fields in rows.items()
    )


def source_sentence(source: Mapping[str, Any]) -> str:
    """Say where the rows really come from, e.g. of the built-in sample."""
    origin = f"{source.get('title') or 'unnamed source'} ({source.get('name') or 'no address'})"
    licence = f"licence {source['licence']}" if source.get("licence") else "licence not stated"
    if is_sample(source):
        return f"Sample data: {origin}, {licence}. These are not the rows of the tables queried."
    return f"Data: {origin}, {licence}."


def is_sample(source: Mapping[str, Any]) -> bool:
    """Say whether the rows are the built-in sample and not what the tables' names promise."""
    return str(source.get("name", "")).endswith("://sample")


def used_sentence(estimates: Mapping[str, Any] | None) -> str:
    """Say what the run was estimated to use, and what it used; empty if nothing ran."""
    if not estimates or not estimates["steps"]:
        return ""
    total = estimates["total"]
    parts = [
        f"{title} {_quantity(total['estimated'].get(name))} / {_quantity(total['actual'][name])}"
        for name, title in USED_TITLES.items()
        if name in total["actual"]
    ]
    money = " / ".join(_money(total[side]["money"]) for side in ("estimated", "actual"))
    if not parts:
        return ""
    parts.append(f"{estimates['currency']} {money}")
    return f"Estimated / used: {', '.join(parts)}."


USED_TITLES: Mapping[str, str] = {
    "bytes": "bytes",
    "tokens": "tuning tokens",
    "calls": "calls",
    "input_tokens": "tokens in",
    "output_tokens": "tokens out",
}


def _quantity(figure: Mapping[str, Any] | None) -> str:
    if figure is None or figure["value"] is None:
        return "unknown"
    bound = "at most " if figure["basis"] == "at most" else ""
    return f"{bound}{figure['value']:,.0f}"


def _money(money: Mapping[str, Any]) -> str:
    return "unknown" if money["value"] is None else f"{money['value']:,.2f}"


def disclaimer(safety: Mapping[str, Any] | None) -> str:
    """Say what the safety figures are not, or nothing where a safety evaluation was made."""
    scorer = (safety or {}).get("scorer") or {}
    if not scorer or scorer.get("is_safety_evaluation"):
        return ""
    if scorer.get("description"):
        return f"This is no safety evaluation. Scored by {scorer['description']}"
    names = ", ".join(scorer.get("categories") or ()) or "nothing"
    return f"This is no safety evaluation: the scorer knows {names} and no other harm."


def output_of(run: Mapping[str, Any], kind: str, output: str) -> Mapping[str, Any] | None:
    """Return the reference that the first step of ``kind`` left under ``output``, if any."""
    for step in run["steps"]:
        if step["kind"] == kind and output in (step.get("outputs") or {}):
            found: Mapping[str, Any] = step["outputs"][output]
            return found
    return None


def facts_of(run: Mapping[str, Any], *kinds: str) -> Mapping[str, Any]:
    """Return what the first step of one of ``kinds`` reported; empty if none ran."""
    for step in run["steps"]:
        if step["kind"] in kinds:
            return step.get("facts") or {}
    return {}


def rows_sentences(run: Mapping[str, Any]) -> list[str]:
    """Say what became of the rows: the dataset and its sides, and what was left out, and why."""
    cleaned, split = facts_of(run, "validate", "prepare"), facts_of(run, "split", "prepare")
    if "good" not in cleaned or not split.get("rows"):
        return []
    sides = ", ".join(f"{side} {count(split['rows'].get(side, 0))}" for side in SIDES)
    rules = ", ".join(f"{rule} {count(rows)}" for rule, rows in cleaned["rules"].items())
    return [
        f"Dataset {split['dataset_version']}: {count(cleaned['in'], 'row')} in ="
        f" {count(cleaned['good'])} good + {count(cleaned['quarantined'])} quarantined"
        f" + {count(cleaned['duplicates'], 'duplicate')}; {sides}.",
        f"Quarantined by rule: {rules}." if rules else "",
        _changes_sentence(run.get("dataset_changes")),
        leakage_sentence(split.get("leakage")),
    ]


def _changes_sentence(changes: Mapping[str, Any] | None) -> str:
    if not changes:
        return ""
    return (
        f"Against {changes['before']}: {count(changes['added'], 'row')} added,"
        f" {count(changes['removed'])} removed, {count(changes['kept'])} kept,"
        f" {count(changes['moved'])} of them on another side."
    )


def tuned_on(facts: Mapping[str, Any]) -> str:
    """Say how many examples the tuning saw, from what the tune step reported."""
    seen = facts.get("examples_seen")
    if seen is None:
        return ""
    used, steps = facts.get("examples_used"), facts.get("steps")
    among = f", drawn from {count(used)} train rows" if used is not None else ""
    within = f" in {count(steps, 'optimiser step')}" if steps is not None else ""
    return f"The tuning saw {count(seen, 'example')}{within}{among}."


def champion_sentence(found: Mapping[str, Any] | None) -> str:
    """Say in one sentence what became of the champion."""
    if not found:
        return ""
    name = f"{found['name']} version {found['version']}"
    verb = "was promoted to champion" if found.get("promoted") else "was not promoted"
    reason = f": {found['reason']}" if found.get("reason") else ""
    return f"{name} {verb}{reason}."


def leakage_sentence(leakage: Mapping[str, Any] | None) -> str:
    """Say how many test rows also stand in train, exactly and nearly."""
    if not leakage:
        return ""
    exact, near = leakage["exact"], leakage["near"]
    nearly = f", {count(near['rows'])} ({percent(near['share'])}) exactly or nearly"
    if near["rows"] is None:
        nearly = "; near-duplicates were not looked for"
    return (
        f"Leakage: {count(exact['rows'], 'test row')} ({percent(exact['share'])}) also in train"
        f" exactly{nearly}."
    )
