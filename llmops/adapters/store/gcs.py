"""A place in a bucket of Google Cloud Storage, by Google's own client.

``create`` is a write on the condition that the object has generation 0, which means that there is
none. The client asks again when the service is busy, and checks what it moves by CRC32C.
https://cloud.google.com/storage/docs/request-preconditions
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.adapters import google
from llmops.adapters.store.blobs import Blob
from llmops.adapters.store.bucket import BucketStore

if TYPE_CHECKING:
    from google.cloud.storage import Bucket

SERVICE = "Cloud Storage"
ABSENT = 0  # the generation of an object that does not exist


def open_store(
    config: Mapping[str, Any], workspace: Path, *, environment: Mapping[str, Any]
) -> BucketStore:
    """Open the store in the bucket that the config's ``store`` section names.

    Raises:
        ConfigError: If ``env.project`` is not set.
        BackendError: If there are no credentials.
    """
    return BucketStore(open_blobs(config, environment), workspace, lease_s=config["lease_s"])


def open_blobs(config: Mapping[str, Any], environment: Mapping[str, Any]) -> GoogleBlobs:
    """Open the place in a bucket that ``store`` names; see ``open_store``."""
    project = google.place(environment, "project")
    bucket = str(config["bucket"]).removeprefix("gs://").strip("/")
    return _open(bucket, str(config["prefix"]), project, environment)


def read_text(uri: str) -> str | None:
    """Return a small text at a ``gs://`` address, with the application's own credentials."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    found = _open(bucket, "", None, {}).read(name)
    return None if found is None else found.decode("utf-8")


def _open(
    bucket: str, prefix: str, project: str | None, environment: Mapping[str, Any]
) -> GoogleBlobs:
    credentials = google.credentials(environment)  # before the slow import: a quick no
    from google.cloud import storage

    address = google.endpoint(environment, "storage")
    client = storage.Client(
        project=project,
        credentials=credentials,
        client_options={"api_endpoint": address} if address else None,
    )
    return GoogleBlobs(client.bucket(bucket), prefix.strip("/"))


class GoogleBlobs:
    """See ``blobs.Blobs``."""

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        from google.cloud.storage.retry import DEFAULT_RETRY

        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self.uri = f"gs://{bucket.name}/{prefix}".rstrip("/")
        self.retry: Any = DEFAULT_RETRY  # every call here may be made twice

    def read(self, name: str) -> bytes | None:
        """Return a small object, or None."""
        from google.api_core.exceptions import NotFound

        with google.translated(SERVICE):
            try:
                found: bytes = self._blob(name).download_as_bytes(retry=self.retry)
                return found
            except NotFound:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Write a small object over whatever is there."""
        with google.translated(SERVICE):
            self._blob(name).upload_from_string(data, retry=self.retry)

    def create(self, name: str, data: bytes) -> bool:
        """Write a small object unless one is there."""
        from google.api_core.exceptions import PreconditionFailed

        with google.translated(SERVICE):
            try:
                self._blob(name).upload_from_string(
                    data, retry=self.retry, if_generation_match=ABSENT
                )
            except PreconditionFailed:
                return False
        return True

    def upload(self, name: str, path: Path, *, replace: bool = False) -> bool:
        """Write a file of any size."""
        from google.api_core.exceptions import PreconditionFailed

        with google.translated(SERVICE):
            try:
                self._blob(name).upload_from_filename(
                    str(path),
                    retry=self.retry,
                    if_generation_match=None if replace else ABSENT,
                )
            except PreconditionFailed:
                return False
        return True

    def download(self, name: str, path: Path) -> bool:
        """Write the object to a file."""
        from google.api_core.exceptions import NotFound

        with google.translated(SERVICE):
            try:
                self._blob(name).download_to_filename(str(path), retry=self.retry)
            except NotFound:
                return False
        return True

    def size(self, name: str) -> int | None:
        """Return the object's bytes, or None."""
        with google.translated(SERVICE):
            found = self.bucket.get_blob(self.prefix + name, retry=self.retry)
        return None if found is None else int(found.size or 0)

    def list(self, prefix: str) -> Iterator[Blob]:
        """Yield the objects below ``prefix``."""
        with google.translated(SERVICE):
            listed = self.bucket.client.list_blobs(
                self.bucket, prefix=self.prefix + prefix, retry=self.retry
            )
            for found in listed:
                name = found.name.removeprefix(self.prefix)
                yield Blob(name, int(found.size or 0), found.updated.timestamp())

    def delete(self, name: str) -> None:
        """Remove the object."""
        from google.api_core.exceptions import NotFound

        with google.translated(SERVICE):
            try:
                self._blob(name).delete(retry=self.retry)
            except NotFound:
                return

    def rename(self, name: str, to: str) -> None:
        """Copy the object to another name, then remove it."""
        from google.api_core.exceptions import NotFound

        with google.translated(SERVICE):
            try:
                self.bucket.copy_blob(
                    self._blob(name), self.bucket, self.prefix + to, retry=self.retry
                )
            except NotFound:
                return
        self.delete(name)

    def _blob(self, name: str) -> Any:
        return self.bucket.blob(self.prefix + name)
