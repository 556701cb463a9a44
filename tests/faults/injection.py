"""Let the Nth file operation of a piece of work go wrong: the process dies, or the system refuses.

A fork of this process, in which everything is imported already, does the work with the functions
of ``os`` and ``io`` that touch files wrapped. Operations on files outside the watched folder do not
count. What C++ libraries do with files by themselves cannot be seen from here; ``strace`` can (see
``test_from_outside``).
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMED = ("open", "mkdir", "rmdir", "unlink", "link", "symlink", "chmod")  # of os, by a path
MOVES = ("rename", "replace")  # of os, by two paths
HELD = ("fsync", "fdatasync", "ftruncate")  # of os, by a descriptor
ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EMFILE": errno.EMFILE}
FAULTS = ("kill", "short", *ERRORS)
NEEDS_ROOM = (
    *("write", "create", "mkdir", "link", "symlink", "rename"),
    *("fsync", "fdatasync"),
)
READING = frozenset("r")
HANGS_AFTER_S = 180  # work that is not done by then never ends: its process is ended
LOST_COUNT = 99  # exit code of a fork in which the harness itself failed


@dataclass(frozen=True)
class Fault:
    """What happens at operation number ``at``, counted from 1; 0 lets all of them pass."""

    kind: str = "kill"
    at: int = 0

    def fits(self, operation: str) -> bool:
        """Say whether this kind of fault can happen to such an operation in this world."""
        if self.kind == "short":
            return operation == "write"
        if self.kind == "ENOSPC":
            return operation in NEEDS_ROOM
        if self.kind == "EMFILE":
            return operation in ("create", "read")
        return True


@dataclass(frozen=True)
class Ended:
    """How the work ended: its exit code (negative: the signal), what it printed, the operations."""

    code: int
    said: str
    operations: tuple[str, ...]


def operate(work: Callable[[], int], folder: Path, log: Path, fault: Fault) -> Ended:
    """Do ``work`` in a fork, with one fault, and return how it ended.

    Args:
        work: Returns its exit code; runs with ``folder`` as its working folder.
        folder: Operations on files below it count.
        log: A file outside of ``folder`` for what the work prints.
        fault: Which operation goes wrong, and how.
    """
    tally = log.with_suffix(".operations")
    pid = os.fork()
    if pid == 0:
        _in_the_fork(work, folder, log, tally, fault)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    said = log.read_text("utf-8", "replace")
    assert code != LOST_COUNT, said
    return Ended(code, said, tuple(tally.read_text("utf-8").split()))


def _in_the_fork(
    work: Callable[[], int], folder: Path, log: Path, tally: Path, fault: Fault
) -> None:
    code = LOST_COUNT
    signal.alarm(HANGS_AFTER_S)
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        # A test runner has put others in their place, which do not write there.
        sys.stdout, sys.stderr = (open(fd, "w", buffering=1, closefd=False) for fd in (1, 2))  # noqa: SIM115
        os.chdir(folder)
        counted = os.open(tally, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with _Operations(folder, fault, counted).wrapped():
            code = work()
    except BaseException:  # noqa: BLE001 - told through the exit code and the log
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


class _Operations:
    """Counts the operations and makes the chosen one go wrong."""

    def __init__(self, folder: Path, fault: Fault, tally: int) -> None:
        self.folder = os.path.realpath(folder)
        self.fault = fault
        self.tally = tally
        self.count = 0
        self.real_write = os.write
        self.held: set[int] = set()

    @contextmanager
    def wrapped(self) -> Iterator[None]:
        """Put the wrapped functions in place of the real ones."""
        before = {name: getattr(os, name) for name in (*NAMED, *MOVES, *HELD, "write", "close")}
        opened = io.open
        for name in NAMED:
            setattr(os, name, self._named(name, before[name]))
        for name in MOVES:
            setattr(os, name, self._move(before[name]))
        for name in HELD:
            setattr(os, name, self._on_held(name, before[name]))
        os.write = self._write
        os.close = self._close(before["close"])
        io.open = builtins.open = self._open(opened)
        try:
            yield
        finally:
            for name, function in before.items():
                setattr(os, name, function)
            io.open = builtins.open = opened

    def happens(self, operation: str, half_done: Callable[[], None] = lambda: None) -> None:
        """Count an operation; if it is the chosen one, die or raise.

        ``half_done`` does a part of it, for a fault that tears.
        """
        self.count += 1
        self.real_write(self.tally, f"{operation} ".encode())
        if self.count != self.fault.at or not self.fault.fits(operation):
            return
        if self.fault.kind in ("kill", "short"):
            if self.fault.kind == "short":
                half_done()
            os.kill(os.getpid(), signal.SIGKILL)
        number = ERRORS[self.fault.kind]
        half_done()
        raise OSError(number, os.strerror(number))

    def _watched(self, path: Any) -> bool:
        if isinstance(path, int):
            return path in self.held
        return os.path.abspath(os.fsdecode(path)).startswith(self.folder + os.sep)

    def _named(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(path: Any, *args: Any, **options: Any) -> Any:
            watched = self._watched(args[0] if name in ("link", "symlink") else path)
            if watched:
                self.happens(self._kind(name, args))
            result = real(path, *args, **options)
            if watched and name == "open":
                self.held.add(result)
            return result

        return wrapper

    @staticmethod
    def _kind(name: str, args: tuple[Any, ...]) -> str:
        if name != "open":
            return name
        return "create" if args and args[0] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR) else "read"

    def _move(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(source: Any, target: Any, **options: Any) -> Any:
            if self._watched(target):
                self.happens("rename")
            return real(source, target, **options)

        return wrapper

    def _on_held(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(handle: int, *args: Any) -> Any:
            if handle in self.held:
                self.happens(name)
            return real(handle, *args)

        return wrapper

    def _write(self, handle: int, data: Any) -> int:
        if handle in self.held:
            self.happens("write", lambda: self.real_write(handle, data[: len(data) // 2]))
        return self.real_write(handle, data)

    def _close(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(handle: int) -> Any:
            self.held.discard(handle)
            return real(handle)

        return wrapper

    def _open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            watched = self._watched(path)
            writes = not set(mode.replace("b", "").replace("t", "")) <= READING
            if watched and not isinstance(path, int):
                self.happens("create" if writes else "read")
            file = real(path, mode, *args, **options)
            if not watched:
                return file
            self.held.add(file.fileno())
            return _Written(file, self) if writes else file

        return wrapper


class _Written:
    """A file that is written to, whose writes count."""

    def __init__(self, file: Any, operations: _Operations) -> None:
        self._file = file
        self._operations = operations

    def write(self, data: Any) -> int:
        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        self._operations.happens("write", half)
        written: int = self._file.write(data)
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __enter__(self) -> _Written:
        self._file.__enter__()
        return self

    def __exit__(self, *failed: Any) -> Any:
        return self._file.__exit__(*failed)

    def __iter__(self) -> Any:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
