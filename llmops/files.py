"""Files that are whole or absent, whatever happens to the process or the machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from llmops.errors import BackendError


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def publish(source: Path, target: Path) -> None:
    """Make ``source`` appear at ``target`` whole or not at all; both on one disk."""
    with source.open("rb") as file:
        os.fsync(file.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    _sync_folder(target.parent)


def write_text(path: Path, text: str) -> None:
    """Write a small text file whole or not at all, with the permissions of an ordinary file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.chmod(0o666 & ~_umask())
        publish(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def disk_errors(where: Path, *, setting: str) -> Iterator[None]:
    """Turn an error of the disk into a BackendError that says where, and how much is free.

    Args:
        where: The folder that is written to.
        setting: What the user can change to use another one, e.g. ``store.path``.
    """
    try:
        yield
    except OSError as exc:
        free = _free_bytes(where)
        room = "" if free is None else f"{where} has {free / 1e6:,.0f} MB free; "
        raise BackendError(
            f"{exc.strerror or exc}: {exc.filename or where}",
            hint=f"{room}make room, allow writing there, or set {setting}",
        ) from exc


def _free_bytes(where: Path) -> int | None:
    for folder in (where, *where.parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(folder).free
    return None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
