"""Ask a service about many chats at a time, and give the answers in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from llmops.ports.model import Chat, Response
from llmops.ports.progress import Progress

AHEAD = 2  # times ``concurrent``: how many may be on their way or answered beyond what was read


def in_order(
    ask: Callable[[Chat], Response],
    chats: Sequence[Chat],
    progress: Progress,
    *,
    concurrent: int,
    note: str = "answers",
) -> Iterator[Response]:
    """Yield what ``ask`` says of each chat; whoever stops reading leaves the rest unasked.

    One that takes its time holds up those after it: twice ``concurrent`` are asked at most beyond
    what has been read, so that a crash costs no more than these.

    Args:
        ask: Called in other threads.
        chats: In the order of the responses.
        progress: Told of each response, with ``note``.
        concurrent: How many are asked at a time.
        note: What the responses are.
    """
    pool = ThreadPoolExecutor(concurrent, "ask")
    try:
        rest = iter(chats)
        waiting: deque[Future[Response]] = deque()
        for done in range(1, len(chats) + 1):
            for chat in islice(rest, AHEAD * concurrent - len(waiting)):
                waiting.append(pool.submit(ask, chat))
            response = waiting.popleft().result()
            progress(done, len(chats), note)
            yield response
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
