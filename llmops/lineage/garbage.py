"""What of a store nothing reaches any more, and removing it.

Reached is what a kept run, a lock, a registered model, a run that still works, or a run of
another workspace names; and whatever was written lately, since it may not be named yet. Knows
stores by their port: a folder and a bucket are cleared alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llmops.errors import BackendError
from llmops.ports.store import IndexEntry, Store


@dataclass(frozen=True)
class Roots:
    """What must stay: digests of artifacts, keys of steps, and ids of runs whose reports stay."""

    artifacts: frozenset[str]
    keys: frozenset[str]
    runs: frozenset[str]


@dataclass(frozen=True)
class Garbage:
    """What would be removed; ``kept_objects`` counts what stays, ``bytes`` what becomes free."""

    objects: tuple[str, ...]
    entries: tuple[str, ...]
    reports: tuple[str, ...]
    bytes: int
    kept_objects: int
    kept_bytes: int


def roots_of(records: Iterable[Mapping[str, Any]]) -> Roots:
    """Return what run records name: inputs, outputs and keys of their steps, and their config."""
    artifacts: set[str] = set()
    keys: set[str] = set()
    runs: set[str] = set()
    for record in records:
        runs.add(str(record["run_id"]))
        artifacts.add(str(record["config_digest"]))
        model = record.get("model") or {}
        artifacts |= {str(model["adapter"])} if model.get("adapter") else set()
        for step in record["steps"]:
            keys |= {step["key"]} if step.get("key") else set()
            artifacts |= set((step.get("inputs") or {}).values())
            artifacts |= {output["sha256"] for output in (step.get("outputs") or {}).values()}
    return Roots(frozenset(artifacts), frozenset(keys), frozenset(runs))


def roots_of_lock(lock: Mapping[str, Any]) -> Roots:
    """Return what an accepted run's lock names."""
    artifacts: set[str] = {str(lock["config_digest"])}
    keys: set[str] = set()
    for step in lock["steps"].values():
        keys |= {step["key"]} if step.get("key") else set()
        artifacts |= set((step.get("inputs") or {}).values())
        artifacts |= set((step.get("outputs") or {}).values())
    return Roots(frozenset(artifacts), frozenset(keys), frozenset({str(lock["run_id"])}))


def united(roots: Iterable[Roots]) -> Roots:
    """Return all that any of them names."""
    every = list(roots)
    return Roots(
        frozenset().union(*(one.artifacts for one in every)),
        frozenset().union(*(one.keys for one in every)),
        frozenset().union(*(one.runs for one in every)),
    )


def roots_of_reports(store: Store, runs: Iterable[str]) -> Roots:
    """Return what runs named in the store: of those whose record cannot be read or is elsewhere."""
    found = []
    for run_id in runs:
        reports = store.reports(run_id).values()
        steps = [one for one in reports if isinstance(one.get("outputs"), Mapping)]
        found.append(roots_of([{"run_id": run_id, "config_digest": "", "steps": steps}]))
    return united(found)


def find_garbage(store: Store, roots: Roots, written_before: float) -> Garbage:
    """Say what nothing reaches.

    Args:
        store: The store to look through.
        roots: What must stay.
        written_before: POSIX time in seconds; what was written later stays.
    """
    entries = list(store.entries())
    objects = {one.sha256: one for one in store.objects()}
    late = {one.sha256 for one in objects.values() if one.modified >= written_before}
    kept = [entry for entry in entries if _stays(entry, roots, late)]
    reached = set(roots.artifacts) | late
    for entry in kept:
        reached |= {output.sha256 for output in entry.outputs.values()}
    for sha256 in list(reached):
        reached |= _parts(store, sha256)
    gone = sorted(set(objects) - reached)
    kept_keys = {entry.key for entry in kept}
    return Garbage(
        objects=tuple(gone),
        entries=tuple(sorted(entry.key for entry in entries if entry.key not in kept_keys)),
        reports=tuple(run for run in store.reported_runs() if run not in roots.runs),
        bytes=sum(objects[sha256].bytes for sha256 in gone),
        kept_objects=len(objects) - len(gone),
        kept_bytes=sum(one.bytes for one in objects.values() if one.sha256 in reached),
    )


def remove(store: Store, garbage: Garbage) -> None:
    """Remove it: names first, so that what is still named is always there.

    Raises:
        BackendError: If the disk or bucket refuses; what is left is found again the next time.
    """
    for key in garbage.entries:
        store.remove_entry(key)
    for run_id in garbage.reports:
        store.remove_reports(run_id)
    for sha256 in garbage.objects:
        store.remove_object(sha256)


def _stays(entry: IndexEntry, roots: Roots, late: set[str]) -> bool:
    outputs = {output.sha256 for output in entry.outputs.values()}
    return entry.key in roots.keys or bool(outputs & (roots.artifacts | late))


def _parts(store: Store, sha256: str) -> frozenset[str]:
    try:
        return store.parts(store.find(sha256))
    except BackendError:  # named, and gone already
        return frozenset({sha256})
