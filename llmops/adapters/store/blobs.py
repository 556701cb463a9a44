"""What a store needs of a bucket: whole objects by name, and one atomic step, ``create``.

Names are relative to the store's place in the bucket. Knows no digests and no leases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Blob:
    """An object of a bucket; ``modified`` is POSIX time, in seconds."""

    name: str
    bytes: int
    modified: float


class Blobs(Protocol):
    """A place in a bucket. Every method raises BackendError if the service fails."""

    uri: str  # its address, without a slash at the end

    def read(self, name: str) -> bytes | None:
        """Return a small object, or None if there is none."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a small object over whatever is there."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Write a small object unless one is there; of two writers one gets True."""
        ...

    def upload(self, name: str, path: Path, *, replace: bool = False) -> bool:
        """Write a file of any size, as ``create`` does; with ``replace`` over what is there."""
        ...

    def download(self, name: str, path: Path) -> bool:
        """Write the object to a file; False if there is none."""
        ...

    def size(self, name: str) -> int | None:
        """Return the object's bytes, or None if there is none."""
        ...

    def list(self, prefix: str) -> Iterator[Blob]:
        """Yield the objects whose names begin with ``prefix``, which ends in a slash."""
        ...

    def delete(self, name: str) -> None:
        """Remove the object; nothing if there is none."""
        ...

    def rename(self, name: str, to: str) -> None:
        """Give the object another name; nothing if there is none."""
        ...
