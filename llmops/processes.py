"""Processes of this machine."""

from __future__ import annotations


def is_running(pid: int) -> bool:
    """Say whether the process lives; one that has ended and was not waited for does not."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
