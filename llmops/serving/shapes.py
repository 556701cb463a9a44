"""The bodies of requests, as msgspec checks them and the OpenAPI document shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Text = Annotated[str, Meta(min_length=1)]
Identity = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.:@-]+$")]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Share = Annotated[float, Meta(gt=0, le=1)]
Seed = Annotated[int, Meta(ge=0, le=4_294_967_295)]


class PredictRequest(Struct, forbid_unknown_fields=True, frozen=True):
    """A question for the model, and how it may answer."""

    question: Text
    model: Text | None = None
    session: Identity | None = None
    max_new_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    seed: Seed | None = None
    raw: bool = False


class TextPart(Struct, forbid_unknown_fields=True, frozen=True):
    """A part of a message that is text."""

    type: Literal["text"]
    text: str


class ChatMessage(Struct, forbid_unknown_fields=True, frozen=True):
    """A turn of a conversation, in OpenAI's shape."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None
    refusal: str | None = None


class StreamOptions(Struct, forbid_unknown_fields=True, frozen=True):
    """What a stream brings beside the text."""

    include_usage: bool = False
    include_obfuscation: bool = False


class ChatRequest(Struct, forbid_unknown_fields=True, frozen=True):
    """OpenAI's chat completion request: what is served, and what is known and not served."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    model: Text
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    seed: int | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    # Known to clients and not served: anything but the neutral value is refused, by name.
    n: Annotated[int, Meta(ge=1)] | None = None
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_format: dict[str, Any] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    functions: list[Any] | None = None
    function_call: Any = None
    modalities: list[str] | None = None
    audio: Any = None
    prediction: Any = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    parallel_tool_calls: bool | None = None
    web_search_options: Any = None


class FeedbackRequest(Struct, forbid_unknown_fields=True, frozen=True):
    """What somebody thinks of an answer; one of the three must be there."""

    id: Annotated[str, Meta(min_length=1, max_length=64)]
    rating: Literal["up", "down"] | None = None
    correction: Text | None = None
    comment: Text | None = None
