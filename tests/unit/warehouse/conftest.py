"""Warehouses for the unit tests: an empty one of one's own, and the sample, filled once."""

from __future__ import annotations

import pytest

from llmops.adapters.warehouse.duckdb import open_warehouse

OWN = {"name": "own", "sample": False, "memory_limit": "300MB", "source": {"title": "own rows"}}
SAMPLE = {"name": "sample", "sample": True, "memory_limit": "300MB", "source": {}}


@pytest.fixture
def own(tmp_path):
    return open_warehouse(OWN, tmp_path)


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    return open_warehouse(SAMPLE, tmp_path_factory.mktemp("sample"))
