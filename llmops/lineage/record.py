"""The run record, ``run.json``: everything about one run, and how to read it back.

The parent of a run writes it; workers never do. It is written when the run starts (status
``running``) and once more when it ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from llmops.artifacts import Artifact, reference
from llmops.errors import ConfigError
from llmops.lineage.run_folder import RunFolder
from llmops.plan.build import Before, Plan, PlannedStep
from llmops.plan.reference import before_of
from llmops.ports.store import Store

SCHEMA = 1
RESULTS = {  # part of the record <- (step kinds, output that holds it)
    "profile": (("validate", "prepare"), "profile"),
    "card": (("split", "prepare"), "card"),
    "model": (("deploy",), "model"),
    "metrics": (("evaluate",), "metrics"),
    "safety": (("safety",), "report"),
    "gate": (("gate",), "decision"),
}


def step_records(
    plan: Plan, store: Store, run_id: str, logs: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Say of each planned step what became of it, from the store's reports.

    ``logs`` has the addresses of logs by step, where they are not files of the run folder.
    """
    return [
        _step_record(step, store.read_report(run_id, step.name), run_id, logs.get(step.name))
        for step in plan.steps
    ]


def results(steps: Sequence[Mapping[str, Any]], store: Store) -> dict[str, Any]:
    """Read the JSON results that the record repeats: card, metrics, safety, gate, ...

    Each is null if no finished step gives it.
    """
    return {name: _result(steps, store, *source) for name, source in RESULTS.items()}


def source_of(
    config: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Say where the rows are from: the warehouse's data, or own files; null if no step reads rows.

    Its ``name`` is null until the step that reads them has.
    """
    for step in steps:
        name = (step.get("facts") or {}).get("source")
        if step["kind"] in ("ingest", "prepare"):
            return {**config["warehouse"]["source"], "name": name}
        if step["kind"] == "read_files":
            asked = config["dataset"]
            terms = {"licence": asked["licence"], "terms": asked["source_terms"], "terms_url": None}
            return {"title": "own files", **terms, "name": name}
    return None


def steps_before(run: RunFolder) -> dict[str, Before]:
    """Return how each step of an earlier run looked, for a plan to compare with."""
    try:
        steps = run.record()["steps"]
    except (ConfigError, KeyError):
        return {}
    return {s["name"]: before_of(s) for s in steps if s["status"] in ("done", "cached")}


def tuned_loss(record: Mapping[str, Any]) -> float | None:
    """Return the tuned model's held-out loss, nats per answer token; None if not measured."""
    contestants = (record["metrics"] or {}).get("contestants", {})
    loss = contestants.get("tuned", {}).get("loss")
    return loss["value"] if loss else None


def _step_record(
    step: PlannedStep, report: Mapping[str, Any] | None, run_id: str, log: str | None
) -> dict[str, Any]:
    base = {
        "name": step.name,
        "kind": step.kind,
        "revision": step.revision,
        "takes": dict(step.takes),
        "settings": dict(step.settings),
        "source": dict(step.source),
        "reason": step.reason,
    }
    if step.entry and step.entry.run_id != run_id:
        entry = asdict(step.entry)
        kept = {name: entry[name] for name in ("key", "inputs", "outputs", "facts")}
        return base | kept | {"status": "cached", "seconds": 0.0, "log": None}
    if step.status == "skipped":
        return base | _nothing("skipped")
    if report is None:
        return base | _nothing("not_reached")
    return base | _nothing("failed") | dict(report) | {"log": log or f"logs/{step.name}.log"}


def _nothing(status: str) -> dict[str, Any]:
    return {
        "status": status,
        "key": None,
        "inputs": {},
        "outputs": {},
        "facts": {},
        "seconds": 0.0,
        "log": None,
    }


def _result(
    steps: Sequence[Mapping[str, Any]], store: Store, kinds: tuple[str, ...], output: str
) -> Any:
    for step in steps:
        if step["kind"] in kinds and output in step["outputs"]:
            artifact: Artifact = reference(step["outputs"][output])
            return json.loads(store.local_path(artifact).read_text("utf-8"))
    return None
