"""The prompt: one object that renders training rows and serving requests alike.

Knows no model, no provider and no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from llmops.artifacts import canonical_json
from llmops.errors import ConfigError
from llmops.ports import Chat, Message
from llmops.prompts.template import render


@dataclass(frozen=True)
class Example:
    """A question with its answer, shown to the model before the question it is asked."""

    question: str
    answer: str


@dataclass(frozen=True)
class Prompt:
    """The ``prompt`` group of the config: instruction, question template, system text, examples."""

    name: str
    instruction: str
    template: str
    system: str | None = None
    examples: tuple[Example, ...] = ()

    def render(self, question: str) -> str:
        """Return the user text for ``question``, which is data: nothing in it is interpreted.

        Raises:
            ConfigError: If the template is wrong.
        """
        return render(self.template, question=question, instruction=self.instruction)

    def chat(self, question: str, examples: Iterable[Example] = ()) -> Chat:
        """Return system text, the prompt's own examples, then ``examples``, then the question.

        Each example is a user turn from the same template and the assistant's answer.
        """
        turns = [] if self.system is None else [Message("system", self.system)]
        for example in (*self.examples, *examples):
            turns.append(Message("user", self.render(example.question)))
            turns.append(Message("assistant", example.answer))
        return (*turns, Message("user", self.render(question)))

    def check(self) -> None:
        """Try the prompt.

        Raises:
            ConfigError: If the template is wrong, or a text cannot be written as UTF-8.
        """
        for message in self.chat("How do I read a file?"):
            try:
                message.text.encode()
            except UnicodeEncodeError as exc:
                raise ConfigError(
                    f"prompt: the {message.role} text holds half a character ({exc.reason})",
                    hint="write the character itself instead of escaping its halves",
                ) from exc

    def content(self) -> str:
        """Return all that a model can see of the prompt, as canonical JSON; not its name."""
        content = asdict(self)
        del content["name"]
        content["examples"] = list(content["examples"])
        return canonical_json(content)

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
