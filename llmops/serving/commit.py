"""Writes the records of concurrent answers together; an answer goes out once its record is kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from llmops.errors import BackendError
from llmops.serving.faults import Fault
from llmops.traffic.log import TrafficLog

_log = logging.getLogger("llmops.serving")


class GroupCommit:
    """The way of all records into the log; lives in an event loop.

    Lines that come in one turn of the loop are written by one call. Where the log waits for the
    disk, a thread writes, and what comes meanwhile is written next.
    """

    def __init__(self, log: TrafficLog, on_failure: Callable[[], None]) -> None:
        self.log = log
        self.works = True  # false after a failure, until a write succeeds again
        self._on_failure = on_failure
        self._lines: list[bytes] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._busy = False
        self._loop = asyncio.get_running_loop()

    async def add(self, line: bytes) -> None:
        """Return once the line is kept.

        Raises:
            Fault: 503, if the log cannot be written and the config wants no answer without it.
        """
        done = self._loop.create_future()
        self._lines.append(line)
        self._waiting.append(done)
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._write)
        try:
            await done
        except BackendError as exc:
            if self.log.settings.on_failure == "refuse":
                raise Fault(
                    503,
                    "the answer could not be recorded, so it is not given",
                    code="log_failed",
                    headers={"retry-after": "5"},
                ) from exc

    def _write(self) -> None:
        lines, self._lines = self._lines, []
        waiting, self._waiting = self._waiting, []
        if self.log.settings.fsync:
            work = self._loop.run_in_executor(None, self.log.writer.append, lines)
            work.add_done_callback(lambda done: self._finish(waiting, done.exception()))
            return
        error: BaseException | None = None
        try:
            self.log.writer.append(lines)
        except BackendError as exc:
            error = exc
        self._finish(waiting, error)

    def _finish(self, waiting: list[asyncio.Future[None]], error: BaseException | None) -> None:
        if error is not None:
            _log.error("the log cannot be written: %s", error)
            for _ in waiting:
                self._on_failure()
        self.works = error is None
        for done in waiting:
            if not done.done():
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)
        if self._lines:
            self._loop.call_soon(self._write)
        else:
            self._busy = False
