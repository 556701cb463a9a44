"""The door: every request passes here first, whatever route it wants.

Default deny: without a known token only the two health routes answer. Wrong hosts and web pages
are turned away before a token is looked at, and more work than the server takes is told to come
back. What goes wrong further in becomes a reply here, never a stack trace.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.routing import Route

from llmops.errors import BackendError, LlmopsError
from llmops.serving.calls import (
    Gone,
    Header,
    Receive,
    Reply,
    Scope,
    Send,
    now,
    send_reply,
)
from llmops.serving.clients import Clients
from llmops.serving.faults import Fault, busy
from llmops.serving.metrics import Metrics
from llmops.serving.models import Models
from llmops.serving.settings import ServeSettings

OPEN = frozenset({"/healthz", "/readyz"})
ANSWERING = frozenset({"/v1/predict", "/v1/chat/completions"})
ROUTER: Mapping[int, tuple[str, str]] = {
    404: ("there is no such route", "not_found"),
    405: ("the route has another method", "method_not_allowed"),
}
UNKNOWN_ROUTE = "other"  # the label of every path that is no route: labels stay few
_HOST = re.compile(rb"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")
_log = logging.getLogger("llmops.serving")

App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Guard:
    """An ASGI application around the routes."""

    def __init__(
        self, app: FastAPI, settings: ServeSettings, metrics: Metrics, routes: frozenset[str]
    ) -> None:
        self.fastapi = app
        self.settings = settings
        self.metrics = metrics
        self.routes = routes
        self.clients = Clients(settings.tokens)
        self.is_worker = False  # of several, that a parent keeps alive
        self.draining = False
        self.models: Models | None = None  # open while the server runs
        self.failure: LlmopsError | None = None  # why the server could not start
        self.answering: Counter[str] = Counter()
        self.in_work = 0
        # Every route is one plain path with one method, so a table finds it; the router is asked
        # about the rest. Both lie behind the application's own middleware, which would answer our
        # faults with its 500.
        self._endpoints: dict[tuple[str, str], App] = {
            (method, route.path): route.endpoint
            for route in app.routes
            if isinstance(route, Route)
            for method in route.methods or ()
            if method != "HEAD"
        }
        self._hosts = {host.lower().encode() for host in settings.hosts}
        self._origins = {origin.lower().encode() for origin in settings.origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand the server's start and stop on."""
        if scope["type"] == "lifespan":
            await self.fastapi.router(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        await self._request(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = scope["llmops.started"] = now()
        path = scope["path"]
        status, replied = 500, False
        extra: tuple[Header, ...] = ()

        async def watched(message: dict[str, object]) -> None:
            nonlocal status, replied
            if message["type"] == "http.response.start":
                status, replied = int(message["status"]), True  # type: ignore[call-overload]
                if extra:
                    message["headers"] = [*message["headers"], *extra]  # type: ignore[misc]
            await send(message)

        try:
            origin = self._admitted(scope)
            extra = _of_origin(origin)
            if scope["method"] == "OPTIONS" and origin is not None:
                await self._preflight(watched)  # type: ignore[arg-type]
            elif path in ANSWERING:
                await self._answer(scope, receive, watched)  # type: ignore[arg-type]
            else:
                await self._route(scope, receive, watched)  # type: ignore[arg-type]
        except Gone as exc:
            status = 499  # as proxies call it; nobody reads it any more
            _log.info("%s", exc)
            if replied:
                raise  # so that the connection is closed in the middle of the answer
        except Exception as exc:
            fault = _fault(exc)
            status = fault.status
            if replied:
                raise
            await send_reply(
                watched,  # type: ignore[arg-type]
                Reply(fault.body(), fault.status, headers=_headers(fault)),
            )
        finally:
            route = path if path in self.routes else UNKNOWN_ROUTE
            self.metrics.request(route, status, now() - started)

    def _admitted(self, scope: Scope) -> bytes | None:
        """Check host, origin and token; return the origin, if there is one."""
        host = origin = authorization = None
        for name, value in scope["headers"]:
            if name == b"host":
                if host is not None:
                    raise Fault(400, "there are two Host headers", code="invalid_host")
                host = value
            elif name == b"origin":
                origin = value.lower()
            elif name == b"authorization":
                if authorization is not None:
                    raise Fault(400, "there are two Authorization headers", code="invalid_header")
                authorization = value
        found = _HOST.fullmatch(host) if host is not None else None
        if found is None or found["name"].lower() not in self._hosts:
            raise Fault(421, "this host is not served here", code="wrong_host")
        if origin is not None and origin not in self._origins:
            raise Fault(403, "web pages of this origin may not call", code="wrong_origin")
        if scope["path"] in OPEN or (scope["method"] == "OPTIONS" and origin is not None):
            scope["llmops.client"] = ""
            return origin
        client = self.clients.named(authorization)
        if client is None:
            raise Fault(
                401,
                "a known bearer token is needed",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        scope["llmops.client"] = client
        return origin

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        limits, client = self.settings.limits, scope["llmops.client"]
        if self.draining:
            raise Fault(
                503,
                "the server is going down",
                code="draining",
                headers={"retry-after": "1", "connection": "close"},
            )
        if self.answering[client] >= limits.answering_each:
            raise busy(f"you have {limits.answering_each} requests in work", status=429)
        if self.in_work >= limits.answering:
            raise busy(f"{limits.answering} requests are in work")
        self.in_work += 1
        self.answering[client] += 1
        self.metrics.answering.inc()
        try:
            await self._route(scope, receive, send)
        finally:
            self.in_work -= 1
            self.answering[client] -= 1
            self.metrics.answering.dec()

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get((scope["method"], scope["path"]))
        if endpoint is None:
            scope["app"] = self.fastapi
            await self.fastapi.router(scope, receive, send)
        else:
            await endpoint(scope, receive, send)

    async def _preflight(self, send: Send) -> None:
        allowed = (
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-allow-headers", b"authorization, content-type"),
            (b"access-control-max-age", b"600"),
        )
        await send_reply(send, Reply(b"", 204, headers=allowed))


def _fault(exc: Exception) -> Fault:
    if isinstance(exc, Fault):
        return exc
    if isinstance(exc, HTTPException):  # the router's own: an unknown path or method
        words, code = ROUTER[exc.status_code]
        return Fault(exc.status_code, words, code=code, headers=exc.headers)
    if isinstance(exc, BackendError):
        _log.error("%s", exc)
        if exc.retryable:
            return busy("the model's service does not answer now")
        return Fault(502, "the model failed; the server's log says why", code="model_failed")
    _log.exception("a bug in llmops", exc_info=exc)
    return Fault(500, "a bug in llmops; the server's log has it", code="internal_error")


def _headers(fault: Fault) -> tuple[Header, ...]:
    return tuple((name.encode(), value.encode()) for name, value in fault.headers.items())


def _of_origin(origin: bytes | None) -> tuple[Header, ...]:
    if origin is None:
        return ()
    return ((b"access-control-allow-origin", origin), (b"vary", b"Origin"))
