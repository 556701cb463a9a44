"""``runs gc``: forget old runs, and clear what then nothing reaches, on disk and in a bucket."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from llmops.adapters.catalog import open_registry, open_store
from llmops.api.erasing import kept_answers
from llmops.api.past import DEFAULT_STORE
from llmops.config.project import workspace
from llmops.errors import ConfigError, LlmopsError
from llmops.files import TEMPORARY, clear_left_behind, discard, disk_errors
from llmops.lineage import garbage
from llmops.lineage.catalogue import CORRUPT, RunRow, may_work, run_rows
from llmops.lineage.garbage import Garbage, Roots
from llmops.lineage.lock import read_lock
from llmops.lineage.run_folder import RUN_ID, RunFolder
from llmops.lineage.sweep import all_sweeps

GRACE_HOURS = 1.0  # what was written since may not be named yet
BEGINS_WITHIN_S = 60.0  # a run that lives has a record by then


@dataclass(frozen=True)
class Collected:
    """What was, or with ``dry_run`` would be, removed: runs by id, of the store, kept answers."""

    dry_run: bool
    runs: tuple[str, ...]
    kept_runs: int
    corrupt: tuple[str, ...]
    foreign_runs: int
    garbage: Garbage
    answers: int


def gc(
    *,
    keep: int | None = None,
    older_than_days: float | None = None,
    grace_hours: float = GRACE_HOURS,
    dry_run: bool = False,
) -> Collected:
    """Remove runs that are not to be kept, and what of the store nothing reaches then.

    So goes the folder of a run that was killed before it had a record, once it is old enough.

    Never removed are runs that are tagged, accepted in a lock, chosen by a sweep, registered as a
    model, corrupt or still at work; what they, models of the registry or runs of other workspaces
    name; and what was written in the last ``grace_hours`` or since a run that works began.

    Args:
        keep: Keep this many of the newest runs of each experiment; all if None.
        older_than_days: Remove runs only if they are older; any age if None and ``keep`` is given.
            Also removes the kept answers that have been of no use for so long.
        grace_hours: See above.
        dry_run: Remove nothing.

    Raises:
        ConfigError: If a number is negative.
        BackendError: If the disk or bucket refuses.
    """
    if min(keep or 0, older_than_days or 0, grace_hours) < 0:
        raise ConfigError("--keep, --older-than and --grace-hours are not negative")
    where = workspace()
    rows = run_rows(where)
    config = _config(rows)
    store, versions = open_store(config, where), _versions(config, where)
    working = [row for row in rows if row.status == "running" and may_work(row)]
    pinned = {version.registered_by for version in versions} | _pinned(where)
    doomed = _doomed(rows, pinned, keep, older_than_days)
    kept = [row for row in rows if row not in doomed]
    locks = _locks(where)
    own = frozenset(row.run_id for row in rows)
    corrupt = [row.run_id for row in rows if row.status == CORRUPT]
    shared = not _belongs_to(config, where)
    foreign = [run for run in store.reported_runs() if run not in own] if shared else []
    adapters = {version.model.adapter for version in versions if version.model.adapter}
    roots = garbage.united(
        [
            garbage.roots_of(_records(kept)),
            *(garbage.roots_of_lock(lock) for lock in locks),
            Roots(frozenset(adapters), frozenset(), frozenset(row.run_id for row in kept)),
            garbage.roots_of_reports(store, [*corrupt, *foreign]),
        ]
    )
    begun = _begun(where, grace_hours)
    found = garbage.find_garbage(store, roots, _since(working, grace_hours))
    answers = 0
    if older_than_days is not None:
        limit = datetime.now(UTC) - timedelta(days=older_than_days)
        answers = kept_answers(where).unused(limit, remove=not dry_run)
    if not dry_run:
        for row in doomed:
            _discard(Path(row.folder), where)
        for folder in begun:
            _discard(folder, where)
        garbage.remove(store, found)
        store.clear_temporary()
        for top in (where / "runs", where / ".llmops"):
            for folder in {path.parent for path in top.rglob(f"{TEMPORARY}*")}:
                clear_left_behind(folder)
    return Collected(
        dry_run,
        (*(row.run_id for row in doomed), *(folder.name for folder in begun)),
        len(kept),
        tuple(corrupt),
        len(foreign),
        found,
        answers,
    )


def _config(rows: Sequence[RunRow]) -> Mapping[str, Any]:
    """Return the config of the newest run: its store is the one to clear."""
    for row in rows:
        try:
            found = RunFolder(Path(row.folder)).config()
        except ConfigError:
            continue
        if "store" in found:
            return found
    return {"store": DEFAULT_STORE}


def _belongs_to(config: Mapping[str, Any], where: Path) -> bool:
    """Say whether the store lies inside the workspace, so that no other one uses it."""
    if config["store"]["kind"] != "folder":
        return False
    path = (where / config["store"]["path"]).resolve()
    return bool(path.is_relative_to(where.resolve()))


def _versions(config: Mapping[str, Any], where: Path) -> Sequence[Any]:
    deploy = config.get("deploy") or {"registry": {"kind": "files", "path": ".llmops/registry"}}
    return open_registry({**config, "deploy": deploy}, where).list()


def _pinned(where: Path) -> set[str]:
    """Return the runs that locks accepted and sweeps chose."""
    found = {str(lock["run_id"]) for lock in _locks(where)}
    for sweep in all_sweeps(where):
        try:
            final = sweep.asked().get("final") or {}
        except ConfigError:
            continue
        found |= {final["run_id"]} if final.get("run_id") else set()
    return found


def _locks(where: Path) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for path in sorted((where / "runs").glob("*.lock.yaml")):
        try:
            found.append(read_lock(path))
        except LlmopsError as exc:
            raise ConfigError(
                f"{path.name} cannot be read, so nobody knows what it needs; nothing was removed",
                hint=exc.hint,
            ) from exc
    return found


def _doomed(
    rows: Sequence[RunRow], pinned: set[str], keep: int | None, older_than_days: float | None
) -> list[RunRow]:
    if keep is None and older_than_days is None:
        return []
    limit = datetime.now(UTC) - timedelta(days=older_than_days or 0)
    seen: dict[str, int] = {}
    doomed = []
    for row in rows:  # newest first
        seen[row.experiment] = seen.get(row.experiment, 0) + 1
        if seen[row.experiment] <= (keep or 0) or row.status == CORRUPT:
            continue
        if row.tags or row.run_id in pinned or (row.status == "running" and may_work(row)):
            continue
        if older_than_days is None or datetime.fromisoformat(str(row.started)) < limit:
            doomed.append(row)
    return doomed


def _begun(where: Path, grace_hours: float) -> list[Path]:
    """Return the folders of runs that were killed before they had a record."""
    before = time.time() - max(grace_hours * 3600, BEGINS_WITHIN_S)
    return [
        folder
        for folder in sorted((where / "runs").glob("*/*/"))
        if RUN_ID.fullmatch(folder.name)
        and not (folder / "run.json").exists()
        and max(path.stat().st_mtime for path in (folder, *folder.iterdir())) < before
    ]


def _discard(folder: Path, where: Path) -> None:
    with disk_errors(where, setting="LLMOPS_WORKSPACE"):
        discard(folder, where / "runs")


def _records(rows: Sequence[RunRow]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for row in rows:
        if row.status != CORRUPT:
            found.append(RunFolder(Path(row.folder)).record())
    return found


def _since(working: Sequence[RunRow], grace_hours: float) -> float:
    began = [datetime.fromisoformat(str(row.started)).timestamp() for row in working]
    return min([time.time() - grace_hours * 3600, *began])
