"""What a config puts around its model: passages, the provider's own search, or a chain of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmops.adapters.model.chained import ChainedGenerator, Parts
from llmops.adapters.model.grounded import GroundedGenerator
from llmops.adapters.retrieval.index import Retriever, open_retriever
from llmops.errors import ConfigError
from llmops.grounding.chain import Step, read_chain
from llmops.grounding.citing import Style
from llmops.ports.model import (
    Chat,
    Encoder,
    GenerationSettings,
    Generator,
    Passage,
    Response,
    Scorer,
    TokenScore,
)
from llmops.ports.progress import Progress
from llmops.ports.warehouse import Warehouse
from llmops.prompts.prompt import Prompt, check_prompt
from llmops.safety.policy import read_policy


@dataclass(frozen=True)
class Seams:
    """How to open what stands beside the model."""

    warehouse: Callable[[], Warehouse]
    encoder: Callable[[], Encoder]
    scorer: Callable[[], Scorer]
    model: Callable[[Mapping[str, Any]], Generator]  # the untuned model of a ``model`` group
    workspace: Path


def composed(plain: Generator, config: Mapping[str, Any], seams: Seams) -> Generator:
    """Return ``plain`` with what the groups ``grounding`` and ``chain`` put around it.

    Raises:
        ConfigError: If they are wrong.
        DataError: If there is no passage to retrieve.
        BackendError: If the warehouse, the index or a step's model cannot be opened.
    """
    grounding: Any = config.get("grounding")
    chain: Any = config.get("chain")
    if grounding is None and chain is None:
        return plain
    prompt = check_prompt(config)
    if prompt is None:
        raise ConfigError("grounding and chain need a prompt", hint="choose one: prompt=so_python")
    if chain is not None:
        return _chained(read_chain(chain), plain, config, prompt, seams)
    if grounding["kind"] == "provider":
        return SearchingGenerator(plain)
    retriever = _retriever(grounding, seams)
    return GroundedGenerator(
        plain,
        prompt,
        lambda question: retriever.find(question, grounding["passages"]),
        _style(grounding),
    )


class SearchingGenerator:
    """Lets the provider search for itself and cite what it finds; see ``ports.model.Generator``."""

    def __init__(self, inner: Generator) -> None:
        self.inner, self.can_score = inner, inner.can_score

    def generate(
        self, chats: Sequence[Chat], settings: GenerationSettings, progress: Progress
    ) -> Iterator[Response]:
        """Yield one response a chat, in order."""
        return self.inner.generate(chats, replace(settings, search=True), progress)

    def stream(self, chat: Chat, settings: GenerationSettings) -> Iterator[str | Response]:
        """Yield the answer's text in pieces, and at last the whole response."""
        return self.inner.stream(chat, replace(settings, search=True))

    def score(self, pairs: Iterable[tuple[Chat, str]], progress: Progress) -> Iterator[TokenScore]:
        """Yield the likelihood of each reference answer, where the provider gives it."""
        return self.inner.score(pairs, progress)


def _chained(
    steps: Sequence[Step],
    plain: Generator,
    config: Mapping[str, Any],
    prompt: Prompt,
    seams: Seams,
) -> ChainedGenerator:
    grounding = config.get("grounding")
    retrieves = any(step.use == "retrieve" for step in steps)
    if retrieves and (grounding is None or grounding["kind"] != "warehouse"):
        raise ConfigError(
            "chain: a step retrieves, and grounding names no table",
            hint="choose one: grounding=docs",
        )
    retriever = _retriever(grounding, seams) if retrieves and grounding else None
    models = {
        step.name: plain if step.model is None else seams.model(step.model)
        for step in steps
        if step.use != "retrieve"
    }
    parts = Parts(
        models=models,
        retrieve=retriever.find if retriever else _nothing,
        scorer=seams.scorer,
        policy=read_policy(config["safety"]),
        style=_style(grounding) if grounding and retrieves else Style("", 0),
    )
    return ChainedGenerator(steps, prompt, parts)


def _retriever(grounding: Mapping[str, Any], seams: Seams) -> Retriever:
    return open_retriever(grounding, seams.warehouse, seams.encoder, seams.workspace)


def _style(grounding: Mapping[str, Any]) -> Style:
    return Style(grounding["instruction"], grounding["max_characters"])


def _nothing(question: str, most: int) -> tuple[Passage, ...]:
    """Retrieve nothing, for a chain that does not."""
    del question, most
    return ()
