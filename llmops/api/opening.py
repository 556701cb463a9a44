"""From overrides to a checked experiment with everything open that planning and running need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.adapters.catalog import open_adapters, open_store
from llmops.config.identity import config_digest
from llmops.config.project import workspace
from llmops.errors import ConfigError
from llmops.plan.graph import Graph, build_graph
from llmops.plan.kinds import Adapters, KindTable
from llmops.ports import Store
from llmops.steps import step_kinds

if TYPE_CHECKING:
    from llmops.config.compose import Composed


@dataclass(frozen=True)
class Opened:
    """An experiment with everything open that planning and running need."""

    config: Mapping[str, Any]
    overrides: tuple[str, ...]
    origins: Callable[[], Mapping[str, Any]]  # who set each leaf, for provenance.json
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
    kinds = step_kinds(composed.config["project"]["steps"])
    return build_graph(composed.config["pipeline"], kinds)


def open_to_read(composed: Composed, limit: int | None) -> Opened:
    return open_config(
        limited(composed.config, limit),
        composed.overrides,
        dict,  # a plan tells of no origins
        read_only=True,
    )


def open_config(
    config: Mapping[str, Any],
    overrides: tuple[str, ...],
    origins: Callable[[], Mapping[str, Any]],
    *,
    read_only: bool = False,
) -> Opened:
    where = workspace()
    store = open_store(config, where)
    return Opened(
        config=config,
        overrides=overrides,
        origins=origins,
        digest=config_digest(config),
        workspace=where,
        kinds=step_kinds(config["project"]["steps"]),
        store=store,
        adapters=open_adapters(config, store, where, read_only=read_only),
    )


def limited(config: Mapping[str, Any], limit: int | None) -> Mapping[str, Any]:
    if limit is None or "dataset" not in config:
        return config
    if limit < 1:
        raise ConfigError(f"--limit {limit}", hint="give a number of rows, 1 or more")
    return {**config, "dataset": {**config["dataset"], "max_rows": limit}}
