"""A store in a folder: objects named by their sha256, and an index from step keys to objects.

Nothing half-written can be seen: every file is written beside its final place, synced, and
renamed; an index entry is written only after all of its objects. Reads check the digest; a
damaged object is set aside as ``*.bad`` and counts as absent from then on.

Layout::

    objects/ab/<sha256>   index/<step key>.json   refs/<sha256>.json   folders/<sha256>/
    runs/<run id>/        scratch/<step key>/     locks/               tmp/
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from llmops.artifacts import Artifact, ArtifactKind, canonical_json, reference
from llmops.errors import DamagedObject
from llmops.files import (
    clear_left_behind,
    disk_errors,
    file_sha256,
    owner,
    publish,
    read_text,
    remove_folder,
    write_text,
)
from llmops.ports.store import IndexEntry, StoredObject

SETTING = "store.path"
SHA256_LENGTH = 64


def open_store(config: Mapping[str, Any], workspace: Path) -> FolderStore:
    """Open the store that the config's ``store`` section names, relative to ``workspace``."""
    return FolderStore(workspace / config["path"], uri=config["path"])


class FolderStore:
    """See the module; ``uri`` is how the folder is written into references."""

    def __init__(self, root: Path, *, uri: str | None = None) -> None:
        self.root = root
        self.uri = str(root) if uri is None else uri

    # ------------------------------------------------------------- objects

    def put(self, path: Path, kind: ArtifactKind, *, rows: int | None = None) -> Artifact:
        """Publish ``path``, which is moved into the store; see ``ports.store.Store``."""
        with disk_errors(self.root, setting=SETTING):
            if kind == "folder":
                return self._put_folder(path)
            size = path.stat().st_size
            sha256 = self._put_file(path)
            return self._reference(Artifact(self._address(sha256), kind, sha256, size, rows))

    def put_text(self, text: str) -> Artifact:
        """Publish a small text as an object of kind ``json``."""
        with disk_errors(self.root, setting=SETTING):
            path = self.temporary() / "text"
            try:
                path.write_text(text, "utf-8")
                return self.put(path, "json")
            finally:
                shutil.rmtree(path.parent, ignore_errors=True)

    def find(self, sha256: str) -> Artifact:
        """Return the reference of the object with this digest."""
        path = self.root / "refs" / f"{sha256}.json"
        try:
            return reference(json.loads(read_text(path)))
        except (OSError, ValueError, KeyError) as exc:
            raise DamagedObject(
                f"the store has no object {sha256[:12]}", hint="run the experiment again"
            ) from exc

    def reference_uri(self, artifact: Artifact) -> str:
        """Return the address of the artifact's reference file."""
        return f"{self.uri}/refs/{artifact.sha256}.json"

    def local_path(self, artifact: Artifact) -> Path:
        """Return a verified local path of the object."""
        with disk_errors(self.root, setting=SETTING):
            if artifact.kind == "folder":
                return self._folder_path(artifact)
            return self._verified(artifact.sha256)

    def has(self, artifact: Artifact) -> bool:
        """Say whether the object is there with the right size; does not read it."""
        with (
            disk_errors(self.root, setting=SETTING),
            contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError),
        ):
            if artifact.kind != "folder":
                return self.object_path(artifact.sha256).stat().st_size == artifact.bytes
            manifest = json.loads(self.object_path(artifact.sha256).read_text("utf-8"))
            return all(
                self.object_path(file["sha256"]).stat().st_size == file["bytes"]
                for file in manifest["files"]
            )
        return False

    def _put_folder(self, folder: Path) -> Artifact:
        files = [
            {
                "path": file.relative_to(folder).as_posix(),
                "bytes": file.stat().st_size,
                "sha256": self._put_file(file),
            }
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        ]
        manifest = self.put_text(canonical_json({"files": files}))
        total = sum(int(str(file["bytes"])) for file in files)
        return self._reference(Artifact(manifest.uri, "folder", manifest.sha256, total))

    def _put_file(self, path: Path) -> str:
        sha256 = file_sha256(path)
        target = self.object_path(sha256)
        if not (target.exists() and target.stat().st_size == path.stat().st_size):
            path.chmod(0o444)
            publish(path, target)
        return sha256

    def _reference(self, artifact: Artifact) -> Artifact:
        write_text(self.root / "refs" / f"{artifact.sha256}.json", artifact.to_json())
        return artifact

    def _folder_path(self, artifact: Artifact) -> Path:
        manifest = json.loads(self._verified(artifact.sha256).read_text("utf-8"))
        sources = {file["path"]: self._verified(file["sha256"]) for file in manifest["files"]}
        if not all(map(_stays_inside, sources)):
            raise DamagedObject(
                f"the folder {artifact.sha256[:12]} names files outside of it",
                hint="no store writes such a folder: find out who did, then run with --force",
            )
        target = self.root / "folders" / artifact.sha256
        if target.exists() and not _is_unpacked(sources, target):
            aside = self.temporary()
            with contextlib.suppress(OSError):  # another process was first
                target.rename(aside / "damaged")
            shutil.rmtree(aside, ignore_errors=True)
        if not target.exists():
            staging = self.temporary()
            for name, source in sources.items():
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                _link(source, staging / name)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                staging.rename(target)
            except OSError:
                if not target.exists():
                    raise
                # another process was first
            shutil.rmtree(staging, ignore_errors=True)
        return target

    def _verified(self, sha256: str) -> Path:
        path = self.object_path(sha256)
        if not path.exists():
            raise DamagedObject(
                f"the store has lost object {sha256[:12]}", hint="run the experiment again"
            )
        if not self.intact(sha256):
            self.set_aside(sha256)
            raise DamagedObject(
                f"object {sha256[:12]} is damaged; it was set aside as {path.name}.bad",
                hint="run the experiment again: the step that made it makes it anew",
            )
        return path

    def object_path(self, sha256: str) -> Path:
        """Return where the object with this digest lies, or would lie; it is not checked."""
        return self.root / "objects" / sha256[:2] / sha256

    def _address(self, sha256: str) -> str:
        return f"{self.uri}/objects/{sha256[:2]}/{sha256}"

    # --------------------------------------------------------------- index

    def entry(self, key: str) -> IndexEntry | None:
        """Return the index entry whose objects all exist, or None."""
        entry = _entry(self.root / "index" / f"{key}.json")
        return entry if entry and all(self.has(out) for out in entry.outputs.values()) else None

    def record(self, entry: IndexEntry) -> None:
        """Write the index entry; call it last."""
        with disk_errors(self.root, setting=SETTING):
            text = json.dumps(asdict(entry), indent=1, sort_keys=True, allow_nan=False)
            write_text(self.root / "index" / f"{entry.key}.json", text)

    # -------------------------------------------------- locks and scratch

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the kernel lock on ``key``; a killed holder lets go of it."""
        from filelock import FileLock

        folder = self.root / "locks"
        with disk_errors(self.root, setting=SETTING):
            folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{key}.lock"):
            yield

    def scratch(self, key: str) -> Path:
        """Return a folder that survives a crash of the step with this key."""
        return self._folder("scratch", key)

    def keep(self, key: str, path: Path) -> None:
        """Do nothing: the store lies where the scratch folder does."""

    def clear_scratch(self, key: str) -> None:
        """Remove the scratch folder of a step that is done."""
        shutil.rmtree(self.root / "scratch" / key, ignore_errors=True)

    def temporary(self) -> Path:
        """Return a fresh folder on the store's own disk, for work that will be published."""
        folder = self._folder("tmp")
        with disk_errors(self.root, setting=SETTING):
            return Path(tempfile.mkdtemp(dir=folder, prefix=f"{owner()}-"))

    def clear_temporary(self) -> None:
        """Remove what killed processes of this machine left half-written or no longer need."""
        with disk_errors(self.root, setting=SETTING):
            clear_left_behind(self.root / "tmp", prefix="")
            reports = (self.root / "runs").glob("*/")
            for folder in (self.root / "refs", self.root / "index", *reports):
                clear_left_behind(folder)
            for scratch in (self.root / "scratch").glob("*/"):
                self._clear_if_done(scratch)

    def _clear_if_done(self, scratch: Path) -> None:
        """Remove the scratch folder of a step that is done and that nobody works on again."""
        from filelock import FileLock, Timeout

        if not (self.root / "index" / f"{scratch.name}.json").exists():
            return  # whoever does this step next goes on from there
        with (
            contextlib.suppress(Timeout),
            FileLock(self.root / "locks" / f"{scratch.name}.lock", timeout=0),
        ):
            remove_folder(scratch)

    # ------------------------------------------------------------- reports

    def write_report(self, run_id: str, step: str, report: Mapping[str, Any]) -> None:
        """Keep what a worker says of its step in this run."""
        with disk_errors(self.root, setting=SETTING):
            write_text(self.root / "runs" / run_id / f"{step}.json", json.dumps(report, indent=1))

    def read_report(self, run_id: str, step: str) -> Mapping[str, Any] | None:
        """Return what was kept by ``write_report``, or None."""
        try:
            text = read_text(self.root / "runs" / run_id / f"{step}.json")
        except FileNotFoundError:
            return None
        report: Mapping[str, Any] = json.loads(text)
        return report

    # ------------------------------------------------ listing and removing

    def objects(self) -> Iterator[StoredObject]:
        """Yield every object; what is being written or was set aside as damaged is none."""
        for path in (self.root / "objects").glob("??/*"):
            if len(path.name) == SHA256_LENGTH:
                with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                    found = path.stat()
                    yield StoredObject(path.name, found.st_size, found.st_mtime)

    def entries(self) -> Iterator[IndexEntry]:
        """Yield every index entry that can be read."""
        for path in (self.root / "index").glob("*.json"):
            if (entry := _entry(path)) is not None:
                yield entry

    def reported_runs(self) -> Sequence[str]:
        """Return the ids of the runs that left reports, sorted."""
        return sorted(path.name for path in (self.root / "runs").glob("*/"))

    def reports(self, run_id: str) -> Mapping[str, Mapping[str, Any]]:
        """Return the readable reports of a run by the name of their step."""
        found = {}
        for path in sorted((self.root / "runs" / run_id).glob("*.json")):
            with contextlib.suppress(FileNotFoundError, ValueError):
                found[path.stem] = json.loads(read_text(path))
        return found

    def parts(self, artifact: Artifact) -> frozenset[str]:
        """Return the digests of the objects that an artifact is made of."""
        own = frozenset({artifact.sha256})
        if artifact.kind != "folder":
            return own
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            manifest = json.loads(self.object_path(artifact.sha256).read_text("utf-8"))
            return own | {file["sha256"] for file in manifest["files"]}
        return own

    def intact(self, sha256: str) -> bool:
        """Say whether the object's bytes are what its name says."""
        with disk_errors(self.root, setting=SETTING):
            return file_sha256(self.object_path(sha256)) == sha256

    def unreadable_entries(self) -> Sequence[str]:
        """Return the keys of the index entries that cannot be read."""
        paths = (self.root / "index").glob("*.json")
        return sorted(path.stem for path in paths if _entry(path) is None)

    def set_aside(self, sha256: str) -> None:
        """Keep a damaged object as ``*.bad``; nothing if another process has done so already."""
        path = self.object_path(sha256)
        with disk_errors(self.root, setting=SETTING), contextlib.suppress(FileNotFoundError):
            path.rename(path.with_suffix(".bad"))

    def remove_object(self, sha256: str) -> None:
        """Remove an object, its reference first: what is named is there."""
        with disk_errors(self.root, setting=SETTING):
            (self.root / "refs" / f"{sha256}.json").unlink(missing_ok=True)
            remove_folder(self.root / "folders" / sha256)
            self.object_path(sha256).unlink(missing_ok=True)

    def remove_entry(self, key: str) -> None:
        """Forget a finished step."""
        with disk_errors(self.root, setting=SETTING):
            (self.root / "index" / f"{key}.json").unlink(missing_ok=True)

    def remove_reports(self, run_id: str) -> None:
        """Remove what the workers of a run reported."""
        if run_id in self.reported_runs():
            with disk_errors(self.root, setting=SETTING):
                remove_folder(self.root / "runs" / run_id)

    def _folder(self, *parts: str) -> Path:
        folder = self.root.joinpath(*parts)
        with disk_errors(self.root, setting=SETTING):
            folder.mkdir(parents=True, exist_ok=True)
        return folder


def _entry(path: Path) -> IndexEntry | None:
    """Return the entry, or None if there is none or it is torn.

    Raises:
        BackendError: If the system would not let it be read: that says nothing of what it holds.
    """
    with disk_errors(path.parent, setting=SETTING):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
    return read_entry(content)


def read_entry(text: bytes) -> IndexEntry | None:
    """Return the index entry that was written as JSON, or None if it cannot be read."""
    try:
        fields = json.loads(text)
        outputs = {name: reference(out) for name, out in fields.pop("outputs").items()}
        return IndexEntry(**fields, outputs=outputs)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _is_unpacked(sources: Mapping[str, Path], folder: Path) -> bool:
    """Say whether a folder still holds what was unpacked into it; ``sources`` are verified."""
    for name, source in sources.items():
        path = folder / name
        if not path.is_file():
            return False
        if not path.samefile(source) and file_sha256(path) != file_sha256(source):
            return False
    return True


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without hard links
        shutil.copyfile(source, target)
