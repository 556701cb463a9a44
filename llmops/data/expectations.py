"""What a dataset as a whole must be like: bounds on figures of its profile. Knows no row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmops.data.settings import Expectation
from llmops.errors import ConfigError, DataError, nearest


def check_expectations(expectations: Sequence[Expectation], profile: Mapping[str, Any]) -> None:
    """Check every bound.

    Raises:
        ConfigError: If the profile has no such figure.
        DataError: Naming each figure out of its bounds.
    """
    figures = dict(_figures(profile, ""))
    failed = [told for each in expectations for told in _broken(each, figures)]
    if failed:
        raise DataError(
            f"the data is not as dataset.expectations has it: {'; '.join(failed)}",
            hint="look at profile.json, then change the query or the expectation",
        )


def _broken(expectation: Expectation, figures: Mapping[str, float]) -> Iterator[str]:
    name = expectation.figure
    if name not in figures:
        raise ConfigError(
            f"dataset.expectations: the profile has no figure '{name}'",
            hint=f"{nearest(name, figures)} it has {', '.join(sorted(figures))}".strip(),
        )
    value = figures[name]
    if expectation.at_least is not None and value < expectation.at_least:
        yield f"{name} is {value:g}, at least {expectation.at_least:g} was expected"
    if expectation.at_most is not None and value > expectation.at_most:
        yield f"{name} is {value:g}, at most {expectation.at_most:g} was expected"


def _figures(value: Any, path: str) -> Iterator[tuple[str, float]]:
    """Yield every number of the profile by its dotted path."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _figures(below, f"{path}.{key}" if path else str(key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)
