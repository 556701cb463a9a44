"""Answer every row of a file, going on where a run that was ended left off.

Rows are read in order and answered in parts; a part's answers are published whole beside the
target. When all are there, rows and answers are joined into the target, in the source's format and
with the source's columns as they were. Knows no model: it is given a function that answers.

    <target>.parts/job.json         what is being done; another job may not go on with it
    <target>.parts/rows.parquet     the rows, where they come from a query
    <target>.parts/000000.jsonl     the answers of the first part, one JSON object a row
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from llmops.artifacts import digest
from llmops.errors import BackendError, ConfigError, DataError, unknown_name
from llmops.files import disk_errors, file_sha256, publish, write_text
from llmops.ports.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = (".jsonl", ".csv", ".parquet")

FIELDS: Mapping[str, str] = {  # of an answer -> Arrow's name of its type in Parquet
    "response": "string",
    "response_id": "string",
    "response_model": "string",
    "response_blocked": "bool",
    "response_blocked_by": "string",
    "response_finish_reason": "string",
    "response_safety": "string",
    "response_citations": "string",
    "response_grounding": "string",
    "response_trace": "string",
    "response_prompt_tokens": "int64",
    "response_output_tokens": "int64",
    "response_latency_s": "double",
    "response_cost": "double",
    "response_error": "string",
}
READ_ROWS = 1024
Answering = Callable[[Sequence[str]], Sequence[Mapping[str, Any]]]
"""From questions to the fields of their answers, in order."""


@dataclass(frozen=True)
class Job:
    """What is to be done; ``asks`` is everything that decides an answer (plain JSON)."""

    source: Path
    target: Path
    column: str
    part_rows: int
    asks: Mapping[str, Any]
    replace: bool = False

    @property
    def parts(self) -> Path:
        """The folder of what is done so far."""
        return self.target.with_name(f"{self.target.name}.parts")


@dataclass(frozen=True)
class Done:
    """What became of the rows; ``resumed`` were answered by an earlier run."""

    rows: int
    resumed: int
    blocked: int
    failed: int
    output_tokens: int


def check_target(target: Path, *, replace: bool) -> None:
    """Refuse a target that exists or whose format is unknown.

    Raises:
        ConfigError: See above.
    """
    if target.suffix not in FORMATS:
        raise unknown_name("format", target.suffix, FORMATS, where=str(target))
    if target.exists() and not replace:
        raise ConfigError(f"{target} exists", hint="name another file, or give --replace")


def answer_file(job: Job, answering: Answering, progress: Progress) -> Done:
    """Answer every row of ``job.source``, and write ``job.target``.

    Raises:
        ConfigError: If the source has no such column, the target exists, or its parts belong to
            another job.
        DataError: If a row cannot be read.
        BackendError: If every row of a part fails, or the disk refuses; the same call goes on.
    """
    check_target(job.target, replace=job.replace)
    _check_columns(job)
    with disk_errors(job.parts.parent, setting="--out"):
        _begin(job)
        rows = resumed = 0
        for number, questions in enumerate(_parts(job)):
            place = job.parts / f"{number:06}.jsonl"
            if place.exists():
                resumed += len(questions)
            else:
                _answer_part(questions, answering, place)
            rows += len(questions)
            progress(rows, None, "rows answered")
        done = _join(job, rows, resumed)
        shutil.rmtree(job.parts)
    return done


def write_rows(batches: Iterable[pa.RecordBatch], target: Path) -> Path:
    """Keep the rows of a query as ``rows.parquet`` of a job, unless they are kept already.

    Raises:
        DataError: If there is no row.
        BackendError: If the disk or the warehouse refuses.
    """
    import pyarrow.parquet as pq

    parts = target.with_name(f"{target.name}.parts")
    kept = parts / "rows.parquet"
    if kept.exists():
        return kept
    with disk_errors(parts.parent, setting="--out"):
        parts.mkdir(parents=True, exist_ok=True)
        half = parts / ".rows.half"
        writer = None
        for batch in batches:
            if writer is None:
                writer = pq.ParquetWriter(half, batch.schema)
            writer.write_batch(batch)
        if writer is None:
            shutil.rmtree(parts)
            raise DataError("the query gives no row", hint="llmops warehouse query shows its rows")
        writer.close()
        publish(half, kept)
    return kept


# ------------------------------------------------------------------------- parts


def _begin(job: Job) -> None:
    job.parts.mkdir(parents=True, exist_ok=True)
    told = {
        "source_sha256": file_sha256(job.source),
        "column": job.column,
        "part_rows": job.part_rows,
        "asks": dict(job.asks),
    }
    place = job.parts / "job.json"
    if place.exists() and digest(json.loads(place.read_text("utf-8"))) != digest(told):
        raise ConfigError(
            f"{job.parts} holds answers of another job: other rows, model or settings",
            hint=f"remove that folder to begin anew, or name another --out than {job.target}",
        )
    write_text(place, json.dumps(told, indent=1) + "\n")


def _parts(job: Job) -> Iterator[list[str | None]]:
    rows = (row.get(job.column) for row in _rows(job.source))
    while part := list(islice(rows, job.part_rows)):
        yield [one if isinstance(one, str) and one.strip() else None for one in part]


def _answer_part(questions: Sequence[str | None], answering: Answering, place: Path) -> None:
    asked = [one for one in questions if one is not None]
    found = iter(answering(asked) if asked else [])
    answers = [_no_question() if one is None else next(found) for one in questions]
    errors = [
        one["response_error"]
        for one, question in zip(answers, questions, strict=True)
        if question is not None
    ]
    if asked and all(errors):
        raise BackendError(
            f"every one of {len(asked)} requests failed: {errors[0]}",
            hint="the same command goes on from the answers already there",
            retryable=True,
        )
    text = "".join(orjson.dumps(one).decode() + "\n" for one in answers)
    write_text(place, text)


def _no_question() -> dict[str, Any]:
    fields: dict[str, Any] = dict.fromkeys(FIELDS)
    return fields | {
        "response_blocked": False,
        "response_finish_reason": "error",
        "response_error": "the row has no question",
    }


# -------------------------------------------------------------------------- rows


def _check_columns(job: Job) -> None:
    names = _columns(job.source)
    if job.column not in names:
        raise unknown_name("column", job.column, names, where=str(job.source))
    if taken := sorted(set(names) & set(FIELDS)):
        raise ConfigError(
            f"{job.source} has the columns {', '.join(taken)}, which the answers would take",
            hint="rename them in the source",
        )


def _columns(source: Path) -> list[str]:
    if source.suffix == ".parquet":
        import pyarrow.parquet as pq

        with _readable(source), pq.ParquetFile(source) as file:
            if file.metadata.num_rows:
                return list(file.schema_arrow.names)
    else:
        for row in _rows(source):
            return list(row)
    raise DataError(f"{source} has no row", hint="give a file with rows")


def _rows(source: Path) -> Iterator[Mapping[str, Any]]:
    with _readable(source):
        if source.suffix == ".parquet":
            for batch in _parquet(source):
                yield from batch.to_pylist()
        elif source.suffix == ".csv":
            yield from _csv_rows(source)
        elif source.suffix == ".jsonl":
            yield from _json_rows(source)
        else:
            raise unknown_name("format", source.suffix, FORMATS, where=str(source))


def _parquet(source: Path) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(source) as file:
        yield from file.iter_batches(READ_ROWS)


def _csv_rows(source: Path) -> Iterator[Mapping[str, Any]]:
    with source.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        for number, row in enumerate(reader, start=2):
            if None in row or None in row.values():
                raise DataError(
                    f"{source}, row {number}: {len(reader.fieldnames or ())} columns are named,"
                    " this row has another number of them",
                    hint="quote cells that hold commas or line ends",
                )
            yield row


def _json_rows(source: Path) -> Iterator[Mapping[str, Any]]:
    with source.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as exc:
                raise DataError(f"{source}, line {number}: no JSON ({exc})") from exc
            if not isinstance(row, dict):
                raise DataError(f"{source}, line {number}: no JSON object")
            yield row


@contextmanager
def _readable(source: Path) -> Iterator[None]:
    """Turn what reading a file may raise into one error that names the file."""
    import pyarrow as pa

    if source.is_dir():
        raise ConfigError(f"{source} cannot be read (it is a folder)")
    try:
        yield
    except (FileNotFoundError, PermissionError) as exc:
        raise ConfigError(f"{source} cannot be read ({exc.strerror})") from exc
    except (UnicodeDecodeError, csv.Error, pa.ArrowInvalid) as exc:
        raise DataError(f"{source} cannot be read: {exc}") from exc


# ------------------------------------------------------------------------ target


def _answers(job: Job) -> Iterator[dict[str, Any]]:
    for place in sorted(job.parts.glob("[0-9]*.jsonl")):
        with place.open("rb") as file:
            yield from (orjson.loads(line) for line in file)


def _join(job: Job, rows: int, resumed: int) -> Done:
    counts = {"blocked": 0, "failed": 0, "output_tokens": 0}

    def counted() -> Iterator[dict[str, Any]]:
        for one in _answers(job):
            counts["blocked"] += bool(one["response_blocked"])
            counts["failed"] += one["response_error"] is not None
            counts["output_tokens"] += one["response_output_tokens"] or 0
            yield one

    half = job.parts / f"joined{job.target.suffix}"
    _WRITERS[job.target.suffix](job.source, counted(), half)
    publish(half, job.target)
    return Done(rows=rows, resumed=resumed, **counts)


def _write_jsonl(source: Path, answers: Iterator[dict[str, Any]], target: Path) -> None:
    with target.open("wb") as file:
        for row, one in zip(_rows(source), answers, strict=True):
            file.write(orjson.dumps({**row, **one}, default=_plain) + b"\n")


def _write_csv(source: Path, answers: Iterator[dict[str, Any]], target: Path) -> None:
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*_columns(source), *FIELDS], extrasaction="ignore")
        writer.writeheader()
        for row, one in zip(_rows(source), answers, strict=True):
            writer.writerow({**_flat(row), **_flat(one)})


def _write_parquet(source: Path, answers: Iterator[dict[str, Any]], target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    added = [pa.field(name, pa.type_for_alias(kind)) for name, kind in FIELDS.items()]
    writer = None
    try:
        for batch in _as_batches(source):
            mine = [_flat(one) for one in islice(answers, batch.num_rows)]
            columns = [pa.array([one[f.name] for one in mine], f.type) for f in added]
            schema = pa.schema([*batch.schema, *added])
            if writer is None:
                writer = pq.ParquetWriter(target, schema)
            writer.write_batch(pa.record_batch([*batch.columns, *columns], schema=schema))
    finally:
        if writer is not None:
            writer.close()


def _as_batches(source: Path) -> Iterator[pa.RecordBatch]:
    """Yield the source as Arrow; rows of CSV and JSON Lines become texts, null where absent."""
    import pyarrow as pa

    if source.suffix == ".parquet":
        yield from _parquet(source)
        return
    names, rows = _columns(source), _rows(source)
    while part := list(islice(rows, READ_ROWS)):
        columns = [pa.array([_text(row.get(name)) for row in part], pa.string()) for name in names]
        yield pa.record_batch(columns, names=names)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a cell of a table can hold: JSON of what has parts, hex of bytes."""
    return {name: _cell(value) for name, value in row.items()}


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return orjson.dumps(value, default=_plain).decode()
    return value.hex() if isinstance(value, bytes) else value


def _plain(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


_WRITERS: Mapping[str, Callable[[Path, Iterator[dict[str, Any]], Path], None]] = {
    ".jsonl": _write_jsonl,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
