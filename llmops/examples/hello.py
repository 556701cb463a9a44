"""A project's own step, to copy: ``how_are_you`` takes a greeting and gives a reply.

How a pipeline comes to know it:

1. A package names this module in its ``pyproject.toml``:

       [project.entry-points."llmops.steps"]
       hello = "llmops.examples.hello"

2. The experiment says which of these it uses, so that installing a package changes nothing by
   itself:

       project:
         steps: [hello]

3. The pipeline uses the kind by its name and wires its inputs:

       how_are_you:
         use: how_are_you
         takes: {greeting: say_hello.greeting}

A step knows its settings and its inputs and nothing else: no clock, no network, no other file.
Then the same settings and inputs always give the same bytes, and a result can be kept.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from llmops.plan.kinds import Outcome, Port, StepKind, Work

# Import anything heavy (pandas, torch, ...) inside `run`: this module is read whenever a pipeline
# is planned, and planning should stay quick.


@dataclass(frozen=True)
class Settings:
    """What the step reads of the config: one field for each value, here none.

    A field such as ``name: str = leaf("with.name")`` (from ``llmops.plan.kinds``) reads ``name``
    from the step's own ``with:`` block, ``leaf("tuning.seed")`` reads any other place. Only what
    is declared here reaches the step, and only a change of it makes the step run again.
    """


def run(work: Work[Settings]) -> Outcome:
    """Write ``reply``: the greeting's text and a question."""
    # An input is a path to read and never to write; its name is that of the port below.
    greeting = json.loads(work.inputs["greeting"].read_text("utf-8"))
    reply = {"text": f"{greeting['text']} How are you?"}

    # An output is a path to write to. Here it is a JSON file; a port of kind "parquet" wants a
    # Parquet file, one of kind "folder" a folder that the step makes.
    work.outputs["reply"].write_text(json.dumps(reply, sort_keys=True) + "\n", encoding="utf-8")

    # Facts are small plain values that the run record keeps and shows.
    return Outcome(facts=reply)


# What the entry point offers. Raise `revision` whenever `run` gives another result for the same
# settings and inputs: kept results of the older revision are then no longer used.
KINDS: tuple[StepKind, ...] = (
    StepKind(
        name="how_are_you",
        revision=1,
        run=run,
        settings=Settings,
        takes=(Port("greeting", "json"),),
        gives=(Port("reply", "json"),),
        summary="reply to a greeting",
    ),
)
