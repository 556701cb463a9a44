"""JSON Schemas for editors, made from the strict ones beside this file.

A YAML file is only a part of a config, so an editor must not ask for keys that another file sets,
and any value may be ``${...}`` or ``???``. Everything else, unknown keys and ranges first of all,
is told while typing. Knows no editor: it writes what YAML language servers read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops.config import schemas

FOLDER = ".schema"  # inside the config folder
MODELINE = "# yaml-language-server: $schema="
WHOLE = ("config", "experiment")  # files that may set any key of the config
TABLES = "knowledge"  # prices, limits, models: facts that people keep, not config
_DIALECT = "http://json-schema.org/draft-07/schema#"
_OPEN = {
    "description": "an interpolation, or ??? for a value that must be set",
    "type": "string",
    "pattern": r"^\?\?\?$|\$\{",
}
_DEFAULTS = {"type": "array", "description": "choices of other files, merged before this one"}
_LEFT_OUT = ("$id", "$schema", "required", "minItems", "minProperties")
_WORDS = ("title", "description")


@dataclass(frozen=True)
class Line:
    """A YAML file, the line that names its schema, and whether it stands where it must."""

    path: Path
    wanted: str
    present: bool


def documents() -> dict[str, str]:
    """Return the text of each schema by file name; the same llmops gives the same texts."""
    made = {f"{name}.json": _document(name) for name in schemas.names() if name != "root"}
    made |= {f"{name}.json": _document("root") for name in WHOLE}
    return made | {f"{TABLES}_{path.stem}.json": _table(path) for path in _tables()}


def schema_name(path: Path, conf: Path) -> str:
    """Return the name of the schema for a YAML file of a config folder."""
    if path.parent == conf:
        return path.stem
    return f"{TABLES}_{path.stem}" if path.parent.name == TABLES else path.parent.name


def lines(conf: Path) -> Iterator[Line]:
    """Look at each YAML file of a config folder that a schema is for."""
    known = {name.removesuffix(".json") for name in documents()}
    for path in sorted((*conf.glob("*.yaml"), *conf.glob("*/*.yaml"))):
        name = schema_name(path, conf)
        if name in known:
            wanted = f"{MODELINE}{os.path.relpath(conf / FOLDER / f'{name}.json', path.parent)}"
            head = path.read_text("utf-8").splitlines()[:2]
            after = head[1:] if head[:1] and head[0].startswith("# @package") else head[:1]
            yield Line(path, wanted, after == [wanted])


def with_line(text: str, line: str) -> str:
    """Return a YAML text with its schema line: after ``# @package``, which must stay first."""
    kept = [old for old in text.splitlines(keepends=True) if not old.startswith(MODELINE)]
    position = 1 if kept and kept[0].startswith("# @package") else 0
    return "".join([*kept[:position], f"{line}\n", *kept[position:]])


def _tables() -> list[Path]:
    return sorted((schemas.FOLDER / TABLES).glob("*.json"))


def _table(path: Path) -> str:
    """Return the schema of a table of facts as it is: such a file is whole."""
    strict = json.loads(path.read_text("utf-8"))
    kept = {word: value for word, value in strict.items() if word not in ("$id", "$schema")}
    return json.dumps({"$schema": _DIALECT, **kept}, indent=2, ensure_ascii=False) + "\n"


def _document(name: str) -> str:
    strict = schemas.schema(name)
    properties = {"defaults": _DEFAULTS}
    if name == "root":
        properties["hydra"] = {"type": "object", "description": "Hydra's own settings"}
    relaxed = _keys(strict, properties)
    made = {"$schema": _DIALECT, **relaxed}
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def _keys(strict: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Relax the schema of a file, or of what a file has for one kind: keys and values, no text."""
    made: dict[str, Any] = {}
    for word, value in strict.items():
        if word in _LEFT_OUT:
            continue
        if word == "properties":
            made[word] = {**more, **{key: _value(rules) for key, rules in value.items()}}
        elif word == "additionalProperties" and isinstance(value, Mapping):
            made[word] = _value(value)
        elif word == "allOf":
            made[word] = [_branch(branch) for branch in value]
        elif word == "$defs":
            made[word] = {key: _keys(rules, more) for key, rules in value.items()}
        else:
            made[word] = value
    return made


def _branch(branch: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the condition strict: only a file that names its kind is held to that kind's keys."""
    return {"if": branch["if"], "then": _reference(branch["then"])}


def _value(strict: Mapping[str, Any]) -> dict[str, Any]:
    """Relax the schema of a value: it may also be an interpolation or ``???``."""
    words = {word: strict[word] for word in _WORDS if word in strict}
    if "$ref" in strict:
        relaxed = _reference(strict)
    elif strict.get("type") == "array":
        relaxed = {word: value for word, value in strict.items() if word not in _LEFT_OUT}
        if "items" in relaxed:
            relaxed["items"] = _value(relaxed["items"])
    else:
        relaxed = _keys(strict, {})
    plain = {word: value for word, value in relaxed.items() if word not in _WORDS}
    return {**words, "anyOf": [plain, _OPEN]} if plain else words


def _reference(strict: Mapping[str, Any]) -> dict[str, Any]:
    return {"$ref": strict["$ref"].replace("llmops:", "") + _suffix(strict["$ref"])}


def _suffix(reference: str) -> str:
    return "" if reference.startswith("#") else ".json"
