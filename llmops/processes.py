"""Processes of this machine, and whether one that a file names still runs."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ALLOCATIONS = 50_000  # between two looks for garbage; Python's own 700 cost a command a tenth


def collect_seldom() -> None:
    """Let Python look for garbage less often, in a process of its own that makes little of it."""
    gc.set_threshold(ALLOCATIONS)


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


def usable_cores() -> int:
    """Return how many cores this process may run on, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def share_of_cores(folder: Path, at_once: int) -> Iterator[None]:
    """Keep this process and its children to a share of the cores that no other member has.

    So that members which run beside each other do not fight for cores: each has ``1 / at_once`` of
    them, at least one. Does nothing for a single member, or where the system knows no affinity.

    Args:
        folder: Where the members find each other; each share has a lock there.
        at_once: How many members run at a time.
    """
    if at_once < 2 or not hasattr(os, "sched_setaffinity"):
        yield
        return
    from filelock import FileLock, Timeout

    before = sorted(os.sched_getaffinity(0))
    each = max(1, len(before) // at_once)
    for slot in range(at_once):
        lock = FileLock(folder / f"cores-{slot}")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        start = slot * each % len(before)
        os.sched_setaffinity(0, before[start : start + each])
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)
            lock.release()
        return
    yield  # more members at once than were announced


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
