"""A step's key: what it depends on, in one sha256. Equal keys mean equal results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops.artifacts import digest
from llmops.errors import ConfigError, nearest
from llmops.plan.kinds import StepKind


def read_settings(kind: StepKind, config: Mapping[str, Any], step: str) -> dict[str, Any]:
    """Return the leaves that ``kind`` reads, by dotted path; optional ones where they are set.

    Raises:
        ConfigError: If the config has no such leaf.
    """
    return {
        path: _leaf(config, path, kind, step)
        for path in kind.reads
        if path not in kind.optional_reads or _is_set(config, path)
    }


def step_key(
    kind: StepKind,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    source: Mapping[str, Any],
) -> str:
    """Return the key of a step: 64 hex digits.

    Args:
        kind: The step's kind; its name and revision enter the key.
        settings: What ``read_settings`` gave.
        inputs: Input name to the sha256 of its artifact.
        source: What ``kind.source`` said of the outside world, e.g. table versions.
    """
    return digest(
        {
            "kind": kind.name,
            "revision": kind.revision,
            "settings": _with_effect(settings, kind.without_effect),
            "inputs": inputs,
            "source": source,
        }
    )


def _with_effect(
    settings: Mapping[str, Any], without: frozenset[str], above: str = ""
) -> dict[str, Any]:
    """Return the settings that are not below one of the paths ``without``."""
    if not without:
        return dict(settings)
    return {
        name: _with_effect(value, without, f"{above}{name}.")
        if isinstance(value, Mapping)
        else value
        for name, value in settings.items()
        if f"{above}{name}" not in without
    }


def _leaf(config: Mapping[str, Any], path: str, kind: StepKind, step: str) -> Any:
    full = f"pipeline.steps.{step}.{path}" if path.split(".")[0] == "with" else path
    value: Any = config
    for position, part in enumerate(full.split(".")):
        if not isinstance(value, Mapping) or part not in value:
            raise _missing(full, position, value, kind, step)
        value = value[part]
    return value


def _is_set(config: Mapping[str, Any], path: str) -> bool:
    value: Any = config
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value is not None


def _missing(full: str, position: int, found: Any, kind: StepKind, step: str) -> ConfigError:
    parts = full.split(".")
    if position == 0:
        hint = f"choose one: {parts[0]}=..., a file of conf/{parts[0]}/"
    else:
        known = found if isinstance(found, Mapping) else {}
        hint = nearest(parts[position], known) or f"set {full}=..."
    return ConfigError(f"step {step} ({kind.name}) reads '{full}', which is not set", hint=hint)
