"""The FastAPI application: its routes, and what lives as long as it does."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI
from starlette.routing import Route

from llmops.answering.tracing import open_tracer
from llmops.config.project import workspace
from llmops.errors import LlmopsError
from llmops.serving import openapi
from llmops.serving.answering import Answering
from llmops.serving.calls import Call, Endpoint, Handler, Reply, json_reply
from llmops.serving.commit import GroupCommit
from llmops.serving.faults import Fault
from llmops.serving.guard import Guard
from llmops.serving.metrics import Metrics
from llmops.serving.models import Models, open_models
from llmops.serving.openai import CHAT, ChatRoute
from llmops.serving.routes import PREDICT, Routes
from llmops.serving.settings import ServeSettings
from llmops.traffic.log import TrafficLog
from llmops.traffic.sessions import Sessions

EXPIRE_EVERY_S = 3600.0
_log = logging.getLogger("llmops.serving")
Opening = Callable[[ServeSettings, Sequence[str], Metrics], Models]


def made(
    settings: ServeSettings, overrides: Sequence[str] = (), opening: Opening | None = None
) -> Guard:
    """Make the application behind its guard; models and log open when the server starts.

    ``opening`` opens the models; by default those that the settings name, out of the registry.
    """
    metrics = Metrics()
    holder = _Holder()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        try:
            async with _living(settings, overrides, metrics, opening or _open) as parts:
                holder.fill(parts, guard)
                guard.models = parts.models
                _note_stop(guard)
                yield
        except LlmopsError as exc:
            guard.failure = exc
            if guard.is_worker:  # else it is told by whoever started the server
                hint = f" ({exc.hint})" if exc.hint else ""
                _log.error("cannot start: %s%s", exc.problem, hint)
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            raise

    app = FastAPI(
        openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan, redirect_slashes=False
    )
    app.router.routes.extend(_routes(holder, settings))
    paths = frozenset(route.path for route in app.routes if isinstance(route, Route))
    guard = Guard(app, settings, metrics, paths)
    return guard


def _note_stop(guard: Guard) -> None:
    """Let readiness end as soon as the process is asked to stop, before uvicorn hears of it."""
    if threading.current_thread() is not threading.main_thread():
        return  # a server in a thread is stopped by whoever started it
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def stop(number: int, frame: Any, before: Any = before) -> None:
            guard.draining = True
            if callable(before):
                before(number, frame)

        signal.signal(number, stop)


class _Holder:
    """The handlers, which exist once the server has started."""

    def __init__(self) -> None:
        self.routes: Routes | None = None
        self.chat: ChatRoute | None = None

    def fill(self, parts: Answering, guard: Guard) -> None:
        self.routes = Routes(parts, guard)
        self.chat = ChatRoute(parts)

    def of(self, name: str) -> Handler:
        async def handler(call: Call) -> Any:
            if self.routes is None or self.chat is None:
                raise Fault(503, "the server is starting", code="starting")
            chosen = self.chat if name == "chat" else getattr(self.routes, name)
            return await chosen(call)

        return handler


def _routes(holder: _Holder, settings: ServeSettings) -> list[Route]:
    document = openapi.document()

    async def show(call: Call) -> Reply:
        del call
        return json_reply(document)

    def route(path: str, handler: Handler, method: str) -> Route:
        endpoint = Endpoint(
            handler, settings.limits, settings.timeouts, takes_body=method == "POST"
        )
        return Route(path, endpoint, methods=[method])

    return [
        route(PREDICT, holder.of("predict"), "POST"),
        route(CHAT, holder.of("chat"), "POST"),
        route("/v1/feedback", holder.of("feedback"), "POST"),
        route("/v1/models", holder.of("models"), "GET"),
        route("/healthz", holder.of("healthz"), "GET"),
        route("/readyz", holder.of("readyz"), "GET"),
        route("/metrics", holder.of("metrics"), "GET"),
        route("/openapi.json", show, "GET"),
    ]


@asynccontextmanager
async def _living(
    settings: ServeSettings, overrides: Sequence[str], metrics: Metrics, opening: Opening
) -> AsyncIterator[Answering]:
    """Open everything, keep it while the server runs, and close it when it stops."""
    log = TrafficLog(settings.log, workspace())
    wanted = settings.sessions
    sessions = Sessions(workspace() / wanted.path, wanted.max_tokens, wanted.retention_days)
    models = opening(settings, overrides, metrics)
    threads = ThreadPoolExecutor(settings.limits.answering, thread_name_prefix="stream")
    tracer = open_tracer(settings.tracing.endpoint, content=settings.tracing.content)
    parts = Answering(
        settings,
        models,
        GroupCommit(log, metrics.log_failures.inc),
        metrics,
        sessions,
        tracer,
        threads,
    )
    tasks = [
        asyncio.create_task(models.follow(overrides, settings.timeouts.alias_s)),
        asyncio.create_task(_expire(log, sessions)),
    ]
    try:
        yield parts
    finally:
        for task in tasks:
            task.cancel()
        models.close()
        threads.shutdown(wait=False, cancel_futures=True)
        tracer.close()
        log.close()


def _open(settings: ServeSettings, overrides: Sequence[str], metrics: Metrics) -> Models:
    return open_models(settings.models, overrides, settings.batching, metrics.batch_rows.observe)


async def _expire(log: TrafficLog, sessions: Sessions) -> None:
    """Remove what need not be kept, now and every hour."""
    while True:
        now = datetime.now(UTC)
        try:
            await asyncio.to_thread(log.expire, now)
            await asyncio.to_thread(sessions.expire, now)
        except Exception:  # noqa: BLE001 - a failure to tidy up ends no service
            _log.exception("old records could not be removed")
        await asyncio.sleep(EXPIRE_EVERY_S)
