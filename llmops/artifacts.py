"""What steps hand to each other: a small reference to an immutable object in the store.

Knows nothing of where objects lie or who makes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from llmops.errors import DataError

ArtifactKind = Literal["parquet", "jsonl", "json", "folder"]
REFERENCE_LIMIT_BYTES = 1024  # a reference travels as a KFP artifact; data never does


@dataclass(frozen=True)
class Artifact:
    """A reference: the object's address, kind, digest and size. ``rows`` is null if it has none."""

    uri: str
    kind: ArtifactKind
    sha256: str
    bytes: int
    rows: int | None = None

    def to_json(self) -> str:
        """Return the reference file's text: one line, keys sorted, under 1 KB."""
        text = canonical_json(asdict(self))
        if len(text.encode()) > REFERENCE_LIMIT_BYTES:
            raise DataError(
                f"the reference to {self.uri[:80]}... is over {REFERENCE_LIMIT_BYTES} bytes"
            )
        return text


def read_reference(path: Path) -> Artifact:
    """Read a reference file.

    Raises:
        DataError: If the file is missing or does not hold a reference.
    """
    try:
        return reference(json.loads(path.read_text("utf-8")))
    except (FileNotFoundError, ValueError, TypeError, KeyError) as exc:
        raise DataError(
            f"{path} is not a reference to an artifact ({exc})",
            hint="a step's input is a small JSON file: {uri, kind, sha256, bytes, rows}",
        ) from exc


def reference(fields: Mapping[str, Any]) -> Artifact:
    """Build an artifact from plain fields; numbers may be floats, as KFP makes them."""
    rows = fields["rows"]
    return Artifact(
        uri=str(fields["uri"]),
        kind=fields["kind"],
        sha256=str(fields["sha256"]),
        bytes=int(fields["bytes"]),
        rows=None if rows is None else int(rows),
    )


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys, no spaces and no NaN: equal values give equal text.

    A float with an integer value is written as that integer, so that ``1`` and ``1.0`` are one.
    """
    return json.dumps(
        integral(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: object) -> str:
    """Return the sha256, in hex, of ``value``'s canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def integral(value: Any) -> Any:
    """Return ``value`` with every float of an integer value as that integer."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): integral(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [integral(item) for item in value]
    return value
