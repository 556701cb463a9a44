"""An engine that works in the process of its run, so that one fork sees every file operation.

A real engine by shape: it hands each due step to ``llmops.worker.work`` as KFP's tasks do.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmops.artifacts import reference
from llmops.engines.engine import Assignment, selected_graph
from llmops.worker import work


def run(assignment: Assignment, on_event: Callable[[Mapping[str, Any]], None]) -> bool:
    """Run the due steps one after the other; a failed one ends the run."""
    cached = {s["name"]: s for s in assignment.plan["steps"] if s["status"] == "cached"}
    folder = Path(tempfile.mkdtemp(prefix="llmops-inline-"))
    try:
        for node in selected_graph(assignment.config, assignment.plan).nodes:
            if node.name in cached:
                _write_references(cached[node.name], folder)
                continue
            work(
                assignment.config_uri,
                assignment.run_id,
                node.name,
                {
                    name: str(_place(folder, edge.step, edge.output))
                    for name, edge in node.takes.items()
                },
                {port.name: str(_place(folder, node.name, port.name)) for port in node.kind.gives},
            )
    except SystemExit:
        pass  # the step's report says why
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return True


def _write_references(step: Mapping[str, Any], folder: Path) -> None:
    for name, output in step["outputs"].items():
        _place(folder, step["name"], name).write_text(reference(output).to_json(), "utf-8")


def _place(folder: Path, step: str, output: str) -> Path:
    return folder / f"{step}.{output}.json"
