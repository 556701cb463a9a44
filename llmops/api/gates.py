"""Another gate on a finished run: what would it have decided?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmops.config.project import workspace
from llmops.errors import ConfigError, DataError
from llmops.lineage.run_folder import find_run

if TYPE_CHECKING:
    from llmops.evaluation.decision import Decision


def check_gate(name: str, gate: str | None = None, overrides: Sequence[str] = ()) -> Decision:
    """Judge a run by a gate of ``conf/gate``, or by its own; nothing is run, moved or written.

    Args:
        name: The run's id or the beginning of it.
        gate: A choice of ``conf/gate``; null for the run's own gate.
        overrides: Changes to the gate, e.g. ``gate.max_leakage=0.01``.

    Raises:
        ConfigError: If there is no such run or gate, or a rule cannot be read.
        DataError: If the run has nothing that a gate judges.
    """
    import msgspec

    from llmops.adapters.catalog import open_store
    from llmops.artifacts import reference
    from llmops.evaluation.decision import Evidence, Policy, decide

    run = find_run(workspace(), name)
    record, config = run.record(), run.config()
    settings = _gate(config, gate, overrides)
    try:
        kind = (config.get("model") or {}).get("kind")
        policy = msgspec.convert({**settings, "model_kind": kind}, Policy)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"gate: {exc}", hint="look at conf/gate/standard.yaml") from exc
    store = open_store(config, workspace())

    def document(kind: str, output: str) -> Mapping[str, Any] | None:
        for step in record["steps"]:
            if step["kind"] == kind and output in step["outputs"]:
                path = store.local_path(reference(step["outputs"][output]))
                found: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
                return found
        return None

    evidence = Evidence(
        metrics=document("evaluate", "metrics"),
        safety=document("safety", "report"),
        card=document("split", "card"),
        safety_test=document("safety_test", "report"),
    )
    if evidence.metrics is None and evidence.safety is None:
        raise DataError(
            f"run {record['run_id']} measured nothing that a gate judges",
            hint="`python -m llmops runs list` shows the others",
        )
    return decide(evidence, policy)


def _gate(config: Mapping[str, Any], gate: str | None, overrides: Sequence[str]) -> dict[str, Any]:
    from llmops.config import schemas
    from llmops.config.compose import group
    from llmops.config.problems import Problem, dotted, raise_all

    if gate is not None or overrides:
        found = group("gate", [f"gate={gate or 'standard'}", *overrides])
    elif config.get("gate") is None:
        raise ConfigError("the run has no gate of its own", hint="give one: --gate strict")
    else:
        found = dict(config["gate"])
    raise_all(
        Problem("conf/gate", dotted(("gate", *m.path)), m.expected, m.got, m.hint)
        for m in schemas.mistakes(found, name="gate")
    )
    return found
