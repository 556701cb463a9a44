"""A dataset: the sides of a split as Parquet and JSONL files, its version and its card.

Knows how sides are written, not how they are chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmops.data.cells import whole
from llmops.data.columns import (
    ANSWER,
    DATASET_VERSION,
    GROUP,
    PROMPT_NAME,
    PROMPT_SHA256,
    QUESTION,
    RENDERED,
    ROW_KEY,
    SIDES,
    SYSTEM,
)
from llmops.data.digests import DIGEST_BYTES
from llmops.data.formats import JsonlWriter, WrittenFile, encode, inner, shape
from llmops.data.groups import Groups
from llmops.data.keys import content_keys, exact_digests
from llmops.data.leakage import Leakage
from llmops.data.limits import Fitted
from llmops.data.parquet import RowWriter, count_rows, read_batches
from llmops.data.settings import SplitSettings
from llmops.data.splits import Draws, Facts, Sides, row_draws, rows_per_side
from llmops.data.texts import Around
from llmops.data.values import first_tag, moments, no_column
from llmops.ports.progress import Progress

GROUP_CHARACTERS = 16


@dataclass(frozen=True)
class Version:
    """A dataset's version: the tag of the config and the sha256 of the data."""

    tag: str
    digest: str

    @property
    def name(self) -> str:
        """The name that people and files use, e.g. ``v1-3f9c21ab``."""
        return f"{self.tag}-{self.digest[:8]}"


@dataclass(frozen=True)
class Terms:
    """Under what terms the data may be used, as the config says."""

    licence: str
    source_terms: str
    acknowledged_terms: tuple[str, ...]


@dataclass(frozen=True)
class Prompted:
    """What the examples' metadata says of the prompt that rendered them."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Plan:
    """All that decides the files of a dataset: its rows' sides and groups, version and formats."""

    groups: Groups
    version: Version
    formats: tuple[str, ...]
    fitted: Fitted

    @property
    def sides(self) -> Sides:
        """The side of each row; ``limits.LEFT_OUT`` for those that the tuner would refuse."""
        return self.fitted.sides


def group_names(examples: Path, groups: Groups) -> list[str]:
    """Return the name of each row's group."""
    keys = [
        key[:GROUP_CHARACTERS]
        for batch in read_batches(examples, [ROW_KEY])
        for key in batch.column(0).to_pylist()
    ]
    return [keys[first] for first in groups.first.tolist()]


def split_facts(examples: Path, groups: Groups, split: SplitSettings) -> Facts:
    """Read what the split's method asks of the rows.

    Raises:
        DataError: If rows lack the moment that ``time`` asks for.
    """
    if split.method == "random":
        return Facts()
    if split.method == "hash":
        return Facts(draws=_draws(examples, split))
    if split.method == "time":
        return Facts(moments=moments(_column(examples, "created_at", "split.method time")))
    strata: list[str] = []
    if split.method == "stratified":
        values = _column(examples, str(split.stratify), f"split.stratify {split.stratify}")
        strata = [first_tag(value) if split.stratify == "tags" else value or "" for value in values]
    return Facts(names=group_names(examples, groups), strata=strata)


def _draws(examples: Path, split: SplitSettings) -> Draws:
    """Draw by the row key, or by the content key of the column that ``split.by`` names."""
    join = split.by[0] if split.by else None
    column = {None: ROW_KEY, "question": QUESTION, "answer": ANSWER}.get(join, str(join))
    if column not in pq.read_schema(examples).names:
        raise no_column(column, f"split.by [{join}]")
    draws = [np.empty(0, np.uint64)]
    for batch in read_batches(examples, [ROW_KEY, column]):
        keys, values = batch.columns
        if join is not None:  # a row without a value stands for itself
            values = pc.coalesce(content_keys(values), keys)
        draws.append(row_draws(split.seed, values))
    return np.concatenate(draws)


def _column(examples: Path, column: str, asked: str) -> list[str | None]:
    if column not in pq.read_schema(examples).names:
        raise no_column(column, asked)
    return [
        value for batch in read_batches(examples, [column]) for value in batch.column(0).to_pylist()
    ]


def prompted(examples: Path) -> Prompted:
    """Read which prompt rendered the examples."""
    metadata = pq.read_schema(examples).metadata
    return Prompted(metadata[PROMPT_NAME].decode(), metadata[PROMPT_SHA256].decode())


def system_text(examples: Path) -> str | None:
    """Return the examples' system text; all of them have the same."""
    first = next(iter(read_batches(examples, [SYSTEM])), None)
    if first is None or not first.num_rows:
        return None
    system: str | None = first.column(0)[0].as_py()
    return system


def data_version(examples: Path, sides: Sides, tag: str) -> Version:
    """Return the version of the data: over what a tuner and a judge see, side by side, in order."""
    read = read_batches(examples, [RENDERED, ANSWER, SYSTEM])
    found = [np.empty((0, DIGEST_BYTES), np.uint8), *(exact_digests(*b.columns) for b in read)]
    return version_of([np.concatenate(found)], [sides], tag)


def version_of(digests: Sequence[npt.NDArray[Any]], sides: Sequence[Sides], tag: str) -> Version:
    """Return the version of the data from what was seen of each row, and its side, part by part."""
    total = sha256()
    for number, side in enumerate(SIDES):
        rows = sum(np.count_nonzero(part == number) for part in sides)
        total.update(f"{side}:{rows}:".encode())
        for found, part in zip(digests, sides, strict=True):
            total.update(found[part == number].tobytes())
    return Version(tag, total.hexdigest())


@dataclass(frozen=True)
class Places:
    """Where a side's rows and its tuners' files go; a batch read at once is of so many bytes."""

    parquet: Mapping[str, Path]
    folder: Path
    batch_bytes: int


def write_sides(
    examples: Path, plan: Plan, to: Places, progress: Progress
) -> tuple[WrittenFile, ...]:
    """Write each side to its Parquet file and, in every format, to the folder.

    A side without rows has an empty Parquet file and no JSONL file.
    """
    to.folder.mkdir(parents=True, exist_ok=True)
    names, total = group_names(examples, plan.groups), count_rows(examples)
    schema = _schema(examples, plan.version)
    with ExitStack() as stack:
        rows = [stack.enter_context(RowWriter(to.parquet[side], schema)) for side in SIDES]
        lines = [
            [stack.enter_context(writer) for writer in _writers(to.folder, plan, number)]
            for number in range(len(SIDES))
        ]
        done = 0
        for table in _with_groups(examples, schema, names, to.batch_bytes):
            chosen = plan.sides[done : done + table.num_rows]
            for number in range(len(SIDES)):
                part = table.filter(pa.array(chosen == number))
                rows[number].write(part)
                _write_lines(part, lines[number])
            done += table.num_rows
            progress(done, total, "writing sides")
    return tuple(writer.written() for side in lines for writer in side)


def _schema(examples: Path, version: Version) -> pa.Schema:
    schema = pq.read_schema(examples)
    kept = {name: schema.metadata[name] for name in (PROMPT_NAME, PROMPT_SHA256)}
    return schema.append(pa.field(GROUP, pa.string())).with_metadata(
        {**kept, DATASET_VERSION: version.name}
    )


def _writers(folder: Path, plan: Plan, number: int) -> Iterator[JsonlWriter]:
    if not (plan.sides == number).any():
        return
    side = SIDES[number]
    for name in plan.formats:
        path = folder / f"{side}-{plan.version.name}.{name}.jsonl"
        yield JsonlWriter(path, name, side)


def _with_groups(
    examples: Path, schema: pa.Schema, names: Sequence[str], batch_bytes: int
) -> Iterator[pa.Table]:
    done = 0
    for batch in read_batches(examples, batch_bytes=batch_bytes):
        groups = pa.array(names[done : done + batch.num_rows], pa.string())
        yield pa.Table.from_arrays([*batch.columns, groups], schema=schema)
        done += batch.num_rows


def _write_lines(rows: pa.Table, writers: Sequence[JsonlWriter]) -> None:
    import polars as pl

    if not writers or not rows.num_rows:
        return
    texts = (whole(rows[name]) for name in (RENDERED, ANSWER))
    users, answers = (inner(encode(pl.Series(pl.from_arrow(text)))) for text in texts)
    system = rows[SYSTEM][0].as_py()  # all rows have the same
    for writer in writers:
        lines = shape(writer.format, system, Around())
        writer.write(list(lines.blocks(users, answers)), rows.num_rows)


def card(
    plan: Plan,
    split: SplitSettings,
    leakage: Leakage,
    terms: Terms,
    prompt: Prompted,
    files: Sequence[WrittenFile],
) -> dict[str, Any]:
    """Return the dataset card: what the data is, how it was split, what may be done with it."""
    return {
        "dataset_version": plan.version.name,
        "version": plan.version.tag,
        "digest": plan.version.digest,
        "prompt": asdict(prompt),
        "rows": rows_per_side(plan.sides),
        "limits": plan.fitted.to_json(),
        "method": split.method,
        "seed": split.seed,
        "by": list(plan.groups.joined_by),
        "fractions": dict(split.fractions()),
        "leakage": leakage.to_json(),
        "groups": len(plan.groups.sizes),
        "largest_group": max(plan.groups.sizes.values(), default=0),
        "licence": terms.licence,
        "source_terms": terms.source_terms,
        "acknowledged_terms": list(terms.acknowledged_terms),
        "files": [asdict(file) for file in files],
    }
