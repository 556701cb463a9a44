"""Evaluation sets in the formats that benchmarks come in: questions with answers, choices, code.

Reads JSON Lines into rows of the test side's shape. Knows no split, no prompt and no model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from llmops.errors import DataError

QUESTIONS = ("question", "input_text", "prompt", "input", "query", "ctx", "text")
ANSWERS = ("answer", "output_text", "reference", "target", "completion", "code")
KEYS = ("answer", "answerKey", "label")  # of the right choice
HINTS = {
    "questions": '{"question": "...", "answer": "..."}',
    "choices": '{"question": "...", "choices": ["...", "..."], "answer": 0} or "answer": "A"',
    "code": '{"question": "...", "answer": "def f(): ...", "checks": "assert f() == 1"}',
    "logs": '{"question": "...", "answer": "...", "corrected": true}, as `logs reviewed` writes it',
}


@dataclass(frozen=True)
class Row:
    """A question, its reference answer, and Python that must not fail after the answer's code."""

    question: str
    answer: str
    checks: str | None = None


def read_set(files: Sequence[Path], form: str) -> Iterator[Row]:
    """Yield the rows of ``files``, in order.

    ``form`` is ``questions`` (pairs), ``choices`` (the answer is the letter of a choice), ``code``
    (the answer is a program, and checks tell whether it is right) or ``logs`` (what
    ``logs reviewed`` writes; only corrected answers are taken).

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
    except (ValueError, KeyError, TypeError, StopIteration) as exc:
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
    return Row(_text(row, QUESTIONS), _text(row, ANSWERS))


@dataclass(frozen=True)
class _Choices:
    """What a row asks, what it offers, and the names that its own key calls the offers by."""

    question: str
    texts: Sequence[str]
    names: Sequence[str]


def _choice(row: Mapping[str, Any]) -> Row:
    """Write the choices under the question, a letter each; the letter is the answer."""
    asked = _choices(row)
    count = len(asked.texts)
    if not 2 <= count <= len(ascii_uppercase) or len(asked.names) != count:
        raise ValueError("choices is no list of 2 to 26 texts")
    right = _place(next(row[name] for name in KEYS if name in row), asked.names)
    listed = "\n".join(
        f"{letter}. {text}" for letter, text in zip(ascii_uppercase, asked.texts, strict=False)
    )
    return Row(f"{asked.question}\n{listed}", ascii_uppercase[right])


def _choices(row: Mapping[str, Any]) -> _Choices:
    """Read plain lists (MMLU, HellaSwag), and texts with labels of their own (ARC, OpenBookQA)."""
    stem = row.get("question")
    if isinstance(stem, Mapping):
        return _labelled(_text(stem, ("stem",)), stem["choices"])
    offered = row["choices"] if "choices" in row else row["endings"]
    question = _text(row, QUESTIONS)
    if isinstance(offered, Mapping):
        return _Choices(question, offered["text"], offered["label"])
    if not isinstance(offered, list):
        raise ValueError("choices is no list of 2 to 26 texts")
    if offered and isinstance(offered[0], Mapping):
        return _labelled(question, offered)
    return _Choices(question, offered, ascii_uppercase[: len(offered)])


def _labelled(question: str, offered: Sequence[Mapping[str, Any]]) -> _Choices:
    texts, labels = [one["text"] for one in offered], [one["label"] for one in offered]
    return _Choices(question, texts, labels)


def _place(key: Any, names: Sequence[str]) -> int:
    """Return the place, from 0, that a key means: one of the names, else a number from 0."""
    said = str(key).strip().upper()
    if said in names:
        return list(names).index(said)
    if isinstance(key, bool) or not said.isdecimal() or int(said) >= len(names):
        raise ValueError(f"answer {key!r} is none of the {len(names)} choices")
    return int(said)


def _program(row: Mapping[str, Any]) -> Row:
    """Read checks under that name, HumanEval's ``test`` and ``entry_point``, MBPP's lists."""
    if "test" in row:
        checks = f"{row['test']}\ncheck({row['entry_point']})"
        return Row(row["prompt"], row["prompt"] + row["canonical_solution"], checks)
    if "test_list" in row:
        before = [row.get("test_setup_code") or "", *(row.get("test_imports") or ())]
        checks = "\n".join([*before, *row["test_list"]])
    else:
        checks = _text(row, ("checks",))
    return Row(_text(row, QUESTIONS), _text(row, ANSWERS), checks)


def _corrected(row: Mapping[str, Any]) -> Row | None:
    """Read a line of ``logs reviewed``; an answer that was only liked is the model's own."""
    return _pair(row) if row["corrected"] is True else None


READERS: Mapping[str, Callable[[Mapping[str, Any]], Row | None]] = {
    "questions": _pair,
    "choices": _choice,
    "code": _program,
    "logs": _corrected,
}
