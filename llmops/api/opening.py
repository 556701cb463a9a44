"""From overrides to a checked experiment with everything open that planning and running need."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.adapters.catalog import open_adapters, open_store
from llmops.config.identity import config_digest
from llmops.config.project import workspace
from llmops.config.reference_tables import ReferenceTables, read_tables
from llmops.engines import fitting
from llmops.errors import ConfigError
from llmops.plan.graph import Graph, build_graph
from llmops.plan.kinds import Adapters, KindTable
from llmops.plan.side import Side, has_validation_rows, readers
from llmops.ports.store import Store
from llmops.steps import step_kinds

if TYPE_CHECKING:
    from llmops.config.compose import Composed


@dataclass(frozen=True)
class Opened:
    """An experiment with everything open that planning and running need."""

    config: Mapping[str, Any]
    overrides: tuple[str, ...]
    origins: Callable[[], Mapping[str, Any]]  # who set each leaf, for provenance.json
    tables: Callable[[], ReferenceTables]  # prices, limits, models
    digest: str
    workspace: Path
    kinds: KindTable
    store: Store
    adapters: Adapters


def validate(overrides: Sequence[str]) -> Composed:
    """Compose and check an experiment; run nothing.

    Raises:
        ConfigProblems: With every mistake at once.
    """
    return validate_members(overrides, sweep=False)[0]


def validate_members(overrides: Sequence[str], *, sweep: bool) -> list[Composed]:
    """Compose and check every member of a sweep, or the one experiment; run nothing.

    Raises:
        ConfigProblems: With the mistakes of all members at once.
    """
    from llmops.config.validate import validate_members as validate_configs

    return validate_configs(overrides, sweep=sweep, wiring=graph_of)


def graph_of(composed: Composed) -> Graph:
    """Return the pipeline of a config, if its steps and its engine fit each other.

    Raises:
        ConfigProblems: With everything that does not.
    """
    kinds = step_kinds(composed.config["project"]["steps"])
    graph = build_graph(composed.config["pipeline"], kinds)
    fitting.check(graph, composed.config)
    return graph


def open_to_read(composed: Composed, limit: int | None, side: Side = "test") -> Opened:
    return open_config(
        adjusted(composed.config, adjustments(composed.config, limit, side)),
        composed.overrides,
        dict,  # a plan tells of no origins
        read_only=True,
    )


def open_config(
    config: Mapping[str, Any],
    overrides: tuple[str, ...],
    origins: Callable[[], Mapping[str, Any]],
    *,
    tables: Callable[[], ReferenceTables] = read_tables,
    read_only: bool = False,
) -> Opened:
    where = workspace()
    store = open_store(config, where)
    return Opened(
        config=config,
        overrides=overrides,
        origins=origins,
        tables=functools.cache(tables),
        digest=config_digest(config),
        workspace=where,
        kinds=step_kinds(config["project"]["steps"]),
        store=store,
        adapters=open_adapters(config, store, where, read_only=read_only),
    )


@dataclass(frozen=True)
class Adjustment:
    """A leaf of the config that an option of the command changes, and how provenance names it."""

    path: str
    value: Any
    set_by: str


def adjustments(config: Mapping[str, Any], limit: int | None, side: Side) -> tuple[Adjustment, ...]:
    """Return what ``--limit`` and scoring on validation rows change.

    Raises:
        ConfigError: If the limit is no number of rows, or validation has none.
    """
    found = []
    if limit is not None and "dataset" in config:
        if limit < 1:
            raise ConfigError(f"--limit {limit}", hint="give a number of rows, 1 or more")
        found.append(Adjustment("dataset.max_rows", limit, f"command line: --limit {limit}"))
    if side == "validation":
        found += _on_validation(config)
    return tuple(found)


def _on_validation(config: Mapping[str, Any]) -> list[Adjustment]:
    taken = readers(config["pipeline"], step_kinds(config["project"]["steps"]))
    if taken and not has_validation_rows(config):
        raise ConfigError(
            "split.validation is 0, so there are no validation rows to score on",
            hint="set split.validation=0.1 and split.test accordingly, or --score-on test",
        )
    return [
        Adjustment(path, value, "command line: --score-on validation")
        for path, value in taken.items()
    ]


def adjusted(config: Mapping[str, Any], changes: Iterable[Adjustment]) -> Mapping[str, Any]:
    """Return the config with these leaves changed; the config given stays as it is."""
    for change in changes:
        config = _with(config, change.path.split("."), change.value)
    return config


def _with(config: Mapping[str, Any], path: Sequence[str], value: Any) -> Mapping[str, Any]:
    first, *rest = path
    return {**config, first: _with(config[first], rest, value) if rest else value}
