"""Registered models: promote through a passed gate, roll back, delete, export, describe."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops.adapters.catalog import ADAPTERS, adapter, model_cache
from llmops.api.opening import Opened
from llmops.api.past import runs, workspace_store
from llmops.config.project import workspace
from llmops.errors import ConfigError, LlmopsError, Refused
from llmops.files import disk_errors, write_text
from llmops.lineage import model_card
from llmops.lineage.promotion import judge
from llmops.lineage.run_folder import find_run
from llmops.ports.exporter import Exported
from llmops.ports.registry import ModelVersion, Registry


def promote(
    registry: Registry,
    version: ModelVersion,
    alias: str,
    *,
    reason: str | None = None,
    force: bool = False,
    records: Sequence[Mapping[str, Any]] = (),
) -> ModelVersion:
    """Point ``alias`` at a version that a gate passed, and that its holder does not beat.

    Args:
        registry: Where the model is registered.
        version: What is to have the alias.
        alias: Any alias.
        reason: Added to what the runs show; needed with ``force``, and kept forever.
        force: Move it whatever the runs show.
        records: Run records to look at before the workspace's.

    Raises:
        ConfigError: If it is forced without a reason.
        Refused: If no gate passed it, the holder was not scored on the same test rows or is better
            there, or somebody moved the alias meanwhile.
    """
    if force and not reason:
        raise ConfigError("--force needs a reason", hint="--reason TEXT; it is kept forever")
    holder = _holder(registry, version.name, alias)
    expected = holder.version if holder else None
    if force:
        return registry.set_alias(
            version.name,
            alias,
            version.version,
            reason=f"forced: {reason}",
            expected=expected,
            forced=True,
        )
    known = [*records, *(run.record for run in runs())]
    verdict = judge(version, holder, known, workspace_store())
    said = f"{reason} ({verdict.reason})" if reason else verdict.reason
    return registry.set_alias(version.name, alias, version.version, reason=said, expected=expected)


def promote_passed(
    opened: Opened, made: Mapping[str, Any], decision: Mapping[str, Any], *, chosen: bool
) -> dict[str, Any] | None:
    """Move the alias that a passed gate earns, if the gate decided in this very run.

    A run that only found an old decision in the store must not take the alias back from a newer
    model; it moves the alias only if nothing holds it.
    """
    deploy = opened.config.get("deploy")
    facts = next((s["facts"] for s in made["steps"] if s["kind"] == "deploy"), None)
    if deploy is None or facts is None or deploy["promote_to"] is None:
        return None
    name, version, alias = facts["name"], facts["version"], deploy["promote_to"]
    outcome = {"name": name, "version": version, "alias": alias, "promoted": False}
    if not decision["passed"]:
        return outcome | {"reason": "the gate refused"}
    registry = opened.adapters.registry()
    candidate = registry.get(name, str(version))
    if alias in candidate.aliases:
        return outcome | {"promoted": True, "reason": f"holds {alias} already"}
    decided_now = chosen or any(
        s["kind"] == "gate" and s["status"] == "done" for s in made["steps"]
    )
    if not decided_now and _holder(registry, name, alias):
        return outcome | {"reason": f"another version holds {alias}; nothing new was decided"}
    try:
        promote(registry, candidate, alias, records=[made])
    except Refused as exc:
        return outcome | {"reason": exc.problem}
    return outcome | {"promoted": True, "reason": "the gate passed"}


def card(registry: Registry, version: ModelVersion) -> dict[str, Any]:
    """Return the model card of a version, as plain JSON."""
    record: Mapping[str, Any] | None = None
    config: Mapping[str, Any] | None = None
    with contextlib.suppress(LlmopsError):
        folder = find_run(workspace(), version.registered_by)
        record, config = folder.record(), folder.config()
    return model_card.card(version, registry.history(version.name), record, config)


def export(
    registry: Registry, version: ModelVersion, model: Mapping[str, Any], target: Path
) -> Exported:
    """Write a version's weights, the adapter merged, with its card, into a new folder.

    Args:
        registry: Where the model is registered.
        version: What to write.
        model: The ``model`` config group that it was tuned with.
        target: The folder to make.

    Raises:
        ConfigError: If its provider gives no weights away, or the folder is there already.
        BackendError: If weights are missing, or the disk refuses.
    """
    provider = version.model.provider
    if provider not in ADAPTERS["exporter"]:
        raise ConfigError(
            f"{provider} keeps the weights of {version.name}:{version.version}",
            hint=f"its endpoint answers: {version.model.endpoint or version.model.tuned}",
        )
    store = workspace_store()
    weights = None
    if version.model.adapter:
        weights = store.local_path(store.find(version.model.adapter))
    exporter = adapter("exporter", {**model, "kind": provider}, model_cache())
    made: Exported = exporter.export(version.model, weights, target)
    described = card(registry, version)
    with disk_errors(target, setting="--out"):
        write_text(target / "README.md", model_card.markdown(described))
        text = json.dumps(described, indent=1, ensure_ascii=False, default=str)
        write_text(target / "model_card.json", text + "\n")
    return Exported(made.folder, (*made.files, "README.md", "model_card.json"), made.bytes)


def _holder(registry: Registry, name: str, alias: str) -> ModelVersion | None:
    held = (one for one in registry.list() if one.name == name and alias in one.aliases)
    return next(held, None)
