"""How often a test set has been looked at: each look makes its figures a little less of a test.

Whoever changes a prompt or a setting after reading figures of a test set fits to it, however the
rows were split. Counted in the workspace, by the digest of the test rows. Knows no metric.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def looked(
    workspace: Path, run_id: str, config_digest: str, steps: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Note that a run measured answers to a test set, and return how often that has been done.

    A run whose evaluation was cached shows what was seen before, and is no new look. Null where the
    run measured nothing.
    """
    found = _evaluated(steps)
    if found is None:
        return None
    sha256, fresh = found
    path = workspace / ".llmops" / "looks" / f"{sha256}.jsonl"
    if fresh:
        path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"run_id": run_id, "config_digest": config_digest}) + "\n"
        with path.open("a", encoding="utf-8") as file:
            file.write(line)  # one short line, written whole
    looks = _read(path)
    configs = {look["config_digest"] for look in looks}
    return {"sha256": sha256, "looks": len(looks), "configs": len(configs)}


def _evaluated(steps: Sequence[Mapping[str, Any]]) -> tuple[str, bool] | None:
    """Return the digest of the answered test rows, and whether they were measured just now."""
    answered = [s for s in steps if s["kind"] == "predict" and "test" in (s.get("inputs") or {})]
    measured = [s for s in steps if s["kind"] == "evaluate" and s["status"] in ("done", "cached")]
    if not answered or not measured:
        return None
    return str(answered[0]["inputs"]["test"]), any(s["status"] == "done" for s in measured)


def _read(path: Path) -> list[Mapping[str, Any]]:
    """Return the looks; a line that a crash cut off is left out."""
    found = []
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
