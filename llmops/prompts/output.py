"""What a prompt wants as an answer: free text, one of some choices, or JSON of a schema.

A provider that can is told the schema; every answer is checked against it afterwards all the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from llmops.artifacts import canonical_json
from llmops.errors import ConfigError

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator


@dataclass(frozen=True)
class Output:
    """``choices`` belong to ``choice``; ``schema``, a JSON Schema, to ``json``."""

    kind: Literal["text", "choice", "json"] = "text"
    choices: tuple[str, ...] = ()
    schema: Mapping[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.kind, self.choices, canonical_json(self.schema)))

    def check(self) -> None:
        """Try the format.

        Raises:
            ConfigError: If choices or schema are missing, superfluous or wrong.
        """
        if (self.kind == "choice") != bool(self.choices):
            raise ConfigError(
                "prompt.output: choices and kind choice belong together",
                hint="e.g. {kind: choice, choices: [yes-it-is, no-it-is-not]}",
            )
        if self.schema and self.kind != "json":
            raise ConfigError(
                "prompt.output: a schema is for kind json", hint="set prompt.output.kind=json"
            )
        from jsonschema import Draft202012Validator, SchemaError

        try:
            Draft202012Validator.check_schema(self.schema)
        except SchemaError as exc:
            raise ConfigError(f"prompt.output.schema is no JSON Schema: {exc.message}") from exc

    def for_provider(self) -> Mapping[str, Any] | None:
        """Return the JSON Schema that a provider may be told to keep to; null for other kinds."""
        return self.schema if self.kind == "json" and self.schema else None

    def accepts(self, text: str) -> bool | None:
        """Say whether an answer is what was asked for; null where anything is.

        A choice counts whatever its case and the white space around it; JSON may stand in a fence.
        """
        if self.kind == "text":
            return None
        if self.kind == "choice":
            return text.strip().casefold() in {choice.strip().casefold() for choice in self.choices}
        found = read_json(text)
        return found is not NOTHING and _validator(canonical_json(self.schema)).is_valid(found)


FREE_TEXT = Output()
NOTHING: Any = object()


def read_json(text: str) -> Any:
    """Return the JSON value that a text is, or ``NOTHING``; a fence around it does not count."""
    from llmops.prompts.fences import unfenced

    try:
        return json.loads(unfenced(text), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return NOTHING


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


@lru_cache(maxsize=64)
def _validator(schema: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator
    from referencing import Registry

    registry: Registry[Any] = Registry()  # fetches nothing
    return Draft202012Validator(json.loads(schema), registry=registry)
