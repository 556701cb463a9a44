"""Remembers checked experiments, so that asking again for the same one needs no Hydra.

Composition reads the config folders and the overrides and nothing else: no environment, no clock
(``documents`` refuses both). So the same bytes of config, the same overrides and the same code of
this floor give the same resolved config. What is wrong is never remembered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmops.artifacts import digest
from llmops.config import project
from llmops.files import write_text
from llmops.packages import installed_version

FLOOR = Path(__file__).parent
FOLDER = Path(".llmops", "composed")


@dataclass(frozen=True)
class Checked:
    """A valid experiment: its resolved config, who set each leaf, and the tables (plain JSON)."""

    config: dict[str, Any]
    overrides: tuple[str, ...]
    origins: Mapping[str, Any]
    tables: Mapping[str, Any]  # ``conf/knowledge`` as it was then: the fields of ReferenceTables


def checked(
    overrides: Sequence[str], *, before_composing: Callable[[], None] = lambda: None
) -> Checked:
    """Compose and check an experiment, or recall what came of it before.

    Args:
        overrides: As on the command line.
        before_composing: Called if it has to be composed, which takes a while.

    Raises:
        ConfigProblems: With every mistake at once.
    """
    place = project.workspace() / FOLDER / f"{_key(overrides)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = json.loads(place.read_text("utf-8"))
        known["overrides"] = tuple(known["overrides"])
        return Checked(**known)
    before_composing()
    from llmops.config.provenance import provenance, to_json
    from llmops.config.reference_tables import read_tables
    from llmops.config.validate import validate

    composed = validate(overrides)
    origins, tables = to_json(provenance(composed)), asdict(read_tables())
    made = Checked(composed.config, composed.overrides, origins, tables)
    with contextlib.suppress(OSError):  # a workspace that cannot be written to is told of later
        place.parent.mkdir(parents=True, exist_ok=True)
        write_text(place, json.dumps(asdict(made), ensure_ascii=False))
    return made


def _key(overrides: Sequence[str]) -> str:
    return digest(
        {
            "hydra": installed_version("hydra-core"),
            "overrides": list(overrides),
            "files": {name: _sha256(path) for name, path in _files()},
        }
    )


def _files() -> Iterator[tuple[str, Path]]:
    """Yield every file that a composition can read, and this floor's own code."""
    folders = [(folder.label, folder.path) for folder in project.conf_folders()]
    for label, folder in [*folders, ("floor", FLOOR)]:
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".yaml", ".yml", ".sql", ".json", ".py"):
                yield f"{label}/{path.relative_to(folder)}", path


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
