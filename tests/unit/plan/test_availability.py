"""The plan says beforehand what the model's provider cannot give."""

from __future__ import annotations

from llmops.plan.availability import notes

CONFIG = {
    "model": {"kind": "gemini"},
    "evaluation": {"metrics": ["loss", "perplexity", "chrf"]},
    "gate": {"rules": [{"metric": "loss", "better_than": "untuned", "instead": "chrf"}]},
    "safety": {"scorer": {"kind": "profanity"}},
}


def test_every_gap_is_told_with_what_happens_instead():
    assert notes(CONFIG) == (
        "loss and perplexity: not available with model.kind 'gemini', which gives no "
        "probabilities; the table shows no figure",
        "the gate judges chrf in place of loss",
        "safety=profanity judges; gemini rates its answers too: safety=gemini",
    )


def test_a_provider_that_gives_all_has_no_note():
    assert notes({**CONFIG, "model": {"kind": "local"}}) == ()


def test_a_pipeline_without_a_model_has_none():
    assert notes({"model": None, "evaluation": None, "gate": None, "safety": None}) == ()
