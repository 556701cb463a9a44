"""What must hold of a workspace after any fault, and after the same command was run again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILES_OF_A_RUN = ("config.yaml", "provenance.json", "plan.json", "run.json", "report.html")
FINISHED = ("succeeded", "refused")


def violations(workspace: Path) -> list[str]:
    """Name what is broken: objects that are not what their name says, runs without their record."""
    return [*_objects(workspace), *_index(workspace), *_runs(workspace), *_registry(workspace)]


def results(workspace: Path) -> dict[str, Any]:
    """Return what must be the same bytes whatever happened on the way: each step's outputs.

    Taken from the newest finished run of each experiment; without ids, times and paths.
    """
    found: dict[str, Any] = {}
    for path in sorted((workspace / "runs").glob("*/*/run.json")):
        record = json.loads(path.read_text("utf-8"))
        if record["status"] in FINISHED:
            found[record["experiment"]] = {
                step["name"]: {name: out["sha256"] for name, out in step["outputs"].items()}
                for step in record["steps"]
            }
    return found


def left_behind(workspace: Path) -> list[str]:
    """Name what no finished work needs: temporary files, wherever they lie, and begun runs."""
    store = workspace / ".llmops" / "store"
    found = [*workspace.rglob(".tmp-*"), *workspace.rglob("*.tmp"), *store.glob("tmp/*")]
    runs = workspace.glob("runs/*/2*-*-*/")
    found += [run for run in runs if not (run / "run.json").exists()]
    scratch = store.glob("scratch/*/")
    found += [path for path in scratch if (store / "index" / f"{path.name}.json").exists()]
    return sorted(str(path.relative_to(workspace)) for path in found)


def _objects(workspace: Path) -> Iterator[str]:
    for path in (workspace / ".llmops" / "store" / "objects").glob("??/*"):
        if len(path.name) == 64 and hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
            yield f"object {path.name[:12]} is not what its name says"


def _index(workspace: Path) -> Iterator[str]:
    store = workspace / ".llmops" / "store"
    for path in (store / "index").glob("*.json"):
        entry = _json(path)
        if entry is None:
            yield f"index entry {path.name} is torn"
            continue
        for name, output in entry["outputs"].items():
            sha256 = output["sha256"]
            if not (store / "objects" / sha256[:2] / sha256).exists():
                yield f"index entry {path.name} names {name}, which is not there"


def _runs(workspace: Path) -> Iterator[str]:
    for path in (workspace / "runs").glob("*/*/run.json"):
        record = _json(path)
        if record is None:
            yield f"{path.relative_to(workspace)} is torn"
        elif record["status"] in FINISHED:
            missing = [name for name in FILES_OF_A_RUN if not (path.parent / name).is_file()]
            missing += [s["name"] for s in record["steps"] if s["status"] not in ("done", "cached")]
            if missing:
                yield f"{path.parent.name} is '{record['status']}' without {', '.join(missing)}"
    for path in (workspace / "runs").glob("*.lock.yaml"):
        if not path.read_text("utf-8").endswith("\n"):
            yield f"{path.name} is torn"


def _registry(workspace: Path) -> Iterator[str]:
    registry = workspace / ".llmops" / "registry"
    for path in registry.glob("*/**/*.json"):
        if _json(path) is None:
            yield f"{path.relative_to(workspace)} is torn"
    for aliases in registry.glob("*/aliases.json"):
        versions = aliases.parent / "versions"
        for alias, number in (_json(aliases) or {}).items():
            if not (versions / f"{number}.json").exists():
                yield f"alias {alias} points at version {number}, which is not there"


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError:
        return None
