"""An append-only log in segments that a killed process can neither tear nor shorten.

Each process writes segments of its own, one JSON object a line, and holds a kernel lock on the one
it writes. A line counts once it is written with its line end: what a kill or a full disk left
behind the last line end was never acknowledged and is cut off. Knows nothing of what a line says.

    <folder>/20261125T101502.123456-4242-7b1e.jsonl      a segment, named by its first moment
    <folder>/key                                          secret of the keyed digests and ids
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from llmops.files import TEMPORARY, clear_left_behind, disk_errors, owner

SETTING = "serve.log.path"
SUFFIX = ".jsonl"
STAMP = "%Y%m%dT%H%M%S.%f"
CHUNK_BYTES = 1 << 20
KEY_BYTES = 32


@dataclass(frozen=True)
class Segment:
    """A segment as a reader finds it: ``whole_bytes`` end with the last whole line."""

    path: Path
    begun: datetime
    whole_bytes: int
    is_written_to: bool


class Writer:
    """Appends lines to this process's segment; one thread at a time may use it."""

    def __init__(self, folder: Path, *, segment_bytes: int, fsync: bool = False) -> None:
        """Open the log; what killed writers left half-written is cut off first.

        Args:
            folder: The log's folder; it is made if it is missing.
            segment_bytes: Size from which on a new segment is begun; a new UTC day begins one too.
            fsync: Also survive a machine that loses power: wait for the disk at every append.

        Raises:
            BackendError: If the disk refuses.
        """
        self.folder = folder
        self.segment_bytes = segment_bytes
        self.fsync = fsync
        self._file: int | None = None
        self._size = 0
        self._day = ""
        with disk_errors(folder, setting=SETTING):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            clear_left_behind(folder)
        recover(folder)

    def append(self, lines: Sequence[bytes]) -> None:
        """Write whole lines, none of which holds a line end; all of them count, or none.

        Raises:
            BackendError: If the disk refuses; the log is then as it was before.
        """
        data = b"".join([line + b"\n" for line in lines])
        with disk_errors(self.folder, setting=SETTING):
            file = self._segment()
            try:
                _write_all(file, data)
                if self.fsync:
                    os.fdatasync(file)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(file, self._size)
                raise
        self._size += len(data)

    def close(self) -> None:
        """Let go of the segment; the next append begins another."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _segment(self) -> int:
        now = datetime.now(UTC)
        day = f"{now:%Y%m%d}"
        if self._file is not None and (day != self._day or self._size >= self.segment_bytes):
            self.close()
        if self._file is None:
            name = f"{now.strftime(STAMP)}-{os.getpid()}-{secrets.token_hex(2)}{SUFFIX}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(self.folder / name, flags, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)  # a reader holds its lock for a moment only
            self._size, self._day = 0, day
        return self._file


def segments(folder: Path) -> list[Segment]:
    """Return the segments, oldest first, without what lies behind each one's last whole line."""
    found = []
    for path in _paths(folder):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            held = not _try_lock(file.fileno(), fcntl.LOCK_SH)
            found.append(Segment(path, begun(path), _whole_bytes(file.fileno(), size), held))
    return found


def lines(folder: Path) -> Iterator[bytes]:
    """Yield every whole line of the log, without line ends, oldest segment first."""
    for segment in segments(folder):
        left = segment.whole_bytes
        with segment.path.open("rb") as file:
            for line in file:
                left -= len(line)
                if left < 0:
                    break
                yield line[:-1]


def recover(folder: Path) -> int:
    """Cut off what killed writers left behind their last whole lines; return how many bytes."""
    cut = 0
    for path in _paths(folder):
        with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
            if not _try_lock(file.fileno(), fcntl.LOCK_EX):
                continue  # somebody writes it
            size = os.fstat(file.fileno()).st_size
            whole = _whole_bytes(file.fileno(), size)
            if whole < size:
                os.ftruncate(file.fileno(), whole)
                cut += size - whole
    return cut


def expire(folder: Path, days: int | None, now: datetime) -> list[Path]:
    """Remove the segments all of whose lines are older than ``days``; None keeps everything.

    A segment holds one UTC day at most, so what is removed was written ``days`` ago or earlier.

    Raises:
        BackendError: If the disk refuses.
    """
    if days is None:
        return []
    oldest_day = (now - timedelta(days=days)).date()
    gone = []
    with disk_errors(folder, setting=SETTING):
        for segment in segments(folder):
            if segment.begun.date() < oldest_day and not segment.is_written_to:
                segment.path.unlink(missing_ok=True)
                gone.append(segment.path)
    return gone


def key(folder: Path) -> bytes:
    """Return the log's secret, made at its first use; who has it can look up digests.

    Raises:
        BackendError: If the disk refuses.
    """
    path = folder / "key"
    with disk_errors(folder, setting=SETTING):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileExistsError):
            temporary = folder / f"{TEMPORARY}{owner()}-{secrets.token_hex(8)}"
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                _write_all(file, secrets.token_bytes(KEY_BYTES))
            finally:
                os.close(file)
            try:
                os.link(temporary, path)  # whole or not at all, and never over another's
            finally:
                temporary.unlink()
        return path.read_bytes()


def begun(path: Path) -> datetime:
    """Return the moment at which a segment was begun, which its name tells."""
    return datetime.strptime(path.name.partition("-")[0], STAMP).replace(tzinfo=UTC)


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"2*T*-*-*{SUFFIX}"))


def _try_lock(file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _write_all(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def _whole_bytes(file: int, size: int) -> int:
    """Return how many bytes the whole lines of a file take, looked for from its end."""
    end = size
    while end:
        start = max(0, end - CHUNK_BYTES)
        at = os.pread(file, end - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0
