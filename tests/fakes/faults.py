"""A loopback server for a fake, and the faults that it can be told to show.

A fake is a FastAPI app that behaves. ``Faults`` stands before it and answers a refusal, cuts the
connection in mid-answer, loses an answer whose work was done, or waits; each for the requests it
was told of, in the order of telling. What a *job* does (stall, fail, vanish) is the fake's own.

    with serve(app) as server:
        server.faults.refuse(429, "/jobs", headers={"Retry-After": "1"})
        server.faults.lose("/jobs", method="POST")
        ... server.url ...
    assert server.faults.count("/jobs", method="POST") == 3
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import uvicorn

STATUS_WORDS = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"} | {
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
REASONS = {429: "rateLimitExceeded", 500: "internalError", 503: "backendError"}


@dataclass(frozen=True)
class Request:
    """One request that came: ``body`` is parsed JSON, or bytes; ``fault`` is what was shown."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: Any
    fault: str | None


@dataclass
class _Told:
    fault: str
    method: str | None
    path: re.Pattern[str]
    left: int
    skip: int
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    seconds: float = 0.0


class Faults:
    """An ASGI app around another one; also remembers every request."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.requests: list[Request] = []
        self._told: list[_Told] = []
        self._lock = threading.Lock()

    # ------------------------------------------------------------------ telling

    def refuse(
        self,
        status: int,
        path: str = "",
        *,
        method: str | None = None,
        times: int = 1,
        skip: int = 0,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> None:
        """Answer ``status`` in Google's shape, without asking the app.

        ``path`` is a regular expression to be found in the path; the first ``skip`` requests that
        fit pass.
        """
        told = _Told("refuse", method, re.compile(path), times, skip, status, headers or {}, body)
        self._tell(told)

    def cut(
        self, path: str = "", *, method: str | None = None, times: int = 1, skip: int = 0
    ) -> None:
        """Send half of the app's answer, then close the connection."""
        self._tell(_Told("cut", method, re.compile(path), times, skip))

    def lose(
        self, path: str = "", *, method: str | None = None, times: int = 1, skip: int = 0
    ) -> None:
        """Let the app do its work, then close the connection without a word."""
        self._tell(_Told("lose", method, re.compile(path), times, skip))

    def delay(
        self, seconds: float, path: str = "", *, method: str | None = None, times: int = 1
    ) -> None:
        """Answer that much later."""
        self._tell(_Told("delay", method, re.compile(path), times, 0, seconds=seconds))

    def clear(self) -> None:
        """Forget what was told and what came."""
        with self._lock:
            self._told.clear()
            self.requests.clear()

    # ------------------------------------------------------------------- asking

    def found(self, path: str = "", *, method: str | None = None) -> list[Request]:
        """Return the requests whose path has ``path``, a regular expression, in it."""
        return [
            request
            for request in self.requests
            if re.search(path, request.path) and method in (None, request.method)
        ]

    def count(self, path: str = "", *, method: str | None = None) -> int:
        """Say how many such requests came, those that met a fault among them."""
        return len(self.found(path, method=method))

    # ------------------------------------------------------------------ serving

    def _tell(self, told: _Told) -> None:
        with self._lock:
            self._told.append(told)

    def _due(self, method: str, path: str) -> _Told | None:
        with self._lock:
            for told in self._told:
                fits = told.method in (None, method) and told.path.search(path)
                if not fits or told.left == 0:
                    continue
                if told.skip:
                    told.skip -= 1
                    continue
                told.left -= 1
                return told
        return None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = await _whole(receive)
        told = self._due(scope["method"], scope["path"])
        self.requests.append(_request(scope, body, told))
        if told is None or told.fault == "delay":
            await asyncio.sleep(told.seconds if told else 0)
            await self.app(scope, _again(body, receive), send)
        elif told.fault == "refuse":
            await _refuse(told, send)
        elif told.fault == "cut":
            await self.app(scope, _again(body, receive), _halved(send))
        else:
            await self.app(scope, _again(body, receive), _swallowed)
            await _hang_up(send)


def google_error(status: int, message: str, reason: str | None = None) -> dict[str, Any]:
    """Return the body that Google's services answer an error with."""
    reason = reason or REASONS.get(status, "invalid")
    return {
        "error": {
            "code": status,
            "message": message,
            "status": STATUS_WORDS.get(status, "INVALID_ARGUMENT"),
            "errors": [{"message": message, "domain": "global", "reason": reason}],
        }
    }


async def _whole(receive: Any) -> bytes:
    held = b""
    while True:
        message = await receive()
        held += message.get("body", b"")
        if not message.get("more_body"):
            return held


def _again(body: bytes, receive: Any) -> Callable[[], Any]:
    """Return a ``receive`` that gives the body once, then what still comes: a disconnect."""
    given = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def again() -> Any:
        return next(given, None) or await receive()

    return again


def _request(scope: Any, body: bytes, told: _Told | None) -> Request:
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
    content: Any = body
    if "json" in headers.get("content-type", "") and body:
        content = orjson.loads(body)
    query = scope["query_string"].decode()
    fault = told.fault if told else None
    return Request(scope["method"], scope["path"], query, headers, content, fault)


async def _refuse(told: _Told, send: Any) -> None:
    body = told.body or google_error(told.status, f"told to answer {told.status}")
    text = orjson.dumps(body)
    headers = {"content-type": "application/json", "content-length": str(len(text))}
    pairs = [(k.encode(), v.encode()) for k, v in (headers | dict(told.headers)).items()]
    await send({"type": "http.response.start", "status": told.status, "headers": pairs})
    await send({"type": "http.response.body", "body": text})


def _halved(send: Any) -> Callable[[Any], Any]:
    """Return a ``send`` that lets half of a body through; uvicorn closes what is unfinished."""
    done = False

    async def halved(message: Any) -> None:
        nonlocal done
        if done:
            return
        if message["type"] == "http.response.body":
            body = message.get("body", b"")
            message = message | {"body": body[: len(body) // 2], "more_body": True}
            done = True
        await send(message)

    return halved


async def _swallowed(message: Any) -> None:
    """Send nothing."""


async def _hang_up(send: Any) -> None:
    """Close the connection; ``send`` is bound to what uvicorn knows of the request."""
    cycle = send.__self__
    cycle.transport.abort()
    while not cycle.disconnected:
        await asyncio.sleep(0.001)


@dataclass(frozen=True)
class Server:
    """A fake that is up: its address, the app, and the faults before it."""

    url: str
    app: Any
    faults: Faults


@contextlib.contextmanager
def serve(app: Any) -> Iterator[Server]:
    """Serve ``app`` on a free port of the loopback interface, in a thread, until the block ends."""
    faults = Faults(app)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(faults, log_level=100, lifespan="off", ws="none", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.005)
        if not thread.is_alive():
            raise RuntimeError("the fake did not start")
    try:
        yield Server(f"http://127.0.0.1:{listener.getsockname()[1]}", app, faults)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
