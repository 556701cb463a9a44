"""The folder of a sweep, ``runs/sweeps/<id>/``: which members it has and what came of each.

A member may run in another process, so each leaves a file of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmops.artifacts import digest
from llmops.files import disk_errors, write_text
from llmops.lineage.record import tuned_loss
from llmops.lineage.run_folder import new_run_id


def create_sweep(workspace: Path, overrides: Sequence[str]) -> Path:
    """Make the folder of a new sweep and write what was asked for.

    Raises:
        BackendError: If the disk refuses.
    """
    folder = workspace / "runs" / "sweeps" / new_run_id(datetime.now(UTC))
    with disk_errors(workspace / "runs", setting="LLMOPS_WORKSPACE"):
        (folder / "members").mkdir(parents=True)
        write_text(folder / "sweep.json", json.dumps({"overrides": list(overrides)}, indent=1))
    return folder


def write_member(
    folder: Path, overrides: Sequence[str], record: Mapping[str, Any] | None, exit_code: int
) -> None:
    """Note what came of one member; ``record`` is null if it did not get as far as a run."""
    member = {
        "overrides": list(overrides),
        "run_id": record and record["run_id"],
        "experiment": record and record["experiment"],
        "status": record["status"] if record else "failed",
        "exit_code": exit_code,
        "tuned_loss": record and tuned_loss(record),
        "written": datetime.now(UTC).isoformat(),
    }
    name = f"{digest(list(overrides))[:16]}.json"
    with disk_errors(folder, setting="LLMOPS_WORKSPACE"):
        write_text(folder / "members" / name, json.dumps(member, indent=1))


def read_members(folder: Path) -> list[dict[str, Any]]:
    """Collect the members into ``sweep.json`` and return them in the order they ended."""
    files = (folder / "members").glob("*.json")
    members = [json.loads(file.read_text("utf-8")) for file in files]
    members.sort(key=lambda member: member["written"])
    sweep = json.loads((folder / "sweep.json").read_text("utf-8"))
    write_text(folder / "sweep.json", json.dumps({**sweep, "members": members}, indent=1))
    return members
