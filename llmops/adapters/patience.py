"""Asks a service again while it is busy or the line breaks, as late as it asks to be asked.

Only for calls that may be made twice: reads, and writes that name what they make. Knows no
service: what an exception means, and how to wait, the caller says.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from llmops.errors import BackendError

T = TypeVar("T")
LOG = logging.getLogger("llmops.cloud")
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0


def sleep(seconds: float, *, ordered: bool) -> None:
    """Wait in this thread alone, whoever wants it."""
    del ordered
    time.sleep(seconds)


def helps(error: Exception) -> bool:
    """Say whether asking again may help: where our error says so."""
    return isinstance(error, BackendError) and error.retryable


@dataclass(frozen=True)
class Patience:
    """``seconds`` bounds the waits of one call; ``failure`` returns what an exception means.

    ``failure`` returns None for an exception that is a bug of ours. ``wait`` is told whether the
    service ordered the pause; ``again`` says of an error whether asking again may help.
    """

    service: str
    seconds: float
    failure: Callable[[BaseException, str], Exception | None]
    wait: Callable[..., None] = sleep
    again: Callable[[Exception], bool] = helps

    def ask(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns, however often it has to be made.

        Raises:
            Exception: What the last refusal meant, once the waits would pass ``seconds``, or at
                once if asking again does not help.
        """
        end = time.monotonic() + self.seconds
        attempt = 0
        while True:
            try:
                return call()
            except Exception as exc:
                error = self.failure(exc, self.service)
                if error is None:
                    raise
                attempt += 1
                ordered = retry_after(exc)
                pause = growing_pause(attempt) if ordered is None else ordered
                if not self.again(error) or time.monotonic() + pause > end:
                    if error is exc:
                        raise
                    raise error from exc
            LOG.warning("%s; asking again in %.1f s", error, pause)
            self.wait(pause, ordered=ordered is not None)


def growing_pause(attempt: int) -> float:
    """Return the seconds before the next attempt: longer each time, with some chance in it."""
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempt - 1, 30))
    return longest * random.uniform(0.5, 1.0)


def retry_after(exc: Any) -> float | None:
    """Return the seconds that a refusal asks to wait, or None if it does not say.

    That is the header ``Retry-After``, as seconds or as a date, or Google's ``RetryInfo``.
    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    headers = getattr(getattr(exc, "response", exc), "headers", None) or {}
    told = next((v for name, v in headers.items() if name.lower() == "retry-after"), None)
    if told is None:
        return _retry_info(getattr(exc, "details", None))
    if told.strip().isdecimal():
        return float(told)
    try:
        return max(0.0, (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _retry_info(details: Any) -> float | None:
    error = details.get("error", {}) if isinstance(details, Mapping) else {}
    for detail in error.get("details") or ():
        delay = str(detail.get("retryDelay", ""))
        if re.fullmatch(r"\d+(\.\d+)?s", delay):
            return float(delay[:-1])
    return None
