"""Whether what the store holds is what its names say, and mending what is not.

Mending makes nothing anew: it takes away what is broken, so that the next run finds the step not
done and does it again.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmops.api.past import workspace_store
from llmops.errors import LlmopsError
from llmops.ports.progress import Progress
from llmops.ports.store import IndexEntry, Store

DAMAGED, LEADS_NOWHERE, UNREADABLE = 1, 2, 4  # parts of the exit code, as `nix store verify` has


@dataclass(frozen=True)
class Lost:
    """An output of a finished step whose object is damaged or gone."""

    step: str
    output: str
    key: str
    sha256: str


@dataclass(frozen=True)
class Verification:
    """What was found; ``repaired`` says that it was taken away."""

    objects: int
    bytes: int
    entries: int
    damaged: tuple[str, ...]  # sha256 of objects that are not what their name says
    lost: tuple[Lost, ...]
    torn: tuple[str, ...]  # keys of index entries that cannot be read
    unreadable: tuple[str, ...]  # sha256 of objects that the system would not read
    repaired: bool

    @property
    def exit_code(self) -> int:
        """Return the sum of 1 damaged objects, 2 entries that lead nowhere, 4 unreadable ones."""
        if self.repaired and not self.unreadable:
            return 0
        return (
            DAMAGED * bool(self.damaged)
            + LEADS_NOWHERE * bool(self.lost or self.torn)
            + UNREADABLE * bool(self.unreadable)
        )


def verify_store(progress: Progress, *, repair: bool = False) -> Verification:
    """Read every object of the workspace's store, and follow every index entry to its objects.

    Args:
        progress: Told of the bytes read so far, of how many.
        repair: Set damaged objects aside as ``*.bad`` and forget entries that lead nowhere.

    Raises:
        BackendError: If the store cannot be listed, or does not let itself be mended.
    """
    store = workspace_store()
    sizes = {found.sha256: found.bytes for found in store.objects()}
    damaged, unreadable = _read_all(store, sizes, progress)
    entries = list(store.entries())
    whole = sizes.keys() - set(damaged)
    lost = tuple(one for entry in entries for one in _lost(store, entry, whole))
    torn = tuple(store.unreadable_entries())
    if repair:
        _mend(store, damaged, lost, torn)
    return Verification(
        objects=len(sizes),
        bytes=sum(sizes.values()),
        entries=len(entries),
        damaged=tuple(damaged),
        lost=lost,
        torn=torn,
        unreadable=tuple(unreadable),
        repaired=repair,
    )


def _read_all(
    store: Store, sizes: dict[str, int], progress: Progress
) -> tuple[list[str], list[str]]:
    damaged, unreadable = [], []
    done, total = 0, sum(sizes.values())
    for sha256 in sorted(sizes):
        try:
            if not store.intact(sha256):
                damaged.append(sha256)
        except LlmopsError:
            unreadable.append(sha256)
        done += sizes[sha256]
        progress(done, total)
    return damaged, unreadable


def _lost(store: Store, entry: IndexEntry, whole: set[str]) -> list[Lost]:
    return [
        Lost(entry.step, name, entry.key, artifact.sha256)
        for name, artifact in entry.outputs.items()
        if artifact.sha256 not in whole or not store.parts(artifact) <= whole
    ]


def _mend(store: Store, damaged: list[str], lost: tuple[Lost, ...], torn: tuple[str, ...]) -> None:
    """Take away entries before objects: what an entry names is there."""
    for key in (*torn, *dict.fromkeys(one.key for one in lost)):
        store.remove_entry(key)
    for sha256 in damaged:
        store.set_aside(sha256)
