"""The cache of base models: fetch, check and convert once; find and verify ever after.

A model is a folder ``<cache>/models/<16 hex digits of its source's digest>/`` with a manifest of
every file's size and sha256. It appears by rename, whole or not at all. Knows nothing of tuning.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmops.adapters.model.sources import (
    HubSource,
    Source,
    fetch_gguf,
    fetch_snapshot,
    file_sha256,
    identity,
    read_source,
)
from llmops.errors import BackendError
from llmops.ports.progress import Progress

MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
PULL = "python -m llmops models pull"


@dataclass(frozen=True)
class ModelFile:
    """A file of a cached model."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class CachedModel:
    """A converted base model on this machine; ``sha256`` is that of its weights file."""

    folder: Path
    source: str
    licence: str
    files: tuple[ModelFile, ...]

    @property
    def sha256(self) -> str:
        """The digest that names the weights, whatever the tokenizer files' layout."""
        return next(file.sha256 for file in self.files if file.name == WEIGHTS)

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)


def model_folder(source: Source, cache: Path) -> Path:
    """Return where the converted model of ``source`` lies, whether it is there or not."""
    return cache / "models" / identity(source)[:16]


def pull(model: Mapping[str, Any], cache: Path, progress: Progress) -> CachedModel:
    """Return the cached model, fetching and converting it first if it is not there or damaged.

    Safe to call twice at once and to call again after a crash: what arrived whole is kept.

    Raises:
        ConfigError: If ``model.source`` is wrong.
        BackendError: If the source cannot be reached, differs from its pinned digest, or the
            disk refuses.
    """
    source = read_source(model)
    folder = model_folder(source, cache)
    try:
        return find(model, cache)
    except BackendError:
        pass  # missing or damaged: made again below
    try:
        return _pull_once(model, source, folder, cache, progress)
    except OSError as exc:
        raise BackendError(
            f"cannot write the model cache {folder.parent}: {exc.strerror or exc}",
            hint="free space or set LLMOPS_CACHE to another folder",
        ) from exc


def repair(model: Mapping[str, Any], cache: Path, progress: Progress) -> CachedModel:
    """Like ``pull``, but read every file again first, and make a damaged model anew."""
    try:
        return find(model, cache, verify=True)
    except BackendError as exc:
        progress(0, None, exc.problem)
        return pull(model, cache, progress)


def find(model: Mapping[str, Any], cache: Path, *, verify: bool = False) -> CachedModel:
    """Return the cached model; sizes are always checked, digests as well if ``verify``.

    Raises:
        BackendError: If it is missing or damaged; the hint says how to get it.
    """
    folder = model_folder(read_source(model), cache)
    cached = _read_manifest(folder, str(model["base"]))
    for file in cached.files:
        _check(folder / file.name, file, verify=verify)
    return cached


def install(
    model: Mapping[str, Any], converted: Path, cache: Path, progress: Progress
) -> CachedModel:
    """Move a folder of converted files, as ``convert`` writes them, into the cache."""
    source = read_source(model)
    folder = model_folder(source, cache)
    _write_manifest(source, converted, progress)
    folder.parent.mkdir(parents=True, exist_ok=True)
    os.replace(converted, folder)
    return find(model, cache)


def _read_manifest(folder: Path, base: str) -> CachedModel:
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        files = tuple(ModelFile(**file) for file in manifest["files"])
        return CachedModel(folder, manifest["source"], manifest["licence"], files)
    except FileNotFoundError:
        raise BackendError(
            f"the base model '{base}' is not in {folder.parent}", hint=PULL
        ) from None
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise BackendError(f"{folder / MANIFEST} is damaged ({exc})", hint=PULL) from exc


def _check(path: Path, file: ModelFile, *, verify: bool) -> None:
    found = path.stat().st_size if path.exists() else None
    if found is None:
        raise BackendError(f"the model file {path} is missing", hint=PULL)
    if found != file.bytes:
        raise BackendError(f"the model file {path} has {found} bytes, not {file.bytes}", hint=PULL)
    if verify and file_sha256(path) != file.sha256:
        # Set aside, so that the next pull makes it again although its size is right.
        os.replace(path, path.with_name(path.name + ".bad"))
        raise BackendError(f"the model file {path} is corrupt (sha256 differs)", hint=PULL)


def _pull_once(
    model: Mapping[str, Any], source: Source, folder: Path, cache: Path, progress: Progress
) -> CachedModel:
    from filelock import FileLock

    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(folder.name + ".lock")):
        try:
            return find(model, cache)  # another process made it while this one waited
        except BackendError:
            shutil.rmtree(folder, ignore_errors=True)
        partial.mkdir(exist_ok=True)
        converted = _convert(source, partial, progress)
        cached = install(model, converted, cache, progress)
        shutil.rmtree(partial)
    return cached


def _convert(source: Source, partial: Path, progress: Progress) -> Path:
    from llmops.adapters.model.convert import convert_gguf, convert_snapshot

    converted = partial / "converted"
    shutil.rmtree(converted, ignore_errors=True)
    if isinstance(source, HubSource):
        snapshot = fetch_snapshot(source, partial, progress)
        progress(0, None, "converting to bf16 safetensors")
        convert_snapshot(snapshot, converted)
    else:
        gguf = fetch_gguf(source, partial, progress)
        progress(0, None, "converting to bf16 safetensors, about half a minute")
        convert_gguf(gguf, converted)
    return converted


def _write_manifest(source: Source, folder: Path, progress: Progress) -> None:
    files = [
        ModelFile(
            path.name, path.stat().st_size, file_sha256(path, progress, f"hashing {path.name}")
        )
        for path in sorted(folder.iterdir())
    ]
    manifest = {
        "source": source.description,
        "licence": source.licence,
        "files": [asdict(file) for file in files],
    }
    for path in folder.iterdir():
        _flush(path)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    _flush(folder / MANIFEST)


def _flush(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
