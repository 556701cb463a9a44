"""Run folders by the thousand, small and whole, for lists, sites and benchmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops.adapters.store.folder import FolderStore
from llmops.artifacts import Artifact
from llmops.ports.store import IndexEntry


def record(number: int, *, experiment: str = "so_python", **fields: Any) -> dict[str, Any]:
    """Return a run record of the kind that a tuned run leaves, without its big parts."""
    hour, minute, second = number // 3600 % 24, number // 60 % 60, number % 60
    run_id = f"202611{10 + number // 86400:02}-{hour:02}{minute:02}{second:02}-{number:04x}"
    loss = 2.5 + number % 10 / 10
    figure = {"value": loss, "low": loss - 0.1, "high": loss + 0.1, "n": 48, "unit": "nats"}
    steps = [
        {
            "name": name,
            "kind": name,
            "revision": 1,
            "key": f"{name}{number % 7}".ljust(64, "0"),
            "status": "cached" if number % 3 else "done",
            "seconds": 1.5,
            "inputs": {},
            "outputs": {},
            "takes": {},
            "facts": {},
            "settings": {},
            "source": {},
            "reason": "",
            "log": None,
        }
        for name in ("ingest", "validate", "transform", "split", "tune", "deploy", "predict")
    ]
    return {
        "schema": 1,
        "run_id": run_id,
        "experiment": experiment,
        "version": "v1",
        "status": "succeeded",
        "started": f"2026-11-{10 + number // 86400:02}T{hour:02}:{minute:02}:{second:02}+00:00",
        "finished": None,
        "seconds": 60.0 + number % 7,
        "config_digest": f"{number % 5:064x}",
        "overrides": [f"+experiment={experiment}", f"tuning.max_steps={number % 9}"],
        "git": {"commit": f"{number % 4:040x}", "branch": "main", "dirty": False},
        "dataset_version": "v1-3f9c21ab",
        "packages": {},
        "python": "3.11.7",
        "machine": {},
        "llmops": "0.1.0",
        "source": None,
        "prompt": {"name": "so_python", "sha256": "ab" * 32},
        "model": {"provider": "local", "base": "SmolLM2", "tuned": f"so_python-{number:04x}"},
        "champion": None,
        "engine": {"kind": "local", "started": True},
        "error": None,
        "steps": steps,
        "counts": {},
        "metrics": {
            "contestants": {"tuned": {"loss": figure}},
            "paired": {},
            "baseline": "untuned",
        },
        "safety": None,
        "gate": {"passed": True, "contestant": "tuned", "reasons": []},
        **fields,
    }


def write_run(workspace: Path, made: Mapping[str, Any]) -> Path:
    """Write a record as the run folder that would hold it, and return the folder."""
    folder = workspace / "runs" / made["experiment"] / made["run_id"]
    (folder / "logs").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(made))
    return folder


def write_runs(workspace: Path, count: int) -> None:
    """Write ``count`` runs of two experiments."""
    for number in range(count):
        name = "so_python" if number % 4 else "so_small"
        write_run(workspace, record(number, experiment=name))


def step_with(store: FolderStore, key: str, content: bytes) -> dict[str, Any]:
    """Publish an object under a key, and return the step of a record that made it."""
    path = store.temporary() / "out"
    path.write_bytes(content)
    artifact: Artifact = store.put(path, "json")
    store.record(IndexEntry(key, "s", "k", 1, {}, {}, {}, {"out": artifact}, {}, "run", 0.1))
    return {
        "name": "s",
        "kind": "k",
        "revision": 1,
        "key": key,
        "status": "done",
        "seconds": 0.1,
        "inputs": {},
        "outputs": {"out": vars(artifact)},
        "settings": {},
        "source": {},
    }
