"""Tuning rows out of reviewed answers: what was liked, and what was corrected.

Knows the log's views, no data rules: ``dataset=jsonl`` reads the file and applies them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import orjson

from llmops.errors import DataError
from llmops.files import write_text
from llmops.traffic.query import opened

COLUMNS = "id, question, answer, rating, correction, blocked, reviewed_at"


@dataclass(frozen=True)
class Reviewed:
    """What became of the reviewed answers; each is counted once."""

    written: int
    corrected: int  # of the written ones
    disliked: int  # a thumb down without a correction: nothing to learn from
    blocked: int  # what may not be shown is not learnt
    without_content: int  # the log kept no text of them
    repeated: int  # the same question and answer again


def write_reviewed(folder: Path, target: Path) -> Reviewed:
    """Write ``target``: one JSON line ``{question, answer, id, corrected}`` a reviewed answer.

    A correction counts before the answer; an answer counts if it was rated up. Rows are in the
    order of their ids, so the same log gives the same bytes.

    Raises:
        DataError: If no reviewed answer can be learnt from; says why.
    """
    lines: list[str] = []
    seen: set[tuple[str, str]] = set()
    counts = {"corrected": 0, "disliked": 0, "blocked": 0, "without_content": 0, "repeated": 0}
    with opened(folder) as connection:
        found = connection.execute(f"SELECT {COLUMNS} FROM reviewed ORDER BY id").fetchall()
    for identity, question, answer, rating, correction, blocked, _ in found:
        wanted = correction if correction is not None else answer
        if correction is None and rating != "up":
            counts["disliked"] += 1
        elif blocked and correction is None:
            counts["blocked"] += 1
        elif question is None or wanted is None:
            counts["without_content"] += 1
        elif (question, wanted) in seen:
            counts["repeated"] += 1
        else:
            seen.add((question, wanted))
            corrected = correction is not None
            counts["corrected"] += corrected
            row = {"question": question, "answer": wanted, "id": identity, "corrected": corrected}
            lines.append(orjson.dumps(row).decode())
    result = Reviewed(written=len(lines), **counts)
    if not lines:
        left_out = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        raise DataError(
            f"no reviewed answer to learn from ({left_out or 'there is no feedback'})",
            hint="POST /v1/feedback with a rating or a correction; texts need log.privacy=content",
        )
    write_text(target, "\n".join(lines) + "\n")
    return result
