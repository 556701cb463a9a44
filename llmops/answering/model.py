"""A model version with everything that answering needs, opened once and asked many times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmops.plan.cost import AnswerPrice
from llmops.ports.model import GenerationSettings, Generator, ModelReference, Scorer
from llmops.prompts.prompt import Prompt
from llmops.safety.policy import Policy


@dataclass(frozen=True)
class OpenModel:
    """What answers; ``version`` and ``alias`` are null for an untuned base.

    ``batches`` says that many chats at once take hardly longer than one, as on this machine; a
    service is asked one by one, in parallel. ``around`` are the groups ``grounding`` and ``chain``,
    as far as the config has them.
    """

    name: str
    version: int | None
    alias: str | None
    digest: str
    reference: ModelReference
    prompt: Prompt
    prompt_sha256: str
    generator: Generator
    scorer: Scorer
    scorer_kind: str
    policy: Policy
    settings: GenerationSettings
    price: AnswerPrice
    batches: bool
    around: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The model as commands name it: ``so_python:3``."""
        return self.name if self.version is None else f"{self.name}:{self.version}"
