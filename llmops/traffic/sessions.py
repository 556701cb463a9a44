"""What was said in a session, in SQLite: history within a budget of tokens.

A session belongs to who began it: another client's session of the same name is another session.
Texts are kept as they were said, since the model needs them; they leave with the session.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from llmops.errors import BackendError
from llmops.files import disk_errors

BUSY_S = 10.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS turns (
  owner TEXT NOT NULL, session TEXT NOT NULL, place INTEGER NOT NULL,
  question TEXT NOT NULL, answer TEXT NOT NULL, tokens INTEGER NOT NULL, at TEXT NOT NULL,
  PRIMARY KEY (owner, session, place)
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class Turn:
    """A question with its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class SessionSummary:
    """A session as it is listed; ``last`` is UTC, ISO 8601."""

    session: str
    turns: int
    last: str


@dataclass(frozen=True)
class Sessions:
    """The sessions in one SQLite file; safe under several threads and processes."""

    path: Path
    max_tokens: int  # of history that goes with a question
    retention_days: int | None

    def history(self, owner: str, session: str) -> Sequence[Turn]:
        """Return the newest turns that fit into ``max_tokens``, oldest first.

        Raises:
            BackendError: If the file cannot be read.
        """
        kept: list[Turn] = []
        left = self.max_tokens
        with self._open() as database:
            found = database.execute(
                "SELECT question, answer, tokens FROM turns WHERE owner = ? AND session = ?"
                " ORDER BY place DESC",
                (owner, session),
            )
            for question, answer, tokens in found:
                left -= tokens
                if left < 0:
                    break
                kept.append(Turn(question, answer))
        return kept[::-1]

    def add(self, owner: str, session: str, turn: Turn, *, tokens: int) -> None:
        """Keep a turn; ``tokens`` is what it takes of the budget, question and answer together.

        Raises:
            BackendError: If the disk refuses.
        """
        now = datetime.now(UTC)
        with self._open() as database:
            database.execute(
                "INSERT INTO turns SELECT ?, ?, coalesce(max(place), 0) + 1, ?, ?, ?, ?"
                " FROM turns WHERE owner = ? AND session = ?",
                (
                    *(owner, session, turn.question, turn.answer, tokens, now.isoformat()),
                    *(owner, session),
                ),
            )

    def forget(self, owner: str, session: str) -> int:
        """Remove a session; return how many turns it had."""
        with self._open() as database:
            gone = database.execute(
                "DELETE FROM turns WHERE owner = ? AND session = ?", (owner, session)
            )
            return gone.rowcount

    def expire(self, now: datetime) -> int:
        """Remove the sessions whose last turn is too old; return how many turns went."""
        if self.retention_days is None or not self.path.exists():
            return 0
        before = (now - timedelta(days=self.retention_days)).isoformat()
        with self._open() as database:
            gone = database.execute(
                "DELETE FROM turns WHERE (owner, session) IN (SELECT owner, session FROM turns"
                " GROUP BY owner, session HAVING max(at) < ?)",
                (before,),
            )
            return gone.rowcount

    def list(self, owner: str) -> Sequence[SessionSummary]:
        """Return the owner's sessions, the last used first."""
        with self._open() as database:
            found = database.execute(
                "SELECT session, count(*), max(at) FROM turns WHERE owner = ?"
                " GROUP BY session ORDER BY max(at) DESC",
                (owner,),
            ).fetchall()
        return [SessionSummary(*row) for row in found]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with disk_errors(self.path.parent, setting="serve.sessions.path"):
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            database = sqlite3.connect(self.path, timeout=BUSY_S)
            try:
                with database:
                    database.execute("PRAGMA journal_mode = WAL")
                    database.execute(_SCHEMA)
                    yield database
            finally:
                database.close()
            self.path.chmod(0o600)
        except sqlite3.Error as exc:
            raise BackendError(
                f"{self.path}: {exc}", hint="make room, or set serve.sessions.path"
            ) from exc
