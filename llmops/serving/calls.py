"""A request as the routes see it, its reply, and the way between them and the ASGI server.

Bodies are capped while they come in. Knows no route.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from llmops.serving.faults import Fault
from llmops.serving.settings import Limits, Timeouts

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]
JSON: Header = (b"content-type", b"application/json")
ALWAYS: tuple[Header, ...] = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)
_log = logging.getLogger("llmops.serving")


@dataclass(frozen=True)
class Call:
    """A request that may be answered: who asks, and the body."""

    client: str
    body: bytes
    started: float  # of ``time.perf_counter``


@dataclass(frozen=True)
class Reply:
    """A whole reply."""

    body: bytes
    status: int = 200
    content_type: bytes = b"application/json"
    headers: tuple[Header, ...] = ()


@dataclass(frozen=True)
class EventStream:
    """A reply in server-sent events; ``close`` is called whatever ends it."""

    events: AsyncIterator[bytes]
    close: Callable[[], Awaitable[None]]
    headers: tuple[Header, ...] = field(default=())


class Gone(Exception):
    """The client is not there any more."""


Handler = Callable[[Call], Awaitable[Reply | EventStream]]


def json_reply(value: Any, status: int = 200) -> Reply:
    """Return a reply of plain JSON."""
    return Reply(orjson.dumps(value), status)


class Endpoint:
    """A route's handler as an ASGI application."""

    def __init__(
        self, handler: Handler, limits: Limits, timeouts: Timeouts, *, takes_body: bool
    ) -> None:
        self.handler = handler
        self.limits = limits
        self.timeouts = timeouts
        self.takes_body = takes_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a fault becomes the reply that it stands for."""
        body = await self._body(scope, receive) if self.takes_body else b""
        reply = await self.handler(Call(scope["llmops.client"], body, scope["llmops.started"]))
        if isinstance(reply, Reply):
            await send_reply(send, reply)
        else:
            await self._stream(reply, receive, send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        limit = self.limits.body_bytes
        length, kind = None, None
        for name, value in scope["headers"]:
            if name == b"content-length":
                length = value
            elif name == b"content-type":
                kind = value
            elif name == b"content-encoding" and value.lower() != b"identity":
                raise Fault(415, "bodies are not decompressed", code="unsupported_encoding")
        if length is not None and (not length.isdigit() or int(length) > limit):
            raise too_large(limit)
        if kind is None or kind.partition(b";")[0].strip().lower() != b"application/json":
            raise Fault(415, "the body must be application/json", code="unsupported_media_type")
        message = await self._received(receive)
        if not message.get("more_body", False):
            whole = message.get("body", b"")
            if len(whole) > limit:
                raise too_large(limit)
            return bytes(whole)
        pieces, size = [message.get("body", b"")], len(message.get("body", b""))
        try:
            async with asyncio.timeout(self.timeouts.body_s):
                while message.get("more_body", False):
                    message = await self._received(receive)
                    pieces.append(message.get("body", b""))
                    size += len(pieces[-1])
                    if size > limit:
                        raise too_large(limit)
        except TimeoutError:
            raise Fault(
                408,
                f"the body did not come within {self.timeouts.body_s:g} s",
                code="slow_request",
                headers={"connection": "close"},
            ) from None
        return b"".join(pieces)

    async def _received(self, receive: Receive) -> MutableMapping[str, Any]:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone("the client went while it sent its body")
        return message

    async def _stream(self, reply: EventStream, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), *ALWAYS]
            start = {"type": "http.response.start", "status": 200}
            await send({**start, "headers": [*headers, *reply.headers]})
            while (event := await _next(reply.events, gone)) is not None:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            await reply.close()


async def _next(events: AsyncIterator[bytes], gone: asyncio.Future[None]) -> bytes | None:
    """Return the next event, null after the last; do not wait for it if nobody reads on."""
    event = asyncio.ensure_future(_or_none(events))
    either: set[asyncio.Future[Any]] = {event, gone}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        event.cancel()
        raise
    if gone.done():
        event.cancel()
        await asyncio.wait({event})
        raise Gone("the client went while it was answered")
    return event.result()


async def _or_none(events: AsyncIterator[bytes]) -> bytes | None:
    return await anext(events, None)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_reply(send: Send, reply: Reply) -> None:
    """Send a whole reply."""
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", str(len(reply.body)).encode()),
        *ALWAYS,
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def too_large(limit: int) -> Fault:
    """Return the fault of a body over its cap; its rest is not read."""
    return Fault(
        413,
        f"the body is over {limit:,} bytes",
        code="body_too_large",
        headers={"connection": "close"},
    )


def now() -> float:
    """Return the clock that durations are measured by."""
    return time.perf_counter()
