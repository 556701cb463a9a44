"""A model card: what a registered model was made of, how it was judged, and what it is not for.

As JSON and as Markdown; made from the record and config of the run that made the version. What is
not known says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmops.ports.registry import AliasMove, ModelVersion

UNKNOWN = "not known"


def card(
    version: ModelVersion,
    history: Sequence[AliasMove],
    record: Mapping[str, Any] | None,
    config: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the card as plain JSON; ``record`` and ``config`` are null if the run is gone."""
    run, conf = record or {}, config or {}
    dataset = conf.get("dataset") or {}
    model, source = version.model, run.get("source") or {}
    return {
        "model": {
            "name": version.name,
            "version": version.version,
            "digest": version.digest,
            "aliases": list(version.aliases),
            "provider": model.provider,
            "base": model.base,
            "base_sha256": model.base_sha256,
            "base_licence": ((conf.get("model") or {}).get("source") or {}).get("licence"),
            "tuned": model.tuned,
            "adapter": model.adapter,
            "endpoint": model.endpoint,
        },
        "data": {
            "version": model.dataset_version,
            "source": source.get("title"),
            "address": source.get("name"),
            "licence": dataset.get("licence") or source.get("licence"),
            "terms": dataset.get("source_terms") or source.get("terms"),
            "rows": _rows(run),
            "leakage": _facts(run, "split").get("leakage"),
        },
        "prompt": {
            "name": (conf.get("prompt") or {}).get("name"),
            "sha256": model.prompt_sha256,
            "instruction": (conf.get("prompt") or {}).get("instruction"),
        },
        "tuning": {"settings": conf.get("tuning"), "facts": _facts(run, "tune")},
        "evaluation": _evaluation(run),
        "safety": _safety(run),
        "gate": run.get("gate"),
        "run": {
            "id": version.registered_by,
            "known": record is not None,
            "git": run.get("git"),
            "llmops": run.get("llmops"),
            "config_digest": run.get("config_digest"),
        },
        "limits": _limits(run, version),
        "history": [
            vars(move) for move in history if version.version in (move.before, move.version)
        ],
    }


def markdown(made: Mapping[str, Any]) -> str:
    """Write a card as Markdown."""
    model, data = made["model"], made["data"]
    parts = [
        f"# {model['name']}, version {model['version']}",
        _list(
            {
                "aliases": ", ".join(model["aliases"]) or "none",
                "base": model["base"],
                "licence of the base": model["base_licence"],
                "provider": model["provider"],
                "tuned model": model["tuned"],
                "digest": model["digest"],
            }
        ),
        "## Data",
        _list(
            {
                "version": data["version"],
                "source": data["source"],
                "address": data["address"],
                "licence": data["licence"],
                "terms of the source": data["terms"],
                "rows": ", ".join(f"{side} {rows}" for side, rows in data["rows"].items()),
            }
        ),
        "## Prompt",
        _list({name: made["prompt"][name] for name in ("name", "sha256")}),
        f"> {str(made['prompt']['instruction'] or UNKNOWN).strip()}",
        "## Tuning",
        _list({**(made["tuning"]["settings"] or {}), **made["tuning"]["facts"]}),
        "## Evaluation",
        _figures(made["evaluation"]),
        "## Safety",
        made["safety"]["sentence"],
        "## Limits",
        "\n".join(f"* {limit}" for limit in made["limits"]),
        "## Where it comes from",
        _list({"run": made["run"]["id"], "config": made["run"]["config_digest"]}),
    ]
    return "\n\n".join(parts) + "\n"


def _facts(run: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    steps = (step for step in run.get("steps") or () if step["kind"] == kind)
    return next((step.get("facts") or {} for step in steps), {})


def _rows(run: Mapping[str, Any]) -> dict[str, int]:
    counts = run.get("counts") or {}
    sides = ("train", "validation", "test")
    return {
        side: rows for name, rows in counts.items() for side in sides if name.endswith(f".{side}")
    }


def _evaluation(run: Mapping[str, Any]) -> dict[str, Any]:
    metrics = run.get("metrics") or {}
    return {
        "side": run.get("scored_on", "test") if metrics else None,
        "rows": metrics.get("rows"),
        "confidence": metrics.get("confidence"),
        "contestants": metrics.get("contestants") or {},
    }


def _safety(run: Mapping[str, Any]) -> dict[str, Any]:
    report = run.get("safety")
    if not report:
        return {"report": None, "sentence": "Not evaluated."}
    scorer = report.get("scorer") or {}
    said = f"Scored by {scorer.get('description') or UNKNOWN}."
    if not scorer.get("is_safety_evaluation"):
        said = f"This is no safety evaluation. {said}"
    return {"report": report, "sentence": said}


def _limits(run: Mapping[str, Any], version: ModelVersion) -> list[str]:
    found = []
    if not run:
        found.append(f"The record of run {version.registered_by} is gone: little is known.")
    if not (run.get("gate") or {}).get("passed"):
        found.append("No gate has passed it in the run that made it.")
    if not (run.get("safety") or {}).get("scorer", {}).get("is_safety_evaluation"):
        found.append("Its answers were not evaluated for safety; do not show them unchecked.")
    if str((run.get("source") or {}).get("name", "")).endswith("://sample"):
        found.append("It was tuned on a small sample made from the standard library's docstrings.")
    rows = (run.get("metrics") or {}).get("rows")
    if rows:
        found.append(f"Its figures rest on {rows} rows; the intervals say how little that is.")
    found.append("It was tuned and judged with one prompt; other prompts were not tried.")
    return found


def _list(entries: Mapping[str, Any]) -> str:
    return "\n".join(
        f"* {name.replace('_', ' ')}: {UNKNOWN if value in (None, '') else value}"
        for name, value in entries.items()
    )


def _figures(evaluation: Mapping[str, Any]) -> str:
    contestants = evaluation["contestants"]
    if not contestants:
        return "Not evaluated."
    names = list(next(iter(contestants.values())))
    lines = [f"| contestant | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for who, figures in contestants.items():
        cells = [_cell(figures.get(name) or {}) for name in names]
        lines.append(f"| {who} | {' | '.join(cells)} |")
    said = f"On {evaluation['rows']} {evaluation['side']} rows"
    if evaluation["confidence"] is not None:
        said += f", intervals at {evaluation['confidence']:.0%}"
    return f"{said}.\n\n" + "\n".join(lines)


def _cell(figure: Mapping[str, Any]) -> str:
    if figure.get("value") is None:
        return UNKNOWN
    if figure.get("low") is None:
        return f"{figure['value']:.3g}"
    return f"{figure['value']:.3g} [{figure['low']:.3g}, {figure['high']:.3g}]"
