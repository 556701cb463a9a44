"""Ctrl-C and SIGTERM while work goes on in other processes or on other machines."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def collected() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them; they are left alone in a thread."""
    received: list[int] = []
    try:
        before = {
            number: signal.signal(number, lambda got, _: received.append(got))
            for number in (signal.SIGINT, signal.SIGTERM)
        }
    except ValueError:  # not the main thread: the embedding program owns the signals
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
