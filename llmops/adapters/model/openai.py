"""Answer chats through any OpenAI-compatible endpoint (``/chat/completions``), over plain HTTP.

Several requests are in flight; answers come back in order. A request that stays refused becomes an
answer with its error; a key, a model or an address that is wrong stops the step. Cannot score.
"""

from __future__ import annotations

import functools
import json
import random
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from llmops.adapters.model.concurrently import in_order
from llmops.adapters.secrets import reveal
from llmops.errors import BackendError
from llmops.ports.model import Chat, GenerationSettings, ModelReference, Response, TokenScore
from llmops.ports.progress import Progress

WORTH_RETRYING = frozenset({408, 409, 429, 500, 502, 503, 504})
WRONG_FOR_ALL = frozenset({401, 403, 404, 405})
LONGEST_WAIT_S = 30.0
FINISH_REASONS: Mapping[str | None, str] = {"length": "length", "content_filter": "safety"}


def open_generator(
    config: Mapping[str, Any], reference: ModelReference, adapter: Path | None, cache: Path
) -> OpenAIGenerator:
    """Open the endpoint of the ``model`` config group; nothing is sent yet.

    A reference with ``endpoint`` is answered there, under its tuned name.

    Raises:
        ConfigError: If the secret that ``api_key`` names is not set.
    """
    del adapter, cache
    return OpenAIGenerator(config, reference)


class OpenAIGenerator:
    """A generator over one endpoint and one of its models."""

    can_score = False

    def __init__(self, config: Mapping[str, Any], reference: ModelReference) -> None:
        self.config = config
        self.model = reference.tuned or reference.base
        key = config["api_key"]
        self.client = httpx.Client(
            base_url=(reference.endpoint or config["endpoint"]).rstrip("/") + "/",
            headers={"Authorization": f"Bearer {reveal(key)}"} if key else {},
            timeout=float(config["timeout_s"]),
        )
        weakref.finalize(self, self.client.close)  # its connections end with the generator

    def generate(
        self, chats: Sequence[Chat], settings: GenerationSettings, progress: Progress
    ) -> Iterator[Response]:
        """Yield one response a chat, in order; see ``ports.model.Generator``."""
        return in_order(
            functools.partial(self._answer, settings=settings),
            chats,
            progress,
            concurrent=int(self.config["parallel_requests"]),
        )

    def stream(self, chat: Chat, settings: GenerationSettings) -> Iterator[str | Response]:
        """Yield the answer in pieces, then the whole response; see ``ports.model.Generator``.

        Asked once: what was said already cannot be asked for again.
        """
        body = request_body(self.model, chat, settings, self.config["max_tokens_field"])
        streamed = body | {"stream": True, "stream_options": {"include_usage": True}}
        started, grown = time.monotonic(), _Grown()
        try:
            with self.client.stream("POST", "chat/completions", json=streamed) as reply:
                if reply.is_error:
                    reply.read()
                    yield _refused(reply, self.model)
                    return
                for line in reply.iter_lines():
                    if piece := grown.take(line):
                        yield piece
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as exc:
            yield _error(f"{type(exc).__name__}: {exc}".strip(": "))
            return
        yield grown.response(time.monotonic() - started)

    def score(self, pairs: Iterable[tuple[Chat, str]], progress: Progress) -> Iterator[TokenScore]:
        """Refuse: the interface gives no probability of a text that it did not write.

        Raises:
            BackendError: Always.
        """
        del pairs, progress
        raise BackendError(
            "an OpenAI-compatible endpoint gives no probability of a given text",
            hint="leave loss and perplexity out of evaluation.metrics",
        )

    def _answer(self, chat: Chat, settings: GenerationSettings) -> Response:
        body = request_body(self.model, chat, settings, self.config["max_tokens_field"])
        started = time.monotonic()
        try:
            reply = self._post(body)
            seconds = time.monotonic() - started
            return _refused(reply, self.model) if reply.is_error else _read(reply, seconds)
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as exc:
            return _error(f"{type(exc).__name__}: {exc}".strip(": "))

    def _post(self, body: Mapping[str, Any]) -> httpx.Response:
        """Send a request until it is answered or not worth repeating; the last one's word counts.

        Raises:
            httpx.TransportError: If no connection holds, after the last attempt.
        """
        attempts = int(self.config["attempts"])
        for attempt in range(1, attempts + 1):
            try:
                reply = self.client.post("chat/completions", json=body)
            except httpx.TransportError:
                if attempt == attempts:
                    raise
                time.sleep(_wait(attempt, None))
                continue
            if reply.status_code not in WORTH_RETRYING or attempt == attempts:
                return reply
            time.sleep(_wait(attempt, reply.headers.get("retry-after")))
        raise AssertionError("a loop of at least one attempt returns or raises")


class _Grown:
    """An answer that comes as server-sent events, put together again."""

    def __init__(self) -> None:
        self.text = ""
        self.reason: str | None = None
        self.usage: Mapping[str, Any] = {}

    def take(self, line: str) -> str:
        """Read one line of the stream; return the text that it brings."""
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            return ""
        event = json.loads(data)
        self.usage = event.get("usage") or self.usage
        for choice in event.get("choices") or ():
            self.reason = choice.get("finish_reason") or self.reason
            delta = choice.get("delta") or {}
            piece = str(delta.get("content") or delta.get("refusal") or "")
            self.text += piece
            return piece
        return ""

    def response(self, seconds: float) -> Response:
        return _response(self.text, self.reason, self.usage, seconds)


def request_body(
    model: str, chat: Chat, settings: GenerationSettings, max_tokens_field: str
) -> dict[str, Any]:
    """Return the JSON of one request; roles are those of ``ports.model.Message``."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": turn.role, "content": turn.text} for turn in chat],
        max_tokens_field: settings.max_new_tokens,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "seed": settings.seed,
    }
    if settings.output_schema is not None:
        schema = {"name": "answer", "schema": dict(settings.output_schema), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def _wait(attempt: int, asked: str | None) -> float:
    """Return seconds to wait: what the service asks for, else doubling with chance in it."""
    try:
        return min(LONGEST_WAIT_S, max(0.0, float(asked or "")))
    except ValueError:
        return min(LONGEST_WAIT_S, 2.0 ** (attempt - 1) * random.uniform(0.25, 0.5))


def _read(reply: httpx.Response, seconds: float) -> Response:
    body = reply.json()
    choice = body["choices"][0]
    message = choice["message"]
    text = message.get("content") or message.get("refusal") or ""
    usage = body.get("usage") or {}
    return replace(_response(text, choice.get("finish_reason"), usage, seconds), raw=body)


def _response(text: str, reason: str | None, usage: Mapping[str, Any], seconds: float) -> Response:
    """Return an answer; what a content filter stopped is withheld, also what came before it."""
    finish = FINISH_REASONS.get(reason, "stop")
    blocked = finish == "safety"
    return Response(
        text="" if blocked else text,
        finish_reason=finish,
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        output_tokens=int(usage.get("completion_tokens") or 0),
        blocked=blocked,
        block_reason=reason if blocked else None,
        latency_s=seconds,
    )


def _refused(reply: httpx.Response, model: str) -> Response:
    """Return what a refusal means for this chat alone.

    Raises:
        BackendError: If it means the same for every chat.
    """
    code, why = _reason(reply)
    if reply.status_code in WRONG_FOR_ALL:
        raise BackendError(
            f"the endpoint refuses model '{model}' ({reply.status_code}): {why}",
            hint="check model.endpoint, model.base and model.api_key",
        )
    if code == "content_filter":
        return Response("", "safety", 0, 0, blocked=True, block_reason=code)
    return _error(f"{reply.status_code}: {why}")


def _reason(reply: httpx.Response) -> tuple[str, str]:
    try:
        found = reply.json()["error"]
        return str(found.get("code") or ""), str(found.get("message") or reply.reason_phrase)[:300]
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", reply.text.strip()[:300] or reply.reason_phrase


def _error(why: str) -> Response:
    return Response("", "error", 0, 0, error=why)
