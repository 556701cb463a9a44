"""The small part of Cloud Storage that jobs and the registry need: whole objects, made once."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from llmops.adapters.google import credentials, endpoint, place, translated

SERVICE = "Cloud Storage"
TIMEOUT_S = 300.0  # for one object


@dataclass(frozen=True)
class Found:
    """An object as it was read: its text, when it was written, and which writing that was."""

    text: str
    written_at: datetime
    generation: int


class Bucket:
    """Objects below ``env.bucket``; ``name`` is relative to it everywhere."""

    def __init__(self, environment: Mapping[str, Any]) -> None:
        self._environment = environment
        self.address = place(environment, "bucket").rstrip("/")
        self._bucket, _, self._above = self.address.removeprefix("gs://").partition("/")

    @cached_property
    def _handle(self) -> Any:
        from google.cloud import storage

        address = endpoint(self._environment, "storage")
        client = storage.Client(
            project=place(self._environment, "project"),
            credentials=credentials(self._environment),
            client_options={"api_endpoint": address} if address else None,
        )
        return client.bucket(self._bucket)

    def uri(self, name: str) -> str:
        """Return an object's full address."""
        return f"{self.address}/{name}"

    def create(self, name: str, content: Path | str) -> bool:
        """Write an object unless there is one of that name; say whether it was written.

        Raises:
            BackendError: If the bucket refuses.
        """
        return self._write(name, content, generation=0)

    def replace(self, name: str, text: str, found: Found) -> bool:
        """Write an object anew unless somebody has since it was found; say whether it was."""
        return self._write(name, text, generation=found.generation)

    def read(self, name: str) -> Found | None:
        """Return an object, or None if there is none."""
        from google.api_core.exceptions import NotFound

        with translated(SERVICE):
            while True:
                blob = self._handle.get_blob(self._path(name), timeout=TIMEOUT_S)
                if blob is None:
                    return None
                with contextlib.suppress(NotFound):  # written anew meanwhile: that one is read
                    text = blob.download_as_bytes(timeout=TIMEOUT_S).decode("utf-8")
                    return Found(text, blob.updated, int(blob.generation))

    def delete(self, name: str) -> None:
        """Remove an object; one that is gone already does no harm."""
        from google.api_core.exceptions import NotFound

        with translated(SERVICE):
            try:
                self._handle.blob(self._path(name)).delete()
            except NotFound:
                return

    def texts(self, folder: str) -> Sequence[str]:
        """Return the texts of all objects in a folder, given by its full address or name."""
        prefix = folder.removeprefix(f"gs://{self._bucket}/")
        prefix = prefix if folder.startswith("gs://") else self._path(folder)
        with translated(SERVICE):
            blobs = self._handle.client.list_blobs(self._bucket, prefix=prefix.rstrip("/") + "/")
            return [blob.download_as_bytes(timeout=TIMEOUT_S).decode("utf-8") for blob in blobs]

    def _path(self, name: str) -> str:
        return f"{self._above}/{name}" if self._above else name

    def _write(self, name: str, content: Path | str, *, generation: int) -> bool:
        from google.api_core.exceptions import PreconditionFailed

        with translated(SERVICE):
            blob = self._handle.blob(self._path(name))
            try:
                if isinstance(content, Path):
                    blob.upload_from_filename(
                        str(content),
                        content_type="application/x-ndjson",
                        if_generation_match=generation,
                        timeout=TIMEOUT_S,
                    )
                else:
                    blob.upload_from_string(
                        content,
                        content_type="application/json",
                        if_generation_match=generation,
                        timeout=TIMEOUT_S,
                    )
            except PreconditionFailed:
                return False
        return True
