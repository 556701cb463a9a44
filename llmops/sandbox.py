"""Run Python that nobody has read, in bubblewrap (https://github.com/containers/bubblewrap).

What runs there sees the system and the interpreter read-only and an empty folder for itself. It
has no network, none of this machine's files, no variables, and limits on time, memory and
processes. The sandbox protects the machine; it does not stop code that means to from saying that
it passed.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROGRAM = "bwrap"
PASSED = "passed"
TIMED_OUT = "timed out"
MAX_PROCESSES = 16  # threads among them
MAX_FILE_BYTES = 16 * 1024 * 1024  # also the room of the folder it may write to
SYSTEM = ("/bin", "/lib", "/lib64", "/usr")
SECONDS_TO_END = 1  # beyond the time limit, for what stops by its limit of CPU time to say so
FIRST_USER = 61_184  # of the range that systemd gives to nobody for long
USERS = 4_000

# Runs in the sandbox. Exit codes say nothing, since code can leave with any of them.
LAUNCHER = """
import builtins, json, os, resource, sys
told = os.dup(1)
work = json.loads(sys.stdin.buffer.read())
nowhere = os.open("/dev/null", os.O_RDWR)
for stream in (0, 1, 2):
    os.dup2(nowhere, stream)
for name, (soft, hard) in work["limits"].items():
    resource.setrlimit(getattr(resource, name), (soft, hard))
if work["user"] is not None:
    os.setgroups([])
    os.setgid(work["user"])
    os.setuid(work["user"])
builtins.exit = builtins.quit = sys.exit
names = {"__name__": "__main__"}
outcome = work["token"]
for place, code in enumerate(work["code"]):
    try:
        exec(compile(code, "answer.py", "exec"), names)
    except SystemExit as exc:
        if exc.code not in (None, 0):
            outcome = "SystemExit"
            break
    except BaseException as exc:
        outcome = type(exc).__name__
        break
os.write(told, outcome.encode("utf-8", "replace")[:200])
os._exit(0)
"""


@dataclass(frozen=True)
class Limits:
    """What a piece of code may use: seconds of wall and CPU time, megabytes of each process."""

    timeout_s: float
    max_memory_mb: int


@cache
def why_not() -> str | None:
    """Say in a clause why code cannot be run here; None if it can, which was then tried."""
    if not sys.platform.startswith("linux"):
        return "bubblewrap needs Linux"
    if shutil.which(PROGRAM) is None:
        return "bwrap is not installed (Debian and Ubuntu: apt-get install bubblewrap)"
    command = [*_command(), "-c", "print('works')"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"bwrap does not start: {exc}"
    if done.stdout != "works\n":
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return f"bwrap does not work here: {said[-1]}"
    outcome = run(("import threading; threading.Thread(target=print).start()",), Limits(20, 512))
    return None if outcome == PASSED else f"bwrap starts, but code does not run in it: {outcome}"


def run(code: tuple[str, ...], limits: Limits) -> str:
    """Run pieces of Python one after the other in one process, and say what came of them.

    Returns:
        ``passed`` if all ran to their ends, ``timed out``, or the name of the exception that ended
        them; ``killed`` where the process was gone without a word.
    """
    token = secrets.token_hex(16)
    work = {
        "code": code,
        "token": token,
        "user": FIRST_USER + os.getpid() % USERS if _as_root() else None,
        "limits": _limits(limits),
    }
    command = [*_command(), "-c", LAUNCHER]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere) as process:
        try:
            asked, longest = json.dumps(work).encode(), limits.timeout_s + SECONDS_TO_END
            said, _ = process.communicate(asked, longest)
        except subprocess.TimeoutExpired:
            return TIMED_OUT
        finally:
            process.kill()  # and with it whatever the code has left running
    if process.returncode == 128 + signal.SIGXCPU:
        return TIMED_OUT
    outcome = said.decode("utf-8", "replace")
    return PASSED if outcome == token else outcome or "killed"


def _limits(limits: Limits) -> dict[str, tuple[int, int]]:
    """Return soft and hard limits by the names that Python's ``resource`` has for them."""
    seconds, each = math.ceil(limits.timeout_s), limits.max_memory_mb * 1024 * 1024
    same = {
        "RLIMIT_AS": each,
        "RLIMIT_NPROC": MAX_PROCESSES,
        "RLIMIT_FSIZE": MAX_FILE_BYTES,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_CORE": 0,
    }
    # the soft limit of CPU time ends the process by a signal that tells why
    return {"RLIMIT_CPU": (seconds, seconds + 1)} | {n: (v, v) for n, v in same.items()}


def _as_root() -> bool:
    return os.geteuid() == 0


def _command() -> list[str]:
    """Return the command up to the interpreter's own options.

    Root keeps its user namespace and gives up its name inside, because the number of root's
    processes has no limit; anybody else is a stranger in a user namespace of their own.
    """
    apart = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    who = (
        [*apart, "--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        if _as_root()
        else [*apart, "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    )
    system = [option for path in SYSTEM for option in _system(Path(path))]
    return [
        PROGRAM,
        *who,
        "--die-with-parent",
        "--new-session",
        "--clearenv",
        *("--setenv", "HOME", "/tmp", "--setenv", "LANG", "C.UTF-8"),
        *("--setenv", "PATH", "/usr/bin:/bin"),
        *system,
        *("--perms", "0755", "--dir", "/etc"),
        *("--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"),
        *_interpreter(Path(sys.base_prefix)),
        *("--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"),
        *("--perms", "1777", "--size", str(MAX_FILE_BYTES), "--tmpfs", "/tmp"),
        *("--remount-ro", "/", "--chdir", "/tmp"),
        getattr(sys, "_base_executable", sys.executable),
        "-IS",  # the standard library alone, so that the same code passes everywhere
    ]


def _interpreter(prefix: Path) -> list[str]:
    """Show the interpreter's folder in its place; the folders above it are empty but for it."""
    if prefix.is_relative_to("/usr"):
        return []
    above = [parent for parent in reversed(prefix.parents) if parent != Path("/")]
    folders = [word for path in above for word in ("--perms", "0755", "--dir", str(path))]
    return [*folders, "--ro-bind", str(prefix), str(prefix)]


def _system(path: Path) -> list[str]:
    if path.is_symlink():
        return ["--symlink", os.readlink(path), str(path)]
    return ["--ro-bind", str(path), str(path)] if path.is_dir() else []
