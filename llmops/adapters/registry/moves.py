"""What every registry decides the same way: may an alias move, and where does it go back to."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from llmops.errors import ConfigError, Refused
from llmops.ports.registry import ANY, AliasMove, ModelVersion


def check_expected(name: str, alias: str, held: int | None, expected: int | None) -> None:
    """Refuse to move an alias that somebody else has moved since it was looked at.

    Raises:
        Refused: If the alias holds another version than expected.
    """
    if expected not in (ANY, held):
        raise Refused(
            f"{name}@{alias} is {_version(held)} now, not {_version(expected)}: somebody moved it "
            "meanwhile, and nothing was changed",
            hint=f"look at it and decide again: python -m llmops models show {name}",
        )


def check_unaliased(version: ModelVersion) -> None:
    """Refuse to delete a version that an alias points at.

    Raises:
        Refused: If one does.
    """
    if version.aliases:
        raise Refused(
            f"{version.name}:{version.version} is {', '.join(version.aliases)}; nothing was "
            "deleted",
            hint="point the alias elsewhere first: python -m llmops models rollback "
            f"{version.name}@{version.aliases[0]} --reason TEXT",
        )


def version_before(
    history: Sequence[AliasMove], name: str, alias: str, existing: Collection[int]
) -> int:
    """Return the version that an alias goes back to: what it held before, and still exists.

    A rollback takes a move back, so that a second one goes one move further.

    Raises:
        ConfigError: If it held nothing before that still exists.
    """
    held: list[int] = []
    for move in history:
        if move.alias != alias:
            continue
        if move.version is None:
            held.clear()  # dropped: what follows starts anew
        elif move.event == "rollback":
            while held and held[-1] != move.version:
                held.pop()
        else:
            held.append(move.version)
    current = held[-1] if held else None
    for version in reversed(held[:-1]):
        if version in existing and version != current:
            return version
    raise ConfigError(
        f"{name}@{alias} held no version before that still exists",
        hint=f"python -m llmops models show {name} prints its history",
    )


def _version(number: int | None) -> str:
    return "unset" if number is None else f"version {number}"
