"""Ask a service about many chats at a time, and give the answers in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from llmops.ports import Chat, Progress, Response


def in_order(
    ask: Callable[[Chat], Response],
    chats: Sequence[Chat],
    progress: Progress,
    *,
    concurrent: int,
    note: str = "answers",
) -> Iterator[Response]:
    """Yield what ``ask`` says of each chat; whoever stops reading leaves the rest unasked.

    Args:
        ask: Called in other threads.
        chats: In the order of the responses.
        progress: Told of each response, with ``note``.
        concurrent: How many are asked at a time.
        note: What the responses are.
    """
    pool = ThreadPoolExecutor(concurrent, "ask")
    try:
        waiting: deque[Future[Response]] = deque(pool.submit(ask, chat) for chat in chats)
        for done in range(1, len(chats) + 1):
            response = waiting.popleft().result()
            progress(done, len(chats), note)
            yield response
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
