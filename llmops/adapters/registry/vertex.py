"""A model registry in Vertex AI's Model Registry, with its history beside it in ``env.bucket``.

A name is a Model there; a version is a version of it, with the aliases that Vertex AI keeps (other
programs may read and move them). What Vertex AI has no place for lies in one object a model,
``registry/<name>/state.json``: references, labels of any length, digests, and the history. Writers
take turns by a lease, an object that is created once; the state is replaced only as it was read, so
that a writer who lost its lease changes nothing. The history is written before an alias moves.
Knows no gate and no run.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from llmops.adapters.bucket import Bucket, Found
from llmops.adapters.google import credentials, endpoint, place, translated
from llmops.adapters.registry.moves import check_expected, check_unaliased, version_before
from llmops.artifacts import canonical_json, digest
from llmops.errors import BackendError, ConfigError, unknown_name
from llmops.ports.model import ModelReference
from llmops.ports.registry import ANY, AliasMove, ModelVersion

SERVICE = "Vertex AI Model Registry"
NAME = re.compile(r"[a-z_][a-z0-9_-]{0,62}", re.ASCII)  # what Vertex AI takes as a model's id
ALIAS = re.compile(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]", re.ASCII)
DEFAULT = "default"  # an alias that every Model has; it means nothing here
MARK = {"llmops": "registry"}  # the label of Models that are ours
LEASE_S = 60.0  # a writer works for a second or two
LEASE_TIMEOUT_S = 120.0
LOOK_S = 0.05
TIMEOUT_S = 60.0


def open_registry(
    config: Mapping[str, Any], workspace: Path, *, environment: Mapping[str, Any]
) -> VertexRegistry:
    """Open ``deploy.registry``; nothing is asked yet."""
    del workspace
    return VertexRegistry(config["region"], environment)


@dataclass(frozen=True)
class State:
    """What the bucket keeps of one model."""

    versions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    deleted: tuple[int, ...] = ()
    history: tuple[Mapping[str, Any], ...] = ()

    def with_move(self, move: AliasMove) -> State:
        """Return the state with one more thing that happened."""
        return replace(self, history=(*self.history, asdict(move)))


@dataclass
class Turn:
    """A writer's turn at one model: the state as it was read, and what it becomes."""

    state: State
    found: Found | None


class VertexRegistry:
    """Named, versioned models of one project and region."""

    def __init__(self, region: str, environment: Mapping[str, Any]) -> None:
        self.environment = environment
        self.parent = f"projects/{place(environment, 'project')}/locations/{region}"
        self.region = region
        self.bucket = Bucket(environment)

    @cached_property
    def _client(self) -> Any:
        from google.cloud.aiplatform_v1 import ModelServiceClient

        address = endpoint(self.environment, "vertex") or (
            f"https://{self.region}-aiplatform.googleapis.com"
        )
        return ModelServiceClient(
            credentials=credentials(self.environment),
            transport="rest",
            client_options={"api_endpoint": address},
        )

    # ------------------------------------------------------------------ writing

    def register(
        self, name: str, model: ModelReference, *, labels: Mapping[str, str], run_id: str
    ) -> ModelVersion:
        """Register ``model``, or return the version that already holds it; see ``Registry``.

        Raises:
            ConfigError: If Vertex AI takes no such name.
        """
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"'{name[:100]}' cannot be a model name",
                hint="Vertex AI takes a-z, 0-9, '_' and '-', at most 63, no digit first",
            )
        content = digest(asdict(model))
        with self._turn(name) as turn:
            for number, document in turn.state.versions.items():
                if document["digest"] == content and int(number) not in turn.state.deleted:
                    return self.get(name, number)
            number = str(self._uploaded(name, content) or self._upload(name, content))
            document = {
                "model": asdict(model),
                "digest": content,
                "labels": dict(labels),
                "registered_by": run_id,
                "registered_at": _now(),
            }
            known = {**turn.state.versions, number: document}
            self._write(name, turn, replace(turn.state, versions=known))
        return self.get(name, number)

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
        """Point ``alias`` at ``version``; see ``ports.registry.Registry``.

        Raises:
            ConfigError: If the model or version is unknown, or Vertex AI takes no such alias.
            Refused: If the alias does not point at ``expected``.
        """
        if not ALIAS.fullmatch(alias) or alias == DEFAULT:
            raise ConfigError(
                f"'{alias[:100]}' cannot be an alias",
                hint="Vertex AI takes a-z first, then letters, digits and '-'; not 'default'",
            )
        self._check_version(name, str(version))
        with self._turn(name) as turn:
            self._check_version(name, str(version))
            before = self._aliases(name).get(alias)
            check_expected(name, alias, before, expected)
            if before != version:
                move = AliasMove(alias, before, version, reason, _now(), forced=forced)
                self._move(name, turn, move)
        return self.get(name, str(version))

    def rollback(self, name: str, alias: str, *, reason: str) -> ModelVersion:
        """Point ``alias`` at what it held before its last move; see ``ports.registry.Registry``."""
        self._check_model(name)
        with self._turn(name) as turn:
            before = self._held(name, alias)
            existing = [version.version for version in self._versions(name)]
            version = version_before(self.history(name), name, alias, existing)
            move = AliasMove(alias, before, version, reason, _now(), "rollback")
            self._move(name, turn, move)
        return self.get(name, str(version))

    def drop_alias(self, name: str, alias: str, *, reason: str) -> None:
        """Remove an alias; see ``ports.registry.Registry``."""
        self._check_model(name)
        with self._turn(name) as turn:
            move = AliasMove(alias, self._held(name, alias), None, reason, _now(), "drop")
            self._move(name, turn, move)

    def delete(self, name: str, version: int, *, reason: str) -> None:
        """Delete a version that no alias points at; see ``ports.registry.Registry``.

        Vertex AI keeps the last version of a Model, so that its numbers go on from there.
        """
        self._check_version(name, str(version))
        with self._turn(name) as turn:
            self._check_version(name, str(version))
            check_unaliased(self.get(name, str(version)))
            gone = AliasMove(None, version, None, reason, _now(), "delete")
            state = turn.state.with_move(gone)
            self._write(name, turn, replace(state, deleted=(*state.deleted, version)))
            self._remove(name, version)

    # ------------------------------------------------------------------ reading

    def get(self, name: str, alias_or_version: str) -> ModelVersion:
        """Return one version, by its number or an alias; see ``ports.registry.Registry``."""
        self._check_model(name)
        versions = self._versions(name)
        for version in versions:
            if alias_or_version in (str(version.version), *version.aliases):
                return version
        known = [str(version.version) for version in reversed(versions)]
        aliases = [alias for version in versions for alias in version.aliases]
        raise unknown_name(
            "version or alias", alias_or_version, [*known, *aliases], where=f"model '{name}'"
        )

    def history(self, name: str) -> Sequence[AliasMove]:
        """Return what happened to this model, oldest first; see ``ports.registry.Registry``."""
        self._check_model(name)
        return [AliasMove(**move) for move in self._read(name).state.history]

    def list(self) -> Sequence[ModelVersion]:
        """Return every version, by name, then newest first."""
        return [version for name in self._names() for version in self._versions(name)]

    def _names(self) -> Sequence[str]:
        from google.cloud.aiplatform_v1 import ListModelsRequest

        wanted = " AND ".join(f"labels.{key}={value}" for key, value in MARK.items())
        with translated(SERVICE):
            found = self._client.list_models(
                ListModelsRequest(parent=self.parent, filter=wanted), timeout=TIMEOUT_S
            )
            return sorted({_id(model.name) for model in found})

    def _versions(self, name: str) -> Sequence[ModelVersion]:
        """Return the versions that both Vertex AI and the state know, newest first."""
        state = self._read(name).state
        found = {
            number: aliases
            for number, aliases in self._listed(name).items()
            if number not in state.deleted and str(number) in state.versions
        }
        return [
            _version(name, number, state.versions[str(number)], found[number])
            for number in sorted(found, reverse=True)
        ]

    def _listed(self, name: str) -> Mapping[int, Sequence[str]]:
        """Return a Model's versions and their aliases by number; none if there is no Model."""
        return {
            int(one.version_id): [alias for alias in one.version_aliases if alias != DEFAULT]
            for one in self._resources(name)
        }

    def _resources(self, name: str) -> Sequence[Any]:
        from google.api_core.exceptions import NotFound

        with translated(SERVICE):
            try:
                return list(
                    self._client.list_model_versions(name=self._model(name), timeout=TIMEOUT_S)
                )
            except NotFound:
                return []

    def _aliases(self, name: str) -> Mapping[str, int]:
        listed = self._listed(name)
        return {alias: number for number, aliases in listed.items() for alias in aliases}

    def _held(self, name: str, alias: str) -> int:
        aliases = self._aliases(name)
        if alias not in aliases:
            raise unknown_name("alias", alias, aliases, where=f"model '{name}'")
        return aliases[alias]

    def _check_model(self, name: str) -> None:
        if NAME.fullmatch(name) and self._resources(name):
            return
        names = self._names()
        if not names:
            raise ConfigError(
                f"there is no model '{name}': the registry {self.parent} is empty",
                hint="python -m llmops run +experiment=so_python registers one",
            )
        raise unknown_name("model", name, names, where=f"the registry {self.parent}")

    def _check_version(self, name: str, wanted: str) -> None:
        self._check_model(name)
        versions = self._versions(name)
        known = [str(version.version) for version in versions]
        if wanted not in known:
            aliases = [alias for version in versions for alias in version.aliases]
            raise unknown_name(
                "version or alias", wanted, [*known, *aliases], where=f"model '{name}'"
            )

    # ---------------------------------------------------------------- Vertex AI

    def _model(self, name: str, version: int | None = None) -> str:
        resource = f"{self.parent}/models/{name}"
        return resource if version is None else f"{resource}@{version}"

    def _uploaded(self, name: str, content: str) -> int | None:
        """Return a version that a crashed writer has uploaded and not yet noted."""
        known = self._read(name).state.versions
        for one in self._resources(name):
            if one.version_description == content and one.version_id not in known:
                return int(one.version_id)
        return None

    def _upload(self, name: str, content: str) -> int:
        from google.cloud.aiplatform_v1 import Model, UploadModelRequest

        exists = bool(self._resources(name))
        model = Model(
            display_name=name,
            version_description=content,
            artifact_uri=self.bucket.uri(f"registry/{name}"),
            labels={**MARK, "llmops_digest": content[:63]},
        )
        request = UploadModelRequest(parent=self.parent, model=model)
        if exists:
            request.parent_model = self._model(name)
        else:
            request.model_id = name
        with translated(SERVICE):
            done = self._client.upload_model(request, timeout=TIMEOUT_S).result(timeout=TIMEOUT_S)
        return int(done.model_version_id)

    def _move(self, name: str, turn: Turn, move: AliasMove) -> None:
        """Note a move, then make it."""
        self._write(name, turn, turn.state.with_move(move))
        with translated(SERVICE):
            if move.version is None:
                self._merge(name, int(move.before or 0), f"-{move.alias}")
            else:
                self._merge(name, move.version, str(move.alias))

    def _merge(self, name: str, version: int, alias: str) -> None:
        self._client.merge_version_aliases(
            name=self._model(name, version), version_aliases=[alias], timeout=TIMEOUT_S
        )

    def _remove(self, name: str, version: int) -> None:
        left = [one for one in self._resources(name) if int(one.version_id) != version]
        if not left:
            return
        with translated(SERVICE):
            if DEFAULT in next(
                one.version_aliases
                for one in self._resources(name)
                if int(one.version_id) == version
            ):
                self._merge(name, int(left[0].version_id), DEFAULT)
            self._client.delete_model_version(
                name=self._model(name, version), timeout=TIMEOUT_S
            ).result(timeout=TIMEOUT_S)

    # ------------------------------------------------------------------- bucket

    def _read(self, name: str) -> Turn:
        found = self.bucket.read(f"registry/{name}/state.json")
        if found is None:
            return Turn(State(), None)
        plain = json.loads(found.text)
        state = State(plain["versions"], tuple(plain["deleted"]), tuple(plain["history"]))
        return Turn(state, found)

    def _write(self, name: str, turn: Turn, state: State) -> None:
        path, text = f"registry/{name}/state.json", canonical_json(asdict(state)) + "\n"
        if turn.found is None:
            written = self.bucket.create(path, text)
        else:
            written = self.bucket.replace(path, text, turn.found)
        if not written:
            raise BackendError(
                f"somebody else changed the model {name} meanwhile; nothing was changed here",
                hint="look at it and try again: python -m llmops models show",
                retryable=True,
            )

    @contextmanager
    def _turn(self, name: str) -> Iterator[Turn]:
        """Hold the lease of one model: one writer at a time, whatever machine it is on."""
        path, mine = f"registry/{name}/lease.json", uuid.uuid4().hex
        self._take(path, mine)
        try:
            yield self._read(name)
        finally:
            held = self.bucket.read(path)
            if held is not None and held.text == mine:
                self.bucket.delete(path)

    def _take(self, path: str, mine: str) -> None:
        end = time.monotonic() + LEASE_TIMEOUT_S
        while not self.bucket.create(path, mine):
            held = self.bucket.read(path)
            if held is None:
                continue
            old = (datetime.now(UTC) - held.written_at).total_seconds() > LEASE_S
            if old and self.bucket.replace(path, mine, held):
                return
            if time.monotonic() > end:
                raise BackendError(
                    f"the registry has been in use for {LEASE_TIMEOUT_S:.0f} s: "
                    f"{self.bucket.uri(path)}",
                    hint="see who writes to it, then try again",
                    retryable=True,
                )
            time.sleep(LOOK_S)


def _version(
    name: str, number: int, document: Mapping[str, Any], aliases: Sequence[str]
) -> ModelVersion:
    return ModelVersion(
        name=name,
        version=number,
        model=ModelReference(**document["model"]),
        digest=document["digest"],
        aliases=tuple(sorted(aliases)),
        labels=document["labels"],
        registered_by=document["registered_by"],
    )


def _id(resource: str) -> str:
    return resource.rpartition("/")[2].partition("@")[0]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
