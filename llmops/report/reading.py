"""Read a run folder, and of the store what its page shows. Decides nothing of how it looks.

A run that failed, or that has other steps, simply lacks some of it: what is absent is null. What
should be there but cannot be read is named in ``unreadable``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from llmops.artifacts import Artifact, reference
from llmops.errors import LlmopsError
from llmops.ports.store import Store
from llmops.report import tables
from llmops.report.results import output_of

T = TypeVar("T")


@dataclass(frozen=True)
class Reading:
    """All that the page is made of, as plain JSON."""

    run: Mapping[str, Any]
    provenance: Mapping[str, Mapping[str, Any]]
    plan: Mapping[str, Any]
    profile: Mapping[str, Any] | None
    card: Mapping[str, Any] | None
    curve: list[Mapping[str, Any]] | None
    quarantine: Mapping[str, Any] | None
    answers: Mapping[str, Any] | None
    unreadable: tuple[str, ...]


def read(
    folder: Path, store: Store, cache: Path, record: Mapping[str, Any] | None = None
) -> Reading:
    """Read the run in ``folder``; tables drawn from Parquet are kept in ``cache``.

    ``record`` stands in for ``run.json``, which is written last.
    """
    run = _json(folder / "run.json") if record is None else record
    reader = _Reader(run, store)
    return Reading(
        run=run,
        provenance=_json(folder / "provenance.json", default={}),
        plan=_json(folder / "plan.json", default={}),
        profile=reader.read("validate", "profile", reader.document)
        or reader.read("prepare", "profile", reader.document),
        card=reader.read("split", "card", reader.document)
        or reader.read("prepare", "card", reader.document),
        curve=reader.read("tune", "model", lambda found: tables.curve(store, cache, found)),
        quarantine=reader.read(
            "validate", "quarantined", lambda found: tables.quarantine(store, cache, found)
        ),
        answers=reader.read(
            "predict",
            "responses",
            lambda found: tables.answers(
                store,
                cache,
                found,
                reader.output("split", "test"),
                reader.output("judge", "verdicts"),
            ),
        ),
        unreadable=tuple(reader.unreadable),
    )


class _Reader:
    """Reads artifacts of one run, and remembers which could not be read, and why."""

    def __init__(self, run: Mapping[str, Any], store: Store) -> None:
        self.run = run
        self.store = store
        self.unreadable: list[str] = []

    def output(self, kind: str, name: str) -> Artifact | None:
        found = output_of(self.run, kind, name)
        return reference(found) if found else None

    def read(self, kind: str, name: str, reading: Callable[[Artifact], T]) -> T | None:
        artifact = self.output(kind, name)
        if artifact is None:
            return None
        try:
            return reading(artifact)
        except (LlmopsError, OSError, ValueError) as exc:
            note = f"{kind}.{name}: {exc}"
            if note not in self.unreadable:
                self.unreadable.append(note)
            return None

    def document(self, artifact: Artifact) -> Any:
        return _json(self.store.local_path(artifact))


_REQUIRED = object()


def _json(path: Path, *, default: Any = _REQUIRED) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if default is _REQUIRED:
            raise
        return default
