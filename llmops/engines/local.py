"""Run a plan on this machine with ``kfp.local``, in a child process and process group of its own.

The child (``local_child``) compiles and runs the pipeline; each step is a process below it. This
side follows their progress, passes a Ctrl-C on, and makes sure that none of them stays behind.

``kfp.local`` rewrites the text ``python3`` in whatever it hands to a task, paths included, so
everything it sees lies under a short folder with a neutral name.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from llmops.engines import signals
from llmops.engines.engine import Assignment, Event
from llmops.errors import ConfigError, Interrupted
from llmops.processes import is_running
from llmops.secrecy import copy_masked

POLL_SECONDS = 0.05
GRACE_SECONDS = 2.0
PREFIX = "llmops-"
REWRITTEN = ("python3", "{{$")  # texts that kfp.local replaces inside arguments


def run(assignment: Assignment, on_event: Callable[[Event], None]) -> bool:
    """Run the steps that ``plan.json`` in the run folder leaves to do.

    Returns:
        True: the work has ended. What happened in each step stands in the reports that the
        workers left in the store.

    Raises:
        Interrupted: On SIGINT or SIGTERM, when every process of the run has ended.
    """
    folder = _store_folder(assignment)
    with _neutral_folder(folder) as neutral, signals.collected() as received:
        child = _waiting.pop() if _waiting else _start()
        _tell(child, assignment, neutral)
        logs = assignment.run_folder / "logs"
        progress = _Progress(logs / "progress.jsonl", on_event)
        with _logged(child, logs / "engine.log"):
            try:
                assignment.meanwhile()
                while _is_running(child) and not received:
                    progress.read()
            finally:
                _end(child)
                progress.read()
    if received:
        raise Interrupted(received[0])
    return True


def _store_folder(assignment: Assignment) -> Path | None:
    """Return the folder of a store on this machine's disk; None if it lies elsewhere.

    Raises:
        ConfigError: If kfp.local would rewrite the addresses of a store that lies elsewhere.
    """
    store = assignment.config["store"]
    if store["kind"] == "folder":
        return assignment.workspace / str(store["path"])
    found = next((text for text in REWRITTEN if text in assignment.config_uri), None)
    if found:
        raise ConfigError(
            f"engine.kind local: kfp.local rewrites '{found}' in the store's address",
            hint=f"choose a bucket and a prefix without '{found}', or another engine",
        )
    return None


@contextlib.contextmanager
def started_ahead() -> Iterator[None]:
    """Start the next run's child now: it imports what any run needs while its config is read."""
    _waiting.append(_start())
    try:
        yield
    finally:
        if _waiting:
            unused = _waiting.pop()
            _end(unused)
            for pipe in (unused.stdin, unused.stdout):
                if pipe:
                    pipe.close()


_waiting: list[subprocess.Popen[bytes]] = []  # at most one, until a run takes it


def _start() -> subprocess.Popen[bytes]:
    """Start a child that waits to be told its run."""
    environment = os.environ | {
        "LLMOPS_RUN_PID": str(os.getpid()),
        "PYTHONSAFEPATH": "1",  # a user's kfp.py in the workspace must not shadow the package
    }
    return subprocess.Popen(
        [sys.executable, "-m", "llmops.engines.local_child"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _tell(child: subprocess.Popen[bytes], assignment: Assignment, neutral: Path) -> None:
    assert child.stdin is not None
    told = {
        "workspace": str(assignment.workspace),
        "run_folder": str(assignment.run_folder),
        "run_id": assignment.run_id,
        "config_uri": assignment.config_uri,
        "neutral": str(neutral),
    }
    with contextlib.suppress(BrokenPipeError), child.stdin as file:  # its log says why it ended
        file.write(json.dumps(told).encode())


def _is_running(child: subprocess.Popen[bytes]) -> bool:
    """Wait a moment, and not a moment longer than the child lives."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(POLL_SECONDS)
        return False
    return True


@contextlib.contextmanager
def _logged(child: subprocess.Popen[bytes], path: Path) -> Iterator[None]:
    """Write what the engine prints to its log, without secrets."""
    assert child.stdout is not None
    source = child.stdout.fileno()
    with path.open("wb") as log:
        copier = threading.Thread(target=copy_masked, args=(source, log.fileno()), daemon=True)
        copier.start()
        try:
            yield
        finally:
            copier.join()  # ends with the last process of the group, which _end has seen to
            child.stdout.close()


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the whole process group, kindly first."""
    if child.poll() is None:
        _signal_group(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_SECONDS)
    _signal_group(child.pid, signal.SIGKILL)
    child.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


@contextlib.contextmanager
def _neutral_folder(store: Path | None) -> Iterator[Path]:
    base = Path(tempfile.gettempdir())
    if "python3" in str(base):
        base = Path("/tmp")
    _clear_left_behind(base)
    neutral = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=base))
    (neutral / "tmp").mkdir()
    if store:
        (neutral / "store").symlink_to(store.resolve())
    try:
        yield neutral
    finally:
        shutil.rmtree(neutral, ignore_errors=True)


def _clear_left_behind(base: Path) -> None:
    """Remove neutral folders of runs that were killed."""
    for folder in base.glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not is_running(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)  # another user's folder stays: no permission


class _Progress:
    """Reads the workers' events from the file they append to."""

    def __init__(self, path: Path, on_event: Callable[[Event], None]) -> None:
        self.path = path
        self.on_event = on_event
        self.position = 0

    def read(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.position)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self.position += len(line)
                self.on_event(json.loads(line))
