"""A registry: named, versioned models with aliases that move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from llmops.ports.model import ModelReference


@dataclass(frozen=True)
class ModelVersion:
    """A registered model; ``digest`` makes registering the same model twice one version."""

    name: str
    version: int
    model: ModelReference
    digest: str
    aliases: tuple[str, ...]
    labels: Mapping[str, str]
    registered_by: str  # run id


HistoryEvent = Literal["move", "rollback", "drop", "delete"]
ANY = -1  # ``set_alias`` moves the alias whatever it points at


@dataclass(frozen=True)
class AliasMove:
    """One thing that happened to a model: an alias moved or was dropped, or a version was deleted.

    ``before`` is the version that the alias left, null if it is new; ``version`` is where it went,
    null if it was dropped. A deletion has no alias; its ``before`` is what was deleted. ``forced``
    says that no passed gate stood behind it.
    """

    alias: str | None
    before: int | None
    version: int | None
    reason: str
    at: str  # UTC, ISO 8601
    event: HistoryEvent = "move"
    forced: bool = False


class Registry(Protocol):
    """Named, versioned models with movable aliases. Nothing in a history is ever taken back."""

    def register(
        self, name: str, model: ModelReference, *, labels: Mapping[str, str], run_id: str
    ) -> ModelVersion:
        """Register a model, or return the version that already holds it.

        The number of a deleted version is never given again.
        """
        ...

    def set_alias(
        self,
        name: str,
        alias: str,
        version: int,
        *,
        reason: str,
        expected: int | None = ANY,
        forced: bool = False,
    ) -> ModelVersion:
        """Point ``alias`` at ``version``; atomic under two writers; kept in the history.

        Args:
            name: The model.
            alias: Any plain name that is no number.
            version: An existing version.
            reason: Why, for the history.
            expected: The version that the alias must point at when it is moved, None for an alias
                that must be new; ``ANY`` moves it whatever it points at.
            forced: Noted in the history.

        Raises:
            ConfigError: If the model or version is unknown, or the alias is no plain name.
            Refused: If the alias does not point at ``expected``; nothing was moved.
        """
        ...

    def rollback(self, name: str, alias: str, *, reason: str) -> ModelVersion:
        """Point ``alias`` at the version that it held before its last move; kept in the history.

        A second rollback goes one further back. Deleted versions are passed over.

        Raises:
            ConfigError: If the model or alias is unknown, or the alias held nothing before.
        """
        ...

    def drop_alias(self, name: str, alias: str, *, reason: str) -> None:
        """Remove an alias; kept in the history.

        Raises:
            ConfigError: If the model or alias is unknown.
        """
        ...

    def delete(self, name: str, version: int, *, reason: str) -> None:
        """Delete a version that no alias points at; kept in the history.

        Raises:
            ConfigError: If the model or version is unknown.
            Refused: If an alias points at it.
        """
        ...

    def get(self, name: str, alias_or_version: str) -> ModelVersion:
        """Return one version.

        Raises:
            ConfigError: If the model, version or alias is unknown, with the nearest name.
        """
        ...

    def history(self, name: str) -> Sequence[AliasMove]:
        """Return what happened to a model's aliases and versions, oldest first.

        Raises:
            ConfigError: If the model is unknown.
        """
        ...

    def list(self) -> Sequence[ModelVersion]:
        """Return every version that was not deleted, by name, then newest first."""
        ...
