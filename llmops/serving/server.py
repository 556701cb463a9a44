"""Run the application: one process, or several that a parent keeps alive."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from llmops.errors import BackendError, ConfigError
from llmops.serving.application import Opening, made
from llmops.serving.guard import Guard
from llmops.serving.metrics import FIGURES
from llmops.serving.protocol import Protocol
from llmops.serving.settings import ServeSettings, read_settings

BACKLOG = 2048
HEALTH_S = 30  # a worker that answers no ping for so long is replaced
Started = Callable[[str], None]


def serve(
    config: Mapping[str, Any],
    overrides: Sequence[str],
    *,
    on_start: Started,
    opening: Opening | None = None,
) -> None:
    """Serve until the process is asked to stop.

    Args:
        config: The checked ``serve`` group.
        overrides: As on the command line, for the models' experiments.
        on_start: Told the address once the server listens and its models are open.
        opening: Opens the models, in one process; by default out of the registry.

    Raises:
        ConfigError: If the address cannot be listened on, or a model does not exist.
        BackendError: If a model cannot be loaded, or the log cannot be written.
    """
    settings = read_settings(config)
    listening = _listen(settings)
    address = f"http://{_shown(settings.host)}:{listening.getsockname()[1]}"
    _configure_logging()
    with listening:
        if settings.workers == 1:
            guard = made(settings, overrides, opening)
            _run_one(guard, listening, lambda: on_start(address))
        else:
            _run_many(config, overrides, settings, listening, lambda: on_start(address))


def worker_application(config: Mapping[str, Any], overrides: Sequence[str], figures: str) -> Guard:
    """Make the application of one worker among several, in its own process.

    ``figures`` is the folder where all workers count; its variable is read when prometheus_client
    is first imported, so it is set here and in no other process.
    """
    os.environ[FIGURES] = figures
    _configure_logging()
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    guard = made(read_settings(config), overrides)
    guard.is_worker = True
    return guard


def _end_with_parent() -> None:
    """Stop this worker if its parent is gone, which could not tell it: it would serve for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def server_config(app: Any, settings: ServeSettings, **options: Any) -> uvicorn.Config:
    """Return uvicorn's settings, the same for one process, for workers and for tests."""
    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=max(1, int(settings.timeouts.idle_s)),
        timeout_graceful_shutdown=max(1, int(settings.timeouts.drain_s)),
        **options,
    )


class Server(uvicorn.Server):
    """uvicorn's server that says when it has started."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self.on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets=sockets)
        if self.started:
            self.on_start()


def _run_one(guard: Guard, listening: socket.socket, on_start: Callable[[], None]) -> None:
    server = Server(server_config(guard, guard.settings), on_start)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stopped)  # uvicorn raises it again once it has drained
    try:
        server.run(sockets=[listening])
    except SystemExit:
        if guard.failure is None:
            raise
    if guard.failure is not None:
        raise guard.failure


def _stopped(number: int, frame: object) -> None:
    """Do nothing: a server that was asked to stop, and did, has done its work."""
    del number, frame


def _run_many(
    config: Mapping[str, Any],
    overrides: Sequence[str],
    settings: ServeSettings,
    listening: socket.socket,
    on_start: Callable[[], None],
) -> None:
    with tempfile.TemporaryDirectory(prefix="llmops-metrics-") as figures:
        app = partial(worker_application, dict(config), list(overrides), figures)
        options = {"factory": True, "workers": settings.workers}
        made_config = server_config(app, settings, timeout_worker_healthcheck=HEALTH_S, **options)
        supervisor = Workers(made_config, listening, figures)
        on_start()
        supervisor.run()
    if supervisor.failed:
        raise BackendError(
            "a worker could not start", hint="its reason stands above; try serve.workers=1"
        )


class Workers(Multiprocess):
    """uvicorn's parent, which starts a new worker for one that died."""

    def __init__(self, config: uvicorn.Config, listening: socket.socket, figures: str) -> None:
        super().__init__(config, sockets=[listening])
        self.figures = figures
        self.failed = False

    def keep_subprocess_alive(self) -> None:
        """Replace the dead; give up if a new one cannot start."""
        before = self.should_exit.is_set()
        dead = [one.pid for one in self.processes if not one.process.is_alive()]
        super().keep_subprocess_alive()
        self.failed = self.should_exit.is_set() and not before
        for pid in dead:
            logging.getLogger("llmops.serving").warning("worker %s ended; another starts", pid)
            with contextlib.suppress(OSError):
                _forget_figures(pid, self.figures)


def _forget_figures(pid: int | None, folder: str) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    if pid is not None:
        mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]


def _listen(settings: ServeSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening = socket.create_server(
            (settings.host.strip("[]"), settings.port), family=family, backlog=BACKLOG
        )
    except OSError as exc:
        raise ConfigError(
            f"{settings.host}:{settings.port} cannot be listened on: {exc.strerror}",
            hint="choose another with serve.port=, or 0 for a free one",
        ) from exc
    listening.set_inheritable(True)
    return listening


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _configure_logging() -> None:
    """Write one line an event to stderr, secrets masked; nothing of what was asked or said."""
    from llmops.secrecy import masked

    class Masked(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return masked(super().format(record))

    root = logging.getLogger()
    if any(getattr(handler, "of_llmops", False) for handler in root.handlers):
        return
    handler = logging.StreamHandler()
    handler.setFormatter(Masked("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.of_llmops = True  # type: ignore[attr-defined]
    root.addHandler(handler)
    logging.getLogger("llmops").setLevel(logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
