"""A bench for the steps that predict and judge: real settings, real files, a small answerer.

``Answerer`` is a generator by shape: what it answers follows from the question alone, and it can
be told to fail. Nothing of llmops is replaced.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmops.adapters import catalog
from llmops.config.compose import compose
from llmops.evaluation import responses
from llmops.execute import structure
from llmops.plan.keys import read_settings
from llmops.plan.kinds import Adapters, Outcome, Work
from llmops.ports.model import Response, TokenScore

STEP_KEY = "5e" * 32


@cache
def experiment(*overrides: str) -> dict[str, Any]:
    """The repository's own experiment, composed."""
    return compose(["+experiment=so_python", *overrides]).config


@dataclass
class Answerer:
    """Answers ``<name>: <last line of the question>``; a question may ask for a failure."""

    name: str = "base"
    can_score: bool = True
    crash_after: int | None = None  # answers until the process would die
    asked: list[Any] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)

    def generate(self, chats, settings, progress):
        self.seeds.append(settings.seed)
        for done, chat in enumerate(chats):
            if self.crash_after is not None and len(self.asked) >= self.crash_after:
                raise KeyboardInterrupt
            self.asked.append(chat)
            progress(done + 1, len(chats))
            yield self._answer(chat[-1].text.rsplit("\n", 1)[-1])

    def score(self, pairs, progress):
        for chat, reference in pairs:
            yield TokenScore(
                nll=float(len(chat) + len(reference)), tokens=len(reference.split()) + 1
            )

    def _answer(self, question):
        if "FAIL" in question:
            return Response("", "error", 0, 0, error="503: no room \ud800")
        if "BLOCK" in question:
            return Response("", "safety", 5, 0, blocked=True, safety={"harm": 0.9})
        if "LONE" in question:
            return Response("lone \ud800 surrogate", "stop", 5, 3)
        if "LONG" in question:
            return Response("and so on", "length", 5, 3)
        return Response(f"{self.name}: {question}", "stop", 5, 4)


@dataclass
class Bench:
    """Runs one step after another in a folder."""

    folder: Path
    generators: Any = None
    encoder: Any = None
    progress: list[Any] = field(default_factory=list)

    def run(self, kind, inputs, *overrides, digests=None) -> Outcome:
        for place in (self.folder / "out", self.folder / "scratch"):
            place.mkdir(parents=True, exist_ok=True)
        config = experiment(*overrides)
        work = Work(
            step=kind.name,
            key=STEP_KEY,
            run_id="run-1",
            settings=structure(kind, read_settings(kind, config, kind.name)),
            inputs=inputs,
            digests=digests or {},
            outputs={port.name: self.output(port.name) for port in kind.gives},
            adapters=self._adapters(config),
            progress=lambda done, total, note="": self.progress.append((done, total, note)),
            scratch=self.folder / "scratch",
        )
        return kind.run(work)

    def output(self, name) -> Path:
        return self.folder / "out" / name

    def _adapters(self, config):
        def unused():
            raise AssertionError("this step may not open that adapter")

        return Adapters(
            warehouse=unused,
            tuner=unused,
            generator=self.generators or (lambda *_: unused()),
            scorer=lambda: catalog.adapter("scorer", config["safety"]["scorer"]),
            registry=lambda: catalog.adapter("registry", config["deploy"]["registry"], self.folder),
            encoder=self.encoder or unused,
        )


def write_side(path: Path, questions, answers=None, group=None) -> Path:
    """A side of a split with the columns that these steps read."""
    count = len(questions)
    keys = [f"{number:04}" for number in range(count)]
    table = pa.table(
        {
            "row_key": keys,
            "input_text": list(questions),
            "output_text": list(answers or [f"answer {key}" for key in keys]),
            "input_text_instruct": list(questions),
            "system": pa.array([None] * count, pa.string()),
            "group": group or keys,
        }
    )
    pq.write_table(table.replace_schema_metadata({"llmops.dataset_version": "v1-3f9c21ab"}), path)
    return path


def write_responses(path: Path, rows, scorer=None, models=None) -> Path:
    """A responses file; ``rows`` give the columns that matter, the rest is filled in."""
    plain = {
        "prompt": "?",
        "reference": "the answer",
        "text": "an answer",
        "finish_reason": "stop",
        "truncated": False,
        "blocked": False,
        "safety": [{"category": "profanity", "score": 0.02}],
        "citations": [],
        "prompt_tokens": 10,
        "output_tokens": 4,
        "nll": 9.0,
        "nll_tokens": 4,
        "error": None,
    }
    described = scorer or (
        '{"categories":["profanity"],"description":"swear words","is_safety_evaluation":false,'
        '"kind":"profanity"}'
    )
    schema = responses.schema(
        {
            responses.SCORER: described.encode(),
            responses.TEST_ROWS_AVAILABLE: b"300",
            responses.MODELS: json.dumps(models or {}).encode(),
        }
    )
    filled = [{**plain, "group": row["row_key"], **row} for row in rows]
    pq.write_table(pa.Table.from_pylist(filled, schema=schema), path)
    return path
