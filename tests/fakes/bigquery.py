"""A fake of BigQuery's REST interface that answers queries truly, by the DuckDB warehouse.

It checks what it is sent, counts bytes as BigQuery bills them, refuses what may not be billed,
and can be told what its next jobs do: stall, fail, vanish, or lose their result. Faults of the
connection are told to the ``Faults`` before it.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
import re
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pyarrow as pa
from fastapi import FastAPI, Request
from fastapi.responses import Response

from llmops.adapters.catalog import adapter
from llmops.adapters.warehouse.bigquery import BigQueryWarehouse
from llmops.adapters.warehouse.duckdb import DuckDBWarehouse, open_warehouse
from llmops.errors import ConfigError
from llmops.ports.warehouse import Table
from tests.fakes.faults import Server, google_error
from tests.fakes.identity import Identity, add_identity, key_file

API = "/bigquery/v2"
BILLED_LEAST = 10 * 1024 * 1024  # bytes billed for a table at least
LABEL = re.compile(r"^[a-z0-9_-]{0,63}$")
JOB_ID = re.compile(r"^[A-Za-z0-9_-]{1,1024}$")
SETTLED = re.compile(
    r"^SELECT \* FROM \(\n(?P<inner>.*)\n\) AS llmops_rows "
    r"ORDER BY SHA256\(TO_JSON_STRING\(llmops_rows\)\)(?: LIMIT (?P<limit>\d+))?$",
    re.DOTALL,
)
EXPORT = re.compile(
    r"^EXPORT DATA OPTIONS\(uri='(?P<uri>gs://[^'*]+\*[^'*]*)', format='JSON', overwrite=true\)"
    r" AS\n(?P<inner>.*)$",
    re.DOTALL,
)
SYSTEM_TIME = re.compile(r" FOR SYSTEM_TIME AS OF CAST\('(?P<moment>[^']*)' AS TIMESTAMP\)")
ANONYMOUS = "_results"


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


@dataclass
class Job:
    id: str
    configuration: dict[str, Any]
    polls_left: float = 0  # how often it is still seen PENDING
    error: dict[str, str] | None = None
    vanished: bool = False
    bytes: int = 0
    billed: int = 0
    snapshot: str | None = None
    ended: bool = False
    exports: bool = False

    @property
    def state(self) -> str:
        return "DONE" if self.ended or self.polls_left <= 0 else "PENDING"


@dataclass
class BigQuery:
    """``told`` are what the next jobs do; ``page_rows`` bounds one page of rows."""

    warehouse: DuckDBWarehouse
    project: str = "shop-project"
    location: str = "US"
    page_rows: int = 1000
    changed: datetime = datetime(2026, 11, 1, tzinfo=UTC)
    identity: Identity = field(default_factory=Identity)
    jobs: dict[str, Job] = field(default_factory=dict)
    results: dict[str, pa.Table] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)
    exports: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # uri -> rows
    bucket: MutableMapping[str, bytes] = field(default_factory=dict)  # address -> a shard's lines
    shard_rows: int = 50

    # ------------------------------------------------------------------ telling

    def stall(self, polls: float = math.inf) -> None:
        """The next job is seen PENDING that often."""
        self.told.append({"polls_left": polls})

    def fail(self, reason: str = "backendError", message: str = "told to fail") -> None:
        """The next job ends in an error."""
        self.told.append({"error": {"reason": reason, "message": message}})

    def vanish(self) -> None:
        """The next job is accepted, and then nobody knows it."""
        self.told.append({"vanished": True, "polls_left": 2})

    def expire_results(self) -> None:
        """The tables of results are gone, as they are after a day."""
        self.results.clear()

    @property
    def billed(self) -> int:
        """Bytes on the bill so far."""
        return sum(job.billed for job in self.jobs.values())

    def forget(self) -> None:
        self.jobs.clear()
        self.results.clear()
        self.told.clear()

    # --------------------------------------------------------------------- jobs

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        configuration = body["configuration"]
        asked = self._asked(configuration)
        if configuration.get("dryRun"):
            return self._dry(configuration, asked)
        job_id = body["jobReference"]["jobId"]
        if not JOB_ID.match(job_id):
            raise Refusal(400, "invalid", f"Invalid job ID {job_id}")
        if job_id in self.jobs:
            raise Refusal(409, "duplicate", f"Already Exists: Job {self.project}:{job_id}")
        job = Job(job_id, configuration, **(self.told.pop(0) if self.told else {}))
        self.jobs[job_id] = job
        if job.error is None:
            self._work(job, asked)
        return self._job(job)

    def job(self, job_id: str) -> dict[str, Any]:
        job = self.jobs.get(job_id)
        if job is None:
            raise Refusal(404, "notFound", f"Not found: Job {self.project}:{job_id}")
        job.polls_left -= 1
        if job.vanished and job.polls_left <= 0:
            raise Refusal(404, "notFound", f"Not found: Job {self.project}:{job_id}")
        return self._job(job)

    def cancel(self, job_id: str) -> dict[str, Any]:
        job = self.jobs[job_id]
        job.ended, job.error = True, {"reason": "stopped", "message": "Job was cancelled"}
        return {"kind": "bigquery#jobCancelResponse", "job": self._job(job)}

    def _asked(self, configuration: dict[str, Any]) -> dict[str, Any]:
        query = configuration["query"]
        if query.get("useLegacySql") is not False:
            raise Refusal(400, "invalid", "the query is not in standard SQL")
        for name, value in configuration.get("labels", {}).items():
            if not (LABEL.match(name) and LABEL.match(value)):
                raise Refusal(400, "invalid", f"Label {name}={value} has invalid characters")
        if not configuration.get("dryRun") and "maximumBytesBilled" not in query:
            raise Refusal(400, "invalid", "a job without a bound on its bill")
        exported = EXPORT.match(query["query"])
        given = exported["inner"] if exported else query["query"]
        settled = SETTLED.match(given)
        text = settled["inner"] if settled else given
        limit = int(settled["limit"]) if settled and settled["limit"] else None
        return {
            "sql": SYSTEM_TIME.sub("", text),
            "snapshot": next(iter(SYSTEM_TIME.findall(text)), None),
            "parameters": dict(map(_parameter, query.get("queryParameters", ()))),
            "max_rows": limit,
            "export": exported and exported["uri"],
        }

    def _checked(self, asked: dict[str, Any]) -> Any:
        try:
            return self.warehouse.check(
                asked["sql"], parameters=asked["parameters"], max_rows=asked["max_rows"]
            )
        except ConfigError as exc:
            raise _refusal(exc) from exc

    def _dry(self, configuration: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
        check = self._checked(asked)
        query = {
            "statementType": "SELECT",
            "totalBytesProcessed": str(check.bytes),
            "referencedTables": [_reference(name) for name in check.tables],
            "schema": {"fields": [_field(c.name, c.type) for c in check.columns]},
        }
        return {
            "kind": "bigquery#job",
            "configuration": configuration,
            "jobReference": {"projectId": self.project, "location": self.location},
            "status": {"state": "DONE"},
            "statistics": {"totalBytesProcessed": str(check.bytes), "query": query},
        }

    def _work(self, job: Job, asked: dict[str, Any]) -> None:
        check = self._checked(asked)
        job.bytes, job.snapshot = check.bytes, asked["snapshot"]
        billed = max(BILLED_LEAST * len(check.tables), check.bytes) if check.bytes else 0
        if billed > int(job.configuration["query"]["maximumBytesBilled"]):
            limit = job.configuration["query"]["maximumBytesBilled"]
            message = f"Query exceeded limit for bytes billed: {limit}. {billed} or higher required"
            job.error = {"reason": "bytesBilledLimitExceeded", "message": message}
            return
        job.billed = billed
        found = self.warehouse.query(
            asked["sql"], parameters=asked["parameters"], max_rows=asked["max_rows"]
        )
        batches = list(found.batches())
        if asked["export"]:
            job.exports = True
            self._write_shards(asked["export"], [r for batch in batches for r in batch.to_pylist()])
        empty = {c.name: pa.array([], pa.string()) for c in check.columns}
        self.results[job.id] = pa.Table.from_batches(batches) if batches else pa.table(empty)
        job.configuration["columns"] = [_field(c.name, c.type) for c in check.columns]

    def _write_shards(self, uri: str, rows: list[dict[str, Any]]) -> None:
        self.exports[uri] = rows
        for number, first in enumerate(range(0, len(rows), self.shard_rows)):
            part = rows[first : first + self.shard_rows]
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
            self.bucket[uri.replace("*", f"{number:012d}")] = lines.encode()

    def _job(self, job: Job) -> dict[str, Any]:
        destination = {"projectId": self.project, "datasetId": ANONYMOUS, "tableId": job.id}
        query = job.configuration["query"] | {"destinationTable": destination}
        configuration = {k: v for k, v in job.configuration.items() if k != "columns"}
        status: dict[str, Any] = {"state": job.state}
        if job.state == "DONE" and job.error:
            status |= {"errorResult": job.error, "errors": [job.error]}
        return {
            "kind": "bigquery#job",
            "id": f"{self.project}:{self.location}.{job.id}",
            "jobReference": {
                "projectId": self.project,
                "jobId": job.id,
                "location": self.location,
            },
            "configuration": configuration | {"query": query},
            "status": status,
            "statistics": {
                "totalBytesProcessed": str(job.bytes),
                "query": {
                    "statementType": "EXPORT_DATA" if job.exports else "SELECT",
                    "totalBytesProcessed": str(job.bytes),
                    "totalBytesBilled": str(job.billed),
                },
            },
        }

    # ------------------------------------------------------------------- tables

    def listed(self, project: str, dataset: str) -> dict[str, Any]:
        found = [
            table
            for table in self.warehouse.tables()
            if table.name.startswith(f"{project}.{dataset}.")
        ]
        if not found:
            raise Refusal(404, "notFound", f"Not found: Dataset {project}:{dataset}")
        return {
            "tables": [{"tableReference": _reference(table.name)} for table in found],
            "totalItems": len(found),
        }

    def table(self, project: str, dataset: str, name: str) -> dict[str, Any]:
        reference = {"projectId": project, "datasetId": dataset, "tableId": name}
        if dataset == ANONYMOUS:
            if name not in self.results:
                raise Refusal(404, "notFound", f"Not found: Table {project}:{dataset}.{name}")
            fields = self.jobs[name].configuration["columns"]
            rows, size = self.results[name].num_rows, self.results[name].nbytes
        else:
            held = self._held(f"{project}.{dataset}.{name}")
            fields = [_field(c.name, c.type) for c in held.columns]
            rows, size = held.rows, held.bytes
        return {
            "tableReference": reference,
            "schema": {"fields": fields},
            "numRows": str(rows),
            "numBytes": str(size),
            "lastModifiedTime": str(int(self.changed.timestamp() * 1000)),
            "type": "TABLE",
        }

    def _held(self, name: str) -> Table:
        for table in self.warehouse.tables():
            if table.name == name:
                return table
        project, dataset, table_id = name.split(".")
        raise Refusal(404, "notFound", f"Not found: Table {project}:{dataset}.{table_id}")

    def rows(self, project: str, dataset: str, name: str, query: Any) -> dict[str, Any]:
        if dataset == ANONYMOUS:
            self.table(project, dataset, name)
            data = self.results[name]
        else:
            self._held(f"{project}.{dataset}.{name}")
            wanted = f"SELECT * FROM `{project}.{dataset}.{name}`"
            data = pa.Table.from_batches(list(self.warehouse.query(wanted).batches()))
        if query.get("formatOptions.useInt64Timestamp") not in ("true", "True"):
            raise Refusal(400, "invalid", "the fake sends timestamps as whole microseconds only")
        start = int(query.get("pageToken") or query.get("startIndex") or 0)
        most = min(int(query.get("maxResults", self.page_rows)), self.page_rows)
        page = data.slice(start, most)
        made: dict[str, Any] = {
            "kind": "bigquery#tableDataList",
            "totalRows": str(data.num_rows),
            "rows": [{"f": [{"v": _cell(v)} for v in row.values()]} for row in page.to_pylist()],
        }
        if start + page.num_rows < data.num_rows:
            made["pageToken"] = str(start + page.num_rows)
        return made


def bigquery(warehouse: DuckDBWarehouse, **settings: Any) -> FastAPI:
    """Return the fake as an app; ``app.state.bigquery`` tells it what to do."""
    app = FastAPI()
    state = BigQuery(warehouse, **settings)
    app.state.bigquery = state
    base = API + "/projects/{project}"

    @app.post(base + "/jobs")
    async def submit(project: str, request: Request) -> Response:
        return _answer(state.submit, await request.json())

    @app.get(base + "/jobs/{job_id}")
    def job(project: str, job_id: str) -> Response:
        return _answer(state.job, job_id)

    @app.post(base + "/jobs/{job_id}/cancel")
    def cancel(project: str, job_id: str) -> Response:
        return _answer(state.cancel, job_id)

    @app.get(base + "/datasets/{dataset}/tables")
    def listed(project: str, dataset: str) -> Response:
        return _answer(state.listed, project, dataset)

    @app.get(base + "/datasets/{dataset}/tables/{name}")
    def table(project: str, dataset: str, name: str) -> Response:
        return _answer(state.table, project, dataset, name)

    @app.get(base + "/datasets/{dataset}/tables/{name}/data")
    def rows(project: str, dataset: str, name: str, request: Request) -> Response:
        return _answer(state.rows, project, dataset, name, request.query_params)

    add_identity(app, state.identity)
    return app


def duckdb_with(folder: Path, name: str, rows: list[dict[str, Any]]) -> DuckDBWarehouse:
    """Return a DuckDB warehouse that holds one table, for a fake to answer from."""
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    config = {
        "kind": "duckdb",
        "name": "behind",
        "sample": False,
        "memory_limit": "300MB",
        "source": {"title": "tickets of a shop"},
    }
    warehouse = open_warehouse(config, folder)
    warehouse.load(name, file)
    return warehouse


def bigquery_client(server: Server, folder: Path, **changes: Any) -> BigQueryWarehouse:
    """Return our warehouse over Google's own client, logged in with a key, asking the fake."""
    config = {
        "kind": "bigquery",
        "datasets": ["shop.support"],
        "location": None,
        "maximum_bytes_billed": 10**9,
        "snapshot": None,
        "storage_api": False,
        "timeout_s": 20,
        "patience_s": 20,
        "source": {"title": "tickets of a shop"},
    }
    key = key_file(folder, server.url)
    environment = {
        "name": "test",
        "project": "shop-project",
        "credentials": {"kind": "service_account_file", "file": str(key)},
        "endpoints": {"bigquery": server.url},
    }
    opened: BigQueryWarehouse = adapter(
        "warehouse", config | changes, folder, environment=environment
    )
    return opened


# --------------------------------------------------------------------- the wire


def _answer(call: Any, *arguments: Any) -> Response:
    try:
        return _json(call(*arguments), 200)
    except Refusal as exc:
        return _json(google_error(exc.status, str(exc), exc.reason), exc.status)


def _json(value: Any, status: int) -> Response:
    text = json.dumps(value).encode()
    return Response(text, status, media_type="application/json")


def _refusal(exc: ConfigError) -> Refusal:
    """Say what DuckDB's warehouse refused as BigQuery would say it."""
    where = re.search(r"line (\d+), column (\d+)", exc.problem)
    place = f" at [{where[1]}:{where[2]}]" if where else ""
    if table := re.search(r"there is no table '([^']*)'", exc.problem):
        name = table[1].replace(".", ":", 1)
        return Refusal(404, "notFound", f"Not found: Table {name} was not found in location US")
    if column := re.search(r"there is no column '([^']*)'", exc.problem):
        guess = re.search(r"did you mean '([^']*)'", exc.hint)
        meant = f"; Did you mean {guess[1]}?" if guess else ""
        return Refusal(400, "invalidQuery", f"Unrecognized name: {column[1]}{meant}{place}")
    if function := re.match(r"(\w+)\(\) is not supported", exc.problem):
        name = function[1].lower()
        return Refusal(400, "invalidQuery", f"Function not found: {name} at [1:8]")
    return Refusal(400, "invalidQuery", f"{exc.problem}{place}")


def _parameter(sent: dict[str, Any]) -> tuple[str, Any]:
    kind, value = sent["parameterType"], sent["parameterValue"]
    if kind["type"] == "ARRAY":
        inner = kind["arrayType"]["type"]
        return sent["name"], [_value(inner, item["value"]) for item in value["arrayValues"]]
    return sent["name"], _value(kind["type"], value["value"])


def _value(kind: str, text: str) -> Any:
    readers = {"INT64": int, "FLOAT64": float, "BOOL": lambda text: text == "true", "STRING": str}
    return readers[kind](text)  # type: ignore[operator]


def _reference(name: str) -> dict[str, str]:
    project, dataset, table = name.split(".", 2)
    return {"projectId": project, "datasetId": dataset, "tableId": table}


def _field(name: str, kind: str) -> dict[str, Any]:
    legacy = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN"}
    mode = "NULLABLE"
    if kind.startswith("ARRAY<"):
        mode, kind = "REPEATED", kind[len("ARRAY<") : -1]
    made = {"name": name, "type": legacy.get(kind, kind), "mode": mode}
    if kind.startswith("STRUCT<"):
        inner = _split(kind[len("STRUCT<") : -1])
        made |= {"type": "RECORD", "fields": [_field(*part.split(" ", 1)) for part in inner]}
    return made


def _split(text: str) -> list[str]:
    """Split at the commas that stand in no bracket."""
    depths = itertools.accumulate((c == "<") - (c == ">") for c in text)
    marked = "".join("\0" if c == "," and not d else c for c, d in zip(text, depths, strict=True))
    return [part.strip() for part in marked.split("\0")]


def _cell(value: Any) -> Any:
    """Return a value as BigQuery's JSON has it: nearly everything is a text."""
    if value is None:
        return None
    if isinstance(value, list):
        return [{"v": _cell(item)} for item in value]
    if isinstance(value, dict):
        return {"f": [{"v": _cell(item)} for item in value.values()]}
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        if value.tzinfo is None:
            return value.isoformat()
        since = value - datetime(1970, 1, 1, tzinfo=UTC)
        return str((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return repr(value) if isinstance(value, float) else str(value)
