"""Who set each leaf of a resolved config, and what that shadowed.

Works on the documents that the composition read, so it describes exactly the text that ran. Knows
no Hydra beyond ``compose.layers``. A list is one leaf: Hydra replaces lists as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from llmops.config import compose as composition
from llmops.config import project
from llmops.config.compose import Composed, Draft, Layer, Override
from llmops.config.documents import Document
from llmops.config.problems import KeyPath, command_line, dotted


@dataclass(frozen=True)
class Origin:
    """Where a leaf's value comes from. ``shadowed`` has the places it hides, nearest first.

    ``written`` is the text that stands there if it is an interpolation, e.g. ``${seed}``.
    """

    set_by: str
    shadowed: tuple[str, ...] = ()
    written: str | None = None


@dataclass(frozen=True)
class Setting:
    """One place that sets a key: how messages name key and value, and how origins name it."""

    of_key: str
    of_value: str
    named: str
    written: Any
    leaf: bool


@dataclass
class Table:
    """Every place that sets a key, in the order of merging: the last one counts."""

    settings: dict[KeyPath, list[Setting]] = field(default_factory=dict)

    def add(self, path: KeyPath, setting: Setting) -> None:
        """Note that a place sets ``path``; what stood below a replaced value goes."""
        if setting.leaf or isinstance(setting.written, list):
            for below in [known for known in self.settings if _is_below(known, path)]:
                del self.settings[below]
        self.settings[path] = [*self.settings.pop(path, []), setting]  # the latest stands last

    def place(self, path: KeyPath, *, of_key: bool = False) -> str:
        """Return the place that decides ``path``, or the nearest one above it, else below it."""
        for length in range(len(path), 0, -1):
            found = self.settings.get(path[:length])
            if found:
                return found[-1].of_key if of_key and length == len(path) else found[-1].of_value
        below = [known for known in self.settings if _is_below(known, path)]
        return self.settings[below[-1]][-1].of_value if below else "config"

    def origin(self, path: KeyPath) -> Origin:
        """Return the origin of a leaf; one below an interpolated subtree has that subtree's."""
        for length in range(len(path), 0, -1):
            found = self.settings.get(path[:length])
            if found:
                *shadowed, last = found
                places = tuple(setting.named for setting in reversed(shadowed))
                return Origin(last.named, places, _interpolation(last.written))
        return Origin("llmops")


def provenance(composed: Composed) -> dict[str, Origin]:
    """Return the origin of each leaf of the resolved config, by dotted key, in config order."""
    table = build(composed, composed.overrides)
    return {dotted(path): table.origin(path) for path in leaves(composed.config)}


def to_json(origins: Mapping[str, Origin]) -> dict[str, Any]:
    """Return the origins as plain JSON, for ``provenance.json`` of a run."""
    return {
        key: {name: value for name, value in asdict(origin).items() if value}
        for key, origin in origins.items()
    }


def build(composed: Composed | Draft, overrides: Sequence[str]) -> Table:
    """Collect every place that sets a key: the files in the order of merging, then overrides."""
    table = Table()
    for layer in composition.layers(composed):
        _add_layer(table, layer)
    groups = set(project.groups())
    for text in overrides:
        override = composition.parse_override(text)
        if override.key.split("@")[0] not in groups and not override.key.startswith("hydra"):
            _add_override(table, override)
    return table


def leaves(config: Mapping[str, Any], above: KeyPath = ()) -> list[KeyPath]:
    """Return the key paths of all leaves: scalars, lists and empty mappings."""
    found: list[KeyPath] = []
    for key, value in config.items():
        path = (*above, str(key))
        if isinstance(value, Mapping) and value:
            found += leaves(value, path)
        else:
            found.append(path)
    return found


def _add_layer(table: Table, layer: Layer) -> None:
    for path in layer.document.marks:
        if path[0] == "defaults" or (*layer.package, *path)[0] == "hydra":
            continue
        for document in (*reversed(layer.hidden), layer.document):
            if path in document.marks:
                table.add((*layer.package, *path), _setting(document, path))


def _setting(document: Document, path: KeyPath) -> Setting:
    return Setting(
        of_key=document.place(path, of_key=True),
        of_value=document.place(path),
        named=document.place(path),
        written=_at(document.value, path),
        leaf=document.marks[path].leaf,
    )


def _add_override(table: Table, override: Override) -> None:
    place = command_line(override.text)
    path = tuple(override.key.split("."))
    if override.deletes:
        for gone in [known for known in table.settings if known[: len(path)] == path]:
            del table.settings[gone]
        return
    for below, value in _flat(override.value, path):
        leaf = not isinstance(value, Mapping)
        table.add(below, Setting(place, place, f"command line: {override.text}", value, leaf))


def _flat(value: Any, path: KeyPath) -> list[tuple[KeyPath, Any]]:
    found = [(path, value)]
    if isinstance(value, Mapping):
        for key, item in value.items():
            found += _flat(item, (*path, str(key)))
    return found


def _at(value: Any, path: KeyPath) -> Any:
    for key in path:
        if isinstance(value, list):
            value = value[int(key)]
        elif isinstance(value, Mapping) and key in value:
            value = value[key]
        else:
            return None
    return value


def _interpolation(written: Any) -> str | None:
    return written if isinstance(written, str) and "${" in written else None


def _is_below(path: KeyPath, above: KeyPath) -> bool:
    return len(path) > len(above) and path[: len(above)] == above
