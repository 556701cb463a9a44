"""The gate step: what the other steps measured becomes a decision with its reasons."""

from __future__ import annotations

import json

import pytest

from llmops.errors import ConfigError
from llmops.evaluation.decision import Rule, SafetyTestRule
from llmops.plan.kinds import Work
from llmops.steps.gate import KIND, Settings

LOSS = Rule("loss", better_than="untuned")
METRICS = {
    "baseline": "untuned",
    "contestants": {"tuned": {"loss": {"value": 2.7, "low": 2.5, "high": 2.9}}},
    "paired": {"loss": {"tuned": {"difference": -0.6, "low": -0.8, "high": -0.4}}},
}
CARD = {"leakage": {"exact": {"rows": 0, "share": 0.0}, "near": {"rows": 0, "share": 0.0}}}


def decided(folder, settings, **documents):
    """Run the step on the documents; return its outcome and what it wrote."""
    inputs = {name: folder / f"{name}.json" for name in documents}
    for name, path in inputs.items():
        path.write_text(json.dumps(documents[name]))
    written = folder / "decision.json"
    work = Work(
        step="gate",
        key="k",
        run_id="r",
        settings=settings,
        inputs=inputs,
        digests={},
        outputs={"decision": written},
        adapters=None,
        progress=lambda *_: None,
        scratch=folder,
        experiment="x",
    )
    return KIND.run(work), json.loads(written.read_text())


def test_a_better_model_passes_and_every_rule_gives_its_reason(tmp_path):
    settings = Settings("tuned", max_leakage=0.0, safety=False, rules=(LOSS,))
    outcome, decision = decided(tmp_path, settings, metrics=METRICS, card=CARD)
    assert outcome.facts == {"passed": True, "failed": []}
    assert decision["passed"] is True
    assert len(decision["reasons"]) == 3  # both kinds of leakage, and the loss


def test_what_was_not_measured_refuses_and_is_named(tmp_path):
    settings = Settings("tuned", max_leakage=0.0, safety=True, rules=(LOSS,))
    outcome, decision = decided(tmp_path, settings, metrics=METRICS)
    assert outcome.facts["passed"] is False
    assert outcome.facts["failed"] == [r["text"] for r in decision["reasons"] if not r["passed"]]
    assert len(outcome.facts["failed"]) == 3  # both kinds of leakage, and safety


def test_a_test_of_the_safety_policy_that_is_asked_for_and_missing_refuses(tmp_path):
    rule = SafetyTestRule(min_catch_rate=0.9, max_false_alarms=0.1)
    settings = Settings("tuned", None, False, (LOSS,), safety_test=rule)
    outcome, _ = decided(tmp_path, settings, metrics=METRICS)
    assert outcome.facts["passed"] is False


def test_a_rule_that_says_two_things_is_a_config_error(tmp_path):
    rule = Rule("loss", better_than="untuned", at_most=3.0)
    with pytest.raises(ConfigError):
        decided(tmp_path, Settings("tuned", None, False, (rule,)), metrics=METRICS)
