"""Checks an experiment before anything runs: composes it, asks the schemas and the rules.

The usual case is fast: one composition. Only when something is wrong does ``diagnose`` look for
every problem and for the line that each stands in.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmops.config import compose as composition
from llmops.config import rules, schemas
from llmops.config.compose import Composed
from llmops.errors import ConfigProblems


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


def validate_members(overrides: Sequence[str], *, sweep: bool) -> list[Composed]:
    """Return the composed members of a sweep, or the one experiment if it is none.

    Raises:
        ConfigProblems: With the problems of all members, each with how many members have it.
    """
    if not sweep:
        return [validate(overrides)]
    from llmops.config.sweep import members

    composed: list[Composed] = []
    found: dict[str, int] = {}
    wanted = members(overrides)
    for member in wanted:
        try:
            composed.append(validate(member))
        except ConfigProblems as exc:
            for problem in exc.problems:
                found[problem] = found.get(problem, 0) + 1
    if found:
        raise ConfigProblems(
            [f"{text}\n    in {count} of {len(wanted)} members" for text, count in found.items()]
        )
    return composed
