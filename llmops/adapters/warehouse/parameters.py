"""Named parameters of a query, ``@name``: whether they fit, and their values as literals.

Values come from the config and are never spliced into text: they are nodes of the query's tree,
or parameters of the job. Knows sqlglot's trees; no warehouse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from llmops.errors import ConfigError, nearest
from llmops.ports.warehouse import Parameter

if TYPE_CHECKING:
    from sqlglot import exp


def check(tree: exp.Query, given: Mapping[str, Parameter]) -> None:
    """Refuse a query that names a parameter that is not given, or lacks one that is.

    Raises:
        ConfigError: With the nearest name.
    """
    named = {parameter.name for parameter in _parameters(tree)}
    for name in sorted(named - given.keys()):
        raise ConfigError(
            f"the query names the parameter @{name}, which is not given",
            hint=f"{nearest(name, given)} set dataset.parameters.{name}".strip(),
        )
    for name in sorted(given.keys() - named):
        raise ConfigError(
            f"dataset.parameters.{name}: the query does not name @{name}",
            hint=f"{nearest(name, named)} remove it, or use it in the query".strip(),
        )


def bind(tree: exp.Query, given: Mapping[str, Parameter]) -> None:
    """Put the values in the place of their names.

    Raises:
        ConfigError: As ``check``.
    """
    from sqlglot import exp

    check(tree, given)
    for parameter in list(_parameters(tree)):
        value = given[parameter.name]
        parameter.replace(exp.convert(list(value) if isinstance(value, tuple) else value))


def _parameters(tree: exp.Query) -> list[exp.Parameter]:
    from sqlglot import exp

    return list(tree.find_all(exp.Parameter))
