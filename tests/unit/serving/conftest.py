"""One server for the tests that do not need another."""

from __future__ import annotations

import httpx
import pytest

from tests.fakes.serving import Echo, echoing, running


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving")
    with running(folder, echoing(Echo())) as found:
        yield found


@pytest.fixture
def http(server):
    with httpx.Client(base_url=server.address, headers=server.headers, timeout=20) as client:
        yield client
