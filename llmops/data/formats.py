"""The tuners' JSONL formats, and a file writer that hashes while it writes.

One JSON object a line; every character that some reader takes for a line end is escaped. Knows
nothing of splits.

Formats: text_bison (PaLM tuning), gemini (Vertex AI supervised tuning for Gemini), chat (the
messages list that open models' trainers read).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import orjson
import pyarrow as pa

from llmops.data.cells import cells
from llmops.data.settings import FORMATS

if TYPE_CHECKING:
    import polars as pl

BLOCK_LINES = 128
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
    named = texts.alias("a").to_frame().select(_object())
    encoded = named.to_series()
    for mark, escaped in _LINE_ENDS.items():
        if encoded.str.contains(mark, literal=True).any():
            encoded = encoded.str.replace_all(mark, escaped, literal=True)
    return encoded.to_arrow().cast(pa.large_string())


def _object() -> pl.Expr:
    import polars as pl

    return pl.struct("a").struct.json_encode()


def inner(encoded: pa.Array) -> list[memoryview]:
    """Return what stands between the quotes of each text that ``encode`` made."""
    found = cells(encoded)
    starts, ends = found.bounds[:-1] + len(_BEFORE), found.bounds[1:] - len(_AFTER)
    view = found.view
    return [view[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def decode_whole(encoded: str) -> str:
    """Return the text of one cell that ``encode`` made."""
    return str(orjson.loads(encoded)["a"])


def decode(text: memoryview) -> str:
    """Return the text of what ``inner`` returns."""
    return str(orjson.loads(b'"%b"' % bytes(text)))


@dataclass(frozen=True)
class Around:
    """What a template writes before and after the text that ``encode`` was given."""

    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Shape:
    """What stands around the two texts of a line, their quotes included."""

    before: bytes
    between: bytes
    after: bytes

    def blocks(
        self, users: Sequence[memoryview], answers: Sequence[memoryview], rows: Sequence[int]
    ) -> list[bytes]:
        """Return the lines of ``rows``, each with its line end, some hundred to a block.

        Blocks of some 100 KB stay in the processor's cache until they are hashed and written.
        """
        before, between, after = self.before, self.between, self.after
        return [
            b"".join(
                piece
                for row in rows[start : start + BLOCK_LINES]
                for piece in (before, users[row], between, answers[row], after)
            )
            for start in range(0, len(rows), BLOCK_LINES)
        ]


def shape(format: str, system: str | None, around: Around) -> Shape:
    """Return the shape of a format's lines."""
    said = None if system is None else b'"%b"' % _escaped(system)
    known = _SHAPES[format](said)
    return Shape(
        known.before + _escaped(around.before), _escaped(around.after) + known.between, known.after
    )


def _escaped(text: str) -> bytes:
    import polars as pl

    return bytes(inner(encode(pl.Series([text])))[0])


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
    """Writes the examples of one side in one format."""

    def __init__(self, path: Path, format: str, side: str) -> None:
        self.format = format
        self._path, self._side = path, side
        self._hash = sha256()
        self._rows = 0
        self._file = path.open("wb", buffering=0)

    def write(self, blocks: Iterable[bytes], rows: int) -> None:
        """Append blocks of lines, ``rows`` in all."""
        for block in blocks:
            self._hash.update(block)
            self._file.write(block)
        self._rows += rows

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
        self._file.close()
