"""A chain: several prompts and models for one question, step by step. Its settings and its state.

Kinds of steps: ``classify`` puts the question into one of some classes and may end the chain,
``retrieve`` finds passages, ``answer`` answers, ``check`` asks about the answer and may withhold
it. Pure: who answers and what is found is given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from llmops.errors import ConfigError
from llmops.ports.model import Chat, Message, Passage, Response
from llmops.prompts.prompt import Prompt

Use = Literal["classify", "retrieve", "answer", "check"]
SHOWN = 500  # characters of a step's text that its trace keeps


@dataclass(frozen=True)
class StepSafety:
    """Thresholds of a step's own, by category, on what its model says."""

    thresholds: Mapping[str, float]


@dataclass(frozen=True)
class Step:
    """A step of the chain. ``model`` is null for the experiment's, else a ``model`` group's config.

    ``prompt`` is null for the experiment's. ``choices`` are the classes of ``classify`` and the
    words of ``check``; ``go_on`` those with which the chain goes on, else it ends with ``message``.
    ``timeout_s`` counts seconds for each question that is asked together with others.
    """

    name: str
    use: Use
    prompt: Prompt | None = None
    model: Mapping[str, Any] | None = None
    choices: tuple[str, ...] = ()
    go_on: tuple[str, ...] = ()
    message: str = ""
    max_new_tokens: int | None = None
    timeout_s: float = 60.0
    safety: StepSafety | None = None
    passages: int = 3


@dataclass
class Way:
    """What has become of one question so far; ``response`` is set where the chain has ended."""

    question: str
    chat: Chat
    passages: tuple[Passage, ...] = ()
    answered: Response | None = None
    ended: Response | None = None
    trace: list[dict[str, Any]] = field(default_factory=list)
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0


def read_chain(config: Mapping[str, Any]) -> tuple[Step, ...]:
    """Build the steps of the ``chain`` group.

    Raises:
        ConfigError: If a step lacks what its kind needs, or no step answers.
    """
    import msgspec

    try:
        steps = tuple(msgspec.convert(config["steps"], tuple[Step, ...]))
    except msgspec.ValidationError as exc:
        raise ConfigError(f"chain: {exc}", hint="see conf/chain/docs.yaml") from exc
    for place, step in enumerate(steps):
        _check(step, f"chain.steps[{place}]", steps[:place])
    if [step.use for step in steps].count("answer") != 1:
        raise ConfigError("chain.steps: exactly one step answers", hint="give one `use: answer`")
    return steps


def _check(step: Step, where: str, before: Sequence[Step]) -> None:
    if step.name in {other.name for other in before}:
        raise ConfigError(f"{where}: there is a step '{step.name}' already", hint="rename one")
    if step.use in ("classify", "check"):
        if step.prompt is None:
            raise ConfigError(f"{where}: {step.use} needs a prompt of its own", hint="add `prompt`")
        if len(step.choices) < 2 or not set(step.go_on) <= set(step.choices) or not step.go_on:
            raise ConfigError(
                f"{where}: {step.use} needs two choices or more, and go_on among them",
                hint="for example choices: [yes, no], go_on: [yes], quoted",
            )
        if not step.message:
            raise ConfigError(f"{where}: {step.use} needs the message that ends the chain")
    if step.use == "check" and "answer" not in {other.use for other in before}:
        raise ConfigError(f"{where}: there is nothing to check yet", hint="answer comes first")
    if step.use == "retrieve" and "answer" in {other.use for other in before}:
        raise ConfigError(f"{where}: it retrieves after the answer", hint="retrieve comes first")


def chat_of(step: Step, way: Way) -> Chat:
    """Return what a step asks its model: its own prompt around the question, or the chat as it is.

    For a check, the question is followed by the passages and the answer.
    """
    if step.prompt is None:
        return way.chat
    question = way.question
    if step.use == "check" and way.answered is not None:
        shown = "\n".join(f"[{n}] {one.text}" for n, one in enumerate(way.passages, start=1))
        question = "\n\n".join(
            part for part in (question, shown, f"Answer: {way.answered.text}") if part
        )
    earlier: tuple[Message, ...] = ()
    if step.use == "answer":  # the conversation before the question stays
        earlier = tuple(turn for turn in way.chat[:-1] if turn.role != "system")
    *opening, last = step.prompt.chat(question)
    return (*opening, *earlier, last)


def choice_of(text: str, choices: Sequence[str]) -> str | None:
    """Return the choice that a text names first, whatever its case; null if it names none."""
    found = [
        (match.start(), choice)
        for choice in choices
        if (match := re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", text, re.IGNORECASE))
    ]
    return min(found)[1] if found else None


def shown(text: str) -> str:
    """Return a text as a trace keeps it: its beginning."""
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
