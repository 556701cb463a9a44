"""Reads one config file safely: plain values, and for each key the line and column it stands at.

Refuses what could hang, mislead or run code before OmegaConf sees it. Knows YAML only: nothing of
Hydra's composition, and nothing of what the keys mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from llmops.config.problems import KeyPath, Problem, dotted
from llmops.files import refusal

MAX_FILE_BYTES = 256 * 1024
MAX_NESTING = 50
MAX_ENTRIES = 4000  # keys and items of one file
MAX_INTERPOLATIONS = 100  # in one text
RESOLVERS = ("llmops.sql", "secret", "oc.select", "oc.create", "oc.decode")

_TAG = "tag:yaml.org,2002:"
_SCALARS = {_TAG + name for name in ("null", "bool", "int", "float", "str")}
_INTERPOLATION = re.compile(r"\$\{([^:}]*)(:?)")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
# OmegaConf reads 1e-4 as a number, which YAML 1.1 does not, and leaves dates as text.
_FLOAT = re.compile(
    r"""^(?:[-+]?[0-9]+(?:_[0-9]+)*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+)
    |\.[0-9]+(?:_[0-9]+)*(?:[eE][-+][0-9]+)?
    |[-+]?[0-9]+(?:_[0-9]+)*(?::[0-5]?[0-9])+\.[0-9_]*
    |[-+]?\.(?:inf|Inf|INF)
    |\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """libyaml's parser with OmegaConf's reading of plain scalars."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != _TAG + "timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_TAG + "float", _FLOAT, list("-+0123456789."))


@dataclass(frozen=True)
class Mark:
    """Where a key and its value stand in a file; lines and columns count from 1."""

    key_line: int
    key_column: int
    line: int
    column: int
    leaf: bool  # a scalar, or an empty list or mapping


@dataclass(frozen=True)
class Document:
    """A config file: its plain value, the marks of its keys, and what is wrong with it.

    ``value`` lacks the keys that ``problems`` tell of; ``usable``: anything could be read.
    """

    path: Path
    label: str
    package: str | None
    value: dict[str, Any]
    marks: Mapping[KeyPath, Mark]
    problems: tuple[Problem, ...] = ()
    usable: bool = True

    def place(self, path: KeyPath, *, of_key: bool = False) -> str:
        """Return ``file:line:column`` of a value, or of its key."""
        mark = self.marks[path]
        at = (mark.key_line, mark.key_column) if of_key else (mark.line, mark.column)
        return f"{self.label}:{at[0]}:{at[1]}"


def read(path: Path, label: str) -> Document:
    """Read a config file; whatever is wrong with it becomes problems.

    Raises:
        OSError: If the system refuses for now: that is no mistake of whoever wrote the file.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return _unusable(
                path, label, "a file of at most 256 KB", f"{path.stat().st_size} bytes"
            )
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as exc:
        return _unusable(path, label, "UTF-8 text", f"byte {exc.object[exc.start]:#04x} in it")
    except OSError as exc:
        if refusal(exc):
            raise
        return _unusable(path, label, "a file that can be read", str(exc.strerror))
    return parse(text, path, label)


def parse(text: str, path: Path, label: str) -> Document:
    """Parse the text of a config file; see ``read``."""
    builder = _Builder(text, label)
    try:
        value = builder.build()
    except yaml.MarkedYAMLError as exc:
        return _unusable(path, _at(label, exc.problem_mark), "YAML", _cause(exc))
    except yaml.YAMLError as exc:
        return _unusable(path, label, "YAML", str(exc).splitlines()[0])
    except _Refused as exc:
        return _unusable(path, _at(label, exc.mark), exc.expected, exc.got, exc.hint)
    header = _header(text, label)
    return Document(
        path=path,
        label=label,
        package=header.package,
        value=value,
        marks=builder.marks,
        problems=(*header.problems, *builder.problems),
    )


class _Refused(Exception):
    """The file as a whole cannot be used."""

    def __init__(self, mark: Any, expected: str, got: str, hint: str = "") -> None:
        super().__init__(expected)
        self.mark, self.expected, self.got, self.hint = mark, expected, got, hint


class _Builder:
    """Builds plain values from parser events: depth and aliases are met before they cost memory."""

    def __init__(self, text: str, label: str) -> None:
        self.loader = _Loader(text)
        self.label = label
        self.marks: dict[KeyPath, Mark] = {}
        self.problems: list[Problem] = []

    def build(self) -> dict[str, Any]:
        self._next()  # the stream's start
        if isinstance(self._next(), yaml.StreamEndEvent):
            return {}
        first = self._next()
        if isinstance(first, yaml.ScalarEvent) and not first.value:
            return {}
        if not isinstance(first, yaml.MappingStartEvent):
            raise _Refused(first.start_mark, "keys and values", "a list or a single value")
        value = self._mapping(first, ())
        self._next()  # the document's end
        following = self._next()
        if not isinstance(following, yaml.StreamEndEvent):
            raise _Refused(following.start_mark, "one YAML document", "a second one after ---")
        return value

    def _next(self) -> Any:
        event = self.loader.get_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Refused(
                event.start_mark,
                "no YAML anchors or aliases (&name, *name)",
                f"{'*' if isinstance(event, yaml.AliasEvent) else '&'}{event.anchor}",
                "write the value out, or refer to a key: ${group.key}",
            )
        return event

    def _value(self, event: Any, path: KeyPath) -> Any:
        if len(path) > MAX_NESTING:
            raise _Refused(event.start_mark, f"at most {MAX_NESTING} levels", "deeper nesting")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(event, path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(event, path)
        return self._scalar(event, path)

    def _mapping(self, start: Any, path: KeyPath) -> dict[str, Any]:
        self._check_tag(start, path, "map")
        value: dict[str, Any] = {}
        while not isinstance(key_event := self._next(), yaml.MappingEndEvent):
            key = self._key(key_event, path, value)
            item_event = self._next()
            if key is None:
                self._value(item_event, (*path, "?"))
                continue
            self._mark((*path, key), key_event, item_event)
            value[key] = self._value(item_event, (*path, key))
        self._empty(path, value)
        return value

    def _sequence(self, start: Any, path: KeyPath) -> list[Any]:
        self._check_tag(start, path, "seq")
        items: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            item = (*path, str(len(items)))
            self._mark(item, event, event)
            items.append(self._value(event, item))
        self._empty(path, items)
        return items

    def _key(self, event: Any, path: KeyPath, seen: Mapping[str, Any]) -> str | None:
        """Return a mapping's key, or None if it is refused."""
        if not isinstance(event, yaml.ScalarEvent):
            raise _Refused(event.start_mark, "a word as a key", "a list or mapping as a key")
        full = (*path, event.value)
        if self._tag(event) != _TAG + "str":
            got = f"{event.value}, which YAML reads as {_reads_as(self._tag(event))}"
            self._problem(event, full, "a text as a key", got, f'write "{event.value}"')
            return None
        if event.value == "_target_":
            hint = "choose an adapter by its `kind`"
            self._problem(
                event, full, "no _target_: config never names code to run", "_target_", hint
            )
            return None
        if event.value in seen:
            first = self.marks[full]
            got = f"'{event.value}' again; first in line {first.key_line}"
            self._problem(event, full, "each key once", got)
            return None
        return str(event.value)

    def _scalar(self, event: Any, path: KeyPath) -> Any:
        tag = self._tag(event)
        if tag not in _SCALARS:
            self._problem(event, path, "a plain value", f"the tag {_short(tag)}")
            return None
        number = tag in (_TAG + "int", _TAG + "float")
        if number and (":" in event.value or _LEADING_ZERO.fullmatch(event.value)):
            read_as = self._construct(tag, event)
            got = f"{event.value}, which YAML reads as {read_as}"
            self._problem(event, path, "a number or a text", got, f'write "{event.value}"')
            return event.value
        try:
            value = self._construct(tag, event)
        except ValueError:  # Python reads no number of more than 4300 digits
            got = f"{len(event.value)} characters"
            self._problem(event, path, "a number of at most 4300 digits", got)
            return None
        if isinstance(value, str) and "${" in value:
            return self._checked_interpolation(event, path, value)
        return value

    def _construct(self, tag: str, event: Any) -> Any:
        node = yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark)
        return self.loader.construct_object(node)

    def _checked_interpolation(self, event: Any, path: KeyPath, value: str) -> str:
        """Return the text, or an empty one in place of a text that OmegaConf must not see."""
        found = refused_interpolation(value)
        if not found:
            return value
        self._problem(event, path, found.expected, found.got, found.hint)
        return ""

    def _tag(self, event: Any) -> str:
        if event.tag and event.tag != "!":
            return str(event.tag)
        return str(self.loader.resolve(yaml.ScalarNode, event.value, event.implicit))

    def _check_tag(self, event: Any, path: KeyPath, kind: str) -> None:
        if event.tag and event.tag not in ("!", _TAG + kind):
            self._problem(event, path, "plain YAML", f"the tag {_short(event.tag)}")

    def _mark(self, path: KeyPath, key: Any, value: Any) -> None:
        if len(self.marks) >= MAX_ENTRIES:
            expected = f"at most {MAX_ENTRIES} keys and items in a file"
            raise _Refused(key.start_mark, expected, "more of them")
        self.marks[path] = Mark(
            key_line=key.start_mark.line + 1,
            key_column=key.start_mark.column + 1,
            line=value.start_mark.line + 1,
            column=value.start_mark.column + 1,
            leaf=isinstance(value, yaml.ScalarEvent),
        )

    def _empty(self, path: KeyPath, value: Any) -> None:
        """An empty list or mapping is a leaf: it says something by itself."""
        if not value and path in self.marks:
            mark = self.marks[path]
            self.marks[path] = Mark(mark.key_line, mark.key_column, mark.line, mark.column, True)

    def _problem(self, event: Any, path: KeyPath, expected: str, got: str, hint: str = "") -> None:
        where = _at(self.label, event.start_mark)
        self.problems.append(Problem(where, dotted(path), expected, got, hint))


@dataclass(frozen=True)
class RefusedInterpolation:
    """Why a text's ``${...}`` is not accepted."""

    expected: str
    got: str
    hint: str


def refused_interpolation(text: str) -> RefusedInterpolation | None:
    """Say why a text's interpolation is refused: it would read the environment or the clock."""
    if text.count("${") > MAX_INTERPOLATIONS:
        return RefusedInterpolation(
            f"at most {MAX_INTERPOLATIONS} interpolations in a text",
            f"{text.count('${')}",
            "split it over several keys",
        )
    for head, colon in _INTERPOLATION.findall(text):
        name = head.strip()
        if "${" in name:
            got = f"${{{head}..." if len(head) <= 40 else f"${{{head[:40]}..."
            return RefusedInterpolation(
                "an interpolation with a plain name", got, "write the key's name out"
            )
        if colon and name not in RESOLVERS:
            hint = f"use one of {', '.join('${' + known + ':...}' for known in RESOLVERS[:2])}"
            if name == "oc.env":
                hint = "use ${secret:NAME}: the config keeps the name, the adapter reads the value"
            return RefusedInterpolation("a resolver that llmops allows", f"${{{name}:...}}", hint)
    return None


@dataclass(frozen=True)
class _Header:
    package: str | None
    problems: tuple[Problem, ...] = field(default=())


def _header(text: str, label: str) -> _Header:
    """Read ``# @package NAME``; Hydra ignores it, silently, after any other line."""
    package: str | None = None
    open_header = True
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped:
            continue
        if not stripped.startswith("#"):
            break
        words = stripped.lstrip("#").split()
        if words[:1] == ["@package"]:
            if not open_header or len(words) != 2:
                meant = words[1] if len(words) > 1 else package  # so that the rest can be judged
                return _Header(meant, (_late_header(label, number, stripped),))
            package = words[1]
        elif not words or not words[0].startswith("@"):
            open_header = False
    return _Header(package)


def _late_header(label: str, number: int, line: str) -> Problem:
    return Problem(
        f"{label}:{number}:1",
        "",
        "`# @package NAME` in the first line, before any other comment",
        line,
        "Hydra ignores it here, without a word; move it to the top",
    )


def _unusable(path: Path, where: str, expected: str, got: str, hint: str = "") -> Document:
    problem = Problem(where, "", expected, got, hint)
    label = where.split(":", 1)[0]
    return Document(path, label, None, {}, {}, (problem,), usable=False)


def _at(label: str, mark: Any) -> str:
    return f"{label}:{mark.line + 1}:{mark.column + 1}" if mark else label


def _cause(exc: yaml.MarkedYAMLError) -> str:
    return ", ".join(part for part in (exc.problem, exc.context) if part)


def _short(tag: str) -> str:
    return tag.replace(_TAG, "!!")


_WORDS: Mapping[str, str] = {
    "bool": "true or false",
    "int": "a number",
    "float": "a number",
    "null": "nothing",
    "merge": "a merge of mappings",
    "value": "a default value",
}


def _reads_as(tag: str) -> str:
    return _WORDS.get(tag.removeprefix(_TAG), _short(tag))
