"""Ask one of Google's services until it answers: paced, patient with quotas and outages.

Google's clients do not try again by themselves, or not for long. Here a refused or lost request is
asked again with ``patience`` until a deadline. A wait that the service orders holds every thread
back. Credentials that end in the middle are made anew
once a request. Knows no model and no job.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from llmops.adapters.google import RETRYABLE, WAYS
from llmops.adapters.patience import Patience, helps
from llmops.errors import BackendError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

T = TypeVar("T")
HINTS = {
    403: "give the account the role Vertex AI User: docs/google_cloud.md",
    404: "check env.project and the region, and that the model or endpoint still exists",
    429: "the quota is used up: lower model.requests.per_minute, or ask for more quota",
}


@dataclass(frozen=True)
class Requests:
    """The ``model.requests`` block; see conf/model/gemini.yaml for units."""

    concurrent: int
    per_minute: float
    timeout_s: float
    deadline_s: float
    batch_from_rows: int | None = None


class RequestRefused(Exception):
    """The service takes this very request for wrong; another one may do."""


class Unanswered(BackendError):
    """A request that must not be repeated blindly got no answer: it may have been carried out."""


class Pacer:
    """Spaces requests evenly, and holds all of them back when the service says so."""

    def __init__(self, per_minute: float) -> None:
        self.interval = 60.0 / per_minute
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Wait for this request's turn."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self.interval
        if turn > now:
            time.sleep(turn - now)

    def hold(self, seconds: float) -> None:
        """Give nobody a turn for that long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class Asking:
    """Asks one service as described above; safe for many threads."""

    def __init__(self, service: str, requests: Requests, credentials: Credentials) -> None:
        self.service, self.requests = service, requests
        self._credentials = credentials
        self._pacer = Pacer(requests.per_minute)
        self._lock = threading.Lock()

    def call(
        self,
        ask: Callable[[], T],
        *,
        deadline_s: float | None = None,
        repeatable: bool = True,
    ) -> T:
        """Return what ``ask`` gets, asking again while that helps and the deadline allows.

        Raises:
            RequestRefused: If the request itself is wrong.
            Unanswered: If it is not ``repeatable`` and got no answer.
            BackendError: If the service refuses, or still fails at the deadline.
        """
        renewed = False

        def once() -> T:
            nonlocal renewed
            self._pacer.wait()
            token = self._credentials.token
            try:
                return ask()
            except Exception as exc:
                trouble = trouble_of(exc, self.service)
                if trouble is None or (trouble.code == 401 and renewed):
                    raise
                if trouble.code != 401:
                    if not repeatable and trouble.code != 429 and trouble.retryable:
                        raise Unanswered(trouble.text, retryable=True) from exc
                    raise
            renewed = True
            self._renew(token)
            return once()

        seconds = self.requests.deadline_s if deadline_s is None else deadline_s
        return Patience(self.service, seconds, _meaning, self._wait, _helps).ask(once)

    def _wait(self, seconds: float, *, ordered: bool) -> None:
        """Wait; a wait that the service orders holds back every thread."""
        if ordered:
            self._pacer.hold(seconds)
        else:
            time.sleep(seconds)

    def _renew(self, refused: str | None) -> None:
        """Get a new token, unless another thread has done so since ``refused`` was used."""
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        with self._lock:
            if self._credentials.token not in (None, refused):
                return
            try:
                self._credentials.refresh(Request())  # type: ignore[no-untyped-call]
            except GoogleAuthError as exc:
                raise BackendError(
                    f"{self.service}: the credentials have ended and cannot be renewed: {exc}",
                    hint=WAYS,
                ) from exc


@dataclass(frozen=True)
class Trouble:
    """What went wrong with one request."""

    code: int | None
    text: str
    retryable: bool

    def error(self) -> Exception:
        """Return it as the error to raise."""
        if self.code in (400, 413):
            return RequestRefused(self.text)
        hint = WAYS if self.code == 401 else HINTS.get(self.code or 0, "")
        if self.retryable and not hint:
            hint = "run it again: what is finished is kept"
        return BackendError(self.text, hint=hint, retryable=self.retryable)


def _meaning(exc: BaseException, service: str) -> Exception | None:
    if isinstance(exc, BackendError):  # ours already
        return exc
    trouble = trouble_of(exc, service)
    return None if trouble is None else trouble.error()


def _helps(error: Exception) -> bool:
    return helps(error) and not isinstance(error, Unanswered)


def trouble_of(exc: BaseException, service: str) -> Trouble | None:
    """Read an error of one of Google's clients or their transports; None for any other."""
    import httpx
    import requests
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from google.genai import errors

    if isinstance(exc, errors.APIError):
        code = int(exc.code or 0)
        text = f"{service} answered {code}: {exc.message or exc.status or 'no reason given'}"
        return Trouble(code, text, code in RETRYABLE)
    if isinstance(exc, api.GoogleAPICallError):
        code = int(exc.code or 0)
        text = f"{service} answered {code}: {exc.message or 'no reason given'}"
        return Trouble(code, text, code in RETRYABLE)
    if isinstance(
        exc,
        httpx.TransportError | auth.TransportError | requests.RequestException | ConnectionError,
    ):
        text = f"{service} cannot be reached: {exc or type(exc).__name__}"
        return Trouble(None, text, retryable=True)
    if isinstance(exc, auth.GoogleAuthError):
        return Trouble(401, f"{service}: the credentials are not accepted: {exc}", retryable=False)
    if isinstance(exc, ValueError) and "JSON" in type(exc).__name__.upper():
        return Trouble(None, f"{service} broke off in mid-answer: {exc}", retryable=True)
    return None
