"""Evaluation sets in the formats that benchmarks come in: questions with answers, and choices.

Reads JSON Lines into rows of the test side's shape. Knows no split, no prompt and no model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from llmops.errors import DataError

Row = tuple[str, str]  # question, reference answer
QUESTIONS = ("question", "input_text", "prompt", "input", "query")
ANSWERS = ("answer", "output_text", "reference", "target", "completion")
HINTS = {
    "questions": '{"question": "...", "answer": "..."}',
    "choices": '{"question": "...", "choices": ["...", "..."], "answer": 0} or "answer": "A"',
    "logs": '{"question": "...", "corrected": "..."}: a request and what it should have said',
}


def read_set(files: Sequence[Path], form: str) -> Iterator[Row]:
    """Yield the questions and reference answers of ``files``, in order.

    ``form`` is ``questions`` (pairs), ``choices`` (the answer is the letter of a choice) or
    ``logs`` (requests that people corrected; those without a correction are left out).

    Raises:
        DataError: If a line cannot be read, with its file and number.
    """
    reading = READERS[form]
    for path in files:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield from _row(line, reading, f"{path.name}, line {number}", form)


def _row(
    line: str, reading: Callable[[Mapping[str, Any]], Row | None], where: str, form: str
) -> Iterator[Row]:
    try:
        found = reading(json.loads(line))
    except (ValueError, KeyError, TypeError, IndexError) as exc:
        said = f"{type(exc).__name__}: {exc}"
        raise DataError(f"{where} is no row of form '{form}' ({said})", hint=HINTS[form]) from exc
    if found is not None:
        yield found


def _text(row: Mapping[str, Any], names: Sequence[str]) -> str:
    for name in names:
        if isinstance(row.get(name), str) and row[name].strip():
            return str(row[name])
    raise KeyError(f"none of {', '.join(names)}")


def _pair(row: Mapping[str, Any]) -> Row:
    return _text(row, QUESTIONS), _text(row, ANSWERS)


def _choice(row: Mapping[str, Any]) -> Row:
    """Write the choices under the question, a letter each; the letter is the answer."""
    choices, answer = row["choices"], row["answer"]
    if not isinstance(choices, list) or not 2 <= len(choices) <= len(ascii_uppercase):
        raise ValueError("choices is no list of 2 to 26 texts")
    letters = ascii_uppercase[: len(choices)]
    if isinstance(answer, str) and answer.strip().upper() in letters and len(answer.strip()) == 1:
        letter = answer.strip().upper()
    elif isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        letter = letters[answer]
    else:
        raise ValueError(f"answer {answer!r} is none of the {len(choices)} choices")
    listed = "\n".join(f"{name}. {text}" for name, text in zip(letters, choices, strict=True))
    return f"{_text(row, QUESTIONS)}\n{listed}", letter


def _corrected(row: Mapping[str, Any]) -> Row | None:
    corrected = row.get("corrected")
    if corrected is None:
        return None
    return _text(row, QUESTIONS), _text(row, ("corrected",))


READERS: Mapping[str, Callable[[Mapping[str, Any]], Row | None]] = {
    "questions": _pair,
    "choices": _choice,
    "logs": _corrected,
}
