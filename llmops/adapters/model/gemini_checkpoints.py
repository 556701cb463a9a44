"""Choose among the checkpoints of a tuning job by their answers to validation rows.

Every checkpoint has an endpoint of its own. Each answers the same rows greedily; the figure is the
mean chrF against the references. What was measured is kept in a file, so that a crash pays for one
checkpoint again at most. Never sees a test row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.data import columns
from llmops.files import write_text
from llmops.ports.model import Chat, GenerationSettings, Message, ModelReference
from llmops.ports.progress import Progress

if TYPE_CHECKING:
    from google.genai import types

ANSWER_TOKENS = 512  # a reference's length would tell the model something; this is room enough


@dataclass(frozen=True)
class Checkpoint:
    """A stage of a tuned model; ``chrf`` is null if it was not measured."""

    id: str
    epoch: int
    step: int
    endpoint: str
    chrf: float | None = None
    failed: int = 0  # validation rows without an answer, which count as 0


def checkpoints_of(job: types.TuningJob) -> tuple[Checkpoint, ...]:
    """Return a finished job's checkpoints, the last one last; one at least."""
    model = job.tuned_model
    found = (model and model.checkpoints) or []
    points = [
        Checkpoint(
            id=str(point.checkpoint_id),
            epoch=int(point.epoch or 0),
            step=int(point.step or 0),
            endpoint=str(point.endpoint),
        )
        for point in found
        if point.endpoint
    ]
    last = Checkpoint("last", 0, 0, str(model.endpoint if model else None))
    return tuple(sorted(points, key=lambda point: (point.epoch, point.step))) or (last,)


class Chooser:
    """Measures checkpoints; ``memory`` is the file that keeps what was measured."""

    def __init__(
        self, model: Mapping[str, Any], environment: Mapping[str, Any], memory: Path
    ) -> None:
        self.model, self.environment, self.memory = model, environment, memory

    def measure(
        self, points: Sequence[Checkpoint], validation: Path, rows: int, progress: Progress
    ) -> tuple[Checkpoint, ...]:
        """Return the checkpoints with their figures."""
        chats, references = _rows(validation, rows)
        known = self._read()
        measured = []
        for number, point in enumerate(points):
            progress(number, len(points), f"checkpoint {point.id} answers {len(chats)} rows")
            found = known.get(point.endpoint) or self._measure(point, chats, references)
            measured.append(found)
            known[point.endpoint] = found
            text = json.dumps([asdict(one) for one in known.values()], allow_nan=False)
            write_text(self.memory, text + "\n")
        return tuple(measured)

    def _measure(
        self, point: Checkpoint, chats: Sequence[Chat], references: Sequence[str]
    ) -> Checkpoint:
        from llmops.adapters.model.gemini_generator import open_generator
        from llmops.evaluation.metrics import chrf

        reference = ModelReference("gemini", self.model["base"], endpoint=point.endpoint)
        generator = open_generator(
            self.model, reference, None, self.memory.parent, environment=self.environment
        )
        settings = GenerationSettings(max_new_tokens=ANSWER_TOKENS)
        answers = list(generator.generate(chats, settings, lambda *_: None))
        scores = [
            0.0 if answer.error else chrf(answer.text, wanted)
            for answer, wanted in zip(answers, references, strict=True)
        ]
        failed = sum(answer.error is not None for answer in answers)
        return replace(point, chrf=round(sum(scores) / len(scores), 6), failed=failed)

    def _read(self) -> dict[str, Checkpoint]:
        try:
            kept = json.loads(self.memory.read_text("utf-8"))
            return {one["endpoint"]: Checkpoint(**one) for one in kept}
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return {}


def _rows(path: Path, rows: int) -> tuple[list[Chat], list[str]]:
    from llmops.data.parquet import read_batches

    wanted = [columns.SYSTEM, columns.RENDERED, columns.ANSWER]
    source = (row for batch in read_batches(path, wanted) for row in batch.to_pylist())
    chats: list[Chat] = []
    references = []
    for row in islice(source, rows):
        user = Message("user", row[columns.RENDERED])
        system = row[columns.SYSTEM]
        chats.append((Message("system", system), user) if system else (user,))
        references.append(row[columns.ANSWER])
    return chats, references
