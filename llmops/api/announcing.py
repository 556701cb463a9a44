"""Tell others of a run: OpenLineage events, a webhook, a command. Never fails the run.

What may be told stands in the environment, since addresses are secrets: ``OPENLINEAGE_URL`` (as of
the official client), ``LLMOPS_NOTIFY_WEBHOOK`` (Slack's JSON) and ``LLMOPS_NOTIFY_COMMAND`` (gets
the same JSON on its input). Messages hold names and figures, never rows or secrets.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmops.lineage import openlineage
from llmops.lineage.record import tuned_loss
from llmops.lineage.run_folder import RunFolder
from llmops.secrecy import masked

EVENTS = "events.jsonl"
LINEAGE_URL = "OPENLINEAGE_URL"
WEBHOOK = "LLMOPS_NOTIFY_WEBHOOK"
COMMAND = "LLMOPS_NOTIFY_COMMAND"
TIMEOUT_S = 3.0
COMMAND_TIMEOUT_S = 10.0
TITLES: Mapping[str, str] = {
    "succeeded": "succeeded",
    "refused": "was refused by its gate",
    "failed": "failed",
    "interrupted": "was interrupted",
}


def announce_start(folder: RunFolder, record: Mapping[str, Any]) -> None:
    """Tell that a run has begun."""
    _quietly(lambda: _lineage(folder, openlineage.started(record)))


def announce_end(folder: RunFolder, record: Mapping[str, Any]) -> None:
    """Tell that a run is over, and what came of it."""
    _quietly(lambda: _lineage(folder, openlineage.ended(record)))
    told = message(record)
    if address := os.environ.get(WEBHOOK):
        _quietly(lambda: _post(address, told))
    if command := os.environ.get(COMMAND):
        _quietly(lambda: _pipe(command, told))


def message(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a webhook or command is told; ``text`` is what Slack shows."""
    name = f"{record['experiment']} {record['run_id']}"
    parts = [f"{name} {TITLES.get(record['status'], record['status'])}"]
    error, loss = record.get("error"), tuned_loss(record)
    if error and error.get("step"):
        parts.append(f"in step {error['step']}")
    if loss is not None:
        parts.append(f"tuned loss {loss:.3f}")
    gate = record.get("gate")
    if gate and not gate["passed"]:
        rules = [reason["rule"] for reason in gate["reasons"] if not reason["passed"]]
        parts.append(f"fails: {', '.join(rules)}")
    return {
        "text": masked(", ".join(parts)),
        "run_id": record["run_id"],
        "experiment": record["experiment"],
        "status": record["status"],
        "seconds": record["seconds"],
        "step": error.get("step") if error else None,
        "tuned_loss": loss,
        "gate_passed": gate["passed"] if gate else None,
    }


def _lineage(folder: RunFolder, events: Sequence[Mapping[str, Any]]) -> None:
    path = folder.path / EVENTS
    lines = [masked(json.dumps(event, ensure_ascii=False, allow_nan=False)) for event in events]
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))
    address = os.environ.get(LINEAGE_URL)
    if address:
        for event in events:
            _post(f"{address.rstrip('/')}/api/v1/lineage", event)


def _post(address: str, body: Mapping[str, Any]) -> None:
    import urllib.request  # slow to import, and most runs tell nobody

    request = urllib.request.Request(
        address,
        data=masked(json.dumps(body, ensure_ascii=False)).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S):
        pass


def _pipe(command: str, told: Mapping[str, Any]) -> None:
    subprocess.run(
        shlex.split(command),
        input=json.dumps(told),
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=True,
        capture_output=True,
    )


def _quietly(tell: Callable[[], None]) -> None:
    """Tell, and if that fails say so in a line: nobody's run ends because a listener is away."""
    try:
        tell()
    except Exception as exc:  # noqa: BLE001 - whatever a listener does, the run is not its victim
        import sys

        print(f"note: nobody was told ({type(exc).__name__})", file=sys.stderr)  # noqa: T201
