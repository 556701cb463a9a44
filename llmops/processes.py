"""Processes of this machine, and whether one that a file names still runs."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any


def is_running(pid: int) -> bool:
    """Say whether the process lives; one that has ended and was not waited for does not."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def this_process() -> dict[str, Any]:
    """Name this process so that ``still_running`` finds it: machine, number and start.

    A number alone is given again to another process; ``started`` tells the two apart.
    """
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _start(os.getpid())}


def still_running(process: Mapping[str, Any] | None) -> bool | None:
    """Say whether a process named by ``this_process`` runs; None on another machine, or unnamed."""
    if not process or process.get("host") != socket.gethostname():
        return None
    pid = int(process["pid"])
    return is_running(pid) and _start(pid) == process["started"]


def _start(pid: int) -> str:
    """Return when a process began, in words that only comparing makes sense of.

    On Linux in ticks since the machine started, which a changed clock does not change.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        import psutil

        try:
            return f"{psutil.Process(pid).create_time():.0f}"
        except psutil.NoSuchProcess:
            return "gone"
