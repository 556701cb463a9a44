"""OpenAI's chat completions, so that existing clients work unchanged.

The prompt stays the tuned one: user texts go through its template, and a client's own system text
is refused unless the config lets it in. What OpenAI knows and this server does not serve is
refused by name, never passed over.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import orjson

from llmops.answering.exchange import Answer
from llmops.ports.model import Message
from llmops.serving import strict
from llmops.serving.answering import Answering, Begun, Wish
from llmops.serving.calls import Call, EventStream, Reply, json_reply
from llmops.serving.faults import Fault
from llmops.serving.shapes import ChatMessage, ChatRequest

CHAT = "/v1/chat/completions"
FINISH: Mapping[str, str] = {
    "stop": "stop",
    "length": "length",
    "safety": "content_filter",
    "recitation": "content_filter",
}
NEUTRAL: Mapping[str, tuple[Any, ...]] = {  # values that change nothing, so they may be given
    "n": (1,),
    "stop": ([],),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "parallel_tool_calls": (True, False),
    "web_search_options": (),
}


class ChatRoute:
    """``POST /v1/chat/completions``, whole or as a stream."""

    def __init__(self, parts: Answering) -> None:
        self.parts = parts

    async def __call__(self, call: Call) -> Reply | EventStream:
        """Answer the conversation's last message."""
        asked = strict.parsed(call.body, ChatRequest)
        _check_neutral(asked)
        messages = self._messages(asked.messages)
        wish = _wish(asked)
        if asked.stream:
            return await self._stream(call, asked, messages, wish)
        kept = await self.parts.ask(
            messages, wish, route=CHAT, client=call.client, model=asked.model
        )
        answer = kept.answer
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": None,
            "finish_reason": FINISH.get(answer.finish_reason, "stop"),
        }
        return json_reply(
            {
                "id": kept.id,
                "object": "chat.completion",
                "created": int(time.time()),
                "model": kept.model.label,
                "choices": [choice],
                "usage": _usage(answer),
            }
        )

    def _messages(self, given: Sequence[ChatMessage]) -> list[Message]:
        messages = [Message(_role(one), _text(one)) for one in given]
        if messages[-1].role != "user":
            raise Fault(
                400, "the last message must be the user's", code="no_question", param="messages"
            )
        system = any(message.role == "system" for message in messages)
        if system and self.parts.settings.system_messages == "refuse":
            raise Fault(
                400,
                "the model answers with the prompt that it was tuned with; a system message is"
                " another one (serve.system_messages=use lets it in)",
                code="other_prompt",
                param="messages",
            )
        return messages

    async def _stream(
        self, call: Call, asked: ChatRequest, messages: Sequence[Message], wish: Wish
    ) -> EventStream:
        begun = await self.parts.begin(
            messages, wish, route=CHAT, client=call.client, model=asked.model
        )
        try:
            first = await begun.next()  # until then a failure is still an ordinary reply
        except BaseException:
            await begun.end()
            raise
        with_usage = asked.stream_options is not None and asked.stream_options.include_usage
        return EventStream(_events(begun, first, with_usage), begun.end)


async def _events(begun: Begun, first: str | Answer, with_usage: bool) -> AsyncIterator[bytes]:
    """Yield chunks; the record is kept before the chunk that ends the answer goes out."""
    head = {
        "id": begun.id,
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": begun.model.label,
    }
    yield _chunk(head, {"role": "assistant", "content": ""})
    piece = first
    while isinstance(piece, str):
        yield _chunk(head, {"content": piece})
        try:
            piece = await begun.next()
        except Fault as exc:
            yield b"data: " + exc.body() + b"\n\n"
            return
    for event in _ending(head, piece, bool(begun.said), with_usage):
        yield event


def _ending(
    head: Mapping[str, Any], answer: Answer, said: bool, with_usage: bool
) -> Iterator[bytes]:
    if answer.blocked and not said:
        yield _chunk(head, {"content": answer.text})  # the policy's message
    yield _chunk(head, {}, FINISH.get(answer.finish_reason, "stop"))
    if with_usage:
        yield _event({**head, "choices": [], "usage": _usage(answer)})
    yield b"data: [DONE]\n\n"


def _chunk(head: Mapping[str, Any], delta: Mapping[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _event({**head, "choices": [choice]})


def _event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def _usage(answer: Answer) -> dict[str, int]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.prompt_tokens + answer.output_tokens,
    }


def _role(message: ChatMessage) -> str:
    return "system" if message.role == "developer" else message.role


def _text(message: ChatMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join(part.text for part in message.content)


def _wish(asked: ChatRequest) -> Wish:
    most = asked.max_completion_tokens
    if most is None:
        most = asked.max_tokens
    top_p = asked.top_p if asked.top_p != 0 else 1e-9  # OpenAI's clients may send 0: greedy
    seed = None if asked.seed is None else asked.seed % (1 << 32)
    return Wish(most, asked.temperature, top_p, seed)


def _check_neutral(asked: ChatRequest) -> None:
    for name, neutral in NEUTRAL.items():
        value = getattr(asked, name)
        if value is not None and value not in neutral:
            raise Fault(400, f"{name} is not served here", code="unsupported_parameter", param=name)
