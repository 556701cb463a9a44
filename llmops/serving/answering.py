"""What the answering routes share: choose a model, ask it under its policy, keep the record."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace

from llmops.answering import exchange
from llmops.answering.asking import with_limits
from llmops.answering.exchange import Answer, Asked
from llmops.answering.model import OpenModel
from llmops.answering.tracing import Tracer
from llmops.api.answering import record_of
from llmops.errors import BackendError
from llmops.ports.model import GenerationSettings, Message
from llmops.serving.batcher import Late, Stream
from llmops.serving.calls import now
from llmops.serving.commit import GroupCommit
from llmops.serving.faults import Fault, busy
from llmops.serving.metrics import Metrics
from llmops.serving.models import Live, Models
from llmops.serving.settings import ServeSettings
from llmops.traffic.records import answer_line
from llmops.traffic.sessions import Sessions

QUICK_SCORERS = frozenset({"profanity"})  # microseconds a text: a thread would cost more
QUICK_CHARACTERS = 8_000  # of a text that is judged without a thread


@dataclass(frozen=True)
class Wish:
    """What a client asks for, in the words of ``GenerationSettings``; null takes the config's."""

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Kept:
    """An answer, its record's id, and the model that gave it."""

    id: str
    answer: Answer
    model: OpenModel


@dataclass
class Answering:
    """The server's parts, together."""

    settings: ServeSettings
    models: Models
    commit: GroupCommit
    metrics: Metrics
    sessions: Sessions
    tracer: Tracer
    threads: ThreadPoolExecutor  # of streams

    async def ask(
        self,
        messages: Sequence[Message],
        wish: Wish,
        *,
        route: str,
        client: str,
        model: str | None = None,
        session: str | None = None,
    ) -> Kept:
        """Answer the last message, keep the record, and return both.

        Raises:
            Fault: If the model is unknown, does not answer or not in time, or the log refuses.
        """
        identity = self.commit.log.new_id()
        live = self.models.choose(session or identity, model)
        settings = self._settings(live.model, wish)
        self._check_size(messages)
        asked = await self._judged_input(live.model, messages)
        started = now()
        span = self.tracer.begin(live.model, settings, messages)
        answer, fault = await self._answered(live, asked, settings, started)
        span.tell(answer)
        await self._keep(identity, live.model, answer, route, client, session)
        if fault is not None:
            raise fault
        return Kept(identity, answer, live.model)

    async def begin(
        self,
        messages: Sequence[Message],
        wish: Wish,
        *,
        route: str,
        client: str,
        model: str | None = None,
    ) -> Begun:
        """Begin to stream an answer.

        Raises:
            Fault: If the model is unknown.
        """
        identity = self.commit.log.new_id()
        live = self.models.choose(identity, model)
        settings = self._settings(live.model, wish)
        self._check_size(messages)
        asked = await self._judged_input(live.model, messages)
        span = self.tracer.begin(live.model, settings, messages)
        stream = Stream(live.model, asked, settings, self.threads)

        async def keep(answer: Answer) -> None:
            span.tell(answer)
            await self._keep(identity, live.model, answer, route, client, None)

        return Begun(identity, live.model, asked, stream, keep, self.settings.timeouts.answer_s)

    async def _judged_input(self, model: OpenModel, messages: Sequence[Message]) -> Asked:
        size = sum(len(message.text) for message in messages)
        scored = model.policy.input.score and model.scorer_kind not in QUICK_SCORERS
        if size <= QUICK_CHARACTERS and not scored:
            return exchange.ask(model, messages)
        return await asyncio.to_thread(exchange.ask, model, messages)

    async def _answered(
        self, live: Live, asked: Asked, settings: GenerationSettings, started: float
    ) -> tuple[Answer, Fault | None]:
        """Return the answer, or a failed one with the fault that the client gets."""
        if asked.chat is None:
            return exchange.refused(live.model, asked), None
        try:
            response = await live.batcher.ask(asked.chat, settings, self.settings.timeouts.answer_s)
        except (Late, BackendError) as exc:
            return exchange.failed(asked, problem_of(exc), now() - started), fault_of(exc)
        took = now() - started
        quick = live.model.scorer_kind in QUICK_SCORERS and len(response.text) <= QUICK_CHARACTERS
        if quick:
            answer = exchange.answer(live.model, asked, response, took)
        else:
            answer = await asyncio.to_thread(exchange.answer, live.model, asked, response, took)
        return answer, unanswered(answer)

    async def _keep(
        self,
        identity: str,
        model: OpenModel,
        answer: Answer,
        route: str,
        client: str,
        session: str | None,
    ) -> None:
        made = record_of(identity, model, answer, route=route, client=client, session=session)
        keeping = self.commit.log.keeping
        if len(answer.question) + len(answer.text) <= QUICK_CHARACTERS:
            line = answer_line(made, keeping)
        else:
            line = await asyncio.to_thread(answer_line, made, keeping)
        await self.commit.add(line)
        tokens: Mapping[str, int] = {
            "prompt": answer.prompt_tokens,
            "output": answer.output_tokens,
        }
        action = "error" if answer.error is not None else answer.action
        self.metrics.answer(model.name, model.version, action, tokens)

    def _settings(self, model: OpenModel, wish: Wish) -> GenerationSettings:
        most = self.settings.max_new_tokens
        if wish.max_new_tokens is not None and wish.max_new_tokens > most:
            raise Fault(
                400,
                f"at most {most} tokens can be asked for",
                code="too_many_tokens",
                param="max_new_tokens",
            )
        return with_limits(
            model.settings,
            max_new_tokens=wish.max_new_tokens,
            temperature=wish.temperature,
            top_p=wish.top_p,
            seed=wish.seed,
        )

    def _check_size(self, messages: Sequence[Message]) -> None:
        limits = self.settings.limits
        if len(messages) > limits.messages:
            raise Fault(400, f"at most {limits.messages} messages", code="too_many_messages")
        if sum(len(message.text) for message in messages) > limits.question_characters:
            raise Fault(
                413,
                f"the texts are over {limits.question_characters:,} characters together",
                code="text_too_long",
            )
        if not messages[-1].text.strip():
            raise Fault(400, "the question is empty", code="empty_question")


@dataclass
class Begun:
    """A streamed answer on its way; it is recorded once, however it ends."""

    id: str
    model: OpenModel
    asked: Asked
    stream: Stream
    keep: Callable[[Answer], Awaitable[None]]
    timeout_s: float  # until the next piece
    said: str = ""
    started: float = field(default_factory=now)
    kept: bool = False

    async def next(self) -> str | Answer:
        """Return the next piece, or at last the whole answer, whose record is kept by then.

        Raises:
            Fault: If the model does not answer or not in time, or the log refuses.
        """
        try:
            piece = await self.stream.next(self.timeout_s)
        except (Late, BackendError) as exc:
            await self._keep(self._broken(problem_of(exc)))
            raise fault_of(exc) from exc
        if isinstance(piece, str):
            self.said += piece
            return piece
        await self._keep(piece if piece.error is None else replace(piece, text=self.said))
        if fault := unanswered(piece):
            raise fault
        return piece

    async def end(self) -> None:
        """Stop the model; what an answer that was broken off has said is recorded."""
        self.stream.close()
        if not self.kept:
            with suppress(Fault):  # nobody is there to be told; the log's failure is told elsewhere
                await self._keep(self._broken("the client went before the answer was whole"))

    async def _keep(self, answer: Answer) -> None:
        self.kept = True
        await self.keep(answer)

    def _broken(self, problem: str) -> Answer:
        answer = exchange.failed(self.asked, problem, now() - self.started)
        return replace(answer, text=self.said)


def problem_of(exc: Late | BackendError) -> str:
    """Return why a model did not answer, as the record has it."""
    return exc.problem if isinstance(exc, BackendError) else str(exc)


def fault_of(exc: Late | BackendError) -> Fault:
    """Return what the client is told of a model that did not answer."""
    if isinstance(exc, Late):
        return Fault(504, str(exc), code="timeout", headers={"retry-after": "5"})
    if exc.retryable:
        return busy("the model's service does not answer now", after_s=5)
    return Fault(502, "the model failed", code="model_failed")


def unanswered(answer: Answer) -> Fault | None:
    """Return the fault of an answer that the model did not give, or null if it gave one.

    A model that has counted the prompt's tokens and then gave up was asked too much; one that
    counted nothing has failed.
    """
    if answer.error is None:
        return None
    if answer.prompt_tokens:
        return Fault(400, answer.error, code="prompt_refused")
    return Fault(502, "the model gave no answer", code="model_failed")
