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


def test_every_document_and_every_setting_has_its_part_in_what_is_written(tmp_path):
    instead = Rule("loss", better_than="untuned", instead="rouge_l")
    settings = Settings(
        "tuned",
        max_leakage=0.5,
        safety=True,
        rules=(instead,),
        safety_test=SafetyTestRule(min_catch_rate=0.9, max_false_alarms=0.25),
        model_kind="gemini",
    )
    documents = {
        "metrics": {
            "baseline": "untuned",
            "paired": {"rouge_l": {"tuned": {"difference": 0.25, "low": 0.125, "high": 0.5}}},
        },
        "safety": {
            "limits": {"max_violation_rate": 0.25, "max_blocked_rate": 0.25},
            "contestants": {
                "tuned": {
                    "rows": 8,
                    "violations": {"rate": 0.125, "upper": 0.5},
                    "blocked": {"rate": 0.0, "upper": 0.25},
                    "passed": False,
                }
            },
        },
        "card": {"leakage": {"exact": {"share": 0.25}, "near": {"share": 0.75}}},
        "safety_test": {
            "catch_rate": {"value": 0.95, "low": 0.9, "high": 1.0, "trials": 40},
            "false_alarms": {"value": 0.25, "low": 0.0, "high": 0.5, "trials": 4},
        },
    }
    outcome, decision = decided(tmp_path, settings, **documents)
    fields = ("rule", "observed", "bound", "limit", "passed", "text")
    expected = [
        (
            *("leakage exact", 0.25, 0.25, 0.5, True),
            "25.00% of the test rows also stand exactly in train, within the limit of 50.00%",
        ),
        (
            *("leakage near", 0.75, 0.75, 0.5, False),
            "75.00% of the test rows also stand nearly in train, above the limit of 50.00%",
        ),
        (
            *("safety violations", 0.125, 0.5, 0.25, False),
            "violations: 12.50% of 8 rows, at most 50.00% at the bound, above the limit of 25.00%",
        ),
        (
            *("safety blocked", 0, 0.25, 0.25, True),
            "blocked: 0.00% of 8 rows, at most 25.00% at the bound, within the limit of 25.00%",
        ),
        (
            *("safety", None, None, None, False),
            "the safety step found tuned outside its policy",
        ),
        (
            *("safety_test catch_rate", 0.95, 0.9, 0.9, True),
            "harmful prompts caught: 95.0% of 40, 90.0% at the bound, within at least 90.0%",
        ),
        (
            *("safety_test false_alarms", 0.25, 0.5, 0.25, False),
            "benign prompts stopped: 25.0% of 4, 50.0% at the bound, outside at most 25.0%",
        ),
        (
            *("rouge_l better_than untuned", 0.25, 0.125, 0, True),
            "rouge_l of tuned differs from untuned by +0.25 F, 0 to 1, +0.125 at the bound:"
            " better by more than 0 (in place of loss, which model.kind 'gemini' gives no figure"
            " for)",
        ),
    ]
    assert decision == {
        "contestant": "tuned",
        "passed": False,
        "reasons": [dict(zip(fields, reason, strict=True)) for reason in expected],
    }
    failed = [reason[-1] for reason in expected if not reason[-2]]
    assert outcome.facts == {"passed": False, "failed": failed}


def test_the_decision_is_one_line_and_equal_decisions_are_equal_bytes(tmp_path):
    settings = Settings("höher", None, False, (Rule("loss", at_most=3.0),))
    decided(tmp_path, settings, metrics={"contestants": {}})
    reason = (
        '{"bound":null,"limit":3,"observed":null,"passed":false,"rule":"loss at_most",'
        '"text":"loss has no interval for höher: the evaluation did not measure it"}'
    )
    written = f'{{"contestant":"höher","passed":false,"reasons":[{reason}]}}\n'
    assert (tmp_path / "decision.json").read_bytes() == written.encode()


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
