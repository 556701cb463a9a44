"""The tuners' JSONL formats, and a file writer that hashes while it writes.

One JSON object a line; every character that some reader takes for a line end is escaped. Knows
nothing of splits.

Formats: text_bison (PaLM tuning), gemini (Vertex AI supervised tuning for Gemini), chat (the
messages list that open models' trainers read).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmops.data.settings import FORMATS

# JSON allows these inside a string, but str.splitlines and JavaScript end a line at them. In UTF-8
# the byte sequences occur nowhere else.
_LINE_ENDS = {
    "\u0085": "\\u0085",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


def lines_of(format: str, user: pa.Array, answer: pa.Array, system: str | None) -> pa.Array:
    """Return a line of JSON per example, each with its line end, as a column of text.

    The texts are encoded by Arrow and polars, a column at a time; the same bytes as orjson's.
    """
    said = None if system is None else _json_strings(pa.array([system]))[0].as_py()
    around = _AROUND[format](said)
    encoded = (_json_strings(user), _json_strings(answer))
    parts = (around.before, encoded[0], around.between, encoded[1], around.after)
    return pc.binary_join_element_wise(*(_large(part) for part in parts), _large(""))


def chosen_lines(lines: pa.Array, rows: npt.NDArray[np.int64]) -> bytes:
    """Return the lines of ``rows`` (ascending), one after the other."""
    if not len(rows):
        return b""
    offsets = np.frombuffer(lines.buffers()[1], np.int64)[
        lines.offset : lines.offset + len(lines) + 1
    ]
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1  # runs of neighbours are copied at once
    first = rows[np.concatenate([[0], breaks])]
    last = rows[np.concatenate([breaks - 1, [len(rows) - 1]])]
    with memoryview(lines.buffers()[2]) as view:
        ends = zip(offsets[first].tolist(), offsets[last + 1].tolist(), strict=True)
        return b"".join([view[start:end] for start, end in ends])


def _large(part: str | pa.Array) -> pa.Scalar | pa.Array:
    return pa.scalar(part, pa.large_string()) if isinstance(part, str) else part


def _json_strings(texts: pa.Array) -> pa.Array:
    """Return each text as a JSON string."""
    import polars as pl

    named = (
        pl.Series("a", pl.from_arrow(texts)).to_frame().select(pl.struct("a").struct.json_encode())
    )
    objects = named.to_series().to_arrow().cast(pa.large_string()).view(pa.large_binary())
    strings = pc.binary_slice(objects, len('{"a":'), -1).view(pa.large_string())
    for mark, escaped in _LINE_ENDS.items():
        if pl.Series(pl.from_arrow(strings)).str.contains(mark, literal=True).any():
            strings = pc.replace_substring(strings, mark, escaped)
    return strings


@dataclass(frozen=True)
class _Around:
    """What stands around the two texts of a line."""

    before: str
    between: str
    after: str


def _text_bison(system: str | None) -> _Around:
    return _Around('{"input_text":', ',"output_text":', "}\n")


def _gemini(system: str | None) -> _Around:
    said = "" if system is None else f'"systemInstruction":{{"parts":[{{"text":{system}}}]}},'
    return _Around(
        f'{{{said}"contents":[{{"role":"user","parts":[{{"text":',
        '}]},{"role":"model","parts":[{"text":',
        "}]}]}\n",
    )


def _chat(system: str | None) -> _Around:
    said = "" if system is None else f'{{"role":"system","content":{system}}},'
    return _Around(
        f'{{"messages":[{said}{{"role":"user","content":',
        '},{"role":"assistant","content":',
        "}]}\n",
    )


_AROUND: Mapping[str, Callable[[str | None], _Around]] = dict(
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
        self._file = path.open("wb")

    def write(self, block: bytes, rows: int) -> None:
        """Append lines."""
        self._hash.update(block)
        self._file.write(block)
        self._rows += rows

    def written(self) -> WrittenFile:
        """Say what was written; valid after the last ``write``."""
        return WrittenFile(
            self._path.name, self.format, self._side, self._rows, self._hash.hexdigest()
        )

    def renamed(self, name: str) -> WrittenFile:
        """Give the finished file another name."""
        self._path = self._path.replace(self._path.with_name(name))
        return self.written()

    def discard(self) -> bool:
        """Remove the finished file; returns False, for it is no longer there."""
        self._path.unlink()
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
