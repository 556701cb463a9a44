"""What Gemini is asked: chats and settings as its client's request. Knows no transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmops.errors import ConfigError, unknown_name
from llmops.ports.model import Chat, GenerationSettings

if TYPE_CHECKING:
    from google.genai import types

ROLES = {"user": "user", "assistant": "model"}
CATEGORY_PREFIX = "HARM_CATEGORY_"
CATEGORIES = ("dangerous_content", "harassment", "hate_speech", "sexually_explicit")
LEVELS = ("OFF", "BLOCK_NONE", "BLOCK_ONLY_HIGH", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_LOW_AND_ABOVE")


@dataclass(frozen=True)
class Style:
    """What the ``model`` group says of every request.

    ``filters`` is category -> level of the provider's safety filters, ``filter_method`` what the
    levels are measured on; thinking null is left to the provider.
    """

    filters: Mapping[str, str]
    filter_method: str | None
    thinking_level: str | None
    thinking_budget_tokens: int | None
    takes_schema: bool


def contents_of(chat: Chat) -> list[types.Content]:
    """Return the turns of a chat that are not the system's."""
    from google.genai import types

    return [
        types.Content(role=ROLES[turn.role], parts=[types.Part(text=turn.text)])
        for turn in chat
        if turn.role != "system"
    ]


def config_of(
    chat: Chat, settings: GenerationSettings, style: Style
) -> types.GenerateContentConfig:
    """Return the request's configuration; every safety filter is named.

    Raises:
        ConfigError: If a filter is unknown, or a schema is asked of a tuned model, which Gemini
            advises against.
    """
    from google.genai import types

    if settings.output_schema is not None and not style.takes_schema:
        raise ConfigError(
            "a tuned Gemini model is not to be held to an output schema",
            hint="ask the base model, or leave the schema out",
        )
    system = "\n\n".join(turn.text for turn in chat if turn.role == "system")
    filters = {**style.filters, **settings.filters}
    options: dict[str, Any] = {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "seed": settings.seed,
        "max_output_tokens": settings.max_new_tokens,
        "candidate_count": 1,
        "system_instruction": types.Content(parts=[types.Part(text=system)]) if system else None,
        "safety_settings": [
            _filter(name, level, style.filter_method) for name, level in sorted(filters.items())
        ],
        "thinking_config": _thinking(style),
    }
    if settings.search:
        options["tools"] = [types.Tool(google_search=types.GoogleSearch())]
    if settings.output_schema is not None:
        options["response_mime_type"] = "application/json"
        options["response_json_schema"] = dict(settings.output_schema)
    return types.GenerateContentConfig(**options)


def body_of(chat: Chat, settings: GenerationSettings, style: Style) -> dict[str, Any]:
    """Return the request as the JSON of a batch's input line."""
    config = config_of(chat, settings, style)
    plain = config.model_dump(mode="json", by_alias=True, exclude_none=True)
    body = {
        "contents": [
            content.model_dump(mode="json", by_alias=True, exclude_none=True)
            for content in contents_of(chat)
        ],
        "safetySettings": plain.pop("safetySettings", []),
    }
    if "systemInstruction" in plain:
        body["systemInstruction"] = plain.pop("systemInstruction")
    if "tools" in plain:
        body["tools"] = plain.pop("tools")
    return {**body, "generationConfig": plain}


def _filter(name: str, level: str, method: str | None) -> types.SafetySetting:
    from google.genai import types

    if name not in CATEGORIES:
        raise unknown_name("category", name, CATEGORIES, where="filters")
    if level not in LEVELS:
        raise unknown_name("level", level, LEVELS, where=f"filters.{name}")
    return types.SafetySetting(
        category=types.HarmCategory(f"{CATEGORY_PREFIX}{name.upper()}"),
        threshold=types.HarmBlockThreshold(level),
        method=types.HarmBlockMethod(method) if method else None,
    )


def _thinking(style: Style) -> types.ThinkingConfig | None:
    from google.genai import types

    if style.thinking_level is not None:
        return types.ThinkingConfig(thinking_level=types.ThinkingLevel(style.thinking_level))
    if style.thinking_budget_tokens is not None:
        return types.ThinkingConfig(thinking_budget=style.thinking_budget_tokens)
    return None
