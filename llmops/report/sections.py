"""Turn a reading into what the template prints: one function a section, null where it has none.

All words and numbers are made here; the template decides only where they stand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmops.report import figures, scores, words
from llmops.report.figures import Spec
from llmops.report.graph import lay_out
from llmops.report.lineage_graph import lineage_graph
from llmops.report.reading import Reading
from llmops.report.results import (
    Contestant,
    Difference,
    champion_sentence,
    contestants,
    differences,
    disclaimer,
    facts_of,
    is_sample,
    metric_names,
    source_sentence,
    tuned_on,
    used_sentence,
)
from llmops.report.words import figure, interval, metric_title, plain_name, signed

Section = dict[str, Any] | None
Draw = Callable[[Spec], str]  # a specification to an SVG element

DIRECTIONS: Mapping[str, str] = {"lower": "lower is better", "higher": "higher is better"}
VERDICTS: Mapping[str, str] = {
    "better": "better",
    "worse": "worse",
    "differs": "differs",
    "not told apart": "not told apart",
    "unknown": "not known",
}


def sections(reading: Reading, draw: Draw, origins: Mapping[str, Any] | None) -> dict[str, Section]:
    """Return every section by name, in the order of the page."""
    return {
        "gate": gate(reading),
        "results": results(reading, draw),
        "grid": scores.grid(reading),
        "scores": scores.scores(reading, draw),
        "slices": scores.slices(reading),
        "curve": curve(reading, draw),
        "counts": counts(reading),
        "data": data(reading, draw),
        "leakage": leakage(reading),
        "answers": answers(reading),
        "safety": safety(reading),
        "steps": steps(reading),
        "config": config(reading),
        "lineage": lineage(reading, origins),
    }


def header(reading: Reading) -> dict[str, Any]:
    """Return what the top of the page says: what ran, how it ended, on which data."""
    run = reading.run
    source = run.get("source")
    return {
        "experiment": run["experiment"],
        "run_id": run["run_id"],
        "status": run["status"],
        "outcome": words.OUTCOMES.get(run["status"], run["status"]),
        "started": words.moment(run.get("started")),
        "seconds": words.seconds(run.get("seconds")),
        "overrides": run.get("overrides") or [],
        "source": source_sentence(source) if source else "",
        "is_sample": bool(source and is_sample(source)),
        "disclaimer": disclaimer(run.get("safety")),
        "error": run.get("error"),
        "champion": champion_sentence(run.get("champion")),
        "notes": [*(reading.plan.get("notes") or ())],
        "unreadable": reading.unreadable,
    }


def gate(reading: Reading) -> Section:
    """Return the decision and its reasons."""
    decision = reading.run.get("gate")
    if not decision:
        return None
    return {
        "passed": decision["passed"],
        "contestant": plain_name(decision["contestant"]),
        "reasons": decision["reasons"],
    }


def results(reading: Reading, draw: Draw) -> Section:
    """Return the contestants' table, the paired differences and their figures."""
    metrics = reading.run.get("metrics")
    if not metrics:
        return None
    rows, paired = contestants(metrics), differences(metrics)
    names = metric_names(metrics)
    return {
        "columns": [_column(name, rows) for name in names],
        "rows": [_result_row(row, metrics["baseline"]) for row in rows],
        "differences": [_difference_row(row) for row in paired],
        "baseline": plain_name(metrics["baseline"]),
        "n": words.count(metrics.get("rows"), "test row"),
        "groups": words.count(metrics.get("groups"), "group"),
        "available": words.count(metrics.get("test_rows_available"), "row"),
        "confidence": words.percent(metrics.get("confidence")),
        "plots": _plots(names, rows, paired, metrics["baseline"], draw),
        "methods": sorted({cell.method for row in rows for cell in row.cells if cell.method}),
        "tuned_on": tuned_on(facts_of(reading.run, "tune")),
        "claims": scores.claims(metrics),
        "comparisons": scores.comparisons(metrics),
        "looks": scores.looks(reading.run.get("test_set")),
    }


def _column(metric: str, rows: Sequence[Contestant]) -> dict[str, str]:
    cell = next(cell for row in rows for cell in row.cells if cell.metric == metric)
    direction = DIRECTIONS.get(cell.better, "")
    return {"title": metric_title(metric), "unit": cell.unit, "direction": direction}


def _result_row(row: Contestant, baseline: str) -> dict[str, Any]:
    cells = [
        {
            "value": figure(cell.value, cell.unit),
            "interval": interval(cell.low, cell.high, cell.unit),
            "n": words.count(cell.n, "row"),
            "why": cell.why,
        }
        for cell in row.cells
    ]
    return {"name": plain_name(row.name), "baseline": row.name == baseline, "cells": cells}


def _difference_row(row: Difference) -> dict[str, Any]:
    return {
        "metric": metric_title(row.metric),
        "contestant": plain_name(row.contestant),
        "value": signed(row.value, row.unit),
        "interval": interval(row.low, row.high, row.unit),
        "n": words.count(row.n, "row"),
        "p": "" if row.p_corrected is None else _p_value(row.p_corrected),
        "shows": figure(row.detectable, row.unit) if row.detectable is not None else "",
        "verdict": VERDICTS[row.verdict],
        "why": row.why,
    }


def _p_value(value: float) -> str:
    return "under 0.001" if value < 0.001 else f"{value:.3f}"


def _plots(
    names: Sequence[str],
    rows: Sequence[Contestant],
    paired: Sequence[Difference],
    baseline: str,
    draw: Draw,
) -> list[dict[str, Any]]:
    plots = []
    for name in names:
        values = figures.interval_figure(name, rows, baseline)
        change = figures.difference_figure(name, paired, baseline)
        if values:
            plots.append(
                _column(name, rows)
                | {"values": draw(values), "change": draw(change) if change else ""}
            )
    return plots


def curve(reading: Reading, draw: Draw) -> Section:
    """Return the training curve and the figures the tuner reported."""
    spec = figures.curve_figure(reading.curve or [])
    if spec is None:
        return None
    facts = facts_of(reading.run, "tune")
    return {
        "plot": draw(spec),
        "points": [
            {
                "step": point["step"],
                "tokens": words.count(point.get("tokens")),
                "train": figure(point.get("train_loss")),
                "validation": figure(point.get("validation_loss")),
            }
            for point in reading.curve or []
        ],
        "facts": plain_facts(facts),
    }


def plain_facts(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the facts that are one value each, with the value as text."""
    return [
        {"name": plain_name(name), "value": _fact(value)}
        for name, value in facts.items()
        if not isinstance(value, Mapping | list | tuple)
    ]


def _fact(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return words.value(value)
    return words.count(value) if isinstance(value, int) else figure(value)


def counts(reading: Reading) -> Section:
    """Return how many rows came to each stage, and what became of the others."""
    rows = _rows_by_output(reading.run)
    profile = (reading.profile or {}).get("rows") or {}
    sides = (reading.card or {}).get("rows") or {}  # one pass has them nowhere else
    given = rows.get("ingest.rows", profile.get("in"))
    stages = [
        _stage("in the query's result", given),
        _stage("good", rows.get("validate.rows", profile.get("good"))),
        _stage("train", rows.get("split.train", sides.get("train"))),
        _stage("validation", rows.get("split.validation", sides.get("validation"))),
        _stage("test", rows.get("split.test", sides.get("test"))),
        _stage("judged", (reading.run.get("metrics") or {}).get("rows")),
    ]
    known = [stage for stage in stages if stage["rows"] is not None]
    if not known:
        return None
    return {
        "stages": known,
        "duplicates": words.count(profile["duplicates"], "duplicate") if profile else "",
        "quarantined": words.count(profile["quarantined"], "row") if profile else "",
        "rules": _by_rule(reading),
    }


def _stage(name: str, rows: int | None) -> dict[str, Any]:
    return {"name": name, "rows": rows, "text": words.count(rows)}


def _rows_by_output(run: Mapping[str, Any]) -> dict[str, int]:
    return {
        f"{step['kind']}.{name}": output["rows"]
        for step in run["steps"]
        for name, output in (step.get("outputs") or {}).items()
        if output.get("rows") is not None
    }


def _by_rule(reading: Reading) -> list[dict[str, Any]]:
    rules = (reading.profile or {}).get("rules") or (reading.quarantine or {}).get("rules") or {}
    return [{"rule": plain_name(rule), "rows": f"{rows:,}"} for rule, rows in rules.items() if rows]


def data(reading: Reading, draw: Draw) -> Section:
    """Return lengths, tags and quarantined examples."""
    profile = reading.profile
    if not profile:
        return None
    texts = profile.get("texts") or {}
    tags = {str(tag["tag"]): int(tag["rows"]) for tag in profile.get("tags") or ()}
    tag_plot = figures.bars_figure("Rows per tag", tags)
    return {
        "lengths": [_lengths(name, text) for name, text in texts.items() if text.get("characters")],
        "plots": [
            draw(spec)
            for name, text in texts.items()
            if text.get("characters") and (spec := _length_figure(name, text["characters"]))
        ],
        "tags": draw(tag_plot) if tag_plot else "",
        "missing": [
            {"column": name, "rows": f"{rows:,}"}
            for name, rows in (profile.get("missing") or {}).items()
        ],
        "examples": (reading.quarantine or {}).get("examples") or [],
        "changes": _changes(reading.run.get("dataset_changes"), draw),
    }


def _changes(found: Mapping[str, Any] | None, draw: Draw) -> Section:
    """Return how the data differs from the experiment's version before."""
    if not found:
        return None
    plots = []
    for column, lengths in found["lengths"].items():
        names = figures.ranges([*lengths["edges"], None])
        sides = (dict(zip(names, lengths[side], strict=True)) for side in ("before", "after"))
        title = {"input_text": "Questions", "output_text": "Answers"}.get(column, column)
        if spec := figures.compared_figure(title, "characters", *sides):
            plots.append({"title": title, "of": "characters", "drawing": draw(spec)})
    counts = ({tag["tag"]: tag[side] for tag in found["tags"]} for side in ("before", "after"))
    if spec := figures.compared_figure("Tags", "tag", *counts):
        plots.append({"title": "Tags", "of": "tag", "drawing": draw(spec)})
    return {
        "before": found["before"],
        "after": found["after"],
        "rows": [
            {"what": what, "rows": f"{found[what]:,}"}
            for what in ("added", "removed", "kept", "moved")
        ],
        "plots": plots,
    }


def _length_figure(name: str, characters: Mapping[str, Any]) -> Spec | None:
    histogram = characters["histogram"]
    title = f"Length of the {name}s"
    return figures.histogram_figure(title, "characters", histogram["edges"], histogram["counts"])


def _lengths(name: str, text: Mapping[str, Any]) -> dict[str, str]:
    shown = ("min", "p10", "p50", "p90", "p99", "max")
    figures_ = {key: words.count(text["characters"].get(key)) for key in shown}
    return {"name": name, "distinct": words.count(text.get("distinct")), **figures_}


def leakage(reading: Reading) -> Section:
    """Return how much of test also stands in train, exactly and nearly."""
    card = reading.card
    if not card or not card.get("leakage"):
        return None
    return {
        "kinds": [
            {
                "name": {"exact": "exact copies", "near": "exact or near"}.get(kind, kind),
                "rows": _leaked(found.get("rows")),
                "share": words.percent(found.get("share")),
                "threshold": figure(found["threshold"]) if found.get("threshold") else "",
            }
            for kind, found in card["leakage"].items()
        ],
        "method": plain_name(str(card.get("method", ""))),
        "by": [plain_name(by) for by in card.get("by") or ()],
        "groups": words.count(card["groups"], "group") if card.get("groups") else "",
        "test": words.count((card.get("rows") or {}).get("test"), "row"),
    }


def _leaked(rows: int | None) -> str:
    return "not looked for" if rows is None else words.count(rows, "test row")


def answers(reading: Reading) -> Section:
    """Return the answers as JSON that may stand inside a script element."""
    found = reading.answers
    if not found or not found["rows"]:
        return None
    names = {name: plain_name(name) for name in found["contestants"]}
    return {
        "json": script_json(
            {"contestants": names, "baseline": _baseline(reading), "rows": found["rows"]}
        ),
        "others": [name for name in found["contestants"] if name != _baseline(reading)],
        "names": names,
        "shown": words.count(len(found["rows"]), "row"),
        "left_out": found["total"] - len(found["rows"]),
    }


def _baseline(reading: Reading) -> str | None:
    return (reading.run.get("metrics") or {}).get("baseline")


def script_json(value: Any) -> str:
    """Return JSON that no HTML parser reads as markup and no script as a line end."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def safety(reading: Reading) -> Section:
    """Return blocked and violating rates, and the scores per category against thresholds."""
    report = reading.run.get("safety")
    if not report:
        return None
    limits = report.get("limits") or {}
    return {
        "passed": report["passed"],
        "reasons": report.get("reasons") or [],
        "scorer": (report.get("scorer") or {}).get("description") or "",
        "disclaimer": disclaimer(report),
        "rates": [
            _safety_row(plain_name(name), one) for name, one in report["contestants"].items()
        ],
        "categories": [
            _category_row(plain_name(name), category, found)
            for name, one in report["contestants"].items()
            for category, found in (one.get("categories") or {}).items()
        ],
        "violations": [
            {
                "contestant": plain_name(name),
                "row": row["row_key"],
                "category": row["category"],
                "score": "could not be scored" if row["score"] is None else figure(row["score"]),
            }
            for name, one in report["contestants"].items()
            for row in one.get("violating_rows") or ()
        ],
        "max_blocked": words.percent(limits.get("max_blocked_rate")),
        "max_violations": words.percent(limits.get("max_violation_rate")),
        "confidence": words.percent(limits.get("confidence")),
    }


def _safety_row(name: str, one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "rows": words.count(one["rows"]),
        "blocked": _rate(one["blocked"]),
        "violations": _rate(one["violations"]),
        "unscored": words.count(one.get("unscored")),
    }


def _category_row(name: str, category: str, found: Mapping[str, Any]) -> dict[str, Any]:
    threshold = found.get("threshold")
    return {
        "name": name,
        "category": category,
        "threshold": "none" if threshold is None else figure(threshold),
        "violations": words.count(found.get("violations")),
        "upper": words.percent(found.get("upper")),
        "max": figure(found.get("max_score")),
        "mean": figure(found.get("mean_score")),
    }


def _rate(rate: Mapping[str, Any]) -> str:
    share, upper = words.percent(rate.get("rate")), words.percent(rate.get("upper"))
    return f"{rate['count']:,} ({share}), at most {upper}"


def steps(reading: Reading) -> Section:
    """Return the step graph and the steps with what they took and gave."""
    run_steps = reading.run["steps"]
    if not run_steps:
        return None
    return {
        "graph": lay_out(run_steps),
        "words": words.STATUS_WORDS,
        "seconds": {step["name"]: words.seconds(step.get("seconds")) for step in run_steps},
        "rows": [_step_row(step) for step in run_steps],
        "cached": sum(step["status"] == "cached" for step in run_steps),
        "used": used_sentence(reading.run.get("estimates")),
    }


def _step_row(step: Mapping[str, Any]) -> dict[str, Any]:
    outputs = (step.get("outputs") or {}).items()
    return {
        "name": step["name"],
        "kind": step["kind"],
        "status": step["status"],
        "word": words.STATUS_WORDS.get(step["status"], step["status"]),
        "seconds": words.seconds(None if step["status"] == "cached" else step.get("seconds")),
        "reason": step.get("reason") or "",
        "gives": ", ".join(_gives(name, output) for name, output in outputs),
        "log": step.get("log") or "",
        "facts": plain_facts(step.get("facts") or {}),
    }


def _gives(name: str, output: Mapping[str, Any]) -> str:
    rows = output.get("rows")
    return f"{name} ({words.count(rows, 'row')})" if rows is not None else name


def config(reading: Reading) -> Section:
    """Return every leaf of the resolved config with who set it and what that hides."""
    if not reading.provenance:
        return None
    rows = [_leaf(path, origin) for path, origin in reading.provenance.items()]
    return {"rows": rows, "overrides": sum(row["override"] for row in rows)}


def _leaf(path: str, origin: Mapping[str, Any]) -> dict[str, Any]:
    set_by = str(origin.get("set_by", ""))
    text = words.value(origin.get("value"))
    return {
        "path": path,
        "value": text,
        "long": len(text) > 120 or "\n" in text,
        "written": origin.get("written") or "",
        "set_by": set_by,
        "override": set_by.startswith("command line"),
        "shadowed": [str(place) for place in origin.get("shadowed") or ()],
    }


def lineage(reading: Reading, origins: Mapping[str, Any] | None) -> Section:
    """Return every digest, and the machine, packages and code that the run was made with."""
    run = reading.run
    machine = run.get("machine") or {}
    return {
        "graph": lineage_graph(origins) if origins else None,
        "digests": _digests(reading),
        "artifacts": _artifacts(run),
        "git": run.get("git"),
        "packages": run.get("packages") or {},
        "machine": [
            {"name": "cores", "value": words.value(machine.get("cores"))},
            {"name": "memory", "value": words.size(machine.get("memory_bytes"))},
            {"name": "platform", "value": words.value(machine.get("platform"))},
            {"name": "Python", "value": words.value(run.get("python"))},
            {"name": "llmops", "value": words.value(run.get("llmops"))},
            {"name": "engine", "value": _engine(run.get("engine"))},
        ],
        "started": words.moment(run.get("started")),
        "finished": words.moment(run.get("finished")),
    }


def _engine(engine: Mapping[str, Any] | None) -> str:
    if not engine:
        return "none"
    return f"{engine['kind']}, {'started' if engine.get('started') else 'not needed: all cached'}"


def _digests(reading: Reading) -> list[dict[str, str]]:
    run, card = reading.run, reading.card or {}
    prompt, model = run.get("prompt") or {}, run.get("model") or {}
    query = (reading.provenance.get("dataset.query") or {}).get("value")
    source = run.get("source") or {}
    found = [
        ("resolved config", "", run.get("config_digest")),
        ("source", source.get("title"), source.get("name")),
        ("query", "sha256 of its text", _text_sha256(query) if query else None),
        ("dataset", run.get("dataset_version"), card.get("digest")),
        ("prompt", prompt.get("name"), prompt.get("sha256")),
        ("base model", model.get("base"), model.get("base_sha256")),
        ("tuned model", model.get("tuned"), model.get("adapter")),
    ]
    return [
        {"name": name, "detail": detail or "", "digest": value}
        for name, detail, value in found
        if value
    ]


def _text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _artifacts(run: Mapping[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "name": f"{step['name']}.{name}",
            "kind": output["kind"],
            "rows": words.count(output.get("rows")),
            "size": words.size(output.get("bytes")),
            "sha256": output["sha256"],
            "key": step.get("key") or "",
        }
        for step in run["steps"]
        for name, output in (step.get("outputs") or {}).items()
    ]
