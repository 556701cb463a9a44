"""BigQuery's type names for DuckDB's types, and back. Knows nothing of SQL or of tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmops.errors import ConfigError

if TYPE_CHECKING:
    from duckdb.sqltypes import DuckDBPyType

_BIGQUERY = {
    "boolean": "BOOL",
    "tinyint": "INT64",
    "smallint": "INT64",
    "integer": "INT64",
    "bigint": "INT64",
    "hugeint": "INT64",
    "utinyint": "INT64",
    "usmallint": "INT64",
    "uinteger": "INT64",
    "ubigint": "INT64",
    "uhugeint": "INT64",
    "bignum": "INT64",
    "float": "FLOAT64",
    "double": "FLOAT64",
    "decimal": "NUMERIC",
    "varchar": "STRING",
    "enum": "STRING",
    "uuid": "STRING",
    "blob": "BYTES",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "DATETIME",
    "timestamp_s": "DATETIME",
    "timestamp_ms": "DATETIME",
    "timestamp_ns": "DATETIME",
    "timestamp with time zone": "TIMESTAMP",
    "json": "STRING",
    '"null"': "INT64",  # BigQuery gives an untyped NULL the type INT64
}
_DUCKDB = {
    "BOOL": "BOOLEAN",
    "INT64": "BIGINT",
    "FLOAT64": "DOUBLE",
    "NUMERIC": "DECIMAL(38,9)",
    "STRING": "VARCHAR",
    "BYTES": "BLOB",
    "DATE": "DATE",
    "TIME": "TIME",
    "DATETIME": "TIMESTAMP",
    "TIMESTAMP": "TIMESTAMPTZ",
}
_FIXED_BYTES = {"BOOL": 1, "NUMERIC": 16}


def bigquery_type(kind: DuckDBPyType | Any) -> str:
    """Return BigQuery's name, e.g. ``ARRAY<STRUCT<id INT64>>``.

    Raises:
        ConfigError: If BigQuery has no such type.
    """
    if kind.id in ("list", "array"):
        return f"ARRAY<{bigquery_type(kind.children[0][1])}>"
    if kind.id == "struct":
        fields = ", ".join(f"{name} {bigquery_type(inner)}" for name, inner in kind.children)
        return f"STRUCT<{fields}>"
    if str(kind) == "JSON" or kind.id not in _BIGQUERY:
        return _named(str(kind))
    return _BIGQUERY[kind.id]


def _named(text: str) -> str:
    known = _BIGQUERY.get(text.lower())
    if known is None:
        raise ConfigError(
            f"there is no BigQuery type for DuckDB's {text}", hint="cast the column to STRING first"
        )
    return known


def duckdb_type(kind: str) -> str | None:
    """Return the one DuckDB type that holds a simple BigQuery type; None for nested ones."""
    return _DUCKDB.get(kind)


def is_simple(kind: str) -> bool:
    """Say whether a BigQuery type is neither ARRAY nor STRUCT."""
    return kind in _DUCKDB


def size_expression(column: str, kind: str) -> str:
    """Return SQL for the bytes that BigQuery counts for a column (8 a number, 2 + UTF-8 a text).

    https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#data_type_sizes
    """
    if kind in ("STRING", "BYTES") or not is_simple(kind):
        text = column if kind == "BYTES" else f"encode(CAST({column} AS VARCHAR))"
        return f"CAST(coalesce(sum(2 + octet_length({text})), 0) AS BIGINT)"
    return f"CAST(count({column}) * {_FIXED_BYTES.get(kind, 8)} AS BIGINT)"


def quoted(name: str) -> str:
    """Return a DuckDB identifier."""
    return '"' + name.replace('"', '""') + '"'


def text_literal(text: str) -> str:
    """Return a DuckDB string literal."""
    return "'" + text.replace("'", "''") + "'"


def column_list(names: Sequence[str]) -> str:
    """Return quoted names with commas between them."""
    return ", ".join(quoted(name) for name in names)
