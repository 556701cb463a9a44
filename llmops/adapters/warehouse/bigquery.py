"""BigQuery as the warehouse, by Google's own client.

Every query is dry-run first and may bill no more than the config allows. Its job bears a name of
ours and labels that say for whom it ran; its rows come as Arrow, a page at a time. Knows neither
steps nor experiments.
"""

from __future__ import annotations

import functools
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.adapters import google
from llmops.adapters.patience import Patience
from llmops.adapters.warehouse import bigquery_errors, bigquery_job, bigquery_sql, guard, parameters
from llmops.adapters.warehouse.bigquery_job import CALL_S, ONCE
from llmops.adapters.warehouse.bigquery_types import columns_of, query_parameter, schema_of
from llmops.artifacts import digest
from llmops.errors import BackendError, ConfigError, Refused, nearest
from llmops.ports.warehouse import Origin, Parameter, QueryCheck, QueryStatistics, Table

if TYPE_CHECKING:
    import pyarrow as pa
    from google.cloud.bigquery import Client, QueryJob, QueryJobConfig
    from google.cloud.bigquery import Table as BigQueryTable

# Bytes that BigQuery bills a table at least: https://cloud.google.com/bigquery/pricing
LEAST_BILLED = 10 * 1024 * 1024
PAGE_ROWS = 5_000  # rows of one answer over REST; BigQuery sends fewer if they are long
_PREFIX = re.compile(r"gs://[a-z0-9][a-z0-9._-]+/[A-Za-z0-9._/=-]+")  # nothing that ends a literal
_NO_LABEL = re.compile(r"[^a-z0-9_-]")
_NO_TABLE = re.compile(r"Not found: (?:Table|Dataset) (?P<name>\S+)")


@dataclass(frozen=True)
class Settings:
    """The config's ``warehouse`` section."""

    datasets: tuple[str, ...]  # project.dataset, for `warehouse tables`
    location: str | None
    maximum_bytes_billed: int
    snapshot: str | None
    storage_api: bool
    timeout_s: float
    patience_s: float
    title: str


@dataclass(frozen=True)
class Checked:
    """A query that the dry run let through."""

    text: bigquery_sql.Text
    check: QueryCheck
    location: str | None
    parameters: Mapping[str, Parameter]


def open_warehouse(
    config: Mapping[str, Any],
    workspace: Path,
    *,
    environment: Mapping[str, Any],
    read_only: bool = False,
) -> BigQueryWarehouse:
    """Open the warehouse; with ``read_only`` nothing is different, for nothing is ever written.

    Raises:
        ConfigError: If ``env.project`` is not set.
        BackendError: If there are no credentials.
    """
    settings = Settings(
        datasets=tuple(config["datasets"]),
        location=config["location"],
        maximum_bytes_billed=int(config["maximum_bytes_billed"]),
        snapshot=config["snapshot"],
        storage_api=config["storage_api"],
        timeout_s=config["timeout_s"],
        patience_s=config["patience_s"],
        title=str((config.get("source") or {}).get("title") or ""),
    )
    return BigQueryWarehouse(settings, _client(settings, environment))


def _client(settings: Settings, environment: Mapping[str, Any]) -> Client:
    project = google.place(environment, "project")
    credentials = google.credentials(environment)  # before the slow import: a quick no
    from google.cloud import bigquery

    address = google.endpoint(environment, "bigquery")
    return bigquery.Client(
        project=project,
        credentials=credentials,
        location=settings.location,
        client_options={"api_endpoint": address} if address else None,
    )


class BigQueryWarehouse:
    """Tables of one or more datasets; queries are billed to the client's project."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self.settings = settings
        self.client = client
        self.patience = Patience(
            bigquery_errors.SERVICE, settings.patience_s, bigquery_errors.failure
        )

    # ------------------------------------------------------------------- tables

    def tables(self) -> Sequence[Table]:
        """List the tables of ``warehouse.datasets``, sorted by name."""
        names = [name for dataset in self.settings.datasets for name in self._names(dataset)]
        return [self._table(name) for name in sorted(names)]

    def preview(self, table: str, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the first rows that BigQuery keeps of a table; reading them is free."""
        found = self._found(table)
        yield from self._pages(found, min(rows, found.num_rows or rows))

    def _names(self, dataset: str) -> list[str]:
        listed = self._ask(
            lambda: list(self.client.list_tables(dataset, retry=ONCE, timeout=CALL_S))
        )
        return [f"{item.project}.{item.dataset_id}.{item.table_id}" for item in listed]

    def _table(self, name: str) -> Table:
        found = self._found(name)
        return Table(
            name=name,
            columns=columns_of(found.schema),
            rows=found.num_rows,
            bytes=found.num_bytes,
            version=self._version(found),
            source=self.settings.title or f"bigquery://{found.project}",
        )

    def _found(self, name: str) -> BigQueryTable:
        from google.api_core.exceptions import NotFound

        def asked() -> Any:
            try:
                return self.client.get_table(name, retry=ONCE, timeout=CALL_S)
            except NotFound as exc:
                raise self._no_table(name) from exc

        found: BigQueryTable = self._ask(asked)
        return found

    def _no_table(self, name: str) -> ConfigError:
        dataset = name.rpartition(".")[0]
        try:
            names = self._names(dataset)
        except (ConfigError, BackendError):
            names = []
        hint = f"{nearest(name, names)} tables of {dataset}: {', '.join(names) or 'none'}".strip()
        return ConfigError(f"there is no table '{name}' in BigQuery", hint=hint)

    def _version(self, table: BigQueryTable) -> str:
        """Return when the table last changed, or the moment at which it is read."""
        if self.settings.snapshot:
            return f"as of {self.settings.snapshot}"
        return table.modified.isoformat() if table.modified else "unknown"

    # ------------------------------------------------------------------ queries

    def check(
        self,
        sql: str,
        *,
        parameters: Mapping[str, Parameter] | None = None,
        max_rows: int | None = None,
    ) -> QueryCheck:
        """Say what ``sql`` would read and give, by a dry run, which is free."""
        return self._checked(sql, parameters or {}, max_rows).check

    def query(
        self,
        sql: str,
        *,
        parameters: Mapping[str, Parameter] | None = None,
        max_bytes: int | None = None,
        max_rows: int | None = None,
        origin: Origin | None = None,
    ) -> BigQueryResult:
        """Start one SELECT; see the port."""
        checked = self._checked(sql, parameters or {}, max_rows)
        allowed, setting = self._allowed(max_bytes)
        estimate = checked.check.bytes or 0
        if estimate > allowed:
            raise Refused(
                f"the query would scan {estimate:,} bytes, {setting} allows {allowed:,}",
                hint="name fewer columns, or raise it",
            )
        submission = bigquery_job.Submission(
            sql=checked.text.settled,
            config=self._config(checked, allowed, origin),
            name=_job_name(checked, origin),
            location=checked.location,
            timeout_s=self.settings.timeout_s,
        )
        job = bigquery_job.finished(self.client, submission, self.patience)
        return BigQueryResult(self, checked, job)

    def export(
        self,
        sql: str,
        to: str,
        *,
        parameters: Mapping[str, Parameter] | None = None,
        max_bytes: int | None = None,
        origin: Origin | None = None,
    ) -> str:
        """Let BigQuery write the rows to Cloud Storage; see the port."""
        if not _PREFIX.fullmatch(to):
            raise ConfigError(
                f"BigQuery exports to Cloud Storage, not to {to}",
                hint="set dataset.export_to=gs://BUCKET/FOLDER",
            )
        checked = self._checked(sql, parameters or {}, None)
        allowed, setting = self._allowed(max_bytes)
        if (estimate := checked.check.bytes or 0) > allowed:
            raise Refused(
                f"the export would scan {estimate:,} bytes, {setting} allows {allowed:,}",
                hint="name fewer columns, or raise it",
            )
        uri = f"{to}-*.jsonl"
        options = f"OPTIONS(uri='{uri}', format='JSON', overwrite=true)"
        submission = bigquery_job.Submission(
            sql=f"EXPORT DATA {options} AS\n{checked.text.checked}",
            config=self._config(checked, allowed, origin),
            name=_job_name(checked, origin, to=uri),
            location=checked.location,
            timeout_s=self.settings.timeout_s,
        )
        bigquery_job.finished(self.client, submission, self.patience)
        return uri

    def _allowed(self, max_bytes: int | None) -> tuple[int, str]:
        most = self.settings.maximum_bytes_billed
        if max_bytes is not None and max_bytes <= most:
            return max_bytes, "max_bytes"
        return most, "warehouse.maximum_bytes_billed"

    def _checked(self, sql: str, given: Mapping[str, Parameter], max_rows: int | None) -> Checked:
        tree = guard.parse(sql)
        parameters.check(tree, given)
        text = bigquery_sql.prepare(sql, tree, snapshot=self.settings.snapshot, max_rows=max_rows)
        job = self._dry_run(text.checked, given)
        names = sorted(
            f"{table.project}.{table.dataset_id}.{table.table_id}"
            for table in job.referenced_tables
        )
        versions = {name: self._version(self._found(name)) for name in names}
        check = QueryCheck(
            columns_of(job.schema or ()), versions, job.total_bytes_processed, text.notes
        )
        return Checked(text, check, job.location or self.settings.location, given)

    def _dry_run(self, sql: str, given: Mapping[str, Parameter]) -> QueryJob:
        from google.api_core.exceptions import NotFound
        from google.cloud import bigquery

        config = bigquery.QueryJobConfig(
            dry_run=True, use_query_cache=False, **_job_parameters(given)
        )

        def asked() -> Any:
            try:
                return self.client.query(
                    sql, job_config=config, retry=ONCE, job_retry=None, timeout=CALL_S
                )
            except NotFound as exc:
                missing = _NO_TABLE.search(exc.message)
                if missing is None:
                    raise
                raise self._no_table(missing["name"].replace(":", ".", 1)) from exc

        job: QueryJob = self._ask(asked)
        return job

    def _config(self, checked: Checked, allowed: int, origin: Origin | None) -> QueryJobConfig:
        from google.cloud import bigquery

        return bigquery.QueryJobConfig(
            maximum_bytes_billed=max(allowed, LEAST_BILLED * max(1, len(checked.check.tables))),
            labels=_labels(origin) if origin else {},
            job_timeout_ms=int(self.settings.timeout_s * 1000),
            **_job_parameters(checked.parameters),
        )

    # --------------------------------------------------------------------- rows

    def _pages(self, table: BigQueryTable, total: int) -> Iterator[pa.RecordBatch]:
        """Yield rows of a table page by page; a page that breaks off is asked for again."""
        start = 0
        while start < total:
            page = self._ask(
                functools.partial(self._page, table, start, min(PAGE_ROWS, total - start))
            )
            if page is None:
                raise BackendError(
                    f"BigQuery sent {start} of {total} rows",
                    hint="run it again",
                    retryable=True,
                )
            start += page.num_rows
            yield page

    def _page(self, table: BigQueryTable, start: int, rows: int) -> pa.RecordBatch | None:
        """Return one answer's rows; BigQuery decides how many fit, up to ``rows``."""
        listed = self.client.list_rows(
            table,
            start_index=start,
            max_results=rows,
            retry=ONCE,
            timeout=CALL_S,
        )
        page = next(iter(listed.to_arrow_iterable()), None)
        return page and page.cast(schema_of(table.schema))

    def _streamed(self, table: BigQueryTable) -> Iterator[pa.RecordBatch]:
        """Yield rows by the Storage API: over gRPC, in Arrow from end to end."""
        from google.cloud import bigquery_storage

        make: Any = bigquery_storage.BigQueryReadClient
        reader = make(credentials=self.client._credentials)
        listed = self.client.list_rows(table)
        with google.translated(bigquery_errors.SERVICE):
            for batch in listed.to_arrow_iterable(
                bqstorage_client=reader,
                max_queue_size=1,
                max_stream_count=1,  # several would mix up the order
            ):
                yield batch.cast(schema_of(table.schema))

    def _ask(self, call: Callable[[], Any]) -> Any:
        return self.patience.ask(call)


class BigQueryResult:
    """A job that is done; its rows are read when its batches are."""

    def __init__(self, warehouse: BigQueryWarehouse, checked: Checked, job: QueryJob) -> None:
        self._warehouse = warehouse
        self._checked = checked
        self._job = job
        self._rows = 0
        self._done = False

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows once, a page at a time."""
        table = self._warehouse._found(_full_name(self._job.destination))
        total = table.num_rows or 0
        if self._warehouse.settings.storage_api:
            read = self._warehouse._streamed(table)
        else:
            read = self._warehouse._pages(table, total)
        for batch in read:
            self._rows += batch.num_rows
            yield batch
        self._done = True

    def statistics(self) -> QueryStatistics:
        """Return what the query did.

        Raises:
            BackendError: If the batches were not read to the end.
        """
        if not self._done:
            raise BackendError("the query's batches were not read to the end")
        tables = self._checked.check.tables
        return QueryStatistics(
            source=f"bigquery://{','.join(sorted({name.split('.')[0] for name in tables}))}",
            rows=self._rows,
            bytes=self._job.total_bytes_processed,
            job=f"{self._job.project}:{self._job.location}.{self._job.job_id}",
            tables=tables,
            billed_bytes=self._job.total_bytes_billed,
            snapshot=self._warehouse.settings.snapshot,
        )


def _full_name(table: Any) -> str:
    return f"{table.project}.{table.dataset_id}.{table.table_id}"


def _job_name(checked: Checked, origin: Origin | None, to: str | None = None) -> str:
    """Return the same name for the same query on behalf of the same step key.

    A job's id takes letters, digits, dashes and underscores, at most 1,024.
    """
    if origin is None:
        return f"llmops-{uuid.uuid4().hex}"
    what = [checked.text.settled, checked.check.tables, dict(checked.parameters)]
    asked = digest(what if to is None else [*what, to])
    return f"llmops-{origin.key[:24]}-{asked[:8]}"


def _labels(origin: Origin) -> dict[str, str]:
    """Return labels as BigQuery takes them: 63 small letters, digits, dashes, underscores."""
    labels = {"experiment": origin.experiment, "run": origin.run_id, "key": origin.key[:63]}
    return {name: _NO_LABEL.sub("-", value.lower())[:63] for name, value in labels.items()}


def _job_parameters(given: Mapping[str, Parameter]) -> dict[str, Any]:
    """Return what a job's config says of parameters: nothing if there are none."""
    made = [query_parameter(name, value) for name, value in sorted(given.items())]
    return {"query_parameters": made} if made else {}
