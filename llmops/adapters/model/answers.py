"""Answers kept by content: a model that has answered a chat is not asked the same again.

The key is a digest over the model, the chat and the settings that decide the answer, so nothing
ever goes stale. An answer that failed is not kept. The chat is kept beside its answer, so that what
concerns a row or a person can be found and removed, and when it was last of use, so that old ones
can go. One SQLite file serves all processes of a workspace; deleting it costs only asking again.
Where the workspace is a container's, which ends with its step, a journal carries the answers on.
Knows no prompt and no row.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmops.artifacts import digest
from llmops.files import write_text
from llmops.ports.model import (
    Chat,
    GenerationSettings,
    Generator,
    ModelReference,
    Response,
    TokenScore,
)
from llmops.ports.progress import Progress

FILE = "answers.sqlite"
JOURNAL = "answers-{}.jsonl"
TABLE = (
    "CREATE TABLE IF NOT EXISTS kept"
    " (key TEXT PRIMARY KEY, chat TEXT NOT NULL, body TEXT NOT NULL, used TEXT NOT NULL)"
)
WAIT_S = 60.0  # for another process that writes
KEEP_EVERY_S = 0.5  # an answer that comes later than that is kept at once; faster ones together
ABOUT_ASKING = ("tuner", "api_key", "timeout_s", "attempts", "parallel_requests", "requests")


@dataclass(frozen=True)
class Answer:
    """What is kept under a key: the turns it answers, and the answer as plain JSON."""

    chat: Sequence[Sequence[str]]
    body: Any


class Journal:
    """Carries the answers of a step that is in work to the worker that takes it over elsewhere.

    They lie in the step's scratch folder, ``answers-<id>.jsonl``, a file each time that some are
    kept; the store lets them outlive this machine until the step is done.
    """

    def __init__(self) -> None:
        self._step: tuple[Path, Callable[[Path], None]] | None = None

    def begin(self, scratch: Path, outlive: Callable[[Path], None]) -> dict[str, Answer]:
        """Write into this folder from now on, and return what an earlier worker left there.

        Args:
            scratch: The folder of the step.
            outlive: Lets a file of it outlive this machine; see ``ports.store.Store.keep``.
        """
        self._step = (scratch, outlive)
        found = {}
        for path in sorted(scratch.glob(JOURNAL.format("*"))):
            for line in path.read_text("utf-8").splitlines():
                row = json.loads(line)
                found[row["key"]] = Answer(row["chat"], row["body"])
        return found

    def write(self, answers: Mapping[str, Answer]) -> None:
        """Write answers down, if a step is in work."""
        if self._step is None:
            return
        scratch, outlive = self._step
        path = scratch / JOURNAL.format(uuid.uuid4().hex)
        lines = (json.dumps({"key": key, **asdict(one)}) for key, one in answers.items())
        write_text(path, "\n".join(lines) + "\n")
        outlive(path)


@dataclass(frozen=True)
class Kept:
    """The file of answers. ``fresh`` ones are asked for again and then kept."""

    path: Path
    fresh: bool = False
    journal: Journal | None = None

    def take_over(self, scratch: Path, outlive: Callable[[Path], None]) -> None:
        """Keep what an earlier worker on a step was answered, and let others find what this is.

        Raises:
            BackendError: If the disk refuses.
        """
        if self.journal is not None:
            self._insert(self.journal.begin(scratch, outlive))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=WAIT_S)) as connection:
            connection.execute("PRAGMA secure_delete = ON")  # what goes is overwritten
            with connection:
                connection.execute(TABLE)
            yield connection

    def find(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return what is kept under these keys, and note that it was of use; nothing if ``fresh``.

        That is noted to the day.
        """
        if self.fresh or not self.path.exists():
            return {}
        today = _today()
        with self._open() as connection:
            found = {}
            for key in dict.fromkeys(keys):
                row = connection.execute(
                    "SELECT body, used FROM kept WHERE key = ?", (key,)
                ).fetchone()
                if row:
                    found[key] = row
            old = [(today, key) for key, (_, used) in found.items() if used < today]
            if old:
                with connection:
                    connection.executemany("UPDATE kept SET used = ? WHERE key = ?", old)
        return {key: json.loads(body) for key, (body, _) in found.items()}

    def keep(self, answers: Mapping[str, Answer]) -> None:
        """Keep some answers, all or none.

        Raises:
            BackendError: If the store refuses what a worker elsewhere would go on from.
        """
        self._insert(answers)
        if answers and self.journal is not None:
            self.journal.write(answers)

    def _insert(self, answers: Mapping[str, Answer]) -> None:
        if not answers:
            return
        rows = [
            (key, json.dumps(answer.chat), json.dumps(answer.body), _today())
            for key, answer in answers.items()
        ]
        with self._open() as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)", rows)

    def about(self, texts: Sequence[str], *, remove: bool = False) -> int:
        """Return how many answers have one of ``texts`` in their chat or in themselves.

        Args:
            texts: White space around them does not count.
            remove: Remove those answers.
        """
        plain = {text.strip() for text in texts} - {""}
        in_json = {json.dumps(text, ensure_ascii=False)[1:-1] for text in plain}  # as judges get it
        wanted = [json.dumps(text)[1:-1] for text in sorted(plain | in_json)]
        if not wanted or not self.path.exists():
            return 0
        where = " OR ".join(["instr(chat, ?) OR instr(body, ?)"] * len(wanted))
        with self._open() as connection, connection:
            twice = [text for text in wanted for _ in range(2)]
            verb = "DELETE" if remove else "SELECT count(*)"
            done = connection.execute(f"{verb} FROM kept WHERE {where}", twice)
            return done.rowcount if remove else int(done.fetchone()[0])

    def unused(self, before: datetime, *, remove: bool = False) -> int:
        """Return how many answers were of no use since the day of ``before``, or remove them."""
        if not self.path.exists():
            return 0
        verb = "DELETE" if remove else "SELECT count(*)"
        day = before.astimezone(UTC).date().isoformat()
        with self._open() as connection, connection:
            done = connection.execute(f"{verb} FROM kept WHERE used < ?", (day,))
            gone = done.rowcount if remove else int(done.fetchone()[0])
        if remove and gone:
            with self._open() as connection:
                connection.execute("VACUUM")  # gives the room back
        return gone


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


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
        """Yield one response a chat, in order; see ``ports.model.Generator``."""
        deciding = asdict(settings)
        del deciding["batch_rows"]
        keys = [self._key("answer", chat, deciding) for chat in chats]
        found = {key: _response(body) for key, body in self.kept.find(keys).items()}
        missing = [place for place, key in enumerate(keys) if key not in found]
        progress(len(chats) - len(missing), len(chats), "answers")
        if missing:
            asked = self.generator.generate([chats[i] for i in missing], settings, progress)
            self._collect(asked, [(keys[i], chats[i]) for i in missing], found)
        yield from (found[key] for key in keys)

    def stream(self, chat: Chat, settings: GenerationSettings) -> Iterator[str | Response]:
        """Stream from the model itself; see ``ports.model.Generator``."""
        return self.generator.stream(chat, settings)

    def score(self, pairs: Iterable[tuple[Chat, str]], progress: Progress) -> Iterator[TokenScore]:
        """Yield the likelihood of each reference answer, in order; see ``Generator``."""
        listed = list(pairs)
        keys = [self._key("score", chat, answer) for chat, answer in listed]
        found = {key: TokenScore(**body) for key, body in self.kept.find(keys).items()}
        missing = [place for place, key in enumerate(keys) if key not in found]
        if missing:
            scored = list(self.generator.score((listed[i] for i in missing), progress))
            made = dict(zip((keys[i] for i in missing), scored, strict=True))
            chats = dict(zip((keys[i] for i in missing), (listed[i] for i in missing), strict=True))
            self.kept.keep(
                {
                    key: Answer([*_turns(chats[key][0]), ["reference", chats[key][1]]], asdict(one))
                    for key, one in made.items()
                }
            )
            found |= made
        yield from (found[key] for key in keys)

    def _collect(
        self,
        asked: Iterator[Response],
        missing: Sequence[tuple[str, Chat]],
        found: dict[str, Response],
    ) -> None:
        waiting: dict[str, Answer] = {}
        kept_at = float("-inf")
        try:
            for (key, chat), response in zip(missing, asked, strict=True):
                found[key] = response
                if response.finish_reason != "error":
                    waiting[key] = Answer(_turns(chat), asdict(response))
                if time.monotonic() - kept_at >= KEEP_EVERY_S:
                    self.kept.keep(waiting)
                    waiting, kept_at = {}, time.monotonic()
        finally:
            self.kept.keep(waiting)

    def _key(self, what: str, chat: Chat, rest: Any) -> str:
        return digest([what, self.model, _turns(chat), rest])


def _turns(chat: Chat) -> list[list[str]]:
    return [[turn.role, turn.text] for turn in chat]


def _response(body: Mapping[str, Any]) -> Response:
    import msgspec

    return msgspec.convert(body, Response)
