"""A model registry of files: one folder a model, safe under several writers on one machine.

    <name>/versions/<n>.json    a version; written once, never changed
    <name>/deleted/<n>.json     a version that was deleted; its number is not given again
    <name>/aliases.json         alias -> version, replaced as a whole
    <name>/history.jsonl        every move of an alias with its reason; only ever longer

Every file is replaced whole, under one kernel lock a model. A move is in the history before the
alias moves: after a crash between the two, the same call again finishes it. Knows no gate and no
run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmops.adapters.registry.moves import check_expected, check_unaliased, version_before
from llmops.artifacts import canonical_json, digest
from llmops.errors import BackendError, ConfigError, unknown_name
from llmops.files import disk_errors, write_text
from llmops.ports.model import ModelReference
from llmops.ports.registry import ANY, AliasMove, ModelVersion

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*", re.ASCII)
NAME_LIMIT = 100  # characters, so that every path stays valid everywhere
LOCK_TIMEOUT_S = 60.0  # a writer holds the lock for milliseconds


def open_registry(config: Mapping[str, Any], workspace: Path) -> FileRegistry:
    """Open ``deploy.registry``: ``path`` is relative to the workspace. Nothing is created yet."""
    return FileRegistry(workspace / config["path"])


@dataclass(frozen=True)
class FileRegistry:
    """Named, versioned models under ``root``."""

    root: Path

    def register(
        self, name: str, model: ModelReference, *, labels: Mapping[str, str], run_id: str
    ) -> ModelVersion:
        """Register ``model``, or return the version that already holds the same reference.

        Raises:
            ConfigError: If the name could not be a folder's.
            BackendError: If the disk refuses.
        """
        check_name("model name", name)
        folder = self.root / name
        content = digest(asdict(model))
        with _writing(folder):
            for version in self._versions(name):
                if version.digest == content:
                    return version
            number = max([*_numbers(folder), *_numbers(folder, "deleted")], default=0) + 1
            document = {
                "name": name,
                "version": number,
                "model": asdict(model),
                "digest": content,
                "labels": dict(labels),
                "registered_by": run_id,
                "registered_at": _now(),
            }
            write_text(folder / "versions" / f"{number}.json", canonical_json(document) + "\n")
            return self._version(name, number)

    def set_alias(
        self,
        name: str,
        alias: str,
        version: int,
        *,
        reason: str,
        expected: int | None = ANY,
        forced: bool = False,
    ) -> ModelVersion:
        """Point ``alias`` at ``version`` and note it in the history; doing so twice moves nothing.

        Raises:
            ConfigError: If the model or version is unknown, or the alias reads as a number.
            Refused: If the alias does not point at ``expected``.
            BackendError: If the disk refuses.
        """
        check_name("alias", alias)
        if alias.isdecimal():
            raise ConfigError(f"alias '{alias}' is a number: it would read as a version")
        self._check_version(name, str(version))
        with _writing(self.root / name):
            self._check_version(name, str(version))  # it may have been deleted meanwhile
            before = _aliases(self.root / name).get(alias)
            check_expected(name, alias, before, expected)
            if before != version:
                move = AliasMove(alias, before, version, reason, _now(), forced=forced)
                self._move(name, move)
        return self._version(name, version)

    def rollback(self, name: str, alias: str, *, reason: str) -> ModelVersion:
        """Point ``alias`` at what it held before its last move; see ``ports.registry.Registry``."""
        self._check_model(name)
        folder = self.root / name
        with _writing(folder):
            before = self._held(name, alias)
            version = version_before(self.history(name), name, alias, _numbers(folder))
            self._move(name, AliasMove(alias, before, version, reason, _now(), "rollback"))
        return self._version(name, version)

    def drop_alias(self, name: str, alias: str, *, reason: str) -> None:
        """Remove an alias; see ``ports.registry.Registry``."""
        self._check_model(name)
        with _writing(self.root / name):
            before = self._held(name, alias)
            self._move(name, AliasMove(alias, before, None, reason, _now(), "drop"))

    def delete(self, name: str, version: int, *, reason: str) -> None:
        """Delete a version that no alias points at; see ``ports.registry.Registry``."""
        folder = self.root / name
        self._check_version(name, str(version))
        with _writing(folder):
            self._check_version(name, str(version))
            check_unaliased(self._version(name, version))
            gone = AliasMove(None, version, None, reason, _now(), "delete")
            _append(folder / "history.jsonl", canonical_json(asdict(gone)))
            (folder / "deleted").mkdir(exist_ok=True)
            (folder / "versions" / f"{version}.json").rename(folder / "deleted" / f"{version}.json")

    def _held(self, name: str, alias: str) -> int:
        aliases = _aliases(self.root / name)
        if alias not in aliases:
            raise unknown_name("alias", alias, aliases, where=f"model '{name}'")
        return aliases[alias]

    def _move(self, name: str, move: AliasMove) -> None:
        """Note a move, then make it; the caller holds the model's lock."""
        folder = self.root / name
        _append(folder / "history.jsonl", canonical_json(asdict(move)))
        kept = {alias: at for alias, at in _aliases(folder).items() if alias != move.alias}
        moved = kept if move.version is None else {**kept, str(move.alias): move.version}
        write_text(folder / "aliases.json", canonical_json(moved) + "\n")

    def get(self, name: str, alias_or_version: str) -> ModelVersion:
        """Return one version, by its number or an alias.

        Raises:
            ConfigError: If the model, version or alias is unknown, with the nearest name.
        """
        self._check_model(name)
        number = _aliases(self.root / name).get(alias_or_version)
        if number is None:
            self._check_version(name, alias_or_version)
            number = int(alias_or_version)
        return self._version(name, number)

    def list(self) -> Sequence[ModelVersion]:
        """Return every version, by name, then newest first."""
        return [version for name in self._names() for version in self._versions(name)]

    def history(self, name: str) -> Sequence[AliasMove]:
        """Return what happened to this model's aliases and versions, oldest first.

        Raises:
            ConfigError: If the model is unknown.
        """
        self._check_model(name)
        lines = _text(self.root / name / "history.jsonl").splitlines()
        return [AliasMove(**json.loads(line)) for line in lines]

    def _names(self) -> Sequence[str]:
        if not self.root.is_dir():
            return []
        return sorted(path.parent.name for path in self.root.glob("*/versions"))

    def _versions(self, name: str) -> Sequence[ModelVersion]:
        numbers = sorted(_numbers(self.root / name), reverse=True)
        return [self._version(name, number) for number in numbers]

    def _version(self, name: str, number: int) -> ModelVersion:
        folder = self.root / name
        document = _document(folder / "versions" / f"{number}.json")
        pointing = sorted(alias for alias, at in _aliases(folder).items() if at == number)
        return ModelVersion(
            name=document["name"],
            version=document["version"],
            model=ModelReference(**document["model"]),
            digest=document["digest"],
            aliases=tuple(pointing),
            labels=document["labels"],
            registered_by=document["registered_by"],
        )

    def _check_model(self, name: str) -> None:
        names = self._names()
        if not names:
            raise ConfigError(
                f"there is no model '{name}': the registry {self.root} is empty",
                hint="python -m llmops run +experiment=so_python registers one",
            )
        if name not in names:
            raise unknown_name("model", name, names, where=f"the registry {self.root}")

    def _check_version(self, name: str, wanted: str) -> None:
        self._check_model(name)
        folder = self.root / name
        numbers = [str(number) for number in _numbers(folder)]
        if wanted not in numbers:
            known = [*numbers, *_aliases(folder)]
            raise unknown_name("version or alias", wanted, known, where=f"model '{name}'")


def check_name(what: str, name: str) -> None:
    """Refuse a name that could not be a folder's everywhere.

    Raises:
        ConfigError: If it could not.
    """
    if len(name) > NAME_LIMIT or not NAME.fullmatch(name):
        raise ConfigError(
            f"'{name[:NAME_LIMIT]}' cannot be a {what}",
            hint=f"letters, digits, '_', '-' and single dots, at most {NAME_LIMIT} characters",
        )


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    with disk_errors(folder, setting="deploy.registry.path"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder / ".lock", timeout=LOCK_TIMEOUT_S):
                (folder / "versions").mkdir(exist_ok=True)
                yield
        except Timeout as exc:
            raise BackendError(
                f"the registry of {folder.name} has been locked for {LOCK_TIMEOUT_S:.0f} s",
                hint=f"see who holds {folder / '.lock'}",
                retryable=True,
            ) from exc


def _numbers(folder: Path, kept: str = "versions") -> Sequence[int]:
    paths = (folder / kept).glob("*.json")
    return [int(path.stem) for path in paths if path.stem.isdecimal()]


def _aliases(folder: Path) -> Mapping[str, int]:
    path = folder / "aliases.json"
    return _document(path) if path.exists() else {}


def _document(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise BackendError(
            f"{path} cannot be read: {exc}",
            hint="restore it from a copy; nothing else can rebuild it",
        ) from exc


def _text(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


def _append(path: Path, line: str) -> None:
    """Lengthen the file by a line as a new file: a crash leaves the old one, never half a line."""
    write_text(path, f"{_text(path)}{line}\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
