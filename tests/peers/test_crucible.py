"""Our BigQuery warehouse against an emulator that nobody here wrote.

crucible-emulator knows no dry runs and counts no bytes: a dry run is answered here by running the
query there for its columns. Everything else of the conversation is Google's client and crucible:
job names and labels, the duplicate of a job, results by page, types on the wire, what a row looks
like as JSON, error messages.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response

from llmops.errors import ConfigError
from llmops.ports.warehouse import Column, Origin
from tests.fakes.bigquery import bigquery_client, duckdb_with
from tests.fakes.faults import serve
from tests.fakes.identity import Identity, add_identity

CRUCIBLE = Path(__file__).parents[2] / ".venv-peers" / "crucible" / "bin" / "crucible"
PROJECT = "shop-project"
TABLE = f"{PROJECT}.support.tickets"
ROWS = [
    {"id": n, "topic": ("mail", "disk")[n % 2], "text": None if n == 3 else f'"füll" \\ {n}\n\t/'}
    for n in range(12)
]
ORIGIN = Origin("mine", "20261125-101502-7b1e", "0123456789abcdef" * 4)

pytestmark = pytest.mark.skipif(
    not CRUCIBLE.exists(),
    reason="crucible-emulator is not installed: `make peers` does so, where it can be had",
)


@contextlib.contextmanager
def crucible():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(CRUCIBLE), "serve", "--dialect", "bigquery", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(400):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}")
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def with_dry_runs(direct: str) -> FastAPI:
    """Forward everything but dry runs."""
    app = FastAPI()
    add_identity(app, Identity())
    client = httpx.Client(base_url=direct, timeout=30)

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def forward(path: str, request: Request) -> Response:
        target = f"{request.url.path}?{request.url.query}"
        body = await request.body()
        sent = await request.json() if body else {}
        if sent.get("configuration", {}).get("dryRun"):
            return _dry_run(client, sent)
        headers = {"content-type": "application/json"}
        found = client.request(request.method, target, content=body, headers=headers)
        return Response(found.content, found.status_code, media_type="application/json")

    return app


def _dry_run(client: httpx.Client, sent: dict[str, Any]) -> Response:
    job = run(client, sent["configuration"]["query"]["query"])
    error = job["status"].get("errorResult")
    if error:
        status = 404 if error["reason"] == "notFound" else 400
        answer = {"error": {"code": status, "message": error["message"], "errors": [error]}}
        return Response(httpx.Response(status, json=answer).content, status)
    kept = job["configuration"]["query"]["destinationTable"]
    where = f"{_base()}/datasets/{kept['datasetId']}/tables/{kept['tableId']}"
    schema = client.get(where).json()["schema"]
    project, dataset, table = TABLE.split(".")
    reference = {"projectId": project, "datasetId": dataset, "tableId": table}
    job["statistics"]["query"] |= {"schema": schema, "referencedTables": [reference]}
    return Response(httpx.Response(200, json=job).content, media_type="application/json")


def run(client: httpx.Client, sql: str) -> dict[str, Any]:
    query = {"query": sql, "useLegacySql": False}
    reference = {"projectId": PROJECT, "jobId": uuid.uuid4().hex}
    body = {"configuration": {"query": query}, "jobReference": reference}
    job: dict[str, Any] = client.post(f"{_base()}/jobs", json=body).json()
    return job


def _base() -> str:
    return f"/bigquery/v2/projects/{PROJECT}"


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else _text(value)


def _text(value: str) -> str:
    for plain, escaped in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n"), ("\t", "\\t")):
        value = value.replace(plain, escaped)
    return f"'{value}'"


@pytest.fixture(scope="module")
def server():
    with crucible() as direct:
        with httpx.Client(base_url=direct, timeout=30) as client:
            dataset = {"datasetReference": {"projectId": PROJECT, "datasetId": "support"}}
            client.post(f"{_base()}/datasets", json=dataset).raise_for_status()
            values = ", ".join(f"({', '.join(map(_literal, row.values()))})" for row in ROWS)
            for sql in (
                f"CREATE TABLE `{TABLE}` (id INT64, topic STRING, text STRING)",
                f"INSERT INTO `{TABLE}` VALUES {values}",
            ):
                assert "errorResult" not in run(client, sql)["status"]
        with serve(with_dry_runs(direct)) as opened:
            yield opened


@pytest.fixture
def warehouse(server, tmp_path):
    return bigquery_client(server, tmp_path, datasets=[f"{PROJECT}.support"])


def rows(warehouse, sql, **limits):
    return [row for batch in warehouse.query(sql, **limits).batches() for row in batch.to_pylist()]


SQL = f"SELECT id, topic, text FROM `{TABLE}`"


def test_the_tables_are_listed_with_their_columns_and_rows(warehouse):
    (table,) = warehouse.tables()
    assert (table.name, table.rows) == (TABLE, 12)
    assert table.columns[:2] == (Column("id", "INT64"), Column("topic", "STRING"))


def test_rows_come_as_they_are(warehouse):
    assert rows(warehouse, f"{SQL} ORDER BY id") == ROWS


def test_types_come_as_they_are(warehouse):
    sql = (
        "SELECT 1.5 AS f, TRUE AS b, DATE '2020-01-02' AS d, TIMESTAMP '2020-01-02 03:04:05' AS t, "
        f"[1, 2] AS many FROM `{TABLE}` WHERE id = 1 ORDER BY f"
    )
    (row,) = rows(warehouse, sql)
    assert (row["f"], row["b"], row["d"].isoformat(), row["many"]) == (
        1.5,
        True,
        "2020-01-02",
        [1, 2],
    )
    assert row["t"].isoformat() == "2020-01-02T03:04:05+00:00"


def test_rows_without_an_order_come_in_the_order_that_duckdb_gives_them(warehouse, tmp_path):
    """So a LIMIT keeps the same rows on both: the hash of a row is over the same text."""
    ours = duckdb_with(tmp_path, TABLE, ROWS)
    assert rows(warehouse, SQL, max_rows=5) == rows(ours, SQL, max_rows=5)
    assert rows(warehouse, f"{SQL} LIMIT 7") == rows(ours, f"{SQL} LIMIT 7")


def test_a_job_asked_for_twice_is_one(server, warehouse):
    before = server.faults.count("/jobs$")
    first, second = (rows(warehouse, SQL, origin=ORIGIN) for _ in range(2))
    assert first == second
    sent = [request.body for request in server.faults.found("/jobs$")[before:]]
    names = {b["jobReference"]["jobId"] for b in sent if not b["configuration"].get("dryRun")}
    assert len(names) == 1


def test_a_lost_answer_is_read_again(server, warehouse):
    server.faults.lose("/jobs$", skip=1)
    other = Origin("mine", "r", "fedcba9876543210" * 4)
    assert len(rows(warehouse, SQL, origin=other)) == 12


def test_a_preview_shows_some_rows(warehouse):
    assert sum(batch.num_rows for batch in warehouse.preview(TABLE, 3)) == 3


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        (f"SELECT tpoic FROM `{TABLE}`", "no column 'tpoic'"),
        (f"SELECT id FROM `{PROJECT}.support.ticket`", "no table"),
    ],
)
def test_a_name_that_is_not_there_is_told(warehouse, sql, problem):
    with pytest.raises(ConfigError, match=problem):
        warehouse.check(sql)
