"""Answers kept by content: a model that has answered a chat is not asked the same again.

The key is a digest over the model, the chat and the settings that decide the answer, so nothing
ever goes stale. An answer that failed is not kept. One SQLite file serves all processes of a
workspace; deleting it costs only asking again. Knows no prompt, no row and no step.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmops.artifacts import digest
from llmops.ports import (
    Chat,
    GenerationSettings,
    Generator,
    ModelReference,
    Progress,
    Response,
    TokenScore,
)

FILE = "answers.sqlite"
WAIT_S = 60.0  # for another process that writes
KEEP_EVERY_S = 0.5  # an answer that comes later than that is kept at once; faster ones together
ABOUT_ASKING = ("tuner", "api_key", "timeout_s", "attempts", "parallel_requests", "requests")


@dataclass(frozen=True)
class Kept:
    """The file of answers. ``fresh`` ones are asked for again and then kept."""

    path: Path
    fresh: bool = False

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=WAIT_S)) as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, body TEXT NOT NULL)"
            )
            yield connection

    def find(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return what is kept under these keys; nothing if ``fresh``."""
        if self.fresh or not self.path.exists():
            return {}
        with self._open() as connection:
            found = (
                connection.execute("SELECT key, body FROM answers WHERE key = ?", (key,)).fetchone()
                for key in dict.fromkeys(keys)
            )
            return {row[0]: json.loads(row[1]) for row in found if row}

    def keep(self, answers: Mapping[str, Any]) -> None:
        """Keep some answers, all or none."""
        if not answers:
            return
        rows = [(key, json.dumps(body)) for key, body in answers.items()]
        with self._open() as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows)


def identity(model: Mapping[str, Any], reference: ModelReference) -> dict[str, Any]:
    """Return what decides a model's answers: its config and which tuned model it is."""
    return {
        "model": {name: value for name, value in model.items() if name not in ABOUT_ASKING},
        "reference": asdict(reference),
    }


class KeptGenerator:
    """Looks among the kept answers first; the model itself is opened when it is needed."""

    def __init__(
        self,
        kept: Kept,
        model: Mapping[str, Any],
        can_score: bool,
        opened: Callable[[], Generator],
    ) -> None:
        self.kept = kept
        self.model = model
        self.can_score = can_score
        self._open = opened
        self._generator: Generator | None = None

    @property
    def generator(self) -> Generator:
        """The model itself."""
        if self._generator is None:
            self._generator = self._open()
        return self._generator

    def generate(
        self, chats: Sequence[Chat], settings: GenerationSettings, progress: Progress
    ) -> Iterator[Response]:
        """Yield one response a chat, in order; see ``ports.Generator``."""
        deciding = asdict(settings)
        del deciding["batch_rows"]
        keys = [self._key("answer", chat, deciding) for chat in chats]
        found = {key: _response(body) for key, body in self.kept.find(keys).items()}
        missing = [place for place, key in enumerate(keys) if key not in found]
        progress(len(chats) - len(missing), len(chats), "answers")
        if missing:
            asked = self.generator.generate([chats[i] for i in missing], settings, progress)
            self._collect(asked, [keys[i] for i in missing], found)
        yield from (found[key] for key in keys)

    def stream(self, chat: Chat, settings: GenerationSettings) -> Iterator[str | Response]:
        """Stream from the model itself; see ``ports.Generator``."""
        return self.generator.stream(chat, settings)

    def score(self, pairs: Iterable[tuple[Chat, str]], progress: Progress) -> Iterator[TokenScore]:
        """Yield the likelihood of each reference answer, in order; see ``ports.Generator``."""
        listed = list(pairs)
        keys = [self._key("score", chat, answer) for chat, answer in listed]
        found = {key: TokenScore(**body) for key, body in self.kept.find(keys).items()}
        missing = [place for place, key in enumerate(keys) if key not in found]
        if missing:
            scored = list(self.generator.score((listed[i] for i in missing), progress))
            made = dict(zip((keys[i] for i in missing), scored, strict=True))
            self.kept.keep({key: asdict(score) for key, score in made.items()})
            found |= made
        yield from (found[key] for key in keys)

    def _collect(
        self, asked: Iterator[Response], keys: Sequence[str], found: dict[str, Response]
    ) -> None:
        waiting: dict[str, Any] = {}
        kept_at = float("-inf")
        try:
            for key, response in zip(keys, asked, strict=True):
                found[key] = response
                if response.finish_reason != "error":
                    waiting[key] = asdict(response)
                if time.monotonic() - kept_at >= KEEP_EVERY_S:
                    self.kept.keep(waiting)
                    waiting, kept_at = {}, time.monotonic()
        finally:
            self.kept.keep(waiting)

    def _key(self, what: str, chat: Chat, rest: Any) -> str:
        turns = [[turn.role, turn.text] for turn in chat]
        return digest([what, self.model, turns, rest])


def _response(body: Mapping[str, Any]) -> Response:
    import msgspec

    return msgspec.convert(body, Response)
