"""DuckDB as the embedded warehouse: BigQuery's SQL over tables in a folder of the workspace.

A query runs in a connection of its own, in memory, in which the tables are attached read-only and
everything else is locked: no file, no network, no setting can be reached from it. Knows neither
steps nor experiments.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.adapters.warehouse import guard, load, order, parameters, sample, stackexchange
from llmops.adapters.warehouse.dialect import MACROS, rewrite
from llmops.adapters.warehouse.shelf import Shelf, StoredTable, table_name
from llmops.adapters.warehouse.types import bigquery_type, duckdb_type, quoted, text_literal
from llmops.artifacts import digest
from llmops.errors import BackendError, ConfigError, LlmopsError, Refused
from llmops.files import disk_errors, write_text
from llmops.ports.progress import Progress
from llmops.ports.warehouse import Column, Origin, Parameter, QueryCheck, QueryStatistics, Table

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection
    from sqlglot import exp

BATCH_ROWS = 4096
_FOLDER = ".llmops/warehouse"


@dataclass(frozen=True)
class Asked:
    """What a translation is of."""

    sql: str
    parameters: Mapping[str, Parameter]
    max_rows: int | None


@dataclass(frozen=True)
class Translated:
    """A checked query: DuckDB's SQL, and what is known of it before it runs."""

    sql: str
    check: QueryCheck
    one_thread: bool


def open_warehouse(
    config: Mapping[str, Any], workspace: Path, *, read_only: bool = False
) -> DuckDBWarehouse:
    """Open the warehouse that the config's ``warehouse`` group describes.

    With ``read_only`` nothing is written: a sample is not filled, and no check is remembered.
    """
    return DuckDBWarehouse(
        name=str(config["name"]),
        folder=workspace / _FOLDER / str(config["name"]),
        memory_limit=str(config["memory_limit"]),
        is_sample=bool(config["sample"]),
        title=str((config.get("source") or {}).get("title") or ""),
        read_only=read_only,
    )


@dataclass(frozen=True)
class DuckDBWarehouse:
    """Tables in ``folder``; a sample fills itself when it is first asked for anything."""

    name: str
    folder: Path
    memory_limit: str
    is_sample: bool
    title: str
    read_only: bool = False

    @property
    def shelf(self) -> Shelf:
        """Where the tables lie; filled first if this is the sample."""
        shelf = Shelf(self.folder)
        if self.is_sample and not self.read_only:
            sample.fill(shelf, self.memory_limit)
        return shelf

    def tables(self) -> Sequence[Table]:
        """List the tables, sorted by name."""
        return [held.table for held in self.shelf.tables().values()]

    def preview(self, table: str, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield some rows of a table; see the port."""
        return self.query(f"SELECT * FROM `{table}` LIMIT {rows}").batches()

    def check(
        self,
        sql: str,
        *,
        parameters: Mapping[str, Parameter] | None = None,
        max_rows: int | None = None,
    ) -> QueryCheck:
        """Say what ``sql`` would read and give; see the port."""
        if self.read_only and not Shelf(self.folder).tables():
            guard.parse(sql)
            return QueryCheck((), {}, None, unknown=f"nothing is known of its tables: {self._why}")
        return self._translated(Asked(sql, parameters or {}, max_rows)).check

    @property
    def _why(self) -> str:
        """Say why there is no table yet."""
        if self.is_sample:
            return "the sample is filled when an experiment first runs"
        return f"the warehouse '{self.name}' is empty here; see `llmops warehouse load`"

    def query(
        self,
        sql: str,
        *,
        parameters: Mapping[str, Parameter] | None = None,
        max_bytes: int | None = None,
        max_rows: int | None = None,
        origin: Origin | None = None,
    ) -> DuckDBResult:
        """Start one SELECT; see the port."""
        translated = self._translated(Asked(sql, parameters or {}, max_rows))
        estimate = translated.check.bytes or 0
        if max_bytes is not None and estimate > max_bytes:
            raise Refused(
                f"the query would scan {estimate:,} bytes, max_bytes allows {max_bytes:,}",
                hint="name fewer columns, or raise dataset.max_bytes",
            )
        return DuckDBResult(self, translated)

    def export(
        self,
        sql: str,
        to: str,
        *,
        parameters: Mapping[str, Parameter] | None = None,
        max_bytes: int | None = None,
        origin: Origin | None = None,
    ) -> str:
        """Write the rows to one file; see the port. The rows are in the order of their content."""
        import orjson

        if "://" in to:
            raise ConfigError(
                f"{to}: the warehouse '{self.name}' is on this machine and writes only there",
                hint="set dataset.export_to=null, or choose warehouse=bigquery",
            )
        result = self.query(sql, parameters=parameters, max_bytes=max_bytes, origin=origin)
        path = Path(f"{to}.jsonl")
        with disk_errors(path.parent, setting="store.path"), path.open("wb") as file:
            for batch in result.batches():
                for row in batch.to_pylist():
                    file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        return str(path)

    def load(self, name: str, path: Path, *, replace_table: bool = False) -> Table:
        """Make a table of a CSV, Parquet or JSON Lines file, whole or not at all.

        Raises:
            ConfigError: If the name or file is wrong, or the table exists already.
            DataError: If the file cannot be read or its rows do not fit.
            BackendError: If there is no room.
        """
        name, shelf = table_name(name), self.shelf
        source = load.source_of(path, f"{self.title or 'loaded'} ({path.name})")
        with shelf.locked():
            if name in shelf.tables() and not replace_table:
                raise ConfigError(f"the table {name} exists", hint="give --replace to replace it")
            target = shelf.new_file()
            try:
                made = load.build(
                    source, name, target, memory_limit=self.memory_limit, temporary=shelf.temporary
                )
                shelf.publish({target: made})
            finally:
                target.unlink(missing_ok=True)
        return made.table

    def load_dump(
        self,
        path: Path,
        dataset: str | None,
        progress: Progress,
        *,
        site: str | None = None,
        replace_table: bool = False,
    ) -> Sequence[Table]:
        """Make the two tables of posts of each Stack Exchange dump at ``path``, all or none.

        Without a ``dataset`` a single dump goes under the names that Stack Overflow has in
        BigQuery, and several go to a dataset a site: ids of two sites mean different posts.
        ``site`` is the host of a single dump whose name does not tell.

        Raises:
            ConfigError: If there is no dump, two are of one site, or a table exists already.
            DataError: If a dump is cut off or damaged.
            BackendError: If there is no room.
        """
        dumps, shelf = stackexchange.dumps_of(path, site), self.shelf
        if dataset and len(dumps) > 1:
            raise ConfigError(
                f"{path} holds {len(dumps)} dumps, which cannot share the dataset {dataset}",
                hint="leave --dataset out: each site gets its own",
            )
        alone = dataset or (stackexchange.DEFAULT_DATASET if len(dumps) == 1 else None)
        with shelf.locked(), tempfile.TemporaryDirectory(dir=shelf.temporary) as folder:
            made: dict[Path, StoredTable] = {}
            try:
                for dump in dumps:
                    where = Path(folder) / dump.dataset
                    where.mkdir()
                    for table, file in stackexchange.convert(dump, where, progress).items():
                        name = table_name(f"{alone or dump.dataset}.{table}")
                        if name in shelf.tables() and not replace_table:
                            raise ConfigError(
                                f"the table {name} exists", hint="give --replace to replace it"
                            )
                        target = shelf.data / f"making-{os.getpid()}-{len(made)}.duckdb"
                        source = load.Source(file, "parquet", f"Stack Exchange dump of {dump.site}")
                        made[target] = load.build(
                            source,
                            name,
                            target,
                            memory_limit=self.memory_limit,
                            temporary=shelf.temporary,
                        )
                        file.unlink()
                shelf.publish(made)
            finally:
                for leftover in shelf.data.glob(f"making-{os.getpid()}-*"):
                    leftover.unlink(missing_ok=True)
        return [held.table for held in made.values()]

    def connect(self, names: Iterable[str], *, one_thread: bool = False) -> DuckDBPyConnection:
        """Open a locked connection that sees the tables named and nothing else of this machine."""
        import duckdb

        tables, wanted = Shelf(self.folder).tables(), set(names)
        described = not wanted <= tables.keys()  # the rest are views of INFORMATION_SCHEMA
        seen = {n: held for n, held in tables.items() if described or n in wanted}
        connection = duckdb.connect()
        try:
            connection.execute(_script(self, seen, one_thread=one_thread, described=described))
        except duckdb.Error as exc:
            connection.close()
            raise BackendError(
                f"the warehouse {self.folder} cannot be opened: {_first_line(exc)}",
                hint="check warehouse.memory_limit; if a table file is damaged, load it again",
            ) from exc
        return connection

    # ------------------------------------------------------------------ translation

    def _translated(self, asked: Asked) -> Translated:
        """Translate, or read what an earlier process found for the same text and tables."""
        shelf = self.shelf
        path = shelf.checks / f"{_check_key(asked, shelf)}.json"
        if known := _read(path):
            return known
        made = self._translate(asked, shelf.tables())
        if not self.read_only:
            with contextlib.suppress(OSError):  # not remembering costs a translation, no more
                write_text(path, json.dumps(asdict(made)))
        return made

    def _honesty(self, tree: exp.Query) -> tuple[str, ...]:
        """Say so when a query written for Stack Overflow dresses up the sample's rows."""
        from sqlglot import exp

        written = [text.name for text in tree.find_all(exp.Literal) if text.is_string]
        if self.is_sample and any("CC BY" in text or "://" in text for text in written):
            return (f"the licence or address that the query writes is not the rows': {sample.OF}",)
        return ()

    def _translate(self, asked: Asked, known: Mapping[str, StoredTable]) -> Translated:
        tree = guard.parse(asked.sql)
        parameters.bind(tree, asked.parameters)
        names = guard.tables_of(tree, known)
        estimate, notes = _bytes(tree, names, known), (*order.notes(tree), *self._honesty(tree))
        one_thread = order.needs_one_thread(tree)
        order.name_columns(tree)
        tree = rewrite(tree)
        order.settle_inner(tree)
        settled = order.settle(tree)
        used = {name: known[name] for name in names if name in known}
        with self.connect(names) as connection:
            columns = _columns(connection, settled, asked.sql, used)
        check = QueryCheck(columns, _versions(names, known), estimate, notes)
        return Translated(_final(settled, columns, asked.max_rows), check, one_thread)


class DuckDBResult:
    """A query that runs when its batches are read."""

    def __init__(self, warehouse: DuckDBWarehouse, translated: Translated) -> None:
        self._warehouse = warehouse
        self._translated = translated
        self._rows = 0
        self._done = False

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows once, at most ``BATCH_ROWS`` at a time."""
        import duckdb
        import pyarrow as pa

        check, one_thread = self._translated.check, self._translated.one_thread
        with self._warehouse.connect(check.tables, one_thread=one_thread) as connection:
            try:
                reader = connection.sql(self._translated.sql).to_arrow_reader(BATCH_ROWS)
                for batch in reader:
                    self._rows += batch.num_rows
                    yield batch
            except (duckdb.Error, pa.ArrowException, OSError) as exc:
                raise failure(exc) from exc
        self._done = True

    def statistics(self) -> QueryStatistics:
        """Return what the query did.

        Raises:
            BackendError: If the batches were not read to the end.
        """
        if not self._done:
            raise BackendError("the query's batches were not read to the end")
        check = self._translated.check
        return QueryStatistics(
            source=f"duckdb://{self._warehouse.name}",
            rows=self._rows,
            bytes=check.bytes,
            tables=check.tables,
        )


# --------------------------------------------------------------------- the connection


def _script(
    warehouse: DuckDBWarehouse,
    tables: Mapping[str, StoredTable],
    *,
    one_thread: bool,
    described: bool,
) -> str:
    """Return what is done before the user's SQL; one script, for each statement costs a call."""
    return ";\n".join(
        [
            *_settings(warehouse, one_thread=one_thread),
            *(f"CREATE {macro}" for macro in MACROS),
            *_views(warehouse.folder / "data", tables),
            *(_information_schema(tables) if described else ()),
            "SET enable_external_access=false",
            "SET lock_configuration=true",
        ]
    )


def _settings(warehouse: DuckDBWarehouse, *, one_thread: bool) -> Iterator[str]:
    yield f"SET memory_limit={text_literal(warehouse.memory_limit)}"
    yield f"SET temp_directory={text_literal(str(warehouse.folder / 'temporary'))}"
    yield "SET TimeZone='UTC'"
    yield "SET autoinstall_known_extensions=false"
    yield "SET autoload_known_extensions=false"
    yield "SET ieee_floating_point_ops=false"
    yield "SET python_enable_replacements=false"
    yield "SET preserve_insertion_order=false"  # each query is ordered as a whole
    if one_thread:
        yield "SET threads=1"


def _views(data: Path, tables: Mapping[str, StoredTable]) -> Iterator[str]:
    for project in sorted({name.split(".")[0] for name in tables}):
        yield f"ATTACH ':memory:' AS {quoted(project)}"
    for dataset in sorted({name.rpartition(".")[0] for name in tables}):
        yield f"CREATE SCHEMA IF NOT EXISTS {_path(dataset)}"
    for number, (name, held) in enumerate(tables.items()):
        yield f"ATTACH {text_literal(str(data / held.file))} AS _held_{number} (READ_ONLY)"
        yield f"CREATE VIEW {_path(name)} AS SELECT * FROM _held_{number}.main.held"


def _path(name: str) -> str:
    return ".".join(quoted(part) for part in name.split("."))


def _information_schema(tables: Mapping[str, StoredTable]) -> Iterator[str]:
    """Make the two views whose whole name sqlglot reads as one: ``INFORMATION_SCHEMA.TABLES``."""
    for dataset in sorted({name.rpartition(".")[0] for name in tables}):
        yield (
            f'CREATE TABLE {_path(dataset)}."INFORMATION_SCHEMA.TABLES" '
            "(table_catalog VARCHAR, table_schema VARCHAR, table_name VARCHAR, table_type VARCHAR)"
        )
        yield (
            f'CREATE TABLE {_path(dataset)}."INFORMATION_SCHEMA.COLUMNS" '
            "(table_catalog VARCHAR, table_schema VARCHAR, table_name VARCHAR, "
            "column_name VARCHAR, ordinal_position BIGINT, is_nullable VARCHAR, data_type VARCHAR)"
        )
    for held in tables.values():
        yield from _described(held.table)


def _described(table: Table) -> Iterator[str]:
    where = _path(table.name.rpartition(".")[0])
    named = ", ".join(text_literal(part) for part in table.name.split("."))
    yield f"INSERT INTO {where}.\"INFORMATION_SCHEMA.TABLES\" VALUES ({named}, 'BASE TABLE')"
    rows = ", ".join(
        f"({named}, {text_literal(c.name)}, {n}, 'YES', {text_literal(c.type)})"
        for n, c in enumerate(table.columns, start=1)
    )
    yield f'INSERT INTO {where}."INFORMATION_SCHEMA.COLUMNS" VALUES {rows}'


# ------------------------------------------------------------------------ the query


def _columns(
    connection: DuckDBPyConnection,
    settled: order.Settled,
    sql: str,
    used: Mapping[str, StoredTable],
) -> tuple[Column, ...]:
    import duckdb

    try:
        rows = connection.sql(settled.inner)
    except duckdb.Error as exc:
        raise _unbound(exc, sql, used) from exc
    hidden = {name.strip('"') for name in settled.hidden}
    columns = tuple(
        Column(name, bigquery_type(kind))
        for name, kind in zip(rows.columns, rows.types, strict=True)
        if name not in hidden
    )
    _refuse_double([column.name for column in columns])
    return columns


def _refuse_double(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        # DuckDB calls the second of two equal names `a_1` only in subqueries, `a:1` in results
        if name.lower() in seen:
            raise ConfigError(
                f"the query returns two columns named '{name}'", hint="give one an alias with AS"
            )
        seen.add(name.lower())


def _final(settled: order.Settled, columns: tuple[Column, ...], max_rows: int | None) -> str:
    picked = ", ".join(_cast(column) for column in columns)
    if max_rows is None or settled.order == order.HASH:
        return settled.sql(picked, max_rows)
    whole = settled.sql(picked)
    return f"SELECT * FROM ({whole}) AS {order.ROWS} ORDER BY {order.HASH} LIMIT {max_rows}"


def _cast(column: Column) -> str:
    name, kind = quoted(column.name), duckdb_type(column.type)
    value = f"{order.ROWS}.{name}"
    return f"CAST({value} AS {kind}) AS {name}" if kind else value


def _versions(names: Sequence[str], known: Mapping[str, StoredTable]) -> dict[str, str]:
    everything = digest({name: held.table.version for name, held in known.items()})[:32]
    return {name: known[name].table.version if name in known else everything for name in names}


def _bytes(tree: Any, names: Sequence[str], known: Mapping[str, StoredTable]) -> int:
    """Estimate as BigQuery bills: every named column of every named table, whole."""
    from sqlglot import exp

    used = {column.name.lower() for column in tree.find_all(exp.Column)}
    used |= {i.name.lower() for dot in tree.find_all(exp.Dot) for i in dot.find_all(exp.Identifier)}
    everything = any(not isinstance(star.parent, exp.Count) for star in tree.find_all(exp.Star))
    return sum(
        weight
        for name in names
        if name in known
        for column, weight in known[name].column_bytes.items()
        if everything or column.lower() in used
    )


# --------------------------------------------------------------------------- errors


def _unbound(exc: Exception, sql: str, used: Mapping[str, StoredTable]) -> LlmopsError:
    import re

    text = str(exc)
    missing = re.search(r'(?:Referenced column|does not have a column named) "([^"]+)"', text)
    if missing is None:
        return failure(exc)
    columns = {name: [c.name for c in held.table.columns] for name, held in used.items()}
    candidates = re.findall(r'"([^"]+)"', text.partition("Candidate bindings:")[2])
    return guard.unknown_column(
        missing[1], sql, columns, [c.rpartition(".")[2] for c in candidates]
    )


def failure(exc: Exception) -> LlmopsError:
    """Return the error of ours for one of DuckDB's, or of Arrow's around it."""
    text = _first_line(exc)
    if "Out of Memory" in text or "OutOfMemory" in text:
        return BackendError(
            f"the query needs more memory than allowed: {text}",
            hint="raise warehouse.memory_limit, or free disk space for spilling",
        )
    if any(sign in text for sign in ("IO Error", "Fatal", "Internal Error", "Interrupt")):
        return BackendError(f"the warehouse failed: {text}", retryable="IO Error" in text)
    return ConfigError(
        f"the query cannot be answered: {text}", hint="docs/warehouse.md lists what is supported"
    )


def _first_line(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[0] if lines else type(exc).__name__


# ------------------------------------------------------------------- remembered checks


def _check_key(asked: Asked, shelf: Shelf) -> str:
    return digest([asdict(asked), shelf.digest(), _code()])


def _code() -> str:
    """Return a text that changes with whatever decides a translation."""
    folder = Path(__file__).parent
    total = hashlib.sha256()
    for module in ("duckdb", "dialect", "constructs", "guard", "order", "parameters", "types"):
        total.update((folder / f"{module}.py").read_bytes())
    return f"{total.hexdigest()} {metadata.version('duckdb')} {metadata.version('sqlglot')}"


def _read(path: Path) -> Translated | None:
    try:
        held = json.loads(path.read_text("utf-8"))
        fields = held["check"]
        columns = tuple(Column(**column) for column in fields["columns"])
        check = QueryCheck(columns, fields["tables"], fields["bytes"], tuple(fields["notes"]))
        return Translated(held["sql"], check, held["one_thread"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
