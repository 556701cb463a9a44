"""The responses file: its columns, its metadata, and what a response becomes in it.

The contract between the step that predicts and those that measure, judge and report. Rows are
ordered by contestant (config order), then by row key. Knows no model and no metric.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.files import publish
from llmops.ports.model import Response, TokenScore

if TYPE_CHECKING:
    import pyarrow as pa

MODELS = b"llmops.models"  # JSON: contestant -> model reference
PROMPTS = b"llmops.prompts"  # JSON: contestant -> digest of its prompt
SCORER = b"llmops.scorer"  # JSON: kind, description, is_safety_evaluation, categories
TRACE = "trace"  # the column that answers of a chain have besides
TEST_ROWS_AVAILABLE = b"llmops.test_rows_available"  # rows of the test split, answered or not


def schema(metadata: Mapping[bytes, bytes] | None = None, *, traced: bool = False) -> pa.Schema:
    """Return the Arrow schema; ``traced`` adds what the steps of a chain did, as JSON.

    ``safety`` is null where a response could not be scored, ``valid`` where the prompt takes any
    answer, ``latency_s`` where the provider does not tell it.
    """
    import pyarrow as pa

    score = pa.struct([("category", pa.string()), ("score", pa.float64())])
    citation = pa.struct(
        [
            ("start", pa.int64()),
            ("end", pa.int64()),
            ("uri", pa.string()),
            ("title", pa.string()),
            ("licence", pa.string()),
        ]
    )
    fields = [
        ("row_key", pa.string()),
        ("contestant", pa.string()),
        ("group", pa.string()),
        ("prompt", pa.string()),
        ("reference", pa.string()),
        ("text", pa.string()),
        ("finish_reason", pa.string()),
        ("truncated", pa.bool_()),
        ("blocked", pa.bool_()),
        ("safety", pa.list_(score)),
        ("citations", pa.list_(citation)),
        ("prompt_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("nll", pa.float64()),
        ("nll_tokens", pa.int64()),
        ("error", pa.string()),
        ("latency_s", pa.float64()),
        ("valid", pa.bool_()),
        *([(TRACE, pa.string())] if traced else []),
    ]
    return pa.schema(fields, metadata=dict(metadata) if metadata else None)


def fields(
    response: Response, scores: Mapping[str, float] | None, likelihood: TokenScore | None
) -> dict[str, Any]:
    """Return the columns of a response; the caller adds which row and contestant it belongs to.

    A failed request has no answer, so nothing of it counts as scored, whatever its text.
    """
    return {
        "text": printable(response.text),
        "finish_reason": response.finish_reason,
        "truncated": response.finish_reason == "length",
        "blocked": response.blocked,
        "safety": None if response.finish_reason == "error" else _safety(response, scores),
        "citations": [asdict(citation) for citation in response.citations],
        "prompt_tokens": response.prompt_tokens,
        "output_tokens": response.output_tokens,
        "nll": likelihood.nll if likelihood else None,
        "nll_tokens": likelihood.tokens if likelihood else None,
        "error": None if response.error is None else printable(response.error),
        "latency_s": response.latency_s,
    }


def trace(response: Response) -> dict[str, str]:
    """Return the column that a chain's answer has besides: a JSON list, one object a step."""
    return {TRACE: printable(json.dumps(list(response.trace), ensure_ascii=False))}


@dataclass(frozen=True)
class Written:
    """What a responses file holds: rows, failed requests among them, blocked answers, tokens."""

    rows: int
    failed: int
    blocked: int
    input_tokens: int
    output_tokens: int


def publish_part(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write some rows under their name by rename: under that name they are always whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    temporary = path.with_suffix(".tmp")
    wanted = schema(traced=bool(rows) and TRACE in rows[0])
    pq.write_table(pa.Table.from_pylist(rows, schema=wanted), temporary)
    publish(temporary, path)


def is_part(path: Path, contestant: str, keys: Sequence[str]) -> bool:
    """Say whether ``path`` holds exactly this contestant's answers to these rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_table(path, columns=["row_key", "contestant"]).to_pylist()
    except (FileNotFoundError, pa.ArrowInvalid):
        return False
    return bool(found == [{"row_key": key, "contestant": contestant} for key in keys])


def join(parts: Sequence[Path], target: Path, metadata: Mapping[bytes, bytes]) -> Written:
    """Write the parts one after the other as one responses file, one part in memory at a time."""
    import pyarrow.parquet as pq

    from llmops.data.parquet import RowWriter

    wanted = schema(metadata, traced=bool(parts) and TRACE in pq.read_schema(parts[0]).names)
    failed = blocked = read = made = 0
    with RowWriter(target, wanted) as writer:
        for path in parts:
            table = pq.read_table(path).cast(wanted)
            failed += table.num_rows - table["error"].null_count
            blocked += sum(table["blocked"].to_pylist())
            read += sum(table["prompt_tokens"].to_pylist())
            made += sum(table["output_tokens"].to_pylist())
            writer.write(table)
    return Written(writer.rows, failed, blocked, read, made)


def printable(text: str) -> str:
    """Return ``text`` with a question mark for each lone surrogate, which no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _safety(response: Response, scores: Mapping[str, float] | None) -> list[Any] | None:
    """Return the provider's ratings and the scorer's, which win where both know a category."""
    if scores is None:
        return None
    merged = {**(response.safety or {}), **scores}
    return [{"category": name, "score": merged[name]} for name in sorted(merged)]
