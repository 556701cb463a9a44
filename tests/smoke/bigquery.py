"""BigQuery, over a public table of 6 MB: names of jobs, bills, pins, both ways that rows come."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from llmops.adapters.catalog import adapter
from llmops.errors import ConfigError, Refused
from llmops.ports.warehouse import Origin, Warehouse
from tests.smoke.check import Check, Place

TABLE = "bigquery-public-data.samples.shakespeare"
SQL = f"SELECT corpus, word, word_count FROM `{TABLE}` WHERE word_count >= @least"
LEAST = {"least": 20}
BILLED = "10 MB of a query, the least that is billed"


def warehouse(place: Place, **changes: Any) -> Warehouse:
    config = {
        "kind": "bigquery",
        "datasets": [TABLE.rpartition(".")[0]],
        "location": None,
        "maximum_bytes_billed": 100_000_000,
        "snapshot": None,
        "storage_api": False,
        "timeout_s": 300,
        "patience_s": 60,
        "source": {"title": "Shakespeare's words"},
    }
    opened: Warehouse = adapter(
        "warehouse", config | changes, place.folder, environment=place.environment
    )
    return opened


def origin() -> Origin:
    return Origin("smoke", "smoke", uuid.uuid4().hex * 2)


def rows(opened: Warehouse, **changes: Any) -> list[dict[str, Any]]:
    result = opened.query(SQL, parameters=LEAST, **changes)
    return [row for batch in result.batches() for row in batch.to_pylist()]


def dry_run(place: Place) -> str:
    check = warehouse(place).check(SQL, parameters=LEAST)
    assert [column.type for column in check.columns] == ["STRING", "STRING", "INT64"]
    assert list(check.tables) == [TABLE]
    assert check.bytes
    return f"{check.bytes:,} bytes, changed {check.tables[TABLE]}"


def billed_once(place: Place) -> str:
    opened, asker = warehouse(place), origin()
    results = [opened.query(SQL, parameters=LEAST, origin=asker) for _ in range(2)]
    found = [[b.to_pylist() for b in result.batches()] for result in results]
    jobs = {result.statistics().job for result in results}
    assert found[0] == found[1]
    assert len(jobs) == 1
    return f"job {jobs.pop()}, {results[0].statistics().billed_bytes:,} bytes billed"


def storage_api(place: Place) -> str:
    by_rest = rows(warehouse(place))
    by_storage_api = rows(warehouse(place, storage_api=True))
    assert by_rest == by_storage_api
    return f"{len(by_rest):,} rows"


def refused(place: Place) -> str:
    try:
        warehouse(place).query(SQL, parameters=LEAST, max_bytes=100)
    except Refused as exc:
        return exc.problem
    raise AssertionError("it ran")


def pinned(place: Place) -> str:
    moment = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    now = rows(warehouse(place))
    assert rows(warehouse(place, snapshot=moment)) == now
    return f"as of {moment}: {len(now):,} rows"


def spelling(place: Place) -> str:
    told = ""
    try:
        warehouse(place).check(f"SELECT wrod FROM `{TABLE}`")
    except ConfigError as exc:
        told = f"{exc.problem}; {exc.hint}"
    assert "line 1, column 8" in told, told
    assert "'word'" in told, told
    return told


def preview(place: Place) -> str:
    found = sum(batch.num_rows for batch in warehouse(place).preview(TABLE, 3))
    assert found == 3
    return f"{found} rows"


CHECKS = (
    Check("a dry run tells columns, tables and bytes", dry_run),
    Check("a query asked twice for one step is one job, billed once", billed_once, BILLED),
    Check("a query over its byte limit is refused before it runs", refused),
    Check("a misspelt column is told with its place and the nearest", spelling),
    Check("a preview shows rows of a table", preview),
    Check("rows of a pinned moment are the same an hour later", pinned, BILLED, only_real=True),
    Check(
        "the Storage API gives the rows that REST gives, in their order",
        storage_api,
        BILLED,
        only_real=True,
    ),
)
