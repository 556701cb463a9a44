"""Greet someone: the smallest step there is, and the first of the ``hello`` pipeline."""

from __future__ import annotations

from dataclasses import dataclass

from llmops.artifacts import canonical_json
from llmops.plan.kinds import Outcome, Port, StepKind, Work, leaf


@dataclass(frozen=True)
class Settings:
    """Who is greeted."""

    name: str = leaf("with.name")


def run(work: Work[Settings]) -> Outcome:
    """Write ``greeting``: ``{"text": "Hello, <name>!"}``."""
    greeting = {"text": f"Hello, {work.settings.name}!"}
    work.outputs["greeting"].write_text(canonical_json(greeting) + "\n", encoding="utf-8")
    return Outcome(facts=greeting)


KIND = StepKind(
    name="say_hello",
    revision=1,
    run=run,
    settings=Settings,
    gives=(Port("greeting", "json"),),
    summary="greet someone by name",
)
