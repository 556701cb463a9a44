"""How answers to a prompt are made: what the prompt says, else what the ``predict`` group says.

The one place that decides it, for evaluation, prediction and serving alike. Knows no provider.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from llmops.ports.model import GenerationSettings
from llmops.prompts.prompt import Prompt


def generation_settings(predict: Mapping[str, Any], prompt: Prompt) -> GenerationSettings:
    """Return how to generate answers to ``prompt`` under a config's ``predict`` section."""
    said = {name: value for name, value in asdict(prompt.generation).items() if value is not None}
    names = ("max_new_tokens", "temperature", "top_p")
    return GenerationSettings(
        **{name: predict[name] for name in names} | said,
        seed=predict["seed"],
        batch_rows=predict["batch_rows"],
        output_schema=prompt.output.for_provider(),
    )
