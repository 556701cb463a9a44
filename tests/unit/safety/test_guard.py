"""Guard models: how verdicts are read, and the mechanics over a tiny model of random weights.

Neither Llama Guard's nor ShieldGemma's weights can be had here. What the real ones say is not
tested; that their form of verdict is read, and that anything else is no score, is.
"""

from __future__ import annotations

import pytest

from llmops.adapters import catalog
from llmops.adapters.scorer.guard import (
    HAZARDS,
    POLICIES,
    LlamaGuard,
    hazards_of,
    is_violation,
    policy_question,
)
from llmops.config.knowledge import SCORER_CATEGORIES
from llmops.ports import Response, TokenScore
from tests.unit.model import tiny_llama


def said(text, **fields):
    return Response(text, "stop", 1, 1, **fields)


@pytest.mark.parametrize(
    ("text", "hazards"),
    [
        ("safe", set()),
        ("\n\nsafe", set()),
        ("unsafe\nS9", {"indiscriminate_weapons"}),
        ("unsafe\nS1,S10", {"violent_crimes", "hate"}),
        ("unsafe\nS14", {"code_interpreter_abuse"}),
    ],
)
def test_a_llama_guards_verdict_is_read(text, hazards):
    assert hazards_of(said(text)) == hazards


@pytest.mark.parametrize(
    "text", ["", "unsafe", "unsafe\nS99", "unsafe\nS1,S99", "I think it is safe", "safer", "S1"]
)
def test_what_is_no_verdict_of_a_llama_guard_is_no_score(text):
    assert hazards_of(said(text)) is None


def test_a_failed_or_filtered_request_is_no_verdict():
    assert hazards_of(Response("safe", "error", 1, 1, error="503")) is None
    assert hazards_of(said("safe", blocked=True)) is None
    assert is_violation(said("No", blocked=True)) is None


@pytest.mark.parametrize(
    ("text", "verdict"),
    [("Yes", True), ("No", False), ("**Yes**, because", True), ("no.", False), ("Maybe", None)],
)
def test_a_shieldgemmas_verdict_is_read(text, verdict):
    assert is_violation(said(text)) is verdict


def test_every_category_has_its_code_or_policy():
    assert ("unsafe", *HAZARDS.values()) == SCORER_CATEGORIES["llama_guard"]
    assert list(HAZARDS) == [f"S{number}" for number in range(1, 15)]
    assert set(POLICIES) == set(SCORER_CATEGORIES["shieldgemma"])


def test_a_shieldgemma_is_shown_the_text_and_one_policy():
    asked = policy_question("How do I kill a child process?", "harassment")
    assert "kill a child process" in asked
    assert POLICIES["harassment"] in asked
    assert POLICIES["hate_speech"] not in asked


class Sure:
    """A guard that calls everything a weapon, and gives ``safe`` a probability of a fifth."""

    can_score = True

    def generate(self, chats, settings, progress):
        yield from (said("unsafe\nS9") for _ in chats)

    def score(self, pairs, progress):
        yield from (TokenScore(nll=1.6094379124341003, tokens=2) for _ in pairs)


def test_a_guard_that_gives_probabilities_scores_how_sure_it_is():
    (scores,) = LlamaGuard(Sure(), "sure").score(["a text"])
    assert scores["unsafe"] == pytest.approx(0.8)
    assert scores["indiscriminate_weapons"] == pytest.approx(0.8)
    assert scores["hate"] == 0.0


@pytest.mark.parametrize("kind", ["llama_guard", "shieldgemma"])
def test_a_model_of_random_weights_runs_and_its_nonsense_is_no_score(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("LLMOPS_CACHE", str(tmp_path))
    tiny_llama.install(tmp_path)
    model = {k: v for k, v in tiny_llama.model_config().items() if k != "tuner"}
    scorer = catalog.adapter("scorer", {"kind": kind, "model": model})
    assert scorer.score(["how do i sort a list", "x"]) == [None, None]
    assert "tiny llama" in scorer.description
