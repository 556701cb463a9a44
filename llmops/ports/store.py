"""The store: artifacts by their digest, and what finished steps left under their keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from llmops.artifacts import Artifact, ArtifactKind


@dataclass(frozen=True)
class IndexEntry:
    """What a finished step left under its key."""

    key: str
    step: str
    kind: str
    revision: int
    settings: Mapping[str, Any]  # leaf path -> value
    inputs: Mapping[str, str]  # input name -> sha256
    source: Mapping[str, Any]  # what the key knows of the outside world, e.g. table versions
    outputs: Mapping[str, Artifact]
    facts: Mapping[str, Any]  # what the step reported: counts, figures, names
    run_id: str
    seconds: float


@dataclass(frozen=True)
class StoredObject:
    """An object as the store keeps it; ``modified`` is POSIX time, in seconds."""

    sha256: str
    bytes: int
    modified: float


class Store(Protocol):
    """Content-addressed objects plus the index ``step key -> artifacts``."""

    def put(self, path: Path, kind: ArtifactKind, *, rows: int | None = None) -> Artifact:
        """Publish a finished file or folder; the same content is stored once.

        Raises:
            BackendError: If the disk or bucket refuses.
        """
        ...

    def put_text(self, text: str) -> Artifact:
        """Publish a small JSON or YAML text as an object of kind ``json``."""
        ...

    def find(self, sha256: str) -> Artifact:
        """Return the reference of the object with this digest.

        Raises:
            BackendError: If the store has no such object.
        """
        ...

    def reference_uri(self, artifact: Artifact) -> str:
        """Return the address of the artifact's reference file, for an engine to import."""
        ...

    def local_path(self, artifact: Artifact) -> Path:
        """Return a verified local path of the object, fetching it if need be. Never write there.

        Raises:
            DamagedObject: If it is missing or damaged; a damaged one is set aside as ``*.bad``.
        """
        ...

    def entry(self, key: str) -> IndexEntry | None:
        """Return the index entry whose objects all exist, or None."""
        ...

    def record(self, entry: IndexEntry) -> None:
        """Write the index entry; call it last, after every output is published."""
        ...

    def lock(self, key: str) -> Any:
        """Return a context manager: one process at a time works on ``key``."""
        ...

    def scratch(self, key: str) -> Path:
        """Return a local folder that survives a crash of the step with this key.

        What ``keep`` was given is in it, also on another machine.
        """
        ...

    def keep(self, key: str, path: Path) -> None:
        """Let a file that lies in the scratch folder outlive this machine, if the store does.

        Raises:
            BackendError: If the store cannot be written.
        """
        ...

    def clear_scratch(self, key: str) -> None:
        """Remove the scratch folder of a step that is done."""
        ...

    def temporary(self) -> Path:
        """Return a fresh local folder for work that will be published."""
        ...

    def clear_temporary(self) -> None:
        """Remove what killed processes left of ``temporary`` folders."""
        ...

    def write_report(self, run_id: str, step: str, report: Mapping[str, Any]) -> None:
        """Keep what a worker says of its step in this run: status, error, key, timings."""
        ...

    def read_report(self, run_id: str, step: str) -> Mapping[str, Any] | None:
        """Return what was kept by ``write_report``, or None."""
        ...

    def objects(self) -> Iterator[StoredObject]:
        """Yield every object, the files of folders and their manifests too, in no order."""
        ...

    def entries(self) -> Iterator[IndexEntry]:
        """Yield every index entry that can be read, whether or not its objects still exist."""
        ...

    def reported_runs(self) -> Sequence[str]:
        """Return the ids of the runs that left reports, sorted: of every workspace that uses it."""
        ...

    def reports(self, run_id: str) -> Mapping[str, Mapping[str, Any]]:
        """Return the readable reports of a run by the name of their step; empty if there are none.

        The parent's own notes, e.g. ``_request``, are among them.
        """
        ...

    def parts(self, artifact: Artifact) -> frozenset[str]:
        """Return the digests of the objects that an artifact is made of, its own among them.

        A folder whose manifest is gone or damaged is only itself.
        """
        ...

    def intact(self, sha256: str) -> bool:
        """Say whether the object's bytes are what its name says; reads all of them.

        Raises:
            BackendError: If they cannot be read.
        """
        ...

    def unreadable_entries(self) -> Sequence[str]:
        """Return the keys of the index entries that cannot be read, sorted."""
        ...

    def set_aside(self, sha256: str) -> None:
        """Keep a damaged object as ``*.bad``, where nothing takes it for the object any more."""
        ...

    def remove_object(self, sha256: str) -> None:
        """Remove an object with its reference and its unpacked folder; nothing if it is not there.

        Never call it for what an index entry or a run that is kept still names.
        """
        ...

    def remove_entry(self, key: str) -> None:
        """Forget a finished step, so that it runs again; its objects stay."""
        ...

    def remove_reports(self, run_id: str) -> None:
        """Remove what the workers of a run reported."""
        ...
