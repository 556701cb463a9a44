"""Decide whether a contestant may be promoted. It decides and moves nothing.

The step succeeds whatever it decides; the run turns a refusal into its exit code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from llmops.artifacts import canonical_json
from llmops.evaluation.decision import Evidence, Policy, Rule, SafetyTestRule, decide
from llmops.plan.kinds import Outcome, Port, StepKind, Work, leaf


@dataclass(frozen=True)
class Settings:
    """The gate's rules, as the config has them."""

    contestant: str = leaf("gate.contestant")
    max_leakage: float | None = leaf("gate.max_leakage")
    safety: bool = leaf("gate.safety")
    rules: tuple[Rule, ...] = leaf("gate.rules")
    safety_test: SafetyTestRule | None = leaf("gate.safety_test", optional=True)
    model_kind: str | None = leaf("model.kind", optional=True)


def run(work: Work[Settings]) -> Outcome:
    """Write ``decision``: passed or not, and every reason with its numbers.

    Raises:
        ConfigError: If a rule cannot be read.
    """
    settings = work.settings
    policy = Policy(
        settings.contestant,
        settings.max_leakage,
        settings.safety,
        settings.rules,
        settings.safety_test,
        settings.model_kind,
    )
    evidence = Evidence(
        metrics=_document(work, "metrics"),
        safety=_document(work, "safety"),
        card=_document(work, "card"),
        safety_test=_document(work, "safety_test"),
    )
    decision = asdict(decide(evidence, policy))
    work.outputs["decision"].write_text(canonical_json(decision) + "\n", encoding="utf-8")
    failed = [reason["text"] for reason in decision["reasons"] if not reason["passed"]]
    return Outcome(facts={"passed": decision["passed"], "failed": failed})


def _document(work: Work[Settings], name: str) -> Mapping[str, Any] | None:
    if name not in work.inputs:
        return None
    document: Mapping[str, Any] = json.loads(work.inputs[name].read_text("utf-8"))
    return document


KIND = StepKind(
    name="gate",
    revision=3,  # the bound of a claim on a metric of a project where lower is better
    run=run,
    settings=Settings,
    takes=(
        Port("metrics", "json", optional=True),
        Port("safety", "json", optional=True),
        Port("card", "json", optional=True),
        Port("safety_test", "json", optional=True),
    ),
    gives=(Port("decision", "json"),),
    code=("llmops.evaluation.decision", "llmops.evaluation.metrics"),
    summary="decide by metrics, safety and leakage whether the model may be promoted",
)
