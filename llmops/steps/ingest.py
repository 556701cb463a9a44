"""Read the rows of one SELECT from the warehouse into Parquet, in bounded memory.

The rows are as the warehouse has them; rules for them are the validate step's part. Knows no
warehouse by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.data.attribution import missing_for
from llmops.errors import BackendError, ConfigError, DataError, nearest
from llmops.plan.kinds import Adapters, Outcome, Port, Source, StepKind, Work, leaf
from llmops.ports.progress import Progress
from llmops.ports.warehouse import Origin, Parameter, QueryCheck, QueryResult, Warehouse

if TYPE_CHECKING:
    import pyarrow as pa

# Rows are counted out in small equal portions, and a row group ends only between two of them:
# the file's bytes then depend on the rows alone, not on how the warehouse batched them.
PORTION_ROWS = 256
GROUP_ROWS = 8192
GROUP_BYTES = 64 * 1024 * 1024
ROW_ORDER = (
    "the query's ORDER BY, ties by a sha256 over the row's content; "
    "without an ORDER BY by that hash alone"
)


@dataclass(frozen=True)
class Settings:
    """``columns`` maps a role (question, answer, author, ...) to a column of the query, or null."""

    query: str = leaf("dataset.query")
    parameters: Mapping[str, Parameter] = leaf("dataset.parameters")
    columns: Mapping[str, str | None] = leaf("dataset.columns")
    max_rows: int | None = leaf("dataset.max_rows")
    max_bytes: int | None = leaf("dataset.max_bytes")


def source(settings: Settings, adapters: Adapters) -> Source:
    """Return the versions of the tables that the query reads, and what the user should know.

    Raises:
        ConfigError: If the query is refused, or lacks a column that ``dataset.columns`` names.
    """
    check = look(settings, adapters.warehouse())
    if check.unknown:
        return Source({}, (check.unknown, *missing_for(settings.columns)), known=False)
    require_columns(settings.columns, check)
    notes = (*check.notes, *missing_for(settings.columns))
    return Source({"tables": dict(sorted(check.tables.items()))}, notes, check.bytes)


def run(work: Work[Settings]) -> Outcome:
    """Write ``rows`` (Parquet) and ``statistics`` (JSON).

    Raises:
        ConfigError: If the query is refused, or lacks a column.
        Refused: If the query would scan more than ``max_bytes``.
        DataError: If the query returns no rows.
    """
    settings, warehouse = work.settings, work.adapters.warehouse()
    check = look(settings, warehouse)
    require_columns(settings.columns, check)
    result = ask(settings, warehouse, work)
    _write(result.batches(), work.outputs["rows"], work.progress, settings.max_rows)
    statistics = result.statistics()
    if statistics.rows == 0:
        raise DataError(
            "the query returned no rows",
            hint="look at the tables with `llmops warehouse tables`; loosen the WHERE",
        )
    facts = asdict(statistics) | {
        "tables": dict(sorted(statistics.tables.items())),
        "columns": [asdict(column) for column in check.columns],
        "notes": [*check.notes, *missing_for(settings.columns)],
        "order": ROW_ORDER,
    }
    _write_json(facts, work.outputs["statistics"])
    return Outcome(rows={"rows": statistics.rows}, facts=facts)


def look(settings: Settings, warehouse: Warehouse) -> QueryCheck:
    """Say what the query would read and give."""
    return warehouse.check(
        settings.query, parameters=settings.parameters, max_rows=settings.max_rows
    )


def ask(settings: Settings, warehouse: Warehouse, work: Work[Any]) -> QueryResult:
    """Start the query on behalf of the step that ``work`` is of."""
    return warehouse.query(
        settings.query,
        parameters=settings.parameters,
        max_bytes=settings.max_bytes,
        max_rows=settings.max_rows,
        origin=Origin(work.experiment, work.run_id, work.key),
    )


def require_columns(columns: Mapping[str, str | None], check: QueryCheck) -> None:
    """Refuse a role whose column the query does not return.

    Raises:
        ConfigError: With the nearest name of a column that the query returns.
    """
    returned = [column.name for column in check.columns]
    for role, name in columns.items():
        if name is not None and name not in returned:
            raise ConfigError(
                f"dataset.columns.{role}: the query returns no column '{name}'",
                hint=f"{nearest(name, returned)} it returns: {', '.join(returned)}".strip(),
            )


def _write(
    batches: Iterator[pa.RecordBatch], path: Path, progress: Progress, expected: int | None
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    writer, done = None, 0
    try:
        for group in _groups(_portions(batches)):
            table = pa.Table.from_batches(group)
            writer = writer or parquet.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table, row_group_size=table.num_rows)
            done += table.num_rows
            progress(done, expected, "rows read")
    except OSError as exc:
        raise BackendError(f"{path} cannot be written: {exc}", hint="free disk space") from exc
    finally:
        if writer is not None:
            writer.close()


def _portions(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the rows in portions of ``PORTION_ROWS``; the last may be smaller."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    for batch in batches:
        while batch.num_rows:
            room = PORTION_ROWS - sum(piece.num_rows for piece in held)
            held.append(batch.slice(0, room))
            batch = batch.slice(min(room, batch.num_rows))
            if sum(piece.num_rows for piece in held) == PORTION_ROWS:
                yield pa.concat_batches(held)
                held = []
    if held:
        yield pa.concat_batches(held)


def _groups(portions: Iterator[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Collect portions into row groups of about ``GROUP_ROWS`` rows or ``GROUP_BYTES`` bytes."""
    held: list[pa.RecordBatch] = []
    for portion in portions:
        held.append(portion)
        rows = sum(piece.num_rows for piece in held)
        if rows >= GROUP_ROWS or sum(piece.nbytes for piece in held) >= GROUP_BYTES:
            yield held
            held = []
    if held:
        yield held


def _write_json(value: Mapping[str, Any], path: Path) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False), "utf-8")


KIND = StepKind(
    name="ingest",
    revision=1,
    run=run,
    settings=Settings,
    gives=(Port("rows", "parquet"), Port("statistics", "json")),
    uses=("warehouse",),
    code=("llmops.data.attribution",),
    summary="read the rows of one SELECT from the warehouse",
    source=source,
)
