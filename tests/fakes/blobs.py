"""A bucket in memory: every promise of ``Blobs``, and no service."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from llmops.adapters.store.blobs import Blob


class MemoryBlobs:
    """See ``llmops.adapters.store.blobs.Blobs``; ``objects`` is what lies in the bucket."""

    uri = "memory://bucket"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.moments: dict[str, float] = {}
        self.lock = threading.Lock()

    def read(self, name: str) -> bytes | None:
        return self.objects.get(name)

    def write(self, name: str, data: bytes) -> None:
        with self.lock:
            self.moments[name] = float(len(self.moments))
            self.objects[name] = data

    def create(self, name: str, data: bytes) -> bool:
        if name in self.objects:
            return False
        self.write(name, data)
        return True

    def upload(self, name: str, path: Path, *, replace: bool = False) -> bool:
        if replace:
            self.write(name, path.read_bytes())
            return True
        return self.create(name, path.read_bytes())

    def download(self, name: str, path: Path) -> bool:
        if name not in self.objects:
            return False
        path.write_bytes(self.objects[name])
        return True

    def size(self, name: str) -> int | None:
        return len(self.objects[name]) if name in self.objects else None

    def list(self, prefix: str) -> Iterator[Blob]:
        for name in sorted(self.objects):
            if name.startswith(prefix):
                yield Blob(name, len(self.objects[name]), self.moments[name])

    def delete(self, name: str) -> None:
        self.objects.pop(name, None)

    def rename(self, name: str, to: str) -> None:
        if name in self.objects:
            self.write(to, self.objects.pop(name))
