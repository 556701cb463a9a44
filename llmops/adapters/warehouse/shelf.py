"""The folder that holds the embedded warehouse's tables, one database file a table.

``tables.json`` says what there is and is replaced as a whole, last of all: a process that dies
leaves either nothing or a whole table. Knows neither DuckDB nor SQL, so that the versions of
tables can be read in a millisecond.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmops.errors import BackendError, ConfigError
from llmops.files import write_text
from llmops.ports.warehouse import Column, Table

LOCK_TIMEOUT_S = 600
_LAYOUT = 1


@dataclass(frozen=True)
class StoredTable:
    """A table, the file that holds its rows and what each column weighs in BigQuery's bytes."""

    table: Table
    file: str  # name inside ``data/``
    column_bytes: Mapping[str, int]


class Shelf:
    """The folder of one warehouse: ``tables.json``, ``data/``, ``temporary/``, ``checks/``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.temporary = folder / "temporary"
        self.checks = folder / "checks"

    def tables(self) -> dict[str, StoredTable]:
        """Return the tables by name, sorted.

        Raises:
            BackendError: If ``tables.json`` is damaged or of another layout.
        """
        path = self.folder / "tables.json"
        try:
            return _parsed(json.loads(path.read_text("utf-8")))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise BackendError(
                f"{path} cannot be read ({exc})",
                hint=f"remove the folder {self.folder} and load the tables again",
            ) from exc

    def digest(self) -> str:
        """Return a text that changes whenever a table does."""
        return ",".join(f"{name}={held.table.version}" for name, held in self.tables().items())

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let one process at a time change the tables.

        Raises:
            BackendError: If the folder cannot be written or another process holds it too long.
        """
        from filelock import FileLock, Timeout

        self._make_folders()
        lock = FileLock(str(self.folder / "lock"), timeout=LOCK_TIMEOUT_S)
        try:
            lock.acquire()
        except (Timeout, OSError) as exc:
            raise BackendError(
                f"the warehouse {self.folder} is held ({exc})", retryable=True
            ) from exc
        try:
            yield
        finally:
            lock.release()

    def new_file(self) -> Path:
        """Return a path for a table in the making; the caller holds the lock."""
        for leftover in self.data.glob("making-*"):  # the lock is ours, so its maker is dead
            leftover.unlink(missing_ok=True)
        return self.data / f"making-{os.getpid()}.duckdb"

    def publish(self, made: Mapping[Path, StoredTable]) -> None:
        """Make finished files into tables, all at once; the caller holds the lock."""
        before = self.tables()
        for path, held in made.items():
            _sync(path)
            path.replace(self.data / held.file)
        _sync(self.data)
        after = dict(sorted((before | {h.table.name: h for h in made.values()}).items()))
        write_text(self.folder / "tables.json", _text(after))
        kept = {held.file for held in (*before.values(), *after.values())}
        for path in self.data.glob("*.duckdb"):
            if path.name not in kept:  # a file of the version before stays for its readers
                path.unlink(missing_ok=True)

    def _make_folders(self) -> None:
        try:
            for folder in (self.data, self.temporary, self.checks):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise BackendError(
                f"the warehouse folder {self.folder} cannot be made ({exc})",
                hint="free some space, or give the workspace write permission",
            ) from exc


def table_name(text: str) -> str:
    """Return ``project.dataset.table`` without backquotes.

    Raises:
        ConfigError: If it has not three parts of letters, digits, ``-`` and ``_``.
    """
    name = text.replace("`", "")
    parts = name.split(".")
    if len(parts) != 3 or not all(_is_name(part) for part in parts):
        raise ConfigError(
            f"'{text}' does not name a table",
            hint="write project.dataset.table, e.g. my-project.support.tickets",
        )
    return name


def _is_name(part: str) -> bool:
    return bool(part) and all(letter.isalnum() or letter in "-_" for letter in part)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _text(tables: Mapping[str, StoredTable]) -> str:
    return json.dumps(
        {"layout": _LAYOUT, "tables": [asdict(held) for held in tables.values()]}, indent=1
    )


def _parsed(document: Any) -> dict[str, StoredTable]:
    if document["layout"] != _LAYOUT:
        raise ValueError(f"layout {document['layout']}, this version of llmops reads {_LAYOUT}")
    return {item["table"]["name"]: _stored(item) for item in document["tables"]}


def _stored(item: Mapping[str, Any]) -> StoredTable:
    fields = dict(item["table"])
    fields["columns"] = tuple(Column(**column) for column in fields["columns"])
    return StoredTable(Table(**fields), item["file"], item["column_bytes"])
