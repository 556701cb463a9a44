"""What a request can go wrong with, as the status and body that its client gets.

The body is the one that OpenAI's clients read: ``{"error": {message, type, param, code}}``.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    421: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    502: "server_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class Fault(Exception):
    """A request that gets another answer than it asked for."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """Return the body, as JSON."""
        error = {
            "message": self.message,
            "type": TYPES[self.status],
            "param": self.param,
            "code": self.code,
        }
        return orjson.dumps({"error": error})


def busy(message: str, *, status: int = 503, after_s: int = 1) -> Fault:
    """Return the fault of a server that has too much to do: come back in ``after_s`` seconds."""
    code = "rate_limit_exceeded" if status == 429 else "overloaded"
    return Fault(status, message, code=code, headers={"retry-after": str(after_s)})
