from __future__ import annotations

import pytest

from tests.fakes.loopback import cloud_on_loopback


@pytest.fixture(scope="session")
def _servers(tmp_path_factory):
    with cloud_on_loopback(tmp_path_factory.mktemp("loopback")) as cloud:
        yield cloud


@pytest.fixture
def cloud(_servers):
    """Return the cloud on loopback, with nothing in it yet."""
    _servers.fresh()
    return _servers
