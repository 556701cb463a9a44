"""uvicorn's HTTP protocol with what it lacks against slow and greedy clients.

A client gets so long for its headers and its body, so many bytes of headers, and one of so many
connections; one that does not read its answer is cut off. Knows no route.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from llmops.serving.guard import Guard

BODY_GRACE_S = 1.0  # the route itself answers first, with 408
_log = logging.getLogger("llmops.serving")
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        guard = self.config.loaded_app
        assert isinstance(guard, Guard)
        self.limits = guard.settings.limits
        self.times = guard.settings.timeouts
        self._in_head = True
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Take the connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.write(_FULL)
            transport.close()
            return
        self._wait(self.times.header_s, "its headers")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._done()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came, as long as it is not too much of headers."""
        if self._in_head:
            if self._timer is None:
                self._wait(self.times.header_s, "its headers")
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > self.limits.header_bytes:
            self._refuse_head()

    def on_headers_complete(self) -> None:
        """Let the request begin; its body has its own time."""
        self._in_head = False
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.limits.header_bytes:
            self._refuse_head()
            return
        self._wait(self.times.body_s + BODY_GRACE_S, "its body")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body, if the request was let in."""
        if self.cycle is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for no more of this request."""
        self._done()
        self._in_head, self._head_bytes = True, 0
        if self.cycle is not None:
            super().on_message_complete()

    def pause_writing(self) -> None:
        """Give a client that does not read on only so long."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.times.send_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: it has read."""
        if self._unread is not None:
            self._unread.cancel()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Give a client that does not read the end of its answer only so long."""
        super().on_response_complete()
        if self.transport.is_closing():
            self.loop.call_later(self.times.send_s, self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, even if the client has not taken all."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def _refuse_head(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def _wait(self, seconds: float, what: str) -> None:
        self._done()
        self._timer = self.loop.call_later(seconds, self._too_slow, what)

    def _done(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self, what: str) -> None:
        self._timer = None
        _log.info("a client took too long for %s", what)
        self.transport.abort()
