"""A sweep: check every member, run what is missing, decide, and score the chosen one on test rows.

Hydra's sweeper and launcher say which members there are and where they run; each member is an
ordinary run. Members score on validation rows, so that the test side is read once, at the end.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.adapters.catalog import open_store
from llmops.api.leaderboard import Board, Decides, decides, figure_of, leaderboard
from llmops.api.opening import adjusted, adjustments, graph_of
from llmops.api.past import Run, show
from llmops.api.planning import EVERYTHING, check_budget, plan_members
from llmops.api.running import run
from llmops.config.identity import config_digest
from llmops.config.project import workspace
from llmops.config.remembered import checked
from llmops.errors import BackendError, ConfigError, Interrupted, LlmopsError, Refused
from llmops.files import write_text
from llmops.lineage.run_folder import RunFolder, find_run
from llmops.lineage.sweep import (
    ENDED,
    Member,
    SweepFolder,
    all_sweeps,
    failed,
    find_sweep,
    finished,
    member_id,
    open_sweep,
    sweep_id,
)
from llmops.plan.build import Plan, Selection
from llmops.plan.side import Side, has_validation_rows, readers
from llmops.ports.store import Store
from llmops.processes import still_running, this_process
from llmops.secrecy import masked
from llmops.steps import step_kinds

if TYPE_CHECKING:
    from llmops.config.compose import Composed
    from llmops.config.sweep import HydraArguments

GRAVITY = (5, 4, 1, 2, 3)  # a sweep ends with the gravest exit code of its members
PARENT_POLL_S = 0.5
GRACE_S = 30.0  # for a member to note that it was interrupted
WATCHER = "llmops sweep watcher"
_at_work = threading.Lock()  # held while this process runs a member
INTERRUPTED = "it was interrupted"
OVER_BUDGET = "the budget of the sweep is used up"
Watch = Callable[[SweepFolder], contextlib.AbstractContextManager[object]]


@dataclass(frozen=True)
class SweepOptions:
    """How to run a sweep, beside its members.

    ``score_on`` is the side that members are judged by; None for validation where every member
    has validation rows, and test otherwise. ``metric`` and ``contestant`` are what decides; None
    for the gate's first rule and its contestant.
    """

    limit: int | None = None
    selection: Selection = EVERYTHING
    budget: float | None = None
    score_on: Side | None = None
    metric: str | None = None
    contestant: str | None = None
    fail_fast: bool = False


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
    prepared = _prepare(hydra, options)
    _check_budget(prepared, options)
    folder = open_sweep(workspace(), prepared.id, _asked(prepared, options))
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
    if _prepare(normalise(argv), options).id != folder.id:
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


# ------------------------------------------------------------------ what is asked


@dataclass(frozen=True)
class _Prepared:
    """A sweep that was checked: its id, its members (none yet of a search), how to decide."""

    id: str
    hydra: HydraArguments
    argv: tuple[str, ...]
    members: tuple[Member, ...]
    by: Decides | None
    score_on: Side
    reads_test: bool
    notes: tuple[str, ...]


def _prepare(hydra: HydraArguments, options: SweepOptions) -> _Prepared:
    search = hydra.sweeper != "basic"
    composed = _checked_members(hydra, search=search)
    side = options.score_on or _default_side(composed)
    notes = []
    if options.score_on is None and side == "test" and _reads_test(composed[0]):
        notes.append(
            "a member has no validation rows, so members are scored on test rows: the chosen "
            "one's figure is a little too good"
        )
    configs = [_adjusted(one.config, options.limit, side) for one in composed]
    by = decides(configs[0], options.metric, options.contestant)
    members = () if search else _members(composed, configs)
    identity = {
        "members": [config_digest(config) for config in configs],
        "search": [list(hydra.overrides)] if search else [],
        "selection": asdict(options.selection),
        "decides": [side, by and asdict(by)],
    }
    names = sorted({str(config["name"]) for config in configs})
    name = names[0] if len(names) == 1 else "several"
    argv = (*_with_multirun(hydra.flags), *_directed(hydra, by))
    return _Prepared(
        sweep_id(name, identity),
        hydra,
        argv,
        members,
        by,
        side,
        _reads_test(composed[0]),
        tuple(notes),
    )


def _checked_members(hydra: HydraArguments, *, search: bool) -> list[Composed]:
    from llmops.config.sweep import members, search_members
    from llmops.config.validate import validate_each

    listed = search_members(hydra.overrides) if search else members(hydra.overrides)
    return validate_each(listed, wiring=graph_of)


def _members(
    composed: Sequence[Composed], configs: Sequence[Mapping[str, Any]]
) -> tuple[Member, ...]:
    return tuple(
        Member(
            member_id(number, one.overrides),
            number,
            one.overrides,
            config_digest=config_digest(config),
            experiment=config["name"],
        )
        for number, (one, config) in enumerate(zip(composed, configs, strict=True), 1)
    )


def _with_multirun(flags: Sequence[str]) -> list[str]:
    return list(flags) if "--multirun" in flags else ["--multirun", *flags]


def _directed(hydra: HydraArguments, by: Decides | None) -> list[str]:
    """Add the direction of the metric to a search that was not told one."""
    key = "hydra.sweeper.direction"
    if hydra.sweeper != "optuna" or hydra.chosen(key) is not None:
        return list(hydra.overrides)
    if by is None:
        raise ConfigError(
            "a search needs a figure, and this experiment evaluates nothing",
            hint="list the members instead: run -m KEY=A,B without hydra/sweeper",
        )
    better = "minimize" if by.definition.better == "lower" else "maximize"
    return [*hydra.overrides, f"{key}={better}"]


def _default_side(composed: Sequence[Composed]) -> Side:
    return "validation" if all(has_validation_rows(one.config) for one in composed) else "test"


def _reads_test(composed: Composed) -> bool:
    config = composed.config
    return bool(readers(config["pipeline"], step_kinds(config["project"]["steps"])))


def _adjusted(config: Mapping[str, Any], limit: int | None, side: Side) -> Mapping[str, Any]:
    return adjusted(config, adjustments(config, limit, side))


def _asked(prepared: _Prepared, options: SweepOptions) -> dict[str, Any]:
    return {
        "flags": list(_with_multirun(prepared.hydra.flags)),
        "overrides": [masked(text) for text in prepared.hydra.overrides],
        "options": asdict(options),
        "sweeper": prepared.hydra.sweeper,
        "score_on": prepared.score_on,
        "decides": prepared.by and asdict(prepared.by),
        "notes": list(prepared.notes),
        "status": "running",
        "final": None,
    }


def _check_budget(prepared: _Prepared, options: SweepOptions) -> None:
    """Refuse a sweep whose members together may cost more than the budget, before any starts.

    What a search asks for is known only as it goes: there each member is checked as it starts.
    """
    if not prepared.members:
        return
    budgets = [
        (checked(member.overrides).config.get("env") or {}).get("budget")
        for member in prepared.members
    ]
    if options.budget is None and not any(budget is not None for budget in budgets):
        return
    plans = plan_members(
        prepared.hydra.overrides,
        limit=options.limit,
        selection=options.selection,
        against="store",
        score_on=prepared.score_on,
    )
    check_budget(plans, options.budget)


# -------------------------------------------------------------- carrying it out


def _carry_out(
    folder: SweepFolder, prepared: _Prepared, options: SweepOptions, watch: Watch
) -> Sweep:
    folder.go_on()
    again = bool(options.selection.force or options.selection.start)
    _write_waiting(folder, prepared, again=again)
    folder.note(status="running", stopped=None)
    task = _Task(folder.path, options, prepared.score_on, prepared.by, this_process())
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


def _launch(prepared: _Prepared, task: _Task) -> None:
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


def _write_waiting(folder: SweepFolder, prepared: _Prepared, *, again: bool) -> None:
    """Write the members that are to run; what ended with the same config stays."""
    known = {member.id: member for member in folder.members()}
    if again:
        for member in known.values():
            folder.write(replace(member, status="waiting"))
    for member in prepared.members:
        before = known.get(member.id)
        if again or not (before and _ended(before, member.config_digest)):
            folder.write(member)


def _ended(member: Member, digest: str | None) -> bool:
    if member.status not in ENDED or member.config_digest != digest or member.run_id is None:
        return False
    try:
        return bool(show(member.run_id).record["config_digest"] == digest)
    except ConfigError:  # its folder is gone
        return False


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
    folder: SweepFolder, prepared: _Prepared, options: SweepOptions, board: Board | None
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


# ------------------------------------------------------------------- one member


@dataclass(frozen=True)
class _Task:
    """What every member is told; it crosses to the processes of a launcher."""

    folder: Path
    options: SweepOptions
    score_on: Side
    by: Decides | None
    parent: Mapping[str, Any]  # the sweep's process


def run_member(task: _Task, overrides: Sequence[str]) -> float | str | None:
    """Run one member, unless it ran before, and note what came of it; its errors stay its own.

    Returns:
        The figure that a search learns from; None if there is none; ``stop`` to end a search.
    """
    from llmops.config.search import STOP

    folder = SweepFolder(task.folder)
    if folder.stopped() is not None:
        return STOP
    with _ends_with(task.parent):
        member = _claim(folder, task, tuple(overrides))
        if member.status in ENDED:
            return member.value
        member = _attempt(folder, task, member)
    if member.status == "failed" and task.options.fail_fast:
        folder.stop(f"member {member.id} failed, and --fail-fast was given")
    return member.value


def _claim(folder: SweepFolder, task: _Task, overrides: tuple[str, ...]) -> Member:
    """Return this member's entry: as it ended before, or as one that starts now."""
    with folder.ledger():
        members = folder.members()
        found = next((one for one in members if one.overrides == overrides), None)
        digest = _digest(overrides, task)
        if found is not None and _ended(found, digest):
            return found
        number = found.number if found else 1 + max((one.number for one in members), default=0)
        started = Member(
            found.id if found else member_id(number, overrides),
            number,
            overrides,
            status="running",
            config_digest=digest,
            process=this_process(),
        )
        return folder.write(started)


def _digest(overrides: Sequence[str], task: _Task) -> str | None:
    try:
        config = checked(overrides).config
        return config_digest(_adjusted(config, task.options.limit, task.score_on))
    except LlmopsError:  # told when it runs
        return None


def _attempt(folder: SweepFolder, task: _Task, member: Member) -> Member:
    progress = _Progress(folder, member)
    try:
        made = run(
            member.overrides,
            limit=task.options.limit,
            selection=task.options.selection,
            score_on=task.score_on,
            promote="nothing",
            on_plan=functools.partial(_reserve, folder, task, progress),
            on_start=progress.started,
            on_event=progress.event,
        )
    except Interrupted as exc:
        folder.stop(INTERRUPTED)
        return folder.write(replace(failed(progress.member, exc), status="interrupted"))
    except LlmopsError as exc:
        return folder.write(failed(progress.member, exc))
    except Exception as exc:  # noqa: BLE001 - a bug in one member must not end the others
        log = folder.path / "members" / f"{member.id}.log"
        write_text(log, masked(traceback.format_exc()))
        bug = LlmopsError(f"{type(exc).__name__}: {exc}", hint=f"this is a bug; see {log}")
        return folder.write(failed(progress.member, bug))
    figure = figure_of(made.record, task.by).get("value")
    return folder.write(
        replace(finished(progress.member, made.record, made.exit_code), value=figure)
    )


class _Progress:
    """Writes what a member does into its file, once a step."""

    def __init__(self, folder: SweepFolder, member: Member) -> None:
        self.folder = folder
        self.member = member

    def started(self, run_folder: Path) -> None:
        self._write(run_id=run_folder.name, experiment=run_folder.parent.name)

    def event(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "start":
            self._write(step=event["step"])

    def reserved(self, money: float | None) -> None:
        self._write(money=money)

    def _write(self, **changes: Any) -> None:
        self.member = self.folder.write(replace(self.member, **changes))


def _reserve(folder: SweepFolder, task: _Task, progress: _Progress, plan: Plan) -> None:
    """Put aside what this member may cost, if the sweep's budget still allows it.

    Raises:
        Refused: If it does not; no further member starts then.
    """
    money = plan.estimate.total.money if plan.estimate else None
    budget = task.options.budget
    with folder.ledger():
        if budget is not None and money is not None:
            others = [one for one in folder.members() if one.id != progress.member.id]
            spent = sum(one.money or 0.0 for one in others)
            if money.value is None or spent + money.value > budget:
                folder.stop(OVER_BUDGET)
                lacks = "; ".join(money.unknown) or f"{money.value:,.2f} more"
                raise Refused(
                    f"the members so far may cost {spent:,.2f} of {budget:,.2f}, and this one: "
                    f"{lacks}",
                    hint="raise or drop --budget; what has run is kept",
                )
        progress.reserved(money.value if money else None)


@contextlib.contextmanager
def _ends_with(parent: Mapping[str, Any]) -> Iterator[None]:
    """End this process, which a launcher keeps for members, when the sweep's process is gone.

    In the sweep's own process there is nothing to watch; from another machine it is not seen. A
    member at work is interrupted first and notes it.
    """
    if parent == this_process() or still_running(parent) is None:
        yield
        return
    if not any(thread.name == WATCHER for thread in threading.enumerate()):
        threading.Thread(target=_watch, args=(parent,), daemon=True, name=WATCHER).start()
    with _at_work:
        yield


def _watch(parent: Mapping[str, Any]) -> None:
    while still_running(parent) is not False:
        time.sleep(PARENT_POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)
    _at_work.acquire(timeout=GRACE_S)
    os._exit(128 + signal.SIGTERM)  # a pool's process would wait for its next member for ever
