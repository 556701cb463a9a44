"""A run as OpenLineage run events (spec 2-0-2, https://openlineage.io/spec): plain dicts.

The run is a job, each of its steps a child job with its inputs and outputs as datasets, named by
their digests. Standard facets where the spec has one; what it has none for stands in facets that
begin with ``llmops_``, whose schemas lie in ``docs/openlineage``. Sends nothing.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from llmops import __version__

PRODUCER = f"urn:llmops:{__version__}"
NAMESPACE = "llmops"
SPEC = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
FACETS = "https://openlineage.io/spec/facets"
STANDARD: Mapping[str, str] = {
    "parent": "1-1-0/ParentRunFacet.json#/$defs/ParentRunFacet",
    "errorMessage": "1-0-1/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet",
    "processing_engine": "1-1-1/ProcessingEngineRunFacet.json#/$defs/ProcessingEngineRunFacet",
    "sql": "1-0-1/SQLJobFacet.json#/$defs/SQLJobFacet",
    "jobType": "2-0-3/JobTypeJobFacet.json#/$defs/JobTypeJobFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet.json"
    "#/$defs/OutputStatisticsOutputDatasetFacet",
    "version": "1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet",
}
ENDS: Mapping[str, str] = {
    "succeeded": "COMPLETE",
    "refused": "COMPLETE",
    "failed": "FAIL",
    "interrupted": "ABORT",
}
STEP_ENDS: Mapping[str, str] = {"done": "COMPLETE", "cached": "COMPLETE", "failed": "FAIL"}


def started(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the event that a run has begun."""
    return [_event("START", record["started"], _run(record), _job(record))]


def step_started(
    record: Mapping[str, Any], step: Mapping[str, Any], at: str
) -> list[dict[str, Any]]:
    """Return the event that a step of a run has begun; ``step`` needs its ``name`` alone."""
    inputs = _inputs(record, step)
    return [_event("START", at, _step_run(record, step), _step_job(record, step), inputs)]


def step_ended(record: Mapping[str, Any], step: Mapping[str, Any], at: str) -> list[dict[str, Any]]:
    """Return the events that a step is over, with what it read and wrote, and the run goes on."""
    outputs = [_output(one) for one in (step.get("outputs") or {}).values()]
    kind = STEP_ENDS.get(step["status"]) or ENDS.get(record["status"], "OTHER")
    run, job = _step_run(record, step), _step_job(record, step)
    return [
        _event(kind, at, run, job, _inputs(record, step), outputs),
        _event("RUNNING", at, _run(record), _job(record)),
    ]


def ended(
    record: Mapping[str, Any],
    *,
    at: str | None = None,
    begun: Container[str] = (),
    over: Container[str] = (),
) -> list[dict[str, Any]]:
    """Return the events that are still to be told of a run that is over.

    Args:
        record: The run's record.
        at: The moment to tell; by default the second at which the record says that it ended.
        begun: Names of the steps whose START was told.
        over: Names of the steps whose end was told as well.
    """
    at = at or record["finished"] or record["started"]
    events = []
    for step in record["steps"]:
        name = step["name"]
        if name in over or not (name in begun or step["status"] in STEP_ENDS):
            continue
        if name not in begun:
            events += step_started(record, step, at)
        events += step_ended(record, step, at)
    events.append(_event(ENDS[record["status"]], at, _run(record), _job(record)))
    return events


def event_id(*names: str) -> str:
    """Return the UUID that OpenLineage asks for: the same for the same run and step."""
    import uuid

    return str(uuid.uuid5(uuid.NAMESPACE_URL, ":".join(("llmops", *names))))


def _event(
    kind: str,
    at: str,
    run: Mapping[str, Any],
    job: Mapping[str, Any],
    inputs: Sequence[Mapping[str, Any]] = (),
    outputs: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    return {
        "eventType": kind,
        "eventTime": at.replace("Z", "+00:00"),
        "producer": PRODUCER,
        "schemaURL": SPEC,
        "run": run,
        "job": job,
        "inputs": list(inputs),
        "outputs": list(outputs),
    }


def _run(record: Mapping[str, Any]) -> dict[str, Any]:
    facets = {
        "processing_engine": _standard(
            "processing_engine",
            version=__version__,
            name=f"llmops {(record.get('engine') or {}).get('kind', '')}".strip(),
        ),
        "llmops_config": _own(
            "config", digest=record["config_digest"], overrides=list(record["overrides"])
        ),
    }
    error = record.get("error")
    if error:  # its text may quote rows, so only where it happened is told
        where = f"step {error['step']} failed" if error.get("step") else "the run failed"
        facets["errorMessage"] = _standard(
            "errorMessage", message=where, programmingLanguage="python"
        )
    facets |= dict(_results(record))
    return {"runId": event_id(record["run_id"]), "facets": facets}


def _results(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    prompt, model = record.get("prompt"), record.get("model")
    metrics, safety = record.get("metrics"), record.get("safety")
    if prompt:
        yield "llmops_prompt", _own("prompt", name=prompt["name"], sha256=prompt["sha256"])
    if record.get("dataset_version"):
        counts = {name: rows for name, rows in (record.get("counts") or {}).items() if rows}
        yield "llmops_split", _own("split", version=record["dataset_version"], rows=counts)
    if model:
        known = {name: value for name, value in model.items() if value is not None}
        yield "llmops_model", _own("model", **known)
    if metrics:
        figures = {
            f"{who}.{name}": figure["value"]
            for who, found in metrics["contestants"].items()
            for name, figure in found.items()
            if figure.get("value") is not None
        }
        side = record.get("scored_on", "test")
        yield "llmops_evaluation", _own("evaluation", side=side, figures=figures)
    if safety:
        scorer = safety.get("scorer") or {}
        judged = {
            who: bool(found.get("passed"))
            for who, found in (safety.get("contestants") or {}).items()
        }
        yield (
            "llmops_safety",
            _own(
                "safety",
                isSafetyEvaluation=bool(scorer.get("is_safety_evaluation")),
                passed=judged,
            ),
        )


def _job(record: Mapping[str, Any]) -> dict[str, Any]:
    kind = _standard("jobType", processingType="BATCH", integration="LLMOPS", jobType="RUN")
    return {"namespace": NAMESPACE, "name": record["experiment"], "facets": {"jobType": kind}}


def _step_run(record: Mapping[str, Any], step: Mapping[str, Any]) -> dict[str, Any]:
    parent = {
        "run": {"runId": event_id(record["run_id"])},
        "job": {"namespace": NAMESPACE, "name": record["experiment"]},
    }
    facets = {"parent": _standard("parent", **parent, root=parent)}
    return {"runId": event_id(record["run_id"], step["name"]), "facets": facets}


def _step_job(record: Mapping[str, Any], step: Mapping[str, Any]) -> dict[str, Any]:
    kind = _standard("jobType", processingType="BATCH", integration="LLMOPS", jobType="STEP")
    query = (step.get("settings") or {}).get("dataset.query")
    sql = {"sql": _standard("sql", query=str(query))} if query else {}
    return {
        "namespace": NAMESPACE,
        "name": f"{record['experiment']}.{step['name']}",
        "facets": {"jobType": kind, **sql},
    }


def _inputs(record: Mapping[str, Any], step: Mapping[str, Any]) -> list[dict[str, Any]]:
    inputs = [
        {"namespace": NAMESPACE, "name": sha256, "facets": {}}
        for sha256 in (step.get("inputs") or {}).values()
    ]
    source = (record.get("source") or {}).get("name")
    if source and (step.get("settings") or {}).get("dataset.query"):
        scheme, _, name = str(source).partition("://")
        inputs.append({"namespace": scheme, "name": name or scheme, "facets": {}})
    return inputs


def _output(artifact: Mapping[str, Any]) -> dict[str, Any]:
    known = {"rowCount": artifact.get("rows"), "size": artifact.get("bytes")}
    counts = {name: value for name, value in known.items() if value is not None}
    return {
        "namespace": NAMESPACE,
        "name": artifact["sha256"],
        "facets": {"version": _standard("version", datasetVersion=artifact["sha256"][:12])},
        "outputFacets": {"outputStatistics": _standard("outputStatistics", **counts)},
    }


def _standard(facet: str, /, **fields: Any) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": f"{FACETS}/{STANDARD[facet]}", **fields}


def _own(facet: str, /, **fields: Any) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": f"urn:llmops:facet:{facet}:1", **fields}
