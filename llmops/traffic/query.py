"""SQL over the log: the views ``answers``, ``feedback`` and ``reviewed``, in DuckDB.

Reads whole lines only, of segments that are being written too. The query can read the log and
nothing else of the machine, and writes nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.errors import ConfigError
from llmops.traffic.segments import segments

if TYPE_CHECKING:
    import duckdb

ANSWERS: Mapping[str, str] = {
    "id": "VARCHAR",
    "time": "TIMESTAMP",
    "route": "VARCHAR",
    "client": "VARCHAR",
    "session": "VARCHAR",
    "model": "VARCHAR",
    "version": "BIGINT",
    "model_digest": "VARCHAR",
    "prompt_sha256": "VARCHAR",
    "question": "VARCHAR",
    "question_digest": "VARCHAR",
    "question_characters": "BIGINT",
    "answer": "VARCHAR",
    "answer_digest": "VARCHAR",
    "answer_characters": "BIGINT",
    "finish_reason": "VARCHAR",
    "blocked": "BOOLEAN",
    "action": "VARCHAR",
    "blocked_by": "VARCHAR[]",
    "scores": "MAP(VARCHAR, DOUBLE)",
    "latency_s": "DOUBLE",
    "prompt_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "cost": "DOUBLE",
    "currency": "VARCHAR",
    "error": "VARCHAR",
}
FEEDBACK: Mapping[str, str] = {
    "answer_id": "VARCHAR",
    "time": "TIMESTAMP",
    "client": "VARCHAR",
    "rating": "VARCHAR",
    "correction": "VARCHAR",
    "correction_digest": "VARCHAR",
    "correction_characters": "BIGINT",
    "comment": "VARCHAR",
    "comment_digest": "VARCHAR",
    "comment_characters": "BIGINT",
}
_REVIEWED = """
CREATE VIEW reviewed AS
SELECT answers.*, said.rating, said.correction, said.comment, said.client AS reviewer,
       said.time AS reviewed_at
FROM answers JOIN (
  SELECT * FROM feedback
  QUALIFY row_number() OVER (PARTITION BY answer_id ORDER BY time DESC) = 1
) AS said ON said.answer_id = answers.id
"""


@contextmanager
def opened(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the log for reading: three views, as the log is at this moment.

    ``reviewed`` has the newest feedback on each answer beside the answer.
    """
    import duckdb

    with tempfile.TemporaryDirectory(prefix="llmops-logs-") as copies:
        files = [str(path) for path in _whole_files(folder, Path(copies))]
        connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
        try:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"SET allowed_directories = [{_texts([str(folder), copies])}]")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            for name, kind, columns in (
                ("answers", "answer", ANSWERS),
                ("feedback", "feedback", FEEDBACK),
            ):
                connection.execute(_view(name, kind, columns, files))
            connection.execute(_REVIEWED)
            yield connection
        finally:
            connection.close()


def rows(folder: Path, sql: str) -> tuple[list[str], Iterator[dict[str, Any]]]:
    """Return the column names of one SELECT over the log, and its rows.

    Raises:
        ConfigError: If it is not one SELECT, or DuckDB refuses it.
    """
    import duckdb

    with opened(folder) as connection:
        try:
            statements = connection.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise ConfigError("logs query takes one SELECT", hint=EXAMPLE)
            found = connection.execute(statements[0])
            names = [column[0] for column in found.description or ()]
            values = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        except duckdb.Error as exc:
            raise ConfigError(
                f"logs query: {exc}", hint=f"tables: answers, feedback, reviewed; {EXAMPLE}"
            ) from exc
    return names, iter(values)


EXAMPLE = "for example SELECT model, count(*), avg(latency_s) FROM answers GROUP BY model"


def _view(name: str, kind: str, columns: Mapping[str, str], files: list[str]) -> str:
    if not files:
        nothing = ", ".join(f"NULL::{type_} AS {column}" for column, type_ in columns.items())
        return f"CREATE VIEW {name} AS SELECT {nothing} WHERE false"
    typed = ", ".join(
        f"{column}: '{type_}'" for column, type_ in ({"kind": "VARCHAR"} | dict(columns)).items()
    )
    wanted = ", ".join(columns)
    return (
        f"CREATE VIEW {name} AS SELECT {wanted} FROM read_json([{_texts(files)}],"
        f" format = 'newline_delimited', columns = {{{typed}}}, maximum_object_size = 67108864)"
        f" WHERE kind = '{kind}'"
    )


def _texts(values: list[str]) -> str:
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)


def _whole_files(folder: Path, copies: Path) -> Iterator[Path]:
    """Yield files of whole lines: sealed segments as they are, the others' whole part copied."""
    for segment in segments(folder):
        if not segment.whole_bytes:
            continue
        size = segment.path.stat().st_size
        if not segment.is_written_to and size == segment.whole_bytes:
            yield segment.path
            continue
        copy = copies / segment.path.name
        with segment.path.open("rb") as source, copy.open("wb") as target:
            left = segment.whole_bytes
            while left and (chunk := source.read(min(left, 1 << 20))):
                target.write(chunk)
                left -= len(chunk)
        yield copy
