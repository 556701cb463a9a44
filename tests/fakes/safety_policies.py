"""Policies for tests: the one in conf/safety, changed where a test asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from llmops.ports.model import Response
from llmops.safety.policy import Policy, read_policy

CONF = Path(__file__).parents[2] / "conf" / "safety" / "profanity.yaml"


def section() -> dict[str, Any]:
    """The ``safety`` section as the repository has it."""
    return dict(yaml.safe_load(CONF.read_text("utf-8")))


def policy(**changes: Any) -> Policy:
    """The repository's policy; ``input__personal_data="block"`` sets a nested key."""
    config = section()
    for key, value in changes.items():
        *groups, name = key.split("__")
        place = config
        for group in groups:
            place = place[group]
        place[name] = value
    return read_policy(config)


def answer(text: str = "Use a list.", **fields: Any) -> Response:
    """An answer that a provider gave without complaint."""
    return Response(
        **{"text": text, "finish_reason": "stop", "prompt_tokens": 3, "output_tokens": 3} | fields
    )
