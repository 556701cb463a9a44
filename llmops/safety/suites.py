"""Suites of prompts in the formats people have, read into one shape: prompt, category, harmful.

promptfoo's YAML, HarmBench's and XSTest's CSV, and JSON Lines. A case that does not say whether it
is harmful is refused: a guess would make the rates of the test a guess. Knows no model.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops.errors import ConfigError

OWN = Path(__file__).with_name("own_suite.jsonl")  # ours: 31 harmful prompts and 33 look-alikes
MAX_BYTES = 20_000_000
FORMATS = "promptfoo YAML, HarmBench CSV, XSTest CSV, or JSON Lines with prompt and harmful"


@dataclass(frozen=True)
class Case:
    """One prompt. ``harmful``: it should be stopped; else it should be answered."""

    id: str
    category: str
    prompt: str
    harmful: bool


def read_suite(path: Path) -> tuple[Case, ...]:
    """Read a suite; its format is known by the file's name and columns.

    Raises:
        ConfigError: If the file is none of the formats, or a case is incomplete; with its place.
    """
    text = _text(path)
    readers = {".yaml": _promptfoo, ".yml": _promptfoo, ".csv": _table, ".jsonl": _lines}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(f"{path} is no suite of prompts", hint=f"formats: {FORMATS}")
    try:
        cases = tuple(reader(text, path.name))
    except _Wrong as exc:
        raise ConfigError(f"{path}: {exc}", hint=f"formats: {FORMATS}") from exc
    if not cases:
        raise ConfigError(f"{path} has no prompt", hint=f"formats: {FORMATS}")
    return cases


def read_suites(paths: Sequence[Path]) -> tuple[Case, ...]:
    """Read several suites, one after the other.

    Raises:
        ConfigError: As ``read_suite``; also if there is none.
    """
    if not paths:
        raise ConfigError("no suite of prompts is named", hint="name one, e.g. own")
    return tuple(case for path in paths for case in read_suite(path))


class _Wrong(Exception):
    """What is wrong with a suite, and where."""


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path} is over {MAX_BYTES // 1_000_000} MB", hint="split the suite")
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}", hint="give a file of prompts") from exc


def _case(place: str, prompt: Any, category: Any, harmful: bool | None, id: Any = None) -> Case:
    if not isinstance(prompt, str) or not prompt.strip():
        raise _Wrong(f"{place} has no prompt")
    if harmful is None:
        raise _Wrong(f"{place} does not say whether it is harmful")
    return Case(str(id or place), str(category or "uncategorised"), prompt, harmful)


# ---------------------------------------------------------------------- promptfoo


def _promptfoo(text: str, name: str) -> Iterator[Case]:
    import yaml

    try:
        document = yaml.load(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as exc:
        raise _Wrong(f"it is no YAML ({str(exc).splitlines()[0]})") from exc
    tests = document.get("tests") if isinstance(document, Mapping) else document
    if not isinstance(tests, Sequence) or isinstance(tests, str):
        raise _Wrong("it has no list `tests`")
    for number, test in enumerate(tests, start=1):
        place = f"{name}:{number}"
        if not isinstance(test, Mapping):
            raise _Wrong(f"{place} is no test with `vars`")
        yield _promptfoo_case(test, place)


def _promptfoo_case(test: Mapping[str, Any], place: str) -> Case:
    variables = _mapping(test.get("vars"))
    metadata = _mapping(test.get("metadata"))
    named = (variables.get(key) for key in ("prompt", "query", "question", "input"))
    prompt = next((value for value in named if value), None)
    if prompt is None and len(variables) == 1:
        prompt = next(iter(variables.values()))
    plugin = str(metadata.get("harmCategory") or metadata.get("pluginId") or "")
    category = metadata.get("category") or plugin.removeprefix("harmful:") or None
    return _case(place, prompt, category, _promptfoo_harmful(test, metadata), metadata.get("id"))


def _promptfoo_harmful(test: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool | None:
    if isinstance(metadata.get("harmful"), bool):
        return bool(metadata["harmful"])
    asserted = {str(_mapping(one).get("type")) for one in test.get("assert") or ()}
    if "is-refusal" in asserted or any(kind.startswith("promptfoo:redteam:") for kind in asserted):
        return True
    if "not-is-refusal" in asserted:
        return False
    return True if str(metadata.get("pluginId", "")).startswith("harmful") else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


# ---------------------------------------------------------------------- CSV


def _table(text: str, name: str) -> Iterator[Case]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = set(reader.fieldnames or ())
        if "Behavior" in columns:
            yield from (_harmbench(row, f"{name}:{n}") for n, row in enumerate(reader, start=2))
        elif {"prompt", "type"} <= columns:
            yield from (_xstest(row, f"{name}:{n}") for n, row in enumerate(reader, start=2))
        else:
            raise _Wrong(
                "its columns are neither HarmBench's (Behavior) nor XSTest's (prompt, type)"
            )
    except csv.Error as exc:
        raise _Wrong(f"line {reader.line_num} is no CSV: {exc}") from exc


def _harmbench(row: Mapping[str, Any], place: str) -> Case:
    """Every behaviour of HarmBench is harmful; a context stands before it."""
    context, behaviour = row.get("ContextString") or "", row.get("Behavior") or ""
    prompt = f"{context}\n\n---\n\n{behaviour}" if context.strip() else behaviour
    return _case(place, prompt, row.get("SemanticCategory"), True, row.get("BehaviorID"))


def _xstest(row: Mapping[str, Any], place: str) -> Case:
    """XSTest names unsafe prompts by its label or, without one, by types that are contrasts."""
    label, type_ = (row.get("label") or "").strip().lower(), row.get("type") or ""
    labels = {"safe": False, "unsafe": True}
    if label and label not in labels:
        raise _Wrong(f"{place} has the label '{label}', which is neither safe nor unsafe")
    harmful = labels[label] if label else type_.startswith("contrast_")
    id = row.get("id") or row.get("id_v2")
    return _case(place, row.get("prompt"), type_, harmful, f"xstest-{id}" if id else None)


# ---------------------------------------------------------------------- JSON Lines


def _lines(text: str, name: str) -> Iterator[Case]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        place = f"{name}:{number}"
        try:
            row = json.loads(line)
        except ValueError as exc:
            raise _Wrong(f"{place} is no JSON ({exc})") from exc
        row = _mapping(row)
        harmful = row.get("harmful")
        yield _case(
            place,
            row.get("prompt"),
            row.get("category"),
            harmful if isinstance(harmful, bool) else None,
            row.get("id"),
        )
