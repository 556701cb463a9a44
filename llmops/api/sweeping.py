"""A sweep: check every member, run what is missing, decide, and score the chosen one on test rows.

Hydra's sweeper and launcher say which members there are and where they run; each member is an
ordinary run. Members score on validation rows, so that the test side is read once, at the end.
"""

from __future__ import annotations

import contextlib
import functools
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from llmops.adapters.catalog import open_store
from llmops.api.leaderboard import Board, Decides, leaderboard
from llmops.api.past import Run, show
from llmops.api.running import run
from llmops.api.sweep_member import INTERRUPTED, OVER_BUDGET, Task, has_ended, run_member
from llmops.api.sweep_plan import (
    Prepared,
    SweepOptions,
    check_budget_of_all,
    first_document,
    prepare,
)
from llmops.config.project import workspace
from llmops.errors import BackendError, ConfigError, Interrupted, LlmopsError, Refused
from llmops.lineage.run_folder import RunFolder, find_run
from llmops.lineage.sweep import ENDED, Member, SweepFolder, all_sweeps, find_sweep, open_sweep
from llmops.plan.build import Selection
from llmops.ports.store import Store
from llmops.processes import this_process

GRAVITY = (5, 4, 1, 2, 3)  # a sweep ends with the gravest exit code of its members
Watch = Callable[[SweepFolder], contextlib.AbstractContextManager[object]]


@dataclass(frozen=True)
class Sweep:
    """A sweep that has ended: its folder, what ``sweep.json`` holds, its members and board."""

    folder: Path
    document: Mapping[str, Any]
    members: tuple[Member, ...]
    board: Board | None
    final: Run | None

    @property
    def exit_code(self) -> int:
        """The gravest of the members', and 3 where the budget ended it.

        Where there is a chosen member, of the gate's refusals only that of its run counts.
        """
        codes = {
            member.exit_code
            for member in self.members
            if not (self.final and member.status == "refused")
        }
        codes |= {self.final.exit_code} if self.final else set()
        codes |= {3} if self.document.get("stopped") == OVER_BUDGET else set()
        return next((code for code in GRAVITY if code in codes), 0)


def sweep(
    argv: Sequence[str],
    options: SweepOptions | None = None,
    *,
    watch: Watch = lambda folder: contextlib.nullcontext(),
) -> Sweep:
    """Run a sweep; members that ran before, and steps that are in the store, are not run again.

    Args:
        argv: Overrides and Hydra's flags, e.g. ``["+experiment=so_python", "split=group,hash"]``.
        options: How to run it.
        watch: Gets the sweep's folder and is entered while members run, to show them.

    Raises:
        ConfigError: If a member's config is wrong; no member has run then.
        Refused: If it is over budget, or another process runs the same sweep.
        BackendError: If the launcher or the disk fails.
        Interrupted: On Ctrl-C or SIGTERM; the same command goes on.
    """
    from llmops.config.sweep import normalise

    options = options or SweepOptions()
    hydra = normalise(argv)
    prepared = prepare(hydra, options)
    check_budget_of_all(prepared, options)
    folder = open_sweep(workspace(), prepared.id, first_document(prepared, options))
    with folder.running():
        return _carry_out(folder, prepared, options, watch)


def resume(name: str, *, watch: Watch = lambda folder: contextlib.nullcontext()) -> Sweep:
    """Go on with an earlier sweep: run what is missing, and what failed once more.

    Raises:
        ConfigError: If there is no such sweep, or one of the first release.
        Refused: If the config has changed since, so that it would be another sweep.
    """
    folder = find_sweep(workspace(), name)
    asked = folder.asked()
    if "options" not in asked:
        raise ConfigError(
            f"sweep {folder.id} is of the first release and cannot be resumed",
            hint="run its command again: python -m llmops run -m " + " ".join(asked["overrides"]),
        )
    chosen = {**asked["options"], "selection": Selection(**asked["options"]["selection"])}
    options = SweepOptions(**chosen)
    from llmops.config.sweep import normalise

    argv = [*asked["flags"], *asked["overrides"]]
    if prepare(normalise(argv), options).id != folder.id:
        raise Refused(
            f"the config has changed since sweep {folder.id} began: its members would be others",
            hint="run it as a new sweep: python -m llmops run -m " + " ".join(asked["overrides"]),
        )
    return sweep(argv, options, watch=watch)


def sweeps() -> list[Sweep]:
    """Return the workspace's sweeps, the newest first; unreadable ones are left out."""
    found = []
    for folder in all_sweeps(workspace()):
        with contextlib.suppress(ConfigError):
            found.append(_read(folder))
    return found


def show_sweep(name: str) -> Sweep:
    """Return one sweep by its id or the beginning of it.

    Raises:
        ConfigError: If there is none, with the nearest id.
    """
    return _read(find_sweep(workspace(), name))


def _read(folder: SweepFolder) -> Sweep:
    document, final = folder.asked(), None
    if document.get("final"):
        with contextlib.suppress(ConfigError):
            final = show(document["final"]["run_id"])
    members = folder.members()
    by = document.get("decides")
    board = _board(members, Decides(**by), _store_of(members)) if by else None
    return Sweep(folder.path, document, tuple(members), board, final)


def _carry_out(
    folder: SweepFolder, prepared: Prepared, options: SweepOptions, watch: Watch
) -> Sweep:
    folder.go_on()
    again = bool(options.selection.force or options.selection.start)
    _write_waiting(folder, prepared, again=again)
    folder.note(status="running", stopped=None)
    task = Task(folder.path, options, prepared.score_on, prepared.by, this_process())
    problem = None
    with watch(folder):
        try:
            _launch(prepared, task)
        except (Interrupted, KeyboardInterrupt):
            folder.stop(INTERRUPTED)
            folder.note(status="interrupted", stopped=folder.stopped())
            raise
        except LlmopsError as exc:
            if not any(member.run_id for member in folder.members()):
                folder.note(status="failed")
                raise
            problem = exc
    members = folder.members()
    store = _store_of(members)
    board = _board(members, prepared.by, store)
    final = None
    if problem is None and folder.stopped() is None:
        try:
            final = _final(folder, prepared, options, board)
        except LlmopsError as exc:  # the board and the page are worth having all the same
            problem = exc
    missing = any(member.status not in ENDED for member in members)
    document = folder.note(
        status="unfinished" if missing or folder.stopped() else "finished",
        stopped=folder.stopped(),
        leaderboard=board and board.as_json(),
        chosen=board and board.chosen and board.chosen.member.id,
        final=final and _noted(final, board),
    )
    ended = Sweep(folder.path, document, tuple(members), board, final)
    _write_page(ended, store)
    if problem is not None:
        raise problem
    return ended


def _noted(final: Run, board: Board | None) -> dict[str, Any]:
    chosen = board.chosen if board else None
    return {
        "member": chosen and chosen.member.id,
        "run_id": final.record["run_id"],
        "status": final.record["status"],
    }


def _launch(prepared: Prepared, task: Task) -> None:
    from llmops.config.sweep import launch

    try:
        launch(prepared.argv, functools.partial(run_member, task))
        if SweepFolder(task.folder).stopped() == INTERRUPTED:
            raise Interrupted(signal.SIGINT)
    except (LlmopsError, KeyboardInterrupt):
        raise
    except Exception as exc:
        raise BackendError(
            f"the launcher failed: {type(exc).__name__}: {exc}",
            hint="was a member killed, or the machine short of memory? the same command goes on",
            retryable=True,
        ) from exc


def _write_waiting(folder: SweepFolder, prepared: Prepared, *, again: bool) -> None:
    """Write the members that are to run; what ended with the same config stays."""
    known = {member.id: member for member in folder.members()}
    if again:
        for member in known.values():
            folder.write(replace(member, status="waiting"))
    for member in prepared.members:
        before = known.get(member.id)
        if again or not (before and has_ended(before, member.config_digest)):
            folder.write(member)


def _board(members: Sequence[Member], by: Decides | None, store: Store) -> Board | None:
    if by is None or not any(member.run_id for member in members):
        return None
    return leaderboard(members, by, workspace(), store)


def _store_of(members: Sequence[Member]) -> Store:
    """Open the store of the members' runs; the workspace's own where none has run."""
    where = workspace()
    for member in members:
        if member.run_id is not None:
            with contextlib.suppress(ConfigError):
                return open_store(find_run(where, member.run_id).config(), where)
    return open_store({"store": {"kind": "folder", "path": ".llmops/store"}}, where)


def _final(
    folder: SweepFolder, prepared: Prepared, options: SweepOptions, board: Board | None
) -> Run | None:
    """Run the chosen member once more, on the test side: its tuning is in the store."""
    if board is None or board.chosen is None or not prepared.reads_test:
        return None
    chosen = board.chosen.member
    before = folder.asked().get("final")
    if before and before.get("member") == chosen.id:
        with contextlib.suppress(ConfigError):
            return show(before["run_id"])
    final = run(chosen.overrides, limit=options.limit, promote="chosen")
    _point_candidate(final, folder.id)
    return final


def _point_candidate(final: Run, name: str) -> None:
    """Point the alias of new models at the chosen one: members moved it as they ended."""
    from llmops.adapters.catalog import open_registry

    config = RunFolder(final.folder).config()
    deploy = config.get("deploy")
    facts = next((s["facts"] for s in final.record["steps"] if s["kind"] == "deploy"), None)
    if not deploy or not facts or "version" not in facts:
        return
    open_registry(config, workspace()).set_alias(
        facts["name"], facts["alias"], facts["version"], reason=f"chosen by sweep {name}"
    )


def _write_page(ended: Sweep, store: Store) -> None:
    from llmops.report.page import CACHE
    from llmops.report.sweep_page import write_sweep_page

    write_sweep_page(
        ended.folder,
        ended.document,
        [asdict(member) for member in ended.members],
        ended.final.record if ended.final else None,
        store.scratch(CACHE),
    )
