"""Types between BigQuery's client and ours: columns, Arrow schemas, query parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llmops.errors import ConfigError
from llmops.ports.warehouse import Column, Parameter

if TYPE_CHECKING:
    import pyarrow as pa
    from google.cloud.bigquery import SchemaField

_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "RECORD": "STRUCT"}


def columns_of(schema: Iterable[SchemaField]) -> tuple[Column, ...]:
    """Return the columns by the names of types that BigQuery's SQL has."""
    return tuple(Column(field.name, _type(field)) for field in schema)


def _type(field: SchemaField) -> str:
    name = _NAMES.get(field.field_type, field.field_type)
    if name == "STRUCT":
        inner = ", ".join(f"{part.name} {_type(part)}" for part in field.fields)
        name = f"STRUCT<{inner}>"
    return f"ARRAY<{name}>" if field.mode == "REPEATED" else name


def schema_of(schema: Iterable[SchemaField]) -> pa.Schema:
    """Return the Arrow schema that DuckDB gives for the same columns: every one may be null."""
    import pyarrow as pa

    return pa.schema([pa.field(field.name, _arrow(field)) for field in schema])


def _arrow(field: SchemaField) -> pa.DataType:
    import pyarrow as pa

    simple = {
        "BOOL": pa.bool_(),
        "INT64": pa.int64(),
        "FLOAT64": pa.float64(),
        "NUMERIC": pa.decimal128(38, 9),
        "BIGNUMERIC": pa.decimal256(76, 38),
        "BYTES": pa.binary(),
        "DATE": pa.date32(),
        "TIME": pa.time64("us"),
        "DATETIME": pa.timestamp("us"),
        "TIMESTAMP": pa.timestamp("us", tz="UTC"),
    }
    name = _NAMES.get(field.field_type, field.field_type)
    if name == "STRUCT":
        kind = pa.struct([pa.field(part.name, _arrow(part)) for part in field.fields])
    else:
        kind = simple.get(name, pa.string())
    return pa.list_(kind) if field.mode == "REPEATED" else kind


def query_parameter(name: str, value: Parameter) -> Any:
    """Return a value as a named parameter of a query job.

    Raises:
        ConfigError: If a list is empty or mixes types: it has no type then.
    """
    from google.cloud import bigquery

    if isinstance(value, list | tuple):
        kinds = {_kind(item) for item in value}
        if len(kinds) != 1:
            raise ConfigError(
                f"dataset.parameters.{name}: a list needs values of one type",
                hint=f"it holds {', '.join(sorted(kinds)) or 'nothing'}",
            )
        return bigquery.ArrayQueryParameter(name, kinds.pop(), list(value))
    single: Any = value
    return bigquery.ScalarQueryParameter(name, _kind(single), single)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "BOOL"
    if isinstance(value, int):
        return "INT64"
    return "FLOAT64" if isinstance(value, float) else "STRING"
