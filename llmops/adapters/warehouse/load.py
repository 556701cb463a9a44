"""From a CSV, Parquet or JSON Lines file to a finished table file. Publishing is the shelf's part.

Types become BigQuery's: every integer INT64, every timestamp TIMESTAMP (a moment without a zone
is taken as UTC), every decimal NUMERIC. Nothing is dropped or guessed in silence: a row that does
not fit its column ends the load.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops.adapters.warehouse.shelf import StoredTable
from llmops.adapters.warehouse.types import (
    bigquery_type,
    duckdb_type,
    quoted,
    size_expression,
    text_literal,
)
from llmops.errors import BackendError, ConfigError, DataError
from llmops.ports.warehouse import Column, Table

SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_HASHES_AT_ONCE = 65536
_LONGEST_LINE_BYTES = 32 * 1024 * 1024  # DuckDB reserves twice as much a thread
_DELIMITERS = ",;\t|"
_READERS = {
    # The dialect is fixed, for DuckDB's guess skips the lines of a ragged file as if they were a
    # preface. HUGEINT is among the types: 2^63 must not become a rounded DOUBLE.
    "csv": "read_csv({path}, delim={delimiter}, quote='\"', escape='\"', comment='', "
    "header=true, skip=0, sample_size=-1, strict_mode=true, null_padding=false, "
    "auto_type_candidates=['NULL','BOOLEAN','BIGINT','HUGEINT','DOUBLE','DATE','TIMESTAMP',"
    "'TIMESTAMPTZ','VARCHAR'])",
    "parquet": "read_parquet({path})",
    "jsonl": "read_json({path}, format='newline_delimited', records=true, sample_size=-1, "
    f"maximum_object_size={_LONGEST_LINE_BYTES}, map_inference_threshold=-1{{columns}})",
}


@dataclass(frozen=True)
class Source:
    """A file to load: ``columns`` fixes their types (JSON Lines only), else they are inferred."""

    path: Path
    format: str
    description: str  # where the rows come from, for people
    columns: tuple[Column, ...] = ()


def source_of(path: Path, description: str) -> Source:
    """Return the file as a source, its format told by its suffix.

    Raises:
        ConfigError: If the file is missing, empty or of another kind.
        DataError: If a CSV's header names a column twice.
    """
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(
            f"{path} is not a file that can be loaded", hint=f"one of {', '.join(SUFFIXES)}"
        )
    if not path.is_file():
        raise ConfigError(f"there is no file {path}", hint="give the path of a file that exists")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty", hint="a table needs a header or at least one row")
    return Source(path, kind, description)


def build(
    source: Source, name: str, target: Path, *, memory_limit: str, temporary: Path
) -> StoredTable:
    """Write the table into the new database file ``target`` and return its description.

    Raises:
        DataError: If the file is damaged or its rows do not fit.
        BackendError: If the disk or memory is not enough.
    """
    import duckdb
    from pyarrow import ArrowException

    try:
        with duckdb.connect() as connection:
            connection.execute(f"SET memory_limit={text_literal(memory_limit)}")
            connection.execute(f"SET temp_directory={text_literal(str(temporary))}")
            connection.execute("SET TimeZone='UTC'")
            connection.execute("SET autoinstall_known_extensions=false")
            connection.execute("SET preserve_insertion_order=false")
            _refuse_odd_names(_header(source), source.path)
            connection.execute(f"ATTACH {text_literal(str(target))} AS made")
            columns = _fill(connection, source)
            stored = _described(connection, source, name, columns)
            connection.execute("DETACH made")
            return stored
    except (duckdb.OutOfMemoryException, duckdb.FatalException) as exc:
        raise _no_room(name, exc) from exc
    except duckdb.IOException as exc:
        raise _no_room(name, exc) if "space" in str(exc) else _unreadable(source, exc) from exc
    except (duckdb.Error, ArrowException, csv.Error) as exc:
        raise _unreadable(source, exc) from exc


def _fill(connection: Any, source: Source) -> tuple[Column, ...]:
    rows = connection.sql(f"SELECT * FROM {_reader(source)}")
    columns = tuple(
        Column(name, _stored_type(bigquery_type(kind)))
        for name, kind in zip(rows.columns, rows.types, strict=True)
    )
    _refuse_odd_names([column.name for column in columns], source.path)
    picked = ", ".join(_cast(column) for column in columns)
    connection.execute(f"CREATE TABLE made.main.held AS SELECT {picked} FROM {_reader(source)}")
    return columns


def _reader(source: Source) -> str:
    columns = ""
    if source.columns:
        types = ", ".join(
            f"{text_literal(c.name)}: {text_literal(duckdb_type(c.type) or 'VARCHAR')}"
            for c in source.columns
        )
        columns = f", columns={{{types}}}"
    path, delimiter = text_literal(_unglobbed(source.path)), text_literal(_delimiter(source))
    return _READERS[source.format].format(path=path, columns=columns, delimiter=delimiter)


def _unglobbed(path: Path) -> str:
    """Return the path with glob characters taken literally."""
    return re.sub(r"([*?\[])", r"[\1]", str(path.resolve()))


def _stored_type(kind: str) -> str:
    return "TIMESTAMP" if kind == "DATETIME" else kind


def _cast(column: Column) -> str:
    name = quoted(column.name)
    kind = duckdb_type(column.type)
    return f"CAST({name} AS {kind}) AS {name}" if kind else name


def _header(source: Source) -> list[str]:
    """Return the columns as the file names them: DuckDB renames one that is named twice."""
    if source.format == "parquet":
        from pyarrow import parquet

        return list(parquet.read_schema(source.path).names)
    return _csv_header(source.path, _delimiter(source)) if source.format == "csv" else []


def _delimiter(source: Source) -> str:
    """Return the delimiter that gives the header the most columns."""
    if source.format != "csv":
        return _DELIMITERS[0]
    return max(_DELIMITERS, key=lambda mark: len(_csv_header(source.path, mark)))


def _csv_header(path: Path, delimiter: str) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        lines = (line.replace("\0", "\ufffd") for line in stream)
        return next(csv.reader(lines, delimiter=delimiter), [])


def _refuse_odd_names(names: Sequence[str], path: Path) -> None:
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise DataError(f"{path} names the column '{name}' twice", hint="rename one of them")
        if not name.strip():
            raise DataError(f"{path} has a column without a name", hint="give every column a name")
        seen.add(name.lower())


def _described(
    connection: Any, source: Source, name: str, columns: tuple[Column, ...]
) -> StoredTable:
    sizes = ", ".join(size_expression(quoted(c.name), c.type) for c in columns)
    rows, *weights = connection.execute(f"SELECT count(*), {sizes} FROM made.main.held").fetchone()
    weight = dict(zip((c.name for c in columns), map(int, weights), strict=True))
    version = _content_digest(connection, columns)
    table = Table(name, columns, int(rows), sum(weight.values()), version, source.description)
    return StoredTable(
        table, f"{hashlib.sha256(name.encode()).hexdigest()[:12]}-{version}.duckdb", weight
    )


def _content_digest(connection: Any, columns: tuple[Column, ...]) -> str:
    """Digest the columns and the rows as a bag, so that the order in the file does not matter."""
    total = hashlib.sha256(repr([(c.name, c.type) for c in columns]).encode())
    hashes = connection.execute(
        "SELECT sha256(CAST(to_json(held) AS VARCHAR)) AS h FROM made.main.held ORDER BY h"
    )
    while block := hashes.fetchmany(_HASHES_AT_ONCE):
        total.update("".join(row[0] for row in block).encode())
    return total.hexdigest()[:32]


def _unreadable(source: Source, exc: Exception) -> DataError:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()] or ["no reason given"]
    told = [
        lines[0],
        *(line for line in lines[1:] if line.startswith(("Error when conv", "Invalid"))),
    ]
    if "Error when sniffing" in lines[0]:
        told = [f"its lines have not all the {len(_header(source))} fields of the header"]
    return DataError(
        f"{source.path} cannot be loaded: {'; '.join(told)}",
        hint=_advice(str(exc)) or "nothing was loaded",
    )


_ADVICE: Mapping[str, str] = {
    "Error when sniffing": "every line needs as many fields as the header; quote fields that "
    "hold the delimiter or a line break",
    "unicode": "save the file as UTF-8",
    "utf-8": "save the file as UTF-8",
    "utf8": "save the file as UTF-8",
    "to 'BIGINT'": "whole numbers must fit INT64, below 2^63",
    "out of range": "whole numbers must fit INT64, below 2^63; write them as text",
    "CSV": "every line needs as many fields as the header; quote fields that hold the delimiter",
    "JSON": "one complete JSON object a line, at most 32 MB each",
}


def _advice(text: str) -> str:
    return next((advice for sign, advice in _ADVICE.items() if sign in text), "")


def _no_room(name: str, exc: Exception) -> BackendError:
    return BackendError(
        f"no room to load {name}: {str(exc).splitlines()[0]}",
        hint="free disk space, or raise warehouse.memory_limit",
        retryable=True,
    )
