"""Run a command and say what it used.

A process inherits the peak memory of the one that started it, so the command is started by a small
process of its own and not by the test's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

LAUNCHER = """
import json, os, signal, sys

signal.alarm(int(sys.argv[1]))
output = os.open(os.devnull, os.O_WRONLY)
quiet = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ, file_actions=quiet)
signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
_, status, used = os.wait4(pid, 0)
cpu = used.ru_utime + used.ru_stime
print(json.dumps([os.waitstatus_to_exitcode(status), cpu, used.ru_maxrss / 1024]))
"""


@dataclass(frozen=True)
class Used:
    """The exit code (negative: a signal), user and system seconds, and the peak memory."""

    exit_code: int
    cpu_seconds: float
    peak_megabytes: float


def measured(command: Sequence[str], *, seconds: int = 60) -> Used:
    """Run ``command`` with its output thrown away; kill it after ``seconds``."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", LAUNCHER, str(seconds), *command],
        capture_output=True,
        text=True,
        check=True,
    )
    return Used(*json.loads(done.stdout))
