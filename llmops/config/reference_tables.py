"""Dated tables of the outside world: prices, provider limits, lifecycles of base models.

They are ``conf/knowledge/*.yaml``, edited by people; a project's own file stands in for the
packaged one. Checked against their schemas on reading. Knows nothing of what is estimated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmops.config import project
from llmops.errors import ConfigError

if TYPE_CHECKING:
    from llmops.config.documents import Document
    from llmops.config.problems import Problem

FOLDER = "knowledge"


@dataclass(frozen=True)
class ReferenceTables:
    """The three tables as plain data, and the files they were read from."""

    prices: Mapping[str, Any]
    limits: Mapping[str, Any]
    models: Mapping[str, Any]
    files: Mapping[str, str]


def read_tables() -> ReferenceTables:
    """Read the tables.

    Raises:
        ConfigProblems: If a file does not fit its schema, with line and column.
        ConfigError: If a file is missing.
    """
    read = {name: _read(name) for name in ("prices", "limits", "models")}
    return ReferenceTables(
        prices=read["prices"].value,
        limits=read["limits"].value,
        models=read["models"].value,
        files={name: document.label for name, document in read.items()},
    )


def _read(name: str) -> Document:
    from llmops.config import documents
    from llmops.config.problems import raise_all

    relative = f"{FOLDER}/{name}.yaml"
    for folder in project.conf_folders():
        path = folder.path / relative
        if path.is_file():
            document = documents.read(path, f"{folder.label}/{relative}")
            raise_all([*document.problems, *_mistakes(document, name)])
            return document
    raise ConfigError(f"there is no conf/{relative}", hint="llmops is not installed completely")


def _mistakes(document: Document, name: str) -> list[Problem]:
    from llmops.config import schemas
    from llmops.config.problems import Problem, dotted

    return [
        Problem(
            where=_place(document, mistake.path, of_key=mistake.of_key),
            key=dotted(mistake.path),
            expected=mistake.expected,
            got=mistake.got,
            hint=mistake.hint,
        )
        for mistake in schemas.mistakes(document.value, name=f"{FOLDER}/{name}")
    ]


def _place(document: Document, path: tuple[str, ...], *, of_key: bool) -> str:
    """Return where a key stands, or the nearest one above it."""
    for length in range(len(path), 0, -1):
        if path[:length] in document.marks:
            return document.place(path[:length], of_key=of_key and length == len(path))
    return document.label
