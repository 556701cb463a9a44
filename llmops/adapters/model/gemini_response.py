"""What Gemini answered, in our shape: text, ratings, blocks, citations, tokens.

A blocked candidate comes without content and with ``finishReason``; a blocked prompt comes without
candidates and with ``promptFeedback``. Scores are the provider's, in [0, 1]; where it gives a word
only (``LOW``), there is no score. Knows no client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmops.ports.model import Citation, Grounding, Passage, Response

CATEGORY_PREFIX = "HARM_CATEGORY_"
REASONS = {"STOP": "stop", "MAX_TOKENS": "length", "RECITATION": "recitation"}
BLOCKED = ("SAFETY", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "RECITATION", "IMAGE_SAFETY")
SHOWN = ("modelVersion", "responseId", "promptFeedback", "usageMetadata")


def response_of(answer: Mapping[str, Any], *, latency_s: float | None) -> Response:
    """Return the response in ``answer``, the service's JSON with its own (camelCase) names."""
    usage = answer.get("usageMetadata") or {}
    tokens = {
        "prompt_tokens": int(usage.get("promptTokenCount") or 0),
        # Thoughts are generated and paid for as well.
        "output_tokens": int(usage.get("candidatesTokenCount") or 0)
        + int(usage.get("thoughtsTokenCount") or 0),
    }
    candidates = answer.get("candidates") or []
    if not candidates:
        return _without_candidate(answer, tokens, latency_s)
    candidate = candidates[0]
    said = str(candidate.get("finishReason") or "STOP")
    ratings = candidate.get("safetyRatings") or []
    blocked = said in BLOCKED or any(rating.get("blocked") for rating in ratings)
    reason = "safety" if said in BLOCKED and said != "RECITATION" else REASONS.get(said, "error")
    text = "" if blocked else text_of(candidate)
    grounding = None if blocked else _grounding(candidate, text)
    return Response(
        text=text,
        finish_reason="safety" if blocked and reason == "stop" else reason,
        blocked=blocked,
        safety=_scores(ratings),
        citations=(*_citations(candidate), *(grounding.citations if grounding else ())),
        error=f"the model stopped with {said}" if reason == "error" else None,
        block_reason=said if blocked else None,
        latency_s=latency_s,
        raw=_raw(answer, candidate, blocked=blocked),
        grounding=grounding,
        prompt_tokens=tokens["prompt_tokens"],
        output_tokens=tokens["output_tokens"],
    )


def text_of(candidate: Mapping[str, Any]) -> str:
    """Return a candidate's text, without its thoughts."""
    parts = (candidate.get("content") or {}).get("parts") or []
    return "".join(part.get("text") or "" for part in parts if not part.get("thought"))


def _without_candidate(
    answer: Mapping[str, Any], tokens: Mapping[str, int], latency_s: float | None
) -> Response:
    feedback = answer.get("promptFeedback") or {}
    why = feedback.get("blockReason")
    return Response(
        text="",
        finish_reason="safety" if why else "error",
        prompt_tokens=tokens["prompt_tokens"],
        output_tokens=tokens["output_tokens"],
        blocked=bool(why),
        safety=_scores(feedback.get("safetyRatings") or []),
        error=None if why else "the service sent no answer",
        block_reason=f"{why}" if why else None,
        latency_s=latency_s,
        raw=_raw(answer, {}, blocked=bool(why)),
    )


def _scores(ratings: Sequence[Mapping[str, Any]]) -> Mapping[str, float] | None:
    scores: dict[str, float] = {}
    for rating in ratings:
        name = str(rating.get("category", "")).removeprefix(CATEGORY_PREFIX).lower()
        for key, field in ((name, "probabilityScore"), (f"{name}_severity", "severityScore")):
            if rating.get(field) is not None:
                scores[key] = float(rating[field])
    return scores or None


def _citations(candidate: Mapping[str, Any]) -> tuple[Citation, ...]:
    found = (candidate.get("citationMetadata") or {}).get("citations") or []
    return tuple(
        Citation(
            start=int(one.get("startIndex") or 0),
            end=int(one.get("endIndex") or 0),
            uri=one.get("uri"),
            title=one.get("title"),
            licence=one.get("license"),
        )
        for one in found
    )


def _grounding(candidate: Mapping[str, Any], text: str) -> Grounding | None:
    """Return what the service's own search found, and which of it each part of the answer rests on.

    Segments count bytes of UTF-8; citations count characters.
    """
    told = candidate.get("groundingMetadata") or {}
    pages = [chunk.get("web") or {} for chunk in told.get("groundingChunks") or []]
    if not pages:
        return None
    encoded = text.encode("utf-8")
    citations, cited = [], set()
    for support in told.get("groundingSupports") or []:
        segment = support.get("segment") or {}
        start, end = (
            len(encoded[: int(segment.get(key) or 0)].decode("utf-8", "ignore"))
            for key in ("startIndex", "endIndex")
        )
        for place in support.get("groundingChunkIndices") or []:
            if 0 <= place < len(pages):
                page = pages[place]
                citations.append(Citation(start, end, page.get("uri"), page.get("title")))
                cited.add(place + 1)
    passages = tuple(
        Passage(str(page.get("uri") or ""), "", page.get("title"), page.get("uri"))
        for page in pages
    )
    return Grounding(passages, tuple(sorted(cited)), (), tuple(citations))


def _raw(
    answer: Mapping[str, Any], candidate: Mapping[str, Any], *, blocked: bool
) -> Mapping[str, Any]:
    """Return what the service answered; without the text of what it blocked."""
    hidden = ("content",) if blocked else ()
    said = {name: value for name, value in candidate.items() if name not in hidden}
    shown = {name: answer[name] for name in SHOWN if answer.get(name) is not None}
    return {**shown, **({"candidates": [said]} if said else {})}
