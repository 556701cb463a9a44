"""Asks a service again while it is busy or the line breaks, as late as it asks to be asked.

Only for calls that may be made twice: reads, and writes that name what they make. Knows no
service.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from llmops.errors import BackendError, LlmopsError

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")
LOG = logging.getLogger("llmops.cloud")
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0


@dataclass(frozen=True)
class Patience:
    """``seconds`` bounds the waits of one call; ``failure`` tells what an exception means.

    ``failure`` returns None for an exception that is a bug of ours.
    """

    service: str
    seconds: float
    failure: Callable[[BaseException, str], LlmopsError | None]

    def ask(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns, however often it has to be made.

        Raises:
            BackendError: What the last refusal was, once the waits would pass ``seconds``.
            LlmopsError: At once, what a refusal means that asking again does not help.
        """
        from tenacity import Retrying, retry_if_exception, stop_before_delay

        again: Retrying = Retrying(
            retry=retry_if_exception(self._helps),
            wait=_wait,
            stop=stop_before_delay(self.seconds),
            before_sleep=self._say,
            reraise=True,
        )
        try:
            return again(call)
        except Exception as exc:
            error = self.failure(exc, self.service)
            if error is None:
                raise
            raise error from exc

    def _helps(self, exc: BaseException) -> bool:
        error = self.failure(exc, self.service)
        return isinstance(error, BackendError) and error.retryable

    def _say(self, state: RetryCallState) -> None:
        assert state.outcome is not None
        exc = state.outcome.exception()
        error = self.failure(exc, self.service) if exc else None
        LOG.warning("%s; asking again in %.1f s", error, state.upcoming_sleep)


def _wait(state: RetryCallState) -> float:
    """Wait as long as the answer says, or exponentially longer, with some chance in it."""
    from tenacity import wait_random_exponential

    assert state.outcome is not None
    asked = retry_after(state.outcome.exception())
    if asked is not None:
        return asked
    return wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S)(state)


def retry_after(exc: Any) -> float | None:
    """Return the seconds of a ``Retry-After`` header that came with a refusal, if one did.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after; its other form, a date, is not read.
    """
    response = getattr(exc, "response", None)
    text = str(getattr(response, "headers", {}).get("Retry-After", "")).strip()
    return float(text) if text.isdecimal() else None
