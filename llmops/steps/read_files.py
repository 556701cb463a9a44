"""Read one's own JSON Lines into Parquet, in bounded memory: a dataset without SQL.

Takes the place of ingest. Rules for the rows are the validate step's part.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmops.errors import ConfigError, DataError
from llmops.plan.kinds import Adapters, Outcome, Port, Source, StepKind, Work, leaf

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Settings:
    """``files`` are paths, relative to where the command runs or absolute."""

    files: tuple[str, ...] = leaf("dataset.files")
    max_rows: int | None = leaf("dataset.max_rows")


def source(settings: Settings, adapters: Adapters) -> Source:
    """Return the files' digests: a changed file is read again.

    Raises:
        ConfigError: If a file is missing, or none is named.
    """
    return Source({"files": _digests(settings.files)})


def run(work: Work[Settings]) -> Outcome:
    """Write ``rows`` (Parquet) and ``statistics`` (JSON).

    Raises:
        ConfigError: If a file is missing, or none is named.
        DataError: If a line is no row, or there are no rows.
    """
    from llmops.data.own_files import COLUMNS, read_files
    from llmops.data.parquet import RowWriter, string_schema

    settings = work.settings
    digests = _digests(settings.files)
    with RowWriter(work.outputs["rows"], string_schema(COLUMNS)) as writer:
        for table in _first(read_files([Path(name) for name in settings.files]), settings.max_rows):
            writer.write(table)
            work.progress(writer.rows, settings.max_rows, "rows read")
    if writer.rows == 0:
        raise DataError("the files hold no rows", hint="look at dataset.files")
    facts = {"source": f"files://{', '.join(digests)}", "rows": writer.rows, "files": digests}
    text = json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False)
    work.outputs["statistics"].write_text(text, "utf-8")
    return Outcome(rows={"rows": writer.rows}, facts=facts)


def _first(batches: Iterator[pa.RecordBatch], rows: int | None) -> Iterator[pa.Table]:
    import pyarrow as pa

    left = rows
    for batch in batches:
        part = batch if left is None else batch.slice(0, left)
        left = None if left is None else left - part.num_rows
        yield pa.Table.from_batches([part])
        if left == 0:
            return


def _digests(files: Sequence[str]) -> dict[str, str]:
    from llmops.files import file_sha256, refusal

    if not files:
        raise ConfigError("dataset.files names no file", hint="dataset.files=[rows.jsonl]")
    try:
        return {Path(name).name: file_sha256(Path(name)) for name in files}
    except OSError as exc:
        raise refusal(exc) or ConfigError(
            f"dataset.files: {exc.filename} cannot be read ({exc.strerror})",
            hint="name files that exist",
        ) from exc


KIND = StepKind(
    name="read_files",
    revision=1,
    run=run,
    settings=Settings,
    gives=(Port("rows", "parquet"), Port("statistics", "json")),
    code=("llmops.data.own_files", "llmops.data.parquet", "llmops.data.columns"),
    summary="reads your own JSON Lines: pairs or chats",
    source=source,
)
