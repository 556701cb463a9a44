"""One question and its answer: the policy before, the prompt, the policy after.

What stands between the two halves, asking the generator, is the caller's: one by one, in batches
or as a stream. Pure but for the scorer. A scorer that fails blocks nothing by itself: the policy
says what an unscored text leads to, and by default that is to block.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from llmops.answering.model import OpenModel
from llmops.ports.model import Chat, Citation, Grounding, Message, Response
from llmops.prompts.prompt import Prompt
from llmops.safety.decide import decide_input, decide_output
from llmops.safety.verdict import LAYERS, SEVERITY, Verdict

_log = logging.getLogger("llmops.answering")


@dataclass(frozen=True)
class Asked:
    """A question that was judged; ``chat`` is null if it must not reach the model."""

    question: str  # the last user text, as it was given
    chat: Chat | None
    verdict: Verdict


@dataclass(frozen=True)
class Answer:
    """What may be shown of an answer, and all that was found on the way. Seconds, tokens, money.

    ``text`` is the policy's message where the answer is blocked. ``output`` is null if the model
    was not asked. ``finish_reason`` is the provider's, or ``safety`` where the policy blocked.
    ``raw`` is null where the policy changed or withheld a text, which it would show. ``grounding``
    and ``trace`` are those of the response; a blocked answer rests on nothing that is
    shown, and its trace is told without the texts of its steps.
    """

    question: str
    text: str
    blocked: bool
    finish_reason: str
    input: Verdict
    output: Verdict | None
    scores: Mapping[str, float | None]
    citations: tuple[Citation, ...]
    prompt_tokens: int
    output_tokens: int
    latency_s: float
    cost: float | None
    error: str | None
    raw: Mapping[str, Any] | None
    grounding: Grounding | None = None
    trace: tuple[Mapping[str, Any], ...] = ()

    @property
    def action(self) -> str:
        """The gravest thing that the policy did: allow, flag, redact or block."""
        verdicts = [self.input] if self.output is None else [self.input, self.output]
        return max((one.action for one in verdicts), key=lambda a: SEVERITY.get(a, 0))

    @property
    def blocked_by(self) -> tuple[str, ...]:
        """The layers that blocked: ``provider``, ``thresholds``, ``rules``; empty if none did."""
        verdicts = [self.input] if self.output is None else [self.input, self.output]
        found = {f.layer for one in verdicts for f in one.findings if f.action == "block"}
        return tuple(layer for layer in LAYERS if layer in found)


def chat_of(prompt: Prompt, messages: Sequence[Message]) -> Chat:
    """Return the chat of a conversation: user texts in the prompt's template, answers as they are.

    System text and examples of the prompt come first; a system message of the conversation, where
    one is allowed, follows the prompt's own.
    """
    opening = _opening(prompt)
    turns = [
        Message("user", prompt.render(message.text)) if message.role == "user" else message
        for message in messages
    ]
    system = [message.text for message in [*opening, *turns] if message.role == "system"]
    rest = [message for message in [*opening, *turns] if message.role != "system"]
    return (*([Message("system", "\n\n".join(system))] if system else []), *rest)


@lru_cache(maxsize=64)
def _opening(prompt: Prompt) -> Chat:
    """Return what stands before every conversation: the prompt's system text and examples."""
    return prompt.chat("")[:-1]


def ask(model: OpenModel, messages: Sequence[Message]) -> Asked:
    """Judge a conversation that ends with a question, and make the chat for the model."""
    verdicts = [judge_input(model, message.text) for message in messages]
    blocked = next((one for one in verdicts if one.blocked), None)
    question = messages[-1].text
    if blocked is not None:
        return Asked(question, None, blocked)
    allowed = [
        replace(message, text=one.text) for message, one in zip(messages, verdicts, strict=True)
    ]
    return Asked(question, chat_of(model.prompt, allowed), _merged(verdicts))


def judge_input(model: OpenModel, text: str) -> Verdict:
    """Judge one text that somebody sent."""
    scores = score(model, text) if model.policy.input.score else None
    return decide_input(text, model.policy, scores)


def answer(model: OpenModel, asked: Asked, response: Response, latency_s: float) -> Answer:
    """Judge what the model said."""
    if response.finish_reason == "error":
        return _unanswered(asked, response, latency_s)
    scores = None if response.blocked and not response.text else score(model, response.text)
    verdict = decide_output(response, scores, model.policy)
    return Answer(
        question=asked.question,
        text=verdict.text,
        blocked=verdict.blocked,
        finish_reason="safety" if verdict.blocked else response.finish_reason,
        input=asked.verdict,
        output=verdict,
        scores={**(response.safety or {}), **(scores or {})},
        citations=() if verdict.blocked else response.citations,
        prompt_tokens=response.prompt_tokens,
        output_tokens=response.output_tokens,
        latency_s=latency_s,
        cost=model.price.of(response.prompt_tokens, response.output_tokens),
        error=None,
        raw=response.raw if verdict.text == response.text or not response.text else None,
        grounding=None if verdict.blocked else response.grounding,
        trace=_shown_trace(response, verdict),
    )


def refused(model: OpenModel, asked: Asked) -> Answer:
    """Return the answer to a question that the policy blocked: its message."""
    return Answer(
        question=asked.question,
        text=model.policy.message,
        blocked=True,
        finish_reason="safety",
        input=asked.verdict,
        output=None,
        scores={},
        citations=(),
        prompt_tokens=0,
        output_tokens=0,
        latency_s=0.0,
        cost=0.0,
        error=None,
        raw=None,
    )


def failed(asked: Asked, problem: str, latency_s: float) -> Answer:
    """Return the answer of a model that gave none."""
    return _unanswered(asked, Response("", "error", 0, 0, error=problem), latency_s)


def _unanswered(asked: Asked, response: Response, latency_s: float) -> Answer:
    return Answer(
        question=asked.question,
        text="",
        blocked=False,
        finish_reason="error",
        input=asked.verdict,
        output=None,
        scores={},
        citations=(),
        prompt_tokens=response.prompt_tokens,
        output_tokens=response.output_tokens,
        latency_s=latency_s,
        cost=None,
        error=response.error or "the model failed",
        raw=response.raw,
        trace=response.trace,
    )


def _shown_trace(response: Response, verdict: Verdict) -> tuple[Mapping[str, Any], ...]:
    """Return the steps of a chain; without texts, which the policy may have changed or blocked."""
    if verdict.text == response.text:
        return response.trace
    return tuple(
        {name: value for name, value in step.items() if name != "text"} for step in response.trace
    )


def score(model: OpenModel, text: str) -> Mapping[str, float] | None:
    """Have a text scored; None if the scorer cannot or fails."""
    try:
        return model.scorer.score([text])[0]
    except Exception:  # noqa: BLE001 - whatever broke it, the policy decides
        _log.exception("the scorer failed; the policy's on_scorer_failure decides")
        return None


BYTES_A_TOKEN = 4  # of the estimate, where a provider did not count


def estimated_tokens(text: str) -> int:
    """Return about how many tokens a text has: one for every four bytes."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_A_TOKEN)


def _merged(verdicts: Sequence[Verdict]) -> Verdict:
    if len(verdicts) == 1:
        return verdicts[0]
    gravest = max(verdicts, key=lambda one: SEVERITY.get(one.action, 0))
    return replace(gravest, findings=tuple(f for one in verdicts for f in one.findings))


def as_json(answer: Answer, model: OpenModel, *, raw: bool = False) -> dict[str, Any]:
    """Return the whole response as commands and routes give it: plain JSON.

    ``safety`` has every category with its score, its threshold (null: none) and whether it is
    broken; ``policy`` tells what each of the three layers found, before and after. ``grounding`` is
    null where nothing was retrieved; ``trace`` has what each step of a chain did.
    """
    made: dict[str, Any] = {
        "model": {
            "name": model.name,
            "version": model.version,
            "alias": model.alias,
            "digest": model.digest,
            "provider": model.reference.provider,
            "base": model.reference.base,
            "prompt": model.prompt.name,
            "prompt_sha256": model.prompt_sha256,
        },
        "text": answer.text,
        "blocked": answer.blocked,
        "blocked_by": list(answer.blocked_by),
        "finish_reason": answer.finish_reason,
        "safety": _safety(answer, model.policy.thresholds),
        "policy": {
            "action": answer.action,
            "input": answer.input.as_json(),
            "output": None if answer.output is None else answer.output.as_json(),
        },
        "citations": [asdict(citation) for citation in answer.citations],
        "grounding": grounding_json(answer.grounding),
        "trace": [dict(step) for step in answer.trace],
        "tokens": {"prompt": answer.prompt_tokens, "output": answer.output_tokens},
        "latency_s": round(answer.latency_s, 6),
        "cost": answer.cost,
        "currency": model.price.currency,
        "error": answer.error,
    }
    return made | {"raw": answer.raw} if raw else made


def grounding_json(grounding: Grounding | None) -> dict[str, Any] | None:
    """Return what an answer rests on as plain JSON; the passages' texts are left out."""
    if grounding is None:
        return None
    return {
        "passages": [
            {"number": number, "id": one.id, "title": one.title, "uri": one.uri}
            for number, one in enumerate(grounding.passages, start=1)
        ],
        "cited": list(grounding.cited),
        "unknown": list(grounding.unknown),
    }


def _safety(answer: Answer, thresholds: Mapping[str, float]) -> dict[str, Any]:
    named = sorted({*answer.scores, *(thresholds if answer.output is not None else ())})
    return {
        category: {
            "score": _finite(answer.scores.get(category)),
            "threshold": thresholds.get(category),
            "violated": _broken(answer.scores.get(category), thresholds.get(category)),
        }
        for category in named
    }


def _finite(score: float | None) -> float | None:
    return score if score is not None and math.isfinite(score) else None


def _broken(score: float | None, threshold: float | None) -> bool:
    return threshold is not None and (_finite(score) is None or float(score or 0) >= threshold)
