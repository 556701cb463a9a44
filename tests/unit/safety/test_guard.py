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
from llmops.ports.model import Response, TokenScore
from tests.unit.model import tiny_llama
from tests.unit.safety import tiny_gemma


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


def installed(monkeypatch, cache, kind, install):
    """Put a tiny model into the cache as `models pull` does, and open it as a guard."""
    monkeypatch.setenv("LLMOPS_CACHE", str(cache))
    install(cache)
    model = {name: value for name, value in tiny_llama.model_config().items() if name != "tuner"}
    return catalog.adapter("scorer", {"kind": kind, "model": model})


def test_a_shieldgemma_runs_here_and_scores_how_likely_it_says_yes(tmp_path, monkeypatch):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    scorer = installed(monkeypatch, tmp_path, "shieldgemma", tiny_gemma.install)
    texts = ["how do i sort a list", "close the file", "x"]
    found = scorer.score(texts)
    assert len({tuple(one.values()) for one in found}) > 1
    assert all(0 <= score <= 1 for one in found for score in one.values())

    folder = tiny_gemma.folder(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    said = policy_question(texts[0], "harassment")
    prompt = f"<start_of_turn>user\n{said}<end_of_turn>\n<start_of_turn>model\n"
    ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        logits = model(ids).logits[0, -1]
    words = [tokenizer("Yes").input_ids[0], tokenizer("No").input_ids[0]]
    expected = torch.softmax(logits[words], 0)[0].item()
    assert found[0]["harassment"] == pytest.approx(expected, abs=1e-4)


def test_a_shieldgemma_that_says_neither_yes_nor_no_gives_no_score(tmp_path, monkeypatch):
    scorer = installed(monkeypatch, tmp_path, "shieldgemma", tiny_gemma.install_speechless)
    assert scorer.score(["how do i sort a list"]) == [None]


def test_a_guard_of_another_architecture_is_no_model_that_answers(tmp_path, monkeypatch):
    from llmops.errors import BackendError

    with pytest.raises(BackendError, match="of type 'gemma2'"):
        installed(monkeypatch, tmp_path, "llama_guard", tiny_gemma.install)


@pytest.mark.parametrize("kind", ["llama_guard", "shieldgemma"])
def test_a_model_of_random_weights_runs_and_its_nonsense_is_no_score(kind, tmp_path, monkeypatch):
    scorer = installed(monkeypatch, tmp_path, kind, tiny_llama.install)
    assert scorer.score(["how do i sort a list", "x"]) == [None, None]
    assert "tiny llama" in scorer.description


@pytest.mark.parametrize(
    ("choice", "needs"),
    [
        ("profanity", []),
        ("llama_guard", ["safety.scorer.model.source.revision=" + "0" * 40]),
        ("shieldgemma", ["safety.scorer.model.endpoint=http://127.0.0.1:9/v1"]),
        ("shieldgemma_here", ["safety.scorer.model.source.revision=" + "0" * 40]),
    ],
)
def test_a_scorer_is_chosen_by_its_group_alone_and_brings_its_thresholds(choice, needs):
    from llmops import api

    config = api.validate(["+experiment=so_python", f"safety={choice}", *needs]).config
    kind = config["safety"]["scorer"]["kind"]
    assert config["safety"]["thresholds"]
    assert set(config["safety"]["thresholds"]) <= set(SCORER_CATEGORIES[kind])
