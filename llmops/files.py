"""Files that are whole or absent, whatever happens to the process or the machine."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from llmops.errors import BackendError
from llmops.processes import is_running

TEMPORARY = ".tmp-"
REFUSALS = frozenset(  # what a system answers that has no room, no rights, or a broken disk
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "EMFILE", "ENFILE")
)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def publish(source: Path, target: Path) -> None:
    """Make ``source`` appear at ``target`` whole or not at all; both on one disk."""
    sync(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    _sync_folder(target.parent)


def sync(path: Path) -> None:
    """Wait until the disk holds a file's content."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a small text file whole or not at all, with the permissions of an ordinary file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{TEMPORARY}{owner()}-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.chmod(0o666 & ~_umask())
        publish(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes, for a reader to whom a missing or torn file means something.

    Raises:
        BackendError: If the system refuses for now: that says nothing of what the file holds.
        OSError: If there is no such file, or no right to read it.
    """
    try:
        return path.read_bytes()
    except OSError as exc:
        refused = refusal(exc)
        if refused is None:
            raise
        raise refused from exc


def read_text(path: Path) -> str:
    """Return a UTF-8 file's text; raises as ``read_bytes``, and ValueError if it is no text."""
    return read_bytes(path).decode("utf-8")


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it; nothing if there is none.

    Raises:
        OSError: If the system refuses; what is left can be removed later.
    """

    def failed(function: object, path: str, raised: tuple[type, BaseException, object]) -> None:
        if not isinstance(raised[1], FileNotFoundError):  # another process removes it too
            raise raised[1]

    shutil.rmtree(folder, onerror=failed)


def discard(folder: Path, within: Path) -> None:
    """Take a folder away at once, then remove what was in it; nothing if there is none.

    What a kill leaves of it lies in ``within``, on the same disk, where ``clear_left_behind``
    finds it.

    Raises:
        OSError: If the system refuses.
    """
    aside = within / f"{TEMPORARY}{owner()}-{folder.name}"
    with contextlib.suppress(FileNotFoundError):
        folder.rename(aside)
    remove_folder(aside)


def owner() -> str:
    """Return the beginning of the names of this process's temporary files: machine and process."""
    return f"{socket.gethostname()}-{os.getpid()}"


def clear_left_behind(folder: Path, prefix: str = TEMPORARY) -> None:
    """Remove from ``folder`` what processes of this machine left half-written when they died."""
    mine = f"{prefix}{socket.gethostname()}-"
    for path in folder.glob(f"{glob.escape(mine)}*"):
        pid = path.name.removeprefix(mine).partition("-")[0]
        if pid.isdigit() and not is_running(int(pid)):
            if path.is_dir():
                remove_folder(path)
            else:
                path.unlink(missing_ok=True)


def refusal(exc: BaseException) -> BackendError | None:
    """Return the error of a system that refuses a file operation; None if ``exc`` is none such.

    For what no ``disk_errors`` has caught: a full disk is no bug, wherever it is noticed.
    """
    if not isinstance(exc, OSError) or exc.errno not in REFUSALS:
        return None
    return _backend_error(exc, Path(exc.filename or Path.cwd()), "LLMOPS_WORKSPACE")


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
        raise _backend_error(exc, where, setting) from exc


def _backend_error(exc: OSError, where: Path, setting: str) -> BackendError:
    free = _free_bytes(where)
    room = "" if free is None else f"{where} has {free / 1e6:,.0f} MB free; "
    return BackendError(
        f"{exc.strerror or exc}: {exc.filename or where}",
        hint=f"{room}make room, allow writing there, or set {setting}",
    )


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
