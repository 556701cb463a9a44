"""A task's entry: what a KFP component calls, in its own process, on any engine.

It gets the config's address, the run's id, its step's name and where its reference files lie.
It reads the config, opens the store, runs the step, and leaves a report in the store. On one
machine the run's parent sets ``LLMOPS_RUN_FOLDER`` (for logs and progress) and
``LLMOPS_RUN_PID`` (the process without which the work has no purpose); elsewhere progress goes
into the store, and a step that only waits for a provider's job ends its task.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.adapters.catalog import open_adapters, open_store
from llmops.adapters.store.address import read_text
from llmops.artifacts import Artifact, canonical_json, digest, read_reference
from llmops.errors import BackendError, LlmopsError, Pending
from llmops.execute import Result, Task, execute
from llmops.files import refusal
from llmops.plan.graph import Graph, Node, build_graph
from llmops.ports.store import Store
from llmops.secrecy import copy_masked, masked
from llmops.steps import step_kinds

if TYPE_CHECKING:
    from llmops.steps.component import Made

REQUEST = "_request"  # the report in which the parent says what the config does not; see request()
PROGRESS = "_progress-"  # and the step: the report in which a worker elsewhere says how far it is
POLL_SECONDS = 0.5
PROGRESS_SECONDS = 0.2
STORED_PROGRESS_SECONDS = 10.0  # each is an object of a bucket


def work(
    config_uri: str,
    run_id: str,
    step: str,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    made: Made | None = None,
) -> None:
    """Run one step of a run and write the references of its outputs.

    Args:
        config_uri: Address of the resolved config, an object of the store.
        run_id: The run.
        step: The step's name in the config's pipeline.
        inputs: Input name to the path of its reference file.
        outputs: Output name to the path where its reference file is to be written.
        made: What a container of the step's own has made; only to be taken into the store.

    Raises:
        SystemExit: If the step fails; its report says why.
    """
    _send_output_to_log(step)
    leave_with_the_run()
    config = _here(read_config(config_uri))
    store = open_store(config, Path.cwd())
    events = Events(step, run_id, store)
    started = time.monotonic()
    try:
        events.send(event="start")
        result = _execute(config, store, run_id, step, inputs, events, made)
        for name, path in outputs.items():
            _write_reference(Path(path), result.entry.outputs[name].to_json())
    except BaseException as exc:
        report = _failure(exc) | {"seconds": round(time.monotonic() - started, 3)}
        events.send(event="end", status="failed")
        store.write_report(run_id, step, report)
        traceback.print_exc()
        if isinstance(exc, Pending) and not _beside_the_run():
            return  # whoever follows the run waits for the job, and pays no machine for that
        raise SystemExit(1) from exc
    status = "cached" if result.cached else "done"
    store.write_report(run_id, step, _success(result, status))
    events.send(event="end", status=status, seconds=result.entry.seconds)


def hand_out(
    config_uri: str, run_id: str, step: str, inputs: Mapping[str, str], outputs: Mapping[str, str]
) -> None:
    """Copy a step's inputs out of the store, for a container of its own that knows no store.

    Args:
        config_uri: Address of the resolved config.
        run_id: The run.
        step: The step that takes the inputs.
        inputs: Input name to the path of its reference file.
        outputs: Input name to the path where its data is to be written.

    Raises:
        SystemExit: If an input cannot be read; the step's report says why.
    """
    from llmops.steps.component import copy

    _send_output_to_log(step)
    leave_with_the_run()
    store = open_store(_here(read_config(config_uri)), Path.cwd())
    Events(step, run_id, store).send(event="start")
    try:
        for name, path in inputs.items():
            copy(store.local_path(_reference(Path(path), store)), Path(outputs[name]))
    except BaseException as exc:
        store.write_report(run_id, step, _failure(exc) | {"seconds": 0.0})
        traceback.print_exc()
        raise SystemExit(1) from exc


def take_in(
    config_uri: str,
    run_id: str,
    step: str,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    made: Mapping[str, str],
    results: Mapping[str, Any],
) -> None:
    """Take into the store what a container of the step's own made; otherwise as ``work``.

    ``made`` is output name to the file or folder that the container wrote, ``results`` are its
    output parameters.
    """
    from llmops.steps.component import Made

    work(config_uri, run_id, step, inputs, outputs, Made(made, results))


def read_config(uri: str) -> dict[str, Any]:
    """Read a resolved config and check it against the digest that ends its address.

    Raises:
        BackendError: If it is missing or is not what its address says.
    """
    try:
        config: dict[str, Any] = json.loads(read_text(uri, Path.cwd()))
    except (OSError, ValueError) as exc:
        raise BackendError(f"the resolved config cannot be read: {uri}: {exc}") from exc
    if digest(config) != uri.rpartition("/")[2]:
        raise BackendError(f"{uri} is not the config that its name says")
    return config


def _here(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config as it holds where this runs: a task has its machine's own credentials.

    Those that ``env.credentials`` describes belong to whoever started the run.
    """
    environment = config.get("env")
    if _beside_the_run() or not environment:
        return config
    return {**config, "env": {**environment, "credentials": None}}


def _execute(
    config: Mapping[str, Any],
    store: Store,
    run_id: str,
    step: str,
    inputs: Mapping[str, str],
    events: Events,
    made: Made | None,
) -> Result:
    request = store.read_report(run_id, REQUEST) or {}
    kinds = step_kinds(config["project"]["steps"], request.get("components"))
    node = build_graph(config["pipeline"], kinds).node(step)
    _check_revision(node, request.get("revisions", {}))
    if made:
        node = replace(node, kind=replace(node.kind, run=made.take))
    task = Task(
        node=node,
        config=config,
        run_id=run_id,
        inputs={name: _reference(Path(path), store) for name, path in inputs.items()},
        forced=step in request.get("forced", ()),
    )
    adapters = open_adapters(config, store, Path.cwd(), fresh=task.forced)
    return execute(task, store, adapters, events.progress)


def request(graph: Graph, forced: Sequence[str], components: Mapping[str, str]) -> dict[str, Any]:
    """Return what the parent tells its workers beside the config.

    Args:
        graph: The run's pipeline.
        forced: Steps that run again although they are known.
        components: Texts of the component files that steps use: no worker has the config folder.
    """
    revisions = {node.name: node.kind.revision for node in graph.nodes}
    return {"forced": list(forced), "components": dict(components), "revisions": revisions}


def _check_revision(node: Node, planned: Mapping[str, int]) -> None:
    """Refuse to work with code other than what the run was planned with.

    Raises:
        BackendError: If the image holds another revision of the step.
    """
    wanted = planned.get(node.name, node.kind.revision)
    if wanted != node.kind.revision:
        raise BackendError(
            f"the run was planned with revision {wanted} of {node.kind.name}, this "
            f"environment has revision {node.kind.revision}",
            hint="build engine.image from the llmops that starts the run: docs/engines.md",
        )


def _reference(path: Path, store: Store) -> Artifact:
    """Read a reference file; one of the store's own is looked up there if it is not mounted."""
    if path.parent.name == "refs" and not path.exists():
        return store.find(path.stem)
    return read_reference(path)


def _write_reference(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)


def _success(result: Result, status: str) -> dict[str, Any]:
    entry = asdict(result.entry)
    return {name: entry[name] for name in ("key", "inputs", "outputs", "facts", "seconds")} | {
        "status": status
    }


def _failure(raised: BaseException) -> dict[str, Any]:
    exc = refusal(raised) or raised
    expected = isinstance(exc, LlmopsError)
    text = exc.problem if isinstance(exc, LlmopsError) else f"{type(exc).__name__}: {exc}"
    problem = masked(text)
    return {
        "status": "failed",
        "error": {
            "class": type(exc).__name__,
            "problem": problem,
            "hint": exc.hint if isinstance(exc, LlmopsError) else "this is a bug; see the log",
            "exit_code": exc.exit_code if isinstance(exc, LlmopsError) else 1,
            "expected": expected,
        }
        | ({"job": exc.job} if isinstance(exc, Pending) else {}),
    }


# ------------------------------------------------------- living beside the run


def _beside_the_run() -> bool:
    """Say whether the run's own process is on this machine and follows this one."""
    return "LLMOPS_RUN_PID" in os.environ


class Events:
    """Progress of one step: as JSON lines in the run's folder; elsewhere the last, in the store."""

    def __init__(self, step: str, run_id: str, store: Store) -> None:
        folder = os.environ.get("LLMOPS_RUN_FOLDER")
        self.path = Path(folder) / "logs" / "progress.jsonl" if folder else None
        self.step, self.run_id, self.store = step, run_id, store
        self.seconds = PROGRESS_SECONDS if folder else STORED_PROGRESS_SECONDS
        self.last = 0.0

    def progress(
        self, done: float, total: float | None, note: str = "", *, loss: float | None = None
    ) -> None:
        """Report progress, but not too often; on one machine the last of it always."""
        now = time.monotonic()
        if now - self.last >= self.seconds or (self.path and done == total):
            self.last = now
            measured = {} if loss is None else {"loss": loss}
            self.send(event="progress", done=done, total=total, note=masked(note), **measured)

    def send(self, **event: Any) -> None:
        """Append one line, short enough to be written whole; or replace the stored event."""
        if self.path:
            line = masked(canonical_json({"step": self.step, **event})) + "\n"
            with self.path.open("ab") as file:
                file.write(line.encode("utf-8", "replace"))
        elif event["event"] != "end":  # the report itself says that
            self.store.write_report(self.run_id, f"{PROGRESS}{self.step}", event)


def leave_with_the_run() -> None:
    """End this process and its group when the run's process is gone."""
    pid = os.environ.get("LLMOPS_RUN_PID")
    if pid:
        threading.Thread(target=_watch, args=(int(pid),), daemon=True).start()


def _watch(pid: int) -> None:
    time.sleep(POLL_SECONDS)  # most steps are over by now, and need no psutil
    import psutil

    try:
        run = psutil.Process(pid)
    except psutil.NoSuchProcess:
        os.killpg(0, signal.SIGKILL)
        return
    while run.is_running() and run.status() != psutil.STATUS_ZOMBIE:
        time.sleep(POLL_SECONDS)
    os.killpg(0, signal.SIGKILL)


def _send_output_to_log(step: str) -> None:
    """Send what this process and its children print to the step's log, without secrets.

    A process of its own copies it, so that the last words of a worker that is killed are not lost.
    It keeps the output that it was born with, and so whoever reads that waits for the log.
    """
    folder = os.environ.get("LLMOPS_RUN_FOLDER")
    if not folder:
        return
    log = os.open(
        Path(folder) / "logs" / f"{step}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
    )
    sys.stdout.flush()
    sys.stderr.flush()
    source, sink = os.pipe()
    if os.fork() == 0:
        try:
            os.close(sink)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends when the worker has
            copy_masked(source, log)
        finally:
            os._exit(0)
    os.close(source)
    os.close(log)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.close(sink)
