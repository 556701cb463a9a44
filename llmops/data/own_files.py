"""Rows of one's own JSON Lines: prompt and response, or chats, in the field's usual spellings.

A chat of several turns, or one with a system text, becomes one row: what was said before the last
question stands before it, each turn under its speaker, so that training, evaluation and every
format see the same text. Knows no rules; lone halves of characters are left for them to find.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from llmops.data.columns import ANSWER, OPTIONAL, QUESTION
from llmops.errors import ConfigError, DataError
from llmops.files import refusal

PAIRS = (
    ("input_text", "output_text"),
    ("prompt", "response"),
    ("prompt", "completion"),
    ("question", "answer"),
    ("instruction", "output"),
)
CHATS = ("messages", "contents", "conversations")
COLUMNS = (QUESTION, ANSWER, *OPTIONAL)
ROWS_AT_ONCE = 1024
BYTES_AT_ONCE = 16 << 20
_SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant", "model": "Assistant"}


@dataclass(frozen=True)
class _Turn:
    role: str
    text: str


def read_files(paths: Sequence[Path]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the files in order, in bounded memory; every column is a string.

    Raises:
        ConfigError: If a file is missing.
        DataError: If a line is no row; names the file and the line.
    """
    held: list[dict[str, bytes | None]] = []
    size = 0
    for path in paths:
        for row in _rows(path):
            held.append(row)
            size += sum(len(cell or b"") for cell in row.values())
            if len(held) >= ROWS_AT_ONCE or size >= BYTES_AT_ONCE:
                yield _batch(held)
                held, size = [], 0
    if held:
        yield _batch(held)


def _batch(rows: Sequence[Mapping[str, bytes | None]]) -> pa.RecordBatch:
    columns = [pa.array([row.get(name) for row in rows], pa.binary()) for name in COLUMNS]
    # Seen as text without a check: a broken cell is for the rules to name.
    return pa.record_batch([column.view(pa.string()) for column in columns], names=list(COLUMNS))


def _rows(path: Path) -> Iterator[dict[str, bytes | None]]:
    try:
        file = path.open("rb")
    except OSError as exc:
        raise refusal(exc) or ConfigError(
            f"dataset.files: {path} cannot be read ({exc.strerror})", hint="name a file that exists"
        ) from exc
    with file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _row(line, f"{path}, line {number}")


def _row(line: bytes, where: str) -> dict[str, bytes | None]:
    found = _parsed(line, where)
    pair = next((p for p in PAIRS if p[0] in found and p[1] in found), None)
    if pair is not None:
        question, answer = (_text(found[key], f"{where}, {key}") for key in pair)
        if found.get("input") and pair[0] == "instruction":
            question = f"{question}\n\n{_text(found['input'], f'{where}, input')}"
        if question is not None and found.get("system"):
            question = _transcript([_Turn("system", str(found["system"])), _Turn("user", question)])
    else:
        turns = _chat(found, where)
        question, answer = _transcript(turns[:-1]), turns[-1].text
    row = {name: _cell(found.get(name)) for name in OPTIONAL}
    return {QUESTION: _encoded(question), ANSWER: _encoded(answer), **row}


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        found = _leniently(line, where)
    if not isinstance(found, dict):
        raise DataError(
            f"{where}: no JSON object", hint='one {"prompt": ..., "response": ...} a line'
        )
    _refuse_twins(found, line, where)
    return found


def _refuse_twins(found: Mapping[str, Any], line: bytes, where: str) -> None:
    """Refuse an object that has a key twice: readers differ in which one they take."""
    if not any(line.count(b'"%s"' % key.encode("utf-8", "replace")) > 1 for key in found):
        return  # within a text a quote is escaped, so this sees keys and whole short texts only
    pairs: list[Any] = json.loads(
        line.decode("utf-8", "surrogateescape"), object_pairs_hook=lambda items: items
    )
    keys = [key for key, _ in pairs]
    for key in found:
        if keys.count(key) > 1:
            raise DataError(f"{where}: the key {key!r} stands there twice", hint="keep one of them")


def _leniently(line: bytes, where: str) -> Any:
    """Read what only Python's own reader takes: lone surrogates, NaN, bytes that are not UTF-8."""
    try:
        return json.loads(line.decode("utf-8", "surrogateescape"))
    except ValueError as exc:
        raise DataError(
            f"{where}: no JSON ({exc})",
            hint="each line is one whole JSON object; a file that was cut off ends in half of one",
        ) from exc


def _text(value: Any, where: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise DataError(
        f"{where}: {type(value).__name__} {str(value)[:40]!r}, not text",
        hint="prompts and responses are texts: write numbers and lists as text",
    )


def _chat(found: Mapping[str, Any], where: str) -> list[_Turn]:
    turns = [*_system(found, where), *_turns(found, where)]
    if len(turns) < 2 or turns[-1].role != "assistant" or turns[-2].role != "user":
        keys = ", ".join(map(repr, list(found)[:8]))
        raise DataError(
            f"{where}: neither a pair nor a chat that ends with a question and an answer ({keys})",
            hint="write prompt and response, or messages with role and content",
        )
    return turns


def _system(found: Mapping[str, Any], where: str) -> Iterator[_Turn]:
    system = found.get("system") or found.get("systemInstruction")
    if isinstance(system, Mapping):
        system = _joined_parts(system, where)
    if system:
        yield _Turn("system", str(system))


def _turns(found: Mapping[str, Any], where: str) -> Iterator[_Turn]:
    key = next((key for key in CHATS if found.get(key)), CHATS[0])
    for message in _objects(found.get(key), f"{where}, {key}"):
        role = str(message.get("role") or message.get("from"))
        role = {"model": "assistant", "gpt": "assistant", "human": "user"}.get(role, role)
        content = message.get("content", message.get("value"))
        if content is None and "parts" in message:
            content = _joined_parts(message, where)
        if role not in _SPEAKERS:
            raise DataError(
                f"{where}: a turn of the role '{role}'", hint="roles: system, user, assistant"
            )
        yield _Turn(role, _text(content, where) or "")


def _joined_parts(message: Mapping[str, Any], where: str) -> str:
    parts = _objects(message.get("parts"), f"{where}, parts")
    return "".join(_text(part.get("text"), f"{where}, parts") or "" for part in parts)


def _objects(value: Any, where: str) -> Sequence[Mapping[str, Any]]:
    """Return a list of JSON objects; null is an empty one."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DataError(
            f"{where}: {str(value)[:40]!r}, not a list of objects",
            hint="a chat is a list of turns, each with role and content",
        )
    return value


def _transcript(turns: Sequence[_Turn]) -> str:
    if len(turns) == 1:
        return turns[0].text
    return "\n\n".join(f"{_SPEAKERS[turn.role]}: {turn.text}" for turn in turns)


def _cell(value: Any) -> bytes | None:
    if isinstance(value, list):
        value = "|".join(map(str, value))
    return None if value is None else _encoded(str(value))


def _encoded(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return text.encode()
    except UnicodeEncodeError:
        # A byte that was no UTF-8 comes back as it was; half of a pair stays half: no UTF-8.
        return text.encode("utf-8", "surrogatepass")
