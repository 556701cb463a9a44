"""After ``kill -9`` of a run and all of its processes: how soon the same command works again.

    .venv/bin/python benchmarks/recovery.py

Five steps in a chain, each of which notes the moment at which its work begins and takes a second
and a half. The whole group is killed in the middle of the third. Measured, from the start of the
same command to the moment a step's work begins; and which steps were worked on twice.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from harness import ROUNDS, publish
from workspace import Workspace

STEPS = 5
KILLED = 3  # the number of the step that is at work then


def main() -> None:
    rounds = [_round() for _ in range(ROUNDS)]
    seconds = [one for one, _ in rounds]
    repeated = {name for _, names in rounds for name in names}
    print(f"work begins after {median(seconds):.2f} s (all: {_shown(seconds)})")
    print(f"steps worked on twice: {', '.join(sorted(repeated))}; of {STEPS}")
    publish("recovery", {"seconds": seconds, "repeated": sorted(repeated)})


def _round() -> tuple[float, list[str]]:
    """Kill a run, start the command again; return the seconds to work, and the repeated steps."""
    root = Path(tempfile.mkdtemp(prefix="llmops-benchmark-"))
    try:
        workspace = Workspace(root / "project")
        workspace.waiting("wait", STEPS, seconds=1.5)
        began = workspace.root / "began.txt"
        process = _start(workspace)
        while len(_began(began)) < KILLED:
            time.sleep(0.01)
        time.sleep(0.7)
        _kill_all(process.pid)
        process.wait()
        before = _began(began)
        started = time.time()
        done = _start(workspace)
        if done.wait() != 0:
            raise RuntimeError(f"the second run ended with {done.returncode}")
        after = _began(began)[len(before) :]
        return after[0][1] - started, [name for name, _ in after if name in dict(before)]
    finally:
        shutil.rmtree(root)


def _start(workspace: Workspace) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "llmops", "run", "+experiment=wait"],
        cwd=workspace.root,
        env={**os.environ, **workspace.environment},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def _began(path: Path) -> list[tuple[str, float]]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [(name, float(moment)) for name, moment in map(str.split, lines)]


def _kill_all(pid: int) -> None:
    """Kill the run and its descendants, which are in groups of their own."""
    import psutil

    run = psutil.Process(pid)
    for process in (run, *run.children(recursive=True)):
        os.kill(process.pid, signal.SIGKILL)


def _shown(seconds: list[float]) -> str:
    return " ".join(f"{one:.2f}" for one in seconds)


if __name__ == "__main__":
    main()
