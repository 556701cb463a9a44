"""Tell others of a run while it goes on and as it ends. Never fails the run, nor holds it up.

The config's group ``notify`` says who is told: OpenLineage targets, MLflow, a webhook, a command.
Each listener has a thread of its own, is told things in order, and is left alone once it has
failed ``PATIENCE`` times in a row. The run's folder gets the OpenLineage events in any case.
Messages hold names and figures, never rows or secrets.
"""

from __future__ import annotations

import contextlib
import json
import queue
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from llmops.adapters.catalog import adapter
from llmops.adapters.posting import post
from llmops.adapters.secrets import reveal
from llmops.errors import LlmopsError
from llmops.lineage import openlineage
from llmops.lineage.record import tuned_loss
from llmops.lineage.run_folder import RunFolder
from llmops.lineage.trackers import Point
from llmops.ports.lineage import LineageTarget
from llmops.ports.store import Store
from llmops.secrecy import masked

EVENTS = "events.jsonl"
PATIENCE = 3  # failures in a row
DRAIN_S = 10.0  # how long the end of a run waits until all have been told
COMMAND_TIMEOUT_S = 10.0
TITLES: Mapping[str, str] = {
    "succeeded": "succeeded",
    "refused": "was refused by its gate",
    "failed": "failed",
    "interrupted": "was interrupted",
}


class Listeners:
    """All who hear of one run."""

    def __init__(self, folder: RunFolder, config: Mapping[str, Any], store: Store) -> None:
        self.folder = folder
        self.config = config
        self.store = store
        self.notify: Mapping[str, Any] = config.get("notify") or {}
        self.record: Mapping[str, Any] = {}
        self.steps: dict[str, Mapping[str, Any]] = {}
        self.begun: set[str] = set()
        self.over: set[str] = set()
        self.targets = [
            _Target(_Listener(f"lineage {one['kind']}"), one, config.get("env"))
            for one in self.notify.get("lineage", ())
        ]
        address = self.notify.get("mlflow")
        self.tracker = _Tracker(_Listener("MLflow"), address, config) if address else None

    def started(self, record: Mapping[str, Any]) -> None:
        """Tell that a run has begun."""
        self.go_on(record)
        self._emit(lambda: openlineage.started(record))

    def go_on(self, record: Mapping[str, Any]) -> None:
        """Follow a run, begun by this process or an earlier one; nothing is told of that."""
        self.record = record
        self.steps = {step["name"]: step for step in record["steps"]}
        if self.tracker:
            self.tracker.begin(record)

    def event(self, event: Mapping[str, Any]) -> None:
        """Tell what a step does: that it starts, how its loss falls, that it ends."""
        step = self.steps.get(event["step"])
        if step is None:
            return
        if step["name"] not in self.begun:
            self.begun.add(step["name"])
            self._emit(lambda: openlineage.step_started(self.record, step, _now()))
        if event["event"] == "end":
            self.over.add(step["name"])
            self._emit(lambda: openlineage.step_ended(self.record, self._reported(step), _now()))
        elif self.tracker and event.get("loss") is not None:
            name = "tuning" if step["kind"] == "tune" else step["name"]
            self.tracker.loss(Point(f"{name}/train_loss", event["loss"], int(event["done"])))

    def ended(self, record: Mapping[str, Any]) -> None:
        """Tell that a run is over, and what came of it; wait a while until all know."""
        told = {"begun": self.begun, "over": self.over}
        self._emit(lambda: openlineage.ended(record, at=_now(), **told))
        if self.tracker:
            self.tracker.finish(record)
        called: tuple[_Listener, ...] = ()
        if record["status"] in self.notify.get("when", ()):
            called = tuple(self._call_out(message(record)))
        self._wait(called)

    def leave(self) -> None:
        """Wait until all know what was told so far: the run goes on without this process."""
        self._wait(())

    def _call_out(self, told: Mapping[str, Any]) -> Iterator[_Listener]:
        address, command = self.notify["webhook"], self.notify["command"]
        if address:
            yield _Listener("webhook").telling(lambda: post(address, told))
        if command:
            yield _Listener("command").telling(lambda: _pipe(command, told))

    def _wait(self, called: Sequence[_Listener]) -> None:
        listeners = [*(target.listener for target in self.targets), *called]
        listeners += [self.tracker.listener] if self.tracker else []
        until = time.monotonic() + DRAIN_S
        for listener in listeners:
            listener.close(until - time.monotonic())

    def _reported(self, step: Mapping[str, Any]) -> Mapping[str, Any]:
        report = self.store.read_report(str(self.record["run_id"]), step["name"]) or {}
        return {**step, **report}

    def _emit(self, make: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
        """Write events into the run's folder and hand them to the targets."""
        try:
            events = make()
            with (self.folder.path / EVENTS).open("a", encoding="utf-8") as file:
                for event in events:
                    text = json.dumps(event, ensure_ascii=False, allow_nan=False)
                    file.write(f"{masked(text)}\n")
        except Exception as exc:  # noqa: BLE001 - whatever goes wrong, the run is not its victim
            _note("events.jsonl", exc)
            return
        for target in self.targets:
            target.send(events)


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


class _Listener:
    """Tells one listener things in order, in a thread that starts with the first."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.thread: threading.Thread | None = None

    def tell(self, call: Callable[[], None]) -> None:
        self.calls.put(call)
        if self.thread is None:
            self.thread = threading.Thread(target=self._work, daemon=True)
            self.thread.start()

    def telling(self, call: Callable[[], None]) -> _Listener:
        self.tell(call)
        return self

    def close(self, seconds: float) -> None:
        """Wait until all is told, but no longer than ``seconds``."""
        if self.thread is not None:
            self.calls.put(None)
            self.thread.join(max(seconds, 0))
            if self.thread.is_alive():
                _note(self.name, TimeoutError(f"not done after {DRAIN_S:.0f} s"))

    def _work(self) -> None:
        failures = 0
        while (call := self.calls.get()) is not None:
            if failures == PATIENCE:
                continue
            try:
                call()
                failures = 0
            except Exception as exc:  # noqa: BLE001 - whatever a listener does, the run goes on
                failures += 1
                if failures == 1:
                    _note(self.name, exc)


class _Target:
    """An OpenLineage target, opened when there is the first event for it."""

    def __init__(
        self, listener: _Listener, config: Mapping[str, Any], environment: Mapping[str, Any] | None
    ) -> None:
        self.listener = listener
        self.config = config
        self.environment = environment
        self.opened: LineageTarget | None = None

    def send(self, events: Sequence[Mapping[str, Any]]) -> None:
        for event in events:
            self.listener.tell(lambda event=event: self._send(event))  # type: ignore[misc]

    def _send(self, event: Mapping[str, Any]) -> None:
        if self.opened is None:
            self.opened = adapter("lineage", self.config, environment=self.environment)
        assert self.opened is not None
        self.opened.send(event)


class _Tracker:
    """The run in MLflow."""

    def __init__(self, listener: _Listener, address: str, config: Mapping[str, Any]) -> None:
        self.listener = listener
        self.address = address
        self.config = config
        self.run: Any = None

    def begin(self, record: Mapping[str, Any]) -> None:
        self.listener.tell(lambda: self._open(record))

    def loss(self, point: Point) -> None:
        at = datetime.now(UTC)
        self.listener.tell(lambda: self.run.loss(point, at))

    def finish(self, record: Mapping[str, Any]) -> None:
        self.listener.tell(lambda: self._finish(record))

    def _open(self, record: Mapping[str, Any]) -> None:
        from llmops.lineage.mlflow_run import MlflowRun

        self.run = MlflowRun(reveal(self.address), record, self.config)

    def _finish(self, record: Mapping[str, Any]) -> None:
        from llmops.api.exporting import registered_by, training_curve

        if self.run is None:
            self._open(record)
        self.run.finish(record, training_curve(record), registered_by(record))


def _pipe(command: str, told: Mapping[str, Any]) -> None:
    subprocess.run(
        shlex.split(reveal(command)),
        input=json.dumps(told),
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=True,
        capture_output=True,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _note(name: str, exc: BaseException) -> None:
    """Say in a line who was not told: nobody's run ends because a listener is away."""
    why = exc.problem if isinstance(exc, LlmopsError) else type(exc).__name__
    with contextlib.suppress(OSError, ValueError):
        print(masked(f"note: {name} was not told ({why})"), file=sys.stderr)  # noqa: T201
