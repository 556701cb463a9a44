"""The ``serve`` group of the config as the server reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llmops.traffic.log import LogSettings


@dataclass(frozen=True)
class Share:
    """A model and its weight among the others'."""

    model: str
    weight: float


@dataclass(frozen=True)
class Token:
    """A client's token by its sha256, in hex; ``name`` is how logs call the client."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Limits:
    """How much is taken at once; see ``conf/serve/local.yaml``."""

    body_bytes: int
    header_bytes: int
    question_characters: int
    messages: int
    answering: int
    answering_each: int
    connections: int


@dataclass(frozen=True)
class Timeouts:
    """How long is waited, in seconds."""

    header_s: float
    body_s: float
    answer_s: float
    send_s: float
    idle_s: float
    drain_s: float
    alias_s: float


@dataclass(frozen=True)
class Batching:
    """How concurrent questions are put together; ``wait_s`` holds a lone one back."""

    max_rows: int
    wait_s: float


@dataclass(frozen=True)
class SessionSettings:
    """The config's ``serve.sessions``."""

    path: str
    max_tokens: int
    retention_days: int | None


@dataclass(frozen=True)
class TracingSettings:
    """The config's ``serve.tracing``."""

    endpoint: str | None
    content: bool


@dataclass(frozen=True)
class ServeSettings:
    """The whole group."""

    models: tuple[Share, ...]
    host: str
    port: int
    workers: int
    tokens: tuple[Token, ...]
    hosts: tuple[str, ...]
    origins: tuple[str, ...]
    system_messages: Literal["refuse", "use"]
    max_new_tokens: int
    limits: Limits
    timeouts: Timeouts
    batching: Batching
    log: LogSettings
    sessions: SessionSettings
    tracing: TracingSettings


def read_settings(config: Mapping[str, Any]) -> ServeSettings:
    """Build the settings of a checked ``serve`` config."""
    import msgspec

    return msgspec.convert(config, ServeSettings)
