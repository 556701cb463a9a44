"""Checks a resolved config against the JSON Schemas beside this file: one a group, and the root.

Gives mistakes as key paths and words; knows no files, no lines and no Hydra. Nothing is fetched:
a reference that leads out of the folder is an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from llmops.config.problems import KeyPath
from llmops.errors import nearest

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, ValidationError

FOLDER = Path(__file__).resolve().parent / "schema"
_SHOWN = 60  # characters of a wrong value
_TYPES: Mapping[str, str] = {
    "string": "a text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
    "object": "keys and values",
}


@dataclass(frozen=True)
class Mistake:
    """What a schema or a rule has against a value; ``of_key``: against the key, not the value."""

    path: KeyPath
    expected: str
    got: str
    hint: str = ""
    of_key: bool = False


@cache
def schema(name: str) -> Mapping[str, Any]:
    """Return one schema by its group's name; ``root`` is the whole config's."""
    loaded: Mapping[str, Any] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return loaded


def names() -> tuple[str, ...]:
    """Return the names of all schemas, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def mistakes(config: Mapping[str, Any], *, name: str = "root") -> list[Mistake]:
    """Return everything that the schema has against a resolved config, in config order."""
    found = [mistake for error in _validator(name).iter_errors(config) for mistake in _told(error)]
    return sorted(found, key=lambda mistake: _position(config, mistake.path))


def known_keys(path: KeyPath, config: Any, *, name: str = "root") -> tuple[str, ...]:
    """Return the keys that the schema allows at ``path``, where ``config`` decides the kinds."""
    return tuple(sorted(_properties(schema(name), name, path, config)))


def described(path: KeyPath, config: Any, *, name: str = "root") -> str:
    """Return what the schema says of a key, or an empty text."""
    above, key = path[:-1], path[-1]
    found = _properties(schema(name), name, above, config).get(key, {})
    return str(found.get("description", ""))


def takes_any_key(path: KeyPath) -> bool:
    """Say whether the schema leaves the keys at ``path`` to the user, as for thresholds."""
    rules, name = schema("root"), "root"
    for part in path:
        rules, name = _followed(rules, name)
        rules = rules.get("properties", {}).get(part) or rules.get("additionalProperties") or {}
    rules, _ = _followed(rules, name)
    return "properties" not in rules and bool(rules.get("additionalProperties", True))


@cache
def _validator(name: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator, FormatChecker
    from referencing import Registry, Resource

    resources = [(f"llmops:{known}", Resource.from_contents(schema(known))) for known in names()]
    registry: Registry[Any] = Registry().with_resources(resources)
    return Draft202012Validator(schema(name), registry=registry, format_checker=FormatChecker())


def _told(error: ValidationError) -> Iterator[Mistake]:
    path = tuple(str(part) for part in error.absolute_path)
    rules = cast(Any, error.schema)
    wanted = cast(Any, error.validator_value)
    instance = cast(Any, error.instance)
    about = str(rules.get("description", ""))
    if error.validator == "additionalProperties":
        known = rules.get("properties", {})
        yield from (unknown_key((*path, str(key)), known) for key in instance if key not in known)
    elif error.validator == "required":
        for key in [key for key in wanted if key not in instance]:
            yield Mistake((*path, key), "this key", "nothing", _about(rules, key))
    elif "propertyNames" in error.absolute_schema_path:
        name = str(instance)
        yield Mistake((*path, name), about, shown(name), of_key=True)
    elif error.validator == "uniqueItems":
        yield Mistake(path, "each item once", shown(instance), about)
    elif error.validator == "enum":
        guess = nearest(str(instance), [str(value) for value in wanted])
        yield Mistake(path, _expected(rules), shown(instance), guess)
    else:
        yield Mistake(path, _expected(rules), shown(instance), about)


def unknown_key(path: KeyPath, known: Mapping[str, Any] | tuple[str, ...]) -> Mistake:
    """Return the mistake of a key that is not among ``known``, with the nearest that is."""
    valid = ", ".join(known) or "no key at all"
    guess = nearest(path[-1], known)
    return Mistake(path, f"one of the keys {valid}", f"unknown key '{path[-1]}'", guess, True)


def shown(value: object) -> str:
    """Return a wrong value as messages show it: short, with its type in words."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    cut = text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
    word = _type_word(value)
    return f"{cut} ({word})" if word else cut


def _type_word(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, str):
        return "a text"
    if isinstance(value, int | float):
        return "an integer" if isinstance(value, int) else "a number"
    return "a list" if isinstance(value, list) else "keys and values"


def _expected(rules: Mapping[str, Any]) -> str:
    if "const" in rules:
        return json.dumps(rules["const"])
    if "enum" in rules:
        return f"one of {', '.join(map(str, rules['enum']))}"
    types = rules.get("type", [])
    wanted = " or ".join(_TYPES[name] for name in ([types] if isinstance(types, str) else types))
    if "pattern" in rules:
        wanted += f" like {rules['pattern']}"
    elif rules.get("minItems") or rules.get("minLength") or rules.get("minProperties"):
        wanted += ", not empty"
    return ", ".join(part for part in (wanted, *_bounds(rules)) if part)


def _bounds(rules: Mapping[str, Any]) -> Iterator[str]:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "greater than",
        "maximum": "at most",
        "exclusiveMaximum": "less than",
    }
    for bound, word in words.items():
        if bound in rules:
            yield f"{word} {rules[bound]}"


def _about(rules: Mapping[str, Any], key: str) -> str:
    return str(rules.get("properties", {}).get(key, {}).get("description", ""))


def _position(config: Any, path: KeyPath) -> tuple[int, ...]:
    """Return where a path stands in the config, so that problems come in reading order."""
    position: list[int] = []
    for part in path:
        keys = _keys(config)
        if part not in keys:
            return (*position, len(keys))
        position.append(keys.index(part))
        config = config[part] if isinstance(config, Mapping) else config[int(part)]
    return tuple(position)


def _keys(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [str(key) for key in value]
    return [str(number) for number in range(len(value))] if isinstance(value, list) else []


def _properties(
    rules: Mapping[str, Any], name: str, path: KeyPath, config: Any
) -> dict[str, Mapping[str, Any]]:
    """Collect the properties at ``path``, following references and the branch of the kind."""
    rules, name = _followed(rules, name)
    found: dict[str, Mapping[str, Any]] = {}
    for branch in rules.get("allOf", []):
        if _applies(branch.get("if", {}), config):
            found |= _properties(branch["then"], name, path, config)
    properties = rules.get("properties", {})
    if not path:
        return found | {key: _followed(below, name)[0] for key, below in properties.items()}
    below = properties.get(path[0]) or rules.get("additionalProperties") or rules.get("items")
    if isinstance(below, Mapping):
        found |= _properties(below, name, path[1:], _child(config, path[0]))
    return found


def _followed(rules: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], str]:
    while "$ref" in rules:
        target = rules["$ref"]
        if target.startswith("#/$defs/"):
            rules = schema(name)["$defs"][target.removeprefix("#/$defs/")]
        else:
            name = target.removeprefix("llmops:")
            rules = schema(name)
    return rules, name


def _applies(condition: Mapping[str, Any], config: Any) -> bool:
    return isinstance(config, Mapping) and all(
        config.get(key) == wanted.get("const")
        for key, wanted in condition.get("properties", {}).items()
    )


def _child(config: Any, key: str) -> Any:
    return config.get(key) if isinstance(config, Mapping) else None
