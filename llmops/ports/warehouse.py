"""A warehouse: tables, queries, and rows as Arrow batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """A column by BigQuery's type name, e.g. ``STRING``, ``INT64``, ``TIMESTAMP``."""

    name: str
    type: str


@dataclass(frozen=True)
class Table:
    """A table of the warehouse; ``name`` is ``project.dataset.table``."""

    name: str
    columns: tuple[Column, ...]
    rows: int | None
    bytes: int | None
    version: str  # content digest (DuckDB) or last-modified time (BigQuery)
    source: str  # where the rows really come from, for people


@dataclass(frozen=True)
class QueryCheck:
    """What is known of a query before it runs (BigQuery: a dry run)."""

    columns: tuple[Column, ...]
    tables: Mapping[str, str]  # table name -> version; part of the ingest step's key
    bytes: int | None  # estimate of the bytes scanned
    notes: tuple[str, ...] = ()  # what the user should know, e.g. how a bare LIMIT is ordered
    unknown: str = ""  # why nothing else of this is known, e.g. that the sample is not filled yet


@dataclass(frozen=True)
class QueryStatistics:
    """What a query did; ``source`` names the real origin, e.g. ``duckdb://sample``.

    ``bytes`` were scanned, ``billed_bytes`` are on the bill, 0 if an earlier result was found
    again. ``snapshot`` is the moment at which the tables were read, where the config pins one.
    """

    source: str
    rows: int
    bytes: int | None = None
    job: str | None = None
    tables: Mapping[str, str] = field(default_factory=dict)
    billed_bytes: int | None = None
    snapshot: str | None = None


Parameter = bool | int | float | str | Sequence[bool | int | float | str]  # of a query: ``@name``


@dataclass(frozen=True)
class Origin:
    """On whose behalf a query runs: it labels the job, and names it so that it is paid once."""

    experiment: str
    run_id: str
    key: str  # the step key


class QueryResult(Protocol):
    """A running query: read ``batches`` to the end, then ask ``statistics``."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the result once, in bounded memory.

        Raises:
            BackendError: If the warehouse fails in mid-stream.
        """
        ...

    def statistics(self) -> QueryStatistics:
        """Return what the query did; valid after the last batch."""
        ...


class Warehouse(Protocol):
    """A SQL store that examples are read from. SQL is BigQuery's dialect everywhere."""

    def tables(self) -> Sequence[Table]:
        """List the tables, sorted by name."""
        ...

    def preview(self, table: str, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield some rows of a table, whichever come first, at no cost.

        Raises:
            ConfigError: If there is no such table.
            BackendError: If the warehouse fails.
        """
        ...

    def check(
        self,
        sql: str,
        *,
        parameters: Mapping[str, Parameter] | None = None,
        max_rows: int | None = None,
    ) -> QueryCheck:
        """Say what ``sql`` would read and give, without running it.

        Raises:
            ConfigError: If it is not one SELECT, does not parse, uses a construct that this
                warehouse would silently read differently, names an unknown table or column, or
                a parameter that is not among ``parameters``.
            BackendError: If the warehouse fails.
        """
        ...

    def query(
        self,
        sql: str,
        *,
        parameters: Mapping[str, Parameter] | None = None,
        max_bytes: int | None = None,
        max_rows: int | None = None,
        origin: Origin | None = None,
    ) -> QueryResult:
        """Start one read-only SELECT; ``max_rows`` keeps that many rows by content hash order.

        Asked again with the same ``origin``, a query that was already paid for is not run again.

        Raises:
            ConfigError: As ``check``.
            Refused: If the query would scan more than ``max_bytes``, or the warehouse allows.
            BackendError: If the warehouse fails.
        """
        ...

    def export(
        self,
        sql: str,
        to: str,
        *,
        parameters: Mapping[str, Parameter] | None = None,
        max_bytes: int | None = None,
        origin: Origin | None = None,
    ) -> str:
        """Write the rows of one SELECT as JSON Lines; none of them passes through the caller.

        Args:
            sql: As for ``query``.
            to: The files' address without its end: ``gs://bucket/folder/train`` for BigQuery, a
                path of this machine for a warehouse on it.
            parameters: As for ``query``.
            max_bytes: As for ``query``.
            origin: As for ``query``.

        Returns:
            The address of the file or files, with a ``*`` where there are several.

        Raises:
            ConfigError: As ``check``, or if the warehouse cannot write to ``to``.
            Refused: As ``query``.
            BackendError: If the warehouse fails, or there is no room.
        """
        ...
