"""The few calls to GitHub's REST API that a review needs: one comment that is kept up to date.

Knows nothing of experiments. Errors of the API are told apart here: a token that may not write is
no failure of the review, a server that does not answer is one.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmops.errors import BackendError

MARKER = "<!-- llmops review -->"
LONGEST = 65_000  # characters of a comment; GitHub takes 65536
_PAGE = 100
_TIMEOUT_S = 20
_TRIES = 3
_FORBIDDEN = (401, 403, 404)


class Forbidden(Exception):
    """The token may not do this: a fork's pull request, or a workflow without the permission."""


@dataclass(frozen=True)
class PullRequest:
    """A pull request of ``repository`` (``owner/name``) and where its API answers."""

    api: str
    token: str
    repository: str
    number: int
    patience_s: float = 1.0

    def comment(self, text: str) -> str:
        """Update the review's comment, or post it; return its address.

        Raises:
            Forbidden: If the token may not comment.
            BackendError: If GitHub does not answer, or not as it should.
        """
        body = {"body": f"{MARKER}\n{_cut(text)}"}
        for number in self._ours():
            try:
                changed = self._call("PATCH", f"issues/comments/{number}", body)
            except Forbidden:
                continue  # somebody else's comment with our marker in it
            return str(changed["html_url"])
        return str(self._call("POST", f"issues/{self.number}/comments", body)["html_url"])

    def _ours(self) -> Iterator[int]:
        page = 1
        while True:
            path = f"issues/{self.number}/comments?per_page={_PAGE}&page={page}"
            found = self._call("GET", path)
            yield from (one["id"] for one in found if (one["body"] or "").startswith(MARKER))
            if len(found) < _PAGE:
                return
            page += 1

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        for attempt in range(1, _TRIES + 1):
            try:
                return self._once(method, path, body)
            except urllib.error.HTTPError as exc:
                exc.close()
                limited = exc.code == 429 or "retry-after" in exc.headers
                if exc.code in _FORBIDDEN and not limited:
                    raise Forbidden(f"{method} {path}: {exc.code}") from exc
                if attempt == _TRIES or not (limited or exc.code >= 500):
                    raise _failed(f"{exc.code} {exc.reason}") from exc
                time.sleep(float(exc.headers.get("retry-after") or self.patience_s * attempt))
            except (OSError, ValueError) as exc:
                if attempt == _TRIES:
                    raise _failed(str(exc)) from exc
                time.sleep(self.patience_s * attempt)
        raise AssertionError("unreachable")

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        request = urllib.request.Request(
            f"{self.api.rstrip('/')}/repos/{self.repository}/{path}",
            data=json.dumps(body).encode() if body is not None else None,
            method=method,
            headers={
                "Accept": "application/vnd.github+json",
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
                "X-GitHub-Api-Version": "2022-11-28",
            },
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            return json.load(answer)


def _failed(why: str) -> BackendError:
    return BackendError(
        f"GitHub did not take the comment: {why}", hint="run it again", retryable=True
    )


def _cut(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]}\n\n…\n\nThe rest is in the summary of the job."
