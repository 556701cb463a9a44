"""The log as commands and servers use it: ids, records, feedback, retention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from llmops.traffic import segments
from llmops.traffic.records import (
    AnswerRecord,
    Keeping,
    Privacy,
    answer_line,
    feedback_line,
    new_id,
)


@dataclass(frozen=True)
class LogSettings:
    """The config's ``serve.log``."""

    path: str
    privacy: Privacy
    mask: tuple[str, ...]
    region: str
    retention_days: int | None
    segment_bytes: int
    fsync: bool
    on_failure: Literal["refuse", "answer"]


class TrafficLog:
    """One process's way to the log; nothing is made on disk before the first record."""

    def __init__(self, settings: LogSettings, workspace: Path) -> None:
        self.settings = settings
        self.folder = workspace / settings.path
        self.keeping = Keeping(
            settings.privacy, settings.mask, settings.region, segments.key(self.folder)
        )
        self.writer = segments.Writer(
            self.folder, segment_bytes=settings.segment_bytes, fsync=settings.fsync
        )

    def new_id(self) -> str:
        """Return the id of an answer that will be recorded."""
        return new_id(self.keeping.key)

    def answers(self, records: Sequence[AnswerRecord]) -> None:
        """Record answers: all of them, or none.

        Raises:
            BackendError: If the disk refuses.
        """
        self.writer.append([answer_line(record, self.keeping) for record in records])

    def feedback(
        self,
        answer_id: str,
        *,
        client: str,
        rating: str | None,
        correction: str | None,
        comment: str | None,
    ) -> None:
        """Record what somebody thinks of an answer.

        Raises:
            BackendError: If the disk refuses.
        """
        line = feedback_line(
            answer_id,
            client=client,
            rating=rating,
            correction=correction,
            comment=comment,
            keeping=self.keeping,
        )
        self.writer.append([line])

    def expire(self, now: datetime) -> int:
        """Remove what is older than the settings keep; return how many segments went."""
        return len(segments.expire(self.folder, self.settings.retention_days, now))

    def close(self) -> None:
        """Let go of the segment."""
        self.writer.close()
