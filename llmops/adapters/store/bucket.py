"""A store in a bucket: the same objects, index and reports as in a folder, and a copy here.

What is put or fetched is also kept in a folder of the workspace, by digest; that copy is only a
saving and may be removed at any time. An object is checked against its digest when it comes from
the bucket and whenever it is read here. The bucket is reached through ``Blobs`` alone.

Layout, as that of a folder; ``locks`` holds leases::

    objects/ab/<sha256>   index/<step key>.json   refs/<sha256>.json
    runs/<run id>/        locks/<step key>/         scratch/<step key>/
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from llmops.adapters.store.blobs import Blobs
from llmops.adapters.store.folder import SHA256_LENGTH, FolderStore, read_entry
from llmops.adapters.store.lease import Lease, held
from llmops.artifacts import Artifact, ArtifactKind, digest, reference
from llmops.errors import BackendError, DamagedObject
from llmops.files import disk_errors, file_sha256, publish
from llmops.ports.store import IndexEntry, StoredObject

FETCHED = ".llmops/fetched"


def copies(workspace: Path, uri: str) -> FolderStore:
    """Return where a workspace keeps its copies of what lies at ``uri``."""
    return FolderStore(workspace / FETCHED / digest(uri)[:16])


class BucketStore:
    """See the module; ``lease_s`` is how long a silent worker is waited for."""

    def __init__(self, blobs: Blobs, workspace: Path, *, lease_s: float) -> None:
        self.blobs = blobs
        self.uri = blobs.uri
        self.here = copies(workspace, blobs.uri)
        self.lease_s = lease_s
        self._leases: dict[str, Lease] = {}

    # ------------------------------------------------------------- objects

    def put(self, path: Path, kind: ArtifactKind, *, rows: int | None = None) -> Artifact:
        """Publish ``path``, which is moved into the copies here; see ``ports.store.Store``."""
        made = self.here.put(path, kind, rows=rows)
        for sha256 in sorted(self.here.parts(made) - {made.sha256}):
            self._upload(sha256)
        self._upload(made.sha256)  # of a folder this is the manifest: last
        artifact = replace(made, uri=f"{self.uri}/{_object(made.sha256)}")
        self.blobs.write(_reference(made.sha256), artifact.to_json().encode())
        return artifact

    def put_text(self, text: str) -> Artifact:
        """Publish a small text as an object of kind ``json``."""
        with self._beside_the_copies() as folder:
            path = folder / "text"
            path.write_text(text, "utf-8")
            return self.put(path, "json")

    def _upload(self, sha256: str) -> None:
        """Write the object unless the bucket has it; one of another size is damaged, and made."""
        path = self.here.object_path(sha256)
        size = path.stat().st_size
        there = self.blobs.size(_object(sha256))
        if there == size:
            return
        won = self.blobs.upload(_object(sha256), path, replace=there is not None)
        if not won and self.blobs.size(_object(sha256)) != size:
            raise BackendError(
                f"object {sha256[:12]} was written by another worker, and not whole",
                hint="run it again",
                retryable=True,
            )

    def find(self, sha256: str) -> Artifact:
        """Return the reference of the object with this digest."""
        try:
            return reference(json.loads(self.blobs.read(_reference(sha256)) or b""))
        except (ValueError, KeyError, TypeError) as exc:
            raise DamagedObject(
                f"the store has no object {sha256[:12]}", hint="run the experiment again"
            ) from exc

    def reference_uri(self, artifact: Artifact) -> str:
        """Return the address of the artifact's reference file."""
        return f"{self.uri}/{_reference(artifact.sha256)}"

    def local_path(self, artifact: Artifact) -> Path:
        """Return a verified path of the copy here, fetched if need be."""
        self._fetch_all(artifact)
        try:
            return self.here.local_path(artifact)
        except DamagedObject:  # the copy here was; it is set aside now
            self._fetch_all(artifact)
            return self.here.local_path(artifact)

    def has(self, artifact: Artifact) -> bool:
        """Say whether the bucket has the object with the right size; does not read it."""
        if artifact.kind != "folder":
            return self.blobs.size(_object(artifact.sha256)) == artifact.bytes
        files = self._manifest(artifact.sha256)
        return bool(files) and all(
            self.blobs.size(_object(file["sha256"])) == file["bytes"] for file in files
        )

    def _fetch_all(self, artifact: Artifact) -> None:
        self._fetch(artifact.sha256)
        for sha256 in self.here.parts(artifact):
            self._fetch(sha256)

    def _fetch(self, sha256: str) -> None:
        """Bring an object here unless a copy is here; one that is damaged is set aside there."""
        target = self.here.object_path(sha256)
        if target.exists():
            return
        with self._beside_the_copies() as folder:
            path = folder / sha256
            if not self.blobs.download(_object(sha256), path):
                raise DamagedObject(
                    f"the store has lost object {sha256[:12]}", hint="run the experiment again"
                )
            if file_sha256(path) != sha256:
                self.set_aside(sha256)
                raise DamagedObject(
                    f"object {sha256[:12]} is damaged; it was set aside as {sha256}.bad",
                    hint="run the experiment again: the step that made it makes it anew",
                )
            path.chmod(0o444)
            publish(path, target)

    @contextlib.contextmanager
    def _beside_the_copies(self) -> Iterator[Path]:
        """Give a folder of its own, which is gone afterwards whatever happened."""
        folder = self.here.temporary()
        try:
            with disk_errors(folder, setting="LLMOPS_WORKSPACE"):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _manifest(self, sha256: str) -> list[dict[str, Any]]:
        """Return the files of a folder; none if its manifest is gone or damaged."""
        try:
            files: list[dict[str, Any]] = json.loads(self.blobs.read(_object(sha256)) or b"")[
                "files"
            ]
            return files
        except (ValueError, KeyError, TypeError):
            return []

    # --------------------------------------------------------------- index

    def entry(self, key: str) -> IndexEntry | None:
        """Return the index entry whose objects all exist, or None."""
        found = self._entry(_index(key))
        return found if found and all(self.has(out) for out in found.outputs.values()) else None

    def record(self, entry: IndexEntry) -> None:
        """Write the index entry; call it last.

        Raises:
            BackendError: If another worker took the key over meanwhile.
        """
        if entry.key in self._leases:
            self._leases[entry.key].check()
        text = json.dumps(asdict(entry), indent=1, sort_keys=True, allow_nan=False)
        self.blobs.write(_index(entry.key), text.encode())

    def _entry(self, name: str) -> IndexEntry | None:
        found = self.blobs.read(name)
        return None if found is None else read_entry(found)

    # -------------------------------------------------- locks and scratch

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the lease on ``key``; a holder that died is waited for ``store.lease_s``."""
        with held(self.blobs, key, self.lease_s) as lease:
            self._leases[key] = lease
            try:
                yield
            finally:
                del self._leases[key]

    def scratch(self, key: str) -> Path:
        """Return a folder of this machine, with what was kept of it on any."""
        folder = self.here.scratch(key)
        for blob in self.blobs.list(_kept(key)):
            target = folder / blob.name.rpartition("/")[2]
            if not target.exists():
                self._bring(blob.name, target)
        return folder

    def _bring(self, name: str, target: Path) -> None:
        """Write an object to a file that is whole under its name."""
        with self._beside_the_copies() as folder:
            if self.blobs.download(name, folder / target.name):
                (folder / target.name).rename(target)

    def keep(self, key: str, path: Path) -> None:
        """Write a file of the scratch folder into the bucket, for a worker on another machine."""
        self.blobs.upload(f"{_kept(key)}{path.name}", path, replace=True)

    def clear_scratch(self, key: str) -> None:
        """Remove the scratch folder of a step that is done, and what was kept of it."""
        for blob in list(self.blobs.list(_kept(key))):
            self.blobs.delete(blob.name)
        self.here.clear_scratch(key)

    def temporary(self) -> Path:
        """Return a fresh folder beside the copies, for work that will be published."""
        return self.here.temporary()

    def clear_temporary(self) -> None:
        """Remove what killed processes of this machine left half-written."""
        self.here.clear_temporary()

    # ------------------------------------------------------------- reports

    def write_report(self, run_id: str, step: str, report: Mapping[str, Any]) -> None:
        """Keep what a worker says of its step in this run."""
        self.blobs.write(_report(run_id, step), json.dumps(report, indent=1).encode())

    def read_report(self, run_id: str, step: str) -> Mapping[str, Any] | None:
        """Return what was kept by ``write_report``, or None."""
        found = self.blobs.read(_report(run_id, step))
        if found is None:
            return None
        report: Mapping[str, Any] = json.loads(found)
        return report

    # ------------------------------------------------ listing and removing

    def objects(self) -> Iterator[StoredObject]:
        """Yield every object; what was set aside as damaged is none."""
        for blob in self.blobs.list("objects/"):
            name = blob.name.rpartition("/")[2]
            if len(name) == SHA256_LENGTH:
                yield StoredObject(name, blob.bytes, blob.modified)

    def entries(self) -> Iterator[IndexEntry]:
        """Yield every index entry that can be read."""
        for blob in self.blobs.list("index/"):
            if (found := self._entry(blob.name)) is not None:
                yield found

    def unreadable_entries(self) -> Sequence[str]:
        """Return the keys of the index entries that cannot be read."""
        names = [blob.name for blob in self.blobs.list("index/")]
        return sorted(_stem(name) for name in names if self._entry(name) is None)

    def reported_runs(self) -> Sequence[str]:
        """Return the ids of the runs that left reports, sorted."""
        return sorted({blob.name.split("/")[1] for blob in self.blobs.list("runs/")})

    def reports(self, run_id: str) -> Mapping[str, Mapping[str, Any]]:
        """Return the readable reports of a run by the name of their step."""
        found = {}
        for name in self._reports(run_id):
            with contextlib.suppress(ValueError):
                found[_stem(name)] = json.loads(self.blobs.read(name) or b"")
        return found

    def _reports(self, run_id: str) -> list[str]:
        if run_id not in self.reported_runs():
            return []
        return sorted(blob.name for blob in self.blobs.list(f"runs/{run_id}/"))

    def parts(self, artifact: Artifact) -> frozenset[str]:
        """Return the digests of the objects that an artifact is made of."""
        own = frozenset({artifact.sha256})
        if artifact.kind != "folder":
            return own
        return own | {str(file["sha256"]) for file in self._manifest(artifact.sha256)}

    def intact(self, sha256: str) -> bool:
        """Say whether the bucket's bytes are what their name says."""
        with self._beside_the_copies() as folder:
            path = folder / sha256
            return self.blobs.download(_object(sha256), path) and file_sha256(path) == sha256

    def set_aside(self, sha256: str) -> None:
        """Keep a damaged object as ``*.bad``."""
        self.blobs.rename(_object(sha256), f"{_object(sha256)}.bad")

    def remove_object(self, sha256: str) -> None:
        """Remove an object, its reference first, and the copy here."""
        self.blobs.delete(_reference(sha256))
        self.blobs.delete(_object(sha256))
        self.here.remove_object(sha256)

    def remove_entry(self, key: str) -> None:
        """Forget a finished step."""
        self.blobs.delete(_index(key))

    def remove_reports(self, run_id: str) -> None:
        """Remove what the workers of a run reported."""
        for name in self._reports(run_id):
            self.blobs.delete(name)


def _object(sha256: str) -> str:
    return f"objects/{sha256[:2]}/{sha256}"


def _reference(sha256: str) -> str:
    return f"refs/{sha256}.json"


def _index(key: str) -> str:
    return f"index/{key}.json"


def _report(run_id: str, step: str) -> str:
    return f"runs/{run_id}/{step}.json"


def _kept(key: str) -> str:
    return f"scratch/{key}/"


def _stem(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".json")
