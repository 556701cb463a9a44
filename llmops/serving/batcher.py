"""Hands chats to a model's generator: together where that is faster, in parallel where it is not.

A model on this machine answers in one thread; what is asked while it works is answered together
next. A service is asked one by one by many threads. Whoever waits too long gets an error, and what
nobody waits for any more is not asked.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from llmops.answering.asking import generated, stream
from llmops.answering.exchange import Answer, Asked
from llmops.answering.model import OpenModel
from llmops.errors import BackendError
from llmops.ports.model import Chat, GenerationSettings, Response
from llmops.serving.settings import Batching

SERVICE_THREADS = 64  # of a service that is asked in parallel; they wait, they do not compute


class Late(Exception):
    """The model had not answered in time."""


@dataclass
class _Waiting:
    chat: Chat
    settings: GenerationSettings
    done: asyncio.Future[Response]


class Batcher:
    """One model's queue; lives in an event loop."""

    def __init__(
        self, model: OpenModel, batching: Batching, on_batch: Callable[[int], None]
    ) -> None:
        self.model = model
        self.max_rows = batching.max_rows if model.batches else 1
        self.wait_s = batching.wait_s if model.batches else 0.0
        self.on_batch = on_batch
        self._free = 1 if model.batches else SERVICE_THREADS
        self._threads = ThreadPoolExecutor(self._free, thread_name_prefix=f"ask-{model.label}")
        self._queue: deque[_Waiting] = deque()
        self._loop = asyncio.get_running_loop()
        self._held = False

    async def ask(self, chat: Chat, settings: GenerationSettings, timeout_s: float) -> Response:
        """Return the model's response.

        Raises:
            Late: If it takes longer than ``timeout_s``.
            BackendError: If the model fails as a whole.
        """
        waiting = _Waiting(chat, settings, self._loop.create_future())
        self._queue.append(waiting)
        timer = self._loop.call_later(timeout_s, _give_up, waiting.done, timeout_s)
        if self.wait_s and len(self._queue) < self.max_rows:
            if not self._held:
                self._held = True
                self._loop.call_later(self.wait_s, self._let_go)
        elif self._free and not self._held:
            self._held = True
            self._loop.call_soon(self._let_go)  # those of the same moment come along
        try:
            return await waiting.done
        finally:
            timer.cancel()

    def close(self) -> None:
        """End the threads once their work is done."""
        self._threads.shutdown(wait=False)

    def _let_go(self) -> None:
        self._held = False
        self._dispatch()

    def _dispatch(self) -> None:
        while self._free and (batch := self._next()):
            self._free -= 1
            self.on_batch(len(batch))
            chats, settings = [one.chat for one in batch], batch[0].settings
            work = self._threads.submit(self._work, chats, settings)
            work.add_done_callback(lambda done, b=batch: self._tell(b, done))  # type: ignore[misc]

    def _next(self) -> list[_Waiting]:
        """Take the oldest question, and those after it that are asked with the same settings."""
        batch: list[_Waiting] = []
        left: deque[_Waiting] = deque()
        while self._queue and len(batch) < self.max_rows:
            one = self._queue.popleft()
            if one.done.done():
                continue  # nobody waits for it any more
            if batch and one.settings != batch[0].settings:
                left.append(one)
            else:
                batch.append(one)
        self._queue.extendleft(reversed(left))
        return batch

    def _work(self, chats: Sequence[Chat], settings: GenerationSettings) -> list[Response]:
        return list(generated(self.model, chats, settings))

    def _tell(self, batch: list[_Waiting], done: Any) -> None:
        self._loop.call_soon_threadsafe(self._finish, batch, done)

    def _finish(self, batch: list[_Waiting], done: Any) -> None:
        self._free += 1
        error = done.exception()
        responses = [None] * len(batch) if error else done.result()
        for one, response in zip(batch, responses, strict=True):
            if one.done.done():
                continue
            if error is not None:
                one.done.set_exception(error)
            else:
                one.done.set_result(response)
        self._dispatch()


def _give_up(done: asyncio.Future[Response], timeout_s: float) -> None:
    if not done.done():
        done.set_exception(Late(f"the model has not answered within {timeout_s:g} s"))


class Stream:
    """One streamed answer: made by a thread, taken by the event loop."""

    def __init__(
        self,
        model: OpenModel,
        asked: Asked,
        settings: GenerationSettings,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[str | Answer | BaseException] = asyncio.Queue()
        self._stopped = threading.Event()
        self._source: Callable[[], Iterator[str | Answer]] = lambda: stream(model, asked, settings)
        threads.submit(self._work)

    async def next(self, timeout_s: float) -> str | Answer:
        """Return the next piece, or at last the whole answer.

        Raises:
            Late: If nothing comes within ``timeout_s``.
            BackendError: If the model failed before it said anything.
        """
        try:
            async with asyncio.timeout(timeout_s):
                piece = await self._pieces.get()
        except TimeoutError as exc:
            raise Late(f"the model has not answered within {timeout_s:g} s") from exc
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def close(self) -> None:
        """Stop the model's work: nobody reads on."""
        self._stopped.set()

    def _work(self) -> None:
        try:
            with closing(self._source()) as pieces:  # type: ignore[type-var]
                for piece in pieces:
                    if self._stopped.is_set():
                        return
                    self._put(piece)
        except BackendError as exc:
            self._put(exc)
        except Exception as exc:  # noqa: BLE001 - it is raised again where it is waited for
            self._put(exc)

    def _put(self, piece: str | Answer | BaseException) -> None:
        self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)
