"""The prompt: one object that renders training rows and serving requests alike.

Knows no model, no provider and no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from llmops.artifacts import canonical_json
from llmops.data.texts import Around, escape_role_tags
from llmops.errors import ConfigError
from llmops.ports.model import Chat, Message
from llmops.prompts.output import FREE_TEXT, Output
from llmops.prompts.template import around, render


@dataclass(frozen=True)
class Example:
    """A question with its answer, shown to the model before the question it is asked."""

    question: str
    answer: str


@dataclass(frozen=True)
class Generation:
    """How answers to this prompt are generated; null leaves it to the ``predict`` group."""

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None


AS_PREDICT_SAYS = Generation()


@dataclass(frozen=True)
class Prompt:
    """The ``prompt`` group of the config: what a model is told, and what it is to answer with.

    ``similar_examples`` train rows that are most like the question are shown before it, after the
    fixed ``examples``. ``version`` and ``changelog`` are for people.
    """

    name: str
    instruction: str
    template: str
    system: str | None = None
    examples: tuple[Example, ...] = ()
    similar_examples: int = 0
    output: Output = FREE_TEXT
    generation: Generation = AS_PREDICT_SAYS
    version: str | None = None
    changelog: tuple[str, ...] = ()

    def render(self, question: str) -> str:
        """Return the user text for ``question``, which is data: nothing in it is interpreted.

        Template code in it stays text, and a chat-role tag gets a backslash, as in training rows.

        Raises:
            ConfigError: If the template is wrong.
        """
        said = escape_role_tags(question)
        return render(self.template, question=said, instruction=self.instruction)

    def around(self) -> Around | None:
        """Return what the template writes around a question, null if it does more than that.

        ``render`` gives no more than these texts around the question with its role tags escaped.

        Raises:
            ConfigError: If the template is wrong.
        """
        found = around(self.template, instruction=self.instruction)
        return Around(*found) if found else None

    def chat(self, question: str, examples: Iterable[Example] = ()) -> Chat:
        """Return system text, the prompt's own examples, then ``examples``, then the question.

        Each example is a user turn from the same template and the assistant's answer.
        """
        turns = [] if self.system is None else [Message("system", self.system)]
        for example in (*self.examples, *examples):
            turns.append(Message("user", self.render(example.question)))
            turns.append(Message("assistant", escape_role_tags(example.answer)))
        return (*turns, Message("user", self.render(question)))

    def check(self) -> None:
        """Try the prompt.

        Raises:
            ConfigError: If the template is wrong, or a text cannot be written as UTF-8.
        """
        self.output.check()
        for message in self.chat("How do I read a file?"):
            try:
                message.text.encode()
            except UnicodeEncodeError as exc:
                raise ConfigError(
                    f"prompt: the {message.role} text holds half a character ({exc.reason})",
                    hint="write the character itself instead of escaping its halves",
                ) from exc

    def content(self) -> str:
        """Return all that a model can see of the prompt, as canonical JSON.

        Its name, version, changelog and way of generating are not part. What was added to prompts
        later counts only where it is used, so that older prompts keep their digest.
        """
        seen = asdict(self)
        for unseen in ("name", "version", "changelog", "generation"):
            del seen[unseen]
        seen["examples"] = list(seen["examples"])
        if not self.similar_examples:
            del seen["similar_examples"]
        if self.output == FREE_TEXT:
            del seen["output"]
        else:
            seen["output"]["choices"] = list(self.output.choices)
        return canonical_json(seen)

    def digest(self) -> str:
        """Return the sha256 of ``content``: a file of it is found by this digest in a store."""
        return sha256(self.content().encode("utf-8", "surrogatepass")).hexdigest()


def prompt_of_content(content: str, name: str) -> Prompt:
    """Build the prompt that ``Prompt.content`` was written of.

    Raises:
        ConfigError: If it is no prompt's content.
    """
    import msgspec

    try:
        return msgspec.convert({**msgspec.json.decode(content), "name": name}, Prompt)
    except (msgspec.DecodeError, TypeError) as exc:
        raise ConfigError(
            f"what the store keeps as prompt '{name}' is none: {exc}",
            hint="run the experiment again with --force deploy",
        ) from exc


def check_prompt(config: Mapping[str, Any]) -> Prompt | None:
    """Build the prompt of a resolved config and try it; null if the config has no prompt.

    Raises:
        ConfigError: If a key is missing or the template is wrong.
    """
    import msgspec

    if config.get("prompt") is None:
        return None
    try:
        prompt = msgspec.convert(config["prompt"], Prompt)
    except msgspec.ValidationError as exc:
        raise ConfigError(
            f"prompt: {exc}",
            hint="a prompt has name, instruction, template, system and examples",
        ) from exc
    prompt.check()
    return prompt
