"""Rows between the two halves of one pass: encoded as they will be written, spilt by their key.

``pack`` makes a batch's good rows ready for their buckets; a ``SpiltBucket`` puts one bucket's
rows in order and gives back what is asked of them. Knows no side of a split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmops.data.cells import Sign, cells, signs, whole
from llmops.data.columns import ANSWER, OPTIONAL, QUESTION, RENDERED, ROW_KEY
from llmops.data.digests import DIGEST_BYTES, Digests, row_digests
from llmops.data.examples import rendered
from llmops.data.formats import decode, decode_whole, encode_all, inner_at
from llmops.data.keys import content_keys, exact_digests, length_prefix
from llmops.data.mapping import Mapped
from llmops.data.settings import Columns, SplitSettings
from llmops.data.splits import row_draws
from llmops.data.texts import ROLE_TAGS, Around, escape_role_tags
from llmops.data.values import no_column

if TYPE_CHECKING:
    import polars as pl

DIGEST, DRAW = "digest", "draw"

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Layout:
    """What is kept of a row: ``around`` where the template only puts something around a question.

    Such a row keeps its question as a prompt shows it, with role tags escaped. Elsewhere ``render``
    is called for every row, and the row keeps its question beside the rendered text.
    """

    columns: Columns
    render: Callable[[str], str]
    around: Around | None
    system: str | None
    split: SplitSettings

    @property
    def texts(self) -> tuple[str, ...]:
        """The encoded texts of a row."""
        return (QUESTION, ANSWER) if self.around else (QUESTION, ANSWER, RENDERED)

    @property
    def user(self) -> str:
        """Which of the texts a line has as the user's, with ``around`` around it."""
        return QUESTION if self.around else RENDERED

    @property
    def optional(self) -> tuple[str, ...]:
        """The optional columns that a row has."""
        return tuple(name for name in self.columns.by_row_column() if name in OPTIONAL)

    def schema(self) -> pa.Schema:
        """Return the schema of spilt rows."""
        fields = [(ROW_KEY, pa.binary(DIGEST_BYTES)), (DIGEST, pa.binary(DIGEST_BYTES))]
        fields += [(name, pa.large_string()) for name in self.texts]
        for name in (QUESTION, ANSWER):
            fields += [(_code(name), pa.uint64()), (_characters(name), pa.int32())]
        if self.split.method == "hash":
            fields.append((DRAW, pa.uint64()))
        return pa.schema([*fields, *((name, pa.string()) for name in self.optional)])


def _code(name: str) -> str:
    return f"{name}_code"


def _characters(name: str) -> str:
    return f"{name}_characters"


@dataclass(frozen=True)
class Part:
    """Good rows in the order in which they came; ``numbers`` have a row each."""

    texts: Mapping[str, pl.Series]
    numbers: Mapping[str, npt.NDArray[Any]]
    optional: pa.Table


@dataclass(frozen=True)
class Packed:
    """Rows in the order of their keys' first bytes, and the first byte of each key."""

    rows: pa.Table
    first_bytes: npt.NDArray[np.uint8]


def pack(mapped: Mapped, good: npt.NDArray[np.bool_], how: Layout) -> Part:
    """Encode the good rows of a batch."""
    import polars as pl

    rows = np.flatnonzero(good)
    # Polars gathers views: the texts themselves are copied once, by the encoder.
    texts = {
        name: pl.Series(pl.from_arrow(whole(mapped.rows[name]))).gather(rows)
        for name in (QUESTION, ANSWER)
    }
    ends = {name: mapped.signs[name].holding(Sign.LINE_END)[rows] for name in texts}
    if how.around is None:
        texts[RENDERED] = pl.Series(map(how.render, texts[QUESTION]), dtype=pl.String)
        ends[RENDERED] = signs(cells(texts[RENDERED].to_arrow())).holding(Sign.LINE_END)
        digests = _seen(texts[RENDERED].to_arrow(), texts[ANSWER].to_arrow(), how)
    else:
        texts[QUESTION] = _shown(texts[QUESTION])
        digests = _seen_around(texts, how.around, how.system)
    numbers: dict[str, npt.NDArray[Any]] = {
        ROW_KEY: mapped.digests[rows],
        DIGEST: digests,
    }
    for name in (QUESTION, ANSWER):
        numbers[_code(name)] = mapped.codes[name][rows]
        numbers[_characters(name)] = mapped.characters[name][rows]
    if how.split.method == "hash":
        numbers[DRAW] = row_draws(how.split.seed, _drawn_by(mapped.rows, pa.array(rows), how))
    optional = mapped.rows.select(how.optional).take(pa.array(rows))
    return Part(encode_all(texts, ends), numbers, optional)


def _shown(questions: pl.Series) -> pl.Series:
    """Return questions as a prompt shows them: with their role tags escaped."""
    tagged = questions.str.contains(ROLE_TAGS).arg_true()
    if tagged.is_empty():
        return questions
    escaped = [escape_role_tags(question) for question in questions.gather(tagged)]
    return questions.scatter(tagged, escaped)


def gathered(parts: Sequence[Part], how: Layout) -> Packed:
    """Put the rows of some parts together, in the order of their keys' first bytes."""
    import polars as pl

    numbers = {name: np.concatenate([p.numbers[name] for p in parts]) for name in parts[0].numbers}
    order = np.argsort(_leading(numbers[ROW_KEY]), kind="stable")
    made: dict[str, Any] = {name: _column_of(array[order]) for name, array in numbers.items()}
    for name in how.texts:
        # In one piece: of several, polars would gather the texts and not their views.
        texts = pl.concat([part.texts[name] for part in parts], rechunk=True)
        made[name] = texts.gather(order).to_arrow()
    optional = pa.concat_tables([part.optional for part in parts]).take(pa.array(order))
    made |= {name: whole(optional[name]) for name in how.optional}
    schema = how.schema()
    table = pa.Table.from_arrays([made[name] for name in schema.names], schema=schema)
    return Packed(table, numbers[ROW_KEY][order, 0])


def _column_of(array: npt.NDArray[Any]) -> pa.Array:
    """Return numbers, or rows of 32 bytes, as a column."""
    if array.ndim == 1:
        return pa.array(array)
    raw = pa.py_buffer(array.tobytes())
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(DIGEST_BYTES), len(array), [None, raw])


def _seen(rendered: pa.Array, answers: pa.Array, how: Layout) -> Digests:
    system = pa.array([how.system] * len(answers), pa.string())
    texts = (column.cast(pa.large_string()) for column in (rendered, answers))
    return exact_digests(*texts, system)


def _seen_around(texts: Mapping[str, pl.Series], around: Around, system: str | None) -> Digests:
    """Return ``exact_digests`` of rendered text, answer and system text; renders nothing."""
    import polars as pl

    question, answer = pl.col(QUESTION), pl.col(ANSWER)
    added = len(around.before.encode()) + len(around.after.encode())
    pieces = [
        length_prefix(question.str.len_bytes() + added),
        pl.lit(around.before),
        question,
        pl.lit(around.after),
        length_prefix(answer.str.len_bytes()),
        answer,
        pl.lit("null:" if system is None else f"{len(system.encode())}:{system}"),
    ]
    return row_digests(pl.DataFrame(dict(texts)), pieces)


def _drawn_by(table: pa.Table, rows: pa.Array, how: Layout) -> pa.Array:
    """Return what each row's hash goes by; a row without a value stands for itself."""
    keys = whole(table[ROW_KEY]).take(rows)
    join = how.split.by[0] if how.split.by else None
    if join is None:
        return keys
    column = {"question": QUESTION, "answer": ANSWER}.get(join, join)
    values = content_keys(whole(table[column]).take(rows))
    return pc.coalesce(values, keys)


# ------------------------------------------------------------------- a bucket, read back


class SpiltBucket:
    """One bucket's rows in key order, each key once. Its file is mapped, not read."""

    def __init__(self, path: Path, how: Layout) -> None:
        self._path, self._how = path, how
        table = self._table()
        keys = _column(table, ROW_KEY)
        order = np.argsort(_leading(keys), kind="stable")
        settled = _settle(keys, order, table, how)
        self.order = settled.order
        self.duplicates = settled.duplicates

    def _mapped(self) -> pa.Buffer:
        with pa.memory_map(str(self._path)) as source:
            return source.read_buffer()

    def _table(self) -> pa.Table:
        return _read(self._mapped())

    def __len__(self) -> int:
        return len(self.order)

    def remove(self) -> None:
        """Remove the file; what was read of it stays good."""
        self._path.unlink()

    def numbers(self, *names: str) -> dict[str, npt.NDArray[Any]]:
        """Return columns of numbers, or of 32 bytes a row, in key order."""
        table = self._table()
        return {name: _column(table, name)[self.order] for name in names}

    def optional(self) -> pa.Table:
        """Return the optional columns."""
        if not self._how.optional:
            return pa.table({})
        return self._table().select(self._how.optional).take(pa.array(self.order))

    def encoded(self, name: str) -> pl.Series:
        """Return a column of texts as JSON without the quotes."""
        file = self._mapped()
        column = _read(file)[name]
        sizes = pc.binary_length(column).to_numpy()
        starts = np.cumsum(sizes) - sizes
        # Each chunk has its texts one after the other, and lies somewhere in the file.
        rows = np.array([len(chunk) for chunk in column.chunks], np.int64)
        lie = (chunk.buffers()[2].address - file.address for chunk in column.chunks)
        places = np.fromiter(lie, np.int64)
        starts += np.repeat(places - starts[np.cumsum(rows) - rows], rows)
        return inner_at(np.frombuffer(file, np.uint8), starts, sizes).gather(self.order)

    def texts(self, name: str, rows: int | None = None) -> pa.Array:
        """Return a column of texts, or the first ``rows`` of it."""
        return pa.array(map(decode, self.encoded(name)[:rows]), pa.string())


def _read(file: pa.Buffer) -> pa.Table:
    with pa.ipc.open_stream(file) as reader:
        return reader.read_all()


def code_and_characters(name: str) -> tuple[str, str]:
    """Return the columns that hold a text's code and its length in characters."""
    return _code(name), _characters(name)


def _column(table: pa.Table, name: str) -> npt.NDArray[Any]:
    """Return a column of numbers, or of digests as 32 bytes a row."""
    if not pa.types.is_fixed_size_binary(table.schema.field(name).type):
        numbers: npt.NDArray[Any] = table[name].to_numpy()
        return numbers
    kind = f"V{DIGEST_BYTES}"
    chunks = [
        np.frombuffer(chunk.buffers()[1], kind)[chunk.offset : chunk.offset + len(chunk)]
        for chunk in table[name].chunks
    ]
    return np.concatenate(chunks) if chunks else np.empty(0, kind)


def _leading(keys: npt.NDArray[Any]) -> U64:
    """Return the first 8 bytes of each key of 32 as a number that sorts as the bytes do."""
    whole = keys.view(">u8").reshape(len(keys), DIGEST_BYTES // 8)
    leading: U64 = whole[:, 0].astype(np.uint64)
    return leading


@dataclass(frozen=True)
class _Settled:
    order: npt.NDArray[np.int32]
    duplicates: int


def _settle(keys: npt.NDArray[np.void], order: I64, table: pa.Table, how: Layout) -> _Settled:
    """Put rows whose keys begin alike in order, and leave out all but one of each key.

    Of rows with one key the first in the order of all their columns stays, as in the separate
    steps, whatever the order in which they came.
    """
    leading = _leading(keys)[order]
    alike = np.zeros(len(order) + 1, bool)  # a row and the one before it
    alike[1:-1] = leading[1:] == leading[:-1]
    if not alike.any():
        return _Settled(order.astype(np.int32), 0)
    order, kept = order.copy(), np.ones(len(order), bool)
    starts = np.flatnonzero(~alike[:-1] & alike[1:])
    ends = np.flatnonzero(alike[:-1] & ~alike[1:]) + 1
    contents = _Contents(table, how)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        twins = sorted((keys[row].tobytes(), *contents.of(row), row) for row in order[start:end])
        order[start:end] = [twin[-1] for twin in twins]
        for place in range(1, len(twins)):
            kept[start + place] = twins[place][0] != twins[place - 1][0]
    return _Settled(order[kept].astype(np.int32), int((~kept).sum()))


class _Contents:
    """What a row holds, as it sorts in the separate steps: by bytes of UTF-8, nulls last."""

    def __init__(self, table: pa.Table, how: Layout) -> None:
        self._texts = [table[name] for name in (QUESTION, ANSWER)]
        self._optional = [table[name] for name in how.optional]

    def of(self, row: int) -> tuple[Any, ...]:
        texts = [decode_whole(column[int(row)].as_py()) for column in self._texts]
        values = (column[int(row)].as_py() for column in self._optional)
        return (*texts, *((value is None, value or "") for value in values))


class SpiltRows:
    """All buckets' rows as one table in key order, read column by column."""

    def __init__(self, buckets: Sequence[SpiltBucket], how: Layout) -> None:
        self._buckets = buckets
        self.columns: Sequence[str] = (*how.texts, *how.optional)
        self._how = how

    def whole(self, column: str, asked: str) -> list[str | None]:
        """Return a column's values.

        Raises:
            ConfigError: If the rows have no such column; ``asked`` is what needs it.
        """
        if column not in self.columns:
            raise no_column(column, asked)
        return [value for values in self.values(column) for value in values.to_pylist()]

    def values(self, column: str) -> Iterator[pa.Array]:
        """Yield a column's values, bucket by bucket."""
        around = self._how.around
        for bucket in self._buckets:
            if column == ROW_KEY:
                yield pa.array([key.tobytes().hex() for key in bucket.numbers(ROW_KEY)[ROW_KEY]])
            elif column in self._how.optional:
                yield whole(bucket.optional()[column])
            elif column == RENDERED and around is not None:
                yield rendered(bucket.texts(QUESTION), around)
            else:
                yield bucket.texts(column)
