"""Ask an open model: conversations in one go, or one as a stream that the policy watches."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, cast

from llmops.answering import exchange
from llmops.answering.exchange import Answer, Asked
from llmops.answering.model import OpenModel
from llmops.config.knowledge import SCORERS_OF_RATINGS
from llmops.errors import BackendError
from llmops.ports.model import Chat, GenerationSettings, Message, Response
from llmops.safety.decide import decide_output

JUDGED_EVERY = 32  # characters that are new, before what was said is judged again


def answers(
    model: OpenModel,
    conversations: Sequence[Sequence[Message]],
    settings: GenerationSettings | None = None,
) -> Iterator[Answer]:
    """Ask each conversation's last question, all in one go, and yield the answers in order.

    Raises:
        BackendError: If the model fails as a whole.
    """
    asked = [exchange.ask(model, messages) for messages in conversations]
    started = time.perf_counter()
    chats = [one.chat for one in asked if one.chat is not None]
    responses = generated(model, chats, settings or model.settings)
    for one in asked:
        if one.chat is None:
            yield exchange.refused(model, one)
            continue
        response = next(responses)
        waited = time.perf_counter() - started
        yield exchange.answer(model, one, response, response.latency_s or waited)


def generated(
    model: OpenModel, chats: Sequence[Chat], settings: GenerationSettings
) -> Iterator[Response]:
    """Yield one response a chat, in order.

    Raises:
        BackendError: If the model fails as a whole.
    """
    if chats:
        yield from model.generator.generate(chats, settings, _silent)


def stream(
    model: OpenModel, asked: Asked, settings: GenerationSettings | None = None
) -> Iterator[str | Answer]:
    """Yield an answer in pieces that the policy let pass, and at last the whole answer.

    A piece is shown once everything up to it has been judged, whole words only. If that blocks, no
    more pieces come, the model is stopped, and the answer says that it is blocked. Where the
    policy may redact, or judges by ratings that come with the whole answer, nothing can be shown
    before the end, and the answer comes as one piece.

    Raises:
        BackendError: If the model fails before it has said anything.
    """
    if asked.chat is None:
        yield exchange.refused(model, asked)
        return
    started = time.perf_counter()
    held = _may_redact(model) or model.scorer_kind in SCORERS_OF_RATINGS
    said = shown = ""
    response: Response | None = None
    pieces = cast(Any, model.generator.stream(asked.chat, settings or model.settings))
    try:
        with closing(pieces):
            for piece in pieces:
                if isinstance(piece, Response):
                    response = piece
                    break
                said += piece
                if held or len(said) - len(shown) < JUDGED_EVERY:
                    continue
                ready = said[: said.rfind(" ") + 1]
                if len(ready) > len(shown):
                    if not _passes(model, ready):
                        break
                    yield ready[len(shown) :]
                    shown = ready
    except BackendError as exc:
        if not said:
            raise
        response = Response("", "error", 0, 0, error=exc.problem)
    took = time.perf_counter() - started
    whole = response or Response(said, "stop", 0, exchange.estimated_tokens(said))
    answer = exchange.answer(model, asked, whole, took)
    if not answer.blocked and answer.error is None and len(answer.text) > len(shown):
        yield answer.text[len(shown) :]
    yield answer


def _passes(model: OpenModel, text: str) -> bool:
    scores = exchange.score(model, text)
    return not decide_output(Response(text, "stop", 0, 0), scores, model.policy).blocked


def _may_redact(model: OpenModel) -> bool:
    rules = model.policy.output
    return "redact" in (rules.on_block_list, rules.personal_data)


def with_limits(
    settings: GenerationSettings,
    *,
    max_new_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    seed: int | None = None,
) -> GenerationSettings:
    """Return the settings with what a caller asked for in place of the config's."""
    if max_new_tokens is temperature is top_p is seed is None:
        return settings
    return GenerationSettings(
        max_new_tokens=settings.max_new_tokens if max_new_tokens is None else max_new_tokens,
        temperature=settings.temperature if temperature is None else temperature,
        top_p=settings.top_p if top_p is None else top_p,
        seed=settings.seed if seed is None else seed,
        batch_rows=settings.batch_rows,
        output_schema=settings.output_schema,
        filters=settings.filters,
    )


def _silent(done: float, total: float | None, note: str = "") -> None:
    del done, total, note
