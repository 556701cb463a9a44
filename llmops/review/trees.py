"""Folders of config files as they are compared: which experiments can two of them differ in?

Only those need composing whose files differ in more than words and order. The graph of ``defaults``
is read generously: a file counts as used where it might be. Knows no Hydra and no meaning of keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from llmops.config import documents, project
from llmops.config.documents import Document

QUERY = re.compile(r"llmops\.sql:\s*([^}\s]*)")
EVERYTHING = "*"  # a file that may use any other


@dataclass(frozen=True)
class Uses:
    """What a file may bring in: other files by relative path, and groups it overrides."""

    files: frozenset[str]
    overrides: frozenset[str]


@dataclass(frozen=True)
class Tree:
    """A project's config folder over the packaged one; the former's files shadow the latter's."""

    label: str
    own: Path | None
    packaged: Path

    @cached_property
    def files(self) -> Mapping[str, Path]:
        """Every YAML and SQL file by its path below ``conf/``."""
        found: dict[str, Path] = {}
        for folder in (self.packaged, self.own):
            if folder is not None:
                for suffix in ("yaml", "sql"):
                    for path in folder.rglob(f"*.{suffix}"):
                        found[path.relative_to(folder).as_posix()] = path
        return found

    @property
    def experiments(self) -> tuple[str, ...]:
        """The names of all experiments, sorted."""
        names = (f for f in self.files if f.startswith("experiment/") and f.endswith(".yaml"))
        return tuple(sorted(n.removeprefix("experiment/").removesuffix(".yaml") for n in names))

    def read(self, name: str) -> Document:
        """Read one of the files."""
        return documents.read(self.files[name], name)

    def may_use(self, experiment: str) -> frozenset[str]:
        """Return every file that the experiment's composition may read."""
        top = f"experiment/{experiment}.yaml"
        overrides = self.uses(top).overrides
        found: set[str] = {top}
        rest = [top, "config.yaml"]
        while rest:
            name = rest.pop()
            found.add(name)
            for other in self.uses(name).files:
                given = name == "config.yaml" and other.partition("/")[0] in overrides
                if other not in found and not given:
                    rest.append(other)
        return frozenset(found)

    def uses(self, name: str) -> Uses:
        """Return what a file may bring in; nothing if there is no such file."""
        if name not in self.files or not name.endswith(".yaml"):
            return _NOTHING
        return _uses(name, self.files[name].read_bytes())


_NOTHING = Uses(frozenset(), frozenset())


def affected(base: Tree, head: Tree) -> tuple[str, ...]:
    """Return the experiments of both trees that may differ, sorted."""
    changed = changed_files(base, head)
    both = set(base.experiments) & set(head.experiments)
    if not changed:
        return ()
    return tuple(sorted(name for name in both if _touches(base, head, name, changed)))


def changed_files(base: Tree, head: Tree) -> frozenset[str]:
    """Return the files that differ in more than comments, order of keys and layout."""
    names = base.files.keys() | head.files.keys()
    return frozenset(name for name in names if not _same(base, head, name))


def _touches(base: Tree, head: Tree, name: str, changed: frozenset[str]) -> bool:
    used = base.may_use(name) | head.may_use(name)
    return EVERYTHING in used or bool(used & changed)


def _same(base: Tree, head: Tree, name: str) -> bool:
    if name not in base.files or name not in head.files:
        return False
    old, new = base.files[name], head.files[name]
    if old == new or old.read_bytes() == new.read_bytes():
        return True
    if name.endswith(".sql"):
        return False
    before, after = base.read(name), head.read(name)
    if before.problems or after.problems:
        return False
    return (before.package, before.value) == (after.package, after.value)


@lru_cache(maxsize=4096)
def _uses(name: str, content: bytes) -> Uses:
    document = documents.parse(content.decode("utf-8", "replace"), Path(name), name)
    group = name.rpartition("/")[0]
    files: set[str] = set(_queries(document.value))
    overrides: set[str] = set()
    for entry in document.value.get("defaults") or ():
        for wanted, choice in _entries(entry):
            words = wanted.split()
            if "override" in words:
                overrides.add(_group(words[-1], "").strip("/"))
            for one in choice if isinstance(choice, list) else [choice]:
                files |= _files(words[-1] if words else "", one, group)
    return Uses(frozenset(files), frozenset(overrides))


def _entries(entry: Any) -> Iterator[tuple[str, Any]]:
    """Yield a default's group (with its keywords) and choice; the group is empty for a file."""
    if isinstance(entry, str):
        yield "", entry
    elif isinstance(entry, Mapping):
        yield from ((str(key), value) for key, value in entry.items())


def _files(wanted: str, choice: Any, group: str) -> set[str]:
    if choice is None or choice == "_self_":
        return set()
    if "${" in f"{wanted}{choice}" or not isinstance(choice, str):
        return {EVERYTHING}
    folder = _group(wanted, group)
    plain = choice.split("@")[0].removesuffix(".yaml")
    path = plain.lstrip("/") if plain.startswith("/") else f"{folder}/{plain}".lstrip("/")
    return {f"{path}.yaml"}


def _group(wanted: str, above: str) -> str:
    """Return the folder that a default's group names; a relative one lies below its file's."""
    plain = wanted.split("@")[0]
    if plain.startswith("/"):
        return plain.lstrip("/")
    return f"{above}/{plain}".strip("/")


def _queries(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _queries(item)
    elif isinstance(value, list):
        for item in value:
            yield from _queries(item)
    elif isinstance(value, str) and "llmops.sql" in value:
        for name in QUERY.findall(value):
            yield EVERYTHING if "$" in name or not name else f"sql/{name}.sql"


def here(label: str = "working tree") -> Tree:
    """Return the config folders that commands here compose from."""
    return Tree(label, project.project_conf(), project.packaged_conf())


def over(conf: Path, label: str) -> Tree:
    """Return another config folder in the place of the project's own.

    In a checkout of llmops the packaged config is the project's own: it is replaced as well.
    """
    own, packaged = project.project_conf(), project.packaged_conf()
    checkout = own is not None and own.resolve() == packaged.resolve()
    has_root = (conf / "config.yaml").is_file()
    return Tree(label, conf, conf if checkout and has_root else packaged)
