"""How big a machine each task gets: ``engine.resources``, by step; a local run ignores them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from llmops.errors import ConfigError

UNITS: Mapping[str, int] = {"M": 10**6, "G": 10**9, "Mi": 2**20, "Gi": 2**30}
DEFAULT = "default"  # the entry for steps that have none of their own


def apply(task: Any, steps: Iterable[str], engine: Mapping[str, Any]) -> None:
    """Set the resources and environment of a KFP task that runs ``steps``.

    Raises:
        ConfigError: If two of the steps ask for different accelerators.
    """
    wanted = needed(steps, engine.get("resources") or {})
    if wanted.get("cpu"):
        task.set_cpu_request(str(wanted["cpu"])).set_cpu_limit(str(wanted["cpu"]))
    if wanted.get("memory"):
        task.set_memory_request(wanted["memory"]).set_memory_limit(wanted["memory"])
    if wanted.get("accelerator"):
        task.set_accelerator_type(wanted["accelerator"])
        task.set_accelerator_limit(wanted.get("accelerators") or 1)
    for name, value in (engine.get("environment") or {}).items():
        task.set_env_variable(name, str(value))


def needed(steps: Iterable[str], table: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what suffices for each of ``steps``: the largest of every figure.

    Raises:
        ConfigError: If two of the steps ask for different accelerators.
    """
    entries = [table.get(step) or table.get(DEFAULT) or {} for step in steps]
    kinds = {entry["accelerator"]: entry for entry in entries if entry.get("accelerator")}
    if len(kinds) > 1:
        raise ConfigError(
            f"engine.resources: steps that share a task ask for {' and '.join(sorted(kinds))}",
            hint="give them the same accelerator, or take one out of its group in engine.fuse",
        )
    return {
        "cpu": max((entry.get("cpu") or 0 for entry in entries), default=0) or None,
        "memory": max((entry.get("memory") or "" for entry in entries), key=memory_bytes) or None,
        "accelerator": next(iter(kinds), None),
        "accelerators": max((entry.get("accelerators") or 0 for entry in entries), default=0),
    }


def memory_bytes(text: str) -> float:
    """Return a size such as ``16G`` or ``512Mi`` in bytes; an empty text is nothing."""
    unit = text.lstrip("0123456789.")
    return float(text.removesuffix(unit)) * UNITS[unit] if text else 0.0
