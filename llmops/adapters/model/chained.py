"""A generator that asks a chain of steps: to its caller one answer, with a trace of every step.

Questions that are asked together go through each step together. What ends the chain early is the
answer; a step that fails or takes too long is an error of that question.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLong
from dataclasses import dataclass, replace
from typing import Any

from llmops.errors import BackendError
from llmops.grounding.chain import Step, Way, chat_of, choice_of, shown
from llmops.grounding.citing import Style, cited, grounded, question_of
from llmops.ports.model import (
    Chat,
    GenerationSettings,
    Generator,
    Passage,
    Response,
    Scorer,
    TokenScore,
)
from llmops.ports.progress import Progress
from llmops.prompts.prompt import Prompt
from llmops.safety.decide import decide_output
from llmops.safety.policy import Policy

Retrieve = Callable[[str, int], tuple[Passage, ...]]


@dataclass(frozen=True)
class Parts:
    """What the steps need: models by step name, passages, and who judges a step's own safety."""

    models: Mapping[str, Generator]
    retrieve: Retrieve
    scorer: Callable[[], Scorer]
    policy: Policy
    style: Style


class ChainedGenerator:
    """Answers by a chain; see ``Generator``. It cannot score: its answer has many causes."""

    can_score = False

    def __init__(self, steps: Sequence[Step], prompt: Prompt, parts: Parts) -> None:
        self.steps, self.prompt, self.parts = tuple(steps), prompt, parts

    def generate(
        self, chats: Sequence[Chat], settings: GenerationSettings, progress: Progress
    ) -> Iterator[Response]:
        """Yield one response a chat, in order."""
        ways = [Way(question_of(self.prompt, chat[-1].text), chat) for chat in chats]
        for place, step in enumerate(self.steps, start=1):
            active = [way for way in ways if way.ended is None]
            if active:
                self._do(step, active, settings)
            progress(len(chats) * place / len(self.steps), len(chats), step.name)
        yield from (_response(way) for way in ways)

    def stream(self, chat: Chat, settings: GenerationSettings) -> Iterator[str | Response]:
        """Yield the whole answer as one piece: what is checked cannot be shown before."""
        (response,) = self.generate([chat], settings, _quiet)
        if response.text:
            yield response.text
        yield response

    def score(self, pairs: Iterable[tuple[Chat, str]], progress: Progress) -> Iterator[TokenScore]:
        """Refuse: a chain gives no probability of a given text.

        Raises:
            BackendError: Always.
        """
        del pairs, progress
        raise BackendError(
            "a chain gives no probability of a given text",
            hint="leave loss and perplexity out of evaluation.metrics",
        )

    def _do(self, step: Step, ways: Sequence[Way], settings: GenerationSettings) -> None:
        started = time.monotonic()
        try:
            found = in_time(lambda: self._found(step, ways, settings), step.timeout_s * len(ways))
        except TooLong:
            found = [_error(f"it took over {step.timeout_s:g} s")] * len(ways)
        seconds = (time.monotonic() - started) / len(ways)
        verdicts = self._verdicts(step, found)
        for way, one, blocked_by in zip(ways, found, verdicts, strict=True):
            way.seconds += seconds
            _apply(step, way, one, seconds, blocked_by)

    def _found(
        self, step: Step, ways: Sequence[Way], settings: GenerationSettings
    ) -> Sequence[Response | tuple[Passage, ...]]:
        if step.use == "retrieve":
            return [self.parts.retrieve(way.question, step.passages) for way in ways]
        chats = [self._chat(step, way) for way in ways]
        asked = replace(settings, max_new_tokens=step.max_new_tokens or settings.max_new_tokens)
        return list(self.parts.models[step.name].generate(chats, asked, _quiet))

    def _chat(self, step: Step, way: Way) -> Chat:
        chat = chat_of(step, way)
        return grounded(chat, way.passages, self.parts.style) if step.use == "answer" else chat

    def _verdicts(self, step: Step, found: Sequence[Any]) -> list[str | None]:
        """Return what of a step's own thresholds each text breaks, null for nothing."""
        if step.safety is None:
            return [None] * len(found)
        policy = replace(self.parts.policy, thresholds=step.safety.thresholds)
        texts = [one.text if isinstance(one, Response) else "" for one in found]
        scores = self.parts.scorer().score(texts)
        broken = []
        for one, rated in zip(found, scores, strict=True):
            is_said = isinstance(one, Response) and one.finish_reason != "error"
            findings = decide_output(one, rated, policy).layer("thresholds") if is_said else ()
            details = [finding.detail for finding in findings if finding.action == "block"]
            broken.append("; ".join(details) or None)
        return broken


def in_time(work: Callable[[], Any], seconds: float) -> Any:
    """Return what ``work`` gives within so many seconds.

    Work that takes longer is left behind: a request ends by its own timeout, a model on this
    machine goes on until its answer is done.

    Raises:
        TimeoutError: If it takes longer.
    """
    pool = ThreadPoolExecutor(1, "chain")
    try:
        return pool.submit(work).result(timeout=seconds)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _apply(step: Step, way: Way, found: Any, seconds: float, broken: str | None) -> None:
    """Write what a step gave into the question's way."""
    trace: dict[str, Any] = {"step": step.name, "use": step.use, "seconds": round(seconds, 6)}
    way.trace.append(trace)
    if not isinstance(found, Response):
        way.passages = found
        trace["passages"] = [passage.id for passage in found]
        return
    way.prompt_tokens += found.prompt_tokens
    way.output_tokens += found.output_tokens
    trace |= {"text": shown(found.text), "tokens": found.prompt_tokens + found.output_tokens}
    if found.finish_reason == "error":
        trace["error"] = found.error
        way.ended = _error(f"step {step.name}: {found.error}")
    elif found.blocked:
        trace["blocked"] = found.block_reason
        way.ended = replace(found, text="")
    elif broken:
        trace["blocked"] = broken
        why = f"step {step.name}: {broken}"
        way.ended = replace(found, text="", blocked=True, block_reason=why, blocked_by="thresholds")
    elif step.use == "answer":
        way.answered = found
    else:
        _choose(step, way, found, trace)


def _choose(step: Step, way: Way, found: Response, trace: dict[str, Any]) -> None:
    """End the way with the step's message unless its choice goes on; no choice does not."""
    choice = choice_of(found.text, step.choices)
    trace["choice"] = choice
    if choice not in step.go_on:
        trace["ended"] = True
        way.ended = Response(step.message, "stop", 0, 0)


def _response(way: Way) -> Response:
    response = way.ended or way.answered or _error("the chain gave no answer")
    if way.ended is None and way.passages:
        response = cited(response, way.passages)
    return replace(
        response,
        prompt_tokens=way.prompt_tokens,
        output_tokens=way.output_tokens,
        latency_s=way.seconds,
        trace=tuple(way.trace),
    )


def _error(why: str) -> Response:
    return Response("", "error", 0, 0, error=why)


def _quiet(done: float, total: float | None, note: str = "") -> None:
    """Report the progress of one step to nobody."""
