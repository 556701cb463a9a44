"""Gemini's own search: how it is asked for, and what its answer rests on."""

from __future__ import annotations

from dataclasses import replace

from llmops.adapters.model.gemini_request import Style, body_of
from llmops.adapters.model.gemini_response import response_of
from llmops.ports.model import GenerationSettings, Message
from llmops.safety.decide import decide_output
from tests.fakes.safety_policies import policy

STYLE = Style(
    filters={},
    filter_method=None,
    thinking_level=None,
    thinking_budget_tokens=None,
    takes_schema=True,
)
CHAT = (Message("user", "Who wrote Python?"),)
PLAIN = GenerationSettings(max_new_tokens=8)
TEXT = "Grüße: Guido wrote it."
ANSWER = {
    "candidates": [
        {
            "content": {"parts": [{"text": TEXT}]},
            "finishReason": "STOP",
            "groundingMetadata": {
                "groundingChunks": [
                    {"web": {"uri": "https://a.example", "title": "A"}},
                    {"web": {"uri": "https://b.example", "title": "B"}},
                ],
                "groundingSupports": [
                    {
                        "segment": {"startIndex": 9, "endIndex": 24},
                        "groundingChunkIndices": [1, 7],
                    }
                ],
            },
        }
    ]
}


def test_search_is_asked_for_only_where_the_settings_say_so():
    assert "tools" not in body_of(CHAT, PLAIN, STYLE)
    body = body_of(CHAT, replace(PLAIN, search=True), STYLE)
    assert body["tools"] == [{"googleSearch": {}}]
    assert "tools" not in body["generationConfig"]


def test_what_was_found_becomes_passages_and_citations_in_characters():
    response = response_of(ANSWER, latency_s=None)
    assert [one.uri for one in response.grounding.passages] == [
        "https://a.example",
        "https://b.example",
    ]
    assert (response.grounding.cited, response.grounding.unknown) == ((2,), ())
    (one,) = response.citations
    assert (TEXT[one.start : one.end], one.title) == ("Guido wrote it.", "B")


def test_what_an_answer_rests_on_is_not_taken_for_repeating_a_source():
    strict = policy(output__max_cited_share=0.0, output__citation_licences=[])
    verdict = decide_output(response_of(ANSWER, latency_s=None), {"profanity": 0.0}, strict)
    assert verdict.findings == ()


def test_an_answer_without_search_has_no_grounding():
    plain = {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}]}
    assert response_of(plain, latency_s=None).grounding is None
