"""An OpenAI-compatible endpoint on loopback: real HTTP, with refusals, filters and bad days.

What it answers follows from the messages, the temperature and the seed alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONTEXT_WORDS = 4000
Answer = Callable[[dict[str, Any]], str]


def words(body: dict[str, Any]) -> str:
    """Twenty made-up words that follow from what was asked."""
    chance = body["seed"] if body["temperature"] else 0
    seen = hashlib.sha256(f"{chance}:{body['messages']}".encode()).hexdigest()
    return " ".join(f"w{seen[i : i + 3]}" for i in range(20))


@dataclass
class OpenAI:
    """``failures`` are the statuses of the next replies; 0 cuts the connection, -1 is no JSON."""

    url: str = ""
    key: str | None = None
    models: tuple[str, ...] = ("some-model",)
    answer: Answer = words
    failures: list[int] = field(default_factory=list)
    retry_after: str | None = "0"
    delay_s: float = 0.0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    most_at_once: int = 0
    at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def config(self, **changes: Any) -> dict[str, Any]:
        """The ``model`` config group that leads here."""
        plain = {
            "kind": "openai",
            "base": "some-model",
            "endpoint": self.url,
            "api_key": None,
            "timeout_s": 5,
            "attempts": 3,
            "parallel_requests": 4,
            "max_tokens_field": "max_tokens",
        }
        return plain | changes


@contextmanager
def openai_server() -> Iterator[OpenAI]:
    """Serve until the block ends."""
    state = OpenAI()
    handler = type("Handler", (_Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    state: OpenAI
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        state = self.state
        with state.lock:
            state.bodies.append(body)
            failure = state.failures.pop(0) if state.failures else 200
            state.at_once += 1
            state.most_at_once = max(state.most_at_once, state.at_once)
        time.sleep(state.delay_s)
        with state.lock:
            state.at_once -= 1
        if failure == 0:
            self.close_connection = True
            self.connection.close()
        elif failure == -1:
            self._send(200, b"<html>no JSON</html>")
        elif failure != 200:
            self._error(failure, "", "a bad day")
        else:
            self._reply(body)

    def _reply(self, body: dict[str, Any]) -> None:
        state, asked = self.state, " ".join(turn["content"] for turn in body["messages"])
        if self.path != "/v1/chat/completions":
            self._error(404, "unknown_url", f"there is no {self.path}")
        elif state.key and self.headers.get("authorization") != f"Bearer {state.key}":
            self._error(401, "invalid_api_key", "Incorrect API key provided")
        elif body["model"] not in state.models:
            self._error(404, "model_not_found", f"there is no model {body['model']}")
        elif len(asked.split()) > CONTEXT_WORDS:
            self._error(400, "context_length_exceeded", "the prompt is too long")
        elif "REFUSE-PROMPT" in asked:
            self._error(400, "content_filter", "the prompt was filtered")
        else:
            self._completion(body, asked)

    def _completion(self, body: dict[str, Any], asked: str) -> None:
        whole = self.state.answer(body).split(" ")
        cut = whole[: body["max_tokens"]]
        filtered = "FILTER-ANSWER" in asked
        reason = "content_filter" if filtered else "length" if len(cut) < len(whole) else "stop"
        message = {"role": "assistant", "content": None if filtered else " ".join(cut)}
        usage = {"prompt_tokens": len(asked.split()) + 3, "completion_tokens": len(cut)}
        choice = {"index": 0, "message": message, "finish_reason": reason}
        if body.get("stream"):
            self._stream("" if filtered else " ".join(cut), reason, usage)
            return
        reply = {"object": "chat.completion", "model": body["model"], "choices": [choice]}
        self._send(200, json.dumps({**reply, "usage": usage}).encode())

    def _stream(self, text: str, reason: str, usage: dict[str, int]) -> None:
        pieces = [piece for piece in re.split(r"(?<= )", text) if piece]
        events: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces
        ]
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        events.append({"choices": [], "usage": usage})
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        self._send(200, "".join([": hello\n\n", *lines, "data: [DONE]\n\n"]).encode())

    def _error(self, status: int, code: str, message: str) -> None:
        self._send(status, json.dumps({"error": {"code": code, "message": message}}).encode())

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        if self.state.retry_after is not None and status != 200:
            self.send_header("retry-after", self.state.retry_after)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
