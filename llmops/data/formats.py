"""The tuners' JSONL formats, and a file writer that hashes while it writes.

One JSON object a line; every character that some reader takes for a line end is escaped. Knows
nothing of splits.

Formats: text_bison (PaLM tuning), gemini (Vertex AI supervised tuning for Gemini), chat (the
messages list that open models' trainers read).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import orjson
import pyarrow as pa

from llmops.data.cells import Bytes, Mask, Numbers, cells, laid, string_views
from llmops.data.settings import FORMATS
from llmops.data.texts import Around

if TYPE_CHECKING:
    import polars as pl

BLOCK_LINES = 512
_MOST_BYTES = 1 << 31  # that a view can point into
_BEFORE, _AFTER = '{"a":"', '"}'
# JSON allows these inside a string, but str.splitlines and JavaScript end a line at them. In UTF-8
# the byte sequences occur nowhere else.
_LINE_ENDS = {
    "\u0085": "\\u0085",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


def encode(texts: pl.Series) -> pa.Array:
    """Return each text as ``{"a":"..."}``: polars encodes objects; the same bytes as orjson's."""
    ends = texts.str.contains_any(list(_LINE_ENDS)).fill_null(value=False).to_numpy()
    return encode_all({"a": texts}, {"a": ends})["a"].to_arrow()


def encode_all(
    texts: Mapping[str, pl.Series], line_ends: Mapping[str, Mask]
) -> dict[str, pl.Series]:
    """Do what ``encode`` does for several columns; ``line_ends`` says which texts hold any."""
    import polars as pl

    encoded = pl.DataFrame(dict(texts)).select(
        pl.struct(pl.col(name).alias("a")).struct.json_encode().alias(name) for name in texts
    )
    return {name: _without_line_ends(encoded[name], line_ends[name]) for name in texts}


def _without_line_ends(encoded: pl.Series, ends: Mask) -> pl.Series:
    rows = np.flatnonzero(ends)
    if not len(rows):
        return encoded
    plain = encoded.gather(rows)
    for mark, escaped in _LINE_ENDS.items():
        plain = plain.str.replace_all(mark, escaped, literal=True)
    return encoded.scatter(rows, plain)


def inner(encoded: pa.Array) -> pl.Series:
    """Return what stands between the quotes of each text that ``encode`` made; copies nothing."""
    found = cells(encoded)
    return inner_at(found.data, found.bounds[:-1], found.sizes)


def inner_at(data: Bytes, starts: Numbers, sizes: Numbers) -> pl.Series:
    """Do what ``inner`` does for texts that lie anywhere in ``data``, each after the one before."""
    import polars as pl

    first, last = (int(starts[0]), int(starts[-1] + sizes[-1])) if len(starts) else (0, 0)
    if last - first >= _MOST_BYTES and len(starts) > 1:
        half = len(starts) // 2
        halves = [(starts[:half], sizes[:half]), (starts[half:], sizes[half:])]
        return pl.concat([inner_at(data, *one) for one in halves], rechunk=True)
    within = starts - first + len(_BEFORE)
    texts = string_views(data[first:last], within, sizes - len(_BEFORE) - len(_AFTER))
    return pl.Series(pl.from_arrow(texts))


def decode_whole(encoded: str) -> str:
    """Return the text of one cell that ``encode`` made."""
    return str(orjson.loads(encoded)["a"])


def decode(text: str) -> str:
    """Return the text of what ``inner`` returns."""
    return str(orjson.loads(f'"{text}"'))


@dataclass(frozen=True)
class Shape:
    """What stands around the two texts of a line, their quotes included."""

    before: bytes
    between: bytes
    after: bytes

    def blocks(self, users: pl.Series, answers: pl.Series) -> Iterator[memoryview]:
        """Yield the lines, each with its line end, some hundred to a block.

        Blocks of some megabytes stay in the processor's cache while they are put together.
        """
        import polars as pl

        before, between, after = (
            pl.lit(text.decode()) for text in (self.before, self.between, self.after)
        )
        line = pl.concat_str(before, "user", between, "answer", after)
        pairs = pl.DataFrame({"user": users, "answer": answers})
        for part in pairs.iter_slices(BLOCK_LINES):
            yield from laid(part.select(line).to_series())


def shape(format: str, system: str | None, around: Around) -> Shape:
    """Return the shape of a format's lines."""
    said = None if system is None else b'"%b"' % _escaped(system)
    known = _SHAPES[format](said)
    return Shape(
        known.before + _escaped(around.before), _escaped(around.after) + known.between, known.after
    )


def _escaped(text: str) -> bytes:
    import polars as pl

    return str(inner(encode(pl.Series([text])))[0]).encode()


def _text_bison(system: bytes | None) -> Shape:
    return Shape(b'{"input_text":"', b'","output_text":"', b'"}\n')


def _gemini(system: bytes | None) -> Shape:
    said = b"" if system is None else b'"systemInstruction":{"parts":[{"text":%b}]},' % system
    return Shape(
        b'{%b"contents":[{"role":"user","parts":[{"text":"' % said,
        b'"}]},{"role":"model","parts":[{"text":"',
        b'"}]}]}\n',
    )


def _chat(system: bytes | None) -> Shape:
    said = b"" if system is None else b'{"role":"system","content":%b},' % system
    return Shape(
        b'{"messages":[%b{"role":"user","content":"' % said,
        b'"},{"role":"assistant","content":"',
        b'"}]}\n',
    )


_SHAPES: Mapping[str, Callable[[bytes | None], Shape]] = dict(
    zip(FORMATS, (_text_bison, _gemini, _chat), strict=True)
)


@dataclass(frozen=True)
class WrittenFile:
    """A finished JSONL file, as the dataset card lists it."""

    name: str
    format: str
    side: str
    rows: int
    sha256: str


class JsonlWriter:
    """Writes the examples of one side in one format, on a thread beside the one that hashes."""

    def __init__(self, path: Path, format: str, side: str) -> None:
        self.format = format
        self._path, self._side = path, side
        self._hash = sha256()
        self._rows = 0
        self._file = path.open("wb", buffering=0)
        self._thread = ThreadPoolExecutor(1)

    def write(self, blocks: Sequence[memoryview], rows: int) -> None:
        """Append blocks of lines, ``rows`` in all.

        Raises:
            OSError: If the disk is full.
        """
        written = self._thread.submit(self._append, blocks)
        for block in blocks:
            self._hash.update(block)
        written.result()
        self._rows += rows

    def _append(self, blocks: Sequence[memoryview]) -> None:
        for block in blocks:
            rest = block
            while rest:  # the last that a disk has room for is written in part, without an error
                rest = rest[self._file.write(rest) :]

    def written(self) -> WrittenFile:
        """Say what was written; valid after the last ``write``."""
        return WrittenFile(
            self._path.name, self.format, self._side, self._rows, self._hash.hexdigest()
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown()
        self._file.close()
