"""GitHub's comments as a server on loopback: real HTTP, pages, refusals and a bad day."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

LISTED = re.compile(r"/repos/(?P<repository>[^/]+/[^/]+)/issues/(?P<number>\d+)/comments")
ONE = re.compile(r"/repos/(?P<repository>[^/]+/[^/]+)/issues/comments/(?P<id>\d+)")


@dataclass
class GitHub:
    """``comments`` of one pull request; ``tokens``: what each may do; ``failures`` come first."""

    url: str = ""
    comments: list[dict[str, Any]] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=lambda: {"writer": "write", "reader": "read"})
    failures: list[int] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def add(self, body: str, by: str = "writer") -> int:
        number = 100 + len(self.comments)
        self.comments.append(
            {"id": number, "body": body, "by": by, "html_url": f"{self.url}/{number}"}
        )
        return number

    def bodies(self) -> list[str]:
        return [comment["body"] for comment in self.comments]


@contextmanager
def github() -> Iterator[GitHub]:
    """Serve until the block ends."""
    state = GitHub()
    handler = type("Handler", (_Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    state: GitHub

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if self._refused("read") or not LISTED.fullmatch(asked.path):
            return
        wanted = parse_qs(asked.query)
        size, page = int(wanted["per_page"][0]), int(wanted["page"][0])
        self._answer(200, self.state.comments[size * (page - 1) : size * page])

    def do_POST(self) -> None:
        if not self._refused("write") and LISTED.fullmatch(self.path):
            self.state.add(self._body()["body"], self._token())
            self._answer(201, self.state.comments[-1])

    def do_PATCH(self) -> None:
        found = ONE.fullmatch(self.path)
        if self._refused("write") or not found:
            return
        comment = next(c for c in self.state.comments if c["id"] == int(found["id"]))
        if comment["by"] != self._token():
            self._answer(403, {"message": "not yours"})
            return
        comment["body"] = self._body()["body"]
        self._answer(200, comment)

    def _refused(self, right: str) -> bool:
        self.state.calls.append(self.command)
        may = self.state.tokens.get(self._token())
        if self.state.failures:
            self._answer(self.state.failures.pop(0), {"message": "a bad day"})
        elif may is None:
            self._answer(401, {"message": "Bad credentials"})
        elif right == "write" and may != "write":
            self._answer(403, {"message": "Resource not accessible by integration"})
        else:
            return False
        return True

    def _token(self) -> str:
        return self.headers["Authorization"].removeprefix("Bearer ")

    def _body(self) -> dict[str, Any]:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, code: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass
