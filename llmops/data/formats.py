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

import orjson

from llmops.data.settings import FORMATS

# JSON allows these inside a string, but str.splitlines and JavaScript end a line at them. In UTF-8
# the byte sequences occur nowhere else.
_LINE_ENDS = {
    "\u0085".encode(): b"\\u0085",
    "\u2028".encode(): b"\\u2028",
    "\u2029".encode(): b"\\u2029",
}


@dataclass(frozen=True)
class Encoded:
    """The texts of one example as JSON strings; encoded once, used by every format."""

    user: bytes
    answer: bytes
    system: bytes | None


def encode(user: str, answer: str, system: str | None) -> Encoded:
    """Encode the texts of one example."""
    return Encoded(_string(user), _string(answer), None if system is None else _string(system))


def _string(text: str) -> bytes:
    encoded = orjson.dumps(text)
    if not text.isascii():
        for raw, escaped in _LINE_ENDS.items():
            encoded = encoded.replace(raw, escaped)
    return encoded


def _text_bison(example: Encoded) -> bytes:
    return b'{"input_text":%b,"output_text":%b}\n' % (example.user, example.answer)


def _gemini(example: Encoded) -> bytes:
    system = b""
    if example.system is not None:
        system = b'"systemInstruction":{"parts":[{"text":%b}]},' % example.system
    return (
        b'{%b"contents":[{"role":"user","parts":[{"text":%b}]},{"role":"model","parts":[{"text":%b}]}]}\n'
        % (
            system,
            example.user,
            example.answer,
        )
    )


def _chat(example: Encoded) -> bytes:
    system = b""
    if example.system is not None:
        system = b'{"role":"system","content":%b},' % example.system
    return b'{"messages":[%b{"role":"user","content":%b},{"role":"assistant","content":%b}]}\n' % (
        system,
        example.user,
        example.answer,
    )


LINES: Mapping[str, Callable[[Encoded], bytes]] = dict(
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
        self._path, self._format, self._side = path, format, side
        self._line = LINES[format]
        self._hash = sha256()
        self._rows = 0
        self._file = path.open("wb")

    def write(self, examples: list[Encoded]) -> None:
        """Append examples."""
        block = b"".join(map(self._line, examples))
        self._hash.update(block)
        self._file.write(block)
        self._rows += len(examples)

    def written(self) -> WrittenFile:
        """Say what was written; valid after the last ``write``."""
        return WrittenFile(
            self._path.name, self._format, self._side, self._rows, self._hash.hexdigest()
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
