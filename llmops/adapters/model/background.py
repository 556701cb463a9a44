"""Take the items of a generator from a thread of its own, so that any thread may ask for them.

A lock that the generator holds is taken and let go by that one thread. Knows no model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _Item(Generic[T]):
    value: T


@dataclass(frozen=True)
class _End:
    error: BaseException | None = None


def in_background(source: Callable[[], Generator[T, None, None]]) -> Iterator[T]:
    """Yield what ``source()`` yields, made ahead by a thread that ends with this iterator.

    Raises:
        BaseException: What the source raised, after the items that came before.
    """
    made: SimpleQueue[_Item[T] | _End] = SimpleQueue()
    stop = threading.Event()

    def work() -> None:
        try:
            with closing(source()) as items:
                for item in items:
                    made.put(_Item(item))
                    if stop.is_set():
                        return
            made.put(_End())
        except BaseException as exc:  # noqa: BLE001  it is raised where the items are taken
            made.put(_End(exc))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while isinstance(found := made.get(), _Item):
            yield found.value
        if found.error is not None:
            raise found.error
    finally:
        stop.set()
        thread.join()
