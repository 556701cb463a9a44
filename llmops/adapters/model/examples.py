"""Read tuning examples from Parquet and encode those that a run will use.

Reads in batches and keeps only the rows of the run, so a data set of any size will do. Knows the
example columns and the tokenizer's encoder; nothing of training.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from llmops.adapters.model.batching import ChatEncoder, Encoded
from llmops.errors import DataError
from llmops.ports.model import Chat, Message

COLUMNS = ("input_text_instruct", "system", "output_text")
READ_ROWS = 4096


@dataclass(frozen=True)
class ExampleSet:
    """Encoded examples in row order, and how many were cut or had no room for an answer."""

    examples: tuple[Encoded, ...]
    rows: int
    truncated: int
    without_answer: int


def row_count(path: Path) -> int:
    """Return the number of rows of a Parquet file."""
    import pyarrow.parquet as pq

    return int(pq.ParquetFile(path).metadata.num_rows)


def choose_rows(rows: int, wanted: int | None, *, seed: int) -> list[int]:
    """Return the ascending positions of ``wanted`` rows drawn by ``seed``, or of all."""
    if wanted is None or wanted >= rows:
        return list(range(rows))
    return sorted(random.Random(f"{seed}:rows").sample(range(rows), wanted))


def read_examples(
    path: Path, positions: list[int], encoder: ChatEncoder, *, system: str | None, max_tokens: int
) -> ExampleSet:
    """Encode the rows at ``positions``; a row whose prompt alone fills ``max_tokens`` is left out.

    A row's own system text comes before ``system``.

    Raises:
        DataError: If the file lacks a column or no row is left.
    """
    encoded = [
        encoder.example(_chat(row, system), str(row["output_text"]), max_tokens=max_tokens)
        for row in _rows(path, positions)
    ]
    usable = tuple(example for example in encoded if example.answer)
    if not usable:
        raise DataError(
            f"none of {len(encoded)} rows leaves room for an answer in {max_tokens} tokens",
            hint="raise model.tuner.max_tokens, or shorten the questions or the instruction",
        )
    return ExampleSet(
        examples=usable,
        rows=len(encoded),
        truncated=sum(example.truncated for example in usable),
        without_answer=len(encoded) - len(usable),
    )


def _chat(row: Mapping[str, str | None], system: str | None) -> Chat:
    text = row.get("system") or system
    user = Message("user", str(row["input_text_instruct"]))
    return (Message("system", text), user) if text else (user,)


def _rows(path: Path, positions: list[int]) -> Iterator[Mapping[str, str | None]]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    present = set(file.schema_arrow.names)
    missing = [name for name in COLUMNS if name not in present and name != "system"]
    if missing:
        raise DataError(f"{path.name} has no column {', '.join(missing)}")
    columns = [name for name in COLUMNS if name in present]
    start, wanted = 0, iter([*positions, None])
    target = next(wanted)
    for batch in file.iter_batches(READ_ROWS, columns=columns):
        here = []
        while target is not None and target < start + batch.num_rows:
            here.append(target - start)
            target = next(wanted)
        yield from batch.take(here).to_pylist() if here else ()
        start += batch.num_rows
        if target is None:
            return
