"""Checks an experiment before anything runs: composes it, asks the schemas and the rules.

The usual case is fast: one composition. Only when something is wrong does ``diagnose`` look for
every problem and for the line that each stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from llmops.config import compose as composition
from llmops.config import rules, schemas
from llmops.config.compose import Composed
from llmops.errors import ConfigError, ConfigProblems

if TYPE_CHECKING:
    from llmops.config.provenance import Table


def validate(overrides: Sequence[str]) -> Composed:
    """Return the composed experiment, if nothing is wrong with it.

    Raises:
        ConfigProblems: With every problem, each with its file, line and column or its override.
    """
    composed = composition.compose(overrides)
    if schemas.mistakes(composed.config) or rules.mistakes(composed.config):
        from llmops.config import diagnose

        found = diagnose.problems(composed.overrides)
        raise ConfigProblems([str(problem) for problem in found])
    return composed


def validate_members(
    overrides: Sequence[str], *, sweep: bool, wiring: Callable[[Composed], object] = lambda _: None
) -> list[Composed]:
    """Return the composed members of a sweep, or the one experiment if it is none.

    Args:
        overrides: As on the command line.
        sweep: Whether an override may have several values.
        wiring: What a floor above has to say of a member that is valid so far; it raises
            ConfigError, whose problems begin with the key: ``pipeline.steps.tune.use: ...``.

    Raises:
        ConfigProblems: With the problems of all members, each with how many members have it.
    """
    if not sweep:
        return [_whole(overrides, wiring)]
    from llmops.config.sweep import members

    return validate_each(members(overrides), wiring=wiring)


def validate_each(
    wanted: Sequence[Sequence[str]], *, wiring: Callable[[Composed], object] = lambda _: None
) -> list[Composed]:
    """Return the composed members of a sweep, each given by its overrides.

    Raises:
        ConfigProblems: As ``validate_members``.
    """
    composed: list[Composed] = []
    found: dict[str, int] = {}
    for member in wanted:
        try:
            composed.append(_whole(member, wiring))
        except ConfigProblems as exc:
            for problem in exc.problems:
                found[problem] = found.get(problem, 0) + 1
    if found:
        raise ConfigProblems(
            [f"{text}\n    in {count} of {len(wanted)} members" for text, count in found.items()]
        )
    return composed


def _whole(overrides: Sequence[str], wiring: Callable[[Composed], object]) -> Composed:
    composed = validate(overrides)
    try:
        wiring(composed)
    except ConfigError as exc:
        from llmops.config import provenance

        texts = exc.problems if isinstance(exc, ConfigProblems) else (str(exc),)
        table = provenance.build(composed, composed.overrides)
        raise ConfigProblems([_placed(text, exc.hint, table) for text in texts]) from exc
    return composed


def _placed(text: str, hint: str, table: Table) -> str:
    """Put the place of a problem's key before it."""
    key, _, problem = text.partition(": ")
    lines = [f"{table.place(tuple(key.split('.')))}: {key}", f"    {problem}"]
    return "\n".join([*lines, f"    hint     {hint}"] if hint else lines)
