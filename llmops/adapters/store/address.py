"""Reads a small object of a store by its address alone, before any config says which store it is.

A worker gets no more than the address of its config. The copy in the workspace is taken where
there is one; elsewhere the bucket is asked with the application's own credentials.
"""

from __future__ import annotations

from pathlib import Path

from llmops.adapters.store.bucket import copies
from llmops.errors import DamagedObject


def read_text(uri: str, workspace: Path) -> str:
    """Return the text at a path or URL.

    Raises:
        OSError: If a path cannot be read.
        BackendError: If the bucket cannot be read.
        DamagedObject: If the bucket has no such object.
    """
    if "://" not in uri:
        return Path(uri).read_text("utf-8")
    place, _, name = uri.rpartition("/objects/")
    copy = copies(workspace, place).object_path(name.rpartition("/")[2])
    if copy.exists():
        return copy.read_text("utf-8")
    if uri.startswith("gs://"):
        from llmops.adapters.store import gcs

        found = gcs.read_text(uri)
    else:
        from llmops.adapters.store import fsspec

        found = fsspec.read_text(uri)
    if found is None:
        raise DamagedObject(f"there is nothing at {uri}", hint="run the experiment again")
    return found
