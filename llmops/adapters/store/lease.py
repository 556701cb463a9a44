"""One worker at a time on a step key, where a bucket is all that the workers share.

A lease is a numbered object, ``locks/<key>/<number>``, whose writer holds the key while no higher
number exists. Whoever wants the key creates the next number once the holder has let go of it or
has been silent for its time; of two that try, a bucket lets one succeed. The silence is measured
by the waiter's own clock, so no two clocks need agree. A holder that was taken for dead learns it
from the higher number, and must not record what it did.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmops.adapters.store.blobs import Blobs
from llmops.errors import BackendError
from llmops.processes import is_running

BEATS = 4  # how often in its time a holder says that it lives
POLLS = 20  # how often in that time a waiter looks
LONGEST_POLL_S = 2.0


class Lease:
    """The right to work on a key; ``lost`` once another worker took it over."""

    def __init__(self, blobs: Blobs, key: str, number: int, seconds: float) -> None:
        self.blobs = blobs
        self.folder = f"locks/{key}/"
        self.number = number
        self.seconds = seconds
        self.me = uuid.uuid4().hex
        self.lost = False
        self._beat = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beats, daemon=True)

    def taken(self) -> bool:
        """Create the lease's object; False if somebody else was first.

        The number may be free only because newer leases came and went since it was looked up: then
        one of them is still there, for the newest is never removed.
        """
        name = self._name(self.number)
        if not self.blobs.create(name, self._content()):
            found = _read(self.blobs, name)  # ours, if an answer was lost
            if found.get("id") != self.me:
                return False
        if self._is_newest():
            return True
        self.blobs.delete(name)
        return False

    def keep(self) -> None:
        """Begin to say that this process lives."""
        self._thread.start()

    def release(self) -> None:
        """Let go of the key, and remove what older leases left."""
        self._ended.set()
        self._thread.join()
        if not self.lost:
            self.blobs.write(self._name(self.number), self._content(released=True))
        for blob in list(self.blobs.list(self.folder)):
            if _number(blob.name) < self.number:
                self.blobs.delete(blob.name)

    def check(self) -> None:
        """Say whether the key is still ours.

        Raises:
            BackendError: If another worker took it over.
        """
        if self.lost or not self._is_newest():
            self.lost = True
            raise BackendError(
                f"another worker took over step key {self.folder[6:18]} while this one was silent",
                hint="run it again: the result of the other worker is found then",
                retryable=True,
            )

    def _beats(self) -> None:
        while not self._ended.wait(self.seconds / BEATS):
            with contextlib.suppress(BackendError):  # silence is what the others will see
                if not self._is_newest():
                    self.lost = True
                    return
                self._beat += 1
                self.blobs.write(self._name(self.number), self._content())

    def _is_newest(self) -> bool:
        return all(_number(blob.name) <= self.number for blob in self.blobs.list(self.folder))

    def _content(self, *, released: bool = False) -> bytes:
        content = {
            "id": self.me,
            "machine": _machine(),
            "pid": os.getpid(),
            "beat": self._beat,
            "released": released,
        }
        return json.dumps(content).encode()

    def _name(self, number: int) -> str:
        return f"{self.folder}{number:08d}.json"


def acquire(blobs: Blobs, key: str, seconds: float) -> Lease:
    """Wait until the key is free, and return the lease on it, kept alive by a thread."""
    seen: tuple[int, Any] | None = None
    since = time.monotonic()
    while True:
        number, content = _latest(blobs, key)
        if (number, content) != seen:
            seen, since = (number, content), time.monotonic()
        silent = time.monotonic() - since > seconds
        if number == 0 or content.get("released") or silent or _died_here(content):
            lease = Lease(blobs, key, number + 1, seconds)
            if lease.taken():
                lease.keep()
                return lease
        time.sleep(min(LONGEST_POLL_S, seconds / POLLS))


@contextlib.contextmanager
def held(blobs: Blobs, key: str, seconds: float) -> Iterator[Lease]:
    """Hold the lease on ``key``."""
    lease = acquire(blobs, key, seconds)
    try:
        yield lease
    finally:
        lease.release()


def _latest(blobs: Blobs, key: str) -> tuple[int, dict[str, Any]]:
    names = [blob.name for blob in blobs.list(f"locks/{key}/")]
    newest = max(names, key=_number, default=None)
    return (0, {}) if newest is None else (_number(newest), _read(blobs, newest))


def _number(name: str) -> int:
    text = name.rpartition("/")[2].removesuffix(".json")
    return int(text) if text.isdecimal() else 0


def _read(blobs: Blobs, name: str) -> dict[str, Any]:
    """Return a lease's content; empty while it is being written."""
    try:
        content = json.loads(blobs.read(name) or b"{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _died_here(content: dict[str, Any]) -> bool:
    """Say whether the holder was a process of this machine that is gone: no need to wait."""
    return content.get("machine") == _machine() and not is_running(int(content.get("pid", 0)))


@functools.cache
def _machine() -> str:
    """Name where a process number means one process: machine, boot and container.

    Empty parts, where the system does not say, are told apart by the machine's name alone.
    """
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)
