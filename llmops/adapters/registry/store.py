"""A model registry in the store of the experiment: what a cluster without one of its own has.

    registry/<name>/<number>.json    everything that is known of a model, after its n-th change

A change is a new object of the next number, created on the condition that there is none. Of two
writers one succeeds; the other reads what that one wrote and decides anew. So an alias moves
whole or not at all, no lock is held, and no state is ever lost. Knows no gate and no run.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from llmops.adapters.registry.files import check_name
from llmops.adapters.registry.moves import check_expected, check_unaliased, version_before
from llmops.adapters.store.blobs import Blobs
from llmops.artifacts import canonical_json, digest
from llmops.errors import BackendError, ConfigError, unknown_name
from llmops.ports.model import ModelReference
from llmops.ports.registry import ANY, AliasMove, ModelVersion

FOLDER = "registry/"
PATIENCE_S = 60.0  # how long a writer is overtaken by others before it gives up
PAUSE_S = 0.2


def open_registry(
    config: Mapping[str, Any], workspace: Path, *, environment: Mapping[str, Any] | None = None
) -> StoreRegistry:
    """Open ``deploy.registry``; its ``store`` is the config's own. Nothing is asked yet."""
    return StoreRegistry(_open_blobs(config["store"], workspace, environment or {}))


def _open_blobs(store: Mapping[str, Any], workspace: Path, environment: Mapping[str, Any]) -> Blobs:
    if store["kind"] == "gcs":
        from llmops.adapters.store import gcs

        return gcs.open_blobs(store, environment)
    from llmops.adapters.store import fsspec

    if store["kind"] == "folder":
        return fsspec.FsspecBlobs(f"file://{(workspace / store['path']).resolve()}", {})
    return fsspec.open_blobs(store)


@dataclass(frozen=True)
class State:
    """A model after some change. ``versions`` are documents by number, deleted ones among them."""

    versions: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    deleted: tuple[int, ...] = ()
    aliases: Mapping[str, int] = field(default_factory=dict)
    history: tuple[AliasMove, ...] = ()

    @property
    def numbers(self) -> list[int]:
        """The versions that exist, newest first."""
        return sorted(set(self.versions) - set(self.deleted), reverse=True)

    def moved(self, move: AliasMove) -> State:
        """Return the state after an alias went where ``move`` says."""
        kept = {alias: at for alias, at in self.aliases.items() if alias != move.alias}
        if move.version is not None:
            kept[str(move.alias)] = move.version
        return replace(self, aliases=kept, history=(*self.history, move))

    def held(self, name: str, alias: str) -> int:
        """Return where an alias points.

        Raises:
            ConfigError: If there is no such alias.
        """
        if alias not in self.aliases:
            raise unknown_name("alias", alias, self.aliases, where=f"model '{name}'")
        return self.aliases[alias]

    def version(self, name: str, wanted: str) -> ModelVersion:
        """Return a version by its number or an alias.

        Raises:
            ConfigError: If there is none.
        """
        number = self.aliases.get(wanted, int(wanted) if wanted.isdecimal() else None)
        if number is None or number not in self.numbers:
            known = [*map(str, self.numbers), *self.aliases]
            raise unknown_name("version or alias", wanted, known, where=f"model '{name}'")
        document = self.versions[number]
        return ModelVersion(
            name=name,
            version=number,
            model=ModelReference(**document["model"]),
            digest=document["digest"],
            aliases=tuple(sorted(alias for alias, at in self.aliases.items() if at == number)),
            labels=document["labels"],
            registered_by=document["registered_by"],
        )


Change = Callable[[State], State]


class StoreRegistry:
    """Named, versioned models beside the objects of a store."""

    def __init__(self, blobs: Blobs) -> None:
        self.blobs = blobs

    # ------------------------------------------------------------------ writing

    def register(
        self, name: str, model: ModelReference, *, labels: Mapping[str, str], run_id: str
    ) -> ModelVersion:
        """Register ``model``, or return the version that holds it; see ``Registry``."""
        check_name("model name", name)
        document = {
            "model": asdict(model),
            "digest": digest(asdict(model)),
            "labels": dict(labels),
            "registered_by": run_id,
            "registered_at": _now(),
        }
        after = self._change(name, partial(_with_version, document=document))
        holder = next(n for n in after.numbers if _same(after.versions[n], document))
        return after.version(name, str(holder))

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
        """Point ``alias`` at ``version``; see ``ports.registry.Registry``."""
        check_name("alias", alias)
        if alias.isdecimal():
            raise ConfigError(f"alias '{alias}' is a number: it would read as a version")

        def change(state: State) -> State:
            state.version(name, str(version))
            before = state.aliases.get(alias)
            check_expected(name, alias, before, expected)
            if before == version:
                return state
            return state.moved(AliasMove(alias, before, version, reason, _now(), forced=forced))

        return self._changed(name, change).version(name, str(version))

    def rollback(self, name: str, alias: str, *, reason: str) -> ModelVersion:
        """Point ``alias`` at what it held before its last move; see ``ports.registry.Registry``."""

        def change(state: State) -> State:
            before = state.held(name, alias)
            version = version_before(state.history, name, alias, state.numbers)
            return state.moved(AliasMove(alias, before, version, reason, _now(), "rollback"))

        return self._changed(name, change).version(name, alias)

    def drop_alias(self, name: str, alias: str, *, reason: str) -> None:
        """Remove an alias; see ``ports.registry.Registry``."""

        def change(state: State) -> State:
            before = state.held(name, alias)
            return state.moved(AliasMove(alias, before, None, reason, _now(), "drop"))

        self._changed(name, change)

    def delete(self, name: str, version: int, *, reason: str) -> None:
        """Delete a version that no alias points at; see ``ports.registry.Registry``."""

        def change(state: State) -> State:
            check_unaliased(state.version(name, str(version)))
            gone = AliasMove(None, version, None, reason, _now(), "delete")
            deleted = (*state.deleted, version)
            return replace(state, deleted=deleted, history=(*state.history, gone))

        self._changed(name, change)

    # ------------------------------------------------------------------ reading

    def get(self, name: str, alias_or_version: str) -> ModelVersion:
        """Return one version, by its number or an alias; see ``ports.registry.Registry``."""
        return self._state(name).version(name, alias_or_version)

    def list(self) -> Sequence[ModelVersion]:
        """Return every version, by name, then newest first."""
        found = {name: self._state(name) for name in self._names()}
        return [state.version(name, str(n)) for name, state in found.items() for n in state.numbers]

    def history(self, name: str) -> Sequence[AliasMove]:
        """Return what happened to this model's aliases and versions, oldest first."""
        return self._state(name).history

    def _state(self, name: str) -> State:
        number = self._latest(name)
        if number == 0:
            names = self._names()
            if not names:
                raise ConfigError(
                    f"there is no model '{name}': the registry in {self.blobs.uri} is empty",
                    hint="python -m llmops run +experiment=so_python registers one",
                )
            raise unknown_name("model", name, names, where=f"the registry in {self.blobs.uri}")
        return self._read(name, number)

    # ------------------------------------------------------------- the objects

    def _changed(self, name: str, change: Change) -> State:
        self._state(name)  # an unknown model is told of
        return self._change(name, change)

    def _change(self, name: str, change: Change) -> State:
        """Write what ``change`` makes of the newest state; ask it anew if somebody was faster."""
        end = time.monotonic() + PATIENCE_S
        while True:
            number = self._latest(name)
            before = self._read(name, number) if number else State()
            after = change(before)
            if after == before or self._written(name, number + 1, after):
                return after
            if time.monotonic() > end:
                raise BackendError(
                    f"the registry's model {name} was changed by others for {PATIENCE_S:.0f} s",
                    hint="run it again",
                    retryable=True,
                )
            time.sleep(random.uniform(0, PAUSE_S))

    def _written(self, name: str, number: int, state: State) -> bool:
        """Create the object of that number; an answer that was lost is asked for."""
        mine = uuid.uuid4().hex
        document = canonical_json(_plain(state) | {"name": name, "written_by": mine})
        if self.blobs.create(_object(name, number), document.encode()):
            return True
        return bool(self._document(name, number)["written_by"] == mine)

    def _names(self) -> Sequence[str]:
        found = {blob.name.split("/")[1] for blob in self.blobs.list(FOLDER)}
        return sorted(found)

    def _latest(self, name: str) -> int:
        """Return the number of a model's newest state, 0 if there is none."""
        numbers = [_number(blob.name) for blob in self.blobs.list(f"{FOLDER}{name}/")]
        return max(numbers, default=0)

    def _read(self, name: str, number: int) -> State:
        document = self._document(name, number)
        return State(
            versions={int(n): one for n, one in document["versions"].items()},
            deleted=tuple(document["deleted"]),
            aliases=document["aliases"],
            history=tuple(AliasMove(**move) for move in document["history"]),
        )

    def _document(self, name: str, number: int) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.blobs.read(_object(name, number)) or b"")
        except ValueError as exc:
            raise BackendError(
                f"{self.blobs.uri}/{_object(name, number)} cannot be read: {exc}",
                hint="restore it from a copy; the state before it has the number before it",
            ) from exc
        return found


def _with_version(state: State, document: Mapping[str, Any]) -> State:
    if any(_same(state.versions[number], document) for number in state.numbers):
        return state
    number = max(state.versions, default=0) + 1
    return replace(state, versions={**state.versions, number: document})


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(one["digest"] == other["digest"])


def _plain(state: State) -> dict[str, Any]:
    return {
        "versions": {str(number): document for number, document in state.versions.items()},
        "deleted": list(state.deleted),
        "aliases": dict(state.aliases),
        "history": [asdict(move) for move in state.history],
    }


def _object(name: str, number: int) -> str:
    return f"{FOLDER}{name}/{number:08d}.json"


def _number(name: str) -> int:
    stem = name.rpartition("/")[2].removesuffix(".json")
    return int(stem) if stem.isdecimal() else 0


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
