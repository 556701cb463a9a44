"""A place anywhere that fsspec knows: S3, Azure, SFTP, a mounted disk, ...

``create`` is as atomic as the file system's own: exclusive on a disk, conditional on S3, Google
and Azure; elsewhere fsspec looks first, and two writers in the same moment may both think that
they were first. https://filesystem-spec.readthedocs.io
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from llmops.adapters.secrets import reveal
from llmops.adapters.store.blobs import Blob
from llmops.adapters.store.bucket import BucketStore
from llmops.errors import BackendError, ConfigError, MissingExtra
from llmops.files import clear_left_behind, owner, sync


def open_store(config: Mapping[str, Any], workspace: Path) -> BucketStore:
    """Open the store at ``store.url``; ``store.options`` go to fsspec, secrets revealed.

    Raises:
        ConfigError: If fsspec does not know such an address.
        MissingExtra: If the package for it is not installed.
    """
    return BucketStore(open_blobs(config), workspace, lease_s=config["lease_s"])


def open_blobs(config: Mapping[str, Any]) -> FsspecBlobs:
    """Open the place that ``store.url`` names; see ``open_store``."""
    options = {name: _revealed(value) for name, value in config["options"].items()}
    return FsspecBlobs(str(config["url"]), options)


def read_text(uri: str) -> str | None:
    """Return a small text at any of fsspec's addresses."""
    place, _, name = uri.rpartition("/")
    found = FsspecBlobs(place, {}).read(name)
    return None if found is None else found.decode("utf-8")


def _revealed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _revealed(item) for name, item in value.items()}
    return reveal(value) if isinstance(value, str) else value


class FsspecBlobs:
    """See ``blobs.Blobs``."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        import fsspec

        try:
            self.files, root = fsspec.core.url_to_fs(url, **options)
        except ImportError as exc:
            raise MissingExtra(f"store.url {url}: {exc}", hint="install that package") from exc
        except ValueError as exc:
            raise ConfigError(f"store.url {url}: {exc}", hint="e.g. s3://bucket/llmops") from exc
        self.root = str(root).rstrip("/")
        self.uri = url.rstrip("/")
        self.on_disk = "file" in self.files.protocol

    def read(self, name: str) -> bytes | None:
        """Return a small object, or None."""
        with self._translated():
            try:
                found: bytes = self.files.cat_file(self._path(name))
                return found
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Write a small object over whatever is there."""
        with self._translated():
            if self.on_disk:
                self._put_on_disk(name, lambda whole: whole.write_bytes(data), replace=True)
            else:
                self._make_parent(name)
                self.files.pipe_file(self._path(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Write a small object unless one is there."""
        with self._translated():
            try:
                if self.on_disk:  # where fsspec itself would look first, and then write
                    self._put_on_disk(name, lambda whole: whole.write_bytes(data), replace=False)
                else:
                    self._make_parent(name)
                    self.files.pipe_file(self._path(name), data, mode="create")
            except FileExistsError:
                return False
        return True

    def upload(self, name: str, path: Path, *, replace: bool = False) -> bool:
        """Write a file of any size."""
        with self._translated():
            try:
                if self.on_disk:
                    self._put_on_disk(name, partial(shutil.copyfile, path), replace=replace)
                else:
                    self._make_parent(name)
                    mode = "overwrite" if replace else "create"
                    self.files.put_file(str(path), self._path(name), mode=mode)
            except FileExistsError:
                return False
        return True

    def download(self, name: str, path: Path) -> bool:
        """Write the object to a file."""
        with self._translated():
            try:
                self.files.get_file(self._path(name), str(path))
            except FileNotFoundError:
                return False
        return True

    def size(self, name: str) -> int | None:
        """Return the object's bytes, or None."""
        with self._translated():
            self.files.invalidate_cache()
            try:
                return int(self.files.info(self._path(name))["size"])
            except FileNotFoundError:
                return None

    def list(self, prefix: str) -> Iterator[Blob]:
        """Yield the objects below ``prefix``."""
        with self._translated():
            self.files.invalidate_cache()
            found = self.files.find(self._path(prefix.rstrip("/")), detail=True)
        for path, details in found.items():
            name = str(path)[len(self.root) + 1 :]
            yield Blob(name, int(details["size"]), _modified(details))

    def delete(self, name: str) -> None:
        """Remove the object."""
        with self._translated(), contextlib.suppress(FileNotFoundError):
            self.files.rm_file(self._path(name))

    def rename(self, name: str, to: str) -> None:
        """Give the object another name."""
        with self._translated(), contextlib.suppress(FileNotFoundError):
            self.files.mv(self._path(name), self._path(to))

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _make_parent(self, name: str) -> None:
        self.files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)

    def _put_on_disk(self, name: str, fill: Callable[[Path], object], *, replace: bool) -> None:
        """Give a whole file its name, so that no reader sees half of it.

        Raises:
            FileExistsError: If the name is taken and is not to be replaced.
        """
        path, whole = Path(self._path(name)), Path(self._path(f"tmp/{owner()}-{uuid.uuid4().hex}"))
        for folder in (path.parent, whole.parent):
            folder.mkdir(parents=True, exist_ok=True)
        clear_left_behind(whole.parent, prefix="")
        try:
            fill(whole)
            sync(whole)
            if replace:
                whole.replace(path)
            else:
                _link(whole, path)
        finally:
            whole.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise BackendError(
                f"{self.uri}: {exc.strerror or exc}",
                hint="check store.url and store.options, and the right to write there",
                retryable=True,
            ) from exc


def _link(whole: Path, path: Path) -> None:
    """Give a file a second name if that is free; on disks without links, copy it exclusively."""
    try:
        path.hardlink_to(whole)
    except FileExistsError:
        raise
    except OSError:
        with path.open("xb") as target, whole.open("rb") as source:
            shutil.copyfileobj(source, target)


def _modified(details: Mapping[str, Any]) -> float:
    """Return when an object was made; fsspec's file systems each say it in their own way."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = details.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):
            return datetime.fromisoformat(value).timestamp()
    return 0.0
